"""Pooling: the largest, or the mean, of windows that move over images."""

from __future__ import annotations

from typing import Any

from minigrad.ops import windows
from minigrad.ops.pooling_primitives import gather_p, max_pool2d_p
from minigrad.tensor import Tensor


def max_pool2d(x: Any, size: Any = 2, strides: Any = None, padding: Any = "VALID", data_format: str = "NHWC") -> Tensor:
    """y[n, r, q, c] = max over i < kh, j < kw of x[n, r·s + i − top, q·s + j − left, c], pads left out.

    Where several are largest, the gradient goes to the first of them in order of rows, then columns, as in TensorFlow
    and torch. A NaN in a window is its result.

    Args:
        x: images (n, h, w, channels), or (n, channels, h, w) if `data_format` says so.
        size: kh and kw: an integer for both, or two. So are `strides`, s, which are `size` by default.
        padding: "VALID", "SAME" or pads, as of `conv2d`; pads must be less than the size.
        data_format: "NHWC" or "NCHW".

    Returns:
        shape (n, rows, columns, channels), or (n, channels, rows, columns).

    Raises:
        ShapeError: if x has not four axes, or the window is larger than the image with its pads.
        ArgumentError, ArgumentTypeError: for sizes or strides below 1, pads not below the size, unknown names.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 2.0, 5.0, 3.0], [4.0, 0.0, 1.0, 1.0]]).reshape(1, 2, 4, 1)
        >>> mg.max_pool2d(x).reshape(2)
        tensor([4., 5.], dtype=float32)
    """
    x, params = _arguments("max_pool2d", x, size, strides, padding, data_format)
    return windows.back(max_pool2d_p(x, **params)[0], data_format)


def avg_pool2d(x: Any, size: Any = 2, strides: Any = None, padding: Any = "VALID", data_format: str = "NHWC") -> Tensor:
    """y[n, r, q, c] = mean over i < kh, j < kw of x[n, r·s + i − top, q·s + j − left, c], pads left out.

    A mean is over the pixels of the image alone, as in TensorFlow; torch counts pads as zeros unless told otherwise.
    Arguments and errors are those of `max_pool2d`.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 2.0, 5.0], [4.0, 1.0, 3.0]]).reshape(1, 2, 3, 1)
        >>> mg.avg_pool2d(x, padding="SAME").reshape(2)
        tensor([2., 4.], dtype=float32)
    """
    x, params = _arguments("avg_pool2d", x, size, strides, padding, data_format)
    return windows.back(gather_p(x, mean=True, **params), data_format)


def _arguments(
    operation: str, x: Any, size: Any, strides: Any, padding: Any, data_format: Any
) -> tuple[Tensor, dict[str, Any]]:
    x = windows.images(operation, x, data_format)
    size = windows.pair(operation, "size", size)
    strides = size if strides is None else windows.pair(operation, "strides", strides)
    pads = windows.pads_of(operation, padding, x.shape[1:3], size, strides)
    return x, {"size": size, "strides": strides, "pads": pads}
