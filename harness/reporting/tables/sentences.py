"""What came out, in sentences made from the numbers and no stronger than they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import formatting
from harness.analysis import claims, comparison, profiles, retuning, stats, targets
from harness.analysis.comparison import Compared
from harness.analysis.summary import Analysis
from harness.gate.report import CellVerdict, GateReport, Judgement
from harness.reporting.tables import trials as trial_tables
from harness.store.read import CaseData, Results

NAMED = 4
"""Cases that a sentence names one by one."""

FEWEST_SEEDS = 10
"""Seeds that a comparison of tuned optimizers should have at least."""


@dataclass(frozen=True)
class Findings:
    """What there is to say of a run, in sentences.

    Attributes:
        outcome: On each objective's final loss, on targets over all, on published numbers.
        certainty: How sure that is, and what in the tuning asks for care.
        speed: How long an epoch takes.
        trouble: Which trials did not end ok.
    """

    outcome: tuple[str, ...] = ()
    certainty: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()


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
    outcome = [
        *(_loss(results, one, analysis.means) for one in analysis.compared),
        *_over_all(results, analysis.contests),
        _claims(analysis.claims),
    ]
    certainty = [_sure(results, analysis.compared), *_tuning(results, analysis)]
    told = (outcome, certainty, [_speed(results)], [_failures(results)])
    return Findings(*(tuple(text for text in texts if text) for texts in told))


def _sure(results: Results, compared: Sequence[Compared]) -> str:
    """What the sentences on losses rest on."""
    random = [one for one in compared if one.field.is_random]
    seeds = len(results.run.settings.seeds)
    if not random:
        return ""
    known = [one.field.centre == "median" for one in random]
    plural = "seed" if seeds == 1 else "seeds"
    text = f"Means are over {seeds:,} {plural}, with 95% bootstrap-t intervals"
    if all(known):
        text = f"Medians are over {seeds:,} {plural}, with 95% intervals from order statistics"
    elif any(known):
        text += "; medians, where the optimum is known, have them from order statistics"
    tested = [one for one in random if one.tested]
    if not tested:
        return f"{text}."
    text += (
        "; all optimizers have the same starts and batches at a seed, and a difference is called "
        "significant where a signed-rank test on these pairs, corrected for "
        f"{comparison.corrected_for(compared)} (Holm), has p ≤ {comparison.LEVEL:g}; by how much "
        "is the Hodges-Lehmann shift that belongs to this test, with its 95% interval"
    )
    blind = [one.field.objective for one in tested if one.least_adjusted > comparison.LEVEL]
    if blind:
        text += f"; {seeds:,} seeds are too few for that on {_listed(blind)}"
    return f"{text}. {_by_chance(tested)}"


def _by_chance(tested: Sequence[Compared]) -> str:
    """How many calls there would be if nothing differed."""
    if any(one.of_page for one in tested):
        return (
            "Were all optimizers equal, any difference would be called on this page with a "
            f"probability of at most {comparison.LEVEL:.0%}."
        )
    count = len(tested)
    if count == 1:
        return (
            "Were all optimizers equal, any difference would be called with a probability of at "
            f"most {comparison.LEVEL:.0%}."
        )
    return (
        "Were all optimizers equal, a difference would be called by chance on up to "
        f"{formatting.significant(comparison.LEVEL * count, 2)} of these {count} objectives"
        f" on average, and on some with a probability of up to "
        f"{1 - (1 - comparison.LEVEL) ** count:.0%}; correction: page in the spec corrects for all "
        "of them together."
    )


def against(report: GateReport) -> str:
    """What came of a check, in a sentence."""
    worse, gone, unsure, better, warned = (
        _cells(report, outcomes, only_warns=warns)
        for outcomes, warns in (
            (("regressed",), False),
            (("missing", "failed"), False),
            (("inconclusive", "not comparable"), False),
            (("better",), None),
            (("regressed", "missing", "failed", "inconclusive", "not comparable"), True),
        )
    )
    total = len(report.cells)
    of = f"of {total:,} {'cell' if total == 1 else 'cells'}"
    text = f"Against {report.against}, "
    parts = []
    if worse:
        parts.append(f"{len(worse):,} {of} got worse: {_told(worse)}")
    else:
        which, no = (f"none {of}", "") if total != 1 else ("the one cell", " not")
        ends = f"is{no} known to have" if gone or unsure else f"has{no}"
        parts.append(f"{which} {ends} got worse")
    if gone:
        parts.append(f"{len(gone):,} {_is(gone)} missing or failed: {_told(gone)}")
    if unsure:
        parts.append(f"{len(unsure):,} can't be told: {_told(unsure)}")
    if warned:
        parts.append(f"only warned of, as the spec asks, {_is(warned)} {_told(warned)}")
    if better:
        parts.append(f"{len(better):,} got better: {_told(better)}")
    return text + "; ".join(parts) + "."


_Told = tuple[CellVerdict, Sequence[Judgement], bool]
"""A cell, what is told of it, and whether its device is."""


def _cells(report: GateReport, outcomes: Sequence[str], *, only_warns: bool | None) -> list[_Told]:
    """The cells of which something came out as one of these."""
    several = len({cell.device for cell in report.cells}) > 1
    found: list[_Told] = []
    for cell in report.cells:
        of_these = [j for j in cell.judgements if j.outcome in outcomes]
        judgements = [j for j in of_these if only_warns in (None, j.only_warns)]
        if judgements:
            found.append((cell, judgements, several))
    return found


def _told(cells: Iterable[_Told]) -> str:
    texts = []
    for cell, judgements, several in cells:
        where = f"{cell.objective} ({cell.device})" if several else cell.objective
        if len(judgements) == len(cell.judgements) > 1 and len({j.why for j in judgements}) == 1:
            details = judgements[0].why or judgements[0].outcome
        else:
            details = ", ".join(_moved(judgement) for judgement in judgements)
        texts.append(f"{cell.label} on {where} ({details})")
    return _listed(texts)


def _moved(judgement: Judgement) -> str:
    """``time +12.3%, 95% interval +9.1% to +14.8%``; ``operators 12 to 14``; else the reason."""
    metric, before, now = judgement.metric, judgement.before, judgement.now
    told = judgement.outcome in ("regressed", "better", "inconclusive")
    if not told or before is None or now is None:
        return f"{metric}: {judgement.why or judgement.outcome}"
    if metric != "time" or judgement.change is None:
        return f"{metric} {formatting.exactly(before)} to {formatting.exactly(now)}"
    text = f"{metric} {formatting.percent(judgement.change)}"
    if judgement.low is not None and judgement.high is not None:
        low, high = (formatting.percent(end - 1) for end in (judgement.low, judgement.high))
        text += f", 95% interval {low} to {high}"
    return text


def _is(cells: Sequence[_Told]) -> str:
    return "is" if len(cells) == 1 else "are"


def _loss(results: Results, one: Compared, means: Mapping[int, stats.Mean]) -> str:
    field = one.field
    place = _place(results, field.objective, field.device)
    order = [i for i in field.order() if np.isfinite(field.losses[i]).any()]
    # What is tuned is compared tuned; another sentence is on the defaults.
    order = [i for i in order if field.cases[i].role != "defaults"] or order
    if not order:
        return ""
    if not field.is_random:
        return _alike(results, field, place, order)
    best, others = order[0], order[1:]
    tied = [i for i in others if (pair := one.between(i, best)) and pair.called == "tied"]
    first = [f"{field.cases[i].label}{_failed(field, i)}" for i in (best, *tied)]
    text = f"{place}, {_listed(first)} {_has(first)} "
    what, value = _centre(field, best, means)
    if not others:
        alone = [*_never_ok(field)] or ["no other ran there"]
        return f"{text}a {what} of {value}; {alone[0]}."
    lowest = min(float(field.centres[i]) for i in order)
    if float(field.centres[best]) <= lowest:
        text += f"the lowest {what}, {value}"
    else:
        fewest = f"{field.failures[best]} of {len(field.seeds)}"
        text += f"the fewest failures ({fewest}), then the lowest {what}, {value}"
    parts = [*_others(one, best, others), *_never_ok(field)]
    return text + "".join(f"; {part}" for part in parts) + "."


def _centre(
    field: comparison.Field, index: int, means: Mapping[int, stats.Mean]
) -> tuple[str, str]:
    """What stands for a case's losses, and its value with its interval."""
    if field.optimum is None:
        mean = means[field.cases[index].position]
        return (
            "mean final loss",
            f"{formatting.number(mean.mean, formatting.decimals(mean.mean, mean.low, mean.high))}"
            + _interval(mean),
        )
    losses = field.losses[index][np.isfinite(field.losses[index])]
    gap = trial_tables.above(float(field.centres[index]), field.optimum)
    text = formatting.significant(gap, 3)
    low, high = (trial_tables.above(end, field.optimum) for end in stats.median_interval(losses))
    n = len(losses)
    if max(gap, high) <= float(field.floors.max()) - field.smallest:
        return "median gap to the optimum", f"0 but for rounding ({n} seeds)"
    if trial_tables.alike(losses):
        text += f" ({n} seeds, all alike)"
    elif math.isfinite(low):
        ends = f"{formatting.significant(low, 3)} to {formatting.significant(high, 3)}"
        text += f" (95% CI {ends}, {n} seeds)"
    else:
        text += f" ({n} {'seed' if n == 1 else 'seeds'})"
    return "median gap to the optimum", text


