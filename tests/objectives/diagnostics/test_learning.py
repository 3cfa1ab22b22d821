"""Learning tasks: their data, losses and accuracies against independent computations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload
from torch import nn
from torch.nn import functional

from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.objectives.base import Objective, Parameters
from harness.objectives.diagnostics.learning import (
    ModularAddition,
    Parity,
    RareClasses,
    TwoSpirals,
)
from harness.objectives.diagnostics.learning_changes import DomainShift, Plasticity, TwoTasks
from harness.objectives.diagnostics.learning_matrices import (
    Autoencoder,
    NoisyProduct,
    WideLinear,
)
from harness.objectives.diagnostics.learning_sequences import MarkedSpots, SequenceParity
from harness.suite.shipped import TASKS

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

# Each in an easy difficulty: Adam's step size, the steps, and what is reached by all of some seeds.
TASKS_HERE: dict[str, tuple[Callable[[], Any], float, int, tuple[str, float]]] = {
    "parity": (lambda: Parity(3), 0.1, 60, ("accuracy", 1.0)),
    "two_spirals": (lambda: TwoSpirals(0.5), 0.1, 60, ("accuracy", 1.0)),
    "rare_classes": (lambda: RareClasses(100.0), 0.1, 80, ("balanced_accuracy", 0.95)),
    "modular_addition": (lambda: ModularAddition(0.2, 5), 0.1, 60, ("accuracy", 1.0)),
    "sequence_parity": (lambda: SequenceParity(2), 0.1, 80, ("accuracy", 1.0)),
    "marked_spots": (lambda: MarkedSpots(2), 0.1, 80, ("accuracy", 1.0)),
    "plasticity": (lambda: Plasticity(1, 30), 0.05, 120, ("accuracy", 1.0)),
    "domain_shift": (lambda: DomainShift(0.5, 30), 0.05, 150, ("accuracy", 1.0)),
    "two_tasks": (lambda: TwoTasks(1.0), 0.05, 150, ("accuracy", 1.0)),
    "wide_linear": (lambda: WideLinear(4), 0.1, 200, ("loss", 1e-3)),
    "noisy_product": (lambda: NoisyProduct(2, 0.01), 0.03, 150, ("loss", 1e-3)),
    "autoencoder": (lambda: Autoencoder(1.0), 0.05, 100, ("r2", 0.95)),
}
every_task = pytest.mark.parametrize("name", TASKS_HERE)


def made(name: str) -> Any:
    return TASKS_HERE[name][0]()


def given(task: Objective, seed: int = 0, step: float = 0.0) -> Parameters:
    """A trial's parameters and state, and the step where the task sees it."""
    found = {
        **task.init(torch.Generator().manual_seed(seed)),
        **task.state(torch.Generator().manual_seed(seed)),
    }
    if task.sees_step:
        found["step"] = torch.tensor(step)
    return {name: value.double() for name, value in found.items()}


def rows_of(task: Objective) -> tuple[torch.Tensor, ...] | None:
    return task.data and tuple(t.double() if t.is_floating_point() else t for t in task.data)


def test_every_task_of_the_family_is_tested_here() -> None:
    assert set(TASKS_HERE) == set(TASKS["learning"])
    for name in TASKS_HERE:
        assert TASKS["learning"][name].endswith(f":{type(made(name)).__name__}")


@every_task
def test_the_gradient_is_what_central_differences_give(name: str) -> None:
    task = made(name)
    params, rows = given(task, step=31.0), rows_of(task)
    trained = list(task.init(torch.Generator()))
    state = torch.get_rng_state()

    def value(params: Parameters) -> torch.Tensor:
        torch.set_rng_state(state)  # the same rows, where a step draws them
        loss: torch.Tensor = task.loss(params, rows)
        return loss

    leaves = {k: v.clone().requires_grad_(k in trained) for k, v in params.items()}
    slopes = torch.autograd.grad(value(leaves), [leaves[k] for k in trained])
    random = np.random.default_rng(0)
    for key, slope in zip(trained, slopes, strict=True):
        direction = torch.from_numpy(random.standard_normal(tuple(slope.shape)))
        h = 1e-6
        there, back = ({**params, key: params[key] + s * h * direction} for s in (1, -1))
        expected = (value(there) - value(back)) / (2 * h)
        assert float((slope * direction).sum()) == pytest.approx(
            float(expected), rel=1e-5, abs=1e-8
        )


