"""The figure record of mean ranks over objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.analysis.objective_ranks import ObjectiveRanks
from harness.formatting import listed, probability
from harness.reporting import wording
from harness.reporting.figures.records import (
    ROWS,
    DotFigure,
    DotPanel,
    DotRow,
    dot_figure,
    shown_of,
    with_dots,
)
from harness.reporting.figures.styles import Style

CAPTION = (
    "Dot: an optimizer's rank on one objective by the {words} of its tuned or best setting, 1 "
    "the {best}; a failure is the worst, ties share their mean. Diamond: its mean rank; bar: half "
    "the critical difference each way. Optimizers whose bars do not overlap differ significantly "
    "by Nemenyi's test, at 5% for all pairs together: CD = q √(k (k + 1) / (6 N)) with k "
    "optimizers, N objectives and the studentized range's quantile q (Demšar, Journal of Machine "
    "Learning Research 7, 2006). Dashed: from here on significantly worse than the best."
)


def mean_ranks(ranked: ObjectiveRanks, known: Mapping[int, Style], where: str) -> DotFigure:
    """Mean ranks over objectives, each with half the critical difference either way."""
    blocks = np.arange(1, len(ranked.blocks) + 1)
    rows = []
    for name, cases, own in zip(ranked.optimizers, ranked.cases, ranked.ranks, strict=True):
        order, half = np.argsort(own, kind="stable"), ranked.difference / 2
        mean = float(own.mean())
        row = DotRow(
            label=name,
            style=known[cases[0].position],
            centre=mean,
            low=mean - half,
            high=mean + half,
        )
        rows.append(with_dots(row, own[order], blocks[order]))
    total, rows = len(rows), rows[:ROWS]
    words = wording.common(ranked.groups)
    best = f"{wording.common_extreme(ranked.groups)} {words}"
    what = "objectives" if ranked.blocks == ranked.objectives else "objectives and families of them"
    panel = DotPanel(
        x_label=f"rank on {len(blocks)} {what} (1: the {best})",
        limits=(min(0.5, rows[0].low - 0.1), max(total + 0.5, rows[-1].high + 0.1)),
        rows=tuple(rows),
        reference_line=rows[0].centre + ranked.difference,
        reference_label=f"{rows[0].label} + critical difference",
    )
    few = shown_of(len(rows), total, "optimizers, those of the lowest mean rank; the table has all")
    told = [few] if few else []
    told.append(f"Critical difference: {ranked.difference:.2f}.")
    if np.isfinite(ranked.p):
        told.append(f"That all rank alike: {probability_of(ranked.p)} (Iman and Davenport).")
    if ranked.left_out:
        told.append(f"Left out, as they did not run on all: {listed(ranked.left_out)}.")
    caption = CAPTION.format(words=words, best=best.partition(" ")[0])
    about = ("mean_ranks", None, "Mean rank over objectives", caption)
    label = "mean rank ± half the critical difference"
    figure = dot_figure(*about, [panel], "one objective", label, where, " ".join(told))
    return replace(figure, number_label="objective")


def probability_of(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    text = probability(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
