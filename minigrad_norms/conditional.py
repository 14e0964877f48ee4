"""Conditional normalization: scale and shift of each sample's own, by label or as a mixture (Dumoulin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor, Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, MissingRuleError, ShapeError
from minigrad_norms.arguments import along, cast, channel_axis, epsilon_of, floating, hashable, one_axis, widened
from minigrad_norms.base import Normalization
from minigrad_norms.batch import BatchNormalization
from minigrad_norms.standardize import standardize_p

# Checked when it runs, so that whoever replays the tape checks the labels of then.
labels_p = Primitive("norms::labels")


def conditional_instance_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    labels: Any = None,
    weights: Any = None,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Tensor:
    """y = (x − μ)·γ[l]/√(σ² + ε) + β[l], with μ and σ² for each sample and channel, and its label's scale and shift.

    With weights w instead of labels, scale and shift are the mixtures Σ wₖ·γ[k] and Σ wₖ·β[k]: w is taken as it is, not
    normalized to a sum of 1. From Dumoulin, Shlens & Kudlur, "A Learned Representation For Artistic Style" (2017).

    Args:
        x: shape (samples, ...), with the channels at `axis`.
        gamma, beta: shape (styles, channels); None for 1 and 0.
        labels: integers in [0, styles) of shape (samples,).
        weights: floats of shape (samples, styles), to which gradients flow.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon: ε ≥ 0. Where σ² + ε is 0, y is the shift.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if gamma, beta, labels or weights doesn't fit x, or the axis is out of range or the samples'.
        IndexRangeError: for a label outside [0, styles).
        DTypeError: for labels that are no integers, or weights that are.
        ArgumentError: unless there are either labels or weights; for a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x, gamma = mg.tensor([[[1.0], [3.0]], [[1.0], [3.0]]]), mg.tensor([[1.0], [5.0]])
        >>> norms.conditional_instance_norm(x, gamma, labels=[1, 0], epsilon=0.0).numpy().ravel()
        array([-5.,  5., -1.,  1.], dtype=float32)
        >>> weights = mg.tensor([[0.5, 0.5], [0.0, 2.0]])
        >>> norms.conditional_instance_norm(x, gamma, weights=weights, epsilon=0.0).numpy().ravel()
        array([ -3.,   3., -10.,  10.], dtype=float32)
    """
    operation = "conditional_instance_norm"
    x, narrow = widened(floating(x))
    axes, kept = _axes(operation, x.shape, hashable(axis))
    gamma, beta = _tables(operation, x, gamma, beta, kept[1])
    epsilon = epsilon_of(operation, epsilon)
    gamma, beta = rows(operation, x, gamma, beta, labels, weights)
    y = standardize_p(x, gamma, beta, axes=axes, parameter_axes=kept, epsilon=epsilon)[0]
    return y if narrow is None else y.astype(narrow)


def rows(
    operation: str, x: Tensor, gamma: Tensor | None, beta: Tensor | None, labels: Any, weights: Any
) -> tuple[Tensor | None, Tensor | None]:
    """γ and β of shape (samples, channels) from tables of shape (styles, channels)."""
    if (labels is None) == (weights is None):
        given = "neither" if labels is None else "both"
        raise ArgumentError(f"{operation}: got {given} of labels and weights, expected one of them")
    styles = next((p.shape[0] for p in (gamma, beta) if p is not None), None)
    if weights is None:
        places = _labels(operation, labels, x.shape[0], styles)
        return tuple(None if p is None else mg.take(p, places, axis=0) for p in (gamma, beta))  # type: ignore[return-value]
    mixture = _weights(operation, weights, x, styles)
    return tuple(None if p is None else mg.matmul(mixture, p) for p in (gamma, beta))  # type: ignore[return-value]


def _tables(operation: str, x: Tensor, gamma: Any, beta: Any, channels: int) -> tuple[Tensor | None, Tensor | None]:
    """γ and β as tensors of x's dtype, of one number of styles and x's number of channels."""
    found: list[Tensor | None] = []
    first = None
    for name, value in (("gamma", gamma), ("beta", beta)):
        if value is not None:
            value = cast(value, x.dtype)
            if value.ndim != 2 or value.shape[1] != x.shape[channels]:
                raise ShapeError(
                    f"{operation}: {name} has shape {value.shape}, expected (styles, {x.shape[channels]}) to match the "
                    f"channels at axis {channels} of x with shape {x.shape}"
                )
            if first is not None and value.shape != first.shape:
                raise ShapeError(f"{operation}: {name} has shape {value.shape}, expected {first.shape} as of gamma")
            first = value
        found.append(value)
    return found[0], found[1]


def _labels(operation: str, labels: Any, samples: int, styles: int | None) -> Tensor:
    labels = mg.as_tensor(labels)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{operation}: labels has dtype {labels.dtype}, expected integers")
    if labels.shape != (samples,):
        raise ShapeError(f"{operation}: labels has shape {labels.shape}, expected {(samples,)}, one a sample")
    return labels if styles is None else labels_p(labels, styles=styles, operation=operation)


def _weights(operation: str, weights: Any, x: Tensor, styles: int | None) -> Tensor:
    given = mg.as_tensor(weights)
    if mg.dtypes.kind(given.dtype) not in "fc":
        raise DTypeError(f"{operation}: weights has dtype {given.dtype}, expected floats; integers are labels")
    weights = cast(weights, x.dtype)
    if weights.ndim != 2 or weights.shape[0] != x.shape[0] or styles not in (None, weights.shape[1]):
        wanted = (x.shape[0], "styles" if styles is None else styles)
        raise ShapeError(f"{operation}: weights has shape {weights.shape}, expected ({wanted[0]}, {wanted[1]})")
    return weights


@lru_cache(maxsize=4096)
def _axes(operation: str, shape: tuple[int, ...], axis: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The axes to average over, and those of samples and channels."""
    channels = channel_axis(operation, axis, shape)
    return tuple(a for a in range(1, len(shape)) if a != channels), (0, channels)


