"""Normalization: the base class of the layers here. Their arguments, scale and shift, and the check of later inputs."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentTypeError, DTypeError, MissingRuleError, ShapeError
from minigrad_norms.arguments import axis_of, epsilon_of


class Normalization(mg.nn.Layer):
    """A layer that normalizes, then scales by γ and shifts by β.

    A layer defines ``normalized(x)``; and `spanned` where γ and β don't vary along `axis`.

    Args:
        axis: an axis or several; which ones, the layer says.
        epsilon: ε ≥ 0, added to the variance.
        center, scale: whether there are β and γ.
        beta_initializer, gamma_initializer: names or functions.
        beta_regularizer, gamma_regularizer: names, functions of the values, or None.
        beta_constraint, gamma_constraint: names, functions of the values, or None.
        trainable: whether training changes β and γ.
        name: for messages, summaries and checkpoints.
        dtype: of β and γ; float32 for half types. Integers in the input are cast to it, half types computed in it and
            returned as they came; other floats must have it.

    Attributes:
        gamma, beta: Variables, or None; made when the layer sees its first input.

    Raises:
        ArgumentTypeError: for an axis that is no integer.
        ArgumentError: for a negative epsilon or an unknown name.
        ShapeError: when called, for an axis out of range, or lengths that differ from the first input's.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> class Scaled(norms.Normalization):
        ...     def normalized(self, x):
        ...         return norms.unit_norm(x) * self.gamma + self.beta
        >>> Scaled(beta_initializer="ones")(mg.tensor([[3.0, -4.0]]))
        tensor([[1.6       , 0.19999999]], dtype=float32, requires_grad=True)
    """

    worked_out = frozenset({"seen"})
    takes_half = False  # whether `normalized` takes half types beside γ and β of float32; else it is given float32

    gamma: Variable | None
    beta: Variable | None

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, parameter_dtype(dtype))
        kind = type(self).__name__
        self.axis = axis_of(kind, axis)
        self.epsilon = epsilon_of(kind, epsilon)
        self.center, self.scale = flag(kind, "center", center), flag(kind, "scale", scale)
        self.beta_initializer = mg.nn.initializers.get(beta_initializer)
        self.gamma_initializer = mg.nn.initializers.get(gamma_initializer)
        self.beta_regularizer = mg.nn.regularizers.get(beta_regularizer)
        self.gamma_regularizer = mg.nn.regularizers.get(gamma_regularizer)
        self.beta_constraint = mg.nn.constraints.get(beta_constraint)
        self.gamma_constraint = mg.nn.constraints.get(gamma_constraint)
        self.trainable = flag(kind, "trainable", trainable)
        self.gamma = self.beta = None
        self.lengths: tuple[int | None, ...] | None = None  # that inputs must have at the axes of parameters
        self.seen: tuple[int, ...] | None = None  # the shape of the last input that fitted

    def spanned(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """The axes of an input of this shape along which γ and β vary."""
        return mg.axes.normalize(self.name, self.axis, len(shape))

    def parameter_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of γ and β for inputs of this shape."""
        return tuple([shape[a] for a in self.spanned(shape)])

    def build(self, shape: tuple[int | None, ...]) -> None:
        lengths = self.parameter_shape(shape)
        self.lengths = lengths if self.scale or self.center else None
        self.gamma = self.add_parameter("gamma", lengths) if self.scale else None
        self.beta = self.add_parameter("beta", lengths) if self.center else None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ShapeError unless inputs of this shape fit γ and β; remembered for the inputs that follow."""
        lengths = self.parameter_shape(shape)
        if self.lengths is not None and lengths != self.lengths:
            raise ShapeError(
                f"{self.name}: the input has shape {shape}, expected lengths {self.lengths} at axes "
                f"{self.spanned(shape)}, got {lengths}"
            )
        self.seen = shape

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.shape != self.seen:
            self.check(x.shape)
        if x.dtype is self.dtype or (self.takes_half and mg.dtypes.arithmetic(x.dtype) == self.dtype):
            return self.normalized(x)
        x, narrow = self.widened(x)
        return self.normalized(x) if narrow is None else self.normalized(x).astype(narrow)

    def widened(self, x: Tensor) -> tuple[Tensor, Any]:
        """x as the layer computes with it, and the half type that its output returns to, or None.

        Raises:
            DTypeError: for another float than the parameters'.
        """
        if mg.dtypes.kind(x.dtype) not in "fc":
            return x.astype(self.dtype), None
        if x.dtype.itemsize == 2:
            return x.astype(self.dtype), x.dtype
        if x.dtype != self.dtype and self.lengths is not None:
            raise DTypeError(f"{self.name}: the input has dtype {x.dtype}, expected {self.dtype} as of gamma and beta")
        return x, None

    def normalized(self, x: Tensor) -> Tensor:
        """The layer's output for an input that was checked."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no normalized(x)")


def flag(kind: str, argument: str, value: Any) -> bool:
    """The value, if it is a boolean.

    Raises:
        ArgumentTypeError: naming layer and argument otherwise.
    """
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{kind}: {argument} is {value!r}, expected True or False")
    return value


def parameter_dtype(dtype: Any) -> Any:
    """The dtype of γ and β in a layer of this dtype: float32 for half types, whose sums would lose small gradients."""
    if dtype is not None and mg.dtypes.as_dtype(dtype).itemsize == 2:
        return "float32"
    return dtype
