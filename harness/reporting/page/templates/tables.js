
"use strict";
(() => {
  // On a phone a row is a block in which each cell names its column. Without scripts a table stays one.
  const makeCards = (table) => {
    const headings = [...table.tHead.rows[0].cells].map((head) => head.textContent);
    for (const row of table.tBodies[0].rows) {
      for (const cell of [...row.cells].slice(1)) cell.dataset.h = headings[cell.cellIndex];
    }
    table.classList.add("cards");
  };

  // Headings become buttons that sort: ascending, descending, and back to the order of the spec.
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

  // A heading that is pointed at tells what it means.
  const definitions = JSON.parse(document.getElementById("definitions")?.textContent ?? "{}");
  const makeSortable = (table) => {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) return;
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
  };

  // Copies are made of the cells, in the order that they stand in: Markdown and LaTeX as in the
  // files beside the page (Table.to_markdown, latex.py), so that no table is in the page twice.
  const textOf = (cell, aside) => {
    const small = cell.querySelector("small");
    if (!aside) return [cell.textContent];
    const own = [...cell.childNodes].filter((node) => node !== small);
    const text = own.map((node) => node.textContent).join("");
    return small ? [text.slice(0, -1), small.textContent] : [text, "\u2013"];
  };
  const read = (table, file) => {
    const heads = [...table.tHead.rows[0].cells];
    const shown = [...table.tBodies[0].rows].filter(({ hidden }) => !hidden);
    const row = ({ cells }) => [...cells].flatMap((c, i) => textOf(c, heads[i].dataset.aside));
    return {
      name: file.replace(/\.csv$/, ""),
      title: table.parentElement.getAttribute("aria-label"),
      note: document.getElementById(table.dataset.note)?.textContent ?? "",
      right: heads.flatMap((head) => {
        const number = head.classList.contains("number");
        return head.dataset.aside ? [number, false] : [number];
      }),
      roles: heads.flatMap(({ dataset }) =>
        dataset.aside ? [dataset.paper ?? "own", "setting"] : [dataset.paper ?? "own"]),
      heads: heads.flatMap(({ textContent, dataset }) =>
        dataset.aside ? [textContent, dataset.aside] : [textContent]),
      rows: shown.map(row),
      best: shown.map((one) => one.classList.contains("best")),
    };
  };

  const markdown = ({ title, note, right, heads, rows }) => {
    const cells = [heads, ...rows].map((row) => row.map((text) => text.replaceAll("|", "\\|")));
    const length = (text) => [...text].length;
    const widths = right.map((_, i) => Math.max(3, ...cells.map((row) => length(row[i]))));
    const rule = widths.map((w, i) => (right[i] ? "-".repeat(w - 1) + ":" : "-".repeat(w)));
    const pad = (text, i) => {
      const space = " ".repeat(widths[i] - length(text));
      return right[i] ? space + text : text + space;
    };
    const lines = [cells[0], rule, ...cells.slice(1)].map((row) => `| ${row.map(pad).join(" | ")} |`);
    return `## ${title}\n\n${lines.join("\n")}\n\n${note}\n`;
  };

  const signs = LATEX_SIGNS;
  const numbered = (run) => {
    const found = /^([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+|\u221e)(?:e([-+][0-9]{1,3}))?$/.exec(run);
    if (!found) return "";
    const [, sign, number, power] = found;
    const infinite = number === "\u221e";
    if (sign !== "-" && !infinite && !power) return "";
    const digits = infinite ? "\\infty" : number;
    if (power) return `$${sign}${digits} \\times 10^{${Number(power)}}$`;
    return infinite ? `$${sign}${digits}$` : `$-$${digits}`;
  };
  const worded = (run) => [...run].map((sign, i, all) =>
    (sign === all[i - 1] && "-',".includes(sign) ? "{}" : "") + (signs[sign] ?? sign)).join("");
  const escape = (text) => text
    .replace(/[ \t\n\v\f\r]+/g, " ")
    .replace(/[\0-\x1f\x7f-\x9f]/g, "")
    .replace(/^ +| +$/g, "")
    .replace(/[A-Za-z0-9_.+\u221e-]+|[^A-Za-z0-9_.+\u221e-]+/g, (run) => numbered(run) || worded(run));
  // As in latex.py: settings and intervals stand behind what they are of, rows under a group.
  const arranged = ({ roles, heads, rows, right }) => {
    const own = roles.flatMap((role, i) => (role === "own" ? [i] : []));
    const behind = { setting: (text) => ` (${text})`,
      interval: (text) => ` [${text.replace(" to ", ", ")}]` };
    const joined = (row) => own.map((i) => {
      const add = row[i + 1] === "\u2013" ? undefined : behind[roles[i + 1]];
      return row[i] + (add ? add(row[i + 1]) : "");
    });
    const group = roles.indexOf("group");
    return {
      heads: own.map((i) => heads[i] + (roles[i + 1] === "interval" ? " [95% CI]" : "")),
      rows: rows.map(joined),
      right: own.map((i) => right[i]),
      groups: rows.map((row) => row[group] ?? ""),
      leftOut: heads.filter((_, i) => roles[i] === "narrow"),
    };
  };
  const widths = LATEX_WIDTHS;
  const widthOf = (text) => [...text.replace(/(?<=[0-9])e[-+]0?([0-9]+)/g, " \u00d7 10$1")].reduce(
    (sum, sign) => sum + (widths[sign] ?? (/\p{Lu}/u.test(sign) ? 6.9 : 4.9)), 0);
  const latex = ({ name, title, note, best, ...cells }) => {
    const { heads, rows, right, groups, leftOut } = arranged(cells);
    const short = escape(title);
    const caption = `\\caption[${short}]{${[short, escape(note)].filter(Boolean).join(". ")}}`;
    const slug = name.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "") || "unnamed";
    const label = `\\label{tab:${slug}}`;
    const columns = `{@{}${right.map((number) => (number ? "r" : "l")).join("")}@{}}`;
    const line = (texts) => `${texts.join(" & ")} \\\\`;
    const bold = (text, at) => (at < 2 ? `\\textbf{${text}}` : text);
    const body = rows.flatMap((row, i) => {
      const texts = row.map(escape);
      const own = line(best[i] ? texts.map(bold) : texts);
      if (groups[i] === (groups[i - 1] ?? "")) return [own];
      return [`\\multicolumn{${row.length}}{@{}l@{}}{\\emph{${escape(groups[i])}}} \\\\`, own];
    });
    const top = ["\\toprule", line(heads.map(escape)), "\\midrule"];
    const only = leftOut.length ? [`% Only in the CSV: ${leftOut.map(escape).join(", ")}.`] : [];
    const widest = heads.map((head, i) => Math.max(...[head, ...rows.map((row) => row[i])].map(widthOf)));
    const width = widest.reduce((sum, one) => sum + one + LATEX_GAP, -LATEX_GAP);
    const kind = width <= LATEX_COLUMN ? "table" : "table*";
    const lines = rows.length > LATEX_LONG
      ? ["% Needs \\usepackage{booktabs, longtable}.", ...only, `\\begin{longtable}${columns}`,
        `${caption} ${label} \\\\`, ...top, "\\endfirsthead", ...top, "\\endhead",
        "\\bottomrule", "\\endfoot", ...body, "\\end{longtable}"]
      : ["% Needs \\usepackage{booktabs}.", ...only, `\\begin{${kind}}[t]`,
        `\\centering\\small\\setlength{\\tabcolsep}{${LATEX_GAP / 2}pt}`, caption, label,
        `\\begin{tabular}${columns}`, ...top, ...body, "\\bottomrule", "\\end{tabular}",
        `\\end{${kind}}`];
    return `${lines.join("\n")}\n`;
  };

  // Where the clipboard is kept from a page, as from some that are opened as files, or doesn't
  // answer, as now and then in a window behind another, a selection can be copied all the same.
  const copy = async (text) => {
    try {
      const late = new Promise((_, refuse) => setTimeout(refuse, 1000));
      await Promise.race([navigator.clipboard.writeText(text), late]);
      return true;
    } catch {
      const area = document.createElement("textarea");
      const focused = document.activeElement;
      area.value = text;
      area.readOnly = true;
      area.style.cssText = "position: fixed; top: 0; opacity: 0";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      focused?.focus({ preventScroll: true });
      return done;
    }
  };
  const offer = (line, buttons) => {
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    for (const [label, about, text] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      if (about) button.setAttribute("aria-label", `${label}: ${about}`);
      button.addEventListener("click", async () => {
        status.textContent = "";
        status.textContent = (await copy(text())) ? "Copied" : "The browser did not allow copying";
      });
      line.append(button);
    }
    line.append(status);
  };
  const makeCopyable = (line) => {
    const table = line.previousElementSibling.querySelector("table");
    const known = () => read(table, line.querySelector("a").download);
    const about = table.parentElement.getAttribute("aria-label");
    offer(line, [
      ["Copy as Markdown", about, () => markdown(known())],
      ["Copy as LaTeX", about, () => latex(known())],
    ]);
  };
  const furnish = (root) => {
    root.querySelectorAll("table[data-cards]").forEach(makeCards);
    for (const box of root.querySelectorAll(".scroll, .drawing")) watch.observe(box);
    for (const head of root.querySelectorAll("table.sortable thead th")) {
      const definition = definitions[head.textContent.trim()];
      if (definition) head.title = definition;
    }
    root.querySelectorAll("table.sortable").forEach(makeSortable);
    root.querySelectorAll(".download").forEach(makeCopyable);
  };
  furnish(document);
  // What was packed comes later.
  document.addEventListener("unfolded", ({ target }) => furnish(target));
  for (const quoted of document.querySelectorAll("[data-copy]")) {
    const line = document.createElement("p");
    line.className = "download";
    quoted.after(line);
    offer(line, [[quoted.dataset.copy, "", () => quoted.textContent]]);
  }
})();
