"""Search spaces: what a place of a range means, and how evenly settings are drawn from it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from harness.formatting import as_text
from harness.spec import search_space
from harness.spec.model import SpaceSpec
from harness.spec.search_space import DIGITS, draw, ends, grid, place, value
from harness.spec.yaml_source import parse

UNITS = st.floats(0, 1)
REAL = ("uniform", "log_uniform", "one_minus_log_uniform")
ROUNDING = 0.5 * 10.0 ** (1 - DIGITS)
"""By how much rounding may change a value, as a share of it."""


def space(**given: Any) -> SpaceSpec:
    return SpaceSpec.model_validate(given)


@st.composite
def reals(draws: st.DrawFn, kinds: tuple[str, ...] = REAL) -> SpaceSpec:
    """A range of real numbers, with ends of three digits as a person writes them."""
    kind = draws(st.sampled_from(kinds))
    digits = st.integers(1 if kind == "log_uniform" else -999, 999)
    if kind == "one_minus_log_uniform":  # 0.9, 0.99, ... up to 0.99999
        numbers = st.builds(lambda n, e: float(f"{1 - n * 10.0**-e:.6g}"), digits, st.just(3))
        near = st.builds(lambda n, e: round(1 - n * 10.0**-e, 6), st.integers(1, 9), st.just(5))
        pair = draws(st.tuples(numbers.filter(lambda x: x < 0.99), near))
    else:
        numbers = st.builds(lambda n, e: float(f"{n}e{e}"), digits, st.integers(-4, -1))
        pair = draws(st.tuples(numbers, numbers).filter(lambda p: p[0] != p[1]))
    return space(**{kind: sorted(pair)})


@st.composite
def whole(draws: st.DrawFn, lowest: int = 0) -> SpaceSpec:
    """A range of whole numbers."""
    low = draws(st.integers(lowest, 1000))
    return space(integer=[low, low + draws(st.integers(1, 50))])


RANGES = reals() | whole()
CHOICES = st.lists(
    st.integers(-5, 5) | st.booleans() | st.text("abc", min_size=1), min_size=2, unique_by=str
).filter(lambda c: len({str(float(x)) if not isinstance(x, str) else x for x in c}) == len(c))


def allowed(where: SpaceSpec, number: float, rounding: float = ROUNDING) -> float:
    """How far a number's place in a range of reals may be moved by rounding the number."""
    low, high = ends(where)
    if where.uniform is not None:
        return rounding * max(abs(low), abs(high)) / (high - low) + 1e-12
    if where.log_uniform is not None:
        return 1.01 * rounding / math.log(high / low) + 1e-12
    return 1.01 * (rounding + 1e-15 / (1 - number)) / math.log((1 - low) / (1 - high)) + 1e-12


@given(RANGES, UNITS)
def test_a_value_lies_in_its_range(where: SpaceSpec, unit: float) -> None:
    low, high = ends(where)
    assert low <= value(where, unit) <= high


@pytest.mark.parametrize(
    "where",
    [
        space(uniform=[0.12345649, 0.2345678]),
        space(uniform=[0, 0.9999999]),
        space(log_uniform=[1.2345674e-3, 0.99999999]),
        space(one_minus_log_uniform=[0.0123454, 0.9]),
        space(one_minus_log_uniform=[0.9, 0.9999999999999999]),
    ],
    ids=search_space.shown,
)
def test_ends_of_more_digits_than_are_kept_are_not_passed(where: SpaceSpec) -> None:
    # A constructor may refuse what lies beyond: a momentum of 1, say.
    low, high = ends(where)
    values = [value(where, unit) for unit in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0)]
    assert low <= min(values)
    assert max(values) <= high


@given(RANGES)
def test_both_ends_of_a_range_are_reached(where: SpaceSpec) -> None:
    assert (value(where, 0.0), value(where, 1.0)) == ends(where)
    assert (place(where, ends(where)[0]), place(where, ends(where)[1])) == pytest.approx((0, 1))


