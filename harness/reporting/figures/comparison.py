"""Figure records of who does better: differences, running times, profiles, published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import claims, profiles, targets
from harness.analysis.comparison import Compared, Pair
from harness.analysis.summary import Analysis
from harness.errors import join
from harness.reporting import wording
from harness.reporting.figures import hyperparameters
from harness.reporting.figures.objective_ranks import mean_ranks
from harness.reporting.figures.records import (
    CURVES,
    LEGEND,
    NO_VALUES,
    OPTIMIZERS,
    ROWS,
    SHARE_POINTS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    Line,
    curve_figure,
    dot_figure,
    duration,
    joined,
    scale,
    shown_of,
    thinned,
    unique_name,
    with_dots,
)
from harness.reporting.figures.scales import bounded, row_scale
from harness.reporting.figures.styles import Style, styles
from harness.store.read import ObjectiveInfo, Results

Array = NDArray[np.float64]

DIFFERENCE_CAPTION = (
    "Dot: one seed, the case's loss less that of the best case with the same start and batches; "
    "diamond and bar: Hodges-Lehmann shift with its 95% interval, failed trials being the worst. "
    "Arrow at the edge: beyond the axis, a shift with its value, which is infinite where failures "
    "decide it. Right of the dashed line the loss is higher than that of the best case, which has "
    "the fewest failures, then the lowest loss. The table says which differences hold for all "
    "pairs together. Of many cases the best are shown."
)
RUNTIME_CAPTION = (
    "Share of all runs (every target at every seed) that have reached their target by then. Band: "
    "95%, for other seeds; none where all seeds take the same course. What a trial reached before "
    "it failed it has reached. Scale of x: logarithmic; seconds are the timing pass's median time "
    "per evaluation of loss and gradients. Of many cases the best are shown, and of what was tuned "
    "not the defaults."
)
PROFILE_CAPTION = (
    "Performance profile (Dolan and Moré) over problems, each a target of an objective, at every "
    "seed: the share that an optimizer solves within so many times the cost of the best at the "
    "same problem and seed. Higher is better; at 1 stands how often it is the best, at the right "
    "end how often it solves a problem at all. Band: 95%, for other seeds and other objectives. "
    "Scale of x: logarithmic."
)
OVERALL_RUNTIME_CAPTION = (
    "Runtime distribution: the share of all runs (each target of each objective at each seed) "
    "that have reached their target by then. Band: 95%, for other seeds and other objectives. "
    "What a trial reached before it failed it has reached. Scale of x: logarithmic."
)
PUBLISHED_CAPTION = (
    "Star: as published. Dot: one seed of ours, at most 120 of them, evenly spaced by rank; "
    "diamond and bar: their median and the middle 95% of them. The vertical spread has no "
    "meaning. The table has the verdict on each star."
)

NO_SECONDS = "Without seconds, which are not known for some case."


def build(results: Results, analysis: Analysis, taken: Iterable[str] = ()) -> list[FigureRecord]:
    """Every figure of a comparison that the results allow.

    Args:
        results: What was run.
        analysis: What that comes to.
        taken: Names that figures have already.
    """
    known = styles(results)
    reached = {(one.group.objective, one.group.device): one for one in analysis.reached}
    several = len({case.device for case in results.cases}) > 1
    found: list[FigureRecord | None] = []
    for info in results.objectives.values():
        for one in analysis.compared:
            if one.group.objective == info.name:
                where = f" ({one.group.device})" if several else ""
                found.append(differences(one, info, known, where))
                if costs := reached.get((info.name, one.group.device)):
                    found.append(runtimes(costs, info, known, where))
        for device in dict.fromkeys(case.device for case in results.cases_on(info.name)):
            where = f" ({device})" if several else ""
            found += hyperparameters.build(results, analysis, info, device, known, where)
            claimed = [
                checked
                for checked in analysis.claims
                if (checked.case.objective, checked.case.device) == (info.name, device)
            ]
            of = dict.fromkeys(checked.measure for checked in claimed)
            for measure in filter(None, of):
                own = [checked for checked in claimed if checked.measure == measure]
                found.append(published(info, own, known, where))
    for ranked in analysis.ranked:
        found.append(mean_ranks(ranked, known, f" ({ranked.device})" if several else ""))
    for pool in analysis.pools:
        where = f" ({pool.device})" if several else ""
        found += [profile(pool, known, where), runtimes_over_all(pool, known, where)]
    names = {name.lower() for name in taken}
    return [replace(r, name=unique_name(r.name, names)) for r in found if r is not None]


# Differences


def differences(
    one: Compared, info: ObjectiveInfo, known: Mapping[int, Style], where: str
) -> DotFigure | None:
    """Every case less the best, seed by seed; None where there is no chance in that."""
    if not one.tested:
        return None
    group, (best, *others) = one.group, one.group.order()
    name = group.cases[best].label
    rows: dict[bool, list[DotRow]] = {False: [], True: []}
    for i in others[:ROWS]:
        pair = one.between(i, best)
        # The best ones alone are paired where there are many.
        if pair is not None and pair.is_tested:
            # Defaults may be far off: on one scale they would hide how the others differ.
            rows[group.cases[i].role == "defaults"].append(_difference(one, i, pair, known))
    if not any(len(row.values) for own in rows.values() for row in own):
        return None
    panels = [_difference_panel(own, info, name) for own in rows.values() if own]
    title = "Difference from the best, on the same seeds"
    about = ("differences", info.name, title, _about_differences(info))
    note = shown_of(sum(map(len, rows.values())), len(others), "cases besides the best")
    return dot_figure(*about, panels, "one seed", "shift, 95% interval", where, note)


def _about_differences(info: ObjectiveInfo) -> str:
    """The caption, on what is reported of the objective."""
    caption = wording.reworded(DIFFERENCE_CAPTION, [info])
    caption = caption.replace("case's loss", f"case's {info.words}")
    beyond = "Right of the dashed line the loss is higher"
    side = "Left" if info.measure.higher else "Right"
    worse = "lower" if info.measure.higher else "higher"
    return caption.replace(beyond, f"{side} of the dashed line the {info.words} is {worse}")


def _difference(one: Compared, index: int, pair: Pair, known: Mapping[int, Style]) -> DotRow:
    """A row of a case's differences from another, ``pair`` as seen from the case."""
    group = one.group
    both = np.isfinite(group.losses[[pair.first, pair.second]]).all(axis=0)
    less = group.losses[pair.first, both] - group.losses[pair.second, both]
    less = group.measure.sign * less + 0.0
    shift, low, high = group.shown_shift(pair)
    ranks = np.argsort(less, kind="stable")
    failed = group.failures[index]
    # What failures decide lies beyond any scale.
    row = DotRow(
        label=group.cases[index].label,
        note=f"{failed} of {pair.n} failed" if failed else "",
        style=known[group.cases[index].position],
        centre=bounded(shift),
        low=bounded(low),
        high=bounded(high),
        empty="no seed at which both ended ok",
    )
    return with_dots(row, less[ranks], group.seeds[both][ranks])


