"""The spec's checks: every mistake at once, each at its own place and with what would be right."""

from __future__ import annotations

import contextlib
import copy
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import marked, require
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput, Problem, join, nearest
from harness.plan.builder import Overrides, draft
from harness.spec.model import Spec
from harness.spec.validation import LoadedSpec, check, load
from harness.spec.yaml_source import parse

ROOT = Path(__file__).resolve().parents[2]
Place = tuple[int, int]

BASE = """\
suite: s
objectives:
  bowl: {class: quadratic_2d, steps: 3}
optimizers:
  sgd: {class: SGD, hyperparameters: {lr: 0.1}}
"""


def checked(text: str) -> LoadedSpec:
    return check(parse(text.encode(), "spec.yaml"))


def found(problems: tuple[Problem, ...]) -> list[tuple[Place, str]]:
    return [((p.line, p.column), p.key) for p in problems]


def objective(entry: str) -> str:
    return BASE.replace("{class: quadratic_2d, steps: 3}", entry)


def optimizer(entry: str) -> str:
    return BASE.replace("{class: SGD, hyperparameters: {lr: 0.1}}", entry)


def hyperparameters(entry: str) -> str:
    return BASE.replace("{lr: 0.1}", entry)


def test_the_shipped_spec_has_no_mistake_and_says_what_the_chapter_says() -> None:
    loaded = load(ROOT / "benchmarks.yaml")
    assert loaded.problems == ()
    spec = require(loaded)
    assert spec.seeds == tuple(range(10))
    assert spec.devices == ("cpu", "cuda")
    quadratic, linreg = spec.objectives["quadratic_2d"], spec.objectives["ch7_linreg"]
    assert (quadratic.steps, quadratic.epochs, quadratic.dtype) == (20, None, "float64")
    assert (linreg.steps, linreg.epochs, linreg.dtype) == (None, 2, "float32")
    assert linreg.batch_size == 10
    assert list(spec.optimizers) == ["sgd", "momentum", "adagrad", "torch_adagrad"]
    assert spec.optimizers["adagrad"].per_objective["quadratic_2d"] == {"lr": [0.4, 2.0]}
    assert spec.optimizers["adagrad"].hyperparameters == {"eps": 1e-6}


