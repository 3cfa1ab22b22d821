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
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.objectives.tensors import tensors_of

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class ModuleObjective(Objective):
    """A module's criterion over the rows of a dataset; subclasses say which module and criterion.

    **Start.** Each trial starts where :meth:`module` initialises its parameters, with torch's
    generator seeded from the trial's. The global generator is left as it was.

    **Parameters.** What requires a gradient is optimised; a parameter that is used in several
    places (tied) is one. Frozen parameters and buffers are constants: they are what
    :meth:`module` gives under a fixed seed, the same for all trials.

    **Buffers.** Each call gets a copy, so what a forward pass writes into a buffer is gone with
    it and no trial sees another's. Nothing learns through buffers.

    **Modes.** :meth:`loss` runs the module in the mode in which :meth:`module` leaves it, which
    is training unless it says otherwise; :meth:`evaluate` runs it in evaluation mode, so without
    dropout.

    **Batch norm.** Layers of batch (or instance) norm in training mode keep no running
    statistics. Training uses the batch's, as always; the recorded loss uses those of all rows,
    which the running ones only estimate. A layer that :meth:`module` leaves in evaluation mode
    keeps its statistics, and uses them in both.

    What draws random numbers in training (dropout) or writes its buffers in place can't run many
    trials side by side, so it runs one at a time. Its random numbers are then torch's, which are
    seeded for each trial.

    A subclass with arguments of its own sets what :meth:`module` needs before it calls
    ``super().__init__(dataset)``.

    Args:
        dataset: Features of shape ``(rows, columns)``, which are the module's input, and labels
            of shape ``(rows,)``: whole numbers stay such, as cross entropy wants them.

    Raises:
        TypeError: If :meth:`module` does not return a module.
        ValueError: If the module has no parameters to optimise, or some without a shape yet.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.data = tensors_of(dataset)
        # Built twice, not copied: copies of modules with hooks or derived weights can fail.
        self._training, self._evaluating = self._build(0), self._build(0).eval()
        name = type(self._training).__name__
        values = dict(self._training.named_parameters())
        everything = values | dict(self._training.named_buffers())
        lazy = [key for key, value in everything.items() if is_lazy(value)]
        if lazy:
            raise ValueError(
                f"module {name} has parameters without a shape ({', '.join(lazy)}); "
                "give its lazy layers their input size"
            )
        self._trained = tuple(key for key, value in values.items() if value.requires_grad)
        if not self._trained:
            why = "all of its parameters are frozen" if values else "it has none"
            raise ValueError(f"module {name} has no parameters to optimise: {why}")
        without_statistics = [
            key
            for key, part in self._training.named_modules()
            if isinstance(part, _NORMS) and part.training and part.track_running_stats
        ]
        for root in (self._training, self._evaluating):
            for key in without_statistics:
                _forget_statistics(root.get_submodule(key))
        buffers = dict(self._training.named_buffers())
        frozen = {key: value for key, value in values.items() if not value.requires_grad}
        self._constants = {k: v.detach().clone() for k, v in (frozen | buffers).items()}
        self._buffers = frozenset(buffers)
        self._placed: dict[tuple[torch.device, torch.dtype], Parameters] = {}
        numbers = sum(values[key].numel() for key in self._trained)
        self.formula = f"{type(self).__name__}: {name} of {numbers:,} parameters"

    @abstractmethod
    def module(self) -> nn.Module:
        """Make the module, with its parameters at the start of a trial."""

    @abstractmethod
    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            output: What the module gives for a batch of features.
            labels: The batch's labels, shape ``(batch size,)``.
        """

    def init(self, generator: torch.Generator) -> Parameters:
        """The module's own initialisation: trained parameters by their names in the module."""
        # As many seeds as torch's CPU generator tells apart.
        seed = int(torch.randint(2**32, (), generator=generator))
        values = dict(self._build(seed).named_parameters())
        return {key: values[key].detach().clone() for key in self._trained}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The criterion in training mode."""
        return self._criterion_of(self._training, params, batch)

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The criterion in evaluation mode."""
        return self._criterion_of(self._evaluating, params, batch)

    def _build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = self.module()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module() must return a torch.nn.Module, got {module!r}")
        return module

    def _criterion_of(self, module: nn.Module, params: Parameters, batch: Batch) -> torch.Tensor:
        features, labels = batch
        values = {**self._constants_for(next(iter(params.values()))), **params}
        try:
            output = torch.func.functional_call(module, values, (features,))
            return self.criterion(output, labels)
        except Exception as error:
            if any(torch._C._functorch.is_batchedtensor(value) for value in params.values()):
                raise RuntimeError(_why_not_side_by_side(module, error)) from error
            raise

    def _constants_for(self, like: torch.Tensor) -> Parameters:
        """Constants on a parameter's device and in its precision; buffers may be written over."""
        place = (like.device, like.dtype)
        if place not in self._placed:  # sent to a device once
            self._placed[place] = {
                key: value.to(like.device, like.dtype if value.is_floating_point() else None)
                for key, value in self._constants.items()
            }
        return {
            key: value.clone() if key in self._buffers else value
            for key, value in self._placed[place].items()
        }


def _forget_statistics(part: nn.Module) -> None:
    """Let a norm use the statistics of what it is given, whatever its mode."""
    without = {"running_mean": None, "running_var": None, "num_batches_tracked": None}
    for name, value in {**without, "track_running_stats": False}.items():
        setattr(part, name, value)


def _why_not_side_by_side(module: nn.Module, error: Exception) -> str:
    """Say what keeps a module's trials from running side by side."""
    name = type(module).__name__
    if "randomness" in str(error):
        drawing = [
            f"{type(part).__name__} ({key!r})"
            for key, part in module.named_modules()
            if isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0
        ]
        what = f"{name}'s {' and '.join(drawing)}" if drawing else f"module {name}"
        return (
            f"{what} draws random numbers in training, and side by side a trial would draw "
            "others than in a run of its own"
        )
    written = ", ".join(key for key, _ in module.named_buffers())
    hint = f" (if it writes its buffers in place, that is why: {written})" if written else ""
    return f"torch.func.vmap can't take module {name}{hint}: {error}"
