"""The answer of a run: one sentence, and the best setting of every optimizer on every objective."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.analysis.claims import CheckedClaim
from harness.analysis.summary import Analysis
from harness.analysis.verdict import Entry, ObjectiveVerdict
from harness.formatting import (
    DASH,
    decimals,
    device_name,
    interval,
    is_are,
    listed,
    number,
    plural,
    probability,
    significant,
    significant_interval,
)
from harness.measures import Measure
from harness.reporting import wording
from harness.reporting.tables import win_sentences
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.reporting.tables.trials import EpochSeconds, timed
from harness.store.read import ObjectiveInfo, Results

NAMED_OBJECTIVES = 3
"""Objectives that the headline names one by one; of more it gives counts."""


class _Summary(NamedTuple):
    verdict: ObjectiveVerdict
    info: ObjectiveInfo
    entry: Entry
    time: EpochSeconds | None


def loss_text(entry: Entry, digits: int = 4) -> str:
    """The loss that stands for an entry, in as many digits as its interval allows, or so many."""
    if math.isnan(entry.loss):
        return DASH
    places = _places(entry)
    return significant(entry.loss, digits) if places is None else number(entry.loss, places)


def interval_text(entry: Entry) -> str:
    """The 95% interval of that loss; a dash where there is none."""
    places = _places(entry)
    if places is None:
        return significant_interval(entry.low, entry.high)
    return interval(entry.low, entry.high, places)


def _places(entry: Entry) -> int | None:
    """Decimals that the interval allows; None where it is too wide or too narrow to tell."""
    half = (entry.high - entry.low) / 2
    if not 1e-6 * abs(entry.loss) < half < 0.2 * abs(entry.loss):
        return None
    return decimals(entry.loss, entry.low, entry.high)


def factor_text(factor: float) -> str:
    """A multiple: ``×1.5``, ``×2e+05``; empty where it says nothing."""
    if not math.isfinite(factor) or factor <= 1:
        return ""
    return f"×{significant(factor) if factor < 1000 else f'{factor:.0e}'}"


def behind_text(entry: Entry, measure: Measure) -> str:
    """How far a value is from the best, where a multiple says nothing: ``−0.012``."""
    if not entry.behind > 0:
        return ""
    return f"{'−' if measure.higher else '+'}{significant(entry.behind, 2)}"


def outcome_text(entry: Entry, *, is_gap: bool, words: str = wording.LOSS) -> str:
    """The outcome in words, with what it rests on: ``worse: ×4.1 the gap (p = 0.012)``.

    Args:
        entry: An optimizer beside the best.
        is_gap: Whether its factor is of the gap to the optimum.
        words: What it is of, if not.
    """
    text = entry.outcome if entry.outcome != "failed" else f"all {entry.n} failed"
    if entry.outcome == "worse" and (factor := factor_text(entry.factor)):
        text = f"worse: {factor} the {'gap' if is_gap else words}"
    elif entry.outcome == "worse" and entry.behind > 0 and math.isnan(entry.factor):
        text = f"worse by {significant(entry.behind, 2)} on average"
    if not math.isnan(entry.p):
        text += f" (p = {probability(entry.p)})"
    if 0 < entry.failed < entry.n:
        text += f", {entry.failed} of {entry.n} failed"
    return text


def _summary_verdict(row: _Summary) -> str:
    return outcome_text(row.entry, is_gap=row.verdict.is_gap, words=row.info.words)


_MEASURE: Column[_Summary] = Column("measure", "", lambda row: row.info.words)

_VALUE: Column[_Summary] = Column(
    "loss", "loss", lambda row: row.entry.loss, text=lambda row: loss_text(row.entry)
)

_SUMMARY: tuple[Column[_Summary], ...] = (
    *case_columns(lambda row: row.entry.case),
    Column("outcome", "", lambda row: row.entry.outcome),
    Column("", "verdict", text=_summary_verdict),
    _MEASURE,
    _VALUE,
    Column("ci_low", "", lambda row: row.entry.low),
    Column("ci_high", "", lambda row: row.entry.high),
    Column("", "95% interval", text=lambda row: interval_text(row.entry)),
    Column("factor", "", lambda row: row.entry.factor),
    Column("p", "", lambda row: row.entry.p),
    Column("failed", "", lambda row: row.entry.failed),
    Column("n", "", lambda row: row.entry.n),
    Column("time_ratio", "", lambda row: row.time.ratio if row.time else math.nan),
    Column("", "time ratio", text=lambda row: time_ratio_text(row.time)),
)


def time_ratio_text(time: EpochSeconds | None) -> str:
    """The time per epoch as a multiple of the reference optimizer's; a dash where not timed."""
    return DASH if time is None else number(time.ratio, 2)


