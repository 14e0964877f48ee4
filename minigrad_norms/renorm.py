"""Batch renormalization (Ioffe 2017): training normalizes by what inference will use, to first order.

With the batch's μ and σ², s = √(σ² + ε), and averages R_m, R_s, w of μ, s and 1 that start at 0:
    mixed mean = R_m + (1 − w)·μ      mixed deviation = R_s + (1 − w)·s
    r = s/mixed deviation, clipped to [rmin, rmax]      d = (μ − mixed mean)/mixed deviation, clipped to [−dmax, dmax]
    y = (x̂·r + d)·γ + β = x̂·(γ·r) + (β + d·γ)
r and d are constants to the gradient. In the first step r = 1 and d = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad_norms.arguments import epsilon_of, floating, parameter, widened
from minigrad_norms.standardize import moments_p, standardize_p

_KEYS = {"rmin": 0.0, "rmax": inf, "dmax": inf}


def batch_renorm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    renorm_mean: Any,
    renorm_stddev: Any,
    renorm_weight: Any,
    axis: Any = -1,
    epsilon: float = 1e-3,
    renorm_clipping: Mapping[str, Any] | None = None,
    activation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(x̂·r + d)·γ + β, with x standardized over all axes but `axis`, and r, d from the averages (Ioffe 2017).

    The averages are those before this batch, and stay as they are; `BatchNormalization` and `batch_norm` with
    ``renorm=True`` also move them.

    Args:
        x: shape (..., channels, ...).
        gamma, beta: shape (channels,), or None for 1 and 0.
        renorm_mean, renorm_stddev, renorm_weight: R_m, R_s and w, shape (channels,); w may be a scalar. 0 at first.
        axis: the axis, or axes, that keep statistics of their own.
        epsilon: ε ≥ 0.
        renorm_clipping: ``rmin``, ``rmax`` and ``dmax``, numbers or scalar tensors; 0, ∞ and ∞ where missing.
        activation: one that `standardize` fuses, or None.

    Returns:
        y of x's shape and dtype; the batch's mean and biased variance, float64, shape (channels,).

    Raises:
        ArgumentError: for an unknown key of `renorm_clipping`, rmin above rmax, a negative number.
        ShapeError: naming the argument that does not fit.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> averages = {"renorm_mean": [1.0], "renorm_stddev": [2.0], "renorm_weight": 1.0}
        >>> y, mean, var = norms.batch_renorm(mg.tensor([[1.0], [5.0]]), epsilon=0.0, **averages)
        >>> y.numpy()  # as (x − 1)/2
        array([[0.],
               [2.]], dtype=float32)
    """
    x, narrow = widened(floating(x))
    kept = mg.axes.normalize("batch_renorm", axis, x.ndim)
    channels = tuple(x.shape[a] for a in kept)
    why = f"at axes {kept}"
    gamma = parameter("batch_renorm", "gamma", gamma, x, channels, why)
    beta = parameter("batch_renorm", "beta", beta, x, channels, why)
    epsilon = epsilon_of("batch_renorm", epsilon)
    averages = []
    for name, value in (("mean", renorm_mean), ("stddev", renorm_stddev), ("weight", renorm_weight)):
        value = mg.as_tensor(value).astype("float64")
        if value.shape != channels and (name != "weight" or value.ndim):
            raise ShapeError(f"batch_renorm: renorm_{name} has shape {value.shape}, expected {channels}")
        averages.append(mg.broadcast_to(value, channels))
    reduced = tuple(a for a in range(x.ndim) if a not in kept)
    statistics = moments_p(x.detach(), axes=reduced)
    limits = clipping_of("batch_renorm", renorm_clipping)
    gamma, beta = corrected(gamma, beta, x.dtype, statistics, averages, epsilon, limits)
    y, mean, var = standardize_p(
        x, gamma, beta, axes=reduced, parameter_axes=kept, epsilon=epsilon, activation=activation
    )
    return (y if narrow is None else y.astype(narrow)), mean, var


