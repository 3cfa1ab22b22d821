"""Noise: bowls of which only a disturbed gradient is seen, while what is recorded is exact.

Every task has the same bowl ``f(x) = sum of h_i (x_i - m_i)^2 / 2`` over a matrix ``x`` (so that
optimizers of matrices are themselves here). A seed draws the minimizer ``m`` and the start, both
N(0, I), and the order of the curvatures ``h``, which are spaced evenly in their logarithm from 0.1
to 1. So without the noise every optimizer gets to the minimum, and with it each must average, or
bound what a single gradient can do. ``evaluate`` is the bowl itself.

References:
- H. Robbins and S. Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics
  22(3), 1951.
- L. Bottou, F. E. Curtis and J. Nocedal, "Optimization Methods for Large-Scale Machine Learning",
  SIAM Review 60(2), 2018 ("Bottou et al." below).
- LightBench, the diagnostic suite of HeavyBall, 2026, has tasks of the same names; definitions and
  win conditions here are others.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, share_within, whole_from
from harness.objectives.diagnostics.gradients import with_gradient

FLATTEST = 0.1
"""The least curvature of the bowl; the largest is 1."""

TRUE_GRADIENT = "f(x) = Σ hᵢ (xᵢ − mᵢ)² / 2, h from 0.1 to 1"


class DisturbedBowl(Objective):
    """A bowl of which a disturbed gradient is seen. Minimum 0 at the ``m`` that a seed draws.

    Attributes:
        disturbance: The gradient that is seen, for the report.

    Args:
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If ``size`` is not a whole number from 1.
    """

    optimum = 0.0
    disturbance: ClassVar[str]

    def __init__(self, size: int = 8) -> None:
        self.size = whole_from("size", size, 1)
        self.formula = f"{TRUE_GRADIENT}; seen: {self.disturbance}"

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(size, size)``, at N(0, I)."""
        self._instance(generator)
        return {"x": self._normal(generator)}

    def state(self, generator: torch.Generator) -> Parameters:
        """The seed's ``minimum`` and ``curvatures``, and what the noise remembers."""
        instance = self._instance(generator)
        start = self._normal(generator)
        return instance | self.memory(start, generator)

    def memory(self, start: torch.Tensor, generator: torch.Generator) -> Parameters:
        """What the disturbance remembers from step to step; by default, nothing."""
        del start, generator
        return {}

    @abstractmethod
    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The gradient that a step is told.

        Args:
            gradient: The true one, of shape ``(size, size)``.
            params: What :meth:`loss` is given.
        """

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl's value, with the disturbed gradient."""
        del batch
        off = params["x"].detach() - params["minimum"]
        gradient = params["curvatures"] * off
        value = (gradient * off).sum() / 2
        return with_gradient(value, {params["x"]: self.seen(gradient, params)})

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl itself."""
        del batch
        off = params["x"] - params["minimum"]
        return (params["curvatures"] * off.square()).sum() / 2

    def _instance(self, generator: torch.Generator) -> Parameters:
        count = self.size**2
        curvatures = torch.logspace(math.log10(FLATTEST), 0, count, dtype=torch.float64)
        order = torch.randperm(count, generator=generator)
        shape = (self.size, self.size)
        return {
            "minimum": self._normal(generator),
            "curvatures": curvatures[order].reshape(shape),
        }

    def _normal(self, generator: torch.Generator) -> torch.Tensor:
        shape = (self.size, self.size)
        return torch.randn(shape, generator=generator, dtype=torch.float64)


class WhiteNoise(DisturbedBowl):
    """White noise: every gradient is off by fresh normal noise of the same strength.

    Asks for averages: at a constant learning rate the loss stops falling at a level in proportion
    to the learning rate (Bottou et al., Theorem 4.6), below which only smaller steps or an average
    of the iterates get. The expected gradient is the true one.

    Args:
        deviation: Standard deviation of the noise in each coordinate.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x) + deviation · N(0, I)"

    def __init__(self, deviation: float = 1.0, size: int = 8) -> None:
        super().__init__(size)
        self.deviation = number_from("deviation", deviation, 0)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        return gradient + self.deviation * torch.randn_like(params["x"])


