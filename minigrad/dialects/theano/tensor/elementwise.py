"""Functions of each element by itself, with broadcasting: arithmetic, comparisons, elementary functions."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Sequence
from math import log as _log
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.config import config
from minigrad.dialects.theano.graph import Constant, TensorType, Variable, apply, as_variable
from minigrad.errors import DTypeError, ShapeError

_SMALL = ("bool", "int8", "int16", "uint8", "uint16")


def broadcast(operation: str, variables: Sequence[Variable]) -> tuple[bool, ...]:
    """Which dimensions of the result of an elementwise operation have length 1."""
    ndim = builtins.max([v.ndim for v in variables])
    padded = [(True,) * (ndim - v.ndim) + v.broadcastable for v in variables]
    return tuple(builtins.all(flags) for flags in zip(*padded))


def floating(dtype: str) -> str:
    """The dtype of `exp` on values of this dtype: float32 for small integers, float64 for others."""
    kind = np.dtype(dtype).kind
    return dtype if kind in "fc" else "float32" if dtype in _SMALL else "float64"


def cast(x: Any, dtype: Any) -> Variable:
    """x in another dtype; ``'floatX'`` names that of config.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.cast(T.ivector(), "float32").dtype
        'float32'
    """
    x, dtype = as_variable(x), graph.dtype_name(dtype)
    if x.dtype == dtype:
        return x
    if isinstance(x, Constant):
        return Constant(x.data.astype(dtype))
    if np.dtype(x.dtype).kind == "c" and np.dtype(dtype).kind != "c":
        raise DTypeError("cast: complex numbers can't be cast to real ones; use T.real")
    whole = x.ndim == 0 and np.dtype(dtype).kind in "iu" and np.dtype(x.dtype).kind in "iu"
    type = TensorType(dtype, x.broadcastable)
    return apply("Cast", _cast, [x], type, host=_same if whole else None, dtype=dtype)


def _cast(x: Tensor, dtype: str) -> Tensor:
    return x.astype(dtype)


def _same(x: int, **params: Any) -> int:
    return x


def elementwise(
    name: str,
    run: Callable,
    values: Sequence[Any],
    *,
    floats: bool = False,
    result: str | None = None,
    host: Any = None,
) -> Variable:
    """An elementwise operation on variables that meet in one dtype."""
    variables = [as_variable(v) for v in values]
    dtype = graph.upcast(*[v.dtype for v in variables])
    if floats:
        dtype = floating(dtype)
    elif dtype == "bool" and result is None:
        dtype = "int8"
    # What is not of that dtype is cast here, where it is known, rather than at each call.
    variables = [v if v.dtype == dtype else cast(v, dtype) for v in variables]
    whole = host if np.dtype(dtype).kind in "iu" and not builtins.any(v.ndim for v in variables) else None
    return apply(name, run, variables, TensorType(result or dtype, broadcast(name, variables)), host=whole)


# Arithmetic


def add(*terms: Any) -> Variable:
    """The sum of all arguments."""
    return _fold("Add", mg.add, terms, operator.add)


def mul(*factors: Any) -> Variable:
    """The product of all arguments."""
    return _fold("Mul", mg.multiply, factors, operator.mul)


def _fold(name: str, run: Callable, values: Sequence[Any], host: Callable) -> Variable:
    if not values:
        raise ShapeError(f"{name}: got no arguments, expected at least one")
    result = as_variable(values[0])
    for value in values[1:]:
        result = elementwise(name, run, [result, value], host=host)
    return result


def sub(x: Any, y: Any) -> Variable:
    """``x - y``."""
    return elementwise("Sub", mg.subtract, [x, y], host=operator.sub)


def true_div(x: Any, y: Any) -> Variable:
    """``x / y``; integers become floatX first."""
    x, y = as_variable(x), as_variable(y)
    if np.dtype(x.dtype).kind in "biu" and np.dtype(y.dtype).kind in "biu":
        x, y = cast(x, config.floatX), cast(y, config.floatX)
    return elementwise("TrueDiv", mg.divide, [x, y], floats=True)


def int_div(x: Any, y: Any) -> Variable:
    """``x // y``: the quotient, rounded down. Its derivative is 0."""
    return elementwise("IntDiv", _int_div, [x, y], host=operator.floordiv)


