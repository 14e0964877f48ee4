"""fit: splitting data for validation, weights of samples and classes, frozen layers."""

import numpy as np
import pytest
from training_parts import assert_same, data, fit, network, values_of

import minigrad as mg
from minigrad import nn, training
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def test_validation_split_takes_the_last_samples():
    x, y = data(50)
    seen = []

    class Watch(nn.Layer):
        def call(self, z, training):
            seen.append((training, z.numpy().copy()))
            return z

    history = fit(nn.Sequential([Watch(), nn.Dense(3)]), x, y, validation_split=0.2, metrics=["accuracy"])
    trained = np.concatenate([z for training, z in seen if training])
    judged = np.concatenate([z for training, z in seen[1:] if not training])
    np.testing.assert_array_equal(judged, x[40:])
    np.testing.assert_array_equal(np.sort(trained, 0), np.sort(x[:40], 0))
    assert {"val_loss", "val_accuracy"} <= set(history.epochs)
    twin = fit(nn.Sequential([nn.Dense(3)]), x[:40], y[:40], validation_data=(x[40:], y[40:]))
    assert len(twin["val_loss"]) == 1


def test_weights_of_samples_and_classes():
    rng = np.random.default_rng(1)
    x, y, w = rng.standard_normal((12, 3)), rng.standard_normal((12, 2)), rng.random(12)
    model = nn.Dense(2, dtype="float64")
    model(x)
    kernel, bias = model.kernel.numpy().copy(), model.bias.numpy().copy()
    options = {"optimizer": mg.optim.SGD(0.1), "loss": "mean_squared_error", "batch_size": 12}
    history = fit(model, x, y, sample_weight=w, validation_data=(x, y, w), **options)
    residual = x @ kernel + bias - y
    assert history["loss"] == pytest.approx([np.mean(w[:, None] * residual**2)], rel=1e-12)
    ct = 2 * w[:, None] * residual / residual.size
    np.testing.assert_allclose(model.kernel.numpy(), kernel - 0.1 * x.T @ ct, rtol=1e-12)
    after = x @ model.kernel.numpy() + model.bias.numpy() - y
    assert history["val_loss"] == pytest.approx([np.mean(w[:, None] * after**2)], rel=1e-12)
    scores = training.evaluate(model, x, y, loss="mean_squared_error", metrics=(), sample_weight=w, batch_size=5)
    assert scores["loss"] == pytest.approx(history["val_loss"][0], rel=1e-12)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights_are_weights_of_their_samples(one_hot):
    x, y = data(50)
    factors = {0: 2.0, 2: 0.25}
    w = np.array([factors.get(label, 1.0) for label in y])
    targets = np.eye(3, dtype=np.float32)[y] if one_hot else y
    model, twin = network(dropout=0.0), network(dropout=0.0)
    half = np.full(50, 0.5)
    fit(model, x, targets, class_weight=factors, sample_weight=half, epochs=2)
    fit(twin, x, targets, sample_weight=0.5 * w, epochs=2)
    for a, b in zip(values_of(model), values_of(twin)):
        np.testing.assert_array_equal(a, b)
    other = network(dropout=0.0)
    fit(other, x, targets, epochs=2)
    assert any((a != b).any() for a, b in zip(values_of(other), values_of(twin)))


def test_equal_weights_change_nothing():
    x, y = data()
    plain = fit(network(), x, y, epochs=2).losses
    np.testing.assert_allclose(fit(network(), x, y, epochs=2, sample_weight=np.ones(50)).losses, plain, rtol=1e-5)


def test_frozen_layers_get_no_gradients():
    x, y = data()
    model = network(norm=False)
    model(x)
    model[0].trainable = False
    before = values_of(model[0])
    fit(model, x, y, epochs=2)
    assert_same(before, values_of(model[0]))
    assert model[0].kernel.grad is None
    twin = network(norm=False)
    twin(x)
    twin[0].trainable = False
    fit(twin, x, y, epochs=2)
    assert_same(values_of(twin), values_of(model))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"validation_split": 1.0}, ArgumentError, r"validation_split is 1.0, expected a number in \[0, 1\)"),
        ({"validation_split": 0.99}, ShapeError, "validation_split 0.99 of 50 samples leaves none on one side"),
        ({"validation_split": 0.1, "validation_data": data()}, ArgumentError, "both validation_data and"),
        ({"sample_weight": np.ones(49)}, ShapeError, r"sample_weight has shape \(49,\), expected \(50,\)"),
        ({"sample_weight": np.ones((50, 3))}, ShapeError, r"sample_weight has shape \(8, 3\)"),
        ({"class_weight": [1.0, 2.0]}, ArgumentTypeError, "class_weight is list, expected a dict"),
        (
            {"class_weight": {0: 2.0}, "loss": lambda z, t: z.mean()},
            ArgumentTypeError,
            "takes no weights of samples as a third argument",
        ),
    ],
)
def test_bad_splits_and_weights(options, error, match):
    x, y = data()
    with pytest.raises(error, match=match):
        fit(network(), x, y, **options)
