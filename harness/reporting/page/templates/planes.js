// Plots of a plane: trajectories, and settings of two hyperparameters.

// Trajectories in a plane, as far as the player has come

const trajectoriesShown = (chart, panel) =>
  panel.trajectories
    .filter((path) => path.optimizers.some(shows))
    .map(({ points: [x, y], ...path }) => ({
      ...path,
      x,
      y,
      steps: chart.data.steps[path.steps],
      style: chart.data.styles[path.style],
    }));
const reached = (path, step) => {
  let count = path.x.length;
  while (count > 1 && path.steps[count - 1] > step) count -= 1;
  return count;
};
// All that isn't data has the page's ink, the landscape a little of it.
const SHADE = 0.08;
const landscape = (m, plot, { contours, columns }) => {
  const alpha = 1 - (1 - SHADE) ** (1 / contours.length);
  for (const { areas } of contours) {
    plot.add_glyph(
      new m.MultiPolygons({
        xs: field("xs"),
        ys: field("ys"),
        fill_color: paper("ink"),
        fill_alpha: alpha,
        line_color: null,
      }),
      source(m, {
        xs: [areas.map((area) => area.map(([x]) => x))],
        ys: [areas.map((area) => area.map(([, y]) => y))],
      }),
    );
  }
  for (const { lines } of contours) {
    plot.add_glyph(
      new m.MultiLine({
        xs: field("xs"),
        ys: field("ys"),
        line_color: paper("ink"),
        line_alpha: 0.3,
        line_width: 1,
      }),
      source(m, {
        xs: lines.map(([x]) => x),
        ys: lines.map(([, y]) => y),
      }),
    );
  }
  // In small panels there is no room for them.
  const named = columns > 2 ? [] : contours.filter(({ label }) => label);
  plot.add_glyph(
    new m.Text({
      x: field("x"),
      y: field("y"),
      text: field("text"),
      text_color: paper("ink"),
      text_alpha: 0.8,
      text_font: FONT,
      text_font_size: "11px",
      text_align: "center",
      text_baseline: "middle",
      background_fill_color: paper("paper"),
      background_fill_alpha: 0.75,
    }),
    source(m, {
      x: named.map(({ label: [x] }) => x),
      y: named.map(({ label: [, y] }) => y),
      text: named.map(({ level }) => digits(level, 3)),
    }),
  );
};
const curve = (m, plot, [x, y]) =>
  plot.add_glyph(
    new m.Line({
      x: field("x"),
      y: field("y"),
      line_color: paper("ink"),
      line_alpha: 0.5,
      line_width: 1.5,
    }),
    source(m, { x, y }),
  );
// One trajectory; its parts follow the player.
const FINE = 1.6;
const THIN = 0.8;
const pathGlyphs = (m, plot, chart, path) => {
  const [data, marked] = [{}, {}].map((empty) => source(m, empty));
  const place = { x: field("x"), y: field("y") };
  const upon = chart.data.curve[0].length > 0;
  const isLong = path.marked.length < path.x.length;
  const line = plot.add_glyph(
    new m.Line({
      ...place,
      line_color: color(path.style),
      line_width: path.failed || upon ? THIN : isLong ? Math.min(path.style.width, FINE) : path.style.width,
      line_dash: path.failed ? [] : dashes(path.style),
    }),
    data,
  );
  if (!path.failed) plot.add_glyph(new m.Scatter({ ...place, ...marker(path.style, 6) }), marked);
  chart.players.push((step) => {
    const count = reached(path, step);
    const [x, y] = [path.x.slice(0, count), path.y.slice(0, count)];
    data.data = {
      x,
      y,
      what: repeated(path.label, count),
      step: path.steps.slice(0, count),
      place: x.map((one, i) => `(${digits(one, 4)}, ${digits(y[i], 4)})`),
      seed: repeated(path.seed ?? "\u2013", count),
    };
    const spots = path.marked.filter((i) => i < count);
    marked.data = { x: spots.map((i) => x[i]), y: spots.map((i) => y[i]) };
  });
  return line;
};
const pathEnd = (m, plot, chart, path) => {
  const data = source(m, {});
  const look = path.failed
    ? { marker: "x", size: 11, line_color: color(path.style), line_width: 2 }
    : marker(path.style, 14);
  plot.add_glyph(new m.Scatter({ x: field("x"), y: field("y"), ...look }), data);
  chart.players.push((step) => {
    const last = reached(path, step) - 1;
    const [x, y] = last === path.x.length - 1 ? path.end : [path.x[last], path.y[last]];
    data.data = { x: [x], y: [y] };
  });
};
const planePlot = (m, chart, panel, { height, width, title }) => {
  const paths = trajectoriesShown(chart, panel);
  if (!paths.length) return null;
  const { data } = chart;
  const [[left, right], [low, high]] = data.window;
  const plot = frame(m, {
    title,
    height,
    width,
    grid: false,
    x: { low: left, high: right, label: data.axes[0] },
    y: { low, high, label: data.axes[1] },
  });
  landscape(m, plot, data);
  if (data.curve[0].length) curve(m, plot, data.curve);
  const drawn = paths.map((path) => pathGlyphs(m, plot, chart, path));
  for (const path of paths) pathEnd(m, plot, chart, path);
  const ring = { fill_color: null, line_color: paper("ink"), line_width: 1.6 };
  plot.add_glyph(
    new m.Scatter({ x: field("x"), y: field("y"), marker: "circle", size: 14, ...ring }),
    source(m, { x: paths.map((path) => path.x[0]), y: paths.map((path) => path.y[0]) }),
  );
  const star = { fill_color: paper("ink"), line_color: paper("paper") };
  plot.add_glyph(
    new m.Scatter({ x: field("x"), y: field("y"), marker: "star", size: 12, ...star }),
    source(m, { x: data.minimizers.map(([x]) => x), y: data.minimizers.map(([, y]) => y) }),
  );
  hover(
    m,
    plot,
    drawn,
    [
      ["", "what"],
      ["seed", "seed"],
      ["step", "step"],
      ["at", "place"],
    ],
    { line_policy: "nearest" },
  );
  return plot;
};
const planeTable = (chart) => ({
  heads: ["panel", "line", "seed", "step", ...chart.data.axes],
  rows: chart.data.panels.flatMap((panel) =>
    trajectoriesShown(chart, panel).flatMap((path) =>
      path.steps
        .slice(0, path.x.length)
        .map((step, i) => [
          panel.title,
          path.label,
          path.seed ?? "",
          step,
          path.x[i],
          path.y[i],
        ]),
    ),
  ),
});

