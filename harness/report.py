"""A report on disk: tables, figures and the page, each file whole or not written at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness import figure_records, figures, findings, page, tables
from harness.frames import Results
from harness.problems import BadInput

PAGE_NAME = "index.html"


def write(results: Results, output: Path) -> Path:
    """Write the report of a run.

    Everything is made before anything is written, and everything is written beside its place
    before anything is put there, the page last. So a full disk leaves the report that was there.

    Args:
        results: The run.
        output: Folder of the report; made where there is none.

    Returns:
        The page: ``output/index.html``. Beside it are ``tables/<name>.csv`` and ``.md``, and
        ``figures/<name>.svg`` and ``.png``.

    Raises:
        BadInput: If something can't be written.
    """
    made = _make(results)
    old = _listed(output / PAGE_NAME)
    staged: dict[Path, Path] = {}
    path = output
    try:
        for name, content in made.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            staged[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            staged[path].write_bytes(content)
        page_path = output / PAGE_NAME
        for path in [path for path in staged if path != page_path]:
            staged[path].replace(path)
        for path in [output / name for name in old if name not in made]:
            path.unlink(missing_ok=True)
        path = page_path
        staged[path].replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput.of_file(str(path), f"can't be written: {why}") from None
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return output / PAGE_NAME


def _make(results: Results) -> dict[str, bytes]:
    """Every file's content by its path below the report's folder; the page comes last."""
    built = tables.build(results)
    records = figure_records.build(results)
    drawings = figures.draw_all(records)
    made: dict[str, bytes] = {}
    for table in built:
        made[f"tables/{table.name}.csv"] = table.to_csv().encode()
        made[f"tables/{table.name}.md"] = table.to_markdown().encode()
    for drawing in drawings:
        made[f"figures/{drawing.name}.svg"] = drawing.svg.encode()
        made[f"figures/{drawing.name}.png"] = drawing.png
    sentences = findings.summarise(results)
    made[PAGE_NAME] = page.render(results, built, records, drawings, sentences).encode()
    return made


def _listed(old_page: Path) -> list[str]:
    """Files of an earlier report; only what it lists as its own is ever removed."""
    try:
        return page.listed_files(old_page.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []
