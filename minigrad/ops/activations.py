"""Activation functions, each one scalar function."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

from minigrad import scalar
from minigrad.elementwise import elementwise
from minigrad.errors import ArgumentError
from minigrad.tensor import Tensor


# The derivatives of tanh and sigmoid are products of sigmoids, which keep their digits where 1 − y has lost them.
@elementwise("mg::tanh", derivatives=lambda x, out: (4 * scalar.sigmoid(2 * x) * scalar.sigmoid(-2 * x),))
def _tanh(x):
    return scalar.tanh(x)


@elementwise("mg::sigmoid", derivatives=lambda x, out: (out * scalar.sigmoid(-x),))
def _sigmoid(x):
    return scalar.sigmoid(x)


@elementwise("mg::relu", derivatives=lambda x, out: (scalar.select(out <= 0, 0, 1),))
def _relu(x):
    return scalar.select(x <= 0, 0, x)


@elementwise("mg::relu6", derivatives=lambda x, out: (scalar.select((out <= 0) | (out >= 6), 0, 1),))
def _relu6(x):
    return scalar.select(x <= 0, 0, scalar.select(x >= 6, 6, x))


@elementwise("mg::leaky_relu")
def _leaky_relu(x, slope):
    return scalar.select(x <= 0, slope * x, x)


@elementwise("mg::elu")
def _elu(x, alpha):
    return scalar.select(x <= 0, alpha * scalar.expm1(x), x)


@elementwise("mg::softplus", derivatives=lambda x, out: (scalar.sigmoid(x),))
def _softplus(x):
    return scalar.select(x <= 0, 0, x) + scalar.log1p(scalar.exp(-scalar.abs(x)))


@elementwise("mg::gelu")
def _gelu(x):
    return 0.5 * x * scalar.erfc(x * -sqrt(0.5))  # 1 + erf would lose the digits of Φ(x) for negative x


@elementwise("mg::gelu_tanh")
def _gelu_tanh(x):
    # ½(1 + tanh u) is sigmoid(2u), which keeps its digits where tanh u is close to −1.
    return x * scalar.sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x * x * x))


@elementwise("mg::silu")
def _silu(x):
    return x * scalar.sigmoid(x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent.

    Example:
        >>> import minigrad as mg
        >>> mg.tanh(mg.tensor([0.0, 20.0]))
        tensor([0., 1.], dtype=float32)
    """
    return _tanh(x)


def sigmoid(x: Any) -> Tensor:
    """1/(1 + e⁻ˣ), without overflow at either end.

    Example:
        >>> import minigrad as mg
        >>> mg.sigmoid(mg.tensor([-1000.0, 0.0]))
        tensor([0. , 0.5], dtype=float32)
    """
    return _sigmoid(x)


def relu(x: Any) -> Tensor:
    """max(x, 0). The derivative at 0 is 0; NaN stays NaN.

    Example:
        >>> import minigrad as mg
        >>> mg.relu(mg.tensor([-1.0, 2.0]))
        tensor([0., 2.], dtype=float32)
    """
    return _relu(x)


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6) (Krizhevsky, *Convolutional deep belief networks on CIFAR-10*, 2010)."""
    return _relu6(x)


def leaky_relu(x: Any, slope: Any = 0.01) -> Tensor:
    """x above 0, slope·x below (Maas et al. 2013). With a tensor for a slope it is PReLU (He et al. 2015)."""
    return _leaky_relu(x, slope)


def elu(x: Any, alpha: Any = 1.0) -> Tensor:
    """x above 0, alpha·(eˣ − 1) below (Clevert et al. 2015)."""
    return _elu(x, alpha)


def softplus(x: Any) -> Tensor:
    """log(1 + eˣ), without overflow."""
    return _softplus(x)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x·Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        x: any tensor.
        approximate: ``"none"`` for the error function, ``"tanh"`` for the paper's approximation.

    Raises:
        ArgumentError: for another `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return _gelu(x) if approximate == "none" else _gelu_tanh(x)


def silu(x: Any) -> Tensor:
    """x·sigmoid(x), also called swish (Elfwing et al. 2017)."""
    return _silu(x)