@every_task
def test_a_trial_among_others_is_the_trial_alone(name: str) -> None:
    workload = make_workload(made(name), steps=12)
    settings = [{"lr": 0.01}, {"lr": 0.1}]
    lanes = [Lane(s, seed) for s in (0, 1) for seed in (3, 4)]
    together = train(workload, torch.optim.Adam, settings, lanes, way="pointwise")
    for i, lane in enumerate(lanes):
        own = train(workload, torch.optim.Adam, settings, [lane], way="alone")
        for measure, values in own.values.items():
            np.testing.assert_allclose(together.values[measure][i], values[0], rtol=1e-8)


@every_task
def test_starts_and_data_are_the_seed_s(name: str) -> None:
    task = made(name)
    one, again, other = given(task, 1), given(task, 1), given(task, 2)
    for key, value in one.items():
        assert torch.equal(value, again[key])
    drawn = [k for k in one if k not in ("step", "variances") and one[k].abs().max() > 0]
    assert drawn
    assert not any(torch.equal(one[key], other[key]) for key in drawn)


@every_task
def test_a_start_has_other_random_numbers_than_its_data(name: str) -> None:
    """Drawn from generators of the same seed, they must not be copies of each other."""
    task = made(name)
    found = given(task, 5)
    trained = list(task.init(torch.Generator()))
    starts = {round(v, 5) for k in trained for v in np.abs(_ranks(found[k])).tolist()}
    kept = [found[k] for k in found if k in ("points", "judged", "features")]
    for data in kept:
        assert len(starts & {round(v, 5) for v in np.abs(_ranks(data)).tolist()}) < 20


def _ranks(values: torch.Tensor) -> Any:
    return values.flatten().numpy()


@every_task
def test_an_easy_difficulty_is_won(name: str) -> None:
    _, lr, steps, (metric, level) = TASKS_HERE[name]
    metrics = (("loss", False),) if metric == "loss" else (("loss", False), (metric, True))
    workload = make_workload(made(name), dtype=torch.float32, steps=steps, metrics=metrics)
    lanes = [Lane(0, seed) for seed in range(3)]
    found = train(workload, torch.optim.Adam, [{"lr": lr}], lanes, way="pointwise")
    values = found.values[f"train {metric}"]
    reached = values.min(axis=1) <= level if metric == "loss" else values.max(axis=1) >= level
    assert reached.all(), values[:, -1]
    assert not (values[:, 0] <= level if metric == "loss" else values[:, 0] >= level).any()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Parity(0), "bits"),
        (lambda: Parity(11), "bits"),
        (lambda: TwoSpirals(0.0), "turns"),
        (lambda: RareClasses(0.5), "imbalance"),
        (lambda: ModularAddition(1.0), "left_out"),
        (lambda: ModularAddition(0.2, 1), "modulus"),
        (lambda: SequenceParity(0), "length"),
        (lambda: MarkedSpots(1), "length"),
        (lambda: Plasticity(-1), "changes"),
        (lambda: DomainShift(math.nan), "shift"),
        (lambda: TwoTasks(0.0), "ratio"),
        (lambda: WideLinear(0), "size"),
        (lambda: NoisyProduct(0), "depth"),
        (lambda: NoisyProduct(1, -1.0), "noise"),
        (lambda: Autoencoder(0.1), "spread"),
    ],
)
def test_what_is_out_of_range_is_named(make: Callable[[], object], what: str) -> None:
    with pytest.raises(ValueError, match=f"^{what} must be"):
        make()


# --- networks that tell classes apart ----------------------------------------------------------


def test_parity_is_that_of_the_number_of_ones_among_all_rows() -> None:
    features, signs = Parity(4).data or ()
    assert {tuple(row) for row in features.tolist()} == set(
        itertools.product((-1.0, 1.0), repeat=4)
    )
    ones = (features > 0).sum(dim=1)
    assert torch.equal(signs, torch.where(ones % 2 == 0, 1.0, -1.0))  # of an even number of bits


def test_parity_is_solved_by_units_that_count() -> None:
    """Rumelhart, Hinton and Williams: one threshold unit for each number of ones."""
    bits, steep = 5, 50.0
    task = Parity(bits, hidden=bits)
    counts = 2 * torch.arange(1, bits + 1).double() - 1 - bits  # between sums of so many ones
    turns = (-1.0) ** torch.arange(bits)
    first = -1.0 if bits % 2 else 1.0  # the sign where no bit is 1
    params = {
        "weight1": torch.full((bits, bits), steep).double(),
        "bias1": -steep * counts,
        "weight2": -first * turns.double()[None],
        "bias2": torch.tensor([first + (-first * turns).sum()]).double(),
    }
    found = task.metrics(params, rows_of(task))
    assert float(found["accuracy"]) == 1
    rows = rows_of(task) or ()
    logits = task.outputs(params, rows[0])[:, 0]
    np.testing.assert_allclose(logits, rows[1], atol=1e-9)


