"""Finalists: the best settings of tuning are run with further seeds before one is chosen."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import api
from harness.errors import BadInput
from harness.spec.validation import check
from harness.spec.yaml_source import parse
from harness.store import read as frames
from harness.store.read import Results, Tried

FIRST, FURTHER = 2**29, 3 * 2**28
"""The first tuning seed, and the first of the finalists."""

OBJECTIVE = """
import torch
from harness import Objective

class Slope(Objective):
    \"\"\"The loss steep x^2 / 2, of another steepness for every seed, from x = 1.\"\"\"

    def init(self, generator):
        return {"x": torch.ones(1)}
    def state(self, generator):
        return {"steep": 0.2 + 3 * torch.rand(1, generator=generator, dtype=torch.float64)}
    def loss(self, params, batch):
        return (params["steep"] * params["x"].square() / 2).sum()
"""
SPEC = """\
suite: again
seeds: 2
timing: {enabled: false}
tuning: {trials: 16, seeds: 1, sweep: 0, defaults: false, finalists: {settings: 4, seeds: 6}}
objectives:
  slope: {class: Slope, steps: 6, dtype: float64, targets: [1.0e-4]}
optimizers:
  sgd: {class: "torch.optim:SGD", search: {lr: {log_uniform: [0.05, 5]}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "slope.py").write_text(OBJECTIVE)
    return tmp_path


def run(folder: Path, text: str = SPEC) -> Results:
    (folder / "spec.yaml").write_text(text)
    api.run(folder / "spec.yaml", output=folder / "out")
    return frames.read(folder / "out" / "results.sqlite")


def course(lr: float, seed: int) -> list[float]:
    """Losses of gradient descent on the slope of a seed: x is multiplied by 1 - lr steep."""
    import torch

    generator = torch.Generator().manual_seed(2 * seed)
    steep = float(0.2 + 3 * torch.rand(1, generator=generator, dtype=torch.float64))
    return [steep * (1 - lr * steep) ** (2 * step) / 2 for step in range(7)]


def final(lr: float, seed: int) -> tuple[float, ...]:
    """What is to be low where tuning goes by the final loss."""
    return (course(lr, seed)[-1],)


def time_to_target(lr: float, seed: int) -> tuple[float, ...]:
    """What is to be low where tuning goes by the steps until the loss is 1e-4."""
    losses = course(lr, seed)
    first = next((i for i, loss in enumerate(losses) if loss <= 1e-4), math.inf)
    return (float(math.isinf(first)), min(first, 6), losses[-1])


def of_role(results: Results, role: str) -> list[Tried]:
    return [one for one in results.tried if one.role == role]


def rate(one: Tried) -> float:
    return float(one.hyperparameters["lr"])


def losses_of(results: Results) -> list[tuple[str, float, bytes]]:
    return [(one.role, rate(one), one.losses.tobytes()) for one in results.tried]


Cost = Callable[[float, int], tuple[float, ...]]


@pytest.mark.parametrize(
    ("goal", "cost"), [("final_loss", final), ("time_to_target", time_to_target)]
)
def test_the_best_by_all_seeds_of_the_best_by_the_first_is_chosen(
    folder: Path, goal: str, cost: Cost
) -> None:
    results = run(folder, SPEC.replace("sweep: 0", f"sweep: 0, goal: {goal}"))
    rates = [rate(one) for one in of_role(results, "tuning")]
    assert len(rates) == 16

    def by(lr: float, seeds: range) -> tuple[float, ...]:
        return tuple(np.sum([cost(lr, seed) for seed in seeds], axis=0))

    first, further = range(FIRST, FIRST + 1), range(FURTHER, FURTHER + 6)
    best_four = sorted(rates, key=lambda lr: by(lr, first))[:4]
    assert [rate(one) for one in of_role(results, "finalist")] == best_four

    def by_all(lr: float) -> tuple[float, ...]:
        return tuple(np.add(by(lr, first), by(lr, further)))

    (case,) = results.cases
    assert case.hyperparameters["lr"] == min(best_four, key=by_all)
    assert case.hyperparameters["lr"] != best_four[0]  # the luckiest with one seed


def test_what_finalists_are_run_with_is_told_and_counted(folder: Path) -> None:
    results = run(folder)
    for one in of_role(results, "finalist"):
        expected = [course(rate(one), seed)[-1] for seed in range(FURTHER, FURTHER + 6)]
        np.testing.assert_allclose(one.losses, expected, rtol=1e-9)
    assert {len(one.statuses) for one in of_role(results, "tuning")} == {1}
    report = api.read(folder / "out")
    (row,) = report.tables["tuning"].frame.to_dict("records")
    assert (row["settings"], row["tuning_trials"]) == (16, 16 + 4 * 6)
    (case,) = results.cases
    seeds = (FIRST, *range(FURTHER, FURTHER + 6))
    own = np.mean([course(case.hyperparameters["lr"], seed)[-1] for seed in seeds])
    assert row["tuning_loss"] == pytest.approx(own, rel=1e-9)
    page = (folder / "out" / "index.html").read_text()
    assert "Tuning tried 16 settings with 1 other seed" in page
    assert "the best, 4 in all, ran again with 6 further seeds" in page
    assert "The best 4 of each optimizer by these seeds were run with 6 further ones" in page
    assert "If tuning were repeated" not in page
    assert results.run.settings.trials == 16 + 4 * 6 + 2


def test_a_run_that_was_cut_short_among_its_finalists_goes_on_there(folder: Path) -> None:
    whole = run(folder)
    store = folder / "out" / "results.sqlite"
    kept = losses_of(whole)
    with sqlite3.connect(store) as db:
        db.execute("DELETE FROM runs")
        db.execute("DELETE FROM run_cases")
        lost = "seed IN (?, ?) OR seed < 100"
        db.execute(f"DELETE FROM trials WHERE {lost}", (FURTHER, FURTHER + 5))
        left = db.execute("SELECT count(*) FROM trials").fetchone()[0]
    assert left == 16 + 4 * 4
    again = run(folder)
    assert losses_of(again) == kept
    assert [c.hyperparameters for c in again.cases] == [c.hyperparameters for c in whole.cases]
    assert api.run(folder / "spec.yaml", output=folder / "out").trained == 0


def test_the_preview_counts_finalists_before_and_after(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    before = api.preview(folder / "spec.yaml", output=folder / "out")
    assert before.plan.trials == 16 + 4 * 6 + 2
    run(folder)
    after = api.preview(folder / "spec.yaml", output=folder / "out")
    assert (after.plan.trials, after.known) == (16 + 4 * 6 + 2,) * 2


def test_settings_that_are_drawn_twice_are_tried_again_once(folder: Path) -> None:
    results = run(folder, SPEC.replace("{log_uniform: [0.05, 5]}", "{choice: [0.3, 0.5, 9.0]}"))
    assert sorted(rate(one) for one in of_role(results, "finalist")) == [0.3, 0.5, 9.0]
    assert results.run.settings.trials == 16 + 3 * 6 + 2


def mistakes(text: str) -> list[str]:
    return [str(problem) for problem in check(parse(text.encode(), "spec.yaml")).problems]


@pytest.mark.parametrize(
    ("given", "key", "text"),
    [
        ("{settings: «16, seeds: 6}", "finalists.settings", "fewer than the 16 settings"),
        ("{settings: «1, seeds: 6}", "finalists.settings", "at least 2, got 1"),
        ("{settings: 4, seeds: «[1, 7]}", "finalists.seeds", "one of the spec's seeds"),
        ("{settings: 4, seeds: «[536870912]}", "finalists.seeds", "one of tuning's seeds"),
        ("{settings: 4, «seed: 6}", "finalists.seed", "did you mean 'seeds'?"),
        ("«4", "finalists", "expected a mapping, got 4"),
    ],
)
def test_mistakes_about_finalists_are_named_where_they_are(given: str, key: str, text: str) -> None:
    marked = SPEC.replace("{settings: 4, seeds: 6}", given)
    before = marked.partition("«")[0]
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    found = mistakes(marked.replace("«", ""))
    start = f"spec.yaml:{place}: tuning.{key}: "
    assert any(one.startswith(start) and text in one for one in found), found


def test_seeds_of_the_command_line_may_not_be_those_of_finalists(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("seeds: 6", "seeds: [5, 6]"))
    with pytest.raises(BadInput, match="are also seeds of --seeds"):
        api.preview(folder / "spec.yaml", seeds=6)


def test_a_setting_that_fails_with_further_seeds_is_not_chosen(folder: Path) -> None:
    """It raises for a flat slope, which the one of the first tuning seed is not."""
    (folder / "optimizers").mkdir()
    (folder / "optimizers" / "fragile.py").write_text(
        "import torch\n"
        "class Fragile(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        for group in self.param_groups:\n"
        "            for p in group['params']:\n"
        "                if group['lr'] > 0.35 and p not in self.state and p.grad.item() < 0.5:\n"
        "                    raise RuntimeError('too flat')\n"
        "                self.state[p]['steps'] = 1\n"
        "        return super().step(closure)\n"
    )
    text = SPEC.replace('"torch.optim:SGD"', "Fragile")
    results = run(folder, text)
    finalists: dict[float, Any] = {rate(o): o.statuses for o in of_role(results, "finalist")}
    failing = [lr for lr, statuses in finalists.items() if "error" in statuses]
    assert 0 < len(failing) < 4
    (case,) = results.cases
    assert case.hyperparameters["lr"] not in failing
