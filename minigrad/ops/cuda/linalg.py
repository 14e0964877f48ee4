"""Matrix products on a GPU: by cuBLAS where its binding is installed, else by a plain kernel of tiles."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import DeviceArray, Kernel, cublas, gpu
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.loops import merged
from minigrad.errors import DTypeError
from minigrad.ops.linalg import matmul_p

_TILE = 64  # rows and columns of the result that a block makes
_DEPTH = 16  # of what is multiplied, held in shared memory at a time
_SIDE = 16  # threads along each side of a block; each makes 4 by 4 elements


@matmul_p.kernel("cuda")
def _(out, x, y, *, tx, ty):
    if not dtypes.has_gpu_kernels(out.dtype):
        raise DTypeError(f"matmul: has no CUDA kernel for {out.dtype}, only for real floats of at most 64 bits")
    if tx:
        x = _swapped(x)
    if ty:
        y = _swapped(y)
    if not out.size:
        return
    if not x.shape[-1]:
        fill(out, 0)
    elif not cublas.matmul(out, x, y):
        _tiled(out, x, y)


def _swapped(a: DeviceArray) -> DeviceArray:
    return a.transpose((*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


def _tiled(out: DeviceArray, x: DeviceArray, y: DeviceArray) -> None:
    """out = x @ y, of whatever strides."""
    (n, k), m = x.shape[-2:], y.shape[-1]
    batch = out.shape[:-2]
    leading = [a.strided(a.shape[:-2], a.strides[:-2]) for a in (out, x, y)]
    lengths, (_, x_steps, y_steps) = merged(batch, leading)
    flat_x, flat_y = x.span(), y.span()
    size = out.itemsize
    made = _kernel(dtypes.arithmetic(out.dtype), len(lengths))
    blocks = cuda.blocks_of(m, _TILE) * cuda.blocks_of(n, _TILE) * prod(lengths)
    strides = [s // size for a in (x, y) for s in a.strides[-2:]]
    arguments = (n, k, m, tuple(lengths), x_steps, y_steps, *strides, *flat_x, *flat_y)
    made(blocks, (_SIDE, _SIDE), out.flat, *arguments, uses=(out, x, y))


@cache
def _kernel(dtype: np.dtype, axes: int) -> Kernel:
    """The kernel, with its 16 sums written out as variables, which is how they stay in registers.

    In shared memory x is kept by columns; one more place a row keeps threads out of each other's banks.
    """
    four = range(4)
    lines = [
        "def matmul(out, n, k, m, lengths, x_steps, y_steps, x_row, x_column, y_row, y_column, x, x_at, y, y_at):",
        f"    x_tile = gpu.shared.array(({_DEPTH}, {_TILE + 1}), dtype)",
        f"    y_tile = gpu.shared.array(({_DEPTH}, {_TILE + 1}), dtype)",
        "    tx, ty = gpu.threadIdx.x, gpu.threadIdx.y",
        f"    across, down = (m + {_TILE - 1}) // {_TILE}, (n + {_TILE - 1}) // {_TILE}",
        "    block = np.int64(gpu.blockIdx.x)",
        f"    left, top, rest = block % across * {_TILE}, block // across % down * {_TILE}, block // across // down",
        f"    me = ty * {_SIDE} + tx",
        "    low = rest * n * m",
    ]
    for axis in reversed(range(axes)):
        lines += [
            f"    x_at += rest % lengths[{axis}] * x_steps[{axis}]",
            f"    y_at += rest % lengths[{axis}] * y_steps[{axis}]",
            f"    rest = rest // lengths[{axis}]",
        ]
    lines += [f"    s{i}{j} = dtype(0)" for i in four for j in four]
    lines += [
        f"    for start in range(0, k, {_DEPTH}):",
        "        for part in range(4):",
        f"            place = me + part * {_SIDE * _SIDE}",
        f"            row, depth = place // {_DEPTH}, place % {_DEPTH}",
        "            value = dtype(0)",
        "            if top + row < n and start + depth < k:",
        "                value = x[x_at + (top + row) * x_row + (start + depth) * x_column]",
        "            x_tile[depth, row] = value",
        f"            column, depth = place % {_TILE}, place // {_TILE}",
        "            value = dtype(0)",
        "            if left + column < m and start + depth < k:",
        "                value = y[y_at + (start + depth) * y_row + (left + column) * y_column]",
        "            y_tile[depth, column] = value",
        "        gpu.syncthreads()",
        f"        for depth in range({_DEPTH}):",
    ]
    lines += [f"            a{i} = x_tile[depth, ty + {i * _SIDE}]" for i in four]
    lines += [f"            b{j} = y_tile[depth, tx + {j * _SIDE}]" for j in four]
    lines += [f"            s{i}{j} += a{i} * b{j}" for i in four for j in four]
    lines += ["        gpu.syncthreads()"]
    for i in four:
        for j in four:
            row, column = f"top + ty + {i * _SIDE}", f"left + tx + {j * _SIDE}"
            lines += [f"    if {row} < n and {column} < m:", f"        out[low + ({row}) * m + {column}] = s{i}{j}"]
    scope: dict[str, Any] = {"gpu": gpu, "np": np, "dtype": dtype.type}
    return cuda.kernel(from_source("matmul", "\n".join(lines) + "\n", scope))
