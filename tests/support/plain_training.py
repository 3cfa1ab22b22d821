"""Networks trained as their users do: modules, torch's optimizers and schedulers, and no engine.

What a trial of a seed starts with and which batches it sees is taken from the documentation: the
generator of the start has the seed ``2 * seed``, that of the batches ``2 * seed + 1``, and torch's
global one, from which dropout draws, ``2 ** 31 + seed``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from builders import load_suite_file
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from harness import ModuleObjective, Objective
from harness.objectives.multilayer_perceptron import MultilayerPerceptron

Lion = load_suite_file("optimizers/lion.py").Lion

Criterion = Callable[[Any, torch.Tensor], torch.Tensor]

WARMUP, CLIP = 0.05, 1.0

RECIPE: dict[str, Any] = {
    "schedule": {"warmup": "5%", "then": "cosine"},
    "clip_grad_norm": CLIP,
}
"""What :func:`train_plainly` does, as a spec says it."""


@dataclass(frozen=True)
class PlainOptimizer:
    """An optimizer as a user writes it in Python, and as a spec says it.

    Attributes:
        make: Given a network and the patterns of its matrices that are not hidden, the optimizers
            that share its parameters.
        in_spec: The same in a spec, given those patterns.
    """

    make: Callable[[nn.Module, Sequence[str]], list[Optimizer]]
    in_spec: Callable[[Sequence[str]], dict[str, Any]]


def _muon_and_adamw(model: nn.Module, outer: Sequence[str]) -> list[Optimizer]:
    def is_hidden(name: str, value: nn.Parameter) -> bool:
        return value.ndim == 2 and not any(fnmatchcase(name, pattern) for pattern in outer)

    hidden = [p for name, p in model.named_parameters() if is_hidden(name, p)]
    others = [p for name, p in model.named_parameters() if not is_hidden(name, p)]
    return [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(others, lr=3e-3)]


def _adamw(model: nn.Module, _: Sequence[str]) -> list[Optimizer]:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}, {"params": decayed}]
    return [torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.1)]


PLAIN: dict[str, PlainOptimizer] = {
    "sgd": PlainOptimizer(
        lambda model, _: [torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)],
        lambda _: {"class": "torch.optim:SGD", "hyperparameters": {"lr": 0.05, "momentum": 0.9}},
    ),
    "adamw": PlainOptimizer(
        _adamw,
        lambda _: {
            "class": "torch.optim:AdamW",
            "hyperparameters": {"lr": 3e-3, "weight_decay": 0.1},
            "groups": [{"parameters": {"ndim": [0, 1]}, "weight_decay": 0.0}],
        },
    ),
    "muon": PlainOptimizer(
        _muon_and_adamw,
        lambda outer: {
            "class": "torch.optim:Muon",
            "hyperparameters": {"lr": 0.02},
            "groups": [
                {"parameters": {"ndim": 2, **({"not": list(outer)} if outer else {})}},
                {"class": "torch.optim:AdamW", "lr": 3e-3},
            ],
        },
    ),
    "lion": PlainOptimizer(
        lambda model, _: [Lion(model.parameters(), lr=1e-3, weight_decay=0.1)],
        lambda _: {"class": "Lion", "hyperparameters": {"lr": 1e-3, "weight_decay": 0.1}},
    ),
}
"""The optimizers of the comparison."""


def network_of(objective: Objective) -> nn.Module:
    """An objective's network: its module, or the layers that a multilayer perceptron computes."""
    if isinstance(objective, ModuleObjective):
        return objective.module()
    assert isinstance(objective, MultilayerPerceptron)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(objective.widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_plainly(
    objective: Objective,
    make: Callable[[nn.Module], list[Optimizer]],
    seed: int,
    *,
    epochs: int,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
) -> dict[str, NDArray[np.float64]]:
    """Train a network with warm-up, cosine and clipping; evaluate it after every epoch.

    Args:
        objective: Of which network, criterion, start and rows are taken.
        make: Makes the optimizers of a network.
        seed: Of start, batches and dropout.
        epochs: Passes over the train rows.
        batch_size: Rows per step; the last of an epoch may have fewer.
        dtype: Of parameters and data.

    Returns:
        Loss and accuracy of every part (``test accuracy``), before training and after each epoch.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return _train(objective, make, seed, epochs, batch_size, dtype)
    finally:
        torch.set_default_dtype(before)


def _train(
    objective: Objective,
    make: Callable[[nn.Module], list[Optimizer]],
    seed: int,
    epochs: int,
    batch_size: int,
    dtype: torch.dtype,
) -> dict[str, NDArray[np.float64]]:
    assert objective.data is not None
    parts = {
        part: (_in(dtype, rows[0]), _in(dtype, rows[1]))
        for part, rows in {"train": objective.data, **objective.held_out}.items()
    }
    features, labels = parts["train"]
    model = network_of(objective)
    criterion = _criterion_of(objective)
    start = objective.init(torch.Generator().manual_seed(2 * seed))
    with torch.no_grad():
        for value, drawn in zip(model.parameters(), start.values(), strict=True):
            value.copy_(drawn)
    torch.manual_seed(2**31 + seed)
    shuffle = torch.Generator().manual_seed(2 * seed + 1)
    optimizers = make(model)
    steps = epochs * -(-len(features) // batch_size)
    schedulers = [warmup_and_cosine(optimizer, steps) for optimizer in optimizers]
    records = [evaluated(model, criterion, parts)]
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(features), generator=shuffle)
        for rows in order.split(batch_size):
            loss = criterion(model(features[rows]), labels[rows])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            for optimizer in optimizers:
                optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        records.append(evaluated(model, criterion, parts))
    return {name: np.array([record[name] for record in records]) for name in records[0]}


def _criterion_of(objective: Objective) -> Criterion:
    if isinstance(objective, ModuleObjective):
        return objective.criterion
    return nn.functional.cross_entropy


def warmup_and_cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Linear to the learning rate over 5% of the steps, then down to 0 along half a cosine."""
    warmup = round(WARMUP * steps)
    cosine = CosineAnnealingLR(optimizer, T_max=steps - warmup)
    if warmup < 2:
        return cosine if warmup == 0 else _after_one_step(optimizer, cosine)
    rising = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
    return SequentialLR(optimizer, [rising, cosine], milestones=[warmup])


def _after_one_step(optimizer: Optimizer, cosine: LRScheduler) -> LRScheduler:
    full = LinearLR(optimizer, start_factor=1.0, total_iters=1)
    return SequentialLR(optimizer, [full, cosine], milestones=[1])


@torch.no_grad()
def evaluated(
    model: nn.Module,
    criterion: Criterion,
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, float]:
    """Loss, and accuracy of classes, on all rows of every part."""
    model.eval()
    found = {}
    for part, (features, labels) in parts.items():
        output = model(features)
        found[f"{part} loss"] = criterion(output, labels).item()
        if not labels.is_floating_point():
            right = output.argmax(-1) == labels
            found[f"{part} accuracy"] = right.to(output.dtype).mean().item()
    return found


def _in(dtype: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
