"""CUDA kernels of spectral norm: power iteration, the division by leftᵀ·w·right, and its gradient, in float64."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

import minigrad as mg
from minigrad import scalar
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Kernel, gpu
from minigrad.devices.cuda.copies import copy_into
from minigrad.devices.cuda.loops import Loop
from minigrad.devices.cuda.rows import Moves, each, lanes_on, moves_of
from minigrad.devices.cuda.warp import WARP
from minigrad_norms.kernels.columns_cuda import added_up
from minigrad_norms.kernels.elements_cuda import sqrt as root
from minigrad_norms.kernels.plain_cuda import empty_like, require_kernels, total_of
from minigrad_norms.spectral import power_iteration_p, spectral_norm_p, spectral_norm_vjp_p


@cache
def _row_products(moves: Moves) -> Kernel:
    """t[i] = Σ w[i, j]·x[i·step + j], a block for each row."""
    width, load, _ = moves

    def row_products(t, w, x, columns, step):
        row = gpu.blockIdx.x
        found = np.float64(0.0)
        for j in range(width * gpu.threadIdx.x, columns, width * gpu.blockDim.x):
            a, b = load(w, row * columns + j), load(x, row * step + j)
            for k in range(width):
                found += np.float64(a[k]) * np.float64(b[k])
        found = total_of((found,))[0]
        if gpu.threadIdx.x == 0:
            t[row] = found

    return cuda.kernel(row_products)


@cache
def _column_products(moves: Moves) -> Kernel:
    """t[j] = Σ w[i, j]·x[i], a block for 32 columns, of which a thread takes neighbours."""
    width, load, _ = moves
    add_up, zeros = added_up(width), (0.0,) * width
    plus = each("plus", _plus_product, "a, b, x", "a[{k}], b[{k}], x", width)

    def column_products(t, w, x, rows, columns):
        column = (gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x) * width
        found = zeros
        if column < columns:
            for row in range(gpu.threadIdx.y, rows, gpu.blockDim.y):
                found = plus(found, load(w, row * columns + column), np.float64(x[row]))
        found, _ = add_up(found, zeros)
        if gpu.threadIdx.y == 0 and column < columns:
            for k in range(width):
                t[column + k] = found[k]

    return cuda.kernel(column_products)


@cuda.jit
def _plus_product(a, b, x):
    return a + np.float64(b) * x


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


# In float64, as sigma is.
_w, _dy, _left, _right, _sigma, _dsigma, _product = (
    scalar.variable(n) for n in ("w", "dy", "left", "right", "sigma", "dsigma", "product")
)
_inverse = scalar.select(scalar.eq(_sigma, 0.0), 0.0, 1.0 / _sigma)
_divide = Loop(_w * _inverse, ("w", "sigma"), typed=1)

# dw = dy/σ + (dσ − Σ dy·w/σ²)·left·rightᵀ
_slopes = Loop(
    _dy * _inverse + (_dsigma - _product * _inverse * _inverse) * _left * _right,
    ("dy", "left", "right", "sigma", "dsigma", "product"),
    typed=3,
)


@spectral_norm_p.kernel("cuda")
def _(out, w, left, right):
    require_kernels("spectral_norm", w.dtype)
    y, sigma = out
    t = _products_of_rows(w, right)
    _inner(1, lanes_on(t.size), sigma, t, cuda.contiguous(left))
    _divide(y, w, sigma)


@spectral_norm_vjp_p.kernel("cuda")
def _(out, dy, w, left, right, sigma, dsigma):
    require_kernels("spectral_norm_vjp", w.dtype)
    t, product = _products_of_rows(w, dy), empty_like(w, ())
    _inner(1, lanes_on(t.size), product, t, empty_like(w, (0,)))
    if dsigma is None:
        dsigma = cuda.constant(0.0, sigma.dtype, w.lease.stream.device)
    _slopes(out, dy, left[:, None], right, sigma, dsigma, product)


def _products_of_rows(w: DeviceArray, x: DeviceArray) -> DeviceArray:
    """Σ w[i, j]·x[i, j] over j, where x is a matrix as well, or Σ w[i, j]·x[j]."""
    w, x = cuda.contiguous(w), cuda.contiguous(x)
    (rows, columns), t = w.shape, empty_like(w, w.shape[:1])
    made = _row_products(moves_of(columns, w, x))
    made(rows, lanes_on(columns), t, w, x, columns, columns if x.ndim == 2 else 0)
    return t


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
    by_rows, by_columns = moves_of(columns, w, new_right), moves_of(columns, w)
    lanes = WARP // by_columns.width
    blocks, threads = cuda.blocks_of(columns, WARP), (lanes, max(1, min(cuda.THREADS // lanes, rows)))
    products = [
        partial(_row_products(by_rows), rows, lanes_on(columns), across, w, new_right, columns, 0),
        partial(_column_products(by_columns), blocks, threads, down, w, new_left, rows, columns),
    ]
    for step in range(2 * iterations):
        side = (step + right_first) % 2
        products[side]()
        _settle(1, lanes_on(w.shape[side]), (new_left, new_right)[side], (across, down)[side])
    if half:
        copy_into(out[0], new_left)
        copy_into(out[1], new_right)
