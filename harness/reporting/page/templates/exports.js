// Below every picture: its numbers, and the picture as a file.

const save = (name, blob) => {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
const onPaper = (figure) => {
  const copy = figure.querySelector("svg[role=img]").cloneNode(true);
  const [, , width, height] = copy.getAttribute("viewBox").split(" ").map(Number);
  copy.setAttribute("width", `${width}pt`);
  copy.setAttribute("height", `${height}pt`);
  const colors = { ink: "#1a1b1c", grid: "#d0d1d2", paper: "#fefefd" };
  const text = new XMLSerializer().serializeToString(copy);
  return {
    text: text.replace(/var\(--(ink|grid|paper)\)/g, (_, name) => colors[name]),
    width,
    height,
  };
};
const savePng = async (name, figure) => {
  const { text, width, height } = onPaper(figure);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = make("canvas", { width: Math.round(width * 3), height: Math.round(height * 3) });
  const brush = canvas.getContext("2d");
  brush.fillStyle = "#fefefd";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(`${name}.png`, blob), "image/png");
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
  button("SVG", () =>
    save(`${name}.svg`, new Blob([onPaper(figure).text], { type: "image/svg+xml" })),
  );
  button("PNG", () => savePng(name, figure));
  if (chart) button("Reset zoom", () => draw(chart)).className = "reset";
  const caption = figure.querySelector("figcaption");
  if (chart) {
    chart.note = make("p", { className: "departures", hidden: true });
    caption.append(chart.note);
  }
  caption.append(line);
};
