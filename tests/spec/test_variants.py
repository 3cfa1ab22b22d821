"""One entry of a spec with several values of an argument stands for several objectives."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from builders import make_plan, require
from hypothesis import given
from hypothesis import strategies as st

from harness.plan.builder import Overrides
from harness.plan.model import Plan
from harness.spec.fields import VARIANT_PATTERN
from harness.spec.validation import LoadedSpec, check
from harness.spec.variants import Variant, entry_of
from harness.spec.yaml_source import of_mapping, parse

SPEC = """\
suite: s
objectives:
  valley:
    class: rosenbrock
    arguments: {dimension: {each: [2, 5, 10]}, start_spread: 0.1}
    steps: 3
    targets: [0.5]
  bowl: {class: quadratic_2d, steps: 3}
optimizers:
  sgd: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}
"""
NAMES = ["valley.dimension=2", "valley.dimension=5", "valley.dimension=10"]


def checked(text: str) -> LoadedSpec:
    return check(parse(text.encode(), "spec.yaml"))


def planned(text: str, *only: str) -> Plan:
    return make_plan(checked(text), Overrides(only=only))


def mistakes(text: str) -> list[str]:
    return [str(problem) for problem in checked(text).problems]


def test_each_value_is_an_objective_in_the_order_of_the_list() -> None:
    loaded = checked(SPEC)
    assert loaded.problems == ()
    assert [*require(loaded).objectives] == [*NAMES, "bowl"]
    assert loaded.variants == {
        name: Variant("valley", place, f"dimension={value}")
        for place, (name, value) in enumerate(zip(NAMES, (2, 5, 10), strict=True))
    }
    objectives = planned(SPEC).objectives
    assert [o.arguments for o in objectives[:3]] == [
        {"dimension": value, "start_spread": 0.1} for value in (2, 5, 10)
    ]
    assert [o.variant.difficulty for o in objectives if o.variant] == [0, 1, 2]
    assert len({o.key for o in objectives}) == 4


def test_a_variant_is_the_same_objective_as_one_that_is_written_out() -> None:
    written = SPEC.replace("{each: [2, 5, 10]}", "5")
    own = next(o for o in planned(SPEC).objectives if o.name == "valley.dimension=5")
    assert own.key == planned(written).objectives[0].key


def test_an_entry_without_a_class_is_named_by_the_class() -> None:
    text = SPEC.replace("  valley:\n    class: rosenbrock\n", "  rosenbrock:\n")
    assert planned(text).objectives[0].located.reference == "rosenbrock"


def test_several_arguments_are_combined_and_none_is_the_harder() -> None:
    text = SPEC.replace("start_spread: 0.1", "start_spread: {each: [0.0, 1.0e-3]}")
    loaded = checked(text)
    names = [
        f"valley.dimension={d}.start_spread={s}"
        for d, s in itertools.product((2, 5, 10), ("0", "0.001"))
    ]
    assert [*require(loaded).objectives] == [*names, "bowl"]
    assert {variant.difficulty for variant in loaded.variants.values()} == {None}


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ("[10, 1.0e+8]", ["10", "1e8"]),
        ("[1.0e-6, 0.25]", ["1e-6", "0.25"]),
        ("[-1, 1]", ["-1", "1"]),
        ("[true, false]", ["true", "false"]),
        ("[a, b_c]", ["a", "b_c"]),
        ("[[8, 16], [4]]", ["8-16", "4"]),
        ("[[8, 16], '8-16']", ["no1", "no2"]),
        ("['a b', c]", ["no1", "no2"]),
        ("[A, a]", ["no1", "no2"]),
        ("[null, 3]", ["null", "3"]),
    ],
)
def test_names_can_be_files_names_and_differ(values: str, ends: list[str]) -> None:
    loaded = checked(SPEC.replace("[2, 5, 10]", values))
    assert [*loaded.variants] == [f"valley.dimension={end}" for end in ends]


@given(
    values=st.lists(
        st.one_of(
            st.integers(-(2**62), 2**62),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text("ab 1.-/é", max_size=50),
            st.booleans(),
            st.lists(st.integers(0, 9), max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_the_values_names_are_unique_and_know_their_entry(
    values: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = {
        "suite": "s",
        "objectives": {
            "a.b": {"class": "sphere", "steps": 1, "arguments": {"x": {"each": values}}}
        },
        "optimizers": {"sgd": {"class": "torch.optim:SGD"}},
    }
    loaded = check(of_mapping(data, tmp_path_factory.getbasetemp()))
    if not loaded.problems:
        assert len({name.lower() for name in loaded.variants}) == len(values)
    for name in loaded.variants:
        assert entry_of(name) == "a.b"
        assert re.fullmatch(VARIANT_PATTERN, name)


def test_patterns_may_name_an_entry_or_a_variant() -> None:
    assert {c.objective.name for c in planned(SPEC, "objective=valley").cases} == {*NAMES}
    one = {c.objective.name for c in planned(SPEC, "objective=valley.dimension=5").cases}
    assert one == {"valley.dimension=5"}
    text = SPEC + "exclude: [{objective: valley}]\n"
    assert {c.objective.name for c in planned(text).cases} == {"bowl"}


def test_hyperparameters_for_an_entry_are_those_of_all_its_variants_but_of_those_named() -> None:
    given_ = "{valley: {lr: 0.2}, valley.dimension=5: {lr: 0.3}}"
    text = SPEC.replace("{lr: 0.1}}", f"{{lr: 0.1}}, per_objective: {given_}}}")
    found = {c.objective.name: c.hyperparameters["lr"] for c in planned(text).cases}
    assert found == dict(zip([*NAMES, "bowl"], (0.2, 0.3, 0.2, 0.1), strict=True))


def test_mistakes_of_an_entry_and_of_its_variant_are_told_where_each_is() -> None:
    given_ = "{valley: {lr: .nan}, valley.dimension=5: {lr: .inf}}"
    text = SPEC.replace("{lr: 0.1}}", f"{{lr: 0.1}}, per_objective: {given_}}}")
    line = text.splitlines()[9]
    columns = [line.index(wrong) + 1 for wrong in (".nan", ".inf")]
    places = {told.partition(": ")[0] for told in mistakes(text)}
    assert places == {f"spec.yaml:10:{column}" for column in columns}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("{each: []}", "spec.yaml:5:35: objectives.valley.arguments.dimension.each: the list is"),
        (
            "{each: 3}",
            "spec.yaml:5:35: objectives.valley.arguments.dimension.each: expected a list",
        ),
        ("{each: [2, 2]}", "spec.yaml:5:39: objectives.valley.arguments.dimension.each.1: dupl"),
        ("{all: [2]}", "spec.yaml:5:28: objectives.valley.arguments.dimension: expected a value, "),
        (
            "{each: [2], x: 1}",
            "spec.yaml:5:28: objectives.valley.arguments.dimension: expected a v",
        ),
        ("{each: [{each: [1]}]}", "spec.yaml:5:36: objectives.valley.arguments.dimension.each.0: "),
    ],
)
def test_what_is_no_list_of_values_is_told_at_its_place(wrong: str, message: str) -> None:
    (told,) = mistakes(SPEC.replace("{each: [2, 5, 10]}", wrong))
    assert told.startswith(message)


def test_a_mistake_in_an_entry_is_told_once() -> None:
    told = mistakes(SPEC.replace("steps: 3\n    targets", "stepz: 3\n    targets"))
    assert len(told) == 2
    assert told[0].startswith("spec.yaml:4:5: objectives.valley: expected either 'steps' or")
    assert told[1].startswith("spec.yaml:6:5: objectives.valley.stepz: unknown key; did you mean")


def test_a_claim_is_of_a_single_variant() -> None:
    claim = "claims: [{value: 1, source: x, optimizer: sgd, objective: valley}]\n"
    (told,) = mistakes(SPEC + claim)
    assert "'valley' has several variants; choose one: valley.dimension=2, " in told
    assert mistakes((SPEC + claim).replace("objective: valley}", f"objective: {NAMES[1]}}}")) == []


def test_no_entry_may_have_the_name_of_a_variant() -> None:
    (told,) = mistakes(SPEC.replace("bowl:", "bowl.x=1:"))
    assert told.startswith("spec.yaml:8:3: objectives.bowl.x=1: expected a name that can be")


def test_no_entry_stands_for_a_thousand() -> None:
    many = ", ".join(f"a{i}: {{each: {[*range(20)]}}}" for i in range(3))
    (told,) = mistakes(SPEC.replace("start_spread: 0.1", many))
    assert "objectives.valley.arguments: stands for 24,000 objectives, the limit is 1,000" in told
