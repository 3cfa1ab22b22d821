"""Modules that are called with the tensors that they are to use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness.objectives.base import Parameters

_RUNNING = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Stateless:
    """A module whose parameters and buffers are arguments.

    As ``torch.func.functional_call``, but it looks for the places of tensors once, not in every
    call, which takes as long as the forward pass of a small network.

    Args:
        module: Which; whoever has it must leave it alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        names: dict[int, str] = {}
        for found in (module.named_parameters(), module.named_buffers()):
            names |= {id(tensor): name for name, tensor in found}
        slots = [
            (owner, key, names[id(tensor)], tensor)
            for part in module.modules()
            for owner in (part._parameters, part._buffers)
            for key, tensor in owner.items()
            if tensor is not None
        ]
        self._slots: list[tuple[dict[str, Any], str, str, Any]] = slots
        buffers = {name for name, _ in module.named_buffers()}
        self._buffers = [(owner, key, name) for owner, key, name, _ in slots if name in buffers]

    def __call__(self, values: Parameters, features: torch.Tensor) -> tuple[Any, Parameters]:
        """Run the module.

        Args:
            values: Parameters and buffers by name. Tied ones have the name that
                ``named_parameters`` gives.
            features: Its input.

        Returns:
            What the module gives, and its buffers as they are then: the tensors of ``values``,
            unless the module has put others in their place.
        """
        for owner, key, name, _ in self._slots:
            owner[key] = values[name]
        try:
            output = self.module(features)
            after: Parameters = {}
            for owner, key, name in self._buffers:
                now = owner[key]
                if now is not None and (name not in after or now is not values[name]):
                    after[name] = now
            return output, after
        finally:
            for owner, key, _, original in self._slots:
                owner[key] = original

    def writes(self, values: Parameters, features: torch.Tensor) -> set[str]:
        """The buffers that a call writes; all of them if it can't be told.

        Args:
            values: As for a call; left as they are.
            features: Some rows.
        """
        names = {name for _, _, name in self._buffers}
        if not names:
            return set()
        own = {name: value.clone() for name, value in values.items()}
        versions = {name: own[name]._version for name in names}
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                _, after = self(own, features)
        except Exception:
            return names  # a trial will tell what is wrong
        return self._running() | {
            name
            for name in names
            if after[name] is not own[name]
            or own[name]._version != versions[name]
            or not _is_same(own[name], values[name])
        }

    def _running(self) -> set[str]:
        """Running statistics that training updates, which some rows may happen to leave as is."""
        owners = [
            part._buffers
            for part in self.module.modules()
            if isinstance(part, _RUNNING) and part.training and part.track_running_stats
        ]
        return {name for owner, _, name in self._buffers if any(owner is own for own in owners)}


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
