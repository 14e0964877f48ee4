"""CUDA kernels of Lp normalization and its gradient: a block for each vector, which lies in a row."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.copies import fill
from minigrad_norms.kernels.plain_cuda import (
    as_rows,
    empty_like,
    from_rows,
    largest_of,
    require_kernels,
    threads_on,
    total_of,
)
from minigrad_norms.lp import lp_normalize_p, lp_normalize_vjp_p

ABSOLUTE, SQUARE, LARGEST, POWER = 0, 1, 2, 3
_KINDS = {1.0: ABSOLUTE, 2.0: SQUARE, inf: LARGEST}
_root, _exp, _log = (vars(cuda_math)[f"{name}_f64"] for name in ("sqrt", "exp", "log"))


@cuda.jit
def _inverse(n, epsilon):
    """1/max(n, ε), and 0 for 1/0."""
    least = n if n > epsilon or n != n else np.float64(epsilon)
    return np.float64(0.0) if least == 0.0 else 1.0 / least


@cuda.jit
def _term(x, kind, p):
    if kind == ABSOLUTE:
        return x
    return x * x if kind == SQUARE else _exp(p * _log(x))


@cuda.jit
def _sum(x, group, n, kind, p, unit):
    """Σ (|x|/unit)^p in all threads of the block."""
    found = (np.float64(0.0),)
    for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
        found = (found[0] + _term(abs(np.float64(x[group * n + j])) / unit, kind, p),)
    return total_of(found)[0]


@cuda.jit
def _norm(x, group, n, kind, p):
    """‖x‖, by way of the largest |x| where powers may be out of range."""
    if kind == ABSOLUTE:
        return _sum(x, group, n, kind, p, np.float64(1.0))
    if kind == SQUARE:
        total = _sum(x, group, n, kind, p, np.float64(1.0))
        if not (total < 1e-280 or total > 1e280):
            return _root(total)
    found = (np.float64(0.0),)
    for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
        a = abs(np.float64(x[group * n + j]))
        found = (a if a > found[0] or a != a else found[0],)
    largest = largest_of(found)[0]
    if kind == LARGEST or not (largest > 0.0 and largest < np.inf):
        return largest
    total = _sum(x, group, n, kind, p, largest)
    return largest * (_root(total) if kind == SQUARE else _exp(_log(total) / p))


@cuda.kernel
def _forward(y, norm, x, n, kind, p, epsilon):
    group = gpu.blockIdx.x
    found = _norm(x, group, n, kind, p)
    if gpu.threadIdx.x == 0:
        norm[group] = found
    scale = _inverse(found, epsilon)
    for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
        y[group * n + j] = np.float64(x[group * n + j]) * scale


@lp_normalize_p.kernel("cuda")
def _(out, x, *, p, axes, epsilon):
    require_kernels("lp_normalize", x.dtype)
    y, norm = out
    if not x.size:
        fill(norm, 0.0)
        return
    target = empty_like(x, (x.size,), x.dtype.type)
    numbers = (x.size // norm.size, _KINDS.get(p, POWER), float(p), float(epsilon))
    _forward(norm.size, threads_on(numbers[0]), target, norm, as_rows(x, axes), *numbers)
    from_rows(y, target, axes)


@cuda.jit
def _share(x, norm, kind, p):
    """∂‖x‖/∂x, where ‖x‖ is not 0; 0 at x = 0."""
    if x == 0.0:
        return np.float64(0.0)
    sign = (np.float64(1.0) if x > 0.0 else np.float64(0.0)) - (np.float64(1.0) if x < 0.0 else np.float64(0.0))
    if kind == SQUARE:
        return x / norm
    if kind == ABSOLUTE:
        return sign
    if kind == LARGEST:
        return sign if abs(x) == norm else np.float64(0.0)
    return sign * _exp((p - 1.0) * _log(abs(x) / norm))


@cuda.kernel
def _backward(dx, dy, x, norm, dnorm, n, kind, p, epsilon):
    group = gpu.blockIdx.x
    size = norm[group]
    product, ties = (np.float64(0.0),), (np.float64(0.0),)
    for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
        a = np.float64(x[group * n + j])
        product = (product[0] + a * np.float64(dy[group * n + j]),)
        if abs(a) == size:
            ties = (ties[0] + np.float64(1.0),)
    product = total_of(product)
    ties = total_of(ties)
    scale = _inverse(size, epsilon)
    slope = np.float64(0.0) if size < epsilon else -product[0] * scale * scale
    if dnorm.size > 0:
        slope += dnorm[group]
    if kind == LARGEST:
        slope = np.float64(0.0) if ties[0] == 0.0 else slope / ties[0]
    for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
        at = group * n + j
        through = np.float64(dy[at]) * scale
        if size != 0.0:
            through += slope * _share(np.float64(x[at]), size, kind, p)
        dx[at] = through


@lp_normalize_vjp_p.kernel("cuda")
def _(out, dy, x, norm, dnorm, *, p, axes, epsilon):
    require_kernels("lp_normalize_vjp", x.dtype)
    if not x.size:
        return
    target = empty_like(x, (x.size,), x.dtype.type)
    norms: list[Any] = [empty_like(x, (0,)) if a is None else cuda.contiguous(a) for a in (norm, dnorm)]
    numbers = (x.size // norm.size, _KINDS.get(p, POWER), float(p), float(epsilon))
    _backward(norm.size, threads_on(numbers[0]), target, as_rows(dy, axes), as_rows(x, axes), *norms, *numbers)
    from_rows(out, target, axes)