NAME = "expected a name that can be a file name"
REFERENCE = "expected a name in the suite ('AdaGrad')"
MISTAKES = [
    # the top
    ("«5\n", "", "expected a mapping with 'suite', 'objectives' and 'optimizers', got 5"),
    ("«[a, b]\n", "", "got a list"),
    ("«just words\n", "", "got 'just words'"),
    (BASE.replace("suite: s\n", "").replace("obj", "«obj", 1), "suite", "is missing"),
    (BASE + "«seed: 5\n", "seed", "unknown key; did you mean 'seeds'?"),
    (BASE + "«Devices: [cpu]\n", "Devices", "unknown key; did you mean 'devices'?"),
    (BASE + "seeds: «0\n", "seeds", "expected at least 1 seed, got 0"),
    (BASE + "seeds: «-3\n", "seeds", "expected at least 1 seed, got -3"),
    (BASE + "seeds: «2000001\n", "seeds", "expected at most 2,000,000 seeds, got 2000001"),
    (BASE + f"seeds: «1{'0' * 399}\n", "seeds", "expected at most 2,000,000 seeds, got 1000"),
    (BASE + "seeds: «1.5\n", "seeds", "expected a number of seeds or a list of seeds, got 1.5"),
    (BASE + "seeds: «.inf\n", "seeds", "expected a number of seeds or a list of seeds, got .inf"),
    (BASE + "seeds: «true\n", "seeds", "expected a number of seeds or a list of seeds, got true"),
    (BASE + "seeds: «ten\n", "seeds", "expected a number of seeds or a list of seeds, got 'ten'"),
    (BASE + "seeds: «[]\n", "seeds", "the list is empty, expected at least one seed"),
    (BASE + "seeds: [1, «1]\n", "seeds.1", "duplicate entry: seed 1"),
    (BASE + "seeds: [0, «-1]\n", "seeds.1", "expected a whole number from 0 to 1,073,741,822"),
    (BASE + "seeds: [«1073741823]\n", "seeds.0", "got 1073741823"),
    (BASE + "seeds: [«[1]]\n", "seeds.0", "expected a whole number from 0 to"),
    (BASE + "devices: «cpu\n", "devices", "expected a list, got 'cpu'"),
    (BASE + "devices: «[]\n", "devices", "is empty, expected at least one entry"),
    (BASE + "devices: [«gpu]\n", "devices.0", "got 'gpu'; did you mean 'cuda'?"),
    (BASE + "devices: [«CUDA]\n", "devices.0", "got 'CUDA'; did you mean 'cuda'?"),
    (BASE + "devices: [«cuda:-1]\n", "devices.0", "got 'cuda:-1'; did you mean 'cuda'?"),
    (BASE + "devices: [«1]\n", "devices.0", "expected a device such as 'cpu', 'cuda'"),
    (BASE + "devices: [cpu, cuda, «cpu]\n", "devices.2", "duplicate entry: 'cpu'"),
    (BASE + "threads: «0\n", "threads", "expected at least 1, got 0"),
    (BASE + "threads: «true\n", "threads", "expected a whole number, got true"),
    (BASE + "threads: «'2'\n", "threads", "expected a whole number, got '2'"),
    (BASE + "title: «5\n", "title", "expected a string, got 5"),
    (BASE + f"title: «{'x' * 201}\n", "title", "expected at most 200 characters, got 201"),
    (BASE + "timing: «off\n", "timing", "expected a mapping, got 'off'"),
    (BASE + "timing: {enabled: «no}\n", "timing.enabled", "expected true or false, got 'no'"),
    (BASE + "timing: {rounds: «2}\n", "timing.rounds", "expected at least 3, got 2"),
    (BASE + "timing: {«warm_up: 2}\n", "timing.warm_up", "did you mean 'warmup_rounds'?"),
    # sections
    (
        "suite: s\nobjectives: «[]\noptimizers: {o: {class: A}}\n",
        "objectives",
        "expected a mapping",
    ),
    ("suite: s\nobjectives: «{}\noptimizers: {o: {class: A}}\n", "objectives", "is empty"),
    ("suite: s\nobjectives:«\noptimizers: {o: {class: A}}\n", "objectives", "got nothing"),
    (
        objective("«5"),
        "objectives.bowl",
        "a mapping such as {class: quadratic_2d, steps: 20}, got 5",
    ),
    (optimizer("«SGD"), "optimizers.sgd", "a mapping such as {class: SGD}, got 'SGD'"),
    # objectives
    (objective("«{class: A}"), "objectives.bowl", "either 'steps' or 'epochs', neither is given"),
    (objective("«{steps: 1, epochs: 1}"), "objectives.bowl", "'epochs', both are given"),
    (objective("{steps: «0}"), "objectives.bowl.steps", "expected at least 1, got 0"),
    (objective("{steps: «-1}"), "objectives.bowl.steps", "expected at least 1, got -1"),
    (objective("{steps: «1e3}"), "objectives.bowl.steps", "expected a whole number, got 1000.0"),
    (objective("{steps: «.nan}"), "objectives.bowl.steps", "expected a whole number, got .nan"),
    (objective("{steps: «1000000000}"), "objectives.bowl.steps", "expected at most 100,000,000"),
    (objective("{epochs: «0}"), "objectives.bowl.epochs", "expected at least 1, got 0"),
    (objective("{epochs: 1, batch_size: «0}"), "objectives.bowl.batch_size", "at least 1, got 0"),
    (objective("{epochs: 1, record_every: «0}"), "objectives.bowl.record_every", "got 0"),
    (
        objective("{epochs: 1, divergence_factor: «0}"),
        "objectives.bowl.divergence_factor",
        "expected more than 0, got 0",
    ),
    (
        objective("{epochs: 1, divergence_factor: «.inf}"),
        "objectives.bowl.divergence_factor",
        "expected a finite number, got .inf",
    ),
    (
        objective(f"{{epochs: 1, divergence_factor: «1{'0' * 350}}}"),
        "objectives.bowl.divergence_factor",
        "expected a number, got 1000",
    ),
    (objective("{steps: 1, dtype: «float46}"), "objectives.bowl.dtype", "did you mean 'float64'?"),
    (
        objective("{steps: 1, dtype: «64}"),
        "objectives.bowl.dtype",
        "'float32' or 'float64', got 64",
    ),
    (objective("{steps: 1, «batchsize: 2}"), "objectives.bowl.batchsize", "mean 'batch_size'?"),
    (objective("{steps: 1, class: «../a.py:B}"), "objectives.bowl.class", REFERENCE),
    (objective("{steps: 1, class: «'os:system;ls'}"), "objectives.bowl.class", REFERENCE),
    (objective("{steps: 1, dataset: «5}"), "objectives.bowl.dataset", REFERENCE),
    (
        objective("{steps: 1, arguments: «[1]}"),
        "objectives.bowl.arguments",
        "a mapping, got a list",
    ),
    (
        objective("{steps: 1, arguments: {start: [1, [2, «-.inf]]}}"),
        "objectives.bowl.arguments.start.1.1",
        "expected a finite number, got -.inf",
    ),
    # optimizers
    (
        BASE.replace("sgd:", "«sgd:").replace("class: SGD, ", ""),
        "optimizers.sgd.class",
        "is missing",
    ),
    (optimizer("{class:« }"), "optimizers.sgd.class", REFERENCE),
    (optimizer("{class: «<script>}"), "optimizers.sgd.class", "got '<script>'"),
    (optimizer("{class: A, «hyperparameter: {}}"), "optimizers.sgd.hyperparameter", "eters'?"),
    (
        optimizer("{class: A, per_objective: {«bwl: {}}}"),
        "optimizers.sgd.per_objective.bwl",
        "'bowl'",
    ),
    (
        hyperparameters("{lr: «.nan}"),
        "optimizers.sgd.hyperparameters.lr",
        "finite number, got .nan",
    ),
    (hyperparameters("{lr: [1, «.inf]}"), "optimizers.sgd.hyperparameters.lr.1", "got .inf"),
    (hyperparameters("{lr: «[]}"), "optimizers.sgd.hyperparameters.lr", "the list is empty"),
    (hyperparameters("{lr: «{a: 1}}"), "optimizers.sgd.hyperparameters.lr", "got a mapping"),
    (hyperparameters(f"{{lr: «1{'0' * 350}}}"), "optimizers.sgd.hyperparameters.lr", "63 bits"),
    (
        hyperparameters("{lr: [1, 2, «1]}"),
        "optimizers.sgd.hyperparameters.lr.2",
        "duplicate entry: 1",
    ),
    (hyperparameters("{lr: [1, «1.0]}"), "optimizers.sgd.hyperparameters.lr.1", "entry: 1.0"),
    (hyperparameters("{a: [1, «true]}"), "optimizers.sgd.hyperparameters.a.1", "entry: true"),
    (hyperparameters("{a: [0.4, «'0.4']}"), "optimizers.sgd.hyperparameters.a.1", "entry: '0.4'"),
    (hyperparameters("{a: [[1, 2], «[1.0, 2]]}"), "optimizers.sgd.hyperparameters.a.1", "a list"),
    (hyperparameters('{a: «"x\\ny"}'), "optimizers.sgd.hyperparameters.a", "a string on one line"),
    (hyperparameters(f"{{a: «{'x' * 201}}}"), "optimizers.sgd.hyperparameters.a", "at most 200"),
    (hyperparameters("{«<b>: 1}"), "optimizers.sgd.hyperparameters.<b>", "an argument's name"),
    (hyperparameters("{«lr-x: 1}"), "optimizers.sgd.hyperparameters.lr-x", "argument's name"),
    (hyperparameters("«5"), "optimizers.sgd.hyperparameters", "expected a mapping, got 5"),
    # include and exclude
    (BASE + "include: «{optimizer: sgd}\n", "include", "expected a list, got a mapping"),
    (BASE + "include: [«{}]\n", "include.0", "matches everything; expected 'optimizer'"),
    (BASE + "exclude: [{«optimiser: sgd}]\n", "exclude.0.optimiser", "mean 'optimizer'?"),
    (BASE + "exclude: [{optimizer: «sdg}]\n", "exclude.0.optimizer", "did you mean 'sgd'?"),
    (BASE + "include: [{objective: «'q*'}]\n", "include.0.objective", "matches no objective"),
    (BASE + "include: [{device: «cuda}]\n", "include.0.device", "'cuda' matches no device"),
    (BASE + "include: [{optimizer: «[]}]\n", "include.0.optimizer", "is empty"),
    (BASE + "include: [{optimizer: [«1]}]\n", "include.0.optimizer.0", "expected a string, got 1"),
    (
        BASE + "exclude: [{hyperparameters: {«lrr: 1}}]\n",
        "exclude.0.hyperparameters.lrr",
        "no optimizer has a hyperparameter 'lrr'; did you mean 'lr'?",
    ),
    (
        BASE + "exclude: [{hyperparameters: {lr: «0.2}}]\n",
        "exclude.0.hyperparameters.lr",
        "no optimizer has this value of 'lr'",
    ),
    (
        BASE + "exclude: [{hyperparameters: {lr: «[0.1, 0.2]}}]\n",
        "exclude.0.hyperparameters.lr",
        "a match asks for one value: write one entry of 'exclude' for each",
    ),
]


