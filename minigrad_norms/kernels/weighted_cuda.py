"""CUDA kernels of weighted moments and their gradient: a block for each group, whose elements lie in a row."""

from __future__ import annotations

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import faults, gpu
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.faults import report
from minigrad.errors import ArgumentError
from minigrad_norms.kernels.plain_cuda import (
    as_rows,
    empty_like,
    from_rows,
    require_kernels,
    threads_on,
    three_totals_of,
)
from minigrad_norms.weighted import weighted_moments_p, weighted_moments_vjp_p


@cuda.kernel
def _moments(mean, var, total, x, w, n, words, number):
    """First about 0, then about the mean, which leaves the digits of the spread."""
    group = gpu.blockIdx.x
    center = np.float64(0.0)
    spread = np.float64(0.0)
    weight = np.float64(0.0)
    for _ in range(2):
        sums = (np.float64(0.0), np.float64(0.0), np.float64(0.0))
        for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
            a, d = np.float64(w[group * n + j]), np.float64(x[group * n + j]) - center
            sums = (sums[0] + a, sums[1] + a * d, sums[2] + a * (d * d))
        sums = three_totals_of(sums)
        weight = sums[0]
        if weight <= 0.0:
            break
        moved = sums[1] / weight
        spread = sums[2] / weight - moved * moved
        if center - center == 0.0:  # an infinite one has no deviations to be bettered by
            center += moved
    if gpu.threadIdx.x == 0:
        if weight <= 0.0:
            report(words, number, np.int64(group))
        mean[group] = center
        var[group] = np.float64(0.0) if spread < 0.0 else spread
        total[group] = weight


@weighted_moments_p.kernel("cuda")
def _(out, x, weights, *, axes):
    require_kernels("weighted_moments", x.dtype)
    if not x.size:
        for a in out:
            fill(a, 0.0)
        return
    groups = out[0].size
    words = faults.watch(x.lease.stream.device, lambda group: _without_weight(group, groups))
    packed = as_rows(x, axes), as_rows(weights.broadcast_to(x.shape), axes)
    n = x.size // groups
    _moments(groups, threads_on(n), *out, *packed, n, *words)


def _without_weight(group: int, groups: int) -> Exception:
    return ArgumentError(
        f"weighted_moments: the weights of group {group} of {groups} add up to 0 or less, expected a positive sum"
    )


@cuda.kernel
def _slope(dx, x, w, mean, total, dmean, dvar, n):
    i = gpu.grid(1)
    if i < dx.size:
        group = i // n
        to_mean = dmean[group] / total[group] if dmean.size > 0 else np.float64(0.0)
        to_var = np.float64(2.0) * dvar[group] / total[group] if dvar.size > 0 else np.float64(0.0)
        dx[i] = np.float64(w[i]) * (to_mean + to_var * (np.float64(x[i]) - mean[group]))


@weighted_moments_vjp_p.kernel("cuda")
def _(out, x, weights, mean, total, dmean, dvar, *, axes):
    require_kernels("weighted_moments_vjp", x.dtype)
    if not x.size:
        return
    packed = as_rows(x, axes), as_rows(weights.broadcast_to(x.shape), axes)
    target = empty_like(x, (x.size,), x.dtype.type)
    statistics = [empty_like(x, (0,)) if a is None else cuda.contiguous(a) for a in (mean, total, dmean, dvar)]
    _slope(cuda.blocks_of(x.size), cuda.THREADS, target, *packed, *statistics, x.size // mean.size)
    from_rows(out, target, axes)
