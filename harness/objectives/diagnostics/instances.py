"""What a seed draws of a task: shifts and rotations, in double precision."""

from __future__ import annotations

import torch


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """N(0, 1) numbers of a shape, float64, whatever the run's precision."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_rotation(generator: torch.Generator, dimension: int) -> torch.Tensor:
    """A random orthogonal matrix, uniform (Haar): shape ``(dimension, dimension)``, float64.

    Source: F. Mezzadri, "How to Generate Random Matrices from the Classical Compact Groups",
    Notices of the AMS 54(5), 2007: the QR decomposition of a normal matrix, with the signs of the
    diagonal of R moved into Q.
    """
    q, r = torch.linalg.qr(normal(generator, dimension, dimension))
    turned: torch.Tensor = q * r.diagonal().sign()
    return turned
