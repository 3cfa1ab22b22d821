"""Mistakes in what a spec asks to be measured that show without any code."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from harness.errors import Problem, join, nearest
from harness.measures import HIGHER, LOWER, PARTS
from harness.spec.measures import FINAL
from harness.spec.model import ClaimSpec, ObjectiveSpec, Spec
from harness.spec.yaml_source import KeyPath, YamlSource


def measure_mistakes(
    source: YamlSource, spec: Spec, places: Collection[KeyPath]
) -> Iterator[Problem]:
    """Find the mistakes in what is to be measured, of objectives that are valid by themselves.

    Args:
        source: The file.
        spec: Its valid part.
        places: Where the other mistakes are.
    """
    for name, objective in spec.objectives.items():
        path: KeyPath = ("objectives", name)
        wrong = _wrong_keys(name, places)
        for place, measure in objective.named_measures():
            if place[0] not in wrong:
                yield from _unknown(source, (*path, *place), objective, measure, wrong)
        yield from _tuned_by_test(source, path, objective, wrong)
        yield from _contradicted(source, path, objective, wrong)
        yield from _repeated_targets(source, path, objective)
        if objective.split is not None and objective.dataset is None and "dataset" not in wrong:
            yield source.problem((*path, "split"), "there is no dataset to split")
    yield from _claims(source, spec, places)


def _wrong_keys(name: str, places: Collection[KeyPath]) -> set[Any]:
    """The keys of an objective that have mistakes."""
    return {place[2] for place in places if place[:2] == ("objectives", name) and len(place) > 2}


def _unknown(
    source: YamlSource,
    path: KeyPath,
    objective: ObjectiveSpec,
    measure: str,
    wrong: Collection[Any] = (),
) -> Iterator[Problem]:
    """A metric that is not recorded, and a part that the split has not."""
    part, metric = measure.split()
    metrics = [name for name, _ in objective.metrics]
    if metric not in metrics and "metrics" not in wrong:
        hint = nearest(metric, metrics, 0.5)
        if "did you mean" not in hint:
            hint = "; add it to 'metrics'"
            if metric not in HIGHER | LOWER:
                hint += f", as {{{metric}: higher}} or {{{metric}: lower}}"
        yield source.problem(path, f"no metric {metric!r} is recorded{hint}")
    if objective.split is not None and "split" not in wrong and part not in objective.split.parts:
        known = join([*objective.split.parts])
        yield source.problem(path, f"there is no part {part!r}; the split has {known}")


def _tuned_by_test(
    source: YamlSource, path: KeyPath, objective: ObjectiveSpec, wrong: set[Any]
) -> Iterator[Problem]:
    """Tuning by what nothing but the report may see."""
    if objective.tune is None or "tune" in wrong:
        return
    part, metric = objective.tune.split()
    if part == "test":
        split = objective.split
        held = "validation" if split is None or split.validation is not None else "train"
        text = f"who tunes never sees test; did you mean '{held} {metric}'?"
        yield source.problem((*path, "tune"), text)


def _contradicted(
    source: YamlSource, path: KeyPath, objective: ObjectiveSpec, wrong: set[Any]
) -> Iterator[Problem]:
    """A rule for stopping that waits for what is worse."""
    after = objective.stop.after if objective.stop is not None else None
    if after is None or wrong & {"stop", "metrics"}:
        return
    higher = dict(objective.metrics).get(after.measure.metric)
    if higher is None or higher == after.measure.higher:
        return
    way = "higher" if higher else "lower"
    records = f"{after.records} record{'s' * (after.records != 1)}"
    text = (
        f"of {after.measure.metric!r}, {way} is better; "
        f"did you mean '{records} without a {way} {after.measure.name}'?"
    )
    yield source.problem((*path, "stop", "after"), text)


def _repeated_targets(
    source: YamlSource, path: KeyPath, objective: ObjectiveSpec
) -> Iterator[Problem]:
    """Targets that are there twice, also under two names."""
    reported = objective.report or "train loss"
    seen: set[tuple[str, float]] = set()
    for i, target in enumerate(objective.targets):
        key = (target.measure or reported, target.value)
        if key in seen:
            text = f"duplicate entry: {key[0]} {key[1]:g}"
            yield source.problem((*path, "targets", i), text)
        seen.add(key)


def _claims(source: YamlSource, spec: Spec, places: Collection[KeyPath]) -> Iterator[Problem]:
    """Claims of what is not recorded, and of a loss where something else is reported."""
    given = source.data.get("claims")
    entries = given if isinstance(given, list) else []
    wrong = {place[1] for place in places if place[:1] == ("claims",) and len(place) > 1}
    numbers = [i for i in range(len(entries)) if i not in wrong]
    for i, claim in zip(numbers, spec.claims, strict=False):
        objective = spec.objectives.get(claim.objective)
        if objective is None:
            continue
        path: KeyPath = ("claims", i, "quantity")
        if claim.measure:
            keys = _wrong_keys(claim.objective, places)
            yield from _unknown(source, path, objective, claim.measure, keys)
        elif claim.quantity == FINAL and "quantity" in entries[i]:
            yield from _no_loss(source, path, claim, objective)


def _no_loss(
    source: YamlSource, path: KeyPath, claim: ClaimSpec, objective: ObjectiveSpec
) -> Iterator[Problem]:
    """A claim of a final loss where what is reported is no loss."""
    if objective.report is None or objective.report.endswith(" loss"):
        return
    text = (
        f"of {claim.objective!r}, {objective.report!r} is reported, which is no loss; "
        f"did you mean {objective.report!r}, or '{PARTS[0]} loss'?"
    )
    yield source.problem(path, text)
