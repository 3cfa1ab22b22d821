"""Figure records of galleries: the trajectory of each of many optimizers in a small panel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    OPTIMIZERS,
    GalleryFigure,
    PlanePanel,
    Trajectory,
    alternative,
    named_after,
)
from harness.reporting.figures.trajectories import (
    Window,
    has_failed,
    in_window,
    levels,
    moving,
    points_of,
    seed_caption,
    with_trajectories,
)
from harness.store.read import CaseData, ObjectiveInfo

COLUMNS, ROWS = 6, 7
"""Panels side by side, and rows of them in a figure."""

COARSE, STEPS = 2, 61
"""Of so many points of the landscape in each direction one counts; most points of a trajectory."""

CAPTION = (
    "A panel for each optimizer, with its number in the order of this objective: fewest failures, "
    "then lowest loss. The numbers are no ranks that differ significantly; see the table of ranks. "
    "Ring: start; dot: end, on the frame where it is beyond; star: minimum. Contours: loss. "
)


def gallery(context: FigureContext, info: ObjectiveInfo) -> Iterator[GalleryFigure]:
    """The trajectories of an objective that more than ``OPTIMIZERS`` optimizers ran on.

    Yields:
        Figures of at most ``ROWS`` rows each.
    """
    known = {case.position for case in with_trajectories(context, info)}
    best: dict[str, CaseData] = {}
    for case in context.ordered(context.ran_on(info.name)):
        best.setdefault(case.optimizer, case)
    cases = {place: case for place, case in enumerate(best.values(), 1) if case.position in known}
    landscape = info.landscape
    if len(cases) <= OPTIMIZERS or not info.window or landscape is None or landscape.ndim != 2:
        return
    if moving(list(cases.values())) != [0, 1]:
        return
    low, high = info.window
    window, coarse = (low, high), landscape[::COARSE, ::COARSE]
    panels = [
        PlanePanel(f"{place} {case.optimizer}", (_trajectory(context, case, window),))
        for place, case in cases.items()
    ]
    count = math.ceil(len(panels) / (COLUMNS * ROWS))
    each = COLUMNS * math.ceil(len(panels) / count / COLUMNS)
    pages = [panels[i : i + each] for i in range(0, len(panels), each)]
    failed = any(has_failed(context, case) for case in cases.values())
    for number, own in enumerate(pages, 1):
        title = f"Gallery of trajectories: {info.name}, {number} of {len(pages)}"
        figure = GalleryFigure(
            name=named_after("gallery", info.name) + f"_{number}",
            objective=info.name,
            title=title,
            caption=CAPTION + seed_caption(list(cases.values()), failed=failed),
            alt=alternative(title, [panel.title for panel in own]),
            panels=tuple(own),
            columns=COLUMNS,
            window=window,
            landscape=coarse,
            levels=levels(coarse, info.optimum)[::3],
            minimizers=info.minimizers,
        )
        yield figure if number == 1 else replace(figure, caption="")


def _trajectory(context: FigureContext, case: CaseData, window: Window) -> Trajectory:
    """The trajectory of the lowest seed, thinned, as far as it is worth drawing."""
    points = in_window(points_of(case.trajectories), window)
    at = np.unique(np.linspace(0, len(points) - 1, STEPS).round().astype(np.int64))
    low, high = np.transpose(window)
    return Trajectory(
        label=case.optimizer,
        style=context.styles[case.position],
        points=points[at],
        failed=has_failed(context, case),
        steps=at,
        end=np.clip(points[-1], low, high),
        seed=min(case.trajectories),
        optimizers=(case.optimizer,),
    )
