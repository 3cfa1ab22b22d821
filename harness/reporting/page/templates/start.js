// Begins: charts are drawn as they come into view, and the choices take effect.

const canDraw = Boolean(packed) && "DecompressionStream" in window;
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
for (const figure of all("figure[data-name]")) {
  const data = figure.querySelector("script[type='application/json']");
  let chart;
  if (data && canDraw) {
    const host = make("div", { className: "live" });
    figure.querySelector(".drawing").after(host);
    let parsed;
    chart = {
      figure,
      host,
      stale: true,
      seen: false,
      managers: [],
      players: [],
      get data() {
        return (parsed ??= JSON.parse(data.textContent));
      },
    };
    charts.push(chart);
    seen.observe(figure);
    resized.observe(host);
  }
  tools(chart, figure);
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

const buttons = choices ? all("button[data-optimizer]", choices) : [];
const apply = () => {
  for (const button of buttons)
    button.setAttribute("aria-pressed", String(shows(button.dataset.optimizer)));
  for (const row of all("tr[data-optimizers]")) {
    row.hidden = !JSON.parse(row.dataset.optimizers).every(shows);
  }
  const count = buttons.filter((button) => shows(button.dataset.optimizer)).length;
  const whole = count === buttons.length;
  for (const note of all(".of-all")) note.hidden = whole;
  choices.querySelector("[role=status]").textContent = whole
    ? ""
    : `${count} of ${buttons.length} optimizers are shown`;
  redraw();
};
if (choices) {
  const known = new Map(JSON.parse(document.getElementById("looks").textContent));
  for (const button of buttons) {
    const { optimizer } = button.dataset;
    button.prepend(swatch(known.get(optimizer)));
    button.addEventListener("click", () => {
      if (chosen.left.has(optimizer)) chosen.left.delete(optimizer);
      else chosen.left.add(optimizer);
      apply();
    });
  }
  choices.querySelector("button[data-all]")?.addEventListener("click", () => {
    chosen.left.clear();
    apply();
  });
  for (const select of all("select", choices)) {
    select.addEventListener("change", () => {
      chosen[select.name] = select.value;
      redraw();
    });
  }
  choices.querySelector("input[name=seeds]")?.addEventListener("change", (event) => {
    chosen.seeds = event.target.checked;
    redraw();
  });
  if (!canDraw) for (const set of all("[data-live]", choices)) set.hidden = true;
  choices.hidden = false;
  // What is jumped to, or has the focus, stands below the choices where these stay in sight.
  new ResizeObserver(() => {
    const stays = getComputedStyle(choices).position === "sticky";
    const padding = stays ? `${choices.offsetHeight + 8}px` : "";
    document.documentElement.style.scrollPaddingTop = padding;
  }).observe(choices);
  document.documentElement.classList.add("can-choose");
}
