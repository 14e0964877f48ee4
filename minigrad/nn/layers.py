"""The basic layers: Dense, Activation, Dropout, Flatten, Reshape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn.layer import Layer
from minigrad.ops.generator import Generator
from minigrad.ops.noise import number
from minigrad.tensor import Tensor, Variable

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "gelu": ops.gelu,
    "silu": ops.silu,
    "sigmoid": ops.sigmoid,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "softplus": ops.softplus,
    "tanh": ops.tanh,
    "exponential": ops.exp,
}


def activation(function: Any) -> Callable[[Tensor], Tensor] | None:
    """The activation of that name, the function itself, or None for None and ``"linear"``.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if function is None or function == "linear":
        return None
    if isinstance(function, str):
        if function not in _ACTIVATIONS:
            raise ArgumentError(f"activation: {function!r} is unknown, expected one of {['linear', *_ACTIVATIONS]}")
        return _ACTIVATIONS[function]
    if callable(function):
        return function
    raise ArgumentTypeError(f"activation: got {function!r}, expected a name, a function or None")


class Dense(Layer):
    """activation(x @ kernel + bias).

    Args:
        units: length of the output's last axis.
        activation: a name or a function.
        use_bias: whether there is a bias; a layer before a normalization that shifts needs none.
        kernel_initializer, bias_initializer: names or functions.

    Shapes: x (..., features), kernel (features, units), bias (units,), output (..., units). Integers are cast to the
    layer's dtype.

    Raises:
        ArgumentError: if `units` is not a positive integer.
        ShapeError: if an input has another number of features than the first one.

    Example:
        >>> import minigrad as mg
        >>> layer = mg.nn.Dense(2, kernel_initializer="ones", bias_initializer="zeros")
        >>> layer(mg.tensor([[1.0, 2.0, 3.0]])).numpy()
        array([[6., 6.]], dtype=float32)
    """

    kernel: Variable
    bias: Variable | None

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        if isinstance(units, bool) or not isinstance(units, (int, np.integer)) or units < 1:
            raise ArgumentError(f"Dense: units is {units!r}, expected a positive integer")
        self.units = int(units)
        self.activation = _activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, shape: tuple[int | None, ...]) -> None:
        if not shape:
            raise ShapeError(f"{self.name}: the input has no axes, expected (..., features)")
        self.kernel = self.add_variable("kernel", (shape[-1], self.units), self.kernel_initializer)
        self.bias = self.add_variable("bias", (self.units,), self.bias_initializer) if self.use_bias else None

    def call(self, x: Tensor, training: bool) -> Tensor:
        shape = x._data.shape
        if not shape or shape[-1] != self.kernel._data.shape[0]:
            raise ShapeError(f"{self.name}: the input has shape {x.shape}, expected (..., {self.kernel.shape[0]})")
        if x._data.dtype.kind in "biu":  # int64 @ float32 would be float64, here and in all layers that follow
            x = x.astype(self.kernel.dtype)
        x = ops.matmul(x, self.kernel)
        if self.bias is not None:
            x = x + self.bias
        return x if self.activation is None else self.activation(x)


_activation = activation  # the arguments of that name hide the function


class Activation(Layer):
    """An activation as a layer, by name or function."""

    def __init__(self, function: Any, name: str | None = None):
        super().__init__(name)
        self.function = activation(function)

    def call(self, x: Tensor, training: bool) -> Tensor:
        return x if self.function is None else self.function(x)


class Dropout(Layer):
    """In training, zeroes a share `rate` of the elements and divides the others by 1 − rate (Srivastava et al. 2014).

    Args:
        rate: in [0, 1).
        seed: of a generator of its own; without one it draws from the generator of the model, or the default one.

    Raises:
        ArgumentError: if the rate is outside [0, 1).
    """

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None):
        super().__init__(name)
        self.rate = number("Dropout", "rate", rate)
        if not 0 <= self.rate < 1:
            raise ArgumentError(f"Dropout: rate is {rate!r}, expected a number in [0, 1)")
        self.own_generator = None if seed is None else Generator(seed)  # its state is among the layer's Variables

    def call(self, x: Tensor, training: bool) -> Tensor:
        if not training or self.rate == 0:
            return x
        return ops.dropout(x, self.rate, generator=self.generator if self.own_generator is None else self.own_generator)


class Flatten(Layer):
    """All axes but the first as one: (n, ...) to (n, product)."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim < 1:
            raise ShapeError(f"{self.name}: the input has no axes, expected (n, ...)")
        return x.reshape(x.shape[0], prod(x.shape[1:]))


class Reshape(Layer):
    """Each sample in another shape: (n, ...) to (n, *target); one length may be -1.

    Raises:
        ArgumentError: if the target is no sequence of lengths.
        ShapeError: if a sample has another number of elements.
    """

    def __init__(self, target: Sequence[int], name: str | None = None):
        super().__init__(name)
        self.target = tuple(target)
        if any(not isinstance(n, (int, np.integer)) or n < -1 for n in self.target) or self.target.count(-1) > 1:
            raise ArgumentError(f"Reshape: target is {target!r}, expected lengths of which one may be -1")

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim < 1:
            raise ShapeError(f"{self.name}: the input has no axes, expected (n, ...)")
        return x.reshape(x.shape[0], *self._lengths(x.shape[1:]))

    def _lengths(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        """The target with -1 worked out from one sample, which also an empty batch has a shape of."""
        size, known = prod(sample), prod([n for n in self.target if n != -1])
        if size != known and not (-1 in self.target and known and size % known == 0):
            raise ShapeError(f"{self.name}: a sample of shape {sample} has {size} elements, expected {self.target}")
        return tuple([size // known if n == -1 and known else n for n in self.target])
