"""Findings of a run in sentences, made from its numbers and no stronger than they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import claims, comparison, profiles, retuning, stats, targets
from harness.analysis.comparison import ALPHA, Compared, ComparisonGroup, Pair
from harness.analysis.summary import Analysis
from harness.formatting import (
    all_or_none,
    decimals,
    is_are,
    listed,
    number,
    plural,
    probability,
    share,
    shift,
    short_time,
    significant,
    significant_interval,
)
from harness.formatting import interval as interval_text
from harness.reporting.tables.trials import NOISY, EpochSeconds, above, alike, timed
from harness.reporting.tables.verdict import headline
from harness.store.read import Results

FEWEST_SEEDS = 10
"""Seeds that a comparison of tuned optimizers should have at least."""

_CALLED = {
    "higher": ("worse", "on the same seeds, "),
    "lower": ("better", "on the same seeds, for all that, "),
}
"""The word for what is called of a case against the best, and how the part on such cases begins."""


@dataclass(frozen=True)
class Findings:
    """Findings of a run, in sentences.

    Attributes:
        outcome: On each objective's final loss, on targets over all, on published numbers.
        certainty: How sure that is, and what in the tuning asks for care.
        speed: How long an epoch takes.
        trouble: Which trials failed.
        headline: The answer in one sentence.
    """

    outcome: tuple[str, ...] = ()
    certainty: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    headline: str = ""


def summarise(results: Results, analysis: Analysis) -> Findings:
    """A sentence on each objective's final loss, then on targets, claims, tuning, speed, failures.

    Cases are compared on the seeds that all have, by Wilcoxon's signed-rank test, a trial that did
    not end ok being the worst; Holm's correction is for all pairs of an objective's cases, for
    which one is lowest is known from these same seeds. Every word on a difference is that of the
    table of differences, and its size is of the same test. No winner is named over all objectives.

    Args:
        results: What was run.
        analysis: What that comes to.
    """
    outcome = (
        *(_losses(results, one, analysis.means) for one in analysis.compared),
        *(_profile(results, contest) for contest in analysis.pools),
        _claims(analysis.claims),
    )
    certainty = (
        _basis(results, analysis.compared),
        _edges(analysis),
        _against_defaults(results, analysis.compared),
        _lost_to_special_cases(results, analysis.compared),
        _if_tuned_again(results, analysis),
        _few_seeds(results),
    )
    return Findings(
        outcome=_without_empty(outcome),
        certainty=_without_empty(certainty),
        speed=_without_empty([_speed(results)]),
        trouble=_without_empty([_failures(results)]),
        headline=headline(results, analysis),
    )


def _without_empty(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text)


# Certainty of the comparisons


def _basis(results: Results, compared: Sequence[Compared]) -> str:
    """The tests and intervals that the sentences on losses rest on."""
    random = [one for one in compared if one.group.is_random]
    if not random:
        return ""
    seeds = plural(len(results.run.settings.seeds), "seed")
    medians = [one.group.centre == "median" for one in random]
    text = f"Means are over {seeds}, with 95% bootstrap-t intervals"
    if all(medians):
        text = f"Medians are over {seeds}, with 95% intervals from order statistics"
    elif any(medians):
        text += "; medians, where the optimum is known, have them from order statistics"
    tested = [one for one in random if one.tested]
    if not tested:
        return f"{text}."
    text += (
        "; all optimizers have the same starts and batches at a seed, and a difference is called "
        "significant where a signed-rank test on these pairs, corrected for "
        f"{comparison.corrected_for(compared)} (Holm), has p ≤ {ALPHA:g}; by how much is the "
        "Hodges-Lehmann shift that belongs to this test, with its 95% interval"
    )
    if blind := [one.group.objective for one in tested if one.least_adjusted > ALPHA]:
        text += f"; {seeds} are too few for that on {listed(blind)}"
    return f"{text}. {_by_chance(tested)}"


def _by_chance(tested: Sequence[Compared]) -> str:
    """The differences that would be called if nothing differed."""
    count, of_page = len(tested), any(one.of_page for one in tested)
    if of_page or count == 1:
        return (
            f"Were all optimizers equal, any difference would be called {'on this page ' * of_page}"
            f"with a probability of at most {share(ALPHA)}."
        )
    return (
        "Were all optimizers equal, a difference would be called by chance on up to "
        f"{significant(ALPHA * count, 2)} of these {count} objectives on average, and on some with "
        f"a probability of up to {share(1 - (1 - ALPHA) ** count)}; correction: page in the spec "
        "corrects for all of them together."
    )


# Final losses


def _losses(results: Results, one: Compared, means: Mapping[int, stats.Mean]) -> str:
    """The sentence on an objective's final losses; empty where no trial ended ok."""
    field = one.group
    order = [i for i in field.order() if np.isfinite(field.losses[i]).any()]
    # What is tuned is compared tuned; another sentence is on the defaults.
    order = [i for i in order if field.cases[i].role != "defaults"] or order
    if not order:
        return ""
    place = f"On {_where(results, field.objective, field.device)}"
    if not field.is_random:
        return _without_chance(results, field, place, order)
    best, others = order[0], order[1:]
    tied = [i for i in others if (pair := one.between(i, best)) and pair.called == "tied"]
    first = [f"{field.cases[i].label}{_failed(field, i)}" for i in (best, *tied)]
    text = f"{place}, {listed(first)} {'have, tied,' if tied else 'has'} "
    what, value = _centre(field, best, means)
    if not others:
        return f"{text}a {what} of {value}; {_never_ok(field) or 'no other ran there'}."
    if float(field.centres[best]) <= min(float(field.centres[i]) for i in order):
        text += f"the lowest {what}, {value}"
    else:
        fewest = f"{field.failures[best]} of {len(field.seeds)}"
        text += f"the fewest failures ({fewest}), then the lowest {what}, {value}"
    return (
        "; ".join(part for part in (text, *_others(one, best, others), _never_ok(field)) if part)
        + "."
    )


