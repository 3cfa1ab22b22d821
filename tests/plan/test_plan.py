"""The plan: what runs, under which ids, and what a result's key depends on."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import make_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.plan.builder import (
    CASE_LIMIT,
    DRAWN_LIMIT,
    TRIAL_LIMIT,
    Overrides,
    draft,
    parse_devices,
)
from harness.plan.model import Plan
from harness.provenance import fingerprint
from harness.spec.validation import check
from harness.spec.yaml_source import parse

OPTIMIZERS = """
from .helper import base

class SGD:
    def __init__(self, params, lr=0.1): ...
    def step(self): ...
"""
FILES = {
    "optimizers/all.py": OPTIMIZERS,
    "optimizers/helper.py": "base = 1\n",
    "optimizers/other.py": "class Momentum:\n    def step(self): ...\n",
    "objectives/mine.py": "from .parts import a\nclass Mine: ...\n",
    "objectives/parts.py": "a = 1\n",
    "datasets/table.py": "def table(): ...\n",
    "datasets/table.csv": "1,2\n",
    "datasets/README.md": "words\n",
}
BASE = """\
suite: s
seeds: [0, 7]
devices: [cpu, cuda]
objectives:
  bowl: {class: quadratic_2d, steps: 3}
  fit: {class: Mine, dataset: table, epochs: 2}
