"""Fails where a part of this suite is broken: `python -m pytest` runs it."""

from __future__ import annotations

from pathlib import Path

import torch

import harness

SUITE = Path(__file__).resolve().parent.parent


def test_every_part_is_sound() -> None:
    assert [str(finding) for finding in harness.test_suite(SUITE).wrong] == []


def test_signum_moves_every_element_by_the_learning_rate() -> None:
    signum = harness.load_optimizer("Signum", SUITE)
    x = torch.tensor([3.0, -0.5, 0.0], requires_grad=True)
    optimizer = signum([x], lr=0.125)
    x.square().sum().backward()
    optimizer.step()
    assert x.tolist() == [2.875, -0.375, 0.0]
