"""Small multiples of a panel of curves that has too many names for a legend."""

from __future__ import annotations

from dataclasses import replace

from harness.reporting.figures.records import CurvePanel, Line, faint


def faceted(panel: CurvePanel) -> list[CurvePanel]:
    """A panel for each optimizer, on the same axes, the others faint behind it."""
    names = dict.fromkeys(line.style.optimizer for line in panel.lines if line.label)
    behind = tuple(faint(line) for line in panel.lines if not line.failed and len(line.x))
    return [_facet(panel, name, behind) for name in names]


def _facet(panel: CurvePanel, name: str, behind: tuple[Line, ...]) -> CurvePanel:
    own = [line for line in panel.lines if line.style.optimizer == name and not line.faint]
    labels = [line.label for line in own if line.label]
    several = len(labels) > 1
    title = name if several else labels[0]
    return replace(
        panel,
        title=f"{title} on {panel.title}" if panel.title else title,
        lines=tuple(replace(line, label=_setting(line) * several) for line in own),
        seed_lines=tuple(line for line in panel.seed_lines if line.style.optimizer == name),
        behind=behind,
        has_legend=several,
    )


def _setting(line: Line) -> str:
    """A label without the name of the optimizer."""
    if not line.label.startswith(f"{line.style.optimizer} (") or not line.called:
        return line.label
    setting = line.called[len(line.style.optimizer) + 2 : -1]
    return setting + line.label[len(line.called) :]
