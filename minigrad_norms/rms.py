"""Root mean square normalization: the size is taken out and the mean left in (Zhang & Sennrich 2019)."""

from __future__ import annotations

from typing import Any

from minigrad import Tensor
from minigrad_norms.base import Normalization
from minigrad_norms.layer import over_axes


def rms_norm(x: Any, gamma: Any = None, beta: Any = None, *, axis: Any = -1, epsilon: float = 1e-6) -> Tensor:
    """y = x·γ/√(mean(x²) + ε) + β over `axis`; no mean is removed (Zhang & Sennrich 2019).

    Args:
        x: any shape.
        gamma, beta: of the shape of the normalized axes, in increasing order; None for 1 and 0.
        axis: the axes to normalize over: one, several, or None for all.
        epsilon: ε ≥ 0. Where mean(x²) + ε is 0, y is β.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if an axis is out of range, or gamma or beta doesn't match the axes.
        ArgumentError: for a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.rms_norm(mg.tensor([[3.0, -3.0], [0.0, 0.0]]), epsilon=0.0)
        tensor([[ 1., -1.],
                [ 0.,  0.]], dtype=float32)
    """
    return over_axes("rms_norm", x, gamma, beta, axis, epsilon, "mean_square")


class RMSNormalization(Normalization):
    """RMS normalization, as ``keras.layers.RMSNormalization``: `rms_norm` with γ, which Keras calls ``scale``.

    Args:
        axis: the axis, or axes, to normalize over; γ spans them, in increasing order.
        epsilon: ε.
        center: whether there is a β too; Keras has none.
        scale: whether there is a γ.
        options: as of `Normalization`.

    Raises:
        ArgumentTypeError, ArgumentError, ShapeError: as of `Normalization`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.RMSNormalization()
        >>> layer(mg.tensor([[3.0, -3.0]])).numpy().round(3)
        array([[ 1., -1.]], dtype=float32)
        >>> list(layer.variables)
        ['gamma']
    """

    takes_half = True

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, center: bool = False, scale: bool = True, **options: Any):
        super().__init__(axis, epsilon, center, scale, **options)

    def normalized(self, x: Tensor) -> Tensor:
        return over_axes(self.name, x, self.gamma, self.beta, self.axis, self.epsilon, "mean_square")
