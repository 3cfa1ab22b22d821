"""Hyperparameters and data held against the code that a spec names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import marked

from harness.engine import validate
from harness.errors import Problem
from harness.plan.builder import Overrides, draft
from harness.plan.model import Plan
from harness.spec.validation import check
from harness.spec.yaml_source import parse
from harness.suite.locate import SuiteError, locate

Place = tuple[int, int]
Look = Callable[[str], tuple[Problem, ...]]

SGD = """
import torch

class SGD(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.0):
        for name, value in (("lr", lr), ("momentum", momentum)):
            if not value >= 0:
                raise ValueError(f"SGD: {name} must be 0 or more, got {value}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for x in group["params"]:
                    x -= group["lr"] * x.grad

class NoStep:
    def __init__(self, params, lr=0.1): ...

def factory(params, lr=0.1):
    return SGD(params, lr)

def nothing(params):
    return None

class Leaves(SGD):
    def __init__(self, params):
        raise SystemExit(4)

class Stops(SGD):
    def __init__(self, params):
        raise KeyboardInterrupt

class TakesAll(torch.optim.SGD):
    def __init__(self, params, **options):
        super().__init__(params, **options)

class TakesWords(SGD):
    def __init__(self, params, variant: str = "1", mode=None, rule="no"):
        super().__init__(params, 0.1)

class Odd(SGD):
    def __init__(self, params):
        super().__init__(params, 0.1)
        self.defaults = {"plain": 1, "pair": (1, 2.0), "object": object(), "many": [object()]}

number = 5
"""

OBJECTIVES = """
import torch
from harness import Objective

class Line(Objective):
    def __init__(self, slope=1.0, *, intercept=0.0):
        if slope == 0:
            raise ValueError("slope must not be 0")
    def init(self, generator):
        return {"x": torch.zeros(3)}
    def loss(self, params, batch):
        return params["x"].square().sum()

class NeedsSlope(Line):
    def __init__(self, slope): ...

class Fit(Line):
    def __init__(self, dataset):
        self.data = (torch.zeros(len(dataset.labels), 2),)

class Uneven(Line):
    data = (torch.zeros(4, 1), torch.zeros(5))

class Nothing(Line):
    data = ()

class NoRows(Line):
    data = (torch.zeros(0, 2),)

class NotTensors(Line):
    data = (1, 2)

class Leaves(Line):
    def __init__(self):
        raise SystemExit(4)

class NoLoss(Objective):
    def init(self, generator): ...

class Other: ...

class BadInit(Line):
    def init(self, generator):
        raise ValueError("no start")

def made(slope=1.0):
    return Line(slope)

def wrong():
    return 5
"""

DATASETS = """
import numpy as np
from harness import Dataset

def table(rows=6, bad=0.0):
    return Dataset(np.full((rows, 2), bad), np.zeros(rows), ("a", "b"), "y", "nowhere")

def a_list(): return [1, 2]
def fails(): raise OSError("no such disk")
def leaves(): raise SystemExit(5)
def has_nan(): return table(bad=float("nan"))
def has_inf(): return table(bad=float("inf"))
def no_rows(): return table(0)
def needs(path): return table()
"""

BASE = """\
suite: s
objectives:
  bowl: {class: quadratic_2d, steps: 3}
optimizers:
  o: {class: SGD, hyperparameters: {lr: 0.1}}
"""


def optimizer(entry: str) -> str:
    return BASE.replace("o: {class: SGD, hyperparameters: {lr: 0.1}}", entry)


def adam(hyperparameters: str) -> str:
    return optimizer(f"o: {{class: 'torch.optim:Adam', hyperparameters: {{{hyperparameters}}}}}")


def objective(entry: str) -> str:
    return BASE.replace("bowl: {class: quadratic_2d, steps: 3}", entry)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for section, text in (("optimizers", SGD), ("objectives", OBJECTIVES), ("datasets", DATASETS)):
        (folder / section).mkdir()
        (folder / section / "all.py").write_text(text)
    return folder


def planned(text: str, folder: Path) -> tuple[Plan, tuple[Problem, ...], tuple[Problem, ...]]:
    """A plan, the mistakes found without the suite's code, and those found with it."""
    source = parse(text.encode(), str(folder / "spec.yaml"))
    plan, problems = draft(check(source), Overrides())
    assert plan is not None
    findings = validate.validate_plan(plan).findings
    found = (source.problem(f.path, f.message, at_key=f.at_key) for f in findings)
    return plan, problems, tuple(sorted(set(found)))


@pytest.fixture(scope="module")
def look(folder: Path) -> Look:
    """Check a spec in this process; the worker calls the same."""

    def checked(text: str) -> tuple[Problem, ...]:
        _, problems, found = planned(text, folder)
        return (*problems, *found)

    return checked


OPTIMIZERS = [
    # arguments that the constructor doesn't have, or that it needs
    ("«o: {class: SGD}", "", "SGD needs 'lr', which is not given"),
    (
        "o: {class: SGD, hyperparameters: {lr: 1, «momentun: 0.5}}",
        "hyperparameters.momentun",
        "SGD takes no argument 'momentun'; did you mean 'momentum'?",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: 1}, per_objective: {bowl: {«nesterof: [1, 2]}}}",
        "per_objective.bowl.nesterof",
        "SGD takes no argument 'nesterof' (known: lr, momentum)",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: 1, «params: 5}}",
        "hyperparameters.params",
        "SGD takes no argument 'params' (known: lr, momentum)",
    ),
    (
        "o: {class: 'torch.optim:Adam', hyperparameters: {«beta: 0.5}}",
        "hyperparameters.beta",
        "Adam takes no argument 'beta'; did you mean 'betas'?",
    ),
    (
        "o: {class: 'torch.optim:LBFGS', hyperparameters: {«max_iters: 5}}",
        "hyperparameters.max_iters",
        "LBFGS takes no argument 'max_iters'; did you mean 'max_iter'?",
    ),
    ("«o: {class: 'torch.optim:Optimizer'}", "", "Optimizer needs 'defaults', which is not given"),
    # values that it refuses
    (
        "o: {class: SGD, hyperparameters: {lr: «-1}}",
        "hyperparameters.lr",
        "SGD refuses this: ValueError: SGD: lr must be 0 or more, got -1 (optimizers/all.py:8)",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: [0.1, «-1]}}",
        "hyperparameters.lr.1",
        "SGD refuses this: ValueError: SGD: lr must be 0 or more, got -1 (optimizers/all.py:8)",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: 1}, per_objective: {bowl: {momentum: [0, «-2]}}}",
        "per_objective.bowl.momentum.1",
        "SGD: momentum must be 0 or more, got -2",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: «fast}}",
        "hyperparameters.lr",
        "SGD refuses this: TypeError: '>=' not supported between instances of 'str' and 'int'",
    ),
    (
        "o: {class: SGD, hyperparameters: {lr: «null}}",
        "hyperparameters.lr",
        "TypeError: '>=' not supported between instances of 'NoneType' and 'int'",
    ),
    (
        "o: {class: TakesAll, hyperparameters: {lr: 1, momentun: «0.5}}",
        "hyperparameters.momentun",
        "got an unexpected keyword argument 'momentun'",
    ),
    (
        "o: {class: 'torch.optim:SGD', hyperparameters: {lr: «-0.1}}",
        "hyperparameters.lr",
        "SGD refuses this: ValueError: Invalid learning rate: -0.1",
    ),
    (
        "o: {class: 'torch.optim:SGD', hyperparameters: {nesterov: «true, lr: 0.1}}",
        "hyperparameters.nesterov",
        "SGD refuses this: ValueError: Nesterov momentum requires a momentum and zero dampening",
    ),
    (
        "o: {class: 'torch.optim:Adam', hyperparameters: {eps: «-1}}",
        "hyperparameters.eps",
        "Adam refuses this: ValueError: Invalid epsilon value: -1",
    ),
    (
        "o: {class: 'torch.optim:Adam', hyperparameters: {lr: 1, betas: [«[0.9, 1.5]]}}",
        "hyperparameters.betas.0",
        "Adam refuses this: ValueError: Invalid beta parameter at index 1: 1.5",
    ),
    (
        "o: {class: 'torch.optim:Rprop', hyperparameters: {etas: [«[1.2, 0.5]]}}",
        "hyperparameters.etas.0",
        "Rprop refuses this: ValueError: Invalid eta values: 1.2, 0.5",
    ),
    (
        "o: {class: 'torch.optim:LBFGS', hyperparameters: {lr: «-1}}",
        "hyperparameters.lr",
        "LBFGS refuses this: ValueError: Invalid learning rate: -1",
    ),
    # things that are no optimizer
    ("o: {class: «NoStep}", "class", "'NoStep' has no method 'step', expected a torch.optim.Opt"),
    ("o: {class: «nothing}", "class", "gives a NoneType, expected a torch.optim.Optimizer"),
    (
        "o: {class: «'optimizers/all.py:number'}",
        "class",
        "'optimizers/all.py:number' is not a class",
    ),
    (
        "o: {class: «'torch.optim:lr_scheduler'}",
        "class",
        "'torch.optim:lr_scheduler' is not a class",
    ),
    ("o: {class: «'torch.optim:Adgrad'}", "class", "has no 'Adgrad'; did you mean 'Adagrad'?"),
    ("o: {class: «'torch.optimm:Adam'}", "class", "No module named 'torch.optimm'"),
    ("o: {class: «'trch.optim:Adam'}", "class", "no package 'trch' is installed"),
    ("o: {class: «Sgd}", "class", "no optimizer 'Sgd' in optimizers/; did you mean 'SGD'?"),
    # code that wants out
    ("«o: {class: Leaves}", "", "Leaves refuses this: SystemExit: 4 (optimizers/all.py:28)"),
    ("«o: {class: Stops}", "", "Stops refuses this: KeyboardInterrupt (optimizers/all.py:32)"),
]