optimizers:
  a: {class: SGD, hyperparameters: {lr: [0.1, 0.2], wd: [0, 1]}}
  b: {class: SGD, hyperparameters: {lr: 0.1}, per_objective: {bowl: {lr: [1, 2]}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def plan_of(text: str, folder: Path, **overrides: Any) -> Plan:
    """A plan, made as a process of its own would make it."""
    source = parse(text.encode(), str(folder / "spec.yaml"))
    return make_plan(check(source), Overrides(**overrides))


def refusal(text: str, folder: Path, **overrides: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        plan_of(text, folder, **overrides)
    return [str(problem).replace(str(folder) + "/", "") for problem in caught.value.problems]


def ids(plan: Plan) -> list[str]:
    return [case.id for case in plan.cases]


def test_every_combination_is_planned_in_the_specs_order(folder: Path) -> None:
    plan = plan_of(BASE, folder)
    grid = [f"lr={lr}, wd={wd}" for lr in ("0.1", "0.2") for wd in ("0", "1")]
    expected = [
        f"{objective}/{case}/{device}"
        for objective, b in (("bowl", ["b[lr=1]", "b[lr=2]"]), ("fit", ["b"]))
        for cases in ([f"a[{setting}]" for setting in grid], b)
        for device in ("cpu", "cuda")
        for case in cases
    ]
    assert ids(plan) == expected
    assert plan.trials == 2 * len(expected)
    assert plan.seeds == (0, 7)
    assert [(case.id, seed) for case, seed in itertools.product(plan.cases, plan.seeds)][:3] == [
        (expected[0], 0),
        (expected[0], 7),
        (expected[1], 0),
    ]


def test_hyperparameters_of_one_objective_win_over_the_general_ones(folder: Path) -> None:
    cases = {case.id: case.hyperparameters for case in plan_of(BASE, folder).cases}
    assert cases["fit/b/cpu"] == {"lr": 0.1}
    assert cases["bowl/b[lr=2]/cpu"] == {"lr": 2}
    assert cases["bowl/a[lr=0.2, wd=1]/cpu"] == {"lr": 0.2, "wd": 1}


def kept(folder: Path, more: str, **overrides: Any) -> set[str]:
    return set(ids(plan_of(BASE + more, folder, **overrides)))


def test_include_keeps_what_one_of_its_entries_matches_in_every_key(folder: Path) -> None:
    everything = set(ids(plan_of(BASE, folder)))
    assert kept(folder, "include: [{optimizer: '*'}]\n") == everything
    assert kept(folder, "include: [{optimizer: b, device: cpu}]\n") == {
        "bowl/b[lr=1]/cpu",
        "bowl/b[lr=2]/cpu",
        "fit/b/cpu",
    }
    both = "include: [{optimizer: b, objective: fit}, {device: 'cu*', hyperparameters: {lr: 2}}]\n"
    assert kept(folder, both) == {"fit/b/cpu", "fit/b/cuda", "bowl/b/cuda"}
    assert kept(folder, "include: [{optimizer: [a, b], objective: 'f?t', device: cpu}]\n") == {
        i for i in everything if i.startswith("fit/") and i.endswith("/cpu")
    }


def test_exclude_drops_what_one_of_its_entries_matches_in_every_key(folder: Path) -> None:
    everything = set(ids(plan_of(BASE, folder)))
    assert kept(folder, "exclude: [{device: cuda}]\n") == {i for i in everything if "cpu" in i}
    assert kept(folder, "exclude: [{optimizer: a}, {objective: bowl}]\n") == {
        "fit/b/cpu",
        "fit/b/cuda",
    }
    trimmed = "exclude: [{hyperparameters: {lr: 0.1, wd: 1}}, {device: cuda}, {objective: bowl}]\n"
    assert kept(folder, trimmed) == {
        "fit/a[lr=0.1, wd=0]/cpu",
        "fit/a[lr=0.2, wd=0]/cpu",
        "fit/a[lr=0.2, wd=1]/cpu",
        "fit/b/cpu",
    }


def test_exclude_wins_over_include(folder: Path) -> None:
    assert kept(folder, "include: [{objective: fit}]\nexclude: [{optimizer: a}]\n") == {
        "fit/b/cpu",
        "fit/b/cuda",
    }


def test_only_takes_any_of_one_key_and_all_of_several(folder: Path) -> None:
    everything = set(ids(plan_of(BASE, folder)))
    assert kept(folder, "", only=("optimizer=a", "optimizer=b")) == everything
    assert kept(folder, "", only=("optimizer=b", "device=cpu", "objective=f*")) == {"fit/b/cpu"}
    assert kept(folder, "", only=("device=cuda",)) == {i for i in everything if "cuda" in i}


def test_the_command_lines_seeds_and_devices_replace_the_specs(folder: Path) -> None:
    plan = plan_of(BASE, folder, seeds=3, devices=("mps",))
    assert plan.seeds == (0, 1, 2)
    assert {case.device for case in plan.cases} == {"mps"}


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (
            "a",
            "--only a: expected optimizer=, objective=, setting= or device= with a name or pattern",
        ),
        (
            "",
            "--only : expected optimizer=, objective=, setting= or device= with a name or pattern",
        ),
        ("optimiser=a", "or pattern; did you mean 'optimizer'?"),
        ("optimizer=", "--only optimizer=: '' matches no optimizer"),
        ("optimizer=c", "--only optimizer=c: 'c' matches no optimizer (known: a, b)"),
        ("objective=bowll", "'bowll' matches no objective; did you mean 'bowl'?"),
        ("device=mps", "'mps' matches no device"),
        ("optimizer=\x1b[31m", r"--only optimizer=\x1b[31m: '\x1b[31m' matches no optimizer"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(folder: Path, only: str, message: str) -> None:
    (said,) = refusal(BASE, folder, only=(only,))
    assert message in said
    assert said.isprintable()


def test_a_setting_is_picked_by_the_name_that_it_has_among_all_and_keeps_it(folder: Path) -> None:
    assert kept(folder, "", only=("setting=lr=0.1, *", "device=cpu", "objective=fit")) == {
        "fit/a[lr=0.1, wd=0]/cpu",
        "fit/a[lr=0.1, wd=1]/cpu",
    }
    assert kept(folder, "", only=("setting=", "device=cpu")) == {"fit/b/cpu"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"only": ("setting=lr=3",)}, "--only setting=lr=3: 'lr=3' matches no setting"),
        ({"values": ("lr",)}, "--set lr: expected a hyperparameter that the spec names, '=' and"),
        ({"values": ("wt=1",)}, "'=' and its value (known: lr, wd)"),
        ({"values": ("lr=fast",)}, "--set lr=fast: 'fast' is not JSON: a number, true, null, or"),
        ({"values": ("lr=1e400",)}, "--set lr=1e400: expected a finite number, got .inf"),
        (
            {"values": ("lr={}",)},
            "--set lr={}: expected a number, a string, true, false, null or a",
        ),
        ({"values": ("lr=1", "lr=2")}, "--set lr=2: is given twice"),
        ({"values": ("lr=" + "[" * 10**5,)}, "is not JSON"),
        ({"values": ("lr=NaN",)}, "--set lr=NaN: 'NaN' is not JSON"),
    ],
)
def test_a_setting_or_a_value_that_means_nothing_is_refused(
    folder: Path, overrides: dict[str, Any], message: str
) -> None:
    (said,) = refusal(BASE, folder, **overrides)
    assert message in said


def test_a_value_stands_in_place_of_all_that_the_spec_lists_for_it(folder: Path) -> None:
    plan = plan_of(BASE, folder, values=("lr=0.25", "wd=1"), only=("device=cpu",))
    assert {case.id: case.hyperparameters for case in plan.cases} == {
        "bowl/a/cpu": {"lr": 0.25, "wd": 1},
        "bowl/b/cpu": {"lr": 0.25},
        "fit/a/cpu": {"lr": 0.25, "wd": 1},
        "fit/b/cpu": {"lr": 0.25},
    }


def test_chosen_seeds_are_run_and_no_others_and_timing_can_be_left_out(folder: Path) -> None:
    plan = plan_of(BASE, folder, chosen=(9, 4, 9), untimed=True)
    assert plan.seeds == (4, 9)
    assert not plan.spec.timing.enabled
    assert plan_of(BASE, folder).spec.timing.enabled


def test_a_plan_of_nothing_is_refused(folder: Path) -> None:
    assert refusal(BASE + "exclude: [{optimizer: '*'}]\n", folder) == [
        "spec.yaml:10:1: exclude: include and exclude leave nothing to run"
    ]
    text = BASE + "exclude: [{optimizer: a}]\n"
    assert refusal(text, folder, only=("optimizer=a",)) == [
        "spec.yaml:10:1: exclude: --only, include and exclude leave nothing to run"
    ]


def test_names_that_nothing_has_are_all_reported_with_the_specs_other_mistakes(
    folder: Path,
) -> None:
    text = BASE.replace("class: Mine, dataset: table", "class: Mime, dataset: tabel")
    text = text.replace("a: {class: SGD", "a: {class: Sgd").replace("seeds: [0, 7]", "seeds: 0")
    assert [line.partition(": ")[0] for line in refusal(text, folder, only=("device=x",))] == [
        "--only device=x",
        "spec.yaml:2:8",
        "spec.yaml:6:16",
        "spec.yaml:6:31",
        "spec.yaml:8:14",
    ]


@pytest.mark.parametrize(
    ("text", "devices"),
    [("cpu", ("cpu",)), (" cpu , cuda:1,cpu,", ("cpu", "cuda:1")), ("mps,xpu:0", ("mps", "xpu:0"))],
)
def test_devices_are_listed_with_commas(text: str, devices: tuple[str, ...]) -> None:
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    "text", ["", ",", "gpu", "cpu;cuda", "cuda:", "cuda:100", "CPU", "cpu\x1b"]
)
def test_devices_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a device") as caught:
        parse_devices(text)
    assert str(caught.value).isprintable()


