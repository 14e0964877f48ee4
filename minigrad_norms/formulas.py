"""The formulas, once, for NumPy arrays and for tensors: `xp` is ``numpy`` or ``minigrad``, whose functions share names.

With NumPy they are the reference that kernels are held to; with tensors they are differentiable, and give what is not
fused: forward mode, and the gradients of gradients. Everything is computed in float64 or wider.

With n elements a group, s = 1/√(σ² + ε), x̂ = (x − μ)·s, z = x̂·γ + β, dz = dy·f′(z) and h = γ·dz:
    standardize:  y = f(z);  dx = s·(h − mean(h) − x̂·mean(h·x̂)) + dμ/n + 2(x − μ)·dσ²/n
    normalize:    the same y with μ and σ² given;  dx = s·h,  dμ = −Σ s·h,  dσ² = −½ Σ h·(x − μ)·s³
    both:         dγ = Σ dz·x̂,  dβ = Σ dz
The statistic σ² is the variance, or with μ = 0 the mean or the sum of squares; nothing then comes through μ, and for
the sum n is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from minigrad.dtypes import arithmetic

STATISTICS = ("variance", "mean_square", "sum_square")


def moments(xp: Any, x: Any, axes: tuple[int, ...], statistic: str = "variance") -> tuple[Any, Any]:
    """μ and σ²; both 0 for groups without elements."""
    x = wide(x)
    n = prod(x.shape[a] for a in axes)
    if n == 0:
        zeros = xp.sum(x, axis=axes)
        return zeros, zeros * 0
    if statistic == "variance":
        mean = xp.sum(x, axis=axes, keepdims=True) / n
        var = xp.sum(xp.square(x - mean), axis=axes) / n
        return mean.reshape(var.shape), var
    squares = xp.sum(xp.square(x), axis=axes)
    zeros = np.zeros(squares.shape, squares.dtype)
    return zeros if xp is np else xp.tensor(zeros), squares if statistic == "sum_square" else squares / n


def standardize(
    xp: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    axes: tuple,
    parameter_axes: tuple,
    epsilon: float,
    statistic: str = "variance",
    activation: str | None = None,
) -> tuple:
    """y, μ and σ²."""
    mean, var = moments(xp, x, axes, statistic)
    return normalize(xp, x, gamma, beta, mean, var, axes, parameter_axes, epsilon, activation), mean, var


def normalize(
    xp: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    axes: tuple,
    parameter_axes: tuple,
    epsilon: float,
    activation: str | None = None,
) -> Any:
    """y with given moments."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    z = _affine(centred, s, gamma, beta, parameter_axes)
    return (z if activation is None else ACTIVATIONS[activation][0](xp, z)).astype(x.dtype)