def _without_chance(
    results: Results, field: ComparisonGroup, place: str, order: Sequence[int]
) -> str:
    """The sentence where every seed ends alike: the lowest and the highest loss."""
    steps = f"{results.objectives[field.objective].steps:,} steps"
    few = len(field.seeds) < 2
    why = "one seed, so nothing is said of chance" if few else "every seed ends alike"

    def tied_with(index: int) -> list[int]:
        return [i for i in order if not field.differences(i, index).any()]

    def labels(index: int) -> str:
        return listed([field.cases[i].label for i in tied_with(index)])

    low, high = (significant(float(field.centres[i])) for i in (order[0], order[-1]))
    lowest, never = tied_with(order[0]), _never_ok(field)
    if len(order) == 1:
        end = f"{labels(order[0])} ends at {low} after {steps}"
        return f"{place} ({why}), {end}; {never or 'no other ran there'}."
    verb = "end, tied," if len(lowest) > 1 else "ends"
    text = f"{place} ({why}), {labels(order[0])} {verb} lowest after {steps}, at {low}"
    if order[-1] not in lowest:
        text += f"; highest: {labels(order[-1])} at {high}"
    return f"{text}; {never}." if never else f"{text}."


def _centre(field: ComparisonGroup, index: int, means: Mapping[int, stats.Mean]) -> tuple[str, str]:
    """The name of what stands for a case's losses, and its value with its interval."""
    if field.optimum is None:
        mean = means[field.cases[index].position]
        places = decimals(mean.mean, mean.low, mean.high)
        note = f"{mean.n} seeds" if mean.n != 1 else "one seed"
        if math.isfinite(mean.low) and mean.sd == 0:
            note += ", all alike"
        elif math.isfinite(mean.low):
            note = f"95% CI {interval_text(mean.low, mean.high, places)}, {note}"
        return "mean final loss", f"{number(mean.mean, places)} ({note})"
    losses = field.losses[index][np.isfinite(field.losses[index])]
    gap = above(float(field.centres[index]), field.optimum)
    low, high = (above(end, field.optimum) for end in stats.median_interval(losses))
    value, note = significant(gap), f"{len(losses)} seed{'s' * (len(losses) != 1)}"
    if max(gap, high) <= float(field.floors.max()) - field.smallest:
        value = "0 but for rounding"
    elif alike(losses):
        note += ", all alike"
    elif math.isfinite(low):
        note = f"95% CI {significant_interval(low, high)}, {note}"
    return "median gap to the optimum", f"{value} ({note})"


