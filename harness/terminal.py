"""Tables on a terminal, which rich lays out; as plain text where there is none."""

from __future__ import annotations

import io
import os
import re
import sys
import webbrowser
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from harness.errors import printable

if TYPE_CHECKING:
    from rich.text import Text

UNLIMITED = 10_000
"""Columns of what is not to be folded."""


def aligned(
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[int] = (),
    whole: Collection[int] = (),
    indent: int = 0,
    width: int = UNLIMITED,
    colour: bool = False,
) -> list[str]:
    """Lines with the cells of rows in columns that are two blanks apart.

    Args:
        rows: Of as many cells each.
        right: Numbers of the columns whose cells end below each other.
        whole: Numbers of the columns that are folded after all others, if at all.
        indent: Blanks before each line.
        width: Columns of the terminal; cells of a wider table are folded.
        colour: Whether the colours of texts are shown.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    cells = [[printable(c) if isinstance(c, str) else c for c in row] for row in rows]
    table = Table.grid(padding=(0, 2))
    for number in range(len(cells[0]) if cells else 0):
        justify: Literal["left", "right"] = "right" if number in right else "left"
        table.add_column(justify=justify, overflow="fold", no_wrap=number in whole)
    for row in cells:
        table.add_row(*row)
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        force_jupyter=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as shown:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    return [re.sub(r" +(\x1b\[0m)?$", r"\1", line) for line in shown.get().splitlines()]


def opened_in_browser(address: str) -> bool:
    """Open a page in a browser that has a screen; False if there is none."""
    screens = map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return (sys.platform != "linux" or any(screens)) and webbrowser.open(address)
