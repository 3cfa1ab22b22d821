"""The reference of the spec, as Markdown, made from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

ROOM = "<!-- Here the site has every key"
"""How the comment begins in whose place the reference comes."""

LONG = 4
"""Items of a list beyond which only its ends are shown."""

Schema = Mapping[str, Any]

BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def filled(page: str, schema: Schema) -> str:
    """The page with the reference where it has room for it.

    Raises:
        ValueError: If it has no room.
    """
    lines = page.splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith(ROOM)]
    if len(places) != 1:
        raise ValueError(f"expected one line that begins with {ROOM!r}")
    lines[places[0] : places[0] + 1] = reference(schema)
    return "\n".join(lines) + "\n"


def reference(schema: Schema) -> list[str]:
    """A table of the whole spec's keys, then one of each kind of entry, by the way they nest."""
    lines = [*_table("the spec", schema)]
    defined: Mapping[str, Schema] = schema["$defs"]
    waiting, told = list(_named_in(schema)), set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in told:
            continue
        told.add(name)
        lines += ["", f"### {heading(name)}", "", defined[name].get("description", ""), ""]
        lines += _table(name, defined[name])
        waiting += _named_in(defined[name])
    return lines


def heading(name: str) -> str:
    """What a kind of entry is called: ``TuningSpec`` is ``tuning``."""
    words = name.removesuffix("Spec").lower()
    others = {"match": "include, exclude", "space": "search", "cell": "check: cells"}
    return others.get(words, words)


def _table(name: str, schema: Schema) -> Iterator[str]:
    required = set(schema.get("required", ()))
    yield "| key | takes | left out | meaning |"
    yield "|---|---|---|---|"
    for key, value in schema["properties"].items():
        default = "required" if key in required else _default(value)
        row = (f"`{key}`", _kind(value), default, value.get("description") or _told(value))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    if not schema["properties"]:
        raise ValueError(f"{name} has no keys")


def _default(value: Schema) -> str:
    if value.get("default") in (None, [], {}):
        return ""
    default = value["default"]
    if isinstance(default, list) and len(default) > LONG:
        return f"`[{default[0]}, {default[1]}, ..., {default[-1]}]`"
    return f"`{json.dumps(default)}`"


def _told(value: Schema) -> str:
    """A word on what has no description of its own: see where it is told."""
    return f"See [below](#{_anchor(value['$ref'])})." if "$ref" in value else ""


def _kind(value: Schema) -> str:
    """What a key takes, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{heading(name)}](#{_anchor(value['$ref'])})"
    if choices := value.get("anyOf", value.get("oneOf")):
        kinds = [_kind(one) for one in choices if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if words := value.get("enum", value.get("examples")):
        return ", ".join(f"`{json.dumps(one)}`" for one in words)
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    kind = value.get("type", "anything")
    if isinstance(kind, list) and len(kind) > 2:
        return "value"
    if isinstance(kind, list):
        return " or ".join(_kind({"type": one}) for one in kind if one != "null")
    if kind == "array":
        items = value.get("items")
        return f"list of {_many(_kind(items))}" if items else "list"
    if kind == "object":
        inner = [*value.get("patternProperties", {}).values()]
        inner += [value["additionalProperties"]] if value.get("additionalProperties") else []
        kinds = [_kind(one) for one in inner if isinstance(one, Mapping)]
        return f"name: {' or '.join(kinds)}" if kinds else "mapping"
    word = {"integer": "whole number", "string": "text", "boolean": "`true` or `false`"}
    bounds = [text.format(f"{value[key]:,}") for key, text in BOUNDS.items() if key in value]
    if {"minimum", "maximum"} <= set(value):
        bounds = [f"from {value['minimum']:,} to {value['maximum']:,}"]
    return f"{word.get(kind, kind)} {', '.join(bounds)}".strip()


def _many(kind: str) -> str:
    """What a list has, in the plural where that is a word of ours."""
    for one in ("text", "value", "number", "whole number"):
        if kind == one or kind.startswith((f"{one} above", f"{one} at", f"{one} from")):
            return f"{one}s{kind.removeprefix(one)}"
    return kind


def _anchor(reference: str) -> str:
    name = heading(reference.rpartition("/")[2])
    return "".join(c for c in name.replace(" ", "-") if c.isalnum() or c in "-_")


def _named_in(schema: Any) -> Iterator[str]:
    """Kinds of entries that a schema names, in order."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key != "$defs":
                yield from _named_in(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _named_in(value)
