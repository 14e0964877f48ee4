"""The CPU's memory: buffers that are handed out again once the last array on them is gone.

A fresh large buffer costs several times the arithmetic that fills it, because the kernel maps and clears every page.
Small arrays come from NumPy's own allocator, which reuses memory already; large ones from blocks of anonymous memory
that return here when they are free.
"""

import contextlib
import ctypes
import mmap
import os
import threading
from collections import deque
from math import prod

import numpy as np

SMALLEST = 1 << 17  # bytes; below this malloc reuses memory without page faults
_uint8 = np.dtype(np.uint8)


class Pool:
    """Blocks of memory by size class, at most ``limit`` bytes of them kept while free.

    Example:
        >>> pool = Pool()
        >>> a = pool.empty((1024, 1024), np.dtype("float32"))
        >>> del a
        >>> pool.free_bytes() > 0
        True
        >>> b = pool.empty((1024, 1024), np.dtype("float32"))  # the same memory again
        >>> pool.free_bytes()
        0
    """

    def __init__(self, limit: int = 1 << 30):
        self.limit = limit
        self._lock = threading.Lock()
        self._free: dict[int, list[mmap.mmap]] = {}
        self._kept = 0
        self._returned: deque[mmap.mmap] = deque()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialized C-contiguous array; its memory returns to the pool when no array refers to it."""
        size = prod(shape) * dtype.itemsize
        if size < SMALLEST:
            return np.empty(shape, dtype)
        block = self._take(_size_class(size))
        return np.ndarray(shape, dtype, buffer=_Lease.of(block, self))

    def free_bytes(self) -> int:
        """Bytes held ready for reuse."""
        with self._lock:
            self._collect()
            return self._kept

    def release(self) -> None:
        """Give all free memory back to the operating system, and have malloc give back what it keeps."""
        with self._lock:
            self._collect()
            self._free.clear()
            self._kept = 0
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
        if trim is not None:  # the GNU C library's
            trim(ctypes.c_size_t(0))

    def after_fork(self) -> None:
        """Start anew in a forked child: another thread may have held the lock, half way through, and is gone now."""
        self._lock = threading.Lock()
        self._free, self._kept = {}, 0

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            self._collect()
            blocks = self._free.get(size)
            if blocks:
                self._kept -= size
                block = blocks.pop()
                if not blocks:
                    del self._free[size]
                return block
        return _map(size)

    def _collect(self) -> None:
        # Leases end in __del__, at any moment and in any thread, so they only append; the sorting happens here.
        while self._returned:
            block = self._returned.popleft()
            size = len(block)
            if size > self.limit:
                continue
            while self._kept + size > self.limit:
                self._forget_one()
            # The size goes to the end of the dictionary: what was not wanted for longest is forgotten first.
            self._free[size] = [*self._free.pop(size, ()), block]
            self._kept += size

    def _forget_one(self) -> None:
        size, blocks = next(iter(self._free.items()))
        blocks.pop()
        self._kept -= size
        if not blocks:
            del self._free[size]


class _Lease(np.ndarray):
    """One use of a block: the base of every array on it, whose end returns the block to its pool."""

    _pool: Pool

    @classmethod
    def of(cls, block: mmap.mmap, pool: Pool) -> "_Lease":
        lease = cls((len(block),), _uint8, buffer=block)
        lease._pool = pool
        return lease

    def __del__(self) -> None:
        block = self.base
        if isinstance(block, mmap.mmap):  # a view of a lease has the lease as its base
            self._pool._returned.append(block)


def _size_class(size: int) -> int:
    """The size rounded up to an eighth of its leading power of two, so that near sizes share blocks."""
    step = max(mmap.PAGESIZE, 1 << (size.bit_length() - 4))
    return -(-size // step) * step


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # Private: Python's default is to share the pages with forked children, whose writes would then be seen here.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= 1 << 22 and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without huge pages: ordinary pages work as well
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