def _others(one: Compared, best: int, others: Sequence[int]) -> Iterator[str]:
    """What is said of the other cases, against the best."""
    field = one.field
    said: dict[str, list[str]] = {}
    p_values = []
    unpaired = 0
    for i in others:
        pair = one.between(i, best)
        label = field.cases[i].label
        if pair is None:
            unpaired += 1
        elif pair.called == "higher":
            said.setdefault("worse", []).append(f"{label} {_by(pair, 'worse')}")
        elif pair.called == "lower":
            said.setdefault("lower", []).append(f"{label} {_by(pair, 'better')}")
        elif pair.called == "not significantly different":
            said.setdefault("none", []).append(f"{label}{_failed(field, i)}")
            p_values.append(pair.adjusted)
    if names := said.get("none"):
        least = formatting.probability(min(p_values))
        text = f"{_listed(names)} {_is_are(names)} not significantly different from "
        exact = len(names) == 1 or min(p_values) == 1
        text += f"{field.cases[best].label} (p {'=' if exact else '≥'} {least})"
        if one.least_adjusted > comparison.LEVEL:
            text += f", for {len(field.seeds)} seeds are too few to tell {len(field.cases)} cases"
        yield text
    if names := said.get("worse"):
        yield f"on the same seeds, {_listed(names)}"
    if names := said.get("lower"):
        yield f"on the same seeds, for all that, {_listed(names)}"
    if unpaired:
        yield f"{unpaired:,} more, which come after these in that order, were not compared"


