"""The page: one HTML file that needs nothing else. Nothing here writes files or draws."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from harness import check_figures, citation, commands, latex
from harness.frames import CaseData, ObjectiveInfo, Results
from harness.problems import join
from harness.results import STATUSES
from harness.tables import DASH, Table

if TYPE_CHECKING:
    from harness.figure_records import FigureRecord
    from harness.figures import Drawing

TIMING, FAILURES, CHECK, CLAIMS = "seconds_per_epoch", "failures", "check", "claims"
"""Names of the tables that have a section of their own; figures of a time begin alike."""

TABLE_FORMATS, FIGURE_FORMATS = ("csv", "md", "tex"), ("svg", "png")
"""What tables and figures beside a page are written as; each is a file's ending."""

INK, GRID, PAPER = "#1a1b1c", "#d0d1d2", "#fefefd"
"""Colours of a drawing that follow the page into the dark."""

LONG = 36
"""Characters beyond which a cell's text may break into lines."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and what stands small behind it."""

    text: str
    aside: str = ""


@dataclass(frozen=True)
class Column:
    """One column's heading and how its cells are set.

    Attributes:
        heading: Its heading.
        numeric: Whether it holds numbers, which are set to the right.
        long: Whether its texts may break into lines.
        aside: Heading of what stands small behind its texts; empty where nothing does.
    """

    heading: str
    numeric: bool = False
    long: bool = False
    aside: str = ""


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
        csv: The numbers as a ``data:`` URI; empty if there is nothing to download.
        csv_name: What the download is called.
        note_id: Anchor of the note that goes with the table when it is copied.
    """

    id: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    faint: tuple[bool, ...]
    csv: str = ""
    csv_name: str = ""
    note_id: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it."""

    id: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """What the page tells of one objective, or of all together."""

    id: str
    name: str
    formula: str
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class Check:
    """What the page says of the latest check, beside its table and figures.

    Attributes:
        verdict: What came of it, in a sentence; empty where it can't be read.
        facts: How it was made, term by term.
        remarks: What to know when reading it, a sentence each.
        changes: Where times moved to a new level, a sentence each, numbered as in the figure.
        changes_note: What is said where there are no such sentences; may be empty.
    """

    verdict: str
    facts: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    changes_note: str = ""


@dataclass(frozen=True)
class Live:
    """How far a run is that is under way.

    Attributes:
        done: How many of its trials are done.
        total: How many there will be; 0 where that is not known.
        written: When this was so: UTC, ISO 8601.
        seconds: After how many the page loads itself anew.
    """

    done: int
    total: int
    written: str
    seconds: int

    @property
    def progress(self) -> str:
        """In words."""
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.done:,}{of} trials are done"