@pytest.mark.parametrize(("entry", "key", "message"), OPTIMIZERS)
def test_an_optimizers_mistake_is_reported_once_at_its_place(
    look: Look, entry: str, key: str, message: str
) -> None:
    text, (place,) = marked(optimizer(entry))
    (problem,) = look(text)
    assert (problem.line, problem.column) == place
    assert problem.key == ".".join(["optimizers.o", *([key] if key else [])])
    assert message in problem.message


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
def test_what_no_single_value_is_to_blame_for_is_placed_at_the_optimizer(look: Look) -> None:
    text, (place,) = marked(
        optimizer("«o: {class: 'torch.optim:Muon', hyperparameters: {lr: 0.1, nesterov: true}}")
    )
    (problem,) = look(text)
    assert ((problem.line, problem.column), problem.key) == (place, "optimizers.o")
    said = "Muon refuses this: ValueError: Muon only supports 2D parameters"
    assert problem.message.startswith(said)


@pytest.mark.parametrize(
    "entry",
    [
        "o: {class: SGD, hyperparameters: {lr: [0, 0.1], momentum: [0, 1]}}",
        "o: {class: factory}",
        "o: {class: TakesAll, hyperparameters: {lr: 1, momentum: 0.5}}",
        "o: {class: SGD, hyperparameters: {momentum: 1}, per_objective: {bowl: {lr: 1}}}",
        "o: {class: 'torch.optim:Adam', hyperparameters: {betas: [[0.9, 0.999], [0.8, 0.9]]}}",
        "o: {class: 'torch.optim:LBFGS', hyperparameters: {history_size: 5}}",
        "o: {class: 'torch.optim:SparseAdam'}",
        "o: {class: 'torch.optim:Adafactor', hyperparameters: {eps: [[null, 0.001]]}}",
        "o: {class: 'torch.optim.adam:Adam', hyperparameters: {amsgrad: true, foreach: null}}",
    ],
)
def test_what_a_constructor_takes_is_no_mistake(look: Look, entry: str) -> None:
    assert look(optimizer(entry)) == ()


