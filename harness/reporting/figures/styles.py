"""Looks of optimizers: a hue for each kind of optimizer, markers and dashes that tell them apart.

Nothing here depends on the order of a list in the spec.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.store.read import CaseData, Results

COLORS = (
    "#0072b2",
    "#d55e00",
    "#5c991f",
    "#c266d6",
    "#ee4682",
    "#1f998f",
    "#ad5c3d",
    "#70705c",
    "#1f85ff",
    "#997aad",
)
"""Hues that stand out from near-white and from near-black paper alike, at 3:1 or more, and from
one another, also for eyes that lack one kind of cone."""

MARKERS = ("^", "s", "D", "v", "p", "P", "<", "o", ">")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5.0, 1.6),
    (5.0, 1.5, 1.2, 1.5),
    (1.4, 1.2),
    (7.0, 1.5, 1.2, 1.5, 1.2, 1.5),
    (3.0, 1.4),
)

PART_DASHES: Mapping[str, tuple[float, ...]] = {
    "train": (),
    "validation": (4.0, 1.8),
    "test": (1.3, 1.3),
}
"""Dashes of the lines of each part of the data, where it is not optimizers that they tell apart."""

FAMILIES = {
    "adagrad": 0,
    "momentum": 1,
    "rmsprop": 2,
    "adadelta": 3,
    "adam": 4,
    "adamw": 5,
    "lion": 8,
    "sgd": 7,
}
"""Places of well-known optimizers among the hues and the markers, by the class in small letters."""

DEEP, PALE = 45.0, 59.5
"""Lightness (CIE L*) of the first and the last of an optimizer's settings."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Shares of red, green and blue in the luminance of sRGB."""

WIDTHS = (2.2, 1.5)
"""Points, of the first of a family and of the others, so that lines that coincide both show."""


@dataclass(frozen=True)
class Style:
    """The look of a setting of an optimizer in every figure."""

    color: str  # #rrggbb; the settings of one optimizer differ in lightness
    marker: str  # in matplotlib's letters
    dashes: tuple[float, ...]  # lengths on and off, in line widths; empty for a solid line
    filled: bool  # the marker; settings alternate
    width: float  # in points
    optimizer: str = ""  # what a reader selects by


@dataclass(frozen=True)
class Look:
    """The look that all settings of an optimizer share."""

    color: str
    marker: str
    dash: int  # place among DASHES of its first settings
    width: float
    family: str = ""  # which shares the hue

    def styles(self, name: str, settings: Collection[str]) -> dict[str, Style]:
        """The style of each setting of an optimizer, ordered by their numbers."""
        last = len(settings) - 1
        return {
            setting: Style(
                color=at_lightness(self.color, DEEP + (PALE - DEEP) * i / last)
                if last
                else self.color,
                marker=self.marker,
                dashes=DASHES[(self.dash + 2 * (i // 2)) % len(DASHES)],
                filled=i % 2 == 0,
                width=self.width,
                optimizer=name,
            )
            for i, setting in enumerate(sorted(sorted(settings), key=setting_order))
        }


def swatches(results: Results) -> dict[str, Style]:
    """The style that stands for an optimizer, whatever its settings, by its name."""
    known = looks_of(results)
    return {name: known[name].styles(name, [""])[""] for name in results.optimizers}


def styles(results: Results) -> dict[int, Style]:
    """Styles by a case's position: an optimizer's look, shaded by the order of its settings."""
    known = looks_of(results)
    settings: dict[tuple[str, str], set[str]] = {}
    for case in results.cases:
        settings.setdefault((case.optimizer, case.objective), set()).add(case.setting)
    found = {
        (name, objective): known[name].styles(name, own)
        for (name, objective), own in settings.items()
    }
    return {
        case.position: found[case.optimizer, case.objective][case.setting] for case in results.cases
    }


def setting_order(setting: str) -> tuple[bool | str | float, ...]:
    """A key that sorts settings by their words and numbers, and defaults last."""
    parts = re.split(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)", setting)
    order = (float(part) if i % 2 else part for i, part in enumerate(parts))
    return (setting == "defaults", *order)


def looks_of(results: Results) -> dict[str, Look]:
    """The look of every optimizer of some results, by its name."""
    classes = dict(sorted((case.optimizer, case.optimizer_class) for case in results.cases))
    with_momentum = {case.optimizer for case in results.cases if _has_momentum(case)}
    families = {name: _family(given, name in with_momentum) for name, given in classes.items()}
    for name, given in sorted(results.run.settings.counterparts.items()):
        if name in families and given.optimizer in families:
            kept, other = sorted((families[name], families[given.optimizer]), key=_rank)
            families = {o: kept if family == other else family for o, family in families.items()}
    return looks({name: (families[name], classes[name]) for name in classes})


def _has_momentum(case: CaseData) -> bool:
    value = (case.defaults | case.hyperparameters).get("momentum")
    return isinstance(value, int | float) and value != 0


def _family(optimizer_class: str, with_momentum: bool) -> str:
    """The kind of optimizer that a class is, whoever wrote it."""
    name = re.split(r"[:.]", optimizer_class)[-1].lower()
    return "momentum" if name == "sgd" and with_momentum else name


def _rank(family: str) -> tuple[int, str]:
    return FAMILIES.get(family, len(FAMILIES)), family


def looks(optimizers: Mapping[str, tuple[str, str]]) -> dict[str, Look]:
    """Looks by an optimizer's name.

    A family has one hue, that of its name where that is well known, else one that a digest of its
    name picks; of two that pick the same, the later in a fixed order takes the next free one. The
    members of a family differ in marker and dashes; the first, from scratch if one is, is solid.

    Args:
        optimizers: By name, the family and the class as the spec names it.
    """
    found: dict[str, Look] = {}
    hues: list[int] = []
    markers: list[int] = []
    pairs: set[tuple[int, int]] = set()
    for family in sorted({family for family, _ in optimizers.values()}, key=_rank):
        hues.append(_free(_place(family, len(COLORS)), hues, len(COLORS)))
        own = [name for name, (known, _) in optimizers.items() if known == family]
        # A class of a package stands after those that are written from scratch.
        for member, name in enumerate(sorted(own, key=lambda n: (":" in optimizers[n][1], n))):
            wanted = _place(family, len(MARKERS)) + 5 * member
            marker = _free(wanted % len(MARKERS), markers, len(MARKERS))
            dash = next((d for d in range(member, member + 6) if (marker, d % 6) not in pairs), 0)
            markers.append(marker)
            pairs.add((marker, dash % 6))
            width = WIDTHS[0] if member == 0 else WIDTHS[1]
            found[name] = Look(COLORS[hues[-1]], MARKERS[marker], dash % 6, width, family)
    return found


def _place(family: str, count: int) -> int:
    """The place that a family would have among so many."""
    if family in FAMILIES:
        return FAMILIES[family]
    return int.from_bytes(hashlib.sha256(family.encode()).digest()[:8]) % count


def _free(place: int, used: Sequence[int], count: int) -> int:
    """The place, or the next one that is used least."""
    return min(range(count), key=lambda i: (used.count(i), (i - place) % count))


@functools.cache
def at_lightness(color: str, lightness: float) -> str:
    """The colour with its hue and saturation, as light (CIE L*) as is wanted."""
    hue, _, saturation = colorsys.rgb_to_hls(*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    luminance = ((lightness + 16) / 116) ** 3
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        rgb = np.array(colorsys.hls_to_rgb(hue, middle, saturation))
        linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        low, high = (middle, high) if linear @ LUMINANCE < luminance else (low, middle)
    channels = colorsys.hls_to_rgb(hue, low, saturation)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)
