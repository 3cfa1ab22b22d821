"""A YAML file as plain data that remembers where each piece stands.

Reads YAML 1.2 scalars (``1e-6`` is a number, ``no`` is a string), refuses what has no place in a
spec (tags, duplicate keys, documents that unfold without bound), and knows nothing of specs.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from harness.errors import BadInput, Problem

SIZE_LIMIT = 500_000
"""Bytes a spec may have."""

NODE_LIMIT = 50_000
"""Values a spec may unfold to, aliases followed."""

DEPTH_LIMIT = 32
"""Levels that values may nest."""

SUFFIXES = (".yaml", ".yml")

SPECS = "specs"
"""Folder of a suite that may hold specs, beside those in the suite's own folder."""

MAPPING = "spec"
"""Stands for a file's name where a mapping is meant."""

KeyPath = tuple[str | int, ...]

Home = tuple["YamlSource", KeyPath]
"""A file, and a key path in it."""


@dataclass(frozen=True)
class Position:
    """1-based line and column."""

    line: int
    column: int


@dataclass(frozen=True)
class YamlSource:
    """A parsed file, or a mapping as the file that would say it.

    Attributes:
        file: The file as the user named it.
        text: Its whole text.
        data: Plain data: dicts with string keys, lists, scalars.
        keys: Where the key of each mapping entry stands; empty of a mapping.
        values: Where each value stands; empty of a mapping.
        folder: Where a mapping is at home; None of a file, which says so itself.
        problems: What no spec may hold: duplicate keys, tags, characters that are not allowed.
        unreadable: Key paths of values that are not known for such a reason.
        homes: By key path, the file and the key path at which what is there is really said.
    """

    file: str
    text: str
    data: Any
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)
    folder: Path | None = None
    problems: tuple[Problem, ...] = ()
    unreadable: frozenset[KeyPath] = frozenset()
    homes: Mapping[KeyPath, Home] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """Place a message at a key path, or at the nearest enclosing thing that has a place."""
        for length in range(len(path), 0, -1):
            if home := self.homes.get(path[:length]):
                said_in, said_at = home
                return said_in.problem((*said_at, *path[length:]), message, at_key=at_key)
        own = (self.keys, self.values) if at_key else (self.values, self.keys)
        position = next((table[path] for table in own if path in table), None)
        parent = path
        while position is None and parent:
            parent = parent[:-1]
            position = self.keys.get(parent) or self.values.get(parent)
        position = position or (Position(0, 0) if self.folder else Position(1, 1))
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


class _Dumper(yaml.SafeDumper):
    """SafeDumper that puts in quotes what the loader would take for something else."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


_MAP, _SEQ = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_SCALARS = {
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:int": "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:str": "a string",
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no spec needs and that terminals, databases or files can't take."""

_LIKE_A_SPACE = re.compile(r"[^\S \t\r\n]|[\u200b-\u200f\u2060\ufeff]")
"""Characters that look like a space, or like nothing, and are neither to YAML."""

_UNFOLDS = f"the file expands to more than {NODE_LIMIT:,} values (aliases of aliases?)"
_NESTS = f"values nest deeper than {DEPTH_LIMIT} levels (or in themselves)"


