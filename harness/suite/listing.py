"""The names that a spec can use, found by reading source: none of the suite's code is run."""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadInput, join
from harness.spec.yaml_source import suite_folder
from harness.suite.locate import Section, definitions, names_in, own_file
from harness.suite.shipped import SHIPPED_OBJECTIVES, TASKS
from harness.terminal import aligned


@dataclass(frozen=True, repr=False)
class Names:
    """The names that a spec of a suite can use, each with the first line of its docstring.

    Attributes:
        optimizers: Of the suite.
        objectives: Of the suite.
        shipped: Objectives that come with the harness.
        tasks: Diagnostic tasks that come with it, by family.
        datasets: Of the suite.
        torch: Names of torch's optimizers; none where torch is not installed.
    """

    optimizers: dict[str, str]
    objectives: dict[str, str]
    shipped: dict[str, str]
    tasks: dict[str, dict[str, str]]
    datasets: dict[str, str]
    torch: tuple[str, ...]

    def __repr__(self) -> str:
        blocks = [
            _block("Optimizers of the suite (class: NAME)", self.optimizers),
            _block("Objectives of the suite (class: NAME)", self.objectives),
            _block("Objectives of the harness (class: NAME)", self.shipped),
            *(
                _block(f"Diagnostic tasks: {family} (class: NAME)", tasks)
                for family, tasks in self.tasks.items()
            ),
            _block("Datasets of the suite (dataset: NAME)", self.datasets),
            "Optimizers of torch (class: torch.optim:NAME)\n"
            + textwrap.fill(
                join(self.torch, limit=1000) or "torch is not installed",
                width=96,
                initial_indent="  ",
                subsequent_indent="  ",
            ),
            "Or anything importable (class: package.module:NAME)",
        ]
        return "\n\n".join(block for block in blocks if block)


def names(suite: Path) -> Names:
    """List the optimizers, objectives and datasets that there are.

    Args:
        suite: A suite's folder, or a spec in it.

    Raises:
        BadInput: If there is no such folder.
    """
    folder = suite_folder(suite) if suite.is_file() else suite
    if not folder.is_dir():
        raise BadInput.of_file(str(suite), "no such folder or spec")
    return Names(
        optimizers=_own(folder, "optimizers"),
        objectives=_own(folder, "objectives"),
        shipped=_first_lines(SHIPPED_OBJECTIVES),
        tasks={family: _first_lines(tasks) for family, tasks in TASKS.items()},
        datasets=_own(folder, "datasets"),
        torch=tuple(_torch_optimizers()),
    )


def _block(heading: str, known: Mapping[str, str]) -> str:
    return "\n".join([heading, *aligned(known.items(), indent=2)]) if known else ""


def _own(folder: Path, section: Section) -> dict[str, str]:
    return {name: doc for name, (_, doc) in names_in(folder, section).items()}


def _first_lines(references: Mapping[str, str]) -> dict[str, str]:
    """The first line of each class's docstring, read off its source."""
    found = {}
    for name, reference in references.items():
        module, _, attribute = reference.partition(":")
        found[name] = definitions(own_file(module)).get(attribute, "")
    return found


def _torch_optimizers() -> list[str]:
    """Names of torch.optim's optimizers, read off its source."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return []
    tree = ast.parse((Path(spec.origin).parent / "optim" / "__init__.py").read_bytes())
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return sorted(n for n in names if n[0].isupper() and n != "Optimizer")