@pytest.mark.parametrize(("text", "key", "message"), MISTAKES)
def test_a_mistake_is_reported_once_at_its_place(text: str, key: str, message: str) -> None:
    clean, places = marked(text)
    loaded = checked(clean)
    assert found(loaded.problems) == [(places[0], key)]
    assert message in loaded.problems[0].message
    with pytest.raises(BadInput):
        require(loaded)


BAD_NAMES = [
    *("../x", "/abs", "a/b", "a\\b", "..", ".", ".hidden", "a.", "a b", "-x", "_x", "é", ""),
    *("x" * 65, "x" * 300, "<script>alert(1)</script>", "a&b", 'a"b', "a'b", "a\nb", "CON?", "a:b"),
    *("CON", "con", "con.txt", "Nul", "AUX", "PRN.x", "COM1", "lpt9.log", "null ", "~", "{value}"),
]
GOOD_NAMES = ["a", "A", "7", "x" * 64, "a.b", "v1.0-rc_2", "conn", "com", "com10", "no", "1e-6"]


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_files_name_is_refused_wherever_it_stands(name: str) -> None:
    text, places = marked(
        f"suite: «{quoted(name)}\nobjectives:\n  «{quoted(name)}: {{class: a, steps: 1}}\n"
        f"optimizers:\n  «{quoted(name)}: {{class: A}}\n"
    )
    problems = checked(text).problems
    keys = ["suite", f"objectives.{name}", f"optimizers.{name}"]
    assert found(problems) == list(zip(places, keys, strict=True))
    for problem in problems:
        assert problem.message.startswith(NAME)
        assert str(problem).isprintable()


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_that_can_be_a_files_is_taken(name: str) -> None:
    text = BASE.replace("suite: s", f"suite: {quoted(name)}").replace("sgd", quoted(name))
    assert checked(text).problems == ()


