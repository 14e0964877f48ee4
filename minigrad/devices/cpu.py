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
PARALLEL_WORK = 1 << 17

pool = Pool()
empty = pool.empty
tracers: list[Callable] = []  # called as tracer(kernel, chunks, work, args) before one runs; true if it shall not


class Function:
    """A Python function that is compiled when it is first called, or first used by a kernel that is.

    ``entry`` is what calls from Python go to. Functions that only kernels use are compiled without it, in half the
    time; such a function gets an entry of its own when Python calls it after all.
    """

    def __init__(
        self,
        function: Callable,
        *,
        exact: bool = False,
        parallel: bool = False,
        inline: bool = False,
        called: bool = False,
    ):
        self.python = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.entry: Callable = self._enter
        self._flags = {"exact": exact, "parallel": parallel, "inline": inline}
        self._called = called  # from Python, as is known beforehand
        self._compiled: Callable | None = None

    def __call__(self, *args: Any) -> Any:
        if tracers:
            _offer(self, 1, 0, args)
        return self.entry(*args)

    def compiled(self) -> Callable:
        """The Numba dispatcher for use in kernels, made on first demand."""
        with _compile_lock:
            if self._compiled is None:
                self._compiled = _compile(self, self._called)
        return self._compiled

    def _enter(self, *args: Any) -> Any:
        with _compile_lock:
            if self.entry == self._enter:
                if self._compiled is None:
                    self._called = True
                self.entry = self.compiled() if self._called else _compile(self, True)
        return self.entry(*args)

    def stamp(self) -> str | None:
        """A hash of all that the machine code is made of; None if something in it can't be told apart reliably."""
        parts = [self.__name__, repr(sorted(self._flags.items())), _text_of(self.python.__code__)]
        parts.append(repr((self.python.__defaults__, self.python.__kwdefaults__)))
        for name, value in _referenced(self.python):
            text = value.stamp() if isinstance(value, Function) else _text_of_value(value)
            if text is None:
                return None
            parts.append(f"{name}={text}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def jit(function: Callable | None = None, *, exact: bool = False, inline: bool = False) -> Any:
    """Compile a function for the CPU, lazily, with the fast-math policy of this device.

    Args:
        function: takes scalars and arrays, and allocates nothing: it would not compile. Helpers that it calls are
            `jit` functions too.
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

    Each form is compiled when it is first needed; a few chunks need neither. ``work`` is the number of elements
    touched; it decides between the forms and nothing else.
    """

    def __init__(self, body: Callable):
        self.__name__ = body.__name__
        self.__module__ = body.__module__
        self.__doc__ = body.__doc__
        self.__wrapped__ = body
        self.body = Function(body, called=True)
        arguments = list(inspect.signature(body).parameters)[1:]
        self.serial = _driver(self.body, arguments, parallel=False)
        self.parallel = _driver(self.body, arguments, parallel=True)

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if tracers and _offer(self, chunks, work, args):
            return
        if chunks == 1:
            self.body.entry(0, *args)  # no loop to compile, nor to enter
        elif chunks > 1 and work >= PARALLEL_WORK and enter_parallel():
            try:
                self.parallel(chunks, *args)
            finally:
                leave_parallel()
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

    def __init__(self, body: Callable, python: Callable):
        super().__init__(body)
        self.python = python

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if tracers and _offer(self, chunks, work, args):
            return
        self.python(*args)


_FEW = 16  # chunks that are called one by one, which costs less than compiling their loop


def chunks_of(size: int, least: int = 1 << 13, most: int = 64) -> int:
    """How many chunks to cut `size` elements into: pieces of at least `least`, at most `most` of them."""
    chunks = size // least
    return 1 if chunks < 2 else min(chunks, most)


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


def enter_parallel() -> bool:
    """Whether this thread may run parallel forms now, until it calls `leave_parallel`.

    One thread at a time: some of Numba's threading layers end the process when two Python threads enter a parallel
    region at once. Whoever comes second runs serial forms, which give the same bits.
    """
    return may_run_parallel() and _one_parallel.acquire(blocking=False)


def leave_parallel() -> None:
    """Let other threads run parallel forms."""
    _one_parallel.release()


def _offer(kernel: Any, chunks: int, work: int, args: tuple) -> bool:
    """Whether one of the tracers takes this call."""
    return any(tracer(kernel, chunks, work, args) for tracer in tuple(tracers))


_one_parallel = threading.Lock()
_compile_lock = threading.RLock()
_forked = False


def _after_fork() -> None:
    # The threads of the parent's pool do not exist in the child, and entering the pool there hangs or aborts.
    global _forked, _one_parallel, _compile_lock
    _forked = True
    pool.after_fork()
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
    return Function(function, parallel=parallel, called=True)


def from_source(name: str, source: str, scope: dict[str, Any]) -> Callable:
    """The function `name` that `source` defines, with its text kept for tracebacks and for the kernel cache."""
    filename = f"<minigrad {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    namespace = {"__name__": __name__, **scope}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


def _compile(function: Function, called: bool) -> Callable:
    import numba

    from minigrad.devices.library import Pipeline

    python, flags = function.python, function._flags
    scope = dict(python.__globals__)
    for name, value in _referenced(python):
        if isinstance(value, Function) and name in scope:
            scope[name] = value.compiled()
    if flags["parallel"]:
        scope["prange"] = numba.prange
    cells = [_cell(cell.cell_contents) for cell in python.__closure__ or ()]
    bound = types.FunctionType(python.__code__, scope, python.__name__, python.__defaults__, tuple(cells))
    bound.__kwdefaults__ = python.__kwdefaults__
    bound.__module__ = python.__module__
    options: dict[str, Any] = {
        "fastmath": False if flags["exact"] else set(FASTMATH),
        "parallel": flags["parallel"],
        "forceinline": flags["inline"],
        "nogil": True,
        "error_model": "numpy",
        "no_cpython_wrapper": not called,
        "no_cfunc_wrapper": True,
        "_nrt": flags["parallel"],  # no reference counting: a kernel that allocates does not compile
        "pipeline_class": Pipeline,
    }
    text = repr([(name, sorted(value) if isinstance(value, set) else value) for name, value in options.items()])
    dispatcher: Any = numba.njit(**options)(bound)
    path, _ = cache.folder()
    if path is not None and not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        stamp = function.stamp()
        if stamp is not None:
            dispatcher._cache = cache.KernelCache(python.__name__, f"{stamp} {text}", path)
    return dispatcher


def _cell(value: Any) -> types.CellType:
    return types.CellType(value.compiled() if isinstance(value, Function) else value)


def _referenced(function: Callable) -> list[tuple[str, Any]]:
    """What the function names outside itself: globals, enclosing functions' variables, constants of modules."""
    code, scope = function.__code__, function.__globals__
    names = _names(code)
    found = [(name, scope[name]) for name in names if name in scope]
    found += [(name, cell.cell_contents) for name, cell in zip(code.co_freevars, function.__closure__ or ())]
    for name, value in tuple(found):
        if isinstance(value, types.ModuleType):
            members = vars(value)
            found += [
                (f"{name}.{member}", members[member])
                for member in names
                if member in members and isinstance(members[member], (Function, *_CONSTANTS))
            ]
    return found


def _names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names


def _text_of(code: types.CodeType) -> str:
    """The code itself and not its source: that may have been edited since it was imported."""
    parts = [code.co_code.hex(), repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))]
    parts.append(repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags)))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            parts.append(_text_of(constant))
        elif isinstance(constant, frozenset):
            parts.append(repr(sorted(map(repr, constant))))
        else:
            parts.append(repr(constant))
    return "\n".join(parts)


_CONSTANTS = (bool, int, float, complex, str, bytes, tuple, types.NoneType, np.generic, np.dtype, np.ndarray)


def _text_of_value(value: Any) -> str | None:
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else f"{value.dtype} {value.shape} {value.strides} {value.tobytes().hex()}"
    if isinstance(value, tuple):
        texts = [_text_of_value(v) for v in value]
        return None if None in texts else repr(texts)
    if isinstance(value, _CONSTANTS):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, types.ModuleType):
        return value.__name__
    home = "numpy" if isinstance(value, np.ufunc) else (getattr(value, "__module__", None) or "").partition(".")[0]
    return f"{home}.{value.__name__}" if home in ("builtins", "math", "numpy", "numba", "operator") else None
