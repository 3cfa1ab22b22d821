"""Tables of tuning: what it found, how sure that is, sensitivity; and of published numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from harness.analysis import claims, comparison, retuning, sensitivity, stats
from harness.analysis.comparison import Compared
from harness.formatting import DASH, cost, digits, general, or_dash, probability, share, significant
from harness.measures import TRAIN_LOSS, Measure
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.spec import search_space
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData


class _Tuned(NamedTuple):
    found: sensitivity.Tuned
    name: str
    space: SpaceSpec
    loss: float
    edge: str


_TUNED_BY: Column[_Tuned] = Column("measure", "by", lambda r: r.found.measure.name)

_TUNED_VALUE: Column[_Tuned] = Column("tuning_loss", "loss in tuning", lambda r: r.loss, digits(5))

_TUNING: tuple[Column[_Tuned], ...] = (
    Column("objective", "objective", lambda r: r.found.case.objective),
    Column("optimizer", "optimizer", lambda r: r.found.case.optimizer),
    Column("device", "device", lambda r: r.found.case.device),
    Column("hyperparameter", "hyperparameter", lambda r: r.name),
    Column("space", "searched", lambda r: search_space.shown(r.space)),
    Column(
        "best",
        "best",
        lambda r: r.found.best[r.name],
        lambda best: f"{best:.4g}" if isinstance(best, float) else str(best),
    ),
    Column(
        "edge", "at the edge", lambda r: r.edge, lambda at: f"yes, the {at} end" if at else "no"
    ),
    _TUNED_BY,
    _TUNED_VALUE,
    Column("settings", "settings", lambda r: len(r.found.settings), "{:,}".format),
    Column(
        "tuning_trials",
        "trials",
        lambda r: r.found.trials,
        "{:,}".format,
    ),
    Column("failed", "failed", lambda r: r.found.failed, "{:,}".format),
)

_BEST = {
    "final_loss": (
        "the setting with the lowest mean final loss of those of which every trial ended ok; that "
        "mean is lower than what to expect, for the setting was picked by it."
    ),
    "time_to_target": (
        "the setting whose trials reached the most targets, then in the fewest steps, a miss "
        "costing all steps that its trial took."
    ),
}


def tuning(
    tuned: Sequence[sensitivity.Tuned], seeds: int, goal: str = "final_loss", again: int = 0
) -> Table | None:
    """Settings that tuning tried, and the best that it found.

    Args:
        tuned: By optimizer, objective and device.
        seeds: How many seeds each setting was run with.
        goal: What the best setting is best by; see the spec.
        again: With how many further seeds the best settings were tried again; 0 for none.
    """
    rows = []
    for found in tuned:
        losses = found.best_values
        loss = stats.average(losses[np.isfinite(losses)])
        for name, space in found.spaces.items():
            edge = next((text for text in found.edges if text.startswith(f"{name} ")), "")
            side = "upper" if "upper" in edge else "lower" if edge else ""
            rows.append(_Tuned(found, name, space, loss, side))
    note = (
        "Every optimizer with a search had the same number of settings, drawn by a scrambled "
        f"Halton sequence and each run with the same {seeds} tuning seeds, which are none of "
        f"the seeds reported elsewhere. {_second_round(tuned, again)}Best: {_BEST[goal]} Loss in "
        "tuning is the mean final loss of the best setting. At the edge: in the outer "
        f"{share(sensitivity.OUTER)} of the range, or the outermost value drawn; a wider range may "
        "hold a better one. Failed: failed tuning trials."
    )
    if all(row.found.measure == TRAIN_LOSS for row in rows):
        columns = [one for one in _TUNING if one is not _TUNED_BY]
        return table_of("tuning", "Tuned hyperparameters", columns, rows, note)
    note = _of_values(note).replace("Loss in tuning", "Value in tuning")
    note += " By: what tuning goes by; where higher is better, the highest is best."
    value = replace(_TUNED_VALUE, key="tuning_value", heading="value in tuning")
    columns = [value if one is _TUNED_VALUE else one for one in _TUNING]
    return table_of("tuning", "Tuned hyperparameters", columns, rows, note)


def _second_round(tuned: Sequence[sensitivity.Tuned], seeds: int) -> str:
    """The sentence on settings that were tried again; empty where none were."""
    numbers = {len(found.finalists) for found in tuned if found.finalists}
    if not numbers:
        return ""
    most = max(numbers)
    return (
        f"The best {most:,} of each optimizer by these seeds were run with {seeds} further ones, "
        "and the best of them by all of its seeds is taken. "
    )


def _of_values(note: str) -> str:
    """A note on final losses, as one on values of which lower or higher may be better."""
    text = note.replace("lowest mean final loss", "best mean final value")
    text = text.replace("mean is lower than", "mean is better than")
    return text.replace("mean final loss", "mean final value")


class _Retuned(NamedTuple):
    one: CaseData
    other: CaseData
    better_share: float
    called: str
    losses: tuple[list[float], list[float]]
    measure: Measure


def _spread(losses: Sequence[float]) -> str:
    median, low, high = (cost(loss, 4) for loss in losses)
    return f"{median} ({low} to {high})"


_RETOLD: Column[_Retuned] = Column("measure", "of", lambda r: r.measure.name)

_RETUNED: tuple[Column[_Retuned], ...] = (
    Column("objective", "objective", lambda r: r.one.objective),
    Column("device", "device", lambda r: r.one.device),
    Column("case", "case", lambda r: r.one.label),
    Column("against", "against", lambda r: r.other.label),
    Column(
        "better_share", "better in", lambda r: r.better_share, lambda v: f"{share(v)} of tunings"
    ),
    Column("called", "verdict now", lambda r: r.called, or_dash),
    _RETOLD,
    Column("case_median", "", lambda r: r.losses[0][0]),
    Column("case_low", "", lambda r: r.losses[0][1]),
    Column("case_high", "", lambda r: r.losses[0][2]),
    Column("against_median", "", lambda r: r.losses[1][0]),
    Column("against_low", "", lambda r: r.losses[1][1]),
    Column("against_high", "", lambda r: r.losses[1][2]),
    Column("", "loss of the case", lambda r: _spread(r.losses[0])),
    Column("", "loss of the other", lambda r: _spread(r.losses[1])),
)

_VALUES: dict[str, Column[_Retuned]] = {
    one.heading: replace(one, heading=one.heading.replace("loss", "value"))
    for one in _RETUNED
    if one.heading.startswith("loss ")
}


def retuned(found: Sequence[retuning.Retuned], compared: Sequence[Compared]) -> Table | None:
    """Shares of tunings in which optimizers come in the same order when tuned again."""
    rows = []
    for one, other, lower in retuning.pairs(found):
        losses = [[float(values[-1]) for values in r.band(0.025)] for r in (one, other)]
        called = comparison.called_between(compared, one.case, other.case)
        rows.append(
            _Retuned(one.case, other.case, lower, called, (losses[0], losses[1]), one.measure)
        )
    note = (
        f"Tuning repeated {retuning.RESAMPLES:,} times on resampled settings and seeds "
        "(bootstrap): a setting is chosen by the tuning seeds that are drawn and evaluated on the "
        "others. Better in: the share of these tunings in which the case does better, ties "
        "counting as half. Verdict now: that of the test on the settings found. Loss: median and "
        "middle 95% of tunings; infinite where a trial of the evaluation fails. A significant "
        "difference that holds in few tunings depends on which settings happened to be drawn."
    )
    if all(row.measure == TRAIN_LOSS for row in rows):
        columns = [one for one in _RETUNED if one is not _RETOLD]
        return table_of("retuning", "If tuning were repeated", columns, rows, note)
    note = note.replace("Loss: median", "Values: of what is told under of, median")
    columns = [_VALUES.get(one.heading, one) for one in _RETUNED]
    return table_of("retuning", "If tuning were repeated", columns, rows, note)


_OF: Column[sensitivity.Curve] = Column("measure", "of", lambda r: r.measure.name)

_SENSITIVITY: tuple[Column[sensitivity.Curve], ...] = (
    Column("objective", "objective", lambda r: r.objective),
    Column("optimizer", "optimizer", lambda r: r.optimizer),
    Column("device", "device", lambda r: r.device),
    Column("hyperparameter", "hyperparameter", lambda r: r.parameter),
    Column("range", "range", lambda r: search_space.shown(r.space)),
    Column("points", "", lambda r: len(r.points)),
    _OF,
    Column(
        "best",
        "best mean",
        lambda r: r.best_point.mean if r.best_point else math.nan,
        digits(5),
    ),
    Column("at", "at", lambda r: r.best_point.value if r.best_point else math.nan, significant),
    Column(
        "near_share",
        f"within {sensitivity.FACTOR:g}x of best",
        lambda r: r.near(),
        lambda near: DASH if math.isnan(near) else f"{share(near)} of the range",
    ),
    Column("failing_points", "", lambda r: len(r.diverging())),
    Column("failing_from", "", lambda r: min(r.diverging(), default=math.nan)),
    Column("failing_to", "", lambda r: max(r.diverging(), default=math.nan)),
    Column("", "fails at", lambda r: _failing(r)),
    Column("", "points", lambda r: len(r.points)),
)


def sensitive(curves: Sequence[sensitivity.Curve]) -> Table | None:
    """The part of each hyperparameter's range in which the loss is near its lowest."""
    note = (
        "One hyperparameter over its range, the others held (at the best setting, where it was "
        "tuned). Best mean: of the final values of the seeds, at the best of the points. Within "
        f"{sensitivity.FACTOR:g}x of best: the share of the range, on its own scale, in which no "
        f"seed fails and the mean is at most {sensitivity.FACTOR:g} times the lowest, both minus "
        "the optimum where that is known. Fails at: the values at which some trial failed."
    )
    title = "Sensitivity to hyperparameters"
    if all(curve.measure == TRAIN_LOSS for curve in curves):
        columns = [one for one in _SENSITIVITY if one is not _OF]
        return table_of("sensitivity", title, columns, curves, note)
    note = _of_values(note).replace("times the lowest", "times the best")
    note += (
        " Of shares of which higher is better, such as the accuracy, what is missing to 1 counts."
    )
    return table_of("sensitivity", title, _SENSITIVITY, curves, note)


