"""The matrix of verdicts: by hand, and against the table of the same verdicts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from results_builders import make_blocks, make_case, make_results

from harness.analysis.summary import analyse
from harness.reporting.page import matrix as page_matrix
from harness.reporting.page.matrix import Matrix, MatrixCell
from harness.reporting.tables import verdict as verdict_table
from harness.store.read import CaseData, Results

SEEDS = range(12)


def ending(*losses: float) -> dict[int, list[float]]:
    """Curves of one seed after another that end so."""
    return {seed: [10.0, loss] for seed, loss in enumerate(losses)}


def spread(centre: float) -> dict[int, list[float]]:
    """Curves that end so far apart that no two seeds end alike; their median is the centre."""
    return ending(*(centre + 0.01 * (seed - 5.5) for seed in SEEDS))


NEAR = ending(*(2.0 + 0.01 * (seed - 5.5) + (0.3 if seed % 2 else -0.3) for seed in SEEDS))
NONE = ending(*[math.nan] * 12)
ONE_FAILED = ending(*(3.0 + 0.01 * seed for seed in range(11)), math.nan)


def results_of(cases: Sequence[CaseData], optimum: float | None = 1.0, **more: Any) -> Results:
    """Results in which every trial without a loss diverged."""
    results = make_results(cases, optimum=optimum, **more)
    trials = results.trials
    trials.loc[trials["final_loss"].isna(), "status"] = "diverged"
    return results


def placed(*cases: tuple[str, str, Mapping[int, Sequence[float]]]) -> list[CaseData]:
    return [
        make_case(objective, optimizer, curves, position=position)
        for position, (objective, optimizer, curves) in enumerate(cases)
    ]


def made(results: Results) -> Matrix:
    matrix = page_matrix.matrix(results, analyse(results))
    assert matrix is not None
    return matrix


def cells(matrix: Matrix) -> dict[tuple[str, str], MatrixCell]:
    """The cells by row and column."""
    found = {}
    for row in matrix.rows:
        for heading, cell in zip(matrix.headings, row.cells, strict=True):
            assert cell.heading == heading
            found[row.name, heading] = cell
    assert len(found) == len(matrix.rows) * len(matrix.headings)
    return found


def texts(matrix: Matrix) -> dict[tuple[str, str], str]:
    return {place: f"{cell.text} {cell.mark}".strip() for place, cell in cells(matrix).items()}


EVERY_OUTCOME = [
    ("bowl", "slow", spread(4.0)),
    ("bowl", "fast", spread(2.0)),
    ("bowl", "near", NEAR),
    ("bowl", "gone", NONE),
    ("bowl", "part", ONE_FAILED),
    ("line", "fast", spread(3.0)),
    ("line", "slow", spread(2.5)),
]


def test_a_cell_has_the_loss_and_what_it_means() -> None:
    matrix = made(results_of(placed(*EVERY_OUTCOME)))
    assert (matrix.corner, matrix.headings) == ("optimizer", ("bowl", "line"))
    found = cells(matrix)
    kinds = {place: (cell.mark, cell.kind) for place, cell in found.items()}
    assert kinds == {
        ("fast", "bowl"): ("", "best"),
        ("near", "bowl"): ("≈", "near"),
        ("slow", "bowl"): ("×3.00", "worse"),  # the gaps are 3 and 1
        ("part", "bowl"): ("×2.05 1 failed", "worse"),  # of those that did not fail
        ("gone", "bowl"): ("", "bad"),
        ("slow", "line"): ("", "best"),
        ("fast", "line"): ("×1.33", "worse"),  # 2 and 1.5
        **{(name, "line"): ("", "none") for name in ("near", "part", "gone")},
    }
    assert found["gone", "bowl"].text == "failed"
    assert found["near", "line"].text == "–"
    assert found["near", "line"].title == "not run"
    assert found["part", "bowl"].title == "worse (1 of 12 trials failed)"
    for place, loss in ((("fast", "bowl"), 2.0), (("slow", "bowl"), 4.0), (("slow", "line"), 2.5)):
        assert float(found[place].text) == pytest.approx(loss, abs=0.005)


def test_a_lower_loss_is_no_better_where_trials_failed() -> None:
    low = ending(*(1.9 + 0.01 * seed for seed in range(4)), *[math.nan] * 8)
    cases = placed(("bowl", "sure", spread(2.0)), ("bowl", "low", low))
    found = cells(made(results_of(cases)))
    assert found["sure", "bowl"].kind == "best"
    cell = found["low", "bowl"]
    assert float(cell.text) == pytest.approx(1.915, abs=0.005)
    assert (cell.mark, cell.kind) == ("worse 8 failed", "worse")


def of_summary(results: Results, *, by_device: bool) -> dict[tuple[str, str], tuple[str, float]]:
    """Outcome and loss by optimizer and place, from the numbers of the table of the verdicts."""
    table = verdict_table.summary(results, analyse(results))
    assert table is not None
    return {
        (
            row["optimizer"],
            f"{row['objective']} ({row['device']})" if by_device else row["objective"],
        ): (row["outcome"], row["loss"])
        for _, row in table.frame.iterrows()
    }


KINDS = {"best": "best", "tied": "best", "worse": "worse", "failed": "bad", "only optimizer": ""}


def as_the_summary_says(results: Results, *, by_device: bool = False) -> Matrix:
    """The matrix, of which every cell is compared with the table, and the other way round."""
    matrix = made(results)
    known = of_summary(results, by_device=by_device)
    found = cells(matrix)
    if matrix.corner == "objective":
        found = {(column, row): cell for (row, column), cell in found.items()}
    found = {place: cell for place, cell in found.items() if "time" not in place}
    assert {place for place, cell in found.items() if cell.kind != "none"} == set(known)
    for place, (outcome, loss) in known.items():
        cell = found[place]
        assert cell.kind == KINDS.get(outcome, "near")
        assert outcome in cell.title
        if outcome == "failed":
            assert cell.text == "failed"
        else:
            assert float(cell.text) == pytest.approx(loss, rel=5.1e-3)
    return matrix


def test_every_cell_says_what_the_summary_says() -> None:
    as_the_summary_says(results_of(placed(*EVERY_OUTCOME)))
    as_the_summary_says(results_of(placed(*EVERY_OUTCOME), optimum=None))


def test_one_objective_is_one_column_and_one_optimizer_is_no_winner() -> None:
    one = as_the_summary_says(results_of(placed(*EVERY_OUTCOME[:5])))
    assert one.headings == ("bowl",)
    assert one.rows[0].name == "fast"
    alone = as_the_summary_says(results_of(placed(EVERY_OUTCOME[0])))
    [[cell]] = [row.cells for row in alone.rows]
    assert (cell.kind, cell.title) == ("", "only optimizer")


@pytest.mark.parametrize(("objectives", "optimizers"), [(5, 3), (3, 5), (4, 4), (1, 12), (12, 1)])
def test_the_fewer_of_optimizers_and_objectives_are_the_columns(
    objectives: int, optimizers: int
) -> None:
    cases = placed(
        *(
            (f"objective{i}", f"optimizer{k}", spread(2.0 + (i * 7 + k * 3) % 5))
            for i, k in itertools.product(range(objectives), range(optimizers))
        )
    )
    matrix = as_the_summary_says(results_of(cases))
    assert len(matrix.headings) == min(objectives, optimizers)
    assert len(matrix.rows) == max(objectives, optimizers)
    across = objectives > optimizers
    assert matrix.corner == ("objective" if across else "optimizer")
    assert matrix.is_wide == (len(matrix.headings) > page_matrix.MOST_COLUMNS)


def test_devices_have_places_of_their_own() -> None:
    losses = {("cpu", "a"): 2.0, ("cpu", "b"): 3.0, ("cuda", "a"): 4.0, ("cuda", "b"): 3.0}
    cases = [
        make_case("bowl", optimizer, spread(loss), position=position, device=device)
        for position, ((device, optimizer), loss) in enumerate(losses.items())
    ]
    matrix = as_the_summary_says(results_of(cases), by_device=True)
    found = cells(matrix)
    assert matrix.headings == ("bowl (cpu)", "bowl (cuda)")
    assert [found["a", place].kind for place in matrix.headings] == ["best", "worse"]
    assert [found["b", place].kind for place in matrix.headings] == ["worse", "best"]


def test_a_setting_stands_for_its_optimizer_where_it_is_best() -> None:
    cases = [
        make_case("bowl", "a", spread(4.0), position=0, setting="lr=1"),
        make_case("bowl", "a", spread(2.0), position=1, setting="lr=2"),
        make_case("bowl", "b", spread(3.0), position=2),
    ]
    found = cells(as_the_summary_says(results_of(cases)))
    assert found["a", "bowl"].title == "lr=2: best"
    assert float(found["a", "bowl"].text) == pytest.approx(2.0, abs=0.005)


@pytest.mark.parametrize("across", [False, True])
def test_times_are_those_of_the_objective_that_most_can_be_compared_on(across: bool) -> None:
    objectives = ("line", "bowl", "hill") if across else ("line", "bowl")
    pairs = [(o, k) for o in objectives for k in ("a", "b") if (o, k) != ("line", "b")]
    cases = placed(*((o, k, spread(2.0)) for o, k in pairs))
    seconds = {("bowl", "a"): 1e-3, ("bowl", "b"): 2.5e-3, ("line", "a"): 9.0}
    blocks = [
        block
        for case in cases
        if (case.objective, case.optimizer) in seconds
        for block in make_blocks(case.position, [seconds[case.objective, case.optimizer] * 10] * 8)
    ]
    matrix = made(results_of(cases, blocks=blocks))
    found = texts(matrix)
    ratios = {place: text for place, text in found.items() if "time" in place}
    expected = {("a", "time"): "1.00", ("b", "time"): "2.50"}
    assert ratios == {(row[::-1] if across else row): text for row, text in expected.items()}
    assert "on bowl" in matrix.time
    assert matrix.time.endswith("of that of a.")


def test_nothing_depends_on_the_order_of_optimizers() -> None:
    expected = texts(made(results_of(placed(*EVERY_OUTCOME))))
    names = [row.name for row in made(results_of(placed(*EVERY_OUTCOME))).rows]
    for order in itertools.islice(itertools.permutations(EVERY_OUTCOME), 1, 5000, 700):
        matrix = made(results_of(placed(*order)))
        assert texts(matrix) == expected
        assert [row.name for row in matrix.rows] == names


def test_where_nothing_ran_there_is_no_matrix() -> None:
    results = make_results([make_case("bowl", "a", ending(1.0))])
    results.trials["status"] = "unavailable"
    results.trials["final_loss"] = math.nan
    assert page_matrix.matrix(results, analyse(results)) is None


def test_how_settings_were_picked_is_said_as_it_was() -> None:
    def picked(*roles: Any) -> str:
        return made(
            results_of(
                [
                    make_case("bowl", optimizer, spread(1.0 + i), position=i, role=role)
                    for i, (optimizer, role) in enumerate(roles)
                ]
            )
        ).picked

    assert picked(("a", "given"), ("b", "given")) == ""
    assert picked(("a", "tuned"), ("b", "tuned")) == (
        "Each optimizer in the setting that tuning found with other seeds. "
    )
    assert picked(("a", "tuned"), ("a", "defaults"), ("b", "tuned")) == (
        "Each optimizer in its best setting, picked on these same seeds. "
    )
