"""The page of a run: what it says, and in which order. Nothing here writes files or draws."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.errors import join
from harness.formatting import DASH
from harness.reporting.figures import check as check_figures
from harness.reporting.figures import records as figure_records
from harness.reporting.page import charts, citation
from harness.reporting.page.parts import (
    Cell,
    Grid,
    Picture,
    as_json,
    counted,
    counts,
    document,
    environment,
    files,
    grid,
    picture,
    plain_grid,
    plural,
    slug,
    whole,
)
from harness.reporting.tables import reproduce
from harness.reporting.tables.model import Table
from harness.reporting.tables.sentences import Findings
from harness.reporting.tables.trials import WAYS
from harness.results import STATUSES
from harness.store.read import CaseData, ObjectiveInfo, Results

if TYPE_CHECKING:
    from harness.reporting.figures.draw import Drawing
    from harness.reporting.figures.records import FigureRecord

TIMING, FAILURES, CHECK, CLAIMS = "seconds_per_epoch", "failures", "check", "claims"
SHARING = "sharing"
"""Names of the tables that have a section of their own; figures of a time begin alike."""


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


def render(
    results: Results,
    tables: Sequence[Table],
    records: Sequence[FigureRecord],
    drawings: Sequence[Drawing],
    said: Findings,
    check: Check | None = None,
) -> str:
    """The page as HTML.

    Args:
        results: What was run.
        tables: Its tables.
        records: What its figures show.
        drawings: The same figures, drawn; matched to the records by name.
        said: What came out, as plain text.
        check: What a check against a baseline found; None where there was none.
    """
    svgs = {drawing.name: drawing.svg for drawing in drawings}
    labels = {case.label: case.optimizer for case in results.cases}
    pictures = {
        record.name: picture(record, svgs[record.name]) for record in records if record.name in svgs
    }
    special = (TIMING, check_figures.TIME, check_figures.HISTORY)
    timing_pictures = [record for record in records if record.name.startswith(TIMING)]
    others = [
        record
        for record in records
        if not record.name.startswith(special) and record.name != "overview"
    ]
    by_name = {table.name: table for table in tables}
    timing, failures = by_name.pop(TIMING, None), by_name.pop(FAILURES, None)
    checked, published = by_name.pop(CHECK, None), by_name.pop(CLAIMS, None)
    shared = by_name.pop(SHARING, None)
    sections, timed = [], []
    for number, info in enumerate(results.objectives.values(), 1):
        anchor = f"{number}-{slug(info.name)}"
        sections.append(
            Section(
                id=f"objective-{anchor}",
                name=info.name,
                formula=info.formula,
                facts=_facts(results, info),
                pictures=_chosen(pictures, others, info.name),
                grids=_grids(by_name.values(), labels, info.name, anchor),
            )
        )
        timed.append(
            Section(
                id=f"time-{anchor}",
                name=info.name,
                formula="",
                facts=(),
                pictures=_chosen(pictures, timing_pictures, info.name),
                grids=_grids([timing] if timing else [], labels, info.name, anchor, named=False),
            )
        )
    settings = results.run.settings
    return document(
        "page.html.j2",
        files([table.name for table in tables], list(svgs)),
        title=settings.title or results.run.suite,
        description=settings.description,
        run=results.run,
        said=said,
        overview=pictures.get("overview"),
        choices=_choices(results),
        library=charts.library() if any(picture.data for picture in pictures.values()) else None,
        scope=_scope(results),
        counts=counts(results.trials["status"]),
        missing=settings.missing,
        troubles=_troubles(results),
        lacking=len(results.cases) * len(settings.seeds) - len(results.trials),
        cases=_case_grid(results),
        hyperparameters=_hyperparameter_grid(results),
        sections=sections,
        overall=Section(
            id="all-objectives",
            name="All objectives",
            formula="",
            facts=(),
            pictures=_chosen(pictures, others, None),
            grids=_grids(by_name.values(), labels, None, "all"),
        ),
        timed=[section for section in timed if section.pictures or section.grids],
        timing_pictures=_chosen(pictures, timing_pictures, None),
        timing_note=timing.note if timing else "",
        timing=settings.timing,
        timing_scope=_timing_scope(results, timing),
        failures=whole(failures, labels),
        sharing=whole(shared, labels),
        compared=_compared(results),
        published=whole(published, labels),
        check=check,
        checked=whole(checked, labels),
        check_pictures=_beginning(pictures, check_figures.TIME),
        history_pictures=_beginning(pictures, check_figures.HISTORY),
        again=reproduce.again(results),
        bibtex=citation.bibtex(results.run),
        citing=citation.sentence(results.run),
        sources=citation.sources(results),
        made=environment(results.run),
    )


@dataclass(frozen=True)
class Choices:
    """What a reader may choose for the whole page.

    Attributes:
        optimizers: Their names.
        looks: For the page's script: each name with how it looks, as JSON.
        epochs: Whether some objective has epochs.
        seconds: Whether some case was timed.
        seeds: Whether any case has more than one seed.
    """

    optimizers: tuple[str, ...]
    looks: Markup
    epochs: bool
    seconds: bool
    seeds: bool


def _choices(results: Results) -> Choices:
    looks = charts.styles_by_optimizer(figure_records.styles(results))
    return Choices(
        optimizers=tuple(results.optimizers),
        looks=as_json([[name, charts.swatch(style)] for name, style in looks.items()]),
        epochs=any(info.has_epochs for info in results.objectives.values()),
        seconds=bool(len(results.timings)),
        seeds=len(results.run.settings.seeds) > 1,
    )


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
    tables: Iterable[Table],
    labels: Mapping[str, str],
    objective: str | None,
    anchor: str,
    *,
    named: bool = True,
) -> tuple[Grid, ...]:
    """The rows of an objective; where that is None, the tables that know no objectives."""
    grids = []
    for table in tables:
        if "objective" in table.frame.columns:
            rows = table.frame.index[table.frame["objective"] == objective]
        else:
            rows = table.frame.index if objective is None else table.frame.index[:0]
        if len(rows):
            grids.append(grid(table, rows, anchor, objective=objective, named=named, labels=labels))
    return tuple(grids)


def _case_grid(results: Results) -> Grid:
    """Every case with how its trials ended, one column per device."""
    devices = list(dict.fromkeys(case.device for case in results.cases))
    ended = {
        position: counts(statuses)
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
                *(Cell(counted(where.get(device, []))) for device in devices),
            )
        )
    headings = ("optimizer", "objective", "class", "hyperparameters")
    return plain_grid("cases", (*headings, *devices), rows, [row[0].text for row in rows])


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
    headings = ("optimizer", "objective", "hyperparameters")
    return plain_grid("hyperparameters", headings, rows, [row[0].text for row in rows])


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
    seeds = results.run.settings.seeds
    text = (
        f"{plural(len(results.optimizers), 'optimizer')} × "
        f"{plural(len(results.objectives), 'objective')} × "
        f"{plural(len(devices), 'device')} ({join(devices)}): "
        f"{plural(len(results.cases), 'case')}, each with {plural(len(seeds), 'seed')} "
        f"({_seeds(seeds)}), make {plural(len(results.cases) * len(seeds), 'trial')}."
    )
    if not results.cases:
        text = "What is compared is known once tuning has come to its end."
    tried = Counter(tried.role for tried in results.tried)
    if tried["tuning"]:
        tuning_seeds = plural(len(results.run.settings.tuning_seeds), "other seed")
        text += (
            f" Before them, tuning tried {plural(tried['tuning'], 'setting')} with {tuning_seeds}"
        )
        text += ", as many for every optimizer that is tuned, on every objective"
        if tried["sweep"]:
            text += f"; after them, sweeps tried {tried['sweep']:,} more with the same"
        text += "."
    return text


def _timing_scope(results: Results, table: Table | None) -> str:
    """How seconds per epoch were measured, in a few sentences; empty where that is not known."""
    timing = results.run.settings.timing
    if timing is None:
        return ""
    threads = results.run.environment.get("threads", "")
    text = (
        f"Up to {plural(timing.rounds, 'round')} after {timing.warmup_rounds} to warm up; "
        "in each round every case runs a block of at most "
        f"{plural(timing.block_steps, 'step')}"
    )
    if threads:
        text += f", with {threads} {'thread' if threads == '1' else 'threads'}"
    text += f"; at most about {timing.seconds:g} s in all"
    text += ". Evaluation, recording and loading data are not on the clock."
    noisy = 0 if table is None else int((table.frame["noisy"] == "yes").sum())
    if table is not None and noisy:
        text += (
            f" The machine was busy: the times of {noisy} of {plural(len(table.frame), 'case')} "
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
        lines.append(f"{plural(len(trials), 'trial')} {verb}: {join(names, 4)}.")
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
    facts.append(("Recorded", plural(len(info.record_steps), "loss", "losses") + " per trial"))
    facts.append(("Precision", join(list(dict.fromkeys(case.dtype for case in cases)))))
    if info.optimum is not None:
        facts.append(("Lowest loss", f"{info.optimum:.6g}"))
    if info.minimizers and info.dimension <= 3:
        points = [f"({', '.join(f'{x:.6g}' for x in point)})" for point in info.minimizers]
        facts.append(("Minimum at" if len(points) == 1 else "Minima at", join(points, 6)))
    if ways := _ways(results, cases):
        facts.append(("Trials ran", ways))
    if info.data_source:
        facts.append(("Data", info.data_source))
    return tuple(facts)


def _ways(results: Results, cases: Sequence[CaseData]) -> str:
    """How an objective's trials ran; a table says why."""
    positions = [case.position for case in cases]
    ran = results.trials[results.trials["position"].isin(positions) & (results.trials["way"] != "")]
    found = {str(way): list(dict.fromkeys(labels)) for way, labels in ran.groupby("way")["label"]}
    if len(found) == 1:
        return WAYS[next(iter(found))]
    return "; ".join(f"{WAYS[way]}: {join(labels, 4)}" for way, labels in found.items())


def _compared(results: Results) -> str:
    """What trials of shared runs, run alone as well, have shown; empty where there are none."""
    known = results.comparisons
    if known.empty:
        return ""
    tried = ", tuning's among them," if known["role"].isin(["tuning", "sweep"]).any() else ""
    text = (
        f"{plural(int(known['lanes'].sum()), 'trial')}{tried} shared {plural(len(known), 'run')}. "
        "One trial of each run was also run alone to its end: "
    )
    far = known[known["difference"] > known["rounding"]]
    near = known["difference"].drop(far.index)
    if len(near):
        text += (
            f"recorded losses differ by at most {near.max():.1e} of their size, which is rounding."
        )
    if len(far):
        names = join(list(dict.fromkeys(far["optimizer"])), 4)
        text += (
            f" In {plural(len(far), 'run')} they differ by more than rounding ({names}: up to "
            f"{far['difference'].max():.1e}), which is a fault of the harness; those trials were "
            "run alone, and their numbers are those of runs of their own."
        )
    return text


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
