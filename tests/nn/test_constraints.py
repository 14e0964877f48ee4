"""Constraints: values against NumPy, over any axes; that optimizers apply them after each update; bad input."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn import constraints


def norms(w, axis):
    return np.sqrt(np.sum(np.square(w), axis, keepdims=True))


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 3), 0), ((4, 3), 1), ((2, 3, 4, 5), (0, 1, 2)), ((6,), 0), ((6,), -1)]
)
def test_norms(shape, axis):
    w = 3 * np.random.default_rng(0).standard_normal(shape)
    n = norms(w, axis)

    def check(constraint, wanted):
        np.testing.assert_allclose(constraint(mg.tensor(w)).numpy(), w * wanted / (n + 1e-7), rtol=1e-12)

    limit = float(np.median(n))
    check(constraints.MaxNorm(limit, axis), np.minimum(n, limit))
    check(constraints.UnitNorm(axis), 1.0)
    check(constraints.MinMaxNorm(0.9 * limit, 1.1 * limit, axis=axis), np.clip(n, 0.9 * limit, 1.1 * limit))
    soft = 0.25 * np.clip(n, 0.9 * limit, 1.1 * limit) + 0.75 * n
    check(constraints.MinMaxNorm(0.9 * limit, 1.1 * limit, 0.25, axis), soft)


def test_nonneg_and_zeros():
    assert constraints.NonNeg()(mg.tensor([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.0, 2.0]
    zero = mg.tensor(np.zeros((3, 2), np.float32))
    for constraint in map(constraints.get, ("max_norm", "min_max_norm", "unit_norm", "non_neg")):
        found = constraint(zero)
        assert not found.numpy().any()
        assert found.dtype == np.float32


@pytest.mark.parametrize("make", [lambda: mg.optim.SGD(0.5), lambda: mg.optim.SGD(0.5, 0.9), mg.optim.Adam])
def test_optimizers_apply_them(make):
    layer = nn.Dense(4, kernel_constraint=constraints.MaxNorm(0.5), bias_constraint="non_neg")
    free = nn.Dense(4)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    layer(x), free(x)
    free.kernel.assign(layer.kernel)
    for model in (layer, free):
        optimizer = make()
        for _ in range(3):
            ((model(x) + 1.0) ** 2.0).mean().backward()
            optimizer.step(model.trainable_variables)
            if model is layer:
                assert (norms(layer.kernel.numpy(), 0) <= 0.5).all()
                assert (layer.bias.numpy() >= 0).all()
    assert (free.bias.numpy() < 0).all()
    assert (norms(free.kernel.numpy(), 0) > 0.5).any()


def test_one_step_is_the_constraint_of_the_free_step():
    rng = np.random.default_rng(3)
    w, g = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    variable = mg.Variable(w)
    variable.constraint = constraints.UnitNorm()
    mg.optim.SGD(0.1).update([variable], [mg.tensor(g)])
    stepped = w - 0.1 * g
    np.testing.assert_allclose(variable.numpy(), stepped / (norms(stepped, 0) + 1e-7), rtol=1e-12)
    assert variable.grad is None


def test_copies_keep_their_own():
    layer = nn.Dense(2, kernel_constraint=constraints.MaxNorm(0.5))
    layer(np.ones((1, 3), np.float32))
    twin = copy.deepcopy(layer)
    twin.kernel.constraint.max_value = 9.0
    assert layer.kernel.constraint.max_value == 0.5
    assert twin.kernel is not layer.kernel


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: constraints.MaxNorm(-1), ArgumentError, "MaxNorm: min_value is 0.0 and max_value -1"),
        (lambda: constraints.MinMaxNorm(2, 1), ArgumentError, "min_value is 2 and max_value 1"),
        (lambda: constraints.MinMaxNorm(rate=1.5), ArgumentError, r"rate is 1.5, expected a number in \[0, 1\]"),
        (lambda: constraints.MaxNorm("2"), ArgumentTypeError, "max_value is '2', expected a number"),
        (lambda: constraints.UnitNorm(2)(mg.tensor([[1.0]])), ShapeError, "UnitNorm: axis 2 is out of range"),
        (lambda: constraints.get("maxnorm"), ArgumentError, r"'maxnorm' is unknown, expected one of \['max_norm'"),
        (lambda: constraints.get(2), ArgumentTypeError, "got 2, expected a name"),
        (lambda: nn.Dense(2, bias_constraint=3), ArgumentTypeError, "got 3"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_repr():
    assert repr(constraints.MaxNorm(2, (0, 1))) == "MaxNorm(min_value=0.0, max_value=2.0, rate=1.0, axis=(0, 1))"
    assert repr(constraints.UnitNorm()) == "UnitNorm(axis=0)"
    assert repr(constraints.NonNeg()) == "NonNeg()"