def render(
    results: Results,
    tables: Sequence[Table],
    records: Sequence[FigureRecord],
    drawings: Sequence[Drawing],
    sentences: Sequence[str],
    check: Check | None = None,
    live: Live | None = None,
) -> str:
    """The page as HTML.

    Args:
        results: What was run.
        tables: Its tables.
        records: What its figures show.
        drawings: The same figures, drawn; matched to the records by name.
        sentences: What came out, as plain text.
        check: What a check against a baseline found; None where there was none.
        live: How far the run is; None where it is not under way.
    """
    svgs = {drawing.name: drawing.svg for drawing in drawings}
    pictures = {
        record.name: _picture(record, svgs[record.name])
        for record in records
        if record.name in svgs
    }
    special = (TIMING, check_figures.TIME, check_figures.HISTORY)
    timing_pictures = [record for record in records if record.name.startswith(TIMING)]
    others = [record for record in records if not record.name.startswith(special)]
    by_name = {table.name: table for table in tables}
    timing, failures = by_name.pop(TIMING, None), by_name.pop(FAILURES, None)
    checked, published = by_name.pop(CHECK, None), by_name.pop(CLAIMS, None)
    sections, timed = [], []
    for number, info in enumerate(results.objectives.values(), 1):
        anchor = f"{number}-{_slug(info.name)}"
        sections.append(
            Section(
                id=f"objective-{anchor}",
                name=info.name,
                formula=info.formula,
                facts=_facts(results, info),
                pictures=_chosen(pictures, others, info.name),
                grids=_grids(by_name.values(), info.name, anchor),
            )
        )
        timed.append(
            Section(
                id=f"time-{anchor}",
                name=info.name,
                formula="",
                facts=(),
                pictures=_chosen(pictures, timing_pictures, info.name),
                grids=_grids([timing] if timing else [], info.name, anchor, named=False),
            )
        )
    script = _script()
    settings = results.run.settings
    return _template().render(
        policy=_policy(script),
        style=Markup(_read("page.css")),
        script=Markup(script),
        title=settings.get("title") or results.run.suite,
        description=settings.get("description", ""),
        files=json.dumps(files([table.name for table in tables], list(svgs))),
        run=results.run,
        live=live,
        moment=_moment(live.written) if live else "",
        sentences=sentences,
        scope=_scope(results),
        counts=_counts(results.trials["status"]),
        missing=settings.get("missing", {}),
        troubles=_troubles(results),
        lacking=len(results.cases) * len(settings["seeds"]) - len(results.trials),
        cases=_case_grid(results),
        hyperparameters=_hyperparameter_grid(results),
        sections=sections,
        overall=Section(
            id="all-objectives",
            name="All objectives",
            formula="",
            facts=(),
            pictures=_chosen(pictures, others, None),
            grids=_grids(by_name.values(), None, "all"),
        ),
        timed=[section for section in timed if section.pictures or section.grids],
        timing_pictures=_chosen(pictures, timing_pictures, None),
        timing_note=timing.note if timing else "",
        timing=settings.get("timing", {}),
        timing_scope=_timing_scope(results, timing),
        failures=_grid(failures, failures.frame.index, "all") if failures else None,
        published=_grid(published, published.frame.index, "all") if published else None,
        check=check,
        checked=_grid(checked, checked.frame.index, "all") if checked else None,
        check_pictures=_beginning(pictures, check_figures.TIME),
        history_pictures=_beginning(pictures, check_figures.HISTORY),
        again=commands.again(results),
        bibtex=citation.bibtex(results.run),
        citing=citation.sentence(results.run),
        sources=citation.sources(results),
        environment=_environment(results, live),
    )


def files(tables: Iterable[str], figures: Iterable[str]) -> list[str]:
    """What lies beside a page, relative to it; the page lists it."""
    return [
        *(f"tables/{name}.{ending}" for name in tables for ending in TABLE_FORMATS),
        *(f"figures/{name}.{ending}" for name in figures for ending in FIGURE_FORMATS),
    ]


def listed_files(html: str) -> list[str]:
    """What a page that was rendered earlier says lies beside it; empty if it isn't ours."""
    found = re.search(r'<meta name="harness-files" content="([^"]*)">', html)
    try:
        listed = json.loads(Markup(found[1]).unescape()) if found else []
    except json.JSONDecodeError:
        return []
    endings = "|".join(TABLE_FORMATS), "|".join(FIGURE_FORMATS)
    pattern = r"(tables/[^/\\]+\.({})|figures/[^/\\]+\.({}))".format(*endings)
    return [name for name in listed if isinstance(name, str) and re.fullmatch(pattern, name)]


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
    rules += [f"max-width: {float(width[1]) * 4 / 3:.0f}px"] if width else []
    style = f' style="{"; ".join(rules)}"' if rules else ""
    kept = re.sub(r'\s(width|height|role|aria-label|style)="[^"]*"', "", opening)
    kept = kept.removeprefix("<svg")
    for colour, variable in ((INK, "ink"), (GRID, "grid"), (PAPER, "paper")):
        body = body.replace(colour, f"var(--{variable})")
    return Markup(f'<svg role="img" aria-label="{escape(label)}"{style}{kept}{body}')


