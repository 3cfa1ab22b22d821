"""Figure records of who does better: differences, profiles, sensitivity, published numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness import formatting
from harness.analysis import claims, profiles, retuning, sensitivity, targets
from harness.analysis.comparison import Compared, Pair
from harness.analysis.summary import Analysis
from harness.formatting import significant
from harness.plan.model import varied
from harness.reporting.figures.records import (
    CURVES,
    PLANES,
    ROWS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    HeatFigure,
    HeatPanel,
    Line,
    Style,
    dots,
    duration,
    offsets,
    safe_name,
    scale,
    styles,
    unique_name,
    wants_log,
)
from harness.spec import search_space
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData, ObjectiveInfo, Results

Array = NDArray[np.float64]
_NONE: Array = np.empty(0)

CLOSE = 1e-4
"""Spread of losses, relative to them, below which they are drawn less the lowest."""


def build(results: Results, analysis: Analysis, taken: Iterable[str] = ()) -> list[FigureRecord]:
    """Every figure of a comparison that the results allow.

    Args:
        results: What was run.
        analysis: What that comes to.
        taken: Names that figures have already.
    """
    looks = styles(results)
    reached = {(known.group.objective, known.group.device): known for known in analysis.reached}
    several = len({case.device for case in results.cases}) > 1
    records: list[FigureRecord] = []
    for info in results.objectives.values():
        for one in analysis.compared:
            if one.group.objective == info.name:
                where = f" ({one.group.device})" if several else ""
                known = reached.get((info.name, one.group.device))
                found = (
                    differences(one, info, looks, where),
                    runtimes(known, info, looks, where) if known else None,
                )
                records += (record for record in found if record is not None)
        for device in dict.fromkeys(case.device for case in results.cases_on(info.name)):
            where = f" ({device})" if several else ""
            own = [c for c in analysis.curves if (c.objective, c.device) == (info.name, device)]
            here = [
                c
                for c in analysis.claims
                if (c.case.objective, c.case.device) == (info.name, device)
            ]
            more = (
                sensitive(results, info, own, looks, where),
                heat(results, analysis.tuned, info, device, where),
                budgets(analysis.retuned, info, device, looks, where),
                published(info, here, looks, where),
            )
            records += (record for record in more if record is not None)
    for contest in analysis.pools:
        where = f" ({contest.device})" if several else ""
        over_all = (profile(contest, looks, where), runtimes_over_all(contest, looks, where))
        records += (record for record in over_all if record is not None)
    names = {name.lower() for name in taken}
    return [replace(record, name=unique_name(record.name, names)) for record in records]


def differences(
    one: Compared, info: ObjectiveInfo, looks: Mapping[int, Style], where: str
) -> DotFigure | None:
    """Every case less the best, seed by seed; None where there is no chance in that."""
    field, order = one.group, one.group.order()
    if not one.tested:
        return None
    best = order[0]
    name = field.cases[best].label
    rows: dict[bool, list[DotRow]] = {False: [], True: []}
    for i in order[1 : ROWS + 1]:
        pair = one.between(i, best)
        # The best ones alone are paired where there are many.
        if pair is not None and pair.is_tested:
            # Defaults may be far off: on one scale they would hide how the others differ.
            rows[field.cases[i].role == "defaults"].append(_difference(one, i, pair, looks))
    panels = [_difference_panel(group, info, name) for group in rows.values() if group]
    if not any(len(row.values) for group in rows.values() for row in group):
        return None
    words = []
    for i in order[1:10]:
        pair = one.between(i, best)
        if pair is not None and pair.is_tested:
            shift, _ = formatting.shift(pair.shift, pair.low, pair.high)
            words.append(f"{field.cases[i].label} {shift}, {pair.called}")
    return DotFigure(
        name=f"differences_{safe_name(info.name)}",
        objective=info.name,
        title=f"Difference from the best, on the same seeds: {info.name}{where}",
        caption=(
            f"Dot: one seed, the case's loss less that of {name} with the same start and batches; "
            "diamond and bar: Hodges-Lehmann shift with its 95% interval, failed trials being the "
            "worst; none where they decide it. Right of the dashed line "
            f"the loss is higher than that of {name}, which has the fewest trials that failed, "
            "then the lowest mean. The table says which differences hold for all pairs "
            "together." + _shown_of(1 + sum(map(len, rows.values())), len(field.cases))
        ),
        alt=f"Differences of the final loss on {info.name} from {name}, shift: {'; '.join(words)}.",
        panels=tuple(panels),
        dot_label="one seed",
        centre_label="shift, 95% interval",
    )


def _difference(one: Compared, index: int, pair: Pair, looks: Mapping[int, Style]) -> DotRow:
    """A row of a case's differences from another, ``pair`` as seen from the case."""
    field = one.group
    both = np.isfinite(field.losses[[pair.first, pair.second]]).all(axis=0)
    less = field.losses[pair.first, both] - field.losses[pair.second, both]
    ranks = np.argsort(less, kind="stable")
    values = dots(less[ranks])
    failed = field.failures[index]
    # An end that failures decide lies beyond any scale.
    bounded = math.isfinite(pair.low) and math.isfinite(pair.high)
    return DotRow(
        label=field.cases[index].label,
        note=f"{failed} of {pair.n} failed" if failed else "",
        style=looks[field.cases[index].position],
        values=values,
        offsets=offsets(len(values)),
        centre=pair.shift if math.isfinite(pair.shift) else math.nan,
        low=pair.low if bounded else math.nan,
        high=pair.high if bounded else math.nan,
        empty="no seed at which both ended ok",
        numbers=dots(field.seeds[both][ranks]),
    )