@given(RANGES, UNITS, UNITS)
def test_a_value_grows_with_its_place(where: SpaceSpec, one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    assert value(where, lower) <= value(where, higher)


@given(reals(), UNITS)
def test_the_place_of_a_value_is_where_it_was_taken_from(where: SpaceSpec, unit: float) -> None:
    number = value(where, unit)
    assert place(where, number) == pytest.approx(unit, abs=allowed(where, number))
    # And it leads back to that value, to its last digit.
    again = value(where, min(1.0, max(0.0, place(where, number))))
    one_less = where.one_minus_log_uniform is not None
    near, number = (1 - again, 1 - number) if one_less else (again, number)
    assert near == pytest.approx(number, rel=2 * ROUNDING, abs=1e-14)


@given(whole(lowest=-1000))
def test_the_place_of_a_whole_number_is_in_its_share(where: SpaceSpec) -> None:
    assert where.integer is not None
    low, high = where.integer
    if low < 0:  # shares of negative ones have a test of their own
        low, high = low + 1000, high + 1000
        where = space(integer=[low, high])
    assert [value(where, place(where, n)) for n in range(low, high + 1)] == [*range(low, high + 1)]


@given(reals(("uniform",)), UNITS)
def test_uniform_is_linear(where: SpaceSpec, unit: float) -> None:
    low, high = ends(where)
    expected = np.interp(unit, [0, 1], [low, high])
    assert value(where, unit) == pytest.approx(expected, rel=ROUNDING, abs=1e-12)


@given(reals(("log_uniform",)), UNITS)
def test_log_uniform_is_a_power_of_the_ends(where: SpaceSpec, unit: float) -> None:
    low, high = ends(where)
    expected = low ** (1 - unit) * high**unit
    assert value(where, unit) == pytest.approx(expected, rel=1.01 * ROUNDING)


@given(reals(("one_minus_log_uniform",)), UNITS)
def test_of_one_minus_log_uniform_the_distance_from_1_is_log_uniform(
    where: SpaceSpec, unit: float
) -> None:
    low, high = ends(where)
    expected = (1 - low) ** (1 - unit) * (1 - high) ** unit
    assert 1 - value(where, unit) == pytest.approx(expected, rel=1.01 * ROUNDING, abs=2e-15)


def test_quantiles_of_many_draws_are_those_that_each_kind_promises() -> None:
    spaces = {
        "lr": space(log_uniform=[1e-5, 10]),
        "momentum": space(one_minus_log_uniform=[0, 0.999]),
        "decay": space(uniform=[-2, 6]),
    }
    drawn = draw(spaces, 5000, 3)
    values = {name: np.array([setting[name] for setting in drawn]) for name in spaces}
    at = [0.1, 0.25, 0.5, 0.75, 0.9]
    # Quantiles by hand: 6 decades from 1e-5; 3 decades from 1 down to 0.001; 8 from -2.
    assert np.quantile(values["lr"], at) == pytest.approx(
        [10 ** (-5 + 6 * q) for q in at], rel=0.02
    )
    assert np.quantile(1 - values["momentum"], at) == pytest.approx(
        [10 ** (-3 + 3 * q) for q in at], rel=0.02
    )
    assert np.quantile(values["decay"], at) == pytest.approx([-2 + 8 * q for q in at], abs=0.02)


def shares(where: SpaceSpec, count: int) -> Counter[Any]:
    """How often each value comes at evenly spaced places, each of ``count`` equally often."""
    places = (np.arange(20 * count) + 0.5) / (20 * count)
    return Counter(value(where, float(unit)) for unit in places)


@pytest.mark.parametrize("pair", [(0, 1), (0, 6), (1, 3), (5, 20), (-3, 3), (-7, -2), (-1, 0)])
def test_every_whole_number_of_a_range_has_an_equal_share(pair: tuple[int, int]) -> None:
    low, high = pair
    count = high - low + 1
    found = shares(space(integer=[low, high]), count)
    assert found == dict.fromkeys(range(low, high + 1), 20)
    assert {type(number) for number in found} == {int}


@pytest.mark.parametrize(
    "choices", [["a", "b"], [1, 2, 3], [True, False], [0.1, None, "x", [0.9, 0.99], -1]]
)
def test_every_choice_has_an_equal_share(choices: list[Any]) -> None:
    where = space(choice=choices)
    places = (np.arange(20 * len(choices)) + 0.5) / (20 * len(choices))
    found = Counter(str(value(where, float(unit))) for unit in places)
    assert found == dict.fromkeys(map(str, choices), 20)


@given(CHOICES, UNITS)
def test_a_choice_gives_what_was_listed_first_to_last(choices: list[Any], unit: float) -> None:
    where = space(choice=choices)
    chosen = value(where, unit)
    assert any(chosen is c or (chosen == c and type(chosen) is type(c)) for c in choices)
    assert (value(where, 0.0), value(where, 1.0)) == (choices[0], choices[-1])


@given(reals(), st.integers(2, 40))
def test_a_grid_goes_from_end_to_end_in_even_steps(where: SpaceSpec, points: int) -> None:
    values = grid(where, points)
    assert (values[0], values[-1]) == ends(where)
    assert values == sorted(set(values))
    assert len(values) <= points
    tolerance = max(allowed(where, number) for number in values)
    if len(values) == points:
        places = [place(where, number) for number in values]
        assert places == pytest.approx(np.arange(points) / (points - 1), abs=tolerance)
    else:  # so many that rounding makes some of them one
        assert 1 / (points - 1) < 2 * tolerance


@given(whole(), st.integers(2, 80))
@example(space(integer=[0, 37]), 39)
def test_a_grid_of_whole_numbers_has_each_once_and_both_ends(where: SpaceSpec, points: int) -> None:
    assert where.integer is not None
    low, high = where.integer
    values = grid(where, points)
    assert (values[0], values[-1]) == (low, high)
    assert values == sorted(set(values))
    assert set(values) <= set(range(low, high + 1))
    assert len(values) == min(points, high - low + 1)


@given(CHOICES, st.integers(2, 20))
def test_a_grid_of_a_choice_has_all_of_it(choices: list[Any], points: int) -> None:
    assert grid(space(choice=choices), points) == choices


SPACES = {
    "lr": space(log_uniform=[1e-4, 1]),
    "momentum": space(one_minus_log_uniform=[0.5, 0.999]),
    "decay": space(uniform=[0, 0.1]),
    "depth": space(integer=[1, 9]),
    "kind": space(choice=["a", "b", "c"]),
}


@given(st.integers(1, 64), st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_the_same_seed_draws_the_same_and_another_draws_others(count: int, seed: int) -> None:
    drawn = draw(SPACES, count, seed)
    assert drawn == draw(SPACES, count, seed)
    assert len(drawn) == count
    assert all(list(setting) == list(SPACES) for setting in drawn)
    other = draw(SPACES, count, (seed + 1) % 2**31)
    assert not any(a["lr"] == b["lr"] for a, b in zip(drawn, other, strict=True))


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 1000))
@settings(max_examples=30)
def test_a_larger_budget_begins_with_the_settings_of_a_smaller_one(
    count: int, more: int, seed: int
) -> None:
    assert draw(SPACES, count + more, seed)[:count] == draw(SPACES, count, seed)