def read(path: Path) -> YamlSource:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        Its content with positions, and with mistakes such as duplicate keys.

    Raises:
        BadInput: If the file is missing, a directory, unreadable, too large, not UTF-8, empty,
            not YAML, or has more values than a spec may have.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)  # no more: it may be a device that never ends
    except FileNotFoundError:
        raise BadInput.of_file(name, f"no such file{_neighbours(path)}") from None
    except IsADirectoryError:
        raise BadInput.of_file(
            name, f"this is a directory, expected a YAML file{_specs_in(path)}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput.of_file(name, f"can't be read: {reason}") from None
    return parse(raw, name)


def parse(raw: bytes, file: str) -> YamlSource:
    """Parse the bytes of a YAML file; see :func:`read`."""
    if len(raw) > SIZE_LIMIT:
        raise BadInput.of_file(file, f"too long, a spec has at most {SIZE_LIMIT:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "is it a text file?" if b"\0" in raw else "save the file as UTF-8"
        hint = "it is UTF-16, save it as UTF-8" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else hint
        message = f"is not valid UTF-8: byte 0x{raw[error.start]:02x}; {hint}"
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        raise BadInput([_problem_after(file, before, message)]) from None
    builder = _TreeBuilder(file)
    try:
        data = builder.build(_compose(text, file), ())
    except RecursionError:
        raise BadInput([*builder.problems, Problem(file, 1, 1, "", _NESTS)]) from None
    return YamlSource(
        file,
        text,
        data,
        builder.keys,
        builder.values,
        problems=tuple(builder.problems),
        unreadable=frozenset(builder.unreadable),
    )


def of_mapping(data: Mapping[str, Any], folder: Path) -> YamlSource:
    """Read a mapping under the rules of a file; its mistakes have keys, and no lines.

    Args:
        data: The mapping. Tuples count as lists, and what has a ``tolist`` (numpy's numbers and
            arrays) as what that gives.
        folder: The folder in which the file would lie.

    Raises:
        BadInput: If there is something in it that no file could say.
    """
    problems: list[Problem] = []
    plain = _plain(data, (), problems)
    if problems:
        raise BadInput(problems)
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    try:
        source = parse(text.encode(errors="surrogatepass"), MAPPING)
    except BadInput as error:
        raise BadInput(replace(p, line=0, column=0) for p in error.problems) from None
    unplaced = tuple(replace(problem, line=0, column=0) for problem in source.problems)
    return replace(source, keys={}, values={}, folder=folder, problems=unplaced)


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """A value as plain data; what is none of it becomes a mistake."""
    if len(path) > DEPTH_LIMIT:
        raise BadInput([Problem(MAPPING, 0, 0, ".".join(map(str, path[:4])), _NESTS)])
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                where = ".".join(map(str, path))
                problems.append(Problem(MAPPING, 0, 0, where, f"the key {key!r} is not a string"))
                continue
            plain[key] = _plain(item, (*path, key), problems)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, i), problems) for i, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    where = ".".join(map(str, path))
    what = f"expected plain data, got a value of type {type(value).__name__}"
    problems.append(Problem(MAPPING, 0, 0, where, what))
    return None


def _compose(text: str, file: str) -> yaml.Node:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise BadInput([_invalid(file, text, error)]) from None
    except yaml.reader.ReaderError as error:
        message = f"character U+{ord(text[error.position]):04X} is not allowed"
        raise BadInput([_problem_after(file, text[: error.position], message)]) from None
    except ValueError as error:  # "\U00110000", "%YAML 1.111..."
        mark = loader.get_mark() if loader else None
        raise BadInput([_problem_at(file, mark, f"not valid YAML: {error}")]) from None
    if node is None:
        raise BadInput.of_file(file, "the file is empty, expected a spec")
    return node