def _others(one: Compared, best: int, others: Sequence[int]) -> Iterator[str]:
    """The parts of a sentence on the other cases, against the best."""
    cases = one.group.cases
    pairs = {i: pair for i in others if (pair := one.between(i, best)) is not None}
    unclear = [i for i, pair in pairs.items() if pair.called == "not significantly different"]
    if unclear:
        least = min(pairs[i].adjusted for i in unclear)
        names = [f"{cases[i].label}{_failed(one.group, i)}" for i in unclear]
        sign = "=" if len(names) == 1 or least == 1 else "≥"
        text = f"{listed(names)} {is_are(len(names))} not significantly different from "
        text += f"{cases[best].label} (p {sign} {probability(least)})"
        if one.least_adjusted > ALPHA:
            seeds = len(one.group.seeds)
            text += f", for {seeds} seeds are too few to tell {len(cases)} cases"
        yield text
    for called, (word, begin) in _CALLED.items():
        found = [f"{cases[i].label} {_by(p, word)}" for i, p in pairs.items() if p.called == called]
        if found:
            yield begin + listed(found)
    if unpaired := len(others) - len(pairs):
        yield f"{unpaired:,} more, which come after these in that order, were not compared"


def _by(pair: Pair, word: str) -> str:
    """The size of a difference by which the first of a pair is worse, or better."""
    p = f"p = {probability(pair.adjusted)}" if pair.is_tested else "every seed ends alike"
    own, other = pair.failed
    if pair.by_failures:
        return f"fails in {own} of {pair.n} seeds, against {other} ({p})"
    if pair.has_shift:
        by, ends = shift(pair.shift, pair.low, pair.high, 1 if word == "worse" else -1)
        interval = f"95% CI {ends}, " if pair.is_tested else ""
        failed = f", {own} of {pair.n} failed" if own else ""
        return f"is {word} by {by} ({interval}{p}{failed})"
    counts = (pair.higher, pair.lower) if word == "worse" else (pair.lower, pair.higher)
    opposite = "better" if word == "worse" else "worse"
    return f"is {word} at {counts[0]} of {pair.n} seeds and {opposite} at {counts[1]} ({p})"


def _failed(field: ComparisonGroup, index: int) -> str:
    """The number of a case's trials that did not end ok; empty if all did."""
    failed = int(field.failures[index])
    return f" ({failed} of {len(field.seeds)} did not end ok)" if failed else ""


def _never_ok(field: ComparisonGroup) -> str:
    """The cases of which no trial ended ok; empty where there are none."""
    names = [
        case.label
        for case, failed in zip(field.cases, field.failures, strict=True)
        if failed == len(field.seeds) and case.role != "defaults"
    ]
    if not names:
        return ""
    fail = "fails" if len(names) == 1 else "fail"
    return f"{listed(names)} {fail} in all {len(field.seeds)} seeds"


# All objectives, and published numbers


def _profile(results: Results, contest: targets.OptimizerPool) -> str:
    """The sentence on performance profiles over all objectives; it names no single winner."""
    if not contest.says_much:
        return ""
    solved = np.isfinite(contest.steps).mean(axis=(0, 1))
    best = (profiles.performance_ratios(contest.steps) == 1).mean(axis=(0, 1))
    where = f" ({contest.device})" if len({c.device for c in results.cases}) > 1 else ""

    def first(shares: NDArray[np.float64]) -> str:
        top = float(shares.max())
        names = [name for name, own in zip(contest.solvers, shares, strict=True) if own == top]
        return f"{listed(names)} ({share(top)})"

    return (
        f"Over {len(contest.objectives)} objectives{where}, the largest share of targets is "
        f"reached by {first(solved)}, and most often first is {first(best)}; which is better "
        "depends on the objective."
    )


