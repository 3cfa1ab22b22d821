"""Diagnostic tasks of the family learning: matrices and products of matrices."""

from __future__ import annotations

import math

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from


class WideLinear(Objective):
    """A linear map of ``size`` numbers to as many, learned from few rows at a time.

    Every step draws 16 rows ``x`` of N(0, I); to be told are their cumulative sums. The loss is
    ``mean over rows of |W x - T x|^2 / (2 size)``, T the lower triangle of ones. What is recorded
    is its expectation, ``|W - T|^2 / (2 size)`` (Frobenius norm), with its minimum 0 at T.

    Asks to use gradients of low rank: a step sees 16 of ``size`` directions, so each step is to be
    long in those and none in the others. All directions are alike, so that plain gradient descent
    does well, and at the solution the noise is gone.

    Source: the randomized Kaczmarz method, T. Strohmer and R. Vershynin, "A Randomized Kaczmarz
    Algorithm with Exponential Convergence", Journal of Fourier Analysis and Applications 15, 2009.

    Start: W at N(0, 1), by seed.

    Args:
        size: Inputs and outputs.
    """

    ROWS = 16
    optimum = 0.0

    def __init__(self, size: int = 16) -> None:
        self.size = whole_from("size", size, 1)
        self.minimizers = (tuple(torch.ones(size, size).tril().flatten().tolist()),)
        self.formula = f"f = |W − T|² / {2 * size}, from {self.ROWS} rows at a time"

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight`` of shape ``(size, size)``."""
        return {"weight": torch.randn(self.size, self.size, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the mean squared error over new rows."""
        del batch
        weight = params["weight"]
        rows = torch.randn(self.ROWS, self.size, dtype=weight.dtype, device=weight.device)
        missed = rows @ weight.T - rows.cumsum(dim=1)
        return missed.square().mean() / 2

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Its expectation."""
        del batch
        weight = params["weight"]
        missed = weight - torch.ones_like(weight).tril()
        return missed.square().sum() / (2 * self.size)


class NoisyProduct(Objective):
    """A matrix learned as a product of ``depth`` matrices, from products with noise.

    The target ``M`` has size 8 and singular values from 1 to 1/2, between random orthogonal bases.
    Every step draws 16 rows ``x`` of N(0, I), and sees ``M x + noise z`` with ``z`` of N(0, I).
    The loss is half the mean squared error of ``W_depth ... W_1 x``. What is recorded is its
    expectation without the noise's own share, ``|W_depth ... W_1 - M|^2 / 16``; its minimum is 0.

    Asks for steps that get small enough for the noise, and large enough through factors whose
    gradients vanish and explode with the others' size.

    Source: A. M. Saxe, J. L. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics
    of learning in deep linear neural networks", ICLR 2014; S. Arora et al., "Implicit
    Regularization in Deep Matrix Factorization", NeurIPS 2019.

    Start: each factor at N(0, 1/8), by seed, as the target.

    Args:
        depth: Number of factors.
        noise: Standard deviation of each number that is seen.
    """

    SIZE = 8
    ROWS = 16
    optimum = 0.0

    def __init__(self, depth: int = 2, noise: float = 0.1) -> None:
        self.depth = whole_from("depth", depth, 1)
        self.noise = number_from("noise", noise, 0)
        self.formula = f"f = |product of {depth} matrices − M|² / 16, noise {noise:g}"

    def _target(self, generator: torch.Generator) -> torch.Tensor:
        left, right = (
            torch.linalg.qr(torch.randn(self.SIZE, self.SIZE, generator=generator))[0]
            for _ in range(2)
        )
        target: torch.Tensor = left @ torch.diag(torch.linspace(1, 0.5, self.SIZE)) @ right
        return target

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight1`` of shape ``(8, 8)``, which is applied first, ``weight2`` and so on."""
        self._target(generator)
        drawn = torch.randn(self.depth, self.SIZE, self.SIZE, generator=generator)
        return {f"weight{i + 1}": w / math.sqrt(self.SIZE) for i, w in enumerate(drawn)}

    def state(self, generator: torch.Generator) -> Parameters:
        """``target`` of shape ``(8, 8)``."""
        return {"target": self._target(generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the mean squared error over new rows."""
        del batch
        target = params["target"]
        size = (2, self.ROWS, self.SIZE)
        drawn = torch.randn(size, dtype=target.dtype, device=target.device)
        seen = drawn[0] @ target.T + self.noise * drawn[1]
        values = drawn[0]
        for i in range(1, self.depth + 1):
            values = values @ params[f"weight{i}"].T
        missed: torch.Tensor = values - seen
        return missed.square().mean() / 2

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Its expectation without the noise's own share."""
        del batch
        product = params["weight1"]
        for i in range(2, self.depth + 1):
            product = params[f"weight{i}"] @ product
        missed: torch.Tensor = product - params["target"]
        return missed.square().sum() / (2 * self.SIZE)


class Autoencoder(Objective):
    """A linear autoencoder of 16 numbers through 4, where some directions vary little.

    The data have mean 0, and variances from 1 to ``1 / spread`` (evenly spaced in the logarithm)
    along four random directions, none along the others. The loss is half the expected squared
    error ``|x - decoder encoder x|^2``; its minimum is 0. ``r2`` is that of the direction which is
    worst: ``1 - error of that direction / its variance``.

    Asks for progress along directions whose gradients are small by their variance: gradient
    descent learns them one after the other, in times in inverse proportion to it.

    Source: P. Baldi and K. Hornik, "Neural networks and principal component analysis: learning
    from examples without local minima", Neural Networks 2, 1989; A. M. Saxe et al., ICLR 2014.

    Start: weights at N(0, 0.1²). Start and directions differ by seed.

    Args:
        spread: Largest variance over smallest, at least 1.
    """

    INPUTS = 16
    CODE = 4
    optimum = 0.0

    def __init__(self, spread: float = 10.0) -> None:
        self.spread = number_from("spread", spread, 1)
        self.formula = f"f = E|x − D E x|² / 2, variances from 1 to {1 / spread:g}"

    def _directions(self, generator: torch.Generator) -> torch.Tensor:
        drawn = torch.randn(self.INPUTS, self.CODE, generator=generator)
        directions: torch.Tensor = torch.linalg.qr(drawn)[0]
        return directions

    def init(self, generator: torch.Generator) -> Parameters:
        """``encoder`` of shape ``(4, 16)``, ``decoder`` of shape ``(16, 4)``."""
        self._directions(generator)
        encoder = 0.1 * torch.randn(self.CODE, self.INPUTS, generator=generator)
        return {
            "encoder": encoder,
            "decoder": 0.1 * torch.randn(self.INPUTS, self.CODE, generator=generator),
        }

    def state(self, generator: torch.Generator) -> Parameters:
        """``directions`` of shape ``(16, 4)``, and their ``variances``."""
        variances = self.spread ** -torch.linspace(0, 1, self.CODE)
        return {"directions": self._directions(generator), "variances": variances}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the expected squared error."""
        del batch
        lost: torch.Tensor = (self._errors(params) * params["variances"]).sum() / 2
        return lost

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``r2`` of the direction that is worst."""
        return {"loss": self.loss(params, batch), "r2": 1 - self._errors(params).amax()}

    def _errors(self, params: Parameters) -> torch.Tensor:
        """The squared error along each direction, as a share of its variance."""
        directions = params["directions"]
        missed = directions - params["decoder"] @ (params["encoder"] @ directions)
        shares: torch.Tensor = missed.square().sum(dim=0)
        return shares