def test_names_that_differ_by_case_only_are_refused() -> None:
    text, (place,) = marked(BASE + "  «SGD: {class: SGD}\n")
    (problem,) = checked(text).problems
    assert found((problem,)) == [(place, "optimizers.SGD")]
    assert problem.message == "differs from 'sgd' by case only"


def test_all_mistakes_are_reported_at_once_and_no_echo_of_them() -> None:
    text, places = marked(
        """\
suite: «../up
«sedes: 3
devices: [cpu, «gpu, «7]
threads: «0
objectives:
  «<b>: {steps: 1}
  bowl: {class: «5, steps: «0, «foo: 1}
  both: «{class: q, steps: 2, epochs: 3, «bar: 1}
  data: {class: q, dataset: «[], steps: 1, arguments: {«a-b: 1, c: «.nan}}
optimizers:
  «lost: {}
  one: {class: A, hyperparameters: {lr: «.nan, eps: «[], «'x y': 1}}
  two: {class: B, hyperparameters: «5, per_objective: {«bwl: {lr: 1}, bowl: {lr: «{}}}}
include: [«{}, {optimizer: «onee}]
exclude: [{«devise: cpu}, {objective: «bol}, {hyperparameters: «3}]
timing: {rounds: «1, block_steps: «x}
"""
    )
    problems = checked(text).problems
    assert [place for place, _ in found(problems)] == sorted(places)
    assert all(problem.file == "spec.yaml" for problem in problems)