def clipping_of(operation: str, clipping: Mapping[str, Any] | None) -> tuple[Tensor, ...]:
    """rmin, rmax and dmax as float64 scalars; 0, ∞ and ∞ where missing.

    Raises:
        ArgumentTypeError: if `clipping` is no mapping.
        ArgumentError: for an unknown key, or limits that leave nothing in between.
    """
    if clipping is None:
        return _UNCLIPPED
    if not isinstance(clipping, Mapping):
        raise ArgumentTypeError(f"{operation}: renorm_clipping is {clipping!r}, expected a dict")
    unknown = [key for key in clipping if key not in _KEYS]
    if unknown:
        raise ArgumentError(f"{operation}: renorm_clipping has unknown keys {unknown}, expected some of {[*_KEYS]}")
    for key, value in clipping.items():
        if not isinstance(value, Tensor) and not (isinstance(value, (int, float, np.number)) and value >= 0):
            raise ArgumentError(f"{operation}: {key} is {value!r}, expected a number of at least 0 or a scalar tensor")
        if isinstance(value, Tensor) and value.ndim:
            raise ShapeError(f"{operation}: {key} has shape {value.shape}, expected a scalar")
    given = {**_KEYS, **clipping}
    low, high = given["rmin"], given["rmax"]
    if not (isinstance(low, Tensor) or isinstance(high, Tensor)) and low > high:
        raise ArgumentError(f"{operation}: rmin is {low}, above rmax = {high}")
    rmin, rmax, dmax = (mg.as_tensor(np.float64(v)) if not isinstance(v, Tensor) else v for v in given.values())
    return rmin.astype("float64"), rmax.astype("float64"), dmax.astype("float64")


_UNCLIPPED = tuple(mg.tensor(v, "float64") for v in _KEYS.values())