def _never_ok(field: comparison.Field) -> Iterator[str]:
    """The cases of which no trial ended ok."""
    names = [
        case.label
        for case, failed in zip(field.cases, field.failures, strict=True)
        if failed == len(field.seeds) and case.role != "defaults"
    ]
    if names:
        fail = "fails" if len(names) == 1 else "fail"
        yield f"{_listed(names)} {fail} in all {len(field.seeds)} seeds"


def _by(pair: comparison.Pair, word: str) -> str:
    """By how much the first of a pair is worse, or better: in the terms of the test."""
    p = (
        f"p = {formatting.probability(pair.adjusted)}"
        if pair.is_tested
        else "every seed ends alike"
    )
    own, other = pair.failed
    if pair.by_failures:
        return f"fails in {own} of {pair.n} seeds, against {other} ({p})"
    sign = 1 if word == "worse" else -1
    if pair.has_shift:
        shift, ends = formatting.shift(pair.shift, pair.low, pair.high, sign)
        interval = f"95% CI {ends}, " if pair.is_tested else ""
        failed = f", {own} of {pair.n} failed" if own else ""
        return f"is {word} by {shift} ({interval}{p}{failed})"
    counts = (pair.higher, pair.lower) if word == "worse" else (pair.lower, pair.higher)
    opposite = "better" if word == "worse" else "worse"
    return f"is {word} at {counts[0]} of {pair.n} seeds and {opposite} at {counts[1]} ({p})"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have, tied,"


def _is_are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _failed(field: comparison.Field, index: int) -> str:
    """How many trials of a case did not end ok; empty if all did."""
    failed = int(field.failures[index])
    return f" ({failed} of {len(field.seeds)} did not end ok)" if failed else ""


