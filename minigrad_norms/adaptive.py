"""Adaptive instance normalization: a content's channels take on a style's mean and spread (Huang & Belongie 2017)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentTypeError, ShapeError
from minigrad_norms.arguments import channel_axis, epsilon_of, floating, hashable, one_axis
from minigrad_norms.base import Normalization
from minigrad_norms.standardize import moments_p, standardize_p


def adaptive_instance_norm(content: Any, style: Any, axis: int = -1, epsilon: float = 1e-5) -> Tensor:
    """y = σ(s)·(c − μ(c))/σ(c) + μ(s), with μ and σ = √(σ² + ε) of each sample and channel (Huang & Belongie 2017).

    Gradients flow to content and style alike.

    Args:
        content: c, shape (samples, ...), with the channels at `axis`.
        style: s, as many samples, axes and channels; the other lengths are its own.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon: ε ≥ 0. Where σ²(c) + ε is 0, y is μ(s). Where σ²(s) + ε is 0, its root is taken for constant.

    Returns:
        y of the content's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if samples, axes or channels differ, or the axis is out of range or the samples'.
        ArgumentError: for a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> content, style = mg.tensor([[[1.0], [3.0]]]), mg.tensor([[[10.0], [30.0], [20.0], [20.0]]])
        >>> norms.adaptive_instance_norm(content, style).numpy().round(2)
        array([[[12.93],
                [27.07]]], dtype=float32)
    """
    return to_style("adaptive_instance_norm", content, style, axis, epsilon)


def to_style(operation: str, content: Any, style: Any, axis: Any, epsilon: Any) -> Tensor:
    """Standardize the content's channels and give them the style's moments."""
    content, style = floating(content), floating(style)
    if content.dtype.itemsize == 2:
        return to_style(operation, content.astype("float32"), style, axis, epsilon).astype(content.dtype)
    epsilon = epsilon_of(operation, epsilon)
    axes, kept = _axes(operation, content.shape, style.shape, hashable(axis))
    mean, var = moments_p(style, axes=axes)
    spread = mg.sqrt(var + epsilon) if epsilon else _root(var)
    gamma, beta = spread.astype(content.dtype), mean.astype(content.dtype)
    return standardize_p(content, gamma, beta, axes=axes, parameter_axes=kept, epsilon=epsilon)[0]


def _root(var: Tensor) -> Tensor:
    """√σ², constant at 0, where its derivative is infinite."""
    positive = var > 0
    return mg.sqrt(mg.where(positive, var, 1.0)) * positive


@lru_cache(maxsize=4096)
def _axes(
    operation: str, content: tuple[int, ...], style: tuple[int, ...], axis: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to average over, and those of samples and channels."""
    channels = channel_axis(operation, axis, content)
    kept = (0, channels)
    if len(style) != len(content) or any(style[a] != content[a] for a in kept):
        raise ShapeError(
            f"{operation}: style has shape {style}, expected {len(content)} axes with lengths "
            f"{tuple(content[a] for a in kept)} at {kept} as of the content with shape {content}"
        )
    return tuple(a for a in range(1, len(content)) if a != channels), kept


class AdaptiveInstanceNormalization(Normalization):
    """`adaptive_instance_norm` as a layer of two inputs, with nothing to learn.

    It is called with content and style: ``layer([content, style])``, or ``layer(content, style=style)``.

    Args:
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon: ε.
        name, dtype: as of `Normalization`.

    Raises:
        ArgumentTypeError: when called without a style.
        ShapeError: when called, as `adaptive_instance_norm`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> content, style = mg.tensor([[[1.0], [3.0]]]), mg.tensor([[[10.0], [30.0], [20.0], [20.0]]])
        >>> norms.AdaptiveInstanceNormalization()([content, style]).numpy().round(2)
        array([[[12.93],
                [27.07]]], dtype=float32)
    """

    def __init__(self, axis: int = -1, epsilon: float = 1e-5, *, name: str | None = None, dtype: Any = None):
        axis = one_axis("AdaptiveInstanceNormalization", axis)
        super().__init__(axis, epsilon, center=False, scale=False, name=name, dtype=dtype)

    def __call__(self, x: Any, training: bool = False, **options: Any) -> Tensor:
        if not options:
            if not isinstance(x, (list, tuple)) or len(x) != 2:
                raise ArgumentTypeError(f"{self.name}: expected style=, or two inputs, [content, style]")
            x, options["style"] = x
        return super().__call__(x, training, **options)

    def call(self, x: Tensor, training: bool, style: Any = None) -> Tensor:
        return to_style(self.name, x, style, self.axis, self.epsilon)
