"""Parameter groups held against objectives: patterns of nothing, groups that get nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.engine.groups import Shapes, assigned, matches
from harness.engine.spec_places import SpecPlaces
from harness.errors import join, nearest
from harness.plan.model import Case, Plan
from harness.results import Finding
from harness.spec.recipe import SelectionSpec
from harness.spec.yaml_source import KeyPath


def group_findings(plan: Plan, shapes: Mapping[str, Shapes]) -> Iterator[Finding]:
    """Find what is wrong with the parameter groups of a plan's optimizers.

    A pattern must match something, and a group get something, on one of the objectives at least;
    an optimizer with groups of other classes must keep something for its own on each.

    Args:
        plan: The plan.
        shapes: By objective, the names and shapes of its parameters, where they are known.
    """
    cases: dict[str, dict[str, Case]] = {}
    for case in (*plan.cases, *(search.base for search in plan.searches)):
        if case.recipe.groups and not case.is_partial:
            cases.setdefault(case.optimizer, {})[case.objective.name] = case
    for of_objectives in cases.values():
        known = {name: shapes[name] for name in of_objectives if name in shapes}
        case = next(iter(of_objectives.values()))
        check = _Check(plan, case, known)
        if known.keys() == of_objectives.keys() and {*plan.spec.objectives} == known.keys():
            yield from check.groups()
        yield from check.own_class()


@dataclass(frozen=True)
class _Check:
    """The groups of one optimizer on some objectives."""

    plan: Plan
    case: Case
    shapes: Mapping[str, Shapes]

    @property
    def _path(self) -> KeyPath:
        return SpecPlaces(self.plan, self.case).recipe.paths["groups"]

    def groups(self) -> Iterator[Finding]:
        """Patterns that match nothing, and groups that get nothing."""
        given = [assigned(self.case.recipe.groups, own)[0] for own in self.shapes.values()]
        for i, names in enumerate(zip(*given, strict=True)):
            found = list(self._patterns(i))
            yield from found
            if not found and not any(names):
                yield self._empty(i)

    def _patterns(self, index: int) -> Iterator[Finding]:
        names = [name for own in self.shapes.values() for name in own]
        for path, pattern in self._given_patterns(index):
            if not any(fnmatchcase(name, pattern) for name in names):
                text = f"{pattern!r} matches no parameter{self._where()}{nearest(pattern, names)}"
                yield Finding(path, text)

    def _given_patterns(self, index: int) -> Iterator[tuple[KeyPath, str]]:
        """The patterns of a group, with their places."""
        wanted = SpecPlaces(self.plan, self.case).recipe.groups[index].parameters
        path = (*self._path, index, "parameters")
        if isinstance(wanted, SelectionSpec):
            yield from _numbered((*path, "name"), wanted.name or ())
            yield from _numbered((*path, "not"), wanted.not_ or ())
        else:
            yield from _numbered(path, wanted or ())

    def _empty(self, index: int) -> Finding:
        """A group that gets no parameter."""
        selection, path = self.case.recipe.groups[index].selection, (*self._path, index)
        if selection is None:
            text = f"gets no parameter{self._where()}: groups before it take them all"
            return Finding(path, text)
        wanted = [
            name
            for own in self.shapes.values()
            for name, shape in own.items()
            if matches(selection, name, shape)
        ]
        if wanted:
            text = f"gets no parameter{self._where()}: groups before it take {join(wanted)}"
            return Finding((*path, "parameters"), text)
        known = (f"{k} {_shown(s)}" for own in self.shapes.values() for k, s in own.items())
        text = f"matches no parameter{self._where()} (known: {join(list(dict.fromkeys(known)))})"
        return Finding((*path, "parameters"), text)

    def own_class(self) -> Iterator[Finding]:
        """Objectives on which groups of other classes leave nothing for the optimizer's own."""
        groups = self.case.recipe.groups
        for name, own in self.shapes.items():
            found, rest = assigned(groups, own)
            kept = [n for g, n in zip(groups, found, strict=True) if g.located is None and n]
            if not kept and not rest:
                text = (
                    f"groups of other classes take every parameter of objective {name!r}, "
                    f"so nothing is left for {self.case.located.attribute}"
                )
                yield Finding(("optimizers", self.case.optimizer), text, at_key=True)

    def _where(self) -> str:
        names = [repr(name) for name in self.shapes]
        return f" of objective {names[0]}" if len(names) == 1 else f" of {join(names)}"


def _numbered(path: KeyPath, patterns: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """The patterns of a list, or one that may stand without."""
    for i, pattern in enumerate(patterns):
        yield (*path, i) if len(patterns) > 1 else path, pattern


def _shown(shape: tuple[int, ...]) -> str:
    return "of shape (" + ", ".join(map(str, shape)) + ")"
