"""CUDA kernels of weighted moments and their gradient: a block for each group, whose elements lie in a row."""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad import scalar
from minigrad.devices import cuda
from minigrad.devices.cuda import Kernel, faults, gpu
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.faults import report
from minigrad.devices.cuda.loops import Loop
from minigrad.devices.cuda.rows import Moves, lanes_on, moves_of
from minigrad.errors import ArgumentError
from minigrad_norms.kernels.plain_cuda import as_rows, require_kernels, three_totals_of
from minigrad_norms.weighted import weighted_moments_p, weighted_moments_vjp_p


@cache
def _moments(moves: Moves) -> Kernel:
    """First about 0, then about the mean, which leaves the digits of the spread."""
    width, load, _ = moves

    def weighted_moments(mean, var, total, x, w, n, words, number):
        group = gpu.blockIdx.x
        center = np.float64(0.0)
        spread = np.float64(0.0)
        weight = np.float64(0.0)
        for _ in range(2):
            s0, s1, s2 = np.float64(0.0), np.float64(0.0), np.float64(0.0)
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                values, weights = load(x, group * n + j), load(w, group * n + j)
                for k in range(width):
                    a, d = np.float64(weights[k]), np.float64(values[k]) - center
                    s0 += a
                    s1 += a * d
                    s2 += a * (d * d)
            weight, s1, s2 = three_totals_of((s0, s1, s2))
            if weight <= 0.0:
                break
            moved = s1 / weight
            spread = s2 / weight - moved * moved
            if center - center == 0.0:  # an infinite one has no deviations to be bettered by
                center += moved
        if gpu.threadIdx.x == 0:
            if weight <= 0.0:
                report(words, number, np.int64(group))
            mean[group] = center
            var[group] = np.float64(0.0) if spread < 0.0 else spread
            total[group] = weight

    return cuda.kernel(weighted_moments)


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
    _moments(moves_of(n, *packed))(groups, lanes_on(n), *out, *packed, n, *words)


def _without_weight(group: int, groups: int) -> Exception:
    return ArgumentError(
        f"weighted_moments: the weights of group {group} of {groups} add up to 0 or less, expected a positive sum"
    )


_x, _w, _mean, _total, _dmean, _dvar = (scalar.variable(n) for n in ("x", "w", "mean", "total", "dmean", "dvar"))
_slope = Loop(
    _w * (_dmean / _total + 2.0 * _dvar / _total * (_x - _mean)), ("x", "w", "mean", "total", "dmean", "dvar"), typed=2
)


@weighted_moments_vjp_p.kernel("cuda")
def _(out, x, weights, mean, total, dmean, dvar, *, axes):
    require_kernels("weighted_moments_vjp", x.dtype)
    nothing = cuda.constant(0.0, mean.dtype, x.lease.stream.device)
    stretched = tuple([None if axis in axes else slice(None) for axis in range(x.ndim)])
    statistics = [nothing if a is None else a[stretched] for a in (mean, total, dmean, dvar)]
    _slope(out, x, weights, *statistics)
