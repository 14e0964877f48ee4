"""Unit normalization: vectors to length 1. The Lp normalization of p = 2, as Keras defines it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import minigrad as mg
from minigrad import Tensor
from minigrad_norms.arguments import epsilon_of, floating
from minigrad_norms.base import Normalization
from minigrad_norms.lp import lp_normalize_p


def unit_norm(x: Any, *, axis: Any = -1, epsilon: float = 1e-12) -> Tensor:
    """y = x/√max(Σ x², ε) over `axis`, as ``tf.math.l2_normalize``.

    Args:
        x: any shape.
        axis: the axes whose elements make a vector: one, several, or None for all.
        epsilon: ε ≥ 0, a squared length: shorter vectors are divided by √ε. Zeros stay zeros, with ε = 0 too.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if an axis is out of range.
        ArgumentError: for a negative epsilon.
        DTypeError: for complex numbers.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.unit_norm(mg.tensor([[3.0, -4.0], [0.0, 0.0]]))
        tensor([[ 0.6, -0.8],
                [ 0. ,  0. ]], dtype=float32)
    """
    return to_unit("unit_norm", x, axis, epsilon)


def to_unit(operation: str, x: Any, axis: Any, epsilon: Any) -> Tensor:
    """Divide vectors by their length."""
    x = floating(x)
    axes = mg.axes.normalize(operation, axis, x.ndim)
    return lp_normalize_p(x, p=2.0, axes=axes, epsilon=sqrt(epsilon_of(operation, epsilon)))[0]


class UnitNormalization(Normalization):
    """Unit normalization, as ``keras.layers.UnitNormalization``: `unit_norm`, with nothing to learn.

    Args:
        axis: the axis, or axes, whose elements make a vector.
        name, dtype: as of `Normalization`.

    Raises:
        ArgumentTypeError: for an axis that is no integer.
        ShapeError: when called, for an axis out of range.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.UnitNormalization()(mg.tensor([[3.0, -4.0]])).numpy()
        array([[ 0.6, -0.8]], dtype=float32)
    """

    takes_half = True

    def __init__(self, axis: Any = -1, *, name: str | None = None, dtype: Any = None):
        super().__init__(axis, 1e-12, center=False, scale=False, name=name, dtype=dtype)

    def normalized(self, x: Tensor) -> Tensor:
        return to_unit(self.name, x, self.axis, self.epsilon)
