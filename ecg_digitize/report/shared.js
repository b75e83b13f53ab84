"use strict";
// What the report and the page in the browser have in common.
const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

// A row of the table of leads.
function leadRow(lead) {
  const cells = [`${lead.start_s.toFixed(2)} s`, `${lead.stop_s.toFixed(2)} s`];
  const likely = element("td", {}, lead.quality === null ? "not known" : percent(lead.quality));
  if (lead.quality !== null) {
    likely.append(" ", element("meter", {
      min: 0, max: 1, low: 0.5, high: 0.8, optimum: 1, value: lead.quality,
      "aria-label": `${lead.lead} is likely right`,
    }));
  }
  return element("tr", {},
    element("th", { scope: "row" }, lead.lead),
    ...cells.map((text) => element("td", {}, text)),
    likely,
    element("td", {}, lead.unseen > 0 ? percent(lead.unseen) : ""));
}

// --- signals drawn on ECG paper; units of the drawing are millimetres -----------------------------

const MARGIN_MM = 8;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.textContent = text;
  return made;
}

// The rows as they were printed. page: name, and rows of [lead, start_s, stop_s]; signals_mv: an
// array a lead, NaN where nothing was seen; paper: mm_per_s and mm_per_mv.
function drawnPaper(page, fs_hz, signals_mv, paper) {
  const mmOf = (mv) => mv * paper.mm_per_mv;
  const step_mm = paper.mm_per_s / fs_hz;
  const traces = page.rows.map((row) => row.map(([lead, start_s, stop_s]) => {
    const samples = signals_mv[lead].slice(Math.round(start_s * fs_hz), Math.round(stop_s * fs_hz));
    return { lead, start_s, samples };
  }));
  let y = MARGIN_MM;
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
  const [width, height] = [2 * MARGIN_MM + seconds * paper.mm_per_s, y + MARGIN_MM];
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const leads = [...new Set(page.rows.flat().map(([lead]) => lead))].join(", ");
  root.append(
    svg("title", {}, `Signals of ${page.name}: ${leads}`),
    paperLines(width, height, 1, "var(--minor)", 0.1),
    paperLines(width, height, 5, "var(--major)", 0.2));
  traces.forEach((row, k) => row.forEach(({ lead, start_s, samples }) => {
    const x = MARGIN_MM + start_s * paper.mm_per_s;
    root.append(
      svg("text", { x: x + 1, y: zeros[k] - 7, "font-size": 4, fill: "var(--trace)" }, lead),
      svg("path", { d: pathOf(samples, x, zeros[k], step_mm, mmOf), fill: "none",
        stroke: "var(--trace)", "stroke-width": 0.35, "stroke-linejoin": "round" }));
  }));
  return root;
}

function paperTitle(paper) {
  return `Signals, drawn at ${paper.mm_per_s} mm/s and ${paper.mm_per_mv} mm/mV`;
}

function pathOf(samples, x, zero, step_mm, mmOf) {
  let [d, down] = ["", false];
  samples.forEach((mv, k) => {
    const seenHere = !Number.isNaN(mv);
    if (seenHere) {
      d += `${down ? "L" : "M"}${(x + k * step_mm).toFixed(2)} ${(zero - mmOf(mv)).toFixed(2)}`;
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
