"""The parts of pages: tables, pictures, lists of facts, and the document around them.

What a page says is decided elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from harness.formatting import DASH
from harness.reporting import wording
from harness.reporting.page import charts, packing
from harness.reporting.tables import latex
from harness.reporting.tables.model import Table
from harness.reporting.tables.trials import OUTCOMES
from harness.results import STATUSES

if TYPE_CHECKING:
    from harness.reporting.figures.records import FigureRecord

TABLE_FORMATS, FIGURE_FORMATS = ("csv", "md", "tex"), ("svg", "pdf", "png")
"""Formats of the tables and figures beside a page; each is a file's ending."""

SCRIPTS = (
    "page",
    "styles",
    "plots",
    "planes",
    "charts",
    "exports",
    "folds",
    "address",
    "map",
    "main",
)
CHART_SCRIPTS = tuple(f"{name}.js" for name in SCRIPTS)
"""Scripts of live charts and of the reader's choices; they share one scope, in this order."""

INK, GRID, PAPER = "#1a1b1c", "#d0d1d2", "#fefefd"
"""Colours of a drawing that follow the page into the dark."""

TICK_STYLE, TEXT_STYLE = "fill:var(--ink);stroke:var(--ink);stroke-width:0.8", ";fill:var(--ink)"
"""Styles in a drawing that are those of all of it."""

DRAWING_STYLES = '<style id="drawing-styles"></style>'
"""Place of the styles that drawings share."""

THUMBNAIL_WIDTH = 360
"""Pixels of the picture that stands for a report in a list."""

HEAD_BYTES = 65_536
"""Bytes of a page that are read to find its head."""

LONG = 36
"""Characters beyond which a cell's text may break into lines."""


@dataclass(frozen=True)
class GridCell:
    """One cell: its text, and what stands small behind it."""

    text: str
    aside: str = ""


@dataclass(frozen=True)
class GridColumn:
    """One column's heading and how its cells are set.

    Attributes:
        heading: Its heading.
        numeric: Whether it holds numbers, which are set to the right.
        long: Whether its texts may break into lines.
        aside: Heading of what stands small behind its texts; empty where nothing does.
        paper: Its role in a paper; see ``latex.roles``.
    """

    heading: str
    numeric: bool = False
    long: bool = False
    aside: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Grid:
    """A table as the page shows it.

    Attributes:
        id: Its anchor.
        title: Its heading; may be empty.
        note: What the columns are; may be empty.
        columns: Headings.
        rows: Cells, row by row.
        faint: For each row, whether it holds no result.
        best: For each row, whether it is the best of its kind; may be empty.
        optimizers: For each row, the numbers of the optimizers that it is of; empty where of none.
        csv: The numbers as a ``data:`` URI; empty if there is nothing to download.
        csv_name: What the download is called.
        note_id: Anchor of the note that goes with the table when it is copied.
    """

    id: str
    title: str
    note: str
    columns: tuple[GridColumn, ...]
    rows: tuple[tuple[GridCell, ...], ...]
    faint: tuple[bool, ...]
    best: tuple[bool, ...] = ()
    optimizers: tuple[str, ...] = ()
    csv: str = ""
    csv_name: str = ""
    note_id: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        id: Its anchor.
        name: What it is called as a file, without ending.
        title: Heading.
        caption: What is drawn, and which statistic.
        note: What of the results is not drawn, or why; may be empty.
        svg: The drawing.
        data: What its live chart is made from; None where it has none.
        objective: The objective that it is about; None where it is about all.
    """

    id: str
    name: str
    title: str
    caption: str
    note: str
    svg: Markup
    data: charts.Plain | None = None
    objective: str | None = None


def files(tables: Iterable[str], figures: Iterable[str]) -> list[str]:
    """Return the files beside a page, relative to it; the page lists it."""
    return [
        *(f"tables/{name}.{ending}" for name in tables for ending in TABLE_FORMATS),
        *(f"figures/{name}.{ending}" for name in figures for ending in FIGURE_FORMATS),
    ]


def listed_files(html: str) -> list[str]:
    """Read which files lie beside a page that was rendered earlier; empty if it isn't ours."""
    found = re.search(r'<meta name="harness-files" content="([^"]*)">', html)
    try:
        listed = json.loads(Markup(found[1]).unescape()) if found else []
    except json.JSONDecodeError:
        return []
    endings = "|".join(TABLE_FORMATS), "|".join(FIGURE_FORMATS)
    pattern = r"(tables/[^/\\]+\.({})|figures/[^/\\]+\.({}))".format(*endings)
    return [name for name in listed if isinstance(name, str) and re.fullmatch(pattern, name)]


def head_of(page: Path, name: str) -> str:
    """Read what the head of an existing page says under a name; empty if it says nothing."""
    try:
        with page.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf'<meta name="{re.escape(name)}" content="([^"]*)">', head)
    return Markup(found[1]).unescape() if found else ""


