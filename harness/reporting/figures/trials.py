"""Figure records of trials and times: losses, trajectories, step sizes, seconds per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import elapsed, stats
from harness.formatting import significant
from harness.reporting.figures.records import (
    CURVES,
    DASHES,
    DOTS,
    FAINT_POINTS,
    FEW_OBJECTIVES,
    LOST_CURVES,
    MARKERS,
    NO_SEEDS,
    PLANES,
    POINTS,
    ROWS,
    STRAND_POINTS,
    STRANDS,
    Array,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    Line,
    Path,
    PlaneFigure,
    PlanePanel,
    Seeds,
    Style,
    devices_of,
    dots,
    duration,
    named,
    offsets,
    safe_name,
    scale,
    styles,
    thinned,
    unique_name,
    wants_log,
)
from harness.results import STATUSES
from harness.store.read import CaseData, ObjectiveInfo, Results

_NONE: Array = np.empty(0)


def build(results: Results, means: Mapping[int, stats.Mean]) -> list[FigureRecord]:
    """Every figure of trials and times; names are unique, whatever the case of letters.

    Args:
        results: What was run.
        means: By a case's position, its mean final loss; see ``comparison.mean_losses``.
    """
    world = _World.of(results, means)
    records: list[FigureRecord] = [record] if (record := overview(world)) else []
    for info in results.objectives.values():
        found = (
            loss(world, info),
            final_loss(world, info),
            trajectories(world, info),
            trajectories_each(world, info),
            coordinates(world, info),
            step_sizes(world, info),
        )
        records += (record for record in found if record is not None)
    records += seconds_per_epoch(world)
    taken: set[str] = set()
    return [replace(record, name=unique_name(record.name, taken)) for record in records]


@dataclass(frozen=True)
class _Outcome:
    """How the trials of one case ended."""

    ok: frozenset[int]
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ran(self) -> bool:
        return self.total > self.counts.get("unavailable", 0)

    @property
    def note(self) -> str:
        """How many ended ok, where not all did."""
        return "" if len(self.ok) == self.total else f"{len(self.ok)} of {self.total} ok"

    @property
    def troubles(self) -> str:
        """``3 diverged, 1 error``."""
        return ", ".join(f"{n} {s}" for s in STATUSES[1:] if (n := self.counts.get(s, 0)))


@dataclass(frozen=True)
class _World:
    """The results with what several figures ask of them."""

    results: Results
    styles: Mapping[int, Style]
    outcomes: Mapping[int, _Outcome]
    final: Mapping[int, Array]
    final_seeds: Mapping[int, Seeds]
    means: Mapping[int, stats.Mean]
    evaluation_seconds: Mapping[int, float]

    @classmethod
    def of(cls, results: Results, means: Mapping[int, stats.Mean]) -> _World:
        outcomes, final, seeds = {}, {}, {}
        groups = results.trials_by_position
        for case in results.cases:
            if case.position not in groups:
                outcomes[case.position] = _Outcome(frozenset(), {})
                final[case.position], seeds[case.position] = np.empty(0), NO_SEEDS
                continue
            trials = groups[case.position]
            ok = trials[(trials["status"] == "ok") & np.isfinite(trials["final_loss"])]
            counts = {str(s): int(n) for s, n in trials["status"].value_counts().items()}
            outcomes[case.position] = _Outcome(frozenset(ok["seed"].tolist()), counts)
            losses = ok["final_loss"].to_numpy(dtype=float)
            order = np.argsort(losses, kind="stable")
            final[case.position] = losses[order]
            seeds[case.position] = ok["seed"].to_numpy(dtype=np.int64)[order]
        seconds = {
            case.position: elapsed.evaluation_seconds(results, case) for case in results.cases
        }
        return cls(*(results, styles(results), outcomes, final, seeds, means, seconds))

    def pace(
        self, case: CaseData, steps: Array, rows: NDArray[np.bool_] | NDArray[np.int64]
    ) -> Array:
        """The mean seconds of some of a case's trials until each of some steps.

        Between recorded steps, evaluations are taken to be spread evenly.

        Returns:
            As many as steps; none where seconds or evaluations are not known.
        """
        recorded = self.results.objectives[case.objective].record_steps
        counts = elapsed.evaluations(case, recorded)[rows].mean(axis=0)
        counts, recorded = counts[np.isfinite(counts)], recorded[np.isfinite(counts)]
        if not len(recorded) or (len(steps) and steps.max() > recorded[-1]):
            return _NONE
        seconds = np.interp(steps, recorded, counts) * self.evaluation_seconds[case.position]
        return seconds if np.isfinite(seconds).all() else _NONE

    def ran_on(self, objective: str) -> list[CaseData]:
        """The cases of an objective of which some trial ran."""
        return [c for c in self.results.cases_on(objective) if self.outcomes[c.position].ran]

    def best(self, cases: Sequence[CaseData], most: int) -> list[CaseData]:
        """So many of the cases, in order: of each optimizer and device the lowest mean losses."""
        groups: dict[tuple[str, str], list[CaseData]] = {}
        for case in cases:
            groups.setdefault((case.optimizer, case.device), []).append(case)
        places = sorted(
            (place, case.position)
            for group in groups.values()
            for place, case in enumerate(sorted(group, key=self._mean_or_worst))
        )
        kept = {position for _, position in places[: max(most, len(groups))]}
        return [case for case in cases if case.position in kept]

    def centre(self, case: CaseData, *, median: bool) -> tuple[float, float, float]:
        """A case's mean or median final loss with its interval; NaN where there is none."""
        mean, values = self.means[case.position], self.final[case.position]
        if not median or not len(values):
            return mean.mean, mean.low, mean.high
        ends = stats.median_interval(values)
        return float(np.median(values)), *ends

    def _mean_or_worst(self, case: CaseData) -> float:
        final = self.final[case.position]
        return float(final.mean()) if len(final) else math.inf

    def label(self, case: CaseData) -> str:
        """The case, and how many of its seeds ended ok where not all did."""
        note = self.outcomes[case.position].note
        return f"{case.label}, {note}" if note else case.label


