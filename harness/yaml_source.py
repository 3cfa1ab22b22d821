"""A YAML file as plain data that remembers where each piece stands.

Reads YAML 1.2 scalars (``1e-6`` is a number, ``no`` is a word), refuses what has no place in a
spec (tags, duplicate keys, documents that unfold without bound), and knows nothing of specs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.problems import BadInput, Problem

SIZE_LIMIT = 1_000_000
"""Bytes a spec may have."""

NODE_LIMIT = 100_000
"""Values a spec may unfold to, aliases followed."""

DEPTH_LIMIT = 32
"""How deep values may nest."""

SUFFIXES = (".yaml", ".yml")

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Position:
    """1-based line and column."""

    line: int
    column: int


@dataclass(frozen=True)
class YamlSource:
    """A parsed file.

    Attributes:
        file: The file as the user named it.
        text: Its whole text.
        data: Plain data: dicts with string keys, lists, scalars.
        keys: Where the key of each mapping entry stands.
        values: Where each value stands.
    """

    file: str
    text: str
    data: Any
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """Place a message at a key path, or at the nearest enclosing thing that has a place."""
        own = (self.keys, self.values) if at_key else (self.values, self.keys)
        position = next((table[path] for table in own if path in table), None)
        parent = path
        while position is None and parent:
            parent = parent[:-1]
            position = self.keys.get(parent) or self.values.get(parent)
        position = position or Position(1, 1)
        key = ".".join(str(part) for part in path)
        return Problem(self.file, position.line, position.column, key, message)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"^(?:{_pattern})$"),
        ["" if first == "\0" else first for first in _first],
    )
_MERGE = "tag:yaml.org,2002:merge"
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])

_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null", "str")}


def read(path: Path) -> YamlSource:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        Its content with positions.

    Raises:
        BadInput: If the file is missing, a directory, unreadable, too large, not UTF-8, empty,
            not YAML, or has duplicate keys, tags, or values that unfold without bound.
    """
    name = str(path)
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= SIZE_LIMIT or not path.is_file() else b""
    except FileNotFoundError:
        raise BadInput.of_file(name, f"no such file{_neighbours(path)}") from None
    except IsADirectoryError:
        raise BadInput.of_file(
            name, f"this is a directory, expected a YAML file{_specs_in(path)}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput.of_file(name, f"can't be read: {reason}") from None
    if size > SIZE_LIMIT:
        raise BadInput.of_file(name, f"{size:,} bytes, a spec has at most {SIZE_LIMIT:,}")
    return parse(raw, name)


def parse(raw: bytes, file: str) -> YamlSource:
    """Parse the bytes of a YAML file; see :func:`read`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        byte = raw[error.start]
        raise BadInput(
            [Problem(file, line, column, "", f"not UTF-8: byte 0x{byte:02x} can't be decoded")]
        ) from None
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise BadInput([_syntax_problem(file, error)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise BadInput(
            [Problem(file, line, column, "", f"character {error.character!r} is not allowed")]
        ) from None
    except RecursionError:
        raise BadInput.of_file(file, f"values nest deeper than {DEPTH_LIMIT} levels") from None
    if node is None:
        raise BadInput.of_file(file, "the file is empty, expected a spec")
    builder = _Builder(file)
    data = builder.build(node, ())
    if builder.problems:
        raise BadInput(builder.problems)
    return YamlSource(file, text, data, builder.keys, builder.values)


class _Builder:
    """Turns nodes into plain data and collects positions and mistakes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[KeyPath, Position] = {}
        self.values: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []
        self._loader = _Loader("")
        self._count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > NODE_LIMIT:
            raise BadInput([*self.problems, self._problem(node, path, _UNFOLDS)])
        if len(path) > DEPTH_LIMIT:
            raise BadInput(
                [
                    *self.problems,
                    self._problem(
                        node, path[:4], f"nests deeper than {DEPTH_LIMIT} levels (or in itself)"
                    ),
                ]
            )
        self.values.setdefault(path, _position(node))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, path)
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self.problems.append(
            self._problem(node, path, f"tag {tag!r} is not allowed, expected plain YAML")
        )
        return None

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            if node.tag.endswith(":int"):
                text = node.value.replace("_", "")
                return int(text, 0 if text[:2] in ("0x", "0o") else 10)
            return self._loader.construct_object(node)
        except (ValueError, yaml.YAMLError):
            tag = node.tag.rpartition(":")[2]
            self.problems.append(self._problem(node, path, f"{node.value!r} is not a {tag}"))
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, Position] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _SCALARS:
                self.problems.append(
                    self._problem(key_node, path, "a key must be a plain word, not a collection")
                )
                continue
            key = str(key_node.value)
            here = _position(key_node)
            if key in first:
                self.problems.append(
                    self._problem(
                        key_node,
                        (*path, key),
                        f"duplicate key, first at line {first[key].line}, "
                        f"column {first[key].column}",
                    )
                )
                continue
            first[key] = here
            self.keys[(*path, key)] = here
            result[key] = self.build(value_node, (*path, key))
        for key, value, where in self._merged(node, path):
            if key not in result:
                result[key] = value
                self.keys[(*path, key)] = where
        return result

    def _merged(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any, Position]]:
        """Entries that ``<<: *anchor`` brings in; the mapping's own entries win."""
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                continue
            sequence = isinstance(value_node, yaml.SequenceNode)
            for child in value_node.value if sequence else [value_node]:
                if not isinstance(child, yaml.MappingNode):
                    self.problems.append(
                        self._problem(child, path, "'<<' merges mappings, this is something else")
                    )
                    continue
                for key, value in self._mapping(child, path).items():
                    yield key, value, _position(key_node)

    def _problem(self, node: yaml.Node, path: KeyPath, message: str) -> Problem:
        position = _position(node)
        key = ".".join(str(part) for part in path)
        return Problem(self.file, position.line, position.column, key, message)


_UNFOLDS = f"the file unfolds to more than {NODE_LIMIT:,} values (aliases of aliases?)"


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_problem(file: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    text = ", ".join(part for part in (error.problem, error.context) if part)
    return Problem(file, line, column, "", f"not valid YAML: {text}")


def _specs_in(folder: Path) -> str:
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    except OSError:
        return ""
    return f"; did you mean {str(found[0])!r}?" if found else ""


def _neighbours(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in SUFFIXES]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""
