"""The tests of one part, one after the other: the worker's side of ``part_tests``.

Also what tests of optimizers, objectives and datasets share: where something stands, what two runs
differ by, and what becomes of the global random numbers.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.conformance.records import Begun, Observation, SourceLocation, Stuck
from harness.objectives.base import Parameters
from harness.suite.locate import is_own, last_line
from harness.suite.random_state import drawn_from, kept_random_state, random_state

STUCK_SHARE = 0.8
"""The part of its time after which a test is asked where it is."""


@dataclass(frozen=True)
class PartTest:
    """One thing to find out about a part.

    Attributes:
        name: What is tested.
        run: The test; it returns what it finds. What it raises is the part's doing.
        place: What is tested; None while it isn't loaded.
        gate: Whether the tests after it make no sense where it finds something wrong.
    """

    name: str
    run: Callable[[], list[Observation] | Observation | None]
    place: Callable[[], SourceLocation | None]
    gate: bool = False


def run(
    tests: Iterable[PartTest],
    folder: Path,
    after: int,
    seconds: float,
    send: Callable[[Begun | Stuck | Observation], None],
    on_step: Callable[[int], None],
) -> None:
    """Run the tests of a part.

    Args:
        tests: In their order; those that are gates come first and are always run.
        folder: The suite's folder.
        after: How many tests were begun before, in a process that is gone.
        seconds: How long each may take.
        send: Takes what each found.
        on_step: Is given the number of each that begins.
    """
    for number, test in enumerate(tests, 1):
        if number <= after and not test.gate:
            continue
        on_step(number)
        if number > after:
            send(Begun(test.name, number, test.place()))
        with _reporting_where_it_hangs(folder, seconds * STUCK_SHARE, send):
            found = _found(test, folder)
        if number > after:
            for seen in found:
                send(seen)
        if test.gate and any(seen.kind == "wrong" for seen in found):
            return


def _found(test: PartTest, folder: Path) -> list[Observation]:
    try:
        with kept_random_state():
            found = test.run() or []
    except BaseException as error:  # sys.exit() as well: this is the suite's code
        place = raised_at(error, folder) or test.place()
        return [Observation("wrong", f"raises {last_line(error)}", place)]
    at = test.place()
    return [
        seen if seen.place or seen.fault else Observation(seen.kind, seen.message, at)
        for seen in (found if isinstance(found, list) else [found])
    ]


@contextlib.contextmanager
def _reporting_where_it_hangs(
    folder: Path, seconds: float, send: Callable[[Stuck], None]
) -> Iterator[None]:
    """Send the line at which this thread is, if it is in the block for so long."""
    thread = threading.get_ident()

    def look() -> None:
        frame = sys._current_frames().get(thread)
        frames = list(traceback.walk_stack(frame)) if frame else []
        own = [(f, line) for f, line in frames if is_own(f.f_code.co_filename, folder)]
        if own:
            innermost, line = own[0]
            send(Stuck(SourceLocation(Path(innermost.f_code.co_filename), line)))

    timer = threading.Timer(seconds, look)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what it says must not run into what is said next


def place_of_code(thing: Any, method: str = "") -> SourceLocation | None:
    """The line of a class or function, or of a method of a class if that is its own."""
    wanted = getattr(thing, method, thing) if method else thing
    for candidate in (wanted, thing):
        with contextlib.suppress(TypeError, OSError):
            code = inspect.unwrap(candidate)
            file = inspect.getsourcefile(code)
            if file is not None:
                _, line = inspect.getsourcelines(code)
                return SourceLocation(Path(file), line + _decorators(code))
    return None


def _decorators(code: Any) -> int:
    """Lines of decorators before a function, which its first line counts in."""
    lines, _ = inspect.getsourcelines(code)
    starts = ("def ", "class ", "async ")
    return next((i for i, line in enumerate(lines) if line.lstrip().startswith(starts)), 0)


def raised_at(error: BaseException, folder: Path) -> SourceLocation | None:
    """The innermost line of a suite at which an error arose."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if is_own(f.filename, folder)]
    return SourceLocation(Path(own[-1].filename), own[-1].lineno or 1) if own else None


def distance(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest distance between two sets of parameters, relative to their size, and its name.

    Equal elements, NaN too, are no distance apart; 0 means bit-identical.
    """
    worst, name = 0.0, ""
    for key, value in a.items():
        x, y = value.detach(), b[key].detach()
        same = (x == y) | (x.isnan() & y.isnan())
        gap = torch.where(same, torch.zeros_like(x), x - y).abs().max().nan_to_num(nan=torch.inf)
        relative = float(gap / max(float(x.abs().max()), 1e-30))
        if relative > worst:
            worst, name = relative, key
    return worst, name


def copied(params: Parameters) -> Parameters:
    """New leaves with the same values."""
    return {name: value.detach().clone().requires_grad_() for name, value in params.items()}


def seed_everything(seed: int) -> None:
    """Put every global generator in a state that depends on the seed alone."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def touched(act: Callable[[], object]) -> tuple[set[str], set[str]]:
    """The global generators that something draws from, and those that it seeds."""
    after = []
    drawn: set[str] = set()
    for seed in (1, 2):
        seed_everything(seed)
        before = random_state()
        act()
        after.append(random_state())
        drawn |= drawn_from(before, after[-1])
    seeded = {name for name in drawn if after[0][name] == after[1][name]}
    return drawn - seeded, seeded


def class_of(factory: Any, made: object) -> Any:
    """A part's class, or the function that made it if that is no class."""
    return factory if isinstance(factory, type | types.FunctionType) else type(made)
