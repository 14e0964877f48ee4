"""Batch normalization: the update of running statistics as a primitive, and the layer (Ioffe & Szegedy 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Primitive, Sample, Tensor, Variable
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms.standardize import normalize_p, standardize_p

update_statistics_p = Primitive("norms::update_statistics", mutates=("moving_mean", "moving_var"))


@update_statistics_p.infer
def _(moving_mean, moving_var, mean, var, *, momentum, correction):
    for name, got in (("moving_var", moving_var), ("mean", mean), ("var", var)):
        if got.shape != moving_mean.shape:
            raise ShapeError(f"update_statistics: {name} has shape {got.shape}, expected {moving_mean.shape}")
    for name, got in (("mean", mean), ("var", var)):
        if got.dtype != mg.dtypes.float64:
            raise DTypeError(f"update_statistics: {name} has dtype {got.dtype}, expected float64")


@cpu.chunked
def _update(chunk, moving_mean, moving_var, mean, var, keep, correction):
    for i in range(moving_mean.size):
        # A channel with a NaN or an infinity in its batch keeps its averages.
        if np.isfinite(mean[i]) and np.isfinite(var[i]):
            moving_mean[i] = mean[i] + keep * (moving_mean[i] - mean[i])
            moving_var[i] = correction * var[i] + keep * (moving_var[i] - correction * var[i])


@update_statistics_p.kernel("cpu")
def _(out, moving_mean, moving_var, mean, var, *, momentum, correction):
    statistics = (cpu.contiguous(mean).reshape(-1), cpu.contiguous(var).reshape(-1))
    _update(1, 0, out[0].reshape(-1), out[1].reshape(-1), *statistics, momentum, correction)


@update_statistics_p.kernel("reference")
def _(moving_mean, moving_var, mean, var, *, momentum, correction):
    finite = np.isfinite(mean) & np.isfinite(var)
    with np.errstate(all="ignore"):
        return (
            np.where(finite, momentum * moving_mean + (1 - momentum) * mean, moving_mean),
            np.where(finite, momentum * moving_var + (1 - momentum) * correction * var, moving_var),
        )


@update_statistics_p.samples
def _(rng):
    wide = ("mean", "var")
    for shape in [(3,), (), (2, 5), (0,)]:
        state = (rng.standard_normal(shape), 1 + rng.random(shape))
        batch = (np.asarray(rng.standard_normal(shape)), np.asarray(rng.random(shape)))
        yield Sample((*state, *batch), {"momentum": 0.9, "correction": 1.5}, wide=wide)
    spoilt = (np.zeros(3), np.ones(3), np.array([1.0, np.nan, 2.0]), np.array([1.0, 2.0, np.inf]))
    yield Sample(spoilt, {"momentum": 0.9, "correction": 1.0}, note="NaN and Inf keep the averages", wide=wide)
    bad = (np.zeros(3), np.ones(3), np.zeros(2), np.ones(3))
    yield Sample(bad, {"momentum": 0.9, "correction": 1.0}, error=ShapeError, match=r"mean has shape \(2,\)")


class BatchNormalization(mg.nn.Layer):
    """Batch normalization, with the arguments of ``keras.layers.BatchNormalization``.

    In training y = (x − μ)·γ/√(σ² + ε) + β with the batch's mean μ and biased variance σ² over all axes but `axis`,
    and the running statistics move: m ← momentum·m + (1 − momentum)·μ, v ← momentum·v + (1 − momentum)·σ². In
    inference the same with m and v for μ and σ². The form is (x − μ)·(γ/σ) + β, never folded into x·a + b, which
    would lose digits at large means.

    A channel whose batch holds a NaN or an infinity gives NaN, and keeps its running statistics. So does an empty
    batch. In training a batch with a single value a channel has no spread and is an error.

    Args:
        axis: the axis, or axes, that keep statistics of their own: -1 for NHWC, 1 for NCHW.
        momentum: in [0, 1].
        epsilon: ε.
        center, scale: whether there are β and γ.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: names or functions.
        unbiased: whether the running variance takes n/(n−1)·σ², as torch's does, rather than σ² as Keras's does.

    Attributes:
        gamma, beta: shape ``[x.shape[a] for a in axis]``, or None.
        moving_mean, moving_variance: of the same shape, in float64, so that inference keeps float32's digits where
            the mean is large and the spread small.

    Raises:
        ArgumentError: for a momentum or epsilon out of range; when called in training on one value a channel.
        ShapeError: for an axis out of range, or an input with another number of channels than the first.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.BatchNormalization(epsilon=0.0)
        >>> layer(mg.tensor([[1.0], [3.0]]), training=True).numpy()
        array([[-1.],
               [ 1.]], dtype=float32)
        >>> layer.moving_mean.numpy()
        array([0.02])
    """

    gamma: Variable | None
    beta: Variable | None

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        unbiased: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        if not 0 <= momentum <= 1:
            raise ArgumentError(f"BatchNormalization: momentum is {momentum!r}, expected a number in [0, 1]")
        if not epsilon >= 0:
            raise ArgumentError(f"BatchNormalization: epsilon is {epsilon!r}, expected a number of at least 0")
        self.axis = axis
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale, self.unbiased = center, scale, unbiased
        self.initializers = (
            beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer
        )  # fmt: skip

    def build(self, shape: tuple[int | None, ...]) -> None:
        kept = mg.axes.normalize(self.name, self.axis, len(shape))
        self.kept = kept
        self.reduced = tuple(a for a in range(len(shape)) if a not in kept)
        self.ndim = len(shape)
        self.counted: tuple[tuple[int, ...] | None, int] = (None, 0)
        channels = tuple(shape[a] for a in kept)
        beta, gamma, mean, variance = self.initializers
        self.gamma = self.add_variable("gamma", channels, gamma) if self.scale else None
        self.beta = self.add_variable("beta", channels, beta) if self.center else None
        self.moving_mean = self.add_variable("moving_mean", channels, mean, False, "float64")
        self.moving_variance = self.add_variable("moving_variance", channels, variance, False, "float64")

    def call(self, x: Tensor, training: bool) -> Tensor:
        shape = x.shape
        count = self._count(shape)
        if not training:
            statistics = (self.moving_mean, self.moving_variance)
            return normalize_p(
                x, self.gamma, self.beta, *statistics, axes=self.reduced, parameter_axes=self.kept, epsilon=self.epsilon
            )
        if count == 1:
            raise ArgumentError(
                f"{self.name}: a batch of shape {shape} has one value a channel, which has no spread to normalize by; "
                "train on larger batches, or call with training=False"
            )
        y, mean, var = standardize_p(
            x, self.gamma, self.beta, axes=self.reduced, parameter_axes=self.kept, epsilon=self.epsilon
        )
        if count:
            correction = count / (count - 1) if self.unbiased else 1.0
            update_statistics_p(
                self.moving_mean, self.moving_variance, mean, var, momentum=self.momentum, correction=correction
            )
        return y

    def _count(self, shape: tuple[int, ...]) -> int:
        """How many values of a channel a batch of this shape has; looked up once for batches of one shape."""
        known, count = self.counted
        if shape != known:
            if len(shape) != self.ndim or tuple(shape[a] for a in self.kept) != self.moving_mean.shape:
                raise ShapeError(
                    f"{self.name}: the input has shape {shape}, expected {self.ndim} axes "
                    f"with lengths {self.moving_mean.shape} at {self.kept}"
                )
            count = prod(shape[a] for a in self.reduced)
            self.counted = shape, count
        return count
