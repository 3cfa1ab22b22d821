"""Tasks for workers and what comes of them, whoever the workers are. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.workers.requests import Answer, Request

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Task(Generic[Answer]):
    """A request to one worker.

    Attributes:
        request: The request.
        limit: Seconds it may take, from when the worker says that it is ready.
    """

    request: Request[Answer]
    limit: float


@dataclass(frozen=True)
class Sent:
    """A task sent something on its way.

    Attributes:
        task: The task.
        answers: The answers that it sent, in order; at least one.
        machine: Digest of the machine it was done on; empty for this one. So in all events.
    """

    task: Task[Any]
    answers: tuple[Any, ...]
    machine: str = ""


@dataclass(frozen=True)
class Done:
    """A task is finished."""

    task: Task[Any]
    answer: Any
    machine: str = ""


@dataclass(frozen=True)
class Lost:
    """A task came to nothing.

    Attributes:
        task: The task.
        kind: ``raised``: the worker is well and says what happened; ``died``: the process is
            gone; ``timeout``: it was ended.
        reason: In words.
        step: The step it had reached.
        seconds: From when its clock was last set back until it was over, the end of an ended
            process included.
    """

    task: Task[Any]
    kind: Literal["raised", "died", "timeout"]
    reason: str
    step: int
    seconds: float
    machine: str = ""


Event = Sent | Done | Lost


class WorkerFailed(Exception):
    """A task came to nothing; carries how."""

    def __init__(self, lost: Lost) -> None:
        self.lost = lost
        super().__init__(lost.reason)


def outcome(task: Task[T], events: Iterable[Event]) -> T:
    """The answer of a task, which is the only one that these events tell of.

    Raises:
        WorkerFailed: If it came to nothing.
    """
    for event in events:
        if isinstance(event, Lost):
            raise WorkerFailed(event)
        if isinstance(event, Done):
            answer: T = event.answer
            return answer
    raise AssertionError(f"{task} ended without an event")


class Executor(Protocol):
    """Workers that do tasks: processes on this machine, or a cluster.

    Attributes:
        opened: Files that the suite's code was seen to read.
    """

    opened: Opened

    @property
    def size(self) -> int:
        """Tasks that can be done at a time."""
        ...

    def machine(self, threads: int) -> Machine:
        """The machine on which :meth:`call` measures seconds."""
        ...

    def submit(self, task: Task[Any], *, first: bool = False) -> None:
        """Add a task; ``first`` puts it before those that wait."""
        ...

    def grow(self) -> None:
        """Let all workers start that there may be."""
        ...

    def call(self, task: Task[T]) -> T:
        """Do one task while there is no other.

        Raises:
            WorkerFailed: If it comes to nothing.
        """
        ...

    def events(self) -> Iterator[Event]:
        """Yield what happens until no task is left; tasks may be added meanwhile."""
        ...

    def close(self) -> None:
        """Let the workers end, and wait for them."""
        ...
