"""Looks of optimizers: colours, markers and dashes, the same in every figure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.store.read import Results

COLORS = ("#0072b2", "#d55e00", "#009e73", "#c0659b", "#b98600", "#3f97d0", "#8a7a6d")
"""Okabe and Ito's colours less yellow and black, the pale ones deepened: each stands out from
near-white and near-black paper alike."""

MARKERS = ("o", "s", "^", "D", "v", "P", "<", "p", ">", "h", "*")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5.0, 1.6),
    (5.0, 1.5, 1.2, 1.5),
    (1.4, 1.2),
    (7.0, 1.5, 1.2, 1.5, 1.2, 1.5),
    (3.0, 1.4),
)


@dataclass(frozen=True)
class Style:
    """The look of an optimizer in every figure."""

    color: str  # #rrggbb; the settings of one optimizer differ in lightness
    marker: str  # in matplotlib's letters
    dashes: tuple[float, ...]  # lengths on and off, in line widths; empty for a solid line
    filled: bool  # the marker; settings alternate
    width: float  # in points; later optimizers are thinner, so that coinciding lines show
    optimizer: str = ""  # what a reader selects by


def styles(results: Results) -> dict[int, Style]:
    """Styles by a case's position, decided by the order of optimizers and of their settings."""
    settings: dict[tuple[str, str], list[str]] = {}
    for case in results.cases:
        known = settings.setdefault((case.optimizer, case.objective), [])
        if case.setting not in known:
            known.append(case.setting)
    order = {name: i for i, name in enumerate(results.optimizers)}
    return {
        case.position: style_of(
            order[case.optimizer],
            (own := settings[case.optimizer, case.objective]).index(case.setting),
            len(own),
            case.optimizer,
        )
        for case in results.cases
    }


def style_of(optimizer: int, setting: int, settings: int, name: str = "") -> Style:
    """Style of an optimizer by its place among all, and of one of so many settings of it."""
    shade = 0.0 if settings == 1 else setting / (settings - 1)
    color = COLORS[optimizer % len(COLORS)]
    return Style(
        color=color if settings == 1 else _shaded(color, shade),
        marker=MARKERS[optimizer % len(MARKERS)],
        dashes=DASHES[optimizer % len(DASHES)],
        filled=setting % 2 == 0,
        width=max(1.3, 2.3 - 0.25 * optimizer),
        optimizer=name,
    )


def _shaded(color: str, shade: float) -> str:
    """A colour from a little deeper (0) to clearly paler (1) than given."""
    toward, weight = (0, 0.14 * (1 - 2 * shade)) if shade < 0.5 else (255, 0.32 * (2 * shade - 1))
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (toward - c) * weight):02x}" for c in channels)