def test_what_is_left_without_the_mistakes_is_handed_on_for_later_checks() -> None:
    loaded = checked(
        "objectives:\n  bowl: {steps: 0}\n  good: {class: quadratic_2d, steps: 2}\n"
        "optimizers:\n  a: {class: Nope}\n  b: {clas: SGD}\n"
    )
    assert {p.key for p in loaded.problems} == {
        "suite",
        "objectives.bowl.steps",
        "optimizers.b.clas",
        "optimizers.b.class",
    }
    assert loaded.spec is not None
    assert list(loaded.spec.objectives) == ["bowl", "good"]
    assert list(loaded.spec.optimizers) == ["a"]


def test_a_valid_spec_says_what_the_file_says() -> None:
    spec = require(
        checked(
            "suite: no\ntitle: ''\nseeds: [3, 1]\ndevices: [cpu, 'cuda:1']\n"
            "objectives: {q: {class: quadratic_2d, epochs: 012, dtype: float64,"
            " divergence_factor: 1}}\n"
            "optimizers:\n"
            "  a: {class: 'torch.optim:Adam', hyperparameters: {lr: [1e-6, 1],"
            " betas: [[0.9, 0.99]], amsgrad: [true, false], foreach: null}}\n"
            "include: [{optimizer: a*}, {hyperparameters: {lr: 1, betas: [0.9, 0.99]}}]\n"
        )
    )
    assert (spec.suite, spec.seeds, spec.devices) == ("no", (3, 1), ("cpu", "cuda:1"))
    assert spec.objectives["q"].epochs == 12
    assert spec.optimizers["a"].hyperparameters == {
        "lr": [1e-6, 1],
        "betas": [[0.9, 0.99]],
        "amsgrad": [True, False],
        "foreach": None,
    }
    assert spec.include[0].optimizer == ("a*",)


@pytest.mark.parametrize(
    "text",
    [
        hyperparameters("{lr: [" + ", ".join(map(str, range(40_000))) + "]}"),
        hyperparameters("{lr: [" + ", ".join(["5"] * 40_000) + "]}"),
        BASE + "seeds: [" + ", ".join(map(str, [*range(30_000), 29_999])) + "]\n",
        BASE + "devices: [" + ", ".join(["gpu"] * 15_000) + "]\n",
        BASE + "seeds: 2000000\n",
    ],
    ids=["long grid", "grid of one value", "long seeds", "many bad devices", "many seeds"],
)
def test_long_lists_are_checked_in_seconds(text: str) -> None:
    source = parse(text.encode(), "spec.yaml")
    began = time.process_time()
    check(source)
    assert time.process_time() - began < 3


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**30, 2**31, -(2**70)]),
    st.floats(),
    st.sampled_from(["", "sgd", "bowl", "quadratic_2d", "SGD", "cpu", "<b>", "../x", "*", "a\nb"]),
    st.lists(st.integers(0, 3) | st.just("sgd") | st.just({}), max_size=3),
    st.dictionaries(
        st.sampled_from(["lr", "class", "steps", "x y"]), st.integers(0, 2), max_size=2
    ),
)
paths = st.sampled_from(
    [
        *(("suite",), ("seeds",), ("devices",), ("devices", 0), ("threads",), ("objectives",)),
        *(("objectives", "bowl"), ("objectives", "bowl", "steps"), ("objectives", "bowl", "class")),
        *(("objectives", "bowl", "arguments"), ("objectives", "bowl", "epochs"), ("optimizers",)),
        *(("optimizers", "sgd"), ("optimizers", "sgd", "class"), ("optimizers", "x y"), ("new",)),
        *(("optimizers", "sgd", "hyperparameters"), ("optimizers", "sgd", "per_objective")),
        *(("optimizers", "sgd", "hyperparameters", "lr"), ("include",), ("include", 0)),
        *(
            ("optimizers", "sgd", "per_objective", "bowl"),
            ("exclude",),
            ("include", 0, "optimizer"),
        ),
        *(("include", 0, "hyperparameters"), ("timing",), ("timing", "rounds"), ("title",)),
    ]
)
FULL: dict[str, Any] = {
    **yaml.safe_load(BASE),
    "devices": ["cpu"],
    "include": [{"optimizer": "sgd"}],
    "timing": {"rounds": 5},
}