def _invalid(file: str, text: str, error: yaml.MarkedYAMLError) -> Problem:
    """The reason why a text is no YAML, at the place where somebody has to change it."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    reason = ", ".join(part for part in (error.problem, error.context) if part)
    lines = re.split("\r\n|[\r\n\x85\u2028\u2029]", text)  # as PyYAML counts them
    if mark is not None:
        # A value goes on in the next line, where alone its mistake shows.
        spaceless = "not allowed here" in reason or "could not find expected ':'" in reason
        first = max(0, mark.line - 1) if "not allowed here" in reason else (began or mark).line
        for number in range(first, min(mark.line + 1, len(lines))):
            if found := _LIKE_A_SPACE.search(lines[number]):
                message = f"U+{ord(found[0]):04X} ({unicodedata.name(found[0], 'no name').lower()})"
                message = f"not valid YAML: {message} is not a plain space; write one"
                return Problem(file, number + 1, found.start() + 1, "", message)
            found = re.match(r"\s*(?:- )?[\w.-]+:(?=[^\s:])", lines[number])
            if found and number < mark.line and spaceless:
                message = "not valid YAML: expected a space after the ':'"
                return Problem(file, number + 1, found.end() + 1, "", message)
    for part, plain, at_beginning in _REASONS:
        if part in reason:
            where = (
                f" that begins at line {began.line + 1}, column {began.column + 1}" if began else ""
            )
            reason = plain.format(where=where)
            mark = began if at_beginning and began is not None else mark
            break
    return _problem_at(file, mark, f"not valid YAML: {reason}")


_REASONS = (
    (r"'\t'", "a tab, expected spaces", False),
    ("could not find expected ':'", "expected 'key: value', but this line has no ':'", True),
    ("end of stream, while scanning a quoted", "the quote that starts here is never closed", True),
    ("but got '<stream end>'", "the bracket that starts here is never closed", True),
    ("expected ',' or '}'", "expected ',' or '}}' to continue the mapping{where}", False),
    ("expected ',' or ']'", "expected ',' or ']' to continue the list{where}", False),
    ("expected <block end>", "not aligned with the block{where}", False),
    ("cannot start any token", "text that starts with this character needs quotes", False),
    ("another document", "a second document begins here, expected only one", False),
    ("mapping values are not allowed", "this ':' can't be here; is text with a ':' quoted?", False),
)
"""What PyYAML says, the same in plain words, and whether the place is where the thing began."""


class _TreeBuilder:
    """Turns nodes into plain data and collects positions and mistakes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[KeyPath, Position] = {}
        self.values: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []
        self.unreadable: set[KeyPath] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain data that a node at a key path stands for."""
        self._count_node(node, path)
        if len(path) > DEPTH_LIMIT:
            raise BadInput([*self.problems, self._problem(node, path[:4], _NESTS)])
        self.values.setdefault(path, _position(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            result: dict[str, Any] = {}
            self._fill(result, node, path)
            return result
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, path)
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._report(node, path, f"tag {tag!r} is not allowed, expected plain YAML")
        self.unreadable.add(path)
        return None

    def _count_node(self, node: yaml.Node, path: KeyPath) -> None:
        self._count += 1
        if self._count > NODE_LIMIT:
            raise BadInput([*self.problems, self._problem(node, path, _UNFOLDS)])

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            value = _value(node.tag.rpartition(":")[2], node.value)
        except (ValueError, KeyError):
            self._report(node, path, f"{_cut(node.value)!r} is not {_SCALARS[node.tag]}")
            self.unreadable.add(path)
            return None
        if isinstance(value, str):
            self._check_text(value, node, path)
        elif isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
            self._report(node, path, f"{_cut(node.value)} is too large a number")
            self.unreadable.add(path)
        return value

    def _fill(
        self,
        result: dict[str, Any],
        node: yaml.MappingNode,
        path: KeyPath,
        merged_at: Position | None = None,
    ) -> None:
        """Add a mapping's entries, then what ``<<`` brings in; what is there already wins.

        Args:
            result: What is filled.
            node: The mapping.
            path: Where ``result`` stands.
            merged_at: Where the ``<<`` stands that brought the mapping here, if one did.
        """
        first: dict[str, Position] = {}
        merging: list[tuple[yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merging.append((key_node, value_node))
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _SCALARS:
                self._report(key_node, path, "a key must be plain text, not a collection or tag")
                continue
            key = str(key_node.value)
            here = _position(key_node)
            if key in first:
                there = f"first at line {first[key].line}, column {first[key].column}"
                self._report(key_node, (*path, key), f"duplicate key, {there}")
                continue
            first[key] = here
            if key in result:
                continue
            self._check_text(key, key_node, (*path, key))
            self.keys[(*path, key)] = merged_at or here
            result[key] = self.build(value_node, (*path, key))
        for key_node, value_node in merging:
            where = merged_at or _position(key_node)
            is_list = isinstance(value_node, yaml.SequenceNode)
            for child in value_node.value if is_list else [value_node]:
                self._count_node(child, path)
                if isinstance(child, yaml.MappingNode) and child.tag == _MAP:
                    self._fill(result, child, path, where)
                else:
                    self._report(child, path, "'<<' takes a mapping or a list of mappings")

    def _check_text(self, text: str, node: yaml.Node, path: KeyPath) -> None:
        if found := _CONTROL.search(text):
            number = ord(found[0])
            self._report(node, path, f"character U+{number:04X} is not allowed in a spec")
            self.unreadable.add(path)

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(self._problem(node, path, message))

    def _problem(self, node: yaml.Node, path: KeyPath, message: str) -> Problem:
        key = ".".join(str(part) for part in path)
        return replace(_problem_at(self.file, node.start_mark, message), key=key)


def _value(kind: str, text: str) -> bool | int | float | str | None:
    """Convert a scalar to the value that it stands for.

    Raises:
        ValueError, KeyError: If the text is not of that kind (an explicit tag such as ``!!int``
            says what it should be).
    """
    match kind:
        case "str":
            return text
        case "int":
            digits = text.replace("_", "")
            return int(digits, 0 if digits[:2] in ("0x", "0o") else 10)
        case "float":
            number = text.replace("_", "").lower()
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", number))
        case "bool":
            return {"true": True, "false": False}[text.lower()]
    return {"": None, "~": None, "null": None}[text.lower()]


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _problem_at(file: str, mark: yaml.Mark | None, message: str) -> Problem:
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(file, line, column, "", message)


def suite_folder(spec: Path) -> Path:
    """The folder of the suite that a spec belongs to.

    It is the folder of the spec or, where that is called ``specs`` and has no ``optimizers/``,
    ``objectives/`` or ``datasets/`` of its own, the folder around it.
    """
    folder = spec.resolve().parent
    own = any((folder / name).is_dir() for name in ("optimizers", "objectives", "datasets"))
    return folder.parent if folder.name == SPECS and not own else folder


def _problem_after(file: str, text: str, message: str) -> Problem:
    """A mistake right after a text."""
    lines = re.split(r"\r\n|[\r\n]", text)
    return Problem(file, len(lines), len(lines[-1]) + 1, "", message)


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
