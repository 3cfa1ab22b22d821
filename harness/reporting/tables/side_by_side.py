"""Differences between sources: the table of them, how the sources were made, and sentences on both.

What each source found stands in the tables of any run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness import formatting
from harness.analysis.comparison import ALPHA, REL_TOL, Pair
from harness.analysis.side_by_side import (
    MatchedCase,
    SideBySide,
    SourceDifference,
    SourceVerdict,
)
from harness.analysis.sources import Source
from harness.formatting import (
    DASH,
    all_or_none,
    is_are,
    listed,
    moment,
    or_dash,
    plural,
    probability,
    seed_ranges,
    significant,
)
from harness.provenance import fingerprint
from harness.provenance.environment import WORDS
from harness.reporting import wording
from harness.reporting.tables.model import Column, Table, case_columns, table_of

BETWEEN, MADE = "between_sources", "how_made"
"""Names of the tables."""

SPEC_DIGEST = "Digest of the spec"

ALWAYS_OTHER = ("Started", "Finished", "Command", "Spec")
"""Facts that differ between any two runs, and so say little."""

EQUAL: tuple[SourceVerdict, ...] = ("bit-identical", "equal but for rounding")

VERDICTS: dict[SourceVerdict, str] = {
    "none ended ok": "every trial failed in both, at different steps",
    "other, by no chance": "differs; all seeds give the same result, so not tested",
    "other, of one seed": "differs; one seed, so not tested",
    "another measure": "not compared: another measure is reported",
}


def build(beside: SideBySide) -> list[Table]:
    """Every table that there is something in."""
    built = [between(beside), how_made(beside.sources)]
    return [table for table in built if table is not None]


NOTE = (
    "Each case against the same case in the first source in which it ran, paired by seed. "
    "Bit-identical: the number of trials with the same outcome, at the same step, with the same "
    f"recorded losses; equal up to rounding: losses differ by at most {REL_TOL:g}, relatively. "
    "Everything else is tested where seeds matter: Wilcoxon's signed-rank test over all seeds in "
    "common, a failed trial being the worst, and the Hodges-Lehmann estimate that belongs to it, "
    "with its 95% interval; p is adjusted by Holm's method for all cases tested here, at the "
    f"level {ALPHA:g}. Other outcome: trials whose outcome differs. Ratio of seconds: of median "
    "seconds per epoch, on one machine only; they were not measured in turns, so it has no "
    "interval. Key: the same where everything that decides the result but the machine is; else "
    "what is known to differ."
)


def between(beside: SideBySide) -> Table | None:
    """Every case in a source against the same in the first, on the seeds that they share."""
    title = "Differences between sources, on the same seeds"
    return table_of(BETWEEN, title, _columns(beside.sources), beside.differences, NOTE)


def _columns(sources: Sequence[Source]) -> list[Column[SourceDifference]]:
    names = [source.name for source in sources]

    def verdict(found: SourceDifference) -> str:
        if found.verdict in ("lower", "higher"):
            return f"{found.verdict} in {names[found.other]}"
        return VERDICTS.get(found.verdict, found.verdict)

    return [
        *case_columns(lambda found: found.match.case),
        Column("source", "", lambda found: names[found.other]),
        Column("against", "", lambda found: names[found.base]),
        Column("", "compared", text=lambda found: f"{names[found.other]} − {names[found.base]}"),
        Column("called_there", "", called_otherwise),
        Column("same_key", "", lambda found: "yes" if found.same_key else "no"),
        Column("what_differs", "", lambda found: "; ".join(found.differs)),
        Column("verdict", "verdict", verdict),
        Column("shift", "difference", lambda f: f.shift[0], text=lambda f: _shift(f)[0]),
        Column("", "95% interval", text=lambda found: _shift(found)[1]),
        Column("ci_low", "", lambda found: found.shift[1]),
        Column("ci_high", "", lambda found: found.shift[2]),
        Column("effect", "", _of_pair(lambda pair: pair.effect)),
        Column("p", "", _of_pair(lambda pair: pair.p)),
        Column("p_adjusted", "adjusted p", _of_pair(lambda pair: pair.adjusted), probability),
        Column("both_ok", "", _of_pair(lambda pair: pair.both)),
        Column("seeds_in_common", "", lambda found: len(found.match.seeds)),
        Column(
            "equal_to_the_bit",
            "bit-identical",
            lambda found: found.equal,
            text=lambda f: f"{f.equal} of {len(f.match.seeds)}" if f.match.seeds else DASH,
        ),
        Column("ended_otherwise", "other outcome", lambda found: found.ended_otherwise),
        Column(
            "largest_relative_difference",
            "largest relative difference",
            lambda found: found.largest,
            lambda value: significant(value, 2),
        ),
        Column("seconds_ratio", "ratio of seconds", _ratios(sources), significant),
        Column("", "key", text=_key),
    ]


def _of_pair(value: Callable[[Pair], Any]) -> Callable[[SourceDifference], Any]:
    """A value of the tested pair; NaN where nothing is tested."""
    return lambda found: value(found.pair) if found.pair else math.nan


def _shift(found: SourceDifference) -> tuple[str, str]:
    return formatting.shift(*found.shift) if found.pair else (DASH, DASH)


def _key(found: SourceDifference) -> str:
    text = "same" if found.same_key else f"other: {'; '.join(found.differs)}"
    called = called_otherwise(found)
    return f"{text}; called {called} there" if called else text


def _ratios(sources: Sequence[Source]) -> Callable[[SourceDifference], float]:
    """The ratio of median seconds per epoch, other to base; NaN unless both are of one machine."""
    medians = [
        source.results.timings.groupby("position")["epoch_seconds"].median().to_dict()
        for source in sources
    ]

    def ratio(found: SourceDifference) -> float:
        base, other = (
            medians[i].get(case.position, math.nan)
            for i, case in zip((found.base, found.other), found.cases, strict=True)
        )
        machines = sources[found.base].machine, sources[found.other].machine
        return float(other / base) if machines[0] and machines[0] == machines[1] else math.nan

    return ratio


def called_otherwise(found: SourceDifference) -> str:
    """The case's name in the other source, where that is not the same."""
    one, two = found.cases
    if (one.objective, one.label, one.device) == (two.objective, two.label, two.device):
        return ""
    return two.label if one.objective == two.objective else f"{two.label} on {two.objective}"


