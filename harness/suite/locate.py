"""A suite is a folder: a spec and, beside it, ``optimizers/``, ``objectives/``, ``datasets/``.

Finds what a spec names (by reading source, importing nothing) and loads it (by path, under a
private package name, so that a suite's folders never shadow anybody's ``datasets`` package).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import join, nearest
from harness.suite.shipped import objective_references

Section = Literal["optimizers", "objectives", "datasets"]

SECTIONS: tuple[Section, ...] = ("optimizers", "objectives", "datasets")


PROJECTS = {
    "pytorch_optimizer": "pytorch-optimizer",
    "schedulefree": "schedulefree",
    "prodigyopt": "prodigyopt",
    "lion_pytorch": "lion-pytorch",
    "heavyball": "heavyball",
    "torch_optimizer": "torch-optimizer",
    "bitsandbytes": "bitsandbytes",
    "timm": "timm",
    "dadaptation": "dadaptation",
}
"""Packages of optimizers, with the projects that bring them; the names differ for some."""


class NotFound(LookupError):
    """A spec names something that isn't there; the message says what is near."""


class SuiteError(Exception):
    """A suite's own code failed while it was loaded; the message gives its place and last line."""


class Misfit(TypeError):
    """A suite's function gives what can't be used; ``blamed`` is that function."""

    def __init__(self, blamed: Callable[..., Any], message: str) -> None:
        self.blamed = blamed
        super().__init__(message)


@dataclass(frozen=True)
class ImportTarget:
    """Something a spec names, found but not loaded.

    Attributes:
        reference: As the spec names it.
        folder: The suite's folder.
        module: Importable module, or for a suite file its dotted path below the folder.
        attribute: Dotted name in the module.
        file: The suite file; None for what is imported from elsewhere.
    """

    reference: str
    folder: Path
    module: str
    attribute: str
    file: Path | None = None

    @property
    def _full_name(self) -> str:
        """The module's name when it is imported."""
        if self.file is None:
            return self.module
        return f"{_private_package(self.folder)}.{self.module}"

    @property
    def note(self) -> str:
        """A sentence on what its import has changed of the whole process; empty if nothing."""
        if not (changed := _CHANGED.get(self._full_name)):
            return ""
        what = _below(self.file, self.folder) if self.file else self.module
        text = f"importing {what} changes {join(changed)} for the whole process"
        return f"{text}; the harness undoes that"

    def load(self) -> Any:
        """Import and return the thing.

        Settings of the whole process (torch's default dtype, say) are what they were before.

        Raises:
            SuiteError: If the import fails or the module has no such attribute.
        """
        try:
            value = _import(self._full_name)
        except BaseException as error:  # sys.exit() as well: this is somebody else's code
            raise SuiteError(
                f"can't be imported: {last_line(error)}{place_of(error, self.folder)}"
            ) from error
        for part in self.attribute.split("."):
            try:
                value = getattr(value, part)
            except AttributeError:
                raise SuiteError(
                    f"{self.module!r} has no {part!r}{nearest(part, _public(value))}"
                ) from None
            except BaseException as error:  # a module's own __getattr__
                raise SuiteError(
                    f"{part!r} cannot be loaded: {last_line(error)}{place_of(error, self.folder)}"
                ) from error
        return value


def _import(name: str) -> Any:
    """Import a module and leave no ``__pycache__`` in a suite's folders.

    Bytecode is told from its source by size and second; what is edited between two quick runs
    would run as it was before.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        if name in sys.modules or "torch" not in sys.modules:
            return importlib.import_module(name)
        from harness.suite import torch_settings  # a worker's; the coordinator loads no torch

        with torch_settings.kept() as changed:
            module = importlib.import_module(name)
        if changed:
            _CHANGED[name] = changed
        return module
    finally:
        sys.dont_write_bytecode = before


_CHANGED: dict[str, list[str]] = {}
"""By module, what of the whole process its import had changed, before that was put back. Like
``sys.modules``, whose modules remember nothing of it, it is the process's."""


def locate(reference: str, folder: Path, section: Section) -> ImportTarget:
    """Find what a spec names, without importing it.

    Args:
        reference: ``Name`` of the suite's section (or of a shipped objective),
            ``path/file.py:Name`` below the suite's folder, or ``package.module:Name``.
        folder: The suite's folder.
        section: Which kind of thing is meant.

    Raises:
        NotFound: If there is no such thing.
    """
    left, colon, attribute = reference.partition(":")
    if not colon:
        return _locate_name(reference, folder, section)
    if left.endswith(".py"):
        return _locate_file(reference, folder, left, attribute)
    return _locate_module(reference, folder, left, attribute)


