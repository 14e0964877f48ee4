"""The thresholded linear unit, which follows filter response normalization (Singh & Krishnan 2020)."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad_norms.arguments import along
from minigrad_norms.base import Normalization, flag


class TLU(Normalization):
    """The thresholded linear unit, as ``tensorflow_addons.layers.TLU``: max(x, τ), or max(x, α·x + τ) if affine.

    Args:
        affine: whether there is an α.
        tau_initializer, tau_regularizer, tau_constraint: of τ, as those of γ in `Normalization`.
        alpha_initializer, alpha_regularizer, alpha_constraint: of α.
        axis: the axes along which τ and α vary. None for all but the samples', as in Addons; the paper's are the
            channels': -1 for NHWC, 1 for NCHW.
        trainable, name, dtype: as of `Normalization`.

    Raises:
        ArgumentTypeError, ArgumentError, ShapeError: as of `Normalization`.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.TLU(tau_initializer="ones", axis=-1)(mg.tensor([[0.5, 3.0]])).numpy()
        array([[1., 3.]], dtype=float32)
    """

    tau: Variable
    alpha: Variable | None

    def __init__(
        self,
        affine: bool = False,
        tau_initializer: Any = "zeros",
        tau_regularizer: Any = None,
        tau_constraint: Any = None,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        *,
        axis: Any = None,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            -1 if axis is None else axis, center=False, scale=False, trainable=trainable, name=name, dtype=dtype
        )
        self.everywhere = axis is None
        self.affine = flag("TLU", "affine", affine)
        self.tau_initializer = mg.nn.initializers.get(tau_initializer)
        self.alpha_initializer = mg.nn.initializers.get(alpha_initializer)
        self.tau_regularizer = mg.nn.regularizers.get(tau_regularizer)
        self.alpha_regularizer = mg.nn.regularizers.get(alpha_regularizer)
        self.tau_constraint = mg.nn.constraints.get(tau_constraint)
        self.alpha_constraint = mg.nn.constraints.get(alpha_constraint)

    def spanned(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return tuple(range(1, len(shape))) if self.everywhere else super().spanned(shape)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.lengths = self.parameter_shape(shape)
        self.tau = self.add_parameter("tau", self.lengths)
        self.alpha = self.add_parameter("alpha", self.lengths) if self.affine else None

    def normalized(self, x: Tensor) -> Tensor:
        axes = self.spanned(x.shape)
        threshold = along(self.tau, x.ndim, axes)
        if self.alpha is not None:
            threshold = x * along(self.alpha, x.ndim, axes) + threshold
        return mg.maximum(x, threshold)