def summary(results: Results, analysis: Analysis) -> Table | None:
    """Every optimizer on every objective, best first: its loss, verdict and time."""
    known = {row.case.position: row for row in timed(results)}
    rows = [
        _Summary(
            verdict, results.objectives[verdict.objective], entry, known.get(entry.case.position)
        )
        for verdict in analysis.verdicts
        for entry in verdict.entries
    ]
    references = sorted({row.time.reference.optimizer for row in rows if row.time})
    of = f" to that of {listed(references)}" if references else ""
    infos = {row.info.name: row.info for row in rows}.values()
    words = wording.common(infos)
    best = f"{wording.common_extreme(infos)} {words}"
    note = (
        f"{settings_picked(results)}Each optimizer against the best one: the "
        f"optimizer with the fewest failed trials, then the {best}. {words.capitalize()}: median "
        "over the "
        "seeds where the lowest possible loss is known, else mean, with its 95% interval. Worse "
        "and not significantly different: by a signed-rank test on the same seeds, corrected for "
        "all pairs, where there is a p-value; else all seeds give the same result. The factor is "
        "of the gap to the lowest possible loss where that is known, else of the loss. Time ratio: "
        f"median ratio of the time per epoch{of}."
    )
    return table_of("summary", "Summary", _with_words(words), rows, note)


def settings_picked(results: Results) -> str:
    """Say by which seeds the setting shown of each optimizer was picked; empty if it had one.

    Ends with a space, unless it is empty.
    """
    own = Counter((case.objective, case.device, case.optimizer) for case in results.cases)
    if any(count > 1 for count in own.values()):
        return "Each optimizer in its best setting, picked on these same seeds. "
    if any(case.role == "tuned" for case in results.cases):
        return "Each optimizer in the setting that tuning found with other seeds. "
    return ""


def _with_words(words: str) -> list[Column[_Summary]]:
    """The columns of the summary, under the name of what is reported."""
    if words == wording.LOSS:
        return [column for column in _SUMMARY if column is not _MEASURE]
    value = replace(_VALUE, key="value", heading=words)
    return [value if column is _VALUE else column for column in _SUMMARY]


def headline(results: Results, analysis: Analysis) -> str:
    """The answer in one sentence; the same whatever the order of the spec's lists.

    It says which optimizer has the lowest loss (or the highest accuracy) where, what is
    significantly worse, how published numbers fare, and what failed or was not available.
    """
    missing = results.run.settings.missing
    parts = [
        *(
            map(win_sentences.headline, analysis.maps)
            if analysis.maps
            else _lowest(analysis.verdicts, results.objectives)
        ),
        _claims(analysis.claims),
        _failures(results),
        f"{listed(_devices(missing))} {is_are(len(missing))} not available" if missing else "",
    ]
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}." if text else "No trial ended with a loss."


def _devices(missing: Iterable[str]) -> list[str]:
    return sorted(device_name(device) for device in missing)


def _lowest(known: Sequence[ObjectiveVerdict], infos: Mapping[str, ObjectiveInfo]) -> list[str]:
    """The parts on final values: of one device, and what differs on the others."""
    devices = sorted({verdict.device for verdict in known})
    if not devices:
        return []
    own = {device: [v for v in known if v.device == device] for device in devices}
    where = f" on {devices[0]}" if len(devices) > 1 else ""
    parts = [_on_device(own[devices[0]], where, infos)]
    first = {v.objective: v.leaders for v in own[devices[0]]}
    for device in devices[1:]:
        others = sorted(v.objective for v in own[device] if v.leaders != first.get(v.objective))
        same = f"the same on {device}"
        parts.append(f"{same} but for {listed(others)}" if others else same)
    return parts


def _on_device(
    known: Sequence[ObjectiveVerdict], device: str, infos: Mapping[str, ObjectiveInfo]
) -> str:
    """The part on the final values of one device."""
    shared = sorted((v for v in known if len(v.entries) > 1), key=lambda v: v.objective)
    if not shared:
        names = sorted({entry.optimizer for v in known for entry in v.entries})
        return f"nothing to compare: no objective has more than one optimizer ({listed(names)})"
    ended = [v for v in shared if v.entries[0].outcome == "best"]
    if not ended:
        return f"no trial ended with a {_called(ended or shared, infos)}"
    counts = Counter(name for v in ended for name in v.leaders)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    winners = [name for name, count in ranked if count == len(ended)]
    device += " (one seed)" * all(v.entries[0].n == 1 for v in ended)
    what = _best_of(ended, infos)
    if any(verdict.by_failures for verdict in ended):
        what = f"fewest failures, then {what},"
    if winners:
        remarks = _value(ended, infos), _near(ended, winners)
        where = _all_of(ended, shared, known)
        text = f"{what} on {where}{device}: {_names(winners)}{_in_brackets(remarks)}"
        return f"{text}{_better_than(ended)}"
    if len(ended) <= NAMED_OBJECTIVES:
        on: dict[tuple[str, ...], list[str]] = {}
        for verdict in ended:
            on.setdefault(verdict.leaders, []).append(verdict.objective)
        clauses = [f"{_names(who)} on {listed(where)}" for who, where in on.items()]
        return f"{what.rstrip(',')}{device}: {listed(clauses)}{_clear(ended)}"
    (name, count), *others = ranked
    clauses = [f"{name} on {count} of {len(ended)} objectives"]
    clauses += [f"{name} on {count}" for name, count in others]
    return f"{what.rstrip(',')}{device}: {listed(clauses)}{_clear(ended)}"


