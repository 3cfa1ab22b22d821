// The map: the keyboard moves from square to square, and what a square stands for is told below it.

const showColumns = () => {
  for (const table of all("table.wins:has(thead)")) {
    const heads = [...table.tHead.rows[0].cells];
    for (const row of table.rows) {
      heads.forEach((head, column) => {
        if ("o" in head.dataset) row.cells[column].hidden = !shows(head.dataset.o);
      });
    }
  }
};

const folds = window.matchMedia("(max-width: 40rem)").matches;
for (const map of all(".win-map")) {
  // On a phone, where a map is long, all families but the first are folded.
  if (folds) for (const family of all("details", map).slice(1)) family.open = false;
  const told = map.querySelector(".win-told");
  const tables = all("table.wins", map);
  const tell = (square) => {
    told.textContent = square.title;
  };
  // One square of each table is a stop for the keyboard.
  const stop = (table, square) => {
    for (const other of all("i[tabindex='0']", table)) other.tabIndex = -1;
    square.tabIndex = 0;
  };
  for (const table of tables) {
    for (const square of all("i", table)) {
      square.tabIndex = -1;
      square.setAttribute("role", "img");
      square.setAttribute("aria-label", square.title);
    }
    const first = table.querySelector("i");
    if (first) stop(table, first);
  }
  const beside = (square, key) => {
    const row = square.closest("tr");
    const inRow = all("i", row).filter((own) => !own.closest("td").hidden);
    if (key === "Home") return inRow[0];
    if (key === "End") return inRow.at(-1);
    const place = inRow.indexOf(square);
    if (key === "ArrowLeft") return inRow[place - 1];
    if (key === "ArrowRight") return inRow[place + 1];
    const next = key === "ArrowUp" ? row.previousElementSibling : row.nextElementSibling;
    const cell = next?.cells[square.closest("td").cellIndex];
    const squares = cell ? all("i", cell) : [];
    return squares[Math.min(all("i", square.parentElement).indexOf(square), squares.length - 1)];
  };
  const keys = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]);
  map.addEventListener("keydown", (event) => {
    if (!event.target.matches("i") || !keys.has(event.key)) return;
    event.preventDefault();
    const next = beside(event.target, event.key);
    if (!next) return;
    stop(next.closest("table"), next);
    next.focus();
  });
  for (const kind of ["focusin", "pointerover", "click"]) {
    map.addEventListener(kind, ({ target }) => {
      if (target.matches("i")) tell(target);
    });
  }
}
