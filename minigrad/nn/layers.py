"""The basic layers: Dense, Embedding, Activation, Dropout, and those that give each sample another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from minigrad import ops, random
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.nn import activations, constraints, initializers, regularizers
from minigrad.nn.layer import Layer
from minigrad.ops.generator import Generator
from minigrad.ops.noise import number
from minigrad.tensor import Tensor, Variable


class Dense(Layer):
    """activation(x @ kernel + bias).

    Args:
        units: length of the output's last axis.
        activation: a name or a function.
        use_bias: whether there is a bias; a layer before a normalization that shifts needs none.
        kernel_initializer, bias_initializer: names or functions.
        kernel_regularizer, bias_regularizer: names or functions of the values, or None.
        kernel_constraint, bias_constraint: names or functions of the values, or None.
        name, dtype: as of Layer.

    Shapes: x (..., features), kernel (features, units), bias (units,), output (..., units). Integers are cast to the
    layer's dtype.

    Raises:
        ArgumentError: if `units` is not a positive integer, or for an unknown name.
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
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        self.units = _positive("Dense", "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, shape: tuple[int | None, ...]) -> None:
        if not shape:
            raise ShapeError(f"{self.name}: the input has no axes, expected (..., features)")
        self.kernel = self.add_parameter("kernel", (shape[-1], self.units))
        self.bias = self.add_parameter("bias", (self.units,)) if self.use_bias else None

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


class Embedding(Layer):
    """Rows of a table, looked up: (...) of integers to (..., output_dim).

    Args:
        input_dim: the number of rows; inputs are in [0, input_dim).
        output_dim: the length of a row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as of Dense.
        name, dtype: as of Layer.

    Raises:
        ArgumentError: if a length is not a positive integer.
        DTypeError: when called on what are no integers.
        IndexRangeError: when called on an integer out of range.

    Example:
        >>> import minigrad as mg
        >>> layer = mg.nn.Embedding(3, 2, embeddings_initializer=lambda *_: [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
        >>> layer(mg.tensor([2, 0])).numpy()
        array([[4., 5.],
               [0., 1.]], dtype=float32)
    """

    embeddings: Variable

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "random_uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        self.input_dim = _positive("Embedding", "input_dim", input_dim)
        self.output_dim = _positive("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.embeddings = self.add_parameter("embeddings", (self.input_dim, self.output_dim))

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.dtype.kind not in "iu":
            raise DTypeError(f"{self.name}: the input has dtype {x.dtype}, expected integers")
        return ops.take(self.embeddings, x, axis=0)


class Activation(Layer):
    """An activation as a layer, by name or function."""

    def __init__(self, activation: Any, name: str | None = None):
        super().__init__(name)
        self.activation = activations.get(activation)

    def call(self, x: Tensor, training: bool) -> Tensor:
        return x if self.activation is None else self.activation(x)


class Lambda(Layer):
    """A function of a tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str | None = None):
        super().__init__(name)
        if not callable(function):
            raise ArgumentTypeError(f"Lambda: got {function!r}, expected a function of a tensor")
        self.function = function

    def call(self, x: Tensor, training: bool) -> Tensor:
        return self.function(x)


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


class GaussianNoise(Layer):
    """In training, adds normal noise of mean 0 and this standard deviation.

    Args:
        stddev: at least 0.
        seed: of a generator of its own; without one it draws from the generator of the model, or the default one.

    Raises:
        ArgumentError: if it is negative.
    """

    def __init__(self, stddev: float, seed: int | None = None, name: str | None = None):
        super().__init__(name)
        self.stddev = number("GaussianNoise", "stddev", stddev)
        if not self.stddev >= 0:
            raise ArgumentError(f"GaussianNoise: stddev is {stddev!r}, expected a number of at least 0")
        self.own_generator = None if seed is None else Generator(seed)

    def call(self, x: Tensor, training: bool) -> Tensor:
        if not training or self.stddev == 0:
            return x
        generator = self.generator if self.own_generator is None else self.own_generator
        return x + random.normal(x.shape, std=self.stddev, dtype=x.dtype, generator=generator)


class Flatten(Layer):
    """All axes but the first as one: (n, ...) to (n, product)."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim < 1:
            raise ShapeError(f"{self.name}: the input has no axes, expected (n, ...)")
        return x.reshape(x.shape[0], prod(x.shape[1:]))


class Reshape(Layer):
    """Each sample in another shape: (n, ...) to (n, *target_shape); one length may be -1.

    Raises:
        ArgumentError: if the target is no sequence of lengths.
        ShapeError: if a sample has another number of elements.
    """

    def __init__(self, target_shape: Sequence[int], name: str | None = None):
        super().__init__(name)
        if not isinstance(target_shape, Sequence) or isinstance(target_shape, str):
            raise ArgumentError(f"Reshape: target_shape is {target_shape!r}, expected lengths")
        target = self.target_shape = tuple(target_shape)
        if any(not isinstance(n, (int, np.integer)) or n < -1 for n in target) or target.count(-1) > 1:
            raise ArgumentError(f"Reshape: target_shape is {target_shape!r}, expected lengths of which one may be -1")

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim < 1:
            raise ShapeError(f"{self.name}: the input has no axes, expected (n, ...)")
        return x.reshape(x.shape[0], *self._lengths(x.shape[1:]))

    def _lengths(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        """The target with -1 worked out from one sample, which also an empty batch has a shape of."""
        target = self.target_shape
        size, known = prod(sample), prod([n for n in target if n != -1])
        if size != known and not (-1 in target and known and size % known == 0):
            raise ShapeError(f"{self.name}: a sample of shape {sample} has {size} elements, expected {target}")
        return tuple([size // known if n == -1 and known else n for n in target])


class Permute(Layer):
    """The axes of each sample in another order, counted from 1 as Keras counts: (2, 1) swaps the two of a matrix.

    Raises:
        ArgumentError: if `dims` is no order of 1 ... n.
        ShapeError: when called on samples of another number of axes.
    """

    def __init__(self, dims: Sequence[int], name: str | None = None):
        super().__init__(name)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(f"Permute: dims is {dims!r}, expected each of 1 to {len(self.dims)} once")

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim != len(self.dims) + 1:
            raise ShapeError(f"{self.name}: the input has shape {x.shape}, expected {len(self.dims) + 1} axes")
        return ops.transpose(x, (0, *self.dims))


class RepeatVector(Layer):
    """Each sample n times: (batch, features) to (batch, n, features).

    Raises:
        ArgumentError: if n is not a positive integer.
        ShapeError: when called on what is no matrix.
    """

    def __init__(self, n: int, name: str | None = None):
        super().__init__(name)
        self.n = _positive("RepeatVector", "n", n)

    def call(self, x: Tensor, training: bool) -> Tensor:
        if x.ndim != 2:
            raise ShapeError(f"{self.name}: the input has shape {x.shape}, expected (batch, features)")
        return ops.broadcast_to(ops.expand_dims(x, 1), (x.shape[0], self.n, x.shape[1]))


def _positive(layer: str, argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{layer}: {argument} is {value!r}, expected a positive integer")
    return int(value)