class HeavyTails(DisturbedBowl):
    """Heavy tails: noise of Student's t distribution, which has rare and very large values.

    With two degrees of freedom or fewer the noise has no variance; with one it is Cauchy's and has
    no mean either, so that averages of gradients are no better than one of them. Asks for steps
    whose length a single gradient cannot set (signs, clipping). Gradient noise of transformers has
    such tails: J. Zhang et al., "Why are Adaptive Methods Good for Attention Models?", NeurIPS
    2020; U. Simsekli, L. Sagun and M. Gurbuzbalaban, "A Tail-Index Analysis of Stochastic Gradient
    Noise", ICML 2019. Drawn by the polar method of R. W. Bailey, "Polar Generation of Random
    Variates with the t-Distribution", Mathematics of Computation 62, 1994.

    Args:
        degrees: Degrees of freedom, above 0; fewer are harder.
        scale: What the noise is multiplied by.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x) + scale · t(degrees)"

    def __init__(self, degrees: float = 2.0, scale: float = 1.0, size: int = 8) -> None:
        super().__init__(size)
        self.degrees = number_from("degrees", degrees, 0, beyond=True)
        self.scale = number_from("scale", scale, 0)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        x = params["x"]
        logarithm = torch.log1p(-torch.rand_like(x))  # of a number above 0 and up to 1
        length = (self.degrees * torch.expm1(-2 / self.degrees * logarithm)).sqrt()
        return gradient + self.scale * length * (2 * math.pi * torch.rand_like(x)).cos()


class CorrelatedNoise(DisturbedBowl):
    """Correlated noise: an Ornstein-Uhlenbeck process, which pushes one way for a while.

    Its standard deviation is the same for every correlation time; its sum over many steps grows
    with the root of that time, so averages must reach over more steps than the noise remembers.
    Source: G. E. Uhlenbeck and L. S. Ornstein, "On the Theory of the Brownian Motion", Physical
    Review 36, 1930, sampled exactly; at every step the noise is ``r n + sqrt(1 - r^2) deviation
    N(0, I)`` with ``r = exp(-1 / correlation_time)``, from its stationary distribution on.

    Args:
        correlation_time: Steps after which the correlation has fallen to 1/e.
        deviation: Standard deviation of the noise in each coordinate.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x) + Ornstein-Uhlenbeck noise"

    def __init__(
        self, correlation_time: float = 10.0, deviation: float = 0.3, size: int = 8
    ) -> None:
        super().__init__(size)
        time = number_from("correlation_time", correlation_time, 0, beyond=True)
        self.deviation = number_from("deviation", deviation, 0)
        self.kept = math.exp(-1 / time)
        self.fresh = self.deviation * math.sqrt(-math.expm1(-2 / time))

    def memory(self, start: torch.Tensor, generator: torch.Generator) -> Parameters:
        del start
        return {"noise": self.deviation * self._normal(generator)}

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        fresh = self.fresh * torch.randn_like(params["x"])
        noise = params["noise"].copy_(self.kept * params["noise"] + fresh)
        return gradient + noise


class MultiplicativeNoise(DisturbedBowl):
    """Multiplicative noise: as long as the gradient times a factor, so it ends at the minimum.

    So it is for a network that can fit all of its data ("strong growth": M. Schmidt and N. Le Roux,
    "Fast Convergence of Stochastic Gradient Descent under a Strong Growth Condition", 2013; S.
    Vaswani, F. Bach and M. Schmidt, AISTATS 2019). Plain gradient descent converges at a constant
    learning rate; steps of a fixed length do not get as near.

    Args:
        factor: Root of the mean squared length of the noise, over that of the gradient.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x) + factor · |∇f(x)| / √n · N(0, I)"

    def __init__(self, factor: float = 1.0, size: int = 8) -> None:
        super().__init__(size)
        self.factor = number_from("factor", factor, 0)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        length = gradient.square().sum().sqrt() * (self.factor / self.size)
        return gradient + length * torch.randn_like(params["x"])


class SmallBatches(DisturbedBowl):
    """Small batches: a linear regression, of which every step sees rows that none saw before.

    A row is ``a ~ N(0, diag h)`` with the label ``a . m + N(0, label_noise^2)``; a batch's loss is
    half its mean squared error, and what is recorded is the expected one without the part that no
    weights can remove. The gradient's error falls with the root of the batch size; in batches of
    fewer rows than ``x`` has entries, most directions are not seen at all, and gradient descent
    needs a smaller learning rate to be stable. Source: C. J. Shallue et al., "Measuring the
    Effects of Data Parallelism on Neural Network Training", JMLR 20, 2019; Bottou et al.

    Args:
        batch: Rows that a step sees; fewer are harder.
        label_noise: Standard deviation of labels around the line.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f of a batch"

    def __init__(self, batch: int = 16, label_noise: float = 1.0, size: int = 4) -> None:
        super().__init__(size)
        self.batch = whole_from("batch", batch, 1)
        self.label_noise = number_from("label_noise", label_noise, 0)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        del gradient
        x = params["x"].detach()
        drawn = torch.randn(self.batch, x.numel() + 1, dtype=x.dtype, device=x.device)
        rows = drawn[:, :-1] * params["curvatures"].sqrt().reshape(-1)
        noise = self.label_noise * drawn[:, -1]
        errors = rows @ (x - params["minimum"]).reshape(-1) - noise
        found: torch.Tensor = errors @ rows / self.batch
        return found.reshape(x.shape)