def _picture(record: FigureRecord, svg: str) -> Picture:
    anchor = f"figure-{_slug(record.name)}"
    label = record.alt or record.title
    return Picture(anchor, record.title, record.caption, inline(svg, label))


def _chosen(
    pictures: Mapping[str, Picture], records: Iterable[FigureRecord], objective: str | None
) -> tuple[Picture, ...]:
    return tuple(
        pictures[record.name]
        for record in records
        if record.objective == objective and record.name in pictures
    )


def _beginning(pictures: Mapping[str, Picture], start: str) -> tuple[Picture, ...]:
    return tuple(picture for name, picture in pictures.items() if name.startswith(start))


def _grids(
    tables: Iterable[Table], objective: str | None, anchor: str, *, named: bool = True
) -> tuple[Grid, ...]:
    """The rows of an objective; where that is None, the tables that know no objectives."""
    grids = []
    for table in tables:
        if "objective" in table.frame.columns:
            rows = table.frame.index[table.frame["objective"] == objective]
        else:
            rows = table.frame.index if objective is None else table.frame.index[:0]
        if len(rows):
            grids.append(_grid(table, rows, anchor, objective=objective, named=named))
    return tuple(grids)


def _grid(
    table: Table, rows: pd.Index, anchor: str, *, objective: str | None = None, named: bool = True
) -> Grid:
    """Some rows of a table; without the objective where it is one, setting beside optimizer."""
    shown, frame = table.shown.loc[rows], table.frame.loc[rows]
    merged = {"optimizer", "setting"} <= set(shown.columns)
    left_out = {"setting"} if merged else set()
    if objective is not None:
        left_out.add("objective")
    columns, cells = [], []
    for heading, numeric in zip(shown.columns, table.numeric, strict=True):
        if heading in left_out:
            continue
        texts = [str(text) for text in shown[heading]]
        long = any(len(text) > LONG for text in texts)
        aside = "setting" if merged and heading == "optimizer" else ""
        columns.append(Column(str(heading), numeric, long, aside))
        asides = [""] * len(texts)
        if aside:
            asides = ["" if text == DASH else str(text) for text in shown["setting"]]
        cells.append([Cell(*pair) for pair in zip(texts, asides, strict=True)])
    whole = len(frame) == len(table.frame)
    grid_id = f"table-{table.name}-{anchor}"
    return Grid(
        id=grid_id,
        title=table.title if named else "",
        note=table.note if named else "",
        columns=tuple(columns),
        rows=tuple(zip(*cells, strict=True)),
        faint=tuple(str(n) == "0" for n in shown["n"]) if "n" in shown else (False,) * len(rows),
        csv=_data_uri(frame.to_csv(index=False, lineterminator="\n")),
        csv_name=f"{table.name}.csv" if whole else f"{table.name}-{_slug(str(objective))}.csv",
        note_id=f"{grid_id}-note" if named else f"note-{table.name}",
    )


def _case_grid(results: Results) -> Grid:
    """Every case with how its trials ended, one column per device."""
    devices = list(dict.fromkeys(case.device for case in results.cases))
    ended = {
        position: _counts(statuses)
        for position, statuses in results.trials.groupby("position")["status"]
    }
    rows = []
    for _, cases in _across_devices(results.cases):
        case = cases[0]
        where = {c.device: ended.get(c.position, []) for c in cases}
        rows.append(
            (
                Cell(case.optimizer, case.setting),
                Cell(case.objective),
                Cell(case.optimizer_class),
                Cell(_assignments(case.hyperparameters)),
                *(Cell(_counted(where.get(device, []))) for device in devices),
            )
        )
    headings = ("optimizer", "objective", "class", "hyperparameters")
    return _plain_grid("cases", (*headings, *devices), rows)


def _hyperparameter_grid(results: Results) -> Grid:
    """Every case with its hyperparameters as its constructor completed them."""
    rows = [
        (
            Cell(cases[0].optimizer, cases[0].setting),
            Cell(cases[0].objective),
            Cell(_assignments(cases[0].defaults)),
        )
        for _, cases in _across_devices(results.cases)
    ]
    return _plain_grid("hyperparameters", ("optimizer", "objective", "hyperparameters"), rows)