def test_spirals_turn_as_often_as_asked_and_lie_opposite() -> None:
    features, signs = TwoSpirals(1.5, rows_of_each=40).data or ()
    ours, others = features[signs > 0].numpy(), features[signs < 0].numpy()
    np.testing.assert_array_equal(ours, -others)
    radius = np.hypot(*ours.T) / math.sqrt(3)
    np.testing.assert_allclose(radius**2, np.arange(1, 41) / 40)
    angle = np.unwrap(np.arctan2(ours[:, 1], ours[:, 0]))
    np.testing.assert_allclose(angle - angle[-1], 3 * np.pi * (radius - 1), atol=1e-9)


def test_rare_classes_lose_what_as_many_copies_of_each_row_would() -> None:
    """Of an imbalance of 128, class c has 2^(7 - c) times the rows of the last."""
    task = RareClasses(128.0)
    params = given(task, 3)
    labels = torch.arange(8).repeat_interleave(8)
    copies = 2 ** (7 - labels)
    rows = params["points"].repeat_interleave(copies, dim=0)
    hidden = torch.tanh(rows @ params["weight1"].T + params["bias1"])
    outputs = hidden @ params["weight2"].T + params["bias2"]
    expected = functional.cross_entropy(outputs, labels.repeat_interleave(copies))
    found = task.metrics(params, rows_of(task))
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-12)
    right = (task.outputs(params, params["points"]).argmax(dim=1) == labels).double()
    by_class = [float(right[labels == c].mean()) for c in range(8)]
    assert float(found["balanced_accuracy"]) == pytest.approx(np.mean(by_class))


def test_modular_addition_has_every_pair_once_and_its_sum() -> None:
    p = 7
    task = ModularAddition(0.3, p)
    assert task.data is not None
    seen = []
    for features, labels in (task.data, task.held_out["validation"]):
        for row, label in zip(features, labels.tolist(), strict=True):
            pair = [number for number in range(p) for _ in range(int(row[number]))]
            assert sum(pair) % p == label
            seen.append(tuple(pair))
    assert sorted(seen) == [*itertools.combinations_with_replacement(range(p), 2)]
    assert len(task.held_out["validation"][0]) == round(0.3 * p * (p + 1) / 2)


def test_modular_addition_has_a_solution_in_closed_form_that_generalises() -> None:
    """Gromov's, with all frequencies and three phases of each: all but the sums cancels.

    What is left counts 1 for the sum and 1/2 for twice either number, over all frequencies.
    """
    p = 11
    task = ModularAddition(0.5, p, hidden=15)
    waves = [(2 * math.pi * k / p, 2 * math.pi * j / 3) for k in range(1, 6) for j in range(3)]
    numbers = np.arange(p)
    params = {
        "weight1": torch.tensor(np.array([np.cos(w * numbers + phase) for w, phase in waves])),
        "bias1": torch.zeros(15).double(),
        "weight2": torch.tensor(np.array([np.cos(w * numbers + 2 * f) for w, f in waves]).T),
        "bias2": torch.zeros(p).double(),
    }
    for rows in (task.data, task.held_out["validation"]):
        assert float(task.metrics(params, rows)["accuracy"]) == 1


def test_modular_addition_loses_half_the_squared_distance() -> None:
    task = ModularAddition(0.2, 5)
    params, rows = given(task, 3), rows_of(task) or ()
    outputs = (rows[0] @ params["weight1"].T + params["bias1"]) ** 2 @ params["weight2"].T
    missed = outputs + params["bias2"] - functional.one_hot(rows[1], 5)
    expected = missed.square().sum(dim=1).mean() / 2
    assert float(task.loss(params, rows)) == pytest.approx(float(expected), rel=1e-12)


# --- sequences ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [SequenceParity(5, hidden=7), MarkedSpots(5, hidden=7)])
def test_a_recurrent_network_is_torch_s(task: Any) -> None:
    params = given(task, 2)
    network = nn.RNN(task.inputs, task.hidden, batch_first=True).double()
    with torch.no_grad():
        for name, value in (
            ("weight_ih_l0", params["input"]),
            ("weight_hh_l0", params["recurrent"]),
            ("bias_ih_l0", params["bias"]),
            ("bias_hh_l0", torch.zeros(task.hidden)),
        ):
            getattr(network, name).copy_(value)
        sequences, _ = task.encoded(params["judged"])
        last = network(sequences)[0][:, -1]
        expected = (last @ params["output"].T + params["output_bias"])[:, 0]
        np.testing.assert_allclose(task.logits(params, sequences), expected, rtol=1e-10)


