"""Settings of the whole process that a file changes as it is imported hold for nobody else."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.suite import torch_settings
from harness.suite.locate import locate

CHANGES = [
    ("torch.set_default_dtype(torch.float64)", "torch's default dtype"),
    ("torch.set_default_device('meta')", "torch's default device"),
    ("torch.set_grad_enabled(False)", "torch's grad mode"),
    ("torch.autograd.set_detect_anomaly(True)", "torch's anomaly detection"),
    ("torch.set_num_threads(torch.get_num_threads() + 1)", "torch's threads"),
    ("torch.use_deterministic_algorithms(True)", "torch's deterministic algorithms"),
    ("torch.set_float32_matmul_precision('medium')", "torch's precision of matrix products"),
    ("torch.set_autocast_enabled('cpu', True)", "autocast on cpu"),
    ("torch.backends.cudnn.benchmark = True", "cuDNN's 'benchmark'"),
    ("torch.backends.mkldnn.enabled = False", "oneDNN's 'enabled'"),
    ("torch.default_generator = torch.Generator()", "torch's default generator"),
    ("numpy.seterr(all='raise')", "numpy's handling of errors"),
]


def keys() -> Any:
    """What numpy's global generator is at."""
    known: Any = np.random.get_state()
    return known[1]


def state() -> list[Any]:
    """Every setting as it is."""
    return [setting.read() for setting in torch_settings._settings()]


@pytest.fixture(autouse=True)
def _settings_of_other_tests() -> Iterator[None]:
    with torch_settings.kept():
        yield


@pytest.mark.parametrize(("line", "name"), CHANGES, ids=[name for _, name in CHANGES])
def test_what_an_import_changes_is_put_back_and_told(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "x.py").write_text(f"import numpy, torch\n{line}\nclass X: ...\n")
    located, before = locate("X", tmp_path, "optimizers"), state()
    for _ in range(2):  # the second time it is imported already
        located.load()
        assert state() == before
        assert located.note == (
            f"importing optimizers/x.py changes {name} for the whole process; "
            "the harness undoes that"
        )


def test_an_import_that_fails_leaves_the_settings_as_well(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    code = "import torch\ntorch.set_grad_enabled(False)\n1 / 0\nclass X: ...\n"
    (tmp_path / "optimizers" / "x.py").write_text(code)
    with pytest.raises(Exception, match="division by zero"):
        locate("X", tmp_path, "optimizers").load()
    assert torch.is_grad_enabled()


def test_tiny_numbers_are_numbers_after_an_import(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    code = "import torch\ntorch.set_flush_denormal(True)\nclass X: ...\n"
    (tmp_path / "optimizers" / "x.py").write_text(code)
    locate("X", tmp_path, "optimizers").load()
    assert float(torch.tensor([1e-310], dtype=torch.float64) / 2) == 5e-311


def test_an_import_draws_and_seeds_for_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    code = """
import random, warnings, numpy, torch
torch.manual_seed(1); numpy.random.seed(1); random.seed(1); torch.rand(3)
warnings.simplefilter("error")
class X: ...
"""
    (tmp_path / "optimizers" / "x.py").write_text(code)
    filters = [*warnings.filters]
    before = (torch.get_rng_state(), keys(), random.getstate())
    located = locate("X", tmp_path, "optimizers")
    located.load()
    after = (torch.get_rng_state(), keys(), random.getstate())
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    assert [*warnings.filters] == filters
    assert located.note == ""