@dataclass(frozen=True)
class Fact:
    """One thing of how the sources were made.

    Attributes:
        name: Its name.
        values: Its value in each source, as text; empty where that is not known.
    """

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """True where it is not the same everywhere."""
        return len(set(self.values)) > 1


def facts(sources: Sequence[Source]) -> list[Fact]:
    """Everything that is known of how the sources were made, fact by fact."""
    runs = [source.results.run for source in sources]
    settings = [run.settings for run in runs]
    known = [{key: value for key, value in run.environment.items() if value} for run in runs]
    timings = [own.timing.model_dump() if own.timing else {} for own in settings]
    packages = dict.fromkeys(key for own in known for key in own if key not in WORDS)
    found: dict[str, list[Any]] = {
        "Started": [run.started for run in runs],
        "Finished": [run.finished or "not yet" for run in runs],
        "Command": [run.command for run in runs],
        "Spec": [run.spec_file for run in runs],
        SPEC_DIGEST: [fingerprint.digest(run.spec_text)[:12] for run in runs],
        "Suite": [run.suite for run in runs],
        "Seeds": [seed_ranges(own.seeds) for own in settings],
        "Seeds for tuning": [seed_ranges(own.tuning_seeds) for own in settings],
        "Seeds for its finalists": [seed_ranges(own.finalist_seeds) for own in settings],
        **{word: [own.get(key) for own in known] for key, word in WORDS.items()},
        "Machine digest": [source.machine[:12] for source in sources],
        **{f"Package {name}": [own.get(name) for own in known] for name in packages},
    }
    for key in dict.fromkeys(key for own in timings for key in own):
        values = [json.dumps(own[key]) if key in own else "" for own in timings]
        found[f"Timing: {key.replace('_', ' ')}"] = values
    for device in dict.fromkeys(device for own in settings for device in own.missing):
        found[f"Missing: {device}"] = [own.missing.get(device) for own in settings]
    return [
        Fact(name, tuple(str(value or "") for value in values))
        for name, values in found.items()
        if any(values)
    ]


def how_made(sources: Sequence[Source]) -> Table | None:
    """Tabulate how the sources were made: what differs first."""

    def value(i: int) -> Callable[[Fact], str]:
        return lambda fact: fact.values[i]

    def text(i: int) -> Callable[[Fact], str]:
        return lambda fact: or_dash(moment(fact.values[i]))

    columns: list[Column[Fact]] = [
        Column("item", "what", lambda fact: fact.name),
        Column("differs", "", lambda fact: "yes" if fact.differs else "no"),
        Column("", "same?", text=lambda fact: "≠ differs" if fact.differs else "= same"),
        *(
            Column(f"in_{source.name}", f"in {source.name}", value(i), text=text(i))
            for i, source in enumerate(sources)
        ),
    ]
    return table_of(
        MADE,
        "How they were made",
        columns,
        sorted(facts(sources), key=lambda fact: not fact.differs),
        "What is known of each run, what differs first. A dash: not known.",
    )


