"""Diagnostic tasks of scale: parameters, gradients, layers and losses of very different size.

Nothing here is hard but for its units. An optimizer has a scale of its own: a learning rate is a
length of gradients, or of parameters, or a share of these; an epsilon is a size of gradients.
Where one number must serve several scales, it fits none.
"""

from __future__ import annotations

import math

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.curvature import IllConditionedRotated
from harness.objectives.diagnostics.instances import (
    Shifted,
    normal,
    root_mean_square,
    spaced,
)


class ParameterScales(Shifted):
    """Parameters of different scale: ``|x / s - m|^2 / 2``, a round bowl in other units.

    Scales ``s_i`` are evenly spaced in their logarithm. A parameter that is large has a small
    gradient and a long way to go: gradient descent goes the wrong way round and sees the square of
    the ratio as condition number, and a step of one length for all, the ratio itself. Asks for
    steps in proportion to the parameters: what is invariant to units is Newton's method, not
    Adam (M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", arXiv:1212.5701, section
    3.2, on the units of updates).

    Minimum 0 where ``x = s m``. The start ``x / s`` is at N(0, I), as the minimum m; ``error`` is
    in these units.

    Args:
        ratio: Largest scale over smallest, at least 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = |x / s − m|² / 2"

    def __init__(self, ratio: float = 100.0, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.scales = spaced(number_from("ratio", ratio, 1), dimension)

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``, m; with it come ``scales``: both of shape ``(dimension,)``."""
        return super().instance(generator) | {"scales": self.scales.clone()}

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``: the scales times N(0, I)."""
        return {"x": self.scales * super().init(generator)["x"]}

    def displacement(self, params: Parameters) -> torch.Tensor:
        """The displacement in units of the scales: ``x / s - m``."""
        return params["x"] / params["scales"] - params["minimum"]

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """Half the squared length."""
        del params
        return displacement.square().sum() / 2


class GradientScales(Shifted):
    """Gradients of different scale: ``sum of w_i (sqrt(1 + (x_i - m_i)^2) - 1)``.

    A smooth absolute value for each parameter, with weights evenly spaced in their logarithm: far
    away, a gradient is its weight and says nothing of the distance (Charbonnier's penalty: P.
    Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
    imaging", ICIP 1994). All parameters have as far to go. Asks for steps that don't depend on the
    scale of the gradient, down to where an epsilon makes them.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        ratio: Largest weight over smallest, at least 1; their geometric mean is 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = Σ wᵢ (√(1 + (xᵢ − mᵢ)²) − 1)"

    def __init__(self, ratio: float = 100.0, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.ratio = number_from("ratio", ratio, 1)

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``; with it come ``weights``: both of shape ``(dimension,)``."""
        return super().instance(generator) | {"weights": spaced(self.ratio, *self.shape)}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The weighted sum."""
        square = displacement.square()
        # sqrt(1 + s) - 1 without the cancellation near 0.
        return params["weights"] @ (square / (1 + torch.sqrt(1 + square)))


class LossScale(IllConditionedRotated):
    """The scale of the loss: an easy bowl, rotated, times a factor.

    A sum in place of a mean, or another unit, changes nothing of a problem. Tiny factors bring
    gradients below an epsilon; huge ones overflow, or meet a clip that was set for others; either
    moves what learning rate gradient descent needs. Asks for invariance to it, which dividing by
    the gradient's size gives (D. P. Kingma and J. Ba, "Adam", ICLR 2015, section 2.1) up to an
    epsilon.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        factor: What the loss is multiplied by, above 0.
        condition_number: Of the bowl, at least 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = c Σ hᵢ (R (x − m))ᵢ² / 2"

    def __init__(
        self, factor: float = 1.0, condition_number: float = 10.0, dimension: int = 10
    ) -> None:
        super().__init__(condition_number, dimension)
        self.factor = number_from("factor", factor, 0, beyond=True)

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The bowl, multiplied."""
        return self.factor * super().value(displacement, params)


class SwingingScale(IllConditionedRotated):
    """A scale that swings in time: steps see the loss times ``swing ** sin(2 pi t / period)``.

    As where batches, tasks or lengths of sequences alternate. The minimum stays. A learning rate
    must be stable at the crest and is idle in the trough; an average of squared gradients remembers
    the crest through the trough, or is surprised by the next one. Asks for a step that follows the
    scale within a fraction of a period. What is recorded is the loss without the factor.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        swing: The factor at the crest, and one over that in the trough; at least 1.
        period: Steps from crest to crest, at least 2.
        condition_number: Of the bowl, at least 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x, t) = sˢⁱⁿ⁽²πᵗ/ᵀ⁾ Σ hᵢ (R (x − m))ᵢ² / 2"
    sees_step = True

    def __init__(
        self,
        swing: float = 10.0,
        period: float = 40.0,
        condition_number: float = 100.0,
        dimension: int = 10,
    ) -> None:
        super().__init__(condition_number, dimension)
        self.swing = number_from("swing", swing, 1)
        self.period = number_from("period", period, 2)

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl, multiplied by the step's factor."""
        phase = torch.sin(2 * math.pi / self.period * params["step"])
        return torch.exp(math.log(self.swing) * phase) * self.evaluate(params, batch)

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl."""
        return super().loss(params, batch)


class GrowingScale(IllConditionedRotated):
    """A scale that grows in time: steps see the loss times ``10 ** (decades t / steps)``.

    The minimum stays. Gradient descent has one learning rate for all of the way: it is idle before
    its time, and diverges after. Asks for steps that follow the scale, though an average of past
    squares lags behind it. What is recorded is the loss without the factor.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        decades: Powers of ten by which the factor grows in ``steps``; below 0 it shrinks.
        steps: Steps that it takes, at least 1.
        condition_number: Of the bowl, at least 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x, t) = 10ᵏᵗ Σ hᵢ (R (x − m))ᵢ² / 2"
    sees_step = True

    def __init__(
        self,
        decades: float = 2.0,
        steps: int = 300,
        condition_number: float = 100.0,
        dimension: int = 10,
    ) -> None:
        super().__init__(condition_number, dimension)
        self.decades = number_from("decades", decades, -300)
        self.steps = whole_from("steps", steps, 1)

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl, multiplied by the step's factor."""
        exponent = math.log(10) * self.decades / self.steps * params["step"]
        return torch.exp(exponent) * self.evaluate(params, batch)

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl."""
        return super().loss(params, batch)


class ScaleInvariant(Objective):
    """Weights whose length means nothing: the mean over rows of ``1 - cos(w_k, t_k)``.

    So are weights before a normalisation. A gradient is orthogonal to its row and falls as one
    over its length, so each step makes rows longer and the next turn smaller: by the square of the
    length for gradient descent, by the length for steps of a fixed size (S. Arora, Z. Li and K.
    Lyu, "Theoretical Analysis of Auto Rate-Tuning by Batch Normalization", ICLR 2019; B. Heo et
    al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights",
    ICLR 2021). Rows start with lengths evenly spaced in their logarithm. Asks for turns of the same
    angle for all of them, and for steps that don't overshoot the length.

    Minimum 0 where every row points as its target: a cosine is at most 1. Each seed draws the
    directions of targets and starts uniform on spheres.

    Args:
        ratio: Longest row over shortest at the start, at least 1; their geometric mean is 1.
        rows: How many, at least 2.
        columns: Numbers in each, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(W) = mean of 1 − wₖ · tₖ / |wₖ|"

    def __init__(self, ratio: float = 1.0, rows: int = 4, columns: int = 8) -> None:
        whole_from("rows", rows, 2)
        self.shape = (rows, whole_from("columns", columns, 2))
        self.ratio = number_from("ratio", ratio, 1)

    def state(self, generator: torch.Generator) -> Parameters:
        """Draw the ``targets``: rows of length 1, shape ``(rows, columns)``."""
        return {"targets": _unit_rows(normal(generator, *self.shape))}

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight`` of shape ``(rows, columns)``, with rows of the given lengths."""
        self.state(generator)  # drawn first, so that the start is another
        lengths = spaced(self.ratio, self.shape[0])[:, None]
        return {"weight": lengths * _unit_rows(normal(generator, *self.shape))}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The mean over rows."""
        del batch
        return (1 - (_unit_rows(params["weight"]) * params["targets"]).sum(dim=1)).mean()


def _unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows divided by their lengths."""
    return rows / rows.square().sum(dim=1, keepdim=True).sqrt()


class UncentredInputs(Objective):
    """Linear regression with inputs off centre: a small bias beside weights of large effect.

    The expected loss of ``w . z + b`` for inputs ``z`` of N(offset, 1), independent, and labels
    without noise: ``(|d|^2 + (e + offset * sum of d_i)^2) / 2``, where d and e are the errors of
    weights and bias. Steps of the weights move the output by the offset; the bias must undo it, and
    its own gradient is small beside theirs. For large offsets the condition number is
    ``(1 + offset^2 features)^2`` (on centring: Y. LeCun, L. Bottou, G. B. Orr and K.-R. Müller,
    "Efficient BackProp", in *Neural Networks: Tricks of the Trade*, 1998). Asks for momentum, or
    for seeing how parameters are coupled; step sizes of their own don't help.

    Minimum 0 at the ``target``, which each seed draws from N(0, I); start at N(0, I). ``error`` is
    the root mean square error of weights and bias.

    Args:
        offset: Mean of the inputs, at least 0.
        features: Number of weights, at least 1.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(w, b) = (|d|² + (e + μ Σ dᵢ)²) / 2, d = w − w*, e = b − b*"

    def __init__(self, offset: float = 1.0, features: int = 4) -> None:
        self.features = whole_from("features", features, 1)
        self.offset = number_from("offset", offset, 0)

    def state(self, generator: torch.Generator) -> Parameters:
        """Draw the ``target``: weights, then bias, shape ``(features + 1,)``."""
        return {"target": normal(generator, self.features + 1)}

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight`` of shape ``(features,)`` and ``bias`` of shape ``(1,)``, at N(0, I)."""
        self.state(generator)  # drawn first, so that the start is another
        return {"weight": normal(generator, self.features), "bias": normal(generator, 1)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The expected loss."""
        del batch
        errors = self._errors(params)
        weight, bias = errors[:-1], errors[-1]
        output = bias + self.offset * weight.sum()
        return (weight.square().sum() + output.square()) / 2

    def metrics(self, params: Parameters, batch: Batch) -> Parameters:
        """The loss, and the root mean square error of weights and bias as ``error``."""
        return {
            "loss": self.evaluate(params, batch),
            "error": root_mean_square(self._errors(params)),
        }

    def _errors(self, params: Parameters) -> torch.Tensor:
        return torch.cat([params["weight"], params["bias"]]) - params["target"]


class UnbalancedFactors(Objective):
    """Unbalanced factors: ``mean of (U V - M)^2 / 2``, with U large and V small at the start.

    ``c U`` and ``V / c`` have the same product, but the gradients of one are the other's size: the
    curvatures of the two are as ``c^4`` to 1 (S. Tu et al., "Low-rank Solutions of Linear Matrix
    Equations via Procrustes Flow", ICML 2016; S. S. Du, W. Hu and J. D. Lee, "Algorithmic
    Regularization in Learning Deep Homogeneous Models: Layers are Automatically Balanced",
    NeurIPS 2018). Asks for a step of its own length for each of the two matrices.

    Minimum 0, as M is a product of such factors. Entries of the factors of M, of ``U / c`` and of
    ``c V`` are drawn from N(0, 1).

    Args:
        imbalance: c, at least 1.
        size: Rows and columns of M, at least 2.
        rank: Columns of U and rows of V, at least 1 and at most ``size``.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(U, V) = mean of (U V − M)² / 2"

    def __init__(self, imbalance: float = 1.0, size: int = 8, rank: int = 2) -> None:
        self.size = whole_from("size", size, 2)
        self.rank = whole_from("rank", rank, 1)
        if rank > size:
            raise ValueError(f"rank must be at most size, {size}, got {rank!r}")
        self.imbalance = number_from("imbalance", imbalance, 1)

    def state(self, generator: torch.Generator) -> Parameters:
        """Draw the ``product`` M, shape ``(size, size)``."""
        return {"product": normal(generator, self.size, self.rank) @ self._right(generator)}

    def init(self, generator: torch.Generator) -> Parameters:
        """``left`` of shape ``(size, rank)`` and ``right`` of shape ``(rank, size)``."""
        self.state(generator)  # drawn first, so that the start is another
        left = self.imbalance * normal(generator, self.size, self.rank)
        return {"left": left, "right": self._right(generator) / self.imbalance}

    def _right(self, generator: torch.Generator) -> torch.Tensor:
        return normal(generator, self.rank, self.size)

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the mean squared error of the product."""
        del batch
        return (params["left"] @ params["right"] - params["product"]).square().mean() / 2