def _plain_grid(anchor: str, headings: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> Grid:
    columns = tuple(
        Column(heading, long=any(len(row[i].text) > LONG for row in rows))
        for i, heading in enumerate(headings)
    )
    return Grid(anchor, "", "", columns, tuple(rows), (False,) * len(rows))


def _across_devices(
    cases: Iterable[CaseData],
) -> list[tuple[tuple[str, str], list[CaseData]]]:
    """Cases that differ by their device alone, together."""
    groups: dict[tuple[str, str], list[CaseData]] = {}
    for case in cases:
        groups.setdefault((case.objective, case.label), []).append(case)
    return list(groups.items())


def _scope(results: Results) -> str:
    """How much was run, in a sentence."""
    devices = list(dict.fromkeys(case.device for case in results.cases))
    seeds = results.run.settings["seeds"]
    text = (
        f"{_plural(len(results.optimizers), 'optimizer')} × "
        f"{_plural(len(results.objectives), 'objective')} × "
        f"{_plural(len(devices), 'device')} ({join(devices)}): "
        f"{_plural(len(results.cases), 'case')}, each with {_plural(len(seeds), 'seed')} "
        f"({_seeds(seeds)}), make {_plural(len(results.cases) * len(seeds), 'trial')}."
    )
    if not results.cases:
        text = "What is compared is known once tuning has come to its end."
    tried = Counter(tried.role for tried in results.tried)
    if tried["tuning"]:
        tuning_seeds = _plural(len(results.run.settings["tuning_seeds"]), "other seed")
        text += (
            f" Before them, tuning tried {_plural(tried['tuning'], 'setting')} with {tuning_seeds}"
        )
        text += ", as many for every optimizer that is tuned, on every objective"
        if tried["sweep"]:
            text += f"; after them, sweeps tried {tried['sweep']:,} more with the same"
        text += "."
    return text


def _timing_scope(results: Results, table: Table | None) -> str:
    """How seconds per epoch were measured, in a few sentences; empty where that is not known."""
    timing = results.run.settings.get("timing")
    if not timing:
        return ""
    threads = results.run.environment.get("threads", "")
    text = (
        f"Up to {_plural(timing['rounds'], 'round')} after {timing['warmup_rounds']} to warm up; "
        "in each round every case runs a block of at most "
        f"{_plural(timing['block_steps'], 'step')}"
    )
    if threads:
        text += f", with {threads} {'thread' if threads == '1' else 'threads'}"
    if "seconds" in timing:
        text += f"; at most about {timing['seconds']:g} s in all"
    text += ". Evaluation, recording and loading data are not on the clock."
    noisy = 0 if table is None else int((table.frame["noisy"] == "yes").sum())
    if table is not None and noisy:
        text += (
            f" The machine was busy: the times of {noisy} of {_plural(len(table.frame), 'case')} "
            "are noisy, so trust the ratios more than the seconds."
        )
    return text


def _troubles(results: Results) -> list[str]:
    """A line for each way in which trials ended badly, missing devices aside."""
    lines = []
    for status in STATUSES:
        trials = results.trials[results.trials["status"] == status]
        if status in ("ok", "unavailable") or trials.empty:
            continue
        names = [
            f"{count:,} of {label} on {objective} ({device})"
            for (label, objective, device), count in Counter(
                zip(trials["label"], trials["objective"], trials["device"], strict=True)
            ).items()
        ]
        verb = {"diverged": "diverged", "timeout": "timed out"}.get(status, "ended in an error")
        lines.append(f"{_plural(len(trials), 'trial')} {verb}: {join(names, 4)}.")
    return lines


def _facts(results: Results, info: ObjectiveInfo) -> tuple[tuple[str, str], ...]:
    """What an objective is, term by term."""
    cases = results.cases_on(info.name)
    facts = [("Parameters", f"{info.dimension:,}")]
    if info.rows:
        facts.append(("Rows", f"{info.rows:,}"))
    steps = f"{info.steps:,}"
    if info.has_epochs:
        steps += f", {info.steps_per_epoch:,} to an epoch"
    facts.append(("Steps", steps))
    facts.append(("Recorded", _plural(len(info.record_steps), "loss", "losses") + " per trial"))
    facts.append(("Precision", join(list(dict.fromkeys(case.dtype for case in cases)))))
    if info.optimum is not None:
        facts.append(("Lowest loss", f"{info.optimum:.6g}"))
    if info.minimizers and info.dimension <= 3:
        points = [f"({', '.join(f'{x:.6g}' for x in point)})" for point in info.minimizers]
        facts.append(("Minimum at" if len(points) == 1 else "Minima at", join(points, 6)))
    if modes := _modes(results, cases):
        facts.append(("Trials ran", modes))
    if info.data_source:
        facts.append(("Data", info.data_source))
    return tuple(facts)


def _modes(results: Results, cases: Sequence[CaseData]) -> str:
    """How an objective's trials shared runs."""
    trials = results.trials[results.trials["position"].isin([case.position for case in cases])]
    together = bool((trials["mode"] == "vmap").any())
    lonely = set(trials.loc[trials["mode"] == "alone", "position"])
    reasons: dict[str, list[str]] = {}
    for case in cases:
        if case.position in lonely:
            reasons.setdefault(case.why_alone, []).append(case.label)
    alone = [
        join(list(dict.fromkeys(labels)), 4) + (f" ({why})" if why else "")
        for why, labels in reasons.items()
    ]
    if not alone:
        return "side by side, vectorised" if together else ""
    return ("side by side; one at a time: " if together else "one at a time: ") + "; ".join(alone)


def _environment(results: Results, live: Live | None) -> list[tuple[str, str]]:
    """How the run was made, term by term."""
    run = results.run
    words = {
        "harness": "Harness",
        "engine": "Engine digest",
        "python": "Python",
        "system": "System",
        "cpu": "Processor",
        "cores": "Cores",
        "threads": "Threads used",
        "git": "Git commit",
    }
    rows = [
        ("Started", _moment(run.started)),
        ("Finished", _moment(run.finished) if run.finished else "not yet" if live else "cut short"),
        ("Command", run.command),
        ("Spec", run.spec_file),
    ]
    known = {key: value for key, value in run.environment.items() if value}
    rows += [(word, known[key]) for key, word in words.items() if key in known]
    if "git" not in known:
        rows.append(("Git commit", "none: the suite is not under version control"))
    if "machine" in run.settings:
        rows.append(("Machine digest", str(run.settings["machine"])[:12]))
    packages = [f"{key} {value}" for key, value in known.items() if key not in words]
    if packages:
        rows.append(("Packages", ", ".join(packages)))
    return rows


def _moment(text: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _counts(statuses: Iterable[Any]) -> list[tuple[str, int]]:
    """How often each status occurs, in the order of the statuses."""
    counter = Counter(statuses)
    return [(status, counter[status]) for status in STATUSES if counter[status]]


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in counts) or DASH


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return join([str(seed) for seed in seeds])


def _assignments(values: Mapping[str, Any]) -> str:
    texts = (
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    )
    return ", ".join(texts) or DASH


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _slug(name: str) -> str:
    """A name as a part of an anchor or a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"


def _data_uri(csv: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(csv.encode()).decode()}"


def _script() -> str:
    """The page's script, which escapes for LaTeX what the tables' files do."""
    signs = json.dumps(latex.SIGNS, ensure_ascii=False).replace("<", "\\u003c")
    text = _read("page.js").replace("LATEX_SIGNS", signs)
    return text.replace("LATEX_LONG", str(latex.LONG))


def _policy(script: str) -> str:
    """What the page may load: nothing, but its own style and the one script with this digest."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return resources.files("harness").joinpath("templates", name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")
