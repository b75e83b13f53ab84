"use strict";
const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
const LOOK_EVERY_MS = 700;
const MOST_STRIPS = 3;

let about = null; // what the server can do
let pages = []; // as the server tells of them
let current = null; // the key of the page that is looked at
let shown = null; // key and times_read of what is drawn
let marks = null; // Marks of the current page, if it has any
let moved = false; // whether somebody moved them
let zoom = 1;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const text = await answer.text();
  let told = text;
  try {
    const { detail } = JSON.parse(text);
    told = typeof detail === "string" ? detail : detail.map((one) => one.msg).join("; ");
  } catch { /* it is plain text */ }
  throw new Error(told);
}

const say = (text) => { byId("status").textContent = text; };
const isBusy = (page) => page.state === "waiting" || page.state === "reading";
const page = () => pages.find(({ key }) => key === current) ?? null;

// --- bringing pictures --------------------------------------------------------------------------

async function bring(files) {
  const failed = [];
  for (const [k, file] of [...files].entries()) {
    say(`sending ${k + 1} of ${files.length}: ${file.name}`);
    try {
      const query = new URLSearchParams({ name: file.name });
      const brought = await ask(`api/pages?${query}`, { method: "POST", body: file });
      current ??= brought[0].key;
    } catch (error) {
      failed.push(`${file.name}: ${error.message}`);
    }
  }
  await look();
  if (failed.length) say(failed.join("; "));
}

// --- the list -----------------------------------------------------------------------------------

const addressOf = (one, what) => `api/pages/${one.key}/${what}.webp?read=${one.times_read}`;

function card(one) {
  const word = one.state === "done" ? one.reading.verdict : one.state;
  const image = element("img", { alt: "" });
  if (one.reading) image.src = addressOf(one, "thumb");
  else if (one.size_px) image.src = addressOf(one, "picture");
  const button = element("button", { type: "button", class: "card" }, image,
    element("span", { class: "name" }, one.name),
    element("span", { class: `verdict ${word}` }, word));
  button.addEventListener("click", () => { current = one.key; refresh(); byId("page-name").focus(); });
  return button;
}

// A card is made anew only if its page changed, so that the focus stays where it is.
function list() {
  const known = new Map([...byId("pages").children].map((item) => [item.dataset.key, item]));
  const items = pages.map((one) => {
    const stamp = `${one.state} ${one.times_read}`;
    let item = known.get(one.key);
    if (item?.dataset.stamp !== stamp) {
      const made = element("li", { "data-key": one.key, "data-stamp": stamp }, card(one));
      if (item?.contains(document.activeElement)) setTimeout(() => made.firstChild.focus());
      item = made;
    }
    item.firstChild.setAttribute("aria-current", String(one.key === current));
    return item;
  });
  byId("pages").replaceChildren(...items);
}

async function look() {
  pages = await ask("api/pages");
  if (!page()) current = pages[0]?.key ?? null;
  refresh();
}

function refresh() {
  list();
  const busy = pages.filter(isBusy).length;
  const failed = pages.filter((one) => one.state === "failed").length;
  const parts = [`${pages.length} page${pages.length === 1 ? "" : "s"}`];
  if (busy) parts.push(`${busy} still to be read`);
  if (failed) parts.push(`${failed} failed`);
  if (pages.length) say(parts.join(", "));
  byId("all").hidden = !pages.some((one) => one.reading);
  byId("page").hidden = page() === null;
  if (page() === null) { shown = null; return; }
  const stamp = `${current} ${page().times_read} ${page().state}`;
  if (stamp !== shown) { shown = stamp; show(page()); }
}

// --- one page -----------------------------------------------------------------------------------

function show(one) {
  const { reading } = one;
  const busy = isBusy(one);
  byId("page-name").textContent = one.name;
  byId("page-verdict").textContent = one.state === "done" ? reading.verdict : one.state;
  byId("page-verdict").className = `verdict ${one.state === "done" ? reading.verdict : one.state}`;
  byId("error").textContent = one.error ?? "";
  byId("doubts").replaceChildren(...(reading?.doubts ?? []).map((text) => element("li", {}, text)));
  byId("facts").textContent = reading
    ? `read as ${reading.layout}, ${reading.mm_per_s} mm/s, ${reading.mm_per_mv} mm/mV` : "";
  byId("leads").replaceChildren(...(reading?.leads ?? []).map(leadRow));
  byId("download").hidden = byId("format").hidden = !reading;
  for (const control of byId("correction").elements) control.disabled = busy;
  ["turn-left", "turn-right", "mirror"].forEach((id) => { byId(id).disabled = busy; });
  if (busy && one.times_read) return; // what was read before stays in sight
  setDownload();
  drawPicture(one);
  drawSignals(one);
}

