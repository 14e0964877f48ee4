"""Gives Tensor its operators and methods, each of which is a function of `minigrad.ops`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.ops import activations, arithmetic, cast, indexing, linalg, reductions, shaping, state
from minigrad.tensor import Tensor, Variable


def _reflected(function: Callable) -> Callable:
    return lambda self, other: function(other, self)


def _shape_arguments(function: Callable) -> Callable:
    """Let a method take its shape as one tuple or as separate integers, as NumPy's do."""

    def method(self: Tensor, *shape: Any) -> Tensor:
        return function(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    method.__doc__ = function.__doc__
    return method


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes in another order, reversed by default; `minigrad.transpose` as a method."""
    if not axes or axes == (None,):
        return shaping.transpose(self)
    return shaping.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


_OPERATORS = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "pow": arithmetic.power,
    "matmul": linalg.matmul,
}
for _name, _function in _OPERATORS.items():
    setattr(Tensor, f"__{_name}__", _function)
    setattr(Tensor, f"__r{_name}__", _reflected(_function))

_METHODS: dict[str, Any] = {
    "__neg__": arithmetic.negative,
    "__abs__": arithmetic.absolute,
    "__lt__": arithmetic.less,
    "__le__": arithmetic.less_equal,
    "__gt__": arithmetic.greater,
    "__ge__": arithmetic.greater_equal,
    "__eq__": arithmetic.equal,
    "__ne__": arithmetic.not_equal,
    "__getitem__": indexing.getitem,
    "abs": arithmetic.absolute,
    "clip": arithmetic.clip,
    "sqrt": arithmetic.sqrt,
    "exp": arithmetic.exp,
    "log": arithmetic.log,
    "tanh": activations.tanh,
    "sigmoid": activations.sigmoid,
    "relu": activations.relu,
    "astype": cast.astype,
    "copy": cast.copy,
    "dot": linalg.dot,
    "sum": reductions.sum,
    "mean": reductions.mean,
    "var": reductions.var,
    "max": reductions.max,
    "min": reductions.min,
    "argmax": reductions.argmax,
    "sum_to": reductions.sum_to,
    "reshape": _shape_arguments(shaping.reshape),
    "broadcast_to": _shape_arguments(shaping.broadcast_to),
    "transpose": _transpose,
    "squeeze": shaping.squeeze,
    "repeat": shaping.repeat,
    "T": property(shaping.transpose),
    "mT": property(shaping.matrix_transpose),
}
for _name, _function in _METHODS.items():
    setattr(Tensor, _name, _function)

Variable.assign = state.assign  # type: ignore[attr-defined]
