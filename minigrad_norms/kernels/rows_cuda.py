"""CUDA kernels for groups whose elements lie in lines: a warp or a block for a group, or for a piece of it.

A group that fits into shared memory is read once. What a thread keeps there it alone reads again. Larger groups are
read twice: for sums, whose pieces others combine, and for the elements. A thread loads two vectors before it uses one.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function, Kernel, gpu
from minigrad.devices.cuda.rows import Moves
from minigrad.devices.cuda.warp import WARP, reducer
from minigrad_norms.kernels.elements_cuda import add_two, coefficients, elements, shift_of
from minigrad_norms.kernels.lines_cuda import lines, staged, table

reduce_two = reducer(add_two, (0, 0), (np.float64, np.float64))
_reduce_warp = reducer(add_two, (0, 0), (np.float64, np.float64), warps=True)


@cache
def _deviations(width: int) -> Function:
    """``deviations(values, center)``: the sums over neighbours of x − center, and of its square."""

    def deviations(values, center):
        s1, s2 = np.float64(0.0), np.float64(0.0)
        for k in range(width):
            d = np.float64(values[k]) - center
            s1 += d
            s2 += d * d
        return s1, s2

    return cuda.jit(deviations)


@cache
def _products(dtype: np.dtype, activation: str | None, width: int, weighted: bool) -> Function:
    """``products(dy, x, g, gamma, beta)``: the sums over neighbours of e and of e·(x − μ).

    e is dy behind an activation, times γ if `weighted`.
    """
    cotangents = elements(dtype, activation, width).cotangents

    def products(dy, x, g, gamma, beta):
        s1, s2 = np.float64(0.0), np.float64(0.0)
        through = cotangents(dy, x, g, gamma, beta)
        for k in range(width):
            e = np.float64(through[k])
            if weighted:
                e *= np.float64(gamma[k])
            s1 += e
            s2 += e * (np.float64(x[k]) - g[4])
        return s1, s2

    return cuda.jit(products)


@cache
def forward(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """y, mean and variance of groups that fit into shared memory."""
    width, load, store = moves
    e, entries, deviations = elements(dtype, activation, width), table(kind, *moves[:2], small), _deviations(width)
    (origin_of, locate, row, _, two), (put, kept) = lines(split, small), staged(dtype.itemsize, width)
    group_of, outcomes = e.group, e.outcomes

    def rows_forward(
        y, mean, var, x, gamma, beta, r0, k1, r1, m0, n1, p1, line, line_shift, span, span_shift, groups, epsilon, raw,
        total,
    ):  # fmt: skip
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        stage = gpu.shared.array(0, dtype)
        lanes, n = gpu.blockDim.x, r0 * r1
        wide, mine = n // width, gpu.threadIdx.y * n
        count = np.float64(n)
        origin = origin_of(group, r0, k1, r1)
        shift, s1, s2 = np.float64(0.0), np.float64(0.0), np.float64(0.0)
        if group < groups:
            if not raw:
                shift = shift_of(x[origin])
            i = gpu.threadIdx.x
            while i < wide:
                j, (there, _), (other, _) = two(origin, i, lanes, wide, width, k1, r1, line, line_shift)
                upper, lower = load(x, there), load(x, other)
                d1, d2 = deviations(upper, shift)
                s1, s2 = s1 + d1, s2 + d2
                put(stage, mine + i * width, upper)
                if j > i:
                    d1, d2 = deviations(lower, shift)
                    s1, s2 = s1 + d1, s2 + d2
                    put(stage, mine + j * width, lower)
                i += 2 * lanes
        s1, s2 = reduce_two((s1, s2))
        center = np.float64(0.0) if raw else shift + s1 / count
        if not raw:  # once more, about the mean: there is nothing to cancel then
            s1, s2 = np.float64(0.0), np.float64(0.0)
            if group < groups:
                i = gpu.threadIdx.x
                while i < wide:
                    d1, d2 = deviations(kept(stage, mine + i * width), center)
                    s2 += d2
                    i += lanes
            s1, s2 = reduce_two((s1, s2))
        if group < groups:
            spread = s2 if total else s2 / count
            if gpu.threadIdx.x == 0:
                mean[group] = center
                var[group] = spread
            g = group_of(center, spread, epsilon)
            start = row(group, k1, m0, n1, p1)
            entry = gamma[start], beta[start]
            i = gpu.threadIdx.x
            while i < wide:
                there, place = locate(origin, i * width, k1, r1, line, line_shift)
                ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                store(y, there, outcomes(kept(stage, mine + i * width), g, ga, be))
                i += lanes

    return cuda.kernel(rows_forward)


@cache
def backward(
    dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool, kept_sums: bool
) -> Kernel:
    """dx of groups that fit into shared memory, x and dy; with `kept_sums` those of dy and dy·x̂ for each entry of γ.

    These are sums[(k·groups + group)·p1 + j]. Groups are single lines then. Else γ is within the sums.
    """
    width, load, store = moves
    by_spans = kept_sums and kind == "spans"
    e, entries = elements(dtype, activation, width), table(kind, *moves[:2], small)
    (origin_of, locate, row, _, two), (put, kept) = lines(split, small), staged(dtype.itemsize, width)
    group_of, slopes, products = e.group, e.slopes, _products(dtype, activation, width, not kept_sums)
    sums_of_spans = _sums_of_spans(dtype, activation)

    def rows_backward(
        dx, sums, dmean, dvar, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, line, line_shift, span,
        span_shift, groups, epsilon, raw, total,
    ):  # fmt: skip
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        stage = gpu.shared.array(0, dtype)
        lanes, n = gpu.blockDim.x, r0 * r1
        wide, mine = n // width, 2 * gpu.threadIdx.y * n
        safe = group if group < groups else 0
        origin, start = origin_of(safe, r0, k1, r1), row(safe, k1, m0, n1, p1)
        entry = gamma[start], beta[start]
        g = group_of(mean[safe], var[safe], epsilon)
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if group < groups:
            i = gpu.threadIdx.x
            while i < wide:
                j, (there, place), (other, beside) = two(origin, i, lanes, wide, width, k1, r1, line, line_shift)
                first, first_dy = load(x, there), load(dy, there)
                second, second_dy = load(x, other), load(dy, other)
                if not by_spans:
                    ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                    d1, d2 = products(first_dy, first, g, ga, be)
                    s1, s2 = s1 + d1, s2 + d2
                put(stage, mine + i * width, first)
                put(stage, mine + n + i * width, first_dy)
                if j > i:
                    if not by_spans:
                        ga, be = entries(gamma, beta, entry, start, beside, span, span_shift)
                        d1, d2 = products(second_dy, second, g, ga, be)
                        s1, s2 = s1 + d1, s2 + d2
                    put(stage, mine + j * width, second)
                    put(stage, mine + n + j * width, second_dy)
                i += 2 * lanes
        if by_spans:
            gpu.syncthreads()
            s1, s2 = sums_of_spans(sums, stage, mine, n, gamma, beta, start, g, group, groups, p1)
        s1, s2 = reduce_two((s1, s2))
        if group < groups:
            if kept_sums and not by_spans:
                if gpu.threadIdx.x == 0:
                    sums[group] = s1
                    sums[groups + group] = s2 * g[5]
                s1 *= np.float64(entry[0])
                s2 *= np.float64(entry[0])
            to_mean = dmean[group] if dmean.size > 0 else np.float64(0.0)
            to_var = dvar[group] if dvar.size > 0 else np.float64(0.0)
            c = coefficients(s1, s2, g[5], to_mean, to_var, np.float64(n), raw, total)
            i = gpu.threadIdx.x
            while i < wide:
                there, place = locate(origin, i * width, k1, r1, line, line_shift)
                ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                values, given = kept(stage, mine + i * width), kept(stage, mine + n + i * width)
                store(dx, there, slopes(given, values, g, ga, be, c, False))
                i += lanes

    return cuda.kernel(rows_backward)


@cache
def _sums_of_spans(dtype: np.dtype, activation: str | None) -> Function:
    """A warp's share of the sums of dy·γ and dy·γ·(x − μ) of a group, and in `sums` those for each entry of γ."""
    product = _products(dtype, activation, 1, False)

    def sums_of_spans(sums, stage, mine, n, gamma, beta, start, g, group, groups, p1):
        lane, j = gpu.threadIdx.x & 31, gpu.threadIdx.x >> 5
        length = np.int64(np.uint32(n) // np.uint32(p1))
        s1, s2 = np.float64(0.0), np.float64(0.0)
        while j < p1 + (gpu.threadIdx.x >> 5):  # as often in each warp
            here = j < p1 and group < groups
            d1, d2 = np.float64(0.0), np.float64(0.0)
            if here:
                ga, be = gamma[start + j], beta[start + j]
                at, end = mine + j * length + lane, mine + (j + 1) * length
                while at < end:
                    e, f = product((stage[at + n],), (stage[at],), g, (ga,), (be,))
                    d1, d2 = d1 + e, d2 + f
                    at += WARP
                s1 += np.float64(ga) * d1
                s2 += np.float64(ga) * d2
            d1, d2 = _reduce_warp((d1, d2))
            if here and lane == 0:
                sums[group * p1 + j] = d1
                sums[(groups + group) * p1 + j] = d2 * g[5]
            j += gpu.blockDim.x >> 5
        return s1, s2

    return cuda.jit(sums_of_spans)


# Groups in pieces, of `chunk` vectors each


@cache
def sums(moves: Moves, split: bool, small: bool) -> Kernel:
    """Sums of x − shift and of its square, of each piece of each group: sums[(k·pieces + piece)·groups + group]."""
    width, load, _ = moves
    (origin_of, _, _, _, two), deviations = lines(split, small), _deviations(width)

    def rows_sums(sums, x, mean, r0, k1, r1, line, line_shift, groups, pieces, chunk, first, raw):
        group, piece = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y, gpu.blockIdx.y
        lanes, end = gpu.blockDim.x, min((piece + 1) * chunk, r0 * r1 // width)
        shift, s1, s2 = np.float64(0.0), np.float64(0.0), np.float64(0.0)
        if group < groups:
            origin = origin_of(group, r0, k1, r1)
            if not raw:
                shift = shift_of(x[origin]) if first else shift_of(mean[group])
            i = piece * chunk + gpu.threadIdx.x
            while i < end:
                j, (there, _), (other, _) = two(origin, i, lanes, end, width, k1, r1, line, line_shift)
                upper, lower = load(x, there), load(x, other)
                d1, d2 = deviations(upper, shift)
                s1, s2 = s1 + d1, s2 + d2
                if j > i:
                    d1, d2 = deviations(lower, shift)
                    s1, s2 = s1 + d1, s2 + d2
                i += 2 * lanes
        s1, s2 = reduce_two((s1, s2))
        if group < groups and gpu.threadIdx.x == 0:
            sums[piece * groups + group] = s1
            sums[(pieces + piece) * groups + group] = s2

    return cuda.kernel(rows_sums)


@cache
def apply(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """y by statistics that are there."""
    width, load, store = moves
    e, entries = elements(dtype, activation, width), table(kind, *moves[:2], small)
    group_of, outcomes = e.group, e.outcomes
    origin_of, _, row, _, two = lines(split, small)

    def rows_apply(
        y, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, line, line_shift, span, span_shift, groups, chunk, epsilon
    ):
        group, piece = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y, gpu.blockIdx.y
        if group < groups:
            lanes, end = gpu.blockDim.x, min((piece + 1) * chunk, r0 * r1 // width)
            origin, start = origin_of(group, r0, k1, r1), row(group, k1, m0, n1, p1)
            entry = gamma[start], beta[start]
            g = group_of(mean[group], var[group], epsilon)
            i = piece * chunk + gpu.threadIdx.x
            while i < end:
                j, (there, place), (other, beside) = two(origin, i, lanes, end, width, k1, r1, line, line_shift)
                first, second = load(x, there), load(x, other)
                ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                store(y, there, outcomes(first, g, ga, be))
                if j > i:
                    ga, be = entries(gamma, beta, entry, start, beside, span, span_shift)
                    store(y, other, outcomes(second, g, ga, be))
                i += 2 * lanes

    return cuda.kernel(rows_apply)


@cache
def backward_sums(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """Sums of dy and of dy·(x − μ), of each piece of each line: sums[(k·pieces + piece)·count + line].

    A group is `per` lines: one, with γ in the sums if it varies there, or one for each entry of γ and β. In the latter
    case r0, k1, r1 are of the form whose groups are the lines, and `kind` is ``one``.
    """
    width, load, _ = moves
    weighted = kind != "one"
    e, entries = elements(dtype, activation, width), table(kind, *moves[:2], small)
    group_of, products = e.group, _products(dtype, activation, width, weighted)
    origin_of, _, row, owner, two = lines(split, small)

    def rows_backward_sums(
        sums, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, line, line_shift, span, span_shift, count, per,
        pieces, chunk, epsilon,
    ):  # fmt: skip
        here, piece = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y, gpu.blockIdx.y
        lanes, end = gpu.blockDim.x, min((piece + 1) * chunk, r0 * r1 // width)
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if here < count:
            group, part = owner(here, per)
            origin, start = origin_of(here, r0, k1, r1), row(group, owner(k1, per)[0], m0, n1, p1) + part
            entry = gamma[start], beta[start]
            g = group_of(mean[group], var[group], epsilon)
            i = piece * chunk + gpu.threadIdx.x
            while i < end:
                j, (there, place), (other, beside) = two(origin, i, lanes, end, width, k1, r1, line, line_shift)
                first, first_dy = load(x, there), load(dy, there)
                second, second_dy = load(x, other), load(dy, other)
                ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                d1, d2 = products(first_dy, first, g, ga, be)
                s1, s2 = s1 + d1, s2 + d2
                if j > i:
                    ga, be = entries(gamma, beta, entry, start, beside, span, span_shift)
                    d1, d2 = products(second_dy, second, g, ga, be)
                    s1, s2 = s1 + d1, s2 + d2
                i += 2 * lanes
        s1, s2 = reduce_two((s1, s2))
        if here < count and gpu.threadIdx.x == 0:
            sums[piece * count + here] = s1
            sums[(pieces + piece) * count + here] = s2

    return cuda.kernel(rows_backward_sums)


@cache
def backward_apply(
    dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool
) -> Kernel:
    """dx by coefficients that are there."""
    width, load, store = moves
    e, entries = elements(dtype, activation, width), table(kind, *moves[:2], small)
    group_of, slopes = e.group, e.slopes
    origin_of, _, row, _, two = lines(split, small)

    def rows_backward_apply(
        dx, c, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, line, line_shift, span, span_shift, groups, chunk,
        epsilon, free,
    ):  # fmt: skip
        group, piece = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y, gpu.blockIdx.y
        if group < groups:
            lanes, end = gpu.blockDim.x, min((piece + 1) * chunk, r0 * r1 // width)
            origin, start = origin_of(group, r0, k1, r1), row(group, k1, m0, n1, p1)
            entry = gamma[start], beta[start]
            g = group_of(mean[group], var[group], epsilon)
            four = c[group], c[groups + group], c[2 * groups + group], c[3 * groups + group]
            i = piece * chunk + gpu.threadIdx.x
            while i < end:
                j, (there, place), (other, beside) = two(origin, i, lanes, end, width, k1, r1, line, line_shift)
                first, first_dy = load(x, there), load(dy, there)
                second, second_dy = load(x, other), load(dy, other)
                ga, be = entries(gamma, beta, entry, start, place, span, span_shift)
                store(dx, there, slopes(first_dy, first, g, ga, be, four, free))
                if j > i:
                    ga, be = entries(gamma, beta, entry, start, beside, span, span_shift)
                    store(dx, other, slopes(second_dy, second, g, ga, be, four, free))
                i += 2 * lanes

    return cuda.kernel(rows_backward_apply)
