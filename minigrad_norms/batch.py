"""Batch normalization (Ioffe & Szegedy 2015) as a layer, with its kin: weighted, virtual batches, renormalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms import ghost
from minigrad_norms import renorm as renorms
from minigrad_norms.base import Normalization, flag
from minigrad_norms.running import update_renorm_p, update_statistics_p
from minigrad_norms.standardize import moments_p, normalize_p, standardize_p
from minigrad_norms.weighted import weighted_moments_p


class BatchNormalization(Normalization):
    """Batch normalization, with the arguments of ``keras.layers.BatchNormalization``.

    In training y = (x − μ)·γ/√(σ² + ε) + β with the batch's mean μ and biased variance σ² over all axes but `axis`,
    and the running statistics move: m ← momentum·m + (1 − momentum)·μ, v ← momentum·v + (1 − momentum)·σ². In
    inference, and always with ``trainable=False``, the same with m and v for μ and σ². The form is (x − μ)·(γ/σ) + β,
    never folded into x·a + b, which would lose digits at large means.

    A channel whose batch holds a NaN or an infinity gives NaN, and keeps its running statistics. So does an empty
    batch. In training a batch with a single value a channel has no spread and is an error.

    Called as ``layer(x, training, mask=None, sample_weight=None)``. Where a mask is False an element, which must still
    be finite, counts for nothing in μ and σ²; a sample weight says how often it counts: μ = Σwx/Σw, σ² = Σw(x − μ)²/Σw.
    Both have the shape of x without `axis`, or of its first axes, or one that broadcasts to x's. All elements are
    normalized. A channel in which one value alone has weight gives exactly β.

    Args:
        axis: the axis, or axes, that keep statistics of their own: -1 for NHWC, 1 for NCHW.
        momentum: in [0, 1].
        epsilon: ε.
        center, scale: whether there are β and γ.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: names or functions.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: names, functions, or None.
        synchronized: only False. One process computes here, and there is nothing to synchronize with.
        renorm: batch renormalization in training (Ioffe 2017), as `batch_renorm`.
        renorm_clipping: its ``rmin``, ``rmax`` and ``dmax``; 0, ∞ and ∞ where missing.
        renorm_momentum: of the averages that renormalization corrects by.
        fused: None, True or False. All are the same here: every path is fused.
        virtual_batch_size: ghost batch normalization, as `ghost_batch_norm`: statistics of so many samples each. The
            running statistics move once, by the means over the virtual batches.
        unbiased_moving_variance: whether the running variance takes n/(n − 1)·σ², as torch's does, rather than σ² as
            Keras's does; with weights n is their sum. The output is normalized by σ² either way.
        trainable: False for a frozen layer, which normalizes as in inference and changes nothing.
        name, dtype: as of Layer. Half-precision inputs are computed in float32.

    Attributes:
        gamma, beta: shape ``[x.shape[a] for a in axis]``, or None.
        moving_mean, moving_variance: of the same shape, in float64, so that inference keeps float32's digits where
            the mean is large and the spread small.
        renorm_mean, renorm_stddev, renorm_weight: the same, with `renorm`: averages that start at 0, of the mean, of
            √(σ² + ε), and of 1.

    Raises:
        ArgumentError: for a momentum or epsilon out of range, and for arguments that exclude one another; when called
            in training on one value a channel, or on weights that add up to 0.
        ShapeError: for an axis out of range, an input with another number of channels than the first, a batch that
            virtual_batch_size does not divide, or a mask that does not fit.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.BatchNormalization(epsilon=0.0)
        >>> layer(mg.tensor([[1.0], [3.0]]), training=True).numpy()
        array([[-1.],
               [ 1.]], dtype=float32)
        >>> layer.moving_mean.numpy()
        array([0.02])
    """

    worked_out = frozenset({"seen", "count", "correction"})

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
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        *,
        renorm: bool = False,
        renorm_clipping: Mapping[str, Any] | None = None,
        renorm_momentum: float = 0.99,
        fused: bool | None = None,
        virtual_batch_size: int | None = None,
        unbiased_moving_variance: bool = False,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
            trainable=trainable,
            name=name,
            dtype=dtype,
        )
        kind = type(self).__name__
        self.momentum = fraction(kind, "momentum", momentum)
        self.moving_mean_initializer = mg.nn.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = mg.nn.initializers.get(moving_variance_initializer)
        self.unbiased_moving_variance = flag(kind, "unbiased_moving_variance", unbiased_moving_variance)
        self.renorm = flag(kind, "renorm", renorm)
        self.renorm_momentum = fraction(kind, "renorm_momentum", renorm_momentum)
        self.renorm_clipping = renorm_clipping
        self.virtual_batch_size = None if virtual_batch_size is None else ghost.virtual_size(kind, virtual_batch_size)
        if flag(kind, "synchronized", synchronized):
            raise ArgumentError(f"{kind}: synchronized is True, which is not offered: one process computes here")
        if fused is not None:
            flag(kind, "fused", fused)
        if renorm and virtual_batch_size is not None:
            raise ArgumentError(f"{kind}: renorm and virtual_batch_size exclude one another")
        if renorm and unbiased_moving_variance:
            raise ArgumentError(f"{kind}: renorm averages deviations, which unbiased_moving_variance can't correct")
        if renorm_clipping is not None and not renorm:
            raise ArgumentError(f"{kind}: renorm_clipping is given, but renorm is False")
        limits = renorms.clipping_of(kind, renorm_clipping)
        changing = any(isinstance(v, Tensor) for v in (renorm_clipping or {}).values())  # read again at each call
        self.limits = None if changing else limits
        self.special = self.renorm or self.virtual_batch_size is not None

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        self.kept = self.spanned(shape)
        self.reduced = tuple(a for a in range(len(shape)) if a not in self.kept)
        if self.virtual_batch_size is not None:
            ghost.virtual_axes(self.name, len(shape), self.kept)
        channels = self.parameter_shape(shape)
        self.moving_mean = self.add_variable("moving_mean", channels, self.moving_mean_initializer, False, "float64")
        self.moving_variance = self.add_variable(
            "moving_variance", channels, self.moving_variance_initializer, False, "float64"
        )
        if self.renorm:
            self.renorm_mean, self.renorm_stddev, self.renorm_weight = (
                self.add_variable(f"renorm_{name}", channels, "zeros", False, "float64")
                for name in ("mean", "stddev", "weight")
            )

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ShapeError unless inputs of this shape fit; remembered for the inputs that follow."""
        if len(shape) != len(self.kept) + len(self.reduced) or self.parameter_shape(shape) != self.moving_mean.shape:
            raise ShapeError(
                f"{self.name}: the input has shape {shape}, expected {len(self.kept) + len(self.reduced)} axes "
                f"with lengths {self.moving_mean.shape} at {self.kept}"
            )
        self.count = prod([shape[a] for a in self.reduced])  # the values of a channel
        self.correction = self.count / (self.count - 1) if self.unbiased_moving_variance and self.count > 1 else 1.0
        self.seen = shape

    def call(self, x: Tensor, training: bool, mask: Any = None, sample_weight: Any = None) -> Tensor:
        if x.shape != self.seen:
            self.check(x.shape)
        if x.dtype is not self.dtype:
            plain = not (self.special or mask is not None or sample_weight is not None)
            if not (plain and mg.dtypes.arithmetic(x.dtype) == self.dtype):  # else as it is, half types too
                x, narrow = self.widened(x)
                if narrow is not None:
                    return self.call(x, training, mask, sample_weight).astype(narrow)
        axes, kept = self.reduced, self.kept
        if not (training and self.trainable):
            return normalize_p(
                x, self.gamma, self.beta, self.moving_mean, self.moving_variance,
                axes=axes, parameter_axes=kept, epsilon=self.epsilon,
            )  # fmt: skip
        if self.special or mask is not None or sample_weight is not None:
            return self._special(x, weights_of(self.name, x, axes, mask, sample_weight))
        if self.count == 1:
            raise lonely(self.name, x.shape)
        y, mean, var = standardize_p(
            x, self.gamma, self.beta, axes=axes, parameter_axes=kept, epsilon=self.epsilon
        )  # fmt: skip
        if self.count:
            update_statistics_p(
                self.moving_mean, self.moving_variance, mean, var, momentum=self.momentum, correction=self.correction
            )
        return y

    def _special(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """Training with weights, virtual batches or renormalization."""
        shape, axes, kept, count = x.shape, self.reduced, self.kept, self.count
        if self.virtual_batch_size is not None:
            axes, kept = ghost.virtual_axes(self.name, x.ndim, kept)
            x = ghost.split(self.name, x, self.virtual_batch_size)
            count = prod([x.shape[a] for a in axes])
            if weights is not None:
                weights = mg.broadcast_to(weights, (shape[0], *weights.shape[1:]))
                weights = ghost.split(self.name, weights, self.virtual_batch_size)
        if count == 1:
            raise lonely(self.name, shape)
        gamma: Tensor | None = self.gamma
        beta: Tensor | None = self.beta
        epsilon = self.epsilon
        if weights is not None:
            mean, var, total = weighted_moments_p(x, weights, axes=axes)
        elif self.renorm:
            mean, var = moments_p(x.detach(), axes=axes)
        if self.renorm:
            statistics = (mean.detach(), var.detach())
            averages = (self.renorm_mean, self.renorm_stddev, self.renorm_weight)
            limits = self.limits or renorms.clipping_of(self.name, self.renorm_clipping)
            gamma, beta = renorms.corrected(gamma, beta, x.dtype, statistics, averages, epsilon, limits)
        if weights is not None:
            y = normalize_p(x, gamma, beta, mean, var, axes=axes, parameter_axes=kept, epsilon=epsilon)
        else:
            y, mean, var = standardize_p(x, gamma, beta, axes=axes, parameter_axes=kept, epsilon=epsilon)
        if x.size:
            n = float(count) if weights is None else total.detach()
            self._move(
                mean.detach(), var.detach() * self._correction(n) if self.unbiased_moving_variance else var.detach()
            )
        return y if y.shape == shape else y.reshape(shape)

    @staticmethod
    def _correction(n: Any) -> Any:
        """n/(n − 1), and NaN, which moves nothing, for n ≤ 1."""
        return mg.where(n > 1, n / (n - 1), float("nan")) if isinstance(n, Tensor) else n / (n - 1)

    def _move(self, mean: Tensor, var: Tensor) -> None:
        if self.virtual_batch_size is not None:
            mean, var = mg.mean(mean, axis=0), mg.mean(var, axis=0)
        running = (self.moving_mean, self.moving_variance)
        if self.renorm:
            update_renorm_p(
                *running, self.renorm_mean, self.renorm_stddev, self.renorm_weight, mean, var,
                momentum=self.momentum, renorm_momentum=self.renorm_momentum, epsilon=self.epsilon,
            )  # fmt: skip
        else:
            update_statistics_p(*running, mean, var, momentum=self.momentum, correction=1.0)


def weights_of(operation: str, x: Tensor, axes: tuple[int, ...], mask: Any, sample_weight: Any) -> Tensor | None:
    """How often each element of x counts in statistics over `axes`, of a shape that broadcasts to x's; None for once.

    Raises:
        ShapeError: naming the argument that does not fit.
    """
    found = None
    for name, value in (("mask", mask), ("sample_weight", sample_weight)):
        if value is None:
            continue
        value = mg.as_tensor(value)
        lengths = tuple(x.shape[a] for a in axes)
        if value.ndim and value.shape == lengths[: value.ndim]:
            standing = [1] * x.ndim
            for axis, n in zip(axes, value.shape):
                standing[axis] = n
            value = value.reshape(tuple(standing))
        elif value.ndim != x.ndim or any(n not in (1, m) for n, m in zip(value.shape, x.shape)):
            raise ShapeError(
                f"{operation}: {name} has shape {value.shape}, expected {lengths} or its first axes, "
                f"or what broadcasts to {x.shape}"
            )
        value = value.astype(x.dtype)
        found = value if found is None else found * value
    return found


def lonely(name: str, shape: tuple[int, ...]) -> ArgumentError:
    """The error of a training batch without spread."""
    return ArgumentError(
        f"{name}: a batch of shape {shape} has one value a channel, which has no spread to normalize by; "
        "train on larger batches, or call with training=False"
    )


def fraction(operation: str, argument: str, value: Any) -> float:
    """The value as a float.

    Raises:
        ArgumentError: unless it lies in [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{operation}: {argument} is {value!r}, expected a number in [0, 1]")
    return float(value)
