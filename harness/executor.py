"""The coordinator's side of a worker process. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_EXIT = ("exit", None)


class WorkerFailed(Exception):
    """A worker died, hung or failed in a way that is not a trial's."""


class Worker:
    """A process that runs torch. Starting it returns at once; it imports while others go on."""

    def __init__(self) -> None:
        paths = [str(Path(__file__).resolve().parent.parent), *sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the coordinator's to handle
            env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
        )
        self._replies: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def request(
        self,
        name: str,
        *arguments: Any,
        timeout: float | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Any:
        """Ask for something and wait for the answer.

        Args:
            name: A method of ``worker.Session``.
            *arguments: Its arguments.
            timeout: Seconds to wait for any sign of life; None for ever.
            on_progress: Called with what the worker reports meanwhile.

        Raises:
            WorkerFailed: If the worker dies, is silent for too long, or fails.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pickle.dump((name, arguments), self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        while True:
            try:
                kind, answer = self._replies.get(timeout=timeout)
            except queue.Empty:
                self.kill()
                raise WorkerFailed(f"no answer within {timeout:g} s") from None
            match kind:
                case "progress":
                    if on_progress is not None:
                        on_progress(answer)
                case "done":
                    return answer
                case "failed":
                    raise WorkerFailed(answer)
                case _:
                    raise WorkerFailed(_how_it_ended(self._process.wait()))

    def close(self) -> None:
        """Let the worker end, and wait for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def kill(self) -> None:
        """End the worker now."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                self._replies.put(pickle.load(self._process.stdout))
            except (EOFError, pickle.UnpicklingError, OSError, ValueError):
                self._replies.put(_EXIT)
                return


def _how_it_ended(code: int) -> str:
    if code < 0:
        import signal

        with contextlib.suppress(ValueError):
            return f"the worker process was ended by {signal.Signals(-code).name}"
    return f"the worker process ended with exit status {code}"
