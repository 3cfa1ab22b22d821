"""The JSON Schema for editors: current, valid, and of one mind with the loader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.spec.model import json_schema
from harness.spec.validation import check
from harness.spec.yaml_source import parse, read

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "harness" / "spec" / "schema.json"

VALID = """\
suite: s
objectives: {bowl: {class: quadratic_2d, steps: 3}}
optimizers: {sgd: {class: SGD, hyperparameters: {lr: 0.1}}}
"""


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def data_of(text: str) -> Any:
    return parse(text.encode(), "f").data


def test_the_committed_schema_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, ["schema"])
    assert printed.exit_code == 0
    assert COMMITTED.read_text(encoding="utf-8") == printed.output


def test_the_schema_is_a_valid_schema() -> None:
    schema = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_shipped_spec_points_editors_to_the_schema_and_fits_it(
    validator: jsonschema.Draft202012Validator,
) -> None:
    spec = ROOT / "benchmarks.yaml"
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", spec.read_text("utf-8"))
    assert modeline is not None
    assert (spec.parent / modeline[1]).resolve() == COMMITTED
    assert list(validator.iter_errors(read(spec).data)) == []


def test_every_key_has_a_description(validator: jsonschema.Draft202012Validator) -> None:
    schema = validator.schema
    assert isinstance(schema, dict)
    for model in (schema, *schema["$defs"].values()):
        assert model["description"]
        assert model["additionalProperties"] is False
        for name, field in model["properties"].items():
            assert field.get("description") or "$ref" in field, name


def fields(section: str, name: str, entry: str) -> str:
    """The valid spec with one entry of a section replaced."""
    data = yaml.safe_load(VALID)
    data[section] = {name: data_of(f"x: {entry}\n")["x"]}
    return yaml.safe_dump(data)


ACCEPTED = [
    VALID,
    VALID + "seeds: [1, 2]\ndevices: [cpu, 'cuda:3', mps]\nthreads: 4\ntitle: 'a'\n",
    VALID + "include: [{optimizer: 's*'}, {objective: [bowl], hyperparameters: {lr: 0.1}}]\n",
    VALID + "timing: {enabled: false, rounds: 3}\n",
    fields("objectives", "a.b-c", "{class: quadratic_2d, epochs: 3, steps: null}"),
    fields("objectives", "q", "{steps: 1, arguments: {start: [1, -2], x: null, y: [[1], [2]]}}"),
    fields("optimizers", "x" * 64, "{class: 'torch.optim:Adam'}"),
    fields("optimizers", "o", "{class: 'o/a.py:X', hyperparameters: {b: [[0.9, 1], [0, 0]]}}"),
    fields("optimizers", "o", "{class: X, per_objective: {bowl: {lr: [0.1, true, a, null]}}}"),
]
REJECTED = [
    *(VALID.replace(line + "\n", "") for line in VALID.splitlines()),
    VALID + "seed: 5\n",
    *(VALID + f"seeds: {value}\n" for value in (0, -1, 1.5, "true", "[]", "[1, 1]", "[-1]", "x")),
    *(VALID + f"seeds: {value}\n" for value in (2_000_001, f"[{2**30 - 1}]", "null", "{a: 1}")),
    *(
        VALID + f"devices: {value}\n"
        for value in ("cpu", "[]", "[gpu]", "[cpu, cpu]", "['cuda:x']")
    ),
    *(VALID + f"threads: {value}\n" for value in (0, "x", "true", "null", 2000)),
    VALID + f"title: {'x' * 201}\n",
    *(VALID + f"timing: {value}\n" for value in ("5", "{rounds: 2}", "{on: true}", "{enabled: 1}")),
    *(VALID + f"include: {value}\n" for value in ("{optimizer: sgd}", "[{}]", "[{optimzer: a}]")),
    *(VALID + f"exclude: {value}\n" for value in ("[{optimizer: []}]", "[{optimizer: 5}]", "[5]")),
    *(
        VALID.replace("suite: s", f"suite: {json.dumps(name)}")
        for name in (
            "../x",
            "/a",
            "a/b",
            "..",
            "a.",
            "",
            "CON",
            "nul.txt",
            "<script>",
            "x" * 65,
            "a b",
        )
    ),
    *(
        fields("optimizers", name, "{class: A}")
        for name in ("../x", "a.", "", "con", "Com1.x", "<b>", "x" * 300, "é")
    ),
    *(
        fields("objectives", "q", entry)
        for entry in (
            *("5", "null", "{}", "{steps: 0}", "{steps: 1.5}", "{steps: 1, epochs: 1}"),
            *("{steps: 200000000}", "{epochs: -1}", "{steps: 1, dtype: float16}", "{steps: true}"),
            *("{steps: 1, batch_size: 0}", "{steps: 1, record_every: 0}", "{steps: 1, batch: 2}"),
            *("{steps: 1, divergence_factor: 0}", "{steps: 1, class: '../a.py:B'}"),
            *("{steps: 1, class: 5}", "{steps: 1, arguments: [1]}", "{steps: 1, dataset: 'a b'}"),
            *("{steps: 1, arguments: {a: {b: 1}}}", "{steps: 1, arguments: {'a-b': 1}}"),
        )
    ),
    *(
        fields("optimizers", "o", entry)
        for entry in (
            *("A", "{}", "{class: null}", "{class: 'a b'}", "{class: A, lr: 1}", "{clas: A}"),
            *("{class: A, hyperparameters: [1]}", "{class: A, hyperparameters: {lr: []}}"),
            *(
                "{class: A, hyperparameters: {lr: {a: 1}}}",
                "{class: A, hyperparameters: {'<b>': 1}}",
            ),
            *(
                "{class: A, hyperparameters: {lr: [{a: 1}]}}",
                "{class: A, per_objective: {bowl: 5}}",
            ),
            *("{class: A, hyperparameters: {lr: [1, 1]}}", "{class: A, hyperparameters: null}"),
        )
    ),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_schema_accepts_what_the_loader_accepts(
    validator: jsonschema.Draft202012Validator, text: str
) -> None:
    source = parse(text.encode(), "f")
    shapes = [p for p in check(source).problems if "there is no objective" not in p.message]
    assert shapes == []
    assert [error.message for error in validator.iter_errors(source.data)] == []


@pytest.mark.parametrize("text", REJECTED)
def test_the_schema_rejects_what_the_loader_rejects(
    validator: jsonschema.Draft202012Validator, text: str
) -> None:
    source = parse(text.encode(), "f")
    assert check(source).problems
    assert list(validator.iter_errors(source.data))
