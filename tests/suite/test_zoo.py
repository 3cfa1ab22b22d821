"""The zoo, ``specs/zoo.yaml``: what is in it, by which rule, and a short run of it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import harness
from harness.cli import main
from harness.objectives.rugged_2d import Levy
from harness.spec import yaml_source
from harness.suite import locate

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "specs" / "zoo.yaml"
TEXT = SPEC.read_text()
DATA: dict[str, Any] = yaml_source.parse(SPEC.read_bytes(), "zoo.yaml").data

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None,
    reason="the package pytorch-optimizer is not installed",
)


def exported() -> dict[str, type[torch.optim.Optimizer]]:
    """The optimizers that the package exports, by name."""
    package = importlib.import_module("pytorch_optimizer")
    return {
        name: value
        for name, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }


def left_out() -> dict[str, str]:
    """The optimizers that the spec's head leaves out, each with its reason."""
    _, _, listed = TEXT.partition("# Left out, with the reason:\n")
    comment = " ".join(line.lstrip("# ") for line in listed.split("\n\n")[0].splitlines())
    entries = [entry.partition(": ") for entry in re.split(r"(?:^|\s)- ", comment) if entry]
    return {name: reason for names, _, reason in entries for name in names.split(", ")}


@needs_package
def test_every_optimizer_of_the_package_is_in_it_or_left_out_with_a_reason() -> None:
    known = set(DATA["optimizers"])
    assert known.isdisjoint(left_out())
    assert known | set(left_out()) == set(exported())
    assert all(len(reason.split()) > 3 for reason in left_out().values())
    assert len(known) > 110
    for name, entry in DATA["optimizers"].items():
        assert entry["class"] == f"pytorch_optimizer:{name}"


@needs_package
@pytest.mark.parametrize("name", sorted(DATA["optimizers"]))
def test_a_search_space_follows_the_rule_of_the_spec_s_head(name: str) -> None:
    parameters = inspect.signature(exported()[name].__init__).parameters
    entry = DATA["optimizers"][name]
    search, fixed = entry["search"], entry.get("hyperparameters", {})
    wraps = "base" in entry
    assert wraps == bool({"optimizer", "base_optimizer"} & set(parameters))
    if wraps:
        assert entry["base"] == {"class": "torch.optim:SGD"}
        assert search == {
            "base.lr": {"log_uniform": [1e-6, 1]},
            "base.momentum": {"one_minus_log_uniform": [0, 0.99]},
        }
        return
    if name not in ("A2Grad", "AliG"):
        lr = float(parameters["lr"].default)
        assert search["lr"]["log_uniform"] == pytest.approx([lr / 1000, lr * 1000])
    if "momentum" in parameters:
        assert search["momentum"] == {"one_minus_log_uniform": [0, 0.99]}
    elif "betas" in parameters and name != "AggMo":
        default = list(parameters["betas"].default)
        choices = search["betas"]["choice"]
        assert default in choices
        assert all(choice[1:] == default[1:] for choice in choices)
        assert {choice[0] for choice in choices} == {0.5, default[0], 0.99}
    if "weight_decay" in parameters:
        assert fixed.get("weight_decay", parameters["weight_decay"].default) == 0


def test_every_optimizer_has_the_same_budget_and_every_function_spreads_its_starts() -> None:
    assert DATA["tuning"]["trials"] == 100
    assert all(entry["search"] for entry in DATA["optimizers"].values())
    functions = {n: own for n, own in DATA["objectives"].items() if "dataset" not in own}
    assert len(functions) >= 12
    for name, own in functions.items():
        target = locate.locate(name, ROOT, "objectives").load()
        objective = target(**own["arguments"])
        (low, high), _ = target.domain
        assert own["arguments"]["start_spread"] == pytest.approx((high - low) / 20, rel=0.1)
        assert np.abs(objective.minimizers).max(axis=1).min() > 0.5, f"{name}: at the origin"


def test_without_the_package_it_says_where_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "pytorch_optimizer" else find(name, *rest),
    )
    printed = CliRunner().invoke(main, ["validate", str(SPEC)])
    assert printed.exit_code == 2
    line = TEXT[: TEXT.index("class: pytorch_optimizer:")].count("\n") + 1
    first = printed.output.splitlines()[0]
    assert f"zoo.yaml:{line}:12: optimizers.A2Grad.class: no package 'pytorch_optimizer'" in first
    assert first.endswith("is installed; pip install pytorch-optimizer brings it")


def plain(factory: Any, seed: int) -> float:
    """The loss on levy after 30 steps of a plain loop, from the trial's own start."""
    levy = Levy(start_spread=1.0)
    x = levy.init(torch.Generator().manual_seed(2 * seed))["x"].requires_grad_()
    optimizer = factory([x])
    for _ in range(30):

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = levy.loss({"x": x}, None)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
    return float(levy.loss({"x": x}, None).detach())


@needs_package
def test_a_short_run_of_some_ends_where_plain_loops_do(tmp_path: Path) -> None:
    names = ("AdamP", "Adan", "LARS", "Lion", "Lookahead", "SAM")
    spec = {
        "suite": "few",
        "seeds": 5,
        "tuning": {"trials": 6, "seeds": 1, "sweep": 0, "defaults": False},
        "timing": {"enabled": False},
        "objectives": {"levy": {"steps": 30, "dtype": "float64", "arguments": {"start_spread": 1}}},
        "optimizers": {name: DATA["optimizers"][name] for name in names},
    }
    harness.run(spec, folder=tmp_path, output=tmp_path / "out", workers=1, progress=False)
    report = harness.read(tmp_path / "out")
    package = importlib.import_module("pytorch_optimizer")
    assert [case.optimizer for case in report.results.cases] == list(names)
    for case in report.results.cases:
        kind = getattr(package, case.optimizer)
        given = {key: value for key, value in case.hyperparameters.items() if "." not in key}
        base = {key.partition(".")[2]: v for key, v in case.hyperparameters.items() if "." in key}

        def made(
            params: Any, kind: Any = kind, given: Any = given, base: Any = base
        ) -> torch.optim.Optimizer:
            if "optimizer" in inspect.signature(kind.__init__).parameters:
                return kind(torch.optim.SGD(params, **base), **given)  # type: ignore[no-any-return]
            if base:
                return kind(params, torch.optim.SGD, **base, **given)  # type: ignore[no-any-return]
            return kind(params, **given)  # type: ignore[no-any-return]

        for seed, losses in zip(case.seeds.tolist(), case.losses, strict=True):
            expected = plain(made, seed)
            assert losses[-1] == pytest.approx(expected, rel=1e-6), (case.optimizer, seed)
