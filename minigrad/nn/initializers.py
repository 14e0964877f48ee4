"""Initializers: functions from shape and dtype to an array of first values. Named as in Keras.

A kernel of shape (..., inputs, outputs) has fan_in = inputs times the size of the leading axes, fan_out likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from minigrad import dtypes, random
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

#: ``initializer(shape, dtype, generator) -> array``
Initializer = Callable[[tuple[int, ...], Any, Any], np.ndarray]


def zeros() -> Initializer:
    """All 0."""
    return constant(0.0)


def ones() -> Initializer:
    """All 1."""
    return constant(1.0)


def constant(value: float) -> Initializer:
    """All `value`."""
    return lambda shape, dtype, generator: np.full(shape, value, dtype)


def random_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal with this mean and standard deviation.

    Example:
        >>> import minigrad as mg
        >>> w = mg.nn.initializers.random_normal(stddev=0.05)((100, 100), "float32", mg.random.Generator(0))
        >>> bool(abs(w.std() - 0.05) < 0.002)
        True
    """
    return _drawn(random.normal, mean=mean, std=stddev)


def random_uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    """Uniform in [minval, maxval)."""
    return _drawn(random.uniform, low=minval, high=maxval)


def truncated_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal, drawn again beyond two standard deviations."""
    return _drawn(random.truncated_normal, mean=mean, std=stddev)


def variance_scaling(scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal") -> Initializer:
    """Mean 0 and variance scale/n, n being the fan that `mode` names (``fan_in``, ``fan_out`` or ``fan_avg``).

    Args:
        scale: the factor.
        mode: the fan.
        distribution: ``truncated_normal``, ``normal`` or ``uniform``; all have that variance.

    Raises:
        ArgumentError: for another mode or distribution, or a scale that is not positive.
    """
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ArgumentError(f"variance_scaling: mode is {mode!r}, expected 'fan_in', 'fan_out' or 'fan_avg'")
    if distribution not in ("truncated_normal", "normal", "uniform"):
        raise ArgumentError(f"variance_scaling: distribution is {distribution!r}")
    if not scale > 0:
        raise ArgumentError(f"variance_scaling: scale is {scale}, expected a positive number")

    def initializer(shape: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray:
        fan_in, fan_out = _fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        std = sqrt(scale / max(1.0, n))
        if distribution == "uniform":
            return random_uniform(-sqrt(3) * std, sqrt(3) * std)(shape, dtype, generator)
        if distribution == "normal":
            return random_normal(0.0, std)(shape, dtype, generator)
        # Cutting a unit normal at ±2 leaves a standard deviation of 0.8796...
        return truncated_normal(0.0, std / 0.87962566103423978)(shape, dtype, generator)

    return initializer


def glorot_uniform() -> Initializer:
    """Uniform with variance 2/(fan_in + fan_out) (Glorot & Bengio 2010)."""
    return variance_scaling(1.0, "fan_avg", "uniform")


def glorot_normal() -> Initializer:
    """Truncated normal with variance 2/(fan_in + fan_out) (Glorot & Bengio 2010)."""
    return variance_scaling(1.0, "fan_avg", "truncated_normal")


def he_uniform() -> Initializer:
    """Uniform with variance 2/fan_in (He et al. 2015)."""
    return variance_scaling(2.0, "fan_in", "uniform")


def he_normal() -> Initializer:
    """Truncated normal with variance 2/fan_in (He et al. 2015)."""
    return variance_scaling(2.0, "fan_in", "truncated_normal")


def lecun_uniform() -> Initializer:
    """Uniform with variance 1/fan_in (LeCun et al. 1998)."""
    return variance_scaling(1.0, "fan_in", "uniform")


def lecun_normal() -> Initializer:
    """Truncated normal with variance 1/fan_in (LeCun et al. 1998)."""
    return variance_scaling(1.0, "fan_in", "truncated_normal")


def orthogonal(gain: float = 1.0) -> Initializer:
    """A matrix with orthonormal rows or columns, times `gain` (Saxe et al. 2014).

    Raises:
        ShapeError: when called, for a shape of fewer than two axes.
    """

    def initializer(shape: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray:
        if len(shape) < 2:
            raise ShapeError(f"orthogonal: shape is {shape}, expected at least two axes")
        rows, columns = prod(shape[:-1]), shape[-1]
        drawn = random_normal(0.0, 1.0)((max(rows, columns), min(rows, columns)), dtypes.float64, generator)
        q, r = np.linalg.qr(drawn)
        q = q * np.sign(np.diag(r))  # makes the factorization unique, so that the result is uniform
        return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)

    return initializer


_BY_NAME: dict[str, Callable[[], Initializer]] = {
    f.__name__: f
    for f in (
        zeros, ones, random_normal, random_uniform, truncated_normal, glorot_uniform, glorot_normal, he_uniform,
        he_normal, lecun_uniform, lecun_normal, orthogonal,
    )
}  # fmt: skip


def get(initializer: Any) -> Initializer:
    """The initializer of that name, or the function itself.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if isinstance(initializer, str):
        if initializer not in _BY_NAME:
            raise ArgumentError(f"initializer: {initializer!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[initializer]()
    if callable(initializer):
        return initializer
    raise ArgumentTypeError(
        f"initializer: got {initializer!r}, expected a name or a function of (shape, dtype, generator)"
    )


def _drawn(function: Callable, **options: float) -> Initializer:
    def initializer(shape: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray:
        return np.array(function(shape, dtype=dtype, generator=generator, **options).numpy())

    return initializer


def _fans(shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) < 2:
        n = float(prod(shape))
        return n, n
    field = prod(shape[:-2])
    return float(field * shape[-2]), float(field * shape[-1])
