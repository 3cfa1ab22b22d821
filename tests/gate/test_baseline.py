"""The baseline's file: what goes in comes out, and whatever else stands in it is said politely."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput, Problem
from harness.gate import baseline as baselines
from harness.gate.baseline import Baseline, Cell, Loss
from harness.provenance import fingerprint
from harness.results import StepCounts
from harness.spec.model import CheckSpec

HARNESS = Path(baselines.__file__).parents[1]

counts = st.integers(0, 2**63 - 1)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
# Names as a spec can spell them and worse: brackets, spaces, quotes, what looks like the file.
words = st.text(max_size=30) | st.sampled_from(
    [
        "quadratic/adagrad[lr=0.1]/cpu",
        "q/own[mode=a   b]/cpu",
        "q/own[betas=[0.9,  0.99]]/cpu",
        'q/own[x="times": [  1,  2]]/cpu',
        "q/own[[]/cpu",
        "q/own[{}]/cpu",
    ]
)
losses = st.builds(
    Loss, mean=numbers, start=numbers, ok=counts, diverged=counts, failed=counts, bits=words
)
cells = st.builds(
    Cell,
    loss=losses,
    clock=st.sampled_from(["cpu", "wall", None]),
    times=st.lists(st.floats(min_value=5e-324, max_value=1e308), max_size=6).map(tuple),
    counted_steps=st.none() | counts,
    operators=st.none() | counts,
    calls=st.none() | counts,
    state_bytes=st.none() | counts,
)
baselines_of_any_kind = st.builds(
    Baseline,
    harness_baseline=st.just(1),
    suite=words,
    seeds=words,
    protocol=words,
    machine=st.dictionaries(words, words, max_size=4),
    cells=st.dictionaries(words, cells, max_size=4),
)

PLAIN = Baseline(
    harness_baseline=1,
    suite="book",
    seeds="0-9",
    protocol="0123456789ab",
    machine={"torch": "2.13.0", "cpu": "A"},
    cells={
        name: Cell(
            loss=Loss(mean=0.25, start=2.5, ok=10, diverged=0, failed=0, bits="ab"),
            clock="cpu",
            times=(1.25, 1.5, 1.375),
            counted_steps=20,
            operators=100,
            calls=200,
            state_bytes=300,
        )
        for name in ("q/sgd/cpu", "q/adagrad[lr=0.1]/cpu")
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples of a property."""
    return tmp_path_factory.mktemp("baselines")


def text_of(baseline: Baseline, folder: Path) -> str:
    path = folder / "written.json"
    baselines.write(baseline, path)
    return path.read_text(encoding="utf-8")


def problems_of(path: Path) -> list[str]:
    """What is wrong with a file, without its name, which all of it must begin with."""
    with pytest.raises(BadInput) as caught:
        baselines.read(path)
    assert caught.value.problems
    assert {problem.file for problem in caught.value.problems} == {str(path)}
    assert all(str(problem).startswith(f"{path}:") for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{path}:").strip() for problem in caught.value.problems]


# What is written


@given(baseline=baselines_of_any_kind)
def test_what_is_written_is_read(baseline: Baseline, folder: Path) -> None:
    path = folder / "round.json"
    baselines.write(baseline, path)
    content = path.read_bytes()
    found = baselines.read(path)
    assert found == baseline
    baselines.write(found, path)
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.glob(".*")] == []


def sorted_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert keys == sorted(keys)
    return dict(pairs)


@given(baseline=baselines_of_any_kind)
def test_the_file_is_sorted_and_has_a_value_or_a_cells_times_to_a_line(
    baseline: Baseline, folder: Path
) -> None:
    text = text_of(baseline, folder)
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert text.isascii()
    data = json.loads(text, object_pairs_hook=sorted_pairs)
    lines = text.splitlines()
    assert all(line == line.rstrip() for line in lines)
    times = [line for line in lines if line.lstrip().startswith('"times": [')]
    assert len(times) == len(baseline.cells)
    assert [json.loads(line.strip().rstrip(",").partition(": ")[2]) for line in times] == [
        data["cells"][name]["times"] for name in sorted(baseline.cells)
    ]
    # A line for each value, and two for the ends of each object that isn't empty.
    cells, machine = len(baseline.cells), len(baseline.machine)
    objects = 1 + 2 * cells + bool(cells) + bool(machine)
    values = 4 + machine + (not machine) + (not cells) + cells * (6 + 6)
    assert len(lines) == values + 2 * objects


