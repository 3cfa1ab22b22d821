"""Diagnostic tasks of the family learning: recurrent networks that read sequences of bits."""

from __future__ import annotations

from abc import abstractmethod

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import whole_from
from harness.objectives.diagnostics.networks import drawn_layer, logistic_loss, share_right


class SequenceTask(Objective):
    """A class of each sequence, told by a recurrent network after its last element.

    ``h = tanh(recurrent h + input x + bias)`` from ``h = 0``, and the logit is
    ``output h + output_bias`` (J. L. Elman, "Finding Structure in Time", Cognitive Science 14,
    1990). Every step draws new sequences from the trial's own random numbers. What is recorded is
    of :attr:`JUDGED` sequences, which differ by seed.
    """

    JUDGED = 64

    inputs: int
    length: int
    hidden: int
    batch: int

    @abstractmethod
    def encoded(self, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences and their classes.

        Args:
            drawn: Uniform on [0, 1), shape ``(rows, length + 2)``.

        Returns:
            Shape ``(rows, length, inputs)``, and -1 or 1, ``(rows,)``.
        """

    def init(self, generator: torch.Generator) -> Parameters:
        """Weights uniform within ±1/sqrt(units), as ``torch.nn.RNN`` draws them; biases 0."""
        self.state(generator)  # so that the start has other random numbers than the sequences
        drawn = drawn_layer(generator, self.hidden + self.inputs + 1, self.hidden)
        return {
            "recurrent": drawn[: self.hidden].clone(),
            "input": drawn[self.hidden : -1].T.clone(),
            "bias": torch.zeros(self.hidden),
            "output": drawn[-1:].clone(),
            "output_bias": torch.zeros(1),
        }

    def state(self, generator: torch.Generator) -> Parameters:
        """``judged``: what the sequences are made of that records are of."""
        return {"judged": torch.rand(self.JUDGED, self.length + 2, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Mean logistic loss over new sequences."""
        del batch
        like = params["judged"]
        size = (self.batch, self.length + 2)
        return self._loss_of(params, torch.rand(size, dtype=like.dtype, device=like.device))

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Mean logistic loss over the seed's sequences."""
        del batch
        return self._loss_of(params, params["judged"])

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``accuracy``, over the seed's sequences."""
        del batch
        sequences, signs = self.encoded(params["judged"])
        logits = self.logits(params, sequences)
        return {"loss": logistic_loss(logits, signs), "accuracy": share_right(logits, signs)}

    def logits(self, params: Parameters, sequences: torch.Tensor) -> torch.Tensor:
        """What the network says after the last element, shape ``(rows,)``."""
        seen = sequences @ params["input"].T + params["bias"]
        first, *others = seen.unbind(dim=1)
        hidden = torch.tanh(first)
        for one in others:
            hidden = torch.tanh(hidden @ params["recurrent"].T + one)
        return (hidden @ params["output"].T + params["output_bias"])[:, 0]

    def _loss_of(self, params: Parameters, drawn: torch.Tensor) -> torch.Tensor:
        sequences, signs = self.encoded(drawn)
        return logistic_loss(self.logits(params, sequences), signs)


class SequenceParity(SequenceTask):
    """Parity of a sequence by a recurrent network: is the number of ones odd?

    The class is told at the end alone. A state of two values is all that must be kept, but it
    must flip at every 1: a solution is far from a start at which the state fades.

    Asks for descent through vanishing and exploding gradients, and over a plateau that is longer
    the longer the sequence.

    Source: Y. Bengio, P. Simard and P. Frasconi, "Learning Long-Term Dependencies with Gradient
    Descent is Difficult", IEEE Transactions on Neural Networks 5, 1994; S. Hochreiter and
    J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9, 1997.

    Start: weights uniform within ±1/sqrt(units), biases 0. Start and sequences differ by seed.

    Args:
        length: Of the sequences.
        hidden: Units of the network.
        batch: Sequences of a step.
    """

    inputs = 1

    def __init__(self, length: int = 4, hidden: int = 16, batch: int = 32) -> None:
        self.length = whole_from("length", length, 1)
        self.hidden = whole_from("hidden", hidden, 1)
        self.batch = whole_from("batch", batch, 1)
        self.formula = f"parity of {length} bits, one after the other, by a recurrent network"

    def encoded(self, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bits as -1 and 1, and their product."""
        bits = (drawn[:, : self.length] >= 0.5).to(drawn.dtype) * 2 - 1
        return bits[:, :, None], bits.prod(dim=1)


class MarkedSpots(SequenceTask):
    """Exclusive or of the two bits of a sequence that are marked, by a recurrent network.

    Each element is a bit (-1 or 1) and a mark (0 or 1); two elements are marked, in places drawn
    at random. All other bits must be ignored, and the first marked one kept.

    Asks for descent through vanishing gradients, on which a signal of two elements is hidden.

    Source: S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9, 1997
    (with sums and products in the place of exclusive or); J. Martens and I. Sutskever, "Learning
    Recurrent Neural Networks with Hessian-Free Optimization", ICML 2011; for preconditioners
    X.-L. Li, "Preconditioned Stochastic Gradient Descent", IEEE Transactions on Neural Networks and
    Learning Systems 29, 2018.

    Start: weights uniform within ±1/sqrt(units), biases 0. Start and sequences differ by seed.

    Args:
        length: Of the sequences, at least 2.
        hidden: Units of the network.
        batch: Sequences of a step.
    """

    inputs = 2

    def __init__(self, length: int = 4, hidden: int = 16, batch: int = 32) -> None:
        self.length = whole_from("length", length, 2)
        self.hidden = whole_from("hidden", hidden, 1)
        self.batch = whole_from("batch", batch, 1)
        self.formula = f"exclusive or of two marked of {length} bits, by a recurrent network"

    def encoded(self, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bits beside their marks, and the product of the marked two, negated."""
        bits = (drawn[:, : self.length] >= 0.5).to(drawn.dtype) * 2 - 1
        first = (drawn[:, self.length] * self.length).floor()
        further = 1 + (drawn[:, self.length + 1] * (self.length - 1)).floor()
        second = (first + further) % self.length
        places = torch.arange(self.length, device=drawn.device, dtype=drawn.dtype)
        marks = (places == first[:, None]) | (places == second[:, None])
        signs = -torch.where(marks, bits, 1.0).prod(dim=1)
        return torch.stack([bits, marks.to(drawn.dtype)], dim=2), signs
