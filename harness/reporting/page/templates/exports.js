// Below every picture: its numbers, and the picture as a file.

const save = (name, blob) => {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
// Pictures are kept in the colours of print, whatever those of the page.
const PRINTED = { ink: "#1a1b1c", grid: "#d0d1d2", paper: "#fefefd" };
const DPI = 300;
const MARGIN = 8;
const asText = (svg) => new XMLSerializer().serializeToString(svg);
const asPrinted = (figure) => {
  const copy = figure.querySelector("svg[role=img]").cloneNode(true);
  const [, , width, height] = copy.getAttribute("viewBox").split(" ").map(Number);
  copy.setAttribute("width", `${width}pt`);
  copy.setAttribute("height", `${height}pt`);
  copy.prepend(drawn("style", {}, document.getElementById("drawing-styles").textContent));
  const text = asText(copy).replace(/var\(--(ink|grid|paper)\)/g, (_, name) => PRINTED[name]);
  return { text, width: (width * 4) / 3, height: (height * 4) / 3 };
};
const drawn = (name, attributes, ...children) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
// A live chart as it is on the screen: its legend, the step of its player, its plots.
const asShown = (chart) => {
  const { left, top, width } = chart.host.getBoundingClientRect();
  const parts = [];
  const place = (element, box, dy = 0) => {
    element.setAttribute("x", box.left - left);
    element.setAttribute("y", box.top - top + dy);
    parts.push(element);
  };
  const write = (element, dy) => {
    const box = element.getBoundingClientRect();
    const text = drawn("text", { "font-size": 13, fill: PRINTED.ink }, element.textContent);
    place(text, box, box.height / 2 + 4.5 + dy);
  };
  let from = 0;
  for (const item of all(".legend li", chart.host)) {
    const [sign, words] = item.children;
    const box = sign.getBoundingClientRect();
    if (sign.matches("svg")) {
      const copy = sign.cloneNode(true);
      copy.setAttribute("width", box.width);
      copy.setAttribute("height", box.height);
      place(copy, box);
    } else {
      const line = { x2: box.width, stroke: PRINTED.ink, "stroke-dasharray": "5 4" };
      place(drawn("svg", { height: 2, width: box.width, overflow: "visible" }, drawn("line", line)), box);
    }
    write(words, 0);
    from = Math.max(from, words.getBoundingClientRect().bottom - top);
  }
  const output = chart.host.querySelector(".player output");
  const { step, last } = chart;
  if (output && step < last) {
    parts.push(drawn("text", { "font-size": 13, fill: PRINTED.ink, y: from + 16 }, output.textContent));
    from += 20;
  }
  const panels = chart.host.querySelector(".panels").getBoundingClientRect();
  const dy = from + 4 - (panels.top - top);
  for (const view of chart.views) {
    place(view.export("svg").ctx.get_svg(), view.el.getBoundingClientRect(), dy);
  }
  const size = { width: width + 2 * MARGIN, height: from + 4 + panels.height + 2 * MARGIN };
  const viewBox = `${-MARGIN} ${-MARGIN} ${size.width} ${size.height}`;
  const sheet = drawn("rect", { x: -MARGIN, y: -MARGIN, ...size, fill: PRINTED.paper });
  const whole = drawn("svg", { ...size, viewBox, "font-family": FONT }, sheet, ...parts);
  let text = asText(whole).replace(/var\(--(ink|grid|paper)\)/g, (_, name) => PRINTED[name]);
  for (const [name, color] of Object.entries(PRINTED)) {
    const own = paper(name);
    const numbers = [1, 3, 5].map((i) => parseInt(own.slice(i, i + 2), 16)).join(",");
    text = text.replaceAll(`"${own}"`, `"${color}"`).replaceAll(`"rgb(${numbers})"`, `"${color}"`);
  }
  return { text, ...size };
};
// The chunk of a PNG that says how many dots a metre has: 300 an inch. It comes after the header.
const RESOLUTION = [0, 0, 0, 9, 112, 72, 89, 115, 0, 0, 46, 35, 0, 0, 46, 35, 1, 120, 165, 63, 118];
const HEADER_END = 33;
const asPng = async ({ text, width, height }) => {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const [wide, high] = [width, height].map((length) => Math.round((length * DPI) / 96));
  const canvas = make("canvas", { width: wide, height: high });
  const brush = canvas.getContext("2d");
  brush.fillStyle = PRINTED.paper;
  brush.fillRect(0, 0, wide, high);
  brush.drawImage(image, 0, 0, wide, high);
  const blob = await new Promise((then) => canvas.toBlob(then, "image/png"));
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const parts = [bytes.slice(0, HEADER_END), new Uint8Array(RESOLUTION), bytes.slice(HEADER_END)];
  return new Blob(parts, { type: "image/png" });
};
const quoted = (cell) => {
  const text = String(cell ?? "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = ({ heads, rows }) =>
  `${[heads, ...rows].map((row) => row.map(quoted).join(",")).join("\n")}\n`;
const MOST_ROWS = 200;
const table = ({ heads, rows }, label) => {
  const head = make(
    "tr",
    {},
    ...heads.map((text) => Object.assign(make("th", { textContent: text }), { scope: "col" })),
  );
  const body = rows.slice(0, MOST_ROWS).map((row) =>
    make(
      "tr",
      {},
      ...row.map((cell) =>
        make("td", {
          textContent: typeof cell === "number" ? digits(cell, 7) : cell,
          className: typeof cell === "number" ? "number" : "",
        }),
      ),
    ),
  );
  const whole = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const box = make("div", { className: "scroll numbers", tabIndex: 0 }, whole);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  const more =
    rows.length > MOST_ROWS
      ? `The first ${MOST_ROWS} of ${rows.length.toLocaleString("en")} rows; the download has all.`
      : "";
  return [box, ...(more ? [make("p", { className: "note", textContent: more })] : [])];
};
const addTools = (chart, figure) => {
  const { name, title } = figure.dataset;
  const line = make("p", { className: "download" });
  const button = (text, act) => {
    const made = make("button", { type: "button", textContent: text, ariaLabel: `${text}: ${title}` });
    made.addEventListener("click", act);
    line.append(made);
    return made;
  };
  if (chart) {
    const numbers = make("div", { hidden: true });
    const toggle = button("Numbers", () => {
      numbers.hidden = !numbers.hidden;
      toggle.setAttribute("aria-expanded", String(!numbers.hidden));
      chart.table();
    });
    toggle.setAttribute("aria-expanded", "false");
    const read = async () => {
      const { data } = await loaded(chart);
      return KINDS[data.kind].table(chart);
    };
    chart.table = async () => {
      if (!numbers.hidden) numbers.replaceChildren(...table(await read(), `Numbers: ${title}`));
    };
    button("CSV", async () =>
      save(`${name}.csv`, new Blob([csv(await read())], { type: "text/csv" })),
    );
    figure.append(numbers);
  }
  const picture = () =>
    chart?.views.length && !chart.stale ? asShown(chart) : asPrinted(figure);
  button("SVG", () =>
    save(`${name}.svg`, new Blob([picture().text], { type: "image/svg+xml" })),
  );
  button("PNG", async () => save(`${name}.png`, await asPng(picture())));
  if (chart) button("Reset zoom", () => draw(chart)).className = "reset";
  const caption = figure.querySelector("figcaption");
  if (chart) {
    chart.note = make("p", { className: "departures", hidden: true });
    caption.append(chart.note);
  }
  caption.append(line);
};