def test_the_order_in_which_cells_were_measured_leaves_no_trace(tmp_path: Path) -> None:
    turned = PLAIN.model_copy(
        update={
            "cells": dict(reversed(PLAIN.cells.items())),
            "machine": dict(reversed(PLAIN.machine.items())),
        }
    )
    assert list(turned.cells) != list(PLAIN.cells)
    assert text_of(turned, tmp_path) == text_of(PLAIN, tmp_path)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"times": (1.25, 1.5, 1.376)}, 1),
        ({"times": (1.25, 1.5, 1.375, 1.0, 2.0)}, 1),
        ({"times": ()}, 1),
        ({"operators": 101}, 1),
        ({"state_bytes": None}, 1),
        ({"clock": "wall"}, 1),
        ({"loss": Loss(mean=0.26, start=2.5, ok=10, diverged=0, failed=0, bits="ab")}, 1),
        ({"loss": Loss(mean=0.26, start=2.5, ok=10, diverged=0, failed=0, bits="cd")}, 2),
    ],
)
def test_a_change_of_a_number_is_a_change_of_its_line(
    change: dict[str, Any], lines: int, tmp_path: Path
) -> None:
    name = "q/sgd/cpu"
    changed = PLAIN.cells | {name: PLAIN.cells[name].model_copy(update=change)}
    before = text_of(PLAIN, tmp_path).splitlines()
    now = text_of(PLAIN.model_copy(update={"cells": changed}), tmp_path).splitlines()
    assert sum(a != b for a, b in zip(before, now, strict=True)) == lines


def test_the_file_is_as_a_person_reads_it(tmp_path: Path) -> None:
    one = PLAIN.model_copy(update={"cells": {"q/sgd/cpu": PLAIN.cells["q/sgd/cpu"]}})
    assert text_of(one, tmp_path) == (
        """{
 "cells": {
  "q/sgd/cpu": {
   "calls": 200,
   "clock": "cpu",
   "counted_steps": 20,
   "loss": {
    "bits": "ab",
    "diverged": 0,
    "failed": 0,
    "mean": 0.25,
    "ok": 10,
    "start": 2.5
   },
   "operators": 100,
   "state_bytes": 300,
   "times": [ 1.25, 1.5, 1.375 ]
  }
 },
 "harness_baseline": 1,
 "machine": {
  "cpu": "A",
  "torch": "2.13.0"
 },
 "protocol": "0123456789ab",
 "seeds": "0-9",
 "suite": "book"
}
"""
    )


def test_folders_on_the_way_to_it_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "baseline.json"
    baselines.write(PLAIN, path)
    assert baselines.read(path) == PLAIN


