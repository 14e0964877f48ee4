"""GPU memory and streams: blocks that are handed out again in stream order, what waits for what, how work is given."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray, name_of
from minigrad.errors import OutOfMemoryError

_SMALLEST = 512  # bytes; a multiple of what any vector load is aligned to


class _Thread(threading.local):
    recording: Any = None  # what notes this thread's work instead of doing it: see `minigrad.devices.cuda.recording`


here = _Thread()


class Unrecordable(Exception):
    """Work that is being recorded needs values that only its replay will have."""


class Stream:
    """A queue of work on one GPU: kernels and copies run in the order in which they were given to it.

    ``with stream:`` makes it this thread's current stream on its device. Each stream has memory of its own: a block
    that is free goes to later work of the same stream, which no earlier use can overtake. Where an array is used on
    another stream, that stream waits for what its own has been given so far.

    Example:
        >>> from minigrad.devices import cuda
        >>> stream = cuda.Stream()  # doctest: +SKIP
        >>> with stream:  # doctest: +SKIP
        ...     y = mg.exp(x)
        >>> stream.synchronize()  # doctest: +SKIP
    """

    def __init__(self, device: int = 0, native: Any = None):
        self.device = device
        self.native = drivers.get().stream(device) if native is None else native
        self.pool = Pool(self)
        self._before: list[Stream] = []

    def __repr__(self) -> str:
        return f"<Stream on {name_of(self.device)}>"

    def __enter__(self) -> Stream:
        self._before.append(current(self.device))
        _of_thread()[self.device] = self
        return self

    def __exit__(self, *exc: object) -> None:
        _of_thread()[self.device] = self._before.pop()

    def synchronize(self) -> None:
        """Wait until all work that the stream was given is done."""
        drivers.get().synchronize(self.device, self.native)

    def wait_for(self, other: Stream) -> None:
        """Let later work of this stream wait for the work that `other` has been given so far."""
        if other is not self:
            drivers.get().wait(self.device, self.native, other.device, other.native)


def _of_thread() -> dict[int, Stream]:
    """This thread's current streams, by device."""
    return drivers.get().state.current.__dict__.setdefault("by_device", {})


def current(device: int) -> Stream:
    """This thread's current stream on a device: the device's default stream, unless told otherwise."""
    here = _of_thread()
    found = here.get(device)
    if found is None:
        driver = drivers.get()
        with driver.state.lock:
            found = driver.state.streams.get(device)
            if found is None:
                driver.require(device)
                found = driver.state.streams[device] = Stream(device, driver.default_stream)
        here[device] = found
    return found


class Lease:
    """One use of a block of memory. When the last array on it is gone, the block returns to its stream's pool.

    Attributes:
        stream: whose memory it is.
        pointer: the block's address.
    """

    __slots__ = ("__weakref__", "_block", "_others", "_owner", "pointer", "size", "stream")
    settled = True  # whether the block is there

    def __init__(self, stream: Stream, block: Any, size: int, owner: Any = None):
        self.stream = stream
        self.size = size
        self._block = block
        self._owner = owner  # what keeps foreign memory alive, which goes back to no pool
        self._others: set[Stream] = set()
        self.pointer = drivers.get().pointer(block)

    def native(self, offset: int, size: int, dtype: np.dtype) -> Any:
        """A flat array of `size` elements that lie `offset` bytes from the start, as kernels take it."""
        return drivers.get().flat(self.stream.device, self._block, offset, size, dtype)

    def use_on(self, stream: Stream) -> None:
        """Know that work on `stream` uses this memory: it starts once the owner's work so far is done."""
        if stream is not self.stream:
            stream.wait_for(self.stream)
            self._others.add(stream)

    def __del__(self) -> None:
        if self._owner is None and self._block is not None:
            self.stream.pool.take_back(self._block, self.size, self._others)


