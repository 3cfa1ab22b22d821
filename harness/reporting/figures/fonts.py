"""The font of figures: DejaVu Sans without what only typesetting needs.

A PDF holds the letters that it shows, as TrueType, which publishers ask for. Taking them out of
matplotlib's font takes a tenth of a second for each picture, mostly for tables of ligatures; out of
a copy without these, a hundredth.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

from fontTools import subset
from matplotlib.font_manager import FontProperties, findfont, fontManager

WHOLE, SHORT = "DejaVu Sans", "Harness DejaVu Sans"
"""Names of the font and of its copy, which has the same letters with the same widths."""

LETTERS = (
    *(*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x391, 0x3CA)),
    *(
        *range(0x2010, 0x2027),
        *range(0x2070, 0x208F),
        *range(0x2190, 0x2194),
        *map(ord, "√∞∑∏∂∇≈≠≤≥−∈"),
    ),
)
"""Latin and Greek letters, punctuation, powers, arrows and signs of mathematics; others come from
the whole font."""


@functools.cache
def families() -> tuple[str, ...]:
    """The families that letters are taken from, the first that has a letter foremost."""
    source = findfont(FontProperties(family=WHOLE))
    copy = Path(mpl.get_cachedir()) / f"harness-{mpl.__version__}.ttf"
    try:
        if not copy.exists():
            _shorten(source, copy)
        fontManager.addfont(copy)
    except OSError:  # a full disk; the whole font takes longer, and that is all
        return (WHOLE,)
    return SHORT, WHOLE


def _shorten(source: str, copy: Path) -> None:
    options = subset.Options(layout_features=[], hinting=False, glyph_names=False)
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "MATH", "FFTM"]
    options.legacy_kern = True
    written = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    with subset.load_font(source, options) as font:
        shortening = subset.Subsetter(options)
        shortening.populate(unicodes=LETTERS)
        shortening.subset(font)
        for entry in font["name"].names:
            if entry.nameID in (1, 4, 16):
                entry.string = SHORT
        subset.save_font(font, str(written), options)
    written.replace(copy)
