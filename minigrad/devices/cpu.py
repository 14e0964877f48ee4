"""The CPU device: `jit` and `chunked` make kernels, `empty` gives the buffers that they fill.

A kernel's work is cut into chunks, whose number depends on the problem alone and never on the threads. `chunked`
compiles the work of one chunk twice, into a serial and a parallel loop over chunks, and takes one of them by the size
of the work; both give the same bits.
"""

import hashlib
import inspect
import linecache
import os
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.devices import cache
from minigrad.devices.pool import Pool

#: What LLVM may assume of arithmetic. Never nnan or ninf: NaN in is NaN out.
FASTMATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})

#: Elements touched from which a parallel loop repays its start.
PARALLEL_WORK = 1 << 15

pool = Pool()
empty = pool.empty


class Function:
    """A Python function that is compiled when it is first called, or first used by a kernel that is."""

    def __init__(self, function: Callable, *, exact: bool = False, parallel: bool = False, inline: bool = False):
        self.python = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._flags = {"exact": exact, "parallel": parallel, "inline": inline}
        self._compiled: Callable | None = None

    def __call__(self, *args: Any) -> Any:
        return (self._compiled or self.compiled())(*args)

    def compiled(self) -> Callable:
        """The Numba dispatcher, made on first demand."""
        with _compile_lock:
            if self._compiled is None:
                self._compiled = _compile(self.python, self.stamp(), **self._flags)
        return self._compiled

    def stamp(self) -> str:
        """A hash of all the source that the machine code is made of."""
        parts = [self.__name__, repr(sorted(self._flags.items())), _source(self.python)]
        for name, value in _referenced(self.python):
            if isinstance(value, Function):
                parts.append(value.stamp())
            elif isinstance(value, (bool, int, float, str, tuple)):
                parts.append(f"{name}={value!r}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def jit(function: Callable | None = None, *, exact: bool = False, inline: bool = False) -> Any:
    """Compile a function for the CPU, lazily, with the fast-math policy of this device.

    Args:
        function: takes scalars and arrays, and allocates nothing. Helpers that it calls are `jit` functions too.
        exact: keep IEEE arithmetic as written, for code whose rounding errors are the point (compensated sums,
            argument reduction). The flags stay with the function when it is inlined into a fast one.
        inline: have it inlined however long it is: a call left in a loop keeps the loop from being vectorized.

    Example:
        >>> from minigrad.devices import cpu
        >>> @cpu.jit
        ... def twice(x):
        ...     return x + x
        >>> twice(21)
        42
    """
    if function is None:
        return lambda f: jit(f, exact=exact, inline=inline)
    return Function(function, exact=exact, inline=inline)


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

    ``work`` is the number of elements touched; it decides between the forms and nothing else.
    """

    def __init__(self, body: Callable):
        self.__name__ = body.__name__
        self.__module__ = body.__module__
        self.__doc__ = body.__doc__
        self.__wrapped__ = body
        self.body = Function(body)
        arguments = list(inspect.signature(body).parameters)[1:]
        self.serial = _driver(self.body, arguments, parallel=False)
        self.parallel = _driver(self.body, arguments, parallel=True)

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if work >= PARALLEL_WORK and chunks > 1 and may_run_parallel() and _one_parallel.acquire(blocking=False):
            try:
                self.parallel(chunks, *args)
            finally:
                _one_parallel.release()
        else:
            self.serial(chunks, *args)


def chunks_of(size: int, least: int = 1 << 13, most: int = 64) -> int:
    """How many chunks to cut `size` elements into: pieces of at least `least`, at most `most` of them."""
    return max(1, min(most, size // least))


def contiguous(a: np.ndarray) -> np.ndarray:
    """`a` itself if it is C-contiguous, else a copy that is, in memory of the pool."""
    if a.flags.c_contiguous:
        return a
    copy = empty(a.shape, a.dtype)
    np.copyto(copy, a)
    return copy


def may_run_parallel() -> bool:
    """Whether kernels may use several threads here: more than one is configured and this is no forked child."""
    if _forked:
        return False
    import numba

    return numba.get_num_threads() > 1


# One parallel region at a time: some of Numba's threading layers end the process when two Python threads enter
# one at once. Whoever comes second runs the serial form, which gives the same bits.
_one_parallel = threading.Lock()
_compile_lock = threading.RLock()
_forked = False


def _after_fork() -> None:
    # The threads of the parent's pool do not exist in the child, and entering the pool there hangs or aborts.
    global _forked, _one_parallel, _compile_lock
    _forked = True
    _one_parallel = threading.Lock()
    _compile_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _driver(body: Function, arguments: list[str], *, parallel: bool) -> Function:
    """The loop over chunks, as source text: Numba wants the arguments by name."""
    form, loop = ("parallel", "prange") if parallel else ("serial", "range")
    name = f"{body.__name__}_{form}"
    passed = ", ".join(["int64(chunk)", *arguments])  # prange counts in uint64, which would be a second signature
    head = f"def {name}({', '.join(['all_chunks', *arguments])}):\n"
    source = f"{head}    for chunk in {loop}(all_chunks):\n        body({passed})\n"
    function = from_source(name, source, {"body": body, "prange": range, "int64": np.int64})
    return Function(function, parallel=parallel)


def from_source(name: str, source: str, scope: dict[str, Any]) -> Callable:
    """The function `name` that `source` defines, with its text kept for tracebacks and for the kernel cache."""
    filename = f"<minigrad {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    namespace = {"__name__": __name__, **scope}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


def _compile(function: Callable, stamp: str, *, exact: bool, parallel: bool, inline: bool) -> Callable:
    import numba

    scope = dict(function.__globals__)
    for name, value in _referenced(function):
        if isinstance(value, Function):
            scope[name] = value.compiled()
    if parallel:
        scope["prange"] = numba.prange
    bound = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    bound.__module__ = function.__module__
    dispatcher = numba.njit(
        fastmath=False if exact else set(FASTMATH),
        parallel=parallel,
        forceinline=inline,
        nogil=True,
        error_model="numpy",
    )(bound)
    path, _ = cache.folder()
    if path is not None and not numba.config.DISABLE_JIT:
        dispatcher._cache = cache.KernelCache(function.__name__, stamp, path)
    return dispatcher


def _referenced(function: Callable) -> list[tuple[str, Any]]:
    """The module globals that the function names, by name."""
    scope = function.__globals__
    return [(name, scope[name]) for name in function.__code__.co_names if name in scope]


def _source(function: Callable) -> str:
    lines = linecache.getlines(function.__code__.co_filename)
    start = function.__code__.co_firstlineno - 1
    return "".join(inspect.getblock(lines[start:])) if lines else repr(function.__code__.co_code)
