"""CUDA kernels of local response normalization: a thread for each element, which adds up its window."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad_norms.kernels.plain_cuda import empty_like, require_kernels
from minigrad_norms.local_response import local_response_p, local_response_vjp_p

_power = vars(cuda_math)["pow_f64"]


@cuda.jit
def _ends(i, channels, inner, radius):
    """The first and last element of the window around an element."""
    channel = i // inner % channels
    return i - min(radius, channel) * inner, i + min(radius, channels - 1 - channel) * inner


@cuda.jit
def _base(x, i, channels, inner, radius, bias, alpha):
    first, last = _ends(i, channels, inner, radius)
    total = np.float64(0.0)
    for at in range(first, last + 1, inner):
        total += np.float64(x[at]) * np.float64(x[at])
    return bias + alpha * total


@cuda.kernel
def _forward(y, x, channels, inner, radius, bias, alpha, beta):
    i = gpu.grid(1)
    if i < y.size:
        d = _base(x, i, channels, inner, radius, bias, alpha)
        y[i] = np.float64(x[i]) * (np.float64(0.0) if d == 0.0 else _power(d, -beta))


@cuda.kernel
def _ratios(f, q, dy, x, channels, inner, radius, bias, alpha, beta):
    """d^−β, and dy·x·d^(−β−1)."""
    i = gpu.grid(1)
    if i < x.size:
        d = _base(x, i, channels, inner, radius, bias, alpha)
        factor = np.float64(0.0) if d == 0.0 else _power(d, -beta)
        f[i] = factor
        q[i] = np.float64(0.0) if d == 0.0 else np.float64(dy[i]) * np.float64(x[i]) * factor / d


@cuda.kernel
def _backward(dx, f, q, dy, x, channels, inner, radius, factor):
    i = gpu.grid(1)
    if i < x.size:
        first, last = _ends(i, channels, inner, radius)
        total = np.float64(0.0)
        for at in range(first, last + 1, inner):
            total += q[at]
        dx[i] = np.float64(dy[i]) * f[i] - factor * np.float64(x[i]) * total


def _numbers(x: DeviceArray, axis: int, depth_radius: int) -> tuple[int, int, int]:
    return x.shape[axis], prod(x.shape[axis + 1 :]), min(int(depth_radius), x.shape[axis])


@local_response_p.kernel("cuda")
def _(out, x, *, axis, depth_radius, bias, alpha, beta):
    require_kernels("local_response", x.dtype)
    numbers = (*_numbers(x, axis, depth_radius), float(bias), float(alpha), float(beta))
    _forward(cuda.blocks_of(x.size), cuda.THREADS, out, cuda.contiguous(x), *numbers)


@local_response_vjp_p.kernel("cuda")
def _(out, dy, x, *, axis, depth_radius, bias, alpha, beta):
    require_kernels("local_response_vjp", x.dtype)
    geometry, given = _numbers(x, axis, depth_radius), (cuda.contiguous(dy), cuda.contiguous(x))
    scratch: tuple[Any, Any] = empty_like(x, (x.size,)), empty_like(x, (x.size,))
    blocks = cuda.blocks_of(x.size)
    _ratios(blocks, cuda.THREADS, *scratch, *given, *geometry, float(bias), float(alpha), float(beta))
    _backward(blocks, cuda.THREADS, out, *scratch, *given, *geometry, 2.0 * float(alpha) * float(beta))
