// Live charts in place of the pictures. The data of all of them are packed in the page (charts.py);
// a chart is drawn when it is first scrolled to.

// A chart: legend, player, plots.

const KINDS = {
  curves: { draw: curvePlot, table: curveTable },
  dots: { draw: dotPlot, table: dotTable },
  planes: { draw: planePlot, table: planeTable },
  heat: { draw: heatPlot, table: heatTable },
};

const charts = [];
const least = { curves: 260, dots: 230, planes: 300, heat: 280 };
// The place is that of the picture on paper, before a chart has taken it.
const widthOf = (chart) =>
  chart.host.clientWidth || chart.figure.querySelector(".drawing").clientWidth;
const columnsOf = (chart) => {
  const { kind, columns, panels } = chart.data;
  const room = Math.max(1, Math.floor(widthOf(chart) / (panels[0].metric ? 200 : least[kind])));
  const most = Math.min(columns, panels.length, room);
  // Panels that go two by two stay side by side.
  const pairs = kind === "dots" ? columns % 2 === 0 && most > 1 : panels[0].metric && columns === 4;
  return pairs && most > 1 ? most - (most % 2) : most;
};
const heightOf = (chart, panel, width) => {
  const { kind, window: ranges } = chart.data;
  if (kind === "dots")
    return (
      74 +
      (chart.data.panels.some((one) => one.title) ? 22 : 0) +
      Math.max(1, rowsShown(chart, panel).length) * (chart.data.columns > 1 ? 24 : 34)
    );
  if (kind === "planes") {
    const natural = chart.data.curve[0].length
      ? 0
      : width * ((ranges[1][1] - ranges[1][0]) / (ranges[0][1] - ranges[0][0]));
    return Math.round(Math.min(Math.max(natural, 0.5 * width), 0.85 * width, 560)) + 60;
  }
  return [360, 300, 270][chart.data.columns - 1] ?? 230;
};
const legend = (chart) => {
  const entries = new Map();
  const { kind, panels, styles } = chart.data;
  const items =
    kind === "curves"
      ? panels.flatMap((panel) => (panel.hasLegend ? [] : panel.lines))
      : kind === "planes"
        ? panels
            .filter((panel) => !panel.title || panel.trajectories.length > 1)
            .flatMap((panel) => panel.trajectories)
        : [];
  for (const item of items) {
    const style = styles[item.style];
    const own = item.optimizers ?? [style.optimizer];
    if (item.label && own.some(shows) && showsPart(item) && !entries.has(item.label))
      entries.set(item.label, item.part ? { ...style, color: "currentColor" } : style);
  }
  const list = make("ul", { className: "legend" });
  for (const [label, style] of entries)
    list.append(make("li", {}, swatch(style), make("span", { textContent: label })));
  const crossed = panels.filter((panel) => (panel.referenceLine ?? null) !== null);
  for (const words of new Set(crossed.map((panel) => panel.referenceLabel).filter(Boolean))) {
    list.append(
      make(
        "li",
        {},
        make("span", { className: "rule", ariaHidden: "true" }),
        make("span", { textContent: words }),
      ),
    );
  }
  return list;
};
const player = (chart) => {
  const last = Math.max(
    ...chart.data.steps.map((steps) => steps.at(-1) ?? 0),
  );
  chart.last = last;
  chart.step = Math.min(chart.step ?? last, last);
  const slider = make("input", {
    type: "range",
    min: 0,
    max: last,
    step: 1,
    value: chart.step,
    ariaLabel: "Step",
  });
  const place = make("output", {});
  const play = make("button", { type: "button", className: "play" });
  const show = (step) => {
    chart.step = step;
    slider.value = step;
    slider.setAttribute("aria-valuetext", `step ${step} of ${last}`);
    place.textContent = `step ${step} of ${last}`;
    for (const update of chart.players) update(step);
  };
  const stop = () => {
    clearInterval(chart.timer);
    chart.timer = undefined;
    play.textContent = "Play";
  };
  const start = () => {
    if (chart.step >= last) show(0);
    const by = Math.max(1, Math.round(last / 60));
    play.textContent = "Pause";
    chart.timer = setInterval(
      () => {
        show(Math.min(last, chart.step + by));
        if (chart.step >= last) stop();
      },
      Math.max(40, Math.min(250, 5000 / last)),
    );
  };
  const move = (by) => {
    stop();
    show(Math.min(last, Math.max(0, chart.step + by)));
  };
  play.addEventListener("click", () => (chart.timer ? stop() : start()));
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  const back = make("button", {
    type: "button",
    textContent: "\u2190",
    ariaLabel: "One step back",
  });
  const on = make("button", { type: "button", textContent: "\u2192", ariaLabel: "One step on" });
  back.addEventListener("click", () => move(-1));
  on.addEventListener("click", () => move(1));
  const box = make("div", { className: "player" }, play, back, slider, on, place);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Player: arrow keys step, space plays");
  box.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -last, End: last };
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === " " && event.target === slider) play.click();
    else return;
    event.preventDefault();
  });
  stop();
  return { box, show };
};

