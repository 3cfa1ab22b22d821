"""Figure records of hyperparameters: loss against one, in the plane of two, and of tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import retuning, sensitivity
from harness.analysis.summary import Analysis
from harness.measures import TRAIN_LOSS, Measure
from harness.plan.model import varied
from harness.reporting import wording
from harness.reporting.figures.records import (
    CURVES,
    NO_VALUES,
    PLANES,
    CurveFigure,
    CurvePanel,
    FigureRecord,
    HeatFigure,
    HeatPanel,
    Line,
    alternative,
    curve_figure,
    named_after,
    scale,
    shown_of,
    wants_log,
)
from harness.reporting.figures.scales import Gap
from harness.reporting.figures.styles import Style
from harness.spec import search_space
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData, ObjectiveInfo, Results

Array = NDArray[np.float64]

CLOSE = 1e-4
"""Spread of losses, relative to them, below which they are drawn less the lowest."""

SENSITIVITY_CAPTION = (
    "Line: mean final loss (of the gap to the optimum, where that is known, the median) against "
    "one hyperparameter, the others held (at the best setting, where it was tuned); band: the "
    "middle 95% of the seeds. Cross on the upper edge: a value at "
    "which some seed failed; the line stops there. The table has the share of each range "
    "in which the loss is near its lowest. Of many curves those with the lowest loss are shown."
)
HEAT_CAPTION = (
    "Dot: one setting, in the colour of its mean final loss over the seeds; the plane has the "
    "colour of the setting that is nearest. Ring: the lowest. Cross, and grey: some seed did not "
    "end ok. Where more than two hyperparameters were searched, the others vary from dot to dot. "
    "At most 12 optimizers are shown."
)
BUDGET_CAPTION = (
    "What tuning finds with so many settings. Left: the lowest mean loss over the tuning seeds "
    "among them; line: the median over all orders of the settings tried, band: the middle half, "
    "both exact. It is lower than what to expect of that setting, which is on the right: tuning "
    "done again on resampled settings and seeds, a setting chosen by the seeds that are drawn and "
    "judged by the others; line: median, band: the middle half of tunings. A band that leaves "
    "through the upper edge goes on to trials that failed; a triangle on an edge: the "
    "line goes on beyond the axis. Scale of x: logarithmic. At most 12 optimizers are shown."
)


def build(
    results: Results,
    analysis: Analysis,
    info: ObjectiveInfo,
    device: str,
    known: Mapping[int, Style],
    where: str,
) -> list[FigureRecord | None]:
    """The figures of an objective on a device; None for one that the results don't allow."""
    curves = [c for c in analysis.curves if (c.objective, c.device) == (info.name, device)]
    retuned = [
        one
        for one in analysis.retuned
        if (one.case.objective, one.case.device) == (info.name, device)
    ]
    so_far = [
        one
        for one in analysis.best_so_far
        if (one.case.objective, one.case.device) == (info.name, device)
    ]
    planes = [
        *_searched_planes(analysis.tuned, info.name, device),
        *_grid_planes(results, info.name, device),
    ]
    return [
        sensitive(results, info, curves, known, where),
        *(
            heat(info, [plane for plane in planes if plane.measure == measure], where)
            for measure in dict.fromkeys(plane.measure for plane in planes)
        ),
        budgets(so_far, retuned, info, known, where),
    ]


# Loss against one hyperparameter


