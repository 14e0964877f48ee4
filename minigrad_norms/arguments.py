"""What all functions here do with their arguments first: tensors of one floating dtype, ε, axes, shapes. Kept cheap."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def floating(x: Any) -> Tensor:
    """x as a tensor of real or complex floats; integers and booleans become float64."""
    if not isinstance(x, Tensor):
        x = mg.as_tensor(x)
    return x if mg.dtypes.kind(x.dtype) in "fc" else x.astype(mg.dtypes.floating(x.dtype))


def widened(x: Tensor) -> tuple[Tensor, Any]:
    """x, in float32 if it is of a half type, and that type, which results return to, or None."""
    return (x.astype("float32"), x.dtype) if x.dtype.itemsize == 2 else (x, None)


def parameter(operation: str, name: str, value: Any, x: Tensor, shape: tuple[int, ...], why: str) -> Tensor | None:
    """γ or β as a tensor of x's dtype, or of float32 for half types, or None.

    Raises:
        ShapeError: if its shape is not `shape`; `why` says where that comes from.
    """
    if value is None:
        return None
    value = cast(value, mg.dtypes.arithmetic(x.dtype))
    if value.shape != shape:
        raise ShapeError(
            f"{operation}: {name} has shape {value.shape}, expected {shape} {why} of x with shape {x.shape}"
        )
    return value


def cast(value: Any, dtype: np.dtype) -> Tensor:
    """The value as a tensor of that dtype, differentiably; Python floats with all their digits."""
    if not isinstance(value, Tensor):
        return mg.as_tensor(value, dtype)
    return value if value.dtype == dtype else value.astype(dtype)


def epsilon_of(operation: str, epsilon: Any) -> float:
    """ε as a float.

    Raises:
        ArgumentError: unless it is a finite number of at least 0.
    """
    if epsilon.__class__ is float and 0.0 <= epsilon < inf:
        return epsilon
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float, np.number)) or not 0 <= epsilon < inf:
        raise ArgumentError(f"{operation}: epsilon is {epsilon!r}, expected a finite number of at least 0")
    return float(epsilon)


def hashable(axis: Any) -> Any:
    """An axis or several as something that a cache can look up: sequences as tuples."""
    return tuple(axis) if isinstance(axis, Sequence) and not isinstance(axis, str) else axis


def axis_of(operation: str, axis: Any) -> int | tuple[int, ...]:
    """An axis or several, as a layer is given them before it sees an input: an integer, or a tuple of integers.

    Raises:
        ArgumentTypeError: for anything else.
    """
    items = axis if isinstance(axis, (list, tuple)) else (axis,)
    if any(isinstance(item, bool) or not isinstance(item, (int, np.integer)) for item in items):
        raise ArgumentTypeError(f"{operation}: axis is {axis!r}, expected an integer or a list of integers")
    return int(axis) if items != axis else tuple(int(item) for item in items)


def one_axis(operation: str, axis: Any) -> int:
    """The axis of the channels, as a layer is given it before it sees an input.

    Raises:
        ArgumentTypeError: unless it is one integer.
        ArgumentError: if it is 0, which is the samples'.
    """
    if not isinstance(axis_of(operation, axis), int):
        raise ArgumentTypeError(f"{operation}: axis is {axis!r}, expected one integer")
    if axis == 0:
        raise ArgumentError(f"{operation}: axis is 0, which is the samples'; the channels need one of their own")
    return int(axis)


def channel_axis(operation: str, axis: Any, shape: tuple[int | None, ...]) -> int:
    """The axis of the channels, which is not the samples'.

    Raises:
        ArgumentTypeError: if it is not one integer.
        ShapeError: if it is out of range, or the first.
    """
    if isinstance(axis, (tuple, list)) or axis is None:
        raise ArgumentTypeError(f"{operation}: axis is {axis!r}, expected one integer")
    (axis,) = mg.axes.normalize(operation, axis, len(shape))
    if axis == 0:
        raise ShapeError(
            f"{operation}: axis 0 of x with shape {shape} is the samples', the channels need one of their own"
        )
    return axis


def along(p: Tensor, ndim: int, axes: tuple[int, ...]) -> Tensor:
    """A parameter that spans `axes` as it broadcasts to `ndim` axes."""
    if axes == tuple(range(ndim - len(axes), ndim)):
        return p
    lengths = iter(p.shape)
    return p.reshape(tuple([next(lengths) if a in axes else 1 for a in range(ndim)]))
