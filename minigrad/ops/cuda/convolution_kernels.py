"""The kernels of convolutions: products of matrices that are read from images, by tiles, and sums by a thread each.

A convolution is a product: a row for each pixel of the result, a column for each output of a group, and a sum over
taps and channels, the terms. A block makes 64 by 64 results, or 64 by 32; a thread makes every 16th of a row's and
a column's, in registers, from slices of the two matrices in shared memory. Of the derivative by the kernel, taps and
channels are the rows and pixels are summed over, in pieces.

The transpose has strides between the pixels that a tap reaches. Pixels that the same taps reach make a phase; within
one, it is a convolution without strides. Phases are the second axis of the grid.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import Kernel, gpu

#: Of rows, or of columns: results, pixels of the input, stride, pad before, dilation, taps, and the greatest common
#: divisor of stride and dilation. Results and input are swapped in the transpose's convolution.
Axis = tuple[int, int, int, int, int, int, int]

SIDE = 16  # threads along each side of a block, and terms of a slice
_HIGH = 4  # rows of a thread
HEIGHT = SIDE * _HIGH  # rows of a block


def wide(outputs: int) -> int:
    """How many columns a thread makes; `SIDE` times as many a block."""
    return 2 if outputs <= 2 * SIDE else 4


# Along an axis: how many results there are, the first of them and the step to the next; the pixel that its first tap
# sees, the steps to the next result's and to the next tap's; the taps, and the first and the step to the next in the
# kernel.


@cuda.jit
def _forward(phase, axis):
    results, _, stride, before, dilation, taps, _ = axis
    return results, 0, 1, -before, stride, dilation, taps, 0, 1


@cuda.jit
def _backward(phase, axis):
    """The results i of which i + before leaves `phase` when divided by the stride, and the taps that reach them."""
    results, _, stride, before, dilation, taps, divisor = axis
    first = (phase - before + stride * before) % stride
    tap = 0
    while tap < taps and tap * dilation % stride != phase:
        tap += 1
    step = stride // divisor
    seen = (first + before - tap * dilation) // stride
    count = (taps - tap + step - 1) // step
    return (results - first + stride - 1) // stride, first, stride, seen, 1, -(dilation // divisor), count, tap, step


@cuda.jit
def _ahead(low, middle, high, by, lows, middles):
    """Three digits of a number, the last without end, after `by` is added to it."""
    low += by
    while low >= lows:
        low -= lows
        middle += 1
        if middle == middles:
            middle = 0
            high += 1
    return low, middle, high


# A thread for each result


@cache
def convolve_direct(dtype: np.dtype, transposed: bool) -> Kernel:
    """Where a group has few outputs."""
    zero: Any = dtype.type(0)
    along = _backward if transposed else _forward

    def convolve(out, x, w, rows, columns, images, groups, terms, outputs, tap_step, group_step, term_step):
        r = along(gpu.blockIdx.y // columns[2], rows)
        c = along(gpu.blockIdx.y % columns[2], columns)
        i = gpu.grid(1)
        if i < images * r[0] * c[0] * groups * outputs:
            output, group, pixel = i % outputs, i // outputs % groups, i // outputs // groups
            image, row, column = pixel // c[0] // r[0], pixel // c[0] % r[0], pixel % c[0]
            total = zero
            for a in range(r[6]):
                y = r[3] + row * r[4] + a * r[5]
                if y < 0 or y >= rows[1]:
                    continue
                for b in range(c[6]):
                    z = c[3] + column * c[4] + b * c[5]
                    if z < 0 or z >= columns[1]:
                        continue
                    tap = (r[7] + a * r[8]) * columns[5] + c[7] + b * c[8]
                    place = tap * tap_step + group * group_step + output
                    at = (((image * rows[1] + y) * columns[1] + z) * groups + group) * terms
                    for k in range(terms):
                        total += x[at + k] * w[place + k * term_step]
            place = (image * rows[0] + r[1] + row * r[2]) * columns[0] + c[1] + column * c[2]
            out[(place * groups + group) * outputs + output] = total

    return cuda.kernel(convolve)


@cache
def by_kernel_direct(dtype: np.dtype) -> Kernel:
    """The derivative by the kernel, where a group has few outputs or few terms: each piece of the sum a thread."""
    zero: Any = dtype.type(0)

    def by_kernel(out, x, ct, rows, columns, pixels, pieces, groups, terms, outputs):
        i = gpu.grid(1)
        if i < out.size:
            place = i // outputs // groups
            output, group, term = i % outputs, i // outputs % groups, place % terms
            tap = place // terms % (rows[5] * columns[5])
            piece = place // terms // (rows[5] * columns[5])
            above = tap // columns[5] * rows[4] - rows[3]
            before = tap % columns[5] * columns[4] - columns[3]
            low, high = piece * pixels // pieces, (piece + 1) * pixels // pieces
            image, row, column = low // columns[0] // rows[0], low // columns[0] % rows[0], low % columns[0]
            total = zero
            for k in range(low, high):
                y, z = row * rows[2] + above, column * columns[2] + before
                if y >= 0 and y < rows[1] and z >= 0 and z < columns[1]:
                    at = ((image * rows[1] + y) * columns[1] + z) * groups * terms
                    total += x[at + group * terms + term] * ct[(k * groups + group) * outputs + output]
                column, row, image = _ahead(column, row, image, 1, columns[0], rows[0])
            out[i] = total

    return cuda.kernel(by_kernel)


# Tiles


@cache
def convolve_tiled(dtype: np.dtype, transposed: bool, wide: int) -> Kernel:
    """A slice's terms are neighbours in the images, and its weights neighbours in the kernel, for those who read them.

    A thread reads one term of four pixels and, of the weights, one output of some terms.
    """
    width, apart = SIDE * wide, SIDE // wide  # of terms that a thread reads the weights of
    four = range(_HIGH)
    lines = [
        "def convolve(out, x, w, rows, columns, images, groups, terms, outputs, tap_step, group_step, term_step):",
        *_tiles(width),
        "    r, c = along(gpu.blockIdx.y // columns[2], rows), along(gpu.blockIdx.y % columns[2], columns)",
        "    pixels = images * r[0] * c[0]",
        f"    across, block = (outputs + {width - 1}) // {width}, np.int64(gpu.blockIdx.x)",
        f"    left, group = block % across * {width}, block // across % groups",
        f"    top = block // across // groups * {HEIGHT}",
        "    if top >= pixels:",  # of a phase that has fewer than others; all threads of a block at once
        "        return",
        f"    depth, output, lower = me % {SIDE}, left + me % {width}, me // {width}",
        "    term, tap_column, tap_row = _ahead(0, 0, 0, depth, terms, c[6])",
        "    w_term, w_column, w_row = _ahead(0, 0, 0, lower, terms, c[6])",
    ]
    for i in four:
        lines += [
            f"    pixel = top + me // {SIDE} + {i * SIDE}",
            f"    image{i} = pixel // c[0] // r[0] if pixel < pixels else np.int64(-1)",
            f"    row{i}, column{i} = r[3] + pixel // c[0] % r[0] * r[4], c[3] + pixel % c[0] * c[4]",
        ]
    lines += [
        f"    for start in range(0, r[6] * c[6] * terms, {SIDE}):",
        "        y, z = tap_row * r[5], tap_column * c[5]",
    ]
    for i in four:
        lines += [
            f"        at_row, at_column, value = row{i} + y, column{i} + z, zero",
            f"        if image{i} >= 0 and tap_row < r[6] and 0 <= at_row and at_row < rows[1]:",
            "            if 0 <= at_column and at_column < columns[1]:",
            f"                place = (image{i} * rows[1] + at_row) * columns[1] + at_column",
            "                value = x[(place * groups + group) * terms + term]",
            f"        a_tile[depth, me // {SIDE} + {i * SIDE}] = value",
        ]
    lines += [f"        term, tap_column, tap_row = _ahead(term, tap_column, tap_row, {SIDE}, terms, c[6])"]
    for i in range(wide):
        lines += [
            "        value = zero",
            "        if output < outputs and w_row < r[6]:",
            "            tap = (r[7] + w_row * r[8]) * columns[5] + c[7] + w_column * c[8]",
            "            value = w[tap * tap_step + group * group_step + w_term * term_step + output]",
            f"        b_tile[lower + {i * apart}, me % {width}] = value",
            f"        w_term, w_column, w_row = _ahead(w_term, w_column, w_row, {apart}, terms, c[6])",
        ]
    lines += _products(wide)
    for i in four:
        lines += [
            f"    pixel = top + ty + {i * SIDE}",
            "    if pixel < pixels:",
            "        row, column = r[1] + pixel // c[0] % r[0] * r[2], c[1] + pixel % c[0] * c[2]",
            "        place = (pixel // c[0] // r[0] * rows[0] + row) * columns[0] + column",
            "        place = (place * groups + group) * outputs",
            *_stores(i, wide),
        ]
    return _made("convolve", lines, dtype, along=_backward if transposed else _forward)


@cache
def by_kernel_tiled(dtype: np.dtype, wide: int) -> Kernel:
    """The derivative by the kernel: a slice's pixels are those of the sum, and each thread reads one row of them."""
    width, apart = SIDE * wide, SIDE // wide
    ahead = SIDE // _HIGH
    lines = [
        "def by_kernel(out, x, ct, rows, columns, pixels, pieces, groups, terms, outputs):",
        *_tiles(width),
        "    entries = rows[5] * columns[5] * terms",
        f"    across, block = (outputs + {width - 1}) // {width}, np.int64(gpu.blockIdx.x)",
        f"    down = (entries + {HEIGHT - 1}) // {HEIGHT}",
        f"    left, group, top = block % across * {width}, block // across % groups, block // across // groups",
        f"    piece, top = top // down, top % down * {HEIGHT}",
        "    low, high = piece * pixels // pieces, (piece + 1) * pixels // pieces",
        f"    entry, output = top + me % {HEIGHT}, left + me % {width}",
        "    term, tap = entry % terms, entry // terms",
        "    above = tap // columns[5] * rows[4] - rows[3]",
        "    before = tap % columns[5] * columns[4] - columns[3]",
        f"    first = low + me // {HEIGHT}",
        "    image, row, column = first // columns[0] // rows[0], first // columns[0] % rows[0], first % columns[0]",
        f"    for start in range(low, high, {SIDE}):",
    ]
    for i in range(_HIGH):
        lines += [
            "        y, z, value = row * rows[2] + above, column * columns[2] + before, zero",
            f"        if entry < entries and start + me // {HEIGHT} + {i * ahead} < high and 0 <= y and y < rows[1]:",
            "            if 0 <= z and z < columns[1]:",
            "                place = (image * rows[1] + y) * columns[1] + z",
            "                value = x[(place * groups + group) * terms + term]",
            f"        a_tile[me // {HEIGHT} + {i * ahead}, me % {HEIGHT}] = value",
            f"        column, row, image = _ahead(column, row, image, {ahead}, columns[0], rows[0])",
        ]
    for i in range(wide):
        lines += [
            f"        depth, value = me // {width} + {i * apart}, zero",
            "        if output < outputs and start + depth < high:",
            "            value = ct[((start + depth) * groups + group) * outputs + output]",
            f"        b_tile[depth, me % {width}] = value",
        ]
    lines += _products(wide)
    for i in range(_HIGH):
        lines += [
            f"    entry = top + ty + {i * SIDE}",
            "    if entry < entries:",
            "        place = ((piece * entries + entry) * groups + group) * outputs",
            *_stores(i, wide),
        ]
    return _made("by_kernel", lines, dtype)


