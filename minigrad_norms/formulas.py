"""The formulas, once, for NumPy arrays and for tensors: `xp` is ``numpy`` or ``minigrad``, whose functions share names.

With NumPy they are the reference that kernels are held to; with tensors they are differentiable, and give what is not
fused: forward mode, and the gradients of gradients. Everything is computed in float64 or wider.

With n elements a group, s = 1/√(σ² + ε), x̂ = (x − μ)·s and h = γ·dy:
    standardize:  y = x̂·γ + β;  dx = s·(h − mean(h) − x̂·mean(h·x̂)) + dμ/n + 2(x − μ)·dσ²/n
    normalize:    the same y with μ and σ² given;  dx = s·h,  dμ = −Σ s·h,  dσ² = −½ Σ h·(x − μ)·s³
    both:         dγ = Σ dy·x̂,  dβ = Σ dy
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


def moments(xp: Any, x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and biased variance; both 0 for groups without elements."""
    x = wide(x)
    n = prod(x.shape[a] for a in axes)
    if n == 0:
        zeros = xp.sum(x, axis=axes)
        return zeros, zeros * 0
    mean = xp.sum(x, axis=axes, keepdims=True) / n
    var = xp.sum(xp.square(x - mean), axis=axes) / n
    return mean.reshape(var.shape), var


def standardize(xp: Any, x: Any, gamma: Any, beta: Any, axes: tuple, parameter_axes: tuple, epsilon: float) -> tuple:
    """y, μ and σ²."""
    mean, var = moments(xp, x, axes)
    return normalize(xp, x, gamma, beta, mean, var, axes, parameter_axes, epsilon), mean, var


def normalize(
    xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, axes: tuple, parameter_axes: tuple, epsilon: float
) -> Any:
    """y with given moments."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    if gamma is not None:
        s = s * standing(gamma, x.ndim, parameter_axes)
    y = centred * s
    if beta is not None:
        y = y + standing(beta, x.ndim, parameter_axes)
    return y.astype(x.dtype)


def standardize_vjp(
    xp: Any,
    dy: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    var: Any,
    dmean: Any,
    dvar: Any,
    axes: tuple,
    parameter_axes: tuple,
    epsilon: float,
) -> tuple:
    """dx, dγ and dβ, from the cotangents of y, μ and σ²; the latter may be None."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    n = max(1, prod(x.shape[a] for a in axes))
    kept = _others(x.ndim, axes)
    standard = centred * s
    h = wide(dy) if gamma is None else wide(dy) * standing(gamma, x.ndim, parameter_axes)
    mean_h = xp.sum(h, axis=axes, keepdims=True) / n
    mean_hx = xp.sum(h * standard, axis=axes, keepdims=True) / n
    dx = s * (h - mean_h - standard * mean_hx)
    if dmean is not None:
        dx = dx + standing(dmean, x.ndim, kept) / n
    if dvar is not None:
        dx = dx + centred * (standing(dvar, x.ndim, kept) * (2 / n))
    return dx.astype(x.dtype), *_parameter_sums(xp, dy, standard, parameter_axes, x.dtype)


def normalize_vjp(
    xp: Any, dy: Any, x: Any, gamma: Any, mean: Any, var: Any, axes: tuple, parameter_axes: tuple, epsilon: float
) -> tuple:
    """dx, dγ, dβ, dμ and dσ²."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    h = wide(dy) if gamma is None else wide(dy) * standing(gamma, x.ndim, parameter_axes)
    dx = h * s
    dmean = -xp.sum(dx, axis=axes)
    dvar = xp.sum(dx * centred * s * s, axis=axes) * -0.5
    sums = _parameter_sums(xp, dy, centred * s, parameter_axes, x.dtype)
    return dx.astype(x.dtype), *sums, dmean.astype(mean.dtype), dvar.astype(var.dtype)


def standing(a: Any, ndim: int, where: tuple[int, ...]) -> Any:
    """`a`, which has the axes `where` of an array of `ndim` axes, with axes of length 1 in the other places."""
    shape = [1] * ndim
    for axis, n in zip(where, a.shape):
        shape[axis] = n
    return a.reshape(tuple(shape))


def wide(a: Any) -> Any:
    """`a` in float64, or in its own dtype if that is wider or complex."""
    return a.astype(np.result_type(a.dtype, np.float64))


def _parts(xp: Any, x: Any, mean: Any, var: Any, axes: tuple, epsilon: float) -> tuple[Any, Any]:
    """x − μ and s, ready to broadcast."""
    kept = _others(x.ndim, axes)
    v = var + epsilon
    nothing = v == 0
    s = xp.where(nothing, 0.0 * v, 1 / xp.sqrt(xp.where(nothing, 0.0 * v + 1, v)))
    return wide(x) - standing(mean, x.ndim, kept), standing(s, x.ndim, kept)


def _parameter_sums(xp: Any, dy: Any, standard: Any, parameter_axes: tuple, dtype: Any) -> tuple[Any, Any]:
    others = _others(dy.ndim, parameter_axes)
    dy = wide(dy)
    return xp.sum(dy * standard, axis=others).astype(dtype), xp.sum(dy, axis=others).astype(dtype)


def _others(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a not in axes)