function leadRow(lead) {
  return element("tr", {},
    element("th", { scope: "row" }, lead.lead),
    element("td", {}, `${lead.start_s.toFixed(2)} s`),
    element("td", {}, `${lead.stop_s.toFixed(2)} s`),
    element("td", {}, lead.quality === null ? "not known" : percent(lead.quality)),
    element("td", {}, lead.unseen > 0 ? percent(lead.unseen) : ""));
}

function drawPicture(one) {
  marks = null;
  moved = false;
  if (!one.size_px) { byId("sheet").replaceChildren(); return; }
  const [width, height] = one.size_px;
  setZoom(zoom, one.size_px);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `${one.name}, with marks` });
  const image = svg("image", { width, height, id: "image" });
  root.append(image);
  byId("sheet").replaceChildren(root);
  setPicture(one);
  fillForm(one);
  if (one.marks) {
    marks = new Marks(root, { marks: one.marks, size_px: one.size_px, names: rowNames(one.marks),
      changed: () => { moved = true; fillForm(page(), marks.marks); } });
    if (one.state === "failed") byId("show-marks").checked = true;
    showMarks();
  }
}

// At 1 the whole picture is seen.
function setZoom(wanted, [width, height]) {
  zoom = Math.min(8, Math.max(1, wanted));
  const { clientWidth, clientHeight } = byId("viewport");
  const whole_px = Math.min(clientWidth, (clientHeight * width) / height);
  byId("sheet").style.width = `${Math.floor(zoom * whole_px) - 1}px`;
}

function setPicture(one) {
  const traces = byId("show-traces").checked && one.reading;
  byId("image")?.setAttribute("href", addressOf(one, traces ? "overlay" : "picture"));
}

function showMarks() {
  if (marks) marks.group.style.display = byId("show-marks").checked ? "" : "none";
}

async function drawSignals(one) {
  byId("paper").replaceChildren();
  if (!one.reading) return;
  const { fs_hz, leads_mv } = await ask(`api/pages/${one.key}/signals`);
  const signals = Object.fromEntries(Object.entries(leads_mv).map(([lead, samples]) =>
    [lead, samples.map((mv) => mv ?? NaN)]));
  if (current === one.key) {
    byId("paper").replaceChildren(drawnPaper({ name: one.name, rows: one.reading.rows }, fs_hz, signals));
  }
}

function setDownload() {
  byId("download").href = `api/pages/${current}/files/${byId("format").value}`;
  byId("all-download").href = `api/files/${byId("all-format").value}`;
}

// --- what somebody tells ------------------------------------------------------------------------

const form = byId("correction");
const fields = form.elements;
const layoutNamed = (name) => about.layouts.find((layout) => layout.name === name);

function rowNames({ layout, strips }) {
  return [...layoutNamed(layout).rows.map((row) => row.join(" ")),
    ...strips.map((lead) => `strip ${lead ?? ""}`)];
}

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
}

function fillForm(one, now = one.marks) {
  const { told } = one;
  if (now) {
    fields.layout.value = now.layout;
    fields.strips.value = now.strips.length;
    [fields.across.value, fields.down.value] = now.squares;
    fillStrips(now.strips);
  }
  if (now === one.marks) {
    fields.mm_per_s.value = told.mm_per_s ?? "";
    fields.mm_per_mv.value = told.mm_per_mv ?? "";
  }
}

function fillStrips(strips) {
  byId("strip-leads").replaceChildren(...strips.map((lead, k) => {
    const select = element("select", { name: "strip", "aria-label": `lead of strip ${k + 1}` });
    options(select, [["", "lead it repeats"], ...about.leads.map((name) => [name, name])]);
    select.value = lead ?? "";
    select.addEventListener("change", relay);
    return select;
  }));
}

