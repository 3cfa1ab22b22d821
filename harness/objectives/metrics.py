"""What is told of a model beside its loss: accuracy of classes, R² of numbers."""

from __future__ import annotations

import torch

from harness.objectives.dataset import IGNORED_LABEL


def class_dimension(output: torch.Tensor, labels: torch.Tensor, classes: int | None) -> int | None:
    """The dimension of an output that has a number per class.

    The last one, of shape ``(*labels.shape, classes)``; or the second, of shape ``(rows, classes,
    *labels.shape[1:])``, as ``torch.nn.functional.cross_entropy`` takes it.

    Args:
        output: What a model gives.
        labels: Shape ``(rows,)`` or ``(rows, ...)``.
        classes: How many there are, if that is known; the dimension may have more.

    Returns:
        The dimension, or None where there is none, or either could be it.
    """
    if labels.is_floating_point() or output.dim() != labels.dim() + 1:
        return None
    fewest = max(2, classes or 2)
    last, second = output.dim() - 1, 1
    found = {
        dimension
        for dimension in (last, second)
        if output.shape[dimension] >= fewest
        and (*output.shape[:dimension], *output.shape[dimension + 1 :]) == tuple(labels.shape)
    }
    return found.pop() if len(found) == 1 else None


def accuracy(output: torch.Tensor, labels: torch.Tensor, dimension: int = -1) -> torch.Tensor:
    """The share of labels whose class has the largest output; a scalar.

    Labels of -100 count neither way, as in ``torch.nn.functional.cross_entropy``.

    Args:
        output: A number per class, along one of its dimensions.
        labels: The classes: the output's shape without that dimension.
        dimension: Which.
    """
    known = labels != IGNORED_LABEL
    right = (output.argmax(dimension) == labels) & known
    return right.sum().to(output.dtype) / known.sum()


def r2(prediction: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The coefficient of determination, ``1 - sum((y - p)^2) / sum((y - mean(y))^2)``; a scalar.

    1 where all is predicted, 0 where nothing is beyond the labels' mean. Labels that are all the
    same give 1 or 0, as scikit-learn's ``r2_score`` does.

    Args:
        prediction: Shape ``(rows,)`` or ``(rows, ...)``.
        labels: Of the same shape; the mean is over all their numbers.
    """
    left = (labels - prediction).square().sum()
    spread = (labels - labels.mean()).square().sum()
    varies = labels.amax() > labels.amin()
    explained = 1 - left / torch.where(varies, spread, 1.0)
    return torch.where(varies, explained, (left == 0).to(left.dtype))
