"""Write the lists of tasks in docs/diagnostics.md: ``python docs/_site/tasks.py``.

They are of ``diagnostics.yaml``, in its order.

A task's line is the first of its docstring; its source is given here in short and stands in full in
the docstring.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from harness.spec import yaml_source
from harness.suite.shipped import objective_references

ROOT = Path(__file__).resolve().parents[2]
MAP = ROOT / "diagnostics.yaml"
PAGE = ROOT / "docs" / "diagnostics.md"

SOURCES = {
    "ill_conditioned": "Polyak 1964",
    "ill_conditioned_rotated": "Hansen et al. 2009 (COCO)",
    "ill_conditioned_matrix": "Martens and Grosse 2015",
    "outlying_curvatures": "Sagun et al., arXiv:1706.04454; Ghorbani et al. 2019",
    "equal_coupling": "own",
    "chain": "Nesterov 2004",
    "powers": "Surjanovic and Bingham",
    "different_powers": "Hansen et al. 2009 (COCO)",
    "zakharov": "Surjanovic and Bingham",
    "dixon_price": "Dixon and Price 1989",
    "rosenbrock": "Rosenbrock 1960",
    "beale_far": "Beale 1958",
    "goldstein_price_far": "Goldstein and Price 1971",
    "parameter_scales": "Zeiler, arXiv:1212.5701",
    "gradient_scales": "Charbonnier et al. 1994",
    "tiny_loss": "Kingma and Ba 2015",
    "huge_loss": "Kingma and Ba 2015",
    "swinging_scale": "own",
    "growing_scale": "own",
    "scale_invariant": "Arora et al. 2019; Heo et al. 2021",
    "uncentred_inputs": "LeCun et al. 1998",
    "unbalanced_factors": "Tu et al. 2016; Du et al. 2018",
    "white_noise": "Robbins and Monro 1951; Bottou et al. 2018",
    "heavy_tails": "Zhang et al. 2020; Simsekli et al. 2019",
    "correlated_noise": "Uhlenbeck and Ornstein 1930",
    "multiplicative_noise": "Schmidt and Le Roux 2013; Vaswani et al. 2019",
    "small_batches": "Shallue et al. 2019",
    "outlier_gradients": "Huber 1964",
    "sparse_gradients": "Duchi et al. 2011",
    "quantized_gradients": "Gupta et al. 2015; Alistarh et al. 2017",
    "delayed_gradients": "Agarwal and Duchi 2011; Mitliagkas et al. 2016",
    "flipped_gradients": "Blanchard et al. 2017",
    "strict_saddle": "Dauphin et al. 2014; Ge et al. 2015",
    "plateau": "Goodfellow et al. 2016",
    "vanishing_chain": "Bengio et al. 1994; Shamir 2019",
    "exploding_chain": "Bengio et al. 1994; Shamir 2019",
    "deep_linear": "Saxe et al. 2014; Kawaguchi 2016",
    "bent_valley": "Rosenbrock 1960",
    "largest_of": "Nesterov 2018",
    "penalty_wall": "Courant 1943; Nocedal and Wright 2006",
    "hinge_wall": "Nocedal and Wright 2006",
    "drifting_minimum": "Besbes et al. 2015",
    "circling_minimum": "Besbes et al. 2015",
    "sudden_flip": "Dohare et al. 2024",
    "rotating_field": "Mescheder et al. 2017; Gidel et al. 2019",
    "rippled_bowl": "Rastrigin 1974",
    "rippled_plate": "Ackley 1987",
    "parity": "Minsky and Papert 1969; Barak et al. 2022",
    "two_spirals": "Lang and Witbrock 1988",
    "rare_classes": "Kunstner et al. 2024",
    "modular_addition": "Power et al. 2022; Gromov 2023",
    "sequence_parity": "Bengio et al. 1994; Hochreiter and Schmidhuber 1997",
    "marked_spots": "Hochreiter and Schmidhuber 1997",
    "plasticity": "Dohare et al. 2024; Lyle et al. 2023",
    "domain_shift": "LeCun et al. 1998; Shimodaira 2000",
    "two_tasks": "Kendall et al. 2018; Yu et al. 2020",
    "wide_linear": "Strohmer and Vershynin 2009",
    "noisy_product": "Saxe et al. 2014; Arora et al. 2019",
    "deep_product": "Saxe et al. 2014; Arora et al. 2019",
    "autoencoder": "Baldi and Hornik 1989; Saxe et al. 2014",
}
"""By task, authors and year; in full in its docstring, or in its module's."""


def tasks_of(family: str) -> dict[str, Any]:
    """The entries of a family, by name, in the order of the spec."""
    entries: dict[str, Any] = yaml_source.parse(MAP.read_bytes(), str(MAP)).data["objectives"]
    return {name: entry for name, entry in entries.items() if entry.get("family") == family}


def families() -> list[str]:
    """The families, in the order of the spec."""
    entries: dict[str, Any] = yaml_source.parse(MAP.read_bytes(), str(MAP)).data["objectives"]
    return list(dict.fromkeys(entry["family"] for entry in entries.values()))


def documented(name: str, entry: dict[str, Any]) -> str:
    """The docstring of a task's class."""
    module, _, class_name = objective_references()[entry.get("class", name)].partition(":")
    return inspect.getdoc(getattr(importlib.import_module(module), class_name)) or ""


def graded(entry: dict[str, Any]) -> tuple[str, list[Any]]:
    """The argument that makes a task harder, and its values from the easiest on."""
    ((name, values),) = (
        (name, value["each"])
        for name, value in entry["arguments"].items()
        if isinstance(value, dict) and "each" in value
    )
    return str(name), list(values)


def line(name: str, entry: dict[str, Any]) -> str:
    """A row of the table."""
    title = (
        documented(name, entry)
        .partition("\n")[0]
        .rstrip(".")
        .replace("``", "`")
        .replace("|", "\\|")
    )
    argument, values = graded(entry)
    shown = ", ".join(f"{value:g}" for value in values)
    fixed = [f"; `{key}`: {x}" for key, x in entry["arguments"].items() if key != argument]
    shown += "".join(fixed)
    return f"| `{name}` | {title} | `{argument}`: {shown} | {SOURCES.get(name, '')} |"


def table(family: str) -> str:
    """The list of a family's tasks, in Markdown."""
    head = ("| task | what it is | difficulties | source |", "|---|---|---|---|")
    return "\n".join([*head, *(line(name, entry) for name, entry in tasks_of(family).items())])


def filled(page: str) -> str:
    """The page with the lists as they are to be."""
    for family in families():
        begin, end = f"<!-- tasks: {family} -->", f"<!-- end of tasks: {family} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{table(family)}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
