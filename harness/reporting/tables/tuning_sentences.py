"""Sentences on tuning: settings at an edge, against the defaults, and if it were done again."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis import comparison, retuning, stats
from harness.analysis.comparison import Compared
from harness.analysis.summary import Analysis
from harness.formatting import listed, plural, share
from harness.reporting import wording
from harness.store.read import ObjectiveInfo, Results

FEWEST_SEEDS = 10
"""Seeds that a comparison of tuned optimizers should have at least."""


def place_of(results: Results, objective: str, device: str) -> str:
    """An objective, with the device where results come from several."""
    ran = results.trials[results.trials["status"] != "unavailable"]
    return f"{objective} ({device})" if ran["device"].nunique() > 1 else objective


def tuned_by(results: Results, info: ObjectiveInfo) -> str:
    """What tuning goes by on an objective, in words; empty where nothing is tuned there."""
    found = (one for one in results.tried if one.role == "tuning" and one.objective == info.name)
    return next((info.name_of(one.measure) for one in found), "")


def protocol(results: Results, info: ObjectiveInfo) -> str:
    """The sentence on what is tuned by and what is reported; empty where that is the loss alone."""
    if info.words == wording.LOSS:
        return ""
    count = info.part_rows.get(info.measure.part, info.rows)
    rows = f" ({plural(count, 'row')})" if count else ""
    by = tuned_by(results, info)
    text = f"Tuned by {by}, reported: " if by else "Reported: "
    unseen = ""
    if info.measure.part != "train":
        unseen = ", which steps and tuning never see" if by else ", which steps never see"
        if by.startswith(info.measure.part):
            unseen = ", which steps never see but tuning goes by"
    return f"{text}{info.words}{rows}{unseen}."


def at_an_edge(analysis: Analysis) -> str:
    """The sentence on best settings at an edge of what was searched."""
    edges = [
        f"{found.case.optimizer} on {found.case.objective} ({'; '.join(found.edges)})"
        for found in analysis.tuned
        if found.edges
    ]
    before = "Tuned to the edge of the search space, so a wider one may contain better settings: "
    return f"{before}{listed(edges)}." if edges else ""


def against_defaults(results: Results, compared: Sequence[Compared]) -> str:
    """The sentence on tuned settings against the constructors' defaults."""
    by_called: dict[str, list[str]] = {}
    for one in compared:
        index = {(case.optimizer, case.role): i for i, case in enumerate(one.group.cases)}
        for (optimizer, role), i in index.items():
            other = index.get((optimizer, "defaults"))
            pair = None if role != "tuned" or other is None else one.between(i, other)
            if pair is not None:
                where = place_of(results, one.group.objective, one.group.device)
                by_called.setdefault(pair.called, []).append(f"{optimizer} on {where}")
    total, lower = sum(map(len, by_called.values())), len(by_called.get("better", ()))
    if not total:
        return ""
    text = "Tuned settings do better than the constructor's defaults "
    if lower == total:
        return text + ("in the one case." if total == 1 else f"in all {total} cases.")
    parts = [f"{text}in {lower} of {total} cases"]
    for called, words in (
        ("not significantly different", "not significantly different"),
        ("tied", "tied"),
        ("worse", "worse"),
    ):
        if names := by_called.get(called):
            parts.append(f"{words}: {listed(names)}")
    return "; ".join(parts) + "."


def worse_than_special_cases(results: Results, compared: Sequence[Compared]) -> str:
    """The sentence on tuned optimizers that do worse than a special case of theirs."""
    worse = []
    for one in compared:
        where = place_of(results, one.group.objective, one.group.device)
        for pair in one.pairs:
            for seen in (pair, pair.seen_from(pair.second)):
                case, other = one.group.cases[seen.first], one.group.cases[seen.second]
                special = other.optimizer in results.run.settings.generalizes.get(
                    case.optimizer, ()
                )
                is_fair = case.role == "tuned" and other.role in ("tuned", "given")
                if special and is_fair and seen.called == "worse":
                    worse.append(f"{case.optimizer} against {other.label} on {where}")
    before = "Worse than its own special case, which a well-tuned optimizer can't be: "
    return f"{before}{listed(worse)}." if worse else ""


def if_tuned_again(results: Results, analysis: Analysis) -> str:
    """The sentence on differences that depend on the settings that tuning drew."""
    called, unsteady = 0, []
    for one, other, lower in retuning.pairs(analysis.retuned):
        word = comparison.called_between(analysis.compared, one.case, other.case)
        if word not in ("better", "worse"):
            continue
        called += 1
        names, same = (one.case.optimizer, other.case.optimizer), lower
        if word == "worse":
            names, same = names[::-1], 1 - lower
        if same < stats.CONFIDENCE:
            where = place_of(results, one.case.objective, one.case.device)
            unsteady.append((same, f"{names[0]} better than {names[1]} on {where}"))
    if not unsteady:
        return ""
    texts = [f"{text} ({share(same)})" for same, text in sorted(unsteady)]
    return (
        f"If tuning were repeated (settings and seeds resampled), {len(unsteady):,} of {called:,} "
        "significant differences between tuned optimizers would hold in fewer than "
        f"{share(stats.CONFIDENCE)} of repetitions: {listed(texts)}."
    )


def few_seeds(results: Results) -> str:
    """The sentence on fewer seeds than a comparison of tuned settings should have."""
    seeds = len(results.run.settings.seeds)
    if not results.run.settings.tuning or seeds >= FEWEST_SEEDS:
        return ""
    return (
        f"The tuned settings are compared on only {seeds} seeds; a comparison should have at least "
        f"{FEWEST_SEEDS}."
    )
