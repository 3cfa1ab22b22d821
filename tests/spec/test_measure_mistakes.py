"""Mistakes in what a spec asks to be measured, each at its place, with the nearest right thing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from builders import marked

from harness.spec.validation import LoadedSpec, check
from harness.spec.yaml_source import parse

SPEC = """\
suite: s
objectives:
  digits:
    class: Digits
    dataset: digits
    epochs: 3
    split: {{train: 0.7, validation: 0.1, test: 0.2}}
    metrics: [loss, {{accuracy: higher}}]
{keys}
optimizers:
  sgd: {{class: SGD, hyperparameters: {{lr: 0.1}}}}
{end}
"""

CLAIM = "claims: [{{value: '0.97', source: p, optimizer: sgd, objective: digits, quantity: {}}}]"


def checked(text: str) -> LoadedSpec:
    return check(parse(text.encode(), "spec.yaml"))


def spec(keys: Iterable[str] = (), end: str = "", **replaced: str) -> str:
    """A spec of one objective with parts, and more keys of it."""
    text = SPEC.format(keys="\n".join(f"    {key}" for key in keys), end=end)
    for name, value in replaced.items():
        old = {"split": "{train: 0.7, validation: 0.1, test: 0.2}",
               "metrics": "[loss, {accuracy: higher}]"}[name]  # fmt: skip
        assert old in text
        text = text.replace(old, value)
    return text


@pytest.mark.parametrize(
    "keys",
    [
        ("tune: validation accuracy", "report: test accuracy"),
        ("targets: [0.5, {test accuracy: 0.97}, {validation accuracy: 0.97}]",),
        ("stop: {after: 5 records without a higher validation accuracy}",),
        ("stop: {after: 1 record without a lower train loss, at: all targets}", "targets: [0.1]"),
    ],
)
def test_what_is_right_is_no_mistake(keys: tuple[str, ...]) -> None:
    assert checked(spec(keys)).problems == ()


@pytest.mark.parametrize(
    "quantity", ["final_loss", "x1", "test accuracy", "validation loss", "'train   loss'"]
)
def test_a_claim_may_be_of_anything_that_is_recorded(quantity: str) -> None:
    assert checked(spec(end=CLAIM.format(quantity))).problems == ()


MISTAKES = [
    (spec(["tune: «test accuracy"]), "never sees test; did you mean 'validation accuracy'?"),
    (
        spec(["tune: «test loss"], split="{train: 0.8, test: 0.2}"),
        "who tunes never sees test; did you mean 'train loss'?",
    ),
    (
        spec(["report: «test acuracy"]),
        "no metric 'acuracy' is recorded; did you mean 'accuracy'?",
    ),
    (
        spec(["report: «test accuracy"], metrics="[loss]"),
        "no metric 'accuracy' is recorded; add it to 'metrics'",
    ),
    (
        spec(["report: «validation loss"], split="{train: 0.8, test: 0.2}"),
        "there is no part 'validation'; the split has train, test",
    ),
    (
        spec(["targets: [0.5, «{validation accuracy: 0.9}]"], split="{train: 0.8, test: 0.2}"),
        "there is no part 'validation'; the split has train, test",
    ),
    (
        spec(["targets: [«{test acc: 0.9}]"]),
        "no metric 'acc' is recorded; did you mean 'accuracy'?",
    ),
    (
        spec(["stop: {after: «5 records without a lower validation accuracy}"]),
        "of 'accuracy', higher is better; did you mean "
        "'5 records without a higher validation accuracy'?",
    ),
    (
        spec(["stop: {after: «1 record without a higher train loss}"]),
        "of 'loss', lower is better; did you mean '1 record without a lower train loss'?",
    ),
    (
        spec(["stop: {after: «2 records without a lower test error}"]),
        "no metric 'error' is recorded; add it to 'metrics'",
    ),
    (
        spec(["targets: [{test accuracy: 0.97}, «{test accuracy: 0.970}]"]),
        "duplicate entry: test accuracy 0.97",
    ),
    (
        spec(["report: test accuracy", "targets: [0.97, «{test accuracy: 0.97}]"]),
        "duplicate entry: test accuracy 0.97",
    ),
    (spec(["targets: [0.25, «{train loss: 0.25}]"]), "duplicate entry: train loss 0.25"),
    (
        spec(split="«{train: 0.7, validation: 0.1, test: 0.1}"),
        "expected shares that add up to 1, got 0.9",
    ),
    (spec(split="«{train: 1.0}"), "leaves nothing for validation or test"),
    (
        spec().replace("    dataset: digits\n", "").replace("{train: 0.7", "«{train: 0.7"),
        "there is no dataset to split",
    ),
    (spec(end=CLAIM.format("«test f1")), "no metric 'f1' is recorded; add it to 'metrics'"),
    (
        spec(["report: «test quality"]),
        "is recorded; add it to 'metrics', as {quality: higher} or {quality: lower}",
    ),
    (
        spec(end=CLAIM.format("«validation loss"), split="{train: 0.8, test: 0.2}"),
        "there is no part 'validation'; the split has train, test",
    ),
    (
        spec(["report: test accuracy"], CLAIM.format("«final_loss")),
        "of 'digits', 'test accuracy' is reported, which is no loss; did you mean 'test accuracy', "
        "or 'train loss'?",
    ),
    (
        spec(end=CLAIM.format("«test_accuracy")),
        "or a measure such as 'test accuracy', got 'test_accuracy'; did you mean 'test accuracy'?",
    ),
    (spec(["report: «tset accuracy"]), "got 'tset accuracy'; did you mean 'test'?"),
    (spec(["report: «accuracy"]), "got 'accuracy'; of which part? train, validation, test"),
    (spec(metrics="[loss, «quality]"), "say which is better: {quality: higher}"),
    (spec(metrics="[loss, «{accuracy: lower}]"), "of 'accuracy', higher is better"),
    (spec(metrics="[«{loss: higher}, accuracy]"), "of 'loss', lower is better"),
    (
        spec(split="{train: 0.8, «tset: 0.1, test: 0.2}"),
        "unknown key; did you mean 'test'?",
    ),
    (spec(["stop: {«att: all targets, at: all targets}"]), "unknown key; did you mean 'at'?"),
    (spec(["keep: {«params: last}"]), "unknown key; did you mean 'parameters'?"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_told_at_its_place(text: str, message: str) -> None:
    text, [place] = marked(text)
    (problem,) = checked(text).problems
    assert (problem.line, problem.column) == place
    assert message in problem.message


def test_all_mistakes_are_told_at_once() -> None:
    text, places = marked(
        spec(
            [
                "tune: «test accuracy",
                "report: «test f1",
                "targets: [1.0, {train loss: 2}, «{test acuracy: 1}, «{train loss: 2.0}]",
                "stop: {after: «3 records without a lower train accuracy}",
            ],
            CLAIM.format("«train f1"),
        )
    )
    assert sorted((p.line, p.column) for p in checked(text).problems) == places


def test_what_depends_on_another_mistake_is_not_told() -> None:
    """Of metrics or a split that can't be read nothing else is known."""
    keys = ["report: test accuracy", "stop: {after: 3 records without a lower test accuracy}"]
    text, [place] = marked(spec(keys, metrics="«7"))
    assert [(p.line, p.column) for p in checked(text).problems] == [place]
    text, [place] = marked(spec(keys[:1], split="«{train: 0.5}"))
    assert [(p.line, p.column) for p in checked(text).problems] == [place]


def test_claims_beside_a_wrong_one_are_told_at_their_places() -> None:
    good = CLAIM.removeprefix("claims: [{{").removesuffix("}}]")
    first, second = good.format("x3"), good.format("«test f1")
    text, [place] = marked(spec(end=f"claims: [{{{first}}}, {{{second}}}]"))
    found = sorted((p.line, p.column) for p in checked(text).problems)
    assert len(found) == 2
    assert found[1] == place


def test_the_loss_is_always_recorded_and_first() -> None:
    loaded = checked(spec(metrics="[{accuracy: higher}]"))
    assert loaded.spec is not None
    wanted = (("loss", False), ("accuracy", True))
    assert loaded.spec.objectives["digits"].metrics == wanted
    other = checked(spec(metrics="[{accuracy: higher}, loss]"))
    assert other.spec is not None
    assert other.spec.objectives["digits"].metrics == wanted
