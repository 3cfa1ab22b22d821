"""Digests of what an objective is: its code as it computes, and all that the spec says of it.

Results that come along with the harness are of other versions of it than the one that reads them.
They may be laid beside new ones as long as the objectives are the same, so what an objective is
made of is told apart from everything else of the harness: its class, and whatever that uses of the
same module or of others below ``harness.objectives``. Docstrings, comments on lines of their own
and empty lines don't count. The digest is the same under every version of Python.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from harness.plan.model import PlannedObjective
from harness.provenance import fingerprint
from harness.suite.locate import own_file

_OBJECTIVES = "harness.objectives"

Place = tuple[str, str]
"""A module, and a name in it."""


def definition(planned: PlannedObjective) -> str:
    """Digest an objective, but for its name.

    Args:
        planned: As a spec asks for it.
    """
    located = planned.located
    if located.module.startswith(f"{_OBJECTIVES}."):
        code = _code((located.module, located.attribute))
    else:
        code = fingerprint.of(located)
    dataset = planned.dataset
    return fingerprint.digest(
        {
            "attribute": located.attribute,
            "code": code,
            "arguments": planned.arguments,
            "data": fingerprint.of(dataset, data=True) if dataset else None,
            "rest": [
                *(planned.batch_size, planned.steps, planned.epochs, planned.dtype),
                *(planned.record_every, planned.drop_last, planned.metrics),
                *(planned.divergence_factor, planned.evaluation_batch_size),
                planned.split and planned.split.model_dump(),
                planned.stop and planned.stop.model_dump(mode="json", include=_ENDS),
            ],
        }
    )


_ENDS = {"stop", "targets", "tolerances", "report"}


@functools.cache
def _code(first: Place) -> dict[str, str]:
    """The code of a class and of all that it uses below ``harness.objectives``, by place."""
    found: dict[str, str] = {}
    waiting, seen = [first], {first}
    while waiting:
        module, name = waiting.pop()
        defined, imported = _module(module)
        if name in imported:
            used = [imported[name]]
        else:
            node = defined.get(name)
            if node is None:
                continue
            found[f"{module}:{name}"] = _text(module, node)
            used = [(module, n.id) for n in ast.walk(node) if isinstance(n, ast.Name)]
        waiting += [place for place in dict.fromkeys(used) if place not in seen]
        seen.update(used)
    return found


@functools.cache
def _module(module: str) -> tuple[dict[str, ast.stmt], dict[str, Place]]:
    """What a module defines at its top, and what it imports from its neighbours, by name."""
    tree = ast.parse(_source(module))
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, Place] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OBJECTIVES):
            imported |= {n.asname or n.name: (str(node.module), n.name) for n in node.names}
        else:
            defined |= dict.fromkeys(_names(node), node)
    return defined, imported


def _names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (t.id for t in targets if isinstance(t, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


@functools.cache
def _source(module: str) -> str:
    return own_file(module).read_text(encoding="utf-8")


def _text(module: str, node: ast.stmt) -> str:
    """The lines of a statement that count."""
    docs = {
        number
        for part in ast.walk(node)
        if isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
        for number in range(part.lineno, (part.end_lineno or part.lineno) + 1)
    }
    lines = _source(module).splitlines()
    numbers = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    kept = (lines[number - 1].rstrip() for number in numbers if number not in docs)
    return "\n".join(line for line in kept if line and not line.lstrip().startswith("#"))
