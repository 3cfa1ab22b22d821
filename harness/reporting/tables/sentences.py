"""Findings of a run in sentences, made from its numbers and no stronger than they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis import claims, profiles, stats, targets
from harness.analysis.comparison import ALPHA, Compared, ComparisonGroup, Pair
from harness.analysis.summary import Analysis
from harness.formatting import (
    all_or_none,
    decimals,
    device_name,
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
    was_were,
)
from harness.formatting import interval as interval_text
from harness.reporting import wording
from harness.reporting.tables import stopped, tuning_sentences, win_sentences
from harness.reporting.tables.comparison import corrected_for
from harness.reporting.tables.trials import NOISY, EpochSeconds, above, alike, most_compared
from harness.reporting.tables.tuning_sentences import place_of, protocol
from harness.reporting.tables.verdict import headline
from harness.store.read import ObjectiveInfo, Results

_CALLED: tuple[tuple[Literal["worse", "better"], str], ...] = (("worse", ""), ("better", "yet "))
"""What is called of a case against the best, and how the part on such cases begins."""


@dataclass(frozen=True)
class Findings:
    """Findings of a run, in sentences.

    Attributes:
        overall: On targets over all objectives, and on published numbers.
        losses: By objective, on its final losses.
        certainty: Tests and intervals, and what in the tuning asks for care.
        speed: Time per epoch.
        trouble: Failed and skipped trials.
        headline: The answer in one sentence.
    """

    overall: tuple[str, ...] = ()
    losses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    certainty: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    headline: str = ""

    @property
    def outcome(self) -> tuple[str, ...]:
        """The sentences on losses, objective by objective, then those on all together."""
        return (*itertools.chain.from_iterable(self.losses.values()), *self.overall)


def summarise(results: Results, analysis: Analysis) -> Findings:
    """A sentence on each objective's final loss, then on targets, claims, tuning, speed, failures.

    Cases are compared on the seeds that all have, by Wilcoxon's signed-rank test, a failed trial
    being the worst; Holm's correction is for all pairs of an objective's cases, for
    which one is lowest is known from these same seeds. Every word on a difference is that of the
    table of differences, and its size is of the same test. No winner is named over all objectives.

    Args:
        results: What was run.
        analysis: What that comes to.
    """
    losses: dict[str, tuple[str, ...]] = {}
    for one in analysis.compared:
        text, name = _losses(results, one, analysis.means), one.group.objective
        losses[name] = (*losses.get(name, ()), *([text] if text else []))
    for name, known in losses.items():
        info = results.objectives[name]
        more = (protocol(results, info), stopped.sentence(results, name))
        losses[name] = (*known, *_without_empty(more))
    overall = (
        *itertools.chain.from_iterable(map(win_sentences.families, analysis.maps)),
        *(_profile(results, pool) for pool in analysis.pools),
        _claims(analysis.claims),
    )
    certainty = (
        _basis(results, analysis.compared),
        tuning_sentences.at_an_edge(analysis),
        tuning_sentences.against_defaults(results, analysis.compared),
        tuning_sentences.worse_than_special_cases(results, analysis.compared),
        tuning_sentences.if_tuned_again(results, analysis),
        tuning_sentences.few_seeds(results),
    )
    return Findings(
        overall=_without_empty(overall),
        losses=losses,
        certainty=_without_empty(certainty),
        speed=_without_empty([_speed(results)]),
        trouble=_without_empty([_failures(results), *_skipped(results)]),
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
        f"{corrected_for(compared)} (Holm), has p ≤ {ALPHA:g}; its size is the "
        "Hodges-Lehmann estimate that belongs to this test, with its 95% interval"
    )
    if blind := [one.group.objective for one in tested if one.least_adjusted > ALPHA]:
        text += f"; {seeds} are too few to show that on {listed(blind)}"
    return f"{text}. {_by_chance(tested)}"


def _by_chance(tested: Sequence[Compared]) -> str:
    """The expected number of false alarms."""
    count, of_page = len(tested), any(one.of_page for one in tested)
    if of_page or count == 1:
        return (
            "If all optimizers were equal, the probability of calling any difference "
            f"{'on this page ' * of_page}significant would be at most {share(ALPHA)}."
        )
    return (
        "If all optimizers were equal, a difference would be called significant by chance on up to "
        f"{significant(ALPHA * count, 2)} of these {count} objectives on average, and on at least "
        f"one with a probability of up to {share(1 - (1 - ALPHA) ** count)}; 'correction: page' in "
        "the spec corrects for all of them together."
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
    place = f"On {place_of(results, field.objective, field.device)}"
    if not field.is_random:
        return _without_chance(results, field, place, order)
    info = results.objectives[field.objective]
    best, others = order[0], order[1:]
    tied = [i for i in others if (pair := one.between(i, best)) and pair.called == "tied"]
    first = [f"{field.cases[i].label}{_failed(field, i)}" for i in (best, *tied)]
    text = f"{place}, {listed(first)} {'have, tied,' if tied else 'has'} "
    what, value = _centre(field, info, best, means)
    if not others:
        return f"{text}a {what} of {value}; {_never_ok(field) or 'no other optimizer ran on it'}."
    if float(field.centres[best]) <= min(float(field.centres[i]) for i in order):
        text += f"the {wording.extreme(info.measure)} {what}, {value}"
    else:
        fewest = f"{field.failures[best]} of {len(field.seeds)}"
        text += f"the fewest failures ({fewest}), then the {wording.extreme(info.measure)} {what}, "
        text += value
    return (
        "; ".join(part for part in (text, *_others(one, best, others), _never_ok(field)) if part)
        + "."
    )


def _without_chance(
    results: Results, field: ComparisonGroup, place: str, order: Sequence[int]
) -> str:
    """The sentence where all seeds give the same result: the best and the worst value."""
    info = results.objectives[field.objective]
    steps = f"{info.steps:,} steps"
    few = len(field.seeds) < 2
    why = "one seed, so not tested" if few else "all seeds give the same result"

    def tied_with(index: int) -> list[int]:
        return [i for i in order if not field.differences(i, index).any()]

    def labels(index: int) -> str:
        return listed([field.cases[i].label for i in tied_with(index)])

    ends = (float(field.centres[i]) for i in (order[0], order[-1]))
    low, high = (significant(field.shown(end)) for end in ends)
    lowest, never = tied_with(order[0]), _never_ok(field)
    if len(order) == 1:
        end = f"{labels(order[0])} has a {info.words} of {low} after {steps}"
        return f"{place} ({why}), {end}; {never or 'no other optimizer ran on it'}."
    verb = "have, tied," if len(lowest) > 1 else "has"
    text = f"{place} ({why}), {labels(order[0])} {verb} "
    text += f"the {wording.extreme(info.measure)} {info.words} after {steps}, {low}"
    if order[-1] not in lowest:
        text += f"; {labels(order[-1])} the {wording.worst(info.measure)}, {high}"
    return f"{text}; {never}." if never else f"{text}."


def _centre(
    field: ComparisonGroup, info: ObjectiveInfo, index: int, means: Mapping[int, stats.Mean]
) -> tuple[str, str]:
    """The name of what stands for a case's losses, and its value with its interval."""
    if field.optimum is None:
        mean = means[field.cases[index].position]
        places = decimals(mean.mean, mean.low, mean.high)
        note = f"{mean.n} seeds" if mean.n != 1 else "one seed"
        if math.isfinite(mean.low) and mean.sd == 0:
            note += ", all the same"
        elif math.isfinite(mean.low):
            note = f"95% CI {interval_text(mean.low, mean.high, places)}, {note}"
        return f"mean final {info.words}", f"{number(mean.mean, places)} ({note})"
    losses = field.losses[index][np.isfinite(field.losses[index])]
    gap = above(float(field.centres[index]), field.optimum)
    low, high = (above(end, field.optimum) for end in stats.median_interval(losses))
    value, note = significant(gap), f"{len(losses)} seed{'s' * (len(losses) != 1)}"
    if max(gap, high) <= field.rounding_floor:
        value = "0 but for rounding"
    elif alike(losses):
        note += ", all the same"
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
    for word, begin in _CALLED:
        found = [f"{cases[i].label} {_by(p, word)}" for i, p in pairs.items() if p.called == word]
        if found:
            yield begin + listed(found)
    if unpaired := len(others) - len(pairs):
        more = plural(unpaired, "lower-ranked case")
        yield f"{more} {was_were(unpaired)} not compared"


