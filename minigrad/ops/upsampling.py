"""Larger images: each pixel several times, or what lies between pixels by linear interpolation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops import windows
from minigrad.ops.pooling_primitives import spread_p
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor


def upsample2d(x: Any, size: Any = 2, interpolation: str = "nearest", data_format: str = "NHWC") -> Tensor:
    """Images with `size` times the rows and columns.

    Nearest: y[n, r, q, c] = x[n, ⌊r / a⌋, ⌊q / b⌋, c]. Bilinear: y at (r, q) is what linear interpolation between the
    four pixels around ((r + ½) / a − ½, (q + ½) / b − ½) gives there, and beyond the outermost pixels what those are.
    These are half-pixel centres, as in TensorFlow 2 and in torch with ``align_corners=False``.

    Args:
        x: images (n, h, w, channels), or (n, channels, h, w) if `data_format` says so.
        size: a and b: an integer for both, or two.
        interpolation: "nearest" or "bilinear".
        data_format: "NHWC" or "NCHW".

    Returns:
        shape (n, h·a, w·b, channels), or (n, channels, h·a, w·b).

    Raises:
        ShapeError: if x has not four axes, or no pixels.
        ArgumentError, ArgumentTypeError: for a size below 1, or an unknown name.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[0.0, 4.0]]).reshape(1, 1, 2, 1)
        >>> mg.upsample2d(x, (1, 2)).reshape(4)
        tensor([0., 0., 4., 4.], dtype=float32)
        >>> mg.upsample2d(x, (1, 2), "bilinear").reshape(4)
        tensor([0., 1., 3., 4.], dtype=float32)
    """
    x = windows.images("upsample2d", x, data_format)
    factors = windows.pair("upsample2d", "size", size)
    if interpolation not in ("nearest", "bilinear"):
        raise ArgumentError(f"upsample2d: interpolation is {interpolation!r}, expected 'nearest' or 'bilinear'")
    if min(x.shape[1:3]) < 1:
        raise ShapeError(f"upsample2d: x has shape {x.shape}, expected at least one row and column")
    if factors == (1, 1):
        return windows.back(x, data_format)
    if interpolation == "nearest":  # the transpose of summing windows up
        shape = x.shape[1] * factors[0], x.shape[2] * factors[1]
        params: dict[str, Any] = {"size": factors, "strides": factors, "pads": windows.NO_PADS, "mean": False}
        y = spread_p(x, shape=shape, **params)
    else:
        y = bilinear_p(x, factors=factors)
    return windows.back(y, data_format)


# Primitives: bilinear interpolation, which is linear in x, and its transpose

bilinear_p = Primitive("mg::bilinear")
bilinear_grad_p = Primitive("mg::bilinear_grad")


@lru_cache(maxsize=256)
def _between(n: int, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along an axis of n pixels: the two pixels around each new one, and how far it lies towards the second."""
    place = (np.arange(n * factor) + 0.5) / factor - 0.5
    place = np.clip(place, 0, n - 1)
    low = np.minimum(place.astype(np.int64), max(n - 2, 0))
    return low, np.minimum(low + 1, n - 1), place - low


def _matrix(n: int, factor: int) -> np.ndarray:
    """The same as a matrix of n·factor rows and n columns."""
    low, high, share = _between(n, factor)
    matrix = np.zeros((n * factor, n))
    rows = np.arange(n * factor)
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    return matrix


def _require_factors(operation: str, factors: windows.Pair) -> None:
    if min(factors) < 1:
        raise ArgumentError(f"{operation}: size is {factors}, expected at least 1")


@bilinear_p.infer
def _(x, *, factors):
    windows.require_images("bilinear", "x", x.shape)
    dtypes.require_floating("bilinear", "x", x.dtype)
    _require_factors("bilinear", factors)
    if min(x.shape[1:3]) < 1:
        raise ShapeError(f"bilinear: x has shape {x.shape}, expected at least one row and column")
    return Abstract((x.shape[0], x.shape[1] * factors[0], x.shape[2] * factors[1], x.shape[3]), x.dtype)


@bilinear_p.kernel("reference")
def _(x, *, factors):
    rows, columns = _matrix(x.shape[1], factors[0]), _matrix(x.shape[2], factors[1])
    return np.einsum("rh,qw,nhwc->nrqc", rows, columns, x).astype(x.dtype)


@bilinear_p.kernel("cpu")
def _(out, x, *, factors):
    if not dtypes.has_kernels(x.dtype):
        out[...] = bilinear_p.reference(x, factors=factors)[0]
    elif x.size:
        _run(_interpolate, out.shape[1], out, x, x.shape, factors)


@bilinear_p.vjp()
def _(ct, saved, needs, *, factors):
    return bilinear_grad_p(ct, factors=factors)


@bilinear_p.jvp
def _(tangents, primals, outputs, *, factors):
    return bilinear_p(tangents[0], factors=factors)


