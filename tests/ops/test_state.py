"""Assignment and update steps against the formulas of the papers, written out independently."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError
from minigrad.ops import state

RNG = np.random.default_rng(0)
SHAPES = [(), (0,), (1,), (7,), (3, 5), (50_001,)]


def normal(shape, dtype):
    return np.asarray(RNG.standard_normal(shape)).astype(dtype)


def close(variable, expected, dtype):
    assert variable.dtype == dtype
    np.testing.assert_allclose(variable.numpy(), expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


# assign


def test_assign():
    w = mg.Variable(np.zeros((2, 3)))
    place = w._data
    for value in (np.ones((2, 3)), np.arange(3.0), 5, 2.5, mg.tensor(np.full((2, 1), 7.0)), [[1.0, 2, 3], [4, 5, 6]]):
        w.assign(value)
        np.testing.assert_array_equal(w.numpy(), np.broadcast_to(np.asarray(value), (2, 3)))
        assert w._data is place


def test_assign_casts_to_the_variables_dtype():
    w = mg.Variable(np.zeros(2, "float32"))
    w.assign(np.array([0.1, 0.2]))
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w.numpy(), np.array([0.1, 0.2], "float32"))
    w.assign(mg.tensor(np.array([1, 2])))
    np.testing.assert_array_equal(w.numpy(), [1, 2])


def test_assign_of_a_view_of_itself():
    w = mg.Variable(np.arange(5.0))
    w.assign(w[::-1])
    np.testing.assert_array_equal(w.numpy(), [4, 3, 2, 1, 0])


@pytest.mark.parametrize("shape", [(3, 2), (3, 3), (4,), (1, 2, 3)])
def test_assign_of_another_shape_changes_nothing(shape):
    w = mg.Variable(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"assign: value has shape .* expected \(2, 3\)"):
        w.assign(np.zeros(shape))
    np.testing.assert_array_equal(w.numpy(), 1)


def test_assign_to_a_constant():
    with pytest.raises(ArgumentTypeError, match="takes a Variable"):
        mg.assign(mg.tensor([1.0]), 2.0)
    with pytest.raises(ArgumentTypeError, match="must be a Variable"):
        state.assign_p(mg.tensor([1.0]), mg.tensor([2.0]))


def test_an_assigned_value_that_backward_needs_is_noticed():
    w = mg.Variable(np.ones(3))
    y = (w * w).sum()
    w.assign(w * 2)
    with pytest.raises(mg.errors.MutationError, match="assigned"):
        y.backward()


# Steps


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd(shape, dtype, decay):
    p, g = normal(shape, dtype), normal(shape, dtype)
    param = mg.Variable(p)
    state.sgd_p(mg.tensor(np.array(0.25)), param, mg.tensor(g), weight_decay=decay)
    close(param, p - 0.25 * (g.astype(float) + decay * p), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(shape, dtype, nesterov):
    p, v, g = (normal(shape, dtype) for _ in range(3))
    param, velocity = mg.Variable(p), mg.Variable(v, trainable=False)
    rate = mg.tensor(np.array(0.25))
    state.momentum_p(rate, param, velocity, mg.tensor(g), momentum=0.75, nesterov=nesterov, weight_decay=0.1)
    g = g.astype(float) + 0.1 * p
    new = 0.75 * v - 0.25 * g
    close(velocity, new, dtype)
    close(param, p + 0.75 * new - 0.25 * g if nesterov else p + new, dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("decoupled", "hat"), [(False, False), (True, True)])
def test_adam(shape, dtype, decoupled, hat):
    p, g1, g2 = (normal(shape, dtype) for _ in range(3))
    g1.reshape(-1)[:3] = g2.reshape(-1)[:3] = 0  # √0 in the denominator
    param, m, v = mg.Variable(p), *(mg.Variable(np.zeros(shape, dtype), trainable=False) for _ in range(2))
    rate, b1, b2, eps, decay = 0.01, 0.9, 0.999, 1e-2, 0.1
    params = {"beta1": b1, "beta2": b2, "epsilon": eps, "epsilon_hat": hat}
    params |= {"weight_decay": decay, "decoupled": decoupled}
    want, wm, wv = p.astype(float), np.zeros(shape), np.zeros(shape)
    for t, g in enumerate((g1, g2), 1):
        state.adam_p(mg.tensor(np.array(rate)), mg.tensor(np.array(t)), param, m, v, mg.tensor(g), **params)
        g = g.astype(float) + (0 if decoupled else decay * want)
        wm, wv = b1 * wm + (1 - b1) * g, b2 * wv + (1 - b2) * g * g
        unbiased_m, unbiased_v = wm / (1 - b1**t), wv / (1 - b2**t)
        want = (
            want
            - rate * (decay * want if decoupled else 0)
            - rate * unbiased_m / (np.sqrt(unbiased_v) + (eps / np.sqrt(1 - b2**t) if hat else eps))
        )
        close(m, wm, dtype)
        close(v, wv, dtype)
        close(param, want, dtype)


def test_strided_gradients():
    p, g = normal((4, 6), "float32"), normal((6, 4), "float32")
    for gradient in (g.T, np.broadcast_to(g[0, :1], (4, 6)), g.T[::-1, ::-1]):
        param = mg.Variable(p)
        state.sgd_p(mg.tensor(np.array(0.5)), param, mg.Tensor(gradient), weight_decay=0.0)
        np.testing.assert_allclose(param.numpy(), p - np.float32(0.5) * gradient, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16"])
def test_other_floats_take_the_reference(dtype):
    p, g = normal((5,), dtype), normal((5,), dtype)
    param = mg.Variable(p)
    state.sgd_p(mg.tensor(np.array(0.5)), param, mg.tensor(g), weight_decay=0.0)
    assert param.dtype == dtype
    np.testing.assert_allclose(param.numpy(), p - g * np.asarray(0.5, dtype), rtol=1e-2)


def slots(shape, dtype="float64"):
    return [mg.Variable(np.ones(shape, dtype), trainable=False) for _ in range(3)]


STEPS = [
    (lambda p, s, t, g, lr: state.sgd_p(lr, p, g, weight_decay=0.0), "sgd"),
    (lambda p, s, t, g, lr: state.momentum_p(lr, p, s, g, momentum=0.9, nesterov=False, weight_decay=0.0), "momentum"),
    (
        lambda p, s, t, g, lr: state.adam_p(
            lr,
            mg.tensor(1),
            p,
            s,
            t,
            g,
            beta1=0.9,
            beta2=0.99,
            epsilon=1e-8,
            epsilon_hat=False,
            weight_decay=0.0,
            decoupled=True,
        ),
        "adam",
    ),
]


@pytest.mark.parametrize(("step", "name"), STEPS, ids=[n for _, n in STEPS])
def test_what_does_not_fit_changes_nothing(step, name):
    p, s, t = slots((2, 3))
    rate = mg.tensor(np.array(0.1))
    with pytest.raises(ShapeError, match=rf"{name}: grad has float64\(3, 2\), expected float64\(2, 3\) as of param"):
        step(p, s, t, mg.tensor(np.ones((3, 2))), rate)
    with pytest.raises(ShapeError, match=f"{name}: grad has float32"):
        step(p, s, t, mg.tensor(np.ones((2, 3), "float32")), rate)
    with pytest.raises(ShapeError, match=rf"{name}: lr has shape \(2,\), expected a scalar"):
        step(p, s, t, mg.tensor(np.ones((2, 3))), mg.tensor(np.ones(2)))
    whole = slots((2, 3), "int64")
    with pytest.raises(DTypeError, match=f"{name}: param has dtype int64"):
        step(*whole, mg.tensor(np.ones((2, 3), "int64")), rate)
    for v in (p, s, t, *whole):
        np.testing.assert_array_equal(v.numpy(), 1)


def test_nan_gradients_are_not_hidden():
    for step, name in STEPS:
        p, s, t = slots((3,))
        step(p, s, t, mg.tensor(np.array([1.0, np.nan, 1.0])), mg.tensor(np.array(0.1)))
        np.testing.assert_array_equal(np.isnan(p.numpy()), [False, True, False], err_msg=name)
