"""Published numbers held against what came out: where they fall, and whether they may be so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.measures import TRAIN_LOSS, Measure
from harness.plan.model import claimed
from harness.spec.measures import COORDINATES, FINAL
from harness.spec.model import ClaimSpec
from harness.store.read import CaseData, ObjectiveInfo, Results, final_values

EDGE, BEYOND = 0.1, 0.01
"""Two-sided probabilities below which a claim is borderline, and not consistent."""

ABSURD, ABSURD_LOG = 1e-5, 1e-3
"""Probabilities by Student's prediction interval, of losses and of their logarithms, below both of
which a number beyond all seeds is not consistent, however few they are. Of log-normal losses such
calls are then wrong less often than ``ABSURD_LOG``."""

Verdict = Literal["reproduced", "consistent", "borderline", "not consistent", "undecided"]
"""Reproduced: in every printed digit. Consistent: it may well be so."""


@dataclass(frozen=True, eq=False)
class CheckedClaim:
    """One claim with what is known of it on one device.

    Attributes:
        claim: As the spec has it.
        case: What it is of.
        values: The same quantity of every seed that ended ok, ascending.
        failed: How many seeds failed.
        kind: ``fixed``: no seed changes a printed digit; ``run``: one run's number; ``mean``: a
            mean over several runs.
        verdict: In a word.
        why: The same in a sentence.
        percentile: Where a run's number falls among the seeds, 0 to 100; NaN of other kinds.
        p: Two-sided probability of a number so far out; NaN where it is not a matter of chance.
        least_p: The least that ``p`` can be with so many seeds; NaN likewise.
        deviations: How far it lies from the mean of ours, in standard deviations of ours; NaN
            where they have none.
        noticed: Below the first and above the second it would not have been consistent, with so
            many seeds; NaN where it is not a matter of chance.
        measure: What it is a value of; None of a coordinate.
    """

    claim: ClaimSpec
    case: CaseData
    values: NDArray[np.float64]
    failed: int
    kind: Literal["fixed", "run", "mean"]
    verdict: Verdict
    why: str
    percentile: float = math.nan
    p: float = math.nan
    least_p: float = math.nan
    deviations: float = math.nan
    noticed: tuple[float, float] = (math.nan, math.nan)
    measure: Measure | None = None

    @property
    def quantity(self) -> str:
        """What is claimed, in words: ``final loss``, ``test accuracy``, ``x1``."""
        if self.measure is None or self.measure == TRAIN_LOSS:
            return self.claim.quantity.replace("_", " ")
        return self.measure.name

    @property
    def least_noticed(self) -> float:
        """The smallest deviation that could have been noticed, in standard deviations of ours."""
        own = stats.mean_interval(self.values)
        low, high = self.noticed
        return min(own.mean - low, high - own.mean) / own.sd if own.sd > 0 else math.nan

    @property
    def value(self) -> float:
        """The number that was published."""
        return float(self.claim.value)


def check(results: Results) -> list[CheckedClaim]:
    """Every claim of a run, on every device where what it is of was run."""
    return [found for claim in results.run.settings.claims for found in _checked(results, claim)]


def decimals(printed: str) -> int:
    """Decimals that a number was printed with: ``-0.000073`` has six, ``1e3`` none."""
    exponent = Decimal(printed).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def half_unit(printed: str) -> float:
    """Half a unit of the last digit: what rounding may have taken or given."""
    exponent = Decimal(printed).as_tuple().exponent
    return 0.5 * 10.0 ** (exponent if isinstance(exponent, int) else 0)


def _checked(results: Results, claim: ClaimSpec) -> Iterator[CheckedClaim]:
    info = results.objectives.get(claim.objective)
    if info is None or not _is_recorded(claim, info):
        return
    measure = _measure(claim, info)
    for case in results.cases_on(claim.objective):
        if not claimed(claim, case.optimizer, case.objective, case.setting, case.hyperparameters):
            continue
        trials = results.trials_by_position.get(case.position)
        ran = None if trials is None else trials[trials["status"] != "unavailable"]
        if ran is None or ran.empty:
            continue
        ok = ran[ran["status"] == "ok"]
        values = _values(case, claim, measure, ok)
        failed = len(ran) - len(ok) + int((~np.isfinite(values)).sum())
        values = np.sort(values[np.isfinite(values)])
        lost = ran[ran["status"] == "diverged"]
        above = int(np.isin(lost["seed"], case.ended_finite()).sum())
        limited = _above_limit(above, info.divergence_factor)
        base = _base(measure, info, values)
        found = _judged(claim, case, values, failed, limited, base)
        yield replace(found, measure=measure)


def _above_limit(count: int, divergence_factor: float | None) -> str:
    """A part of a sentence on seeds that the limit of the spec leaves out; empty of none."""
    if not count:
        return ""
    factor = "" if divergence_factor is None else f" ({divergence_factor:g})"
    return (
        f", though {count:,} of them {'ends' if count == 1 else 'end'} at a finite loss, above the "
        f"limit that the spec's divergence_factor{factor} sets"
    )


def _is_recorded(claim: ClaimSpec, info: ObjectiveInfo) -> bool:
    """Test whether what is claimed is known: of several runs together, not all record the same."""
    known = (FINAL, *COORDINATES, *(measure.name for measure in info.measures))
    return claim.quantity in known


def _measure(claim: ClaimSpec, info: ObjectiveInfo) -> Measure | None:
    """What a claim is of: what is reported, or the measure that it names; None of a coordinate."""
    if claim.quantity in COORDINATES:
        return None
    if claim.quantity == FINAL:
        return info.measure
    return next(measure for measure in info.measures if measure.name == claim.quantity)


@dataclass(frozen=True)
class _Base:
    """The end of the values that there can be, on the side that is better.

    Attributes:
        value: That end: the optimum of a loss, or 0; 1 of a share such as the accuracy. Infinite
            where there is none.
        sign: 1 where values are above it, -1 where they are below it.
    """

    value: float = -math.inf
    sign: int = 1


def _base(measure: Measure | None, info: ObjectiveInfo, values: NDArray[np.float64]) -> _Base:
    """The end of the values of what is claimed; none where some of ours are beyond it."""
    if measure is None or not len(values):
        return _Base()
    if measure.higher:
        ceiling = measure.ceiling
        is_below = ceiling is not None and values[-1] < ceiling
        return _Base(ceiling, -1) if ceiling is not None and is_below else _Base()
    is_known = measure == info.measure == TRAIN_LOSS
    if info.optimum is not None and is_known and info.optimum < values[0]:
        return _Base(info.optimum)
    return _Base(0.0) if values[0] > 0 else _Base()


def _values(
    case: CaseData, claim: ClaimSpec, measure: Measure | None, ok: Any
) -> NDArray[np.float64]:
    """What is claimed of the trials that ended ok; NaN where one has none."""
    if claim.quantity == FINAL:
        return np.asarray(ok["final_loss"], dtype=np.float64)
    if measure is not None:
        return final_values(case.recorded(measure))[np.isin(case.seeds, ok["seed"])]
    axis = 0 if claim.quantity == "x1" else 1
    ends = [case.trajectories[s][-1] for s in ok["seed"] if s in case.trajectories]
    return np.array([end[axis] for end in ends if axis < len(end)], dtype=np.float64)


def _judged(
    claim: ClaimSpec,
    case: CaseData,
    values: NDArray[np.float64],
    failed: int,
    limited: str,
    base: _Base,
) -> CheckedClaim:
    if not len(values):
        why = f"none of {failed} seeds ended ok{limited}"
        why = why if failed else "this is not known of any seed"
        kind: Literal["mean", "run"] = "mean" if claim.seeds else "run"
        return CheckedClaim(claim, case, values, failed, kind, "undecided", why)
    failures = ""
    if failed:
        count = f"{failed} of {failed + len(values)} seeds"
        failures = f"; {count} failed and are not among them{limited}"
    number, own = float(claim.value), stats.mean_interval(values)
    away = (number - own.mean) / own.sd if own.sd > 0 else math.nan
    if claim.seeds:
        p, noticed, why = _of_mean(claim, values)
        found = CheckedClaim(claim, case, values, failed, "mean", _word(p, 0.0), why + failures)
        return replace(found, p=p, least_p=0.0, deviations=away, noticed=noticed)
    rounding = 4 * float(np.spacing(np.abs(values.astype(case.dtype)).max()))
    half = half_unit(claim.value)
    if len(values) > 1 and np.ptp(values) <= max(half / 100, rounding):
        verdict, why = _of_fixed(claim.value, float(values[0]), len(values), rounding)
        return CheckedClaim(claim, case, values, failed, "fixed", verdict, why + failures)
    tail = stats.tail_probability(values, number, half)
    least, noticed = min(1.0, 2 / (tail.n + 1)), _noticed(values, half, base)
    beyond = not noticed[0] <= number <= noticed[1] and len(values) > 1
    verdict = "not consistent" if beyond else _word(tail.p, least)
    why = _of_run(tail, least, verdict, away, noticed, own)
    found = CheckedClaim(claim, case, values, failed, "run", verdict, why + failures)
    return replace(
        found, percentile=tail.percentile, p=tail.p, least_p=least, deviations=away, noticed=noticed
    )


def _noticed(ascending: NDArray[np.float64], half_width: float, base: _Base) -> tuple[float, float]:
    """Below the first and above the second a run's number is not consistent with these seeds.

    The places are those where it would be too far out in their order, if they are many enough to
    say so, or those where it would be absurd, whichever is nearer.

    Args:
        ascending: Ours, in their order.
        half_width: Half of the last printed digit's unit.
        base: What no value is beyond.
    """
    n = len(ascending)
    if n < 2:
        return -math.inf, math.inf
    if base.sign < 0:
        turned = _noticed(-ascending[::-1], half_width, _Base(-base.value))
        return -turned[1], -turned[0]
    reach = half_width + 1e-12 * float(np.abs(ascending).max())
    low, high = _prediction(ascending, ABSURD)
    end = base.value
    if -math.inf < end < float(ascending[0]):
        logarithms = _prediction(np.log(ascending - end), ABSURD_LOG)
        # What is below the base is absurd on this scale, whatever the spread.
        low, high = min(low, end + _exp(logarithms[0])), max(high, end + _exp(logarithms[1]))
    low, high = min(low, float(ascending[0])), max(high, float(ascending[-1]))
    # So many of ours may lie beyond a number that its p is still below.
    beyond = math.ceil(BEYOND * (n + 1) / 2 - 1e-9) - 2
    if beyond >= 0:
        low, high = max(low, float(ascending[beyond])), min(high, float(ascending[-1 - beyond]))
    return low - reach, high + reach


def _prediction(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Student's prediction interval of one more value (Hahn & Meeker, section 4.7)."""
    own = stats.mean_interval(values)
    reach = stats.t_quantile(own.n - 1, 1 - level / 2) * own.sd * math.sqrt(1 + 1 / own.n)
    return own.mean - reach, own.mean + reach


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf


def _of_fixed(printed: str, own: float, seeds: int, rounding: float) -> tuple[Verdict, str]:
    """A number that no seed changes, against the decimals that were printed."""
    places = decimals(printed)
    unit = max(2 * half_unit(printed), rounding)
    rounded = Decimal(own).quantize(Decimal(printed), context=Context(prec=400))
    text = f"{own:.{places}f}" if places else f"{rounded:f}"
    same = f"all {seeds:,} seeds give {own:.{min(places + 2, 17)}g}"
    if 2 * half_unit(printed) > rounding:
        same = f"all {seeds:,} seeds give {own:.{places + 2}f}"
    # A number that rounds to 0 may be printed with a sign or without.
    if rounded == Decimal(printed):
        return "reproduced", f"{same}, which prints as {text}"
    if abs(own - float(printed)) <= rounding:
        return "consistent", f"{same}, the same but for the rounding of its last bits"
    off = abs(own - float(printed)) / unit
    if off <= 1.5:
        return "borderline", f"{same}: one unit of the last printed digit away"
    return "not consistent", f"{same}: {off:.3g} units of the last printed digit away"


def _of_run(
    tail: stats.Tail,
    least: float,
    verdict: Verdict,
    away: float,
    noticed: tuple[float, float],
    own: stats.Mean,
) -> str:
    where = f"percentile {tail.percentile:.3g} of {tail.n:,} seeds"
    if tail.below == 0 and tail.equal == 0:
        where = f"below all {tail.n:,} seeds"
    if tail.above == 0 and tail.equal == 0:
        where = f"above all {tail.n:,} seeds"
    if not math.isnan(away):
        where += f", {abs(away):.3g} standard deviations from their mean"
    chance = "at most" if tail.p <= least else "about"
    text = f"{where}; a run so far out has a probability of {chance} {tail.p:.2g}"
    if verdict == "not consistent" and tail.p >= BEYOND:
        text = f"{where}: too far for any loss of theirs, though so few seeds rank it no rarer "
        text += f"than {tail.p:.2g}"
    elif verdict == "undecided":
        text = f"{text}, the least that so few seeds can show"
    if math.isnan(away):
        return text
    sides = [
        f"{side} {_rounded(end, own)} ({abs(end - own.mean) / own.sd:.3g} standard deviations)"
        for side, end in zip(("below", "above"), noticed, strict=True)
        if math.isfinite(end)
    ]
    return f"{text}; not consistent would be a number {' or '.join(sides)}" if sides else text


