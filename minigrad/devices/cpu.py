"""The CPU device: `jit` and `chunked` make kernels, `empty` gives the buffers that they fill.

A kernel's work is cut into chunks, whose number depends on the problem alone and never on the threads. `chunked`
compiles the work of one chunk twice, into a serial and a parallel loop over chunks, and takes one of them by the size
of the work; both give the same bits.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.devices import threads
from minigrad.devices.function import FASTMATH, Function, from_source, jit, offer, tracers
from minigrad.devices.pool import Pool

__all__ = [
    "FASTMATH", "PARALLEL_WORK", "Check", "Function", "Kernel", "chunked", "chunks_of", "contiguous", "empty",
    "from_source", "jit", "pool", "ranges", "tracers",
]  # fmt: skip

#: Elements touched from which a parallel loop repays its start.
PARALLEL_WORK = 1 << 16

pool = Pool()
empty = pool.empty


def chunked(body: Callable) -> "Kernel":
    """Make a kernel of ``body(chunk, *arguments)``, which does the work of one chunk.

    Chunks run in any order and at the same time, so each writes to places of its own. Loop over a slice from 0
    (``part = x[low:high]; for i in range(part.size)``): LLVM vectorizes that, and not an index with an offset.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices import cpu
        >>> @cpu.chunked
        ... def double_rows(row, out, x):
        ...     for j in range(x.shape[1]):
        ...         out[row, j] = 2 * x[row, j]
        >>> x = np.arange(6.0).reshape(2, 3)
        >>> out = np.empty_like(x)
        >>> double_rows(2, x.size, out, x)  # two chunks, six elements of work
        >>> out
        array([[ 0.,  2.,  4.],
               [ 6.,  8., 10.]])
    """
    return Kernel(body)


class Kernel:
    """A loop over chunks in two forms, ``serial`` and ``parallel``, called as ``kernel(chunks, work, *arguments)``.

    Each form is compiled when it is first needed; a few chunks need neither. ``work`` is the number of elements
    touched; it decides between the forms and nothing else.

    Attributes:
        places: a function of the number of chunks and the arguments, or None. It says of which elements, of the flat
            arrays that are as large as all chunks together, the work of a chunk reads and writes no others: a row for
            each chunk of where the first piece of them begins, a piece's length, the number of pieces, and the distance
            from one to the next. It returns None where that is not so.
        checks: whether the compiled work changes nothing, and fails where Python has to change something.
    """

    places: Callable[[int, tuple], np.ndarray | None] | None = None
    checks = False

    def __init__(self, body: Callable):
        self.__name__ = body.__name__
        self.__module__ = body.__module__
        self.__doc__ = body.__doc__
        self.__wrapped__ = body
        self.body = Function(body, called=True)
        count = len(inspect.signature(body).parameters) - 1
        self.serial = _driver(self.body, count, parallel=False)
        self.parallel = _driver(self.body, count, parallel=True)

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if tracers and offer(self, chunks, work, args):
            return
        if chunks == 1:
            self.body.entry(0, *args)  # no loop to compile, nor to enter
        elif chunks > 1 and work >= PARALLEL_WORK and threads.enter():
            try:
                failed = self.parallel.entry(chunks, threads.WORDS, *args)
            finally:
                threads.leave()
            if failed:
                self.serial(chunks, *args)  # which raises the error
        elif chunks <= _FEW:
            for chunk in range(chunks):
                self.body.entry(chunk, *args)
        else:
            self.serial(chunks, *args)


class Check(Kernel):
    """A look at what kernels found, called as they are: ``check(1, 0, *arguments)`` runs ``python(*arguments)``.

    Replays of `jit` run the compiled `body` instead, with the chunk first. It raises an error, whichever, just where
    `python` does; then `python` is called, and tells what is wrong.
    """

    checks = True

    def __init__(self, body: Callable, python: Callable):
        super().__init__(body)
        self.python = python

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if tracers and offer(self, chunks, work, args):
            return
        self.python(*args)


_FEW = 16  # chunks that are called one by one, which costs less than compiling their loop


def chunks_of(size: int, least: int = 1 << 13, most: int = 64) -> int:
    """How many chunks to cut `size` elements into: pieces of at least `least`, at most `most` of them."""
    chunks = size // least
    return 1 if chunks < 2 else min(chunks, most)


def ranges(chunks: int, length: int, unit: int = 1) -> np.ndarray:
    """The `Kernel.places` of chunks that share out so many units of elements, one chunk behind the other."""
    bounds = np.arange(chunks + 1, dtype=np.int64) * length // chunks * unit
    pieces = np.ones(chunks, np.int64)
    return np.stack([bounds[:-1], np.diff(bounds), pieces, 0 * pieces], axis=1)


def contiguous(a: np.ndarray) -> np.ndarray:
    """`a` itself if it is C-contiguous, else a copy that is, in memory of the pool."""
    if a.flags.c_contiguous:
        return a
    copy = empty(a.shape, a.dtype)
    np.copyto(copy, a)
    return copy


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)


def _driver(body: Function, count: int, *, parallel: bool) -> Function:
    """The loop over chunks for a body of so many arguments, as source text: Numba wants each of them named."""
    name, given = f"{body.__name__}_{'parallel' if parallel else 'serial'}", ", ".join(f"a{i}" for i in range(count))
    if parallel:
        source = f"def {name}(all_chunks, words, {given}):\n    work, context = task(body, {given})\n"
        source += "    return share(words, work, context, all_chunks)\n"
    else:
        source = (
            f"def {name}(all_chunks, {given}):\n    for chunk in range(all_chunks):\n        body(chunk, {given})\n"
        )
    scope = {"body": body, "task": threads.task_of(count), "share": threads.share}
    return Function(from_source(name, source, scope), called=True)
