"""Diagnostic tasks of the family learning: what is to be learned changes, or is in conflict."""

from __future__ import annotations

import torch
from torch.nn import functional

from harness.objectives.base import Batch, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.networks import (
    BinaryTask,
    Network,
    layers,
)


class Plasticity(BinaryTask):
    """New labels for the same rows, again and again: does a network still learn the last?

    ``rows`` vectors of N(0, I) have a class drawn at random, and a new one after every ``every``
    steps, ``changes`` times. The loss is that of the classes of the step; the accuracy is of the
    last classes.

    Asks for a state that does not stand in the way: step sizes that only shrink, averages over old
    tasks and units that have died all do.

    Source: S. Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024;
    C. Lyle et al., "Understanding Plasticity in Neural Networks", ICML 2023 (random labels).

    Start: weights and biases uniform within ±1/sqrt(inputs). Start, rows and classes differ by
    seed.

    Args:
        changes: How often the classes change.
        every: Steps from one change to the next.
        items: Rows.
        hidden: Units of the hidden layer; a rectifier follows.
    """

    sees_step = True

    INPUTS = 16

    def __init__(
        self, changes: int = 1, every: int = 50, items: int = 32, hidden: int = 16
    ) -> None:
        self.changes = whole_from("changes", changes, 0)
        self.every = whole_from("every", every, 1)
        self.items = whole_from("items", items, 1)
        whole_from("hidden", hidden, 1)
        self.widths = (self.INPUTS, hidden, 1)
        self.formula = (
            f"random classes of {items} rows, {changes} times anew, by {layers(self.widths)}"
        )

    def instance(self, generator: torch.Generator) -> Parameters:
        """``features`` of shape ``(items, inputs)``, ``classes`` ``(changes + 1, items)``."""
        features = torch.randn(self.items, self.INPUTS, generator=generator)
        classes = torch.rand(self.changes + 1, self.items, generator=generator) >= 0.5
        return {"features": features, "classes": classes.to(features.dtype) * 2 - 1}

    def rows(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows, with their classes at the step."""
        del batch
        classes = params["classes"]
        task = (params["step"] / self.every).floor().clamp(max=self.changes)
        tasks = torch.arange(self.changes + 1, device=task.device, dtype=task.dtype)
        return params["features"], (tasks == task).to(classes.dtype) @ classes

    def judged(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows, with their last classes."""
        del batch
        return params["features"], params["classes"][-1]

    def activation(self, values: torch.Tensor) -> torch.Tensor:
        """Rectifiers, of which some may never be active again."""
        return torch.relu(values)


class DomainShift(BinaryTask):
    """Data whose mean moves away while a network learns them.

    Rows are N(0, I) in eight dimensions, and the class is whether their first two coordinates
    have the same sign (exclusive or); rows nearer than 0.3 to the border are moved away from it.
    From step to step all coordinates move on alike, until after ``during`` steps each is larger by
    ``shift`` than at the start, and stay there. The accuracy is of the rows where they end.

    Asks to follow a change, to a place that is harder: data away from 0 make the problem
    ill-conditioned, by the square of the distance, and units saturated.

    Source: Y. LeCun et al., "Efficient BackProp", 1998 (data that are not centred);
    H. Shimodaira, "Improving predictive inference under covariate shift", Journal of Statistical
    Planning and Inference 90, 2000.

    Start: weights and biases uniform within ±1/sqrt(inputs). Start and rows differ by seed.

    Args:
        shift: How far each coordinate moves, in standard deviations; 0 or more.
        during: Steps that it takes.
        items: Rows.
        hidden: Units of the hidden layer.
    """

    sees_step = True

    INPUTS = 8

    def __init__(
        self, shift: float = 1.0, during: int = 200, items: int = 64, hidden: int = 16
    ) -> None:
        self.shift = number_from("shift", shift, 0)
        self.during = whole_from("during", during, 1)
        self.items = whole_from("items", items, 1)
        whole_from("hidden", hidden, 1)
        self.widths = (self.INPUTS, hidden, 1)
        self.formula = f"exclusive or of signs, data moved by {shift:g}, by {layers(self.widths)}"

    def instance(self, generator: torch.Generator) -> Parameters:
        """``features`` of shape ``(items, inputs)``, at the start."""
        features = torch.randn(self.items, self.INPUTS, generator=generator)
        features[:, :2] += 0.3 * features[:, :2].sign()
        return {"features": features}

    def rows(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows, where they are at the step."""
        del batch
        return self._moved(params, (params["step"] / self.during).clamp(max=1.0) * self.shift)

    def judged(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows, where they end."""
        del batch
        return self._moved(params, self.shift)

    def _moved(
        self, params: Parameters, by: torch.Tensor | float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = params["features"]
        return features + by, features[:, :2].sign().prod(dim=1)


class TwoTasks(Network):
    """Two tasks for one network, of which one weighs more in the loss.

    Rows are N(0, I) in eight dimensions. Each task is to tell the sign of the product of two
    coordinates of its own, and each has an output of its own behind the same hidden layer. The
    loss is the first task's plus the second's divided by ``ratio``. The accuracy is the share of
    rows of which both are right.

    Asks for progress on what weighs little while what weighs much is still noisy: step sizes are
    those that the heavy task allows.

    Source: A. Kendall, Y. Gal and R. Cipolla, "Multi-Task Learning Using Uncertainty to Weigh
    Losses", CVPR 2018; T. Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020.

    Start: weights and biases uniform within ±1/sqrt(inputs). Start and rows differ by seed.

    Args:
        ratio: How many times the first task weighs as much as the second, at least 1.
        items: Rows.
        hidden: Units of the hidden layer.
    """

    INPUTS = 8

    def __init__(self, ratio: float = 10.0, items: int = 64, hidden: int = 16) -> None:
        self.ratio = number_from("ratio", ratio, 1)
        self.items = whole_from("items", items, 1)
        whole_from("hidden", hidden, 1)
        self.widths = (self.INPUTS, hidden, 2)
        self.formula = f"two exclusive ors, weighing {ratio:g} to 1, by {layers(self.widths)}"

    def instance(self, generator: torch.Generator) -> Parameters:
        """``features`` of shape ``(items, inputs)``."""
        return {"features": torch.randn(self.items, self.INPUTS, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The first task's logistic loss, and the second's divided by the ratio."""
        del batch
        logits, signs = self._both(params)
        of_each = functional.softplus(-signs * logits).mean(dim=0)
        return of_each[0] + of_each[1] / self.ratio

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, ``accuracy`` of both tasks together."""
        logits, signs = self._both(params)
        right = (signs * logits > 0).all(dim=1).to(logits.dtype).mean()
        return {"loss": self.loss(params, batch), "accuracy": right}

    def _both(self, params: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        features = params["features"]
        signs = features[:, :4].sign()
        return self.outputs(params, features), signs[:, ::2] * signs[:, 1::2]