def names_in(folder: Path, section: Section) -> dict[str, tuple[Path, str]]:
    """The names that a suite's section defines: name -> (file, first line of its docstring)."""
    found: dict[str, tuple[Path, str]] = {}
    for file in _files(folder / section):
        for name, doc in definitions(file).items():
            found.setdefault(name, (file, doc))
    return found


def definitions(file: Path) -> dict[str, str]:
    """Public top-level classes and functions of a Python file, with their first doc lines.

    A file that can't be parsed defines nothing here; loading it says why.
    """
    found: dict[str, str] = {}
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            doc = ast.get_docstring(node) or ""
            found[node.name] = doc.strip().partition("\n")[0]
    return found


def imports_of(file: Path, folder: Path) -> tuple[list[Path], dict[str, set[str]]]:
    """Read what a file of code imports.

    Args:
        file: The file.
        folder: Where what it imports relatively must lie.

    Returns:
        Files that it imports relatively; and by top-level package from elsewhere, the dotted names
        that may be modules.
    """
    files: list[Path] = []
    packages: dict[str, set[str]] = {}
    for node in ast.walk(_tree(file)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom):
            base = file.parent
            for _ in range(node.level - 1):
                base = base.parent
            base = base.joinpath(*(node.module or "").split(".")) if node.module else base
            stems = [base, *(base / alias.name for alias in node.names)]
            files += [p for s in stems for p in (s.with_suffix(".py"), s / "__init__.py")]
        for name in names:
            packages.setdefault(name.partition(".")[0], set()).add(name)
    inside = [p for p in files if p.is_file() and _is_below(p, folder)]
    return inside, packages


def last_line(error: BaseException) -> str:
    """The last line of an error's traceback."""
    if isinstance(error, Misfit):  # which says it in a sentence of its own
        return str(error)
    lines = traceback.format_exception_only(error)
    return _PRIVATE.sub("", lines[-1].strip()) if lines else repr(error)


