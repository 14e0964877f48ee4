"""Training on bad input and on numbers that are not finite: an error that names it, and nothing has changed."""

import copy

import numpy as np
import pytest
from training_parts import assert_same, data, fit, network, values_of

import minigrad as mg
from minigrad import nn, training
from minigrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradientError,
    IndexRangeError,
    ShapeError,
    TrainingError,
)

X, Y = data()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"y": Y[:-1]}, ShapeError, r"fit: x has shape \(50, 6\) and y \(49,\), expected the same length"),
        ({"x": 3.0}, ShapeError, r"fit: x has shape \(\)"),
        ({"x": np.array([["a"]] * 50)}, DTypeError, "fit: x has dtype <U1, expected real numbers"),
        ({"x": X * 1j}, DTypeError, "fit: x has dtype complex"),
        ({"y": np.array([None] * 50)}, DTypeError, "fit: y has dtype object"),
        ({"x": X[:, :5]}, ShapeError, r"sequential: item 0 \(dense\) got shape \(1, 5\)"),
        ({"y": Y + 3}, IndexRangeError, r"labels\[0\] is \d, expected 0 to 2"),
        ({"y": Y.astype(float)}, DTypeError, "labels has dtype float32, expected integers"),
        ({"y": np.stack([Y, Y], 1)}, ShapeError, r"labels has shape \(8, 2\)"),
        ({"epochs": -1}, ArgumentError, "fit: epochs is -1"),
        ({"epochs": 1.5}, ArgumentTypeError, "fit: epochs is 1.5"),
        ({"batch_size": 0}, ArgumentError, "batch_size is 0"),
        ({"batch_size": "8"}, ArgumentTypeError, "batch_size is '8'"),
        ({"max_steps": -3}, ArgumentError, "fit: max_steps is -3"),
        ({"seed": -1}, ArgumentError, "seed is -1"),
        ({"seed": "a"}, ArgumentTypeError, "fit: seed is 'a'"),
        ({"callbacks": [3]}, ArgumentTypeError, "fit: callbacks holds 3, expected Callbacks"),
        ({"loss": "mse"}, ArgumentError, "loss: 'mse' is unknown"),
        ({"loss": lambda z, t: z}, ShapeError, r"fit: the loss has shape \(8, 3\), expected one number"),
        ({"loss": lambda z, t: 1.0}, ArgumentTypeError, "fit: the loss function returned float, expected a Tensor"),
        ({"metrics": ["auc"]}, ArgumentError, "metric: 'auc' is unknown"),
        ({"metrics": ["accuracy", "accuracy"]}, ArgumentError, "metrics has the names .*, expected each once"),
        ({"metrics": ["mean_absolute_error"]}, ShapeError, "mean_absolute_error: targets have shape"),
        ({"optimizer": "sgd"}, ArgumentTypeError, "fit: optimizer is 'sgd', expected"),
        ({"optimizer": mg.optim.SGD}, ArgumentTypeError, "fit: optimizer is <class"),
        ({"model": lambda z: z}, ArgumentTypeError, "fit: model is function, expected a Layer"),
        ({"validation_data": X}, ArgumentTypeError, "fit: validation_data is ndarray, expected a pair"),
        ({"validation_data": (X, Y[:3])}, ShapeError, "x of validation_data has shape .* and y of validation_data"),
        ({"resume": True}, ArgumentError, "fit: resume needs save_to"),
        (
            {"save_to": "/no/such/folder/state"},
            ArgumentError,
            "fit: save_to is '/no/such/folder/state', but the folder /no/such",
        ),
        ({"save_to": "/tmp"}, ArgumentError, "fit: save_to is '/tmp', a folder"),
    ],
)
def test_bad_input(options, error, match):
    model, optimizer = network(dropout=0.0, norm=False), mg.optim.SGD(0.1, momentum=0.9)
    model(X)
    optimizer.build(model.trainable_variables)
    before = values_of(model, optimizer)
    call = {"model": model, "x": X, "y": Y, "optimizer": optimizer, "batch_size": 8, "progress": False, **options}
    with pytest.raises(error, match=match):
        training.fit(call.pop("model"), call.pop("x"), call.pop("y"), **call)
    assert_same(before, values_of(model, optimizer))
    assert all(v.grad is None for v in model.trainable_variables)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: training.evaluate(m, X, Y[:3]), ShapeError, "evaluate: x has shape"),
        (lambda m: training.evaluate(m, X, Y, batch_size=0), ArgumentError, "evaluate: batch_size is 0"),
        (lambda m: training.evaluate(m, X, Y, loss=lambda z, t: z), ShapeError, "evaluate: the loss has shape"),
        (lambda m: training.predict(m, X, batch_size=-1), ArgumentError, "predict: batch_size is -1"),
        (lambda m: training.predict(m, 3.0), ShapeError, r"predict: x has shape \(\)"),
        (lambda m: training.evaluate(3, X, Y), ArgumentTypeError, "evaluate: model is int, expected a Layer"),
        (lambda m: training.predict("m", X), ArgumentTypeError, "predict: model is str, expected a Layer"),
    ],
)
def test_bad_input_of_evaluate_and_predict(call, error, match):
    with pytest.raises(error, match=match):
        call(network())


