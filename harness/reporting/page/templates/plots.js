// What every plot has, then curves and rows, and the numbers behind each. `m` is the library.

// One plot with its axes. `x` and `y`: { low, high, log, label, ticks, names }.

const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Liberation Sans, sans-serif";
// A long name loses its middle: what sets the settings of one optimizer apart is at its end.
const shortened = (text, most) => {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}\u2026${text.slice(-end)}`;
};
// Bokeh would read some signs in a name as mathematics.
const asIs = (m, text) => (text ? new m.PlainText({ text }) : null);
const frame = (m, { title, x, y, height, width, grid = true }) => {
  const ranges = [x, y].map(({ low, high }) => new m.Range1d({ start: low, end: high }));
  const plot = new m.Plot({
    x_range: ranges[0],
    y_range: ranges[1],
    x_scale: x.log ? new m.LogScale() : new m.LinearScale(),
    y_scale: y.log ? new m.LogScale() : new m.LinearScale(),
    height,
    sizing_mode: "stretch_width",
    toolbar_location: null,
    background_fill_color: null,
    border_fill_color: null,
    outline_line_color: null,
    min_border_right: 14,
    title: title
      ? new m.Title({
          text: asIs(m, shortened(title, Math.max(8, Math.floor((width - 75) / 8)))),
          text_color: paper("ink"),
          text_font: FONT,
          text_font_size: "14px",
          text_font_style: "normal",
        })
      : null,
  });
  for (const [way, place] of [
    [x, "below"],
    [y, "left"],
  ]) {
    const axis = new (way.log ? m.LogAxis : m.LinearAxis)({
      axis_label: asIs(m, way.label),
      axis_label_text_color: paper("ink"),
      axis_label_text_font: FONT,
      axis_label_text_font_size: "13px",
      axis_label_text_font_style: "normal",
      major_label_text_color: paper("ink"),
      major_label_text_font: FONT,
      major_label_text_font_size: "12px",
      axis_line_color: paper("ink"),
      major_tick_line_color: way.names ? null : paper("ink"),
      minor_tick_line_color: null,
    });
    const size = Math.max(Math.abs(way.low), Math.abs(way.high));
    const wide = way.log || size < 1e-4 || size >= 1e6 ? 130 : 90;
    const room = place === "below" ? width / wide : height / 45;
    axis.ticker = new (way.log ? m.LogTicker : m.BasicTicker)({
      desired_num_ticks: Math.max(2, Math.min(8, Math.floor(room))),
    });
    if (!way.log)
      axis.formatter = new m.BasicTickFormatter({ power_limit_low: -5, power_limit_high: 6 });
    if (way.ticks) {
      axis.ticker = new m.FixedTicker({ ticks: way.ticks });
      axis.major_label_overrides = new Map(
        way.ticks.map((tick, i) => [tick, asIs(m, way.names[i]) ?? ""]),
      );
    }
    plot.add_layout(axis, place);
    if (grid && (!way.names || place === "below")) {
      const lines = new m.Grid({
        axis,
        dimension: place === "below" ? 0 : 1,
        grid_line_color: paper("grid"),
      });
      plot.add_layout(lines, "center");
    }
  }
  if (window.matchMedia("(pointer: fine)").matches) plot.add_tools(new m.BoxZoomTool());
  return plot;
};
const source = (m, data) => new m.ColumnDataSource({ data });
const field = (name) => ({ field: name });
// Made here, as text: in the library's own the names of values are too pale to be read. What is
// said stands on white, in the dark as well.
const said =
  (rows) =>
  (data, { index }) => {
    const box = make("div", {});
    box.style.cssText = "display: grid; grid-template-columns: auto auto; gap: 0 .5em";
    for (const [name, column] of rows) {
      const [label, value] = [name && `${name}: `, String(data.data[column][index])].map((text) =>
        make("span", { textContent: text }),
      );
      label.style.cssText = "color: #595c60; text-align: right";
      box.append(label, value);
    }
    return box;
  };
const hover = (m, plot, renderers, rows, more = {}) => {
  const tooltips = said(rows);
  if (renderers.length)
    plot.add_tools(new m.HoverTool({ renderers, tooltips, point_policy: "snap_to_data", ...more }));
};
const rule = (m, plot, place, dimension) => {
  if (place === null) return;
  plot.add_layout(
    new m.Span({
      location: place,
      dimension,
      line_color: paper("ink"),
      line_dash: [5, 4],
      line_width: 1,
    }),
    "center",
  );
};
const repeated = (text, count) => Array.from({ length: count }, () => text);

// Ends of an axis: those of the record while all is shown as it was drawn, else what is shown.

const ends = (values, log, { from = null } = {}) => {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!usable.length) return log ? [0.1, 1] : [0, 1];
  let [low, high] = [Infinity, -Infinity];
  for (const value of usable) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (log) {
    low = Math.max(low, high * 1e-16);
    const margin = (high / low) ** 0.05 || 1.2;
    return low === high ? [low / 1.5, high * 1.5] : [low / margin, high * margin];
  }
  const margin = 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
  return [from ?? low - margin, high + margin];
};
const scaled = (drawnLog, values) => {
  const log = chosen.scale ? chosen.scale === "log" : drawnLog;
  return log && values.some((value) => value > 0) && !values.some((value) => value < 0);
};

// A triangle on the edge that something lies beyond.

const POINTERS = {
  left: { marker: "triangle", angle: Math.PI / 2 },
  right: { marker: "triangle", angle: -Math.PI / 2 },
  down: { marker: "inverted_triangle", angle: 0 },
  up: { marker: "triangle", angle: 0 },
};
// A little inside, so that the frame does not cut it.
const atEdge = ({ low, high, log }, far) => {
  const share = far ? 0.985 : 0.015;
  return log ? low * (high / low) ** share : low + share * (high - low);
};
const arrows = (m, plot, found) => {
  for (const [way, look] of Object.entries(POINTERS)) {
    const own = found.filter((arrow) => arrow.way === way);
    if (!own.length) continue;
    const column = (name) => own.map((arrow) => arrow[name]);
    const glyph = plot.add_glyph(
      new m.Scatter({
        x: field("x"),
        y: field("y"),
        size: field("size"),
        fill_color: field("color"),
        line_color: null,
        ...look,
      }),
      source(m, {
        x: column("x"),
        y: column("y"),
        size: column("size"),
        color: column("color"),
        what: column("what"),
        value: column("value"),
      }),
    );
    hover(m, plot, [glyph], [
      ["", "what"],
      ["beyond the axis", "value"],
    ]);
  }
};
// What lies as far out as numbers go has no number.
const far = (value) => Math.abs(value) >= 1e308;
const told = (value, count) =>
  far(value) ? (value < 0 ? "\u2212\u221e" : "\u221e") : digits(value, count);
const span = (low, high) => `${told(low)} to ${told(high)}`;

// Curves

// Where lines move to a new level: dashed across, numbered at the top, from level to level.
const changes = (m, plot, marks, top) => {
  for (const mark of marks) rule(m, plot, mark.x - 0.5, "height");
  if (!marks.length) return;
  const at = marks.map((mark) => mark.x - 0.5);
  plot.add_glyph(
    new m.Segment({
      x0: field("x"),
      x1: field("x"),
      y0: field("before"),
      y1: field("after"),
      line_color: paper("ink"),
      line_width: 3,
    }),
    source(m, {
      x: at,
      before: marks.map((mark) => mark.before),
      after: marks.map((mark) => mark.after),
    }),
  );
  plot.add_glyph(
    new m.Text({
      x: field("x"),
      y: top,
      text: field("text"),
      text_align: "center",
      text_baseline: "top",
      text_color: paper("ink"),
      text_font: FONT,
      text_font_size: "12px",
      background_fill_color: paper("paper"),
    }),
    source(m, { x: at, text: marks.map((mark) => mark.text) }),
  );
};
const ways = (panel) => {
  if (!panel.stepsPerX) return { label: panel.xLabel, factor: () => 1 };
  if (chosen.along === "steps") return { label: "step", factor: () => panel.stepsPerX };
  if (chosen.along === "epochs" && panel.stepsPerEpoch > 1) {
    return { label: "epoch", factor: () => panel.stepsPerX / panel.stepsPerEpoch };
  }
  if (chosen.along === "seconds") {
    return {
      label: "seconds, at the median time per evaluation",
      factor: (line) => line.secondsPerX ?? NaN,
      places: (line) => line.seconds,
    };
  }
  return { label: panel.xLabel, factor: () => 1 };
};
const inSight = (line) =>
  shows(line.style.optimizer) && showsPart(line) && line.x.every(Number.isFinite);
const curvesShown = (chart, panel) => {
  const { styles } = chart.data;
  const way = ways(panel);
  const placed = (line, xs) => {
    const style = styles[line.style];
    const factor = way.factor(line);
    const x = way.places?.(line) ?? xs[line.x].map((x) => x * factor);
    return { ...line, style, x };
  };
  const kept = (lines) =>
    lines
      .map((line) => placed(line, panel.xs))
      .filter(inSight);
  const shared = chart.data.behinds?.[panel.behind];
  const behind = shared
    ? shared.lines
        .map((line) => placed({ ...line, faint: true }, shared.xs))
        .filter(inSight)
    : [];
  return {
    way,
    lines: kept(panel.lines),
    behind,
    seedLines: chosen.seeds ? kept(panel.seedLines) : [],
  };
};
const called = (line) =>
  line.part ? `${line.called}, ${line.part}` : line.label || line.called || line.style.optimizer;
// Where no trial's course is known, a cross only says that some seed failed.
const placeless = (line) => line.failed && line.seed === undefined;
// One point with an interval each way.
const pointColumns = (line) => ({
  low: line.low,
  high: line.high,
  xLow: line.xLow,
  xHigh: line.xHigh,
  band: [Number.isFinite(line.low?.[0]) ? span(line.low[0], line.high[0]) : "none"],
});
const pointGlyph = (m, plot, line, columns, { low, high }) => {
  const within = (value) => Math.min(Math.max(value, low), high);
  const [y] = line.y.map(within);
  const bars = [
    [line.xLow[0], line.xHigh[0], y, y],
    [line.x[0], line.x[0], within(line.low?.[0] ?? NaN), within(line.high?.[0] ?? NaN)],
  ].filter((bar) => bar.every(Number.isFinite));
  plot.add_glyph(
    new m.Segment({
      x0: field("x0"),
      x1: field("x1"),
      y0: field("y0"),
      y1: field("y1"),
      line_color: color(line.style),
      line_width: 2,
    }),
    source(m, Object.fromEntries(["x0", "x1", "y0", "y1"].map((name, i) => [name, bars.map((bar) => bar[i])]))),
  );
  return plot.add_glyph(
    new m.Scatter({ x: field("x"), y: field("y"), ...marker(line.style, 11) }),
    columns,
  );
};
// Where a line meets an edge on the way to one of its points.
const crossing = ({ x, y }, at, edge, log, xLog) => {
  if (!at) return x[0];
  const height = (value) => (log ? Math.log(Math.max(value, 5e-324)) : value);
  const from = height(y[at - 1]);
  const share = Math.min(1, Math.max(0, (from - height(edge)) / (from - height(y[at]))));
  return xLog
    ? x[at - 1] * (x[at] / x[at - 1]) ** share
    : x[at - 1] + share * (x[at] - x[at - 1]);
};
// A legend inside a panel whose names are those of no other.
const inner = (m, plot, named, width) => {
  if (!named.length) return;
  const longest = Math.max(...named.map(([label]) => label.length));
  plot.add_layout(
    new m.Legend({
      items: named.map(
        ([label, renderers]) => new m.LegendItem({ label: { value: label }, renderers }),
      ),
      location: "left",
      orientation: "horizontal",
      ncols: Math.max(1, Math.min(named.length, Math.floor((width - 70) / (longest * 7.5 + 45)))),
      background_fill_color: null,
      border_line_color: null,
      label_text_color: paper("ink"),
      label_text_font: FONT,
      label_text_font_size: "12px",
      label_height: 14,
      glyph_height: 14,
      spacing: 8,
      padding: 0,
      margin: 2,
    }),
    "above",
  );
};
const curvePlot = (m, chart, panel, { height, width, title }) => {
  const { way, lines, behind, seedLines } = curvesShown(chart, panel);
  const drawn = lines.filter((line) => line.y.length);
  if (!drawn.length) return null;
  const whole = [...behind, ...drawn].filter((line) => !line.failed);
  const means = (whole.length ? whole : drawn).flatMap((line) => line.y);
  const edges = (whole.length ? whole : drawn).flatMap((line) => [
    ...(line.low ?? []),
    ...(line.high ?? []),
  ]);
  // A band may reach below zero: like on paper, that forbids no logarithms, and it is cut there,
  // and where it would hide the rest.
  const log = scaled(panel.log, means);
  const least = log ? Math.min(...means.filter((value) => value > 0)) / 3 : -Infinity;
  const values = [...means, ...edges.filter((edge) => edge >= least)];
  // Panels of a metric stay on the same axes, whatever parts are chosen.
  const asDrawn = log === panel.log && (panel.metric || lines.length === panel.lines.length);
  const [low, high] = asDrawn
    ? panel.limits
    : ends(
        [
          ...values,
          ...seedLines.flatMap((line) => line.y),
          ...(panel.referenceLine === null ? [] : [panel.referenceLine]),
        ],
        log,
      );
  const xs = [...behind, ...drawn].flatMap((line) => [
    ...line.x,
    ...[...(line.xLow ?? []), ...(line.xHigh ?? [])].filter(Number.isFinite),
  ]);
  const xLog = panel.xLog && Math.min(...xs) > 0;
  const [left, right] = xLog ? ends(xs, true) : [Math.min(...xs), Math.max(...xs)];
  const slack = xLog ? 0 : 0.02 * (right - left) || 0.5;
  const plot = frame(m, {
    title,
    height,
    width,
    x: {
      low: left - slack,
      high: right + slack,
      log: xLog,
      label: way.label,
      ...(panel.ticks.length && {
        ticks: panel.ticks.map(([place]) => place),
        names: panel.ticks.map(([, name]) => name),
      }),
    },
    y: { low, high, log, label: panel.yLabel },
  });
  rule(m, plot, panel.referenceLine, "width");
  changes(m, plot, panel.marks, high);
  // What is too small for a logarithm leaves through the lower edge.
  const inside = (value) => (log ? Math.max(value, low / 1e3) : value);
  const data = (line, extra) =>
    source(m, {
      x: line.x,
      y: line.y.map(inside),
      what: repeated(called(line), line.y.length),
      at: line.x.map((x) => digits(x, 4)),
      value: line.y.map((y) => digits(y)),
      ...extra,
    });
  const base = [
    ["", "what"],
    [way.label.split(",")[0].split(" (")[0], "at"],
    [panel.yLabel || "value", "value"],
  ];
  const singles = [];
  for (const line of [...behind, ...seedLines, ...drawn.filter((one) => one.failed || one.faint)]) {
    const seed = line.seed === undefined ? "" : `, seed ${line.seed}`;
    const columns = data(line, {
      what: repeated(
        placeless(line)
          ? `${called(line)}: some seed failed`
          : `${called(line)}${seed}${line.failed ? ", failed" : ""}`,
        line.y.length,
      ),
      ...(placeless(line) && { value: repeated("none", line.y.length) }),
    });
    singles.push(
      plot.add_glyph(
        new m.Line({
          x: field("x"),
          y: field("y"),
          line_color: color(line.style),
          line_width: 1,
          line_alpha: line.failed ? 0.8 : 0.45,
        }),
        columns,
      ),
    );
    if (line.failed) {
      const last = Object.entries(columns.data).map(([name, column]) => [name, column.slice(-1)]);
      const end = source(m, {
        ...Object.fromEntries(last),
        y: [Math.min(Math.max(line.y.at(-1), low), high)],
      });
      singles.push(
        plot.add_glyph(
          new m.Scatter({
            x: field("x"),
            y: field("y"),
            marker: "x",
            size: 9,
            line_color: color(line.style),
            line_width: 2,
          }),
          end,
        ),
      );
    }
  }
  hover(m, plot, singles, base, { line_policy: "nearest" });
  const front = drawn.filter((line) => !line.failed && !line.faint);
  const [plain, banded, named, beyond] = [[], [], [], []];
  const arrow = (line, way, x, value) =>
    beyond.push({
      way,
      x,
      y: atEdge({ low, high, log }, way === "up"),
      size: 9,
      color: color(line.style),
      what: called(line),
      value: told(value),
    });
  front.forEach((line, order) => {
    if (line.xLow) {
      banded.push(pointGlyph(m, plot, line, data(line, pointColumns(line)), { low, high }));
      if (Math.min(line.y[0], line.low[0] ?? Infinity) < low) arrow(line, "down", line.x[0], line.y[0]);
      if (Math.max(line.y[0], line.high[0] ?? -Infinity) > high) arrow(line, "up", line.x[0], line.y[0]);
      return;
    }
    const columns = data(
      line,
      line.low && {
        low: line.low.map(inside),
        high: line.high.map(inside),
        band: line.low.map((from, i) => span(from, line.high[i])),
      },
    );
    if (line.low) {
      plot.add_glyph(
        new m.VArea({
          x: field("x"),
          y1: field("low"),
          y2: field("high"),
          fill_color: color(line.style),
          fill_alpha: 0.18,
        }),
        columns,
      );
    }
    const glyph = plot.add_glyph(
      new m.Line({
        x: field("x"),
        y: field("y"),
        line_color: color(line.style),
        line_width: line.style.width,
        line_dash: dashes(line.style),
      }),
      columns,
    );
    (line.low ? banded : plain).push(glyph);
    for (const [way, edge, leaves] of [
      ["down", low, (value) => value < low],
      ["up", high, (value) => value > high],
    ]) {
      const at = line.y.findIndex(leaves);
      if (at >= 0) arrow(line, way, crossing(line, at, edge, log, xLog), line.y[at]);
    }
    if (!line.style.marker) return;
    const every = Math.max(1, Math.ceil(line.y.length / 8));
    const spots = [...line.y.keys()].filter(
      (i) => i % every === Math.floor((order * every) / front.length),
    );
    const marked = source(m, {
      x: spots.map((i) => line.x[i]),
      y: spots.map((i) => inside(line.y[i])),
    });
    const marks = plot.add_glyph(
      new m.Scatter({ x: field("x"), y: field("y"), ...marker(line.style, 8) }),
      marked,
    );
    if (panel.hasLegend && line.label) named.push([line.label, [glyph, marks]]);
  });
  arrows(m, plot, beyond);
  inner(m, plot, named, width);
  hover(m, plot, banded, [...base, ["interval", "band"]], { line_policy: "nearest" });
  hover(m, plot, plain, base, { line_policy: "nearest" });
  return plot;
};
const curveTable = (chart) => ({
  heads: ["panel", "line", "seed", "x", "y", "low", "high", "ended"],
  rows: chart.data.panels.filter(showsMetric).flatMap((panel) =>
    [...panel.lines, ...panel.seedLines]
      .map((line) => ({ ...line, style: chart.data.styles[line.style] }))
      .filter((line) => shows(line.style.optimizer) && showsPart(line))
      .flatMap((line) =>
        panel.xs[line.x].map((x, i) => [
          panel.metric || panel.title || panel.yLabel,
          called(line),
          line.seed ?? "",
          x,
          placeless(line) ? "" : line.y[i],
          line.low?.[i] ?? "",
          line.high?.[i] ?? "",
          line.failed ? "not ok" : "ok",
        ]),
      ),
  ),
});

// Rows of dots with an estimate

const rowsShown = (chart, panel) =>
  panel.rows
    .map((row) => ({ ...row, style: chart.data.styles[row.style] }))
    .filter((row) => shows(row.style.optimizer));
const dotPlot = (m, chart, panel, { height, width, title, named }) => {
  const rows = rowsShown(chart, panel);
  if (!rows.length) return null;
  const finite = (value) => value !== null && Number.isFinite(value);
  const near = (value) => finite(value) && !far(value);
  const values = rows
    .flatMap((row) => [...row.values, row.centre, row.low, row.high, row.published])
    .filter(near);
  const log = scaled(panel.log, rows.flatMap((row) => [...row.values, row.centre]).filter(near));
  const asDrawn = log === panel.log && rows.length === panel.rows.length;
  const within = panel.referenceLine === null ? values : [...values, panel.referenceLine];
  const [low, high] = asDrawn
    ? panel.limits
    : ends(within, log, { from: !log && panel.limits[0] === 0 ? 0 : null });
  const most = Math.max(8, Math.floor(width / 22));
  const label = (row) => shortened(row.note ? `${row.label}, ${row.note}` : row.label, most);
  const plot = frame(m, {
    title,
    height,
    width,
    x: { low, high, log, label: panel.xLabel },
    y: {
      low: rows.length - 0.4,
      high: -0.6,
      log: false,
      label: "",
      ticks: [...rows.keys()],
      names: rows.map((row) => (named ? label(row) : "")),
    },
  });
  rule(m, plot, panel.referenceLine, "height");
  const side = (value) => (value < low || (log && value <= 0) ? "left" : value > high ? "right" : "");
  const clipped = (value) => (side(value) ? (side(value) === "left" ? low : high) : value);
  const beyond = [];
  const arrow = (row, value, y, size, ink) =>
    beyond.push({
      way: side(value),
      x: atEdge({ low, high, log }, side(value) === "right"),
      y,
      size,
      color: ink,
      what: row.label,
      value: told(value),
    });
  const dots = rows.flatMap((row, at) =>
    row.values.map((value, i) => ({
      x: value,
      y: at + 0.5 * row.offsets[i],
      row,
      number: row.numbers[i],
    })),
  );
  for (const dot of dots.filter(({ x }) => side(x)))
    arrow(dot.row, dot.x, dot.y, 6, color(dot.row.style));
  const inFrame = dots.filter(({ x }) => !side(x));
  if (inFrame.length) {
    const cloud = plot.add_glyph(
      new m.Scatter({
        x: field("x"),
        y: field("y"),
        marker: "circle",
        size: 6,
        fill_color: field("color"),
        line_color: null,
        fill_alpha: 0.75,
      }),
      source(m, {
        x: inFrame.map((dot) => dot.x),
        y: inFrame.map((dot) => dot.y),
        color: inFrame.map((dot) => color(dot.row.style)),
        what: inFrame.map((dot) => dot.row.label),
        number: inFrame.map((dot) => dot.number ?? "\u2013"),
        value: inFrame.map((dot) => digits(dot.x)),
      }),
    );
    hover(
      m,
      plot,
      [cloud],
      [
        ["", "what"],
        [chart.data.numberLabel, "number"],
        ["value", "value"],
      ],
    );
  }
  const estimates = rows.map((row, at) => ({ row, at })).filter(({ row }) => finite(row.centre));
  const spans = rows
    .map((row, at) => ({ row, at }))
    .filter(({ row }) => finite(row.low) && row.high > row.low);
  const ink = ({ row }) => (row.values.length ? paper("ink") : color(row.style));
  plot.add_glyph(
    new m.Segment({
      x0: field("low"),
      x1: field("high"),
      y0: field("y"),
      y1: field("y"),
      line_color: field("color"),
      line_width: 2,
    }),
    source(m, {
      low: spans.map(({ row }) => clipped(row.low)),
      high: spans.map(({ row }) => clipped(row.high)),
      y: spans.map(({ at }) => at),
      color: spans.map(ink),
    }),
  );
  for (const one of spans) {
    for (const end of [one.row.low, one.row.high])
      if (side(end)) arrow(one.row, end, one.at, 8, ink(one));
  }
  for (const one of estimates.filter(({ row }) => side(row.centre)))
    arrow(one.row, one.row.centre, one.at, 11, ink(one));
  const centres = estimates
    .filter(({ row }) => !side(row.centre))
    .map(({ row, at }) => {
      const look = row.values.length
        ? { marker: "diamond", size: 10, fill_color: paper("ink"), line_color: paper("paper") }
        : marker(row.style, 10);
      return plot.add_glyph(
        new m.Scatter({ x: field("x"), y: field("y"), ...look }),
        source(m, {
          x: [row.centre],
          y: [at],
          what: [row.label],
          value: [digits(row.centre)],
          span: [finite(row.low) ? span(row.low, row.high) : "none"],
        }),
      );
    });
  hover(m, plot, centres, [
    ["", "what"],
    ["estimate", "value"],
    ["interval", "span"],
  ]);
  arrows(m, plot, beyond);
  const stars = rows.map((row, at) => ({ row, at })).filter(({ row }) => finite(row.published));
  if (stars.length) {
    const glyph = plot.add_glyph(
      new m.Scatter({
        x: field("x"),
        y: field("y"),
        marker: "star",
        size: 16,
        fill_color: paper("ink"),
        line_color: paper("paper"),
      }),
      source(m, {
        x: stars.map(({ row }) => row.published),
        y: stars.map(({ at }) => at),
        what: stars.map(({ row }) => row.label),
        value: stars.map(({ row }) => digits(row.published, 7)),
      }),
    );
    hover(
      m,
      plot,
      [glyph],
      [
        ["", "what"],
        ["as published", "value"],
      ],
    );
  }
  texts(
    m,
    plot,
    rows.flatMap((row, at) => {
      if (!finite(row.centre)) return row.values.length ? [] : [{ x: low, y: at, text: row.empty }];
      const where = side(row.centre);
      return where ? [{ x: clipped(row.centre), y: at, text: told(row.centre, 2), where }] : [];
    }),
  );
  return plot;
};
// Words within a frame: at its left edge, or beside an arrow at either.
const texts = (m, plot, found) => {
  for (const where of [undefined, "left", "right"]) {
    const own = found.filter((one) => one.where === where);
    if (!own.length) continue;
    plot.add_glyph(
      new m.Text({
        x: field("x"),
        y: field("y"),
        text: field("text"),
        text_baseline: "middle",
        text_align: where === "right" ? "right" : "left",
        x_offset: where === "right" ? -20 : where === "left" ? 20 : 4,
        text_color: paper("ink"),
        text_font: FONT,
        text_font_size: "12px",
        background_fill_color: where ? paper("paper") : null,
      }),
      source(m, {
        x: own.map((one) => one.x),
        y: own.map((one) => one.y),
        text: own.map((one) => one.text),
      }),
    );
  }
};
const dotTable = (chart) => ({
  heads: ["panel", "row", "what", "value", "low", "high"],
  rows: chart.data.panels.flatMap((panel) =>
    rowsShown(chart, panel).flatMap((row) => [
      [
        panel.title || panel.xLabel,
        row.label,
        "estimate",
        row.centre ?? "",
        row.low ?? "",
        row.high ?? "",
      ],
      ...(row.published === null
        ? []
        : [[panel.title || panel.xLabel, row.label, "as published", row.published, "", ""]]),
      ...row.values.map((value, i) => [
        panel.title || panel.xLabel,
        row.label,
        `${chart.data.numberLabel} ${row.numbers[i] ?? ""}`.trim(),
        value,
        "",
        "",
      ]),
    ]),
  ),
});
