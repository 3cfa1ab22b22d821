"""Parameter groups held against objectives: patterns of nothing, groups that get nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.engine.groups import Shapes, assigned, matches
from harness.engine.spec_places import SpecPlaces
from harness.errors import join, nearest
from harness.plan.model import Case, Plan
from harness.plan.recipe import Selection
from harness.results import Finding
from harness.spec.recipe import SelectionSpec
from harness.spec.yaml_source import KeyPath


def group_findings(plan: Plan, shapes: Mapping[str, Shapes]) -> Iterator[Finding]:
    """Find what is wrong with the parameter groups of a plan's optimizers.

    A pattern must match something on one of the objectives at least, but for those of a list that
    leaves parameters out, of which one must. An optimizer with groups of other classes must keep
    something for its own on one of them. Nothing is found where not all objectives are known.

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
        # Of objectives that are left out, by the command line too, nothing is known.
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
        """Patterns and selections that match nothing, whatever the groups before them take."""
        for i, group in enumerate(self.case.recipe.groups):
            found = list(self._patterns(i))
            yield from found
            selection = group.selection
            if not found and selection is not None and not self._matches_any(selection):
                yield self._empty(i)

    def _matches_any(self, selection: Selection) -> bool:
        of_all = (item for own in self.shapes.values() for item in own.items())
        return any(matches(selection, name, shape) for name, shape in of_all)

    def _patterns(self, index: int) -> Iterator[Finding]:
        wanted = SpecPlaces(self.plan, self.case).recipe.groups[index].parameters
        path = (*self._path, index, "parameters")
        if not isinstance(wanted, SelectionSpec):
            yield from map(self._unknown, self._unmatched(path, wanted or ()))
            return
        yield from map(self._unknown, self._unmatched((*path, "name"), wanted.name or ()))
        # Those of a list leave out what some networks have and others don't: embeddings, a head.
        left_out = self._unmatched((*path, "not"), wanted.not_ or ())
        if len(left_out) < len(wanted.not_ or ()):
            left_out = [one for one in left_out if self._is_misspelled(one[1])]
        yield from map(self._unknown, left_out)

    @property
    def _names(self) -> list[str]:
        return [name for own in self.shapes.values() for name in own]

    def _unmatched(self, path: KeyPath, patterns: Sequence[str]) -> list[tuple[KeyPath, str]]:
        """The patterns that match no parameter, with their places."""
        return [
            (place, pattern)
            for place, pattern in _numbered(path, patterns)
            if not any(fnmatchcase(name, pattern) for name in self._names)
        ]

    def _is_misspelled(self, pattern: str) -> bool:
        """Tell a pattern that is nearly the name of a parameter, or of a part of it."""
        known = {part for name in self._names for part in (name, *name.split("."))}
        return "did you mean" in nearest(pattern.strip("*."), known, 0.75)

    def _unknown(self, found: tuple[KeyPath, str]) -> Finding:
        path, pattern = found
        hint = nearest(pattern, self._names)
        return Finding(path, f"{pattern!r} matches no parameter{self._where()}{hint}")

    def _empty(self, index: int) -> Finding:
        """A selection that matches no parameter."""
        path = (*self._path, index)
        known = (f"{k} {_shown(s)}" for own in self.shapes.values() for k, s in own.items())
        text = f"matches no parameter{self._where()} (known: {join(list(dict.fromkeys(known)))})"
        return Finding((*path, "parameters"), text)

    def own_class(self) -> Iterator[Finding]:
        """Groups of other classes that leave nothing for the optimizer's own on any objective.

        On some they may: where all parameters are matrices, Muon with AdamW for the rest is Muon.
        """
        if self.shapes and not any(map(self._keeps_some, self.shapes.values())):
            text = (
                f"groups of other classes take every parameter{self._where()}, "
                f"so nothing is left for {self.case.located.attribute}"
            )
            yield Finding(("optimizers", self.case.optimizer), text, at_key=True)

    def _keeps_some(self, own: Shapes) -> bool:
        """Return whether some parameters of an objective are for the optimizer's own class."""
        groups = self.case.recipe.groups
        found, rest = assigned(groups, own)
        return bool(rest) or any(
            names for group, names in zip(groups, found, strict=True) if group.located is None
        )

    def _where(self) -> str:
        names = [repr(name) for name in self.shapes]
        return f" of objective {names[0]}" if len(names) == 1 else f" of {join(names)}"


def _numbered(path: KeyPath, patterns: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """The patterns of a list, or one that may stand without."""
    for i, pattern in enumerate(patterns):
        yield (*path, i) if len(patterns) > 1 else path, pattern


def _shown(shape: tuple[int, ...]) -> str:
    return "of shape (" + ", ".join(map(str, shape)) + ")"