def test_a_sequence_s_class_is_the_parity_of_its_bits() -> None:
    task = SequenceParity(6)
    sequences, signs = task.encoded(torch.rand(500, 8, generator=torch.Generator().manual_seed(1)))
    assert set(sequences.flatten().tolist()) == {-1.0, 1.0}
    zeros = (sequences[:, :, 0] < 0).sum(dim=1)
    assert torch.equal(signs, 1.0 - 2.0 * (zeros % 2))
    assert 0.4 < float((signs > 0).double().mean()) < 0.6


def test_two_spots_are_marked_any_two_as_often_and_their_bits_told_apart() -> None:
    task, rows = MarkedSpots(5), 20_000
    drawn = torch.rand(rows, 7, generator=torch.Generator().manual_seed(1))
    sequences, signs = task.encoded(drawn)
    bits, marks = sequences.unbind(dim=2)
    assert torch.equal(marks.sum(dim=1), torch.full((rows,), 2.0))
    pairs = [tuple(np.flatnonzero(row).tolist()) for row in marks.numpy()]
    counts = np.array([pairs.count(pair) for pair in itertools.combinations(range(5), 2)])
    assert counts.sum() == rows
    assert (np.abs(counts - rows / 10) < 5 * math.sqrt(rows / 10)).all()
    for row, (i, j), sign in zip(bits[:200], pairs, signs, strict=False):
        assert float(sign) == (1.0 if row[i] != row[j] else -1.0)


def test_what_is_recorded_of_sequences_draws_nothing() -> None:
    task = MarkedSpots(4)
    params = given(task, 1)
    state = torch.get_rng_state()
    one, two = task.metrics(params, None), task.evaluate(params, None)
    assert torch.equal(state, torch.get_rng_state())
    assert float(one["loss"]) == float(two)
    losses = {float(task.loss(params, None)) for _ in range(3)}
    assert len(losses) == 3


# --- what changes ------------------------------------------------------------------------------


def test_labels_change_as_often_as_asked_and_the_accuracy_is_of_the_last() -> None:
    task = Plasticity(changes=2, every=10)
    params = given(task, 4)
    for step, which in ((0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 2), (400, 2)):
        now = {**params, "step": torch.tensor(float(step)).double()}
        assert torch.equal(task.rows(now, None)[1], params["classes"][which])
        hidden = torch.relu(params["features"] @ params["weight1"].T + params["bias1"])
        logits = (hidden @ params["weight2"].T + params["bias2"])[:, 0]
        loss = torch.log1p(torch.exp(-logits * params["classes"][which])).mean()
        assert float(task.loss(now, None)) == pytest.approx(float(loss), rel=1e-12)
        right = (torch.sign(logits) == params["classes"][2]).double().mean()
        assert float(task.metrics(now, None)["accuracy"]) == float(right)
    assert len({tuple(row) for row in params["classes"].tolist()}) == 3


def test_data_move_evenly_to_where_they_stay() -> None:
    task = DomainShift(shift=3.0, during=20)
    params = given(task, 4)
    for step, moved in ((0, 0.0), (5, 0.75), (10, 1.5), (20, 3.0), (100, 3.0)):
        features, signs = task.rows({**params, "step": torch.tensor(float(step)).double()}, None)
        np.testing.assert_allclose(features - moved, params["features"], atol=1e-12)
        same = (params["features"][:, 0] > 0) == (params["features"][:, 1] > 0)
        assert torch.equal(signs > 0, same)
    assert float(params["features"][:, :2].abs().min()) >= 0.3
    there, signs = task.judged(params, None)
    np.testing.assert_allclose(there, params["features"] + 3.0)
    right = (torch.sign(task.outputs(params, there)[:, 0]) == signs).double().mean()
    assert float(task.metrics(params, None)["accuracy"]) == float(right)


