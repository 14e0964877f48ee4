"""Initializers: functions of a shape and a dtype that give the tensor of a Variable's first values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.dialects.tf1 import array_ops
from minigrad.dialects.tf1.graph import Tensor
from minigrad.errors import ArgumentError


class Initializer:
    """Calls an initializer of `minigrad.nn` when the graph runs, with the generator of the session.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     session.run(tf.constant_initializer(2.0)([3]))
        array([2., 2., 2.], dtype=float32)
    """

    def __init__(self, make: Callable, seed: int | None = None, dtype: Any = "float32"):
        self.make, self.seed, self.dtype = make, seed, dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        def draw(sizes: tuple[int, ...], dtype: Any, generator: Any) -> mg.Tensor:
            return mg.as_tensor(self.make(sizes, dtype, generator))

        kind = self.dtype if dtype is None else dtype
        return array_ops.drawn("Initializer", draw, shape, kind, self.seed, "Initializer")


class zeros_initializer(Initializer):
    """Zeros."""

    def __init__(self, dtype: Any = "float32"):
        super().__init__(nn.initializers.zeros(), None, dtype)


class ones_initializer(Initializer):
    """Ones."""

    def __init__(self, dtype: Any = "float32"):
        super().__init__(nn.initializers.ones(), None, dtype)


class constant_initializer(Initializer):
    """One number everywhere, or these values in their order."""

    def __init__(self, value: Any = 0, dtype: Any = "float32", verify_shape: bool = False):
        def make(shape: tuple[int, ...], dtype: Any, _: Any) -> np.ndarray:
            array = np.asarray(value, dtype)
            if array.size not in (1, int(np.prod(shape))):
                raise ArgumentError(f"constant_initializer: has {array.size} values for shape {shape}")
            return np.full(shape, array) if array.size == 1 else array.reshape(shape)

        super().__init__(make, None, dtype)


class random_normal_initializer(Initializer):
    """Normal values."""

    def __init__(self, mean: float = 0.0, stddev: float = 1.0, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.random_normal(mean, stddev), seed, dtype)


class truncated_normal_initializer(Initializer):
    """Normal values of at most two standard deviations."""

    def __init__(self, mean: float = 0.0, stddev: float = 1.0, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.truncated_normal(mean, stddev), seed, dtype)


class random_uniform_initializer(Initializer):
    """Values from `minval` to below `maxval`, 1 by default."""

    def __init__(self, minval: float = 0, maxval: float | None = None, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.random_uniform(minval, 1.0 if maxval is None else maxval), seed, dtype)


class glorot_uniform_initializer(Initializer):
    """Uniform between ∓√(6/(fan in + fan out)) (Glorot & Bengio 2010)."""

    def __init__(self, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.glorot_uniform(), seed, dtype)


class glorot_normal_initializer(Initializer):
    """Truncated normal of variance 2/(fan in + fan out) (Glorot & Bengio 2010)."""

    def __init__(self, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.glorot_normal(), seed, dtype)


class orthogonal_initializer(Initializer):
    """Orthogonal rows or columns (Saxe, McClelland & Ganguli 2014)."""

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: Any = "float32"):
        super().__init__(nn.initializers.orthogonal(gain), seed, dtype)


class variance_scaling_initializer(Initializer):
    """Variance `scale` over fan in, fan out or their mean."""

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "normal",
        seed: int | None = None,
        dtype: Any = "float32",
    ):
        kind = "truncated_normal" if distribution == "normal" else distribution
        super().__init__(nn.initializers.variance_scaling(scale, mode, kind), seed, dtype)
