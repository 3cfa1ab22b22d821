"""Validation of a plan by a worker, which loads the suite's code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.errors import BadInput, Problem
from harness.plan import measuring
from harness.plan.builder import Overrides
from harness.plan.model import Plan
from harness.provenance.opened_files import Opened
from harness.results import CheckedSuite, Finding
from harness.spec.measures import COORDINATES
from harness.spec.recipe_values import merged
from harness.spec.validation import LoadedSpec
from harness.spec.yaml_source import KeyPath
from harness.workers.executor import Executor, Task, WorkerFailed
from harness.workers.requests import ValidatePlan

LOAD_SECONDS, CASE_SECONDS = 120.0, 0.01
"""Seconds that loading a suite's code may take, and those that each case adds."""


def validate_in_worker(
    pool: Executor,
    loaded: LoadedSpec,
    plan: Plan,
    problems: Iterable[Problem],
    overrides: Overrides | None = None,
) -> CheckedSuite:
    """Have a worker load what the plan names; raise with everything that is wrong.

    An objective that ends or holds up the worker is not run in the next try: it is its trials
    that shall say so. One that does so even then can't be loaded.
    """
    deadly: set[str] = set()
    checked: CheckedSuite | None = None
    while checked is None:
        try:
            seconds = LOAD_SECONDS + CASE_SECONDS * len(plan.everything)
            checked = pool.call(Task(ValidatePlan(plan, frozenset(deadly)), seconds))
        except WorkerFailed as error:
            number = error.lost.step
            name = plan.objectives[number - 1].name if number else ""
            if not name or name in deadly:
                text = f"loading the suite's code failed: {error}"
                raise BadInput([*problems, loaded.source.problem((), text)]) from None
            deadly.add(name)
    refused = {problem.file for problem in problems}
    given = [text for text in (overrides or Overrides()).values if f"--set {text}" not in refused]
    # A wrong claim is left out, so that the others have other numbers.
    shifted = any(problem.key.startswith("claims.") for problem in problems)
    known = [f for f in checked.findings if not (shifted and f.path[0] == "claims")]
    found = [*problems, *(_as_problem(loaded, finding, given) for finding in known)]
    found += _without_targets(loaded, plan, checked)
    found += _without_coordinates(loaded, plan, checked) if not problems else ()
    if found:
        raise BadInput(found)
    return checked


def with_opened_files(
    pool: Executor, loaded: LoadedSpec, plan: Plan, checked: CheckedSuite, known: Opened
) -> tuple[Plan, CheckedSuite, Opened]:
    """A plan and what is known of it, now that its code was seen to be loaded."""
    seen = pool.opened.of(loaded.folder)
    known = known.merged(seen)
    now = plan.with_opened(known)
    keys = {a.key: b.key for a, b in zip(plan.everything, now.everything, strict=True)}
    checked = checked.renamed(keys)
    return now, replace(checked, notes=(*checked.notes, *seen.notes)), known


def _without_targets(loaded: LoadedSpec, plan: Plan, checked: CheckedSuite) -> Iterator[Problem]:
    """Objectives that are tuned on for targets, and have none."""
    spec = plan.spec.tuning
    if spec is None or spec.goal != "time_to_target":
        return
    for name in dict.fromkeys(search.base.objective.name for search in plan.searches):
        known = checked.descriptions.get(name)
        # That all of them are on test is told where they are.
        if known is not None and not measuring.targets(plan.spec.objectives[name], known.optimum):
            text = (
                f"{name!r} has no target to tune for: give it 'targets', losses to reach, for its "
                "optimum is not known"
            )
            yield loaded.source.problem(("tuning", "goal"), text)


def _without_coordinates(
    loaded: LoadedSpec, plan: Plan, checked: CheckedSuite
) -> Iterator[Problem]:
    """Claims on coordinates of objectives that aren't two-dimensional."""
    for i, claim in enumerate(plan.spec.claims):
        known = checked.descriptions.get(claim.objective)
        if claim.quantity in COORDINATES and known is not None and known.dimension != 2:
            text = f"{claim.objective!r} has {known.dimension:,} parameters, expected one with 2"
            yield loaded.source.problem(("claims", i, "quantity"), text)


def _as_problem(loaded: LoadedSpec, finding: Finding, given: Sequence[str]) -> Problem:
    """A mistake at the place where somebody made it: in the file, or on the command line."""
    if given:
        names = set(_names_at(loaded, finding.path))
        for text in given:
            if text.partition("=")[0] in names:
                return Problem(f"--set {text}", 0, 0, "", finding.message)
    return loaded.source.problem(finding.path, finding.message, at_key=finding.at_key)


def _names_at(loaded: LoadedSpec, path: KeyPath) -> Iterator[str]:
    """The names of the hyperparameter whose value stands at a path, or within it."""
    match path:
        case ("optimizers", _, "hyperparameters" | "search", str(name), *_):
            yield name
        case ("optimizers", _, "per_objective", _, str(name), *_):
            yield name
    if (spec := loaded.spec) is None:
        return
    for optimizer in spec.optimizers:
        recipe = merged(spec, optimizer)
        for name, value in recipe.values().items():
            if path[: len(value.path)] == value.path:
                yield from recipe.with_numbers({name: None})
