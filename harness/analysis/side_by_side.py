"""Results of several runs laid side by side: which cases and seeds are the same, and what differs.

What is said of it, and how it looks, is decided elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis import comparison, stats
from harness.analysis.comparison import REL_TOL, ComparisonGroup, Pair
from harness.errors import BadInput, Problem
from harness.provenance import fingerprint
from harness.provenance.environment import WORDS
from harness.store import read as frames
from harness.store.database import FILE_NAME
from harness.store.read import CaseData, Results

NAME_LENGTH = 40
"""Characters of a source's name beyond which another name is looked for."""

Verdict = Literal[
    "equal to the bit",
    "equal but for rounding",
    "lower",
    "higher",
    "tied",
    "not significantly different",
    "other, by no chance",
    "other, of one seed",
    "none ended ok",
    "no seed in common",
]


@dataclass(frozen=True, eq=False)
class Source:
    """The latest run of one results file.

    Attributes:
        name: What it is called on the page; no two have the same.
        place: The file as the user named it.
        results: What was run.
    """

    name: str
    place: str
    results: Results

    @property
    def machine(self) -> str:
        """Digest of the machine that it ran on; empty where that is not known."""
        return self.results.run.settings.machine


@dataclass(frozen=True, eq=False)
class Side:
    """One case in one source.

    Attributes:
        case: The case.
        statuses: How its trials ended, by seed.
        steps: How far they got, by seed.
        reasons: Why they did not end ok, by seed; empty where they did.
        losses: Final loss of those that ended ok, by seed.
        mean: Of the final losses that are laid side by side; see :meth:`Match.values`.
    """

    case: CaseData
    statuses: Mapping[int, str]
    steps: Mapping[int, int]
    reasons: Mapping[int, str]
    losses: Mapping[int, float]
    mean: stats.Mean = field(default_factory=lambda: stats.mean_interval([]))

    @property
    def ran(self) -> frozenset[int]:
        """Seeds of the trials that ran: all but those whose device was missing."""
        return frozenset(s for s, status in self.statuses.items() if status != "unavailable")


@dataclass(frozen=True, eq=False)
class Match:
    """One case wherever it is.

    Attributes:
        sides: In the order of the sources; None where one lacks the case.
        seeds: Seeds that it ran with wherever it ran, ascending.
    """

    sides: tuple[Side | None, ...]
    seeds: tuple[int, ...]

    @property
    def case(self) -> CaseData:
        """The case as the first source that has it calls it."""
        return next(side.case for side in self.sides if side is not None)

    @property
    def where(self) -> tuple[int, ...]:
        """Indices of the sources that have it."""
        return tuple(i for i, side in enumerate(self.sides) if side is not None)

    @property
    def ran(self) -> tuple[int, ...]:
        """Indices of the sources in which some trial of it ran."""
        return tuple(i for i, side in enumerate(self.sides) if side is not None and side.ran)

    def side(self, index: int) -> Side:
        """The case in a source that has it."""
        side = self.sides[index]
        assert side is not None
        return side

    def values(self, index: int) -> NDArray[np.float64]:
        """Final losses in a source that are laid beside the others', in the order of the seeds.

        They are those of the seeds in common; where there is none, all that the source has.
        """
        side = self.side(index)
        seeds = self.seeds or sorted(side.ran)
        return np.array([side.losses[seed] for seed in seeds if seed in side.losses], dtype=float)


@dataclass(frozen=True, eq=False)
class Difference:
    """One case in a source against the same case in the first source in which it ran.

    Attributes:
        match: The case.
        base: Index of the first source in which it ran.
        other: Index of the source that is compared to it.
        same_key: Whether both are the same computation.
        differs: If not, what is known to differ; never empty then.
        equal: How many of the matched trials are equal to the bit.
        largest: Largest difference of final losses as a share of the larger one, over the seeds
            at which both ended ok; NaN without any.
        pair: The other less the base over the matched seeds, tested; None where nothing is.
    """

    match: Match
    base: int
    other: int
    same_key: bool
    differs: tuple[str, ...]
    equal: int
    largest: float
    pair: Pair | None = None

    @property
    def verdict(self) -> Verdict:
        """What may be said of the other, as seen from the base."""
        if not self.match.seeds:
            return "no seed in common"
        if self.equal == len(self.match.seeds):
            return "equal to the bit"
        if self.is_rounding:
            return "equal but for rounding"
        if self.pair is not None:
            return self.pair.called
        sides = self.match.side(self.base), self.match.side(self.other)
        if not any(seed in side.losses for side in sides for seed in self.match.seeds):
            return "none ended ok"
        return "other, of one seed" if len(self.match.seeds) < 2 else "other, by no chance"

    @property
    def is_rounding(self) -> bool:
        """Whether all trials ended alike, with losses that differ by no more than rounding."""
        return self.largest <= REL_TOL and not any(
            self.match.side(self.base).statuses[seed] != self.match.side(self.other).statuses[seed]
            for seed in self.match.seeds
        )


