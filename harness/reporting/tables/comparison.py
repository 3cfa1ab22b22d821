"""Tables of who does better: differences, ranks, targets, tuning, sensitivity, claims, parity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import formatting
from harness.analysis import claims, profiles, retuning, sensitivity, stats, targets
from harness.analysis.comparison import LEVEL, MOST, Compared, Pair, corrected_for
from harness.analysis.summary import Analysis
from harness.formatting import DASH, interval, probability, significant
from harness.reporting.tables.model import Table
from harness.reporting.tables.trials import identity, shown_identity
from harness.spec import search_space
from harness.store.read import CaseData, Results

WITHIN = (1.0, 2.0, 10.0)
"""Ratios to the best at which the profile table tells its shares."""

Row = Mapping[str, Any]


def build(results: Results, analysis: Analysis) -> list[Table]:
    """Every table of a comparison that the results allow."""
    tables = (
        ranks(analysis.compared),
        differences(analysis.compared),
        reached(analysis.reached),
        profile(analysis.contests),
        tuning(
            analysis.tuned,
            len(results.run.settings.tuning_seeds),
            results.run.settings.tuning.goal if results.run.settings.tuning else "final_loss",
        ),
        retuned(analysis.retuned, analysis.compared),
        sensitive(analysis.curves),
        claimed(analysis.claims),
        parity(results),
    )
    return [table for table in tables if table is not None]


def differences(compared: Sequence[Compared]) -> Table | None:
    """Every pair of cases, on the same seeds."""
    rows: list[tuple[Row, Row]] = []
    for one in compared:
        rows += (_difference(one, pair) for pair in one.pairs)
    note = (
        "The case less the other, seed by seed: below 0, the case has the lower loss. Lower and "
        "higher: at how many of the n seeds it is the better and the worse; a difference below the "
        "rounding of the loss, or below the smallest that the spec says matters, is neither. "
        "p: Wilcoxon's signed-rank test, two-sided, over all n seeds; a trial that did not end ok "
        "counts as the worst, and failed says how many there were of each. Shift: the "
        "Hodges-Lehmann estimate that belongs to this test, over the same seeds, with the 95% "
        "interval of shifts that it does not reject; infinite where failures decide. Effect: "
        "matched-pairs rank-biserial correlation, from -1 (always lower) to 1. Called is what "
        f"Holm's correction leaves, at {LEVEL:.0%} for {corrected_for(compared)}. Where all seeds "
        "of both end alike, there is no chance, so no test and no interval: the difference is "
        "what it is."
    )
    if any(len(one.field.cases) > MOST for one in compared):
        note += (
            f" Of more than {MOST} cases, the best {MOST} are paired; the correction is for all."
        )
    return _table("differences", "Differences between pairs", note, rows)


def _difference(one: Compared, pair: Pair) -> tuple[Row, Row]:
    field = one.field
    first, second = field.cases[pair.first], field.cases[pair.second]
    row = {
        "objective": field.objective,
        "device": field.device,
        "case": first.label,
        "against": second.label,
        "shift": pair.shift,
        "ci_low": pair.low,
        "ci_high": pair.high,
        "lower": pair.lower,
        "higher": pair.higher,
        "rank_biserial": pair.effect,
        "p": pair.p,
        "p_holm": pair.adjusted,
        "called": pair.called,
        "decided_by_failures": "yes" if pair.by_failures else "no",
        "n": pair.n,
        "both_ok": pair.both,
        "case_failed": pair.failed[0],
        "against_failed": pair.failed[1],
    }
    shift, ends = formatting.shift(pair.shift, pair.low, pair.high)
    tested = pair.is_tested
    shown = {
        "objective": field.objective,
        "device": field.device,
        "case": first.label,
        "against": second.label,
        "shift": shift,
        "95% interval": ends,
        "lower": str(pair.lower) if tested else DASH,
        "higher": str(pair.higher) if tested else DASH,
        "effect": _two(pair.effect),
        "p": probability(pair.p),
        "p (Holm)": probability(pair.adjusted),
        "called": f"{pair.called} (failures)" if pair.by_failures else pair.called,
        "n": str(pair.n),
        "failed": f"{pair.failed[0]}, {pair.failed[1]}" if any(pair.failed) else "0",
    }
    return row, shown


def ranks(compared: Sequence[Compared]) -> Table | None:
    """How the cases of each objective rank, seed by seed."""
    rows: list[tuple[Row, Row]] = []
    for one in compared:
        for i, rank in enumerate(one.ranks if one.field.is_random else ()):
            case, failed = one.field.cases[i], int(one.field.failures[i])
            n = len(one.field.seeds)
            row = {
                **identity(case),
                "mean_rank": rank.mean,
                "ci_low": rank.low,
                "ci_high": rank.high,
                "first_share": rank.first,
                "of": len(one.ranks),
                "n": n,
                "failed": failed,
                "friedman_p": one.friedman,
            }
            shown = {
                **shown_identity(case),
                "mean rank": f"{rank.mean:.2f} of {len(one.ranks)}",
                "95% interval": interval(rank.low, rank.high, 2) if rank.low < rank.high else DASH,
                "best or tied": f"{rank.first:.0%}",
                "p (all alike)": probability(one.friedman),
                "n": str(n),
                "failed": str(failed),
            }
            rows.append((row, shown))
    note = (
        "Rank of the final loss among the objective's cases, seed by seed, 1 the lowest; ties "
        "share their mean, and trials that did not end ok (failed says how many) are tied for "
        "last. Interval: 95%, bootstrap-t over the n seeds, five or more. Best or tied: share "
        "of seeds at which no other case is lower. p: Friedman's test that all cases rank alike."
    )
    return _table("ranks", "Ranks", note, rows)


def reached(found: Sequence[targets.Reached]) -> Table | None:
    """How often and how soon each case reaches each target."""
    rows = [row for known in found for row in _reached(known)]
    note = (
        "Steps to a target: to the first recorded loss at or below it. Targets were set before the "
        "run: losses that the spec gives, or shares of the way from a trial's own start to the "
        "optimum. Expected running time (ERT): steps of all runs, those that missed with all they "
        "took, over the number of runs that reached the target; infinite where none did. Seconds: "
        "the loss and its gradients were evaluated so often on the way (once a step, but for "
        "optimizers that take a closure: ERT in evaluations), at the timing pass's median time per "
        "evaluation; the recording of losses is not included. What a trial reached before it "
        "diverged or failed it has reached; failed says how many did. Where all seeds end alike "
        "they are one run, and a share of them has no interval."
    )
    if all(row["ert_evaluations"] == row["ert_steps"] for row, _ in rows):
        for _, shown in rows:
            del shown["ERT (evaluations)"]
    return _table("targets", "Steps and seconds to targets", note, rows)


def _reached(known: targets.Reached) -> Iterator[tuple[Row, dict[str, str]]]:
    expected, evaluations = known.expected_steps(), known.expected_evaluations()
    n = len(known.field.seeds)
    for j, target in enumerate(known.targets):
        for i, case in enumerate(known.field.cases):
            count = int(np.isfinite(known.steps[j, i]).sum())
            # Copies of one run: how many of them reached it says nothing of others.
            copies = bool(known.copies[i])
            low, high = (math.nan, math.nan) if copies else stats.proportion_interval(count, n)
            steps = float(expected[j, i])
            evaluated = float(evaluations[j, i])
            time = evaluated * float(known.evaluation_seconds[i])
            failed = int(known.field.failures[i])
            row = {
                **identity(case),
                "target": target.label,
                "target_loss": math.nan if target.loss is None else target.loss,
                "tolerance": math.nan if target.tolerance is None else target.tolerance,
                "reached": count,
                "n": n,
                "share_ci_low": low,
                "share_ci_high": high,
                "ert_steps": steps,
                "ert_evaluations": evaluated,
                "ert_seconds": time,
                "failed": failed,
            }
            shown = {
                **shown_identity(case),
                "target": target.label,
                "reached": ("yes" if count else "no") if copies else f"{count} of {n}",
                "95% interval": DASH if copies else f"{low:.0%} to {high:.0%}",
                "ERT (steps)": _cost(steps),
                "ERT (evaluations)": _cost(evaluated),
                "ERT (s)": _cost(time),
                "failed": str(failed),
            }
            yield row, shown


def profile(contests: Sequence[targets.Contest]) -> Table | None:
    """Performance profiles over all objectives, at a few ratios."""
    rows: list[tuple[Row, Row]] = []
    left_out: list[str] = []
    for contest in contests:
        left_out += contest.left_out
        for unit, costs in (("steps", contest.steps), ("seconds", contest.seconds)):
            if costs is None:
                continue
            at = (*WITHIN, float(np.finfo(float).max))
            bands = profiles.profile_bands(costs, at, families=contest.problem_families)
            rows += (_profile_row(contest, i, unit, costs, band) for i, band in enumerate(bands))
    note = (
        "Share of problems that an optimizer solves within so many times the cost of the best at "
        "the same problem and seed (Dolan and Moré's performance profile), with a 95% interval "
        "for other seeds and other objectives: the variances over both add. A problem is a target "
        "of an objective. Solved: at any cost. What missed a target has not solved it at any "
        "ratio; what a trial reached before it failed (failed: so many trials) it has reached. "
        "Every setting of an optimizer takes part by itself."
    )
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        note += f" Left out, for they did not run on all of these objectives: {names}."
    return _table("profile", "Performance profile over all objectives", note, rows)


def _profile_row(
    contest: targets.Contest,
    solver: int,
    unit: str,
    costs: NDArray[np.float64],
    band: profiles.Band,
) -> tuple[Row, Row]:
    names = ["best", *(f"within_{ratio:g}" for ratio in WITHIN[1:]), "solved"]
    headings = ["best", *(f"within {ratio:g} times" for ratio in WITHIN[1:]), "solved"]
    name, failed = contest.solvers[solver], contest.failed[solver]
    row: dict[str, Any] = {"optimizer": name, "device": contest.device, "cost": unit}
    shown: dict[str, Any] = dict(row)
    for i, (key, heading) in enumerate(zip(names, headings, strict=True)):
        row |= {key: band.share[i], f"{key}_ci_low": band.low[i], f"{key}_ci_high": band.high[i]}
        shown[heading] = f"{band.share[i]:.0%}"
        if band.high[i] > band.low[i]:
            shown[heading] += f" ({band.low[i]:.0%} to {band.high[i]:.0%})"
    sizes = {"problems": costs.shape[0], "seeds": costs.shape[1], "failed": failed}
    return {**row, **sizes}, {**shown, **{key: str(size) for key, size in sizes.items()}}


def tuning(
    tuned: Sequence[sensitivity.Tuned], seeds: int, goal: str = "final_loss"
) -> Table | None:
    """What tuning tried and found.

    Args:
        tuned: By optimizer, objective and device.
        seeds: How many seeds each setting was run with.
        goal: What the best setting is best by; see the spec.
    """
    rows: list[tuple[Row, Row]] = []
    for found in tuned:
        case, winner = found.case, found.winner
        own = stats.mean_interval(winner.losses[np.isfinite(winner.losses)])
        trials = sum(len(tried.statuses) for tried in found.settings)
        for name, space in found.spaces.items():
            edge = next((text for text in found.edges if text.startswith(f"{name} ")), "")
            at = "upper" if "upper" in edge else "lower" if edge else ""
            best = found.best[name]
            row = {
                "objective": case.objective,
                "optimizer": case.optimizer,
                "device": case.device,
                "hyperparameter": name,
                "space": search_space.shown(space),
                "best": best,
                "edge": at,
                "tuning_loss": own.mean,
                "settings": len(found.settings),
                "tuning_trials": trials,
                "failed": found.failed,
            }
            shown = {
                **{key: str(row[key]) for key in ("objective", "optimizer", "device")},
                "hyperparameter": name,
                "searched": search_space.shown(space),
                "best": f"{best:.4g}" if isinstance(best, float) else str(best),
                "at an edge": f"yes, the {at} one" if at else "no",
                "loss in tuning": significant(own.mean, 5),
                "settings": f"{len(found.settings):,}",
                "trials": f"{trials:,}",
                "failed": f"{found.failed:,}",
            }
            rows.append((row, shown))
    note = (
        "Every optimizer with a search had the same number of settings, drawn by a scrambled "
        f"Halton sequence and each run with the same {seeds} tuning seeds, which are none of "
        f"the seeds reported elsewhere. Best: {_BEST[goal]} Loss in tuning is the mean final loss "
        "of the best setting. At an edge: in the outer "
        f"{sensitivity.OUTER:.0%} of the range, or the outermost value drawn; a wider range may "
        "hold a better one. Failed: tuning trials that did not end ok."
    )
    return _table("tuning", "What tuning found", note, rows)


def retuned(found: Sequence[retuning.Retuned], compared: Sequence[Compared]) -> Table | None:
    """How often tuned optimizers would come in the same order if they were tuned again."""
    rows: list[tuple[Row, Row]] = []
    for one, other, share in retuning.pairs(found):
        ends = [[float(r.quantile(q)[-1]) for q in (0.5, 0.025, 0.975)] for r in (one, other)]
        called = called_between(compared, one.case, other.case)
        row = {
            "objective": one.case.objective,
            "device": one.case.device,
            "case": one.case.label,
            "against": other.case.label,
            "lower_share": share,
            "called": called,
            **{
                f"{who}_{name}": value
                for who, values in zip(("case", "against"), ends, strict=True)
                for name, value in zip(("median", "low", "high"), values, strict=True)
            },
        }
        shown = {
            **{key: str(row[key]) for key in ("objective", "device", "case", "against")},
            "lower in": f"{share:.0%} of tunings",
            "called now": called or DASH,
            "loss of the case, tuned again": _spread(*ends[0]),
            "of the other": _spread(*ends[1]),
        }
        rows.append((row, shown))
    note = (
        f"Tuning done again {retuning.RESAMPLES:,} times on resampled settings and seeds "
        "(bootstrap): a setting is chosen by the tuning seeds that are drawn and judged by the "
        "others. Lower in: the share of these tunings in which the case has the lower loss, ties "
        "counting as half. Called now: what the test on the one setting that was found says. Loss: "
        "median, and the middle 95% of tunings; ∞ where a trial that judges fails. A difference "
        "that is called and holds in few tunings is one of the settings that happened to be drawn."
    )
    return _table("retuning", "Were tuning done again", note, rows)


def called_between(compared: Sequence[Compared], case: CaseData, other: CaseData) -> str:
    """What is called of two cases; empty where they were not compared."""
    for one in compared:
        index = {own.position: i for i, own in enumerate(one.field.cases)}
        if case.position in index and other.position in index:
            pair = one.between(index[case.position], index[other.position])
            return pair.called if pair is not None else ""
    return ""


def _spread(median: float, low: float, high: float) -> str:
    texts = ("∞" if math.isinf(value) else significant(value, 4) for value in (median, low, high))
    middle, *ends = texts
    return f"{middle} ({' to '.join(ends)})"


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


def sensitive(curves: Sequence[sensitivity.Curve]) -> Table | None:
    """How wide the range of each hyperparameter is in which the loss is near its lowest."""
    rows: list[tuple[Row, Row]] = []
    for curve in curves:
        lowest, near = curve.lowest, curve.near()
        bad = curve.diverging()
        loss = lowest.mean if lowest else math.nan
        at = lowest.value if lowest else math.nan
        row = {
            "objective": curve.objective,
            "optimizer": curve.optimizer,
            "device": curve.device,
            "hyperparameter": curve.parameter,
            "range": search_space.shown(curve.space),
            "points": len(curve.points),
            "lowest_loss": loss,
            "at": at,
            "near_share": near,
            "failing_points": len(bad),
            "failing_from": min(bad, default=math.nan),
            "failing_to": max(bad, default=math.nan),
        }
        shown = {
            **{key: str(row[key]) for key in ("objective", "optimizer", "device")},
            "hyperparameter": curve.parameter,
            "range": search_space.shown(curve.space),
            "lowest loss": significant(loss, 5),
            "at": significant(at, 3),
            "near it in": DASH if math.isnan(near) else f"{near:.0%} of the range",
            "some seed failed at": _failing(curve),
            "points": str(len(curve.points)),
        }
        rows.append((row, shown))
    note = (
        "One hyperparameter over its range, the others held (at the best setting, where it was "
        "tuned). Lowest: mean final loss over the seeds, at the best of the points. Near it: the "
        "share of the range, on the range's own scale, in which every seed ends ok and the mean is "
        f"at most {sensitivity.FACTOR:g} times the lowest, both less the optimum where that is "
        "known. Some seed failed: values at which some trial diverged or failed."
    )
    return _table("sensitivity", "Sensitivity to hyperparameters", note, rows)


def _failing(curve: sensitivity.Curve) -> str:
    """Where some seed did not end ok, in words."""
    bad = curve.diverging()
    if not bad:
        return DASH
    if len(bad) == len(curve.points):
        return "every point"
    values = [point.value for point in curve.points]
    if list(bad) == values[-len(bad) :]:
        return f"{significant(bad[0], 3)} and above"
    if list(bad) == values[: len(bad)]:
        return f"{significant(bad[-1], 3)} and below"
    return f"{len(bad)} points from {significant(bad[0], 3)} to {significant(bad[-1], 3)}"


def claimed(checked: Sequence[claims.Checked]) -> Table | None:
    """Published numbers beside ours, those that don't hold first."""
    rows: list[tuple[Row, Row]] = []
    severity = ("not consistent", "at the edge", "can't be told", "consistent", "reproduced")
    for found in sorted(checked, key=lambda one: severity.index(one.verdict)):
        own = stats.spread(found.values)
        row = {
            **identity(found.case),
            "quantity": found.claim.quantity,
            "published": found.claim.value,
            "source": found.claim.source,
            "kind": found.kind,
            "median": own.median,
            "low": float(found.values[0]) if own.n else math.nan,
            "high": float(found.values[-1]) if own.n else math.nan,
            "percentile": found.percentile,
            "p": found.p,
            "least_p": found.least_p,
            "standard_deviations": found.deviations,
            "noticed_below": found.noticed[0],
            "noticed_above": found.noticed[1],
            "verdict": found.verdict,
            "why": found.why,
            "n": own.n,
            "failed": found.failed,
        }
        places = claims.decimals(found.claim.value)
        span = f"{row['low']:.{places}f} to {row['high']:.{places}f}"
        named = shown_identity(found.case)
        shown = {
            **{key: named[key] for key in ("objective", "optimizer", "setting")},
            "quantity": found.claim.quantity.replace("_", " "),
            "published": found.claim.value,
            "verdict": found.verdict,
            "ours": DASH if not own.n else f"{own.median:.{places}f}",
            "percentile": DASH if math.isnan(found.percentile) else f"{found.percentile:.3g}",
            "p": probability(found.p),
            "from the mean (sd)": significant(found.deviations, 3),
            "why": found.why,
            "source": found.claim.source,
            "from lowest to highest": DASH if found.kind == "fixed" or not own.n else span,
            "device": named["device"],
        }
        rows.append((row, shown))
    note = (
        "Ours: the median over the seeds that ended ok. A number that no seed changes is compared "
        "with the printed decimals. Any other is placed among the seeds, numbers within its "
        "rounding counting as equal; p is the two-sided probability that one more run of ours "
        "would be so far out, exact but never below 2 over one more than the number of seeds. A "
        "published mean is compared with ours by Welch's test. From the mean: how far the number "
        "lies from our mean, in standard deviations of ours. Reproduced: in every printed digit. "
        f"Consistent: p of {claims.EDGE:g} or more; at the edge: {claims.BEYOND:g} or more; not "
        "consistent: less, or further out than any loss of ours could be. The reasons say from "
        "which deviation on that would have been noticed with so many seeds. Of many claims, one "
        "in ten that is right will be called at the edge."
    )
    return _table("claims", "Published numbers", note, rows)