def _shown_of(shown: int, total: int, what: str = "cases") -> str:
    """How many are shown, where not all are."""
    return f" Shown are the best {shown} of {total} {what}." if shown < total else ""


def _difference_panel(rows: Sequence[DotRow], info: ObjectiveInfo, name: str) -> DotPanel:
    ends = [np.array([row.low, row.high]) for row in rows]
    _, limits = scale([row.values for row in rows], [*ends, np.zeros(1)], linear=True)
    return DotPanel(
        title="",
        x_label=f"difference of the loss after {duration(info)}",
        log=False,
        limits=limits,
        rows=tuple(rows),
        rule=0.0,
        rule_label=name,
    )


def runtimes(
    known: targets.Reached, info: ObjectiveInfo, looks: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """The share of targets that each case has reached, by steps and by seconds."""
    if not np.isfinite(known.steps).any():
        return None
    field = known.group
    shown = sorted(field.order()[:CURVES])
    cases = [field.cases[i] for i in shown]
    panels = []
    for label, costs in (("steps", known.steps), ("seconds", known.seconds)):
        if costs is None:
            continue
        x = targets.places(costs[:, shown])
        if len(x):
            bands = [
                replace(band, low=_NONE, high=_NONE) if known.copies[i] else band
                for i, band in zip(
                    shown,
                    profiles.runtime_bands(np.moveaxis(costs[:, shown], 1, 2), x),
                    strict=True,
                )
            ]
            named = [(case.label, looks[case.position]) for case in cases]
            panels.append(_share_panel(label, "share of targets reached", named, bands))
    if not panels:
        return None
    listed = ", ".join(target.label for target in known.targets)
    total = np.isfinite(known.steps[:, shown]).mean(axis=(0, 2))
    words = ", ".join(f"{case.label} {share:.0%}" for case, share in zip(cases, total, strict=True))
    text = (
        f"Share of {len(known.targets) * len(field.seeds):,} runs (every target at every "
        f"seed) that have reached their target by then; targets: {listed}. Band: 95%, for "
        "other seeds; none where all seeds take the same course. What a trial reached before it "
        "failed it has reached. Scale of x: logarithmic."
    )
    text += _shown_of(len(shown), len(field.cases))
    if len(panels) > 1:
        text += " Seconds: the timing pass's median time per evaluation of loss and gradients."
    return CurveFigure(
        name=f"runtime_{safe_name(info.name)}",
        objective=info.name,
        title=f"How soon targets are reached: {info.name}{where}",
        caption=text,
        alt=f"Targets reached on {info.name} in the end: {words}.",
        panels=tuple(panels),
        columns=len(panels),
    )


def profile(
    contest: targets.OptimizerPool, looks: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """Performance profiles over all objectives; None where nobody solves anything."""
    if not np.isfinite(contest.steps).any():
        return None
    named = _solvers(contest, looks)
    panels = []
    for label, costs in (("steps", contest.steps), ("seconds", contest.seconds)):
        if costs is None:
            continue
        ratios = profiles.performance_ratios(costs)
        finite = ratios[np.isfinite(ratios)]
        top = max(2.0, float(finite.max()) * 1.05 if len(finite) else 2.0)
        x = np.geomspace(1.0, top, targets.POINTS)
        panel = _share_panel(
            "",
            "share of problems solved",
            named,
            profiles.profile_bands(costs, x, families=contest.problem_families),
        )
        panels.append(replace(panel, x_label=f"{label}, as a multiple of the best's"))
    problems, seeds, _ = contest.steps.shape
    text = (
        f"Performance profile (Dolan and Moré) over {problems} problems, each a target of one of "
        f"{len(contest.objectives)} objectives, at {seeds} seeds: the share that an optimizer "
        "solves within so many times the cost of the best at the same problem and seed. Higher is "
        "better; at 1 stands how often it is the best, at the right end how often it solves a "
        "problem at all. Band: 95%, for other seeds and other objectives. Scale of x: logarithmic."
    )
    if contest.left_out:
        names = ", ".join(contest.left_out)
        text += f" Left out, for they did not run on all of these objectives: {names}."
    return CurveFigure(
        name="profile",
        objective=None,
        title=f"Performance profile{where}",
        caption=text,
        alt=f"Share of problems solved in the end: {_solved(contest)}.",
        panels=tuple(panels),
        columns=len(panels),
    )


def runtimes_over_all(
    contest: targets.OptimizerPool, looks: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """Runtime distributions over the targets of all objectives together; None likewise."""
    if not np.isfinite(contest.steps).any():
        return None
    named = _solvers(contest, looks)
    panels = [
        _share_panel(
            label,
            "share of targets reached",
            named,
            profiles.runtime_bands(costs, x, families=contest.problem_families),
        )
        for label, costs in (("steps", contest.steps), ("seconds", contest.seconds))
        if costs is not None and len(x := targets.places(costs))
    ]
    problems, seeds, _ = contest.steps.shape
    return CurveFigure(
        name="runtime",
        objective=None,
        title=f"How soon targets are reached, over all objectives{where}",
        caption=(
            f"Runtime distribution: the share of {problems * seeds:,} runs (each of {problems} "
            f"targets of {len(contest.objectives)} objectives at each of {seeds} seeds) that have "
            "reached their target by then. Band: 95%, for other seeds and other objectives. What a "
            "trial reached before it failed it has reached. Scale of x: logarithmic."
        ),
        alt=f"Share of targets reached in the end: {_solved(contest)}.",
        panels=tuple(panels),
        columns=len(panels),
    )


def _solvers(contest: targets.OptimizerPool, looks: Mapping[int, Style]) -> list[tuple[str, Style]]:
    """Every solver with its looks, which are those of its case on the first objective."""
    return [
        (solver, looks[cases[0].position])
        for solver, cases in zip(contest.solvers, contest.cases, strict=True)
    ]


def _solved(contest: targets.OptimizerPool) -> str:
    """The share of all problems that each solver solves, in words."""
    shares = np.isfinite(contest.steps).mean(axis=(0, 1))
    pairs = zip(contest.solvers, shares, strict=True)
    return ", ".join(f"{solver} {share:.0%}" for solver, share in pairs)


def _share_panel(
    x_label: str,
    y_label: str,
    named: Sequence[tuple[str, Style]],
    bands: Sequence[profiles.Band],
) -> CurvePanel:
    lines = []
    for (label, style), band in zip(named, bands, strict=True):
        wide = bool((band.high > band.low).any())
        edges = (band.low, band.high) if wide else (_NONE, _NONE)
        lines.append(Line(label, style, band.x, band.share, *edges))
    return CurvePanel(
        title="",
        x_label=x_label,
        y_label=y_label,
        log=False,
        limits=(-0.03, 1.03),
        lines=tuple(lines),
        x_log=True,
    )


def sensitive(
    results: Results,
    info: ObjectiveInfo,
    curves: Sequence[sensitivity.Curve],
    looks: Mapping[int, Style],
    where: str,
) -> CurveFigure | None:
    """Final loss against each hyperparameter, one panel per hyperparameter."""
    if not curves:
        return None
    groups: dict[tuple[str, str], list[sensitivity.Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.parameter, search_space.kind(curve.space)), []).append(curve)
    total = len(curves)
    curves = sorted(curves, key=lambda c: c.lowest.mean if c.lowest else math.inf)
    kept = {id(curve) for curve in curves[:CURVES]}
    groups = {key: [c for c in own if id(c) in kept] for key, own in groups.items()}
    groups = {key: own for key, own in groups.items() if own}
    curves = curves[:CURVES]
    base, y_label = _base(info, [p.mean for c in curves for p in c.points if p.ok])
    by_optimizer = {case.optimizer: case for case in reversed(results.cases_on(info.name))}
    panels = tuple(
        replace(_sensitivity_panel(group, base, by_optimizer, looks), y_label=y_label)
        for group in groups.values()
    )
    words = []
    for curve in curves:
        lowest, near = curve.lowest, curve.near()
        if lowest is not None:
            words.append(
                f"{curve.optimizer} is lowest, {significant(lowest.mean, 4)}, at "
                f"{curve.parameter} {significant(lowest.value, 3)} and near it in {near:.0%} of "
                "the range"
            )
        else:
            words.append(f"{curve.optimizer} has no {curve.parameter} at which all seeds end ok")
    return CurveFigure(
        name=f"sensitivity_{safe_name(info.name)}",
        objective=info.name,
        title=f"Sensitivity to hyperparameters: {info.name}{where}",
        caption=(
            "Line: mean final loss against one hyperparameter, the others held (at the best "
            "setting, where it was tuned); band: the middle 95% of the seeds. Cross on the "
            "upper edge: a value at which some seed did not end ok; the line stops there. The "
            "table has the share of each range in which the loss is near its lowest."
            + _shown_of(len(curves), total, "curves")
        ),
        alt=f"Sensitivity on {info.name}: {'; '.join(words)}.",
        panels=panels,
        columns=min(2, len(panels)),
    )


def _base(info: ObjectiveInfo, values: Sequence[float]) -> tuple[float, str]:
    """What is taken off losses before they are drawn, and what they are called then.

    The optimum, where all are above it; the lowest, where they are too close together for numbers
    on an axis; else nothing.
    """
    array = np.array(values)
    if not len(array):
        return 0.0, "final loss"
    low = float(array.min())
    if info.optimum is not None and low > info.optimum:
        return info.optimum, "loss − lowest possible loss"
    if 0 < np.ptp(array) < CLOSE * abs(low):
        return low, f"final loss − {low:.8g}"
    return 0.0, "final loss"


def _sensitivity_panel(
    curves: Sequence[sensitivity.Curve],
    base: float,
    cases: Mapping[str, CaseData],
    looks: Mapping[int, Style],
) -> CurvePanel:
    kept = [point for curve in curves for point in curve.points if point.ok]
    centres = np.array([point.mean - base for point in kept])
    edges = [np.array([p.low - base, p.high - base]) for p in kept]
    log, limits = scale([centres], edges)
    lines: list[Line] = []
    for curve in curves:
        style = looks[cases[curve.optimizer].position]
        lines += _pieces(curve, base, style)
        bad = [_x(curve.space, value) for value in curve.diverging()]
        top = np.array([limits[1] * 10 if limits[1] > 0 else 1.0])
        lines += (Line("", style, np.array([x]), top, _NONE, _NONE, lost=True) for x in bad)
    one_minus = curves[0].space.one_minus_log_uniform is not None
    parameter = curves[0].parameter
    return CurvePanel(
        title="",
        x_label=f"1 − {parameter}" if one_minus else parameter,
        y_label="",
        log=log,
        limits=limits,
        lines=tuple(lines),
        x_log=one_minus or curves[0].log,
    )


def _pieces(curve: sensitivity.Curve, base: float, style: Style) -> Iterator[Line]:
    """A curve as lines without gaps: where a seed did not end ok, one ends."""
    label = curve.optimizer
    piece: list[sensitivity.Point] = []
    for point in (*curve.points, None):
        if point is not None and point.ok:
            piece.append(point)
            continue
        if piece:
            x = np.array([_x(curve.space, p.value) for p in piece])
            y, low, high = (
                np.array([getattr(p, name) - base for p in piece])
                for name in ("mean", "low", "high")
            )
            banded = bool((high > low).any())
            order = np.argsort(x)
            bands = (low[order], high[order]) if banded else (_NONE, _NONE)
            yield Line(label, style, x[order], y[order], *bands)
            label = ""
        piece = []
    if label:
        yield Line(label, style, _NONE, _NONE, _NONE, _NONE)


def _x(space: SpaceSpec, value: float) -> float:
    return 1 - value if space.one_minus_log_uniform is not None else value


def heat(
    results: Results,
    tuned: Sequence[sensitivity.Tuned],
    info: ObjectiveInfo,
    device: str,
    where: str,
) -> HeatFigure | None:
    """Final loss in the plane of two hyperparameters, a panel per optimizer that has two."""
    found = [
        *_searched_planes(tuned, info.name, device),
        *_grid_planes(results, info.name, device),
    ]
    if not found:
        return None
    shown = found[:PLANES]
    values = np.concatenate([panel.values for panel in shown])
    base, value_label = _base(info, values[np.isfinite(values)].tolist())
    panels = tuple(replace(panel, values=panel.values - base) for panel in shown)
    values = values[np.isfinite(values)] - base
    if not len(values):
        return None
    log = wants_log(values)
    limits = (float(values.min()), float(values.max()))
    if log:
        limits = (max(float(values[values > 0].min()), limits[1] * 1e-12), limits[1])
    elif limits[0] == limits[1]:
        limits = (
            limits[0] - (abs(limits[0]) / 10 or 1.0),
            limits[1] + (abs(limits[1]) / 10 or 1.0),
        )
    words = [
        f"{panel.title} is lowest at {panel.x_label} {significant(float(panel.x[panel.best]), 3)}, "
        f"{panel.y_label} {significant(float(panel.y[panel.best]), 3)}"
        for panel in panels
        if panel.best is not None
    ]
    return HeatFigure(
        name=f"heat_{safe_name(info.name)}",
        objective=info.name,
        title=f"Loss in the plane of two hyperparameters: {info.name}{where}",
        caption=(
            "Dot: one setting, in the colour of its mean final loss over the seeds; the plane has "
            "the colour of the setting that is nearest. Ring: the lowest. Cross, and grey: some "
            "seed did not end ok. Where more than two hyperparameters were searched, the others "
            "vary from dot to dot." + _shown_of(len(shown), len(found), "optimizers")
        ),
        alt=f"Loss by two hyperparameters on {info.name}: {'; '.join(words)}.",
        panels=panels,
        columns=min(2, len(panels)),
        value_label=value_label,
        log=log,
        limits=limits,
    )


def budgets(
    retuned: Sequence[retuning.Retuned],
    info: ObjectiveInfo,
    device: str,
    looks: Mapping[int, Style],
    where: str,
) -> CurveFigure | None:
    """The loss that tuning finds against the number of settings that it may try."""
    found: list[tuple[retuning.Retuned, Array, Array, Array]] = [
        (one, one.quantile(0.5), one.quantile(0.025), one.quantile(0.975))
        for one in retuned
        if (one.case.objective, one.case.device) == (info.name, device)
    ]
    # A number of settings of which most tunings end in failures has no point.
    found = [own for own in found if np.isfinite(own[1]).any()]
    if not found:
        return None
    base, y_label = _base(info, [v for own in found for v in own[1] if math.isfinite(v)])
    middles = [middle[np.isfinite(middle)] - base for _, middle, _, _ in found]
    edges = [end[np.isfinite(end)] - base for _, *ends in found for end in ends]
    log, limits = scale(middles, [edge for edge in edges if len(edge)])
    lines, words = [], []
    for one, middle, low, high in found[:CURVES]:
        kept = np.isfinite(middle)
        # What failures push out of sight goes through the upper edge.
        beyond = limits[1] * 10 if limits[1] > 0 else 1.0
        top = np.where(np.isfinite(high), high - base, beyond)[kept]
        x = one.budgets[kept].astype(float)
        style = looks[one.case.position]
        lines.append(Line(one.case.optimizer, style, x, middle[kept] - base, low[kept] - base, top))
        words.append(f"{one.case.optimizer} {significant(float(middle[-1]), 4)}")
    return CurveFigure(
        name=f"budget_{safe_name(info.name)}",
        objective=info.name,
        title=f"Performance against budget: {info.name}{where}",
        caption=(
            "Line: median, over tunings on resampled settings and seeds, of the final loss that "
            "tuning finds with so many settings; band: the middle 95% of tunings. A setting is "
            "chosen by the seeds that are drawn and judged by the others. A band that leaves "
            "through the upper edge goes on to trials that did not end ok. Scale of x: logarithmic."
            + _shown_of(len(lines), len(found), "optimizers")
        ),
        alt=f"Loss that tuning finds on {info.name} with all settings: {', '.join(words)}.",
        panels=(
            CurvePanel(
                title="",
                x_label="settings tried",
                y_label=y_label,
                log=log,
                limits=limits,
                lines=tuple(lines),
                x_log=True,
            ),
        ),
        columns=1,
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
        yield _plane(case.optimizer, names[:2], kinds, settings)


def _grid_planes(results: Results, objective: str, device: str) -> Iterator[HeatPanel]:
    trials = results.trials_by_position
    for optimizer in results.optimizers:
        cases = [
            case
            for case in results.cases_on(objective)
            if (case.optimizer, case.device, case.role) == (optimizer, device, "given")
            and case.position in trials
        ]
        names = varied(case.hyperparameters for case in cases)
        values = [case.hyperparameters.get(name) for case in cases for name in names]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if len(names) != 2 or not numbers or len(cases) < 4:
            continue
        settings = []
        for case in cases:
            own = trials[case.position]
            if not (own["status"] == "unavailable").any():
                losses = own["final_loss"].where(own["status"] == "ok").to_numpy(dtype=float)
                settings.append((case.hyperparameters, losses))
        if len(settings) == len(cases):
            kinds = []
            for name in names:
                own_values = [case.hyperparameters[name] for case in cases]
                log = min(own_values) > 0 and max(own_values) / min(own_values) >= 10
                kinds.append("log_uniform" if log else "uniform")
            yield _plane(optimizer, names, kinds, settings)


def _plane(
    optimizer: str,
    names: Sequence[str],
    kinds: Sequence[str],
    settings: Sequence[tuple[Mapping[str, float], Array]],
) -> HeatPanel:
    axes, labels = [], []
    for name, kind in zip(names, kinds, strict=True):
        values = np.array([float(setting[name]) for setting, _ in settings])
        one_minus = kind == "one_minus_log_uniform"
        axes.append(1 - values if one_minus else values)
        labels.append(f"1 − {name}" if one_minus else name)
    means = np.array(
        [
            losses.mean() if len(losses) and np.isfinite(losses).all() else math.nan
            for _, losses in settings
        ]
    )
    return HeatPanel(
        title=optimizer,
        x_label=labels[0],
        y_label=labels[1],
        x_log=kinds[0] in sensitivity.SCALES,
        y_log=kinds[1] in sensitivity.SCALES,
        x=axes[0],
        y=axes[1],
        values=means,
        best=int(np.nanargmin(means)) if np.isfinite(means).any() else None,
        optimizer=optimizer,
    )


def published(
    info: ObjectiveInfo,
    checked: Sequence[claims.Checked],
    looks: Mapping[int, Style],
    where: str,
) -> DotFigure | None:
    """Published losses among those of our seeds."""
    drawn = [c for c in checked if c.claim.quantity == "final_loss" and c.kind != "fixed"]
    drawn = [c for c in drawn if len(c.values)]
    total, drawn = len(drawn), drawn[:ROWS]
    if not drawn:
        return None
    rows = []
    for found in drawn:
        values = dots(found.values)
        rows.append(
            DotRow(
                label=found.case.label,
                note=f"{found.claim.value}: {found.verdict}",
                style=looks[found.case.position],
                values=values,
                offsets=offsets(len(values)),
                centre=float(np.median(found.values)),
                low=float(np.quantile(found.values, 0.025)),
                high=float(np.quantile(found.values, 0.975)),
                published=found.value,
            )
        )
    stars = np.array([row.published for row in rows])
    edges = [np.array([row.low, row.high]) for row in rows]
    inner = [*(row.values for row in rows), stars]
    log, limits = scale(inner, edges, linear=bool((stars <= 0).any()))
    panel = DotPanel(
        title="",
        x_label=f"loss after {duration(info)}",
        log=log,
        limits=limits,
        rows=tuple(rows),
    )
    words = [
        f"{c.case.label} {c.claim.value} ({c.claim.source}): {c.verdict}, {c.why}" for c in drawn
    ]
    return DotFigure(
        name=f"published_{safe_name(info.name)}",
        objective=info.name,
        title=f"Published numbers among our seeds: {info.name}{where}",
        caption=(
            "Star: as published. Dot: one seed of ours, at most 120 of them, evenly spaced by "
            "rank; diamond and bar: their median and the middle 95% of them. Dots are spread up "
            "and down only to be told apart. What a star outside the dots means, the table says."
            + (f" Shown are {len(drawn)} of {total} numbers." if len(drawn) < total else "")
        ),
        alt=f"Published losses on {info.name}. {'; '.join(words)}.",
        panels=(panel,),
        dot_label="one seed",
        centre_label="median, middle 95% of seeds",
    )