@dataclass(frozen=True)
class Item:
    """One thing of how the sources were made.

    Attributes:
        name: What.
        values: What it is in each source, as text; empty where that is not known.
    """

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether it is not the same everywhere."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Everything that a page of several results is made of.

    Attributes:
        sources: In the order they were given.
        matches: Every case of any, in the order of the first source, then of the next.
        differences: Of every case that ran in several, each source against the first.
        made: How the sources were made, thing by thing.
    """

    sources: tuple[Source, ...]
    matches: tuple[Match, ...]
    differences: tuple[Difference, ...]
    made: tuple[Item, ...]

    @property
    def shared(self) -> tuple[Match, ...]:
        """The cases that are in more than one source."""
        return tuple(match for match in self.matches if len(match.where) > 1)

    @property
    def compared(self) -> tuple[Match, ...]:
        """The cases of which trials ran in more than one source."""
        return tuple(match for match in self.matches if len(match.ran) > 1)

    @property
    def everywhere(self) -> tuple[Match, ...]:
        """The cases of which trials ran in every source."""
        return tuple(m for m in self.matches if len(m.ran) == len(self.sources))

    @property
    def nowhere(self) -> tuple[Match, ...]:
        """The cases of which no trial ran in any."""
        return tuple(match for match in self.matches if not match.ran)


def read(places: Sequence[tuple[str, Path]]) -> tuple[Source, ...]:
    """Read several results files, and leave them as they are.

    Args:
        places: Each as the user named it, and the store that it means.

    Raises:
        BadInput: With everything that can't be read, and every file that is given twice.
    """
    problems: list[Problem] = []
    found: list[tuple[str, Path, Results]] = []
    seen: dict[Path, str] = {}
    for place, path in places:
        if path.resolve() in seen:
            message = f"is the same results file as {seen[path.resolve()]}; give each once"
            problems.append(Problem(place, 0, 0, "", message))
            continue
        seen[path.resolve()] = place
        try:
            found.append((place, path, frames.read(path, untouched=True)))
        except BadInput as error:
            problems += error.problems
        except (KeyError, TypeError, ValueError) as error:
            message = f"holds a run that can't be read: {type(error).__name__}: {error}"
            problems.append(Problem(place, 0, 0, "", message))
    if problems:
        raise BadInput(problems)
    names = short_names([(results.run.suite, path) for _, path, results in found])
    return tuple(
        Source(name, place, results) for name, (place, _, results) in zip(names, found, strict=True)
    )


def short_names(known: Sequence[tuple[str, Path]]) -> list[str]:
    """What to call some results, so that no two are called alike.

    The suites' names if they differ. Else whatever part of their paths differs, the one nearest
    the file that does. Else letters.

    Args:
        known: Suite and path of each.
    """
    paths = [list(path.absolute().parts) for _, path in known]
    parts = [p[:-1] if p[-1] == FILE_NAME else [*p[:-1], Path(p[-1]).stem] for p in paths]
    candidates = [[suite for suite, _ in known]]
    depths = range(1, min(map(len, parts), default=0) + 1)
    candidates += ([own[-depth] for own in parts] for depth in depths)
    for names in candidates:
        tidied = [" ".join(name.split()) for name in names]
        fit = all(0 < len(name) <= NAME_LENGTH and name.isprintable() for name in tidied)
        if fit and len({name.casefold() for name in tidied}) == len(known):
            return tidied
    return [_letter(i) for i in range(len(known))]


def _letter(index: int) -> str:
    return (
        chr(ord("A") + index) if index < 26 else f"{_letter(index // 26 - 1)}{_letter(index % 26)}"
    )


def lay(sources: Sequence[Source]) -> SideBySide:
    """Match the sources' cases and seeds, and compare what matches.

    Differences are tested as :mod:`harness.analysis.comparison` has it, with Holm's correction
    for all cases that are tested. What is equal, to the bit or but for rounding, is not: no
    difference of it would ever be called.
    """
    matches = _with_means(_matches(sources))
    found = [_difference(sources, match, other) for match in matches for other in match.ran[1:]]
    losses = {i: own for i, own in enumerate(map(_to_test, found)) if own is not None}
    pairs = comparison.paired(
        list(losses.values()),
        [(found[i].other, found[i].base) for i in losses],
        floors=[_floors(found[i]) for i in losses],
        rounding=REL_TOL,
    )
    for i, pair in zip(losses, pairs, strict=True):
        found[i] = replace(found[i], pair=pair)
    return SideBySide(tuple(sources), matches, tuple(found), tuple(how_made(sources)))


def _floors(found: Difference) -> NDArray[np.float64]:
    """By matched seed, the difference that is no more than the rounding of the loss."""
    sides = (found.match.side(i) for i in (found.base, found.other))
    seeds = np.array(found.match.seeds, dtype=np.int64)
    return comparison.floors([side.case for side in sides], seeds)


def _matches(sources: Sequence[Source]) -> list[Match]:
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
    by_position = [source.results.trials_by_position for source in sources]
    found = []
    for group in groups:
        sides = tuple(
            None if case is None else _side(case, by_position[i]) for i, case in enumerate(group)
        )
        ran = [side.ran for side in sides if side is not None and side.ran]
        found.append(Match(sides, tuple(sorted(frozenset.intersection(*ran))) if ran else ()))
    return found


def _same_key(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return bool(case.key) and any(one is not None and one.key == case.key for one in group)


def _same_name(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return any(one is not None and _names(one) == _names(case) for one in group)


def _alike(group: Sequence[CaseData | None], case: CaseData) -> bool:
    return _same_key(group, case) and _same_name(group, case)


def _names(case: CaseData) -> tuple[str, str, str, str]:
    return case.objective, case.optimizer, case.setting, case.device


def _side(case: CaseData, by_position: Mapping[int, Any]) -> Side:
    if case.position not in by_position:
        return Side(case, {}, {}, {}, {})
    trials = by_position[case.position]
    seeds = [int(seed) for seed in trials["seed"]]
    ok = (trials["status"] == "ok") & np.isfinite(trials["final_loss"])
    return Side(
        case=case,
        statuses=dict(zip(seeds, map(str, trials["status"]), strict=True)),
        steps=dict(zip(seeds, map(int, trials["step"]), strict=True)),
        reasons=dict(zip(seeds, map(str, trials["reason"]), strict=True)),
        losses={
            int(seed): float(loss)
            for seed, loss in zip(trials.loc[ok, "seed"], trials.loc[ok, "final_loss"], strict=True)
        },
    )


def _with_means(matches: Sequence[Match]) -> tuple[Match, ...]:
    """The matches with each side's mean, all of them at once: they share the draws."""
    places = [(match, i) for match in matches for i in match.where]
    means = iter(stats.means([match.values(i) for match, i in places]))
    return tuple(
        replace(
            match,
            sides=tuple(s if s is None else replace(s, mean=next(means)) for s in match.sides),
        )
        for match in matches
    )