def _alike(results: Results, field: comparison.Field, place: str, order: Sequence[int]) -> str:
    """For an objective on which every seed ends alike: the lowest and the highest loss."""
    steps = results.objectives[field.objective].steps
    why = "every seed ends alike"
    if len(field.seeds) < 2:
        why = "one seed, so nothing is said of chance"

    def level(index: int) -> tuple[list[str], str]:
        """The cases that are tied with one, and their loss."""
        alike = [i for i in order if not field.differences(i, index).any()]
        return [field.cases[i].label for i in alike], _loss_of(field, index)

    lowest, loss = level(order[0])
    text = f"{place} ({why}), "
    if len(order) == 1:
        alone = [*_never_ok(field)] or ["no other ran there"]
        return f"{text}{lowest[0]} ends at {loss} after {steps:,} steps; {alone[0]}."
    text += f"{_listed(lowest)} {'end, tied,' if len(lowest) > 1 else 'ends'} lowest after "
    text += f"{steps:,} steps, at {loss}"
    highest, loss = level(order[-1])
    if order[-1] not in (i for i in order if not field.differences(i, order[0]).any()):
        text += f"; highest: {_listed(highest)} at {loss}"
    return text + "".join(f"; {part}" for part in _never_ok(field)) + "."


def _loss_of(field: comparison.Field, index: int) -> str:
    return formatting.significant(float(field.centres[index]), 3)


def _over_all(results: Results, contests: Sequence[targets.Contest]) -> Iterator[str]:
    """What performance profiles over all objectives say; of no single winner."""
    for contest in contests:
        if not contest.says_much:
            continue
        solved = np.isfinite(contest.steps).mean(axis=(0, 1))
        best = (profiles.performance_ratios(contest.steps) == 1).mean(axis=(0, 1))
        where = f" ({contest.device})" if len({c.device for c in results.cases}) > 1 else ""
        yield (
            f"Over {len(contest.objectives)} objectives{where}, the largest share of targets is "
            f"reached by {_first(contest, solved)}, and most often first is "
            f"{_first(contest, best)}; which is better depends on the objective."
        )


def _first(contest: targets.Contest, shares: NDArray[np.float64]) -> str:
    """The solvers with the largest share, and that share."""
    top = float(shares.max())
    names = [name for name, own in zip(contest.solvers, shares, strict=True) if own == top]
    return f"{_listed(names)} ({top:.0%})"


def _tuning(results: Results, analysis: Analysis) -> list[str]:
    """What tuning found that asks for care: edges, and optimizers that lose to a special case."""
    edges = [
        f"{found.case.optimizer} on {found.case.objective} ({'; '.join(found.edges)})"
        for found in analysis.tuned
        if found.edges
    ]
    sentences = []
    if edges:
        sentences.append(
            f"Tuned to an edge of the search space, so that a wider one may hold better: "
            f"{_listed(edges)}."
        )
    lost = list(_lost_to_special_cases(results, analysis.compared))
    sentences += [text] if (text := _against_defaults(analysis.compared)) else []
    if lost:
        sentences.append(
            f"Tuned, and yet worse than its own special case, which it can't be if tuned well: "
            f"{_listed(lost)}."
        )
    sentences += [text] if (text := _if_tuned_again(analysis)) else []
    seeds = len(results.run.settings.seeds)
    if results.run.settings.tuning and seeds < FEWEST_SEEDS:
        sentences.append(
            f"The tuned settings are compared on {seeds} seeds; {FEWEST_SEEDS} are the least that "
            "a comparison should rest on."
        )
    return sentences


def _if_tuned_again(analysis: Analysis) -> str:
    """How many of the differences between tuned optimizers hang on the settings that were drawn."""
    called, unsteady = 0, []
    for one, other, share in retuning.pairs(analysis.retuned):
        word = comparison.called_between(analysis.compared, one.case, other.case)
        if word not in ("lower", "higher"):
            continue
        called += 1
        same = share if word == "lower" else 1 - share
        if same < stats.CONFIDENCE:
            first, second = (one, other) if word == "lower" else (other, one)
            where = _where(analysis.compared, _field_of(analysis.compared, one.case))
            unsteady.append(
                (same, f"{first.case.optimizer} before {second.case.optimizer} on {where}")
            )
    if not unsteady:
        return ""
    names = [f"{text} ({same:.0%})" for same, text in sorted(unsteady)]
    return (
        f"Tuned again, on resampled settings and seeds, {len(unsteady):,} of {called:,} "
        f"differences called between tuned optimizers hold in fewer than {stats.CONFIDENCE:.0%} "
        f"of tunings: {_listed(names)}."
    )