class Pool:
    """A stream's free blocks, by size. All are kept, until an allocation finds the GPU's memory full.

    Blocks are freed by their pool alone. An object that frees its block when Python drops it would do so as well where
    a lease in the same garbage is about to bring the block back here.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._lock = threading.Lock()
        self._free: dict[int, list[Any]] = {}
        self._returned: deque[tuple[Any, int, set[Stream]]] = deque()
        self._kept = 0
        self._held = 0  # bytes of all blocks that this pool has, free or in use
        self._driver = drivers.get()
        self._closed = False

    def lease(self, size: int) -> Lease:
        """Memory of at least `size` bytes, aligned to 256 bytes.

        Raises:
            OutOfMemoryError: saying how much was asked for, and how much is free.
        """
        size = _size_class(size)
        with self._lock:
            self._collect()
            blocks = self._free.get(size)
            if blocks:
                self._kept -= size
                return Lease(self._stream, blocks.pop(), size)
            block = self._allocate(size)
            self._held += size
            return Lease(self._stream, block, size)

    def take_back(self, block: Any, size: int, others: set[Stream]) -> None:
        """A lease has ended, at any moment and in any thread: so this only notes it, for the next lease to sort."""
        if self._closed:
            self._driver.free(self._stream.device, block)
        else:
            self._returned.append((block, size, others))

    def free_bytes(self) -> int:
        """Bytes held ready for reuse."""
        with self._lock:
            self._collect()
            return self._kept

    def held_bytes(self) -> int:
        """Bytes of all blocks, free or in use."""
        return self._held

    def release(self) -> None:
        """Give all free blocks back to the driver, once the stream's work is done."""
        with self._lock:
            self._collect()
            self._release()

    def __del__(self) -> None:
        if sys.is_finalizing():  # the driver ends before Python's last objects do, and frees all
            return
        self._closed = True
        for block in [*(b for blocks in self._free.values() for b in blocks), *(b for b, _, _ in self._returned)]:
            self._driver.free(self._stream.device, block)

    def _release(self) -> None:
        self._stream.synchronize()
        for blocks in self._free.values():
            while blocks:
                self._driver.free(self._stream.device, blocks.pop())
        self._held -= self._kept
        self._kept = 0

    def _collect(self) -> None:
        while self._returned:
            block, size, others = self._returned.popleft()
            for other in others:
                self._stream.wait_for(other)
            self._free.setdefault(size, []).append(block)
            self._kept += size

    def _allocate(self, size: int) -> Any:
        driver, device = self._driver, self._stream.device
        try:
            return driver.allocate(device, size)
        except MemoryError:
            self._release()
        try:
            return driver.allocate(device, size)
        except MemoryError:
            free, total = driver.memory(device)
            in_use = self._held / 2**20
            raise OutOfMemoryError(
                f"{name_of(device)}: no memory for {size / 2**20:.1f} MiB: {free / 2**20:.1f} MiB of "
                f"{total / 2**20:.1f} MiB are free, {in_use:.1f} MiB hold tensors of this stream"
            ) from None


def empty(shape: tuple[int, ...], dtype: np.dtype, device: int = 0) -> DeviceArray:
    """An uninitialized contiguous array in memory of the current stream, or of the recording that is going on."""
    recording = here.recording
    return allocated(shape, dtype, device) if recording is None else recording.empty(shape, dtype, device)


def allocated(shape: tuple[int, ...], dtype: np.dtype, device: int) -> DeviceArray:
    """`empty` for what is written now, whether or not work is being recorded."""
    return DeviceArray(current(device).pool.lease(prod(shape) * dtype.itemsize), shape, dtype)


def submit(work: Any, device: int, uses: Sequence[DeviceArray]) -> None:
    """Give work, which has a method ``give(stream)``, to the current stream once the arrays that it uses are ready.

    Where work is being recorded, it is noted.
    """
    if here.recording is not None:
        here.recording.add(work, uses)
        return
    stream = current(device)
    for a in uses:
        if a.lease.stream is not stream:
            a.lease.use_on(stream)
    work.give(stream)


def require_now(what: str) -> None:
    """Raise Unrecordable if work is being recorded: `what` can't wait for the replay."""
    if here.recording is not None:
        raise Unrecordable(what)


@lru_cache(maxsize=4096)
def _size_class(size: int) -> int:
    """The size rounded up to an eighth of its leading power of two, so that near sizes share blocks."""
    step = max(_SMALLEST, 1 << max(0, size.bit_length() - 4))
    return max(step, -(-size // step) * step)