def _claims(checked: Sequence[claims.CheckedClaim]) -> str:
    """The sentence on published numbers: how many hold, and which don't."""
    if not checked:
        return ""
    by_verdict: dict[claims.Verdict, list[str]] = {}
    for found in checked:
        by_verdict.setdefault(found.verdict, []).append(_claim(found))
    exact, total = len(by_verdict.get("reproduced", ())), len(checked)
    held = exact + len(by_verdict.get("consistent", ()))
    if total > 1:
        text = f"Of {total:,} published numbers, {all_or_none(held, total)} {is_are(held)} "
        text += "consistent with what we find"
        text += f", {all_or_none(exact, held)} of them in every digit" if exact else ""
    elif exact:
        text = "The one published number is reproduced in every digit"
    elif "can't be told" in by_verdict:
        text = "Of the one published number, nothing can be said"
    else:
        text = f"The one published number is {'' if held else 'not '}consistent with what we find"
    words: dict[claims.Verdict, str] = {
        "not consistent": "not consistent",
        "at the edge": "at the edge of what we find",
        "can't be told": "not to be told with so few seeds",
    }
    parts = [f"{word}: {listed(by_verdict[v])}" for v, word in words.items() if v in by_verdict]
    least = min((own for one in checked if math.isfinite(own := one.least_noticed)), default=0.0)
    if least:
        deviations = f"{significant(least, 2)} standard deviations"
        parts.append(f"no deviation below {deviations} could have been noticed")
    return "; ".join([text, *parts]) + "."


def _claim(found: claims.CheckedClaim) -> str:
    text = f"{found.claim.value} of {found.case.label} on {found.case.objective}"
    if found.verdict == "not consistent" and found.p >= claims.BEYOND:
        return f"{text} ({abs(found.deviations):.3g} standard deviations away)"
    return f"{text} (p = {found.p:.2g})" if math.isfinite(found.p) else text


# Tuning


def _edges(analysis: Analysis) -> str:
    """The sentence on best settings at an edge of what was searched."""
    edges = [
        f"{found.case.optimizer} on {found.case.objective} ({'; '.join(found.edges)})"
        for found in analysis.tuned
        if found.edges
    ]
    before = "Tuned to an edge of the search space, so that a wider one may hold better: "
    return f"{before}{listed(edges)}." if edges else ""


def _against_defaults(results: Results, compared: Sequence[Compared]) -> str:
    """The sentence on tuned settings against the constructors' defaults."""
    by_called: dict[str, list[str]] = {}
    for one in compared:
        index = {(case.optimizer, case.role): i for i, case in enumerate(one.group.cases)}
        for (optimizer, role), i in index.items():
            other = index.get((optimizer, "defaults"))
            pair = None if role != "tuned" or other is None else one.between(i, other)
            if pair is not None:
                where = _where(results, one.group.objective, one.group.device)
                by_called.setdefault(pair.called, []).append(f"{optimizer} on {where}")
    total, lower = sum(map(len, by_called.values())), len(by_called.get("lower", ()))
    if not total:
        return ""
    text = "Tuned settings do better than the constructor's defaults "
    if lower == total:
        return text + ("in the one case." if total == 1 else f"in all {total} cases.")
    parts = [f"{text}in {lower} of {total} cases"]
    for called, words in (
        ("not significantly different", "not significantly different from them"),
        ("tied", "tied with them"),
        ("higher", "worse than them"),
    ):
        if names := by_called.get(called):
            parts.append(f"{words} {is_are(len(names))} {listed(names)}")
    return "; ".join(parts) + "."


def _lost_to_special_cases(results: Results, compared: Sequence[Compared]) -> str:
    """The sentence on tuned optimizers that do worse than a special case of theirs."""
    lost = []
    for one in compared:
        where = _where(results, one.group.objective, one.group.device)
        for pair in one.pairs:
            for seen in (pair, pair.seen_from(pair.second)):
                case, other = one.group.cases[seen.first], one.group.cases[seen.second]
                special = other.optimizer in results.run.settings.generalizes.get(
                    case.optimizer, ()
                )
                is_fair = case.role == "tuned" and other.role in ("tuned", "given")
                if special and is_fair and seen.called == "higher":
                    lost.append(f"{case.optimizer} than {other.label} on {where}")
    before = "Tuned, and yet worse than its own special case, which it can't be if tuned well: "
    return f"{before}{listed(lost)}." if lost else ""