def sensitive(
    results: Results,
    info: ObjectiveInfo,
    curves: Sequence[sensitivity.Curve],
    known: Mapping[int, Style],
    where: str,
) -> CurveFigure | None:
    """Final loss against each hyperparameter, one panel per hyperparameter."""
    if not curves:
        return None
    best = sorted(curves, key=_best_cost)[:CURVES]
    by_optimizer = {case.optimizer: case for case in reversed(results.cases_on(info.name))}
    own = {name: known[case.position] for name, case in by_optimizer.items()}
    panels = []
    for measure in dict.fromkeys(curve.measure for curve in best):
        # What tuning goes by need not be what is reported.
        alike = [curve for curve in best if curve.measure == measure]
        base, y_label = _base(info, [p.mean for c in alike for p in c.points if p.ok], measure)
        if base == info.optimum:
            # On a scale of logarithms a mean would be that of the worst seed.
            alike = [_of_medians(curve) for curve in alike]
        groups: dict[tuple[str, str], list[sensitivity.Curve]] = {}
        for curve in alike:
            kind = search_space.kind(curve.space)
            groups.setdefault((curve.parameter, kind), []).append(curve)
        panels += [_sensitivity_panel(group, base, y_label, own) for group in groups.values()]
    caption = _reworded(SENSITIVITY_CAPTION, info, [curve.measure for curve in best])
    about = ("sensitivity", info.name, "Sensitivity to hyperparameters", caption)
    note = shown_of(len(best), len(curves), "curves")
    return curve_figure(*about, panels, min(2, len(panels)), where, note)


def _reworded(caption: str, info: ObjectiveInfo, measures: Sequence[Measure]) -> str:
    """A caption on losses, as one on what is shown."""
    names = list(dict.fromkeys(info.name_of(measure) for measure in measures))
    if names == [wording.LOSS]:
        return caption
    name = names[0] if len(names) == 1 else wording.ANY
    higher = {measure.higher for measure in measures}
    best = wording.extreme(measures[0]) if len(higher) == 1 else "best"
    text = caption.replace("the loss is near its lowest", f"the {name} is near its {best}")
    text = text.replace("lowest loss", f"{best} {name}").replace("final loss", f"final {name}")
    text = text.replace("lowest mean loss", f"{best} mean {name}")
    text = text.replace("Ring: the lowest", f"Ring: the {best}")
    if higher == {True}:
        text = text.replace("upper edge", "lower edge").replace(
            "It is lower than", "It is higher than"
        )
    return text if len(higher) == 1 else text.replace("upper edge", "edge of what is worse")


def _best_cost(curve: sensitivity.Curve) -> float:
    """The cost of a curve's best point; infinite where it has none."""
    best = curve.best_point
    return math.inf if best is None else curve.measure.sign * best.mean


def _of_medians(curve: sensitivity.Curve) -> sensitivity.Curve:
    points = (replace(point, mean=point.median) for point in curve.points)
    return replace(curve, points=tuple(points))


def _base(info: ObjectiveInfo, values: Sequence[float], measure: Measure) -> tuple[float, str]:
    """The number that is taken off values before they are drawn, and the name of the rest.

    The optimum, where all are above it; the lowest, where they are too close together for numbers
    on an axis; else nothing.
    """
    array, name = np.array(values), f"final {info.name_of(measure)}"
    if not len(array):
        return 0.0, name
    low = float(array.min())
    if info.optimum is not None and measure == TRAIN_LOSS and low > info.optimum:
        return info.optimum, Gap.of(info).short
    if 0 < np.ptp(array) < CLOSE * abs(low):
        return low, f"{name} − {low:.8g}"
    return 0.0, name + wording.mark(info, measure)


def _sensitivity_panel(
    curves: Sequence[sensitivity.Curve], base: float, y_label: str, known: Mapping[str, Style]
) -> CurvePanel:
    kept = [point for curve in curves for point in curve.points if point.ok]
    centres = np.array([point.mean - base for point in kept])
    edges = [np.array([point.low - base, point.high - base]) for point in kept]
    log, limits = scale([centres], edges, linear=curves[0].measure.higher)
    beyond = np.array([_beyond(limits, curves[0].measure)])
    lines: list[Line] = []
    for curve in curves:
        style = known[curve.optimizer]
        lines += _pieces(curve, base, style)
        lines += (
            Line("", style, np.array([_x(curve.space, value)]), beyond, failed=True)
            for value in curve.diverging()
        )
    space, parameter = curves[0].space, curves[0].parameter
    one_minus = space.one_minus_log_uniform is not None
    return CurvePanel(
        x_label=f"1 − {parameter}" if one_minus else parameter,
        y_label=y_label,
        log=log,
        limits=limits,
        lines=tuple(lines),
        x_log=one_minus or curves[0].log,
    )