def parity(results: Results) -> Table | None:
    """How far optimizers part that should do the same."""
    rows: list[tuple[Row, Row]] = []
    ran = results.trials[~results.trials["status"].isin(["ok", "unavailable"])]
    failed = Counter(ran["position"].tolist())
    for name, told in results.run.settings.counterparts.items():
        for case, other in _counterparts(results, name, told.optimizer):
            apart, step = _apart(case, other)
            loss, scale = _loss_apart(case, other)
            row: dict[str, Any] = {
                **identity(case),
                "counterpart": other.optimizer,
                "parameters_apart": apart,
                "at_step": step,
                "losses_apart": loss,
                "losses_apart_relative": loss / scale if scale else math.nan,
                "because": told.because,
                "failed": failed[case.position],
                "counterpart_failed": failed[other.position],
            }
            shown = {
                **shown_identity(case),
                "counterpart": other.optimizer,
                "parameters apart": significant(apart, 2),
                "at step": DASH if math.isnan(step) else f"{step:.0f}",
                "losses apart": significant(loss, 2),
                "relative": significant(row["losses_apart_relative"], 2),
                "because": told.because or DASH,
                "failed": f"{failed[case.position]}, {failed[other.position]}",
            }
            rows.append((row, shown))
    note = (
        "The same optimizer by two codes, on the same seeds. Parameters apart: the largest "
        "distance between the two trajectories at any step and seed (two-dimensional objectives "
        "alone keep them). Losses apart: the largest difference of recorded losses, and the same "
        "as a share of the loss there. Because: the convention that parts them, as the spec has "
        "it. Failed: trials of each that did not end ok, compared as far as both got."
    )
    return _table("parity", "Parity of implementations", note, rows)


