"use strict";
const told = JSON.parse(document.getElementById("index").textContent);
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

const embedded = (name) => byId(name)?.textContent ?? null;
const picture = (name) => `data:image/webp;base64,${embedded(name)}`;
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
let zoom = 1; // 1: the whole picture is seen

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
    if (current === entry) byId("paper").replaceChildren(drawnPaper(page, page.fs_hz, signals, told.paper));
  });
}

function setZoom(wanted) {
  zoom = Math.min(8, Math.max(1, wanted));
  const { clientWidth, clientHeight } = byId("viewport");
  const { naturalWidth, naturalHeight } = overlay;
  const whole_px = Math.min(clientWidth, clientHeight * (naturalWidth / (naturalHeight || 1)));
  overlay.style.width = `${Math.floor(zoom * whole_px) - 1}px`;
}

function step(by) {
  const pages = shown.filter((entry) => entry.page !== null);
  const at = pages.indexOf(current) + by;
  if (at >= 0 && at < pages.length) open(pages[at]);
}

// --- signals ------------------------------------------------------------------------------------

// Undoes report/view.py, pack_signals: a Float32Array of mV a lead, NaN where nothing was seen.
async function unpacked(page) {
  const packed = Uint8Array.from(atob(embedded(`signals-${page.number}`)), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const counts = new Int16Array(await new Response(stream).arrayBuffer());
  for (let k = 1; k < counts.length; k += 1) counts[k] += counts[k - 1]; // wraps round, as meant
  const each = counts.length / told.leads.length;
  const mvOf = (count) => (count === told.not_seen ? NaN : count * told.mv_per_count);
  return Object.fromEntries(told.leads.map((lead, k) => [
    lead, Float32Array.from(counts.subarray(k * each, (k + 1) * each), mvOf)]));
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
overlay.addEventListener("load", () => setZoom(zoom));
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
byId("paper-title").textContent = paperTitle(told.paper);
byId("version").textContent = `Made by ecg_digitize ${told.version}.`;
show();
