"""Profile: where the time of a replay goes, by kernel and by call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minigrad.errors import ArgumentError
from minigrad.jit.native import Segment, native_of
from minigrad.jit.replay import Replay

_SECONDS = 0.5  # that a measurement takes, about
_MOST = 200  # replays


class Timed(NamedTuple):
    """One call of a replay.

    Attributes:
        name: of the primitive, or of several that became one loop.
        output: dtypes and shapes, or the Variables that it changes.
        seconds: the median.
        where: the line that it was recorded at.
    """

    name: str
    output: str
    seconds: float
    where: str


class Profile:
    """What ``step.profile(...)`` returns: prints as a table of the kernels, the costliest first.

    Attributes:
        seconds: of a whole call, as users time it: the median of `replays`.
        calls: the time of each call of a kernel, in order, as `Timed`.
        kernels: (name, number of calls, seconds), the costliest first.
        replays: how many were timed.
    """

    def __init__(self, name: str, seconds: float, calls: Sequence[Timed], replays: int):
        self.name = name
        self.seconds = seconds
        self.calls = list(calls)
        self.replays = replays
        groups: dict[str, list[float]] = {}
        for call in self.calls:
            groups.setdefault(call.name, []).append(call.seconds)
        self.kernels = [(kernel, len(times), sum(times)) for kernel, times in groups.items()]
        self.kernels.sort(key=lambda row: -row[2])

    def __str__(self) -> str:
        rows = [(kernel, str(count), *self._cells(seconds)) for kernel, count, seconds in self.kernels]
        return _table(self._head(), [("kernel", "calls", "µs", "share"), *rows], left=(0,))

    __repr__ = __str__

    def by_call(self) -> str:
        """The same as a table of single calls, the costliest first, each with the line that it was recorded at."""
        calls = sorted(self.calls, key=lambda call: -call.seconds)
        rows = [(call.name, call.output, *self._cells(call.seconds), call.where) for call in calls]
        return _table(self._head(), [("kernel", "output", "µs", "share", "recorded at"), *rows], left=(0, 1, 4))

    def _head(self) -> str:
        inside = sum(call.seconds for call in self.calls)
        return (
            f"{self.name}: {1e6 * self.seconds:.1f} µs a call, the median of {self.replays}; "
            f"kernels timed one by one: {1e6 * inside:.1f} µs"
        )

    def _cells(self, seconds: float) -> tuple[str, str]:
        total = sum(call.seconds for call in self.calls)
        return f"{1e6 * seconds:.1f}", f"{100 * seconds / total if total else 0:.1f}%"


def measured(replay: Replay, arrays: Sequence[np.ndarray]) -> Profile:
    """Time a replay, whole and call by call; what it changes is put back."""
    from minigrad.jit.report import outputs

    plan = replay.plan
    if plan.gpu is not None:
        raise ArgumentError(
            f"profile: {replay.name} computes on a GPU, whose time this clock does not see; use NVIDIA's Nsight Systems"
        )
    times = [0.0] * len(plan.calls)
    timed = replay.timed(times)
    changed = list({id(a): a for a in [plan.array(t.root) for c in plan.calls for t in c.mutates]}.values())
    before = [a.copy() for a in changed]
    grads = [(leaf, leaf.grad) for leaf, _ in plan.grads]
    whole: list[float] = []
    rows: list[list[float]] = []

    def once(run: Callable) -> float:
        start = time.perf_counter()
        try:
            run(*arrays)
            return time.perf_counter() - start
        finally:
            for leaf, grad in grads:  # as the recording expects them
                leaf.grad = grad

    with replay._lock:
        try:
            once(replay.run)
            once(timed)
            stop = time.perf_counter() + _SECONDS
            while len(whole) < 2 or (time.perf_counter() < stop and len(whole) < _MOST):
                whole.append(once(replay.run))
                once(timed)
                rows.append(list(times))
        finally:
            for a, values in zip(changed, before):
                np.copyto(a, values)
    entering = _entering()
    calls = []
    for call, steps, column in zip(plan.calls, plan.steps, zip(*rows)):
        if steps:  # else it is a view
            alone = all(native_of(step) is not None for step in steps)  # a replay enters a run of such calls once
            seconds = max(0.0, statistics.median(column) - (entering if alone else 0.0))
            calls.append(Timed(call.primitive.name, outputs(call), seconds, call.where))
    return Profile(replay.name, statistics.median(whole), calls, len(whole))


def _entering() -> float:
    """The seconds that it takes Python to enter native code, and to read the clock."""
    entry = Segment(()).entry
    times = []
    for _ in range(200):
        start = time.perf_counter()
        entry()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _table(head: str, rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([head, "", *lines])