def _counterparts(results: Results, name: str, other: str) -> Iterator[tuple[CaseData, CaseData]]:
    """Cases of two optimizers that have the same setting, or the only one of each."""
    for case in results.cases:
        if case.optimizer != name:
            continue
        there = [
            c
            for c in results.cases_on(case.objective)
            if c.optimizer == other and c.device == case.device
        ]
        own = [
            c
            for c in results.cases_on(case.objective)
            if c.optimizer == name and c.device == case.device
        ]
        alike = [c for c in there if c.setting == case.setting]
        if len(own) == len(there) == 1:
            alike = there
        yield from ((case, c) for c in alike[:1] if len(case.seeds) and len(c.seeds))


def _apart(case: CaseData, other: CaseData) -> tuple[float, float]:
    """The largest distance between trajectories, and its step; NaN where none are kept.

    Infinite where one of the two has left for infinity and the other has not yet.
    """
    best, at = math.nan, math.nan
    for seed in sorted(case.trajectories.keys() & other.trajectories.keys()):
        one, two = case.trajectories[seed], other.trajectories[seed]
        length = min(len(one), len(two))
        distances = np.linalg.norm(_difference_of(one[:length], two[:length]), axis=1)
        if length and not float(distances.max()) <= best:
            best, at = float(distances.max()), float(distances.argmax())
    return best, at