def standardize_vjp(
    xp: Any,
    dy: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    dmean: Any,
    dvar: Any,
    axes: tuple,
    parameter_axes: tuple,
    epsilon: float,
    statistic: str = "variance",
    activation: str | None = None,
) -> tuple:
    """dx, dγ and dβ, from the cotangents of y, μ and σ²; the latter may be None."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    n = 1 if statistic == "sum_square" else max(1, prod(x.shape[a] for a in axes))
    kept = _others(x.ndim, axes)
    standard = centred * s
    dz = _through(xp, dy, centred, s, gamma, beta, parameter_axes, activation)
    h = dz if gamma is None else dz * standing(gamma, x.ndim, parameter_axes)
    mean_hx = xp.sum(h * standard, axis=axes, keepdims=True) / n
    if statistic == "variance":
        dx = s * (h - xp.sum(h, axis=axes, keepdims=True) / n - standard * mean_hx)
        if dmean is not None:
            dx = dx + standing(dmean, x.ndim, kept) / n
    else:
        dx = s * (h - standard * mean_hx)
    if dvar is not None:
        dx = dx + centred * (standing(dvar, x.ndim, kept) * (2 / n))
    return dx.astype(x.dtype), *_parameter_sums(xp, dz, standard, parameter_axes, arithmetic(x.dtype))


def normalize_vjp(
    xp: Any,
    dy: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    axes: tuple,
    parameter_axes: tuple,
    epsilon: float,
    activation: str | None = None,
) -> tuple:
    """dx, dγ, dβ, dμ and dσ²."""
    centred, s = _parts(xp, x, mean, var, axes, epsilon)
    dz = _through(xp, dy, centred, s, gamma, beta, parameter_axes, activation)
    dx = s * (dz if gamma is None else dz * standing(gamma, x.ndim, parameter_axes))
    dmean = -xp.sum(dx, axis=axes)
    dvar = xp.sum(dx * centred * s * s, axis=axes) * -0.5
    sums = _parameter_sums(xp, dz, centred * s, parameter_axes, arithmetic(x.dtype))
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


# What may come last: each function and its derivative, which at a kink is that of minigrad's function of the name.


def _sigmoid(xp: Any, z: Any) -> Any:
    return xp.sigmoid(z) if hasattr(xp, "sigmoid") else 1 / (1 + xp.exp(-z))  # NumPy has none; e⁻ᶻ = ∞ gives 0


def _relu(xp: Any, z: Any) -> Any:
    return xp.where(z <= 0, 0 * z, z)


def _relu_slope(xp: Any, z: Any) -> Any:
    return xp.where(z <= 0, 0.0, 1.0)


def _relu6(xp: Any, z: Any) -> Any:
    return xp.where(z >= 6, 6.0, _relu(xp, z))


def _relu6_slope(xp: Any, z: Any) -> Any:
    return xp.where(z >= 6, 0.0, _relu_slope(xp, z))


def _elu(xp: Any, z: Any) -> Any:
    return xp.where(z <= 0, xp.expm1(xp.where(z <= 0, z, 0 * z)), z)


def _elu_slope(xp: Any, z: Any) -> Any:
    return xp.where(z <= 0, xp.exp(xp.where(z <= 0, z, 0 * z)), 1.0)


ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "relu": (_relu, _relu_slope),
    "relu6": (_relu6, _relu6_slope),
    "elu": (_elu, _elu_slope),
    "tanh": (lambda xp, z: xp.tanh(z), lambda xp, z: 4 * _sigmoid(xp, 2 * z) * _sigmoid(xp, -2 * z)),
    "sigmoid": (_sigmoid, lambda xp, z: _sigmoid(xp, z) * _sigmoid(xp, -z)),
}


def _parts(xp: Any, x: Any, mean: Any, var: Any, axes: tuple, epsilon: float) -> tuple[Any, Any]:
    """x − μ and s, ready to broadcast."""
    kept = _others(x.ndim, axes)
    v = var + epsilon
    nothing = v == 0
    s = xp.where(nothing, 0.0 * v, 1 / xp.sqrt(xp.where(nothing, 0.0 * v + 1, v)))
    return wide(x) - standing(mean, x.ndim, kept), standing(s, x.ndim, kept)


def _affine(centred: Any, s: Any, gamma: Any, beta: Any, parameter_axes: tuple) -> Any:
    """z: standardized, scaled and shifted."""
    if gamma is not None:
        s = s * standing(gamma, centred.ndim, parameter_axes)
    z = centred * s
    return z if beta is None else z + standing(beta, centred.ndim, parameter_axes)


def _through(
    xp: Any, dy: Any, centred: Any, s: Any, gamma: Any, beta: Any, parameter_axes: tuple, activation: str | None
) -> Any:
    """The cotangent of z."""
    dy = wide(dy)
    if activation is None:
        return dy
    return dy * ACTIVATIONS[activation][1](xp, _affine(centred, s, gamma, beta, parameter_axes))


def _parameter_sums(xp: Any, dz: Any, standard: Any, parameter_axes: tuple, dtype: Any) -> tuple[Any, Any]:
    others = _others(dz.ndim, parameter_axes)
    return xp.sum(dz * standard, axis=others).astype(dtype), xp.sum(dz, axis=others).astype(dtype)


def _others(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a not in axes)