def _difference(sources: Sequence[Source], match: Match, other: int) -> Difference:
    base = match.ran[0]
    one, two = match.side(base), match.side(other)
    same_key = bool(one.case.key) and one.case.key == two.case.key
    relative = [
        _relative(one.losses[seed], two.losses[seed])
        for seed in match.seeds
        if seed in one.losses and seed in two.losses
    ]
    return Difference(
        match=match,
        base=base,
        other=other,
        same_key=same_key,
        differs=() if same_key else tuple(_why_other(sources[base], sources[other], one, two)),
        equal=_equal_trials(sources[base], sources[other], match, (one, two)),
        largest=max(relative, default=math.nan),
    )


def _relative(one: float, other: float) -> float:
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else 0.0


def _equal_trials(base: Source, other: Source, match: Match, sides: tuple[Side, Side]) -> int:
    """How many trials ended alike, in the same step and with the same losses to the bit."""
    one, two = sides
    recorded = [
        source.results.objectives[side.case.objective].record_steps
        for source, side in zip((base, other), sides, strict=True)
    ]
    comparable = np.array_equal(recorded[0], recorded[1])
    curves = [dict(zip(side.case.seeds.tolist(), side.case.losses, strict=True)) for side in sides]
    count = 0
    for seed in match.seeds:
        if one.statuses[seed] != two.statuses[seed] or one.steps[seed] != two.steps[seed]:
            continue
        if one.losses.get(seed) != two.losses.get(seed):
            continue
        known = [own.get(seed) for own in curves]
        if comparable and known[0] is not None and known[1] is not None:
            count += np.array_equal(known[0], known[1], equal_nan=True)
        else:
            count += 1
    return count


def _why_other(base: Source, other: Source, one: Side, two: Side) -> Iterator[str]:
    """What is known to differ between two cases of one name that are not the same computation.

    A key is a digest. What went into it and is stored as well can be told apart; the rest is
    found by leaving out what is the same.
    """
    a, b = one.case, two.case
    told = False
    changed = _changed(a.hyperparameters, b.hyperparameters)
    if changed:
        told = True
        yield f"hyperparameters ({changed})"
    if a.optimizer_class != b.optimizer_class:
        told = True
        yield f"the optimizer's class ({a.optimizer_class} / {b.optimizer_class})"
    if a.objective_key != b.objective_key:
        told = True
        yield from _why_other_objective(base, other, a, b)
    if not told:
        yield "the optimizer's source"


