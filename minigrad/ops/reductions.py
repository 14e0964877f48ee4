"""Reductions: sums, moments and extremes over axes, named and argued as NumPy names and argues them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minigrad import axes as axes_of
from minigrad import dtypes
from minigrad.errors import ArgumentTypeError
from minigrad.ops import arithmetic, cast
from minigrad.ops.reductions_extremes import all_p, any_p, argmax_p, argmin_p, max_p, min_p
from minigrad.ops.reductions_sums import mean_p, sum_p, sum_to_p, var_p
from minigrad.tensor import Tensor, as_tensor

Axis = int | tuple[int, ...] | None


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over axes; 0 over none. float32 is carried in float64, small integers in 64 bits.

    Args:
        x: any shape.
        axis: an axis, several, or None for all.
        keepdims: leave the reduced axes in place with length 1.

    Raises:
        ShapeError: if an axis is out of range.
        ArgumentError: if one stands twice.

    Example:
        >>> import minigrad as mg
        >>> mg.sum(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([4., 6.], dtype=float32)
    """
    x = as_tensor(x)
    return sum_p(x, axes=_axes("sum", axis, x._data.ndim), keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over axes, Σx/n; NaN over no elements. Integers are averaged as float64.

    Arguments and errors are those of `sum`.

    Example:
        >>> import minigrad as mg
        >>> mg.mean(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
        tensor([1.5, 3.5], dtype=float32)
    """
    x = _floating(x)
    return mean_p(x, axes=_axes("mean", axis, x._data.ndim), keepdims=keepdims)


def var(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The variance over axes, Σ(x − mean)²/(n − ddof), centred: the mean is found first and subtracted.

    As in NumPy, NaN or infinite where n ≤ ddof. Arguments and errors are those of `sum`.

    Example:
        >>> import minigrad as mg
        >>> mg.var(mg.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(1.25, dtype=float32)
        >>> mg.var(mg.tensor([1.0, 2.0, 3.0]), ddof=1)
        tensor(1., dtype=float32)
    """
    x = _floating(x)
    return var_p(x, axes=_axes("var", axis, x._data.ndim), keepdims=keepdims, ddof=ddof)


def std(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation, √var. Where it is 0 its gradient does not exist, and is NaN.

    Example:
        >>> import minigrad as mg
        >>> mg.std(mg.tensor([1.0, 5.0]))
        tensor(2., dtype=float32)
    """
    return arithmetic.sqrt(var(x, axis, ddof, keepdims))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over axes; NaN if there is one. Elements that tie for it share its gradient evenly.

    Arguments and errors are those of `sum`, and:

    Raises:
        ArgumentError: if there are no elements to take it of.

    Example:
        >>> import minigrad as mg
        >>> mg.max(mg.tensor([[1.0, 5.0], [3.0, 4.0]]), axis=0)
        tensor([3., 5.], dtype=float32)
        >>> mg.grad(mg.max)(mg.tensor([2.0, 1.0, 2.0]))
        tensor([0.5, 0. , 0.5], dtype=float32)
    """
    x = as_tensor(x)
    return max_p(x, axes=_axes("max", axis, x._data.ndim), keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over axes, in all else as `max`."""
    x = as_tensor(x)
    return min_p(x, axes=_axes("min", axis, x._data.ndim), keepdims=keepdims)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest element is: the first of several, the first NaN if there is one. int64.

    Args:
        axis: one axis, or None for the place in the flattened array.

    Raises:
        ShapeError: if the axis is out of range.
        ArgumentTypeError: for several axes.
        ArgumentError: if there are no elements to choose from.

    Example:
        >>> import minigrad as mg
        >>> mg.argmax(mg.tensor([[1.0, 5.0], [3.0, 3.0]]), axis=1)
        tensor([1, 0], dtype=int64)
    """
    x = as_tensor(x)
    return argmax_p(x, axis=_one_axis("argmax", axis, x.ndim), keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest element is, in all else as `argmax`."""
    x = as_tensor(x)
    return argmin_p(x, axis=_one_axis("argmin", axis, x.ndim), keepdims=keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over axes is true or not 0; false over none."""
    x = as_tensor(x)
    return any_p(x, axes=_axes("any", axis, x.ndim), keepdims=keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over axes are true or not 0; true over none."""
    x = as_tensor(x)
    return all_p(x, axes=_axes("all", axis, x.ndim), keepdims=keepdims)


def sum_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """The sum over the axes that broadcasting from `shape` to x's shape added or stretched: broadcasting's transpose.

    x itself if it has that shape.

    Raises:
        ShapeError: if `shape` does not broadcast to x's shape.

    Example:
        >>> import minigrad as mg
        >>> mg.sum_to(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), (2, 1))
        tensor([[3.],
                [7.]], dtype=float32)
    """
    x = as_tensor(x)
    return x if x._data.shape == shape else sum_to_p(x, shape=tuple(shape))


# Arguments


def _floating(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if dtypes.kind(x._data.dtype) == "f" else cast.astype(x, dtypes.floating(x._data.dtype))


def _axes(operation: str, axis: Any, ndim: int) -> tuple[int, ...]:
    if axis.__class__ is int or axis is None:
        return _cached_axes(operation, axis, ndim)
    return axes_of.normalize(operation, axis, ndim)


_cached_axes = lru_cache(maxsize=1024)(axes_of.normalize)


def _one_axis(operation: str, axis: Any, ndim: int) -> int | None:
    if axis is None:
        return None
    if isinstance(axis, (tuple, list)):
        raise ArgumentTypeError(f"{operation}: axis is {axis!r}, expected one integer or None")
    return axes_of.normalize(operation, axis, ndim)[0]
