// Styles of optimizers: colours, markers and dashes, in charts and in legends.

const color = (style) => style?.color ?? paper("ink");
const MARKERS = {
  o: "circle",
  s: "square",
  "^": "triangle",
  D: "diamond",
  v: "inverted_triangle",
  P: "plus",
  "<": "square_pin",
  p: "hex",
  ">": "triangle_pin",
  "*": "star",
};
const dashes = (style) => style.dashes.map((length) => Math.round(length * style.width));
const marker = (style, size) => ({
  marker: MARKERS[style.marker] ?? "circle",
  size,
  fill_color: style.filled ? style.color : paper("paper"),
  line_color: style.filled ? paper("paper") : style.color,
  line_width: style.filled ? 0.7 : 1.6,
});

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  o: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
  s: "M-3.5-3.5h7v7h-7z",
  "^": "M0-4.5L4.3 3.5H-4.3z",
  D: "M0-5L4 0L0 5L-4 0z",
  v: "M0 4.5L4.3-3.5H-4.3z",
  P: "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
  "<": "M-4-4Q0-1.5 4-4Q1.5 0 4 4Q0 1.5-4 4Q-1.5 0-4-4z",
  p: "M-4 0L-2-3.6H2L4 0L2 3.6H-2z",
  ">": "M-4 2.3Q0 .9 4 2.3Q.7.4 0-4.6Q-.7.4-4 2.3z",
  "*": "M0-5L1.5-1.6L5-1.5L2.3.8L3.2 4.3L0 2.3L-3.2 4.3L-2.3.8L-5-1.5L-1.5-1.6z",
};
const swatch = (style) => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 36 12");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "swatch");
  const part = (d, attributes) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value);
    svg.append(path);
  };
  part("M1 6h34", {
    stroke: style.color,
    "stroke-width": style.width,
    "stroke-dasharray": dashes(style).join(" "),
  });
  if (!style.marker) return svg;
  part(SHAPES[style.marker] ?? SHAPES.o, {
    transform: "translate(18 6)",
    fill: style.filled ? style.color : "var(--paper)",
    stroke: style.filled ? "var(--paper)" : style.color,
    "stroke-width": style.filled ? 0.7 : 1.5,
  });
  return svg;
};