def _beyond(limits: tuple[float, float], measure: Measure) -> float:
    """A value that leaves through the edge where values are worse: the upper one of a loss."""
    if measure.higher:
        return limits[0] / 10 if limits[0] > 0 else limits[0] - 10 * (limits[1] - limits[0])
    return limits[1] * 10 if limits[1] > 0 else 1.0


def _pieces(curve: sensitivity.Curve, base: float, style: Style) -> Iterator[Line]:
    """A curve as lines without gaps: where a seed failed, one ends."""
    pieces: list[list[sensitivity.Point]] = [[]]
    for point in curve.points:
        if point.ok:
            pieces[-1].append(point)
        else:
            pieces.append([])
    pieces = [piece for piece in pieces if piece]
    if not pieces:
        yield Line(curve.optimizer, style, NO_VALUES, NO_VALUES)
    for i, piece in enumerate(pieces):
        x = np.array([_x(curve.space, point.value) for point in piece])
        ends = np.array([(point.mean, point.low, point.high) for point in piece]) - base
        order = np.argsort(x)
        y, low, high = ends[order].T
        band = (low, high) if (high > low).any() else (NO_VALUES, NO_VALUES)
        yield Line(curve.optimizer if i == 0 else "", style, x[order], y, *band)


def _x(space: SpaceSpec, value: float) -> float:
    return 1 - value if space.one_minus_log_uniform is not None else value


# Tuning


def budgets(
    so_far: Sequence[retuning.BestSoFar],
    retuned: Sequence[retuning.Retuned],
    info: ObjectiveInfo,
    known: Mapping[int, Style],
    where: str,
) -> CurveFigure | None:
    """The best loss so far of tuning, and what it is worth, against the settings tried."""
    panels = [
        panel
        for title, several in (
            ("best so far, on the tuning seeds", so_far),
            ("that setting, on other seeds", retuned),
        )
        if (panel := _budget_panel(title, several, info, known)) is not None
    ]
    if not panels:
        return None
    measures = [one.measure for one in (*so_far, *retuned)]
    caption = _reworded(BUDGET_CAPTION, info, measures)
    about = ("budget", info.name, "Best of tuning against settings tried", caption)
    note = shown_of(min(CURVES, len(so_far)), len(so_far), "optimizers")
    return curve_figure(*about, panels, len(panels), where, note)


def _budget_panel(
    title: str,
    several: Sequence[retuning.BestSoFar] | Sequence[retuning.Retuned],
    info: ObjectiveInfo,
    known: Mapping[int, Style],
) -> CurvePanel | None:
    found = [
        (one, *one.band(0.25))
        for one in several[:CURVES]
        # A number of settings of which most tunings end in failures has no point.
        if np.isfinite(one.quantile(0.5)).any()
    ]
    if not found:
        return None
    measure = found[0][0].measure
    known_values = [v for _, middle, *_ in found for v in middle if math.isfinite(v)]
    base, y_label = _base(info, known_values, measure)
    middles = [middle[np.isfinite(middle)] - base for _, middle, _, _ in found]
    edges = [end[np.isfinite(end)] - base for _, _, *ends in found for end in ends]
    log, limits = scale(middles, edges, linear=measure.higher)
    lines = []
    for one, middle, low, high in found:
        kept = np.isfinite(middle)
        # A band of which failures are an end goes through the edge.
        beyond = _beyond(limits, measure)
        bottom, top = (np.where(np.isfinite(end), end - base, beyond)[kept] for end in (low, high))
        x = one.budgets[kept].astype(float)
        style = known[one.case.position]
        lines.append(Line(one.case.optimizer, style, x, middle[kept] - base, bottom, top))
    return CurvePanel(
        title=title,
        x_label="settings tried",
        y_label=y_label,
        log=log,
        limits=limits,
        lines=tuple(lines),
        x_log=True,
    )


# Loss in the plane of two hyperparameters