def grid(**lists: list[Any]) -> str:
    entries = ", ".join(f"{name}: {values}" for name, values in lists.items())
    return (
        "suite: s\nseeds: 1\nobjectives: {bowl: {class: quadratic_2d, steps: 3}}\n"
        f"optimizers: {{a: {{class: SGD, hyperparameters: {{{entries}}}}}}}\n"
    )


def test_a_grid_of_more_settings_than_trials_are_allowed_is_refused_unbuilt(folder: Path) -> None:
    text = grid(**{f"h{i}": [0, 1] for i in range(50)})
    tracemalloc.start()
    (said,) = refusal(text, folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said == (
        f"spec.yaml:4:14: optimizers.a: its grid on 'bowl' has {2**50:,} settings, "
        f"a plan has at most {CASE_LIMIT:,} cases"
    )
    assert peak < 50 * 2**20


def test_searches_may_draw_more_settings_than_grids_may_have(folder: Path) -> None:
    """As over many tasks; each of them by itself is as small as a grid."""
    dishes = "".join(f", d{i}: {{class: quadratic_2d, steps: 3}}" for i in range(21))
    text = grid(lr=[1]).replace("}\noptimizers", f"{dishes}}}\noptimizers", 1)
    searched = text.replace("hyperparameters: {lr: [1]}", "search: {lr: {log_uniform: [0.1, 1]}}")
    asked = searched.replace("seeds: 1\n", "seeds: 1\ntuning: {trials: TRIALS, seeds: 1}\n")
    small = asked.replace("TRIALS", str(CASE_LIMIT // 20))
    assert len(plan_of(small, folder).searches) == 22
    (said,) = refusal(asked.replace("TRIALS", str(CASE_LIMIT)), folder)
    total = 22 * CASE_LIMIT
    assert said == (
        f"spec.yaml:5:1: optimizers: {total:,} settings are to be drawn for searches, "
        f"the limit is {DRAWN_LIMIT:,}"
    )
    many = grid(lr=[*range(CASE_LIMIT // 20)]).replace("}\noptimizers", f"{dishes}}}\noptimizers")
    (said,) = refusal(many, folder)
    assert f"the grids have {22 * (CASE_LIMIT // 20):,} cases, the limit is {CASE_LIMIT:,}" in said


def test_more_trials_than_are_allowed_are_refused(folder: Path) -> None:
    seeds = TRIAL_LIMIT // 4 + 1
    text = grid(lr=[1, 2, 3, 4]).replace("seeds: 1\n", f"seeds: {seeds}\n")
    (said,) = refusal(text, folder)
    assert f"4 cases with {seeds:,} seeds are {4 * seeds:,} trials, the limit is" in said
    assert plan_of(text.replace(str(seeds), str(seeds - 1)), folder).trials == TRIAL_LIMIT


LARGE = [
    pytest.param(
        grid(**{f"h{i}": [0, 1] for i in range(18)}).replace("seeds: 1\n", "seeds: 100\n"),
        {},
        id="settings times seeds",
    ),
    pytest.param(
        "suite: s\nseeds: 1\nobjectives: {bowl: {class: quadratic_2d, steps: 3}}\noptimizers:\n"
        + "".join(
            f"  a{i}: {{class: SGD, hyperparameters: {{"
            + ", ".join(f"h{j}: [0, 1]" for j in range(16))
            + "}}\n"
            for i in range(40)
        ),
        {},
        id="many optimizers",
    ),
    pytest.param(grid(lr=[1]), {"seeds": 10**8}, id="seeds on the command line"),
]


@pytest.mark.parametrize(("text", "overrides"), LARGE)
def test_a_plan_of_more_trials_than_are_allowed_is_refused_unbuilt(
    folder: Path, text: str, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object) -> str:
        raise AssertionError("a case of a plan that is refused was built")

    class Unbuilt:
        """A range that must not be gone through."""

        def __init__(self, length: int) -> None:
            self.length = length

        def __len__(self) -> int:
            return self.length

        __iter__ = built

    if not overrides:
        monkeypatch.setattr("harness.plan.model._case_key", built)
    monkeypatch.setattr("harness.plan.builder.range", Unbuilt, raising=False)
    for said in refusal(text, folder, **overrides):
        assert "the limit is" in said or "at most" in said


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([0.1, 0.5, 1e-6, 1e-7, 2.0, 1 / 3]),
    st.sampled_from(["min", "max"]),
)
grids = st.dictionaries(
    st.sampled_from(["lr", "momentum", "mode"]),
    st.lists(plain, min_size=1, max_size=4, unique_by=lambda v: v if v is None else hash(v)),
    max_size=3,
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lists=grids)
def test_a_grid_gives_each_setting_once_under_an_id_and_a_key_of_its_own(
    folder: Path, lists: dict[str, list[Any]]
) -> None:
    import json

    text = grid(**{name: json.dumps(values) for name, values in lists.items()})  # type: ignore[arg-type]
    plan = plan_of(text, folder)
    count = math.prod(len(values) for values in lists.values())
    assert len(plan.cases) == count
    assert len(set(ids(plan))) == count
    assert len({case.key for case in plan.cases}) == count
    assert all(i.isprintable() for i in ids(plan))
    again = plan_of(text, folder)
    assert [(c.id, c.key) for c in again.cases] == [(c.id, c.key) for c in plan.cases]


def test_values_that_agree_to_six_digits_have_ids_of_their_own(folder: Path) -> None:
    found = ids(plan_of(grid(lr=[0.1234561, 0.1234562]), folder))
    assert len(set(found)) == 2


def keys(text: str, folder: Path) -> dict[str, str]:
    return {case.id: case.key for case in plan_of(text, folder).cases}


def changed(folder: Path, text: str, change: Callable[[], object] | None = None) -> set[str]:
    """The ids that both specs have and whose keys differ."""
    before = keys(BASE, folder)
    if change:
        change()
    after = keys(text, folder)
    return {i for i in before.keys() & after.keys() if before[i] != after[i]}


def everything(folder: Path) -> set[str]:
    return set(keys(BASE, folder))


def edit(folder: Path, name: str, text: str = "# edited\n") -> Callable[[], object]:
    path = folder / name
    return lambda: path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("suite: s\n", "suite: other\ntitle: Words\ndescription: More words.\n"),
        ("seeds: [0, 7]\n", "seeds: 5\n"),
        ("suite: s\n", "suite: s\nthreads: 4\ntiming: {rounds: 7}\nlimits: {seconds: 5}\n"),
        ("  b: {class: SGD, ", "  b: {class: 'optimizers/other.py:Momentum', "),
        ("optimizers:\n", "optimizers:\n  first: {class: Momentum}\n"),
        ("objectives:\n", "objectives:\n  more: {class: quadratic_2d, steps: 9}\n"),
        ("[0.1, 0.2], wd: [0, 1]", "[0.2, 0.3, 0.1], wd: [1, 0]"),
        ("suite: s\n", "# a comment\nsuite: s   # and another\n"),
    ],
)
def test_what_decides_no_result_changes_no_key(folder: Path, old: str, new: str) -> None:
    found = changed(folder, BASE.replace(old, new))
    assert {i for i in found if "/a[" in i} == set()


@pytest.mark.parametrize("name", ["optimizers/other.py", "datasets/README.md"])
def test_files_that_decide_no_result_change_no_key(folder: Path, name: str) -> None:
    assert changed(folder, BASE, edit(folder, name)) == set()


def test_names_of_optimizers_and_objectives_are_in_no_key(folder: Path) -> None:
    renamed = BASE.replace("  a:", "  c:").replace("bowl", "cup")
    assert set(keys(BASE, folder).values()) == set(keys(renamed, folder).values())


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("optimizers/all.py", ""),
        ("optimizers/helper.py", ""),
        ("objectives/mine.py", "fit"),
        ("objectives/parts.py", "fit"),
        ("datasets/table.py", "fit"),
        ("datasets/table.csv", "fit"),
    ],
)
def test_an_edited_file_changes_the_keys_that_rest_on_it(
    folder: Path, name: str, objective: str
) -> None:
    expected = {i for i in everything(folder) if i.startswith(objective)}
    assert changed(folder, BASE, edit(folder, name)) == expected


def test_an_edited_optimizer_changes_its_own_keys_only(folder: Path) -> None:
    text = BASE.replace("  b: {class: SGD", "  b: {class: Momentum")
    before = keys(text, folder)
    edit(folder, "optimizers/other.py")()
    after = keys(text, folder)
    assert {i for i in before if before[i] != after[i]} == {i for i in before if "/b" in i}


@pytest.mark.parametrize(
    ("old", "new", "objective"),
    [
        ("quadratic_2d, steps: 3", "quadratic_2d, steps: 4", "bowl"),
        ("quadratic_2d, steps: 3", "quadratic_2d, epochs: 3", "bowl"),
        ("quadratic_2d, steps: 3", "quadratic_2d, steps: 3, dtype: float64", "bowl"),
        ("quadratic_2d, steps: 3", "quadratic_2d, steps: 3, record_every: 2", "bowl"),
        ("quadratic_2d, steps: 3", "quadratic_2d, steps: 3, divergence_factor: 10", "bowl"),
        ("quadratic_2d, steps: 3", "quadratic_2d, steps: 3, arguments: {start: [1, 2]}", "bowl"),
        ("table, epochs: 2", "table, epochs: 2, batch_size: 5", "fit"),
        ("class: Mine, dataset: table", "class: Mine", "fit"),
        ("class: quadratic_2d", "class: Mine", "bowl"),
    ],
)
def test_what_decides_an_objectives_results_changes_its_keys(
    folder: Path, old: str, new: str, objective: str
) -> None:
    expected = {i for i in everything(folder) if i.startswith(objective)}
    assert changed(folder, BASE.replace(old, new)) == expected


def test_every_hyperparameter_and_device_is_in_the_key(folder: Path) -> None:
    plan = plan_of(BASE, folder)
    assert len({case.key for case in plan.cases}) == len(
        {(c.objective.name, str(c.hyperparameters), c.device) for c in plan.cases}
    )
    more = changed(folder, BASE.replace("wd: [0, 1]", "wd: [0, 1], nesterov: true"))
    assert more == {i for i in everything(folder) if "/a[" in i}


def test_the_versions_of_torch_and_of_the_engine_are_in_every_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_torch() -> None:
        monkeypatch.setattr(fingerprint, "version_of", lambda package: f"{package}-2.99")

    def other_engine() -> None:
        monkeypatch.setattr(fingerprint, "engine", lambda: "another")

    assert changed(folder, BASE, other_torch) == everything(folder)
    monkeypatch.undo()
    assert changed(folder, BASE, other_engine) == everything(folder)


def test_a_suite_that_moves_keeps_its_keys(folder: Path, tmp_path: Path) -> None:
    before = keys(BASE, folder)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for section in ("optimizers", "objectives", "datasets"):
        (folder / section).rename(moved / section)
    assert keys(BASE, moved) == before


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param("datasets/sub/deep.py", id="a dataset below the folder"),
        pytest.param(
            "data/table.py",
            id="a dataset in another folder",
        ),
    ],
)
def test_a_data_file_beside_its_loader_is_in_the_key(folder: Path, reader: str) -> None:
    path = folder / reader
    path.parent.mkdir(exist_ok=True)
    path.write_text("def load(): ...\n")
    data = path.with_suffix(".csv")
    data.write_text("1\n")
    text = BASE.replace("dataset: table", f"dataset: '{reader}:load'")
    before = keys(text, folder)
    data.write_text("2\n")
    after = keys(text, folder)
    assert {i for i in before if before[i] != after[i]} == {i for i in before if "fit" in i}


