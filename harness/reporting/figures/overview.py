"""The figure record of losses and times at a glance, over all objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.formatting import listed
from harness.reporting import wording
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    FEW_OBJECTIVES,
    OPTIMIZERS,
    PLANES,
    DotFigure,
    DotPanel,
    DotRow,
    dot_figure,
    duration,
    joined,
)
from harness.reporting.figures.scales import Gap, row_scale
from harness.reporting.tables import trials as trial_tables
from harness.reporting.tables.trials import EpochSeconds
from harness.store.read import CaseData, ObjectiveInfo

CAPTION = (
    "Of each optimizer the tuned setting, else that with the fewest failures, then the lowest "
    "loss, picked on these same seeds; the best on top. Left: final loss with its 95% interval: "
    "where the optimum is known the median of the gap to it, else the mean. "
)
TIME_CAPTION = (
    "Right: time per epoch as a ratio to that of the reference, median over rounds with its 95% "
    "interval; the table has seconds. "
)
MARKS_CAPTION = (
    "Arrow at the edge: beyond the axis, an estimate with its value. No bar: the interval is "
    "narrower than the mark, seeds are too few for one, or all seeds give the same result."
)


ROOM = 14
"""Characters of a name that an axis has room for."""


def overview(context: FigureContext) -> DotFigure | None:
    """Final loss and time of every optimizer on every objective: of each its best setting."""
    timed = {one.case.position: one for one in trial_tables.timed(context.results)}
    losses: list[DotPanel] = []
    times: list[DotPanel] = []
    shown: list[ObjectiveInfo] = []
    objectives, optimizers = context.results.objectives, len(context.results.optimizers)
    most = optimizers if optimizers <= OPTIMIZERS else PLANES
    found = {name: context.contenders(name)[:most] for name in objectives}
    ran = {name: len({case.optimizer for case in context.ran_on(name)}) for name in objectives}
    ran = {name: count for name, count in ran.items() if count}
    several = len({case.device for cases in found.values() for case in cases}) > 1
    # Where one optimizer alone ran there is nothing to compare.
    fewest = min(2, max(ran.values(), default=0))
    for name, cases in found.items():
        ended = any(len(context.outcomes[case.position].losses) for case in cases)
        if ended and ran[name] >= fewest:
            info = context.results.objectives[name]
            shown.append(info)
            losses.append(_loss_panel(context, info, cases, several=several))
            times.append(_time_panel(context, cases, timed, several=several))
    if not losses:
        return None
    is_timed = any(np.isfinite(row.centre) for panel in times for row in panel.rows)
    panels = [panel for pair in zip(losses, times, strict=True) for panel in pair]
    panels, each = (panels, 2) if is_timed else (losses, 1)
    title = f"Final {wording.common(shown)}{' and time' * is_timed}, at a glance"
    caption = wording.reworded(CAPTION, shown) + TIME_CAPTION * is_timed + MARKS_CAPTION
    few = f"On each objective the best {most} of {optimizers} optimizers are shown."
    few = few if most < optimizers else ""
    note = joined([few, _not_run(ran, optimizers), _references(timed)])
    label = "estimate, 95% interval"
    figure = dot_figure("overview", None, title, caption, panels, "", label, note=note)
    return replace(figure, columns=each * (1 if len(losses) <= FEW_OBJECTIVES else 2))


def _loss_panel(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData], *, several: bool
) -> DotPanel:
    gap, rows = Gap.of(info), []
    for case in cases:
        ends = context.centre(case, median=gap.is_known)
        centre, low, high = gap.less(np.array(ends)).tolist()
        row = _row(context, case, several=several)
        rows.append(replace(row, centre=centre, low=low, high=high))
    log, limits = row_scale(rows, linear=gap.linear)
    return DotPanel(
        title=info.name,
        x_label=f"{'gap' if gap.base else info.words} after {duration(info)}{gap.mark}",
        log=log,
        limits=limits,
        rows=tuple(rows),
    )


def _row(context: FigureContext, case: CaseData, *, several: bool) -> DotRow:
    return DotRow(
        label=f"{case.optimizer} on {case.device}" if several else case.optimizer,
        note=context.outcomes[case.position].failures,
        style=context.styles[case.position],
    )


def _time_panel(
    context: FigureContext,
    cases: Sequence[CaseData],
    timed: Mapping[int, EpochSeconds],
    *,
    several: bool,
) -> DotPanel:
    rows = []
    for case in cases:
        row = replace(_row(context, case, several=several), empty="not timed")
        if known := timed.get(case.position):
            low, high = known.ratio_ends
            row = replace(row, centre=known.ratio, low=low, high=high)
        rows.append(row)
    log, limits = row_scale(rows, shown=1.0)
    return DotPanel(
        x_label=_ratio_label([timed[c.position] for c in cases if c.position in timed]),
        log=log,
        limits=limits,
        rows=tuple(rows),
        reference_line=1.0,
        reference_label="time of the reference",
        is_named=False,
    )


def _ratio_label(timed: Sequence[EpochSeconds]) -> str:
    """``time ratio (sgd = 1)``, where there is room for the name."""
    names = {one.reference.optimizer for one in timed}
    if len(names) == 1 and len(name := names.pop()) <= ROOM:
        return f"time ratio ({name} = 1)"
    return "time ratio"


def _not_run(ran: Mapping[str, int], optimizers: int) -> str:
    """``Optimizers that ran: 1 of 12 on bowl.``; empty where all ran on every objective.

    With a single one, an objective has no panel beside others that have several.
    """
    by_count: dict[int, list[str]] = {}
    for name, count in ran.items():
        if count < optimizers:
            by_count.setdefault(count, []).append(name)
    told = [f"{n} of {optimizers} on {listed(names)}" for n, names in sorted(by_count.items())]
    alone = by_count.get(1, []) if max(ran.values(), default=0) > 1 else []
    left_out = " (no panel, as there is nothing to compare)" if alone else ""
    told = [text + left_out * (i == 0) for i, text in enumerate(told)]
    return f"Optimizers that ran: {'; '.join(told)}." if told else ""


def _references(timed: Mapping[int, EpochSeconds]) -> str:
    """``Reference of times: sgd; torch_sgd on concise.``: that of most objectives comes first."""
    by_label: dict[str, list[str]] = {}
    for one in timed.values():
        places = by_label.setdefault(one.reference.optimizer, [])
        if one.case.objective not in places:
            places.append(one.case.objective)
    if not by_label:
        return ""
    first, *others = sorted(by_label, key=lambda label: -len(by_label[label]))
    told = [first, *(f"{label} on {listed(by_label[label])}" for label in others)]
    return f"Reference of times: {'; '.join(told)}."
