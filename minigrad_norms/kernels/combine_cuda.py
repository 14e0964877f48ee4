"""CUDA kernels that put the sums of pieces together, in a fixed order: a warp for each group, column or parameter."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Kernel, gpu
from minigrad.devices.cuda.warp import WARP
from minigrad_norms.kernels.elements_cuda import coefficients, rstd_of, shift_of
from minigrad_norms.kernels.lines_cuda import lines
from minigrad_norms.kernels.rows_cuda import reduce_two


@cuda.jit
def settle(mean, var, group, s1, s2, shift, count, raw, total):
    """A group's statistics from its sums of x − shift and of its square."""
    if raw:
        mean[group] = np.float64(0.0)
        var[group] = s2 if total else s2 / count
        return
    moved = s1 / count
    spread = s2 / count - moved * moved
    if shift - shift == 0.0:  # else there are no deviations to better a mean by
        mean[group] = shift + moved
        var[group] = np.float64(0.0) if spread < 0.0 else spread


@cuda.kernel
def moments(mean, var, sums, x, k0, r0, k1, r1, p, pieces, first, raw, total):
    """Statistics from sums over pieces and over the `p` columns of a group."""
    group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
    groups = k0 * k1
    s1, s2 = np.float64(0.0), np.float64(0.0)
    if group < groups:
        for i in range(gpu.threadIdx.x, pieces * p, gpu.blockDim.x):
            at = (i // p * groups + group) * p + i % p
            s1 += sums[at]
            s2 += sums[pieces * groups * p + at]
    s1, s2 = reduce_two((s1, s2))
    if group < groups and gpu.threadIdx.x == 0:
        shift = mean[group]
        if first and not raw:
            shift = shift_of(x[(group // k1 * r0 * k1 + group % k1) * r1])
        settle(mean, var, group, s1, s2, shift, np.float64(r0 * r1), raw, total)


@cuda.kernel
def pieces_of_columns(out, sums, size, pieces):
    """The sums of two sums each over pieces, for each of `size` columns."""
    column = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
    s1, s2 = np.float64(0.0), np.float64(0.0)
    if column < size:
        for piece in range(gpu.threadIdx.x, pieces, gpu.blockDim.x):
            s1 += sums[piece * size + column]
            s2 += sums[(pieces + piece) * size + column]
    s1, s2 = reduce_two((s1, s2))
    if column < size and gpu.threadIdx.x == 0:
        out[column] = s1
        out[size + column] = s2


@cache
def slopes(single: bool, small: bool) -> Kernel:
    """Coefficients of dx from the sums of a group's `p` columns, in the place of which Σ dy·x̂ comes.

    Where the statistics are inputs (`free`), their gradients. `weighted` sums have γ in them already. A `single` column
    takes a thread and not a warp.
    """
    number: Any = np.uint32 if small else np.int64
    row = lines(False, small).row

    def slopes(
        c, new_dmean, new_dvar, sums, dmean, dvar, mean, var, gamma, k0, r0, k1, r1, p, m0, n1, p1, weighted, epsilon,
        raw, total, free,
    ):  # fmt: skip
        if single:
            group, lane = gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x, 0
        else:
            group, lane = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y, gpu.threadIdx.x
        groups = k0 * k1
        s1, s2 = np.float64(0.0), np.float64(0.0)
        rstd = np.float64(0.0)
        if group < groups:
            rstd = rstd_of(var[group], epsilon)
            start, span = row(group, k1, m0, n1, p1), np.int64(number(p) // number(min(p, p1)))
            j = lane
            while j < p:
                entry = np.int64(number(j) // number(span))
                scale = np.float64(1.0) if weighted else np.float64(gamma[start + entry])
                at = group * p + j
                s1 += scale * sums[at]
                s2 += scale * sums[groups * p + at]
                sums[groups * p + at] *= rstd
                j += WARP
        if not single:
            s1, s2 = reduce_two((s1, s2))
        if group < groups and lane == 0:
            count = np.float64(r0 * r1)
            _write_coefficients(
                c, new_dmean, new_dvar, dmean, dvar, group, groups, s1, s2, rstd, count, raw, total, free
            )

    return cuda.kernel(slopes)


@cuda.jit
def _write_coefficients(c, new_dmean, new_dvar, dmean, dvar, group, groups, s1, s2, rstd, count, raw, total, free):
    """A group's coefficients; where the statistics are inputs (`free`), their gradients."""
    if free:
        if new_dmean.size > 0:
            new_dmean[group] = -rstd * s1
        if new_dvar.size > 0:
            new_dvar[group] = -0.5 * rstd * rstd * rstd * s2
        s1, s2 = np.float64(0.0), np.float64(0.0)
    to_mean = dmean[group] if dmean.size > 0 else np.float64(0.0)
    to_var = dvar[group] if dvar.size > 0 else np.float64(0.0)
    four = coefficients(s1, s2, rstd, to_mean, to_var, count, raw, total)
    for k in range(4):
        c[k * groups + group] = four[k]


@cuda.jit
def finish(
    c, dgamma, dbeta, new_dmean, new_dvar, dmean, dvar, var, gamma, entry, group, groups, s1, s2, count, epsilon, raw,
    total, free,
):  # fmt: skip
    """What follows from the sums of a column that is a group, with γ from `entry`; 1/√(var + ε) is returned.

    Its coefficients, and what is wanted of the gradients of γ and β, which then have an entry for each group.
    """
    rstd = rstd_of(var[group], epsilon)
    if dgamma.size > 0:
        dgamma[group] = s2 * rstd
    if dbeta.size > 0:
        dbeta[group] = s1
    scale = np.float64(gamma[entry])
    s1, s2 = scale * s1, scale * s2
    _write_coefficients(c, new_dmean, new_dvar, dmean, dvar, group, groups, s1, s2, rstd, count, raw, total, free)
    return rstd


@cuda.kernel
def finish_columns(
    c, dgamma, dbeta, new_dmean, new_dvar, sums, dmean, dvar, var, gamma, k0, r0, k1, m0, n1, pieces, epsilon, raw,
    total, free,
):  # fmt: skip
    """`pieces_of_columns`, `slopes` and `parameters` at once, for columns as in `finish`."""
    group = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
    groups = k0 * k1
    s1, s2 = np.float64(0.0), np.float64(0.0)
    if group < groups:
        for piece in range(gpu.threadIdx.x, pieces, gpu.blockDim.x):
            s1 += sums[piece * groups + group]
            s2 += sums[(pieces + piece) * groups + group]
    s1, s2 = reduce_two((s1, s2))
    if group < groups and gpu.threadIdx.x == 0:
        entry = group // k1 % m0 * n1 + (group % k1 if n1 > 1 else 0)
        finish(
            c, dgamma, dbeta, new_dmean, new_dvar, dmean, dvar, var, gamma, entry, group, groups, s1, s2,
            np.float64(r0), epsilon, raw, total, free,
        )  # fmt: skip


@cache
def parameters(small: bool) -> Kernel:
    """The gradients of γ and β from sums of (2, k0, k1, p): first those of dy, then those of dy·x̂."""
    number: Any = np.uint32 if small else np.int64

    @cuda.jit
    def over(n, divisor):
        quotient = np.int64(number(n) // number(divisor))
        return quotient, n - quotient * divisor

    def parameters(dgamma, dbeta, sums, k0, k1, p, m0, n1, p1):
        entry = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        size = m0 * n1 * p1
        s1, s2 = np.float64(0.0), np.float64(0.0)
        if entry < size:
            slot, j1 = over(entry, p1)
            i0, i1 = over(slot, n1)
            span = over(p, p1)[0]
            shared = k1 if n1 == 1 else 1
            count = over(k0, m0)[0] * shared * span
            t = gpu.threadIdx.x
            while t < count:
                outer, place = over(t, span)
                outer, inner = over(outer, shared)
                at = ((outer * m0 + i0) * k1 + (inner if n1 == 1 else i1)) * p + j1 * span + place
                s1 += sums[at]
                s2 += sums[k0 * k1 * p + at]
                t += WARP
        s1, s2 = reduce_two((s1, s2))
        if entry < size and gpu.threadIdx.x == 0:
            if dbeta.size > 0:
                dbeta[entry] = s1
            if dgamma.size > 0:
                dgamma[entry] = s2

    return cuda.kernel(parameters)
