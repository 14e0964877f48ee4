"""Watched: Python's side of a model, its loss and its optimizer, and whether it is still what it was.

Looked at are attributes, what lists, dicts and plain objects among them hold, and what functions of the user's find in
closures, defaults and globals. Numbers, strings and short arrays count by value, all else by identity. What lies deeper
than a few steps, in long containers or outside of Python, is not seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad.nn import Layer
from minigrad.ops.generator import Generator
from minigrad.optim import Optimizer
from minigrad.primitive import Primitive
from minigrad.tensor import Tensor, Variable

_DEPTH = 4  # containers in containers
_LONG = 200  # entries of a container that are looked at
_SHORT = 1 << 14  # bytes of an array whose values are looked at
_ENGINES = frozenset({"minigrad", "minigrad_norms", "numpy", "numba", "builtins"})
_ABSENT = object()


class Watched:
    """A state of Python's side.

    Args:
        parts: the things to watch, each with what to call it in a message.
        state: gives more values to compare.
    """

    def __init__(self, parts: Iterable[tuple[str, Any]], state: Callable[[], tuple]):
        self._held: list[tuple[str, Callable, tuple]] = [
            ("the run", state, state())
        ]  # how to get at values; the values
        self._known: set[int] = set()
        for name, part in parts:
            self._add(name, part, 0, root=True)

    def change(self) -> str | None:
        """What has changed, in words; None if nothing has."""
        for name, get, before in self._held:
            now = get()
            if (len(now) != len(before) or not all(map(is_, now, before))) and not _alike(now, before):
                return _which(get, now, before) + name
        return None

    def _add(self, name: str, value: Any, depth: int, root: bool = False) -> None:
        get = _getter(value, root)
        if get is None or id(value) in self._known or depth > _DEPTH:
            return
        self._known.add(id(value))
        found = get()
        self._held.append((name, get, found))
        if not isinstance(value, Variable):
            for inner in found:
                self._add(name, inner, depth + 1)


def _getter(value: Any, root: bool) -> Callable[[], tuple] | None:
    """A function that gives what a thing holds; None for what holds nothing that is looked at."""
    if isinstance(value, Variable):
        return lambda: (value.trainable, value.regularizer, value.constraint, value._data)
    if isinstance(value, np.ndarray):
        return (lambda: (value.tobytes(),)) if value.nbytes <= _SHORT else None
    if isinstance(value, (list, tuple, set, frozenset)):
        return lambda: tuple(value) if len(value) <= _LONG else (len(value),)
    if isinstance(value, dict):
        return lambda: (*value, *value.values()) if len(value) <= _LONG else (len(value),)
    if isinstance(value, np.random.Generator):
        return lambda: (repr(value.bit_generator.state),)
    if isinstance(value, np.random.RandomState):
        return lambda: (repr(value.get_state()),)
    if isinstance(value, random.Random):
        return lambda: (repr(value.getstate()),)
    if isinstance(value, MethodType):
        return lambda: (value.__self__, value.__func__)
    if isinstance(value, FunctionType):
        return None if _is_engine(value) else _of_function(value)
    if isinstance(value, Layer) and root:
        return _Attributes(value)
    if isinstance(value, (Layer, Tensor, Primitive, Generator, type, ModuleType, BuiltinFunctionType)):
        return None
    if isinstance(value, Optimizer) or (hasattr(value, "__dict__") and not _is_engine(type(value))):
        return _Attributes(value)
    return None


class _Attributes:
    """What an object has: methods that are the user's, then its attributes."""

    __slots__ = ("left_out", "methods", "names", "values")

    def __init__(self, value: Any):
        kinds = [kind for kind in type(value).__mro__ if not _is_engine(kind)]
        self.methods = tuple([f for kind in kinds for f in vars(kind).values() if isinstance(f, FunctionType)])
        self.left_out = value.worked_out if isinstance(value, Layer) else ()
        self.values = vars(value)
        self.names = [name for name in self.values if name not in self.left_out]

    def __call__(self) -> tuple:
        found = self.values
        if self.left_out:
            return self.methods, *[v for name, v in found.items() if name not in self.left_out]
        return self.methods, *found.values()


def _of_function(function: FunctionType) -> Callable[[], tuple]:
    """What a function finds: defaults, closure and globals, those of functions inside it too."""
    names = dict.fromkeys(_names(function.__code__))
    globals_, cells = function.__globals__, function.__closure__ or ()

    def get() -> tuple:
        free = [_content(cell) for cell in cells]
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        return (*free, *defaults, *[globals_.get(name, _ABSENT) for name in names])

    return get


def _names(code: Any) -> list[str]:
    inner = [name for constant in code.co_consts if hasattr(constant, "co_names") for name in _names(constant)]
    return [*code.co_names, *inner]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _ABSENT


def _is_engine(thing: Any) -> bool:
    """Whether code is not the user's, and so known not to read what may change."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in _ENGINES


def _alike(now: tuple, before: tuple) -> bool:
    return len(now) == len(before) and all(map(_alike_values, now, before))


def _alike_values(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or not isinstance(a, (int, float, complex, str, bytes, np.generic, np.dtype)):
        return False
    return repr(a) == repr(b)


def _which(get: Callable, now: tuple, before: tuple) -> str:
    """``attribute 'x' of``, where that is what differs; else ``what is seen by``."""
    if isinstance(get, _Attributes):
        for name, a, b in zip(get.names, now[1:], before[1:]):
            if not _alike_values(a, b):
                return f"attribute {name!r} of "
    return "what is seen by "