def inline(svg: str, label: str) -> Markup:
    """A drawing as a part of the page, whose ink, grid and paper it takes.

    Args:
        svg: From ``<svg`` on; its ids are its own on the whole page.
        label: What those hear who don't see it.
    """
    opening = svg[: svg.index(">") + 1]
    body = svg[len(opening) :]
    width = re.search(r'\swidth="([0-9.]+)pt"', opening)
    own = re.search(r'\sstyle="([^"]*)"', opening)
    rules = [own[1].rstrip("; ")] if own else []
    rules.append("fill: var(--ink)")
    rules += [f"max-width: {float(width[1]) * 4 / 3:.0f}px"] if width else []
    style = f' style="{"; ".join(rules)}"' if rules else ""
    kept = re.sub(r'\s(width|height|role|aria-label|style)="[^"]*"', "", opening)
    kept = kept.removeprefix("<svg")
    for colour, variable in ((INK, "ink"), (GRID, "grid"), (PAPER, "paper")):
        body = body.replace(colour, f"var(--{variable})")
    # A page knows these names by itself.
    kept = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", kept)
    body = re.sub(r' style="[^"]*"', lambda own: re.sub(r"([:;]) ", r"\1", own[0]), body)
    # Ink is the whole drawing's, and a tick has its stroke from the shape that it repeats.
    body = body.replace(f' style="{TICK_STYLE}"', "").replace(TEXT_STYLE, "")
    return Markup(f'<svg role="img" aria-label="{escape(label)}"{style}{kept}{body}')


def picture(record: FigureRecord, svg: str) -> Picture:
    """A figure with its drawing as a part of the page."""
    anchor = f"figure-{slug(record.name)}"
    return Picture(
        id=anchor,
        name=record.name,
        title=record.title,
        caption=record.caption,
        note=record.note,
        svg=inline(svg, record.alt or record.title),
        data=charts.plain(record),
        objective=record.objective,
    )


def thumbnail(png: bytes) -> str:
    """A picture made small, as a ``data:`` URI; empty where it is none."""
    from PIL import Image

    small = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
            image.save(small, "WEBP", quality=70)
    except OSError:
        return ""
    return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"


def as_json(value: Any) -> Markup:
    """Data for a script, fit to stand inside of an element of a page."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def grid(
    table: Table,
    rows: pd.Index,
    anchor: str,
    *,
    labels: Mapping[str, str] | None = None,
    objective: str | None = None,
    named: bool = True,
) -> Grid:
    """Some rows of a table; without the objective where it is one, setting beside optimizer.

    Args:
        table: The table.
        rows: Which rows, by their index.
        anchor: What sets the table's anchor apart from that of its other rows.
        labels: By the label of a case, its optimizer; None where rows follow no selection.
        objective: The objective that the rows are of.
        named: Whether the table has its own heading and note.
    """
    shown, frame = table.shown.loc[rows], table.frame.loc[rows]
    merged = {"optimizer", "setting"} <= set(shown.columns)
    one_device = "device" in frame.columns and table.frame["device"].nunique() < 2
    parts = {"setting": merged, "objective": objective is not None, "device": one_device}
    left_out = {name for name, is_out in parts.items() if is_out}
    columns: list[GridColumn] = []
    cells: list[list[GridCell]] = []
    for heading, numeric in zip(shown.columns, table.numeric, strict=True):
        if heading in left_out:
            continue
        texts = [str(text) for text in shown[heading]]
        if texts and not any(texts):
            continue
        long = any(len(text) > LONG for text in texts)
        aside = "setting" if merged and heading == "optimizer" else ""
        columns.append(GridColumn(str(heading), numeric, long, aside))
        asides = shown["setting"].replace(DASH, "") if aside else [""] * len(texts)
        cells.append([GridCell(*pair) for pair in zip(texts, asides, strict=True)])
    in_paper = _roles(table, shown, left_out - {"setting"})
    columns = [
        replace(one, heading=_called(one.heading, frame), paper=in_paper.get(one.heading, "own"))
        for one in columns
    ]
    whole = len(frame) == len(table.frame)
    grid_id = f"table-{table.name}-{anchor}"
    return Grid(
        id=grid_id,
        title=table.title if named else "",
        note=table.note if named else "",
        columns=tuple(columns),
        rows=tuple(zip(*cells, strict=True)),
        faint=tuple(str(n) == "0" for n in shown["n"]) if "n" in shown else (False,) * len(rows),
        best=tuple(pd.Series(table.best, table.frame.index)[rows]) if table.best else (),
        optimizers=_optimizers(frame, labels or {}),
        csv=_data_uri(frame.to_csv(index=False, lineterminator="\n")),
        csv_name=f"{table.name}.csv" if whole else f"{table.name}-{slug(str(objective))}.csv",
        note_id=f"{grid_id}-note" if named else f"note-{table.name}",
    )


def _called(heading: str, frame: pd.DataFrame) -> str:
    """A heading: a value under the name of what is reported, where that is one of all rows."""
    if heading != wording.ANY or "measure" not in frame or frame["measure"].nunique() > 1:
        return heading
    return str(frame["measure"].iloc[0])


def _roles(table: Table, shown: pd.DataFrame, left_out: Collection[str]) -> dict[str, str]:
    """By a heading, the role of its column where the rows stand in a paper."""
    numeric = dict(zip(table.shown.columns, table.numeric, strict=True))
    names = [name for name in shown.columns if name not in left_out and (shown[name] != "").any()]
    texts = [[str(text) for text in row] for row in shown[names].to_numpy().tolist()]
    roles = latex.roles(names, texts, [numeric[name] for name in names]) if texts else []
    return dict(zip(names, roles, strict=False))


def whole(table: Table | None, labels: Mapping[str, str] | None = None) -> Grid | None:
    """A table with all of its rows, where there is one; see :func:`grid`."""
    return grid(table, table.frame.index, "all", labels=labels) if table is not None else None


def _optimizers(frame: pd.DataFrame, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The optimizers that each row names, as their numbers in the page's selection."""
    known = {name: str(number) for number, name in enumerate(dict.fromkeys(labels.values()))}
    if not known:
        return ()
    columns = [
        [labels.get(str(value), str(value)) for value in frame[column]]
        for column in ("optimizer", "case", "against", "other")
        if column in frame.columns
    ]
    if not columns:
        return ()
    return tuple(
        " ".join(known[name] for name in dict.fromkeys(names) if name in known)
        for names in zip(*columns, strict=True)
    )


