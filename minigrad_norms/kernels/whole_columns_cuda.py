"""CUDA kernels for short columns that are groups of their own: a block has all rows of its columns, one launch does.

What it reads a second time comes out of a cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Kernel, gpu
from minigrad.devices.cuda.rows import Moves, each
from minigrad_norms.kernels.columns_cuda import (
    added_up,
    applying,
    backward_summing,
    column_of,
    rows_of,
    sloping,
    summing,
    table_row,
)
from minigrad_norms.kernels.combine_cuda import finish, settle
from minigrad_norms.kernels.elements_cuda import shift_of


@cache
def forward(dtype: np.dtype, activation: str | None, moves: Moves, number: None) -> Kernel:
    """Mean, variance, and y, if it is wanted. In float64 the sums are taken again about the mean."""
    width, passes = moves.width, 2 if dtype == np.float64 else 1
    summed, add_up, applied = summing(moves), added_up(width), applying(dtype, activation, moves, number)
    zeros = (0.0,) * width

    @cuda.jit
    def value(values, at):
        return values[at]

    @cuda.jit
    def first(x, at):
        return shift_of(x[at])

    firsts = each("first", first, "x, at", "x, at + {k}", width)
    means = each("mean", value, "mean, at", "mean, at + {k}", width)

    def columns_forward(y, mean, var, x, gamma, beta, r0, k1, m0, n1, p1, across, epsilon, raw, total):
        i0, column = column_of(across, width)
        here = column < k1
        for again in range(1 if raw else passes):
            s1, s2, shift = zeros, zeros, zeros
            if here:
                if not raw:
                    shift = means(mean, i0 * k1 + column) if again else firsts(x, i0 * r0 * k1 + column)
                at, end, step = rows_of(i0, column, k1, r0, r0)
                s1, s2 = summed(x, shift, at, end, step)
            s1, s2 = add_up(s1, s2)
            if here and gpu.threadIdx.y == 0:
                for k in range(width):
                    settle(mean, var, i0 * k1 + column + k, s1[k], s2[k], shift[k], np.float64(r0), raw, total)
            gpu.syncthreads()
        if y.size > 0:
            applied(y, x, mean, var, gamma, beta, i0, column, r0, k1, 1, m0, n1, p1, r0, epsilon)

    return cuda.kernel(columns_forward)


@cache
def backward(dtype: np.dtype, activation: str | None, moves: Moves, number: None, free: bool) -> Kernel:
    """All gradients, those of γ and β where each column has an entry of its own, else the sums they come from."""
    width = moves.width
    summed, add_up = backward_summing(dtype, activation, moves, number), added_up(width)
    sloped, zeros = sloping(dtype, activation, moves, number, free), (0.0,) * width

    def columns_backward(
        dx, c, dgamma, dbeta, new_dmean, new_dvar, sums, dmean, dvar, dy, x, mean, var, gamma, beta, k0, r0, k1, m0, n1,
        p1, across, epsilon, raw, total,
    ):  # fmt: skip
        i0, column = column_of(across, width)
        here = column < k1
        s1, s2 = zeros, zeros
        if here:
            at, end, step = rows_of(i0, column, k1, r0, r0)
            s1, s2 = summed(dy, x, mean, var, gamma, beta, i0, column, at, end, step, k1, 1, m0, n1, p1, epsilon)
        s1, s2 = add_up(s1, s2)
        if here and gpu.threadIdx.y == 0:
            row, groups = table_row(i0, m0, n1), k0 * k1
            for k in range(width):
                group, entry = i0 * k1 + column + k, row + (column + k if n1 > 1 else 0)
                rstd = finish(
                    c, dgamma, dbeta, new_dmean, new_dvar, dmean, dvar, var, gamma, entry, group, groups, s1[k], s2[k],
                    np.float64(r0), epsilon, raw, total, free,
                )  # fmt: skip
                if sums.size > 0:
                    sums[group] = s1[k]
                    sums[groups + group] = s2[k] * rstd
        gpu.syncthreads()
        if dx.size > 0:
            sloped(dx, c, dy, x, mean, var, gamma, beta, i0, column, k0, r0, k1, 1, m0, n1, p1, r0, epsilon)

    return cuda.kernel(columns_backward)
