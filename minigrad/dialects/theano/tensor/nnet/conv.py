"""conv2d: the convolution of images with filters, which are flipped, as the mathematical one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import Constant, TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor.elementwise import cast
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

Pair = tuple[int, int]


def conv2d(
    input: Any,
    filters: Any,
    input_shape: Sequence[Any] | None = None,
    filter_shape: Sequence[Any] | None = None,
    border_mode: Any = "valid",
    subsample: Sequence[int] = (1, 1),
    filter_flip: bool = True,
    image_shape: Sequence[Any] | None = None,
    filter_dilation: Sequence[int] = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    **kwargs: Any,
) -> Variable:
    """out[n, k, i, j] = Σ input[n, c, i·s + u', j·t + v'] · filters[k, c, u, v], with (u', v') the flipped (u, v).

    Args:
        input: images, shape (batch, channels, height, width).
        filters: shape (filters, channels, height, width).
        input_shape, filter_shape: lengths that input and filters are known to have, None for unknown ones; they are
            checked at each call. `image_shape` is the older name of `input_shape`.
        border_mode: zeros around the image: 'valid' for none, 'full' for all but one pixel of the filter on each side,
            'half' for half the filter ('same' for odd filters), or a number of pixels, or a pair for height and width.
        subsample: steps (s, t), in pixels.
        filter_flip: False for the correlation, in which (u', v') is (u, v).
        filter_dilation: how far apart the filter's elements lie, in pixels.
        num_groups: into how many groups channels and filters fall; each filter sees its group's channels.
        unshared: only False is offered.

    Raises:
        ShapeError: if input or filters have not 4 dimensions; at the call, if their shapes do not fit.
        ArgumentError: for another border_mode.

    Example:
        >>> import numpy as np
        >>> import minigrad.dialects.theano.tensor as T
        >>> x, w = T.tensor4("x"), T.tensor4("w")
        >>> out = T.nnet.conv2d(x, w, border_mode="half")
        >>> out.eval({x: np.ones((1, 1, 4, 4)), w: np.ones((2, 1, 3, 3))}).shape
        (1, 2, 4, 4)
    """
    if kwargs:
        raise ArgumentTypeError(f"conv2d: got {sorted(kwargs)}, which are no arguments of it")
    if unshared:
        raise ArgumentError("conv2d: unshared is True, which is not offered")
    if input_shape is not None and image_shape is not None:
        raise ArgumentError("conv2d: input_shape and image_shape are the same; give one of them")
    x, w = as_variable(input), as_variable(filters)
    for name, v in (("input", x), ("filters", w)):
        if v.ndim != 4:
            raise ShapeError(f"conv2d: {name} has {v.ndim} dimensions, expected 4")
    dtype = graph.upcast(x.dtype, w.dtype)
    known = (
        _known("input_shape", input_shape if image_shape is None else image_shape),
        _known("filter_shape", filter_shape),
    )
    if known[0] and known[1] and None not in (known[0][1], known[1][1]) and known[0][1] != known[1][1] * num_groups:
        raise ShapeError(
            f"conv2d: input_shape is {known[0]} and filter_shape {known[1]}, expected as many channels in both"
        )
    params = {
        "border": _border(border_mode),
        "strides": _pair("subsample", subsample, 1),
        "dilation": _pair("filter_dilation", filter_dilation, 1),
        "flip": bool(filter_flip),
        "groups": num_groups,
        "shapes": known,
    }
    flags = (x.broadcastable[0], w.broadcastable[0], False, False)
    return apply("Conv2d", _conv2d, [cast(x, dtype), cast(w, dtype)], TensorType(dtype, flags), **params)


def _conv2d(
    x: Tensor, w: Tensor, border: Any, strides: Pair, dilation: Pair, flip: bool, groups: int, shapes: tuple
) -> Tensor:
    for name, tensor, known in (("input", x, shapes[0]), ("filters", w, shapes[1])):
        if known is not None and any(n is not None and n != m for n, m in zip(known, tensor.shape)):
            raise ShapeError(f"conv2d: {name} has shape {tensor.shape}, expected {known} as was said")
    extent = [(n - 1) * d + 1 for n, d in zip(w.shape[2:], dilation)]
    if border == "full":
        padding = tuple([(n - 1, n - 1) for n in extent])
    elif border == "half":
        padding = tuple([(n // 2, n // 2) for n in extent])
    else:
        padding = border
    if flip and w.shape[2:] != (1, 1):
        w = mg.flip(w, (2, 3))
    kernel = mg.transpose(w, (2, 3, 1, 0))
    return mg.conv2d(x, kernel, strides, padding, dilation, groups, "NCHW")


def _border(mode: Any) -> Any:
    if mode in ("full", "half"):
        return mode
    if mode == "valid":
        return (0, 0), (0, 0)
    if isinstance(mode, int):
        mode = (mode, mode)
    try:
        sides = tuple([(side, side) if isinstance(side, int) else tuple(side) for side in mode])
        good = len(sides) == 2 and all(len(side) == 2 and min(side) >= 0 for side in sides)
    except TypeError:
        good = False
    if isinstance(mode, str) or not good:
        raise ArgumentError(f"conv2d: border_mode is {mode!r}, expected 'valid', 'full', 'half', a number or a pair")
    return sides


def _pair(argument: str, value: Any, least: int) -> Pair:
    items = (value, value) if isinstance(value, int) else tuple(value)
    if len(items) != 2 or not all(isinstance(n, int) and n >= least for n in items):
        raise ArgumentError(f"conv2d: {argument} is {value!r}, expected two integers of at least {least}")
    return items[0], items[1]


def _known(argument: str, shape: Any) -> tuple | None:
    if shape is None:
        return None
    items = tuple([int(n.data) if isinstance(n, Constant) else n if n is None else int(n) for n in shape])
    if len(items) != 4:
        raise ShapeError(f"conv2d: {argument} is {shape!r}, expected 4 lengths, None for unknown ones")
    return items