def plain_grid(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    labels: Mapping[str, str] | None = None,
) -> Grid:
    """A table that is on the page alone, with no numbers to download; see :func:`grid`."""
    shown = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    found = grid(Table(name, "", "", shown, shown), shown.index, "all", labels=labels)
    return replace(found, id=name, csv="", csv_name="", note_id="")


def counts(statuses: Iterable[Any]) -> list[tuple[str, int]]:
    """Count how often each status occurs, in the order of the statuses."""
    counter = Counter(statuses)
    return [(status, counter[status]) for status in STATUSES if counter[status]]


def counted(counts: Iterable[tuple[str, int]]) -> str:
    """``9 ok, 1 diverged``; a dash for nothing."""
    return ", ".join(f"{count:,} {OUTCOMES.get(one, one)}" for one, count in counts) or DASH


def slug(name: str) -> str:
    """A name as a part of an anchor or a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"


def _data_uri(csv: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(csv.encode()).decode()}"


def document(
    template: str,
    listed: Sequence[str],
    live: Mapping[str, charts.Plain] | None = None,
    **context: Any,
) -> str:
    """A whole page as HTML: self-contained, under a policy that lets it load nothing.

    Args:
        template: File name of the template, which extends ``base.html.j2``.
        listed: What lies beside the page, relative to it; see :func:`files`.
        live: Data of its live charts by their figures' names; see :func:`charts.plain`.
        context: What the template asks for.
    """
    script = _script()
    library = charts.library() if live else None
    html = _template(template).render(
        policy=_policy(script, library.digest if library else ""),
        library=library,
        chart_data=charts.packed(as_json(live).encode()) if live else "",
        style=Markup(_read("page.css")),
        script=Markup(script),
        files=json.dumps(list(listed)),
        **context,
    )
    return packing.with_packed_folds(_compact(html))


def _compact(html: str) -> str:
    """The page with short names in its drawings, and classes for styles that many parts have."""
    drawings = re.compile(r'(<svg role="img"[^>]*>)(.*?)(</svg>)', re.DOTALL)
    style, mark, link = r' style="([^"]*)"', r' id="([\w-]+)"', r'#([\w-]+)(?=["\)])'
    bodies = [drawing[2] for drawing in drawings.finditer(html)]
    counter = Counter(itertools.chain.from_iterable(re.findall(style, body) for body in bodies))
    common = [text for text, count in counter.most_common() if count > 1]
    classes = {text: f"s{i}" for i, text in enumerate(common)}
    marks = itertools.chain.from_iterable(re.findall(mark, body) for body in bodies)
    names = {own: f"d{i:x}" for i, own in enumerate(marks)}

    def compact(drawing: re.Match[str]) -> str:
        body = re.sub(
            style, lambda m: f' class="{classes[m[1]]}"' if m[1] in classes else m[0], drawing[2]
        )
        body = re.sub(mark, lambda m: f' id="{names[m[1]]}"', body)
        body = re.sub(link, lambda m: f"#{names.get(m[1], m[1])}", body)
        return f"{drawing[1]}{body}{drawing[3]}"

    rules = "".join(f".{name}{{{text}}}\n" for text, name in classes.items())
    html = drawings.sub(compact, html)
    return html.replace(DRAWING_STYLES, DRAWING_STYLES.replace("><", f">\n{rules}<"), 1)


def _script() -> str:
    """The page's script, which escapes for LaTeX what the tables' files do."""
    tables = _read("tables.js")
    for name, value in latex.SHARED.items():
        tables = tables.replace(f"LATEX_{name}", as_json(value))
    parts = "".join(_read(name) for name in CHART_SCRIPTS)
    return f'{tables}(() => {{\n"use strict";\n{parts}}})();\n'


def _policy(script: str, also: str) -> str:
    """Return what the page may load: nothing, but its own style and scripts with these digests."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" + (f" '{also}'" if also else "")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {scripts}; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _template(name: str) -> jinja2.Template:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(name)
