"""Instance normalization: each sample and channel alone (Ulyanov, Vedaldi & Lempitsky 2016)."""

from __future__ import annotations

from typing import Any

from minigrad import Tensor
from minigrad_norms.group import GroupNormalization, in_groups


def instance_norm(x: Any, gamma: Any = None, beta: Any = None, axis: int = -1, epsilon: float = 1e-3) -> Tensor:
    """y = (x − μ)·γ/√(σ² + ε) + β, with μ and σ² for each sample and channel (Ulyanov, Vedaldi & Lempitsky 2016).

    Arguments, result and errors are those of `group_norm` with a group for each channel.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.instance_norm(mg.tensor([[[1.0, 8.0], [3.0, 4.0]]]), epsilon=0.0)
        tensor([[[-1.,  1.],
                 [ 1., -1.]]], dtype=float32)
    """
    return in_groups("instance_norm", x, gamma, beta, -1, axis, epsilon)


class InstanceNormalization(GroupNormalization):
    """Instance normalization, as ``tensorflow_addons.layers.InstanceNormalization``: `instance_norm` with γ and β.

    Args:
        axis: the channels: -1 for NHWC, 1 for NCHW.
        epsilon, center, scale: as of `Normalization`.
        options: as of `Normalization`.

    Raises:
        ArgumentTypeError, ArgumentError, ShapeError: as of `Normalization`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.InstanceNormalization(epsilon=0.0)(mg.tensor([[[1.0, 8.0], [3.0, 4.0]]])).numpy()
        array([[[-1.,  1.],
                [ 1., -1.]]], dtype=float32)
    """

    def __init__(
        self, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, *args: Any, **options: Any
    ):
        super().__init__(-1, axis, epsilon, center, scale, *args, **options)
