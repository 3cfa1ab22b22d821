"""What a spec can name, found by reading source: no torch, none of the suite's code is run."""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Iterable
from pathlib import Path

from harness.problems import BadInput, join
from harness.suite import SHIPPED_OBJECTIVES, definitions, names_in


def render(suite: Path) -> str:
    """Say what optimizers, objectives and datasets there are.

    Args:
        suite: A suite's folder, or a spec in it.

    Raises:
        BadInput: If there is no such folder.
    """
    folder = suite.parent if suite.is_file() else suite
    if not folder.is_dir():
        raise BadInput.of_file(str(suite), "no such folder or spec")
    blocks = [
        _block("Optimizers of the suite (class: NAME)", _own(folder, "optimizers")),
        _block("Objectives of the suite (class: NAME)", _own(folder, "objectives")),
        _block("Objectives that ship (class: NAME)", _shipped()),
        _block("Datasets of the suite (dataset: NAME)", _own(folder, "datasets")),
        "Optimizers of torch (class: torch.optim:NAME)\n"
        + textwrap.fill(
            join(_torch_optimizers(), limit=1000) or "torch is not installed",
            width=96,
            initial_indent="  ",
            subsequent_indent="  ",
        ),
        "Anything importable can be named too: class: package.module:NAME",
    ]
    return "\n\n".join(block for block in blocks if block)


def _block(heading: str, names: Iterable[tuple[str, str]]) -> str:
    rows = list(names)
    if not rows:
        return ""
    width = max(len(name) for name, _ in rows)
    return "\n".join([heading, *(f"  {name:<{width}}  {doc}".rstrip() for name, doc in rows)])


def _own(folder: Path, section: str) -> Iterable[tuple[str, str]]:
    found = names_in(folder, section)  # type: ignore[arg-type]
    return ((name, doc) for name, (_, doc) in found.items())


def _shipped() -> Iterable[tuple[str, str]]:
    for name, reference in SHIPPED_OBJECTIVES.items():
        module, _, attribute = reference.partition(":")
        file = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
        yield name, definitions(file).get(attribute, "")


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
