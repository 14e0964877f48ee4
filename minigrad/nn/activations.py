"""Activations by name, and those that are put together from primitives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.tensor import Tensor


def selu(x: Any) -> Tensor:
    """λ·x where x > 0, else λα·(eˣ − 1), with λ = 1.0507... and α = 1.6732... (Klambauer et al. 2017).

    Example:
        >>> import minigrad as mg
        >>> mg.nn.activations.selu(mg.tensor([-1.0, 2.0])).numpy().round(4)
        array([-1.1113,  2.1014], dtype=float32)
    """
    return 1.0507009873554805 * ops.elu(x, 1.6732632423543772)


def softsign(x: Any) -> Tensor:
    """x/(1 + |x|)."""
    return x / (1.0 + ops.absolute(x))


def hard_sigmoid(x: Any) -> Tensor:
    """relu6(x + 3)/6: a sigmoid of three straight pieces."""
    return ops.relu6(x + 3.0) / 6.0


def hard_silu(x: Any) -> Tensor:
    """x·hard_sigmoid(x) (Howard et al. 2019)."""
    return x * hard_sigmoid(x)


def mish(x: Any) -> Tensor:
    """x·tanh(softplus(x)) (Misra 2019)."""
    return x * ops.tanh(ops.softplus(x))


_BY_NAME: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "selu": selu,
    "gelu": ops.gelu,
    "silu": ops.silu,
    "swish": ops.silu,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "mish": mish,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "softplus": ops.softplus,
    "softsign": softsign,
    "tanh": ops.tanh,
    "exponential": ops.exp,
}


def get(function: Any) -> Callable[[Tensor], Tensor] | None:
    """The activation of that name, the function itself, or None for None and ``"linear"``.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if function is None or (isinstance(function, str) and function == "linear"):
        return None
    if isinstance(function, str):
        if function not in _BY_NAME:
            raise ArgumentError(f"activation: {function!r} is unknown, expected one of {['linear', *_BY_NAME]}")
        return _BY_NAME[function]
    if callable(function):
        return function
    raise ArgumentTypeError(f"activation: got {function!r}, expected a name, a function or None")