def heat(info: ObjectiveInfo, planes: Sequence[HeatPanel], where: str) -> HeatFigure | None:
    """Final loss in the plane of two hyperparameters, a panel per optimizer that has two."""
    shown = planes[:PLANES]
    values = np.concatenate([NO_VALUES, *(panel.values for panel in shown)])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    base, value_label = _base(info, values.tolist(), planes[0].measure)
    values = values - base
    low, high = float(values.min()), float(values.max())
    log = wants_log(values) and not planes[0].measure.higher
    if log:
        low = max(float(values[values > 0].min()), high * 1e-12)
    elif low == high:
        low, high = low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0)
    title = f"Loss in the plane of two hyperparameters: {info.name}{where}"
    return HeatFigure(
        name=named_after("heat", info.name),
        objective=info.name,
        title=title,
        caption=HEAT_CAPTION,
        alt=alternative(title, [f"{p.x_label} and {p.y_label} of {p.title}" for p in shown]),
        panels=tuple(replace(panel, values=panel.values - base) for panel in shown),
        columns=min(2, len(shown)),
        value_label=value_label,
        log=log,
        limits=(low, high),
        note=shown_of(len(shown), len(planes), "optimizers"),
    )


def _searched_planes(
    tuned: Sequence[sensitivity.Tuned], objective: str, device: str
) -> Iterator[HeatPanel]:
    for found in tuned:
        case = found.case
        names = [name for name, space in found.spaces.items() if search_space.is_range(space)]
        if (case.objective, case.device) != (objective, device) or len(names) < 2:
            continue
        settings = [(tried.hyperparameters, tried.losses) for tried in found.settings]
        kinds = [search_space.kind(found.spaces[name]) for name in names[:2]]
        yield _plane(case.optimizer, names[:2], kinds, settings, found.measure)


def _grid_planes(results: Results, objective: str, device: str) -> Iterator[HeatPanel]:
    """The settings of every optimizer of which two numbers are varied, at least four of them."""
    trials = results.trials_by_position
    for optimizer in results.optimizers:
        cases = [
            case
            for case in results.cases_on(objective)
            if (case.optimizer, case.device, case.role) == (optimizer, device, "given")
            and case.position in trials
        ]
        names = varied(case.hyperparameters for case in cases)
        own = [trials[case.position] for case in cases]
        if len(names) != 2 or len(cases) < 4 or not _are_numbers(cases, names):
            continue
        if any((one["status"] == "unavailable").any() for one in own):
            continue
        losses = [one["final_loss"].where(one["status"] == "ok").to_numpy(float) for one in own]
        settings = [(case.hyperparameters, ends) for case, ends in zip(cases, losses, strict=True)]
        kinds = []
        for name in names:
            values = [case.hyperparameters[name] for case in cases]
            log = min(values) > 0 and max(values) / min(values) >= 10
            kinds.append("log_uniform" if log else "uniform")
        yield _plane(optimizer, names, kinds, settings, results.objectives[objective].measure)


def _are_numbers(cases: Sequence[CaseData], names: Sequence[str]) -> bool:
    values = [case.hyperparameters.get(name) for case in cases for name in names]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _plane(
    optimizer: str,
    names: Sequence[str],
    kinds: Sequence[str],
    settings: Sequence[tuple[Mapping[str, float], Array]],
    measure: Measure,
) -> HeatPanel:
    axes, labels = [], []
    for name, kind in zip(names, kinds, strict=True):
        values = np.array([float(setting[name]) for setting, _ in settings])
        one_minus = kind == "one_minus_log_uniform"
        axes.append(1 - values if one_minus else values)
        labels.append(f"1 − {name}" if one_minus else name)
    # Of no seeds, and where some seed failed, there is no mean.
    means = np.array([losses.mean() if len(losses) else math.nan for _, losses in settings])
    means[~np.isfinite(means)] = math.nan
    return HeatPanel(
        title=optimizer,
        x_label=labels[0],
        y_label=labels[1],
        x_log=kinds[0] in sensitivity.SCALES,
        y_log=kinds[1] in sensitivity.SCALES,
        x=axes[0],
        y=axes[1],
        values=means,
        best=int(np.nanargmin(measure.sign * means)) if np.isfinite(means).any() else None,
        optimizer=optimizer,
        measure=measure,
    )