def changed(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    data = copy.deepcopy(FULL)
    for path, value in changes:
        target: Any = data
        for part in path[:-1]:
            try:
                target = target[part]
            except (KeyError, IndexError, TypeError):
                target = None
        key = path[-1]
        if isinstance(target, dict) or (isinstance(target, list) and target and key == 0):
            target[key] = value
    return data


@given(st.lists(st.tuples(paths, values), max_size=5))
def test_whatever_is_wrong_the_check_says_where_and_never_fails(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    text = yaml.safe_dump(changed(changes), allow_unicode=True)
    loaded = checked(text)
    lines = text.split("\n")
    for problem in loaded.problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message
    assert loaded.spec is not None
    if not loaded.problems:
        assert type(loaded.spec) is Spec
        again = loaded.spec.model_dump(by_alias=True)
        assert math.isfinite(again["threads"])


def test_a_problem_is_one_printable_line_whatever_it_is_about() -> None:
    problem = Problem("a\nb\x1b[2J", 3, 4, "k\u202e" + "y" * 500, "m\r\n\x07" + "z" * 5000)
    text = str(problem)
    assert text.isprintable()
    assert text.startswith(r"a\nb\x1b[2J:3:4: k\u202e")
    assert len(text) < 1500
    assert str(Problem("f", 0, 0, "", "m")) == "f: m"
    assert str(Problem("f", 2, 0, "k", "m")) == "f:2: k: m"


def test_bad_input_holds_each_mistake_once_in_the_files_order() -> None:
    first, second, third = (Problem("f", *place, "", "m") for place in ((1, 9), (2, 1), (10, 1)))
    assert BadInput([third, first, second, first]).problems == (first, second, third)


def test_the_nearest_name_is_offered_else_what_there_is() -> None:
    names = ["momentum", "AdaGrad", "sgd"]
    assert nearest("adagrad", names) == "; did you mean 'AdaGrad'?"
    assert nearest("momentun", names) == "; did you mean 'momentum'?"
    assert nearest("zzz", names) == " (known: AdaGrad, momentum, sgd)"
    assert nearest("zzz", []) == ""
    assert join([str(i) for i in range(15)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 3 more"


def test_two_mistakes_in_a_claim_leave_the_claims_after_it_at_their_places(tmp_path: Path) -> None:
    text = """\
suite: s
objectives: {bowl: {class: quadratic_2d, steps: 3}}
optimizers: {o: {class: "torch.optim:SGD"}}
claims:
  - {value: "x", sd: -1, optimizer: o, objective: bowl}
  - {value: "1", source: a, optimizer: p, objective: bowl}
  - {value: "1", source: a, optimizer: o, objective: bowl, 'hyper"': 1, seeds: 1}
"""
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    lines = [str(problem).removeprefix(f"{file}:") for problem in load(file).problems]
    assert lines == [
        "5:5: claims.0.source: is missing",
        "5:13: claims.0.value: expected a finite number, got 'x'",
        "5:22: claims.0.sd: expected at least 0, got -1",
        "6:40: claims.1.optimizer: there is no optimizer 'p' (known: o)",
        '7:60: claims.2.hyper": unknown key (known: hyperparameters, objective, optimizer, '
        "quantity, sd, seeds, setting, source, value)",
        "7:80: claims.2.seeds: expected at least 2, got 1",
    ]


WHOLE = (
    (ROOT / "specs" / "tuned.yaml").read_text()
    + """
include: [{optimizer: "*"}]
exclude: [{hyperparameters: {lr: 0.2}}]
claims: [{value: "1", source: a, optimizer: sgd, objective: bowl}]
check: {cells: [{optimizer: sgd, threshold: 0.1}]}
"""
)
TOKENS = re.findall(r"\w+|\s+|[^\w\s]", WHOLE)
SIGNS = "' \" : [ ] { } *a << !!int null -1 1e400 .nan [[1]] # | true"
PIECES = st.sampled_from(
    [*SIGNS.split(), ": ", "- ", "\n", "\t", "\u00a0", "&a ", "9" * 30, "x" * 300, "{a: b}"]
)
EDITS = st.lists(st.tuples(st.integers(0, len(TOKENS) - 1), PIECES, st.booleans()), min_size=1)


@given(EDITS)
def test_a_mutated_spec_is_planned_or_refused_and_nothing_else(edits: list[Any]) -> None:
    tokens = list(TOKENS)
    for place, piece, beside in edits[:4]:
        tokens[place] = tokens[place] + piece if beside else piece
    with contextlib.suppress(BadInput):
        source = replace(parse("".join(tokens).encode(), "f.yaml"), folder=ROOT)
        draft(check(source), Overrides())