def _tiles(width: int) -> list[str]:
    """Shared memory, by terms; one more place a term keeps threads out of each other's banks."""
    return [
        f"    a_tile = gpu.shared.array(({SIDE}, {HEIGHT + 1}), dtype)",
        f"    b_tile = gpu.shared.array(({SIDE}, {width + 1}), dtype)",
        "    tx, ty = gpu.threadIdx.x, gpu.threadIdx.y",
        f"    me = ty * {SIDE} + tx",
        *[f"    s{i}{j} = zero" for i in range(_HIGH) for j in range(width // SIDE)],
    ]


def _products(wide: int) -> list[str]:
    """Within the loop over slices: what the tiles add to a thread's results, which are variables to be registers."""
    four, across = range(_HIGH), range(wide)
    return [
        "        gpu.syncthreads()",
        f"        for k in range({SIDE}):",
        *[f"            a{i} = a_tile[k, ty + {i * SIDE}]" for i in four],
        *[f"            b{j} = b_tile[k, tx + {j * SIDE}]" for j in across],
        *[f"            s{i}{j} += a{i} * b{j}" for i in four for j in across],
        "        gpu.syncthreads()",
    ]


def _stores(i: int, wide: int) -> list[str]:
    """The i-th row of a thread's results, from `place` on."""
    lines = []
    for j in range(wide):
        column = f"left + tx + {j * SIDE}"
        lines += [f"        if {column} < outputs:", f"            out[place + {column}] = s{i}{j}"]
    return lines


def _made(name: str, lines: list[str], dtype: np.dtype, **scope: Any) -> Kernel:
    known = {"gpu": gpu, "np": np, "dtype": dtype.type, "zero": dtype.type(0), "_ahead": _ahead, **scope}
    return cuda.kernel(from_source(name, "\n".join(lines) + "\n", known))
