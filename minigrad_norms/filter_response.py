"""Filter response normalization and its thresholded linear unit (Singh & Krishnan 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ShapeError
from minigrad_norms.arguments import along, cast, epsilon_of, floating, hashable, parameter
from minigrad_norms.base import Normalization, flag
from minigrad_norms.standardize import normalize_p, standardize_p


def filter_response_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    tau: Any = None,
    *,
    axis: Any = (1, 2),
    epsilon: float = 1e-6,
    learned_epsilon: Any = None,
) -> Tensor:
    """y = max(x·γ/√(mean(x²) + ε + |e|) + β, τ), with the mean square of each sample and channel.

    After Singh & Krishnan, "Filter Response Normalization Layer" (2020), where |e| is learned for layers without
    spatial axes.

    Args:
        x: shape (samples, ...).
        gamma, beta, tau: of the lengths of the axes that are neither the samples' nor in `axis`, which are the
            channels'; None for 1, 0 and no threshold.
        axis: the spatial axes: (1, 2) for NHWC, (2, 3) for NCHW, () for (samples, channels).
        epsilon: ε ≥ 0. Where the root is of 0, its inverse counts as 0.
        learned_epsilon: e, a single number, to which gradients flow; None for 0.

    Returns:
        y of x's shape and dtype; half types are computed in float32.

    Raises:
        ShapeError: if an axis is out of range or the samples', or gamma, beta, tau or learned_epsilon doesn't fit.
        ArgumentError: for a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[[[3.0], [-3.0]]]])
        >>> norms.filter_response_norm(x).numpy().round(3).ravel()
        array([ 1., -1.], dtype=float32)
        >>> norms.filter_response_norm(x, tau=mg.tensor([-0.5])).numpy().round(3).ravel()
        array([ 1. , -0.5], dtype=float32)
    """
    return filtered("filter_response_norm", x, gamma, beta, tau, axis, epsilon, learned_epsilon)


def filtered(
    operation: str, x: Any, gamma: Any, beta: Any, tau: Any, axis: Any, epsilon: Any, learned_epsilon: Any
) -> Tensor:
    """Filter response normalization, with the threshold where there is one."""
    x = floating(x)
    if x.dtype.itemsize == 2:
        parameters = (gamma, beta, tau)
        return filtered(operation, x.astype("float32"), *parameters, axis, epsilon, learned_epsilon).astype(x.dtype)
    axes, kept, wanted = _axes(operation, x.shape, hashable(axis))
    gamma = parameter(operation, "gamma", gamma, x, wanted, "to match the channels")
    beta = parameter(operation, "beta", beta, x, wanted, "to match the channels")
    tau = parameter(operation, "tau", tau, x, wanted, "to match the channels")
    form = {"axes": axes, "parameter_axes": kept}
    epsilon = epsilon_of(operation, epsilon)
    if learned_epsilon is None:
        y = standardize_p(x, gamma, beta, **form, epsilon=epsilon, statistic="mean_square")[0]
    else:
        wide = cast(x, np.result_type(x.dtype, np.float64))
        e = cast(learned_epsilon, wide.dtype)
        if e.size != 1:
            raise ShapeError(f"{operation}: learned_epsilon has shape {e.shape}, expected one number")
        square = mg.mean(mg.square(wide), axis=axes) if axes else mg.square(wide)
        total = square + (mg.absolute(e.reshape(())) + epsilon)
        nothing = Tensor(np.zeros(total.shape, total.dtype)).to(x.device)
        y = normalize_p(x, gamma, beta, nothing, total, **form, epsilon=0.0)
    return y if tau is None else mg.maximum(y, along(tau, x.ndim, kept))


@lru_cache(maxsize=4096)
def _axes(operation: str, shape: tuple[int | None, ...], axis: Any) -> tuple[tuple, tuple, tuple]:
    """The spatial axes, the channels', and the channels' lengths."""
    axes = mg.axes.normalize(operation, axis, len(shape))
    if 0 in axes or not shape:
        raise ShapeError(f"{operation}: axis is {axis} for x with shape {shape}, whose axis 0 is the samples'")
    kept = tuple(a for a in range(1, len(shape)) if a not in axes)
    return axes, kept, tuple(shape[a] for a in kept)


class FilterResponseNormalization(Normalization):
    """Filter response normalization, as ``tensorflow_addons.layers.FilterResponseNormalization``.

    `filter_response_norm` with γ and β of shape (channels,), which Addons holds as (1, 1, 1, channels). The paper
    follows it by the thresholded linear unit: set `thresholded`, or add a `TLU` as in Addons.

    Args:
        epsilon: ε.
        axis: the spatial axes: [1, 2] for NHWC, [2, 3] for NCHW, [] for (samples, channels).
        beta_initializer to gamma_constraint: as of `Normalization`.
        learned_epsilon: whether to add |e| to ε, with a learned e that starts at 1e-4.
        learned_epsilon_constraint: of e.
        name: as of `Normalization`.
        thresholded: whether the result is max(y, τ), with a learned τ for each channel that starts at 0.
        options: as of `Normalization`: center, scale, trainable, dtype.

    Raises:
        ArgumentTypeError, ArgumentError, ShapeError: as of `Normalization`; ShapeError when called, for the samples'
            axis.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.FilterResponseNormalization(thresholded=True)
        >>> layer(mg.tensor([[[[3.0], [-3.0]]]])).numpy().round(3).ravel()
        array([1., 0.], dtype=float32)
        >>> list(layer.variables)
        ['gamma', 'beta', 'tau']
    """

    tau: Variable | None
    learned_epsilon: Variable | None

    def __init__(
        self,
        epsilon: float = 1e-6,
        axis: Sequence[int] = (1, 2),
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        learned_epsilon: bool = False,
        learned_epsilon_constraint: Any = None,
        name: str | None = None,
        *,
        thresholded: bool = False,
        center: bool = True,
        scale: bool = True,
        **options: Any,
    ):
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, name=name, **options,
        )  # fmt: skip
        kind = "FilterResponseNormalization"
        self.thresholded = flag(kind, "thresholded", thresholded)
        self.use_learned_epsilon = flag(kind, "learned_epsilon", learned_epsilon)
        self.learned_epsilon_initializer = mg.nn.initializers.constant(1e-4)
        self.learned_epsilon_constraint = mg.nn.constraints.get(learned_epsilon_constraint)
        self.tau_initializer = mg.nn.initializers.get("zeros")
        self.tau = self.learned_epsilon = None

    def spanned(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return _axes(self.name, shape, self.axis)[1]

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        self.tau = self.add_parameter("tau", self.parameter_shape(shape)) if self.thresholded else None
        self.learned_epsilon = self.add_parameter("learned_epsilon", (1,)) if self.use_learned_epsilon else None

    def normalized(self, x: Tensor) -> Tensor:
        parameters = (self.gamma, self.beta, self.tau)
        return filtered(self.name, x, *parameters, self.axis, self.epsilon, self.learned_epsilon)
