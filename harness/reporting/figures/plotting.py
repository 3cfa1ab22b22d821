"""matplotlib, whatever the environment says of it; imported before any part of it is.

Jupyter names a backend that only its own kernel has, and matplotlib reads it when it is loaded.
"""

from __future__ import annotations

import importlib
import os
import types

from harness.errors import BadInput
from harness.suite.locate import last_line


def _load() -> types.ModuleType:
    """Import matplotlib, without the backend that the environment names if that isn't there.

    Raises:
        BadInput: If matplotlib can't be loaded for another reason, such as its settings file.
    """
    try:
        return importlib.import_module("matplotlib")
    except ImportError:
        raise
    except Exception:
        backend = os.environ.pop("MPLBACKEND", None)
    try:
        return importlib.import_module("matplotlib")
    except Exception as error:
        text = f"matplotlib can't be loaded with the settings it finds here: {last_line(error)}"
        raise BadInput.of_file("matplotlibrc", text) from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


mpl = _load()
"""The package ``matplotlib``."""