def _field_of(compared: Sequence[Compared], case: CaseData) -> comparison.Field:
    return next(
        one.field
        for one in compared
        if (one.field.objective, one.field.device) == (case.objective, case.device)
    )


def _against_defaults(compared: Sequence[Compared]) -> str:
    """What tuning did for each optimizer, against its constructor's defaults."""
    said: dict[str, list[str]] = {}
    for one in compared:
        field = one.field
        where = _where(compared, field)
        roles = {(case.optimizer, case.role): i for i, case in enumerate(field.cases)}
        for (optimizer, role), i in roles.items():
            other = roles.get((optimizer, "defaults"))
            pair = None if role != "tuned" or other is None else one.between(i, other)
            if pair is not None:
                said.setdefault(pair.called, []).append(f"{optimizer} on {where}")
    total = sum(map(len, said.values()))
    if not total:
        return ""
    lower = len(said.pop("lower", ()))
    text = "Tuned settings do better than the constructor's defaults "
    if lower == total:
        return text + ("in the one case." if total == 1 else f"in all {total} cases.")
    text += f"in {lower} of {total} cases"
    for called, words in (
        ("not significantly different", "not significantly different from them"),
        ("tied", "tied with them"),
        ("higher", "worse than them"),
    ):
        if names := said.get(called):
            text += f"; {words} {_is_are(names)} {_listed(names)}"
    return f"{text}."


def _where(compared: Sequence[Compared], field: comparison.Field) -> str:
    """The objective, with the device where there are several."""
    several = len({one.field.device for one in compared}) > 1
    return f"{field.objective} ({field.device})" if several else field.objective


def _lost_to_special_cases(results: Results, compared: Sequence[Compared]) -> Iterator[str]:
    told = results.run.settings.generalizes
    for one in compared:
        cases = one.field.cases
        for i, case in enumerate(cases):
            if case.role != "tuned":
                continue
            for j, other in enumerate(cases):
                special = other.optimizer in told.get(case.optimizer, ())
                if not special or other.role not in ("tuned", "given"):
                    continue
                pair = one.between(i, j)
                if pair is not None and pair.called == "higher":
                    where = _where(compared, one.field)
                    yield f"{case.optimizer} than {other.label} on {where}"


def _claims(checked: Sequence[claims.Checked]) -> str:
    """How many published numbers hold, and which don't."""
    if not checked:
        return ""
    by_verdict: dict[str, list[str]] = {}
    for found in checked:
        text = f"{found.claim.value} of {found.case.label} on {found.case.objective}"
        if found.verdict == "not consistent" and found.p >= claims.BEYOND:
            text += f" ({abs(found.deviations):.3g} standard deviations away)"
        elif math.isfinite(found.p):
            text += f" (p = {found.p:.2g})"
        by_verdict.setdefault(found.verdict, []).append(text)
    total, exact = len(checked), len(by_verdict.get("reproduced", ()))
    held = exact + len(by_verdict.get("consistent", ()))
    known = total - len(by_verdict.get("can't be told", ()))
    digits = f", {_count(exact, held)} of them in every digit" if exact else ""
    text = f"Of {total:,} published numbers, {_count(held, total)} "
    text += f"{'is' if held == 1 else 'are'} consistent with what we find{digits}"
    if total == 1:
        text = "The one published number is "
        text += "reproduced in every digit" if exact else f"{'' if held else 'not '}consistent"
        text += "" if exact else " with what we find"
        text = text if known else "Of the one published number, nothing can be said"
    parts = []
    for verdict, word in (
        ("not consistent", "not consistent"),
        ("at the edge", "at the edge of what we find"),
        ("can't be told", "not to be told with so few seeds"),
    ):
        if by_verdict.get(verdict):
            parts.append(f"{word}: {_listed(by_verdict[verdict])}")
    least = min((own for one in checked if math.isfinite(own := one.least_noticed)), default=0.0)
    if least:
        parts.append(
            "no deviation below "
            f"{formatting.significant(least, 2)} standard deviations could have been noticed"
        )
    return "; ".join([text, *parts]) + "."


def _count(some: int, total: int) -> str:
    return "all" if some == total > 1 else "none" if not some else f"{some:,}"