def _failing(curve: sensitivity.Curve) -> str:
    """Values at which some seed failed."""
    bad = list(curve.diverging())
    if not bad:
        return DASH
    if len(bad) == len(curve.points):
        return "every point"
    values = [point.value for point in curve.points]
    if bad == values[-len(bad) :]:
        return f"{significant(bad[0])} and above"
    if bad == values[: len(bad)]:
        return f"{significant(bad[-1])} and below"
    return f"{len(bad)} points from {significant(bad[0])} to {significant(bad[-1])}"


def _ours(found: claims.CheckedClaim, pattern: str) -> str:
    """Our numbers with as many decimals as the published one; a dash of none."""
    if not len(found.values):
        return DASH
    low, high, median = found.values[0], found.values[-1], np.median(found.values)
    places = claims.decimals(found.claim.value)
    texts = {"median": median, "low": low, "high": high}
    return pattern.format(**{name: f"{value:.{places}f}" for name, value in texts.items()})


_CLAIMS: tuple[Column[claims.CheckedClaim], ...] = (
    *case_columns(lambda r: r.case)[:3],
    Column("device", "", lambda r: r.case.device),
    Column("", "verdict", lambda r: r.verdict),
    Column("quantity", "quantity", lambda r: r.claim.quantity, text=lambda r: r.quantity),
    Column("published", "published", lambda r: r.claim.value),
    Column("", "ours", lambda r: _ours(r, "{median}")),
    Column("source", "", lambda r: r.claim.source),
    Column("kind", "", lambda r: r.kind),
    Column("median", "", lambda r: stats.spread(r.values).median),
    Column("low", "", lambda r: min(r.values, default=math.nan)),
    Column("high", "", lambda r: max(r.values, default=math.nan)),
    Column(
        "percentile",
        "percentile",
        lambda r: r.percentile,
        general(3),
    ),
    Column("p", "p", lambda r: r.p, probability),
    Column("least_p", "", lambda r: r.least_p),
    Column("standard_deviations", "distance (sd)", lambda r: r.deviations, significant),
    Column("noticed_below", "", lambda r: r.noticed[0]),
    Column("noticed_above", "", lambda r: r.noticed[1]),
    Column("verdict", "", lambda r: r.verdict),
    Column("why", "", lambda r: r.why),
    Column("", "source", lambda r: r.claim.source),
    Column(
        "",
        "our range",
        lambda r: DASH if r.kind == "fixed" else _ours(r, "{low} to {high}"),
    ),
    Column("", "device", lambda r: r.case.device),
    Column("n", "", lambda r: len(r.values)),
    Column("failed", "failed", lambda r: r.failed),
)


def claimed(checked: Sequence[claims.CheckedClaim]) -> Table | None:
    """Published numbers beside ours, those that don't hold first."""
    severity = ("not consistent", "borderline", "undecided", "consistent", "reproduced")
    rows = sorted(checked, key=lambda one: severity.index(one.verdict))
    note = (
        "Ours: the median over the seeds that ended ok, and the range from the lowest to the "
        "highest; failed: the seeds that did not. A number that is the same for all seeds is "
        "compared with the printed decimals. "
        "Any other is located among the seeds, numbers within its rounding counting as equal; p "
        "is the two-sided probability that one more run of ours would be so far out, exact but "
        "never below 2 / (seeds + 1). A published mean is compared with ours by Welch's test. "
        "Distance: from our mean, in our standard deviations. Reproduced: in every printed digit. "
        f"Consistent: p of {claims.EDGE:g} or more; borderline: {claims.BEYOND:g} or more; not "
        "consistent: less, or further out than any loss of ours could be. The CSV has the reasons "
        "in full, and the deviation that so many seeds could have detected. One in ten correct "
        "claims is called borderline by chance."
    )
    return table_of("claims", "Published numbers", _CLAIMS, rows, note)