def _called(known: Sequence[ObjectiveVerdict], infos: Mapping[str, ObjectiveInfo]) -> str:
    """What is reported of all objectives of some verdicts; ``value`` where that differs."""
    return wording.common(infos[verdict.objective] for verdict in known)


def _best_of(known: Sequence[ObjectiveVerdict], infos: Mapping[str, ObjectiveInfo]) -> str:
    """What the best have: ``lowest loss``, ``highest test accuracy``; else ``best value``."""
    called = _called(known, infos)
    called = f"final {called}" if called == wording.ANY else called
    return f"{wording.common_extreme([infos[v.objective] for v in known])} {called}"


def _value(ended: Sequence[ObjectiveVerdict], infos: Mapping[str, ObjectiveInfo]) -> str:
    """The best value on the one objective, with its interval, if it isn't a plain loss."""
    entry = ended[0].entries[0]
    if len(ended) > 1 or infos[ended[0].objective].words == wording.LOSS:
        return ""
    ends = interval_text(entry)
    return f"{loss_text(entry)}{f', 95% interval {ends}' if ends != DASH else ''}"


def _in_brackets(remarks: Iterable[str]) -> str:
    said = "; ".join(remark for remark in remarks if remark)
    return f" ({said})" if said else ""


def _all_of(
    ended: Sequence[ObjectiveVerdict],
    shared: Sequence[ObjectiveVerdict],
    known: Sequence[ObjectiveVerdict],
) -> str:
    """The objectives on which some trial ended, of those with several optimizers, of all."""
    if len(ended) == 1:
        return ended[0].objective
    if len(ended) < len(shared):
        return f"{len(ended)} of {len(shared)} objectives"
    text = "both objectives" if len(ended) == 2 else f"all {len(ended)} objectives"
    return text if len(shared) == len(known) else f"{text} with several optimizers"


def _near(ended: Sequence[ObjectiveVerdict], winners: Sequence[str]) -> str:
    """The optimizers that are not behind the best anywhere."""
    ran = [v.by_optimizer for v in ended]
    near = [
        name
        for name in sorted({name for own in ran for name in own} - set(winners))
        if all(name in own and own[name].leads for own in ran)
    ]
    if not near:
        return ""
    outcomes = {own[name].outcome for own in ran for name in near} - {"best"}
    words = {
        "equal": outcomes & set(_EQUAL),
        "not significantly different": outcomes & {"not significantly different"},
        "better on most seeds": outcomes & {"better on most seeds"},
    }
    return f"{listed(near, 3)} {' or '.join(word for word, some in words.items() if some)}"


_EQUAL = ("tied", "equal to 3 digits")


def _better_than(ended: Sequence[ObjectiveVerdict]) -> str:
    """The part on what the best everywhere is significantly better than."""
    worse = {
        v.objective: [e for e in v.entries if e.outcome == "worse" and not math.isnan(e.p)]
        for v in ended
    }
    tested = [v.objective for v in ended if worse[v.objective]]
    if len(tested) > 1:
        return _clear(ended)
    if not tested:
        return ""
    beaten = worse[tested[0]]
    p, several = max(entry.p for entry in beaten), len({entry.p for entry in beaten}) > 1
    on = f" on {tested[0]}" if len(ended) > 1 else ""
    names = listed(sorted(entry.optimizer for entry in beaten), 3)
    (verdict,) = (v for v in ended if v.objective == tested[0])
    if len(verdict.entries) - 1 == len(beaten) > 2:
        names = f"all {len(beaten)} other optimizers"
    sign = "≤" if several else "="
    return f", significantly better than {names}{on} (p {sign} {probability(p)})"


def _clear(ended: Sequence[ObjectiveVerdict]) -> str:
    """The part on how often the best is significantly better than every other optimizer."""
    tested, clear = sum(v.is_tested for v in ended), sum(v.is_clear for v in ended)
    if not tested:
        return ""
    of = "" if tested == len(ended) else f" of {tested} tested"
    return f"; significantly better than every other optimizer on {clear}{of}"


def _names(names: Iterable[str]) -> str:
    return listed(sorted(names), 3)


def _claims(checked: Sequence[CheckedClaim]) -> str:
    if not checked:
        return ""
    held = sum(one.verdict in ("reproduced", "consistent") for one in checked)
    return f"{held} of {plural(len(checked), 'published number')} consistent"


def _failures(results: Results) -> str:
    statuses = results.trials["status"]
    failed, ran = int((~statuses.isin(["ok", "unavailable"])).sum()), (statuses != "unavailable")
    return f"{failed:,} of {plural(int(ran.sum()), 'trial')} failed" if failed else ""