def test_a_data_file_behind_a_relative_import_is_in_the_key(folder: Path) -> None:
    (folder / "objectives" / "parts.py").write_text("from ..datasets.table import table as a\n")
    text = BASE.replace("class: Mine, dataset: table", "class: Mine")
    before = keys(text, folder)
    edit(folder, "datasets/table.csv", "3,4\n")()
    after = keys(text, folder)
    assert {i for i in before if before[i] != after[i]} == {i for i in before if "fit" in i}


def test_a_suite_file_that_is_a_link_is_planned_by_what_it_links_to(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("shared") / "shared.py"
    shared.write_text("class Shared:\n    def step(self): ...\n")
    (folder / "optimizers" / "shared.py").symlink_to(shared)
    text = BASE.replace("  b: {class: SGD", "  b: {class: Shared")
    before = keys(text, folder)
    shared.write_text("class Shared:\n    def step(self): return 1\n")
    after = keys(text, folder)
    assert {i for i in before if before[i] != after[i]} == {i for i in before if "/b" in i}


def test_draft_hands_on_what_is_valid_with_what_is_not(folder: Path) -> None:
    source = parse(BASE.replace("seeds: [0, 7]", "seeds: -1").encode(), str(folder / "spec.yaml"))
    plan, problems = draft(check(source), Overrides())
    assert [problem.key for problem in problems] == ["seeds"]
    assert plan is not None
    assert plan.cases


def test_what_may_share_a_run_differs_by_the_size_of_floats_alone(folder: Path) -> None:
    plan = plan_of(
        "suite: s\nobjectives: {quadratic_2d: {steps: 3}}\noptimizers:\n"
        "  sgd:\n    class: torch.optim:SGD\n    hyperparameters:\n"
        "      lr: [0.1, 0.2, 1]\n      momentum: [0.0, 0.5, 0.9]\n      nesterov: [false]\n"
        "  adam:\n    class: torch.optim:Adam\n    hyperparameters:\n"
        "      betas: [[0.9, 0.99], [0.8, 0.9], [0.0, 0.9]]\n      amsgrad: [true, false]\n",
        folder,
    )
    families = {tuple(case.setting for case in family) for family in plan.families()}
    assert families == {
        # A momentum of 0 keeps no average, and a rate that is a whole number is another kind.
        ("lr=0.1, momentum=0", "lr=0.2, momentum=0"),
        tuple(f"lr={lr}, momentum={momentum}" for lr in (0.1, 0.2) for momentum in (0.5, 0.9)),
        ("lr=1, momentum=0",),
        ("lr=1, momentum=0.5", "lr=1, momentum=0.9"),
        ("betas=[0.9, 0.99], amsgrad=true", "betas=[0.8, 0.9], amsgrad=true"),
        ("betas=[0.9, 0.99], amsgrad=false", "betas=[0.8, 0.9], amsgrad=false"),
        ("betas=[0, 0.9], amsgrad=true",),
        ("betas=[0, 0.9], amsgrad=false",),
    }


def test_defaults_beside_tuned_settings_are_a_family_of_their_own(folder: Path) -> None:
    plan = plan_of(
        "suite: s\nobjectives: {quadratic_2d: {steps: 3}}\n"
        "tuning: {trials: 4, defaults: true}\noptimizers:\n"
        "  sgd: {class: 'torch.optim:SGD', search: {lr: {log_uniform: [0.01, 1]}}}\n",
        folder,
    )
    (defaults,) = plan.families()
    assert [case.hyperparameters for case in defaults] == [{}]
    tuned = replace(defaults[0], hyperparameters={"lr": 0.1}, role="tuned")
    both = replace(plan, cases=(defaults[0], tuned))
    assert both.families() == [(defaults[0],), (tuned,)]
