"""Figure records of several runs: the curves of the same case from different sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.side_by_side import MatchedCase, SideBySide
from harness.analysis.sources import Source
from harness.reporting.figures.courses import CARRIED, courses
from harness.reporting.figures.records import (
    CURVES,
    NO_VALUES,
    POINTS,
    CurveFigure,
    CurvePanel,
    Line,
    curve_figure,
    joined,
    quartile_band,
    safe_name,
    scale,
    shown_of,
    thinned,
)
from harness.reporting.figures.scales import Gap
from harness.reporting.figures.styles import COLORS, DASHES, MARKERS, Style
from harness.reporting.tables import stopped
from harness.store.read import CaseData

BEGINNING = "between-loss"
"""Beginning of the names of these figures, and of no others."""

CAPTION = (
    "The same case from each source, by the colour, marker and dashes of the source: median of the "
    "seeds that ended ok, band: the middle half; where the optimum is known, of the gap to it. "
    "Equal courses lie on one another. Of many cases those are shown that are not equal to the "
    "bit, then the others. A triangle on an edge: the line goes on beyond the axis."
)


def overlays(beside: SideBySide) -> list[CurveFigure]:
    """The loss curves of every case that ran in several sources, a figure for each objective."""
    equal = {id(one.match) for one in beside.differences if one.verdict == "bit-identical"}
    groups: dict[str, list[MatchedCase]] = {}
    for match in sorted(beside.matches, key=lambda match: id(match) in equal):
        if len(match.ran) > 1:
            groups.setdefault(match.case.objective, []).append(match)
    found = (_figure(beside.sources, name, group) for name, group in groups.items())
    return [figure for figure in found if figure is not None]


def _figure(
    sources: Sequence[Source], objective: str, matches: Sequence[MatchedCase]
) -> CurveFigure | None:
    devices = {match.case.device for match in matches}
    panels = []
    for match in matches[:CURVES]:
        on = f" on {match.case.device}" if len(devices) > 1 else ""
        if panel := _panel(sources, match, match.case.label + on):
            panels.append(panel)
    if not panels:
        return None
    info = sources[matches[0].ran[0]].results.objectives[objective]
    carried = any(len(stopped.early(source.results.trials)) for source in sources)
    notes = [shown_of(len(panels), len(matches)), Gap.of(info).note, CARRIED if carried else ""]
    note, words = joined(notes), info.words
    title = f"{words[0].upper()}{words[1:]} by source: {objective}"
    name = f"{BEGINNING}_{safe_name(objective)}"
    return curve_figure(name, None, title, CAPTION, panels, min(3, len(panels)), note=note)


def _panel(sources: Sequence[Source], match: MatchedCase, title: str) -> CurvePanel | None:
    lines = [
        line
        for index in match.ran
        for line in _lines(sources[index], match.place(index).case, _style(index, match.case))
    ]
    if not lines:
        return None
    first = sources[match.ran[0]].results.objectives[match.place(match.ran[0]).case.objective]
    gap, edges = Gap.of(first), [edge for one in lines for edge in (one.low, one.high)]
    log, limits = scale([one.y for one in lines], edges, linear=gap.linear)
    return CurvePanel(
        title=title,
        x_label="epoch" if first.has_epochs else "step",
        y_label=gap.short + gap.mark,
        log=log,
        limits=limits,
        lines=tuple(lines),
        steps_per_x=first.steps_per_epoch if first.has_epochs else 1,
        steps_per_epoch=first.steps_per_epoch,
    )


def _lines(source: Source, case: CaseData, style: Style) -> Iterator[Line]:
    """The median of a case in one source, over the seeds that ended ok; none if none did."""
    info = source.results.objectives[case.objective]
    trials = source.results.trials_by_position.get(case.position, source.results.trials[:0])
    ok, early = trials.loc[trials["status"] == "ok", "seed"], stopped.early(trials)
    stops = dict(zip(early["seed"].tolist(), early["step"].tolist(), strict=True))
    found = courses(case, case.losses, ok.to_numpy(), stops, info.record_steps)
    if len(found):
        at = thinned(found.records, POINTS)
        middle, low, high = quartile_band(Gap.of(info).less(found.values[:, at]))
        band = (low, high) if (high > low).any() else (NO_VALUES, NO_VALUES)
        x = info.record_steps[at] / info.steps_per_x
        yield Line(source.name, style, x, middle, *band)


def _style(index: int, case: CaseData) -> Style:
    return Style(
        color=COLORS[index % len(COLORS)],
        marker=MARKERS[index % len(MARKERS)],
        dashes=DASHES[index % len(DASHES)],
        filled=index % 2 == 0,
        width=max(1.3, 2.3 - 0.5 * index),
        optimizer=case.optimizer,
    )
