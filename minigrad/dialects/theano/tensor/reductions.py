"""Reductions over all axes, one or several: sums, means, moments, extremes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from math import prod as _prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, axes
from minigrad.dialects.theano.graph import TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor import elementwise
from minigrad.errors import DTypeError

Axis = Any  # None, an integer, or a sequence of integers


def _reduced(name: str, run: Callable, x: Variable, axis: Axis, keepdims: bool, dtype: str, **options: Any) -> Variable:
    if isinstance(axis, Variable) or (
        isinstance(axis, (list, tuple)) and builtins.any(isinstance(a, Variable) for a in axis)
    ):
        raise DTypeError(f"{name}: the axis is symbolic, expected integers")
    if isinstance(axis, np.ndarray):
        axis = axis.tolist()
    over = axes.normalize(name, axis, x.ndim)
    flags = [b for a, b in enumerate(x.broadcastable) if keepdims or a not in over]
    if keepdims:
        flags = [True if a in over else b for a, b in enumerate(x.broadcastable)]
    keepdims = bool(keepdims)
    return apply(name, run, [x], TensorType(dtype, flags), axis=over, keepdims=keepdims, **options)


def sum(x: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, acc_dtype: Any = None) -> Variable:
    """The sum over all axes, or those of `axis`; booleans and integers are summed as int64.

    Args:
        x: any shape.
        axis: None, an integer or several.
        dtype: of the result.
        keepdims: keep the axes with length 1, broadcastable.
        acc_dtype: accepted, and ignored: the engine chooses how to add.

    Raises:
        ShapeError: if an axis is out of range.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.matrix("x")
        >>> T.sum(x, axis=0, keepdims=True).eval({x: [[1.0, 2.0], [3.0, 4.0]]})
        array([[4., 6.]])
    """
    x = _counted(as_variable(x), dtype)
    return _reduced("Sum", mg.sum, x, axis, keepdims, x.dtype)


def prod(x: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, acc_dtype: Any = None) -> Variable:
    """The product over all axes, or those of `axis`; arguments as of `sum`."""
    x = _counted(as_variable(x), dtype)
    result = _reduced("Prod", _product, x, axis, keepdims, x.dtype)
    if x.ndim == 1 and x.dtype == "int64" and not keepdims and result.owner is not None:
        result.owner.operation = result.owner.operation._replace(host=_host_product)
    return result


def mean(
    x: Any, axis: Axis = None, dtype: Any = None, op: bool = False, keepdims: bool = False, acc_dtype: Any = None
) -> Variable:
    """The mean over all axes, or those of `axis`; that of integers and booleans is float64. Arguments as of `sum`."""
    x = _float(as_variable(x), dtype)
    return _reduced("Mean", mg.mean, x, axis, keepdims, x.dtype)


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False, corrected: bool = False) -> Variable:
    """The variance, mean((x - mean(x))²), centred; divided by n - ddof. `corrected` is accepted and ignored."""
    x = _float(as_variable(x), None)
    return _reduced("Var", mg.var, x, axis, keepdims, x.dtype, ddof=ddof)


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False, corrected: bool = False) -> Variable:
    """The standard deviation, √var."""
    x = _float(as_variable(x), None)
    return _reduced("Std", mg.std, x, axis, keepdims, x.dtype, ddof=ddof)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The largest element; its gradient is shared by elements that are equal."""
    x = as_variable(x)
    return _reduced("Max", mg.max, x, axis, keepdims, x.dtype)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The smallest element."""
    x = as_variable(x)
    return _reduced("Min", mg.min, x, axis, keepdims, x.dtype)


def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """The index of the first largest element along one axis, or in the flattened x: int64."""
    return _arg("Argmax", mg.argmax, x, axis, keepdims)


def argmin(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """The index of the first smallest element."""
    return _arg("Argmin", mg.argmin, x, axis, keepdims)


def max_and_argmax(x: Any, axis: Any = None, keepdims: bool = False) -> list[Variable]:
    """The largest element and its index."""
    return [max(x, axis, keepdims), argmax(x, axis, keepdims)]


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether some element is not 0."""
    return _reduced("Any", mg.any, elementwise._truth(x), axis, keepdims, "bool")


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether no element is 0."""
    return _reduced("All", mg.all, elementwise._truth(x), axis, keepdims, "bool")


def ptp(x: Any, axis: Axis = None) -> Variable:
    """The largest element minus the smallest."""
    return max(x, axis) - min(x, axis)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Variable:
    """log Σ exp(x), without overflow."""
    x = _float(as_variable(x), None)
    return _reduced("LogSumExp", mg.logsumexp, x, axis, keepdims, x.dtype)


def norm(x: Any, ord: float, axis: Axis = None, keepdims: bool = False) -> Variable:
    """(Σ|x|^ord)^(1/ord) over the axes; the largest |x| for infinity, the number of non-zeros for 0."""
    x = as_variable(x)
    if ord == 0:
        return sum(elementwise.neq(x, 0), axis, keepdims=keepdims)
    if ord == float("inf"):
        return max(elementwise.abs_(x), axis, keepdims)
    if ord == 1:
        return sum(elementwise.abs_(x), axis, keepdims=keepdims)
    if ord == 2:
        return elementwise.sqrt(sum(elementwise.sqr(x), axis, keepdims=keepdims))
    return sum(elementwise.abs_(x) ** ord, axis, keepdims=keepdims) ** (1.0 / ord)


def _counted(x: Variable, dtype: Any) -> Variable:
    if dtype is not None:
        return elementwise.cast(x, dtype)
    kind = np.dtype(x.dtype).kind
    return elementwise.cast(x, "uint64" if kind == "u" else "int64") if kind in "biu" else x


def _float(x: Variable, dtype: Any) -> Variable:
    if dtype is not None:
        return elementwise.cast(x, dtype)
    return x if np.dtype(x.dtype).kind in "fc" else elementwise.cast(x, "float64")


def _arg(name: str, run: Callable, x: Any, axis: Any, keepdims: bool) -> Variable:
    x = as_variable(x)
    if isinstance(axis, (list, tuple)):
        if len(axis) != 1:
            raise DTypeError(f"{name}: axis is {axis!r}, expected one integer or None")
        axis = axis[0]
    over = axes.normalize(name, axis, x.ndim)
    flags = [True if a in over else b for a, b in enumerate(x.broadcastable) if keepdims or a not in over]
    axis = None if axis is None else over[0]
    return apply(name, run, [x], TensorType("int64", flags), axis=axis, keepdims=bool(keepdims))


def _product(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    shape = axes.reduced_shape(x.shape, axis, keepdims)
    kept = [a for a in range(x.ndim) if a not in axis]
    x = x.transpose((*axis, *kept)).reshape(_prod([x.shape[a] for a in axis]), *[x.shape[a] for a in kept])
    if not len(x):
        return mg.broadcast_to(mg.as_tensor(np.ones((), x.dtype)), shape)
    while len(x) > 1:
        half = len(x) // 2
        rest = [x[2 * half :]] if len(x) % 2 else []
        x = mg.concatenate([x[:half] * x[half : 2 * half], *rest])
    return x.reshape(shape)


def _host_product(x: tuple[int, ...], **params: Any) -> int:
    return _prod(x)
