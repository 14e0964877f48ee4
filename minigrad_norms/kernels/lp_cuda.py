"""CUDA kernels of Lp normalization and its gradient: a block for each vector, which lies in a row."""

from __future__ import annotations

from functools import cache
from math import inf
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function, Kernel, gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.rows import Moves, each, lanes_on, moves_of
from minigrad_norms.kernels.plain_cuda import (
    as_rows,
    empty_like,
    from_rows,
    largest_of,
    require_kernels,
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


@cache
def _norm(moves: Moves) -> Function:
    """``norm(x, group, n, kind, p)``: ‖x‖ of a row in all threads of its block."""
    width, load, _ = moves

    @cuda.jit
    def power_sum(x, group, n, kind, p, unit):
        """Σ (|x|/unit)^p."""
        found = np.float64(0.0)
        for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
            values = load(x, group * n + j)
            for k in range(width):
                found += _term(abs(np.float64(values[k])) / unit, kind, p)
        return total_of((found,))[0]

    @cuda.jit
    def largest_magnitude(x, group, n):
        found = np.float64(0.0)
        for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
            values = load(x, group * n + j)
            for k in range(width):
                a = abs(np.float64(values[k]))
                found = a if a > found or a != a else found
        return largest_of((found,))[0]

    @cuda.jit
    def norm(x, group, n, kind, p):
        """By way of the largest |x| where powers may be out of range."""
        if kind == ABSOLUTE:
            return power_sum(x, group, n, kind, p, np.float64(1.0))
        if kind == SQUARE:
            total = power_sum(x, group, n, kind, p, np.float64(1.0))
            if not (total < 1e-280 or total > 1e280):
                return _root(total)
        largest = largest_magnitude(x, group, n)
        if kind == LARGEST or not (largest > 0.0 and largest < np.inf):
            return largest
        total = power_sum(x, group, n, kind, p, largest)
        return largest * (_root(total) if kind == SQUARE else _exp(_log(total) / p))

    return norm


@cuda.jit
def _scaled(x, scale):
    return np.float64(x) * scale


@cache
def _forward(moves: Moves) -> Kernel:
    norm_of, (width, load, store) = _norm(moves), moves
    scaled = each("scaled", _scaled, "x, scale", "x[{k}], scale", width)

    def lp_forward(y, norm, x, n, kind, p, epsilon):
        group = gpu.blockIdx.x
        found = norm_of(x, group, n, kind, p)
        if gpu.threadIdx.x == 0:
            norm[group] = found
        scale = _inverse(found, epsilon)
        for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
            store(y, group * n + j, scaled(load(x, group * n + j), scale))

    return cuda.kernel(lp_forward)


@lp_normalize_p.kernel("cuda")
def _(out, x, *, p, axes, epsilon):
    require_kernels("lp_normalize", x.dtype)
    y, norm = out
    if not x.size:
        fill(norm, 0.0)
        return
    target = empty_like(x, (x.size,), x.dtype.type)
    n, rows = x.size // norm.size, as_rows(x, axes)
    made = _forward(moves_of(n, target, rows))
    made(norm.size, lanes_on(n), target, norm, rows, n, _KINDS.get(p, POWER), float(p), float(epsilon))
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


@cuda.jit
def _slope(dy, x, norm, scale, slope, kind, p):
    through = np.float64(dy) * scale
    return through if norm == 0.0 else through + slope * _share(np.float64(x), norm, kind, p)


@cache
def _backward(moves: Moves) -> Kernel:
    width, load, store = moves
    rest = "norm, scale, slope, kind, p"
    slopes = each("slope", _slope, f"dy, x, {rest}", f"dy[{{k}}], x[{{k}}], {rest}", width)

    def lp_backward(dx, dy, x, norm, dnorm, n, kind, p, epsilon):
        group = gpu.blockIdx.x
        size = norm[group]
        product, ties = np.float64(0.0), np.float64(0.0)
        for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
            values, given = load(x, group * n + j), load(dy, group * n + j)
            for k in range(width):
                a = np.float64(values[k])
                product += a * np.float64(given[k])
                if abs(a) == size:
                    ties += np.float64(1.0)
        product = total_of((product,))[0]
        ties = total_of((ties,))[0]
        scale = _inverse(size, epsilon)
        slope = np.float64(0.0) if size < epsilon else -product * scale * scale
        if dnorm.size > 0:
            slope += dnorm[group]
        if kind == LARGEST:
            slope = np.float64(0.0) if ties == 0.0 else slope / ties
        for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
            at = group * n + j
            store(dx, at, slopes(load(dy, at), load(x, at), size, scale, slope, kind, p))

    return cuda.kernel(lp_backward)


@lp_normalize_vjp_p.kernel("cuda")
def _(out, dy, x, norm, dnorm, *, p, axes, epsilon):
    require_kernels("lp_normalize_vjp", x.dtype)
    if not x.size:
        return
    target = empty_like(x, (x.size,), x.dtype.type)
    norms: list[Any] = [empty_like(x, (0,)) if a is None else cuda.contiguous(a) for a in (norm, dnorm)]
    n, rows = x.size // norm.size, (as_rows(dy, axes), as_rows(x, axes))
    made = _backward(moves_of(n, target, *rows))
    made(norm.size, lanes_on(n), target, *rows, *norms, n, _KINDS.get(p, POWER), float(p), float(epsilon))
    from_rows(out, target, axes)
