"""Activations by name: values against NumPy, derivatives by gradcheck, and unknown names."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import gradcheck
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.nn import activations

X = np.array([-30.0, -4.0, -2.5, -0.3, 0.0, 0.7, 2.5, 4.0, 30.0])
SIGMOID6 = np.clip((X + 3) / 6, 0, 1)

VALUES = {
    "selu": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(np.minimum(X, 0))),
    "softsign": X / (1 + abs(X)),
    "hard_sigmoid": SIGMOID6,
    "hard_silu": X * SIGMOID6,
    "hard_swish": X * SIGMOID6,
    "mish": X * np.tanh(np.log1p(np.exp(X))),
    "swish": X / (1 + np.exp(-X)),
    "exponential": np.exp(X),
    "relu6": np.clip(X, 0, 6),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_and_derivatives(name):
    function = activations.get(name)
    np.testing.assert_allclose(function(mg.tensor(X)).numpy(), VALUES[name], rtol=1e-13, atol=1e-15)
    single = function(mg.tensor(X.astype(np.float32)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.numpy(), VALUES[name], rtol=2e-6, atol=1e-6)
    smooth = mg.tensor(np.array([-1.3, -0.4, 0.6, 1.7]))
    assert gradcheck.check(function, [smooth]).passed


def test_get():
    assert activations.get(None) is None
    assert activations.get("linear") is None
    assert activations.get("relu") is mg.relu
    assert activations.get(abs) is abs
    with pytest.raises(ArgumentError, match=r"activation: 'rleu' is unknown, expected one of \['linear', 'relu'"):
        activations.get("rleu")
    with pytest.raises(ArgumentTypeError, match="activation: got 3"):
        activations.get(3)
