"""pool_2d: the largest, the sum or the mean of each window of the last two dimensions."""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano.graph import TensorType, Variable, apply, as_variable
from minigrad.errors import ArgumentError, DTypeError, ShapeError

_MODES = ("max", "sum", "average_inc_pad", "average_exc_pad")
Pair = tuple[int, int]


def pool_2d(
    input: Any,
    ws: Any = None,
    ignore_border: bool | None = None,
    stride: Any = None,
    pad: Any = (0, 0),
    mode: str = "max",
    ds: Any = None,
    st: Any = None,
    padding: Any = None,
) -> Variable:
    """Each window of the last two dimensions by its largest value, its sum or its mean.

    Args:
        input: at least two dimensions, images in the last two.
        ws: height and width of a window, one number for both; `ds` is its older name.
        ignore_border: whether windows that reach beyond the image are left out. None means False, as in Theano, with
            a warning.
        stride: steps from window to window; as `ws` by default. `st` is its older name.
        pad: how many rows and columns the image is continued by, on each side; only with ``ignore_border=True``.
            `padding` is its older name.
        mode: 'max', 'sum', 'average_inc_pad', which counts continued pixels as zeros, or 'average_exc_pad', which does
            not count them.

    Raises:
        ShapeError: for an input of fewer dimensions.
        ArgumentError: for a bad mode or window, or for padding without ``ignore_border``.

    Example:
        >>> import numpy as np
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.matrix("x")
        >>> T.signal.pool.pool_2d(x, (2, 2), ignore_border=True).eval({x: np.arange(16.0).reshape(4, 4)})
        array([[ 5.,  7.],
               [13., 15.]])
    """
    x = as_variable(input)
    if x.ndim < 2:
        raise ShapeError(f"pool_2d: input has {x.ndim} dimensions, expected at least 2")
    if np.dtype(x.dtype).kind != "f":
        raise DTypeError(f"pool_2d: input has dtype {x.dtype}, expected a floating-point dtype")
    size = _pair("ws", _one_of("ws", ws, "ds", ds), 1)
    steps = _one_of("stride", stride, "st", st, required=False)
    strides = size if steps is None else _pair("stride", steps, 1)
    edges = _pair("pad", pad if padding is None else padding, 0)
    if mode not in _MODES:
        raise ArgumentError(f"pool_2d: mode is {mode!r}, expected one of {_MODES}")
    if ignore_border is None:
        warnings.warn("pool_2d: ignore_border is not given and means False; say which", UserWarning, stacklevel=2)
        ignore_border = False
    if not ignore_border and edges != (0, 0):
        raise ArgumentError(f"pool_2d: pad is {edges}, which takes ignore_border=True")
    if any(e >= n for e, n in zip(edges, size)):
        raise ArgumentError(f"pool_2d: pad is {edges}, expected less than the window {size}")
    type = TensorType(x.dtype, (*x.broadcastable[:-2], False, False))
    whole = bool(ignore_border)
    return apply("Pool2d", _pool, [x], type, size=size, strides=strides, edges=edges, mode=mode, whole=whole)


def max_pool_2d_same_size(input: Any, patch_size: Any) -> Variable:
    """The input with zeros for all but the largest of each window, in the input's own shape."""
    x = as_variable(input)
    size = _pair("patch_size", patch_size, 1)
    return apply("MaxPoolSameSize", _same_size, [x], x.type, size=size)


def _pool(x: Tensor, size: Pair, strides: Pair, edges: Pair, mode: str, whole: bool) -> Tensor:
    images = mg.reshape(x, (prod(x.shape[:-2]), 1, *x.shape[-2:]))
    far = edges if whole else tuple([_beyond(n, k, s) for n, k, s in zip(x.shape[-2:], size, strides)])
    pads = tuple(zip(edges, far))
    if mode == "max":
        found = mg.max_pool2d(images, size, strides, pads, "NCHW")
    elif mode == "average_exc_pad" or (mode == "average_inc_pad" and not whole):
        found = mg.avg_pool2d(images, size, strides, pads, "NCHW")
    else:
        images = mg.pad(images, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else images
        found = mg.avg_pool2d(images, size, strides, "VALID", "NCHW")
        found = found * float(prod(size)) if mode == "sum" else found
    return mg.reshape(found, (*x.shape[:-2], *found.shape[-2:]))


def _beyond(n: int, k: int, stride: int) -> int:
    """How far the last window that starts within n pixels, and is of use, reaches beyond them."""
    count = (n - 1) // stride + 1 if stride >= k else max(0, (n - 1 - k + stride) // stride) + 1
    return max(0, (count - 1) * stride + k - n)


def _same_size(x: Tensor, size: Pair) -> Tensor:
    largest = _pool(x, size, size, (0, 0), "max", False)
    height, width = x.shape[-2:]
    spread = mg.repeat(mg.repeat(largest, size[0], -2), size[1], -1)[..., :height, :width]
    return mg.where(x == spread, x, mg.as_tensor(np.zeros((), x.dtype)))


def _one_of(name: str, value: Any, older: str, old_value: Any, required: bool = True) -> Any:
    if value is not None and old_value is not None:
        raise ArgumentError(f"pool_2d: {name} and {older} are the same; give one of them")
    found = value if old_value is None else old_value
    if found is None and required:
        raise ArgumentError(f"pool_2d: takes {name}, the height and width of a window")
    return found


def _pair(argument: str, value: Any, least: int) -> Pair:
    items = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(items) != 2 or not all(isinstance(n, (int, np.integer)) and n >= least for n in items):
        raise ArgumentError(f"pool_2d: {argument} is {value!r}, expected two integers of at least {least}")
    return int(items[0]), int(items[1])
