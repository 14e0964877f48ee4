"""Initializers of `minigrad.nn.initializers`, as classes with a seed, under Keras's names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.dialects.keras.names import by_name
from minigrad.errors import ArgumentTypeError
from minigrad.nn import initializers as functions
from minigrad.ops.generator import Generator

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer", "LecunNormal",
    "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling",
    "Zeros", "get",
]  # fmt: skip


class Initializer:
    """Gives first values: ``initializer(shape, dtype)``. With a seed, the same ones at each call.

    Args:
        seed: of the values; without one they come from the model's generator, or the default one.

    Example:
        >>> from minigrad.dialects import keras
        >>> first = keras.initializers.RandomNormal(stddev=0.1, seed=3)
        >>> bool((first((2, 2)) == first((2, 2))).all())
        True
    """

    function: Callable
    defaults: Mapping[str, Any] = MappingProxyType({})  # of the function's arguments, in their order

    def __init__(self, *args: Any, seed: int | None = None, **options: Any):
        names = list(self.defaults)
        self.options = {**self.defaults, **dict(zip(names, args)), **options}
        unknown = set(self.options) - set(names)
        if unknown or len(args) > len(names):
            raise ArgumentTypeError(f"{type(self).__name__}: takes {[*names, 'seed']}, got {args} and {options}")
        self.seed = seed
        self._draw = type(self).function(**self.options)

    def __call__(self, shape: Any, dtype: Any = None, generator: Any = None) -> np.ndarray:
        if self.seed is not None:
            generator = Generator(self.seed)
        return self._draw(tuple(shape), dtypes.as_dtype(dtype or dtypes.default_float), generator)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in {**self.options, "seed": self.seed}.items())
        return f"{type(self).__name__}({shown})"


def _class(name: str, function: Callable, **defaults: Any) -> Any:
    contents = {"function": staticmethod(function), "defaults": defaults, "__module__": __name__}
    return type(name, (Initializer,), {**contents, "__doc__": function.__doc__})


def _identity(gain: float = 1.0) -> Callable:
    """`gain` times the identity matrix; with rows or columns of zeros where it is not square."""
    return lambda shape, dtype, generator: (gain * np.eye(*shape)).astype(dtype)


Zeros, Ones = _class("Zeros", functions.zeros), _class("Ones", functions.ones)
Constant = _class("Constant", functions.constant, value=0.0)
Identity = _class("Identity", _identity, gain=1.0)
RandomNormal = _class("RandomNormal", functions.random_normal, mean=0.0, stddev=0.05)
RandomUniform = _class("RandomUniform", functions.random_uniform, minval=-0.05, maxval=0.05)
TruncatedNormal = _class("TruncatedNormal", functions.truncated_normal, mean=0.0, stddev=0.05)
VarianceScaling = _class(
    "VarianceScaling", functions.variance_scaling, scale=1.0, mode="fan_in", distribution="truncated_normal"
)
GlorotUniform = _class("GlorotUniform", functions.glorot_uniform)
GlorotNormal = _class("GlorotNormal", functions.glorot_normal)
HeUniform = _class("HeUniform", functions.he_uniform)
HeNormal = _class("HeNormal", functions.he_normal)
LecunUniform = _class("LecunUniform", functions.lecun_uniform)
LecunNormal = _class("LecunNormal", functions.lecun_normal)
Orthogonal = _class("Orthogonal", functions.orthogonal, gain=1.0)

_OURS = {"constant": Constant, "variance_scaling": VarianceScaling, "identity": Identity}
_OLD = {"uniform": "random_uniform", "normal": "random_normal", "zero": "zeros", "one": "ones"}


def get(identifier: Any) -> Any:
    """The initializer of that name, or the function itself, which may take a shape and a dtype only."""
    found = by_name(_known, identifier)
    try:
        inspect.signature(found).bind((), "float32", None)
    except TypeError:
        return lambda shape, dtype, generator: np.asarray(found(shape, dtype=dtype), dtype)
    return found


def _known(identifier: Any) -> Any:
    if isinstance(identifier, str):
        identifier = _OLD.get(identifier, identifier)
        if identifier in _OURS:
            return _OURS[identifier]()
    return functions.get(identifier)
