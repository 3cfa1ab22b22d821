"""Figures of many optimizers: a gallery of all trajectories, and the best in every other figure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from results_builders import TIMING_COLUMNS, make_case, make_objective, make_run, make_trials

from harness.analysis import targets
from harness.analysis.comparison import mean_losses
from harness.reporting.figures import comparison, gallery, overview, trajectories, trials
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.draw import draw
from harness.reporting.figures.records import OPTIMIZERS, PLANES, CurveFigure, GalleryFigure
from harness.reporting.figures.styles import Style
from harness.reporting.page import charts
from harness.store.read import ObjectiveInfo, Results

BOWL = make_objective(
    optimum=0.0,
    minimizers=((0.0, 0.0),),
    window=((-6.0, 2.0), (-3.0, 2.0)),
    landscape=np.add.outer(np.linspace(-3, 2, 31) ** 2, np.linspace(-6, 2, 31) ** 2),
    steps=200,
    record_steps=(0, 200),
)


def context_of(count: int, info: ObjectiveInfo = BOWL, *, failed: int = 0) -> FigureContext:
    """Optimizers o0, o1, ...: the higher the number, the lower the loss; some failed."""
    cases = []
    for i in range(count):
        along = np.linspace(0, 1, 201)[:, None] * np.array([[4.0, 2.0 - 0.001 * i]])
        cases.append(
            make_case(
                "bowl",
                f"o{i}",
                {s: [9.0, 2.0 - i / count] for s in (0, 1)},
                trajectories={s: np.array([[-5.0, -2.0]]) + along for s in (0, 1)},
                position=i,
            )
        )
    endings = [
        dict.fromkeys((0, 1), "diverged" if i < failed else 2.0 - i / count) for i in range(count)
    ]
    timings = pd.DataFrame(columns=TIMING_COLUMNS)
    trials_of = make_trials(cases, endings)
    known = Results(make_run(), {"bowl": info}, tuple(cases), trials_of, timings)
    return FigureContext.of(known, mean_losses(known))


def figures(count: int, info: ObjectiveInfo = BOWL, *, failed: int = 0) -> list[GalleryFigure]:
    return list(gallery.gallery(context_of(count, info, failed=failed), info))


def test_few_optimizers_have_no_gallery_and_one_more_has() -> None:
    assert figures(OPTIMIZERS) == []
    assert len(figures(OPTIMIZERS + 1)) == 1
    assert figures(OPTIMIZERS + 1, replace(BOWL, landscape=None)) == []
    assert figures(OPTIMIZERS + 1, replace(BOWL, window=None)) == []


@pytest.mark.parametrize("count", [25, 42, 43, 84, 127])
def test_pages_hold_everyone_once_the_best_first_and_are_about_as_full(count: int) -> None:
    found = figures(count)
    titles = [panel.title for one in found for panel in one.panels]
    assert titles == [f"{i + 1} o{count - 1 - i}" for i in range(count)]
    assert len(found) == -(-count // (gallery.COLUMNS * gallery.ROWS))
    sizes = [len(one.panels) for one in found]
    assert max(sizes) <= gallery.COLUMNS * gallery.ROWS
    assert max(sizes) - min(sizes) < gallery.COLUMNS * len(found)
    assert len({one.name for one in found}) == len(found)
    assert found[-1].title.endswith(f"bowl, {len(found)} of {len(found)}")


def test_a_panel_has_the_lowest_seed_s_trajectory_from_start_to_end() -> None:
    (found,) = figures(30)
    for i, panel in enumerate(found.panels):
        (one,) = panel.trajectories
        assert one.points[0].tolist() == [-5.0, -2.0]
        assert one.end == pytest.approx([-1.0, -0.001 * (29 - i)])
        assert len(one.points) == gallery.STEPS
        assert (one.seed, one.failed) == (0, False)


def test_a_trial_that_failed_is_said_to_have_and_comes_last() -> None:
    (found,) = figures(30, failed=3)
    assert [panel.trajectories[0].failed for panel in found.panels] == [False] * 27 + [True] * 3
    assert "Cross: a trial that failed" in found.caption


def test_a_gallery_is_drawn_on_paper_alone_and_its_text_is_text() -> None:
    (found,) = figures(25)
    drawn = draw(found)
    assert charts.plain(found) is None
    for panel in found.panels:
        assert re.search(rf">{panel.title}<", drawn.svg)
    assert len(drawn.svg) < 200_000


def test_other_figures_of_many_optimizers_show_the_best_and_say_so() -> None:
    context = context_of(60)
    best = [f"o{59 - i}" for i in range(60)]
    assert [c.optimizer for c in context.contenders("bowl")] == best[:OPTIMIZERS]
    glance = overview.overview(context)
    assert glance is not None
    assert [row.label for row in glance.panels[0].rows] == best[:PLANES]
    assert f"the best {PLANES} of 60 optimizers are shown" in glance.note
    assert "Optimizers that ran" not in glance.note
    lines = trials.loss(context, BOWL)
    assert lines is not None
    assert f"Not drawn: {60 - OPTIMIZERS} others, which do worse." in lines.note
    assert {panel.title for panel in lines.panels} == set(best[:OPTIMIZERS])
    paths = trajectories.trajectories(context, BOWL)
    assert paths is not None
    (panel,) = paths.panels
    assert {one.optimizers[0] for one in panel.trajectories} <= set(best)
    assert len(panel.trajectories) <= trajectories.DISTINCT
    rows = trials.final_loss(context, BOWL)
    assert rows is not None
    assert [row.label for row in rows.panels[0].rows] == best[:40]
    assert "Shown: 40 of 60 cases." in rows.note


def test_of_few_optimizers_everyone_is_shown() -> None:
    context = context_of(OPTIMIZERS)
    assert len(context.contenders("bowl")) == OPTIMIZERS
    lines = trials.loss(context, BOWL)
    assert lines is not None
    assert "Not drawn" not in lines.note


def pool_of(count: int) -> targets.OptimizerPool:
    """Of eight problems o0 solves none, o1 one, ... and from o8 on all, the later the sooner."""
    solvers = tuple(f"o{i}" for i in range(count))
    cases = tuple(
        (make_case("bowl", name, {0: [1.0]}, position=i),) for i, name in enumerate(solvers)
    )
    steps = np.full((8, 1, count), np.inf)
    for i in range(count):
        steps[:i, 0, i] = 1000.0 / (i + 1)
    return targets.OptimizerPool(
        "cpu", solvers, cases, ("bowl",), (), ("bowl",), (0,) * count, steps, None, ("bowl",) * 8
    )


@pytest.mark.parametrize("make", [comparison.profile, comparison.runtimes_over_all])
def test_profiles_of_many_optimizers_show_those_that_solve_the_most_soonest(make: Any) -> None:
    def drawn(count: int) -> CurveFigure:
        known = {
            i: Style("#0072b2", "o", (), filled=True, width=1.6, optimizer=f"o{i}")
            for i in range(count)
        }
        figure = make(pool_of(count), known, "")
        assert isinstance(figure, CurveFigure)
        return figure

    everyone = drawn(OPTIMIZERS)
    assert len(everyone.panels[0].lines) == OPTIMIZERS
    assert "Shown" not in everyone.note
    best = drawn(60)
    assert {line.label for line in best.panels[0].lines} == {f"o{i}" for i in range(48, 60)}
    assert "Shown: 12 of 60 optimizers, those that reach the most targets." in best.note


def test_a_title_that_is_long_is_small_and_one_that_is_longer_is_cut() -> None:
    (found,) = figures(25)
    titles = ["1 short", "2 ScheduleFreeWrapper", f"3 {'Long' * 10}"]
    panels = [replace(p, title=t) for p, t in zip(found.panels, titles, strict=False)]
    svg = draw(replace(found, panels=tuple(panels))).svg
    texts = re.findall(r"font-size: ([0-9.]+)px[^>]*>([^<]*)<", svg)
    by_text = {text: float(size) for size, text in texts}
    assert by_text["1 short"] == 7.5
    assert 5 < by_text["2 ScheduleFreeWrapper"] < 7.5
    (cut,) = [text for text in by_text if text.startswith("3 Long")]
    assert cut.endswith("…")
    # An average letter is a little over half as wide as it is high.
    for text, size in by_text.items():
        assert 0.62 * size * len(text) < 94, text
