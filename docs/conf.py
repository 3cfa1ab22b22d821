"""How the site is built from this folder: ``make docs``, or ``sphinx-build docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_site"), str(HERE.parent)]

import spec_reference  # noqa: E402

import harness  # noqa: E402

project = "Optimizer harness"
author = "The harness authors"
release = harness.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site", "_build"]
html_theme = "furo"
html_title = project
html_show_sourcelink = False
# The site works without a network, so nothing of it is fetched from elsewhere.
html_use_opensearch = ""

myst_heading_anchors = 4
autodoc_member_order = "bysource"
# Objectives are classes of Python's; what they do with torch needs none to be read.
autodoc_mock_imports = ["torch"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpicky = False


def setup(app: Sphinx) -> None:
    """Put the reference of the spec where its page has room for it."""

    def fill(_: Sphinx, name: str, source: list[str]) -> None:
        if name == "spec":
            source[0] = spec_reference.filled(source[0], harness.schema())

    app.connect("source-read", fill)
