"""Regularizers: values and gradients worked by hand or in NumPy, their way into the loss of training, and bad input."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import gradcheck, nn, training
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn import regularizers

W = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -4.0]])


@pytest.mark.parametrize(
    ("regularizer", "value", "slope"),
    [
        (regularizers.L1(0.5), 0.5 * 10.5, 0.5 * np.sign(W)),
        (regularizers.L2(0.5), 0.5 * 30.25, W),
        (regularizers.L1L2(0.5, 2.0), 0.5 * 10.5 + 2 * 30.25, 0.5 * np.sign(W) + 4 * W),
        (regularizers.L1L2(), 0.0, None),
        (regularizers.get("l1"), 0.105, 0.01 * np.sign(W)),
        (regularizers.get("l2"), 0.3025, 0.02 * W),
        (regularizers.get("l1_l2"), 0.4075, 0.01 * np.sign(W) + 0.02 * W),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(regularizer, value, slope, dtype):
    w = mg.Variable(W, dtype=dtype)
    penalty = regularizer(w)
    assert penalty.shape == ()
    assert penalty.dtype == dtype
    assert penalty.item() == pytest.approx(value, rel=1e-6)
    if slope is not None:
        penalty.backward()
        np.testing.assert_allclose(w.grad.numpy(), slope, rtol=1e-6)


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_regularizer(mode):
    rows = W if mode == "rows" else W.T
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [abs(unit[i] @ unit[j]) for i in range(len(unit)) for j in range(i)]
    penalty = regularizers.OrthogonalRegularizer(0.3, mode)
    assert penalty(mg.tensor(W)).item() == pytest.approx(0.3 * np.mean(pairs), rel=1e-12)
    assert gradcheck.check(penalty, [mg.tensor(W)]).passed
    zero = mg.Variable([[0.0, 0.0], [1.0, 2.0]])
    penalty(zero).backward()
    assert np.isfinite(zero.grad.numpy()).all()
    assert penalty(mg.tensor([[1.0, 2.0]]) if mode == "rows" else mg.tensor([[1.0], [2.0]])).item() == 0


def test_layers_list_their_penalties():
    inner = nn.Dense(2, kernel_regularizer="l2", bias_regularizer="l1", bias_initializer="ones")
    model = nn.Sequential([inner, nn.Dense(3), inner])  # one that stands twice counts once
    inner.build_once((None, 2))
    square = np.sum(np.square(inner.kernel.numpy(), dtype=np.float64))
    assert [p.item() for p in model.losses] == pytest.approx([0.01 * square, 0.02])
    twin = copy.deepcopy(model)
    inner.kernel.assign(np.zeros((2, 2)))
    assert [p.item() for p in twin.losses] == pytest.approx([0.01 * square, 0.02])
    assert twin[0].kernel.regularizer is not inner.kernel.regularizer
    inner.trainable = False
    assert model.losses == []


def test_training_adds_penalties_to_the_loss():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    model = nn.Dense(2, use_bias=False, kernel_regularizer=regularizers.L2(0.25), dtype="float64")
    model(x)
    w = model.kernel.numpy().copy()
    before = training.evaluate(model, x, y, loss="mean_squared_error", metrics=(), batch_size=4)["loss"]
    expected = np.mean((x @ w - y) ** 2) + 0.25 * np.sum(w**2)
    assert before == pytest.approx(expected, rel=1e-12)
    options = {"optimizer": mg.optim.SGD(0.1), "loss": "mean_squared_error", "batch_size": 6}
    history = training.fit(model, x, y, validation_data=(x, y), progress=False, **options)
    assert history["loss"] == pytest.approx([expected], rel=1e-12)
    stepped = w - 0.1 * (2 * x.T @ (x @ w - y) / y.size + 0.5 * w)
    np.testing.assert_allclose(model.kernel.numpy(), stepped, rtol=1e-12)
    after = np.mean((x @ stepped - y) ** 2) + 0.25 * np.sum(stepped**2)
    assert history["val_loss"] == pytest.approx([after], rel=1e-12)


def test_it_keeps_weights_small():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)), rng.integers(0, 3, 50)
    plain, small = (nn.Dense(3, kernel_regularizer=r) for r in (None, regularizers.L2(1.0)))
    for model in (plain, small):
        training.fit(model, x, y, optimizer=mg.optim.SGD(0.1), epochs=5, progress=False)
    assert np.linalg.norm(small.kernel.numpy()) < 0.5 * np.linalg.norm(plain.kernel.numpy())


def test_any_function_will_do():
    layer = nn.Dense(2, kernel_regularizer=lambda w: 3.0 * w.sum(), kernel_initializer="ones")
    layer(np.zeros((1, 4), np.float32))
    assert [p.item() for p in layer.losses] == [24.0]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: regularizers.L1(-0.1), ArgumentError, "L1: l1 is -0.1, expected a number of at least 0"),
        (lambda: regularizers.L2(np.nan), ArgumentError, "L2: l2 is nan"),
        (lambda: regularizers.L1L2(l2="0.1"), ArgumentTypeError, "L1L2: l2 is '0.1', expected a number"),
        (lambda: regularizers.OrthogonalRegularizer(mode="both"), ArgumentError, "mode is 'both'"),
        (
            lambda: regularizers.OrthogonalRegularizer()(mg.tensor([1.0])),
            ShapeError,
            r"shape \(1,\), expected a matrix",
        ),
        (lambda: regularizers.get("l3"), ArgumentError, r"'l3' is unknown, expected one of \['l1', 'l1_l2', 'l2'"),
        (lambda: regularizers.get(0.1), ArgumentTypeError, "got 0.1, expected a name, a function"),
        (lambda: regularizers.get(regularizers.L2), ArgumentTypeError, "expected a name, a function"),
        (lambda: nn.Dense(2, kernel_regularizer="l3"), ArgumentError, "'l3' is unknown"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_repr():
    assert repr(regularizers.L1L2(0.5, 0.25)) == "L1L2(l1=0.5, l2=0.25)"
    assert repr(regularizers.OrthogonalRegularizer()) == "OrthogonalRegularizer(factor=0.01, mode='rows')"