def place_of(error: BaseException, folder: Path) -> str:
    """The place in the suite (else anywhere) of an error, as ``" (optimizers/x.py:3)"``."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return f" ({_below(Path(error.filename), folder)}:{error.lineno})"
    if isinstance(error, Misfit) and isinstance(error.blamed, types.MethodType):
        code = inspect.unwrap(error.blamed.__func__).__code__
        file, line = code.co_filename, code.co_firstlineno
        if not is_own(file, folder):  # a method of the harness that calls the suite's
            with contextlib.suppress(TypeError, OSError):
                made_of = type(error.blamed.__self__)
                file, line = inspect.getfile(made_of), inspect.getsourcelines(made_of)[1]
        return f" ({_below(Path(file), folder)}:{line})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if is_own(f.filename, folder)]
    loading = {__file__, importlib.__file__}
    outside = [f for f in frames if f.filename not in loading and f.filename[0] != "<"]
    known = own or outside
    if not known:
        return ""
    return f" ({_below(Path(known[-1].filename), folder)}:{known[-1].lineno})"


def is_own(file: str, folder: Path) -> bool:
    """Tell a suite's own code by the file that it says it is of.

    What is made as it runs (``<string>``: a dataclass's methods) is of no file. An environment, and
    the harness, may lie in a suite's folder, and are nobody's own.
    """
    path = Path(file)
    if file.startswith("<") or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return _is_below(path, folder) and not _is_below(path, Path(__file__).parents[1])


def _locate_name(name: str, folder: Path, section: Section) -> ImportTarget:
    defining = [f for f in _files(folder / section) if name in _bound_names(f)]
    if len(defining) > 1:
        files = join([f"{section}/{f.name}:{name}" for f in defining])
        raise NotFound(f"{name!r} is in several files; choose one: {files}")
    if defining and "." in defining[0].stem:
        file = f"{section}/{defining[0].name}"
        raise NotFound(f"{name!r} is in {file!r}; a module's name can't contain a dot")
    if defining:
        return ImportTarget(name, folder, f"{section}.{defining[0].stem}", name, defining[0])
    known = list(names_in(folder, section))
    if section == "objectives":
        shipped = objective_references()
        if name in shipped:
            module, _, attribute = shipped[name].partition(":")
            return ImportTarget(name, folder, module, attribute)
        known += shipped
    broken = {
        message: name.encode() in file.read_bytes()
        for file in _files(folder / section)
        if (message := _syntax_error(file, folder))
    }
    # Of those with the name in them; else it may have stood in any.
    telling = [message for message, has_name in broken.items() if has_name] or list(broken)
    why = f"; {join(telling, 3)}" if telling else ""
    raise NotFound(f"no {section[:-1]} {name!r} in {section}/{nearest(name, known)}{why}")


def _locate_file(reference: str, folder: Path, path: str, attribute: str) -> ImportTarget:
    file = folder / path
    if not _is_below(file, folder):
        raise NotFound(f"{path!r} is outside the suite's folder")
    if not file.is_file():
        near = [str(p.relative_to(folder)) for p in folder.glob("*/*.py")]
        raise NotFound(f"no file {path!r} beside the spec{nearest(path, near)}")
    if "." in file.stem:
        raise NotFound(f"{path!r}: a module's name can't contain a dot")
    module = ".".join(Path(path).with_suffix("").parts)
    return ImportTarget(reference, folder, module, attribute, file)


def _locate_module(reference: str, folder: Path, module: str, attribute: str) -> ImportTarget:
    top = module.partition(".")[0]
    try:
        found = None if top == "__main__" else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        brings = f"; pip install {PROJECTS[top]} brings it" if top in PROJECTS else ""
        hint = _suite_hint(folder, attribute)
        raise NotFound(f"no package {top!r} is installed{brings or hint}")
    if top == "harness" and not own_file(module).is_file():
        shipped = sorted({r.partition(":")[0] for r in objective_references().values()})
        raise NotFound(f"no module {module!r} ships{nearest(module, shipped)}")
    return ImportTarget(reference, folder, module, attribute)


def own_file(module: str) -> Path:
    """The file of one of the harness's own modules."""
    return Path(__file__).parents[1].joinpath(*module.split(".")[1:]).with_suffix(".py")


def _suite_hint(folder: Path, attribute: str) -> str:
    for section in SECTIONS:
        if attribute in names_in(folder, section):
            return f"; did you mean {attribute!r}?"
    return ""


_PRIVATE = re.compile(r"\b_suite_[0-9a-f]{12}\.")
"""The beginning of the name of a suite's own exception, which differs by machine."""


def is_of_a_suite(module: str) -> bool:
    """Tell modules that were loaded from a suite's folder by their name."""
    return _PRIVATE.match(f"{module}.") is not None


def _private_package(folder: Path) -> str:
    """Register the package that a suite's modules live in; its name is derived from the path."""
    resolved = str(folder.resolve())
    name = f"_suite_{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:12]}"
    if name not in sys.modules:
        package = types.ModuleType(name, "A suite's folder.")
        package.__path__ = [resolved]
        sys.modules[name] = package
    return name


def _files(folder: Path) -> list[Path]:
    """A section's Python files, without the hidden ones that editors and archives leave."""
    return sorted(p for p in folder.glob("[!.]*.py") if p.is_file()) if folder.is_dir() else []


def _tree(file: Path) -> ast.Module:
    try:
        return _parse(file)
    except _UNREADABLE:
        return ast.Module([], [])


def _syntax_error(file: Path, folder: Path) -> str:
    try:
        _parse(file)
    except OSError as error:
        return f"{_below(file, folder)}: {error.strerror}"
    except _UNREADABLE as error:
        line = getattr(error, "lineno", None) or 1
        return f"{_below(file, folder)}:{line}: {last_line(error)}"
    return ""


_UNREADABLE = (SyntaxError, ValueError, OSError, RecursionError, MemoryError)


def _parse(file: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" and its like: said when the file is loaded
        return ast.parse(file.read_bytes())


def _bound_names(file: Path) -> Iterator[str]:
    for node in _tree(file).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                yield node.name
            case ast.Assign(targets=targets):
                yield from (t.id for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def _public(value: Any) -> list[str]:
    return [name for name in dir(value) if not name.startswith("_")]


def _is_below(file: Path, folder: Path) -> bool:
    """Tell paths that stand in a folder as written: a link in it may lead anywhere."""
    return absolute(folder) in absolute(file).parents


def absolute(path: Path) -> Path:
    """A path from the root, without ``..``, with its links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps the ..


def _below(file: Path, folder: Path) -> str:
    inside = _is_below(file, folder)
    return as_text(absolute(file).relative_to(absolute(folder)) if inside else Path(file.name))


def as_text(path: Path | str) -> str:
    """A path as text that can be stored and printed, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")