def test_another_models_optimizer():
    x, y = data()
    optimizer = mg.optim.SGD(0.1)
    fit(network(), x, y, optimizer)
    with pytest.raises(GradientError, match="SGD: was built for 6 Variables and got others"):
        fit(network(), x, y, optimizer)


def test_a_loss_that_is_not_finite_keeps_the_parameters():
    x, y = data()
    x[13] = np.nan
    model, optimizer = network(norm=False), mg.optim.Adam(0.01)
    order = [xb for xb, _ in mg.data.batches(x, y, 8, seed=0)]
    bad = next(i for i, xb in enumerate(order) if np.isnan(xb).any())
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    fit(twin, x, y, twin_optimizer, max_steps=bad)
    with pytest.raises(TrainingError, match=f"the loss is nan at step {bad + 1} .epoch 1.; .* x holds a NaN") as caught:
        fit(model, x, y, optimizer)
    assert caught.value.step == bad + 1
    assert len(caught.value.history.losses) == bad
    assert_same(values_of(twin, twin_optimizer), values_of(model, optimizer))
    assert all(np.isfinite(v).all() for v in values_of(model))


def test_a_diverging_run_says_so():
    x, _ = data()
    model = nn.Sequential([nn.Dense(8), nn.Dense(8), nn.Dense(1)])
    with pytest.raises(TrainingError, match=r"A smaller learning rate than 1e\+06 or clip_norm may help") as caught:
        fit(model, x, x[:, :1], mg.optim.SGD(1e6), loss="mean_squared_error", epochs=50)
    assert caught.value.step > 1
    assert all(np.isfinite(v).all() for v in values_of(model))


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_gradient_that_is_not_finite_keeps_the_parameters(size):
    w = np.ones((1, size), np.float32)
    w[0, size // 2] = 0.0  # where the square root has an infinite slope
    model = nn.Dense(size, use_bias=False, kernel_initializer=lambda shape, dtype, generator: w)
    x = np.ones((4, 1), np.float32)
    with pytest.raises(TrainingError, match="the gradient of dense/kernel is not finite at step 1"):
        fit(model, x, x, loss=lambda z, t: mg.sqrt(mg.absolute(z)).mean())
    np.testing.assert_array_equal(model.kernel.numpy(), w)
    assert model.kernel.grad is None


def test_a_large_gradient_is_finite():
    model = nn.Dense(2, use_bias=False, kernel_initializer="ones")
    x = np.ones((4, 1), np.float32)
    fit(model, x, x, mg.optim.SGD(1e-30), loss=lambda z, t: (z * 1e25).mean())  # its square overflows
    assert (model.kernel.numpy() < 1).all()


def test_a_metric_that_fails_does_so_before_the_step():
    x, y = data()
    model, optimizer = network(), mg.optim.SGD(0.1)

    def broken(outputs, targets):
        return 1 / 0

    model(x)
    before = [v.numpy().copy() for v in model.trainable_variables]
    with pytest.raises(ZeroDivisionError):
        fit(model, x, y, optimizer, metrics=[broken])
    assert_same(before, [v.numpy() for v in model.trainable_variables])
    assert optimizer.steps.item() == 0