def refused(baseline: Baseline, path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        baselines.write(baseline, path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    return problem.message


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "baseline.json"
    baselines.write(PLAIN, path)
    content = path.read_bytes()
    other = PLAIN.model_copy(update={"seeds": "0-99"})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def half(self: Path, text: str, **_: Any) -> None:
        self.write_bytes(text[: len(text) // 2].encode())
        full()

    for name, fails in (("replace", full), ("write_text", half)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, fails)
            assert refused(other, path) == "can't be written: No space left on device"
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_can_not_be_written_to_is_said(tmp_path: Path) -> None:
    file, taken = tmp_path / "file", tmp_path / "taken.json"
    file.write_text("x")
    taken.mkdir()
    (tmp_path / ".other.json.tmp").mkdir()
    for path in (
        file / "baseline.json",  # below a file
        taken,  # a folder
        tmp_path / "other.json",  # beside a folder that has the name to write to first
        tmp_path / f"{'x' * 255}.json",
        Path(),
    ):
        assert refused(PLAIN, path).startswith("can't be written: ")
    assert file.read_text() == "x"
    assert not list(taken.iterdir())


# What is read


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "bad.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_baseline_that_is_not_there_says_how_to_write_one(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert problems_of(path) == ["no such baseline; the same command with --update writes one"]
    assert problems_of(tmp_path / "no" / "folder.json") == problems_of(path)


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == ["can't be read: Is a directory"]


def changed(**fields: Any) -> str:
    return json.dumps(PLAIN.model_dump(mode="json") | fields)


def with_cell(**fields: Any) -> str:
    cell = PLAIN.cells["q/sgd/cpu"].model_dump(mode="json")
    return changed(cells={"q/sgd/cpu": cell | fields})


def without(*path: str) -> str:
    data = PLAIN.model_dump(mode="json")
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(data)


NAME = "cells.q/sgd/cpu"
NOT_ONE = "not a baseline: it has no 'harness_baseline'"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe{}", "1:1: not JSON: expected value"),
        ("", "1: not JSON: EOF while parsing a value"),
        ("{\n  'a': 1}", "2:3: not JSON: key must be a string"),
        ('{"harness_baseline": 1}\n}', "2:1: not JSON: trailing characters"),
        ("<<<<<<< HEAD\n{}", "1:1: not JSON: expected value"),
        ("[1, 2]", NOT_ONE),
        ('"harness_baseline"', NOT_ONE),
        ("null", NOT_ONE),
        ("{}", NOT_ONE),
        ('{"cells": {}}', NOT_ONE),
        ('{"harness_baseline": null}', NOT_ONE),
        (changed(harness_baseline=2), "has format 2, this harness reads 1; write it with --update"),
        (changed(harness_baseline="1"), "has format '1', this harness reads 1; write it with "),
        (changed(harness_baseline={"a": [1]}), "has format {'a': [1]}, this harness reads 1; "),
        (without("seeds"), "seeds: Field required"),
        (without("cells", "q/sgd/cpu", "loss"), f"{NAME}.loss: Field required"),
        (without("cells", "q/sgd/cpu", "loss", "mean"), f"{NAME}.loss.mean: Field required"),
        (changed(more=1), "more: Extra inputs are not permitted"),
        (with_cell(seconds=1.0), f"{NAME}.seconds: Extra inputs are not permitted"),
        (changed(suite=5), "suite: Input should be a valid string"),
        (changed(cells=[]), "cells: Input should be an object"),
        (changed(machine={"cpu": 5}), "machine.cpu: Input should be a valid string"),
        (with_cell(clock="sun"), f"{NAME}.clock: Input should be 'cpu' or 'wall'"),
        (with_cell(times=["1.5"]), f"{NAME}.times.0: Input should be a valid number"),
        (with_cell(times=[1.5, None]), f"{NAME}.times.1: Input should be a valid number"),
        (with_cell(times=1.5), f"{NAME}.times: Input should be a valid array"),
        (with_cell(times=[0.0]), f"{NAME}.times.0: Input should be greater than 0"),
        (with_cell(times=[-1.0]), f"{NAME}.times.0: Input should be greater than 0"),
        (with_cell(times=[math.nan]), f"{NAME}.times.0: Input should be a finite number"),
        (with_cell(times=[math.inf]), f"{NAME}.times.0: Input should be a finite number"),
        (with_cell(times=[True]), f"{NAME}.times.0: Input should be a valid number"),
        (with_cell(operators=1.5), f"{NAME}.operators: Input should be a valid integer"),
        (with_cell(operators=-1), f"{NAME}.operators: Input should be greater than or equal to 0"),
        (with_cell(calls=2**63), f"{NAME}.calls: Input should be less than or equal to 9223372036"),
        (with_cell(state_bytes=True), f"{NAME}.state_bytes: Input should be a valid integer"),
        (
            with_cell(loss={"mean": math.nan, "start": 1, "ok": 1, "diverged": 0, "failed": 0}),
            f"{NAME}.loss.bits: Field required",
        ),
        (
            with_cell(loss=vars(PLAIN.cells["q/sgd/cpu"].loss) | {"mean": math.nan}),
            f"{NAME}.loss.mean: Input should be a finite number",
        ),
        (
            with_cell(loss=vars(PLAIN.cells["q/sgd/cpu"].loss) | {"start": -math.inf}),
            f"{NAME}.loss.start: Input should be a finite number",
        ),
        (with_cell(operators=int("9" * 4000)), f"{NAME}.operators: Input should be less than or"),
        ('{"harness_baseline": ' + "9" * 5000 + "}", "1:4323: not JSON: number out of range"),
        ('{"harness_baseline": 1e999}', "has format inf, this harness reads 1; write it with "),
        ("[" * 100_000, "1:202: not JSON: recursion limit exceeded"),
        ('{"a":' * 100_000, "1:1006: not JSON: recursion limit exceeded"),
        (changed(suite="\ud800"), "1:41: not JSON: unexpected end of hex escape"),
        (changed(machine={"\udfff": "A"}), "1:104: not JSON: lone leading surrogate"),
    ],
)
def test_a_file_that_can_not_be_used_says_what_is_wrong_and_where(
    content: str | bytes, problem: str, tmp_path: Path
) -> None:
    first, *_ = problems_of(written(tmp_path, content))
    assert first.startswith(problem)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = problems_of(written(tmp_path, changed(suite=5, seeds=6, more=7)))
    assert [line.partition(":")[0] for line in found] == ["more", "seeds", "suite"]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 1, 0])
    | st.floats()
    | st.text(st.characters(), max_size=10),  # surrogates too
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(), max_size=10), inner, max_size=4)
        | st.dictionaries(st.sampled_from(list(Baseline.model_fields)), inner, max_size=4)
    ),
    max_leaves=12,
)


