"""Constraints: functions from a Variable's values to allowed ones, applied after each update. Named as in Keras.

Norms are Euclidean and taken over `axis`: for a Dense kernel (inputs, units) axis 0 makes one norm a unit, for a
convolution's (height, width, inputs, filters) axes (0, 1, 2) make one a filter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.axes import normalize
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.ops.noise import number
from minigrad.tensor import Tensor

#: ``constraint(values) -> values`` of the same shape and dtype
Constraint = Callable[[Tensor], Tensor]

_EPSILON = 1e-7  # added to norms that are divided by, as Keras does


class MinMaxNorm:
    """w · n′/(‖w‖ + 1e-7), with n′ = rate·clip(‖w‖, min_value, max_value) + (1 − rate)·‖w‖.

    Args:
        min_value, max_value: of the norm, 0 ≤ min_value ≤ max_value.
        rate: in [0, 1]: how far one update goes to the limits.
        axis: what norms are taken over, an axis or several.

    Raises:
        ArgumentError, ArgumentTypeError: for values out of range, or that are no numbers.
        ShapeError: when called, for an axis out of range.

    Example:
        >>> import minigrad as mg
        >>> mg.nn.constraints.MinMaxNorm(1.0, 2.0)(mg.tensor([[3.0, 0.3], [4.0, 0.4]])).numpy().round(3)
        array([[1.2, 0.6],
               [1.6, 0.8]], dtype=float32)
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0):
        kind = type(self).__name__
        self.min_value, self.max_value = number(kind, "min_value", min_value), number(kind, "max_value", max_value)
        self.rate, self.axis = number(kind, "rate", rate), axis
        if not 0 <= self.min_value <= self.max_value:
            raise ArgumentError(
                f"{kind}: min_value is {min_value!r} and max_value {max_value!r}, expected 0 <= min_value <= max_value"
            )
        if not 0 <= self.rate <= 1:
            raise ArgumentError(f"{kind}: rate is {rate!r}, expected a number in [0, 1]")

    def __call__(self, w: Tensor) -> Tensor:
        norms = _norms(type(self).__name__, w, self.axis)
        wanted = ops.clip(norms, self.min_value, self.max_value)
        if self.rate != 1:
            wanted = self.rate * wanted + (1 - self.rate) * norms
        return w * (wanted / (norms + _EPSILON))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


class MaxNorm(MinMaxNorm):
    """w · min(‖w‖, max_value)/(‖w‖ + 1e-7).

    Args:
        max_value: the largest norm, at least 0.
        axis: what norms are taken over.
    """

    def __init__(self, max_value: float = 2.0, axis: Any = 0):
        super().__init__(0.0, max_value, 1.0, axis)


class UnitNorm:
    """w/(‖w‖ + 1e-7).

    Args:
        axis: what norms are taken over.
    """

    def __init__(self, axis: Any = 0):
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        return w / (_norms("UnitNorm", w, self.axis) + _EPSILON)

    def __repr__(self) -> str:
        return f"UnitNorm(axis={self.axis!r})"


class NonNeg:
    """max(w, 0)."""

    def __call__(self, w: Tensor) -> Tensor:
        return ops.relu(w)

    def __repr__(self) -> str:
        return "NonNeg()"


_BY_NAME: dict[str, Callable[[], Constraint]] = {
    "max_norm": MaxNorm,
    "min_max_norm": MinMaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
}


def get(constraint: Any) -> Constraint | None:
    """The constraint of that name, the function itself, or None for None.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if isinstance(constraint, str):
        if constraint not in _BY_NAME:
            raise ArgumentError(f"constraint: {constraint!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[constraint]()
    if constraint is None or (callable(constraint) and not isinstance(constraint, type)):
        return constraint
    raise ArgumentTypeError(f"constraint: got {constraint!r}, expected a name, a function of the values or None")


def _norms(operation: str, w: Tensor, axis: Any) -> Tensor:
    axes = normalize(operation, axis, w.ndim)
    return ops.sqrt(ops.square(w).sum(axes, keepdims=True))