@labels_p.infer
def _(labels, *, styles, operation="labels"):
    mg.dtypes.require_integer(operation, "labels", labels.dtype)
    return Abstract(labels.shape, mg.dtypes.int64)


@labels_p.kernel("reference", "cpu")
def _(labels, *, styles, operation="labels"):
    if labels.size and (labels.min() < 0 or labels.max() >= styles):
        bad = labels[(labels < 0) | (labels >= styles)][0]
        raise IndexRangeError(
            f"{operation}: label {bad} is out of range for {styles} styles, expected 0 to {styles - 1}"
        )
    return labels.astype(np.int64)


@labels_p.samples
def _(rng):
    yield Sample((np.array([2, 0, 2, 1]),), {"styles": 3})
    yield Sample((np.array([0, 1], np.uint8),), {"styles": 2})
    yield Sample((np.empty(0, np.int64),), {"styles": 1})
    yield Sample(
        (np.array([0, 3]),), {"styles": 3}, error=IndexRangeError, match="label 3 is out of range for 3 styles"
    )
    yield Sample((np.array([0, -1]),), {"styles": 3}, error=IndexRangeError, match="label -1 is out of range")
    yield Sample((np.array([0.0]),), {"styles": 3}, error=DTypeError, match="labels has dtype float64")


class Conditional(Normalization):
    """A normalization whose γ and β have a row for each style; called with labels or weights beside the input.

    ``layer(x, labels=labels)``, ``layer(x, weights=weights)``, or ``layer([x, condition])``, where integers are labels
    and floats are weights.
    """

    def __init__(self, styles: int, axis: int, *args: Any, **options: Any):
        kind = type(self).__name__
        if isinstance(styles, bool) or not isinstance(styles, (int, np.integer)) or styles < 1:
            raise ArgumentError(f"{kind}: styles is {styles!r}, expected a positive integer")
        super().__init__(one_axis(kind, axis), *args, **options)
        self.styles = int(styles)

    def spanned(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (channel_axis(self.name, self.axis, shape),)

    def add_parameter(self, name: str, shape: Sequence[int | None]) -> Variable:
        return super().add_parameter(name, (self.styles, *shape))

    def __call__(self, x: Any, training: bool = False, **options: Any) -> Tensor:
        if not options:
            if not isinstance(x, (list, tuple)) or len(x) != 2:
                raise ArgumentTypeError(f"{self.name}: expected labels=, weights=, or two inputs, [x, condition]")
            x, condition = x
            condition = mg.as_tensor(condition)
            options["labels" if condition.dtype.kind in "iu" else "weights"] = condition
        return super().__call__(x, training, **options)

    def call(self, x: Tensor, training: bool, labels: Any = None, weights: Any = None) -> Tensor:
        if x.shape != self.seen:
            self.check(x.shape)
        x, narrow = self.widened(x)
        y = self.conditioned(x, training, *rows(self.name, x, self.gamma, self.beta, labels, weights))
        return y if narrow is None else y.astype(narrow)

    def conditioned(self, x: Tensor, training: bool, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        """The output, given each sample's scale and shift of shape (samples, channels)."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no conditioned(x, training, gamma, beta)")


class ConditionalInstanceNormalization(Conditional):
    """`conditional_instance_norm` with γ and β of shape (styles, channels).

    It is called with a condition: ``layer(x, labels=labels)``, ``layer(x, weights=weights)``, or
    ``layer([x, condition])``, where integers are labels and floats are weights.

    Args:
        styles: how many rows γ and β have.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon, center, scale: as of `Normalization`.
        args, options: as of `Normalization`.

    Raises:
        ArgumentError: if styles is no positive integer; when called without a condition.
        ShapeError, DTypeError, IndexRangeError: when called, as `conditional_instance_norm`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.ConditionalInstanceNormalization(2, epsilon=0.0)
        >>> x = mg.tensor([[[1.0], [3.0]], [[1.0], [3.0]]])
        >>> layer.build_once(x.shape)
        >>> layer.gamma.assign([[1.0], [5.0]])
        >>> layer(x, labels=[1, 0]).numpy().ravel()
        array([-5.,  5., -1.,  1.], dtype=float32)
    """

    def __init__(
        self, styles: int, axis: int = -1, epsilon: float = 1e-5, center: bool = True, scale: bool = True,
        *args: Any, **options: Any,
    ):  # fmt: skip
        super().__init__(styles, axis, epsilon, center, scale, *args, **options)

    def conditioned(self, x: Tensor, training: bool, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        axes, kept = _axes(self.name, x.shape, self.axis)
        return standardize_p(x, gamma, beta, axes=axes, parameter_axes=kept, epsilon=self.epsilon)[0]


class ConditionalBatchNormalization(Conditional):
    """Batch normalization with γ and β of shape (classes, channels), a row for each class (de Vries et al. 2017).

    y = x̂·γ[l] + β[l] with x̂ from `BatchNormalization`, whose statistics all classes share. It is called with a
    condition: ``layer(x, training, labels=labels)``, ``layer(x, training, weights=weights)``, or
    ``layer([x, condition], training)``, where integers are labels and floats are weights of the rows.

    Args:
        classes: how many rows γ and β have.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        momentum, moving_mean_initializer, moving_variance_initializer, unbiased_moving_variance: as of
            `BatchNormalization`.
        epsilon, center, scale: as of `Normalization`.
        options: as of `Normalization`.

    Attributes:
        batch: the `BatchNormalization` without scale and shift that keeps the statistics.

    Raises:
        ArgumentError: if classes is no positive integer; when called without a condition, or in training on one value
            a channel.
        ShapeError, DTypeError, IndexRangeError: when called, as `conditional_instance_norm`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.ConditionalBatchNormalization(2, epsilon=0.0)
        >>> x = mg.tensor([[1.0], [3.0]])
        >>> layer.build_once(x.shape)
        >>> layer.gamma.assign([[1.0], [5.0]])
        >>> layer(x, training=True, labels=[1, 0]).numpy().ravel()
        array([-5.,  1.], dtype=float32)
    """

    def __init__(
        self,
        classes: int,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        unbiased_moving_variance: bool = False,
        **options: Any,
    ):
        super().__init__(classes, axis, epsilon, center, scale, **options)
        self.batch = BatchNormalization(
            self.axis,
            momentum,
            epsilon,
            center=False,
            scale=False,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            unbiased_moving_variance=unbiased_moving_variance,
            name=f"{self.name}/batch",
            dtype=self.dtype,
        )

    def conditioned(self, x: Tensor, training: bool, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        _, kept = _axes(self.name, x.shape, self.axis)
        y = self.batch(x, training and self.trainable)
        if gamma is not None:
            y = y * along(gamma, x.ndim, kept)
        return y if beta is None else y + along(beta, x.ndim, kept)