// The layout or its strips changed: the marks follow.
function relay() {
  if (!marks) return;
  const layout = layoutNamed(fields.layout.value);
  const leads = [...byId("strip-leads").querySelectorAll("select")].map(({ value }) => value || null);
  const strips = Array.from({ length: Number(fields.strips.value) }, (_, k) => leads[k] ?? null);
  // Of another layout the strips are searched, with everything else.
  const isSearched = layout.name !== page().marks.layout;
  moved ||= !isSearched && JSON.stringify(strips) !== JSON.stringify(marks.marks.strips);
  marks.lay(layout, rowNames({ layout: layout.name, strips }), strips);
  fillStrips(strips);
}

function recount() {
  if (!marks) return;
  marks.marks.squares = [Number(fields.across.value) || 1, Number(fields.down.value) || 1];
  moved = true;
  marks.place();
}

async function correct(correction) {
  const key = current;
  try {
    await ask(`api/pages/${key}/correction`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(correction),
    });
    await look();
  } catch (error) {
    byId("error").textContent = error.message;
  }
}

// What is told of the picture as a whole stays; marks are told where somebody moved them.
function told() {
  const one = page();
  const { turns, is_mirrored } = one.told;
  const number = (text) => (text === "" ? null : Number(text));
  const keeps = moved || one.told.marks !== null;
  const layout = fields.layout.value;
  const isNew = layout !== (one.marks?.layout ?? null) || one.told.layout !== null;
  return {
    turns,
    is_mirrored,
    mm_per_s: number(fields.mm_per_s.value),
    mm_per_mv: number(fields.mm_per_mv.value),
    layout: keeps || !isNew ? null : layout,
    marks: keeps && marks ? marks.marks : null,
  };
}

function turn(by) {
  const { told: before } = page();
  // The picture is turned before it is mirrored, and looks turned the other way after.
  const sign = before.is_mirrored ? -1 : 1;
  return correct({ turns: (before.turns + sign * by + 4) % 4, is_mirrored: before.is_mirrored });
}

// --- what somebody does -------------------------------------------------------------------------

byId("files").addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await bring(files);
});
const drop = byId("drop");
["dragover", "dragleave", "drop"].forEach((kind) => document.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.toggle("over", kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files.length) bring(event.dataTransfer.files);
}));
form.addEventListener("submit", (event) => { event.preventDefault(); correct(told()); });
fields.layout.addEventListener("change", relay);
fields.strips.addEventListener("change", relay);
fields.across.addEventListener("change", recount);
fields.down.addEventListener("change", recount);
byId("undo").addEventListener("click", () => drawPicture(page()));
byId("forget").addEventListener("click", () => correct({}));
byId("turn-left").addEventListener("click", () => turn(1));
byId("turn-right").addEventListener("click", () => turn(-1));
byId("mirror").addEventListener("click", () => {
  const { turns, is_mirrored } = page().told;
  correct({ turns, is_mirrored: !is_mirrored });
});
byId("show-traces").addEventListener("change", () => setPicture(page()));
byId("show-marks").addEventListener("change", showMarks);
byId("zoom-in").addEventListener("click", () => setZoom(zoom * 1.5, page().size_px));
byId("zoom-out").addEventListener("click", () => setZoom(zoom / 1.5, page().size_px));
byId("remove").addEventListener("click", async () => {
  await ask(`api/pages/${current}`, { method: "DELETE" });
  current = null;
  await look();
});
["format", "all-format"].forEach((id) => byId(id).addEventListener("change", setDownload));

async function start() {
  about = await ask("api/about");
  byId("version").textContent = `ecg_digitize ${about.version}.`;
  const formats = about.formats.map((name) => [name, name]);
  ["format", "all-format"].forEach((id) => options(byId(id), formats));
  options(fields.layout, about.layouts.map(({ name }) => [name, name]));
  options(fields.strips, Array.from({ length: MOST_STRIPS + 1 }, (_, n) => [n, n]));
  const asPrinted = ["", "as the sheet tells"];
  options(fields.mm_per_s, [asPrinted, ...about.speeds_mm_per_s.map((v) => [v, `${v} mm/s`])]);
  options(fields.mm_per_mv, [asPrinted, ...about.gains_mm_per_mv.map((v) => [v, `${v} mm/mV`])]);
  await look();
  for (;;) {
    await new Promise((resume) => { setTimeout(resume, LOOK_EVERY_MS); });
    if (!pages.some(isBusy)) continue;
    try { await look(); } catch { say("the server does not answer; it may have ended"); }
  }
}
start().catch((error) => say(error.message));