def mod(x: Any, y: Any) -> Variable:
    """``x % y``, with the sign of y: ``x - x // y * y``."""
    return elementwise("Mod", _mod, [x, y], host=operator.mod)


def _int_div(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind == "f":
        return mg.floor(x / y)
    return mg.floor(x.astype("float64") / y.astype("float64")).astype(x.dtype)


def _mod(x: Tensor, y: Tensor) -> Tensor:
    return x - _int_div(x, y) * y


def pow(x: Any, y: Any) -> Variable:
    """``x ** y``; an integer to a negative power needs a float."""
    x, y = as_variable(x), as_variable(y)
    if isinstance(y, Constant) and not y.ndim and x.dtype[0] == "f" and graph.upcast(x.dtype, y.dtype) == x.dtype:
        return apply("Pow", _power, [x], x.type, exponent=y.data.item())  # squares and roots have kernels of their own
    return elementwise("Pow", mg.power, [x, y], host=_integer_power)


def _power(x: Tensor, exponent: float) -> Tensor:
    return mg.power(x, exponent)


def _integer_power(x: int, y: int) -> int:
    if y < 0:
        raise ShapeError(f"Pow: {x} ** {y} is no integer; cast to a float first")
    return x**y


def neg(x: Any) -> Variable:
    """``-x``."""
    return elementwise("Neg", mg.negative, [x], host=operator.neg)


def abs_(x: Any) -> Variable:
    """The absolute value."""
    return elementwise("Abs", mg.absolute, [x], host=operator.abs)


def sgn(x: Any) -> Variable:
    """The sign: -1, 0 or 1. Its derivative is 0."""
    return elementwise("Sgn", mg.sign, [x])


def sqr(x: Any) -> Variable:
    """x²."""
    return elementwise("Sqr", mg.square, [x])


def inv(x: Any) -> Variable:
    """1/x."""
    return true_div(1, x)


def maximum(x: Any, y: Any) -> Variable:
    """The larger of two, element by element."""
    return elementwise("Maximum", mg.maximum, [x, y], host=builtins.max)


def minimum(x: Any, y: Any) -> Variable:
    """The smaller of two, element by element."""
    return elementwise("Minimum", mg.minimum, [x, y], host=builtins.min)


def clip(x: Any, min: Any, max: Any) -> Variable:
    """x, but not below `min` nor above `max`."""
    x = as_variable(x)
    return elementwise("Clip", mg.clip, [x, _weak(min, x), _weak(max, x)])


def _weak(bound: Any, x: Variable) -> Variable:
    """A bound, in x's dtype if it is a Python number."""
    if isinstance(bound, (int, float)) and np.dtype(x.dtype).kind == "f":
        return Constant(np.array(bound, x.dtype))
    return as_variable(bound)


# Rounding


def floor(x: Any) -> Variable:
    """The largest integer not above x, in x's dtype."""
    return elementwise("Floor", mg.floor, [x], floats=True)


def ceil(x: Any) -> Variable:
    """The smallest integer not below x, in x's dtype."""
    return neg(floor(neg(x)))


def trunc(x: Any) -> Variable:
    """x without its fraction."""
    return mul(sgn(x), floor(abs_(x)))


def round(x: Any, mode: str = "half_to_even") -> Variable:
    """The nearest integer, in x's dtype; a half goes to the even one, or with ``half_away_from_zero`` outwards."""
    if mode == "half_away_from_zero":
        return mul(sgn(x), floor(abs_(x) + 0.5))
    if mode != "half_to_even":
        raise DTypeError(f"round: mode is {mode!r}, expected 'half_to_even' or 'half_away_from_zero'")
    x = as_variable(x)
    up = floor(x + 0.5)
    odd = neq(up - 2 * floor(up / 2), 0)
    return switch(and_(eq(up - x, 0.5), odd), up - 1, up)


# Elementary functions


def _unary(name: str, run: Callable, doc: str) -> Callable[[Any], Variable]:
    def function(x: Any) -> Variable:
        return elementwise(name.capitalize(), run, [x], floats=True)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _scaled_log(base: float) -> Callable[[Tensor], Tensor]:
    return lambda x: mg.log(x) * (1 / _log(base))


exp = _unary("exp", mg.exp, "e to the power x.")
exp2 = _unary("exp2", lambda x: mg.exp(x * _log(2)), "2 to the power x.")
expm1 = _unary("expm1", mg.expm1, "exp(x) - 1, right to the last digits near 0.")
log = _unary("log", mg.log, "The natural logarithm. log(softmax(x)) and log(sigmoid(x)) are computed as one.")
log1p = _unary("log1p", mg.log1p, "log(1 + x), right to the last digits near 0.")
log2 = _unary("log2", _scaled_log(2), "The logarithm to base 2.")
log10 = _unary("log10", _scaled_log(10), "The logarithm to base 10.")
sqrt = _unary("sqrt", mg.sqrt, "The square root.")
sin = _unary("sin", mg.sin, "The sine of x in radians.")
cos = _unary("cos", mg.cos, "The cosine of x in radians.")
tan = _unary("tan", lambda x: mg.sin(x) / mg.cos(x), "The tangent of x in radians.")
sinh = _unary("sinh", lambda x: 0.5 * (mg.expm1(x) - mg.expm1(-x)), "The hyperbolic sine.")
cosh = _unary("cosh", lambda x: 0.5 * (mg.exp(x) + mg.exp(-x)), "The hyperbolic cosine.")
tanh = _unary("tanh", mg.tanh, "The hyperbolic tangent.")
erf = _unary("erf", mg.erf, "The error function.")
erfc = _unary("erfc", mg.erfc, "1 - erf(x).")
sigmoid = _unary("sigmoid", mg.sigmoid, "The logistic function 1 / (1 + exp(-x)).")
softplus = _unary("softplus", mg.softplus, "log(1 + exp(x)), without overflow.")
reciprocal = inv


# Comparisons and choices


def _comparison(name: str, run: Callable, doc: str) -> Callable[[Any, Any], Variable]:
    def function(x: Any, y: Any) -> Variable:
        return elementwise(name.upper(), run, [x, y], result="bool")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


eq = _comparison("eq", mg.equal, "``x == y`` element by element: booleans. (The operator == compares identities.)")
neq = _comparison("neq", mg.not_equal, "``x != y`` element by element: booleans.")
lt = _comparison("lt", mg.less, "``x < y``: booleans.")
le = _comparison("le", mg.less_equal, "``x <= y``: booleans.")
gt = _comparison("gt", mg.greater, "``x > y``: booleans.")
ge = _comparison("ge", mg.greater_equal, "``x >= y``: booleans.")


def isnan(x: Any) -> Variable:
    """Where x is no number."""
    return neq(x, x)


def isinf(x: Any) -> Variable:
    """Where x is infinite."""
    return eq(abs_(x), float("inf"))


def _truth(x: Any) -> Variable:
    x = as_variable(x)
    return x if x.dtype == "bool" else neq(x, 0)


def and_(x: Any, y: Any) -> Variable:
    """Whether both are true."""
    return elementwise("AND", mg.minimum, [_truth(x), _truth(y)], result="bool")


def or_(x: Any, y: Any) -> Variable:
    """Whether one of two is true."""
    return elementwise("OR", mg.maximum, [_truth(x), _truth(y)], result="bool")


def xor(x: Any, y: Any) -> Variable:
    """Whether just one of two is true."""
    return neq(_truth(x), _truth(y))


def invert(x: Any) -> Variable:
    """Whether x is false."""
    return eq(_truth(x), np.bool_(False))


def switch(condition: Any, if_true: Any, if_false: Any) -> Variable:
    """Elements of `if_true` where the condition is not 0, of `if_false` elsewhere; both are computed.

    No gradient reaches what was not chosen.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.vector("x")
        >>> T.switch(x > 1, x, 0).eval({x: [0.5, 2.0]})
        array([0., 2.])
    """
    condition, x, y = _truth(condition), as_variable(if_true), as_variable(if_false)
    dtype = graph.upcast(x.dtype, y.dtype)
    x, y = cast(x, dtype), cast(y, dtype)
    type = TensorType(dtype, broadcast("Switch", [condition, x, y]))
    return apply("Switch", mg.where, [condition, x, y], type)


where = switch
