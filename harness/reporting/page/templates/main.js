// Starts: charts are drawn as they come into view, choices take effect, and the address is read.

const canDraw = canUnpack && Boolean(document.getElementById("chart-library"));
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = charts.find((one) => one.figure === target);
      chart.seen = isIntersecting;
      if (isIntersecting && chart.stale) draw(chart);
    }
  },
  { rootMargin: "200px" },
);
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.find((one) => one.host === target);
    if (chart.columns && chart.columns !== columnsOf(chart)) draw(chart);
  }
});
const equip = (figure) => {
  let chart;
  if ("live" in figure.dataset && canDraw) {
    const host = make("div", { className: "live" });
    figure.querySelector(".drawing").after(host);
    chart = { figure, host, stale: true, seen: false, managers: [], players: [], parts: [], views: [] };
    charts.push(chart);
    seen.observe(figure);
    resized.observe(host);
  }
  addTools(chart, figure);
};
all("figure[data-name]").forEach(equip);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

const buttons = choices ? all("button[data-optimizer]", choices) : [];
const optimizers = buttons.map((button) => button.dataset.optimizer);
const optimizersOf = (row) =>
  row.dataset.optimizers.split(" ").filter(Boolean).map((number) => optimizers[number]);
const showRows = (root) => {
  for (const row of all("tr[data-optimizers]", root)) row.hidden = !optimizersOf(row).every(shows);
};
const apply = () => {
  for (const button of buttons)
    button.setAttribute("aria-pressed", String(shows(button.dataset.optimizer)));
  showRows(document);
  showColumns();
  const shown = optimizers.filter(shows);
  const whole = shown.length === optimizers.length;
  for (const note of all(".of-all")) note.hidden = whole;
  for (const [name, value] of [
    ["only", shown.length === 1 && !whole ? shown[0] : ""],
    ["along", chosen.along],
    ["scale", chosen.scale],
    ["part", chosen.part],
    ["metric", chosen.metric],
  ]) {
    const select = choices.querySelector(`select[name=${name}]`);
    if (select) select.value = value;
  }
  const seeds = choices.querySelector("input[name=seeds]");
  if (seeds) seeds.checked = chosen.seeds;
  choices.querySelector("[role=status]").textContent = whole
    ? ""
    : `${shown.length} of ${optimizers.length} optimizers shown`;
  redraw();
};
const choose = (change) => {
  change();
  apply();
  writeAddress();
};
const showOnly = (optimizer) => {
  chosen.left = new Set(optimizers.filter((name) => name !== optimizer));
};
const showAll = () => chosen.left.clear();
if (choices) {
  const known = new Map(JSON.parse(document.getElementById("styles").textContent));
  for (const button of buttons) {
    const { optimizer } = button.dataset;
    button.prepend(swatch(known.get(optimizer)));
    button.addEventListener("click", () =>
      choose(() => {
        if (!chosen.left.delete(optimizer)) chosen.left.add(optimizer);
      }),
    );
    button.addEventListener("dblclick", () => choose(() => showOnly(optimizer)));
  }
  choices.querySelector("button[data-all]")?.addEventListener("click", () => choose(showAll));
  for (const select of all("select", choices)) {
    select.addEventListener("change", () =>
      choose(() => {
        if (select.name !== "only") chosen[select.name] = select.value;
        else if (select.value) showOnly(select.value);
        else showAll();
      }),
    );
  }
  choices.querySelector("input[name=seeds]")?.addEventListener("change", (event) =>
    choose(() => {
      chosen.seeds = event.target.checked;
    }),
  );
  if (!canDraw) for (const set of all("[data-live]", choices)) set.hidden = true;
  choices.hidden = false;
  // What is jumped to, or has the focus, stands below the choices where these stay in sight.
  const measure = () => {
    const stays = getComputedStyle(choices).position === "sticky";
    document.documentElement.style.setProperty("--bar", stays ? `${choices.offsetHeight}px` : "0px");
  };
  measure();
  new ResizeObserver(measure).observe(choices);
}
addAnchors(document);
for (const fold of packedFolds())
  fold.addEventListener("toggle", () => {
    if (fold.open) unfold(fold);
  });
document.addEventListener("unfolded", ({ target }) => {
  all("figure[data-name]", target).forEach(equip);
  addAnchors(target);
  showRows(target);
  writeAddress();
});
window.addEventListener("hashchange", followAddress);
if (location.hash) followAddress();
window.addEventListener("load", unfoldRest);