def sentences(beside: SideBySide) -> tuple[str, ...]:
    """Say what is equal, what differs and what is missing; no source is said to be better."""
    found = [
        _other_measures(beside),
        _equal(beside),
        *_matched(beside),
        _tested(beside),
        _ended_otherwise(beside),
        _made(beside.sources),
        _missing(beside),
        _speed(beside),
    ]
    return tuple(text for text in found if text)


def _matched(beside: SideBySide) -> Iterator[str]:
    if not any(len(_present(match)) > 1 for match in beside.matches):
        yield (
            "Nothing to compare: no two runs have a case with the same key, or with the same "
            "objective, optimizer, setting and device."
        )
        return
    count, compared = len(beside.sources), len(beside.differences)
    ran = [len(match.ran) for match in beside.matches if match.ran]
    every, several = ran.count(count), sum(number > 1 for number in ran)
    text = (
        f"Of {plural(len(ran), 'case')} that ran anywhere, {all_or_none(every, len(ran))} ran in "
    )
    text += "both" if count == 2 else "all of them"
    if several > every:
        text += f", {several - every:,} more in several"
    same = sum(found.same_key for found in beside.differences)
    if compared:
        text += f"; of {plural(compared, 'comparison')}, {all_or_none(same, compared)} "
        text += f"{is_are(same)} of the same computation (one key)"
        if same < compared:
            text += f", {compared - same:,} of one name but another key"
    seeds = {found.match.seeds for found in beside.differences}
    if len(seeds) == 1:
        (common,) = seeds
        text += f"; seeds in common: {seed_ranges(common) or 'none'}"
    elif seeds:
        counts = [len(common) for common in seeds]
        text += f"; seeds in common: {min(counts):,} to {max(counts):,}, depending on the case"
    yield f"{text}."
    renamed = [
        f"{found.match.case.label} on {found.match.case.objective}, "
        f"{called_otherwise(found)} in {beside.sources[found.other].name}"
        for found in beside.differences
        if called_otherwise(found)
    ]
    if renamed:
        yield f"The same computation under another name: {listed(renamed)}."


def _other_measures(beside: SideBySide) -> str:
    """The cases that are not compared, since another measure is reported of them."""
    by_measures: dict[str, list[SourceDifference]] = {}
    for found in beside.differences:
        if not found.is_comparable:
            names = " / ".join(measure.name for measure in found.measures)
            by_measures.setdefault(names, []).append(found)
    parts = [f"{_cases(beside, own)} ({names})" for names, own in by_measures.items()]
    return f"Not compared, as another measure is reported: {listed(parts)}." if parts else ""


def _equal(beside: SideBySide) -> str:
    by_verdict: dict[SourceVerdict, list[SourceDifference]] = {}
    for found in beside.differences:
        by_verdict.setdefault(found.verdict, []).append(found)
    equal, rounded = (by_verdict.get(verdict, []) for verdict in EQUAL)
    compared = [f for f in beside.differences if f.match.seeds and f.is_comparable]
    total, trials = len(compared), sum(found.equal for found in compared)
    if not total:
        return ""
    text = f"{len(equal):,} of {plural(total, 'case')} {is_are(len(equal))} bit-identical"
    if total == 1:
        text = f"The case in common is {'' if equal else 'not '}bit-identical"
    text += f" ({plural(trials, 'trial')})" if trials else ""
    if rounded:
        largest = max(found.largest for found in rounded)
        text += (
            f"; {len(rounded):,} more {is_are(len(rounded))} equal up to rounding (relative "
            f"differences of at most {largest:.1e})"
        )
    odd = [
        found
        for found in beside.differences
        if found.same_key
        and found.verdict not in EQUAL
        and found.match.seeds
        and found.is_comparable
    ]
    if odd:
        text += f"; of the same key but not equal: {_cases(beside, odd)}"
    if fixed := by_verdict.get("other, by no chance", []):
        text += f"; different, not tested as all seeds agree: {_cases(beside, fixed)}"
    return f"{text}."


