"""Any ``torch.nn.Module`` as an objective.

In a suite's ``objectives/small_net.py``, say::

    from torch import nn

    from harness.objectives.module import ModuleObjective


    class SmallNet(ModuleObjective):
        def module(self):
            return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))

        def criterion(self, output, labels):
            return nn.functional.mse_loss(output.squeeze(-1), labels)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.objectives.metrics import accuracy, class_dimension
from harness.objectives.stateless import Stateless
from harness.objectives.tensors import tensors_of

PROBE_ROWS = 16
"""Rows that a module is tried on, to see which of its buffers it writes."""


class ModuleObjective(Objective):
    """A module's criterion over the rows of a dataset; subclasses say which module and criterion.

    **Start.** Each trial starts where :meth:`module` initialises its parameters, with torch's
    generator seeded from the trial's. The global generator is left as it was.

    **Parameters.** What requires a gradient is optimised; a parameter that is used in several
    places (tied) is one. Frozen parameters stay as :meth:`module` gives them.

    **Buffers.** What a forward pass in training writes into a buffer, such as running statistics,
    is kept by each trial on its own, as a plain loop keeps it. Nothing is learnt through buffers.
    Those that it leaves alone, and frozen parameters, are the same for all trials, unless
    :meth:`module` draws them.

    **Modes.** :meth:`loss` runs the module in the mode in which :meth:`module` leaves it, which
    is training unless it says otherwise; :meth:`evaluate` and :meth:`measure` run it in
    evaluation mode, as ``model.eval()`` does: without dropout, batch norm with its running
    statistics. What it writes into buffers then is dropped.

    **Batch norm.** As in any loop, training normalises by the batch, and evaluation by running
    statistics. With ``track_running_stats=False``, evaluation normalises by the rows that it is
    given, which are all of a part.

    A subclass with arguments of its own sets what :meth:`module` needs before it calls
    ``super().__init__(dataset)``; :meth:`module` may look at ``self.data`` and ``self.classes``.

    Args:
        dataset: Features of any shape, rows first, which are the module's input (whole numbers
            are tokens), and labels: whole numbers stay such, as cross entropy wants them.

    Attributes:
        classes: Number of classes of the dataset, or None.

    Raises:
        TypeError: If :meth:`module` does not return a module.
        ValueError: If the module has no parameters to optimise, or some without a shape yet.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.data = tensors_of(dataset)
        self.classes = dataset.classes
        # Built twice, not copied: copies of modules with hooks or derived weights can fail.
        training, evaluating = self._build(0), self._build(1).eval()
        self._name = type(training).__name__
        values = dict(training.named_parameters())
        buffers = dict(training.named_buffers())
        self._check_parameters(values, buffers)
        self._trained = tuple(key for key, value in values.items() if value.requires_grad)
        frozen = {key: value for key, value in values.items() if not value.requires_grad}
        self._constants = {k: v.detach().clone() for k, v in (frozen | buffers).items()}
        self._buffers = frozenset(buffers)
        self._placed: dict[tuple[torch.device, torch.dtype], Parameters] = {}
        self._training, self._evaluating = Stateless(training), Stateless(evaluating)
        drawn = dict(evaluating.named_parameters()) | dict(evaluating.named_buffers())
        own = {k for k, v in self._constants.items() if not torch.equal(v, drawn[k])}
        own |= self._written({key: values[key].detach() for key in self._trained})
        self._kept = tuple(key for key in self._constants if key in own)
        self._left_alone = tuple(key for key in buffers if key not in own)
        numbers = sum(values[key].numel() for key in self._trained)
        self.formula = f"{type(self).__name__}: {self._name} of {numbers:,} parameters"

    @abstractmethod
    def module(self) -> nn.Module:
        """Make the module, with its parameters at the start of a trial."""

    @abstractmethod
    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            output: What the module gives for a batch of features.
            labels: The batch's labels, shape ``(batch size, ...)``.
        """

    def metrics(self, output: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is told beside the criterion; unless overridden, the ``accuracy`` of classes.

        Args:
            output: What the module gives in evaluation mode for all rows of a part.
            labels: Their labels. The accuracy is told where they are whole numbers and the output
                has a number per class, in its last dimension or in its second.

        Returns:
            Scalars by name.
        """
        if not isinstance(output, torch.Tensor):
            return {}
        dimension = class_dimension(output, labels, self.classes)
        return {} if dimension is None else {"accuracy": accuracy(output, labels, dimension)}

    def init(self, generator: torch.Generator) -> Parameters:
        """The module's own initialisation: trained parameters by their names in the module."""
        values = dict(self._build(_seed(generator)).named_parameters())
        return {key: values[key].detach().clone() for key in self._trained}

    def state(self, generator: torch.Generator) -> Parameters:
        """What each trial has of its own and does not train, as :meth:`module` makes it.

        Given a generator in the state in which :meth:`init` was given one, it goes with those
        parameters.
        """
        if not self._kept:
            return {}
        module = self._build(_seed(generator))
        values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return {key: values[key].detach().clone() for key in self._kept}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The criterion in training mode."""
        features, labels = batch
        values = {**self._constants_for(params[self._trained[0]]), **params}
        for key in self._kept:
            if key not in params:
                values[key] = values[key].clone()
        before = [values[key]._version for key in self._left_alone]
        try:
            output, after = self._training(values, features)
            loss = self.criterion(output, labels)
        except (RuntimeError, NotImplementedError) as error:
            if any(map(_is_lane, params.values())):
                raise RuntimeError(self._why_not_side_by_side(error)) from error
            raise
        for key, version in zip(self._left_alone, before, strict=True):
            if after[key] is not values[key] or values[key]._version != version:
                self._placed.clear()
                raise RuntimeError(
                    f"module {self._name} writes its buffer {key!r} in some steps and left it "
                    "alone when it was tried; let every forward pass in training write it"
                )
        for key in self._buffers.intersection(self._kept):
            if after[key] is not values[key]:  # not written in place, but replaced
                with torch.no_grad():
                    values[key].copy_(after[key])
        return loss

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The criterion in evaluation mode."""
        return self.criterion(self._evaluated(params, batch), batch[1])

    def measure(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """The criterion in evaluation mode as ``loss``, and :meth:`metrics`, of one pass."""
        output, labels = self._evaluated(params, batch), batch[1]
        found = {"loss": self.criterion(output, labels)}
        return {**found, **self.metrics(output, labels), **found}

    def _build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = self.module()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module() must return a torch.nn.Module, got {module!r}")
        return module

    def _check_parameters(
        self, values: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]
    ) -> None:
        """Refuse a module that can't be trained."""
        lazy = [key for key, value in {**values, **buffers}.items() if is_lazy(value)]
        if lazy:
            raise ValueError(
                f"module {self._name} has parameters without a shape ({', '.join(lazy)}); "
                "give its lazy layers their input size"
            )
        if not any(value.requires_grad for value in values.values()):
            why = "all of its parameters are frozen" if values else "it has none"
            raise ValueError(f"module {self._name} has no parameters to optimise: {why}")

    def _written(self, trained: Parameters) -> set[str]:
        """The buffers that a forward pass in training writes."""
        assert self.data is not None
        dtype = torch.get_default_dtype()
        values = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in (self._constants | trained).items()
        }
        features = self.data[0][:PROBE_ROWS].clone()
        if features.is_floating_point():
            features = features.to(dtype)
        return self._training.writes(values, features)

    def _evaluated(self, params: Parameters, batch: Batch) -> Any:
        """What the module gives in evaluation mode; what it writes into buffers is dropped."""
        values = {**self._constants_for(params[self._trained[0]]), **params}
        for key in self._buffers:
            values[key] = values[key].clone()
        # Its kernels for whole layers, which are for evaluation alone, can't take many trials.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            output, _ = self._evaluating(values, batch[0])
        except (RuntimeError, NotImplementedError) as error:
            if any(map(_is_lane, params.values())):
                raise RuntimeError(self._why_not_side_by_side(error)) from error
            raise
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return output

    def _constants_for(self, like: torch.Tensor) -> Parameters:
        """Frozen parameters and buffers on a parameter's device and in its precision."""
        place = (like.device, like.dtype)
        if place not in self._placed:  # sent to a device once
            self._placed[place] = {
                key: value.to(
                    like.device, like.dtype if value.is_floating_point() else None, copy=True
                )
                for key, value in self._constants.items()
            }
        return self._placed[place]

    def _why_not_side_by_side(self, error: Exception) -> str:
        """Say what keeps the module's trials from running side by side."""
        module = self._training.module
        if "randomness" in str(error):
            drawing = [
                f"{type(part).__name__} ({key!r})"
                for key, part in module.named_modules()
                if isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0
            ]
            named = f"{self._name}'s {' and '.join(drawing)}"
            what = named if drawing else f"module {self._name}"
            return (
                f"{what} draws random numbers in training, and side by side a trial would draw "
                "others than in a run of its own"
            )
        written = ", ".join(self._kept)
        hint = f" (if it writes its buffers in place, that is why: {written})" if written else ""
        return f"torch.func.vmap can't take module {self._name}{hint}: {error}"


def _seed(generator: torch.Generator) -> int:
    """Draw one of as many seeds as torch's CPU generator tells apart."""
    return int(torch.randint(2**32, (), generator=generator))


def _is_lane(value: torch.Tensor) -> bool:
    found: bool = torch._C._functorch.is_batchedtensor(value)
    return found