def test_what_is_searched_first_is_drawn_alike_whatever_comes_after_it() -> None:
    rates = [[setting["lr"] for setting in draw(spaces, 20, 0)] for spaces in _longer(SPACES)]
    assert rates == [rates[0]] * len(SPACES)


def _longer(spaces: dict[str, SpaceSpec]) -> list[dict[str, SpaceSpec]]:
    items = list(spaces.items())
    return [dict(items[: i + 1]) for i in range(len(items))]


def units(dimension: int, count: int, seed: int) -> np.ndarray[Any, Any]:
    """The points of the unit cube that settings are drawn at."""
    spaces = {f"x{i}": space(uniform=[0, 1]) for i in range(dimension)}
    return np.array([list(setting.values()) for setting in draw(spaces, count, seed)])


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [10, 50, 100])
def test_draws_fill_the_space_much_more_evenly_than_independent_ones(
    dimension: int, count: int
) -> None:
    generator = np.random.default_rng(0)
    independent = [qmc.discrepancy(generator.random((count, dimension))) for _ in range(40)]
    drawn = [qmc.discrepancy(units(dimension, count, seed)) for seed in range(40)]
    assert np.median(drawn) < 0.5 * np.median(independent)
    assert np.mean(np.array(drawn) < np.median(independent)) >= 0.95


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_each_hyperparameter_alone_has_one_value_in_every_stratum(seed: int) -> None:
    # Of Halton's sequence, n points of the i-th coordinate fall into n equal strata, one in each,
    # wherever n is a power of the i-th prime.
    for coordinate, prime, powers in ((0, 2, 7), (1, 3, 4), (2, 5, 3)):
        for power in range(1, powers):
            count = prime**power
            strata = np.floor(units(3, count, seed)[:, coordinate] * count)
            assert sorted(strata) == list(range(count))


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=25)
def test_the_label_shows_the_very_value_that_is_run(seed: int) -> None:
    for setting in draw(SPACES, 40, seed):
        for name in ("lr", "decay"):
            assert float(f"{setting[name]:.{DIGITS}g}") == setting[name]
        momentum = setting["momentum"]
        assert float(f"{1 - momentum:.{DIGITS}g}") == pytest.approx(1 - momentum, rel=1e-12)
        label = "{" + ", ".join(f"{name}: {as_text(v)}" for name, v in setting.items()) + "}"
        assert parse(label.encode(), "spec.yaml").data == setting


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (space(log_uniform=[0.001, 1]), "log-uniform from 0.001 to 1"),
        (space(uniform=[-2, 6.5]), "uniform from -2 to 6.5"),
        (space(one_minus_log_uniform=[0, 0.999]), "one-minus-log-uniform from 0 to 0.999"),
        (space(integer=[1, 30]), "integer from 1 to 30"),
        (space(choice=[0.1, "b", True]), "one of 0.1, b, True"),
    ],
)
def test_a_space_is_told_in_words(where: SpaceSpec, words: str) -> None:
    assert search_space.shown(where) == words


def test_a_choice_is_no_range() -> None:
    where = space(choice=["a", "b"])
    assert not search_space.is_range(where)
    with pytest.raises(TypeError):
        ends(where)
    with pytest.raises(TypeError):
        place(where, 1.0)
    assert all(search_space.is_range(s) for name, s in SPACES.items() if name != "kind")
