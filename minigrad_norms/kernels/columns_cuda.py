"""What CUDA kernels do with groups that lie across rows, (k0, r0, k1·r1) with r1 small: threads walk down columns.

A thread takes as many neighbouring columns as 16 bytes hold, where their number allows it, and two rows at a time. A
block has such columns side by side, and rows of a piece, `chunk` of them, one above the other: as many threads at least
as columns. How columns and pieces are cut follows from the shape; only whether 16 bytes are moved at once depends on
where arrays begin.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import Function, gpu, vector
from minigrad.devices.cuda.rows import BLOCK, Moves, each
from minigrad.devices.cuda.warp import WARP
from minigrad_norms.kernels.elements_cuda import elements


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
def sum_functions(width: int) -> tuple[Function, Function, Function]:
    """Sums of neighbours: a + b, a + b², a + b·c."""
    return (
        each("plus", _plus, "a, b", "a[{k}], b[{k}]", width),
        each("plus_square", _plus_square, "a, b", "a[{k}], b[{k}]", width),
        each("plus_product", _plus_product, "a, b, c", "a[{k}], np.float64(b[{k}]), c[{k}]", width),
    )


@cache
def added_up(width: int) -> Function:
    """``add_up(a, b)``: the sums of a and b over the threads of each column, for those with threadIdx.y = 0.

    All threads of the block call it. It may be called again and again.
    """
    plus, _, _ = sum_functions(width)

    @cuda.jit
    def element(shared, at):
        return shared[at]

    kept = each("kept", element, "shared, at", f"shared, at + {{k}} * {BLOCK}", width)
    size = width * BLOCK

    def add_up(a, b):
        first = gpu.shared.array(size, np.float64)
        second = gpu.shared.array(size, np.float64)
        lanes, here = gpu.blockDim.x, gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
        tall = gpu.blockDim.y
        while tall > 1:  # the upper half and the lower
            half = (tall + 1) // 2
            if half <= gpu.threadIdx.y < tall:
                for k in range(width):
                    first[k * BLOCK + here], second[k * BLOCK + here] = a[k], b[k]
            gpu.syncthreads()
            if gpu.threadIdx.y < tall - half:
                a = plus(a, kept(first, here + half * lanes))
                b = plus(b, kept(second, here + half * lanes))
            tall = half
        gpu.syncthreads()
        return a, b

    return cuda.jit(add_up)


@cuda.jit
def column_of(across, width):
    """A thread's i0, and the first of its columns, which may be beyond the last."""
    i0 = np.int64(np.uint32(gpu.blockIdx.x) // np.uint32(across))
    return i0, ((gpu.blockIdx.x - i0 * across) * gpu.blockDim.x + gpu.threadIdx.x) * width


@cuda.jit
def rows_of(i0, column, columns, r0, chunk):
    """Where a thread's elements in its piece begin and end, and how far apart they are."""
    row = gpu.blockIdx.y * chunk
    end = row + chunk if row + chunk < r0 else r0
    return (i0 * r0 + row + gpu.threadIdx.y) * columns + column, (i0 * r0 + end) * columns, gpu.blockDim.y * columns


@cache
def group_at(number: Any) -> Function:
    """``group_of(i0, column, k1, r1)``. `number` is a type that holds columns, None where each is a group."""

    def own(i0, column, k1, r1):
        return i0 * k1 + column

    def divided(i0, column, k1, r1):
        return i0 * k1 + np.int64(number(column) // number(r1))

    return cuda.jit(own if number is None else divided)


@cuda.jit
def table_row(i0, m0, n1):
    """Where the entries of an i0 begin in a table, in entries of an i1."""
    return np.int64(np.uint32(i0) % np.uint32(m0)) * n1


@cache
def _entry(number: Any) -> Function:
    """``entry(values, row, column, r1, n1, p1)``: a column's entry in a table."""

    def own(values, row, column, r1, n1, p1):
        return values[row + (column if n1 > 1 else 0)]

    def divided(values, row, column, r1, n1, p1):
        i1 = np.int64(number(column) // number(r1))
        place = np.int64(np.uint32(column - i1 * r1) // np.uint32(np.uint32(r1) // np.uint32(p1)))
        return values[(row + (i1 if n1 > 1 else 0)) * p1 + place]

    return cuda.jit(own if number is None else divided)


# What a thread does with its elements from `at` on, `step` apart, before `end`


@cache
def summing(moves: Moves) -> Function:
    """``summed(x, shift, at, end, step)``: Σ x − shift and Σ (x − shift)²."""
    width, load, _ = moves
    plus, plus_square, _ = sum_functions(width)
    zeros = (0.0,) * width

    @cuda.jit
    def deviation(x, shift):
        return np.float64(x) - shift

    deviations = each("deviation", deviation, "x, shift", "x[{k}], shift[{k}]", width)

    def summed(x, shift, at, end, step):
        s1, s2 = zeros, zeros
        while at < end:
            below = at + step if at + step < end else at
            upper, lower = load(x, at), load(x, below)
            d = deviations(upper, shift)
            s1, s2 = plus(s1, d), plus_square(s2, d)
            if below > at:
                d = deviations(lower, shift)
                s1, s2 = plus(s1, d), plus_square(s2, d)
            at = below + step
        return s1, s2

    return cuda.jit(summed)


@cuda.jit
def _three(s):
    return s[0], s[1], s[2]


@cuda.jit
def _others(s):
    return s[3], s[4], s[5]


@cuda.jit
def _from_mean(x, g):
    return np.float64(x) - g[4]


class _Columns:
    """Functions of a thread's neighbouring columns, which may be of several groups."""

    def __init__(self, dtype: np.dtype, activation: str | None, moves: Moves, number: Any):
        width, self.load, self.store = moves
        e, group_of = elements(dtype, activation, width, True), group_at(number)
        group = e.group

        @cuda.jit
        def group_of_column(mean, var, i0, column, k1, r1, epsilon):
            at = group_of(i0, column, k1, r1)
            return group(mean[at], var[at], epsilon)

        @cuda.jit
        def coefficients(c, i0, column, k0, k1, r1):
            at, groups = group_of(i0, column, k1, r1), k0 * k1
            return c[at], c[groups + at], c[2 * groups + at], c[3 * groups + at]

        self.group, self.some_coefficients, self.merged = group_of_column, coefficients, e.merged
        self.groups = _of_columns(group_of_column, "mean, var, i0, column, k1, r1, epsilon", width)
        self.entries = _of_columns(_entry(number), "values, row, column, r1, n1, p1", width)
        self.coefficients = _of_columns(coefficients, "c, i0, column, k0, k1, r1", width)
        self.from_means = each("from_mean", _from_mean, "x, g", "x[{k}], g[{k}]", width)
        self.outcomes, self.cotangents, self.slopes = e.outcomes, e.cotangents, e.slopes


def _of_columns(function: Function, head: str, width: int) -> Function:
    return each("at", function, head, head.replace("column", "column + {k}"), width)


_ONE = Moves(1, *vector.moves(1, True))


@cache
def _staged(rows: int, width: int) -> Function:
    """``staged(stage, at)``: for neighbours a tuple each of what a block keeps of a column in so many rows."""
    row = "".join(f"stage[{i * WARP * width} + at], " for i in range(rows))
    one = cuda.jit(from_source("staged", f"def staged(stage, at):\n    return ({row})\n", {}))
    return each("staged", one, "stage, at", "stage, at + {k}", width)


@cache
def _some(width: int) -> Function:
    """``some(flags, at)``: whether one of neighbouring flags is set."""
    row = " or ".join(f"flags[at + {k}] != 0" for k in range(width))
    return cuda.jit(from_source("some", f"def some(flags, at):\n    return {row}\n", {}))


@cache
def applying(dtype: np.dtype, activation: str | None, moves: Moves, number: Any) -> Function:
    """``applied(y, x, ...)``: y by statistics that are there, for a block.

    A thread of it prepares a column. A thread that has some of a `wild` group takes its columns one by one.
    """
    width, load, store = moves
    one, wide = (_Columns(dtype, activation, m, number) for m in (_ONE, moves))
    size = WARP * width
    group, groups, entry, outcome, load_one, store_one = (
        one.group, one.groups, one.entries, one.outcomes, one.load, one.store
    )  # fmt: skip
    entries, outcomes = wide.entries, elements(dtype, activation, width, True, True).outcomes
    staged, held, some = _staged(3, width), 3 * size, _some(width)

    def applied(y, x, mean, var, gamma, beta, i0, column, r0, k1, r1, m0, n1, p1, chunk, epsilon):
        stage = gpu.shared.array(held, dtype)
        wild = gpu.shared.array(size, np.int32)
        columns, row = k1 * r1, table_row(i0, m0, n1)
        lane, start = gpu.threadIdx.x * width, column - gpu.threadIdx.x * width
        i = gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
        if i < gpu.blockDim.x * width and start + i < columns:
            g = group(mean, var, i0, start + i, k1, r1, epsilon)
            stage[i], stage[size + i], stage[2 * size + i] = g[0], g[1], g[2]
            wild[i] = g[3]
        gpu.syncthreads()
        if column < columns and not some(wild, lane):
            at, end, step = rows_of(i0, column, columns, r0, chunk)
            g = staged(stage, lane)
            ga = entries(gamma, row, column, r1, n1, p1)
            be = entries(beta, row, column, r1, n1, p1)
            while at < end:
                below = at + step if at + step < end else at
                upper, lower = load(x, at), load(x, below)
                store(y, at, outcomes(upper, g, ga, be))
                store(y, below, outcomes(lower, g, ga, be))
                at = below + step
        elif column < columns:
            for k in range(width):
                at, end, step = rows_of(i0, column + k, columns, r0, chunk)
                g1 = groups(mean, var, i0, column + k, k1, r1, epsilon)
                ga1 = entry(gamma, row, column + k, r1, n1, p1)
                be1 = entry(beta, row, column + k, r1, n1, p1)
                while at < end:
                    store_one(y, at, outcome(load_one(x, at), g1, ga1, be1))
                    at += step

    return cuda.jit(applied)


@cache
def backward_summing(dtype: np.dtype, activation: str | None, moves: Moves, number: Any) -> Function:
    """``summed(dy, x, ...)``: sums of dy, behind an activation, and of that times x − μ."""
    f, width = _Columns(dtype, activation, moves, number), moves.width
    groups, entries, cotangents, from_means, load = f.groups, f.entries, f.cotangents, f.from_means, f.load
    plus, _, plus_product = sum_functions(width)
    zeros = (0.0,) * width

    def summed(dy, x, mean, var, gamma, beta, i0, column, at, end, step, k1, r1, m0, n1, p1, epsilon):
        s1, s2 = zeros, zeros
        row, g = table_row(i0, m0, n1), groups(mean, var, i0, column, k1, r1, epsilon)
        ga = entries(gamma, row, column, r1, n1, p1)
        be = entries(beta, row, column, r1, n1, p1)
        while at < end:
            below = at + step if at + step < end else at
            upper, lower, to_upper, to_lower = load(x, at), load(x, below), load(dy, at), load(dy, below)
            through = cotangents(to_upper, upper, g, ga, be)
            s1, s2 = plus(s1, through), plus_product(s2, through, from_means(upper, g))
            if below > at:
                through = cotangents(to_lower, lower, g, ga, be)
                s1, s2 = plus(s1, through), plus_product(s2, through, from_means(lower, g))
            at = below + step
        return s1, s2

    return cuda.jit(summed)


@cache
def sloping(dtype: np.dtype, activation: str | None, moves: Moves, number: Any, free: bool) -> Function:
    """``sloped(dx, c, dy, x, ...)``: dx by coefficients that are there, in the way of `applying`."""
    width, load, store = moves
    one, wide = (_Columns(dtype, activation, m, number) for m in (_ONE, moves))
    size = WARP * width
    group, groups, entry, slope, load_one, store_one = (
        one.group, one.groups, one.entries, one.slopes, one.load, one.store
    )  # fmt: skip
    four_of, fours, merged = one.some_coefficients, one.coefficients, one.merged
    entries, slopes = wide.entries, elements(dtype, activation, width, True, True).slopes
    staged, held, some = _staged(6, width), 6 * size, _some(width)
    parts = each("part", _three, "s", "s[{k}]", width), each("part", _others, "s", "s[{k}]", width)
    first, last = parts

    def sloped(dx, c, dy, x, mean, var, gamma, beta, i0, column, k0, r0, k1, r1, m0, n1, p1, chunk, epsilon):
        stage = gpu.shared.array(held, dtype)
        wild = gpu.shared.array(size, np.int32)
        columns, row = k1 * r1, table_row(i0, m0, n1)
        lane, start = gpu.threadIdx.x * width, column - gpu.threadIdx.x * width
        i = gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
        if i < gpu.blockDim.x * width and start + i < columns:
            g = group(mean, var, i0, start + i, k1, r1, epsilon)
            four = four_of(c, i0, start + i, k0, k1, r1)
            near = merged(four, g)
            stage[i], stage[size + i], stage[2 * size + i] = g[0], g[1], g[2]
            stage[3 * size + i], stage[4 * size + i], stage[5 * size + i] = near[0], near[1], near[2]
            wild[i] = g[3] or near[3]
        gpu.syncthreads()
        if column < columns and not some(wild, lane):
            at, end, step = rows_of(i0, column, columns, r0, chunk)
            kept = staged(stage, lane)
            g, four = first(kept), last(kept)
            ga = entries(gamma, row, column, r1, n1, p1)
            be = entries(beta, row, column, r1, n1, p1)
            while at < end:
                below = at + step if at + step < end else at
                upper, lower, to_upper, to_lower = load(x, at), load(x, below), load(dy, at), load(dy, below)
                store(dx, at, slopes(to_upper, upper, g, ga, be, four, free))
                store(dx, below, slopes(to_lower, lower, g, ga, be, four, free))
                at = below + step
        elif column < columns:
            for k in range(width):
                at, end, step = rows_of(i0, column + k, columns, r0, chunk)
                g1, four1 = groups(mean, var, i0, column + k, k1, r1, epsilon), fours(c, i0, column + k, k0, k1, r1)
                ga1 = entry(gamma, row, column + k, r1, n1, p1)
                be1 = entry(beta, row, column + k, r1, n1, p1)
                while at < end:
                    store_one(dx, at, slope(load_one(dy, at), load_one(x, at), g1, ga1, be1, four1, free))
                    at += step

    return cuda.jit(sloped)
