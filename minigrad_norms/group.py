"""Group normalization: each sample over groups of its channels (Wu & He 2018)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minigrad import Tensor
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms.arguments import channel_axis, epsilon_of, floating, hashable, one_axis, parameter
from minigrad_norms.base import Normalization
from minigrad_norms.standardize import standardize_p


def group_norm(
    x: Any, gamma: Any = None, beta: Any = None, groups: int = 32, axis: int = -1, epsilon: float = 1e-3
) -> Tensor:
    """y = (x − μ)·γ/√(σ² + ε) + β, with μ and σ² for each sample and group of channels (Wu & He 2018).

    Args:
        x: shape (samples, ...), with the channels at `axis`. All other axes are averaged over.
        gamma, beta: shape (channels,); None for 1 and 0.
        groups: how many groups of neighbouring channels; -1 for one a channel, which is `instance_norm`. With one
            group, statistics are those of layer norm over all axes, but γ and β still vary along the channels alone.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon: ε ≥ 0. Where σ² + ε is 0, y is β.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if the groups don't divide the channels, the axis is out of range or the samples', or gamma or beta
            doesn't match the channels.
        ArgumentError: if groups is neither positive nor -1, or epsilon negative.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.group_norm(mg.tensor([[1.0, 3.0, 7.0, 5.0]]), groups=2, epsilon=0.0)
        tensor([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    return in_groups("group_norm", x, gamma, beta, groups_of("group_norm", groups), axis, epsilon)


def in_groups(operation: str, x: Any, gamma: Any, beta: Any, groups: int, axis: Any, epsilon: Any) -> Tensor:
    """Standardize each sample and group of channels."""
    x = floating(x)
    cut = _cut(operation, x.shape, hashable(axis), groups)
    gamma = parameter(operation, "gamma", gamma, x, cut.channels, "to match the channels")
    beta = parameter(operation, "beta", beta, x, cut.channels, "to match the channels")
    epsilon = epsilon_of(operation, epsilon)
    if cut.shape is None:
        return standardize_p(x, gamma, beta, axes=cut.axes, parameter_axes=cut.parameter_axes, epsilon=epsilon)[0]
    gamma, beta = (None if p is None else p.reshape(cut.table) for p in (gamma, beta))
    form = {"axes": cut.axes, "parameter_axes": cut.parameter_axes, "epsilon": epsilon}
    return standardize_p(x.reshape(cut.shape), gamma, beta, **form)[0].reshape(x.shape)


def groups_of(operation: str, groups: Any) -> int:
    """The number of groups, if it is one.

    Raises:
        ArgumentError: unless it is a positive integer or -1.
    """
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or (groups < 1 and groups != -1):
        raise ArgumentError(f"{operation}: groups is {groups!r}, expected a positive integer, or -1 for one a channel")
    return int(groups)


class _Cut(NamedTuple):
    """How an input is cut into groups.

    Attributes:
        channels: the shape of γ and β as given, (channels,).
        shape: that of x with the channels' axis in two, groups and channels of a group; None if groups have one.
        table: the shape of γ and β to go with it.
        axes: those of `shape`, or of x, that share statistics.
        parameter_axes: those along which scale and shift vary.
    """

    channels: tuple[int, ...]
    shape: tuple[int, ...] | None
    table: tuple[int, ...]
    axes: tuple[int, ...]
    parameter_axes: tuple[int, ...]


@lru_cache(maxsize=4096)
def _cut(operation: str, shape: tuple[int, ...], axis: Any, groups: int) -> _Cut:
    axis = channel_axis(operation, axis, shape)
    channels = shape[axis]
    if groups == -1 or groups == channels:
        axes = tuple(a for a in range(1, len(shape)) if a != axis)
        return _Cut((channels,), None, (channels,), axes, (axis,))
    require_divisible(operation, shape, axis, groups)
    table = (groups, channels // groups)
    axes = tuple(a for a in range(1, len(shape) + 1) if a != axis)
    return _Cut((channels,), (*shape[:axis], *table, *shape[axis + 1 :]), table, axes, (axis, axis + 1))


def require_divisible(operation: str, shape: tuple[int | None, ...], axis: int, groups: int) -> None:
    """Raise a ShapeError unless the groups divide the channels; those of an axis not yet known do."""
    channels = shape[axis]
    if channels is not None and groups != -1 and channels % groups:
        raise ShapeError(
            f"{operation}: the {channels} channels at axis {axis} of x with shape {shape} can't be cut into {groups} "
            "groups of one size"
        )


class GroupNormalization(Normalization):
    """Group normalization, with the arguments of ``keras.layers.GroupNormalization``: `group_norm` with γ and β.

    Args:
        groups: how many groups of neighbouring channels; -1 for one a channel.
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon, center, scale: as of `Normalization`.
        options: as of `Normalization`.

    Raises:
        ArgumentError: if groups is neither positive nor -1.
        ShapeError: when called, if the groups don't divide the channels; and as of `Normalization`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.GroupNormalization(groups=2, epsilon=0.0)
        >>> layer(mg.tensor([[1.0, 3.0, 7.0, 5.0]])).numpy()
        array([[-1.,  1.,  1., -1.]], dtype=float32)
        >>> layer.gamma.shape
        (4,)
    """

    takes_half = True

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *args: Any,
        **options: Any,
    ):
        self.groups = groups_of(type(self).__name__, groups)
        super().__init__(one_axis(type(self).__name__, axis), epsilon, center, scale, *args, **options)

    def spanned(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        axis = channel_axis(self.name, self.axis, shape)
        require_divisible(self.name, shape, axis, self.groups)
        return (axis,)

    def normalized(self, x: Tensor) -> Tensor:
        return in_groups(self.name, x, self.gamma, self.beta, self.groups, self.axis, self.epsilon)
