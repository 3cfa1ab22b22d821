"""A suite for another machine: its files by content, and messages whose paths hold there."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from harness.errors import BadInput
from harness.provenance import fingerprint
from harness.suite.locate import SECTIONS, ImportTarget, absolute

MAX_BYTES = 2**30
"""Size of the files of a suite at most: every machine is sent all of them."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, named: Iterable[ImportTarget]) -> bytes:
    """The files of a suite, zipped; of the same content always the same bytes.

    Args:
        folder: The suite's folder.
        named: The things of it that are used. Packed are the files they need, and all that lies
            in the suite's sections.

    Raises:
        BadInput: If they are too large to be sent.
    """
    files = sorted({*_sections(folder), *_sources(folder, named)})
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise BadInput.of_file(
            str(folder),
            f"its files take {size / 2**30:.1f} GiB ({largest.relative_to(folder)} the most), and "
            "more than 1 GiB are not sent to other machines; have the loader read them from a "
            "disk that all machines share",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            name = file.relative_to(folder).as_posix()
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), file.read_bytes())
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Write the files of :func:`pack` below a folder."""
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        zipped.extractall(folder)


def dumps(message: Any, folder: Path) -> bytes:
    """A message in bytes, in which paths in a suite's folder are told from there."""
    buffer = io.BytesIO()
    _Pickler(buffer, absolute(folder)).dump(message)
    return buffer.getvalue()


def loads(data: bytes, folder: Path) -> Any:
    """A message of :func:`dumps`, with its paths below another folder."""
    return _Unpickler(io.BytesIO(data), folder).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._folder = folder

    def persistent_id(self, value: Any) -> str | None:
        """A path in the suite's folder as seen from there; None for all else."""
        if not isinstance(value, PurePath):
            return None
        path = absolute(Path(value))
        inside = path == self._folder or self._folder in path.parents
        return path.relative_to(self._folder).as_posix() if inside else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder

    def persistent_load(self, name: str) -> Path:
        """The path in the folder that stands for the suite's here."""
        return self._folder / name


def _sections(folder: Path) -> Iterator[Path]:
    """All files of a suite's sections but what is hidden or compiled."""
    for section in SECTIONS:
        for file in (folder / section).rglob("*"):
            parts = file.relative_to(folder).parts
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if file.is_file() and not hidden:
                yield file


def _sources(folder: Path, used: Iterable[ImportTarget]) -> Iterator[Path]:
    """The files that some things depend on; what they need of packages is no file here."""
    for located in used:
        if located.file is not None:
            yield from (
                file for name in fingerprint.of(located) if (file := folder / name).is_file()
            )
