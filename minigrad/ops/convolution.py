"""Convolution over images, and its transpose: what users call, and what becomes of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.elementwise import promoted
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops import windows
from minigrad.ops.convolution_primitives import conv2d_p, conv2d_transpose_p, spans_of
from minigrad.tensor import Tensor


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NHWC",
) -> Tensor:
    """y[n, r, q, o] = Σ_ijc x[n, r·s + i·d − top, q·s + j·d − left, c] · kernel[i, j, c, o], x being 0 outside.

    It is what networks call a convolution: the kernel is not flipped.

    Args:
        x: images (n, h, w, channels), or (n, channels, h, w) if `data_format` says so.
        kernel: shape (kh, kw, channels / groups, out) in either data format, as Keras has it.
        strides: s, in pixels: an integer, or one for rows and one for columns. So is `dilation`, d.
        padding: "VALID" for none; "SAME" for ⌈h / s⌉ × ⌈w / s⌉ results, an odd pad after, as TensorFlow does;
            ((top, bottom), (left, right)), or an integer for all four.
        groups: into how many groups channels and outputs are cut; outputs see the channels of their own group.
        data_format: "NHWC" or "NCHW". Results of the latter are views of memory in the order of the former.

    Returns:
        shape (n, rows, columns, out), or (n, out, rows, columns).

    Raises:
        ShapeError: if x or kernel have not four axes, the channels do not fit, or the kernel is larger than the image
            with its pads.
        ArgumentError, ArgumentTypeError: for strides, dilation or groups below 1, negative pads, unknown names.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]).reshape(1, 3, 3, 1)
        >>> kernel = mg.tensor([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
        >>> mg.conv2d(x, kernel).reshape(2, 2)
        tensor([[-4., -4.],
                [-4., -4.]], dtype=float32)
        >>> mg.conv2d(x, kernel, strides=2, padding="SAME").shape
        (1, 2, 2, 1)
    """
    x = windows.images("conv2d", x, data_format)
    x, kernel = _alike("conv2d", x, kernel)
    s, d = windows.pair("conv2d", "strides", strides), windows.pair("conv2d", "dilation", dilation)
    spans = spans_of(kernel.shape, d)
    pads = windows.pads_of("conv2d", padding, x.shape[1:3], spans, s)
    y = conv2d_p(x, kernel, strides=s, pads=pads, dilation=d, groups=positive("conv2d", "groups", groups))
    return windows.back(y, data_format)


def conv2d_transpose(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    output_padding: Any = None,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NHWC",
) -> Tensor:
    """The transpose of `conv2d`: y[n, r·s + i·d − top, q·s + j·d − left, o] += Σ_c x[n, r, q, c] · kernel[i, j, o, c].

    Args:
        x: images (n, h, w, channels), or (n, channels, h, w).
        kernel: shape (kh, kw, out / groups, channels), as Keras has it: that of the convolution from y's size to x's.
        strides, dilation, groups, data_format: as of `conv2d`.
        padding: "VALID" gives (h − 1)·s + span results, or h·s where strides are longer than the kernel spans; "SAME"
            gives h·s; explicit pads are cut off: (h − 1)·s + span − top − bottom.
        output_padding: rows and columns added below and right, less than s. With it, "SAME" stands for pads of half
            the kernel's span, as in Keras, and the size is that of explicit pads.

    Raises:
        ShapeError, ArgumentError, ArgumentTypeError: as `conv2d`; for an `output_padding` that is not less than the
            strides; if nothing would be left.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
        >>> mg.conv2d_transpose(x, mg.tensor([[1.0, 1.0], [1.0, 0.0]]).reshape(2, 2, 1, 1), strides=2).reshape(4, 4)
        tensor([[1., 1., 2., 2.],
                [1., 0., 2., 0.],
                [3., 3., 4., 4.],
                [3., 0., 4., 0.]], dtype=float32)
    """
    name = "conv2d_transpose"
    x = windows.images(name, x, data_format)
    x, kernel = _alike(name, x, kernel)
    s, d = windows.pair(name, "strides", strides), windows.pair(name, "dilation", dilation)
    spans = spans_of(kernel.shape, d)
    size, pads = _transposed_size(name, x.shape[1:3], spans, s, padding, output_padding)
    params = {"strides": s, "pads": pads, "dilation": d, "groups": positive(name, "groups", groups)}
    return windows.back(conv2d_transpose_p(x, kernel, size=size, **params), data_format)


# Arguments


def _alike(operation: str, x: Tensor, kernel: Any) -> tuple[Tensor, Tensor]:
    if not (isinstance(kernel, Tensor) and kernel._data.dtype is x._data.dtype):
        x, kernel = promoted(operation, (x, kernel))
    if kernel.ndim != 4:
        raise ShapeError(
            f"{operation}: kernel has shape {kernel.shape}, expected (rows, columns, channels / groups, out)"
        )
    return x, kernel


def positive(operation: str, argument: str, value: Any) -> int:
    """A positive integer, or an ArgumentError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{operation}: {argument} is {value!r}, expected a positive integer")
    return int(value)


def _transposed_size(
    operation: str,
    sizes: tuple[int, ...],
    spans: windows.Pair,
    strides: windows.Pair,
    padding: Any,
    output_padding: Any,
) -> tuple[windows.Pair, windows.Pads]:
    """The size of the result and the pads of the convolution that it is the transpose of."""
    pads = windows.explicit_pads(operation, padding)
    extra = (0, 0) if output_padding is None else windows.pair(operation, "output_padding", output_padding, 0)
    if output_padding is not None and (extra[0] >= strides[0] or extra[1] >= strides[1]):
        raise ArgumentError(f"{operation}: output_padding is {output_padding!r}, expected less than {strides}")
    if pads is None and padding.upper() == "SAME" and output_padding is None:
        size = sizes[0] * strides[0], sizes[1] * strides[1]
        return size, windows.pads_of(operation, "SAME", size, spans, strides)
    if pads is None and output_padding is None:
        extra = max(strides[0] - spans[0], 0), max(strides[1] - spans[1], 0)
    if pads is None:
        half = (spans[0] // 2, spans[1] // 2) if padding.upper() == "SAME" else (0, 0)
        pads = (half[0], half[0]), (half[1], half[1])
    found = [(n - 1) * s + k - sum(p) + e for n, s, k, p, e in zip(sizes, strides, spans, pads, extra)]
    if min(found) < 1:
        raise ShapeError(
            f"{operation}: x has {tuple(sizes)} rows and columns, of which pads {pads} leave {tuple(found)}, "
            "expected at least one of each"
        )
    return (found[0], found[1]), pads
