"""What a spec asks to be measured, held against what an objective computes and the parts it has."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.engine.workload import Workload
from harness.errors import join, nearest
from harness.measures import TRAIN_LOSS
from harness.plan import measuring
from harness.results import Finding
from harness.spec.model import ObjectiveSpec, Spec
from harness.suite.locate import Misfit
from harness.suite.random_state import kept_random_state


def measure_findings(
    spec: Spec, name: str, workload: Workload, *, run_it: bool
) -> Iterator[Finding]:
    """Find metrics that nobody computes, parts that there are none of, and targets without effect.

    Args:
        spec: The whole spec.
        name: Which of its objectives.
        workload: What became of it.
        run_it: Whether its code may be run.
    """
    objective = spec.objectives.get(name)
    if objective is None:  # a stand-in
        return
    path = ("objectives", name)
    yield from _unknown_parts(spec, name, workload)
    if run_it:
        yield from _unknown_metrics(objective, path, workload)
    optimum = workload.objective.optimum
    if objective.stop and objective.stop.at and not measuring.targets(objective, optimum):
        text = "there are no targets to stop at; give 'targets'"
        yield Finding((*path, "stop", "at"), text)
    if objective.tolerances and measuring.reported(objective) != TRAIN_LOSS:
        text = "tolerances are of the loss on train, which is not what is reported"
        yield Finding((*path, "tolerances"), text)
    tuned_to_targets = spec.tuning is not None and spec.tuning.goal == "time_to_target"
    targets = measuring.targets(objective, optimum)
    if tuned_to_targets and targets and all(t.measure.part == "test" for t in targets):
        text = (
            "tuning goes by the time to targets, and never sees test; add a target on another part"
        )
        yield Finding((*path, "targets"), text)


def _unknown_parts(spec: Spec, name: str, workload: Workload) -> Iterator[Finding]:
    """Measures of parts that the data do not have; what a split has is known before."""
    objective, path = spec.objectives[name], ("objectives", name)
    if objective.split is not None:
        return
    named: list[tuple[tuple[str | int, ...], str]] = [
        ((*path, *place), measure) for place, measure in objective.named_measures()
    ]
    named += [
        (("claims", i, "quantity"), claim.measure)
        for i, claim in enumerate(spec.claims)
        if claim.objective == name and claim.measure
    ]
    for place, measure in named:
        part = measure.partition(" ")[0]
        if part not in workload.parts:
            known = join([*map(str, workload.parts)])
            text = f"there is no part {part!r}; the data have {known}"
            if len(workload.parts) == 1:
                text += "; hold rows out with 'split', or in the loader"
            yield Finding(place, text)


def _unknown_metrics(
    objective: ObjectiveSpec, path: tuple[str, ...], workload: Workload
) -> Iterator[Finding]:
    """Metrics that the objective does not compute."""
    rows = workload.data and tuple(tensor[:2].clone() for tensor in workload.data)
    with kept_random_state(workload.device), torch.no_grad():
        try:
            params = {**workload.start(0), **workload.state(0)}
            known = workload.objective.measure(params, rows)
        except Misfit:
            raise
        except Exception:
            return  # which the trials tell
    if not isinstance(known, dict):
        yield Finding((*path, "metrics"), f"metrics gives a {type(known).__name__}, not a dict")
        return
    for i, (metric, _) in enumerate(objective.metrics):
        if metric not in known:
            text = f"the objective computes no metric {metric!r}{nearest(metric, known)}"
            yield Finding((*path, "metrics", i), text)