def _rounded(value: float, own: stats.Mean) -> str:
    """A value to a hundredth of the spread of ours, or better."""
    places = 2 - math.floor(math.log10(own.sd)) if own.sd > 0 else 6
    return f"{value:.{min(max(places, 0), 12)}f}"


def _of_mean(
    claim: ClaimSpec, values: NDArray[np.float64]
) -> tuple[float, tuple[float, float], str]:
    """A mean of several runs, against ours: Welch's test."""
    assert claim.sd is not None
    assert claim.seeds is not None
    own = stats.mean_interval(values)
    # Rounding adds the variance of a uniform distribution to what is not known of the mean.
    theirs = math.hypot(claim.sd / math.sqrt(claim.seeds), half_unit(claim.value) / math.sqrt(3))
    ours = own.sd / math.sqrt(own.n) if own.n > 1 else math.nan
    error = math.hypot(ours, theirs)
    difference = float(claim.value) - own.mean
    if own.n < 2 or error == 0:
        return math.nan, (math.nan, math.nan), f"one seed gives {own.mean:.6g}"
    freedom = error**4 / (ours**4 / (own.n - 1) + theirs**4 / (claim.seeds - 1))
    p = 2 * stats.t_probability(freedom, -abs(difference) / error)
    reach = stats.t_quantile(freedom, 1 - BEYOND / 2) * error
    away = f"{abs(difference) / own.sd:.3g} standard deviations, " if own.sd > 0 else ""
    why = (
        f"our mean is {own.mean:.6g} over {own.n:,} seeds, {away}"
        f"{abs(difference) / error:.1f} standard errors from it; a difference so large has a "
        f"probability of about {p:.2g}; not consistent would be one of more than {reach:.2g}"
    )
    return p, (own.mean - reach, own.mean + reach), why


def _word(p: float, least: float) -> Verdict:
    if math.isnan(p):
        return "undecided"
    # With few seeds nothing can be far out: what is beyond all of them may be anywhere.
    if p <= least and least >= EDGE:
        return "undecided"
    if p < BEYOND:
        return "not consistent"
    return "borderline" if p < EDGE else "consistent"