def _difference_panel(rows: Sequence[DotRow], info: ObjectiveInfo, name: str) -> DotPanel:
    _, limits = row_scale(rows, linear=True, shown=0.0)
    return DotPanel(
        x_label=f"difference of the {info.words} after {duration(info)}",
        limits=limits,
        rows=tuple(rows),
        reference_line=0.0,
        reference_label=name,
    )


# Running times and profiles


def runtimes(
    reached: targets.Reached, info: ObjectiveInfo, known: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """The share of targets that each case has reached, by steps and by seconds."""
    if not np.isfinite(reached.steps).any():
        return None
    group = reached.group
    searched = {case.optimizer for case in group.cases if case.role == "tuned"}
    kept = [i for i in group.order() if group.cases[i].role != "defaults"
            or group.cases[i].optimizer not in searched]  # fmt: skip
    shown = sorted(kept[:LEGEND])
    solvers = [(group.cases[i].label, known[group.cases[i].position]) for i in shown]
    panels = []
    for label, costs in (("steps", reached.steps), ("seconds", reached.seconds)):
        if costs is None:
            continue
        x = targets.places(costs[:, shown])
        if len(x):
            found = profiles.runtime_bands(np.moveaxis(costs[:, shown], 1, 2), x)
            bands = [
                replace(band, low=band.share, high=band.share) if reached.copies[i] else band
                for i, band in zip(shown, found, strict=True)
            ]
            panels.append(_share_panel(label, "share of targets reached", solvers, bands))
    if not panels:
        return None
    alike = [group.cases[i].label for i in shown if reached.copies[i]]
    notes = [
        shown_of(len(shown), len(group.cases)),
        NO_SECONDS if reached.seconds is None else "",
        f"All seeds take the same course, so without a band: {join(alike)}." if alike else "",
    ]
    about = ("runtime", info.name, "How soon targets are reached", RUNTIME_CAPTION)
    return curve_figure(*about, panels, len(panels), where, joined(notes))


def profile(
    pool: targets.OptimizerPool, known: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """Performance profiles over all objectives; None where nobody solves anything."""
    if not np.isfinite(pool.steps).any():
        return None
    panels = []
    shown = _shown(pool)
    for label, costs in (("steps", pool.steps), ("seconds", pool.seconds)):
        if costs is None:
            continue
        ratios = profiles.performance_ratios(costs)
        top = max(2.0, float(ratios[np.isfinite(ratios)].max(initial=0.0)) * 1.05)
        x = np.geomspace(1.0, top, targets.POINTS)
        bands = profiles.profile_bands(costs, x, families=pool.problem_families)
        x_label = f"{label}, as a multiple of the best's"
        solvers = _solvers(pool, known)
        panels.append(_share_panel(x_label, "share of problems solved", solvers, bands, shown))
    about = ("profile", None, "Performance profile", PROFILE_CAPTION)
    return curve_figure(*about, panels, len(panels), where, _pool_note(pool, shown))


def runtimes_over_all(
    pool: targets.OptimizerPool, known: Mapping[int, Style], where: str
) -> CurveFigure | None:
    """Runtime distributions over the targets of all objectives together; None likewise."""
    if not np.isfinite(pool.steps).any():
        return None
    panels = []
    shown, solvers = _shown(pool), _solvers(pool, known)
    for label, costs in (("steps", pool.steps), ("seconds", pool.seconds)):
        if costs is not None and len(x := targets.places(costs)):
            bands = profiles.runtime_bands(costs, x, families=pool.problem_families)
            panels.append(_share_panel(label, "share of targets reached", solvers, bands, shown))
    title = "How soon targets are reached, over all objectives"
    about = ("runtime", None, title, OVERALL_RUNTIME_CAPTION)
    return curve_figure(*about, panels, len(panels), where, _pool_note(pool, shown))


def _shown(pool: targets.OptimizerPool) -> list[int]:
    """The solvers that are drawn: all, or of too many those that solve the most problems.

    Of equally many solved, those that take fewer steps come first, in the mean of their logarithm.
    """
    count = len(pool.solvers)
    if count <= OPTIMIZERS:
        return list(range(count))
    costs = pool.steps.reshape(-1, count).T
    solved = np.isfinite(costs)
    taken = np.log(np.maximum(np.where(solved, costs, 1.0), 1.0)).sum(axis=1)
    means = taken / np.maximum(solved.sum(axis=1), 1)
    order = sorted(range(count), key=lambda i: (-solved[i].sum(), means[i], pool.solvers[i]))
    return sorted(order[:CURVES])


def _pool_note(pool: targets.OptimizerPool, shown: Sequence[int]) -> str:
    """What of a pool is not drawn."""
    fewer = len(shown) < len(pool.solvers)
    notes = [
        shown_of(len(shown), len(pool.solvers), "optimizers, those that reach the most targets")
        if fewer
        else "",
        NO_SECONDS if pool.seconds is None else "",
    ]
    return joined(notes)


def _solvers(pool: targets.OptimizerPool, known: Mapping[int, Style]) -> list[tuple[str, Style]]:
    """Every solver with its style, which is that of its case on the first objective."""
    return [
        (solver, known[cases[0].position])
        for solver, cases in zip(pool.solvers, pool.cases, strict=True)
    ]


def _share_panel(
    x_label: str,
    y_label: str,
    solvers: Sequence[tuple[str, Style]],
    bands: Sequence[profiles.Band],
    shown: Sequence[int] | None = None,
) -> CurvePanel:
    """The share by cost of every solver, or of those that are shown."""
    lines = []
    known = list(zip(solvers, bands, strict=True))
    for (label, style), band in known if shown is None else [known[i] for i in shown]:
        at = thinned(len(band.x), SHARE_POINTS)
        wide = bool((band.high > band.low).any())
        edges = (band.low[at], band.high[at]) if wide else (NO_VALUES, NO_VALUES)
        lines.append(Line(label, style, band.x[at], band.share[at], *edges))
    limits = (-0.03, 1.03)
    return CurvePanel(
        x_label=x_label, y_label=y_label, x_log=True, limits=limits, lines=tuple(lines)
    )


# Published numbers


def published(
    info: ObjectiveInfo,
    checked: Sequence[claims.CheckedClaim],
    known: Mapping[int, Style],
    where: str,
) -> DotFigure | None:
    """Published values of one measure among those of our seeds."""
    drawn = [one for one in checked if one.measure and one.kind != "fixed" and len(one.values)]
    if not drawn:
        return None
    measure = drawn[0].measure or info.measure
    rows = []
    for one in drawn[:ROWS]:
        low, middle, high = map(float, np.quantile(one.values, [0.025, 0.5, 0.975]))
        row = DotRow(
            label=one.case.label,
            note=f"{one.claim.value}: {one.verdict}",
            style=known[one.case.position],
            centre=middle,
            low=low,
            high=high,
            published=one.value,
        )
        rows.append(with_dots(row, one.values))
    stars = np.array([row.published for row in rows])
    edges = [np.array([row.low, row.high]) for row in rows]
    inner = [*(row.values for row in rows), stars]
    log, limits = scale(inner, edges, linear=measure.higher or bool((stars <= 0).any()))
    x_label = f"{info.name_of(measure)} after {duration(info)}{wording.mark(info, measure)}"
    panel = DotPanel(x_label=x_label, log=log, limits=limits, rows=tuple(rows))
    about = ("published", info.name, "Published numbers among our seeds", PUBLISHED_CAPTION)
    note = shown_of(len(rows), len(drawn), "published numbers")
    return dot_figure(*about, [panel], "one seed", "median, middle 95% of seeds", where, note)
