"""CUDA kernels of spectral norm: power iteration, the division by leftᵀ·w·right, and its gradient, in float64."""

from __future__ import annotations

from functools import partial

import numpy as np

import minigrad as mg
from minigrad.devices import cuda
from minigrad.devices.cuda import gpu
from minigrad.devices.cuda.copies import copy_into
from minigrad.devices.cuda.warp import WARP
from minigrad_norms.kernels.columns_cuda import added_up
from minigrad_norms.kernels.elements_cuda import sqrt as root
from minigrad_norms.kernels.plain_cuda import empty_like, require_kernels, threads_on, total_of
from minigrad_norms.spectral import power_iteration_p, spectral_norm_p, spectral_norm_vjp_p

_add_up = added_up(1)


@cuda.kernel
def _row_products(t, w, x, columns, step):
    """t[i] = Σ w[i, j]·x[i·step + j], a block for each row."""
    row = gpu.blockIdx.x
    found = (np.float64(0.0),)
    for j in range(gpu.threadIdx.x, columns, gpu.blockDim.x):
        found = (found[0] + np.float64(w[row * columns + j]) * np.float64(x[row * step + j]),)
    found = total_of(found)
    if gpu.threadIdx.x == 0:
        t[row] = found[0]


@cuda.kernel
def _column_products(t, w, x, rows, columns):
    """t[j] = Σ w[i, j]·x[i], a block for 32 columns."""
    column = gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x
    found = np.float64(0.0)
    if column < columns:
        for row in range(gpu.threadIdx.y, rows, gpu.blockDim.y):
            found += np.float64(w[row * columns + column]) * np.float64(x[row])
    sums, _ = _add_up((found,), (np.float64(0.0),))
    if gpu.threadIdx.y == 0 and column < columns:
        t[column] = sums[0]


@cuda.kernel
def _settle(out, t):
    """out = t/‖t‖, in one block; where that is not defined, out stays as it is."""
    found = (np.float64(0.0),)
    for i in range(gpu.threadIdx.x, t.size, gpu.blockDim.x):
        found = (found[0] + t[i] * t[i],)
    square = total_of(found)[0]
    if square > 0.0 and square < np.inf:
        for i in range(gpu.threadIdx.x, t.size, gpu.blockDim.x):
            out[i] = t[i] / root(square)


@cuda.kernel
def _inner(out, t, x):
    """Σ t·x, in one block; an x without elements stands for ones."""
    found = (np.float64(0.0),)
    for i in range(gpu.threadIdx.x, t.size, gpu.blockDim.x):
        found = (found[0] + t[i] * (np.float64(x[i]) if x.size > 0 else np.float64(1.0)),)
    found = total_of(found)
    if gpu.threadIdx.x == 0:
        out[0] = found[0]


@cuda.kernel
def _divide(y, w, sigma):
    i = gpu.grid(1)
    if i < y.size:
        y[i] = np.float64(w[i]) * (np.float64(0.0) if sigma[0] == 0.0 else 1.0 / sigma[0])


@cuda.kernel
def _slopes(dw, dy, left, right, sigma, dsigma, inner, columns):
    """dw = dy/σ + (dσ − Σ dy·w/σ²)·left·rightᵀ."""
    i = gpu.grid(1)
    if i < dw.size:
        r = np.float64(0.0) if sigma[0] == 0.0 else 1.0 / sigma[0]
        to_sigma = (dsigma[0] if dsigma.size > 0 else np.float64(0.0)) - inner[0] * r * r
        dw[i] = np.float64(dy[i]) * r + to_sigma * np.float64(left[i // columns]) * np.float64(right[i % columns])


@spectral_norm_p.kernel("cuda")
def _(out, w, left, right):
    require_kernels("spectral_norm", w.dtype)
    y, sigma = out
    w, left, right = (cuda.contiguous(a) for a in (w, left, right))
    rows, columns = w.shape
    t = empty_like(w, (rows,))
    _row_products(rows, threads_on(columns), t, w, right, columns, 0)
    _inner(1, threads_on(rows), sigma, t, left)
    _divide(cuda.blocks_of(w.size), cuda.THREADS, y, w, sigma)


@spectral_norm_vjp_p.kernel("cuda")
def _(out, dy, w, left, right, sigma, dsigma):
    require_kernels("spectral_norm_vjp", w.dtype)
    dy, w, left, right, sigma = (cuda.contiguous(a) for a in (dy, w, left, right, sigma))
    rows, columns = w.shape
    nothing, t, inner = empty_like(w, (0,)), empty_like(w, (rows,)), empty_like(w, (1,))
    dsigma = nothing if dsigma is None else cuda.contiguous(dsigma)
    _row_products(rows, threads_on(columns), t, w, dy, columns, columns)
    _inner(1, threads_on(rows), inner, t, nothing)
    numbers = (left, right, sigma, dsigma, inner, columns)
    _slopes(cuda.blocks_of(w.size), cuda.THREADS, out, dy, *numbers)


@power_iteration_p.kernel("cuda")
def _(out, w, left, right, *, iterations, right_first):
    require_kernels("power_iteration", w.dtype)
    new_left, new_right = out
    w = cuda.contiguous(w)
    rows, columns = w.shape
    if half := mg.dtypes.is_half(w.dtype):  # rounded once, at the end
        new_left, new_right = empty_like(w, (rows,), np.float32), empty_like(w, (columns,), np.float32)
    copy_into(new_left, left)
    copy_into(new_right, right)
    across, down = empty_like(w, (rows,)), empty_like(w, (columns,))
    lanes, tall = WARP, max(1, min(cuda.THREADS // WARP, rows))
    products = [
        partial(_row_products, rows, threads_on(columns), across, w, new_right, columns, 0),
        partial(_column_products, cuda.blocks_of(columns, lanes), (lanes, tall), down, w, new_left, rows, columns),
    ]
    for step in range(2 * iterations):
        side = (step + right_first) % 2
        products[side]()
        _settle(1, threads_on(w.shape[side]), (new_left, new_right)[side], (across, down)[side])
    if half:
        copy_into(out[0], new_left)
        copy_into(out[1], new_right)