def _if_tuned_again(results: Results, analysis: Analysis) -> str:
    """The sentence on differences that hang on the settings that tuning drew."""
    called, unsteady = 0, []
    for one, other, lower in retuning.pairs(analysis.retuned):
        word = comparison.called_between(analysis.compared, one.case, other.case)
        if word not in ("lower", "higher"):
            continue
        called += 1
        names, same = (one.case.optimizer, other.case.optimizer), lower
        if word == "higher":
            names, same = names[::-1], 1 - lower
        if same < stats.CONFIDENCE:
            where = _where(results, one.case.objective, one.case.device)
            unsteady.append((same, f"{names[0]} before {names[1]} on {where}"))
    if not unsteady:
        return ""
    texts = [f"{text} ({share(same)})" for same, text in sorted(unsteady)]
    return (
        f"Tuned again, on resampled settings and seeds, {len(unsteady):,} of {called:,} "
        "differences called between tuned optimizers hold in fewer than "
        f"{share(stats.CONFIDENCE)} of tunings: {listed(texts)}."
    )


def _few_seeds(results: Results) -> str:
    seeds = len(results.run.settings.seeds)
    if not results.run.settings.tuning or seeds >= FEWEST_SEEDS:
        return ""
    return (
        f"The tuned settings are compared on {seeds} seeds; {FEWEST_SEEDS} are the least that a "
        "comparison should rest on."
    )


# Speed and failures


def _speed(results: Results) -> str:
    """Seconds of an epoch where most optimizers can be compared; of several such, the slowest."""
    rows = [row for row in timed(results) if row.case.setting != "defaults"]
    if not rows:
        return ""
    groups: dict[tuple[str, str], list[EpochSeconds]] = {}
    for row in rows:
        groups.setdefault((row.case.objective, row.case.device), []).append(row)

    def weight(group: Sequence[EpochSeconds]) -> tuple[int, float]:
        return len({r.case.optimizer for r in group}), max(r.seconds.median for r in group)

    group = max(groups.values(), key=weight)
    first, *others = group
    text = (
        f"On {_where(results, first.case.objective, first.case.device)}, an epoch takes "
        f"{first.reference.label} {short_time(first.seconds.median)} (median of {first.seconds.n} "
        f"blocks, interquartile range {short_time(first.seconds.iqr)})"
    )
    ratios = []
    for row in others:
        low, high = row.ratio_ends
        ends = f" ({significant_interval(low, high)})" if math.isfinite(low + high) else ""
        ratios.append(f"{row.case.label} {significant(row.ratio)} times as long{ends}")
    text = f"{text}; {listed(ratios)}" if ratios else text
    return f"{text}{_busy(group)}."


def _busy(rows: Sequence[EpochSeconds]) -> str:
    """A part of a sentence on times that are noisy; empty where none is."""
    noisy = [row.noise for row in rows if row.noise > NOISY]
    if not noisy:
        return ""
    which, advice = "this is", "take it as rough"
    if len(rows) > 1:
        which = f"{len(noisy)} of these {len(rows)} times {is_are(len(noisy))}"
        advice = "trust the ratios more than the seconds"
    worst = share(max(noisy))
    return f"; measured on a busy machine: {which} noisy (up to {worst}), so {advice}"


def _failures(results: Results) -> str:
    """Counts of trials that did not end ok, and of those that the spec's limit alone cut off."""
    counts = results.trials["status"].value_counts()
    words = {"diverged": "diverged", "error": "ended in error", "timeout": "timeout"}
    parts = [f"{counts[s]:,} {word}" for s, word in words.items() if s in counts]
    if not parts:
        return ""
    lost = results.trials[results.trials["status"] == "diverged"]
    limited = sum(
        int(np.isin(lost.loc[lost["position"] == case.position, "seed"], case.ended_finite()).sum())
        for case in results.cases
    )
    note = f" ({limited:,} of these at a finite loss, above the limit)" if limited else ""
    ran = int((results.trials["status"] != "unavailable").sum())
    return f"Of {ran:,} trials, {listed(parts)}{note}; no number above stands in for them."


def _where(results: Results, objective: str, device: str) -> str:
    """An objective, with the device where results come from several."""
    ran = results.trials[results.trials["status"] != "unavailable"]
    return f"{objective} ({device})" if ran["device"].nunique() > 1 else objective
