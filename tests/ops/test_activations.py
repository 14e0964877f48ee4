"""Activations: values over wide ranges, derivatives that keep their digits, kinks."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import scalar
from minigrad.errors import ArgumentError

NAMES = ["elu", "gelu", "gelu_tanh", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "softplus", "tanh"]


REFERENCES = {  # value and derivative, written to keep their digits in float64
    "tanh": (np.tanh, lambda v: 1 / np.cosh(v) ** 2),
    "sigmoid": (lambda v: 1 / (1 + np.exp(-v)), lambda v: 1 / (1 + np.exp(-v)) / (1 + np.exp(v))),
    "relu": (lambda v: np.maximum(v, 0), lambda v: (v > 0) * 1.0),
    "relu6": (lambda v: np.clip(v, 0, 6), lambda v: ((v > 0) & (v < 6)) * 1.0),
    "leaky_relu": (lambda v: np.where(v > 0, v, np.float32(0.01) * v), lambda v: np.where(v > 0, 1, np.float32(0.01))),
    "elu": (lambda v: np.where(v > 0, v, np.expm1(v)), lambda v: np.where(v > 0, 1, np.exp(v))),
    "softplus": (lambda v: np.logaddexp(v, 0), lambda v: 1 / (1 + np.exp(-v))),
    "silu": (
        lambda v: v / (1 + np.exp(-v)),
        lambda v: (1 + v / (1 + np.exp(v))) / (1 + np.exp(-v)),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_derivative(name, dtype):
    value, derivative = REFERENCES[name]
    a = np.linspace(-15, 15, 2001).astype(dtype)
    wide = a.astype("longdouble")
    eps = np.finfo(dtype).eps
    # Where a derivative crosses zero (silu near −1.28) relative digits are lost to the sum's rounding.
    near_zero = {"silu": 2 * eps}.get(name, 0)
    if dtype == "float64" and name == "leaky_relu":
        value, derivative = (lambda v: np.where(v > 0, v, 0.01 * v)), (lambda v: np.where(v > 0, 1, 0.01))
    x = mg.tensor(a, requires_grad=True)
    y = getattr(mg, name)(x)
    w = np.random.default_rng(0).standard_normal(a.shape).astype(dtype)
    y.backward(mg.tensor(w))
    np.testing.assert_allclose(y.numpy(), value(wide).astype(float), rtol=6 * eps, atol=near_zero)
    np.testing.assert_allclose(x.grad.numpy() / w, derivative(wide).astype(float), rtol=12 * eps, atol=near_zero)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes(dtype):
    largest = np.finfo(dtype).max
    a = np.array([-np.inf, -largest, -1000, -0.0, 0.0, 1000, largest, np.inf, np.nan], dtype)
    expected = {
        "tanh": [-1, -1, -1, 0, 0, 1, 1, 1, np.nan],
        "sigmoid": [0, 0, 0, 0.5, 0.5, 1, 1, 1, np.nan],
        "relu": [0, 0, 0, 0, 0, 1000, largest, np.inf, np.nan],
        "relu6": [0, 0, 0, 0, 0, 6, 6, 6, np.nan],
        "elu": [-1, -1, -1, 0, 0, 1000, largest, np.inf, np.nan],
        "softplus": [0, 0, 0, np.log(2), np.log(2), 1000, largest, np.inf, np.nan],
        "leaky_relu": [-np.inf, None, -10, 0, 0, 1000, largest, np.inf, np.nan],
        "silu": [None, 0, 0, 0, 0, 1000, largest, np.inf, np.nan],
    }
    for name, values in expected.items():
        got = getattr(mg, name)(mg.tensor(a)).numpy()
        for g, v in zip(got.tolist(), values):
            if v is not None:
                np.testing.assert_allclose(g, v, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "relu", "elu"])
def test_gradients_at_extremes_are_finite(name):
    x = mg.tensor(np.array([-1e30, -1000, -100, 100, 1000, 1e30], "float32"), requires_grad=True)
    getattr(mg, name)(x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert (x.grad.numpy()[3:] >= 0).all()


def test_kinks():
    def slope(function, v):
        x = mg.tensor([v], requires_grad=True)
        function(x).sum().backward()
        return x.grad.item()

    assert [slope(mg.relu, v) for v in (-1.0, 0.0, 1.0)] == [0, 0, 1]
    assert [slope(mg.relu6, v) for v in (-1.0, 0.0, 3.0, 6.0, 7.0)] == [0, 0, 1, 0, 0]
    assert [slope(lambda x: mg.leaky_relu(x, 0.25), v) for v in (-1.0, 0.0, 1.0)] == [0.25, 0.25, 1]
    assert [slope(mg.elu, v) for v in (0.0, 1.0)] == [1, 1]
    assert math.isnan(mg.relu(mg.tensor([np.nan])).item())


def test_slopes_and_alphas_are_differentiable():
    a, slope = np.array([-2.0, 3.0, -0.5]), np.array([0.25, 0.5, 0.75])
    s = mg.tensor(slope, requires_grad=True)
    mg.leaky_relu(mg.tensor(a), s).backward(mg.tensor(np.array([1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(s.grad.numpy(), [-2, 0, -1.5])
    alpha = mg.tensor(np.array(1.5), requires_grad=True)
    mg.elu(mg.tensor(a), alpha).sum().backward()
    np.testing.assert_allclose(alpha.grad.numpy(), np.expm1([-2.0, -0.5]).sum())


def test_gelu_refuses_other_approximations():
    with pytest.raises(ArgumentError, match="approximate is 'exact', expected 'none' or 'tanh'"):
        mg.gelu(mg.tensor([1.0]), approximate="exact")


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_derivatives_keep_relative_precision_in_the_tails(name):
    a = np.concatenate([np.linspace(-15, -5, 200), np.linspace(5, 15, 200)]).astype("float32")
    x = mg.tensor(a, requires_grad=True)
    first = mg.grad(lambda v: getattr(mg, name)(v).sum())
    wide = a.astype(np.longdouble)
    np.testing.assert_allclose(first(x).numpy(), REFERENCES[name][1](wide).astype(float), rtol=1e-6)
    second = mg.grad(lambda v: first(v).sum())(x).numpy()
    if name == "tanh":
        expected = -2 * np.tanh(wide) / np.cosh(wide) ** 2
    else:
        s = 1 / (1 + np.exp(-wide))
        expected = s / (1 + np.exp(wide)) * np.tanh(-wide / 2)
    np.testing.assert_allclose(second, expected.astype(float), rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cheap_gelu(dtype):
    a = np.linspace(-5, 9, 1001).astype(dtype)
    wide = a.astype("longdouble")
    inner = np.sqrt(2 / np.longdouble(np.pi)) * (wide + np.longdouble("0.044715") * wide**3)
    paper = wide / (1 + np.exp(-2 * inner))
    got = mg.gelu(mg.tensor(a), approximate="tanh").numpy()
    error = 4 * np.finfo(dtype).eps * (2 + np.abs(2 * inner))  # of the exponent's rounding
    assert (np.abs(got - paper) <= error * np.abs(paper)).all()
    np.testing.assert_allclose(got, mg.gelu(mg.tensor(a)).numpy(), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_and_its_slope_keep_their_digits_element_by_element(dtype):
    x = np.linspace(-10, 10, 4001).astype(dtype)
    z = x.astype(np.longdouble)
    phi = np.exp(-z * z / 2) / np.sqrt(8 * np.arctan(np.longdouble(1)))
    cdf = scalar.erfc(-z / np.sqrt(np.longdouble(2))) / 2
    t = mg.tensor(x, requires_grad=True)
    y = mg.gelu(t)
    y.backward(mg.tensor(np.ones_like(x)))
    # Φ and φ multiply the rounding of their argument by x².
    allowed = np.finfo(dtype).eps * (4 + z * z)
    assert (np.abs(y.numpy() - z * cdf) <= allowed * np.abs(z * cdf)).all()
    assert (np.abs(t.grad.numpy() - (cdf + z * phi)) <= allowed * (cdf + np.abs(z * phi))).all()
