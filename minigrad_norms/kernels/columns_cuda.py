"""CUDA kernels for groups that lie across rows, (k0, r0, k1·r1) with r1 small: a thread walks down a column.

A block has neighbouring columns side by side, and rows of a piece one above the other. Pieces follow from the shape.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Kernel, gpu
from minigrad_norms.kernels.elements_cuda import elements, shift_of

BLOCK = 256  # threads


@cuda.jit
def add_up(a, b):
    """The sums of a and b over the threads of each column, for those with threadIdx.y = 0."""
    first = gpu.shared.array(BLOCK, np.float64)
    second = gpu.shared.array(BLOCK, np.float64)
    lanes, here = gpu.blockDim.x, gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
    first[here], second[here] = a, b
    gpu.syncthreads()
    if gpu.threadIdx.y == 0:
        for i in range(1, gpu.blockDim.y):
            a += first[i * lanes + gpu.threadIdx.x]
            b += second[i * lanes + gpu.threadIdx.x]
    return a, b


@cuda.jit
def column_of(across, columns, r1):
    """A thread's i0, its column, and the column's group of that i0; the column is −1 beyond the last."""
    column = gpu.blockIdx.x % across * gpu.blockDim.x + gpu.threadIdx.x
    return gpu.blockIdx.x // across, column if column < columns else -1, column // r1


@cuda.kernel
def sums(sums, x, mean, k0, r0, k1, r1, across, pieces, first, raw):
    """Sums of x − shift and of its square: sums[((k·pieces + piece)·k0 + i0)·columns + column]."""
    columns = k1 * r1
    i0, column, i1 = column_of(across, columns, r1)
    piece = gpu.blockIdx.y
    s1, s2 = np.float64(0.0), np.float64(0.0)
    if column >= 0:
        shift = np.float64(0.0)
        if not raw:
            shift = shift_of(x[i0 * r0 * columns + i1 * r1]) if first else shift_of(mean[i0 * k1 + i1])
        for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
            d = np.float64(x[(i0 * r0 + row) * columns + column]) - shift
            s1 += d
            s2 += d * d
    s1, s2 = add_up(s1, s2)
    if gpu.threadIdx.y == 0 and column >= 0:
        sums[(piece * k0 + i0) * columns + column] = s1
        sums[((pieces + piece) * k0 + i0) * columns + column] = s2


@cuda.jit
def entry_of(i0, i1, j1, r1, m0, n1, p1):
    """Where a column's entry is in a table."""
    return ((i0 % m0) * n1 + (i1 if n1 > 1 else 0)) * p1 + j1 // (r1 // p1)


@cache
def apply(dtype: np.dtype, activation: str | None) -> Kernel:
    """y by statistics that are there."""
    e = elements(dtype, activation, 1)
    group_of, outcomes = e.group, e.outcomes

    def columns_apply(y, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        columns = k1 * r1
        i0, column, i1 = column_of(across, columns, r1)
        piece = gpu.blockIdx.y
        if column >= 0:
            g = group_of(mean[i0 * k1 + i1], var[i0 * k1 + i1], epsilon)
            entry = entry_of(i0, i1, column - i1 * r1, r1, m0, n1, p1)
            ga, be = (gamma[entry],), (beta[entry],)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                y[at] = outcomes((x[at],), g, ga, be)[0]

    return cuda.kernel(columns_apply)


@cache
def backward_sums(dtype: np.dtype, activation: str | None) -> Kernel:
    """Sums of dy, behind an activation, and of that times x − μ, where `sums` has those of x."""
    e = elements(dtype, activation, 1)
    group_of, cotangent = e.group, e.cotangent

    def columns_backward_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        columns = k1 * r1
        i0, column, i1 = column_of(across, columns, r1)
        piece = gpu.blockIdx.y
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if column >= 0:
            g = group_of(mean[i0 * k1 + i1], var[i0 * k1 + i1], epsilon)
            entry = entry_of(i0, i1, column - i1 * r1, r1, m0, n1, p1)
            ga, be = gamma[entry], beta[entry]
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                through = np.float64(cotangent(dy[at], x[at], g, ga, be))
                s1 += through
                s2 += through * (np.float64(x[at]) - g[4])
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and column >= 0:
            sums[(piece * k0 + i0) * columns + column] = s1
            sums[((pieces + piece) * k0 + i0) * columns + column] = s2

    return cuda.kernel(columns_backward_sums)


@cache
def backward_apply(dtype: np.dtype, activation: str | None) -> Kernel:
    """dx by coefficients that are there."""
    e = elements(dtype, activation, 1)
    group_of, slopes = e.group, e.slopes

    def columns_backward_apply(
        dx, c, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon, free
    ):
        columns = k1 * r1
        i0, column, i1 = column_of(across, columns, r1)
        piece = gpu.blockIdx.y
        if column >= 0:
            group, groups = i0 * k1 + i1, k0 * k1
            g = group_of(mean[group], var[group], epsilon)
            four = c[group], c[groups + group], c[2 * groups + group], c[3 * groups + group]
            entry = entry_of(i0, i1, column - i1 * r1, r1, m0, n1, p1)
            ga, be = (gamma[entry],), (beta[entry],)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                dx[at] = slopes((dy[at],), (x[at],), g, ga, be, four, free)[0]

    return cuda.kernel(columns_backward_apply)


@cache
def parameter_sums(dtype: np.dtype, activation: str | None) -> Kernel:
    """Sums of dy·x̂ and dy over all that share a table's entry and a place in the line, where γ varies along lines.

    What is summed for (i0, i1, j1) of (m0, n1, r1) is cut into pieces: sums[((k·pieces + piece)·m0 + i0)·n1·r1 + ...].
    """
    e = elements(dtype, activation, 1)
    group_of, cotangent = e.group, e.cotangent

    def parameter_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        slot, j1, _ = column_of(across, r1, 1)
        i0, i1 = slot // n1, slot % n1
        piece = gpu.blockIdx.y
        shared = k1 // n1
        count = k0 // m0 * r0 * shared
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if j1 >= 0:
            entry = slot * p1 + j1 // (r1 // p1)
            ga, be = gamma[entry], beta[entry]
            for t in range(piece * count // pieces + gpu.threadIdx.y, (piece + 1) * count // pieces, gpu.blockDim.y):
                outer = t // (r0 * shared) * m0 + i0
                inner = t % shared if n1 == 1 else i1
                group = outer * k1 + inner
                at = ((outer * r0 + t // shared % r0) * k1 + inner) * r1 + j1
                g = group_of(mean[group], var[group], epsilon)
                through = np.float64(cotangent(dy[at], x[at], g, ga, be))
                s1 += through
                s2 += through * ((np.float64(x[at]) - g[4]) * g[5])
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and j1 >= 0:
            size = pieces * m0 * n1 * r1
            at = (piece * m0 * n1 + slot) * r1 + j1
            sums[at] = s1
            sums[size + at] = s2

    return cuda.kernel(parameter_sums)
