"""Activations, as functions of a tensor."""

from typing import Any

from minigrad import elu, gelu, leaky_relu, log_softmax, relu, relu6, sigmoid, silu, softmax, softplus, tanh
from minigrad import exp as exponential
from minigrad.nn.activations import get as _get
from minigrad.nn.activations import hard_sigmoid, hard_silu, mish, selu, softsign

swish, hard_swish = silu, hard_silu

__all__ = [
    "elu", "exponential", "gelu", "get", "hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu", "linear",
    "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "swish",
    "tanh",
]  # fmt: skip


def linear(x: Any) -> Any:
    """x itself."""
    return x


def get(identifier: Any) -> Any:
    """The activation of that name, the function itself, or `linear` for None."""
    return _get(identifier) or linear