// No tab stop leads into a drawing: what it holds is in the table below it.
const untabbed = (root) => {
  for (const element of root.querySelectorAll("*")) {
    if (element.tabIndex >= 0) element.tabIndex = -1;
    if (element.shadowRoot) untabbed(element.shadowRoot);
  }
};
const clear = (chart) => {
  clearInterval(chart.timer);
  chart.timer = undefined;
  for (const manager of chart.managers) manager.clear?.();
  chart.managers = [];
  chart.players = [];
  chart.views = [];
};
const loaded = async (chart) => {
  chart.data ??= (await chartData())[chart.figure.dataset.name];
  return chart;
};
const draw = async (chart) => {
  const turn = (chart.turn = (chart.turn ?? 0) + 1);
  const [m] = await Promise.all([library(), loaded(chart)]);
  if (turn !== chart.turn) return;
  clear(chart);
  chart.columns = columnsOf(chart);
  const width = widthOf(chart) / chart.columns;
  const { kind, panels } = chart.data;
  const grid = make("div", { className: "panels" });
  grid.style.gridTemplateColumns = `repeat(${chart.columns}, minmax(0, 1fr))`;
  const parts = [];
  const titled = panels.some((panel) => panel.title);
  const cells = [];
  panels.filter(showsMetric).forEach((panel) => {
    const named = panel.isNamed || chart.columns < chart.data.columns;
    const title = panel.title || (titled && chart.columns > 1 ? " " : "");
    const height = heightOf(chart, panel, width);
    const plot = KINDS[kind].draw(m, chart, panel, { height, width, title, named });
    const cell = make("div", {});
    if (plot) parts.push([plot, cell, panel]);
    // A panel with nothing in it keeps a place free, so that each metric begins a row.
    if (plot || (!panel.lines?.length && chart.columns === chart.data.columns)) cells.push(cell);
  });
  const pieces = [legend(chart)];
  let shown;
  if (kind === "planes" && parts.length) {
    const { box, show } = player(chart);
    pieces.push(box);
    shown = show;
  }
  const drawing = make(
    "div",
    {
      role: "img",
      ariaLabel: chart.figure.querySelector("svg[role=img]").getAttribute("aria-label"),
    },
    grid,
  );
  pieces.push(
    parts.length
      ? drawing
      : make("p", { textContent: "Nothing of what is selected is in this picture." }),
  );
  grid.append(...cells);
  chart.host.replaceChildren(...pieces);
  shown?.(chart.step);
  for (const [plot, box] of parts) {
    const page = new m.Document();
    page.add_root(plot);
    const manager = await m.embed.add_document_standalone(page, box);
    // Bokeh would remember every chart there ever was.
    m.documents.splice(m.documents.indexOf(page), 1);
    if (turn !== chart.turn) {
      manager.clear();
      return;
    }
    chart.managers.push(manager);
    chart.views.push(manager.get_by_id(plot.id));
  }
  untabbed(grid);
  chart.figure.classList.add("is-live");
  chart.stale = false;
  chart.parts = parts;
  chart.note.textContent = departures(chart, m);
  chart.note.hidden = !chart.note.textContent;
};
// Differences between what is shown and the printed picture, which the caption describes.
const departures = ({ data, parts }, m) => {
  const { kind, panels, styles } = data;
  const drawn = [...new Set([...styles, ...panels].map((one) => one.optimizer).filter(Boolean))];
  const shown = drawn.filter(shows);
  const found = [];
  if (shown.length < drawn.length)
    found.push(shown.length > 4 ? `${shown.length} of ${drawn.length} optimizers` : `only ${shown.join(", ")}`);
  const lines = kind === "curves" ? panels.flatMap((panel) => panel.lines) : [];
  if (!lines.every(showsPart)) found.push(`${chosen.part} alone`);
  if (kind === "curves" && !panels.every(showsMetric)) found.push(`${chosen.metric} alone`);
  if (kind === "curves" && chosen.along && panels.some((panel) => panel.stepsPerX))
    found.push(`x axis in ${chosen.along}`);
  const scales = parts.map(([plot, , panel]) => {
    const scale = kind === "dots" ? plot.x_scale : plot.y_scale;
    return ["curves", "dots"].includes(kind) && scale instanceof m.LogScale !== panel.log;
  });
  if (scales.some(Boolean)) found.push(chosen.scale === "log" ? "logarithmic scale" : "linear scale");
  if (chosen.seeds && panels.some((panel) => panel.seedLines?.length)) found.push("individual seeds");
  return found.length ? `Shown: ${found.join("; ")}. The text describes the figure as printed.` : "";
};
const redraw = () => {
  for (const chart of charts) {
    chart.stale = true;
    if (chart.seen) draw(chart);
    chart.table?.();
  }
};
