"use strict";
// Marks over a picture: four corners of the grid, the baseline of each row, the borders of columns.
// Points are [x, y] in pixels of the picture, as /api/pages has them.
const CORNERS = ["upper left", "upper right", "lower right", "lower left"];

// The map of the unit square on four corners (clockwise from the upper left), and its inverse, as
// rows of 3 x 3 matrices. Heckbert, Fundamentals of texture mapping, 1989, section 2.2.3.
function squareTo([[x0, y0], [x1, y1], [x2, y2], [x3, y3]]) {
  const [dx1, dx2, dx3] = [x1 - x2, x3 - x2, x0 - x1 + x2 - x3];
  const [dy1, dy2, dy3] = [y1 - y2, y3 - y2, y0 - y1 + y2 - y3];
  const det = dx1 * dy2 - dx2 * dy1;
  const g = (dx3 * dy2 - dx2 * dy3) / det;
  const h = (dx1 * dy3 - dx3 * dy1) / det;
  return [
    [x1 - x0 + g * x1, x3 - x0 + h * x3, x0],
    [y1 - y0 + g * y1, y3 - y0 + h * y3, y0],
    [g, h, 1],
  ];
}

function inverted([[a, b, c], [d, e, f], [g, h, i]]) { // up to a factor, which a map ignores
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ];
}

function mapped(matrix, [x, y]) {
  const [u, v, w] = matrix.map(([a, b, c]) => a * x + b * y + c);
  return [u / w, v / w];
}

// Spread n points over a line from the first to the last of others.
function spread(points, n) {
  const [first, last] = [points[0], points[points.length - 1]];
  if (n === 1) return [first];
  return Array.from({ length: n }, (_, k) => first.map((one, axis) =>
    one + (k / (n - 1)) * (last[axis] - one)));
}

// Share of the way from the first to the last of some points at which one of them lies.
function shareOf([x, y], [[x0, y0], [x1, y1]]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  return ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1);
}

// Draws the marks into an SVG whose units are pixels of the picture, and lets them be dragged.
class Marks {
  constructor(root, { marks, size_px: [width, height], names, changed }) {
    this.root = root;
    this.marks = structuredClone(marks);
    this.names = names; // of the rows
    this.changed = changed;
    this.isIdle = true;
    this.size = [width, height];
    this.group = svg("g", {});
    root.append(this.group);
    this.draw();
  }

  points() {
    const { corners_px, zeros_px, borders_px } = this.marks;
    return [
      ...corners_px.map((_, k) => ({ list: corners_px, k, kind: "corner", says: `${CORNERS[k]} corner` })),
      ...zeros_px.map((_, k) => ({ list: zeros_px, k, kind: "zero", says: `baseline of ${this.names[k] ?? "strip"}` })),
      ...borders_px.map((_, k) => ({ list: borders_px, k, kind: "border",
        says: k < borders_px.length - 1 ? `begin of column ${k + 1}` : "end of the last column" })),
    ];
  }

  draw() {
    this.lines = svg("path", { class: "lines" });
    this.rows = this.marks.zeros_px.map(() => svg("path", { class: "line" }));
    this.columns = this.marks.borders_px.map(() => svg("path", { class: "line border" }));
    this.radius = Math.max(...this.size) / 120;
    this.labels = this.marks.zeros_px.map((_, k) =>
      svg("text", { class: "label", "font-size": 2.2 * this.radius }, this.names[k] ?? "strip"));
    this.handles = this.points().map((point) => {
      const handle = svg("circle", { r: this.radius, class: `handle ${point.kind}`, tabindex: 0,
        role: "button", "aria-label": `${point.says}; arrow keys move it` });
      handle.addEventListener("pointerdown", (event) => this.drag(event, handle, point));
      handle.addEventListener("keydown", (event) => this.nudge(event, point));
      return [handle, point];
    });
    this.group.replaceChildren(this.lines, ...this.rows, ...this.columns, ...this.labels,
      ...this.handles.map(([handle]) => handle));
    this.place();
  }

