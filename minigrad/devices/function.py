"""Compiled functions: `jit` makes them, with one policy for arithmetic and one cache of machine code on disk."""

import hashlib
import linecache
import os
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.devices import cache

#: What LLVM may assume of arithmetic. Never nnan or ninf: NaN in is NaN out.
FASTMATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})

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
        inline: bool = False,
        called: bool = False,
    ):
        self.python = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.entry: Callable = self._enter
        self._flags = {"exact": exact, "inline": inline}
        self._called = called  # from Python, as is known beforehand
        self._compiled: Callable | None = None

    def __call__(self, *args: Any) -> Any:
        if tracers:
            offer(self, 1, 0, args)
        return self.entry(*args)

    def compiled(self) -> Callable:
        """The Numba dispatcher for use in kernels, made on first demand."""
        with _compile_lock:
            if self._compiled is None:
                self._compiled = _compile(self, self._called)
        return self._compiled

    def overload(self, args: tuple) -> Any:
        """Numba's record of the machine code for arguments of the types of these, compiled if need be."""
        from numba import typeof

        dispatcher: Any = self.compiled()
        signature = tuple([typeof(a) for a in args])
        if signature not in dispatcher.overloads:
            dispatcher.compile(signature)
        return dispatcher.overloads[signature]

    def entry_for(self, args: tuple) -> Callable:
        """What calls go to whose arguments are known to have the types of these: it does not look at them again."""
        return self.overload(args).entry_point if hasattr(self.compiled(), "overloads") else self.entry

    def _enter(self, *args: Any) -> Any:
        with _compile_lock:
            if self.entry == self._enter:
                if self._compiled is None:
                    self._called = True
                self.entry = self.compiled() if self._called else _compile(self, True)
        return self.entry(*args)

    def stamp(self) -> str | None:
        """A hash of all that the machine code is made of; None if something in it can't be told apart reliably."""
        parts = [self.__name__, repr(sorted(self._flags.items())), text_of(self.python.__code__)]
        parts.append(repr((self.python.__defaults__, self.python.__kwdefaults__)))
        for name, value in _referenced(self.python):
            text = value.stamp() if isinstance(value, Function) else text_of_value(value)
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


def offer(kernel: Any, chunks: int, work: int, args: tuple) -> bool:
    """Whether one of the tracers takes this call."""
    return any(tracer(kernel, chunks, work, args) for tracer in tuple(tracers))


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
    cells = [_cell(cell.cell_contents) for cell in python.__closure__ or ()]
    bound = types.FunctionType(python.__code__, scope, python.__name__, python.__defaults__, tuple(cells))
    bound.__kwdefaults__ = python.__kwdefaults__
    bound.__module__ = python.__module__
    options: dict[str, Any] = {
        "fastmath": False if flags["exact"] else set(FASTMATH),
        "forceinline": flags["inline"],
        "nogil": True,
        "error_model": "numpy",
        "no_cpython_wrapper": not called,
        "no_cfunc_wrapper": True,
        "_nrt": False,  # no reference counting: a kernel that allocates does not compile
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


def text_of(code: types.CodeType) -> str:
    """The code itself and not its source: that may have been edited since it was imported."""
    parts = [code.co_code.hex(), repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))]
    parts.append(repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags)))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            parts.append(text_of(constant))
        elif isinstance(constant, frozenset):
            parts.append(repr(sorted(map(repr, constant))))
        else:
            parts.append(repr(constant))
    return "\n".join(parts)


_CONSTANTS = (bool, int, float, complex, str, bytes, tuple, types.NoneType, np.generic, np.dtype, np.ndarray)


def text_of_value(value: Any) -> str | None:
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else f"{value.dtype} {value.shape} {value.strides} {value.tobytes().hex()}"
    if isinstance(value, tuple):
        texts = [text_of_value(v) for v in value]
        return None if None in texts else repr(texts)
    if isinstance(value, _CONSTANTS):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, types.ModuleType):
        return value.__name__
    home = "numpy" if isinstance(value, np.ufunc) else (getattr(value, "__module__", None) or "").partition(".")[0]
    return f"{home}.{value.__name__}" if home in ("builtins", "math", "numpy", "numba", "operator") else None


_compile_lock = threading.RLock()


def _after_fork() -> None:
    global _compile_lock
    _compile_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
