"""The command line in this process, a browser, and the order of files."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Call
from hypothesis import settings
from playwright.sync_api import Browser, expect, sync_playwright

settings.register_profile("usual", max_examples=30, deadline=None)
settings.register_profile("exhaustive", max_examples=300, deadline=None)
settings.load_profile("usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, the one with most of them foremost.

    Side by side, a long one that began last would run alone at the end. Who asks for the browser
    needs one.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    slow: dict[Path, int] = {}
    for item in items:
        slow[item.path] = slow.get(item.path, 0) + bool(item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that sums are added up in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_though_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials share a run wherever they can, though each alone were faster.

    What is faster depends on the machine, and on what else it does.
    """
    from harness.engine import sharing

    monkeypatch.setattr(sharing, "FASTER_ALONE", math.inf)


CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window.

    One for each module: while Playwright runs, no other test can have an event loop.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=60_000)  # a busy machine takes long to draw
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def command() -> Call:
    """``python -m harness`` without a process of its own, which takes seconds to start.

    Called with the words of a command line, and where need be with the folder that it is for,
    ``cwd``. What the command and its workers write is caught where a shell would catch it.
    """
    return _run


def _run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    from harness.cli import main

    arguments = [str(word) for word in words]
    at_end = signal.getsignal(signal.SIGTERM)  # a command takes it over
    try:
        with contextlib.ExitStack() as stack:
            if cwd is not None:
                stack.enter_context(contextlib.chdir(cwd))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(sys, "argv", ["harness", *arguments])
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            with _instead(1, "stdout", out.fileno()), _instead(2, "stderr", err.fileno()):
                try:
                    main(arguments)
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else bool(end.code)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
    finally:
        signal.signal(signal.SIGTERM, at_end)
    return subprocess.CompletedProcess(["harness", *arguments], status, *said)


@contextlib.contextmanager
def _instead(descriptor: int, name: str, file: int) -> Iterator[None]:
    """Have a file stand for a standard stream, for Python and for processes that are started."""
    before = getattr(sys, name)
    before.flush()
    kept = os.dup(descriptor)
    os.dup2(file, descriptor)
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as stream:
            setattr(sys, name, stream)
            yield
    finally:
        setattr(sys, name, before)
        os.dup2(kept, descriptor)
        os.close(kept)
