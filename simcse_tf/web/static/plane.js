// A query and its neighbours as points.

import { make } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, MARGIN] = [320, 230, 16];

export function drawPlane({ points, kept }, hits) {
  const place = fitted(points);
  const svg = draw("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `The query and its ${hits.length} hits as points; the list of hits has their cosines.`,
  });
  const [query, ...rest] = points.map(place);
  // The nearest last, so that they lie on top.
  for (const [x, y, rank] of rest.map(([x, y], i) => [x, y, i + 1]).reverse()) {
    const point = draw("g", { class: "point", "data-rank": rank });
    point.append(draw("circle", { cx: x, cy: y, r: 9 }), label(x, y, rank));
    svg.append(point);
  }
  const [x, y] = query;
  svg.append(
    draw("path", {
      class: "query-point",
      d: `M${x} ${y - 10}L${x + 10} ${y}L${x} ${y + 10}L${x - 10} ${y}Z`,
    }),
  );
  return make(
    "figure",
    { class: "plane" },
    svg,
    make(
      "figcaption",
      {},
      "Diamond: the query. Numbers: its hits. Near means a high cosine, as far as two " +
        `dimensions (principal components) can tell: they keep ${Math.round(100 * kept)}% ` +
        "of the variance. The axes have no unit.",
    ),
  );
}

/** One scale for both axes: distances are what the picture is about. */
function fitted(points) {
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
  const width = (values) => Math.max(...values) - Math.min(...values) || 1e-9;
  const scale = Math.min(
    (WIDTH - 2 * MARGIN) / width(xs),
    (HEIGHT - 2 * MARGIN) / width(ys),
    1e6,
  );
  return ([x, y]) => [
    round(WIDTH / 2 + (x - middle(xs)) * scale),
    round(HEIGHT / 2 - (y - middle(ys)) * scale),
  ];
}

function label(x, y, text) {
  const element = draw("text", { x, y: y + 3.5, "text-anchor": "middle" });
  element.append(text);
  return element;
}

function round(value) {
  return Math.round(10 * value) / 10;
}

function draw(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
