"""The hyperparameters of a case, held against the optimizer's constructor."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from harness.engine.constructors import Constructor, mistaken
from harness.engine.recipe_factory import OptimizerFactory
from harness.errors import join, nearest
from harness.plan.model import Case, Hyperparameters, Plan, shown
from harness.results import Finding
from harness.spec.fields import meant, mistaken_word
from harness.spec.fields import shown as shown_value
from harness.suite.locate import last_line, place_of

_STAND_INS: tuple[Any, ...] = (0.1, 0.9, 1, 2, True, [0.9, 0.99], None)
"""Values to put in place of one that may be refused, where there is no default."""


def says(message: str, name: str) -> bool:
    """Return whether a message names an argument."""
    return re.search(rf"\b{re.escape(name)}\b", message, re.IGNORECASE) is not None


@dataclass(frozen=True)
class OptimizerArguments:
    """A case's hyperparameters, and the class that is to take them."""

    plan: Plan
    case: Case
    factory: OptimizerFactory

    @property
    def _constructor(self) -> Constructor:
        return Constructor.of(self.factory, skip=1)

    def without_default(self) -> str:
        """Say why there is no case at the constructor's defaults; empty if there is."""
        searched = self.plan.spec.optimizers[self.case.optimizer].search
        needed = [
            name
            for name in self._constructor.needed
            if name in searched and name not in self.case.hyperparameters
        ]
        if not needed:
            return ""
        return f"{self.case.located.attribute} has no default for {join([*map(repr, needed)])}"

    def names(self) -> Iterator[Finding]:
        """Arguments that the constructor doesn't have, or that it needs and doesn't get."""
        constructor, case = self._constructor, self.case
        if not constructor.is_known:
            return
        named, owner = constructor.named, case.located.attribute
        for name in sorted(case.hyperparameters.keys() - named.keys()):
            if not constructor.takes_any:
                text = f"{owner} takes no argument {name!r}{nearest(name, named)}"
                yield Finding(self._key(name), text, at_key=True)
        if case.is_partial:
            return
        for name in sorted(case.hyperparameters.keys() & named.keys()):
            if text := mistaken(case.hyperparameters[name], named[name]):
                yield Finding(self._path(name), text)
        others = self.plan.spec.optimizers[case.optimizer].per_objective.values()
        for name in constructor.needed:
            if name not in case.hyperparameters:
                text = f"{owner} needs {name!r}, which is not given"
                if any(name in values for values in others):
                    text += f" for objective {case.objective.name!r}"
                yield Finding(("optimizers", case.optimizer), text, at_key=True)

    def values(
        self, tensors: list[torch.Tensor], defaults: dict[str, dict[str, Any]]
    ) -> Iterator[Finding]:
        """Values that the constructor refuses.

        Args:
            tensors: Parameters to construct the optimizer for.
            defaults: Where the values that the constructor completed are noted, by case key.
        """
        case = self.case
        optimizer, error = self._construct(tensors, case.hyperparameters)
        if error is not None:
            yield from self._refusals(tensors, error)
            return
        words = list(self._hidden_words(tensors))
        yield from words
        if words:
            return
        if not callable(getattr(optimizer, "step", None)):
            text = f"gives a {type(optimizer).__name__}, expected a torch.optim.Optimizer"
            yield Finding(("optimizers", case.optimizer, "class"), text)
            return
        known = getattr(optimizer, "defaults", None)
        plain = {k: _plain(v) for k, v in known.items()} if isinstance(known, dict) else {}
        plain = {k: v for k, v in plain.items() if v is not NotImplemented}
        if case.key:
            defaults[case.key] = {**plain, **case.hyperparameters}

    def _hidden_words(self, tensors: list[torch.Tensor]) -> Iterator[Finding]:
        """Words for what a constructor passes on as ``**settings``, with hidden defaults."""
        setting = self.case.hyperparameters
        for name, value in setting.items():
            if name in self._constructor.all_names or not isinstance(value, str | list):
                continue
            optimizer, _ = self._construct(tensors, _without(setting, name))
            defaults = getattr(optimizer, "defaults", {})
            known = isinstance(defaults, dict) and name in defaults
            if known and (text := mistaken_word(value, defaults[name])):
                yield Finding(self._path(name), text)

    def _construct(
        self, tensors: list[torch.Tensor], setting: Hyperparameters
    ) -> tuple[Any, BaseException | None]:
        """Construct the optimizer: it, or what was raised."""
        try:
            return self.factory(tensors, **setting), None
        except BaseException as error:  # sys.exit() as well: this may be the suite's code
            return None, error

    def _refusals(
        self, tensors: list[torch.Tensor], error: BaseException | None
    ) -> Iterator[Finding]:
        """Every value that a constructor refuses: one, then what it says without that one."""
        case, setting, blamed = self.case, self.case.hyperparameters, set[str]()
        while error is not None:
            text = f"{case.located.attribute} refuses this: {last_line(error)}"
            if case.located.file:
                text += place_of(error, case.located.folder)
            name, others = self._blamed(tensors, setting, error)
            if name in blamed or (blamed and not name):
                return
            if not name:
                yield Finding(("optimizers", case.optimizer), text, at_key=True)
                return
            text += self._hint(tensors, name, setting[name], others)
            yield Finding(self._path(name), text)
            blamed.add(name)
            setting = others
            error = self._construct(tensors, setting)[1]

    def _hint(
        self, tensors: list[torch.Tensor], name: str, value: Any, others: Hyperparameters
    ) -> str:
        """A hint at what was meant by a value that is refused, as the end of a sentence."""
        text = ""
        if isinstance(value, str):
            likely = meant(value)
            text = f"; {shown_value(value)} is a string"
            text += "" if isinstance(likely, str) else f", write {json.dumps(likely)}"
        whole = self._given(name)
        as_value = {**others, name: whole}
        if isinstance(whole, list) and self._construct(tensors, as_value)[1] is None:
            items = ", ".join(shown(item) for item in whole)
            text += f"; a list is a grid: for one value that is a list write [[{items}]]"
        return text

    def _blamed(
        self, tensors: list[torch.Tensor], setting: Hyperparameters, error: BaseException
    ) -> tuple[str, Hyperparameters]:
        """The hyperparameter that a constructor refuses, and a setting without that mistake.

        Without it, or with another value in its place, the constructor says nothing, or something
        else. The name is empty where there is none such.
        """
        message = str(error)
        named = [name for name in setting if says(message, name)]
        named += ["lr"] if "learning rate" in message.lower() and "lr" in setting else []
        names = list(dict.fromkeys([*named, *setting]))
        for name in names:
            others = _without(setting, name)
            other = self._construct(tensors, others)[1]
            if other is None or (str(other) != message and "missing" not in str(other)):
                return name, others
        for name, value in itertools.product(names, _STAND_INS):
            others = {**setting, name: value}
            other = self._construct(tensors, others)[1]
            if other is None or (name in named and name not in str(other)):
                return name, others
        return "", setting

    def _key(self, name: str) -> tuple[str, ...]:
        """The key path at which the spec names a hyperparameter."""
        case = self.case
        optimizer = self.plan.spec.optimizers[case.optimizer]
        if name in optimizer.per_objective.get(case.objective.name, {}):
            return ("optimizers", case.optimizer, "per_objective", case.objective.name, name)
        section = "search" if name in optimizer.search else "hyperparameters"
        return ("optimizers", case.optimizer, section, name)

    def _path(self, name: str) -> tuple[str | int, ...]:
        """The key path at which the spec gives the value of a hyperparameter."""
        value, wanted = self._given(name), self.case.hyperparameters[name]
        if isinstance(value, list):
            index = next((i for i, v in enumerate(value) if v is wanted or v == wanted), None)
            return self._key(name) if index is None else (*self._key(name), index)
        space = self.plan.spec.optimizers[self.case.optimizer].search.get(name)
        if space is not None and space.choice is not None and wanted in space.choice:
            return (*self._key(name), "choice", space.choice.index(wanted))
        return self._key(name)

    def _given(self, name: str) -> Any:
        """A hyperparameter as the spec gives it: a value, or a list of them."""
        optimizer = self.plan.spec.optimizers[self.case.optimizer]
        own = optimizer.per_objective.get(self.case.objective.name, {})
        return own.get(name, optimizer.hyperparameters.get(name))


def _without(setting: Hyperparameters, name: str) -> Hyperparameters:
    return {key: value for key, value in setting.items() if key != name}


def _plain(value: Any) -> Any:
    """A default as plain data; NotImplemented where it is more than that."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, tuple | list):
        items = [_plain(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    return NotImplemented
