"""When a trial has diverged: whatever is recorded, alone or as a lane, and how that is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from builders import Call, make_workload
from hypothesis import example, given, settings
from hypothesis import strategies as st
from results_builders import Ending, make_case, make_objective, make_results, make_trials

from harness.analysis.claims import check
from harness.engine import trials
from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.reporting.tables import sentences
from harness.results import Way, above_limit
from harness.store import read
from harness.store.read import Results

RECORD_EVERY = (1, 5, 50)
NOT_FINITE = "loss not finite"


class Bowl(Objective):
    """Half the square of x, on rows that move its middle."""

    optimum = 0.0

    def __init__(self, rows: Sequence[float] = ()) -> None:
        if rows:
            self.data = (torch.tensor(rows, dtype=torch.float64),)

    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": 1 + torch.rand((), generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        middle = batch[0].mean() if batch is not None else 0.0
        return 0.5 * (params["x"] - middle) ** 2


class WithABadRow(Bowl):
    """Infinite on a batch with a negative row, but with a gradient as good as any."""

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        assert batch is not None
        bad = torch.where((batch[0] < 0).any(), torch.inf, 0.0)
        return 0.5 * params["x"] ** 2 + bad

    def evaluate(self, params: Parameters, data: Batch) -> torch.Tensor:
        del data
        return 0.5 * params["x"] ** 2


class EvaluatesBadlyFarOut(Bowl):
    """A loss that is finite wherever it is trained, and not where it is looked at."""

    def evaluate(self, params: Parameters, data: Batch) -> torch.Tensor:
        del data
        loss = 0.5 * params["x"] ** 2
        return torch.where(params["x"].abs() > 10, torch.nan, loss)


class Scheduled(torch.optim.SGD):
    """Gradient descent that grows for so many steps, and shrinks from then on."""

    def __init__(self, params: Any, lr: float, turn: float = math.inf) -> None:
        super().__init__(params, lr=lr)
        self.turn, self.taken = turn, 0

    def step(self, closure: Any = None) -> Any:
        self.taken += 1
        if self.taken > self.turn:
            self.param_groups[0]["lr"] = 0.5
        return super().step(closure)


def workload_every(
    objective: Objective, every: int, *, steps: int = 60, factor: float = 1000.0, **more: Any
) -> Workload:
    """A workload that records a loss after every so many steps."""
    record_steps = (*range(0, steps, every), steps)
    return make_workload(
        objective, steps=steps, record_steps=record_steps, divergence_factor=factor, **more
    )


def ends(
    workload: Workload, setting: dict[str, float], seeds: Sequence[int], way: Way
) -> list[tuple[str, int, str]]:
    """How the trials of some seeds end, one by one or in one run."""
    case: Any = SimpleNamespace(key="k")
    runs = [[seed] for seed in seeds] if way == "alone" else [list(seeds)]
    found: list[tuple[str, int, str]] = []
    for run in runs:
        lanes = [Lane(0, seed) for seed in run]
        outcome = train(workload, Scheduled, [setting], lanes, way=way)
        for i, seed in enumerate(run):
            result = trials._result(case, seed, outcome, i, workload, way, 0.0, "")
            found.append((result.status, result.step, result.reason))
    return found


@settings(max_examples=settings().max_examples // 5)
@given(
    lr=st.floats(0.01, 6.0),
    turn=st.one_of(st.integers(0, 60), st.just(math.inf)),
    factor=st.sampled_from([0.5, 1e3, 1e9]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kind=st.sampled_from(["bowl", "rows", "bad row", "evaluates badly"]),
)
@example(2.5, 10, 1e3, torch.float64, "bowl")  # above the limit on the way, and back
@example(2.5, math.inf, 1e3, torch.float64, "bowl")  # ends above it
@example(6.0, math.inf, 1e3, torch.float32, "bowl")  # overflows
@example(0.1, 0, 1e3, torch.float64, "bad row")
@example(2.5, 7, 1e3, torch.float64, "evaluates badly")
def test_how_a_trial_ends_does_not_depend_on_what_is_recorded_nor_on_company(
    lr: float, turn: float, factor: float, dtype: torch.dtype, kind: str
) -> None:
    objective, batch = {
        "bowl": (Bowl(), None),
        "rows": (Bowl([0.0, 0.1, 0.2, 900.0]), 2),
        "bad row": (WithABadRow([1.0, 2.0, 3.0, 4.0, -1.0]), 2),
        "evaluates badly": (EvaluatesBadlyFarOut(), None),
    }[kind]
    ways: tuple[Way, ...] = ("alone", "pointwise", "own_optimizers")
    found = [
        ends(
            workload_every(objective, every, dtype=dtype, batch_size=batch, factor=factor),
            {"lr": lr, "turn": turn},
            [3, 4],
            way,
        )
        for every in RECORD_EVERY
        for way in ways
    ]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("every", RECORD_EVERY)
@pytest.mark.parametrize(
    ("lr", "turn", "factor", "ends_above"),
    [
        (2.5, math.inf, 1e3, True),
        (2.5, 12, 1e3, False),  # 1.5^24 = 16,834 times its start, on the way
        (2.5, 59, 1e3, True),
        (0.1, math.inf, 1e-9, False),
        (2.01, math.inf, 3.0, False),  # 1.01^120 = 3.3003
        (2.01, math.inf, 2.3, True),
    ],
)
def test_a_finite_loss_counts_where_a_trial_ends(
    every: int, lr: float, turn: float, factor: float, *, ends_above: bool
) -> None:
    workload = workload_every(Bowl(), every, factor=factor)
    start = float(workload.start(3)["x"])
    x = start
    for step in range(1, 61):
        x *= 1 - (lr if step <= turn else 0.5)
    assert (0.5 * x**2 > (1 + factor) * 0.5 * start**2) == ends_above  # an optimum of 0
    [end] = ends(workload, {"lr": lr, "turn": turn}, [3], "alone")
    assert end == (("diverged", 60, above_limit(factor)) if ends_above else ("ok", 60, ""))


@pytest.mark.parametrize("every", RECORD_EVERY)
def test_a_loss_on_a_batch_that_is_not_finite_is_a_divergence_at_its_step(every: int) -> None:
    rows = [1.0, 2.0, 3.0, 4.0, -1.0, 5.0]
    workload = workload_every(WithABadRow(rows), every, batch_size=2)
    seeds = list(range(8))
    expected = []
    for seed in seeds:  # the batch of the first epoch in which the bad row stands
        order = workload.order(torch.Generator().manual_seed(2 * seed + 1)).tolist()
        expected.append(("diverged", order.index(4) // 2, NOT_FINITE))
    assert len(set(expected)) > 1
    ways: tuple[Way, ...] = ("alone", "pointwise", "own_optimizers")
    for way in ways:
        assert ends(workload, {"lr": 0.1, "turn": math.inf}, seeds, way) == expected


@pytest.mark.parametrize("every", RECORD_EVERY)
def test_what_overflows_diverges_at_the_step_after_which_its_loss_is_infinite(every: int) -> None:
    workload = workload_every(Bowl(), every, dtype=torch.float32)
    x = workload.start(3)["x"].float()
    step = 0
    while torch.isfinite(0.5 * x**2):
        x, step = x - 6.0 * x, step + 1
    assert 20 < step < 40
    [end] = ends(workload, {"lr": 6.0, "turn": math.inf}, [3], "alone")
    assert end == ("diverged", step, NOT_FINITE)


def test_a_look_that_is_not_finite_on_the_way_is_no_divergence_and_at_the_end_is_one() -> None:
    setting = {"lr": 2.5, "turn": 7.0}  # beyond 10 from step 5 or 6 on, back by step 12
    found = ends(workload_every(EvaluatesBadlyFarOut(), 1), setting, [3], "alone")
    assert found == [("ok", 60, "")]
    short = workload_every(EvaluatesBadlyFarOut(), 1, steps=7)
    outcome = train(short, Scheduled, [setting], [Lane(0, 3)], way="alone")
    assert np.isnan(outcome.losses[0, 7])
    assert ends(short, setting, [3], "alone") == [("diverged", 7, NOT_FINITE)]


def test_a_start_at_the_optimum_has_no_limit() -> None:
    class AtTheMiddle(Bowl):
        def init(self, generator: torch.Generator) -> Parameters:
            del generator
            return {"x": torch.zeros(())}

        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            del batch
            return 0.5 * params["x"] ** 2 + 1e-3 * params["x"]

        def evaluate(self, params: Parameters, data: Batch) -> torch.Tensor:
            del data
            return 0.5 * params["x"] ** 2

    [end] = ends(workload_every(AtTheMiddle(), 1), {"lr": 2.5, "turn": 60.0}, [0], "alone")
    assert end == ("ok", 60, "")


def test_a_trial_that_ended_above_the_limit_keeps_its_whole_curve() -> None:
    setting = {"lr": 2.5, "turn": math.inf}
    ways: tuple[Way, ...] = ("alone", "pointwise", "own_optimizers")
    for way in ways:
        lanes = [Lane(0, 3)] if way == "alone" else [Lane(0, 3), Lane(0, 4)]
        outcome = train(workload_every(Bowl(), 5), Scheduled, [setting], lanes, way=way)
        x = 1 + torch.rand((), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        expected = [0.5 * (float(x) * 1.5**step) ** 2 for step in range(0, 61, 5)]
        np.testing.assert_allclose(outcome.losses[0], expected, rtol=1e-12)


# ---- what is said of it


def ended_results(
    endings: dict[int, tuple[str, float]], divergence_factor: float | None, claims: list[Any]
) -> Results:
    """Optimizer a on the bowl: by seed, a status and a last loss."""
    case = make_case(curves={seed: [1.0, loss] for seed, (_, loss) in endings.items()})
    ended: list[dict[int, Ending]] = [
        {
            seed: loss if status == "ok" else status
            for seed, (status, loss) in sorted(endings.items())
        }
    ]
    info = make_objective(dimension=1, divergence_factor=divergence_factor)
    return make_results(
        [case], make_trials([case], ended), objectives={"bowl": info}, claims=claims
    )


CLAIM = {"value": "0.5", "source": "p. 1", "optimizer": "a", "objective": "bowl"}
HIGH, GONE = ("diverged", 1e6), ("diverged", math.nan)


@pytest.mark.parametrize(
    ("endings", "factor", "expected"),
    [
        (
            {0: ("ok", 0.4), 1: ("ok", 0.6), 2: HIGH, 3: HIGH, 4: GONE},
            10.0,
            "; 3 of 5 seeds failed and are not among them, though 2 of them end at a "
            "finite loss, above the limit that the spec's divergence_factor (10) sets",
        ),
        (
            {0: ("ok", 0.4), 1: ("ok", 0.6), 2: HIGH},
            None,  # not known of results of an older version
            "; 1 of 3 seeds failed and are not among them, though 1 of them ends at a "
            "finite loss, above the limit that the spec's divergence_factor sets",
        ),
        (
            {0: HIGH, 1: HIGH},
            1e3,
            "none of 2 seeds ended ok, though 2 of them end at a finite loss, above the limit that "
            "the spec's divergence_factor (1000) sets",
        ),
        (
            {0: ("ok", 0.4), 1: ("ok", 0.6), 2: GONE, 3: ("error", 0.5)},
            10.0,
            "; 2 of 4 seeds failed and are not among them",
        ),
    ],
)
def test_a_claim_names_the_factor_that_left_seeds_out(
    endings: dict[int, tuple[str, float]], factor: float | None, expected: str
) -> None:
    [found] = check(ended_results(endings, factor, [CLAIM]))
    assert found.why.endswith(expected)


def test_the_sentence_on_failures_says_how_many_ended_finite() -> None:
    known = ended_results({0: ("ok", 0.4), 1: HIGH, 2: GONE, 3: HIGH}, 10.0, [])
    assert sentences._failures(known) == (
        "Of 4 trials, 3 diverged (2 of these at a finite loss, above the limit); no value is "
        "imputed for them."
    )
    assert "finite" not in sentences._failures(ended_results({0: ("ok", 0.4), 1: GONE}, 10.0, []))


def test_a_run_tells_the_two_kinds_apart_and_its_claim_names_the_factor(
    tmp_path: Path, command: Call
) -> None:
    (tmp_path / "spec.yaml").write_text(
        """
suite: s
seeds: 3
timing: {enabled: false}
objectives:
  quadratic_2d: {steps: 20, dtype: float64, record_every: 7, divergence_factor: 50}
optimizers:
  sgd: {class: "torch.optim:SGD", hyperparameters: {lr: [0.1, 0.6, 1e20]}}
claims:
  - value: "1.5"
    source: p. 1
    optimizer: sgd
    objective: quadratic_2d
    hyperparameters: {lr: 0.6}
"""
    )
    done = command("run", "spec.yaml", "--output", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = read.read(tmp_path / "o" / "results.sqlite")
    ended = {
        case.setting: set(zip(own["status"], own["reason"], strict=True))
        for case in results.cases
        if (own := results.trials_by_position[case.position]) is not None
    }
    assert ended == {
        "lr=0.1": {("ok", "")},
        "lr=0.6": {("diverged", above_limit(50))},
        "lr=1e+20": {("diverged", NOT_FINITE)},
    }
    assert "(50)" in above_limit(50)
    [found] = check(results)
    assert found.why.startswith("none of 3 seeds ended ok")
    assert "divergence_factor (50)" in found.why
