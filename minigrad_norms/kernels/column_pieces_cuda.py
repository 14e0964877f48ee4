"""CUDA kernels of columns in pieces, which lie in blocks of their own: sums for others to combine, and the elements."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function, Kernel, gpu
from minigrad.devices.cuda.rows import Moves, each
from minigrad_norms.kernels.columns_cuda import (
    added_up,
    applying,
    backward_summing,
    column_of,
    group_at,
    rows_of,
    sloping,
    sum_functions,
    summing,
)
from minigrad_norms.kernels.elements_cuda import elements, shift_of


@cache
def sums(moves: Moves, number: Any) -> Kernel:
    """Sums of x − shift and of its square: sums[((k·pieces + piece)·k0 + i0)·columns + column]."""
    width, summed, add_up, group_of = moves.width, summing(moves), added_up(moves.width), group_at(number)
    zeros, write = (0.0,) * width, _written(width)

    @cuda.jit
    def shift_at(x, mean, i0, column, r0, k1, r1, first):
        group = group_of(i0, column, k1, r1)
        return shift_of(x[(i0 * (r0 - 1) * k1 + group) * r1]) if first else shift_of(mean[group])

    head = "x, mean, i0, column, r0, k1, r1, first"
    shifts = each("shift", shift_at, head, head.replace("column", "column + {k}"), width)

    def columns_sums(sums, x, mean, k0, r0, k1, r1, across, chunk, first, raw):
        columns = k1 * r1
        i0, column = column_of(across, width)
        s1, s2 = zeros, zeros
        if column < columns:
            shift = zeros if raw else shifts(x, mean, i0, column, r0, k1, r1, first)
            at, end, step = rows_of(i0, column, columns, r0, chunk)
            s1, s2 = summed(x, shift, at, end, step)
        write(sums, add_up(s1, s2), i0, column, k0, columns)

    return cuda.kernel(columns_sums)


@cache
def _written(width: int) -> Function:
    """``write(sums, (s1, s2), i0, column, k0, columns)`` of sums of a piece, which some threads of a block have."""

    def write(sums, found, i0, column, k0, columns):
        if gpu.threadIdx.y == 0 and column < columns:
            at = (gpu.blockIdx.y * k0 + i0) * columns + column
            size = gpu.gridDim.y * k0 * columns
            for k in range(width):
                sums[at + k] = found[0][k]
                sums[size + at + k] = found[1][k]

    return cuda.jit(write)


@cache
def apply(dtype: np.dtype, activation: str | None, moves: Moves, number: Any) -> Kernel:
    """y by statistics that are there."""
    width, applied = moves.width, applying(dtype, activation, moves, number)

    def columns_apply(y, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, chunk, epsilon):
        i0, column = column_of(across, width)
        applied(y, x, mean, var, gamma, beta, i0, column, r0, k1, r1, m0, n1, p1, chunk, epsilon)

    return cuda.kernel(columns_apply)


@cache
def backward_sums(dtype: np.dtype, activation: str | None, moves: Moves, number: Any) -> Kernel:
    """Sums of dy, behind an activation, and of that times x − μ, where `sums` has those of x."""
    width, summed, add_up = moves.width, backward_summing(dtype, activation, moves, number), added_up(moves.width)
    zeros, write = (0.0,) * width, _written(width)

    def columns_backward_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, chunk, epsilon):
        columns = k1 * r1
        i0, column = column_of(across, width)
        s1, s2 = zeros, zeros
        if column < columns:
            at, end, step = rows_of(i0, column, columns, r0, chunk)
            s1, s2 = summed(dy, x, mean, var, gamma, beta, i0, column, at, end, step, k1, r1, m0, n1, p1, epsilon)
        write(sums, add_up(s1, s2), i0, column, k0, columns)

    return cuda.kernel(columns_backward_sums)


@cache
def backward_apply(dtype: np.dtype, activation: str | None, moves: Moves, number: Any, free: bool) -> Kernel:
    """dx by coefficients that are there."""
    width, sloped = moves.width, sloping(dtype, activation, moves, number, free)

    def columns_backward_apply(
        dx, c, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, chunk, epsilon
    ):
        i0, column = column_of(across, width)
        sloped(dx, c, dy, x, mean, var, gamma, beta, i0, column, k0, r0, k1, r1, m0, n1, p1, chunk, epsilon)

    return cuda.kernel(columns_backward_apply)


@cache
def parameter_sums(dtype: np.dtype, activation: str | None, moves: Moves, number: Any) -> Kernel:
    """Sums of dy·x̂ and dy over all that share a table's entry and a place in the line, where γ varies along lines.

    What is summed for (i0, i1, j1) of (m0, n1, r1) is cut into pieces: sums[((k·pieces + piece)·m0 + i0)·n1·r1 + ...].
    `number` is a type that holds lines, None where each is a group, of r0 = k1 = 1.
    """
    width, load, _ = moves
    e = elements(dtype, activation, width)  # neighbours in a line are of one group
    group_of, cotangents = e.group, e.cotangents
    plus, _, plus_product = sum_functions(width)
    add_up, zeros = added_up(width), (0.0,) * width

    @cuda.jit
    def entry(values, slot, column, r1, p1):
        return values[slot * p1 + column // (r1 // p1)]

    @cuda.jit
    def own(t, i0, i1, r0, k1, m0, n1):
        return t * m0 + i0, t * m0 + i0

    @cuda.jit
    def divided(t, i0, i1, r0, k1, m0, n1):
        shared = number(k1) // number(n1)
        line = number(t) // number(shared)
        outer = np.int64(number(line) // number(r0)) * m0 + i0
        inner = np.int64(number(t) % number(shared)) if n1 == 1 else i1
        return outer * k1 + inner, (outer * r0 + np.int64(number(line) % number(r0))) * k1 + inner

    @cuda.jit
    def standard(x, g):
        return (np.float64(x) - g[4]) * g[5]

    head = "values, slot, column, r1, p1"
    entries = each("entry", entry, head, head.replace("column", "column + {k}"), width)
    locate = own if number is None else divided  # a group, and the line
    standards = each("standard", standard, "x, g", "x[{k}], g", width)

    def parameter_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, chunk, epsilon):
        slot, j1 = column_of(across, width)
        i0, i1 = slot // n1, slot % n1
        piece, pieces, count = gpu.blockIdx.y, gpu.gridDim.y, k0 // m0 * r0 * (k1 // n1)
        s1, s2 = zeros, zeros
        if j1 < r1:
            ga, be = entries(gamma, slot, j1, r1, p1), entries(beta, slot, j1, r1, p1)
            t, end = piece * chunk + gpu.threadIdx.y, (piece + 1) * chunk
            while t < end and t < count:
                group, line = locate(t, i0, i1, r0, k1, m0, n1)
                at = line * r1 + j1
                values, given = load(x, at), load(dy, at)
                g = group_of(mean[group], var[group], epsilon)
                through = cotangents(given, values, g, ga, be)
                s1, s2 = plus(s1, through), plus_product(s2, through, standards(values, g))
                t += gpu.blockDim.y
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and j1 < r1:
            size = pieces * m0 * n1 * r1
            at = (piece * m0 * n1 + slot) * r1 + j1
            for k in range(width):
                sums[at + k] = s1[k]
                sums[size + at + k] = s2[k]

    return cuda.kernel(parameter_sums)
