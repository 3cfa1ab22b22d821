
"use strict";
// Headings become buttons that sort: ascending, descending, and back to the order of the spec.
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  // A cell's first number; NaN for a dash, which goes last whatever the direction.
  const numberIn = (text) => {
    const plain = text.replace("\u2212", "-").replaceAll(",", "");
    if (/^\+?(inf|\u221e)/.test(plain)) return Infinity;
    return Number.parseFloat(plain);
  };
  const textIn = (text) => (text === "\u2013" ? "" : text);

  const order = (numeric, column, sign) => (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].textContent.trim());
    if (!numeric) {
      const [s, t] = [textIn(a), textIn(b)];
      if (!s || !t) return Number(!s) - Number(!t);
      return sign * collator.compare(s, t);
    }
    const [x, y] = [numberIn(a), numberIn(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
    return sign * (Number(x > y) - Number(x < y));
  };

  // What doesn't scroll is no stop for the keyboard.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".scroll, .drawing")) watch.observe(box);

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    const next = { ascending: "descending", descending: "none" };
    heads.forEach((head, column) => {
      const numeric = head.classList.contains("number");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const state = next[head.getAttribute("aria-sort")] ?? "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (state === "none") {
          body.append(...original);
          return;
        }
        head.setAttribute("aria-sort", state);
        body.append(...[...body.rows].sort(order(numeric, column, state === "ascending" ? 1 : -1)));
      });
    });
  }
})();