def overview(world: _World) -> DotFigure | None:
    """Final loss and speed of every optimizer on every objective: of each its best setting."""
    results = world.results
    ran = [case for case in results.cases if world.outcomes[case.position].ran]
    several = len(devices_of(ran)) > 1
    rows = list(dict.fromkeys((case.optimizer, case.device) for case in ran))
    panels: list[DotPanel] = []
    words: list[str] = []
    picked = False
    for info in results.objectives.values():
        cases = world.best(world.ran_on(info.name), 0)
        if not any(len(world.final[case.position]) for case in cases):
            continue
        found = {(case.optimizer, case.device): case for case in cases}
        picked = picked or len(cases) < len(world.ran_on(info.name))
        panels += _overview_panels(world, info, rows, found, several=several)
        words.append(f"On {info.name}: {_ranking(world, info, cases)}")
    if not panels:
        return None
    timed = any(math.isfinite(row.centre) for panel in panels[1::2] for row in panel.rows)
    if not timed:
        panels = panels[0::2]
    known = [info.optimum is not None for info in results.objectives.values()]
    what = "median" if all(known) else "mean (where the optimum is known, median)"
    caption = f"Left: {what if any(known) else 'mean'} final loss with its 95% interval."
    if timed:
        caption += " Right: median time per epoch with the interquartile range of timed blocks."
    caption += " No interval is drawn where it is narrower than the mark, or all seeds end alike."
    if picked:
        caption += (
            " Of each optimizer the setting with the lowest mean is shown, picked on these same "
            "seeds."
        )
    if any(panel.log for panel in panels):
        caption += " Some scales are logarithmic, each as its ticks say."
    each = 2 if timed else 1
    return DotFigure(
        name="overview",
        objective=None,
        title="Final loss and speed, at a glance" if timed else "Final loss, at a glance",
        caption=caption.replace("Left: m", "M") if not timed else caption,
        alt=" ".join(words),
        panels=tuple(panels),
        dot_label="",
        centre_label="estimate with its interval",
        columns=each if len(panels) <= FEW_OBJECTIVES * each else 4,
    )


def _overview_panels(
    world: _World,
    info: ObjectiveInfo,
    rows: Sequence[tuple[str, str]],
    found: Mapping[tuple[str, str], CaseData],
    *,
    several: bool,
) -> tuple[DotPanel, DotPanel]:
    """Final losses and times per epoch on an objective, with the same rows."""
    blocks = {
        case.position: _epoch_seconds(world.results.timings, case.position)
        for case in found.values()
    }
    times = {position: stats.spread(own) for position, own in blocks.items() if len(own)}
    unit, unit_name = _unit([spread.median for spread in times.values()])
    losses: list[DotRow] = []
    seconds: list[DotRow] = []
    first = {(case.optimizer, case.device): case for case in reversed(world.results.cases)}
    for key in rows:
        case = found.get(key)
        label = f"{key[0]} on {key[1]}" if several else key[0]
        style = world.styles[(case or first[key]).position]
        loss = world.centre(case, median=info.optimum is not None) if case else _UNKNOWN
        spread = times.get(case.position) if case else None
        outcome = world.outcomes[case.position] if case else None
        estimates = (
            loss,
            (spread.median / unit, spread.q1 / unit, spread.q3 / unit) if spread else _UNKNOWN,
        )
        for own, (centre, low, high), empty in zip(
            (losses, seconds),
            estimates,
            ("no seed ended ok" if outcome else "not run", "not timed"),
            strict=True,
        ):
            own.append(DotRow(label, "", style, _NONE, _NONE, centre, low, high, empty=empty))
    epoch = "epoch" if info.has_epochs else "step"
    return (
        _overview_panel(info.name, f"loss after {duration(info)}", losses),
        _overview_panel("", f"{unit_name} per {epoch}", seconds, from_zero=True),
    )


_UNKNOWN = (math.nan, math.nan, math.nan)


def _overview_panel(
    title: str, x_label: str, rows: Sequence[DotRow], *, from_zero: bool = False
) -> DotPanel:
    centres = [np.array([row.centre for row in rows])]
    log, limits = scale(centres, [np.array([row.low, row.high]) for row in rows])
    if from_zero and not log:
        limits = (0.0, limits[1])
    return DotPanel(title, x_label, log, limits, tuple(rows))


