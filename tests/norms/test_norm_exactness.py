"""Exactness in float32: the largest error of y and of dx over the largest true value, on data that is hard elsewhere.

Truth is computed in long double from the same float32 inputs.
"""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad_norms.standardize import standardize_p

LONG = np.longdouble
LIMIT = 5e-7

#: shape, axes of the groups, parameter axes; each also with a shape of its own for a million elements.
FORMS = {
    "batch": ((512, 24), (0,), (1,)),
    "batch NCHW": ((8, 3, 16, 17), (0, 2, 3), (1,)),
    "layer": ((48, 768), (1,), (1,)),
    "group NHWC": ((4, 26, 26, 5, 2), (1, 2, 4), (3, 4)),
    "group NCHW": ((4, 6, 2, 12, 13), (2, 3, 4), (1, 2)),
    "instance NHWC": ((3, 37, 31, 6), (1, 2), (3,)),
    "instance NCHW": ((3, 6, 37, 31), (2, 3), (1,)),
}
MILLION = {
    "batch": ((1 << 20, 2), (0,), (1,)),
    "layer": ((2, 1_000_000), (1,), (1,)),
    "group NCHW": ((2, 1, 4, 250_000), (2, 3), (1, 2)),
}


def data(kind, shape, axes):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(shape)
    first = tuple(0 if a in axes else slice(None) for a in range(len(shape)))
    if kind == "mean 1e6, spread 1":
        x += 1e6
    elif kind == "scale 1e30":
        x *= 1e30
    elif kind == "scale 1e-30":
        x *= 1e-30
    elif kind == "heavy tails":
        x = rng.standard_cauchy(shape)
    elif kind == "a spike":
        x = np.zeros(shape)
        x[first] = 1e4
    elif kind == "a spike on a plain":
        x = np.full(shape, 1.2345)
        x[first] = -1e5
    elif kind == "a step":
        x += 1e5 * (np.arange(shape[axes[0]]) > shape[axes[0]] // 3).reshape(
            [-1 if a == axes[0] else 1 for a in range(len(shape))]
        )
    return x.astype(np.float32), rng.standard_normal(shape).astype(np.float32)


KINDS = (
    "plain",
    "mean 1e6, spread 1",
    "scale 1e30",
    "scale 1e-30",
    "heavy tails",
    "a spike",
    "a spike on a plain",
    "a step",
)


def truth(x, dy, axes, epsilon, centred=True):
    x, dy = x.astype(LONG), dy.astype(LONG)
    d = x - x.mean(axes, keepdims=True) if centred else x
    total = (d * d).mean(axes, keepdims=True) + LONG(epsilon)
    r = np.where(total == 0, 0, 1 / np.sqrt(np.where(total == 0, 1, total)))
    y = d * r
    inner = dy - dy.mean(axes, keepdims=True) if centred else dy
    return y, r * (inner - y * (dy * y).mean(axes, keepdims=True))


def error(found, true):
    largest = float(abs(true).max())
    return float(abs(found.astype(LONG) - true).max()) / (largest or 1.0)


def run(x, dy, function):
    x = mg.tensor(x, requires_grad=True)
    y = function(x)
    y.backward(mg.tensor(dy))
    return y.numpy(), x.grad.numpy()


def errors(kind, form, centred=True):
    shape, axes, along = form
    x, dy = data(kind, shape, axes)
    epsilon = 0.0 if kind == "scale 1e-30" else 1e-3
    gamma, beta = (mg.tensor(np.full([shape[a] for a in along], v, np.float32)) for v in (1.0, 0.0))
    params = {"axes": axes, "parameter_axes": along, "epsilon": epsilon}
    statistic = "variance" if centred else "mean_square"
    got = run(x, dy, lambda x: standardize_p(x, gamma, beta, **params, statistic=statistic)[0])
    return [error(*pair) for pair in zip(got, truth(x, dy, axes, epsilon, centred))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_hard_data(form, kind):
    assert max(errors(kind, FORMS[form])) <= LIMIT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["layer", "batch", "instance NCHW"])
def test_hard_data_without_a_mean(form, kind):
    """The statistic of RMS norm."""
    assert max(errors(kind, FORMS[form], centred=False)) <= LIMIT


@pytest.mark.parametrize("kind", ["mean 1e6, spread 1", "plain", "heavy tails"])
@pytest.mark.parametrize("form", MILLION)
def test_a_million_elements_a_group(form, kind):
    assert max(errors(kind, MILLION[form])) <= LIMIT


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("form", FORMS)
def test_a_constant_group_is_exactly_beta(form, epsilon):
    shape, axes, along = FORMS[form]
    rng = np.random.default_rng(3)
    kept = [1 if a in axes else n for a, n in enumerate(shape)]
    x = np.broadcast_to((1e5 * rng.standard_normal(kept) + 1 / 3).astype(np.float32), shape)
    gamma, beta = (rng.standard_normal([shape[a] for a in along]).astype(np.float32) for _ in range(2))
    y, _, var = standardize_p(
        mg.tensor(x.copy()), mg.tensor(gamma), mg.tensor(beta), axes=axes, parameter_axes=along, epsilon=epsilon
    )
    assert (
        y.numpy() == np.broadcast_to(beta.reshape([n if a in along else 1 for a, n in enumerate(shape)]), shape)
    ).all()
    assert (var.numpy() == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_public_functions(kind):
    x, dy = data(kind, (64, 96), (0,))
    epsilon = 0.0 if kind == "scale 1e-30" else 1e-3
    for axes in ((0,), (1,)):
        got = run(x, dy, lambda x, axes=axes: norms.standardize(x, axes=axes, parameter_axes=(1,), epsilon=epsilon)[0])
        assert max(error(*pair) for pair in zip(got, truth(x, dy, axes, epsilon))) <= LIMIT


@pytest.mark.parametrize("kind", ["plain", "mean 1e6, spread 1", "heavy tails", "a step"])
def test_statistics_keep_the_digits_that_results_need(kind):
    """The mean to a small part of the deviation, the variance to a few roundings of float32."""
    for shape, axes, _ in FORMS.values():
        x, _ = data(kind, shape, axes)
        mean, var = (
            t.numpy() for t in standardize_p(mg.tensor(x), None, None, axes=axes, parameter_axes=(), epsilon=1e-3)[1:]
        )
        true_mean, true_var = x.astype(LONG).mean(axes), x.astype(LONG).var(axes)
        assert (abs(mean - true_mean) <= 2e-7 * np.sqrt(true_var)).all()
        assert (abs(var - true_var) <= 1e-6 * true_var).all()
