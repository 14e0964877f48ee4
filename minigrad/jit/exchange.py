"""Exchange: arrays that a replay takes in and hands out as they are. Their memory is another one at each call.

A large argument is read where it lies, and a large result is written where its receiver finds it; a copy of either
would cost as much as a kernel. In the plan a stand-in has the array's place, which nothing reads or writes; the
replay puts the addresses of the call into native blocks, and the call's arrays into calls from Python.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.devices import cpu
from minigrad.jit.trace import Value, owner

#: Bytes from which an array is exchanged: below, a copy costs less than the bookkeeping.
SMALLEST = 1 << 16


class Exchange:
    """The stand-ins of a plan, numbered.

    Attributes:
        arrays: the stand-ins.
    """

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._numbers: dict[int, int] = {}

    def stand_in(self, value: Value) -> np.ndarray:
        """An array in the place of a value's, whose pages are never touched."""
        a = np.empty(value.shape, value.dtype)
        self._numbers[id(a)] = len(self.arrays)
        self.arrays.append(a)
        return a

    def find(self, a: Any) -> tuple[int, int] | None:
        """The number of the stand-in that an array lies in, and how many bytes on; None if it lies elsewhere."""
        number = self._numbers.get(id(owner(a))) if isinstance(a, np.ndarray) else None
        return None if number is None else (number, address(a) - address(self.arrays[number]))

    def concerns(self, value: Any) -> bool:
        """Whether an argument of a step is a part of a stand-in, or holds one."""
        if isinstance(value, (tuple, list)):
            return any(map(self.concerns, value))
        if isinstance(value, dict):
            return any(map(self.concerns, value.values()))
        return self.find(value) is not None

    def present(self, value: Any, now: Sequence[np.ndarray]) -> Any:
        """An argument of a step with the arrays of this call, `now`, for the stand-ins."""
        found = self.find(value)
        if found is None:
            return value
        return np.ndarray(value.shape, value.dtype, now[found[0]], found[1], value.strides)


def handed_out(results: Sequence[Value]) -> list[Value]:
    """The owners of memory that results are written into by kernels and that leave with them.

    A result that shows a small part of its memory is copied: it would keep all of it alive.
    """
    found: dict[Value, None] = {}
    for v in results:
        root = v.root
        if root.kind == "result" and root.gpu is None and SMALLEST <= root.size <= 2 * v.size:
            found[root] = None
    return list(found)


def lender(changed: Sequence[np.ndarray]) -> Callable[[np.ndarray, np.dtype], tuple[np.ndarray, int]]:
    """A function of an argument that gives an array that kernels can read, and its address.

    That is the argument itself unless its form is not the planned one, or it shares memory with one of the arrays
    that the replay changes: then kernels would read the new values.
    """
    spans = sorted((address(a), address(a) + a.nbytes) for a in changed if a.nbytes)
    starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
    for i in range(1, len(stops)):  # of spans that overlap, the furthest end
        stops[i] = max(stops[i], stops[i - 1])

    def lend(x: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
        start = address(x)
        if x.flags.carray and x.dtype == dtype and x.__class__ is np.ndarray:
            before = bisect_left(starts, start + x.nbytes)
            if not before or stops[before - 1] <= start:
                return x, start
        copy = cpu.empty(x.shape, dtype)
        np.copyto(copy, x)
        return copy, address(copy)

    return lend


def fresh(shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Memory for a result, and its address."""
    a = cpu.empty(shape, dtype)
    return a, address(a)


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]
