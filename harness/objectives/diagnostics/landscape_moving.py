"""Landscapes that move, and a field that turns: what was learned of the past is wrong.

References:
- O. Besbes, Y. Gur and A. Zeevi, "Non-stationary Stochastic Optimization", Operations Research
  63(5), 2015 ("Besbes et al." below).
- L. Mescheder, S. Nowozin and A. Geiger, "The Numerics of GANs", NeurIPS 2017 ("Mescheder et al."
  below).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.gradients import with_gradient
from harness.objectives.diagnostics.instances import normal, random_rotation

REMEMBERED = 0.98
"""Share of the mean error of the past that is kept in every step: a mean over about 50 steps."""


class MovingMinimum(Objective):
    """A round bowl ``|x - m(step)|^2 / 2`` whose minimum moves, and how well it is followed.

    What is recorded is a mean of the loss over the past, at the points where gradients were taken
    (each step weighs 2% and the mean before it 98%), so that a minimum that comes by is no success.
    The optimum 0 is for who is always there.

    Args:
        dimension: Number of parameters.

    Raises:
        ValueError: If ``dimension`` is outside its range.
    """

    optimum = 0.0
    sees_step = True

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    @abstractmethod
    def path(self, generator: torch.Generator) -> Parameters:
        """What a seed draws of the way that the minimum takes."""

    @abstractmethod
    def minimum(self, params: Parameters) -> torch.Tensor:
        """The minimum at the step of ``params["step"]``, of shape ``(dimension,)``."""

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, N(0, I) from where the minimum is at first."""
        return {"x": self._start(generator)[1]}

    def state(self, generator: torch.Generator) -> Parameters:
        """The path, and the mean ``error`` so far."""
        path, x = self._start(generator)
        first = self.minimum({**path, "step": torch.zeros((), dtype=torch.float64)})
        return {**path, "error": (x - first).square().sum() / 2}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance from the minimum as it is now."""
        del batch
        found = (params["x"] - self.minimum(params)).square().sum() / 2
        mean = REMEMBERED * params["error"] + (1 - REMEMBERED) * found.detach()
        params["error"].copy_(mean)
        return found

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The mean error so far."""
        del batch
        return params["error"].clone()

    def _start(self, generator: torch.Generator) -> tuple[Parameters, torch.Tensor]:
        path = self.path(generator)
        first = self.minimum({**path, "step": torch.zeros((), dtype=torch.float64)})
        return path, first + normal(generator, self.dimension)


class DriftingMinimum(MovingMinimum):
    """Drifting minimum: it moves on along a line, at a constant speed.

    Gradient descent follows at a distance of ``speed / lr``. Steps whose length is bounded by the
    learning rate must be as long as the minimum is fast; steps that shrink over time are left
    behind. Source: Besbes et al.; S. Haykin, *Adaptive Filter Theory*, for the lag of gradient
    descent.

    Args:
        speed: Distance per step; higher is harder.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f = |x − m(step)|² / 2, m(step) = m + speed · step · u; recorded: mean over the past"

    def __init__(self, speed: float = 0.01, dimension: int = 8) -> None:
        super().__init__(whole_from("dimension", dimension, 1))
        self.speed = number_from("speed", speed, 0)

    def path(self, generator: torch.Generator) -> Parameters:
        """The first minimum, and the change of a step in a random direction."""
        origin, direction = (normal(generator, self.dimension) for _ in range(2))
        return {"origin": origin, "change": self.speed * direction / direction.norm()}

    def minimum(self, params: Parameters) -> torch.Tensor:
        """A point further along the line with every step."""
        return params["origin"] + params["step"] * params["change"]


class CirclingMinimum(MovingMinimum):
    """Circling minimum: it goes round and round, in several planes at a time.

    Each pair of coordinates goes round a circle of radius 1 once in ``period`` steps, with a phase
    that a seed draws, so the distance from the circles' middle is always the same and staying there
    gains nothing. An optimizer is a filter here: what lags by a part of the period follows the
    minimum of some time ago. Source: Besbes et al.

    Args:
        period: Steps of a round; fewer are harder.
        pairs: Number of circles, each in two coordinates.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = (
        "f = |x − m(step)|² / 2, m going round circles of radius 1; recorded: mean over the past"
    )

    def __init__(self, period: float = 100.0, pairs: int = 4) -> None:
        self.pairs = whole_from("pairs", pairs, 1)
        super().__init__(2 * pairs)
        self.turn = 2 * math.pi / number_from("period", period, 0, beyond=True)

    def path(self, generator: torch.Generator) -> Parameters:
        """The circles' middle and phases, for the cosines and then the sines."""
        middle = normal(generator, self.dimension)
        phases = 2 * math.pi * torch.rand(self.pairs, generator=generator, dtype=torch.float64)
        return {"middle": middle, "phases": torch.cat([phases + math.pi / 2, phases])}

    def minimum(self, params: Parameters) -> torch.Tensor:
        """A point of every circle."""
        angles: torch.Tensor = params["step"] * self.turn + params["phases"]
        return params["middle"] + angles.sin()


