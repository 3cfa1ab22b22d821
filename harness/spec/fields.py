"""Types of single values in a spec, and the messages about those that are wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from harness.errors import nearest
from harness.seeds import FIRST_FINALIST_SEED, FIRST_TUNING_SEED, SEED_LIMIT

SEED_COUNT_LIMIT = 2_000_000
"""Seeds that a spec may have."""

STEP_LIMIT = 100_000_000
INTEGER_LIMIT = 2**63 - 1
"""The largest whole number that torch and SQLite take."""

WORD_LENGTH = 200
"""Characters that a hyperparameter's value may have."""

_DEVICE_FILES = "|".join(
    "".join(f"[{c.upper()}{c}]" if c.isalpha() else "[0-9]" for c in name)
    for name in ("con", "prn", "aux", "nul", "com0", "lpt0")
)
# A name is a file's name as well: nothing that Windows keeps for itself, no dot at the end.
_NAME = rf"(?!(?:{_DEVICE_FILES})(?:\.|$))[A-Za-z0-9](?:[A-Za-z0-9_.-]{{0,62}}[A-Za-z0-9_-])?"
NAME_PATTERN = rf"^{_NAME}$"
VARIANT_PATTERN = rf"^{_NAME}(?:=[A-Za-z0-9_.-]{{0,160}})*$"
EACH = "each"
"""The key of an argument's values, each of which makes a variant of an objective."""

PARAMETER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
SETTING_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z0-9_-]{1,64}){0,6}$"
DEVICE_PATTERN = r"^(cpu|cuda(:[0-9]{1,2})?|mps|xpu(:[0-9]{1,2})?)$"
REFERENCE_PATTERN = (
    r"^(?!.*\.\.)(?:[A-Za-z_][A-Za-z0-9_]*|[A-Za-z0-9_./-]+\.py:[A-Za-z_][A-Za-z0-9_]*|"
    r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*)$"
)

