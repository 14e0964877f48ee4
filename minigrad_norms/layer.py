"""Layer normalization: each sample over its own features (Ba, Kiros & Hinton 2016)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad_norms.arguments import epsilon_of, floating, hashable, parameter
from minigrad_norms.base import Normalization, flag
from minigrad_norms.standardize import moments_p, normalize_p, standardize_p


def layer_norm(x: Any, gamma: Any = None, beta: Any = None, *, axis: Any = -1, epsilon: float = 1e-3) -> Tensor:
    """y = (x − μ)·γ/√(σ² + ε) + β with mean μ and biased variance σ² over `axis` (Ba, Kiros & Hinton 2016).

    Args:
        x: any shape.
        gamma, beta: of the shape of the normalized axes, in increasing order; None for 1 and 0.
        axis: the axes to normalize over: one, several, or None for all.
        epsilon: ε ≥ 0. Where σ² + ε is 0, y is β.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if an axis is out of range, or gamma or beta doesn't match the axes.
        ArgumentError: for a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.layer_norm(mg.tensor([[1.0, 3.0], [5.0, 5.0]]), epsilon=0.0)
        tensor([[-1.,  1.],
                [ 0.,  0.]], dtype=float32)
    """
    return over_axes("layer_norm", x, gamma, beta, axis, epsilon, "variance")


def over_axes(operation: str, x: Any, gamma: Any, beta: Any, axis: Any, epsilon: Any, statistic: str) -> Tensor:
    """Standardize by that statistic over axes that scale and shift span as well."""
    x = floating(x)
    axes, wanted = _axes(operation, x.shape, hashable(axis))
    gamma = parameter(operation, "gamma", gamma, x, wanted, "to match the normalized axes")
    beta = parameter(operation, "beta", beta, x, wanted, "to match the normalized axes")
    epsilon = epsilon_of(operation, epsilon)
    along = () if gamma is None and beta is None else axes
    return standardize_p(x, gamma, beta, axes=axes, parameter_axes=along, epsilon=epsilon, statistic=statistic)[0]


@lru_cache(maxsize=4096)
def _axes(operation: str, shape: tuple[int, ...], axis: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes as sorted integers, and their lengths."""
    axes = mg.axes.normalize(operation, axis, len(shape))
    return axes, tuple(shape[a] for a in axes)


class LayerNormalization(Normalization):
    """Layer normalization, with the arguments of ``keras.layers.LayerNormalization``: `layer_norm` with γ and β.

    Args:
        axis: the axis, or axes, to normalize over; γ and β span them, in increasing order.
        epsilon, center, scale: as of `Normalization`.
        rms_scaling: as Keras's: x·γ/√(σ² + ε), with the variance σ² about the mean but no mean removed; no β, and γ
            whatever `scale` says. It differs from `RMSNormalization`, which divides by the root of the mean square.
        options: as of `Normalization`.

    Raises:
        ArgumentTypeError, ArgumentError, ShapeError: as of `Normalization`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.LayerNormalization(epsilon=0.0)
        >>> layer(mg.tensor([[1.0, 3.0], [8.0, 4.0]])).numpy()
        array([[-1.,  1.],
               [ 1., -1.]], dtype=float32)
        >>> list(layer.variables)
        ['gamma', 'beta']
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        rms_scaling: bool = False,
        **options: Any,
    ):
        self.rms_scaling = flag("LayerNormalization", "rms_scaling", rms_scaling)
        if rms_scaling:
            center, scale = False, True
        self.takes_half = not rms_scaling  # which takes two steps, between which nothing is rounded
        super().__init__(axis, epsilon, center, scale, **options)

    def normalized(self, x: Tensor) -> Tensor:
        if not self.rms_scaling:
            return over_axes(self.name, x, self.gamma, self.beta, self.axis, self.epsilon, "variance")
        axes, _ = _axes(self.name, x.shape, self.axis)
        _, var = moments_p(x, axes=axes)
        nothing = Tensor(np.zeros(var.shape, var.dtype)).to(var.device)
        form = {"axes": axes, "parameter_axes": axes, "epsilon": self.epsilon}
        return normalize_p(x, self.gamma, None, nothing, var, **form)
