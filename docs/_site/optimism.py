"""Measure what tuning on test rows is worth, and draw it: ``python docs/_site/optimism.py``.

Both ways try the same settings with the same seed on the same rows, and report the test accuracy of
the trial that they choose. One chooses by the validation accuracy; the other by the accuracy on the
rows that it reports, which a spec can't say: its loader hands the test rows out as validation as
well. The optimism is what the second reports above the first, for each of some random splits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import stats

import harness

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "optimism.svg"

LOADER = '''\
"""Random splits of 600 images: 300 to train with, 150 to choose by, 150 to report."""

import importlib.util

import numpy as np

from harness import Dataset

_spec = importlib.util.spec_from_file_location("digits", {digits!r})
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


def _parts(split):
    whole = _module.digits()
    order = np.random.default_rng(split).permutation(len(whole.labels))
    ends = {{"train": (0, 300), "validation": (300, 450), "test": (450, 600)}}
    return {{
        part: Dataset(whole.features[order[a:b]], whole.labels[order[a:b]], classes=10)
        for part, (a, b) in ends.items()
    }}


def _peeking(split):
    parts = _parts(split)
    return {{**parts, "validation": parts["test"]}}
'''

OPTIMIZERS: dict[str, Any] = {
    "sgd": {
        "class": "torch.optim:SGD",
        "search": {
            "lr": {"log_uniform": [1e-2, 1]},
            "momentum": {"one_minus_log_uniform": [0.5, 0.99]},
        },
    },
    "adamw": {
        "class": "torch.optim:AdamW",
        "search": {
            "lr": {"log_uniform": [1e-3, 0.1]},
            "weight_decay": {"log_uniform": [1e-3, 1]},
        },
    },
    "muon": {
        "class": "torch.optim:Muon",
        "groups": [
            {"parameters": {"ndim": 2}},
            {"class": "torch.optim:AdamW", "name": "others"},
        ],
        "search": {
            "lr": {"log_uniform": [1e-2, 1]},
            "groups.others.lr": {"log_uniform": [1e-3, 0.1]},
        },
    },
}


def spec_of(splits: int) -> dict[str, Any]:
    """Every split in both ways."""
    training = {
        "class": "multilayer_perceptron",
        "arguments": {"hidden": [64, 32], "activation": "relu"},
        "batch_size": 32,
        "epochs": 15,
        "record_every": "epoch",
        "metrics": ["loss", "accuracy"],
        "tune": "validation accuracy",
        "report": "test accuracy",
    }
    return {
        "suite": "optimism",
        "seeds": 1,  # what is chosen is among the trials that tuning has run
        "tuning": {"trials": 24, "seeds": 1, "sweep": 0, "defaults": False},
        "recipe": {"schedule": {"warmup": "5%", "then": "cosine"}, "clip_grad_norm": 1.0},
        "timing": {"enabled": False},
        "objectives": {
            f"{way}_{split}": {**training, "dataset": f"{way}_{split}"}
            for split in range(splits)
            for way in ("honest", "peeking")
        },
        "optimizers": OPTIMIZERS,
    }


def measure(splits: int) -> dict[str, NDArray[np.float64]]:
    """By optimizer, the optimism of each split, in percentage points of accuracy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "datasets").mkdir()
        loaders = LOADER.format(digits=str(ROOT / "datasets" / "digits.py"))
        for split in range(splits):
            loaders += f"\n\ndef honest_{split}():\n    return _parts({split})\n"
            loaders += f"\n\ndef peeking_{split}():\n    return _peeking({split})\n"
        (folder / "datasets" / "splits.py").write_text(loaders)
        report = harness.run(spec_of(splits), folder=folder, output=folder / "results")
        tried: dict[tuple[str, str], list[float]] = {}
        for one in report.results.tried:
            tried.setdefault((one.objective, one.optimizer), []).append(float(one.losses[0]))
    return {
        name: np.array(
            [
                _optimism(tried[f"honest_{split}", name], tried[f"peeking_{split}", name])
                for split in range(splits)
            ]
        )
        for name in OPTIMIZERS
    }


def _optimism(validation: list[float], test: list[float]) -> float:
    """The optimism of one split, given both accuracies of every setting."""
    return 100 * (max(test) - test[int(np.argmax(validation))])


def draw(optimism: dict[str, NDArray[np.float64]]) -> None:
    """Draw every split, and the mean of each optimizer with its interval (95%, Student's t)."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "optimism", "font.size": 10})
    figure, axes = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
    everything = np.mean([*optimism.values()], axis=0)
    for place, (name, values) in enumerate({"all three": everything, **optimism}.items()):
        mean = float(values.mean())
        low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
        spread = np.linspace(-0.22, 0.22, len(values))
        axes.plot(values, place + spread, ".", color="#8fb4d9", markersize=5)
        axes.errorbar(
            [mean], [place], xerr=[[mean - low], [high - mean]], fmt="o", color="#1f4e79", capsize=3
        )
        print(f"{name}: {mean:.2f} points ({low:.2f} to {high:.2f}), {len(values)} splits")
    axes.axvline(0, color="#666666", linewidth=0.8)
    axes.set_yticks(range(1 + len(optimism)), ["all three", *optimism])
    axes.set_xlabel("reported test accuracy: tuned on test minus tuned on validation (points)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description="Measure and draw the optimism.")
    parser.add_argument("--splits", type=int, default=12)
    draw(measure(parser.parse_args().splits))


if __name__ == "__main__":
    main()
