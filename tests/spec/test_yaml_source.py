"""The reader of YAML against the 1.2 core schema, hand-counted places, and hostile files."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from builders import marked
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import BadInput, Problem
from harness.spec.yaml_source import (
    DEPTH_LIMIT,
    NODE_LIMIT,
    SIZE_LIMIT,
    KeyPath,
    YamlSource,
    of_mapping,
    parse,
    read,
    suite_folder,
)

Place = tuple[int, int]


def mistakes(text: str | bytes) -> tuple[Problem, ...]:
    """What is wrong with a text; fails where nothing is."""
    try:
        problems = parse(text.encode() if isinstance(text, str) else text, "f.yaml").problems
    except BadInput as error:
        problems = error.problems
    assert problems
    return tuple(sorted(problems))


def place_of(problem: Problem) -> Place:
    return (problem.line, problem.column)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1E6", 1e6),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.0", 1.0),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("y", "y"),
        ("tRUE", "tRUE"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        ("'1e-6'", "1e-6"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("!!int '5'", 5),
        ("!!bool 'true'", True),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse(f"key: {text}\n".encode(), "f").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(parse(b"a: .nan\n", "f").data["a"])


PLACES = [
    pytest.param("«a: «1\n«b:\n  «c: «2\n  «d: «[«1, «{«e: «x}]\n", id="blocks and flows"),
    pytest.param('«"ü→": «{«ключ: «[«"héé", «ok]}\n', id="characters of several bytes"),
    pytest.param("# none\n\n«a:   # here\n  «- «b: «1\n    «c: «2\n  - «3\n", id="comments"),
    pytest.param("«a: {«b: 'x\t\ty', «c: «2}  # d\te\n", id="tabs count as one"),
    pytest.param("«a: «|\n  text\n  more\n«b: «>-\n  folded\n", id="text blocks"),
]


def walk(data: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    """Every key path of plain data, parents first."""
    found = [(path, data)]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    for key, value in items:
        found += walk(value, (*path, key))
    return found


def all_places(source: YamlSource) -> set[Place]:
    return {(p.line, p.column) for table in (source.keys, source.values) for p in table.values()}


@pytest.mark.parametrize("text", PLACES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_every_key_and_value_has_its_place(text: str, newline: str, bom: bytes) -> None:
    clean, places = marked(text)
    source = parse(bom + clean.replace("\n", newline).encode(), "f")
    # A mark before a flow or item that opens with its first key stands for both.
    assert all_places(source) >= set(places)
    extra = {(p.line, p.column) for path, p in source.keys.items()} - set(places)
    assert not extra
    assert {path for path, _ in walk(source.data)} == set(source.values)


plain_text = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="﻿"))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    plain_text,
)
plain_data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=25,
)


class Writer:
    """Writes plain data as YAML and notes where it puts every key and value."""

    def __init__(self, spaces: str) -> None:
        self.text = ""
        self.keys: dict[KeyPath, Place] = {}
        self.values: dict[KeyPath, Place] = {}
        self._spaces = spaces

    def here(self) -> Place:
        return (self.text.count("\n") + 1, len(self.text) - self.text.rfind("\n"))

    def write(self, data: Any, path: KeyPath) -> None:
        self.values[path] = self.here()
        if isinstance(data, dict):
            self.text += "{"
            for key, value in data.items():
                self.text += self._spaces
                self.keys[(*path, key)] = self.here()
                self.text += json.dumps(key, ensure_ascii=False) + ": "
                self.write(value, (*path, key))
                self.text += ","
            self.text += "}"
        elif isinstance(data, list):
            self.text += "["
            for i, value in enumerate(data):
                self.text += self._spaces
                self.write(value, (*path, i))
                self.text += ","
            self.text += "]"
        else:
            self.text += json.dumps(data, ensure_ascii=False)


@given(
    data=st.dictionaries(plain_text, plain_data, max_size=5),
    spaces=st.sampled_from(["", " ", "\n  "]),
)
def test_what_is_written_is_read_back_with_its_places(data: dict[str, Any], spaces: str) -> None:
    writer = Writer(spaces)
    writer.write(data, ())
    source = parse(writer.text.encode(), "f")
    assert source.data == data
    assert [type(v) for _, v in walk(source.data)] == [type(v) for _, v in walk(data)]
    assert {path: (p.line, p.column) for path, p in source.keys.items()} == writer.keys
    assert {path: (p.line, p.column) for path, p in source.values.items()} == writer.values


@given(data=st.dictionaries(plain_text, plain_data, max_size=5))
def test_a_mapping_is_told_as_a_file_that_says_the_same(data: dict[str, Any]) -> None:
    source = of_mapping(data, Path("here"))
    assert parse(source.text.encode(), "f").data == source.data == data
    assert [type(v) for _, v in walk(source.data)] == [type(v) for _, v in walk(data)]
    problem = source.problem(("a", 0), "is wrong")
    assert str(problem) == "spec: a.0: is wrong"


@pytest.mark.parametrize(
    "text", ["1e-3", "no", "0o17", "0x1f", "<<", "=", "2001-01-01", "1:30", "~", "", "- a", "&a"]
)
def test_a_word_of_a_mapping_that_looks_like_something_else_stays_one(text: str) -> None:
    assert of_mapping({text: [text]}, Path()).data == {text: [text]}


REFUSED = [
    ("a: 1\n«a: 2\n", "a", "duplicate key, first at line 1, column 1"),
    ("x: {b: 1, c: 2, «b: 3}\n", "x.b", "duplicate key, first at line 1, column 5"),
    ("x:\n- 1: a\n  «'1': b\n", "x.0.1", "duplicate key, first at line 2, column 3"),
    ("a: «!!python/object/apply:os.system [ls]\n", "a", "tag '!!python/object/apply:os.system'"),
    ("a: {b: «!secret x}\n", "a.b", "tag '!secret' is not allowed, expected plain YAML"),
    ("a: «!!set {x}\n", "a", "tag '!!set' is not allowed"),
    ("a: «!!binary aGk=\n", "a", "tag '!!binary' is not allowed"),
    ("a: «!!timestamp 2001-01-01\n", "a", "is not allowed"),
    ("«!!omap [a: 1]\n", "", "tag '!!omap' is not allowed"),
    ("? «[a]\n: b\n", "", "a key must be plain text, not a collection or tag"),
    ("«!x k: 1\n", "", "a key must be plain text, not a collection or tag"),
    ("a: «!!int x\n", "a", "'x' is not a whole number"),
    ("a: «!!int ''\n", "a", "'' is not a whole number"),
    ("a: «!!float ''\n", "a", "'' is not a number"),
    ("a: «!!bool maybe\n", "a", "'maybe' is not true or false"),
    ("a: «!!null x\n", "a", "'x' is not null"),
    ("a: «1e400\n", "a", "1e400 is too large a number"),
    ("a: «" + "1" * 5000 + "\n", "a", "is not a whole number"),
    ('a: «"\\e[31m"\n', "a", "character U+001B is not allowed in a spec"),
    ('a: «"\\0"\n', "a", "character U+0000 is not allowed in a spec"),
    ('a: «"\\ud800"\n', "a", "character U+D800 is not allowed in a spec"),
    ('a: {«"\\e[2J": 1}\n', "a.\x1b[2J", "character U+001B is not allowed in a spec"),
    ("a: «*b\n", "", "not valid YAML: found undefined alias 'b'"),
    ("a: [1, 2\nb«: 3\n", "", "not valid YAML: expected ',' or ']'"),
    ("a: «'x\nb: 1\n", "", "not valid YAML: the quote that starts here is never closed"),
    ("a: b«: c\n", "", "not valid YAML: this ':' can't be here"),
    ("a:\n«\tb: 1\n", "", "not valid YAML: a tab, expected spaces"),
    ("a: 1\n«---\nb: 1\n", "", "not valid YAML: a second document begins here"),
    ('a: "\\U«00110000"\n', "", "not valid YAML"),
    ("%YAML «" + "1" * 5000 + ".1\n---\na: 1\n", "", "not valid YAML"),
    ("a: {<<: «5}\n", "a", "'<<' takes a mapping or a list of mappings"),
    ("a: {<<: [{b: 1}, «x]}\n", "a", "'<<' takes a mapping or a list of mappings"),
    ("a: {<<: {b: 1, «b: 2}}\n", "a.b", "duplicate key, first at line 1, column 10"),
    ("a: «<<\n", "a", "tag '!!merge' is not allowed"),
]


@pytest.mark.parametrize(("text", "key", "message"), REFUSED)
def test_what_has_no_place_in_a_spec_is_refused_at_its_place(
    text: str, key: str, message: str
) -> None:
    clean, (place,) = marked(text)
    (problem,) = mistakes(clean)
    assert (place_of(problem), problem.key) == (place, key)
    assert message in problem.message


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    text, places = marked(
        'a: «!x 1\nb: {c: 1, «c: 2}\nd: ["«y", «!!bool z]\n«a: 3\n'.replace('"«y"', "1")
    )
    assert [place_of(p) for p in mistakes(text)] == places


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments\n", "\ufeff", "   \n"])
def test_a_file_that_says_nothing_is_called_empty(text: str) -> None:
    (problem,) = mistakes(text)
    assert str(problem) == "f.yaml: the file is empty, expected a spec"


@pytest.mark.parametrize(
    ("raw", "place", "message"),
    [
        (
            "a: ü\nbé: ".encode() + b"\xe9\n",
            (2, 5),
            "is not valid UTF-8: byte 0xe9; save the file as UTF-8",
        ),
        (
            "a: 1\r\né: ".encode() + b"\xff\n",
            (2, 4),
            "is not valid UTF-8: byte 0xff; save the file as UTF-8",
        ),
        (
            "suite: x\n".encode("utf-16"),
            (1, 1),
            "is not valid UTF-8: byte 0xff; it is UTF-16, save it as UTF-8",
        ),
        ("suite: x\n".encode("utf-16-le"), (1, 2), "character U+0000 is not allowed"),
        ("suite: x\n".encode("utf-32-be"), (1, 1), "character U+0000 is not allowed"),
        (b"a: 1\nb: x\x00y\n", (2, 5), "character U+0000 is not allowed"),
        ("a: é\x07\n".encode(), (1, 5), "character U+0007 is not allowed"),
        (b"\x1f\x8b\x08\x00 gzip", (1, 2), "is not valid UTF-8: byte 0x8b; is it a text file?"),
    ],
)
def test_bytes_that_are_no_text_are_refused_at_their_place(
    raw: bytes, place: Place, message: str
) -> None:
    (problem,) = mistakes(raw)
    assert place_of(problem) == place
    assert problem.message == message


def bomb(levels: int, width: int) -> str:
    """Aliases of aliases: ``width ** levels`` values in a few lines."""
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(["a0: &a0 [x]", *lines, ""])


def merge_bomb(levels: int, width: int) -> str:
    lines = [
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}]}}" for i in range(1, levels + 1)
    ]
    return "\n".join(["a0: &a0 {}", *lines, ""])


HOSTILE = [
    pytest.param(bomb(9, 9), "expands to more than", id="billion laughs"),
    pytest.param(merge_bomb(9, 9), "expands to more than", id="billion merges"),
    pytest.param("a: [" + "1," * (NODE_LIMIT + 10) + "]", "expands to more than", id="many values"),
    pytest.param("a: &a 1\nb: [" + "*a," * (NODE_LIMIT + 10) + "]", "expands", id="many aliases"),
    pytest.param("a: &a [*a]\n", "in themselves", id="list in itself"),
    pytest.param("a: &a {b: *a}\n", "in themselves", id="mapping in itself"),
    pytest.param("a: &a {<<: *a}\n", "in themselves", id="mapping merged with itself"),
    pytest.param("a: &a {<<: [*a, *a]}\n", "in themselves", id="merged with itself twice"),
    pytest.param("&a [*a, *a, *a, *a]\n", "in themselves", id="list of itself, four times"),
    pytest.param("[" * 10_000, f"deeper than {DEPTH_LIMIT}", id="10,000 brackets"),
    pytest.param("[" * 10_000 + "]" * 10_000, f"deeper than {DEPTH_LIMIT}", id="closed ones"),
    pytest.param("- " * 10_000 + "x", f"deeper than {DEPTH_LIMIT}", id="10,000 dashes"),
    pytest.param("{a: " * 10_000, f"deeper than {DEPTH_LIMIT}", id="10,000 braces"),
    pytest.param("? " * 10_000, f"deeper than {DEPTH_LIMIT}", id="10,000 question marks"),
]


@pytest.fixture(scope="module")
def longest() -> float:
    """Processor seconds that the longest file takes that is read."""
    began = time.process_time()
    assert parse(f"a: [{'1,' * (NODE_LIMIT - 10)}]".encode(), "s.yaml").data["a"][0] == 1
    return time.process_time() - began


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_a_file_that_unfolds_without_bound_is_refused_soon(
    text: str, message: str, longest: float
) -> None:
    began = time.process_time()
    (problem,) = mistakes(text)
    assert message in problem.message
    assert problem.line >= 1
    # Refusing takes about as long as reading what is just short enough, not without bound.
    assert time.process_time() - began < 5 * longest


def test_nesting_up_to_the_limit_is_read() -> None:
    deep = parse(("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT).encode(), "f").data
    for _ in range(DEPTH_LIMIT - 1):
        (deep,) = deep
    assert deep == []
    (problem,) = mistakes("[" * (DEPTH_LIMIT + 1) + "x" + "]" * (DEPTH_LIMIT + 1))
    assert (problem.line, problem.column) == (1, DEPTH_LIMIT + 2)


def test_what_a_merge_brings_in_yields_to_the_mappings_own() -> None:
    text = (
        "x: &x {lr: 1, b: {q: 1}}\n"
        "y: &y {lr: 2, c: 3, <<: *x}\n"
        "own:\n  <<: *x\n  lr: 5\n"
        "order: {<<: [*y, *x]}\n"
        "chain: {<<: *y}\n"
        "inline: {<<: {z: 1}, w: 2}\n"
    )
    data = parse(text.encode(), "f").data
    assert data["own"] == {"lr": 5, "b": {"q": 1}}
    assert data["order"] == {"lr": 2, "c": 3, "b": {"q": 1}}
    assert data["chain"] == {"lr": 2, "c": 3, "b": {"q": 1}}
    assert data["inline"] == {"w": 2, "z": 1}


def test_places_of_a_merged_mapping_are_its_own_then_those_it_was_written_at() -> None:
    text, places = marked("x: &x {lr: 1, b: «1}\ny:\n  «lr: «2\n  «<<: *x\n")
    source = parse(text.encode(), "f")

    def at(path: KeyPath, table: str) -> Place:
        position = getattr(source, table)[path]
        return (position.line, position.column)

    value_of_b, own_key, own_value, merge = places
    assert at(("y", "lr"), "keys") == own_key
    assert at(("y", "lr"), "values") == own_value
    assert at(("y", "b"), "keys") == merge
    assert at(("y", "b"), "values") == value_of_b


def test_a_problem_stands_at_the_nearest_thing_that_has_a_place() -> None:
    text, (a, b, c) = marked("«a:\n  «b: «{c: 1}\n")
    source = parse(text.encode(), "f")
    assert place_of(source.problem(("a", "b", "missing"), "m", at_key=True)) == b
    assert place_of(source.problem(("a", "b"), "m")) == c
    assert place_of(source.problem(("a", "none", "at", "all"), "m")) == a
    assert place_of(source.problem(("nothing",), "m")) == (1, 1)


TOKENS = (
    *"[]{},:-?&*!|>'\"%@`#~=.\n\t \r\ufeff",
    *("a", "b", "é", "1", ": ", "- ", "\n  ", "&a ", "*a", "<<", "!!int ", "!!bool ", "!x "),
    *("---\n", "...\n", '"\\x', '"\\U', "%YAML "),
)
yaml_like = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)


def survives(raw: bytes) -> None:
    try:
        source = parse(raw, "f")
    except BadInput as refused:
        problems = refused.problems
    else:
        json.dumps(source.data)
        return
    lines = raw.decode("utf-8", errors="replace").splitlines() or [""]
    assert problems
    for problem in problems:
        assert 0 <= problem.line <= len(lines) + 1
        assert problem.message
        assert str(problem).isprintable()


@given(st.binary(max_size=60))
@example(b"\xff\xfe")
@example(b"a: \xc3")
def test_random_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    survives(raw)


@given(yaml_like)
@example('a: "\\U00110000"')
@example("a: !!bool x")
def test_random_yaml_is_read_or_refused_and_nothing_else(text: str) -> None:
    survives(text.encode())


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    return problem.message


def test_a_file_that_is_not_there_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.yaml").write_text("a: 1")
    near = str(tmp_path / "benchmarks.yaml")
    assert refusal(tmp_path / "benchmark.yml") == f"no such file; did you mean {near!r}?"
    assert refusal(tmp_path / "other.toml") == "no such file"
    assert refusal(tmp_path / "no" / "folder.yaml") == "no such file"


def test_a_folder_is_refused_with_the_spec_that_is_in_it(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "this is a directory, expected a YAML file"
    (tmp_path / "one.yaml").write_text("a: 1")
    near = str(tmp_path / "one.yaml")
    assert refusal(tmp_path).endswith(f"expected a YAML file; did you mean {near!r}?")


def test_paths_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    assert "can't be read" in refusal(tmp_path / "a\0b.yaml")
    assert "can't be read: File name too long" in refusal(tmp_path / ("x" * 300))
    (tmp_path / "file").write_text("a: 1")
    assert "can't be read: Not a directory" in refusal(tmp_path / "file" / "spec.yaml")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "loop.yaml"
    link.symlink_to(link)
    assert "can't be read" in refusal(link)


def test_a_file_may_have_so_many_bytes_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"a: 1\n#" + b"x" * (SIZE_LIMIT - 6))
    assert read(path).data == {"a": 1}
    path.write_bytes(b"a: 1\n#" + b"x" * (SIZE_LIMIT - 5))
    assert refusal(path) == f"too long, a spec has at most {SIZE_LIMIT:,} bytes"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="the system has no /dev/zero")
def test_a_device_that_never_ends_is_not_read_to_its_end() -> None:
    assert "too long" in refusal(Path("/dev/zero"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_spec_can_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"a: 1\n",))
    writer.start()
    assert read(pipe).data == {"a": 1}
    writer.join()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nseeds:\u00a02\nb: {c: 1}\n", "2:7: not valid YAML: U+00A0 (no-break space)"),
        ("a: 1\rseeds:\u00a02\rb: {c: 1}\r", "2:7: not valid YAML: U+00A0 (no-break space)"),
        ("a: \u200b\n- x\n", "1:4: not valid YAML: U+200B (zero width space)"),
        (
            "a: 1\nseeds\nb: 2\n",
            "2:1: not valid YAML: expected 'key: value', but this line has no ':'",
        ),
    ],
)
def test_what_only_looks_like_a_space_is_named_at_its_place(text: str, said: str) -> None:
    (problem,) = mistakes(text)
    assert f":{said}" in str(problem)


# The suite that a spec belongs to


@pytest.mark.parametrize(
    ("spec", "folders", "expected"),
    [
        ("suite/spec.yaml", (), "suite"),
        ("suite/specs/spec.yaml", (), "suite"),
        ("suite/specs/spec.yaml", ("suite/optimizers", "suite/specs/figures"), "suite"),
        ("suite/specs/spec.yaml", ("suite/specs/optimizers",), "suite/specs"),
        ("suite/specs/spec.yaml", ("suite/specs/objectives",), "suite/specs"),
        ("suite/specs/spec.yaml", ("suite/specs/datasets",), "suite/specs"),
        ("suite/others/spec.yaml", (), "suite/others"),
        ("suite/specs/old/spec.yaml", (), "suite/specs/old"),
    ],
)
def test_specs_in_a_folder_of_that_name_belong_to_the_suite_around_it(
    tmp_path: Path, spec: str, folders: tuple[str, ...], expected: str
) -> None:
    for folder in (*folders, str(Path(spec).parent)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert suite_folder(tmp_path / spec) == tmp_path / expected


def test_the_suite_of_a_spec_is_found_from_the_working_folder_and_through_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite" / "specs").mkdir(parents=True)
    (tmp_path / "suite" / "specs" / "spec.yaml").touch()
    (tmp_path / "link.yaml").symlink_to(tmp_path / "suite" / "specs" / "spec.yaml")
    monkeypatch.chdir(tmp_path / "suite" / "specs")
    assert suite_folder(Path("spec.yaml")) == tmp_path / "suite"
    assert suite_folder(tmp_path / "link.yaml") == tmp_path / "suite"
