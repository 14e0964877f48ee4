"""Losses: values against NumPy, gradients against central differences, extremes, and bad input."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, ShapeError
from minigrad.nn import losses


def reference(name, outputs, targets):
    z, t = outputs.astype(np.float64), np.asarray(targets) * 1
    if name == "softmax_cross_entropy":
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        if t.ndim < z.ndim:
            return np.mean([-np.log(row[label]) for row, label in zip(p, t)])
        return np.mean(-np.sum(t * np.log(p), -1))
    if name == "mean_squared_error":
        return np.mean((z - t) ** 2)
    if name == "mean_absolute_error":
        return np.mean(np.abs(z - t))
    if name == "sigmoid_cross_entropy":
        z = 1 / (1 + np.exp(-z))
    if name in ("sigmoid_cross_entropy", "binary_cross_entropy"):
        return np.mean(-t * np.log(z) - (1 - t) * np.log(1 - z))
    if name == "cross_entropy" and t.ndim < 2:
        t = np.eye(3)[t]
    e, norm = z - t, np.linalg.norm
    signs = np.where(t == 0, -1, t)
    return {
        "cross_entropy": lambda: np.mean(-np.sum(t * np.log(z / z.sum(-1, keepdims=True)), -1)),
        "mean_absolute_percentage_error": lambda: 100 * np.mean(np.abs(e / t)),
        "mean_squared_logarithmic_error": lambda: np.mean((np.log(1 + z) - np.log(1 + t)) ** 2),
        "huber": lambda: np.mean(np.where(abs(e) <= 1, e**2 / 2, abs(e) - 0.5)),
        "log_cosh": lambda: np.mean(np.log(np.cosh(e))),
        "hinge": lambda: np.mean(np.maximum(1 - signs * z, 0)),
        "squared_hinge": lambda: np.mean(np.maximum(1 - signs * z, 0) ** 2),
        "categorical_hinge": lambda: np.mean(
            [max(0, 1 + max(0, *row[label == 0]) - row[label == 1][0]) for row, label in zip(z, t)]
        ),
        "kl_divergence": lambda: np.mean(np.sum(t * np.log(t / z), -1)),
        "poisson": lambda: np.mean(z - t * np.log(z + 1e-7)),
        "cosine_similarity": lambda: np.mean([-np.dot(a, b) / norm(a) / norm(b) for a, b in zip(z, t)]),
    }[name]()


def cases(rng):
    z = rng.standard_normal((5, 3))
    soft = rng.random((5, 3))
    yield "softmax_cross_entropy", z, rng.integers(0, 3, 5)
    yield "softmax_cross_entropy", z, rng.integers(0, 3, 5).astype(np.uint8)
    yield "softmax_cross_entropy", z, soft / soft.sum(-1, keepdims=True)
    for name in ("mean_squared_error", "mean_absolute_error"):
        yield name, z, rng.standard_normal((5, 3))
        yield name, z[:, 0], rng.integers(-3, 4, 5)
    yield "sigmoid_cross_entropy", z, rng.random((5, 3))
    yield "sigmoid_cross_entropy", z, rng.random((5, 3)) < 0.5
    p, t = 0.1 + 0.8 * rng.random((5, 3)), 0.1 + 0.8 * rng.random((5, 3))
    yield "cross_entropy", p, rng.integers(0, 3, 5)
    yield "cross_entropy", p, np.eye(3)[rng.integers(0, 3, 5)]
    yield "binary_cross_entropy", p, t
    yield "binary_cross_entropy", p[:, 0], t[:, 0] < 0.5
    for name in ("mean_absolute_percentage_error", "mean_squared_logarithmic_error", "kl_divergence", "poisson"):
        yield name, p, t
    for name in ("huber", "log_cosh", "cosine_similarity"):
        yield name, 3 * z, rng.standard_normal((5, 3))
    for name in ("hinge", "squared_hinge"):
        yield name, z, rng.integers(0, 2, (5, 3))
        yield name, z, 2 * rng.integers(0, 2, (5, 3)) - 1
    yield "categorical_hinge", z, np.eye(3)[rng.integers(0, 3, 5)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(dtype):
    for name, z, t in cases(np.random.default_rng(0)):
        outputs = mg.tensor(z.astype(dtype), requires_grad=True)
        loss = losses.get(name)(outputs, mg.tensor(t))
        assert loss.shape == ()
        assert loss.dtype == dtype
        rtol = 1e-6 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(loss.item(), reference(name, z.astype(dtype), t), rtol=rtol)
        loss.backward()
        if dtype == "float64":
            for at in np.ndindex(z.shape):
                step = np.zeros_like(z)
                step[at] = 1e-6
                slope = (reference(name, z + step, t) - reference(name, z - step, t)) / 2e-6
                np.testing.assert_allclose(outputs.grad.numpy()[at], slope, rtol=1e-6, atol=1e-9)


def test_every_loss_is_compared():
    assert {name for name, _, _ in cases(np.random.default_rng(0))} == set(losses.LOSSES)


def test_weights_of_samples():
    rng = np.random.default_rng(2)
    for name, z, t in cases(rng):
        z, t = mg.tensor(z), np.asarray(t)
        w = rng.random(5)
        each = [losses.get(name)(z[i : i + 1], t[i : i + 1]).item() for i in range(5)]
        found = losses.get(name)(z, t, w).item()
        assert found == pytest.approx(np.mean(w * each), rel=1e-12)
        assert losses.get(name)(z, t, np.ones(5)).item() == pytest.approx(losses.get(name)(z, t).item(), rel=1e-12)
    z = mg.tensor(np.ones((2, 3)))
    full = losses.mean_squared_error(z, np.zeros((2, 3)), np.arange(6).reshape(2, 3))
    assert full.item() == 2.5
    with pytest.raises(
        ShapeError, match=r"mean_squared_error: sample_weight has shape \(3,\), expected leading axes of"
    ):
        losses.mean_squared_error(z, np.zeros((2, 3)), np.ones(3))


def test_extreme_probabilities_stay_finite():
    p = mg.tensor(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), requires_grad=True)
    hard = losses.cross_entropy(p, mg.tensor([1, 1])) + losses.binary_cross_entropy(p, mg.tensor([[0, 1], [0, 1]]))
    assert 4 < hard.item() < 40
    hard.backward()
    assert np.isfinite(p.grad.numpy()).all()
    big = losses.log_cosh(mg.tensor([1e4, -1e4]), mg.tensor([0.0, 0.0]))
    assert big.item() == pytest.approx(1e4 - np.log(2))


def test_targets_may_be_arrays_and_lists():
    outputs = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert losses.mean_squared_error(outputs, np.zeros((2, 2))).item() == pytest.approx(39 / 4)
    assert losses.mean_absolute_error(outputs, [[0, 0], [0, 0]]).item() == pytest.approx(11 / 4)
    assert losses.softmax_cross_entropy(outputs, np.array([1, 1])).item() == pytest.approx(0.22009485)


def test_large_logits_stay_finite():
    z = mg.tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), requires_grad=True)
    hard = losses.sigmoid_cross_entropy(z, mg.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert hard.item() == 1e4 / 2
    hard.backward()
    np.testing.assert_array_equal(z.grad.numpy(), np.array([[0, 0], [-0.25, 0.25]], np.float32))
    assert losses.softmax_cross_entropy(z, mg.tensor([0, 0])).item() == 1e4


def test_nan_in_is_nan_out():
    z = mg.tensor([[np.nan, 1.0], [0.0, 1.0]])
    assert np.isnan(losses.softmax_cross_entropy(z, mg.tensor([0, 1])).item())
    for name in ("mean_squared_error", "mean_absolute_error", "sigmoid_cross_entropy"):
        assert np.isnan(losses.get(name)(z, mg.tensor([[0.0, 1.0], [0.0, 1.0]])).item())


def test_get():
    assert losses.get("mean_squared_error") is losses.mean_squared_error
    assert losses.get(len) is len


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: losses.cross_entropy(mg.tensor(np.ones((2, 3))), np.array([[0], [1]])),
            ShapeError,
            r"cross_entropy: labels have shape \(2, 1\), expected \(2,\) or \(2, 3\)",
        ),
        (
            lambda: losses.cross_entropy(mg.tensor(np.ones((2, 3))), np.array([0.0, 1.0])),
            DTypeError,
            "cross_entropy: labels have dtype float64, expected integers",
        ),
        (lambda: losses.get("mse"), ArgumentError, "'mse' is unknown, expected one of .*'mean_squared_error'"),
        (lambda: losses.get(None), ArgumentTypeError, "got None"),
        (
            lambda: losses.mean_squared_error(mg.tensor(np.zeros((4, 1))), np.zeros(4)),
            ShapeError,
            r"mean_squared_error: targets have shape \(4,\), expected \(4, 1\)",
        ),
        (
            lambda: losses.mean_absolute_error(mg.tensor(np.zeros((4, 3))), np.zeros(3)),
            ShapeError,
            r"mean_absolute_error: targets have shape \(3,\), expected \(4, 3\)",
        ),
        (
            lambda: losses.sigmoid_cross_entropy(mg.tensor(np.zeros(4)), np.zeros((4, 1))),
            ShapeError,
            r"sigmoid_cross_entropy: targets have shape \(4, 1\), expected \(4,\)",
        ),
        (
            lambda: losses.softmax_cross_entropy(mg.tensor(np.zeros((2, 3))), np.array([0, 3])),
            IndexRangeError,
            r"labels\[1\] is 3, expected 0 to 2 for 3 classes",
        ),
        (
            lambda: losses.softmax_cross_entropy(mg.tensor(np.zeros((2, 3))), np.array([-1, 2])),
            IndexRangeError,
            r"labels\[0\] is -1",
        ),
        (
            lambda: losses.softmax_cross_entropy(mg.tensor(np.zeros((2, 3))), np.array([0.0, 1.0])),
            DTypeError,
            "labels has dtype float64, expected integers",
        ),
        (
            lambda: losses.softmax_cross_entropy(mg.tensor(np.zeros((2, 3))), np.array([[0], [1]])),
            ShapeError,
            r"labels has shape \(2, 1\)",
        ),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
