"""One's own optimizer on the diagnostic tasks, beside those whose results come along."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.spec.fields import is_number
from harness.suite.locate import NotFound, SuiteError, locate

LR = (1e-3, 1e3)
"""The range of a learning rate, as multiples of the constructor's default."""

LR_WITHOUT_DEFAULT = (1e-5, 10.0)

DECAYS = {
    "momentum": (0.5, 0.999),
    "beta1": (0.5, 0.99),
    "beta2": (0.9, 0.9999),
}
"""Ranges of decay rates, logarithmic in what they are short of 1."""

BETAS = ([0.9, 0.999], [0.9, 0.99], [0.9, 0.9], [0.5, 0.999], [0.5, 0.9], [0.99, 0.999])
"""Pairs to choose from, as the optimizers that come along have them."""


def spec_of(
    reference: str, folder: Path, search: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the spec that puts an optimizer on the diagnostic tasks.

    Args:
        reference: The optimizer, as a spec names it; ``module:Name`` of a file in the folder too.
        folder: The suite's folder.
        search: Search spaces by hyperparameter; ``[low, high]`` is log-uniform. Where it is empty,
            they follow from the constructor: see :func:`default_search`.
        given: Hyperparameters that are not searched.

    Raises:
        BadInput: If there is no such optimizer, or it can't be loaded.
    """
    left, colon, attribute = reference.partition(":")
    file = folder / f"{left.replace('.', '/')}.py"
    if colon and not left.endswith(".py") and file.is_file():
        reference = f"{file.relative_to(folder)}:{attribute}"
    try:
        located = locate(reference, folder, "optimizers")
        factory = located.load()
    except (NotFound, SuiteError) as error:
        raise BadInput.of_file(reference, str(error)) from error
    spaces = {
        name: {"log_uniform": space} if isinstance(space, list | tuple) else space
        for name, space in search.items()
    } or default_search(factory)
    spaces = {name: space for name, space in spaces.items() if name not in given}
    name = re.sub(r"[^A-Za-z0-9_-]", "_", located.attribute).strip("_-") or "mine"
    entry: dict[str, Any] = {"class": reference}
    if given:
        entry["hyperparameters"] = dict(given)
    if spaces:
        entry["search"] = spaces
    spec: dict[str, Any] = {"suite": f"diagnostics-{name}", "extends": "diagnostics"}
    if not spaces:
        spec["tuning"] = None  # there is nothing to draw settings of
    return {**spec, "title": f"Where {name} fails", "optimizers": {name: entry}}


def default_search(factory: Any) -> dict[str, Any]:
    """Search spaces that follow from a constructor's parameters.

    A learning rate (``lr``) from a thousandth to a thousand times its default; ``momentum``,
    ``beta1`` and ``beta2`` over the usual decay rates; pairs of ``betas``. All else stays at its
    default.

    Args:
        factory: The optimizer's class.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        default = parameter.default
        if name == "lr":
            is_known = is_number(default) and default > 0
            low, high = LR if is_known else LR_WITHOUT_DEFAULT
            scale = float(default) if is_known else 1.0
            found[name] = {"log_uniform": [low * scale, high * scale]}
        elif name in DECAYS and (is_number(default) or default is parameter.empty):
            found[name] = {"one_minus_log_uniform": list(DECAYS[name])}
        elif name == "betas" and isinstance(default, tuple | list) and len(default) == 2:
            found[name] = {"choice": [list(pair) for pair in BETAS]}
    return found