  // Sets everything to where the marks are now.
  place() {
    const { corners_px, zeros_px, borders_px, squares: [across, down] } = this.marks;
    const toPage = squareTo(corners_px);
    const toSquare = inverted(toPage);
    const stroke = (points) => `M${points.map((at) => mapped(toPage, at).map((v) => v.toFixed(1))).join("L")}`;
    let d = "";
    for (let k = 0; k <= across; k += 1) d += stroke([[k / across, 0], [k / across, 1]]);
    for (let k = 0; k <= down; k += 1) d += stroke([[0, k / down], [1, k / down]]);
    this.lines.setAttribute("d", d);
    const heights = zeros_px.map((at) => mapped(toSquare, at)[1]);
    const places = borders_px.map((at) => mapped(toSquare, at)[0]);
    const beyond = 2 / down;
    const [top, bottom] = [heights[0] - beyond, heights[heights.length - 1] + beyond];
    this.rows.forEach((row, k) => row.setAttribute("d",
      stroke([[places[0], heights[k]], [places[places.length - 1], heights[k]]])));
    this.columns.forEach((column, k) => column.setAttribute("d",
      stroke([[places[k], top], [places[k], bottom]])));
    this.labels.forEach((label, k) => {
      const [x, y] = zeros_px[k];
      label.setAttribute("x", x + this.size[0] / 90);
      label.setAttribute("y", y - this.size[0] / 180);
    });
    // A handle outside the picture could not be taken: it is shown on its edge.
    this.handles.forEach(([handle, { list, k }]) => ["cx", "cy"].forEach((name, axis) =>
      handle.setAttribute(name,
        Math.min(Math.max(list[k][axis], this.radius), this.size[axis] - this.radius))));
  }

  // The outermost borders take those between them along: leads of a row are equally long.
  move(list, k, to) {
    const last = list.length - 1;
    const ends = [[...list[0]], [...list[last]]];
    list[k] = to;
    if (list === this.marks.borders_px && (k === 0 || k === last)) {
      const between = list.slice(1, last).map((point) => shareOf(point, ends));
      between.forEach((share, j) => {
        list[j + 1] = list[0].map((one, axis) => one + share * (list[last][axis] - one));
      });
    }
    this.place();
  }

  drag(event, handle, { list, k }) {
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
    const toPicture = this.root.getScreenCTM().inverse();
    const at = ({ clientX, clientY }) => new DOMPoint(clientX, clientY).matrixTransform(toPicture);
    const [began, from] = [at(event), [...list[k]]];
    let isMoved = false;
    const move = (moved) => {
      const { x, y } = at(moved);
      isMoved = true;
      this.move(list, k, [from[0] + x - began.x, from[1] + y - began.y]);
    };
    handle.addEventListener("pointermove", move);
    const end = () => {
      handle.removeEventListener("pointermove", move);
      if (!isMoved) return;
      this.sort();
      this.changed();
    };
    handle.addEventListener("lostpointercapture", end, { once: true });
  }

  // While the page is read its marks stay where they are.
  setIdle(isIdle) {
    this.isIdle = isIdle;
    this.group.setAttribute("pointer-events", isIdle ? "auto" : "none");
  }

  // Rows are named from the top: one that was dragged past another changes its name with it.
  sort() {
    const { corners_px, zeros_px } = this.marks;
    const toSquare = inverted(squareTo(corners_px));
    const height = (point) => mapped(toSquare, point)[1];
    if (zeros_px.every((point, k) => k === 0 || height(zeros_px[k - 1]) <= height(point))) return;
    zeros_px.sort((a, b) => height(a) - height(b));
    this.draw();
  }

  nudge(event, { list, k }) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by || !this.isIdle) return;
    event.preventDefault();
    this.move(list, k, list[k].map((one, axis) => one + by[axis] * (event.shiftKey ? 10 : 1)));
    const at = list[k];
    this.sort();
    const [handle] = this.handles.find(([, point]) => point.list[point.k] === at);
    handle.focus(); // it may have been drawn anew
    this.changed();
  }

  // Gives the marks another layout; rows and columns are spread over where they were.
  lay(layout, names, strips) {
    const n_rows = layout.rows.length + strips.length;
    const n_borders = layout.rows[0].length + 1;
    const { zeros_px, borders_px } = this.marks;
    this.names = names;
    this.marks = {
      ...this.marks,
      layout: layout.name,
      strips,
      zeros_px: n_rows === zeros_px.length ? zeros_px : spread(zeros_px, n_rows),
      borders_px: n_borders === borders_px.length ? borders_px : spread(borders_px, n_borders),
    };
    this.draw();
  }
}
