"""Time left goes by what trials cost, not by how many there are."""

from __future__ import annotations

import math

import pytest

from harness.commands.time_left import TimeLeft


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def begun(left: TimeLeft, clock: Clock) -> None:
    """Let time pass until the first trial ends, from which on time counts."""
    left.expect("first", 1, 3.0)
    clock.now += 77
    assert math.isnan(left.seconds())
    left.note_done(["first"])
    assert math.isnan(left.seconds())


def test_dear_trials_at_the_end_are_seen_from_the_start() -> None:
    clock = Clock()
    left = TimeLeft(1011, clock)
    left.expect("cheap", 1000, 0.01)
    left.expect("dear", 10, 10.0)
    begun(left, clock)
    clock.now += 5
    left.note_done(["cheap"] * 500)
    # In 5 s 5 s' worth was done; half of the trials, but 105 s are left.
    assert left.seconds() == pytest.approx(105)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_wrong_estimates_are_made_good_by_what_was_seen(factor: float) -> None:
    clock = Clock()
    left = TimeLeft(101, clock)
    left.expect("a", 60, 1.0 * factor)
    left.expect("b", 40, 2.0 * factor)
    begun(left, clock)
    clock.now += 15  # two workers
    for _ in range(30):
        left.note_done(["a"])
    assert left.seconds() == pytest.approx((30 * 1 + 40 * 2) / 2)


def test_trials_without_an_estimate_count_as_the_mean_of_the_others() -> None:
    clock = Clock()
    left = TimeLeft(31, clock)
    left.expect("a", 20, 1.0)
    begun(left, clock)
    clock.now += 10
    left.note_done(["a"] * 10)
    assert left.seconds() == pytest.approx(20)


def test_an_estimate_may_change() -> None:
    clock = Clock()
    left = TimeLeft(21, clock)
    left.expect("a", 10, 1.0)
    left.expect("b", 10, 1.0)
    begun(left, clock)
    clock.now += 10
    left.note_done(["a"] * 10)
    left.expect("b", 10, 5.0)  # they turned out to run alone
    assert left.seconds() == pytest.approx(50)


def test_at_the_end_nothing_is_left() -> None:
    clock = Clock()
    left = TimeLeft(4, clock)
    left.expect("a", 2, 1.0)
    begun(left, clock)
    clock.now += 1
    left.note_done(["a", "a", "lost before it had an estimate"])
    assert left.seconds() == pytest.approx(0)
