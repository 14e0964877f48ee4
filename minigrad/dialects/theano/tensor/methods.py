"""Gives variables their operators and methods, each of which is a function of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minigrad as mg
from minigrad.dialects.theano.graph import Variable, apply
from minigrad.dialects.theano.tensor import elementwise, indexing, joining, products, reductions, shaping


def _reflected(function: Callable) -> Callable:
    return lambda self, other: function(other, self)


def _transposed(self: Variable, *axes: Any) -> Variable:
    """The dimensions in another order, reversed by default."""
    if not axes or axes == (None,):
        return shaping.transpose(self)
    return shaping.transpose(self, axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes)


def _reshaped(self: Variable, *shape: Any, ndim: int | None = None) -> Variable:
    """x with its elements in another shape, given as a tuple, a symbolic vector, or one by one."""
    if len(shape) == 2 and isinstance(shape[0], (tuple, list)) and ndim is None:
        return shaping.reshape(self, *shape)
    return shaping.reshape(self, shape[0] if len(shape) == 1 else shape, ndim)


def _copied(self: Variable, name: str | None = None) -> Variable:
    """The same values as a variable of its own."""
    result = apply("Copy", mg.copy, [self], self.type)
    result.name = name
    return result


def _evaluate(self: Variable, inputs_to_values: dict | None = None) -> Any:
    """The value, given values of the inputs that it depends on.

    Raises:
        ArgumentError: if an input is missing, or not an input.
    """
    from minigrad.dialects.theano.function import function

    given = inputs_to_values or {}
    return function(list(given), self, mode="FAST_COMPILE", on_unused_input="raise")(*given.values())


_OPERATORS = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.true_div,
    "floordiv": elementwise.int_div,
    "mod": elementwise.mod,
    "pow": elementwise.pow,
    "and": elementwise.and_,
    "or": elementwise.or_,
    "xor": elementwise.xor,
    "matmul": products.dot,
}
for _name, _function in _OPERATORS.items():
    setattr(Variable, f"__{_name}__", _function)
    setattr(Variable, f"__r{_name}__", _reflected(_function))

_METHODS: dict[str, Any] = {
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs_,
    "__invert__": elementwise.invert,
    "__lt__": elementwise.lt,
    "__le__": elementwise.le,
    "__gt__": elementwise.gt,
    "__ge__": elementwise.ge,
    "__getitem__": indexing.getitem,
    "T": property(shaping.transpose),
    "shape": property(shaping.shape),
    "size": property(lambda self: reductions.prod(shaping.shape(self))),
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "astype": elementwise.cast,
    "ceil": elementwise.ceil,
    "clip": elementwise.clip,
    "copy": _copied,
    "dimshuffle": shaping.dimshuffle,
    "dot": products.dot,
    "eval": _evaluate,
    "fill": joining.fill,
    "flatten": shaping.flatten,
    "floor": elementwise.floor,
    "max": reductions.max,
    "mean": reductions.mean,
    "min": reductions.min,
    "nonzero": indexing.nonzero,
    "norm": reductions.norm,
    "ones_like": joining.ones_like,
    "prod": reductions.prod,
    "ptp": reductions.ptp,
    "ravel": shaping.ravel,
    "repeat": shaping.repeat,
    "reshape": _reshaped,
    "round": elementwise.round,
    "squeeze": shaping.squeeze,
    "std": reductions.std,
    "sum": reductions.sum,
    "swapaxes": shaping.swapaxes,
    "take": indexing.take,
    "transpose": _transposed,
    "trunc": elementwise.trunc,
    "var": reductions.var,
    "zeros_like": joining.zeros_like,
}
for _name, _function in _METHODS.items():
    setattr(Variable, _name, _function)
