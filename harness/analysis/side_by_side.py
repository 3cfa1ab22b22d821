"""Matching of the cases and trials of several sources, and what sets the others apart.

Nothing here decides what is said of it, or how it looks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis import comparison, ties
from harness.analysis.comparison import REL_TOL, Called, ComparisonGroup, Pair
from harness.analysis.sources import Source
from harness.measures import TRAIN_LOSS, Measure
from harness.store.read import CaseData, Results

SourceVerdict = Literal[
    "bit-identical",
    "equal but for rounding",
    "lower",
    "higher",
    "tied",
    "not significantly different",
    "other, by no chance",
    "other, of one seed",
    "none ended ok",
    "no seed in common",
    "another measure",
]


class TrialEnd(NamedTuple):
    """The end of a trial: status, step and final value; that is NaN unless the trial ended ok."""

    status: str
    step: int
    loss: float


@dataclass(frozen=True, eq=False)
class CaseInSource:
    """One case in one source.

    Attributes:
        case: The case.
        ends: How its trials ended, by seed; those whose device was missing are left out.
    """

    case: CaseData
    ends: Mapping[int, TrialEnd]


@dataclass(frozen=True, eq=False)
class MatchedCase:
    """One case wherever it is.

    Attributes:
        places: In the order of the sources; None where one lacks the case.
        seeds: Seeds that it ran with wherever it ran, ascending.
    """

    places: tuple[CaseInSource | None, ...]
    seeds: tuple[int, ...]

    @property
    def case(self) -> CaseData:
        """The case as the first source that has it calls it."""
        return next(place.case for place in self.places if place is not None)

    @property
    def ran(self) -> tuple[int, ...]:
        """Indices of the sources in which some trial of it ran."""
        return tuple(i for i, place in enumerate(self.places) if place and place.ends)

    def place(self, index: int) -> CaseInSource:
        """The case in a source that has it."""
        place = self.places[index]
        assert place is not None
        return place


@dataclass(frozen=True, eq=False)
class SourceDifference:
    """One case in a source against the same case in the first source in which it ran.

    Attributes:
        match: The case.
        base: Index of the first source in which it ran.
        other: Index of the source that is compared to it.
        same_key: Whether both are the same computation.
        differs: If not, what is known to differ; never empty then.
        equal: How many of the matched trials are bit-identical.
        largest: Largest difference of final values as a share of the larger one, over the seeds
            at which both ended ok; NaN without any.
        measures: What is reported in the base and in the other. Where that is not the same,
            nothing is compared.
        pair: The other less the base over the matched seeds, tested; None where nothing is.
    """

    match: MatchedCase
    base: int
    other: int
    same_key: bool
    differs: tuple[str, ...]
    equal: int
    largest: float
    measures: tuple[Measure, Measure] = (TRAIN_LOSS, TRAIN_LOSS)
    pair: Pair | None = None

    @property
    def is_comparable(self) -> bool:
        """True where the same is reported in both."""
        return self.measures[0] == self.measures[1]

    @property
    def shift(self) -> tuple[float, float, float]:
        """The other's value less the base's, with its interval; NaN where nothing is tested."""
        if self.pair is None:
            return math.nan, math.nan, math.nan
        return self.pair.in_values(self.measures[1])

    @property
    def seeds_at(self) -> dict[Literal["lower", "higher"], int]:
        """At how many seeds the other's value is lower, and at how many it is higher."""
        if self.pair is None:
            return {"lower": 0, "higher": 0}
        counts = self.pair.better, self.pair.worse
        lower, higher = counts[::-1] if self.measures[1].higher else counts
        return {"lower": lower, "higher": higher}

    def _in_values(self, called: Called) -> SourceVerdict:
        """What is called of costs, said of values: no source is better than another."""
        if called == "tied" or called == "not significantly different":
            return called
        is_higher = (called == "better") == self.measures[1].higher
        return "higher" if is_higher else "lower"

    @property
    def cases(self) -> tuple[CaseData, CaseData]:
        """The case in the base and in the other."""
        return self.match.place(self.base).case, self.match.place(self.other).case

    @property
    def ends(self) -> list[tuple[TrialEnd, TrialEnd]]:
        """The ends of matched trials in the base and in the other, seed by seed."""
        base, other = self.match.place(self.base).ends, self.match.place(self.other).ends
        return [(base[seed], other[seed]) for seed in self.match.seeds]

    @property
    def ended_otherwise(self) -> int:
        """The number of matched trials that ended in another status."""
        return sum(one.status != other.status for one, other in self.ends)

    @property
    def is_rounding(self) -> bool:
        """True where all trials ended alike, with values that differ by no more than rounding."""
        return self.largest <= REL_TOL and not self.ended_otherwise

    @property
    def verdict(self) -> SourceVerdict:
        """The verdict on the other, as seen from the base."""
        if not self.match.seeds:
            return "no seed in common"
        if not self.is_comparable:
            return "another measure"
        if self.equal == len(self.match.seeds):
            return "bit-identical"
        if self.is_rounding:
            return "equal but for rounding"
        if self.pair is not None:
            return self._in_values(self.pair.called)
        if all(math.isnan(end.loss) for ends in self.ends for end in ends):
            return "none ended ok"
        return "other, of one seed" if len(self.match.seeds) < 2 else "other, by no chance"


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Several sources, matched case by case and trial by trial.

    Attributes:
        sources: In the order they were given.
        matches: Every case of any, in the order of the first source, then of the next.
        differences: Of every case that ran in several, each source against the first.
    """

    sources: tuple[Source, ...]
    matches: tuple[MatchedCase, ...]
    differences: tuple[SourceDifference, ...]


def compare(sources: Sequence[Source]) -> SideBySide:
    """Match the sources' cases and seeds, and compare what matches.

    Differences are tested as :mod:`harness.analysis.comparison` has it, with Holm's correction
    for all cases that are tested. What is equal, to the bit or but for rounding, is not: no
    difference of it would ever be called.
    """
    matches = _matches(sources)
    found = [_difference(sources, match, other) for match in matches for other in match.ran[1:]]
    tested = {i: group for i, group in enumerate(map(_to_test, found)) if group is not None}
    pairs = comparison.paired(
        [(group.losses[0], group.losses[1]) for group in tested.values()],
        [(found[i].other, found[i].base) for i in tested],
        floors=[
            ties.floors(group.cases, group.seeds, measure=group.measure)
            for group in tested.values()
        ],
        rounding=REL_TOL,
    )
    for i, pair in zip(tested, pairs, strict=True):
        found[i] = replace(found[i], pair=pair)
    return SideBySide(tuple(sources), tuple(matches), tuple(found))


def _matches(sources: Sequence[Source]) -> list[MatchedCase]:
    """Every case of any source, matched: equal in key and name, else in key, else in name."""
    groups: list[list[CaseData | None]] = []
    for number, source in enumerate(sources):
        left = list(source.results.cases)
        for alike in (_alike, _same_key, _same_name):
            waiting = []
            for case in left:
                group = next((g for g in groups if g[number] is None and alike(g, case)), None)
                if group is None:
                    waiting.append(case)
                else:
                    group[number] = case
            left = waiting
        count = len(sources)
        groups += ([case if i == number else None for i in range(count)] for case in left)
    found = []
    for group in groups:
        places = tuple(
            None if case is None else CaseInSource(case, _ends(source.results, case))
            for source, case in zip(sources, group, strict=True)
        )
        ran = [set(place.ends) for place in places if place and place.ends]
        found.append(MatchedCase(places, tuple(sorted(set.intersection(*ran))) if ran else ()))
    return found


def _same_key(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return bool(case.key) and any(one is not None and one.key == case.key for one in group)


def _same_name(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return any(one is not None and _names(one) == _names(case) for one in group)


def _alike(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return _same_key(group, case) and _same_name(group, case)


def _names(case: CaseData) -> tuple[str, str, str, str]:
    return case.objective, case.optimizer, case.setting, case.device


def _ends(results: Results, case: CaseData) -> dict[int, TrialEnd]:
    trials = results.trials_by_position.get(case.position)
    if trials is None:
        return {}
    columns = (trials[name] for name in ("seed", "status", "step", "final_loss"))
    return {
        int(seed): TrialEnd(
            status=str(status),
            step=int(step),
            loss=float(loss) if status == "ok" and math.isfinite(loss) else math.nan,
        )
        for seed, status, step, loss in zip(*columns, strict=True)
        if status != "unavailable"
    }


def _difference(sources: Sequence[Source], match: MatchedCase, other: int) -> SourceDifference:
    base = match.ran[0]
    results = sources[base].results, sources[other].results
    cases = match.place(base).case, match.place(other).case
    same_key = bool(cases[0].key) and cases[0].key == cases[1].key
    found = SourceDifference(
        match=match,
        base=base,
        other=other,
        same_key=same_key,
        differs=() if same_key else tuple(_what_differs(results, *cases)),
        equal=0,
        largest=math.nan,
        measures=(
            results[0].objectives[cases[0].objective].measure,
            results[1].objectives[cases[1].objective].measure,
        ),
    )
    if not found.is_comparable:
        return found
    relative = [_relative(one.loss, two.loss) for one, two in found.ends]
    largest = max((value for value in relative if not math.isnan(value)), default=math.nan)
    return replace(found, largest=largest, equal=_equal_trials(results, found))


def _relative(one: float, other: float) -> float:
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else 0.0


def _equal_trials(results: tuple[Results, Results], found: SourceDifference) -> int:
    """Count the trials that ended alike, in the same step and with the same values to the bit."""
    cases = found.cases
    steps = [r.objectives[c.objective].record_steps for r, c in zip(results, cases, strict=True)]
    comparable = np.array_equal(steps[0], steps[1])
    curves = [dict(zip(case.seeds.tolist(), case.losses, strict=True)) for case in cases]
    count = 0
    for seed, (one, other) in zip(found.match.seeds, found.ends, strict=True):
        if one[:2] != other[:2] or not np.array_equal(one.loss, other.loss, equal_nan=True):
            continue
        known = [own[seed] for own in curves if seed in own]
        recorded = comparable and len(known) == 2
        count += not recorded or np.array_equal(known[0], known[1], equal_nan=True)
    return count


def _what_differs(results: tuple[Results, Results], a: CaseData, b: CaseData) -> Iterator[str]:
    """Yield the known differences between two cases of one name that are not the same computation.

    A key is a digest. What went into it and is stored as well can be told apart; the rest is
    found by leaving out what is the same.
    """
    changed = _changed(a.hyperparameters, b.hyperparameters)
    if changed:
        yield f"hyperparameters ({changed})"
    if a.optimizer_class != b.optimizer_class:
        yield f"the optimizer's class ({a.optimizer_class} / {b.optimizer_class})"
    if a.objective_key != b.objective_key:
        told = list(_what_differs_in_objectives(results, a, b))
        yield from told or ["the objective's source, arguments or data"]
    elif not changed and a.optimizer_class == b.optimizer_class:
        yield "the optimizer's source"


def _what_differs_in_objectives(
    results: tuple[Results, Results], a: CaseData, b: CaseData
) -> Iterator[str]:
    one, other = (r.objectives[case.objective] for r, case in zip(results, (a, b), strict=True))
    engines, torches = (
        [own.run.environment.get(key, "") for own in results] for key in ("engine", "torch")
    )
    if engines[0] != engines[1]:
        yield "engine"
    facts: dict[str, list[Any]] = {
        "torch": torches,
        "steps": [one.steps, other.steps],
        "rows of data": [one.rows, other.rows],
        "precision": [a.dtype, b.dtype],
    }
    for word, (was, now) in facts.items():
        if was != now:
            yield f"{word} ({was} / {now})"
    if one.steps == other.steps and not np.array_equal(one.record_steps, other.record_steps):
        yield "recorded steps"


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """``lr 0.1 / 0.2``: what is not the same in both."""
    texts = [
        f"{name} {_value(one, name)} / {_value(other, name)}"
        for name in dict.fromkeys([*one, *other])
        if (name in one) != (name in other) or one[name] != other[name]
    ]
    return ", ".join(texts)


def _value(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not given"
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to_test(found: SourceDifference) -> ComparisonGroup | None:
    """The other and the base on the same seeds; None where nothing is to be tested."""
    seeds = found.match.seeds
    if len(seeds) < 2 or found.equal == len(seeds) or found.is_rounding:
        return None
    if not found.is_comparable:
        return None
    measure = found.measures[0]
    ends = [[end.loss for end in ends] for ends in found.ends]
    costs: NDArray[np.float64] = measure.sign * np.array(ends, dtype=float).T[::-1]
    group = ComparisonGroup(
        objective=found.match.case.objective,
        device=found.match.case.device,
        cases=found.cases[::-1],
        seeds=np.array(seeds, dtype=np.int64),
        losses=np.where(np.isnan(costs), np.inf, costs),
        measure=measure,
    )
    return group if group.is_random else None