def read_or_refused(path: Path) -> None:
    """A file is a baseline that can be written again, or its problems name it."""
    problems: tuple[Problem, ...] = ()
    try:
        found = baselines.read(path)
    except BadInput as error:
        found, problems = None, error.problems
    assert (found is None) == bool(problems)
    assert all(str(problem).startswith(f"{path}:") for problem in problems)
    if found is not None:
        again = path.with_name("again.json")
        baselines.write(found, again)
        assert baselines.read(again) == found


@given(value=anything)
def test_any_json_is_read_or_refused(value: Any, folder: Path) -> None:
    read_or_refused(written(folder, json.dumps(value)))
    with_version = {**value, "harness_baseline": 1} if isinstance(value, dict) else value
    read_or_refused(written(folder, json.dumps(with_version)))


def places(value: Any, so_far: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every key path in plain data."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found = [so_far] if so_far else []
    for key, item in inner:
        found += places(item, (*so_far, key))
    return found


@given(data=st.data(), value=anything)
def test_a_baseline_with_anything_in_one_place_is_read_or_refused(
    data: st.DataObject, value: Any, folder: Path
) -> None:
    content = copy.deepcopy(PLAIN.model_dump(mode="json"))
    *path, last = data.draw(st.sampled_from(places(content)))
    inner: Any = content
    for key in path:
        inner = inner[key]
    inner[last] = value
    read_or_refused(written(folder, json.dumps(content)))


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_a_file_that_was_damaged_is_read_or_refused(
    changes: list[tuple[int, int, bytes]], folder: Path
) -> None:
    content = text_of(PLAIN, folder).encode()
    for place, dropped, added in changes:
        at = place % (len(content) + 1)
        content = content[:at] + added + content[at + dropped :]
    read_or_refused(written(folder, content))


@given(content=st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes, folder: Path) -> None:
    read_or_refused(written(folder, content))


# What stands in it


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([0], "0-0"), (range(10), "0-9"), ([5, 6, 7], "5-7"), (range(1000), "0-999")],
)
def test_seeds_that_are_a_range_are_named_as_one(seeds: Any, text: str) -> None:
    assert baselines.seeds_text(seeds) == text


def test_other_seeds_are_named_by_their_number_and_a_digest() -> None:
    found = [baselines.seeds_text(seeds) for seeds in ([0, 2], [0, 3], [1, 0], [0, 2, 4])]
    assert len(set(found)) == 4
    assert [text.split(",")[0] for text in found] == ["2 seeds"] * 3 + ["3 seeds"]
    assert baselines.seeds_text((0, 2)) == found[0]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True))
def test_two_lists_of_seeds_have_one_name_only_if_they_are_one(seeds: list[int]) -> None:
    turned = [*seeds[1:], seeds[0]]
    same = baselines.seeds_text(turned) == baselines.seeds_text(seeds)
    assert same == (turned == seeds)


Trial = tuple[int, str, float | None, float | None]


