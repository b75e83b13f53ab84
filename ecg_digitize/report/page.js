"use strict";
const told = JSON.parse(document.getElementById("index").textContent);
const byId = (id) => document.getElementById(id);
const RANK = { failed: 0, reject: 1, check: 2, ok: 3 };

// One entry a page, those that failed included, in the order given.
const entries = [
  ...told.pages.map((page) => ({
    page,
    name: page.name,
    verdict: page.verdict,
    why: page.doubts.join("; "),
    worst: Math.min(1, ...page.leads.map((lead) => lead.quality ?? 1)),
  })),
  ...told.failures.map((failure) => ({
    page: null,
    name: failure.source,
    verdict: "failed",
    why: `${failure.error} (${failure.stage})`,
    worst: 0,
  })),
];
entries.forEach((entry, given) => { entry.given = given; });

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

const embedded = (name) => byId(name)?.textContent ?? null;
const picture = (name) => `data:image/webp;base64,${embedded(name)}`;
const percent = (share) => `${Math.round(100 * share)} %`;
const address = (path) => path.split("/").map(encodeURIComponent).join("/");

// --- the list -----------------------------------------------------------------------------------

const seen = new IntersectionObserver((changes) => {
  changes.filter((change) => change.isIntersecting).forEach(({ target }) => {
    target.src = picture(`thumb-${target.dataset.number}`);
    seen.unobserve(target);
  });
}, { rootMargin: "600px" });

function card(entry) {
  const text = [
    element("span", { class: "name" }, entry.name),
    element("span", { class: `verdict ${entry.verdict}` }, entry.verdict),
    element("span", { class: "why" }, entry.why),
  ];
  if (entry.page === null) return element("div", { class: "card" }, ...text);
  const thumb = element("img", { alt: "", "data-number": entry.page.number });
  seen.observe(thumb);
  const button = element("button", { type: "button", class: "card" }, thumb, ...text);
  button.addEventListener("click", () => open(entry));
  return button;
}

const list = byId("pages");
entries.forEach((entry) => { entry.item = element("li", {}, card(entry)); });

let shown = [];
function show() {
  const form = new FormData(byId("filters"));
  const verdicts = new Set(form.getAll("verdict"));
  const text = form.get("text").trim().toLowerCase();
  const order = {
    worst: (a, b) => RANK[a.verdict] - RANK[b.verdict] || a.worst - b.worst || a.given - b.given,
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    given: (a, b) => a.given - b.given,
  }[form.get("order")];
  shown = entries
    .filter((entry) => verdicts.has(entry.verdict))
    .filter((entry) => `${entry.name} ${entry.why}`.toLowerCase().includes(text))
    .sort(order);
  list.replaceChildren(...shown.map((entry) => entry.item));
  const count = (verdict) => entries.filter((entry) => entry.verdict === verdict).length;
  const all = Object.keys(RANK).map((verdict) => `${count(verdict)} ${verdict}`).join(", ");
  const rest = told.left_out ? `; ${told.left_out} better ones are not in this report` : "";
  byId("counts").textContent = `${shown.length} of ${entries.length} pages shown: ${all}${rest}`;
}

// --- one page -----------------------------------------------------------------------------------

const detail = byId("detail");
const overlay = byId("overlay");
let current = null;
let zoom = 1; // 1: the picture is as wide as its frame

function open(entry) {
  const { page } = entry;
  current = entry;
  byId("detail-name").textContent = page.name;
  byId("detail-verdict").textContent = page.verdict;
  byId("detail-verdict").className = `verdict ${page.verdict}`;
  byId("doubts").replaceChildren(...page.doubts.map((doubt) => element("li", {}, doubt)));
  byId("facts").textContent =
    `${page.source}: read as ${page.layout}, ${page.mm_per_s} mm/s, ${page.mm_per_mv} mm/mV` +
    (page.by_lines ? `; ${(100 * page.by_lines).toFixed(1)} % from vector lines` : "");
  const own = embedded(`overlay-${page.number}`) !== null;
  overlay.src = own ? picture(`overlay-${page.number}`) : address(page.overlay_file);
  overlay.alt = `${page.name} with the traces that were read`;
  setZoom(1);
  byId("leads").replaceChildren(...page.leads.map(leadRow));
  byId("files").replaceChildren("Files: ", ...page.files.flatMap((file) => [
    element("a", { href: address(file) }, file), " ",
  ]));
  byId("paper").replaceChildren();
  if (!detail.open) detail.showModal();
  byId("viewport").scrollTo(0, 0);
  unpacked(page).then((signals) => {
    if (current === entry) byId("paper").replaceChildren(drawn(page, signals));
  });
}

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