def test_two_tasks_weigh_as_asked_and_both_must_be_right() -> None:
    task = TwoTasks(ratio=20.0)
    params = given(task, 4)
    features = params["features"]
    hidden = torch.tanh(features @ params["weight1"].T + params["bias1"])
    logits = hidden @ params["weight2"].T + params["bias2"]
    signs = [torch.sign(features[:, i] * features[:, i + 1]) for i in (0, 2)]
    losses = [torch.log1p(torch.exp(-s * logits[:, i])).mean() for i, s in enumerate(signs)]
    found = task.metrics(params, None)
    assert float(found["loss"]) == pytest.approx(float(losses[0] + losses[1] / 20), rel=1e-12)
    right = [torch.sign(logits[:, i]) == s for i, s in enumerate(signs)]
    assert float(found["accuracy"]) == float((right[0] & right[1]).double().mean())


# --- matrices ----------------------------------------------------------------------------------


def mean_loss(task: Objective, params: Parameters, draws: int = 4000) -> tuple[float, float]:
    """The mean of a loss over draws, and its standard error."""
    torch.manual_seed(7)
    stacked = {k: v.expand(draws, *v.shape).contiguous() for k, v in params.items()}
    loss = torch.func.vmap(lambda own: task.loss(own, None), randomness="different")(stacked)
    return float(loss.mean()), float(loss.std()) / math.sqrt(draws)


def test_a_wide_map_s_loss_is_expected_as_recorded_and_0_at_cumulative_sums() -> None:
    task = WideLinear(6)
    params = given(task, 1)
    mean, error = mean_loss(task, params)
    assert float(task.evaluate(params, None)) == pytest.approx(mean, abs=5 * error)
    assert 5 * error < 0.1 * mean
    best = {"weight": torch.tensor(task.minimizers[0]).double().reshape(6, 6)}
    assert float(task.loss(best, None)) == pytest.approx(0, abs=1e-25)
    assert float(task.evaluate(best, None)) == task.optimum
    x = torch.arange(1.0, 7.0).double()
    assert (best["weight"] @ x).tolist() == [1, 3, 6, 10, 15, 21]


def test_a_noisy_product_s_loss_is_expected_as_recorded_beside_the_noise() -> None:
    task = NoisyProduct(depth=3, noise=0.5)
    params = given(task, 1)
    mean, error = mean_loss(task, params)
    clean = float(task.evaluate(params, None))
    assert clean + 0.5**2 / 2 == pytest.approx(mean, abs=5 * error)
    product = params["weight3"] @ params["weight2"] @ params["weight1"]
    missed = np.linalg.norm((product - params["target"]).numpy()) ** 2
    assert clean == pytest.approx(missed / 16, rel=1e-12)
    values = np.linalg.svd(params["target"].numpy())[1]
    np.testing.assert_allclose(values, np.linspace(1, 0.5, 8), rtol=1e-5)
    eye = torch.eye(8).double()
    solved = {**params, "weight1": params["target"], "weight2": eye, "weight3": eye}
    assert float(task.evaluate(solved, None)) == task.optimum


def test_an_autoencoder_s_loss_is_expected_of_its_data() -> None:
    task = Autoencoder(spread=50.0)
    params = given(task, 1)
    d, v = params["directions"].numpy(), params["variances"].numpy()
    np.testing.assert_allclose(d.T @ d, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(v, np.geomspace(1, 1 / 50, 4), rtol=1e-6)
    missed = np.eye(16) - (params["decoder"] @ params["encoder"]).numpy()
    covariance = d @ np.diag(v) @ d.T
    expected = np.trace(missed @ covariance @ missed.T) / 2
    found = task.metrics(params, None)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-6)
    of_each = [1 - np.sum((missed @ d[:, i]) ** 2) for i in range(4)]
    assert float(found["r2"]) == pytest.approx(min(of_each), abs=1e-6)


def test_an_autoencoder_is_best_at_its_principal_components() -> None:
    """Baldi and Hornik: the optimum is what the components beyond the code hold, here nothing."""
    task = Autoencoder(spread=50.0)
    params = given(task, 1)
    orthogonal, _ = np.linalg.qr(params["directions"].numpy())
    best = {
        **params,
        "directions": torch.from_numpy(orthogonal),
        "encoder": torch.from_numpy(orthogonal.T.copy()),
        "decoder": torch.from_numpy(orthogonal),
    }
    assert float(task.loss(best, None)) == pytest.approx(0, abs=1e-25)
    assert float(task.metrics(best, None)["r2"]) == pytest.approx(1)
    best["encoder"][3] = 0  # three components: the fourth variance is left
    assert float(task.loss(best, None)) == pytest.approx(1 / 50 / 2, rel=1e-6)
    assert float(task.metrics(best, None)["r2"]) == pytest.approx(0, abs=1e-12)
