// Helpers of the page's scripts: elements, the reader's choices, numbers, packed data.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const choices = document.getElementById("choices");

// What the reader chose. An optimizer that is not in the choices is always shown.

const chosen = { left: new Set(), along: "", scale: "", part: "", metric: "", seeds: false };
const shows = (optimizer) => !chosen.left.has(optimizer);
// Lines of parts of the data, and panels of metrics, are in learning curves alone.
const showsPart = ({ part }) => !chosen.part || !part || part === chosen.part;
const showsMetric = ({ metric }) => !chosen.metric || !metric || metric === chosen.metric;

const paper = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();

// Numbers as a person reads them.

const digits = (value, count = 5) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(count - 1).replace("-", "\u2212");
  return String(Number(value.toPrecision(count))).replace("-", "\u2212");
};

// Charts' data and the library that draws them are unpacked when the first chart is looked at.

const canUnpack = "DecompressionStream" in window;
const unpacked = (packed) => {
  const bytes = Uint8Array.from(atob(packed.trim()), (c) => c.charCodeAt(0));
  const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unzipped).text();
};
const unpack = (id) => unpacked(document.getElementById(id).textContent);
const once = (load) => {
  let loading;
  return () => (loading ??= load());
};
const chartData = once(async () => JSON.parse(await unpack("chart-data")));
const library = once(async () => {
  const script = make("script", { textContent: await unpack("chart-library") });
  document.head.append(script);
  const { Bokeh } = window;
  Bokeh.logger.set_level("off");
  const { Document } = Bokeh.require("document");
  const { ndarray } = Bokeh.require("core/util/ndarray");
  const { embed, documents } = Bokeh;
  return { ...Bokeh.require("models/index"), Document, documents, embed, ndarray };
});