def _speed(results: Results) -> str:
    table = trial_tables.epoch_seconds(results)
    if table is None:
        return ""
    rows = [row for row in table.frame.to_dict("records") if row["setting"] != "defaults"]
    if not rows:
        return ""
    # Of where most optimizers can be compared; of several such, of the slowest.
    optimizers: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        key = (row["objective"], row["device"])
        optimizers.setdefault(key, set()).add(str(row["optimizer"]))

    def weight(row: Mapping[Hashable, Any]) -> tuple[int, float]:
        count = len(optimizers[row["objective"], row["device"]])
        return count, float(row["median_seconds"])

    chosen = max(rows, key=weight)
    where = (chosen["objective"], chosen["device"])
    first, *others = [row for row in rows if (row["objective"], row["device"]) == where]
    text = (
        f"{_place(results, *where)}, an epoch takes {first['reference']} "
        f"{_time(first['median_seconds'])} (median of {first['n']} blocks, "
        f"interquartile range {_time(first['iqr_seconds'])})"
    )
    ratios = [f"{_label(row)} {_ratio(row['ratio'])} times as long{_ends(row)}" for row in others]
    text = f"{text}; {_listed(ratios)}" if ratios else text
    return f"{text}{_busy([first, *others])}."


def _busy(rows: list[dict[Hashable, Any]]) -> str:
    """What is to be said of times that are noisy; nothing of others."""
    noisy = [float(row["noise"]) for row in rows if row["noisy"] == "yes"]
    if not noisy:
        return ""
    which = f"{len(noisy)} of these {len(rows)} times {'is' if len(noisy) == 1 else 'are'}"
    which = which if len(rows) > 1 else "this is"
    advice = "take it as rough" if len(rows) == 1 else "trust the ratios more than the seconds"
    return f"; measured on a busy machine: {which} noisy (up to {max(noisy):.0%}), so {advice}"


def _failures(results: Results) -> str:
    counts = results.trials["status"].value_counts()
    bad = {s: int(counts.get(s, 0)) for s in ("diverged", "error", "timeout")}
    if not any(bad.values()):
        return ""
    parts = [f"{n:,} {'ended in error' if s == 'error' else s}" for s, n in bad.items() if n]
    ran = int((results.trials["status"] != "unavailable").sum())
    what = f"{_listed(parts)}{_above_limit(results)}"
    return f"Of {ran:,} trials, {what}; no number above stands in for them."


def _above_limit(results: Results) -> str:
    """How many of those that diverged did so by the spec's limit alone."""
    lost = results.trials[results.trials["status"] == "diverged"]
    count = sum(
        int(np.isin(lost.loc[lost["position"] == case.position, "seed"], case.ended_finite()).sum())
        for case in results.cases
    )
    return f" ({count:,} of these at a finite loss, above the limit)" if count else ""


def _place(results: Results, objective: str, device: str) -> str:
    """``On ch7_linreg``, with the device where results come from several."""
    ran = results.trials[results.trials["status"] != "unavailable"]
    several = ran["device"].nunique() > 1
    return f"On {objective} ({device})" if several else f"On {objective}"


def _interval(mean: stats.Mean) -> str:
    if not math.isfinite(mean.low):
        return " (one seed)" if mean.n == 1 else f" ({mean.n} seeds)"
    if mean.sd == 0:
        return f" ({mean.n} seeds, all alike)"
    ends = formatting.interval(
        mean.low, mean.high, formatting.decimals(mean.mean, mean.low, mean.high)
    )
    return f" (95% CI {ends}, {mean.n} seeds)"


def _ends(row: Mapping[Hashable, Any]) -> str:
    low, high = row["ratio_ci_low"], row["ratio_ci_high"]
    return f" ({_ratio(low)} to {_ratio(high)})" if math.isfinite(low + high) else ""


def _ratio(value: float) -> str:
    return formatting.significant(value, 3)


def _label(row: Mapping[Hashable, Any]) -> str:
    return f"{row['optimizer']} ({row['setting']})" if row["setting"] else str(row["optimizer"])


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{formatting.significant(seconds * scale, 3)} {unit}"
    return f"{formatting.significant(seconds * 1e9, 3)} ns"


def _listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; cut where there are many."""
    if len(names) > NAMED + 1:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