class SuddenFlip(Objective):
    """Sudden flip: in mid-run the minimum is elsewhere, and gradients are smaller from then on.

    Up to ``flip_at`` steps the loss is ``ratio |x - a|^2 / 2``, then ``|x - b|^2 / 2``. What was
    learned before (a mean of squared gradients, a sum of them, a learning rate low enough for the
    larger curvature) is wrong by the ratio afterwards. What is recorded is ``|x - b|^2 / 2`` at all
    times, with its minimum 0 at ``b``; ``a``, ``b`` and the start are N(0, I). Source: changes of
    task in continual learning, S. Dohare et al., "Loss of plasticity in deep continual learning",
    Nature 632, 2024, which blames Adam's memory of squares; LightBench has a flip of signs.

    Args:
        ratio: Curvature before the flip over that afterwards; higher is harder.
        flip_at: Number of updates after which the minimum is ``b``.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    sees_step = True
    formula = "f = ratio · |x − a|² / 2 up to the flip, then |x − b|² / 2, which is recorded"

    def __init__(self, ratio: float = 10.0, flip_at: int = 200, dimension: int = 8) -> None:
        self.ratio = number_from("ratio", ratio, 0, beyond=True)
        self.flip_at = whole_from("flip_at", flip_at, 0)
        self.dimension = whole_from("dimension", dimension, 1)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, at N(0, I)."""
        self.state(generator)
        return {"x": normal(generator, self.dimension)}

    def state(self, generator: torch.Generator) -> Parameters:
        """The minimum ``before`` and ``after`` the flip."""
        before, after = (normal(generator, self.dimension) for _ in range(2))
        return {"before": before, "after": after}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl of the time."""
        del batch
        flipped = params["step"] >= self.flip_at
        middle = torch.where(flipped, params["after"], params["before"])
        found = (params["x"] - middle).square().sum() / 2
        return torch.where(flipped, found, self.ratio * found)

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance from the later minimum."""
        del batch
        return (params["x"] - params["after"]).square().sum() / 2


class RotatingField(Objective):
    """Rotating field: ``x`` descends and ``y`` ascends on ``|x|^2/2 + rotation x.By - |y|^2/2``.

    The equilibrium is at 0 (here: at a point that a seed draws), but no loss falls along the way:
    the field turns around it, ``rotation`` times as fast as it leads there. Gradient descent
    converges below a learning rate of ``2 / (1 + rotation^2)`` only, by ``rotation^2 / (1 +
    rotation^2)`` in a step's square at best; momentum makes the spiral wider. ``B`` is a random
    rotation. What is recorded is half the squared distance from the equilibrium, 0 there. Source:
    Mescheder et al.; G. Gidel et al., "Negative Momentum for Improved Game Dynamics", AISTATS 2019.

    Args:
        rotation: Imaginary over real part of the field's eigenvalues; higher is harder.
        size: Number of entries of ``x``, and of ``y``.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = (
        "min over x, max over y of |x|² / 2 + rotation · x·By − |y|² / 2; recorded: distance² / 2"
    )

    def __init__(self, rotation: float = 1.0, size: int = 4) -> None:
        self.rotation = number_from("rotation", rotation, 0)
        self.size = whole_from("size", size, 1)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` and ``y``, each of shape ``(size,)``, at N(0, I)."""
        self.state(generator)
        return {"x": normal(generator, self.size), "y": normal(generator, self.size)}

    def state(self, generator: torch.Generator) -> Parameters:
        """The equilibrium and the ``coupling``, ``rotation B``."""
        return {
            "x_there": normal(generator, self.size),
            "y_there": normal(generator, self.size),
            "coupling": self.rotation * random_rotation(generator, self.size),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance, with the field as its gradient."""
        x, y = (params[k].detach() - params[f"{k}_there"] for k in ("x", "y"))
        coupling = params["coupling"]
        field = {params["x"]: x + coupling @ y, params["y"]: y - x @ coupling}
        return with_gradient(self.evaluate(params, batch), field)

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance from the equilibrium."""
        del batch
        off = (params[k] - params[f"{k}_there"] for k in ("x", "y"))
        return torch.stack([part.square().sum() for part in off]).sum() / 2
