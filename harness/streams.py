"""Standard output and error of the command line, which may be closed or can't be written."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2


class Commands(click.Group):
    """The commands. Standard output may be closed, or the current folder deleted."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run one."""
        _open_streams()
        gc.set_threshold(100_000, 50, 100)  # a command makes millions of objects, and then ends
        with writing(EXIT_FAILED):
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run one whose arguments are read."""
        try:
            Path.cwd()
        except FileNotFoundError:
            tell("error: the current folder no longer exists")
            sys.exit(EXIT_BAD_INPUT)
        return super().invoke(ctx)


def _open_streams() -> None:
    """Open standard input, output and error where they are closed.

    Otherwise the first files opened would take their places, and receive what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


@contextlib.contextmanager
def writing(failed: int) -> Iterator[None]:
    """Report that standard output can't be written, and exit with a status other than 0."""
    try:
        yield
    except OSError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(frame.filename == click.utils.__file__ for frame in frames):
            raise
        if not isinstance(error, BrokenPipeError):
            tell(f"error: standard output can't be written: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
        sys.exit(failed)  # nobody could read the outcome, so the status may not be 0


def tell(text: str) -> None:
    """Print a line on standard error, if that can be written; the exit status stands for itself."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
