"""CUDA kernels for groups whose elements lie in lines: a warp or a block for a group, or for a piece of it.

A group that fits into shared memory is read once. What a thread keeps there it alone reads again, in an order that has
no bank conflicts. Larger groups are read twice: for sums, whose pieces others combine, and for the elements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function, Kernel, gpu
from minigrad.devices.cuda.rows import Moves
from minigrad.devices.cuda.warp import reducer
from minigrad_norms.kernels.elements_cuda import add_two, coefficients, elements, shift_of, table

reduce_two = reducer(add_two, (0, 0), (np.float64, np.float64))


@cache
def _place(split: bool, small: bool) -> Function:
    """``locate(group, place, r0, k1, r1)``: where an element of a group is in x, and where in its line."""
    number: Any = np.uint32 if small else np.int64

    def locate(group, place, r0, k1, r1):
        if not split:
            return group * r1 + place, place
        line = np.int64(number(place) // number(r1))
        return ((group // k1 * r0 + line) * k1 + group % k1) * r1 + place - line * r1, place - line * r1

    return cuda.jit(locate)


@cuda.jit
def table_row(group, k1, m0, n1, p1):
    """Where the entries of a group begin in a table."""
    return ((group // k1 % m0) * n1 + (group % k1 if n1 > 1 else 0)) * p1


@cache
def forward(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """y, mean and variance of groups that fit into shared memory."""
    width, load, store = moves
    e, locate, entries = elements(dtype, activation, width), _place(split, small), table(kind, width)
    group_of, outcomes = e.group, e.outcomes

    def rows_forward(y, mean, var, x, gamma, beta, r0, k1, r1, m0, n1, p1, groups, keep, epsilon, raw, total):
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        stage = gpu.shared.array(0, dtype)
        lanes = gpu.blockDim.x
        mine = gpu.threadIdx.y * keep + gpu.threadIdx.x
        n = r0 * r1
        count = np.float64(n)
        shift, s1, s2 = np.float64(0.0), np.float64(0.0), np.float64(0.0)
        if group < groups:
            if not raw:
                shift = shift_of(x[locate(group, 0, r0, k1, r1)[0]])
            at = mine
            for i in range(gpu.threadIdx.x, n // width, lanes):
                values = load(x, locate(group, i * width, r0, k1, r1)[0])
                for k in range(width):
                    d = np.float64(values[k]) - shift
                    s1 += d
                    s2 += d * d
                    stage[at] = values[k]
                    at += lanes
        s1, s2 = reduce_two((s1, s2))
        center = np.float64(0.0) if raw else shift + s1 / count
        if not raw:  # once more, about the mean: there is nothing to cancel then
            s1, s2 = np.float64(0.0), np.float64(0.0)
            if group < groups:
                at = mine
                for _ in range(gpu.threadIdx.x, n // width, lanes):
                    for _k in range(width):
                        d = np.float64(stage[at]) - center
                        s2 += d * d
                        at += lanes
            s1, s2 = reduce_two((s1, s2))
        if group < groups:
            spread = s2 if total else s2 / count
            if gpu.threadIdx.x == 0:
                mean[group] = center
                var[group] = spread
            g = group_of(center, spread, epsilon)
            start = table_row(group, k1, m0, n1, p1)
            span = r1 // p1
            at = mine
            for i in range(gpu.threadIdx.x, n // width, lanes):
                there, place = locate(group, i * width, r0, k1, r1)
                ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
                store(y, there, outcomes(kept(stage, at, lanes), g, ga, be))
                at += width * lanes

    kept = _kept(width)
    return cuda.kernel(rows_forward)


@cache
def backward(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """dx of groups that fit into shared memory, x and dy, and where γ has one entry a group the sums of dy and dy·x̂."""
    width, load, store = moves
    e, locate, entries = elements(dtype, activation, width), _place(split, small), table(kind, width)
    group_of, cotangent, slopes = e.group, e.cotangent, e.slopes
    weighted = kind != "one"

    def rows_backward(
        dx, sums, dmean, dvar, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, groups, keep, epsilon, raw, total
    ):
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        stage = gpu.shared.array(0, dtype)
        lanes = gpu.blockDim.x
        mine = 2 * gpu.threadIdx.y * keep + gpu.threadIdx.x
        n = r0 * r1
        span = r1 // p1
        safe = group if group < groups else 0
        start = table_row(safe, k1, m0, n1, p1)
        g = group_of(mean[safe], var[safe], epsilon)
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if group < groups:
            at = mine
            for i in range(gpu.threadIdx.x, n // width, lanes):
                there, place = locate(group, i * width, r0, k1, r1)
                values, given = load(x, there), load(dy, there)
                ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
                for k in range(width):
                    through = np.float64(cotangent(given[k], values[k], g, ga[k], be[k]))
                    if weighted:
                        through *= np.float64(ga[k])
                    s1 += through
                    s2 += through * (np.float64(values[k]) - g[4])
                    stage[at] = values[k]
                    stage[at + keep] = given[k]
                    at += lanes
        s1, s2 = reduce_two((s1, s2))
        if group < groups:
            if not weighted:
                if gpu.threadIdx.x == 0:
                    sums[group] = s1
                    sums[groups + group] = s2 * g[5]
                s1 *= np.float64(gamma[start])
                s2 *= np.float64(gamma[start])
            to_mean = dmean[group] if dmean.size > 0 else np.float64(0.0)
            to_var = dvar[group] if dvar.size > 0 else np.float64(0.0)
            c = coefficients(s1, s2, g[5], to_mean, to_var, np.float64(n), raw, total)
            at = mine
            for i in range(gpu.threadIdx.x, n // width, lanes):
                there, place = locate(group, i * width, r0, k1, r1)
                ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
                values, given = kept(stage, at, lanes), kept(stage, at + keep, lanes)
                store(dx, there, slopes(given, values, g, ga, be, c, False))
                at += width * lanes

    kept = _kept(width)
    return cuda.kernel(rows_backward)


def _kept(width: int) -> Function:
    """``kept(stage, at, lanes)``: what a thread kept of neighbours."""
    from minigrad.devices.cpu import from_source

    row = "".join(f"stage[at + {k} * lanes], " for k in range(width))
    return cuda.jit(from_source("kept", f"def kept(stage, at, lanes):\n    return ({row})\n", {}))


# Groups in pieces


@cache
def sums(moves: Moves, split: bool, small: bool) -> Kernel:
    """Sums of x − shift and of its square, of each piece of each group: sums[(k·pieces + piece)·groups + group]."""
    (width, load, _), locate = moves, _place(split, small)

    def rows_sums(sums, x, mean, r0, k1, r1, groups, pieces, first, raw):
        group, piece = gpu.blockIdx.x, gpu.blockIdx.y
        wide = r0 * r1 // width
        shift = np.float64(0.0)
        if not raw:
            shift = shift_of(x[locate(group, 0, r0, k1, r1)[0]]) if first else shift_of(mean[group])
        s1, s2 = np.float64(0.0), np.float64(0.0)
        for i in range(piece * wide // pieces + gpu.threadIdx.x, (piece + 1) * wide // pieces, gpu.blockDim.x):
            values = load(x, locate(group, i * width, r0, k1, r1)[0])
            for k in range(width):
                d = np.float64(values[k]) - shift
                s1 += d
                s2 += d * d
        s1, s2 = reduce_two((s1, s2))
        if gpu.threadIdx.x == 0:
            sums[piece * groups + group] = s1
            sums[(pieces + piece) * groups + group] = s2

    return cuda.kernel(rows_sums)


@cache
def apply(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """y by statistics that are there."""
    width, load, store = moves
    e, locate, entries = elements(dtype, activation, width), _place(split, small), table(kind, width)
    group_of, outcomes = e.group, e.outcomes

    def rows_apply(y, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, groups, pieces, epsilon):
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        if group < groups:
            piece = gpu.blockIdx.y
            wide = r0 * r1 // width
            g = group_of(mean[group], var[group], epsilon)
            start = table_row(group, k1, m0, n1, p1)
            span = r1 // p1
            for i in range(piece * wide // pieces + gpu.threadIdx.x, (piece + 1) * wide // pieces, gpu.blockDim.x):
                there, place = locate(group, i * width, r0, k1, r1)
                ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
                store(y, there, outcomes(load(x, there), g, ga, be))

    return cuda.kernel(rows_apply)


@cache
def backward_sums(dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool) -> Kernel:
    """Sums of dy (times γ, where it varies within a group) and of that times x − μ, of each piece of each group."""
    width, load, _ = moves
    e, locate, entries = elements(dtype, activation, width), _place(split, small), table(kind, width)
    group_of, cotangent = e.group, e.cotangent
    weighted = kind != "one"

    def rows_backward_sums(sums, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, groups, pieces, epsilon):
        group, piece = gpu.blockIdx.x, gpu.blockIdx.y
        wide = r0 * r1 // width
        g = group_of(mean[group], var[group], epsilon)
        start = table_row(group, k1, m0, n1, p1)
        span = r1 // p1
        s1, s2 = np.float64(0.0), np.float64(0.0)
        for i in range(piece * wide // pieces + gpu.threadIdx.x, (piece + 1) * wide // pieces, gpu.blockDim.x):
            there, place = locate(group, i * width, r0, k1, r1)
            values, given = load(x, there), load(dy, there)
            ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
            for k in range(width):
                through = np.float64(cotangent(given[k], values[k], g, ga[k], be[k]))
                if weighted:
                    through *= np.float64(ga[k])
                s1 += through
                s2 += through * (np.float64(values[k]) - g[4])
        s1, s2 = reduce_two((s1, s2))
        if gpu.threadIdx.x == 0:
            sums[piece * groups + group] = s1
            sums[(pieces + piece) * groups + group] = s2

    return cuda.kernel(rows_backward_sums)


@cache
def backward_apply(
    dtype: np.dtype, activation: str | None, kind: str, moves: Moves, split: bool, small: bool
) -> Kernel:
    """dx by coefficients that are there."""
    width, load, store = moves
    e, locate, entries = elements(dtype, activation, width), _place(split, small), table(kind, width)
    group_of, slopes = e.group, e.slopes

    def rows_backward_apply(
        dx, c, dy, x, mean, var, gamma, beta, r0, k1, r1, m0, n1, p1, groups, pieces, epsilon, free
    ):
        group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        if group < groups:
            piece = gpu.blockIdx.y
            wide = r0 * r1 // width
            g = group_of(mean[group], var[group], epsilon)
            four = c[group], c[groups + group], c[2 * groups + group], c[3 * groups + group]
            start = table_row(group, k1, m0, n1, p1)
            span = r1 // p1
            for i in range(piece * wide // pieces + gpu.threadIdx.x, (piece + 1) * wide // pieces, gpu.blockDim.x):
                there, place = locate(group, i * width, r0, k1, r1)
                ga, be = entries(gamma, start, place, span), entries(beta, start, place, span)
                store(dx, there, slopes(load(dy, there), load(x, there), g, ga, be, four, free))

    return cuda.kernel(rows_backward_apply)
