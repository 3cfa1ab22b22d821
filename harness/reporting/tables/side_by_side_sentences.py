"""What came out of laying results side by side, in sentences no stronger than the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness import formatting
from harness.analysis.comparison import ALPHA
from harness.analysis.side_by_side import (
    ALWAYS_OTHER,
    SPEC_DIGEST,
    Difference,
    Match,
    SideBySide,
    seeds_text,
)
from harness.reporting.tables.side_by_side import called_otherwise, endings, presence

NAMED = 4
"""Cases, or other things, that a sentence names one by one."""


def title(beside: SideBySide) -> str:
    """What the page is called."""
    return f"{listed([source.name for source in beside.sources])}, side by side"


def summarise(beside: SideBySide) -> list[str]:
    """What was laid side by side, what is equal, what differs and what is missing.

    No source is said to be better, and nothing is said of seconds from two machines.
    """
    sentences = [
        _laid(beside),
        *_matched(beside),
        _equal(beside),
        _called(beside),
        _endings(beside),
        _made(beside),
        _missing(beside),
        _speed(beside),
    ]
    return [sentence for sentence in sentences if sentence]


def _laid(beside: SideBySide) -> str:
    runs = [
        f"{source.name} (suite {source.results.run.suite}, "
        f"{_plural(len(source.results.cases), 'case')}, "
        f"seeds {seeds_text(source.results.run.settings.seeds)})"
        for source in beside.sources
    ]
    return f"Laid side by side: {listed(runs, 8)}."


def _matched(beside: SideBySide) -> Iterator[str]:
    if not beside.shared:
        yield (
            "No case is in more than one of them: none has the same key, nor the same objective, "
            "optimizer, setting and device. So there is nothing to compare."
        )
        return
    two = len(beside.sources) == 2
    ran = len(beside.matches) - len(beside.nowhere)
    every, several = len(beside.everywhere), len(beside.compared)
    text = f"Of {_plural(ran, 'case')} that ran anywhere, {_count(every, ran)} ran in "
    text += "both" if two else "all of them"
    if several > every:
        text += f", {several - every:,} more in several"
    compared = len(beside.differences)
    same = sum(found.same_key for found in beside.differences)
    if compared:
        text += f"; of {_plural(compared, 'comparison')}, {_count(same, compared)} {_is(same)} of "
        text += "the same computation (one key)"
        if same < compared:
            text += f", {compared - same:,} of one name but another key"
    seeds = {found.match.seeds for found in beside.differences}
    if len(seeds) == 1:
        (common,) = seeds
        text += f"; seeds in common: {seeds_text(common) or 'none'}"
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


def _equal(beside: SideBySide) -> str:
    by_verdict: dict[str, list[Difference]] = {}
    for found in beside.differences:
        by_verdict.setdefault(found.verdict, []).append(found)
    equal = by_verdict.get("equal to the bit", [])
    rounded = by_verdict.get("equal but for rounding", [])
    total = len(beside.differences)
    if not total:
        return ""
    trials = sum(found.equal for found in beside.differences)
    text = f"Equal to the bit {_is(len(equal))} {_count(len(equal), total)} of "
    text += f"{_plural(total, 'comparison')}" + (f" ({_plural(trials, 'trial')})" if trials else "")
    if rounded:
        largest = max(found.largest for found in rounded)
        text += (
            f"; {len(rounded):,} more {_is(len(rounded))} equal but for rounding (losses differ "
            f"by at most {largest:.1e} of their size)"
        )
    odd = [found for found in beside.differences if found.same_key and found.verdict not in _EQUAL]
    odd = [found for found in odd if found.match.seeds]
    if odd:
        text += f"; of one key and yet not equal: {_cases(beside, odd)}"
    fixed = by_verdict.get("other, by no chance", [])
    if fixed:
        text += f"; other, and every seed ends alike, so without a test: {_cases(beside, fixed)}"
    return f"{text}."


_EQUAL = ("equal to the bit", "equal but for rounding")


def _called(beside: SideBySide) -> str:
    tested = [found for found in beside.differences if found.pair is not None]
    if not tested:
        return ""
    called = [found for found in tested if found.verdict in ("lower", "higher")]
    family = f"on the same seeds (Holm's correction for {_plural(len(tested), 'comparison')})"
    if not called:
        text = f"No difference of final losses is significant {family}"
        least = min(2.0 ** (1 - len(found.match.seeds)) for found in tested) * len(tested)
        if least > ALPHA:
            text += "; so few seeds could not have shown one"
        return f"{text}."
    text = f"Called different {family}: {listed([_told(beside, found) for found in called])}"
    others = len(tested) - len(called)
    if others:
        text += f"; {others:,} more {_is(others)} not significantly different"
    return f"{text}."


def _told(beside: SideBySide, found: Difference) -> str:
    pair, name = found.pair, beside.sources[found.other].name
    assert pair is not None
    text = f"{_case(beside, found.match)} is {found.verdict} in {name}"
    if len(beside.sources) > 2:
        text += f" than in {beside.sources[found.base].name}"
    if pair.by_failures:
        own, base = pair.failed
        return f"{text} by its failures, in {own} of {pair.n} seeds against {base}"
    if not pair.has_shift:
        if found.verdict == "higher":
            return f"{text} at {pair.higher} of {pair.n} seeds and lower at {pair.lower}"
        return f"{text} at {pair.lower} of {pair.n} seeds and higher at {pair.higher}"
    shift, ends = formatting.shift(
        pair.shift, pair.low, pair.high, 1 if found.verdict == "higher" else -1
    )
    return f"{text} by {shift} (95% CI {ends})"


def _endings(beside: SideBySide) -> str:
    found = endings(beside)
    if not found:
        return ""
    total = sum(len(seeds) for _, _, seeds in found)
    names = [source.name for source in beside.sources]
    parts = []
    for match, statuses, seeds in found:
        ends = [f"{s} in {name}" for name, s in zip(names, statuses, strict=True) if s]
        parts.append(f"{len(seeds):,} of {_case(beside, match)}: {', '.join(ends)}")
    return (
        f"{_plural(total, 'matched trial')} ended otherwise in one than in another ("
        f"{'; '.join(parts[:NAMED])}{'; and more' if len(parts) > NAMED else ''}); no loss stands "
        "in for them."
    )


def _made(beside: SideBySide) -> str:
    differing = [i for i in beside.made if i.differs and i.name not in ALWAYS_OTHER]
    if not differing:
        return "They were made alike: all that is known but when and by which command is the same."
    texts = []
    for item in differing:
        name = "the spec" if item.name == SPEC_DIGEST else item.name[0].lower() + item.name[1:]
        short = all(0 < len(value) <= 24 for value in item.values)
        told = short and "igest" not in item.name
        texts.append(f"{name} ({' / '.join(item.values)})" if told else name)
    return f"How they were made differs in: {listed(texts, 8)}; the rest is the same."


def _missing(beside: SideBySide) -> str:
    if not beside.shared:
        return ""
    parts = []
    for i, source in enumerate(beside.sources):
        for state, words in (("not there", "not in"), ("did not run", "there, but not run, in")):
            cases = [
                _case(beside, match)
                for match in beside.matches
                if match.ran and presence(match)[i] == state
            ]
            if cases:
                parts.append(f"{words} {source.name} {_is(len(cases))} {listed(cases)}")
    if beside.nowhere:
        count = len(beside.nowhere)
        parts.append(f"run in none of them {_is(count)} {_plural(count, 'case')}")
    if not parts:
        return ""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _speed(beside: SideBySide) -> str:
    timed = [source for source in beside.sources if len(source.results.timings)]
    if len(timed) < 2 or not beside.shared:
        return ""
    machines = {source.machine for source in timed}
    if len(machines) == 1 and "" not in machines:
        return (
            "Seconds per epoch come from one machine, but were not measured in turns: a ratio of "
            "two sources can be of what else the machine did."
        )
    return (
        "Seconds per epoch come from different machines: what can be laid side by side is how the "
        "cases of one source compare with each other, as ratios within it."
    )


def _cases(beside: SideBySide, found: Sequence[Difference]) -> str:
    return listed(list(dict.fromkeys(_case(beside, one.match) for one in found)))


def _case(beside: SideBySide, match: Match) -> str:
    case = match.case
    devices = {one.case.device for one in beside.matches if one.ran}
    where = f" ({case.device})" if len(devices) > 1 else ""
    return f"{case.label} on {case.objective}{where}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _count(count: int, total: int) -> str:
    return "all" if count == total > 1 else "none" if count == 0 else f"{count:,}"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else what + 's'}"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """``a``, ``a and b``, ``a, b and c``; cut where there are many."""
    shown = list(names)
    if len(shown) > most + 1:
        shown = [*shown[:most], f"{len(shown) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