def _loss_apart(case: CaseData, other: CaseData) -> tuple[float, float]:
    """The largest difference of recorded losses, and the loss there; NaN where none are shared."""
    seeds = np.intersect1d(case.seeds, other.seeds)
    one, two = (c.losses[np.searchsorted(c.seeds, seeds)] for c in (case, other))
    known = ~(np.isnan(one) | np.isnan(two))
    if not known.any():
        return math.nan, math.nan
    apart = np.where(known, np.abs(_difference_of(one, two)), -1.0)
    at = np.unravel_index(apart.argmax(), apart.shape)
    return float(apart[at]), float(abs(two[at]))


def _difference_of(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """One less the other, 0 where both are the same infinity or both are not a number."""
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    found = np.subtract(one, two, out=np.zeros_like(one), where=~same)
    return np.where(np.isnan(found), np.inf, found)


def _two(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.2f}"


def _cost(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "∞" if math.isinf(value) else significant(value, 3)


def _table(name: str, title: str, note: str, rows: Sequence[tuple[Row, Row]]) -> Table | None:
    """A table of rows as numbers and as shown; None of none."""
    if not rows:
        return None
    frame = pd.DataFrame([dict(row) for row, _ in rows])
    return Table(name, title, note, frame, pd.DataFrame([dict(shown) for _, shown in rows]))