Scalar = bool | int | float | str | None


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Checked:
    """A check that a value passes before pydantic's own, and the JSON Schema of what passes it."""

    check: Callable[[Any], Any]
    schema: dict[str, Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


Fault = tuple[str, tuple[int | str, ...]]
"""What is wrong with a value, and the indices or keys below it at which that is."""


def refuse(message: str, *below: int | str) -> NoReturn:
    """Refuse a value, or what stands below it at some indices or keys."""
    refuse_all([(message, below)])


def refuse_all(faults: Sequence[Fault]) -> NoReturn:
    """Refuse a value for several reasons at once."""
    raise PydanticCustomError("value", "{message}", {"message": faults[0][0], "faults": faults})


def matching(
    pattern: str,
    expected: str,
    schema: dict[str, Any] | None = None,
    hint: Callable[[str], str] = lambda _: "",
) -> Checked:
    """A check that a value is a word that follows a pattern."""

    def check(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        refuse(f"expected {expected}, got {shown(value)}{hint(str(value)) if value else ''}")

    return Checked(check, schema or {"type": "string", "pattern": pattern})


def device_hint(name: str) -> str:
    """The end of a message that helps with an unknown device."""
    kinds = {"cpu": "cpu", "cuda": "cuda", "gpu": "cuda", "mps": "mps", "xpu": "xpu"}
    kind = name.partition(":")[0].strip().lower()
    hint = f"; did you mean {kinds.get(kind)!r}?"
    return hint if kind in kinds else nearest(name, kinds.values(), 0.75)


def is_number(value: Any) -> bool:
    """Tell numbers from all else, true and false among it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            refuse(f"expected at least 1 seed, got {shown(value)}")
        if value > SEED_COUNT_LIMIT:
            refuse(f"expected at most {SEED_COUNT_LIMIT:,} seeds, got {shown(value)}")
        return tuple(range(value))
    if not isinstance(value, list | tuple):
        refuse(f"expected a number of seeds or a list of seeds, got {shown(value)}")
    if not value:
        refuse("the list is empty, expected at least one seed")
    seen: set[int] = set()
    faults: list[Fault] = []
    for i, seed in enumerate(value):
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < SEED_LIMIT:
            expected = f"expected a whole number from 0 to {SEED_LIMIT - 1:,}"
            faults.append((f"{expected}, got {shown(seed)}", (i,)))
        elif seed in seen:
            faults.append((f"duplicate entry: seed {seed}", (i,)))
        else:
            seen.add(seed)
    if faults:
        refuse_all(faults)
    return tuple(value)


def _tuning_seeds(value: Any) -> tuple[int, ...]:
    return _seeds_from(FIRST_TUNING_SEED, value)


def _finalist_seeds(value: Any) -> tuple[int, ...]:
    return _seeds_from(FIRST_FINALIST_SEED, value)


def _seeds_from(first: int, value: Any) -> tuple[int, ...]:
    """Seeds of a list as they are; of a number, so many from the first on."""
    seeds = _seeds(value)
    return tuple(first + seed for seed in seeds) if isinstance(value, int) else seeds


def _check_scalar(value: Any, *below: int) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        refuse(f"expected a finite number, got {shown(value)}", *below)
    if isinstance(value, int) and abs(value) > INTEGER_LIMIT:
        refuse(f"expected a number of at most 63 bits, got {shown(value)}", *below)
    if isinstance(value, str):
        if not value.isprintable():
            refuse(f"expected a string on one line, got {shown(value)}", *below)
        if len(value) > WORD_LENGTH:
            refuse(f"expected at most {WORD_LENGTH} characters, got {len(value):,}", *below)
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_scalar(item, *below, i)
    elif not isinstance(value, bool | int | float | str | None):
        expected = "expected a number, a string, true, false, null or a list of these"
        refuse(f"{expected}, got {shown(value)}", *below)


def unfit(value: Any) -> str:
    """The reason why a value can be no hyperparameter; empty if it can be one."""
    try:
        _check_scalar(value)
    except PydanticCustomError as error:
        return error.message()
    return ""


def _argument(value: Any) -> Any:
    _check_scalar(value)
    return value


def _argument_or_each(value: Any) -> Any:
    if not isinstance(value, dict):
        return _argument(value)
    each_value(value)
    return value


def each_value(value: dict[str, Any]) -> list[Any]:
    """The values of an argument that has several: ``{each: [2, 4]}``.

    Raises:
        PydanticCustomError: If it says anything else.
    """
    if list(value) != [EACH]:
        refuse(f"expected a value, or several as {{{EACH}: [1, 2]}}, got {shown(value)}")
    values = value[EACH]
    if not isinstance(values, list):
        refuse(f"expected a list of values, got {shown(values)}", EACH)
    try:
        found: list[Any] = _grid(values)
    except PydanticCustomError as error:
        faults = (error.context or {})["faults"]
        refuse_all([(message, (EACH, *below)) for message, below in faults])
    return found


def _grid(value: Any) -> Any:
    if not isinstance(value, list):
        _check_scalar(value)
    else:
        if not value:
            refuse("the list is empty, expected at least one value")
        # Two values are one where they are equal (1, 1.0, true) or look the same (0.4, "0.4").
        seen: set[tuple[str, str]] = set()
        faults: list[Fault] = []
        for i, item in enumerate(value):
            try:
                _check_scalar(item, i)
            except PydanticCustomError as error:
                faults += (error.context or {})["faults"]
                continue
            text = item if isinstance(item, str) else json.dumps(item)
            marks = {("equal", json.dumps(_as_numbers(item))), ("alike", text)}
            if marks & seen:
                faults.append((f"duplicate entry: {shown(item)}", (i,)))
            seen |= marks
        if faults:
            refuse_all(faults)
    return value


def _as_numbers(value: Any) -> Any:
    """A value such that equal numbers are written alike."""
    if isinstance(value, list):
        return [_as_numbers(item) for item in value]
    if isinstance(value, bool | float) and value == int(value):
        return int(value)
    return value


def _ends(value: Any) -> tuple[float, float]:
    """The two ends of a range."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(is_number, value)):
        refuse(f"expected a list of two numbers, [low, high], got {shown(value)}")
    _check_scalar(list(value))
    low, high = value
    if not low < high:
        refuse(f"expected the lower bound first, got [{low:g}, {high:g}]")
    return low, high


def _positive_ends(value: Any) -> tuple[float, float]:
    low, high = _ends(value)
    if low <= 0:
        refuse(f"expected bounds above 0 for a logarithmic scale, got {low:g}")
    return low, high


def _ends_below_one(value: Any) -> tuple[float, float]:
    low, high = _ends(value)
    if high >= 1:
        refuse(f"expected bounds below 1, for the scale is logarithmic in 1 - value, got {high:g}")
    return low, high


def _whole_ends(value: Any) -> tuple[int, int]:
    low, high = _ends(value)
    if not (isinstance(low, int) and isinstance(high, int)):
        refuse(f"expected two whole numbers, got [{low:g}, {high:g}]")
    return low, high


def _choices(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        refuse(f"expected a list of values, got {shown(value)}")
    choices = _grid(list(value))
    if len(choices) < 2:
        refuse("expected at least two values to choose from")
    return tuple(choices)


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        refuse(f"expected a list of numbers, got {shown(value)}")
    faults: list[Fault] = [
        (f"expected a finite number, got {shown(number)}", (i,))
        for i, number in enumerate(value)
        if not is_number(number) or abs(number) > INTEGER_LIMIT or number != number
    ]
    if faults:
        refuse_all(faults)
    return tuple(float(number) for number in value)


def _shares(value: Any) -> tuple[float, ...]:
    shares = _numbers(value)
    faults: list[Fault] = [
        (f"expected a fraction between 0 and 1, got {share:g}", (i,))
        for i, share in enumerate(shares)
        if not 0 < share < 1
    ]
    if faults:
        refuse_all(faults)
    return shares


def _printed(value: Any) -> str:
    """A number as it was printed, every digit of it."""
    if not is_number(value) and not isinstance(value, str):
        refuse(f"expected a number, got {shown(value)}")
    try:
        finite = math.isfinite(float(value))
    except (ValueError, OverflowError):
        finite = False
    if not finite:
        refuse(f"expected a finite number, got {shown(value)}")
    return str(value).strip()


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _words(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _list_of(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_SCALAR_TYPES = ["number", "string", "boolean", "null"]
_ANY_SCALAR = {"type": _SCALAR_TYPES}
_ANY_LIST = _list_of({"type": [*_SCALAR_TYPES, "array"]})
_SEEDS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": SEED_COUNT_LIMIT},
        _list_of(
            {"type": "integer", "minimum": 0, "maximum": SEED_LIMIT - 1},
            minItems=1,
            uniqueItems=True,
        ),
    ]
}
_ENDS_SCHEMA = _list_of({"type": "number"}, minItems=2, maxItems=2)
_WHOLE_ENDS_SCHEMA = _list_of({"type": "integer"}, minItems=2, maxItems=2)
_GRID_SCHEMA = {"anyOf": [_ANY_SCALAR, {**_ANY_LIST, "minItems": 1, "uniqueItems": True}]}
_EACH_SCHEMA = {
    "type": "object",
    "properties": {EACH: {**_ANY_LIST, "minItems": 1, "uniqueItems": True}},
    "required": [EACH],
    "additionalProperties": False,
}
_CHOICES_SCHEMA = {**_ANY_LIST, "minItems": 2, "uniqueItems": True}
_SHARES_SCHEMA = _list_of({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
_WORDS_SCHEMA = {"anyOf": [{"type": "string"}, _list_of({"type": "string"}, minItems=1)]}
_DEVICE_SCHEMA = {
    "anyOf": [
        {"enum": ["cpu", "cuda", "mps", "xpu"]},
        {"type": "string", "pattern": DEVICE_PATTERN},
    ]
}

NAME_TEXT = (
    "a name that can be a file name: at most 64 letters, digits, '.', '_' and '-', starting with "
    "a letter or digit, not ending with '.'"
)
_PARAMETER = "an argument's name: at most 64 letters, digits and '_'"
_SETTING = f"{_PARAMETER} (or a dotted name of the recipe, such as schedule.warmup)"
_DEVICE = "a device such as 'cpu', 'cuda' or 'cuda:1'"
_REFERENCE = (
    "a name in the suite ('AdaGrad'), a file in it ('optimizers/adagrad.py:AdaGrad') or an import "
    "('torch.optim:Adagrad')"
)

Name = Annotated[str, matching(NAME_PATTERN, NAME_TEXT)]
ObjectiveName = Annotated[
    str, matching(VARIANT_PATTERN, NAME_TEXT, {"type": "string", "pattern": NAME_PATTERN})
]
Parameter = Annotated[str, matching(PARAMETER_PATTERN, _PARAMETER)]
Setting = Annotated[str, matching(SETTING_PATTERN, _SETTING)]
Reference = Annotated[str, matching(REFERENCE_PATTERN, _REFERENCE)]
Device = Annotated[str, matching(DEVICE_PATTERN, _DEVICE, _DEVICE_SCHEMA, device_hint)]
Seeds = Annotated[tuple[int, ...], Checked(_seeds, _SEEDS_SCHEMA)]
TuningSeeds = Annotated[tuple[int, ...], Checked(_tuning_seeds, _SEEDS_SCHEMA)]
FinalistSeeds = Annotated[tuple[int, ...], Checked(_finalist_seeds, _SEEDS_SCHEMA)]
Ends = Annotated[tuple[float, float], Checked(_ends, _ENDS_SCHEMA)]
PositiveEnds = Annotated[tuple[float, float], Checked(_positive_ends, _ENDS_SCHEMA)]
EndsBelowOne = Annotated[tuple[float, float], Checked(_ends_below_one, _ENDS_SCHEMA)]
WholeEnds = Annotated[tuple[int, int], Checked(_whole_ends, _WHOLE_ENDS_SCHEMA)]
Choices = Annotated[tuple[Any, ...], Checked(_choices, _CHOICES_SCHEMA)]
Printed = Annotated[str, Checked(_printed, {"type": ["number", "string"]})]
Shares = Annotated[tuple[float, ...], Checked(_shares, _SHARES_SCHEMA)]
Argument = Annotated[Any, Checked(_argument, {"anyOf": [_ANY_SCALAR, _ANY_LIST]})]
ArgumentOrEach = Annotated[
    Any, Checked(_argument_or_each, {"anyOf": [_ANY_SCALAR, _ANY_LIST, _EACH_SCHEMA]})
]
Grid = Annotated[Any, Checked(_grid, _GRID_SCHEMA)]
Patterns = Annotated[tuple[str, ...], Field(min_length=1), Checked(_words, _WORDS_SCHEMA)]
Count = Annotated[int, Field(ge=1, le=STEP_LIMIT)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Items = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
"""A list of a spec, which the model keeps as a tuple."""


_WORDS_FOR = {
    True: ("true", "yes", "on", "y", "t"),
    False: ("false", "no", "off", "n", "f"),
    None: ("null", "none", "nil", "~", ""),
}
"""Words that stand for a value in other languages, YAML 1.1 among them."""

_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d", "-"))


def meant(word: str) -> bool | int | float | str | None:
    """The value that a word probably means: true, false, null or a number; else the word."""
    plain = word.partition("#")[0].strip().strip("'\"\u2018\u2019\u201c\u201d").translate(_DASHES)
    for value, words in _WORDS_FOR.items():
        if plain.lower() in words:
            return value
    for kind in (int, float):
        try:
            number = kind(plain)
        except ValueError:
            continue
        return number if math.isfinite(number) else word
    return word


def mistaken_word(value: Any, default: Any, *, is_known: bool = True) -> str:
    """The reason why an argument with a known default can't be a word; empty if it may be.

    Args:
        value: What is given, a word or anything else.
        default: What the argument is if nothing is given.
        is_known: Whether there is a default; without one, a word is none that is a number.
    """
    if isinstance(value, list) and isinstance(default, tuple | list):
        found = (mistaken_word(v, d) for v, d in zip(value, default, strict=False))
        return next((text for text in found if text), "")
    if not isinstance(value, str):
        return ""
    likely = meant(value)
    number = isinstance(likely, int | float) and not isinstance(likely, bool)
    if is_known and isinstance(default, bool):
        likely = bool(likely) if number else likely
        message = "expected true or false, "
    elif is_known and default is None:
        if not isinstance(likely, bool | None):
            return ""
        message = ""
    elif not is_known or isinstance(default, int | float):
        if not number:
            return ""
        message = "expected a number, "
    else:
        return ""
    message += f"got the string {shown(value)}"
    return message if isinstance(likely, str) else f"{message}; write {json.dumps(likely)}"


def shown(value: Any) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[str(value)]
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
