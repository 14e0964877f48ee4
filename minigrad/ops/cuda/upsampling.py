"""CUDA kernels of bilinear interpolation and its transpose: a thread for each result."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Function, Kernel, gpu
from minigrad.errors import DTypeError
from minigrad.ops import windows
from minigrad.ops.cuda.pooling import element
from minigrad.ops.upsampling import bilinear_grad_p, bilinear_p


@cache
def _between(dtype: np.dtype) -> Function:
    kind = dtype.type

    def between(at, n, factor):
        """The two of n pixels around the new pixel `at`, and how far it lies towards the second."""
        place = min(max(2 * at + 1 - factor, 0), 2 * factor * (n - 1))  # in halves of a new pixel
        low = min(place // (2 * factor), max(n - 2, 0))
        return low, min(low + 1, n - 1), kind(place - low * 2 * factor) / kind(2 * factor)

    return cuda.jit(between)


@cache
def _interpolate(dtype: np.dtype) -> Kernel:
    between, one = _between(dtype), dtype.type(1)

    def interpolate(out, x, h, w, channels, a, b):
        i = gpu.grid(1)
        if i < out.size:
            image, row, column, c = element(i, h * a, w * b, channels)
            top, bottom, down = between(row, h, a)
            left, right, along = between(column, w, b)
            above, below = (image * h + top) * w, (image * h + bottom) * w
            upper = (one - along) * x[(above + left) * channels + c] + along * x[(above + right) * channels + c]
            lower = (one - along) * x[(below + left) * channels + c] + along * x[(below + right) * channels + c]
            out[i] = (one - down) * upper + down * lower

    return cuda.kernel(interpolate)


@bilinear_p.kernel("cuda")
def _(out, x, *, factors):
    _run(_interpolate, "bilinear", out, x, x.shape, factors)


@cache
def _weight(dtype: np.dtype) -> Function:
    between, zero, one = _between(dtype), dtype.type(0), dtype.type(1)

    def weight(at, pixel, n, factor):
        """The weight of one of n pixels in the new pixel `at`."""
        low, high, share = between(at, n, factor)
        return (one - share if low == pixel else zero) + (share if high == pixel else zero)

    return cuda.jit(weight)


@cuda.jit
def _reach(pixel, n, factor):
    """The new pixels that one of n pixels has a weight in, from the first to behind the last."""
    first = (pixel - 1) * factor + (factor - 1) // 2
    return max(first, 0), min((pixel + 1) * factor + factor // 2 + 1, n * factor)


@cache
def _interpolate_back(dtype: np.dtype) -> Kernel:
    weight, zero = _weight(dtype), dtype.type(0)

    def interpolate_back(out, ct, h, w, channels, a, b):
        i = gpu.grid(1)
        if i < out.size:
            image, row, column, c = element(i, h, w, channels)
            top, bottom = _reach(row, h, a)
            left, right = _reach(column, w, b)
            total = zero
            for y in range(top, bottom):
                line = zero
                for z in range(left, right):
                    line += weight(z, column, w, b) * ct[((image * h * a + y) * w * b + z) * channels + c]
                total += weight(y, row, h, a) * line
            out[i] = total

    return cuda.kernel(interpolate_back)


@bilinear_grad_p.kernel("cuda")
def _(out, ct, *, factors):
    _run(_interpolate_back, "bilinear_grad", out, ct, out.shape, factors)


def _run(
    made: Callable[[np.dtype], Kernel],
    operation: str,
    out: DeviceArray,
    given: DeviceArray,
    small: tuple,
    factors: windows.Pair,
) -> None:
    """`small` is the shape of the smaller images."""
    if not dtypes.has_gpu_kernels(out.dtype):
        raise DTypeError(f"{operation}: has no CUDA kernel for {out.dtype}, only for real floats of at most 64 bits")
    blocks = cuda.blocks_of(out.size)
    made(dtypes.arithmetic(out.dtype))(blocks, cuda.THREADS, out, cuda.contiguous(given), *small[1:], *factors)