def test_every_value_that_a_constructor_refuses_is_reported(look: Look) -> None:
    text, places = marked(adam("lr: [«-1, 0.1, «-2], eps: «-3, betas: [«[2, 0.9]], amsgrad: true"))
    problems = look(text)
    assert [(p.line, p.column) for p in problems] == places
    text, places = marked(
        optimizer("o: {class: SGD, hyperparameters: {lr: «-1, momentum: [«-1, «-2]}}")
    )
    assert [(p.line, p.column) for p in look(text)] == places


def test_a_list_where_one_value_is_a_list_comes_with_a_hint(look: Look) -> None:
    text, places = marked(adam("betas: [«0.9, «0.999]"))
    problems = look(text)
    assert [(p.line, p.column) for p in problems] == places
    hint = "; a list is a grid: for one value that is a list write [[0.9, 0.999]]"
    assert all(p.message.endswith(hint) for p in problems)
    (plain,) = look(adam("lr: [0.1, -1]"))
    assert "a list is a grid" not in plain.message


def test_mistakes_are_found_on_each_objective_that_an_optimizer_meets(look: Look) -> None:
    text, places = marked(
        """\
suite: s
objectives:
  one: {class: quadratic_2d, steps: 3}
  two: {class: Line, steps: 3}
optimizers:
  «o: {class: SGD, per_objective: {one: {lr: «-1}}}
"""
    )
    problems = look(text)
    assert [(p.line, p.column) for p in problems] == places
    assert problems[0].message == "SGD needs 'lr', which is not given for objective 'two'"


