"""Windows that move over images: their sizes, strides and pads, from what users pass, and the order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.tensor import Tensor, as_tensor

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # (top, bottom), (left, right)
NO_PADS: Pads = ((0, 0), (0, 0))


def pair(operation: str, argument: str, value: Any, least: int = 1) -> Pair:
    """One integer for both axes, or two.

    Raises:
        ArgumentTypeError: for something else.
        ArgumentError: if one is below `least`.
    """
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    try:
        found = tuple(index(v) for v in items)
    except TypeError:
        found = ()
    if len(found) != 2 or any(isinstance(v, bool) for v in items):
        raise ArgumentTypeError(f"{operation}: {argument} is {value!r}, expected an integer or two")
    if min(found) < least:
        raise ArgumentError(f"{operation}: {argument} is {value!r}, expected at least {least}")
    return found[0], found[1]


def explicit_pads(operation: str, padding: Any) -> Pads | None:
    """Pads given as ((top, bottom), (left, right)), (vertical, horizontal) or one integer; None for a name.

    Raises:
        ArgumentError, ArgumentTypeError: for anything but these and the names VALID and SAME, in either case.
    """
    if isinstance(padding, str):
        if padding.upper() not in ("VALID", "SAME"):
            raise ArgumentError(f"{operation}: padding is {padding!r}, expected 'VALID', 'SAME' or integers")
        return None
    both = padding if isinstance(padding, Sequence) else (padding, padding)
    if len(both) != 2:
        raise ArgumentTypeError(f"{operation}: padding is {padding!r}, expected a name or ((t, b), (l, r))")
    return pair(operation, "padding", both[0], 0), pair(operation, "padding", both[1], 0)


def pads_of(operation: str, padding: Any, sizes: Sequence[int], windows: Pair, strides: Pair) -> Pads:
    """The pads of images with `sizes` rows and columns.

    SAME pads as TensorFlow does: to ⌈n / stride⌉ results, an odd pad after.
    """
    given = explicit_pads(operation, padding)
    if given is not None:
        return given
    if padding.upper() == "VALID":
        return NO_PADS
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, windows, strides)]
    return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)


def extent(size: int, dilation: int) -> int:
    """How many elements a window spans that takes `size` elements, `dilation` apart."""
    return (size - 1) * dilation + 1


def count(n: int, pads: Pair, window: int, stride: int) -> int:
    """How many windows fit along an axis."""
    return (n + sum(pads) - window) // stride + 1


def results(
    operation: str, argument: str, shape: Sequence[int], sizes: Pair, windows: Pair, strides: Pair, pads: Pads
) -> Pair:
    """The rows and columns of the result; `sizes` are the window's as passed, `windows` what they span.

    Raises:
        ShapeError: if a window is larger than the padded image.
    """
    rows, columns = shape[1] + sum(pads[0]), shape[2] + sum(pads[1])
    if windows[0] > rows or windows[1] > columns:
        spans = "" if windows == sizes else f", which spans {windows} by dilation"
        raise ShapeError(
            f"{operation}: {argument} has size {sizes}{spans}, expected at most the {(rows, columns)} of x with "
            f"shape {tuple(shape)} and pads {pads}"
        )
    return count(shape[1], pads[0], windows[0], strides[0]), count(shape[2], pads[1], windows[1], strides[1])


def require_window(operation: str, sizes: Pair, strides: Pair, pads: Pads, dilation: Pair = (1, 1)) -> None:
    """Raise for parameters of a primitive that no function would have passed."""
    for name, values, least in (("size", sizes, 1), ("strides", strides, 1), ("dilation", dilation, 1)):
        if min(values) < least:
            raise ArgumentError(f"{operation}: {name} is {values}, expected at least {least}")
    if min(*pads[0], *pads[1]) < 0:
        raise ArgumentError(f"{operation}: padding is {pads}, expected at least 0")


def require_images(operation: str, argument: str, shape: tuple[int, ...], data_format: str = "NHWC") -> None:
    """Raise a ShapeError unless there are four axes."""
    if len(shape) != 4:
        axes = "(batch, rows, columns, channels)" if data_format == "NHWC" else "(batch, channels, rows, columns)"
        raise ShapeError(f"{operation}: {argument} has shape {shape}, expected {axes}")


def images(operation: str, x: Any, data_format: Any, argument: str = "x") -> Tensor:
    """x as a tensor of floats with its channels last; integers become float64, as in NumPy.

    Raises:
        ArgumentError: for an unknown data format.
        DTypeError: for complex numbers.
        ShapeError: unless x has four axes.
    """
    if data_format not in ("NHWC", "NCHW"):
        raise ArgumentError(f"{operation}: data_format is {data_format!r}, expected 'NHWC' or 'NCHW'")
    x = as_tensor(x)
    require_images(operation, argument, x.shape, data_format)
    if x._data.dtype.kind in "biu":
        x = x.astype(np.float64)
    elif dtypes.kind(x._data.dtype) != "f":
        raise DTypeError(f"{operation}: {argument} has dtype {x.dtype}, expected a real dtype")
    return x if data_format == "NHWC" else x.transpose((0, 2, 3, 1))


def back(y: Tensor, data_format: str) -> Tensor:
    """The result in the order of axes that was asked for: a view."""
    return y if data_format == "NHWC" else y.transpose((0, 3, 1, 2))