def _unit(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit in which the largest of some times is at least 1."""
    largest = max(seconds, default=0.0)
    return next(((unit, name) for unit, name in _UNITS if largest >= unit), _UNITS[-1])


def loss(world: _World, info: ObjectiveInfo) -> CurveFigure | None:
    """Loss against epochs, mean and interval over seeds; beside it how far above the optimum."""
    cases = [c for c in world.ran_on(info.name) if np.isfinite(c.losses).any()]
    if not cases:
        return None
    devices = devices_of(cases)
    panels: list[CurvePanel] = []
    groups = [[c for c in cases if c.device == device] for device in devices]
    excess = info.optimum is not None and all(_shows_excess(world, info, g) for g in groups)
    for device, group in zip(devices, groups, strict=True):
        lines, strands = _loss_lines(world, info, group), _strands(world, info, group)
        title = device if len(devices) > 1 else ""
        panels.append(replace(_loss_panel(info, lines, title, info.optimum), strands=strands))
        if excess and info.optimum is not None:
            lower, lowered = (
                tuple(_lowered(line, info.optimum) for line in own) for own in (lines, strands)
            )
            panel = _loss_panel(info, lower, title, None)
            panels.append(replace(panel, y_label="loss − lowest possible loss", strands=lowered))
    shown = world.best(groups[0], CURVES)
    caption = _loss_caption(world, cases, panels, full=len(shown) == len(groups[0]))
    x_name = "epoch" if info.has_epochs else "step"
    return CurveFigure(
        name=f"loss_{safe_name(info.name)}",
        objective=info.name,
        title=f"Loss against {x_name}: {info.name}",
        caption=caption,
        alt=f"Loss against {x_name} on {info.name}. " + _loss_words(world, info, cases),
        panels=tuple(panels),
        columns=2 if excess else 1,
    )


def _loss_lines(world: _World, info: ObjectiveInfo, cases: Sequence[CaseData]) -> tuple[Line, ...]:
    """Faint lines first, then those of lost trials, then the means."""
    unit = _steps_per_x(info)
    x = info.record_steps / unit
    full = {case.position for case in world.best(cases, CURVES)}
    faint: list[Line] = []
    lost: list[Line] = []
    means: list[Line] = []
    for case in cases:
        style = world.styles[case.position]
        is_ok = np.isin(case.seeds, sorted(world.outcomes[case.position].ok))
        whole = is_ok & np.isfinite(case.losses).all(axis=1)
        shown = case.position in full
        if shown:
            lost += _lost_lines(world, case, x, ~is_ok)
        if whole.any():
            middle, low, high = quartile_band(case.losses[whole])
            at = thinned(len(x), POINTS if shown else FAINT_POINTS)
            band = (low[at], high[at]) if shown and (high > low).any() else (_NONE, _NONE)
            label = world.label(case) if shown else ""
            line = Line(
                *(label, style, x[at], middle[at], *band),
                faint=not shown,
                seconds=world.pace(case, info.record_steps[at].astype(float), whole),
                called=case.label,
            )
            (means if shown else faint).append(line)
        elif shown:
            means.append(Line(world.label(case), style, _NONE, _NONE, _NONE, _NONE))
    return (*faint, *lost, *means)


def _steps_per_x(info: ObjectiveInfo) -> int:
    """Steps in what a loss is drawn against: an epoch, or a step."""
    return info.steps_per_epoch if info.has_epochs else 1


def _lost_lines(world: _World, case: CaseData, x: Array, lost: NDArray[np.bool_]) -> Iterator[Line]:
    """Curves of trials that did not end ok, as far as they are finite."""
    rows = np.flatnonzero(lost)
    for i in rows[thinned(len(rows), LOST_CURVES)]:
        reached = _finite_length(case.losses[i])
        if reached:
            at = thinned(reached, POINTS)
            yield _of_seed(world, case, i, x, at, lost=True)


def _strands(world: _World, info: ObjectiveInfo, cases: Sequence[CaseData]) -> tuple[Line, ...]:
    """Curves of single seeds: of each case the lowest and the highest final loss, and between."""
    x = info.record_steps / _steps_per_x(info)
    lines: list[Line] = []
    for case in world.best(cases, CURVES):
        seeds = world.final_seeds[case.position]
        at = thinned(len(x), STRAND_POINTS)
        for seed in seeds[thinned(len(seeds), STRANDS)]:
            whole = (case.seeds == seed) & np.isfinite(case.losses).all(axis=1)
            lines += (_of_seed(world, case, i, x, at) for i in np.flatnonzero(whole))
    return tuple(lines)


def _of_seed(
    world: _World,
    case: CaseData,
    index: np.integer,
    x: Array,
    at: NDArray[np.int64],
    *,
    lost: bool = False,
) -> Line:
    """The curve of one trial of a case, by its index among the case's curves."""
    steps = x[at] * _steps_per_x(world.results.objectives[case.objective])
    return Line(
        case.label if not lost else "",
        world.styles[case.position],
        x[at],
        case.losses[index][at],
        _NONE,
        _NONE,
        lost=lost,
        seed=int(case.seeds[index]),
        seconds=world.pace(case, steps, np.array([index])),
        called=case.label,
    )


def quartile_band(losses: Array) -> tuple[Array, Array, Array]:
    """Median over the first axis and the quartiles; NaN quartiles of a single row.

    They are right on any scale: a mean's interval can reach below what no loss is below, and a
    mean over orders of magnitude is that of the worst seed.
    """
    low, middle, high = np.quantile(losses, [0.25, 0.5, 0.75], axis=0)
    if len(losses) < 2:
        low = high = np.full_like(middle, np.nan)
    return middle, low, high


def _shows_excess(world: _World, info: ObjectiveInfo, cases: Sequence[CaseData]) -> bool:
    """Whether the distance from the optimum tells more than the loss: it spans decades."""
    lines = [line for line in _loss_lines(world, info, cases) if not line.lost and len(line.y)]
    if not lines or not info.optimum:
        return False
    values = np.concatenate([line.y for line in lines])
    above = values - info.optimum
    # Rounding may take a loss below the optimum by a hair; that does not forbid logarithms.
    enough = bool((above > 0).mean() > 0.9)
    return not wants_log(values) and enough and wants_log(np.maximum(above, 0.0))


def _loss_panel(
    info: ObjectiveInfo, lines: tuple[Line, ...], title: str, optimum: float | None
) -> CurvePanel:
    kept = [line for line in lines if not line.lost and len(line.y)] or lines
    values = [line.y for line in kept]
    edges = [edge for line in kept for edge in (line.low, line.high)]
    log, limits = scale(values, edges)
    rule = None
    if optimum is not None and not log and (widened := _including(limits, optimum)):
        rule, limits = optimum, widened
    return CurvePanel(
        title=title,
        x_label=f"epoch (of {info.steps_per_epoch} steps)" if info.has_epochs else "step",
        y_label="loss",
        log=log,
        limits=limits,
        lines=lines,
        rule=rule,
        rule_label="lowest possible loss" if rule is not None else "",
        steps_per_x=_steps_per_x(info),
        steps_per_epoch=info.steps_per_epoch,
    )


def _lowered(line: Line, by: float) -> Line:
    return replace(line, y=line.y - by, low=line.low - by, high=line.high - by)


def _loss_caption(
    world: _World, cases: Sequence[CaseData], panels: Sequence[CurvePanel], *, full: bool
) -> str:
    lines = [line for panel in panels for line in panel.lines]
    n = max(len(world.outcomes[case.position].ok) for case in cases)
    if any(len(line.low) for line in lines):
        text = f"Line: median of {_seeds_ok(world, cases)}; band: the middle half of them."
    elif n > 1:
        text = f"Every one of the {n} seeds takes the same course here, so there is no band."
    elif n == 1:
        text = "One seed ended ok, so there is no band."
    else:
        text = "No seed ended ok."
    if any(line.lost for line in lines):
        text += (
            " Thin line ending in a cross: a seed that did not end ok, as far as it got (a cross "
            "on the frame's edge: beyond it)."
        )
    text += _settings_words(full)
    if len(panels) > 1 and panels[1].y_label != panels[0].y_label:
        text += " Right: the same medians less the lowest loss there is, on a logarithmic scale."
    elif panels[0].log:
        text += " The scale is logarithmic."
    if any(panel.rule is not None for panel in panels):
        text += " Dashed: the lowest loss there is."
    if any(panel.log and _leaves(panel) for panel in panels):
        text += " What leaves through the lower edge goes on to values too small for the scale."
    return text


def _leaves(panel: CurvePanel) -> bool:
    return any(
        (values < panel.limits[0]).any() for line in panel.lines for values in (line.y, line.low)
    )


def _settings_words(full: bool) -> str:
    if full:
        return ""
    return (
        " In colour and with a name: of every optimizer the settings with the lowest mean final "
        "loss, picked on these same seeds; faint: its other settings."
    )


def _loss_words(world: _World, info: ObjectiveInfo, cases: Sequence[CaseData]) -> str:
    first = np.array([value for case in cases for value in case.losses[:, 0]])
    first = first[np.isfinite(first)]
    text = ""
    if len(first):
        low, high = significant(float(first.min()), 4), significant(float(first.max()), 4)
        text = f"All start at {low}. " if low == high else f"Starts lie between {low} and {high}. "
    return text + _ranking(world, info, cases)


def _ranking(world: _World, info: ObjectiveInfo, cases: Sequence[CaseData]) -> str:
    """Mean final losses, lowest first, then what did not end ok."""
    several = len(devices_of(cases)) > 1
    means = sorted(
        (
            (float(world.final[c.position].mean()), named(c, several))
            for c in cases
            if len(world.final[c.position])
        ),
    )
    text = ""
    if means:
        listed = [f"{name} {significant(mean, 4)}" for mean, name in means]
        if len(listed) > 10:
            listed = [*listed[:5], f"{len(means) - 6} more between", listed[-1]]
        order = ", lowest first" if len(means) > 1 else ""
        text = f"Mean loss after {duration(info)}{order}: {', '.join(listed)}."
        if info.optimum is not None:
            text += f" The lowest possible loss is {significant(info.optimum, 4)}."
    return text + _trouble_words(world, cases, several=several)


def _trouble_words(world: _World, cases: Sequence[CaseData], *, several: bool) -> str:
    troubled = [c for c in cases if world.outcomes[c.position].troubles]
    if not troubled:
        return ""
    listed = [
        f"{named(c, several)} ({world.outcomes[c.position].troubles} "
        f"of {world.outcomes[c.position].total})"
        for c in troubled[:8]
    ]
    more = [f"{len(troubled) - 8} more"] if len(troubled) > 8 else []
    return f" Not ended ok: {', '.join([*listed, *more])}."


def final_loss(world: _World, info: ObjectiveInfo) -> DotFigure | None:
    """Final loss of every seed, with mean and interval."""
    cases = world.ran_on(info.name)
    if not any(len(world.final[case.position]) for case in cases):
        return None
    several = len(devices_of(cases)) > 1
    shown = world.best(cases, ROWS)
    median = info.optimum is not None or scale([world.final[c.position] for c in shown], [])[0]
    name = "median" if median else "mean"
    rows = []
    for case in shown:
        values = world.final[case.position]
        centre, low, high = world.centre(case, median=median)
        outcome = world.outcomes[case.position]
        rows.append(
            DotRow(
                label=named(case, several),
                note=f"{outcome.troubles} of {outcome.total}" if outcome.troubles else "",
                style=world.styles[case.position],
                values=dots(values),
                offsets=offsets(len(dots(values))),
                centre=centre,
                low=low,
                high=high,
                numbers=dots(world.final_seeds[case.position]),
            )
        )
    ends = [np.array([row.low, row.high]) for row in rows]
    log, limits = scale([row.values for row in rows], ends)
    rule = None
    if info.optimum is not None and not log and (widened := _including(limits, info.optimum)):
        rule, limits = info.optimum, widened
    panel = DotPanel(
        title="",
        x_label=f"loss after {duration(info)}",
        log=log,
        limits=limits,
        rows=tuple(rows),
        rule=rule,
        rule_label="lowest possible loss" if rule is not None else "",
    )
    return DotFigure(
        name=f"final_loss_{safe_name(info.name)}",
        objective=info.name,
        title=f"Final loss: {info.name}",
        caption=_final_caption(world, info, cases, panel, name, full=len(shown) == len(cases)),
        alt=f"Final loss on {info.name}. " + _ranking(world, info, cases),
        panels=(panel,),
        dot_label="one seed",
        centre_label=f"{name}, 95% interval" if any(row.high > row.low for row in rows) else name,
    )


def _final_caption(
    world: _World,
    info: ObjectiveInfo,
    cases: Sequence[CaseData],
    panel: DotPanel,
    name: str,
    *,
    full: bool,
) -> str:
    n = max(len(world.final[case.position]) for case in cases)
    text = f"Dot: one seed (of {_seeds_ok(world, cases)}); "
    if n > DOTS:
        text = f"Dots: {DOTS} of {_seeds_ok(world, cases)}, evenly spaced by rank; "
    text += (
        _interval_words(panel.rows, name) + " Dots are spread up and down only to be told apart."
    )
    if panel.log:
        text += " The scale is logarithmic."
    if panel.rule is not None:
        text += " Dashed: the lowest loss there is."
    elif info.optimum is not None:
        text += f" The lowest loss there is, {significant(info.optimum, 4)}, is off the scale."
    if not full:
        text += (
            f" Shown are {len(panel.rows)} of {len(cases)} cases: of every optimizer the settings "
            "with the lowest mean. The table has all."
        )
    return text


def _interval_words(rows: Sequence[DotRow], name: str) -> str:
    if any(row.high > row.low for row in rows):
        kind = "bootstrap-t" if name == "mean" else "distribution-free"
        return f"diamond and bar: {name} with its 95% {kind} interval."
    if all(len(row.values) < 2 for row in rows):
        return f"diamond: the same, for there is no {name} of one."
    if all(np.ptp(row.values) == 0 for row in rows if len(row.values)):
        return f"diamond: {name}, without an interval, for all seeds of a row end at the same loss."
    return f"diamond: {name}; seeds are too few for an interval."


def seconds_per_epoch(world: _World) -> list[DotFigure]:
    """Times of the timed blocks, with median and quartiles: one figure, or one per objective."""
    panels: dict[str, DotPanel] = {}
    words: dict[str, str] = {}
    for info in world.results.objectives.values():
        found = _time_panel(world, info)
        if found:
            panels[info.name], words[info.name] = found
    name, title = "seconds_per_epoch", "Seconds per epoch"
    if not panels:
        return []
    caption = (
        "Dot: one timed block of steps, scaled to an epoch; diamond and bar: median and "
        "interquartile range. Dots are spread up and down only to be told apart."
    )
    together = DotFigure(
        name,
        None,
        title,
        caption,
        " ".join(words.values()),
        tuple(panels.values()),
        "one timed block",
        "median, interquartile range",
        number_label="block",
    )
    if sum(len(panel.rows) for panel in panels.values()) <= ROWS:
        return [together]
    return [
        replace(
            together,
            name=f"{name}_{safe_name(objective)}",
            objective=objective,
            title=f"{title}: {objective}",
            alt=words[objective],
            panels=(panel,),
        )
        for objective, panel in panels.items()
    ]


_UNITS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"), (1e-9, "nanoseconds"))


def _time_panel(world: _World, info: ObjectiveInfo) -> tuple[DotPanel, str] | None:
    timings = world.results.timings
    blocks = {
        case.position: times
        for case in world.results.cases_on(info.name)
        if len(times := _epoch_seconds(timings, case.position))
    }
    cases = [c for c in world.results.cases_on(info.name) if len(blocks.get(c.position, _NONE))]
    if not cases:
        return None
    several = len(devices_of(cases)) > 1
    medians = {c.position: float(np.median(blocks[c.position])) for c in cases}
    unit, unit_name = _unit(list(medians.values()))
    shown = world.best(cases, ROWS)
    rows = []
    for case in shown:
        ranks = np.argsort(blocks[case.position], kind="stable")
        values = blocks[case.position][ranks] / unit
        spread = stats.spread(values)
        rows.append(
            DotRow(
                label=named(case, several),
                note="",
                style=world.styles[case.position],
                values=dots(values),
                offsets=offsets(len(dots(values))),
                centre=spread.median,
                low=spread.q1,
                high=spread.q3,
                numbers=dots(ranks.astype(np.int64)),
            )
        )
    log, limits = scale([row.values for row in rows], [])
    if not log:
        limits = (0.0, limits[1])
    epoch = "epoch" if info.has_epochs else "epoch, which is one step"
    panel = DotPanel(
        title=info.name if len(world.results.objectives) > 1 else "",
        x_label=f"time per {epoch} ({unit_name})",
        log=log,
        limits=limits,
        rows=tuple(rows),
    )
    by_time = sorted(cases, key=lambda case: medians[case.position])
    listed = [f"{named(c, several)} {significant(medians[c.position], 3)}" for c in by_time]
    if len(listed) > 10:
        listed = [*listed[:5], f"{len(listed) - 6} more between", listed[-1]]
    order = ", fastest first" if len(listed) > 1 else ""
    return panel, f"Median seconds per epoch on {info.name}{order}: {', '.join(listed)}."


def trajectories(world: _World, info: ObjectiveInfo) -> PlaneFigure | None:
    """All trajectories of a two-dimensional objective over its landscape."""
    return _plane(world, info, together=True)


def trajectories_each(world: _World, info: ObjectiveInfo) -> PlaneFigure | None:
    """The same, each in a panel of its own; None where there is but one."""
    return _plane(world, info, together=False)


def _plane(world: _World, info: ObjectiveInfo, *, together: bool) -> PlaneFigure | None:
    cases = _with_paths(world, info)
    if not cases or (not together and len(cases) == 1):
        return None
    shown = world.best(cases, PLANES)
    devices = devices_of(cases)
    several = len(devices) > 1
    paths = {case.position: _path(world, case) for case in shown}
    if together:
        panels = [
            PlanePanel(
                device if several else "",
                tuple(paths[c.position] for c in shown if c.device == device),
            )
            for device in devices
        ]
    else:
        panels = [PlanePanel(named(c, several), (paths[c.position],)) for c in shown]
    where = "Trajectories" if together else "Trajectories one by one"
    return PlaneFigure(
        name=f"trajectories_{'' if together else 'each_'}{safe_name(info.name)}",
        objective=info.name,
        title=f"{where}: {info.name}",
        caption=_plane_caption(world, info, cases, shown),
        alt=_plane_words(world, info, shown, several=several),
        panels=tuple(panels),
        columns=min(len(panels), 1 if together and not several else 2 if together else 3),
        window=info.window or _window(list(paths.values())),
        landscape=info.landscape,
        levels=levels(info.landscape, info.optimum),
        minimizers=info.minimizers,
    )


def levels(landscape: Array | None, optimum: float | None) -> tuple[float, ...]:
    """Losses to draw contours at: 1 and 3 times powers of ten above the lowest."""
    if landscape is None or not np.isfinite(landscape).any():
        return ()
    finite = landscape[np.isfinite(landscape)]
    lowest = float(finite.min())
    base = optimum if optimum is not None and optimum <= lowest else lowest
    top = float(finite.max()) - base
    if not 0 < top < math.inf:
        return ()
    last = math.floor(math.log10(top))
    above = [m * 10.0**k for k in range(last - 5, last + 1) for m in (1, 3)]
    return tuple(base + v for v in above if 3e-4 * top < v < top and base + v > base)


def coordinates(world: _World, info: ObjectiveInfo) -> CurveFigure | None:
    """Both coordinates against the step."""
    cases = _with_paths(world, info)
    if not cases:
        return None
    shown = world.best(cases, CURVES)
    devices = devices_of(cases)
    panels = []
    for device in devices:
        group = [case for case in shown if case.device == device]
        for axis in (0, 1):
            minima = {point[axis] for point in info.minimizers if len(point) == 2}
            minimum = minima.pop() if len(minima) == 1 else None
            panels.append(_coordinate_panel(world, info, group, axis, minimum))
            if len(devices) > 1:
                panels[-1] = replace(panels[-1], title=device)
    text = "Each coordinate against the step." + _path_words(world, info, cases, shown)
    if any(panel.rule is not None for panel in panels):
        text += " Dashed: where the loss is lowest."
    several = len(devices) > 1
    return CurveFigure(
        name=f"coordinates_{safe_name(info.name)}",
        objective=info.name,
        title=f"Coordinates against step: {info.name}",
        caption=text,
        alt=f"x1 and x2 against step on {info.name}. "
        + _end_words(world, info, shown, several=several),
        panels=tuple(panels),
        columns=2,
    )


def _coordinate_panel(
    world: _World,
    info: ObjectiveInfo,
    cases: Sequence[CaseData],
    axis: int,
    minimum: float | None,
) -> CurvePanel:
    lines = []
    for case in cases:
        points = _points(case.trajectories)
        at = thinned(len(points), POINTS)
        line = Line(
            world.label(case),
            world.styles[case.position],
            at.astype(float),
            points[at, axis],
            _NONE,
            _NONE,
            lost=_is_lost(world, case),
            seed=min(case.trajectories),
            seconds=world.pace(case, at.astype(float), case.seeds == min(case.trajectories)),
        )
        lines.append(line)
    kept = [line.y for line in lines if not line.lost]
    if not kept:
        kept = [np.asarray(info.window[axis])] if info.window else [line.y for line in lines]
    low, high = scale(kept, [], linear=True)[1]
    limits = (low, high)
    if minimum is not None:
        margin = 0.04 * (high - low)
        limits = (min(low, minimum - margin), max(high, minimum + margin))
    return CurvePanel(
        title="",
        x_label="step",
        y_label=f"x{axis + 1}",
        log=False,
        limits=limits,
        lines=tuple(lines),
        rule=minimum,
        rule_label="minimum" if minimum is not None else "",
        steps_per_x=1,
        steps_per_epoch=info.steps_per_epoch,
    )


def step_sizes(world: _World, info: ObjectiveInfo) -> CurveFigure | None:
    """The step size that each coordinate has in effect, where the optimizer tells."""
    cases = [c for c in world.ran_on(info.name) if len(_points(c.step_sizes)) > 1]
    if not cases:
        return None
    shown = world.best(cases, CURVES)
    several = len(devices_of(cases)) > 1
    found = [(case, _step_size_lines(world, case)) for case in shown]
    found = [(case, lines) for case, lines in found if lines]
    if not found:
        return None
    log, limits = scale([line.y for _, lines in found for line in lines], [])
    panels = tuple(
        CurvePanel(
            title=named(case, several),
            x_label="step",
            y_label="effective step size",
            log=log,
            limits=limits,
            lines=lines,
            steps_per_x=1,
            steps_per_epoch=info.steps_per_epoch,
        )
        for case, lines in found
    )
    words = [_step_size_words(named(case, several), lines) for case, lines in found]
    return CurveFigure(
        name=f"step_sizes_{safe_name(info.name)}",
        objective=info.name,
        title=f"Effective step size of each coordinate: {info.name}",
        caption=(
            "Step size in effect, η / √(s + ε), of each coordinate, from the first step on; s is "
            "the sum of that coordinate's squared gradients so far."
            + (" The scale is logarithmic." if log else "")
            + _path_words(world, info, cases, shown)
        ),
        alt=f"Effective step sizes on {info.name}. " + " ".join(words),
        panels=panels,
        columns=min(3, len(panels)),
    )


def _step_size_lines(world: _World, case: CaseData) -> tuple[Line, ...]:
    sizes, style = _points(case.step_sizes), world.styles[case.position]
    # Before the first gradient s is 0, and the quotient is lr / sqrt(eps): nothing steps by it.
    at = thinned(len(sizes) - 1, POINTS) + 1
    return tuple(
        Line(
            f"x{axis + 1}",
            replace(style, dashes=DASHES[axis], filled=axis == 0, marker=MARKERS[axis], width=1.9),
            at.astype(float),
            sizes[at, axis],
            _NONE,
            _NONE,
            seconds=world.pace(case, at.astype(float), case.seeds == min(case.step_sizes)),
        )
        for axis in (0, 1)
        if len(at)
    )


def _step_size_words(name: str, lines: Sequence[Line]) -> str:
    parts = [
        f"{line.label} from {significant(float(line.y[0]), 3)} at step {line.x[0]:.0f} to "
        f"{significant(float(line.y[-1]), 3)} at step {line.x[-1]:.0f}"
        for line in lines
    ]
    rises = [line.label for line in lines if (np.diff(line.y) > 0).any()]
    end = f"{' and '.join(rises)} rises in between" if rises else "neither ever rises"
    return f"{name}: {', '.join(parts)}; {end}."


def _with_paths(world: _World, info: ObjectiveInfo) -> list[CaseData]:
    return [c for c in world.ran_on(info.name) if len(_points(c.trajectories))]


def _points(by_seed: Mapping[int, Array]) -> Array:
    """What the lowest seed has, up to the first point that isn't finite."""
    if not by_seed:
        return np.empty((0, 2))
    points = np.asarray(by_seed[min(by_seed)], dtype=float).reshape(-1, 2)
    return points[: _finite_length(points.sum(axis=1))]


def _is_lost(world: _World, case: CaseData) -> bool:
    return min(case.trajectories) not in world.outcomes[case.position].ok


def _path(world: _World, case: CaseData) -> Path:
    points = _points(case.trajectories)
    at = thinned(len(points), POINTS)
    return Path(
        label=world.label(case),
        style=world.styles[case.position],
        points=points[at],
        lost=_is_lost(world, case),
        steps=at,
        seed=min(case.trajectories),
    )


def _window(paths: Sequence[Path]) -> tuple[tuple[float, float], tuple[float, float]]:
    points = np.concatenate([path.points for path in paths])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum((high - low) * 0.1, 1e-3)
    low, high = low - margin, high + margin
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _plane_caption(
    world: _World, info: ObjectiveInfo, cases: Sequence[CaseData], shown: Sequence[CaseData]
) -> str:
    text = "Ring: start; large mark: end"
    text += "; star: where the loss is lowest." if info.minimizers else "."
    if info.landscape is not None:
        text += " Contours: loss, at 1 and 3 times powers of ten above the lowest."
    return text + _path_words(world, info, cases, shown)


def _path_words(
    world: _World, info: ObjectiveInfo, cases: Sequence[CaseData], shown: Sequence[CaseData]
) -> str:
    """Which seeds are drawn, which cases, which points."""
    seeds = sorted({min(case.trajectories) for case in shown})
    same = all(_all_alike(list(case.trajectories.values())) for case in shown)
    most = max(len(case.trajectories) for case in shown)
    if same and most > 1:
        text = f" Every one of the {most} seeds takes the same course."
    else:
        text = f" Drawn is seed {seeds[0]}" + (", the lowest." if most > 1 else ".")
        if len(seeds) > 1:
            text = " Drawn is each case's lowest seed."
    if any(_is_lost(world, case) for case in shown):
        text += (
            " Ending in a cross: a trial that did not end ok, as far as it got (a cross on the "
            "frame's edge: beyond it)."
        )
    if info.steps + 1 > POINTS:
        text += f" {POINTS} of the {info.steps + 1} points are drawn, evenly spaced."
    if len(shown) < len(cases):
        text += (
            f" Shown are {len(shown)} of {len(cases)} cases: of every optimizer the settings with "
            "the lowest mean final loss."
        )
    return text


def _all_alike(arrays: Sequence[Array]) -> bool:
    """Whether all have the same bits; as bytes, for there may be ten thousand seeds."""
    first = arrays[0].tobytes()
    return all(len(other) == len(arrays[0]) and other.tobytes() == first for other in arrays[1:])


def _plane_words(
    world: _World, info: ObjectiveInfo, cases: Sequence[CaseData], *, several: bool
) -> str:
    text = f"Trajectories on {info.name}"
    starts = {tuple(_points(case.trajectories)[0]) for case in cases}
    if len(starts) == 1:
        text += f" from {_point(starts.pop())}"
    if info.minimizers:
        text += f" toward the minimum at {_point(info.minimizers[0])}"
        if len(info.minimizers) > 1:
            text += f" or {len(info.minimizers) - 1} others"
    return f"{text}. " + _end_words(world, info, cases, several=several)


def _end_words(
    world: _World, info: ObjectiveInfo, cases: Sequence[CaseData], *, several: bool
) -> str:
    ended: list[str] = []
    lost: list[str] = []
    left: list[str] = []
    for case in cases:
        points = _points(case.trajectories)
        where = f"{named(case, several)} at {_point(points[-1])}"
        (lost if _is_lost(world, case) else ended).append(where)
        if info.window and any(
            (points[:, i] < info.window[i][0]).any() or (points[:, i] > info.window[i][1]).any()
            for i in (0, 1)
        ):
            left.append(named(case, several))
    parts = []
    if ended:
        parts.append(f"After {duration(info)}: {', '.join(ended)}.")
    if lost:
        parts.append(f"Lost on the way, last seen: {', '.join(lost)}.")
    if left:
        parts.append(f"Leaving the window on the way: {', '.join(left)}.")
    return " ".join(parts)


def _point(point: Iterable[float]) -> str:
    return f"({', '.join(significant(float(v), 3) for v in point)})"


def _epoch_seconds(timings: pd.DataFrame, position: int) -> Array:
    own = timings.loc[timings["position"] == position, "epoch_seconds"]
    seconds: Array = np.asarray(own, dtype=np.float64)
    return seconds[np.isfinite(seconds)]


def _seeds_ok(world: _World, cases: Sequence[CaseData]) -> str:
    counts = {len(world.outcomes[case.position].ok) for case in cases} - {0}
    totals = {world.outcomes[case.position].total for case in cases}
    if not counts:
        return "no seeds"
    most = max(counts)
    plural = "s" if most > 1 else ""
    if len(counts) == 1 and totals == counts:
        return f"{most} seed{plural}"
    return f"the seeds that ended ok (at most {most} of {max(totals)})"


def _including(limits: tuple[float, float], value: float) -> tuple[float, float] | None:
    """Wider limits that hold a value too; None where they would get so wide as to hide the rest."""
    low, high = limits
    span = high - low
    margin = 0.04 * span
    wide = min(low, value - margin), max(high, value + margin)
    return wide if wide[1] - wide[0] <= 5 * span else None


def _finite_length(values: Array) -> int:
    bad = np.flatnonzero(~np.isfinite(values))
    return int(bad[0]) if len(bad) else len(values)
