"""Regularizers: functions of a Variable that give a penalty, one number to be added to the loss. Named as in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.ops.noise import number
from minigrad.tensor import Tensor, as_tensor, full_like

#: ``regularizer(values) -> penalty``
Regularizer = Callable[[Tensor], Tensor]


class L1L2:
    """l1·Σ|w| + l2·Σw².

    Args:
        l1, l2: the factors, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: for a factor that is negative, or no number.

    Example:
        >>> import minigrad as mg
        >>> mg.nn.regularizers.L1L2(l1=1.0, l2=0.5)(mg.tensor([2.0, -4.0])).item()
        16.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _factor(self, "l1", l1), _factor(self, "l2", l2)

    def __call__(self, w: Tensor) -> Tensor:
        parts = []
        if self.l1:
            parts.append(self.l1 * ops.absolute(w).sum())
        if self.l2:
            parts.append(self.l2 * ops.square(w).sum())
        if not parts:
            return full_like(w, 0, ())
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(l1={self.l1:g}, l2={self.l2:g})"


class L1(L1L2):
    """l1·Σ|w|; its gradient is l1·sign(w), 0 at 0."""

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=l1)


class L2(L1L2):
    """l2·Σw²; its gradient is 2·l2·w."""

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=l2)


class OrthogonalRegularizer:
    """factor times the mean of |cos| of the angles between the rows of a matrix, or its columns.

    With the normalized rows in W it is factor·Σ_{i≠j} |W Wᵀ|_ij / (n(n−1)); a row of zeros stays one. A single row
    has no pairs and no penalty.

    Args:
        factor: at least 0.
        mode: ``"rows"`` or ``"columns"``.

    Raises:
        ArgumentError, ArgumentTypeError: for a factor that is negative, or no number; for another mode.
        ShapeError: when called, for what is no matrix.

    Example:
        >>> import minigrad as mg
        >>> penalty = mg.nn.regularizers.OrthogonalRegularizer(factor=1.0)
        >>> round(penalty(mg.tensor([[1.0, 0.0], [3.0, 4.0]])).item(), 4)
        0.6
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor, self.mode = _factor(self, "factor", factor), mode
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"OrthogonalRegularizer: mode is {mode!r}, expected 'rows' or 'columns'")

    def __call__(self, w: Tensor) -> Tensor:
        if w.ndim != 2:
            raise ShapeError(f"OrthogonalRegularizer: the values have shape {w.shape}, expected a matrix")
        if self.mode == "columns":
            w = w.mT
        n = w.shape[0]
        # Under the square root, so that a row of zeros has a gradient: 0.
        norms = ops.sqrt(ops.maximum(ops.square(w).sum(1, keepdims=True), np.asarray(1e-12, w.dtype)))
        rows = w / norms
        others = as_tensor(1 - np.eye(n, dtype=w.dtype), like=w)
        return self.factor / max(1, n * (n - 1)) * ops.absolute((rows @ rows.mT) * others).sum()

    def __repr__(self) -> str:
        return f"OrthogonalRegularizer(factor={self.factor:g}, mode={self.mode!r})"


_BY_NAME: dict[str, Callable[[], Regularizer]] = {
    "l1": L1,
    "l2": L2,
    "l1_l2": lambda: L1L2(0.01, 0.01),
    "orthogonal_regularizer": OrthogonalRegularizer,
}


def get(regularizer: Any) -> Regularizer | None:
    """The regularizer of that name, the function itself, or None for None.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if isinstance(regularizer, str):
        if regularizer not in _BY_NAME:
            raise ArgumentError(f"regularizer: {regularizer!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[regularizer]()
    if regularizer is None or (callable(regularizer) and not isinstance(regularizer, type)):
        return regularizer
    raise ArgumentTypeError(f"regularizer: got {regularizer!r}, expected a name, a function of the values or None")


def _factor(regularizer: Any, name: str, value: Any) -> float:
    kind = type(regularizer).__name__
    value = number(kind, name, value)
    if not 0 <= value < np.inf:
        raise ArgumentError(f"{kind}: {name} is {value!r}, expected a number of at least 0")
    return value
