"""A suite in which each part of the data prefers a setting of its own."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from harness.cli import main
from harness.store import read

LEARNING_RATES = (0.001, 0.01, 0.1)
STEPS = 10
ROWS = {"train": 5, "validation": 3, "test": 2}
CENTRES = {"train": 1.0, "validation": 0.1, "test": 0.01}

FILES = {
    # Every step adds lr to the one weight. A part's rows say where it is best.
    "objectives/planted.py": """
import json
from pathlib import Path
import torch
from harness import Objective

SEEN = Path(__file__).with_name("seen.jsonl")

class Planted(Objective):
    def __init__(self, dataset):
        self.data = (torch.as_tensor(dataset.features), torch.as_tensor(dataset.labels))
    def init(self, generator):
        return {"w": torch.zeros(1) + 0 * torch.rand(1, generator=generator)}
    def loss(self, params, batch):
        return -params["w"].sum()
    def evaluate(self, params, batch):
        weight = float(params["w"])  # so that trials run alone, and are told apart
        with SEEN.open("a") as file:
            file.write(json.dumps([len(batch[0]), weight]) + chr(10))
        return (params["w"] - batch[0].mean()).square().sum()
    def metrics(self, params, batch):
        return {"accuracy": 1 - (params["w"] - batch[0].mean()).abs().sum()}
""",
    "datasets/parts.py": f"""
import numpy as np
from harness import Dataset

ROWS, CENTRES = {ROWS!r}, {CENTRES!r}

def parts():
    return {{
        part: Dataset(np.full((count, 1), CENTRES[part]), np.zeros(count))
        for part, count in ROWS.items()
    }}
""",
}

SPEC = """\
suite: planted
seeds: [1, 2]
objectives:
  planted:
    class: Planted
    dataset: parts
    steps: 10
    dtype: float64
    record_every: 1
    metrics: [loss, {accuracy: higher}]
    report: test accuracy
    KEYS
optimizers:
  sgd: {class: "torch.optim:SGD", search: {lr: {choice: [0.001, 0.01, 0.1]}}}
tuning: {trials: 6, seeds: [7, 8], defaults: false, GOAL}
timing: {enabled: false}
"""


def run(folder: Path, keys: str, goal: str = "sweep: 0", search: str = "") -> read.Results:
    """Run the planted suite with more keys of its objective; its results."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spec = folder / "spec.yaml"
    choice = "{choice: [0.001, 0.01, 0.1]}"
    text = SPEC.replace("KEYS", keys).replace("GOAL", goal)
    spec.write_text(text.replace(choice, search or choice))
    done = CliRunner().invoke(main, ["run", str(spec), "-q", "--workers", "1"])
    assert done.exit_code == 0, done.output
    return read.read(folder / "reports" / "planted" / "results.sqlite")