def test_trials_are_summed_up_by_how_they_ended() -> None:
    trials: list[Trial] = [
        (0, "ok", 1.0, 8.0),
        (1, "diverged", None, 16.0),
        (2, "ok", 4.0, 12.0),
        (3, "error", None, None),
        (4, "timeout", 7.0, math.nan),
        (5, "unavailable", None, None),
    ]
    found = baselines.summarise(trials)
    assert found.model_dump(exclude={"bits"}) == {
        "mean": 2.5,
        "start": 12.0,
        "ok": 2,
        "diverged": 1,
        "failed": 3,
    }
    assert found.bits == hashlib.sha256(struct.pack("<2d", 1.0, 4.0)).hexdigest()[:12]


def test_where_no_trial_ended_ok_there_is_no_mean_and_none_is_made_up() -> None:
    found = baselines.summarise([(0, "diverged", 9.0, math.inf), (1, "error", None, None)])
    assert (found.mean, found.start, found.ok, found.diverged, found.failed) == (
        None,
        None,
        0,
        1,
        1,
    )
    assert baselines.summarise([]).failed == 0


finals = st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=8)


@given(finals, st.randoms(use_true_random=False))
def test_the_order_of_trials_leaves_no_trace(values: list[float], random: Any) -> None:
    trials: list[Trial] = [(seed, "ok", value, 1.0) for seed, value in enumerate(values)]
    found = baselines.summarise(trials)
    random.shuffle(trials)
    assert baselines.summarise(trials) == found
    assert found.mean == np.mean(values)


@given(finals, st.data())
def test_a_bit_of_one_loss_changes_the_digest(values: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    (bits,) = struct.unpack("<Q", struct.pack("<d", values[at]))
    (changed_value,) = struct.unpack("<d", struct.pack("<Q", bits ^ 1))
    other = [*values[:at], changed_value, *values[at + 1 :]]

    def digest(losses: list[float]) -> str:
        return baselines.summarise((i, "ok", loss, 1.0) for i, loss in enumerate(losses)).bits

    assert digest(values) == digest(list(values))
    assert digest(other) != digest(values)


def test_which_seed_had_which_loss_is_in_the_digest() -> None:
    one = baselines.summarise([(0, "ok", 1.0, 1.0), (1, "ok", 2.0, 1.0)])
    other = baselines.summarise([(0, "ok", 2.0, 1.0), (1, "ok", 1.0, 1.0)])
    assert one.mean == other.mean
    assert one.bits != other.bits


def test_a_cell_with_counts_has_all_of_it_and_the_rest_as_it_was() -> None:
    before = PLAIN.cells["q/sgd/cpu"]
    found = before.with_counts(StepCounts(steps=1, operators=2, calls=3, state_bytes=4))
    counted = (found.counted_steps, found.operators, found.calls, found.state_bytes)
    assert counted == (1, 2, 3, 4)
    assert (found.loss, found.clock, found.times) == (before.loss, before.clock, before.times)


def test_a_machine_is_all_that_a_time_depends_on_beside_the_code() -> None:
    found = baselines.machine(3)
    assert list(found) == ["cpu", "cores", "system", "python", "torch", "threads", "accelerator"]
    assert all(found.values())
    assert found["threads"] == "3"
    assert {k for k in found if found[k] != baselines.machine(4)[k]} == {"threads"}


def protocol_of(**fields: Any) -> str:
    return baselines.protocol(CheckSpec.model_validate(fields))


def test_the_protocol_is_how_blocks_are_measured_and_not_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = protocol_of()
    assert protocol_of(block_steps=11) != usual
    assert protocol_of(rounds=21, seconds=1.0, threshold=1.0, loss_tolerance=0.0) == usual
    with monkeypatch.context() as patch:
        patch.setattr(baselines, "PROTOCOL", baselines.PROTOCOL + 1)
        assert protocol_of() != usual
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "of_files", lambda files: str(list(files)))
        assert protocol_of() != usual
    assert protocol_of() == usual


def test_the_reference_loop_is_frozen() -> None:
    source = (HARNESS / "timing" / "reference_loop.py").read_bytes()
    assert (
        hashlib.sha256(source).hexdigest()
        == "5adbef769b89904243d789093f3e37429e233bf27c40439797d29e4ac2b5f6c6"
    ), (
        "harness/timing/reference_loop.py is what every measured time is a ratio to. With another "
        "one, the times in every baseline that anybody has can't be compared any more. Put it back "
        "as it was; if it really must change, write all baselines and this digest anew."
    )