// Settings in the plane of two hyperparameters

// The value of the nearest setting for every cell of the plane, as on paper; row by row from below.
const CELLS = 60;
const nearest = (panel, [left, right], [low, high]) => {
  const share = (value, from, to, log) =>
    log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
  const at = panel.x.map((x, i) => [
    share(x, left, right, panel.xLog),
    share(panel.y[i], low, high, panel.yLog),
  ]);
  const middle = (i) => (i + 0.5) / CELLS;
  return Array.from({ length: CELLS }, (_, row) =>
    Array.from({ length: CELLS }, (__, column) => {
      const off = at.map(([x, y]) => (x - middle(column)) ** 2 + (y - middle(row)) ** 2);
      return panel.values[off.indexOf(Math.min(...off))] ?? NaN;
    }),
  );
};
const heatPlot = (m, chart, panel, { height, width, title }) => {
  if (!shows(panel.optimizer)) return null;
  const { data } = chart;
  const [left, right] = ends(panel.x, panel.xLog);
  const [low, high] = ends(panel.y, panel.yLog);
  const plot = frame(m, {
    title,
    height,
    width,
    x: { low: left, high: right, log: panel.xLog, label: panel.xLabel },
    y: { low, high, log: panel.yLog, label: panel.yLabel },
  });
  const mapper = new (data.log ? m.LogColorMapper : m.LinearColorMapper)({
    palette: data.colors,
    low: data.limits[0],
    high: data.limits[1],
    nan_color: "#9a9a9a",
  });
  const columns = (at) =>
    source(m, {
      x: at.map((i) => panel.x[i]),
      y: at.map((i) => panel.y[i]),
      v: at.map((i) => panel.values[i]),
      one: at.map((i) => digits(panel.x[i], 4)),
      other: at.map((i) => digits(panel.y[i], 4)),
      value: at.map((i) =>
        panel.values[i] === null ? "some seed failed" : digits(panel.values[i]),
      ),
    });
  const cells = nearest(panel, [left, right], [low, high]);
  plot.add_glyph(
    new m.Image({
      image: field("image"),
      x: left,
      y: low,
      dw: right - left,
      dh: high - low,
      color_mapper: mapper,
      global_alpha: 0.55,
    }),
    source(m, { image: [m.ndarray(cells.flat(), { dtype: "float64", shape: [CELLS, CELLS] })] }),
    { level: "underlay" },
  );
  const places = [...panel.x.keys()];
  const good = places.filter((i) => panel.values[i] !== null);
  const bad = places.filter((i) => panel.values[i] === null);
  const dots = plot.add_glyph(
    new m.Scatter({
      x: field("x"),
      y: field("y"),
      size: 11,
      fill_color: { field: "v", transform: mapper },
      line_color: paper("ink"),
      line_width: 0.5,
    }),
    columns(good),
  );
  const crosses = plot.add_glyph(
    new m.Scatter({
      x: field("x"),
      y: field("y"),
      marker: "x",
      size: 9,
      line_color: paper("ink"),
      line_width: 1.5,
    }),
    columns(bad),
  );
  if (panel.best !== null) {
    plot.add_glyph(
      new m.Scatter({
        x: field("x"),
        y: field("y"),
        size: 18,
        fill_color: null,
        line_color: paper("ink"),
        line_width: 2,
      }),
      columns([panel.best]),
    );
  }
  plot.add_layout(
    new m.ColorBar({
      color_mapper: mapper,
      width: 12,
      title: data.valueLabel,
      background_fill_color: null,
      major_label_text_color: paper("ink"),
      title_text_color: paper("ink"),
      title_text_font: FONT,
      major_label_text_font: FONT,
      title_text_font_style: "normal",
      ticker: data.log
        ? new m.LogTicker({ desired_num_ticks: 5 })
        : new m.BasicTicker({ desired_num_ticks: 5 }),
    }),
    "right",
  );
  hover(
    m,
    plot,
    [dots, crosses],
    [
      [panel.xLabel, "one"],
      [panel.yLabel, "other"],
      [data.valueLabel, "value"],
    ],
  );
  return plot;
};
const heatTable = (chart) => ({
  heads: ["optimizer", "x", "y", chart.data.valueLabel],
  rows: chart.data.panels
    .filter((panel) => shows(panel.optimizer))
    .flatMap((panel) =>
      panel.x.map((x, i) => [
        panel.title,
        `${panel.xLabel} = ${x}`,
        `${panel.yLabel} = ${panel.y[i]}`,
        panel.values[i] ?? "",
      ]),
    ),
});
