"""Signature: what of a call's arguments a recording depends on, and the arrays that it does not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import DTypeError
from minigrad.tensor import Tensor, Variable


class Signature:
    """The arguments of a call, taken apart.

    Tensors and NumPy arrays count by shape and dtype, Variables and objects by identity, all else by value. Tuples,
    lists and dicts are looked into.

    Attributes:
        key: equal for calls that one recording serves.
        arrays: of the tensors and NumPy arrays, in order.
        requires_grad: whether gradients flow to one of the tensors.
    """

    __slots__ = ("_args", "_kwargs", "_parts", "arrays", "key", "requires_grad")

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self._args, self._kwargs = args, kwargs
        self.arrays: list[np.ndarray] = []
        self.requires_grad = False
        self._parts: list = []
        for value in args:
            self._add(value)
        if kwargs:
            self._parts.append("keywords")
            for name in sorted(kwargs):
                self._parts.append(name)
                self._add(kwargs[name])
        self.key = tuple(self._parts)

    def _add(self, value: Any) -> None:
        parts, kind = self._parts, value.__class__
        if kind is Tensor:
            a = value._data
            self.arrays.append(a)
            parts += (a.shape, a.dtype)
            if a.__class__ is not np.ndarray:
                parts.append(a.device)
            self.requires_grad = self.requires_grad or value._node is not None
        elif kind is np.ndarray:
            if dtypes.kind(value.dtype) not in "biufc":
                raise DTypeError(f"jit: an argument is an array of {value.dtype}, expected numbers or booleans")
            self.arrays.append(value)
            parts += (value.shape, value.dtype.newbyteorder("="))
        elif kind in _BY_VALUE:
            parts += (kind, repr(value) if kind in _FLOATS else value)
        elif isinstance(value, Variable):
            parts.append(_Same(value))
        elif isinstance(value, (tuple, list)):
            parts += (kind, len(value))
            for inner in value:
                self._add(inner)
        elif isinstance(value, dict):
            parts += (kind, len(value))
            for name, inner in value.items():
                parts.append(_hashable(name))
                self._add(inner)
        elif isinstance(value, np.generic):
            parts += (kind, repr(value))
        else:
            parts.append(_hashable(value))

    def with_copies(self) -> tuple[tuple[tuple, dict[str, Any]], list[Tensor]]:
        """The arguments with each tensor, and each NumPy array, as a tensor in memory of its own; and those tensors."""
        inputs: list[Tensor] = []

        def copied(value: Any) -> Any:
            if value.__class__ is Tensor or value.__class__ is np.ndarray:
                a = value._data if value.__class__ is Tensor else value
                on_cpu = a.__class__ is np.ndarray
                copy = np.array(a, a.dtype.newbyteorder("="), order="C", subok=False) if on_cpu else a.copy()
                inputs.append(Tensor(copy))
                return inputs[-1]
            if isinstance(value, (tuple, list)):
                inner = [copied(v) for v in value]
                return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
            if isinstance(value, dict):
                return {name: copied(v) for name, v in value.items()}
            return value

        args = tuple([copied(v) for v in self._args])
        kwargs = {name: copied(self._kwargs[name]) for name in sorted(self._kwargs)}
        return (args, kwargs), inputs

    def difference(self, other: Signature) -> str:
        """In words, the first thing in which this signature differs from another one."""
        mine = _described(self._args, self._kwargs)
        others = _described(other._args, other._kwargs)
        for name, text in mine.items():
            if others.get(name) != text:
                return f"{name} is {text}, was {others.get(name, 'absent')}"
        missing = [name for name in others if name not in mine]
        return f"{missing[0]} is gone" if missing else "a gradient is there that was not, or an object is another one"


_BY_VALUE = frozenset({int, float, complex, bool, str, bytes, type(None), type(Ellipsis)})
_FLOATS = frozenset({float, complex})  # NaN does not equal itself, and −0.0 equals 0.0


class _Same:
    """An object by its identity. Holds it, so that no other takes the identity over."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _hashable(value: Any) -> Hashable:
    """The object itself if it compares by value, else its identity."""
    kind = type(value)
    if kind.__eq__ is object.__eq__ or isinstance(value, Tensor):
        return _Same(value)
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return (kind, value)


def _described(args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, str]:
    """Each argument in words, those inside structures apart."""
    found: dict[str, str] = {}

    def visit(name: str, value: Any) -> None:
        if value.__class__ is Tensor or value.__class__ is np.ndarray:
            device = f" on {value.device}" if value.__class__ is Tensor and value.device != "cpu" else ""
            found[name] = f"{value.dtype}{value.shape}{device}"
        elif isinstance(value, (tuple, list)):
            for i, inner in enumerate(value):
                visit(f"{name}[{i}]", inner)
        elif isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{name}[{key!r}]", inner)
        else:
            text = repr(value)
            found[name] = text if len(text) <= 60 else text[:57] + "..."

    for i, value in enumerate(args):
        visit(f"argument {i}", value)
    for name, value in kwargs.items():
        visit(name, value)
    return found