def test_mistakes_of_all_stages_are_reported_together(look: Look) -> None:
    text, places = marked(
        """\
suite: «a/b
objectives:
  one: {class: quadratic_2d, steps: «0}
  two: {class: «Lien, steps: 3}
  tri: {class: Line, steps: 3, arguments: {slope: «0}}
optimizers:
  a: {class: SGD, hyperparameters: {lr: «.nan, «momentun: 1}}
  b: {class: SGD, hyperparameters: {lr: «-1}}
  c: {class: «Sgd}
  «d: {class: SGD}
exclude: [{optimizer: «e}]
"""
    )
    problems = look(text)
    (needs,) = [p for p in problems if "needs 'lr'" in p.message]
    assert needs.message == "SGD needs 'lr', which is not given"
    assert sorted({(p.line, p.column) for p in problems}) == places


OBJECTIVE = [
    (
        "bowl: {class: Line, steps: 1, arguments: {«slop: 1}}",
        "arguments.slop",
        "Line takes no argument 'slop'; did you mean 'slope'?",
    ),
    (
        "bowl: {class: Line, steps: 1, arguments: {intercept: 1, slope: «0}}",
        "arguments.slope",
        "refused: ValueError: slope must not be 0 (objectives/all.py:8)",
    ),
    (
        "bowl: {class: quadratic_2d, steps: 1, arguments: {coefficients: «[1, -1]}}",
        "arguments.coefficients",
        "refused: ValueError: coefficients must be above zero, got [1, -1]",
    ),
    ("«bowl: {class: NeedsSlope, steps: 1}", "", "NeedsSlope needs 'slope', which is not given"),
    ("«bowl: {class: Fit, steps: 1}", "", "Fit needs 'dataset', which is not given"),
    ("bowl: {class: Line, steps: 1, «dataset: table}", "dataset", "Line takes no dataset"),
    (
        "bowl: {class: Fit, dataset: table, steps: 1, arguments: {«dataset: 1}}",
        "arguments.dataset",
        "Fit takes no argument 'dataset'",
    ),
    ("bowl: {class: Line, steps: 1, batch_size: «2}", "batch_size", "has no data to take batches"),
    (
        "bowl: {class: Fit, dataset: table, steps: 1, batch_size: «7}",
        "batch_size",
        "expected at most the 6 rows of the data",
    ),
    (
        "bowl: {class: «Uneven, steps: 1}",
        "class",
        "its data tensors have different numbers of rows",
    ),
    ("bowl: {class: «Nothing, steps: 1}", "class", "its data must be a tuple of tensors"),
    ("bowl: {class: «NoRows, steps: 1}", "class", "tensors with at least one row"),
    ("bowl: {class: «NotTensors, steps: 1}", "class", "its data must be a tuple of tensors"),
    (
        "bowl: {class: quadratic_2d, steps: «100000000}",
        "steps",
        "100,000,000 losses per trial, the limit is 1,000,000; record less often (record_every)",
    ),
    (
        "bowl: {class: Fit, dataset: table, batch_size: 2, epochs: 40000000, record_every: «2}",
        "record_every",
        "120,000,000 steps with a loss recorded every 2 are 60,000,000 losses per trial",
    ),
    (
        "bowl: {class: quadratic_2d, steps: 20, record_every: «21}",
        "record_every",
        "21 steps are longer than a trial, which has 20",
    ),
    (
        "bowl: {class: Fit, dataset: table, batch_size: 2, steps: 2, record_every: «epoch}",
        "record_every",
        "3 steps are longer than a trial, which has 2",
    ),
    (
        "bowl: {class: Fit, dataset: table, steps: 2, report: «test loss}",
        "report",
        "there is no part 'test'; the data have train; hold rows out with 'split', or in the load",
    ),
    (
        "bowl: {class: Fit, dataset: table, steps: 2, metrics: [loss, «accuracy]}",
        "metrics.1",
        "the objective computes no metric 'accuracy'",
    ),
    (
        "bowl: {class: «Leaves, steps: 1}",
        "class",
        "can't be used: SystemExit: 4 (objectives/all.py",
    ),
    ("«bowl: {class: NoLoss, steps: 1}", "", "Can't instantiate abstract class NoLoss"),
    (
        "bowl: {class: «Other, steps: 1}",
        "class",
        "'Other' is not a harness.Objective",
    ),
    (
        "bowl: {class: «'torch.optim:SGD', steps: 1}",
        "class",
        "is not a harness.Objective",
    ),
    (
        "bowl: {class: «wrong, steps: 1}",
        "class",
        "'wrong' gives a int, expected a harness.Objective",
    ),
    ("bowl: {class: «'math:pi', steps: 1}", "class", "'math:pi' is not a class"),
    ("«powell: {steps: 1}", "", "no objective 'powell' in objectives/"),
    (
        "bowl: {class: Fit, dataset: «tabel, steps: 1}",
        "dataset",
        "no dataset 'tabel' in datasets/; did you mean 'table'?",
    ),
    (
        "bowl: {class: Fit, dataset: «a_list, steps: 1}",
        "dataset",
        "'a_list' gives a list, expected a harness.Dataset",
    ),
    (
        "bowl: {class: Fit, dataset: «fails, steps: 1}",
        "dataset",
        "loading the data failed: OSError: no such disk (datasets/all.py:9)",
    ),
    (
        "bowl: {class: Fit, dataset: «has_nan, steps: 1}",
        "dataset",
        "loading the data failed: ValueError: features and labels must be finite",
    ),
    ("bowl: {class: Fit, dataset: «has_inf, steps: 1}", "dataset", "labels must be finite"),
    ("bowl: {class: Fit, dataset: «no_rows, steps: 1}", "dataset", "with at least one row"),
    ("bowl: {class: Fit, dataset: «needs, steps: 1}", "dataset", "needs() missing 1 required"),
]


