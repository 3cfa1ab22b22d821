"""Sentences on a map: who wins how many cells, and the families at which an optimizer fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.analysis.comparison import ALPHA
from harness.analysis.win_counts import Count, FamilyCounts, WinMap
from harness.formatting import listed, plural, probability, significant
from harness.reporting.tables.win_map import family_name, span

FAILS = 0.5
"""The share of a family's cells below which an optimizer fails at it, if it is significant."""


MOST_OTHERS = 0.5
"""The share of the others that a cell is won more often than, or less, where that is told."""


def headline(known: WinMap) -> str:
    """The counts, as the beginning of a sentence: who wins the most, and who fewer.

    Where one optimizer was run beside others whose results come along, it is about that one.
    """
    overall = known.overall
    most = overall.most
    where = "" if known.device == "cpu" else f" on {known.device}"
    cells = f"{plural(most.of, 'cell')} ({plural(len(known.tasks), 'task')}){where}"
    if not most.of:
        return f"no cell of the map{where} was run by all optimizers"
    leaders = sorted(own.optimizer for own in overall.counts if own.won == most.won)
    if most.won == 0:
        return f"of {cells}, no optimizer wins any"
    if len(known.optimizers) < 2:
        return f"of {cells}, {most.optimizer} wins {_with_band(most)}"
    if asked := asked_of(known):
        return f"of {cells}, {_of_one(known, asked, leaders)}"
    if len(leaders) > 1:
        text = f"of {cells}, {listed(leaders)} win the most, {most.won} each"
    else:
        text = f"of {cells}, {most.optimizer} wins the most, {_with_band(most)}"
    return f"{text}{_others(known, leaders)}"


def asked_of(known: WinMap) -> str:
    """The only optimizer of a run beside whose results others come along; empty without one."""
    own = [name for name in known.optimizers if name not in known.cells.origins]
    return own[0] if len(own) == 1 < len(known.optimizers) else ""


def _of_one(known: WinMap, asked: str, leaders: Sequence[str]) -> str:
    """The counts of one optimizer, its rank, who wins the most, and the tasks that stand out."""
    counts = {own.optimizer: own for own in known.overall.counts}
    own, of = counts[asked], len(known.optimizers)
    tied = sorted(name for name in counts if name != asked and counts[name].won == own.won)
    text = f"{asked} wins {_with_band(own)}"
    if asked in leaders:
        shared = f", as {'does' if len(tied) == 1 else 'do'} {listed(tied)}" if tied else ""
        text += f", the most of {of} optimizers{shared}{_others(known, leaders)}"
    else:
        rank = 1 + sum(count.won > own.won for count in counts.values())
        shared = f" (shared with {listed(tied)})" if tied else ""
        verb = "wins" if len(leaders) == 1 else "win"
        text += f", rank {rank} of {of}{shared}; {listed(leaders)} {verb} the most, "
        text += f"{counts[leaders[0]].won}{' each' if len(leaders) > 1 else ''}"
        if len(leaders) == 1:  # that the tests are beside
            (beside,) = [one for one in known.behind if one.optimizer == asked]
            text += f", {'' if beside.is_significant else 'not '}significantly more"
    weaker, stronger = _standing_out(known, asked)
    if not (weaker or stronger):
        return f"{text}; at no task is {asked} significantly weaker or stronger than most others"
    text += f"; {asked} is significantly {'weaker' if weaker else 'stronger'} than most others at "
    text += listed(weaker or stronger, 4)
    return f"{text}, and stronger at {listed(stronger, 4)}" if weaker and stronger else text


def _standing_out(known: WinMap, asked: str) -> tuple[list[str], list[str]]:
    """The tasks of which most others win a cell significantly more often, and those of which less.

    That are at least half of those that ran on it, by the tests of single cells. Tasks with most
    such cells come first.
    """
    weaker: Counter[str] = Counter()
    stronger: Counter[str] = Counter()
    for row in known.rows:
        if asked not in row.cells or len(row.cells) < 2:
            continue
        beaten = {own.optimizer: own.names for own in known.beaten[row.task, row.difficulty]}
        least = MOST_OTHERS * (len(row.cells) - 1)
        weaker[row.task] += len(beaten.get(asked, ())) >= least
        stronger[row.task] += sum(asked in names for names in beaten.values()) >= least
    found = [
        sorted((task for task in own if own[task]), key=lambda task: (-own[task], task))
        for own in (weaker, stronger)
    ]
    return found[0], found[1]


