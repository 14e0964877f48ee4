"""Recording: kernels' Python code is run once, on arrays without memory, and what it would launch is noted.

A kernel's code sees shapes, strides and where memory begins to be aligned, and no values. So what it launches for given
arrays is what it will always launch for them, and can be given to a stream again and again once they have memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.memory import Lease, Stream, current, here


class Place(Lease):
    """Memory that is promised: `settle` says where it is. Until then arrays on it are good for launches to be noted."""

    __slots__ = ("_start",)

    def __init__(self, stream: Stream, size: int):
        self.stream = stream
        self.size = size
        self.pointer = 0  # until it is known: memory of every kind is aligned to more than kernels ask for
        self._block = self._owner = None
        self._start = 0

    def settle(self, lease: Lease, start: int) -> None:
        """Be a part of a lease, from `start` bytes on."""
        self._owner, self._block, self._start = lease, lease._block, start
        self.pointer = lease.pointer + start

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._block is not None

    def native(self, offset: int, size: int, dtype: np.dtype) -> Any:
        if not self.settled:
            return Unsettled(self, offset, size, dtype)
        return drivers.get().flat(self.stream.device, self._block, self._start + offset, size, dtype)

    def use_on(self, stream: Stream) -> None:
        self._owner.use_on(stream)


class Unsettled:
    """A flat array, as kernels take it, on a `Place` that is yet to be settled."""

    __slots__ = ("dtype", "offset", "place", "size")

    def __init__(self, place: Place, offset: int, size: int, dtype: np.dtype):
        self.place, self.offset, self.size, self.dtype = place, offset, size, dtype

    def settled(self) -> Any:
        """The array that it stood for."""
        return self.place.native(self.offset, self.size, self.dtype)


class Recording:
    """While it is entered, this thread's work for one GPU is noted and not done.

    Args:
        captured: whether the work is to be captured as a graph.

    Attributes:
        works: what was noted, in order. Each has ``settle()``, and then ``give(stream)``; or ``prepared(...)``, which
            makes a function of a stream and addresses.
        uses: the leases that it needs.
        temporaries: the places that it asked for.
        tables: the places of tables, and what is to be in them.
        watched: the errors that its kernels may report, by number.

    Raises:
        Unrecordable: in the code that runs inside, if that needs values on the host.
    """

    def __init__(self, device: int, *, captured: bool = True):
        self.captured = captured
        self.works: list[Any] = []
        self.uses: set[Lease] = set()
        self.temporaries: list[Place] = []
        self.tables: list[tuple[Place, Sequence]] = []
        self.watched: dict[int, Callable[[int], Exception]] = {}
        self._stream = current(device)
        self._before: list[Recording | None] = []

    def __enter__(self) -> Recording:
        self._before.append(here.recording)
        here.recording = self
        return self

    def __exit__(self, *exc: object) -> None:
        here.recording = self._before.pop()

    def add(self, work: Any, uses: Sequence[DeviceArray]) -> None:
        """Note work, and the arrays that it uses."""
        self.works.append(work)
        self.uses.update([a.lease for a in uses])

    def table(self, rows: Sequence[Sequence[Any]]) -> DeviceArray:
        """A `many.table` whose addresses are not known yet."""
        place = Place(self._stream, 8 * sum(map(len, rows)))
        self.tables.append((place, rows))
        return DeviceArray(place, (place.size // 8,), np.dtype(np.int64))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype, device: int) -> DeviceArray:
        """An array for this work alone."""
        place = Place(self._stream, prod(shape) * dtype.itemsize)
        self.temporaries.append(place)
        return DeviceArray(place, shape, dtype)