@pytest.mark.parametrize(("entry", "key", "message"), OBJECTIVE)
def test_an_objectives_mistake_is_reported_once_at_its_place(
    look: Look, entry: str, key: str, message: str
) -> None:
    text, (place,) = marked(objective(entry))
    (problem,) = look(text)
    assert (problem.line, problem.column) == place
    name = entry.lstrip("«").partition(":")[0]
    assert problem.key == ".".join([f"objectives.{name}", *([key] if key else [])])
    assert message in problem.message


def test_all_that_is_wrong_with_what_is_measured_is_told_at_once(look: Look) -> None:
    text, places = marked(
        objective(
            "bowl: {class: Fit, dataset: table, steps: 2, metrics: [loss, «accuracy], "
            "tune: «validation loss, report: «test accuracy, record_every: «3, "
            "targets: [1.0, «{test loss: 1}], stop: {after: «1 record without a lower test loss}}"
        )
        + "claims: [{value: '1', source: p, optimizer: o, objective: bowl, quantity: «test loss}]\n"
    )
    assert sorted((p.line, p.column) for p in look(text)) == places


def test_a_choice_that_is_a_word_is_reported_at_its_place(look: Look) -> None:
    text = optimizer("o: {class: 'torch.optim:Adam', search: {amsgrad: {choice: [true, «off]}}}")
    text, (place,) = marked(f"{text}\ntuning: {{trials: 8, seeds: 1}}\n")
    (problem,) = look(text)
    assert ((problem.line, problem.column), problem.key) == (
        place,
        "optimizers.o.search.amsgrad.choice.1",
    )


