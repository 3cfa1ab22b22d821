"""A page that is kept current while a run goes on, by a process that has nothing else to do.

The one half runs where the run does, and counts trials; the other is the process, which reads the
store while the run writes it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.progress import Quiet, relative
from harness.provenance import environment
from harness.store.database import FILE_NAME
from harness.workers.parent_death import die_with
from harness.workers.pool import STEP

if TYPE_CHECKING:
    from harness.reporting.page.run import UnderWay
    from harness.store.read import Results

SHARE = 0.1
"""Share of one core that pages may take, but for the first."""

LEAST_SECONDS, POLL_SECONDS = 5.0, 0.25
"""Least time between two pages, and how often the process looks whether there is something new."""

RELOAD_SECONDS = (10, 60)
"""A page loads itself anew not sooner and not later than this."""

NICE = 10
"""How far the process stands back for trials once there is a first page."""


@contextlib.contextmanager
def watching(output: Path, progress: Quiet, *, fresh: bool) -> Iterator[Quiet]:
    """Keep the page current until the block is left; then nobody writes it any more.

    Args:
        output: The folder of the run's results.
        progress: Who is told how the run goes.
        fresh: Whether trials that are stored already run again.

    Yields:
        Whom to tell how the run goes.
    """
    watch = _Watch(output, progress, fresh=fresh)
    try:
        yield watch
    finally:
        watch.stop()


class _Watch(Quiet):
    """Passes on how the run goes, and counts trials for the process that writes pages.

    That is started with the first trials, by the thread that runs them: it ends with it.
    """

    def __init__(self, output: Path, progress: Quiet, *, fresh: bool) -> None:
        self._output, self._progress, self._fresh = output, progress, fresh
        self._process: subprocess.Popen[bytes] | None = None
        self._count = mmap.mmap(-1, STEP.size)
        self._done = 0
        self._stopping = False
        self._tried = False

    def begin(self, what: str, total: int, unit: str) -> None:
        """Pass it on; the first time, begin to watch."""
        self._progress.begin(what, total, unit)
        if not self._tried:
            self._tried = True
            try:
                self._start()
            except OSError as error:
                why = error.strerror or str(error)
                self._progress.note(f"the page can't be kept current: {why}")

    def advance(self, count: int) -> None:
        """Pass it on, and count."""
        self._done += count
        self._count[:] = STEP.pack(self._done)
        self._progress.advance(count)

    def end(self, *, whole: bool) -> None:
        """Pass it on."""
        self._progress.end(whole=whole)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._progress.note(text)

    def stop(self) -> None:
        """End the process, and wait until it has; a page that it was at is not written."""
        if self._process is None:
            return
        self._stopping = True
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # who helps it draw as well
        self._process.wait()
        self._listener.join()
        for left in self._output.glob(f".*.{self._process.pid}.tmp"):
            left.unlink(missing_ok=True)

    def _start(self) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with tempfile.TemporaryFile() as file:
            file.write(STEP.pack(0))
            file.flush()
            self._count = mmap.mmap(file.fileno(), STEP.size)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "harness.commands.watch"),
                    *(str(file.fileno()), str(os.getpid()), str(self._output)),
                    *(["fresh"] if self._fresh else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()],
                start_new_session=True,  # Ctrl-C is the run's to handle
                env={**one, **environment.inherited()},
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Tell where the page is once it is there, and what goes wrong."""
        assert self._process is not None
        assert self._process.stdout is not None
        told: set[str] = set()
        with self._process.stdout as replies:
            for line in replies:
                try:
                    text = json.loads(line)
                except ValueError:  # the torn message of a process that died
                    break
                if text not in told and not self._stopping:
                    self._progress.note(text)
                told.add(text)
        code = self._process.wait()
        if not self._stopping:
            self._progress.note(
                f"the page is not kept current any more: its process ended ({code}); "
                "the run goes on, and writes it at its end"
            )


def live(results: Results, seconds: float, done: int | None = None) -> UnderWay:
    """How far a run is that is under way.

    Args:
        results: What is stored of it.
        seconds: After how many there may be a newer page.
        done: How many trials are done, where more are stored: they run again.
    """
    from harness.reporting.page.run import UnderWay

    counts = [results.trials["status"].value_counts().to_dict()]
    counts += [{s: tried.statuses.count(s) for s in set(tried.statuses)} for tried in results.tried]
    if done is None:
        done = sum(sum(count.values()) for count in counts)
    else:
        done += sum(count.get("unavailable", 0) for count in counts)
    low, high = RELOAD_SECONDS
    return UnderWay(
        done=done,
        total=results.run.settings.trials,
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=min(high, max(low, round(seconds))),
    )


def main() -> None:
    """Write a page whenever there is something new and the last one is long enough ago."""
    parent, output, fresh = int(sys.argv[2]), Path(sys.argv[3]), "fresh" in sys.argv[4:]
    die_with(parent)  # before all that is loaded, which takes seconds
    count = mmap.mmap(int(sys.argv[1]), STEP.size)
    seen, due, wait = -1, 0.0, 0.0
    told = False
    while os.getppid() == parent:  # where the system does not end it
        done = int(STEP.unpack(count[:])[0])
        if done == seen or time.monotonic() < due:
            time.sleep(POLL_SECONDS)
            continue
        seen, before = done, _spent()
        try:
            page = _write(output, wait, done, fresh=fresh)
        except Exception as error:
            _say(f"the page could not be written meanwhile: {_why(error)}")
        else:
            if page is None:
                continue
            if not told:
                _say(f"The page so far: {relative(page)}")
                os.nice(NICE)
                told = True
        wait = max(LEAST_SECONDS, (_spent() - before) * (1 / SHARE - 1))
        due = time.monotonic() + wait


def _write(output: Path, wait: float, done: int, *, fresh: bool) -> Path | None:
    """Write the page of what is stored; None where nothing is."""
    from harness.reporting import write as report_writer
    from harness.store import read

    results = read.read(output / FILE_NAME)
    if results.trials.empty and not any(tried.statuses for tried in results.tried):
        return None
    now = live(results, wait, done if fresh else None)
    return report_writer.write(results, output, ("html",), now)


def _spent() -> float:
    """Processor seconds that this process has taken, with those that helped it."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _why(error: Exception) -> str:
    if isinstance(error, BadInput):
        return str(error.problems[0])
    return f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there to read it any more
        print(json.dumps(text), flush=True)


if __name__ == "__main__":
    main()