def _others(known: WinMap, leaders: Sequence[str]) -> str:
    """The parts on those that win fewer."""
    counts = {own.optimizer: own for own in known.overall.counts}
    others = sorted(
        (own for own in known.behind if own.optimizer not in leaders),
        key=lambda own: (-counts[own.optimizer].won, own.optimizer),
    )
    fewer = [own.optimizer for own in others if own.is_significant]
    near = [own.optimizer for own in others if not own.is_significant]
    text = ""
    if near:
        names = [f"{name} ({counts[name].won})" for name in near]
        text += f"; {listed(names)} {'wins' if len(names) == 1 else 'win'} not significantly fewer"
    if fewer:
        names = [f"{name} ({counts[name].won})" for name in fewer]
        text += f"; {listed(names, 9)} {'wins' if len(names) == 1 else 'win'} significantly fewer"
    return text


def _with_band(count: Count) -> str:
    band = span(count.low, count.high)
    return f"{count.won} (95% CI {band})" if any(map(str.isdigit, band)) else f"{count.won}"


def families(known: WinMap) -> tuple[str, ...]:
    """A sentence on each family of which optimizers win significantly fewer cells than others."""
    return tuple(
        _fewer(known, family)
        for family in known.by_family
        if any(count.is_fewer for count in family.counts)
    )


def _fewer(known: WinMap, family: FamilyCounts) -> str:
    name = family_name(known, family.family)
    fewer = sorted(
        (count for count in family.counts if count.is_fewer),
        key=lambda own: (own.won, own.optimizer),
    )
    tied = sorted(own.optimizer for own in family.counts if own.won == family.most.won)
    most = f"{listed(tied, 2)} the most, {family.most.won}"
    if len(fewer) == 1:
        (count,) = fewer
        return (
            f"{count.optimizer} {_verb(fewer)} {name}: it wins {count.won} of {count.of} cells, "
            f"the others {significant(count.others)} on average, {most} (p = "
            f"{probability(count.adjusted)})."
        )
    told = [f"{c.optimizer} ({c.won}, p = {probability(c.adjusted)})" for c in fewer]
    return (
        f"{listed(told, 9)} {_verb(fewer)} {name}: so many of {fewer[0].of} cells they win, {most}."
    )


def _verb(fewer: Sequence[Count]) -> str:
    """``fails at`` where all win less than half of the cells; a weaker one else."""
    fail = all(count.won < FAILS * count.of for count in fewer)
    if len(fewer) == 1:
        return "fails at" if fail else "is behind at"
    return "fail at" if fail else "are behind at"


def basis(known: WinMap) -> tuple[str, ...]:
    """The rules that the counts and tests rest on."""
    seeds = sorted({len(cell.seeds) for cell in known.cells.cells})
    text = (
        f"A cell is won where at least half of its {listed([str(n) for n in seeds])} seeds reach "
        "all targets within the steps; intervals of counts are 95%, for other seeds and other "
        "tasks."
    )
    tests = ""
    if len(known.optimizers) > 1:
        tests = (
            f"Counts of all tasks are compared task by task (Wilcoxon's signed-rank test, Holm's "
            f"correction for all pairs, p ≤ {ALPHA:g}). "
        )
        if known.by_family:
            tests += (
                "Of a family, an optimizer wins significantly fewer where so low a count has "
                f"p ≤ {ALPHA:g} if on each task any optimizer's count were as likely to be its own "
                "(Holm's correction for all optimizers and families). "
            )
        cells = len(known.rows)
        if not known.of_page and cells:
            tests += (
                "In a single cell, pairs are compared by Fisher's exact test with Holm's "
                "correction within the cell: if all optimizers were equal, up to "
                f"{significant(ALPHA * cells, 2)} of {cells} cells would have a significant "
                f"difference by chance on average; 'correction: page' corrects for all of them."
            )
    return tuple(filter(None, (text, tests.strip(), _left_out(known))))


def _left_out(known: WinMap) -> str:
    """The cells that not all optimizers ran on."""
    missing = len(known.rows) - known.overall.most.of
    if not missing:
        return ""
    return f"Not all optimizers ran on {plural(missing, 'cell')}, which no count has."


def origins(known: WinMap) -> str:
    """The origin of cells that are not of this run; empty where all are."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in known.cells.origins.items():
        by_origin.setdefault(origin, []).append(name)
    told = []
    for origin, names in by_origin.items():
        kind, _, versions = origin.partition(": ")
        made = f", made with {versions}" if versions else ""
        told.append(f"The cells of {listed(names, 12)} are {kind}{made}.")
    if known.cells.left_out:
        told.append(
            f"{plural(known.cells.left_out, 'cell')} of these stayed out, as their tasks are "
            "defined otherwise here."
        )
    return " ".join(told)
