"""CUDA kernels for groups that lie across rows, (k0, r0, k1·r1) with r1 small: a thread walks down a few columns.

A thread takes as many neighbouring columns as 16 bytes hold, where their number allows it. A block has such columns
side by side, and rows of a piece one above the other. How columns and pieces are cut follows from the shape; only
whether 16 bytes are moved at once depends on where arrays begin.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function, Kernel, gpu
from minigrad.devices.cuda.rows import BLOCK, Moves, each
from minigrad_norms.kernels.elements_cuda import elements, shift_of


@cuda.jit
def _plus(a, b):
    return a + np.float64(b)


@cuda.jit
def _plus_square(a, b):
    return a + b * b


@cuda.jit
def _plus_product(a, b, c):
    return a + b * c


@cache
def _sum_functions(width: int) -> tuple[Function, Function, Function]:
    """Sums of neighbours: a + b, a + b², a + b·c."""
    return (
        each("plus", _plus, "a, b", "a[{k}], b[{k}]", width),
        each("plus_square", _plus_square, "a, b", "a[{k}], b[{k}]", width),
        each("plus_product", _plus_product, "a, b, c", "a[{k}], np.float64(b[{k}]), c[{k}]", width),
    )


@cache
def added_up(width: int) -> Function:
    """``add_up(a, b)``: the sums of a and b over the threads of each column, for those with threadIdx.y = 0."""
    plus, _, _ = _sum_functions(width)

    @cuda.jit
    def element(shared, at):
        return shared[at]

    kept = each("kept", element, "shared, at", f"shared, at + {{k}} * {BLOCK}", width)
    size = width * BLOCK

    def add_up(a, b):
        first = gpu.shared.array(size, np.float64)
        second = gpu.shared.array(size, np.float64)
        lanes, here = gpu.blockDim.x, gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
        for k in range(width):
            first[k * BLOCK + here], second[k * BLOCK + here] = a[k], b[k]
        gpu.syncthreads()
        if gpu.threadIdx.y == 0:
            for i in range(1, gpu.blockDim.y):
                a = plus(a, kept(first, i * lanes + gpu.threadIdx.x))
                b = plus(b, kept(second, i * lanes + gpu.threadIdx.x))
        return a, b

    return cuda.jit(add_up)


@cuda.jit
def column_of(across, columns, width):
    """A thread's i0, and the first of its columns, −1 beyond the last."""
    column = (gpu.blockIdx.x % across * gpu.blockDim.x + gpu.threadIdx.x) * width
    return gpu.blockIdx.x // across, column if column < columns else -1