def test_an_objectives_argument_that_is_a_word_is_reported(look: Look) -> None:
    (problem,) = look(objective("bowl: {class: Line, steps: 1, arguments: {slope: '2'}}"))
    assert problem.message == "expected a number, got the string '2'; write 2"


@pytest.mark.parametrize(
    "setting", ["variant: '2'", "mode: fast", "mode: '3'", "rule: off", "rule: '1e-4'"]
)
def test_a_word_is_no_mistake_where_words_are_taken(look: Look, setting: str) -> None:
    assert look(optimizer(f"o: {{class: TakesWords, hyperparameters: {{{setting}}}}}")) == ()


def test_a_dataset_that_wants_out_is_reported(look: Look) -> None:
    (problem,) = look(objective("bowl: {class: Fit, dataset: leaves, steps: 1}"))
    assert problem.key.startswith("objectives.bowl")
    assert "SystemExit: 5" in problem.message


@pytest.mark.parametrize(
    "entry",
    [
        "bowl: {class: Line, steps: 1, arguments: {slope: 2, intercept: 1}}",
        "bowl: {class: made, steps: 1, arguments: {slope: 2}}",
        "bowl: {class: Fit, dataset: table, epochs: 2, batch_size: 6}",
        "bowl: {class: BadInit, steps: 1}",
    ],
)
def test_what_an_objective_takes_is_no_mistake(look: Look, entry: str) -> None:
    assert look(objective(entry)) == ()


def test_defaults_are_told_as_far_as_they_are_plain_data(folder: Path) -> None:
    plan, _, _ = planned(optimizer("o: {class: Odd}"), folder)
    (defaults,) = validate.validate_plan(plan).defaults.values()
    assert defaults == {"plain": 1, "pair": [1, 2.0]}
    plan, _, _ = planned(adam("lr: 0.5"), folder)
    (defaults,) = validate.validate_plan(plan).defaults.values()
    assert (defaults["lr"], defaults["betas"]) == (0.5, [0.9, 0.999])


def test_what_is_loaded_must_be_callable(folder: Path) -> None:
    with pytest.raises(SuiteError, match="is not a class"):
        validate.load_optimizer(locate("math:pi", folder, "optimizers"))


def test_a_device_that_is_not_there_is_said_so() -> None:
    assert validate.unavailable("cpu") == ""
    assert "finds no xpu device" in validate.unavailable("xpu:3") or not validate.unavailable("xpu")