function setZoom(wanted) {
  zoom = Math.min(8, Math.max(1, wanted));
  overlay.style.width = `${100 * zoom}%`;
}

function step(by) {
  const pages = shown.filter((entry) => entry.page !== null);
  const at = pages.indexOf(current) + by;
  if (at >= 0 && at < pages.length) open(pages[at]);
}

// --- signals ------------------------------------------------------------------------------------

// Undoes report/view.py, pack_signals: one Int16Array a lead.
async function unpacked(page) {
  const packed = Uint8Array.from(atob(embedded(`signals-${page.number}`)), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const counts = new Int16Array(await new Response(stream).arrayBuffer());
  for (let k = 1; k < counts.length; k += 1) counts[k] += counts[k - 1]; // wraps round, as meant
  const each = counts.length / told.leads.length;
  return Object.fromEntries(
    told.leads.map((lead, k) => [lead, counts.subarray(k * each, (k + 1) * each)]));
}

const MARGIN_MM = 8;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.textContent = text;
  return made;
}

// The rows as they were printed, on standard paper; units are millimetres.
function drawn(page, signals) {
  const mmOf = (count) => count * told.mv_per_count * told.mm_per_mv;
  const traces = page.rows.map((row) => row.map(([lead, start_s, stop_s]) => {
    const from = Math.round(start_s * page.fs_hz);
    const counts = signals[lead].subarray(from, Math.round(stop_s * page.fs_hz));
    return { lead, start_s, counts };
  }));
  let y = MARGIN_MM;
  const zeros = traces.map((row) => {
    let [up, down] = [10, 8];
    row.forEach(({ counts }) => counts.forEach((count) => {
      if (count === told.not_seen) return;
      up = Math.max(up, mmOf(count) + 3);
      down = Math.max(down, 3 - mmOf(count));
    }));
    const zero = y + up;
    y = zero + down;
    return zero;
  });
  const seconds = Math.max(...page.rows.flat().map(([, , stop_s]) => stop_s));
  const [width, height] = [2 * MARGIN_MM + seconds * told.mm_per_s, y + MARGIN_MM];
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  root.append(
    svg("title", {}, `Signals of ${page.name}: ${page.leads.map((lead) => lead.lead).join(", ")}`),
    lines(width, height, 1, "var(--minor)", 0.1), lines(width, height, 5, "var(--major)", 0.2));
  traces.forEach((row, k) => row.forEach(({ lead, start_s, counts }) => {
    const x = MARGIN_MM + start_s * told.mm_per_s;
    root.append(
      svg("text", { x: x + 1, y: zeros[k] - 7, "font-size": 4, fill: "var(--trace)" }, lead),
      svg("path", { d: pathOf(counts, x, zeros[k], page.fs_hz, mmOf), fill: "none",
        stroke: "var(--trace)", "stroke-width": 0.35, "stroke-linejoin": "round" }));
  }));
  return root;
}

function pathOf(counts, x, zero, fs_hz, mmOf) {
  let [d, down] = ["", false];
  counts.forEach((count, k) => {
    const seenHere = count !== told.not_seen;
    if (seenHere) {
      const at = `${(x + (k / fs_hz) * told.mm_per_s).toFixed(2)} ${(zero - mmOf(count)).toFixed(2)}`;
      d += `${down ? "L" : "M"}${at}`;
    }
    down = seenHere;
  });
  return d;
}

function lines(width, height, every, stroke, thick) {
  let d = "";
  for (let x = 0; x <= width; x += every) d += `M${x} 0V${height}`;
  for (let y = 0; y <= height; y += every) d += `M0 ${y}H${width}`;
  return svg("path", { d, stroke, "stroke-width": thick, fill: "none" });
}

// --- what the user does -------------------------------------------------------------------------

byId("filters").addEventListener("input", show);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").elements.theme.addEventListener("input", (event) => {
  const theme = event.target.value;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
});
byId("close").addEventListener("click", () => detail.close());
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("zoom-in").addEventListener("click", () => setZoom(zoom * 1.5));
byId("zoom-out").addEventListener("click", () => setZoom(zoom / 1.5));
byId("zoom-fit").addEventListener("click", () => setZoom(1));
detail.addEventListener("close", () => current?.item.querySelector("button").focus());
detail.addEventListener("keydown", (event) => {
  const inPicture = event.target === byId("viewport");
  const action = {
    ArrowLeft: inPicture ? null : () => step(-1),
    ArrowRight: inPicture ? null : () => step(1),
    "+": () => setZoom(zoom * 1.5),
    "-": () => setZoom(zoom / 1.5),
    0: () => setZoom(1),
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
byId("version").textContent = `Made by ecg_digitize ${told.version}.`;
show();