@cache
def sums(moves: Moves) -> Kernel:
    """Sums of x − shift and of its square: sums[((k·pieces + piece)·k0 + i0)·columns + column]."""
    width, load, _ = moves
    plus, plus_square, _ = _sum_functions(width)
    add_up, zeros = added_up(width), (0.0,) * width

    @cuda.jit
    def shift_at(x, mean, i0, column, r0, k1, r1, first, raw):
        if raw:
            return 0.0
        return shift_of(x[(i0 * r0 * k1 + column // r1) * r1]) if first else shift_of(mean[i0 * k1 + column // r1])

    @cuda.jit
    def deviation(x, shift):
        return np.float64(x) - shift

    head = "x, mean, i0, column, r0, k1, r1, first, raw"
    shifts = each("shift", shift_at, head, head.replace("column", "column + {k}"), width)
    deviations = each("deviation", deviation, "x, shift", "x[{k}], shift[{k}]", width)

    def columns_sums(sums, x, mean, k0, r0, k1, r1, across, pieces, first, raw):
        columns = k1 * r1
        i0, column = column_of(across, columns, width)
        piece = gpu.blockIdx.y
        s1, s2 = zeros, zeros
        if column >= 0:
            shift = shifts(x, mean, i0, column, r0, k1, r1, first, raw)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                d = deviations(load(x, (i0 * r0 + row) * columns + column), shift)
                s1, s2 = plus(s1, d), plus_square(s2, d)
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and column >= 0:
            for k in range(width):
                sums[(piece * k0 + i0) * columns + column + k] = s1[k]
                sums[((pieces + piece) * k0 + i0) * columns + column + k] = s2[k]

    return cuda.kernel(columns_sums)


@cuda.jit
def _entry(values, i0, column, r1, m0, n1, p1):
    """A column's entry in a table."""
    i1 = column // r1
    return values[((i0 % m0) * n1 + (i1 if n1 > 1 else 0)) * p1 + (column - i1 * r1) // (r1 // p1)]


@cuda.jit
def _coefficients(c, i0, column, k0, k1, r1):
    """Those of a column's group."""
    group, groups = i0 * k1 + column // r1, k0 * k1
    return c[group], c[groups + group], c[2 * groups + group], c[3 * groups + group]


@cuda.jit
def _from_mean(x, g):
    return np.float64(x) - g[4]


class _Columns:
    """Functions of a thread's neighbouring columns, which may be of several groups."""

    def __init__(self, dtype: np.dtype, activation: str | None, moves: Moves):
        width, self.load, self.store = moves
        e = elements(dtype, activation, width, True)
        group = e.group

        @cuda.jit
        def group_at(mean, var, i0, column, k1, r1, epsilon):
            at = i0 * k1 + column // r1
            return group(mean[at], var[at], epsilon)

        def made(function: Function, head: str) -> Function:
            return each("at", function, head, head.replace("column", "column + {k}"), width)

        self.groups = made(group_at, "mean, var, i0, column, k1, r1, epsilon")
        self.entries = made(_entry, "values, i0, column, r1, m0, n1, p1")
        self.coefficients = made(_coefficients, "c, i0, column, k0, k1, r1")
        self.from_means = each("from_mean", _from_mean, "x, g", "x[{k}], g[{k}]", width)
        self.outcomes, self.cotangents, self.slopes = e.outcomes, e.cotangents, e.slopes


@cache
def apply(dtype: np.dtype, activation: str | None, moves: Moves) -> Kernel:
    """y by statistics that are there."""
    f, width = _Columns(dtype, activation, moves), moves.width
    groups, entries, outcomes, load, store = f.groups, f.entries, f.outcomes, f.load, f.store

    def columns_apply(y, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        columns = k1 * r1
        i0, column = column_of(across, columns, width)
        piece = gpu.blockIdx.y
        if column >= 0:
            g = groups(mean, var, i0, column, k1, r1, epsilon)
            ga = entries(gamma, i0, column, r1, m0, n1, p1)
            be = entries(beta, i0, column, r1, m0, n1, p1)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                store(y, at, outcomes(load(x, at), g, ga, be))

    return cuda.kernel(columns_apply)


@cache
def backward_sums(dtype: np.dtype, activation: str | None, moves: Moves) -> Kernel:
    """Sums of dy, behind an activation, and of that times x − μ, where `sums` has those of x."""
    f, width = _Columns(dtype, activation, moves), moves.width
    groups, entries, cotangents, from_means, load = f.groups, f.entries, f.cotangents, f.from_means, f.load
    plus, _, plus_product = _sum_functions(width)
    add_up, zeros = added_up(width), (0.0,) * width

    def columns_backward_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        columns = k1 * r1
        i0, column = column_of(across, columns, width)
        piece = gpu.blockIdx.y
        s1, s2 = zeros, zeros
        if column >= 0:
            g = groups(mean, var, i0, column, k1, r1, epsilon)
            ga = entries(gamma, i0, column, r1, m0, n1, p1)
            be = entries(beta, i0, column, r1, m0, n1, p1)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                values = load(x, at)
                through = cotangents(load(dy, at), values, g, ga, be)
                s1, s2 = plus(s1, through), plus_product(s2, through, from_means(values, g))
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and column >= 0:
            for k in range(width):
                sums[(piece * k0 + i0) * columns + column + k] = s1[k]
                sums[((pieces + piece) * k0 + i0) * columns + column + k] = s2[k]

    return cuda.kernel(columns_backward_sums)


@cache
def backward_apply(dtype: np.dtype, activation: str | None, moves: Moves) -> Kernel:
    """dx by coefficients that are there."""
    f, width = _Columns(dtype, activation, moves), moves.width
    groups, entries, coefficients, slopes, load, store = (
        f.groups, f.entries, f.coefficients, f.slopes, f.load, f.store
    )  # fmt: skip

    def columns_backward_apply(
        dx, c, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon, free
    ):
        columns = k1 * r1
        i0, column = column_of(across, columns, width)
        piece = gpu.blockIdx.y
        if column >= 0:
            g, four = groups(mean, var, i0, column, k1, r1, epsilon), coefficients(c, i0, column, k0, k1, r1)
            ga = entries(gamma, i0, column, r1, m0, n1, p1)
            be = entries(beta, i0, column, r1, m0, n1, p1)
            for row in range(piece * r0 // pieces + gpu.threadIdx.y, (piece + 1) * r0 // pieces, gpu.blockDim.y):
                at = (i0 * r0 + row) * columns + column
                store(dx, at, slopes(load(dy, at), load(x, at), g, ga, be, four, free))

    return cuda.kernel(columns_backward_apply)


@cache
def parameter_sums(dtype: np.dtype, activation: str | None, moves: Moves) -> Kernel:
    """Sums of dy·x̂ and dy over all that share a table's entry and a place in the line, where γ varies along lines.

    What is summed for (i0, i1, j1) of (m0, n1, r1) is cut into pieces: sums[((k·pieces + piece)·m0 + i0)·n1·r1 + ...].
    """
    width, load, _ = moves
    e = elements(dtype, activation, width)  # neighbours in a line are of one group
    group_of, cotangents = e.group, e.cotangents
    plus, _, plus_product = _sum_functions(width)
    add_up, zeros = added_up(width), (0.0,) * width

    @cuda.jit
    def entry(values, slot, column, r1, p1):
        return values[slot * p1 + column // (r1 // p1)]

    @cuda.jit
    def standard(x, g):
        return (np.float64(x) - g[4]) * g[5]

    head = "values, slot, column, r1, p1"
    entries = each("entry", entry, head, head.replace("column", "column + {k}"), width)
    standards = each("standard", standard, "x, g", "x[{k}], g", width)

    def parameter_sums(sums, dy, x, mean, var, gamma, beta, k0, r0, k1, r1, m0, n1, p1, across, pieces, epsilon):
        slot, j1 = column_of(across, r1, width)
        i0, i1 = slot // n1, slot % n1
        piece = gpu.blockIdx.y
        shared = k1 // n1
        count = k0 // m0 * r0 * shared
        s1, s2 = zeros, zeros
        if j1 >= 0:
            ga, be = entries(gamma, slot, j1, r1, p1), entries(beta, slot, j1, r1, p1)
            for t in range(piece * count // pieces + gpu.threadIdx.y, (piece + 1) * count // pieces, gpu.blockDim.y):
                outer = t // (r0 * shared) * m0 + i0
                inner = t % shared if n1 == 1 else i1
                group = outer * k1 + inner
                at = ((outer * r0 + t // shared % r0) * k1 + inner) * r1 + j1
                g, values = group_of(mean[group], var[group], epsilon), load(x, at)
                through = cotangents(load(dy, at), values, g, ga, be)
                s1, s2 = plus(s1, through), plus_product(s2, through, standards(values, g))
        s1, s2 = add_up(s1, s2)
        if gpu.threadIdx.y == 0 and j1 >= 0:
            size = pieces * m0 * n1 * r1
            at = (piece * m0 * n1 + slot) * r1 + j1
            for k in range(width):
                sums[at + k] = s1[k]
                sums[size + at + k] = s2[k]

    return cuda.kernel(parameter_sums)
