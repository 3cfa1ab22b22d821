"""Diagnostic tasks of the family learning: networks that tell classes apart."""

from __future__ import annotations

import itertools
import math

import torch
from torch.nn import functional

from harness.objectives.base import Batch, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.networks import BinaryTask, Network, layers
from harness.objectives.metrics import accuracy


class Parity(BinaryTask):
    """Parity of ``bits`` by a network: is the number of ones odd?

    The data are all ``2^bits`` rows of -1 and 1, and the class is the product of a row's
    numbers. No proper subset of the bits tells anything of it, so that the gradient at the start
    is almost the same for every target: a long plateau, then a quick descent.

    Asks for patience on a plateau and for steps that grow on it.

    Source: M. Minsky and S. Papert, *Perceptrons*, MIT Press, 1969; learned by backpropagation in
    D. E. Rumelhart, G. E. Hinton and R. J. Williams, "Learning internal representations by error
    propagation", 1986; for gradient descent B. Barak et al., "Hidden Progress in Deep Learning:
    SGD Learns Parities Near the Computational Limit", NeurIPS 2022.

    Start: weights and biases uniform within ±1/sqrt(inputs), by seed. The data are the same.

    Args:
        bits: How many bits there are, from 1 to 10.
        hidden: Units of the hidden layer.
    """

    def __init__(self, bits: int = 4, hidden: int = 16) -> None:
        whole_from("bits", bits, 1)
        whole_from("hidden", hidden, 1)
        if bits > 10:
            raise ValueError(f"bits must be at most 10, got {bits!r}")
        self.widths = (bits, hidden, 1)
        table = torch.tensor([*itertools.product((-1.0, 1.0), repeat=bits)])
        self.data = (table, table.prod(dim=1))
        self.formula = f"parity of {bits} bits by a network {layers(self.widths)}"

    def rows(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows."""
        del params
        return batch[0], batch[1]


class TwoSpirals(BinaryTask):
    """Two spirals wound into each other, told apart by a network.

    With ``t`` spaced evenly on (0, 1], a row of one class lies at radius ``sqrt(t)`` and angle
    ``2 pi turns sqrt(t)``, one of the other class opposite; coordinates are scaled by ``sqrt(3)``.
    The more turns, the more often the boundary bends, and the larger the weights must grow.

    Asks for progress along long curved valleys, where few weights matter at a time.

    Source: K. J. Lang and M. J. Witbrock, "Learning to Tell Two Spirals Apart", Proceedings of the
    1988 Connectionist Models Summer School (there with three turns).

    Start: weights and biases uniform within ±1/sqrt(inputs), by seed. The data are the same.

    Args:
        turns: Of each spiral, above 0.
        hidden: Units of each of the two hidden layers.
        rows_of_each: Rows of each spiral.
    """

    def __init__(self, turns: float = 1.0, hidden: int = 16, rows_of_each: int = 32) -> None:
        number_from("turns", turns, 0, beyond=True)
        whole_from("hidden", hidden, 1)
        whole_from("rows_of_each", rows_of_each, 1)
        self.widths = (2, hidden, hidden, 1)
        radius = torch.linspace(0, 1, rows_of_each + 1, dtype=torch.float64)[1:].sqrt()
        angle = 2 * math.pi * turns * radius
        spiral = math.sqrt(3) * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        classes = torch.ones(rows_of_each, dtype=torch.float64)
        self.data = (torch.cat([spiral, -spiral]), torch.cat([classes, -classes]))
        self.formula = f"two spirals of {turns:g} turns, network {layers(self.widths)}"

    def rows(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows."""
        del params
        return batch[0], batch[1]


class RareClasses(Network):
    """Classes of which some are rare, told apart by a network.

    Eight classes are clusters of eight points each: a centre of N(0, I) in eight dimensions, and
    N(0, 0.3² I) around it. The loss is the mean cross entropy of data in which class ``c`` (from
    0) is ``imbalance^(-c/7)`` times as frequent as class 0: each point counts by its class's
    share. The accuracy is balanced: every class counts the same.

    Asks for progress where gradients are small: those of rare classes are, by their share.
    Methods that scale coordinates learn all classes about as fast, gradient descent in the order
    of their shares.

    Source: F. Kunstner et al., "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient
    Descent on Language Models", NeurIPS 2024.

    Start: weights and biases uniform within ±1/sqrt(inputs). Start and points differ by seed.

    Args:
        imbalance: How many times as frequent the first class is as the last, at least 1.
        hidden: Units of the hidden layer.
    """

    CLASSES = POINTS = INPUTS = 8

    def __init__(self, imbalance: float = 100.0, hidden: int = 16) -> None:
        number_from("imbalance", imbalance, 1)
        whole_from("hidden", hidden, 1)
        self.widths = (self.INPUTS, hidden, self.CLASSES)
        shares = imbalance ** -torch.linspace(0, 1, self.CLASSES, dtype=torch.float64)
        self.shares = shares / shares.sum()
        labels = torch.arange(self.CLASSES).repeat_interleave(self.POINTS)
        self.data = (labels, self.shares[labels] / self.POINTS)
        self.formula = f"eight classes, the first {imbalance:g} times as frequent as the last"

    def instance(self, generator: torch.Generator) -> Parameters:
        """``points`` of shape ``(classes * points, inputs)``."""
        centres = torch.randn(self.CLASSES, 1, self.INPUTS, generator=generator)
        around = torch.randn(self.CLASSES, self.POINTS, self.INPUTS, generator=generator)
        return {"points": (centres + 0.3 * around).flatten(0, 1)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Mean cross entropy, every point by its class's share."""
        return self._loss_of(self.outputs(params, params["points"]), batch)

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``balanced_accuracy``."""
        outputs = self.outputs(params, params["points"])
        balanced = accuracy(outputs, batch[0])  # classes have equally many points
        return {"loss": self._loss_of(outputs, batch), "balanced_accuracy": balanced}

    def _loss_of(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        labels, weights = batch
        right = outputs.gather(1, labels[:, None])[:, 0]
        lost: torch.Tensor = weights * (outputs.logsumexp(dim=1) - right)
        return lost.sum()


class ModularAddition(Network):
    """Addition modulo a number, learned from some of all sums and tested on the others.

    A row is an unordered pair of numbers below ``modulus``, as the vector that counts how often
    each of them is in it; the class is their sum, modulo ``modulus``. The loss is half the squared
    distance of the outputs from the class's unit vector, the mean over rows. With squares in the
    place of an activation, sums of cosines solve the task for all pairs; the train rows alone are
    learned sooner. The share ``left_out`` of the pairs is the part ``validation``.

    Asks for a solution that generalises, after the train rows are right already (grokking); weight
    decay brings it sooner.

    Source: A. Power et al., "Grokking: Generalization Beyond Overfitting on Small Algorithmic
    Datasets", arXiv:2201.02177, 2022; network and loss from A. Gromov, "Grokking modular
    arithmetic", arXiv:2301.02679, 2023 (there with ordered pairs).

    Start: weights and biases uniform within ±1/sqrt(inputs), by seed. The data are the same.

    Args:
        left_out: Share of the pairs that are not trained on, above 0 and below 1.
        modulus: What is added modulo, at least 2.
        hidden: Units of the hidden layer.
    """

    SEED = 0

    def __init__(self, left_out: float = 0.1, modulus: int = 11, hidden: int = 32) -> None:
        if not 0 < number_from("left_out", left_out, 0) < 1:
            raise ValueError(f"left_out must be above 0 and below 1, got {left_out!r}")
        whole_from("modulus", modulus, 2)
        self.widths = (modulus, whole_from("hidden", hidden, 1), modulus)
        pairs = torch.combinations(torch.arange(modulus), with_replacement=True)
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(self.SEED))
        pairs = pairs[order]
        features = functional.one_hot(pairs, modulus).sum(dim=1).double()
        labels = pairs.sum(dim=1) % modulus
        rest = min(max(round(left_out * len(pairs)), 1), len(pairs) - 1)
        self.data = (features[rest:], labels[rest:])
        self.held_out = {"validation": (features[:rest], labels[:rest])}
        self.formula = f"(a + b) mod {modulus}, from {len(pairs) - rest} of {len(pairs)} sums"

    def activation(self, values: torch.Tensor) -> torch.Tensor:
        """Squares."""
        return values.square()

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance from the classes' unit vectors, the mean over rows."""
        return self._loss_of(self.outputs(params, batch[0]), batch[1])

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``accuracy``."""
        outputs, labels = self.outputs(params, batch[0]), batch[1]
        return {"loss": self._loss_of(outputs, labels), "accuracy": accuracy(outputs, labels)}

    def _loss_of(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        right = outputs.gather(1, labels[:, None])[:, 0]
        # |outputs - unit|^2 = |outputs|^2 - 2 right + 1
        return (outputs.square().sum(dim=1) - 2 * right + 1).mean() / 2
