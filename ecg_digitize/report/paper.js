"use strict";
// Signals drawn on standard ECG paper. Units of the drawing are millimetres.
const PAPER = { margin_mm: 8, mm_per_s: 25, mm_per_mv: 10 };
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.textContent = text;
  return made;
}

// The rows as they were printed. page: name, and rows of [lead, start_s, stop_s]; signals_mv: an
// array a lead, NaN where nothing was seen.
function drawnPaper(page, fs_hz, signals_mv) {
  const mmOf = (mv) => mv * PAPER.mm_per_mv;
  const traces = page.rows.map((row) => row.map(([lead, start_s, stop_s]) => {
    const samples = signals_mv[lead].slice(Math.round(start_s * fs_hz), Math.round(stop_s * fs_hz));
    return { lead, start_s, samples };
  }));
  let y = PAPER.margin_mm;
  const zeros = traces.map((row) => {
    let [up, down] = [10, 8];
    row.forEach(({ samples }) => samples.forEach((mv) => {
      if (Number.isNaN(mv)) return;
      up = Math.max(up, mmOf(mv) + 3);
      down = Math.max(down, 3 - mmOf(mv));
    }));
    const zero = y + up;
    y = zero + down;
    return zero;
  });
  const seconds = Math.max(...page.rows.flat().map(([, , stop_s]) => stop_s));
  const [width, height] = [2 * PAPER.margin_mm + seconds * PAPER.mm_per_s, y + PAPER.margin_mm];
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const leads = [...new Set(page.rows.flat().map(([lead]) => lead))].join(", ");
  root.append(
    svg("title", {}, `Signals of ${page.name}: ${leads}`),
    paperLines(width, height, 1, "var(--minor)", 0.1),
    paperLines(width, height, 5, "var(--major)", 0.2));
  traces.forEach((row, k) => row.forEach(({ lead, start_s, samples }) => {
    const x = PAPER.margin_mm + start_s * PAPER.mm_per_s;
    root.append(
      svg("text", { x: x + 1, y: zeros[k] - 7, "font-size": 4, fill: "var(--trace)" }, lead),
      svg("path", { d: pathOf(samples, x, zeros[k], fs_hz, mmOf), fill: "none",
        stroke: "var(--trace)", "stroke-width": 0.35, "stroke-linejoin": "round" }));
  }));
  return root;
}

function pathOf(samples, x, zero, fs_hz, mmOf) {
  let [d, down] = ["", false];
  samples.forEach((mv, k) => {
    const seenHere = !Number.isNaN(mv);
    if (seenHere) {
      const at_x = x + (k / fs_hz) * PAPER.mm_per_s;
      d += `${down ? "L" : "M"}${at_x.toFixed(2)} ${(zero - mmOf(mv)).toFixed(2)}`;
    }
    down = seenHere;
  });
  return d;
}

function paperLines(width, height, every, stroke, thick) {
  let d = "";
  for (let x = 0; x <= width; x += every) d += `M${x} 0V${height}`;
  for (let y = 0; y <= height; y += every) d += `M0 ${y}H${width}`;
  return svg("path", { d, stroke, "stroke-width": thick, fill: "none" });
}
