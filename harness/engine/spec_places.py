"""Where a spec gives the hyperparameters of a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.plan.model import Case, Plan
from harness.spec.recipe_values import MergedRecipe, merged
from harness.spec.yaml_source import KeyPath


@dataclass(frozen=True)
class SpecPlaces:
    """The places in a spec of what belongs to a case's optimizer."""

    plan: Plan
    case: Case

    @property
    def recipe(self) -> MergedRecipe:
        """The optimizer's recipe."""
        return merged(self.plan.spec, self.case.optimizer)

    @property
    def optimizer(self) -> KeyPath:
        """The optimizer."""
        return ("optimizers", self.case.optimizer)

    def section(self, name: str) -> KeyPath:
        """A part of the recipe (``groups.0``, ``base``, ``schedule.1``); empty: the optimizer."""
        recipe = self.recipe
        head, _, rest = name.partition(".")
        if head == "groups" and rest in recipe.labels():
            return (*recipe.paths["groups"], recipe.labels().index(rest))
        index, *inner = rest.split(".")
        if head == "schedule" and index.isdecimal() and recipe.stages:
            within = [int(part) if part.isdecimal() else part for part in inner]
            return (*recipe.stage_path(int(index)), *within)
        return recipe.paths.get(head, self.optimizer)

    def key(self, name: str) -> KeyPath:
        """The key path at which a hyperparameter is given, or at which it would be."""
        recipe, spec = self.recipe, self.plan.spec.optimizers[self.case.optimizer]
        objective = self.case.objective.name
        sections: tuple[tuple[KeyPath, dict[str, Any]], ...] = (
            (("per_objective", objective), spec.per_objective.get(objective, {})),
            (("search",), dict(spec.search)),
            (("hyperparameters",), spec.hyperparameters),
        )
        for section, values in sections:
            for raw in values:
                if recipe.canonical(raw) == name:
                    return (*self.optimizer, *section, raw)
        of_recipe = recipe.values()
        if name in of_recipe:
            return of_recipe[name].path
        if "." in name:
            return self.section(name.rpartition(".")[0])
        return (*self.optimizer, "hyperparameters", name)

    def path(self, name: str) -> KeyPath:
        """The key path at which the value of a hyperparameter is given: its place in a list."""
        value, wanted = self.given(name), self.case.hyperparameters[name]
        key = self.key(name)
        if isinstance(value, list):
            index = next((i for i, v in enumerate(value) if v is wanted or v == wanted), None)
            return key if index is None else (*key, index)
        searched = self.plan.spec.optimizers[self.case.optimizer].search
        spaces = {self.recipe.canonical(raw): space for raw, space in searched.items()}
        space = spaces.get(name)
        if space is not None and space.choice is not None and wanted in space.choice:
            return (*key, "choice", space.choice.index(wanted))
        return key

    def given(self, name: str) -> Any:
        """A hyperparameter as the spec gives it: a value, or a list of them."""
        recipe, spec = self.recipe, self.plan.spec.optimizers[self.case.optimizer]
        local = spec.per_objective.get(self.case.objective.name, {})
        for values in (local, spec.hyperparameters):
            for raw, value in values.items():
                if recipe.canonical(raw) == name:
                    return value
        found = recipe.values().get(name)
        return None if found is None else found.as_given