@bilinear_grad_p.infer
def _(ct, *, factors):
    windows.require_images("bilinear_grad", "ct", ct.shape)
    dtypes.require_floating("bilinear_grad", "ct", ct.dtype)
    _require_factors("bilinear_grad", factors)
    if ct.shape[1] % factors[0] or ct.shape[2] % factors[1] or min(ct.shape[1:3]) < 1:
        raise ShapeError(f"bilinear_grad: ct has shape {ct.shape}, expected multiples of {factors} rows and columns")
    return Abstract((ct.shape[0], ct.shape[1] // factors[0], ct.shape[2] // factors[1], ct.shape[3]), ct.dtype)


@bilinear_grad_p.kernel("reference")
def _(ct, *, factors):
    rows = _matrix(ct.shape[1] // factors[0], factors[0])
    columns = _matrix(ct.shape[2] // factors[1], factors[1])
    return np.einsum("rh,qw,nrqc->nhwc", rows, columns, ct).astype(ct.dtype)


@bilinear_grad_p.kernel("cpu")
def _(out, ct, *, factors):
    if not dtypes.has_kernels(ct.dtype):
        out[...] = bilinear_grad_p.reference(ct, factors=factors)[0]
    elif ct.size:
        _run(_interpolate_back, out.shape[1], out, ct, out.shape, factors)


@bilinear_grad_p.vjp()
def _(g, saved, needs, *, factors):
    return bilinear_p(g, factors=factors)


@bilinear_grad_p.jvp
def _(tangents, primals, outputs, *, factors):
    return bilinear_grad_p(tangents[0], factors=factors)


# CPU kernels, a line of the output at a time


def _run(
    kernel: cpu.Kernel, rows: int, out: np.ndarray, given: np.ndarray, shape: tuple, factors: windows.Pair
) -> None:
    """`shape` is that of the smaller images."""
    _, _, row_share = row_tables = _between(shape[1], factors[0])
    _, _, column_share = column_tables = _between(shape[2], factors[1])
    lines, elements = shape[0] * rows, 4 * max(out.size, given.size)
    chunks = max(1, min(cpu.chunks_of(elements), lines))
    sizes = (shape[1], shape[2], shape[3], len(row_share), len(column_share), factors[0], factors[1])
    kernel(
        chunks, elements, chunks, lines, out.reshape(-1), cpu.contiguous(given).reshape(-1), np.array(sizes, np.int64),
        *row_tables, *column_tables,
    )  # fmt: skip


@cpu.chunked
def _interpolate(chunk, chunks, lines, y, x, sizes, row_low, row_high, row_share, low, high, share):
    h, w, channels, rows, columns = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, r = line // rows, line % rows
        top, bottom = (image * h + row_low[r]) * w * channels, (image * h + row_high[r]) * w * channels
        above, below = x[top : top + w * channels], x[bottom : bottom + w * channels]
        for q in range(columns):
            a, b = low[q] * channels, high[q] * channels
            f, g = share[q], row_share[r]
            w_a, w_b, w_c, w_d = (1 - g) * (1 - f), (1 - g) * f, g * (1 - f), g * f
            place = y[(line * columns + q) * channels : (line * columns + q + 1) * channels]
            p, t = above[a : a + channels], above[b : b + channels]
            u, z = below[a : a + channels], below[b : b + channels]
            for c in range(channels):
                place[c] = (w_a * p[c] + w_b * t[c]) + (w_c * u[c] + w_d * z[c])


@cpu.chunked
def _interpolate_back(chunk, chunks, lines, dx, ct, sizes, row_low, row_high, row_share, low, high, share):
    h, w, channels, rows, columns = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    factor = sizes[5]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, i = line // h, line % h
        total = dx[line * w * channels : (line + 1) * w * channels]
        for k in range(total.size):
            total[k] = 0
        for r in range(max(0, (i - 1) * factor), min(rows, (i + 2) * factor)):
            weight = 0.0
            if row_low[r] == i:
                weight += 1 - row_share[r]
            if row_high[r] == i:
                weight += row_share[r]
            if weight == 0:
                continue
            for q in range(columns):
                at = ((image * rows + r) * columns + q) * channels
                given = ct[at : at + channels]
                left, right = dx.dtype.type(weight * (1 - share[q])), dx.dtype.type(weight * share[q])
                p, t = total[low[q] * channels :], total[high[q] * channels :]
                for c in range(channels):
                    p[c] += left * given[c]
                for c in range(channels):
                    t[c] += right * given[c]


_CASES = [
    ((2, 3, 4, 5), (2, 3)),
    ((1, 5, 2, 3), (1, 4)),
    ((2, 1, 3, 2), (3, 2)),
    ((1, 1, 1, 2), (2, 3)),
    ((2, 3, 4, 1), (1, 1)),
    ((0, 3, 4, 2), (2, 2)),
    ((2, 3, 4, 0), (2, 2)),
]


@bilinear_p.samples
def _(rng):
    for shape, factors in _CASES:
        smooth = shape != (1, 1, 1, 2)  # all of one pixel: a zero-mean cotangent sums to nothing
        # Away from 0: where two pixels cancel, what is left is the rounding of their weights.
        yield Sample((3 + rng.random(shape),), {"factors": factors}, differentiable=smooth)
    strided = 3 + rng.random((3, 6, 5, 4)).transpose(3, 2, 1, 0)[::-1, ::2]
    yield Sample((strided,), {"factors": (2, 3)}, note="strided")
    yield Sample((np.ones((3, 4, 5)),), {"factors": (2, 2)}, error=ShapeError, match=r"x has shape \(3, 4, 5\)")
    yield Sample((np.ones((1, 0, 4, 5)),), {"factors": (2, 2)}, error=ShapeError, match="at least one row and column")
    yield Sample((np.ones((1, 3, 4, 5)),), {"factors": (0, 2)}, error=ArgumentError, match=r"size is \(0, 2\)")


@bilinear_grad_p.samples
def _(rng):
    for (n, h, w, c), (a, b) in _CASES:
        yield Sample((3 + rng.random((n, h * a, w * b, c)),), {"factors": (a, b)})
    yield Sample((np.ones((1, 3, 4, 5)),), {"factors": (2, 2)}, error=ShapeError, match=r"multiples of \(2, 2\) rows")
    yield Sample((np.ones((1, 4, 4, 5)),), {"factors": (2, -1)}, error=ArgumentError, match=r"size is \(2, -1\)")
