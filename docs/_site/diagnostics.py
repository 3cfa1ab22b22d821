"""Draw the pictures of docs/diagnostics.md, one per family: ``python docs/_site/diagnostics.py``.

Each is of one task of ``diagnostics.yaml`` at two of its difficulties, and of two of its
optimizers, tuned and reported as the whole map is. Names of families as arguments draw only those.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import harness
from harness.measures import HIGHER
from harness.spec import yaml_source

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MAP = ROOT / "diagnostics.yaml"


@dataclass(frozen=True)
class Picture:
    """One task at two difficulties.

    Attributes:
        task: Entry of ``objectives`` in the map's spec.
        difficulties: Their places in its grid, from 0: an easy one and a hard one.
        optimizers: The two that are drawn; the first one wins more at the hard difficulty.
    """

    task: str
    difficulties: tuple[int, int]
    optimizers: tuple[str, str]


PICTURES = {
    "curvature": Picture("equal_coupling", (0, 2), ("momentum", "adam")),
    "scale": Picture("gradient_scales", (0, 1), ("adam", "momentum")),
    "noise": Picture("correlated_noise", (0, 2), ("schedule_free", "adam")),
    "landscape": Picture("plateau", (0, 2), ("adam", "momentum")),
    "learning": Picture("rare_classes", (0, 1), ("adam", "momentum")),
}

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#17375e", "linestyle": "-"},
    {"color": "#e08a2e", "linestyle": (0, (4, 1.5))},
)
"""Of the two optimizers: dark and whole, light and dashed, so that they differ in grey as well."""


@dataclass(frozen=True)
class Goal:
    """What wins, as it is drawn.

    Attributes:
        metric: Of the curves, which one is drawn.
        part: The part of the data that it is of.
        value: The value to reach, of what is drawn.
        is_share: Whether the curve is drawn as a share of its gap to the optimum at the start.
        is_higher: Whether higher is better.
    """

    metric: str
    part: str
    value: float
    is_share: bool
    is_higher: bool

    @property
    def label(self) -> str:
        """The label of the axis."""
        if self.is_share:
            return "share of the gap at the start"
        name = self.metric.replace("_", " ")
        return name if self.part == "train" else f"{self.part} {name}"


def excerpt(picture: Picture) -> dict[str, Any]:
    """The map's spec with one task at two difficulties and two optimizers."""
    spec = dict(yaml_source.parse(MAP.read_bytes(), str(MAP)).data)
    entry = copy.deepcopy(spec["objectives"][picture.task])
    argument = graded(entry)
    values = entry["arguments"][argument]["each"]
    entry["arguments"][argument] = {"each": [values[i] for i in picture.difficulties]}
    return {
        **spec,
        "suite": f"picture-{picture.task}",
        "objectives": {picture.task: entry},
        "optimizers": {
            name: {k: v for k, v in spec["optimizers"][name].items() if k != "generalizes"}
            for name in picture.optimizers
        },
    }


def graded(entry: dict[str, Any]) -> str:
    """The argument of a task that makes it harder."""
    (name,) = (
        name
        for name, value in entry["arguments"].items()
        if isinstance(value, dict) and "each" in value
    )
    return str(name)


def goal_of(entry: dict[str, Any]) -> Goal:
    """What wins a task that has one target."""
    if entry.get("tolerances"):
        return Goal("loss", "train", float(entry["tolerances"][-1]), True, False)
    target = entry["targets"][-1]
    if not isinstance(target, dict):
        return Goal("loss", "train", float(target), False, False)
    ((measure, value),) = target.items()
    part, _, metric = measure.rpartition(" ")
    return Goal(metric, part or "train", float(value), False, metric in HIGHER)


def measure(picture: Picture) -> pd.DataFrame:
    """Curves of the tuned settings: objective, optimizer, seed, step and value."""
    spec = excerpt(picture)
    goal = goal_of(spec["objectives"][picture.task])
    with tempfile.TemporaryDirectory() as folder:
        results = harness.run(
            spec, folder=ROOT, output=Path(folder) / "results", timing=False, progress=False
        )
        curves = results.curves
        kept = (
            (curves["setting"] == "tuned")
            & (curves["metric"] == goal.metric)
            & (curves["part"] == goal.part)
        )
        known = curves[kept][["objective", "optimizer", "seed", "step", "value"]].copy()
    if goal.is_share:
        starts = known.groupby(["objective", "optimizer", "seed"])["value"].transform("first")
        known["value"] /= starts
    return known


def draw(family: str, picture: Picture) -> None:
    """Draw a family's picture."""
    curves = measure(picture)
    entry = excerpt(picture)["objectives"][picture.task]
    goal = goal_of(entry)
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": family, "font.size": 10})
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True, layout="constrained")
    objectives = list(dict.fromkeys(curves["objective"]))
    argument = graded(entry)
    values = entry["arguments"][argument]["each"]
    for axes, name, word, value in zip(panels, objectives, ("easy", "hard"), values, strict=True):
        panel(axes, curves[curves["objective"] == name], picture.optimizers, goal)
        axes.set_title(f"{word}: {argument} = {value:g}", fontsize=10)
    panels[0].set_ylabel(goal.label)
    figure.supxlabel("step", fontsize=10)
    figure.savefig(DOCS / f"diagnostics-{family}.svg", metadata={"Date": None})
    plt.close(figure)


def panel(axes: Axes, curves: pd.DataFrame, optimizers: tuple[str, str], goal: Goal) -> None:
    """Draw the curves of one difficulty: a line per seed, a dot where it wins."""
    for name, style in zip(optimizers, STYLES, strict=True):
        own, color = curves[curves["optimizer"] == name], style["color"]
        wins = 0
        for _, trial in own.groupby("seed"):
            values = trial["value"].to_numpy()
            won = values >= goal.value if goal.is_higher else values <= goal.value
            shown = values if goal.is_higher else np.clip(values, goal.value / 10, None)
            axes.plot(trial["step"], shown, linewidth=1.0, alpha=0.8, **style)
            if won.any():
                wins += 1
                at = int(np.argmax(won))
                place = (trial["step"].iloc[at], shown[at])
                axes.plot(*place, "o", clip_on=False, color=color, markersize=4)
        seeds = own["seed"].nunique()
        axes.plot([], [], label=f"{name}: {wins} of {seeds} seeds win", **style)
        print(f"{curves['objective'].iloc[0]}: {name} {wins} of {seeds}")
    if not goal.is_higher:
        axes.set_yscale("log")
        axes.set_ylim(goal.value / 10, 10 * curves.loc[curves["step"] == 0, "value"].max())
    axes.axhline(goal.value, color="#666666", linewidth=0.9, linestyle=":")
    side = "bottom" if goal.is_higher else "top"
    axes.annotate(
        "win",
        (0, goal.value),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        ha="left",
        va=side,
        fontsize=8,
        color="#555555",
    )
    axes.legend(frameon=False, fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)


def main(families: list[str]) -> None:
    """Draw the pictures of some families, or of all."""
    for family in families or list(PICTURES):
        draw(family, PICTURES[family])


if __name__ == "__main__":
    main(sys.argv[1:])
