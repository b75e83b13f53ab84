"use strict";
const LOOK_EVERY_MS = 700;
const LOOK_WHEN_IDLE_MS = 5000; // another window or a program may bring pages
let woken = () => {};

let about = null; // what the server can do
let pages = []; // as the server tells of them
let current = null; // the key of the page that is looked at
let shown = null; // key, times_read and state of what is shown
let drawn = null; // the key of the page whose picture and signals are drawn
let marks = null; // Marks of the current page, if it has any
let moved = false; // whether somebody moved them
let zoom = 1;

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; it may have ended");
  }
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

// What somebody does may fail: that is said, and the list is looked at anew.
function attempt(action) {
  return async (...given) => {
    try {
      complain("");
      await action(...given);
    } catch (error) {
      complain(error.message);
      await look().catch(() => {});
    }
  };
}

function complain(text) { byId("failure").textContent = text; }

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
      failed.push(error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`);
    }
  }
  await look();
  if (failed.length) complain(`Not taken: ${failed.join("; ")}`);
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
  if (pages.some(isBusy)) woken();
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
  say(pages.length ? parts.join(", ") : "");
  byId("all").hidden = !pages.some((one) => one.reading);
  byId("page").hidden = page() === null;
  if (page() === null) { shown = null; drawn = null; return; }
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
  const focused = document.activeElement;
  for (const control of byId("correction").elements) control.disabled = busy || !one.size_px;
  ["turn-left", "turn-right", "mirror"].forEach((id) => { byId(id).disabled = busy || !one.size_px; });
  ["zoom-in", "zoom-out"].forEach((id) => { byId(id).disabled = !one.size_px; });
  if (byId("page").contains(focused) && focused.disabled) byId("page-name").focus();
  setDownload();
  marks?.setIdle(!busy);
  if (busy && one.times_read && drawn === one.key) return; // what was read before stays in sight
  drawn = one.key;
  drawPicture(one);
  drawSignals(one);
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
    marks.setIdle(!isBusy(one));
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
    const shown = { name: one.name, rows: one.reading.rows };
    byId("paper").replaceChildren(drawnPaper(shown, fs_hz, signals, about.paper));
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
    choose(fields.strips, now.strips.length);
    [fields.across.value, fields.down.value] = now.squares;
    fillStrips(now.strips);
  }
  byId("strip-fields").hidden = false;
  if (now === one.marks) {
    choose(fields.mm_per_s, told.mm_per_s);
    choose(fields.mm_per_mv, told.mm_per_mv);
  }
}

function fillStrips(strips) {
  byId("strip-leads").replaceChildren(...strips.map((lead, k) => {
    const select = element("select", { name: "strip", "aria-label": `lead of strip ${k + 1}` });
    options(select, [["", "find out which lead"], ...about.leads.map((name) => [name, name])]);
    select.value = lead ?? "";
    select.addEventListener("change", relay);
    return select;
  }));
}

// A value that is told and is none of the usual ones is offered, too.
function choose(select, value) {
  const text = value === null ? "" : String(value);
  if (![...select.options].some((option) => option.value === text)) {
    select.append(element("option", { value: text }, text));
  }
  select.value = text;
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
  byId("strip-fields").hidden = isSearched && !moved;
  marks.lay(layout, rowNames({ layout: layout.name, strips }), strips);
  fillStrips(strips);
}

function recount() {
  if (!marks) return;
  const within = (text) => Math.min(about.most_squares, Math.max(1, Math.round(Number(text)) || 1));
  marks.marks.squares = [within(fields.across.value), within(fields.down.value)];
  [fields.across.value, fields.down.value] = marks.marks.squares;
  moved = true;
  marks.place();
}

const correct = attempt(async (correction) => {
  await ask(`api/pages/${current}/correction`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(correction),
  });
  await look();
});

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
  return correct({ ...before, turns: (before.turns + sign * by + 4) % 4, marks: null });
}

// --- what somebody does -------------------------------------------------------------------------

byId("files").addEventListener("change", attempt(async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await bring(files);
}));
const drop = byId("drop");
["dragover", "dragleave", "drop"].forEach((kind) => document.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.toggle("over", kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files.length) attempt(bring)(event.dataTransfer.files);
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
  const { told: before } = page();
  correct({ ...before, is_mirrored: !before.is_mirrored, marks: null });
});
byId("show-traces").addEventListener("change", () => setPicture(page()));
byId("show-marks").addEventListener("change", showMarks);
byId("zoom-in").addEventListener("click", () => setZoom(zoom * 1.5, page().size_px));
byId("zoom-out").addEventListener("click", () => setZoom(zoom / 1.5, page().size_px));
byId("remove").addEventListener("click", attempt(async () => {
  const key = current;
  current = null;
  if (key) await ask(`api/pages/${key}`, { method: "DELETE" });
  await look();
  (page() ? byId("page-name") : byId("files")).focus();
}));
window.addEventListener("resize", () => { if (page()?.size_px) setZoom(zoom, page().size_px); });
["format", "all-format"].forEach((id) => byId(id).addEventListener("change", setDownload));

async function start() {
  about = await ask("api/about");
  byId("version").textContent = `ecg_digitize ${about.version}.`;
  byId("paper-title").textContent = paperTitle(about.paper);
  fields.across.max = fields.down.max = about.most_squares;
  const formats = about.formats.map((name) => [name, name]);
  ["format", "all-format"].forEach((id) => options(byId(id), formats));
  options(fields.layout, about.layouts.map(({ name }) => [name, name]));
  options(fields.strips, Array.from({ length: about.most_strips + 1 }, (_, n) => [n, n]));
  const asPrinted = ["", "as the sheet tells"];
  options(fields.mm_per_s, [asPrinted, ...about.speeds_mm_per_s.map((v) => [v, `${v} mm/s`])]);
  options(fields.mm_per_mv, [asPrinted, ...about.gains_mm_per_mv.map((v) => [v, `${v} mm/mV`])]);
  await look();
  for (;;) {
    const wait_ms = pages.some(isBusy) ? LOOK_EVERY_MS : LOOK_WHEN_IDLE_MS;
    await new Promise((resume) => { setTimeout(resume, wait_ms); woken = resume; });
    try { await look(); } catch (error) { say(error.message); }
  }
}
start().catch((error) => say(error.message));
