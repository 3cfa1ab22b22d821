"""The digest of what an objective is: told by its code and its arguments, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from builders import make_plan

from harness.plan import definitions
from harness.plan.definitions import definition
from harness.plan.model import PlannedObjective
from harness.spec.validation import check
from harness.spec.yaml_source import parse

SPEC = """\
suite: s
objectives:
  valley: {class: rosenbrock, arguments: {dimension: 5}, steps: 30, targets: [0.5]}
  bowl: {class: ill_conditioned, arguments: {condition_number: 10}, steps: 30}
optimizers: {sgd: {class: 'torch.optim:SGD'}}
"""


Edit = Callable[[str, Callable[[str], str]], None]


def planned(text: str = SPEC) -> dict[str, PlannedObjective]:
    return {o.name: o for o in make_plan(check(parse(text.encode(), "s.yaml"))).objectives}


def forget() -> None:
    for known in (definitions._code, definitions._module):
        known.cache_clear()


@pytest.fixture
def edited(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str, Callable[[str], str]], None]]:
    """Edit a module's source, as far as digests see it."""
    original = definitions._source

    def edit(module: str, change: Callable[[str], str]) -> None:
        def source(name: str) -> str:
            text = original(name)
            if name != module:
                return text
            assert change(text) != text
            return change(text)

        monkeypatch.setattr(definitions, "_source", source)
        forget()

    yield edit
    forget()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dimension: 5", "dimension: 6"),
        ("dimension: 5}, steps: 30", "dimension: 5}, steps: 31"),
        ("targets: [0.5]", "targets: [0.5], stop: {at: all targets}"),
        ("targets: [0.5]", "dtype: float64"),
        ("targets: [0.5]", "record_every: 3"),
    ],
)
def test_whatever_the_spec_says_counts(before: str, after: str) -> None:
    other = SPEC.replace(before, after)
    assert other != SPEC
    own, changed = planned(), planned(other)
    assert definition(own["valley"]) != definition(changed["valley"])
    assert definition(own["bowl"]) == definition(changed["bowl"])


def test_a_name_does_not_count() -> None:
    other = planned(SPEC.replace("valley:", "another:"))
    assert definition(planned()["valley"]) == definition(other["another"])


BOWL = "harness.objectives.diagnostics.curvature"


def test_comments_and_docstrings_do_not_count(
    edited: Edit,
) -> None:
    before = definition(planned()["bowl"])
    edited(BOWL, lambda text: text.replace("Source", "Taken from") + "\n# the end\n")
    assert definition(planned()["bowl"]) == before


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        (BOWL, True),
        ("harness.objectives.base", True),
        ("harness.objectives.rosenbrock", False),
    ],
)
def test_code_counts_where_it_is_used(module: str, counts: bool, edited: Edit) -> None:
    before = definition(planned()["bowl"])
    edited(
        module, lambda text: text.replace("        return ", "        assert True\n        return ")
    )
    assert (definition(planned()["bowl"]) != before) is counts


def test_another_class_of_the_same_module_does_not_count(
    edited: Edit,
) -> None:
    before = definition(planned()["bowl"])
    edited(BOWL, lambda text: text + "\n\nclass Other:\n    x = 1\n")
    assert definition(planned()["bowl"]) == before