def _tested(beside: SideBySide) -> str:
    tested = [(found, found.pair) for found in beside.differences if found.pair is not None]
    if not tested:
        return ""
    family = f"on the same seeds (Holm's correction for {plural(len(tested), 'comparison')})"
    different = [
        _how_different(beside, found, pair)
        for found, pair in tested
        if found.verdict in ("lower", "higher")
    ]
    if not different:
        infos = (info for source in beside.sources for info in source.results.objectives.values())
        values = "losses" if wording.common(infos) == wording.LOSS else "values"
        text = f"No difference of final {values} is significant {family}"
        least = min(2.0 ** (1 - pair.n) for _, pair in tested) * len(tested)
        return f"{text}; the seeds are too few to show one." if least > ALPHA else f"{text}."
    text = f"Significantly different {family}: {listed(different)}"
    if others := len(tested) - len(different):
        text += f"; {others:,} more {is_are(others)} not significantly different"
    return f"{text}."


def _how_different(beside: SideBySide, found: SourceDifference, pair: Pair) -> str:
    text = f"{_case(beside, found.match)} is {found.verdict} in {beside.sources[found.other].name}"
    if len(beside.sources) > 2:
        text += f" than in {beside.sources[found.base].name}"
    if pair.by_failures:
        own, base = pair.failed
        return f"{text} by its failures, in {own} of {pair.n} seeds against {base}"
    if not pair.has_shift:
        lower, higher = found.seeds_at["lower"], found.seeds_at["higher"]
        if found.verdict == "higher":
            return f"{text} at {higher} of {pair.n} seeds and lower at {lower}"
        return f"{text} at {lower} of {pair.n} seeds and higher at {higher}"
    sign = 1 if found.verdict == "higher" else -1
    shift, ends = formatting.shift(*found.shift, sign)
    return f"{text} by {shift} (95% CI {ends})"


def _ended_otherwise(beside: SideBySide) -> str:
    found = [one for one in beside.differences if one.ended_otherwise]
    if not found:
        return ""
    total = sum(one.ended_otherwise for one in found)
    return (
        f"{plural(total, 'matched trial')} had different outcomes ({_cases(beside, found)}); no "
        "value is imputed for them."
    )


def _made(sources: Sequence[Source]) -> str:
    differing = [fact for fact in facts(sources) if fact.differs and fact.name not in ALWAYS_OTHER]
    if not differing:
        return "The runs were made in the same way: all that is known but time and command agrees."
    texts = []
    for fact in differing:
        name = "the spec" if fact.name == SPEC_DIGEST else fact.name[0].lower() + fact.name[1:]
        short = all(0 < len(value) <= 24 for value in fact.values) and "igest" not in fact.name
        texts.append(f"{name} ({' / '.join(fact.values)})" if short else name)
    return f"The runs differ in: {listed(texts, 8)}; the rest is the same."


def _missing(beside: SideBySide) -> str:
    parts = []
    for i, source in enumerate(beside.sources):
        absent: list[str] = []
        idle: list[str] = []
        for match in beside.matches:
            if match.ran and i not in match.ran:
                (idle if match.places[i] else absent).append(_case(beside, match))
        for words, cases in (("not in", absent), ("not run in", idle)):
            if cases:
                parts.append(f"{words} {source.name}: {listed(cases)}")
    nowhere = sum(not match.ran for match in beside.matches)
    if nowhere:
        parts.append(f"{plural(nowhere, 'case')} ran in none of them")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _speed(beside: SideBySide) -> str:
    timed = [source for source in beside.sources if len(source.results.timings)]
    if len(timed) < 2 or not beside.differences:
        return ""
    machines = {source.machine for source in timed}
    if len(machines) == 1 and "" not in machines:
        return (
            "Seconds per epoch come from one machine but were not measured in turns, so a ratio of "
            "two runs may reflect what else the machine did."
        )
    return (
        "Seconds per epoch come from different machines: only ratios between the cases of one run "
        "can be compared."
    )


def _present(match: MatchedCase) -> list[int]:
    return [i for i, place in enumerate(match.places) if place is not None]


def _cases(beside: SideBySide, found: Sequence[SourceDifference]) -> str:
    return listed(list(dict.fromkeys(_case(beside, one.match) for one in found)))


def _case(beside: SideBySide, match: MatchedCase) -> str:
    case = match.case
    devices = {one.case.device for one in beside.matches if one.ran}
    where = f" ({case.device})" if len(devices) > 1 else ""
    return f"{case.label} on {case.objective}{where}"