def _by(pair: Pair, word: str) -> str:
    """The size of a difference by which the first of a pair is worse, or better."""
    p = f"p = {probability(pair.adjusted)}" if pair.is_tested else "the same for all seeds"
    own, other = pair.failed
    if pair.by_failures:
        return f"fails in {own} of {pair.n} seeds, against {other} ({p})"
    if pair.has_shift:
        by, ends = shift(pair.shift, pair.low, pair.high, 1 if word == "worse" else -1)
        interval = f"95% CI {ends}, " if pair.is_tested else ""
        failed = f", {own} of {pair.n} failed" if own else ""
        return f"is {word} by {by} ({interval}{p}{failed})"
    counts = (pair.worse, pair.better) if word == "worse" else (pair.better, pair.worse)
    opposite = "better" if word == "worse" else "worse"
    return f"is {word} at {counts[0]} of {pair.n} seeds and {opposite} at {counts[1]} ({p})"


def _failed(field: ComparisonGroup, index: int) -> str:
    """The number of a case's failed trials; empty if there are none."""
    failed = int(field.failures[index])
    return f" ({failed} of {len(field.seeds)} failed)" if failed else ""


def _never_ok(field: ComparisonGroup) -> str:
    """The cases of which all trials failed; empty where there are none."""
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


def _profile(results: Results, pool: targets.OptimizerPool) -> str:
    """The sentence on performance profiles over all objectives; it names no single winner."""
    if not pool.says_much:
        return ""
    solved = np.isfinite(pool.steps).mean(axis=(0, 1))
    best = (profiles.performance_ratios(pool.steps) == 1).mean(axis=(0, 1))
    where = f" ({pool.device})" if len({c.device for c in results.cases}) > 1 else ""

    def first(shares: NDArray[np.float64]) -> str:
        top = float(shares.max())
        names = [name for name, own in zip(pool.solvers, shares, strict=True) if own == top]
        return f"{listed(names)} ({share(top)})"

    return (
        f"Over {len(pool.objectives)} objectives{where}, the largest share of targets is "
        f"reached by {first(solved)}, and the fewest steps to a target are most often taken by "
        f"{first(best)}; which is better depends on the objective."
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
        text += "consistent with these results"
        text += f", {all_or_none(exact, held)} of them in every digit" if exact else ""
    elif exact:
        text = "The one published number is reproduced in every digit"
    elif "undecided" in by_verdict:
        text = "The one published number can be neither confirmed nor rejected"
    else:
        text = f"The one published number is {'' if held else 'not '}consistent with these results"
    words: dict[claims.Verdict, str] = {
        "not consistent": "not consistent",
        "borderline": "borderline",
        "undecided": "undecided with so few seeds",
    }
    parts = [f"{word}: {listed(by_verdict[v])}" for v, word in words.items() if v in by_verdict]
    least = min((own for one in checked if math.isfinite(own := one.least_noticed)), default=0.0)
    if least:
        deviations = f"{significant(least, 2)} standard deviations"
        parts.append(f"a deviation below {deviations} could not have been detected")
    return "; ".join([text, *parts]) + "."


def _claim(found: claims.CheckedClaim) -> str:
    text = f"{found.claim.value} of {found.case.label} on {found.case.objective}"
    if found.verdict == "not consistent" and found.p >= claims.BEYOND:
        return f"{text} ({abs(found.deviations):.3g} standard deviations away)"
    return f"{text} (p = {found.p:.2g})" if math.isfinite(found.p) else text


# Speed and failures


def _speed(results: Results) -> str:
    """Time per epoch where most optimizers can be compared; of several such, the slowest."""
    rows = most_compared(results)
    if not rows:
        return ""
    first, *others = rows
    text = (
        f"On {place_of(results, first.case.objective, first.case.device)}, {first.reference.label} "
        f"takes {short_time(first.seconds.median)} per epoch (median of {first.seconds.n} blocks, "
        f"interquartile range {short_time(first.seconds.iqr)})"
    )
    ratios = []
    for row in others:
        low, high = row.ratio_ends
        ends = f" (95% CI {significant_interval(low, high)})" if math.isfinite(low + high) else ""
        ratios.append(f"{row.case.label} {significant(row.ratio)} times as long{ends}")
    text = f"{text}; {listed(ratios)}" if ratios else text
    return f"{text}{_busy(rows)}."


def _busy(rows: Sequence[EpochSeconds]) -> str:
    """A part of a sentence on times that are noisy; empty where none is."""
    noise = max((row.noise for row in rows if row.noise > NOISY), default=0.0)
    if not noise:
        return ""
    if len(rows) == 1:
        return f"; the machine was busy (noise {share(noise)}), so this time is only approximate"
    return f"; the machine was busy (noise up to {share(noise)}): compare ratios, not seconds"


def _failures(results: Results) -> str:
    """Counts of failed trials, and of those that the spec's limit alone cut off."""
    counts = results.trials["status"].value_counts()
    words = {"diverged": "diverged", "error": "stopped with an error", "timeout": "timed out"}
    parts = [f"{counts[s]:,} {word}" for s, word in words.items() if s in counts]
    if not parts:
        return ""
    diverged = results.trials[results.trials["status"] == "diverged"]
    limited = sum(
        int(
            np.isin(
                diverged.loc[diverged["position"] == case.position, "seed"], case.ended_finite()
            ).sum()
        )
        for case in results.cases
    )
    note = f" ({limited:,} of these at a finite loss, above the limit)" if limited else ""
    ran = int((results.trials["status"] != "unavailable").sum())
    return f"Of {ran:,} trials, {listed(parts)}{note}; no value is imputed for them."


def _skipped(results: Results) -> Iterator[str]:
    """A sentence on each device that is not available."""
    total = len(results.trials)
    for device, reason in sorted(results.run.settings.missing.items()):
        count = int((results.trials["device"] == device).sum())
        yield (
            f"{device_name(device)} is not available: {count:,} of {plural(total, 'trial')} "
            f"skipped ({reason})."
        )
