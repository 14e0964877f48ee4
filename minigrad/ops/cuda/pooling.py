"""CUDA kernels of pooling: a thread for each result, also of the transposes, which look for the windows around a pixel.

Of rows and of columns the kernels are told, in this order: pixels, windows, pixels of a window, stride, pad before.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Kernel, gpu
from minigrad.errors import DTypeError
from minigrad.ops import windows
from minigrad.ops.pooling_primitives import gather_p, max_pool2d_p, pick_p, place_p, spread_p


@cuda.jit
def _window(at, axis):
    """The pixels of a window that are in the image, from the first to behind the last, and where it begins."""
    start = at * axis[3] - axis[4]
    return max(start, 0), min(start + axis[2], axis[0]), start


@cuda.jit
def _around(at, axis):
    """The windows that hold a pixel, from the first to behind the last."""
    place = at + axis[4]
    first = (place - axis[2] + axis[3]) // axis[3] if place >= axis[2] else 0
    return first, min(place // axis[3] + 1, axis[1])


@cuda.jit
def element(i, height, width, channels):
    """Image, row, column and channel of the element i."""
    return i // channels // width // height, i // channels // width % height, i // channels % width, i % channels


@cuda.kernel
def _largest(out, places, x, rows, columns, channels):
    i = gpu.grid(1)
    if i < out.size:
        image, row, column, c = element(i, rows[1], columns[1], channels)
        top, bottom, above = _window(row, rows)
        left, right, before = _window(column, columns)
        found, at = x[((image * rows[0] + top) * columns[0] + left) * channels + c], (top, left)
        for y in range(top, bottom):
            for z in range(left, right):
                value = x[((image * rows[0] + y) * columns[0] + z) * channels + c]
                if value > found or (value != value and found == found):
                    found, at = value, (y, z)
        out[i] = found
        places[i] = (at[0] - above) * columns[2] + at[1] - before


@max_pool2d_p.kernel("cuda")
def _(out, x, **params):
    values, places = out
    _run(_largest, "max_pool2d", values, x, values, places, x, **params)


@cuda.kernel
def _pick(out, x, places, rows, columns, channels):
    i = gpu.grid(1)
    if i < out.size:
        image, row, column, c = element(i, rows[1], columns[1], channels)
        place = np.int64(places[i])
        y = row * rows[3] - rows[4] + place // columns[2]
        z = column * columns[3] - columns[4] + place % columns[2]
        out[i] = 0
        if y >= 0 and y < rows[0] and z >= 0 and z < columns[0]:
            out[i] = x[((image * rows[0] + y) * columns[0] + z) * channels + c]


@pick_p.kernel("cuda")
def _(out, x, places, **params):
    _run(_pick, "pool_pick", out, x, out, x, places, **params)


@cache
def _gather(dtype: np.dtype) -> Kernel:
    kind = dtype.type  # of counts too, so that float32 is not divided in float64

    def gather(out, x, rows, columns, channels, mean):
        i = gpu.grid(1)
        if i < out.size:
            image, row, column, c = element(i, rows[1], columns[1], channels)
            top, bottom, _ = _window(row, rows)
            left, right, _ = _window(column, columns)
            total = kind(0)
            for y in range(top, bottom):
                for z in range(left, right):
                    total += x[((image * rows[0] + y) * columns[0] + z) * channels + c]
            out[i] = total / kind((bottom - top) * (right - left)) if mean else total

    return cuda.kernel(gather)


@gather_p.kernel("cuda")
def _(out, x, *, mean, **params):
    _run(_gather(dtypes.arithmetic(out.dtype)), "pool_gather", out, x, out, x, mean=mean, **params)


# The transposes


@cache
def _place(dtype: np.dtype) -> Kernel:
    kind = dtype.type

    def place(out, ct, places, rows, columns, channels):
        i = gpu.grid(1)
        if i < out.size:
            image, y, z, c = element(i, rows[0], columns[0], channels)
            top, bottom = _around(y, rows)
            left, right = _around(z, columns)
            total = kind(0)
            for row in range(top, bottom):
                for column in range(left, right):
                    at = ((image * rows[1] + row) * columns[1] + column) * channels + c
                    tap = (y - row * rows[3] + rows[4]) * columns[2] + z - column * columns[3] + columns[4]
                    if places[at] == tap:
                        total += ct[at]
            out[i] = total

    return cuda.kernel(place)


@place_p.kernel("cuda")
def _(out, ct, places, *, shape, **params):
    _run(_place(dtypes.arithmetic(out.dtype)), "pool_place", ct, out, out, ct, places, **params)


@cache
def _spread(dtype: np.dtype) -> Kernel:
    kind = dtype.type

    def spread(out, ct, rows, columns, channels, mean):
        i = gpu.grid(1)
        if i < out.size:
            image, y, z, c = element(i, rows[0], columns[0], channels)
            top, bottom = _around(y, rows)
            left, right = _around(z, columns)
            total = kind(0)
            for row in range(top, bottom):
                first, last, _ = _window(row, rows)
                for column in range(left, right):
                    start, stop, _ = _window(column, columns)
                    value = ct[((image * rows[1] + row) * columns[1] + column) * channels + c]
                    total += value / kind((last - first) * (stop - start)) if mean else value
            out[i] = total

    return cuda.kernel(spread)


@spread_p.kernel("cuda")
def _(out, ct, *, shape, mean, **params):
    _run(_spread(dtypes.arithmetic(out.dtype)), "pool_spread", ct, out, out, ct, mean=mean, **params)


def _run(
    kernel: Kernel,
    operation: str,
    y: DeviceArray,
    x: DeviceArray,
    *arrays: DeviceArray,
    size: windows.Pair,
    strides: windows.Pair,
    pads: windows.Pads,
    **more: Any,
) -> None:
    """Call a kernel with a thread for each element of its first array; x is the image and y its pool."""
    if not dtypes.has_gpu_kernels(x.dtype):
        raise DTypeError(f"{operation}: has no CUDA kernel for {x.dtype}, only for real floats of at most 64 bits")
    rows, columns = [(x.shape[a + 1], y.shape[a + 1], size[a], strides[a], pads[a][0]) for a in (0, 1)]
    packed = [cuda.contiguous(a) for a in arrays]
    kernel(cuda.blocks_of(arrays[0].size), cuda.THREADS, *packed, rows, columns, x.shape[3], *more.values())