class OutlierGradients(DisturbedBowl):
    """Outliers: now and then a gradient of which nothing is right, of length 1000 and more.

    With some probability, ``strength * N(0, I)`` is added to the gradient, as a broken batch would;
    the first one always has it, so that nobody gets by before an outlier comes. Asks an optimizer
    to bound a step and to forget: means of gradients and of their squares hold an outlier for as
    many steps as they remember. Source of the setting: gross errors of P. J. Huber, "Robust
    Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Args:
        probability: Of an outlier, in each step after the first; higher is harder.
        strength: Standard deviation of an outlier in each coordinate.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x) + strength · N(0, I), the latter at first and with the given probability"

    def __init__(self, probability: float = 0.01, strength: float = 1000.0, size: int = 8) -> None:
        super().__init__(size)
        self.probability = share_within("probability", probability)
        self.strength = number_from("strength", strength, 0)

    def memory(self, start: torch.Tensor, generator: torch.Generator) -> Parameters:
        del start, generator
        return {"first": torch.ones((), dtype=torch.float64)}

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        x, first = params["x"], params["first"]
        drawn = torch.rand((), dtype=x.dtype, device=x.device)
        happens = drawn < first.clamp(min=self.probability)
        first.zero_()
        return gradient + torch.where(happens, self.strength * torch.randn_like(x), 0.0)


class SparseGradients(DisturbedBowl):
    """Sparse gradients: each coordinate is seen with some probability, else its gradient is 0.

    So are embeddings of rare words (J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods
    for Online Learning and Stochastic Optimization", JMLR 12, 2011). Momentum goes on while nothing
    is seen, and a mean of squares that forgets meanwhile makes the next step long. The expected
    gradient is ``density`` times the true one.

    Args:
        density: Probability of seeing a coordinate; lower is harder.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x), each coordinate with the probability density, else 0"

    def __init__(self, density: float = 0.1, size: int = 8) -> None:
        super().__init__(size)
        self.density = share_within("density", density)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        return gradient * (torch.rand_like(params["x"]) < self.density)


class QuantizedGradients(DisturbedBowl):
    """Quantised gradients: rounded at random to multiples of a spacing, up or down.

    The expected gradient is the true one (stochastic rounding: S. Gupta et al., "Deep Learning with
    Limited Numerical Precision", ICML 2015; D. Alistarh et al., "QSGD", NeurIPS 2017). With a
    spacing above the gradient, nearly every coordinate is 0 and a few are far too large.

    Args:
        spacing: Between two neighbouring values of a coordinate; wider is harder.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x), rounded at random to multiples of the spacing"

    def __init__(self, spacing: float = 1.0, size: int = 8) -> None:
        super().__init__(size)
        self.spacing = number_from("spacing", spacing, 0, beyond=True)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        return (gradient / self.spacing + torch.rand_like(params["x"])).floor() * self.spacing


class DelayedGradients(DisturbedBowl):
    """Delayed gradients: each is that of the point some steps ago, as in asynchronous training.

    Gradient descent on a curvature of 1 is stable below a learning rate of ``2 sin(pi / (4 delay +
    2))`` only (the roots of ``z^(delay+1) - z^delay + lr``), and momentum makes it worse. Source:
    A. Agarwal and J. C. Duchi, "Distributed Delayed Stochastic Optimization", NeurIPS 2011; I.
    Mitliagkas et al., "Asynchrony begets Momentum", 2016. Before the first gradient arrives, it is
    that of the start.

    Args:
        delay: Steps that a gradient is late.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f at the point delay steps ago"

    def __init__(self, delay: int = 4, size: int = 4) -> None:
        super().__init__(size)
        self.delay = whole_from("delay", delay, 1)

    def memory(self, start: torch.Tensor, generator: torch.Generator) -> Parameters:
        del generator
        return {"queue": start.expand(self.delay, *start.shape).clone()}

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        del gradient
        queue = params["queue"]
        late = params["curvatures"] * (queue[0] - params["minimum"])
        queue.copy_(torch.cat([queue[1:], params["x"].detach()[None]]))
        return late


class FlippedGradients(DisturbedBowl):
    """Flipped gradients: some point the other way, as those of a faulty or hostile worker do.

    With probability ``share`` a step's gradient is multiplied by -1. The expected gradient is ``1 -
    2 share`` times the true one. Asks for patience: what goes by the sign of one gradient goes up
    as often as it is flipped. Source: P. Blanchard et al., "Machine Learning with Adversaries:
    Byzantine Tolerant Gradient Descent", NeurIPS 2017.

    Args:
        share: Probability that a step's gradient is flipped, up to 0.5.
        size: ``x`` has as many rows and columns.

    Raises:
        ValueError: If an argument is outside its range.
    """

    disturbance = "∇f(x), or −∇f(x) with the probability share"

    def __init__(self, share: float = 0.2, size: int = 8) -> None:
        super().__init__(size)
        self.share = share_within("share", share, high=0.5)

    def seen(self, gradient: torch.Tensor, params: Parameters) -> torch.Tensor:
        x = params["x"]
        flipped = torch.rand((), dtype=x.dtype, device=x.device) < self.share
        return torch.where(flipped, -gradient, gradient)
