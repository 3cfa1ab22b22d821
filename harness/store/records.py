"""Records of how a run was made, as the store keeps them; nothing of what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_serializer

from harness.measures import Measure, Target
from harness.plan import measuring
from harness.plan.definitions import definition
from harness.plan.model import TRIED, Plan
from harness.results import Unavailable
from harness.spec.model import ClaimSpec, CounterpartSpec, SpaceSpec, TimingSpec, TuningSpec
from harness.spec.variants import Variant


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True)


class TargetSettings(_Settings):
    """The targets that a spec gives for an objective; see ``spec.model.ObjectiveSpec``."""

    given: tuple[Target, ...] = ()
    tolerances: tuple[float, ...] | None = None


class TuningSettings(_Settings):
    """The spec's rule for tuning, without its seeds; see ``spec.model.TuningSpec``."""

    trials: int = 0
    draw: int = 0
    goal: Literal["final_loss", "time_to_target"] = "final_loss"
    sweep: int = 0
    defaults: bool = True
    finalists: int = 0
    """How many settings were tried again; 0 for none."""

    @classmethod
    def of(cls, spec: TuningSpec) -> TuningSettings:
        """Collect what a spec says of tuning."""
        again = spec.finalists.settings if spec.finalists else 0
        return cls.model_validate({**spec.model_dump(), "finalists": again})


class RunSettings(_Settings):
    """Settings of a run that its report needs, beside the environment.

    Attributes:
        extends: The spec that comes with the harness and that this one extends, or a file; may be
            empty.
        title: The spec's title; may be empty.
        description: Its description; may be empty.
        seeds: Seeds of the cases that are compared.
        trials: Number of trials, those of tuning and sweeps among them.
        tuning_seeds: Seeds of the settings that are only tried.
        finalist_seeds: Further seeds of the best of these, with which they are tried again.
        missing: By device that is not there, the reason.
        without_default: By case key, why its constructor has no default.
        machine: Digest of the machine; empty where it is not known.
        timing: How seconds per epoch are measured; None where it is not known.
        tuning: The rule for tuning; None where nothing is tuned.
        claims: Published numbers that the spec gives.
        targets: By objective, values to reach.
        reported: By objective, what tables and tests are of.
        tuned: By objective, what tuning goes by, where the spec says it.
        smallest_differences: By objective, the smallest difference of final losses that matters.
        correction: Comparisons that share the 5%: those of an ``objective``, or of the ``page``.
        families: By objective, the family that the spec puts it in; that of variants is their
            entry, where the spec gives none.
        definitions: By objective, a digest of what it is; see :mod:`harness.plan.definitions`.
        variants: By objective that is one of several variants of an entry, its place among them.
        searches: By optimizer and hyperparameter, the search space.
        fixed: By optimizer that is searched and objective, the hyperparameters given there.
        generalizes: By optimizer, its special cases.
        counterparts: By optimizer, the one that does the same by other code.
    """

    extends: str = ""
    title: str = ""
    description: str = ""
    seeds: tuple[int, ...] = ()
    trials: int = 0
    tuning_seeds: tuple[int, ...] = ()
    finalist_seeds: tuple[int, ...] = ()
    missing: dict[str, str] = {}
    without_default: dict[str, str] = {}
    machine: str = ""
    timing: TimingSpec | None = None
    tuning: TuningSettings | None = None
    claims: tuple[ClaimSpec, ...] = ()
    targets: dict[str, TargetSettings] = {}
    reported: dict[str, Measure] = {}
    tuned: dict[str, Measure] = {}
    smallest_differences: dict[str, float] = {}
    correction: Literal["objective", "page"] = "objective"
    families: dict[str, str] = {}
    definitions: dict[str, str] = {}
    variants: dict[str, Variant] = {}
    searches: dict[str, dict[str, SpaceSpec]] = {}
    fixed: dict[str, dict[str, tuple[str, ...]]] = {}
    generalizes: dict[str, tuple[str, ...]] = {}
    counterparts: dict[str, CounterpartSpec] = {}

    @field_serializer("searches")
    def _without_empty_kinds(
        self, searches: dict[str, dict[str, SpaceSpec]]
    ) -> dict[str, dict[str, Any]]:
        return {
            optimizer: {name: s.model_dump(exclude_none=True) for name, s in spaces.items()}
            for optimizer, spaces in searches.items()
        }

    @classmethod
    def of(cls, plan: Plan, absent: Unavailable, machine: str) -> RunSettings:
        """Collect the settings of a plan that is to run on a machine, given by its digest."""
        spec = plan.spec
        objectives, optimizers = spec.objectives.items(), spec.optimizers.items()
        variants = {o.name: o.variant for o in plan.objectives if o.variant}
        families = {name: variant.entry for name, variant in variants.items()}
        families |= {name: o.family for name, o in objectives if o.family}
        return cls(
            extends=spec.extends or "",
            title=spec.title,
            description=spec.description,
            seeds=plan.seeds,
            trials=plan.trials,
            tuning_seeds=plan.tuning_seeds,
            finalist_seeds=plan.finalist_seeds,
            missing=absent.devices,
            without_default=absent.cases,
            machine=machine,
            timing=spec.timing,
            tuning=TuningSettings.of(spec.tuning) if spec.tuning else None,
            claims=spec.claims,
            targets={
                name: TargetSettings(
                    given=measuring.targets(o, optimum=None), tolerances=o.tolerances
                )
                for name, o in objectives
            },
            reported={name: measuring.reported(o) for name, o in objectives},
            tuned={name: measuring.named(o, o.tune) for name, o in objectives if o.tune},
            smallest_differences={
                n: o.smallest_difference for n, o in objectives if o.smallest_difference
            },
            correction=spec.correction,
            families=families,
            definitions={o.name: definition(o) for o in plan.objectives},
            variants=variants,
            searches={name: o.search for name, o in optimizers if o.search},
            fixed={
                name: {objective: tuple(given) for objective, given in o.per_objective.items()}
                for name, o in optimizers
                if o.search
            },
            generalizes={name: o.generalizes for name, o in optimizers if o.generalizes},
            counterparts={name: o.counterpart for name, o in optimizers if o.counterpart},
        )


@dataclass(frozen=True)
class RunRecord:
    """The origin of a run.

    Attributes:
        id: Number in the store.
        started: UTC, ISO 8601.
        finished: The same; None where the run was cut short.
        command: The command line.
        suite: The suite's name.
        spec_file: The spec as the user named it.
        spec_text: Its whole text.
        settings: What of the plan and the spec the report needs.
        environment: Versions, processor, threads, git state.
    """

    id: int
    started: str
    finished: str | None
    command: str
    suite: str
    spec_file: str
    spec_text: str
    settings: RunSettings
    environment: dict[str, str]

    def seeds_of(self, role: str) -> frozenset[int]:
        """The seeds that cases with a role are run with."""
        if role == "finalist":
            return frozenset(self.settings.finalist_seeds)
        return frozenset(self.settings.tuning_seeds if role in TRIED else self.settings.seeds)


class StoredTrial(NamedTuple):
    """The ending of a trial, and a measure of it at the recorded steps, as far as it got."""

    seed: int
    status: str
    reason: str
    step: int
    values: NDArray[np.float64]

    @property
    def final(self) -> float | None:
        """The value at the end; None where it failed, or the value is not finite."""
        if self.status != "ok" or not len(self.values) or not np.isfinite(self.values[-1]):
            return None
        return float(self.values[-1])

    @property
    def first(self) -> float | None:
        """The value at the start, where it is known."""
        return float(self.values[0]) if len(self.values) else None
