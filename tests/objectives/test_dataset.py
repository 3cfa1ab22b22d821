"""Datasets of any shape and their parts: what is refused, what a split leaves together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.objectives.dataset import Dataset, held_out, split
from harness.suite.locate import locate

ROOT = Path(__file__).resolve().parents[2]


def numbered(rows: int, *behind: int, labels: NDArray[Any] | None = None) -> Dataset:
    """Rows whose numbers tell which row they are of."""
    size = int(np.prod(behind))
    features = np.arange(rows * size, dtype=float).reshape(rows, *behind)
    return Dataset(features, np.arange(rows) % 3 if labels is None else labels)


@pytest.mark.parametrize(
    ("features", "labels", "classes"),
    [
        (np.zeros((4, 2)), np.array([0, 2, 1, 0]), 3),
        (np.zeros((4, 1, 8, 8), np.float32), np.array([0, 9, 1, 0], np.uint8), 10),
        (np.zeros((4, 16), int), np.arange(64).reshape(4, 16), 64),
        (np.zeros(4), np.zeros((4, 3)), None),
        (np.zeros((4, 2)), np.array([-1, 1, 1, -1]), None),
        (np.zeros((2, 3), int), np.array([[4, 1, -100], [0, -100, -100]]), 5),
        (np.zeros((2, 3)), np.array([-100, -100]), None),
        (np.zeros((2, 3)), np.array([True, False]), 2),
    ],
)
def test_rows_may_have_any_shape_and_classes_are_those_of_whole_labels(
    features: NDArray[Any], labels: NDArray[Any], classes: int | None
) -> None:
    assert Dataset(features, labels).classes == classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((0, 2)), np.zeros(0)), r"rows first, with at least one row, got shape \(0, 2\)"),
        ((np.float64(1), np.zeros(1)), r"rows first, with at least one row, got shape \(\)"),
        ((np.zeros((3, 2)), np.zeros(2)), r"shape \(3,\) or \(3, ...\), got \(2,\)"),
        ((np.zeros((3, 2)), np.zeros((2, 3))), r"got \(2, 3\)"),
        ((np.zeros((3, 2)), np.zeros(3), ("a",)), "2 columns but 1 feature names"),
        ((np.zeros((3, 2, 2)), np.zeros(3), ("a", "b")), "only columns of a table have names"),
        ((np.zeros((3, 2)), np.full(3, np.nan)), "must be finite"),
        ((np.array([["a"]]), np.zeros(1)), "features must be numbers, got <U1"),
        ((np.zeros((1, 1)), np.array([None])), "labels must be numbers, got object"),
    ],
)
def test_what_is_no_dataset_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(*arguments)


def test_classes_may_be_said_and_no_label_is_beyond_them() -> None:
    assert Dataset(np.zeros((2, 1)), np.array([0, 1]), classes=10).classes == 10
    with pytest.raises(ValueError, match="label 3 is outside the 3 classes"):
        Dataset(np.zeros((2, 1)), np.array([0, 3]), classes=3)
    with pytest.raises(ValueError, match="standardized features must be real, got int64"):
        Dataset(np.zeros((2, 1), int), np.array([0, 3]), standardized=True)


@given(
    rows=st.integers(10, 200),
    test=st.sampled_from([0.1, 0.2, 0.25]),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 5),
)
def test_each_row_is_in_one_part_with_its_label_and_parts_have_their_share(
    rows: int, test: float, validation: float, seed: int
) -> None:
    whole = numbered(rows, 2, 3, labels=np.arange(rows, dtype=float))
    shares = {"test": test, "train": 1 - test - validation}
    shares |= {"validation": validation} if validation else {}
    parts = split(whole, shares, seed)
    assert list(parts) == [name for name in ("train", "validation", "test") if name in shares]
    taken = np.concatenate([part.labels for part in parts.values()])
    assert sorted(taken) == list(range(rows))
    for part in parts.values():
        assert np.array_equal(part.features, whole.features[part.labels.astype(int)])
    assert len(parts["test"].labels) == round(test * rows)
    # As documented, so that anybody can tell which rows those are.
    order = np.random.default_rng(seed).permutation(rows)
    assert np.array_equal(parts["test"].labels, order[rows - round(test * rows) :])
    assert np.array_equal(parts["train"].labels, order[: len(parts["train"].labels)])


def test_the_test_rows_do_not_depend_on_the_validation_rows_or_the_order_of_shares() -> None:
    whole = numbered(101, 4)
    one = split(whole, {"train": 0.8, "test": 0.2}, 3)
    two = split(whole, {"test": 0.2, "validation": 0.15, "train": 0.65}, 3)
    assert np.array_equal(one["test"].features, two["test"].features)
    again = split(whole, {"validation": 0.15, "train": 0.65, "test": 0.2}, 3)
    for name, part in two.items():
        assert np.array_equal(part.features, again[name].features)
    other = split(whole, {"train": 0.8, "test": 0.2}, 4)
    assert not np.array_equal(one["test"].features, other["test"].features)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.7, "test": 0.2}, "shares must add up to 1, got 0.9"),
        ({"train": 0.7, "test": 0.4}, "shares must add up to 1, got 1.1"),
        ({"train": 1.2, "test": -0.2}, "the share of test must be above 0, got -0.2"),
        ({"train": 1.0, "test": 0.0}, "the share of test must be above 0, got 0.0"),
        ({"train": float("nan"), "test": 0.0}, "the share of train must be above 0, got nan"),
        ({"test": 1.0}, "there is no share of train rows"),
        ({"train": 0.8, "tests": 0.2}, "expected shares of train, validation, test, got .*'tests'"),
        ({"train": 0.99, "test": 0.01}, "0.01 of 10 rows leaves test without any"),
        ({"train": 0.01, "test": 0.99}, "0.01 of 10 rows leaves train without any"),
    ],
)
def test_shares_that_make_no_parts_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(numbered(10, 1), shares)


def test_parts_keep_the_classes_that_they_lack() -> None:
    whole = Dataset(np.zeros((20, 1)), np.array([0] * 19 + [4]))
    parts = split(whole, {"train": 0.9, "test": 0.1}, 0)
    assert {part.classes for part in parts.values()} == {5}
    assert parts["test"].train is parts["train"]
    assert parts["train"].train is None


def test_columns_are_scaled_anew_by_the_train_rows_alone() -> None:
    airfoil = locate("airfoil", ROOT, "datasets").load()
    whole = airfoil(rows=1503)
    parts = split(whole, {"train": 0.7, "validation": 0.1, "test": 0.2}, 1)
    train = parts["train"]
    np.testing.assert_allclose(train.features.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(train.features.std(0), 1, rtol=1e-13)
    np.testing.assert_allclose([train.labels.mean(), train.labels.std()], [0, 1], atol=1e-12)
    # From the raw table, with statistics of the raw train rows: what a user would have done.
    raw = np.loadtxt(ROOT / "datasets" / "airfoil.csv", delimiter=",", skiprows=1)
    order = np.random.default_rng(1).permutation(1503)
    seen, last = raw[order[: len(train.labels)]], raw[order[1503 - len(parts["test"].labels) :]]
    expected = (last - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(parts["test"].features, expected[:, :-1], atol=1e-11)
    np.testing.assert_allclose(parts["test"].labels, expected[:, -1], atol=1e-11)


def test_what_is_not_standardized_or_a_class_is_left_as_it_is() -> None:
    labels = np.arange(30) % 2
    whole = Dataset(np.arange(60.0).reshape(30, 2), labels)
    for part in split(whole, {"train": 0.5, "test": 0.5}, 0).values():
        assert set(part.features.ravel()) <= set(range(60))
    scaled = Dataset(np.arange(60.0).reshape(30, 2), labels, standardized=True)
    for part in split(scaled, {"train": 0.5, "test": 0.5}, 0).values():
        assert part.labels.dtype == labels.dtype
        assert set(part.labels) == {0, 1}


def test_a_column_that_is_the_same_in_all_train_rows_is_centred() -> None:
    features = np.column_stack([np.arange(10.0), np.full(10, 0.1)])
    whole = Dataset(features.astype(np.float32), np.zeros(10), standardized=True)
    parts = split(whole, {"train": 0.5, "test": 0.5}, 0)
    for part in parts.values():
        assert part.features.dtype == np.float32
        np.testing.assert_allclose(part.features[:, 1], 0, atol=1e-7)


def test_parts_that_a_loader_gives_have_the_classes_of_all() -> None:
    few = Dataset(np.zeros((3, 2)), np.array([0, 1, 1]))
    more = Dataset(np.zeros((2, 2)), np.array([4, 1]))
    parts = held_out({"test": more, "train": few})
    assert list(parts) == ["train", "test"]
    assert {part.classes for part in parts.values()} == {5}
    assert parts["test"].train is parts["train"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"test": numbered(3, 2)}, "there is no part 'train'"),
        ({"train": numbered(3, 2), "dev": numbered(3, 2)}, "got 'dev'"),
        (
            {"train": numbered(3, 2), "test": numbered(3, 4)},
            r"features of test are .* shape \(4,\)",
        ),
        (
            {"train": numbered(3, 2), "test": numbered(3, 2, labels=np.zeros(3))},
            "labels of test are rows of shape .* and float64, those of train of .* and int64",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(other: dict[str, Dataset], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        held_out(other)
