"""A network of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from harness.objectives.checks import check_classes, check_probability, check_widths
from harness.objectives.dataset import Dataset
from harness.objectives.module import ModuleObjective

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class ConvolutionalNetwork(ModuleObjective):
    """Convolutional network: classifies signals or images by convolutions and a linear layer.

    Each convolution has a stride of 2 and pads so that the first halves the length, the second
    that, and so on; batch norm (if asked for), the activation and dropout follow it. The loss is
    the mean cross entropy. Strides in place of pooling: J. T. Springenberg et al., "Striving for
    Simplicity: The All Convolutional Net", ICLR Workshop 2015.

    Args:
        dataset: Features of shape ``(rows, channels, length)`` or ``(rows, channels, height,
            width)``; labels of shape ``(rows,)``: whole numbers from 0.
        channels: Output channels of the convolutions, from the first, at least one.
        kernel_size: Width of their kernels, odd.
        activation: What follows each.
        batch_norm: Whether it is normalised before that.
        dropout: Probability with which it is dropped after that.

    Raises:
        ValueError: If an argument is outside its range, or the data are of another kind.
    """

    def __init__(
        self,
        dataset: Dataset,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        activation: Literal["relu", "gelu", "tanh"] = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        check_widths("channels", channels)
        if not (isinstance(kernel_size, int) and kernel_size > 0 and kernel_size % 2):
            raise ValueError(f"kernel_size must be an odd number, got {kernel_size!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be relu, gelu or tanh, got {activation!r}")
        check_probability("dropout", dropout)
        check_classes(dataset)
        if dataset.features.ndim not in (3, 4):
            raise ValueError(
                "features must be signals (rows, channels, length) or images (rows, channels, "
                f"height, width), got shape {dataset.features.shape}"
            )
        self.channels = tuple(channels)
        self.kernel_size = kernel_size
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        super().__init__(dataset)

    def module(self) -> nn.Module:
        """The convolutions, and the linear layer on all that they give."""
        assert self.data is not None
        inputs, *size = self.data[0].shape[1:]
        flat = len(size) == 1
        convolution: Any = nn.Conv1d if flat else nn.Conv2d
        norm: Any = nn.BatchNorm1d if flat else nn.BatchNorm2d
        layers: list[nn.Module] = []
        for outputs in self.channels:
            padding = self.kernel_size // 2
            layers.append(convolution(inputs, outputs, self.kernel_size, 2, padding))
            layers += [norm(outputs)] if self.batch_norm else []
            layers.append(ACTIVATIONS[self.activation]())
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            inputs, size = outputs, [(length + 1) // 2 for length in size]
        for length in size:
            inputs *= length
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, self.classes or 0))

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross entropy."""
        return nn.functional.cross_entropy(output, labels)