def _why_other_objective(base: Source, other: Source, a: CaseData, b: CaseData) -> Iterator[str]:
    told = False
    environments = base.results.run.environment, other.results.run.environment
    for key, word in (("engine", "engine"), ("torch", "torch")):
        values = [environment.get(key, "") for environment in environments]
        if values[0] != values[1]:
            told = True
            yield word if key == "engine" else f"{word} ({values[0]} / {values[1]})"
    infos = base.results.objectives[a.objective], other.results.objectives[b.objective]
    for word, own in (
        ("steps", [str(info.steps) for info in infos]),
        ("rows of data", [str(info.rows) for info in infos]),
        ("precision", [a.dtype, b.dtype]),
    ):
        if own[0] != own[1]:
            told = True
            yield f"{word} ({own[0]} / {own[1]})"
    if not np.array_equal(infos[0].record_steps, infos[1].record_steps) and not told:
        told = True
        yield "recorded steps"
    if not told:
        yield "the objective's source, arguments or data"


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """``lr 0.1 / 0.2``: what is not the same in both."""
    names = [*one, *(name for name in other if name not in one)]
    texts = [
        f"{name} {_value(one, name)} / {_value(other, name)}"
        for name in names
        if (name in one) != (name in other) or one[name] != other[name]
    ]
    return ", ".join(texts)


def _value(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not given"
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to_test(found: Difference) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Losses of the other and of the base on the same seeds; None where nothing is to be tested."""
    match = found.match
    if len(match.seeds) < 2 or found.equal == len(match.seeds) or found.is_rounding:
        return None
    sides = match.side(found.other), match.side(found.base)
    losses = np.array([[s.losses.get(seed, math.inf) for seed in match.seeds] for s in sides])
    paired = ComparisonGroup(
        objective=match.case.objective,
        device=match.case.device,
        cases=tuple(side.case for side in sides),
        seeds=np.array(match.seeds, dtype=np.int64),
        losses=losses,
    )
    return (losses[0], losses[1]) if paired.is_random else None


TIMES = ("Started", "Finished")
"""Things that are moments, or words where there is none."""

ALWAYS_OTHER = (*TIMES, "Command", "Spec")
"""What differs between any two runs, and so says little."""


SPEC_DIGEST = "Digest of the spec"


def how_made(sources: Sequence[Source]) -> Iterator[Item]:
    """Everything that is known of how the sources were made, thing by thing."""
    runs = [source.results.run for source in sources]

    def item(name: str, values: Sequence[Any]) -> Item:
        return Item(name, tuple("" if value is None else str(value) for value in values))

    yield item("Started", [run.started for run in runs])
    yield item("Finished", [run.finished or "cut short" for run in runs])
    yield item("Command", [run.command for run in runs])
    yield item("Spec", [run.spec_file for run in runs])
    yield item(SPEC_DIGEST, [fingerprint.digest(run.spec_text)[:12] for run in runs])
    yield item("Suite", [run.suite for run in runs])
    yield item("Seeds", [seeds_text(run.settings.seeds) for run in runs])
    tuning = [seeds_text(run.settings.tuning_seeds) for run in runs]
    if any(tuning):
        yield item("Seeds for tuning", tuning)
    known = [{k: v for k, v in run.environment.items() if v} for run in runs]
    for key, word in WORDS.items():
        yield item(word, [own.get(key) for own in known])
    yield item("Machine digest", [source.machine[:12] for source in sources])
    for package in dict.fromkeys(key for own in known for key in own if key not in WORDS):
        yield item(f"Package {package}", [own.get(package) for own in known])
    timings = [run.settings.timing.model_dump() if run.settings.timing else {} for run in runs]
    for key in dict.fromkeys(key for own in timings for key in own):
        values = [json.dumps(own[key]) if key in own else None for own in timings]
        yield item(f"Timing: {key.replace('_', ' ')}", values)
    missing = [run.settings.missing for run in runs]
    for device in dict.fromkeys(device for own in missing for device in own):
        yield item(f"Missing: {device}", [own.get(device) for own in missing])


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as ranges: ``0 to 9, 12``."""
    ranges: list[list[int]] = []
    for seed in sorted(seeds):
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    texts = [str(a) if a == b else f"{a} to {b}" for a, b in ranges]
    more = [f"and {len(texts) - 12} more ranges"] if len(texts) > 12 else []
    return ", ".join([*texts[:12], *more])