def corrected(
    gamma: Tensor | None,
    beta: Tensor | None,
    dtype: Any,
    statistics: Sequence[Tensor],
    averages: Sequence[Tensor],
    epsilon: float,
    limits: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """γ·r and β + d·γ: scale and shift that make a standardization a renormalization.

    `statistics` are the batch's mean and variance, `averages` R_m, R_s and w, `limits` rmin, rmax and dmax.
    """
    r, d = renorm_correction_p(*statistics, *averages, *limits, epsilon=epsilon)
    r, d = r.astype(dtype), d.astype(dtype)
    scale, shift = (r, d) if gamma is None else (gamma * r, gamma * d)
    return scale, shift if beta is None else shift + beta


_INPUTS = ("mean", "var", "renorm_mean", "renorm_stddev", "renorm_weight", "rmin", "rmax", "dmax")
renorm_correction_p = Primitive(
    "norms::renorm_correction", outputs=("r", "d"), frozen=(*_INPUTS, "r", "d"), analytic=False
)


@renorm_correction_p.infer
def _(mean, var, renorm_mean, renorm_stddev, renorm_weight, rmin, rmax, dmax, *, epsilon):
    inputs = (mean, var, renorm_mean, renorm_stddev, renorm_weight, rmin, rmax, dmax)
    for i, (name, got) in enumerate(zip(_INPUTS, inputs)):
        wanted = mean.shape if i < 5 else ()
        if got.shape != wanted:
            raise ShapeError(f"renorm_correction: {name} has shape {got.shape}, expected {wanted}")
        if got.dtype != mg.dtypes.float64:
            raise DTypeError(f"renorm_correction: {name} has dtype {got.dtype}, expected float64")
    return Abstract(mean.shape, mean.dtype), Abstract(mean.shape, mean.dtype)


def correction(s, mean, r_mean, r_stddev, weight, rmin, rmax, dmax):
    """r and d of one channel, whose batch has the deviation s; for kernels of every device."""
    missing = 1.0 - weight
    mixed = r_stddev + missing * s
    ratio, shift = np.float64(1.0), np.float64(0.0)  # where nothing has any spread
    if mixed != 0.0:
        ratio = s / mixed
        shift = (mean - (r_mean + missing * mean)) / mixed
    # Comparisons with a NaN are false: it goes through.
    ratio = rmin if ratio < rmin else ratio
    shift = -dmax if shift < -dmax else shift
    return rmax if ratio > rmax else ratio, dmax if shift > dmax else shift


_correction = cpu.jit(correction)


@cpu.chunked
def _correct(chunk, r, d, mean, var, r_mean, r_stddev, weight, rmin, rmax, dmax, epsilon):
    for i in range(mean.size):
        s = np.sqrt(var[i] + epsilon)
        r[i], d[i] = _correction(s, mean[i], r_mean[i], r_stddev[i], weight[i], rmin[0], rmax[0], dmax[0])


@renorm_correction_p.kernel("cpu", planned=True)
def _(mean, var, renorm_mean, renorm_stddev, renorm_weight, rmin, rmax, dmax, *, epsilon):
    def fill(out, mean, var, renorm_mean, renorm_stddev, renorm_weight, rmin, rmax, dmax):
        arrays = (*out, mean, var, renorm_mean, renorm_stddev, renorm_weight)
        flat = [cpu.contiguous(a).reshape(-1) for a in arrays]
        limits = [cpu.contiguous(a).reshape(1) for a in (rmin, rmax, dmax)]
        _correct(1, 0, *flat, *limits, epsilon)

    return fill


@renorm_correction_p.kernel("reference")
def _(mean, var, renorm_mean, renorm_stddev, renorm_weight, rmin, rmax, dmax, *, epsilon):
    with np.errstate(all="ignore"):
        s = np.sqrt(var + epsilon)
        mixed_mean = renorm_mean + (1 - renorm_weight) * mean
        mixed = np.asarray(renorm_stddev + (1 - renorm_weight) * s)
        r = np.where(mixed == 0, 1.0, s / mixed)
        d = np.where(mixed == 0, 0.0, (mean - mixed_mean) / mixed)
        return np.clip(r, rmin, rmax), np.clip(d, -dmax, dmax)


@renorm_correction_p.samples
def _(rng):
    open_ends = (np.asarray(0.0), np.asarray(inf), np.asarray(inf))
    for shape in [(3,), (), (2, 5), (0,)]:
        batch = (np.asarray(rng.standard_normal(shape)), np.asarray(rng.random(shape)))
        averages = [np.asarray(v) for v in (rng.standard_normal(shape), *rng.random((2, *shape)))]
        params = {"epsilon": 0.01}
        yield Sample((*batch, *averages, *open_ends), params, wide=_INPUTS)
        tight = (np.asarray(0.9), np.asarray(1.1), np.asarray(0.2))
        yield Sample((*batch, *averages, *tight), params, note="clipped", wide=_INPUTS)
    start = (np.zeros(3), np.zeros(3), np.zeros(3))
    yield Sample((*rng.random((2, 3)), *start, *open_ends), {"epsilon": 0.01}, note="the first step", wide=_INPUTS)
    flat = (np.ones(3), np.zeros(3), *start, *open_ends)
    yield Sample(flat, {"epsilon": 0.0}, note="constant channels without epsilon", wide=_INPUTS)
    spoilt = (np.array([np.nan, 0.0, 1.0]), np.array([np.nan, np.inf, 1.0]), *np.ones((3, 3)), *open_ends)
    yield Sample(spoilt, {"epsilon": 0.01}, note="NaN and infinity", wide=_INPUTS)
    bad = (np.ones(3), np.ones(3), np.ones(2), np.ones(3), np.ones(3), *open_ends)
    yield Sample(bad, {"epsilon": 0.01}, error=ShapeError, match=r"renorm_mean has shape \(2,\), expected \(3,\)")
