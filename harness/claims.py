"""Published numbers held against what came out: where they fall, and whether they may be so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.frames import CaseData, Results
from harness.plan import claimed
from harness.spec import ClaimSpec

EDGE, BEYOND = 0.1, 0.01
"""Two-sided probabilities below which a claim is at the edge, and not consistent."""

Verdict = Literal["reproduced", "at the edge", "not consistent", "can't be told"]


@dataclass(frozen=True, eq=False)
class Checked:
    """One claim with what is known of it on one device.

    Attributes:
        claim: As the spec has it.
        case: What it is of.
        values: The same quantity of every seed that ended ok, ascending.
        failed: How many seeds did not end ok.
        kind: ``fixed``: no seed changes a printed digit; ``run``: one run's number; ``mean``: a
            mean over several runs.
        percentile: Where a run's number falls among the seeds, 0 to 100; NaN of other kinds.
        p: Two-sided probability of a number so far out; NaN where it is not a matter of chance.
        least_p: The least that ``p`` can be with so many seeds; NaN likewise.
        verdict: In a word.
        why: The same in a sentence.
    """

    claim: ClaimSpec
    case: CaseData
    values: NDArray[np.float64]
    failed: int
    kind: Literal["fixed", "run", "mean"]
    percentile: float
    p: float
    least_p: float
    verdict: Verdict
    why: str

    @property
    def value(self) -> float:
        """The number that was published."""
        return float(self.claim.value)


def check(results: Results) -> list[Checked]:
    """Every claim of a run, on every device where what it is of was run."""
    return [found for claim in claims_of(results) for found in _checked(results, claim)]


def claims_of(results: Results) -> list[ClaimSpec]:
    """The claims that the run's spec makes."""
    return [ClaimSpec.model_validate(told) for told in results.run.settings.get("claims", ())]


def decimals(printed: str) -> int:
    """Decimals that a number was printed with: ``-0.000073`` has six, ``1e3`` none."""
    exponent = Decimal(printed).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def half_unit(printed: str) -> float:
    """Half a unit of the last digit: what rounding may have taken or given."""
    exponent = Decimal(printed).as_tuple().exponent
    return 0.5 * 10.0 ** (exponent if isinstance(exponent, int) else 0)


def _checked(results: Results, claim: ClaimSpec) -> Iterator[Checked]:
    for case in results.cases_on(claim.objective):
        if not claimed(claim, case.optimizer, case.objective, case.setting, case.hyperparameters):
            continue
        trials = results.trials_by_position.get(case.position)
        ran = None if trials is None else trials[trials["status"] != "unavailable"]
        if ran is None or ran.empty:
            continue
        ok = ran[ran["status"] == "ok"]
        values = np.sort(_values(case, claim, ok))
        yield _judged(claim, case, values, len(ran) - len(ok))


def _values(case: CaseData, claim: ClaimSpec, ok: Any) -> NDArray[np.float64]:
    if claim.quantity == "final_loss":
        return np.asarray(ok["final_loss"], dtype=np.float64)
    axis = 0 if claim.quantity == "x1" else 1
    points = (case.trajectories[s][-1, axis] for s in ok["seed"] if s in case.trajectories)
    return np.fromiter(points, dtype=np.float64)


def _judged(claim: ClaimSpec, case: CaseData, values: NDArray[np.float64], failed: int) -> Checked:
    nothing = (math.nan, math.nan, math.nan)
    kind: Literal["fixed", "run", "mean"] = "mean" if claim.seeds else "run"
    if not len(values):
        why = f"none of {failed} seeds ended ok" if failed else "this is not known of any seed"
        return Checked(claim, case, values, failed, kind, *nothing, "can't be told", why)
    if failed:
        failures = (
            f"; {failed} of {failed + len(values)} seeds did not end ok and are not among them"
        )
    else:
        failures = ""
    if kind == "mean":
        p, why = _of_mean(claim, values)
        verdict = _word(p, 0.0)
        return Checked(claim, case, values, failed, kind, math.nan, p, 0.0, verdict, why + failures)
    rounding = 4 * float(np.spacing(np.abs(values.astype(case.dtype)).max()))
    if len(values) > 1 and np.ptp(values) <= max(half_unit(claim.value) / 100, rounding):
        fixed, why = _of_fixed(claim.value, float(values[0]), len(values), rounding)
        return Checked(claim, case, values, failed, "fixed", *nothing, fixed, why + failures)
    tail = stats.tail_probability(values, float(claim.value), half_unit(claim.value))
    least = min(1.0, 2 / (tail.n + 1))
    verdict = _word(tail.p, least)
    return Checked(
        claim, case, values, failed, kind, tail.percentile, tail.p, least, verdict,
        _of_run(tail, least, verdict) + failures,
    )  # fmt: skip


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
        return "reproduced", f"{same}, the same but for the rounding of its last bits"
    off = abs(own - float(printed)) / unit
    if off <= 1.5:
        return "at the edge", f"{same}: one unit of the last printed digit away"
    return "not consistent", f"{same}: {off:.3g} units of the last printed digit away"


def _of_run(tail: stats.Tail, least: float, verdict: Verdict) -> str:
    where = f"percentile {tail.percentile:.3g} of {tail.n:,} seeds"
    if tail.below == 0 and tail.equal == 0:
        where = f"below all {tail.n:,} seeds"
    if tail.above == 0 and tail.equal == 0:
        where = f"above all {tail.n:,} seeds"
    chance = "at most" if tail.p <= least else "about"
    text = f"{where}; a run so far out has a probability of {chance} {tail.p:.2g}"
    if verdict == "can't be told":
        return f"{text}, the least that so few seeds can show"
    return text


def _of_mean(claim: ClaimSpec, values: NDArray[np.float64]) -> tuple[float, str]:
    """A mean of several runs, against ours: Welch's test."""
    from scipy.stats import ttest_ind_from_stats

    assert claim.sd is not None
    assert claim.seeds is not None
    own = stats.mean_interval(values)
    # Rounding adds the variance of a uniform distribution to what is not known of the mean.
    error = math.hypot(
        own.sd / math.sqrt(own.n) if own.n > 1 else math.nan,
        claim.sd / math.sqrt(claim.seeds),
        half_unit(claim.value) / math.sqrt(3),
    )
    difference = float(claim.value) - own.mean
    if own.n < 2 or error == 0:
        return math.nan, f"one seed gives {own.mean:.6g}"
    sd = math.sqrt(claim.sd**2 + claim.seeds * half_unit(claim.value) ** 2 / 3)
    test = ttest_ind_from_stats(
        own.mean, own.sd, own.n, float(claim.value), sd, claim.seeds, equal_var=False
    )
    p = float(test.pvalue)
    return p, (
        f"our mean is {own.mean:.6g} over {own.n:,} seeds, {abs(difference) / error:.1f} standard "
        f"errors from it; a difference so large has a probability of about {p:.2g}"
    )


def _word(p: float, least: float) -> Verdict:
    if math.isnan(p):
        return "can't be told"
    # With few seeds nothing can be far out: what is beyond all of them may be anywhere.
    if p <= least and least >= EDGE:
        return "can't be told"
    if p < BEYOND:
        return "not consistent"
    return "at the edge" if p < EDGE else "reproduced"
