"""fit, evaluate and predict: the steps against NumPy, order, stopping, callbacks, output, memory and threads."""

import gc
import math
import sys
import threading

import numpy as np
import pytest
from training_parts import assert_same, data, fit, network, values_of

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn, training
from minigrad.errors import ArgumentError, GradientError, ShapeError

# What it computes


def test_linear_regression_step_by_step():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    model = nn.Sequential([nn.Dense(2, dtype="float64")])
    model(x)
    w, b = (v.numpy().copy() for v in model.variables.values())
    history = fit(
        model,
        x,
        y,
        optimizer=mg.optim.SGD(0.1),
        loss="mean_squared_error",
        batch_size=4,
        epochs=2,
        shuffle=False,
        metrics=["mean_absolute_error"],
    )
    losses, errors = [], []
    for _ in range(2):
        for low in (0, 4, 8):
            xb, yb = x[low : low + 4], y[low : low + 4]
            residual = xb @ w + b - yb
            losses.append((residual**2).mean())
            errors.append((np.abs(residual).mean(), len(xb)))
            ct = 2 * residual / residual.size
            w, b = w - 0.1 * xb.T @ ct, b - 0.1 * ct.sum(0)
    np.testing.assert_allclose(model[0].kernel.numpy(), w, rtol=1e-12)
    np.testing.assert_allclose(model[0].bias.numpy(), b, rtol=1e-12)
    np.testing.assert_allclose(history.losses, losses, rtol=1e-12)
    weights = np.array([4, 4, 2])
    np.testing.assert_allclose(history["loss"], (np.reshape(losses, (2, 3)) * weights).sum(1) / 10, rtol=1e-12)
    errors = np.reshape([e * n for e, n in errors], (2, 3)).sum(1) / 10
    np.testing.assert_allclose(history["mean_absolute_error"], errors, rtol=1e-12)
    assert history.seconds > 0
    assert history.steps_per_second == 6 / history.seconds
    assert set(history.epochs) == {"loss", "mean_absolute_error", "seconds", "steps_per_second"}


def test_it_learns_and_validates():
    x, y = data(200)
    history = fit(network(), x, y, epochs=8, metrics=["accuracy"], validation_data=data(80, seed=1))
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.85
    assert [len(v) for v in history.epochs.values()] == [8] * 6
    assert set(history.epochs) >= {"val_loss", "val_accuracy", "accuracy"}


def test_validation_is_evaluate():
    x, y = data()
    model = network()
    history = fit(model, x, y, epochs=2, metrics="accuracy", validation_data=(x, y))
    scores = training.evaluate(model, x, y)
    assert history["val_loss"][-1] == scores["loss"]
    assert history["val_accuracy"][-1] == scores["accuracy"]


def test_the_seed_fixes_the_order():
    x, y = data()
    runs = {seed: fit(network(norm=False), x, y, epochs=2, seed=seed).losses for seed in (0, 1)}
    assert fit(network(norm=False), x, y, epochs=2, seed=0).losses == runs[0]
    assert runs[0] != runs[1]
    assert fit(network(norm=False), x, y, epochs=2, shuffle=False).losses != runs[0]


def test_every_epoch_has_an_order_of_its_own():
    x, y = data()
    seen = []

    class Watch(nn.Layer):
        def call(self, z, training):
            if training:
                seen.append(z.numpy().copy())
            return z

    fit(nn.Sequential([Watch(), nn.Dense(3)]), x, y, epochs=2, seed=5)
    wanted = [xb for epoch in (0, 1) for xb, _ in mg.data.batches(x, y, 8, seed=5, epoch=epoch)]
    assert_same(wanted, seen)
    assert (seen[0] != seen[7]).any()


def test_floats_are_cast_to_the_models_dtype_and_integers_stay():
    x, y = data()
    seen = []

    def watch(z):
        seen.append(z.dtype)
        return z

    model = nn.Sequential([watch, nn.Dense(3)])
    fit(model, x.astype(np.float64), y, max_steps=1)
    fit(model, (4 * x).astype(np.int16), y, max_steps=1)
    training.predict(model, x.astype(np.float64))
    assert set(map(str, seen)) == {"float32", "int16"}
    assert training.predict(model, (4 * x).astype(np.int16)).dtype == np.float32
    wide = nn.Sequential([watch, nn.Dense(1, dtype="float64")])
    seen.clear()
    fit(wide, x, x[:, :1], loss="mean_squared_error", max_steps=1)
    assert set(map(str, seen)) == {"float64"}


def test_lists_tensors_and_strided_arrays():
    x, y = data()
    expected = fit(network(), x, y).losses
    wide = np.zeros((50, 12), np.float32)
    wide[:, ::2] = x
    assert fit(network(), wide[:, ::2], y).losses == expected
    assert fit(network(), mg.tensor(x), mg.tensor(y)).losses == expected
    assert fit(network(), x.tolist(), y.tolist()).losses == expected


def test_drop_last():
    x, y = data(17)
    assert len(fit(network(), x[:16], y[:16]).losses) == 2
    assert len(fit(network(), x, y, drop_last=True, epochs=2).losses) == 4
    with pytest.raises(ArgumentError, match="one value a channel"):
        fit(network(), x, y)


def test_gradients_left_by_others_are_not_used():
    x, y = data()
    model, twin = network(dropout=0.0), network(dropout=0.0)
    model(x), twin(x)
    nn.losses.softmax_cross_entropy(model(x), y).backward()
    fit(model, x, y, max_steps=3)
    fit(twin, x, y, max_steps=3)
    assert_same(values_of(model), values_of(twin))
    assert all(v.grad is None for v in model.trainable_variables)


def test_frozen_layers_stay():
    x, y = data()
    model = network()
    model(x)
    model[0].trainable = False
    before = values_of(model[0])
    fit(model, x, y)
    assert_same(before, values_of(model[0]))
    model[-1].trainable = model[2].trainable = False
    with pytest.raises(GradientError, match="fit: sequential has no trainable Variables"):
        fit(model, x, y)


# Where it stops


def test_epochs_and_max_steps():
    x, y = data()  # 7 batches
    assert fit(network(), x, y, epochs=0).losses == []
    assert fit(network(), x, y, max_steps=0).losses == []
    history = fit(network(), x, y, epochs=np.int64(3), max_steps=9)
    assert len(history.losses) == 9
    assert len(history["loss"]) == 1
    assert len(fit(network(), x, y, epochs=5, max_steps=14)["loss"]) == 2


class Recorder(training.Callback):
    def __init__(self, stop_at=None, stop_after_epoch=None):
        self.stop_at, self.stop_after_epoch = stop_at, stop_after_epoch
        self.steps, self.epochs = [], []

    def on_step_end(self, step, values):
        self.steps.append((step, dict(values)))
        self.history.curves.setdefault("twice", []).append([step, 2 * values["loss"]])
        self.stop = self.stop or step == self.stop_at

    def on_epoch_end(self, epoch, values):
        self.epochs.append((epoch, dict(values)))
        self.stop = self.stop or epoch == self.stop_after_epoch


def test_callbacks_are_told_and_can_stop():
    x, y = data()
    recorder = Recorder()
    history = fit(network(), x, y, epochs=2, metrics=["accuracy"], callbacks=[training.Callback(), recorder])
    assert recorder.history is history
    assert [step for step, _ in recorder.steps] == list(range(1, 15))
    assert [values["loss"] for _, values in recorder.steps] == history.losses
    assert set(recorder.steps[0][1]) == {"loss", "accuracy"}
    assert [(epoch, values["loss"]) for epoch, values in recorder.epochs] == list(enumerate(history["loss"], 1))
    assert history.curves["twice"][3] == [4, 2 * history.losses[3]]
    within = Recorder(stop_at=9)
    assert len(fit(network(), x, y, epochs=5, callbacks=[within]).losses) == 9
    assert len(within.epochs) == 1
    assert len(fit(network(), x, y, epochs=5, callbacks=[Recorder(stop_after_epoch=2)]).losses) == 14


def test_a_callback_can_change_the_learning_rate():
    x, y = data()
    optimizer = mg.optim.SGD(0.1)

    class Halve(training.Callback):
        def on_epoch_end(self, epoch, values):
            optimizer.lr.assign(optimizer.lr.item() / 2)

    fit(network(), x, y, optimizer, epochs=3, callbacks=[Halve()])
    assert optimizer.lr.item() == 0.0125


# What it prints


def test_without_progress_it_is_silent(capfd):
    x, y = data()
    fit(network(), x, y, epochs=2, validation_data=(x, y), metrics=["accuracy"])
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr(capfd):
    x, y = data()
    fit(network(), x, y, epochs=2, validation_data=(x, y), metrics=["accuracy"], progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 1/2" in err
    assert "/7 " in err
    last = err.strip().splitlines()[-1]
    assert "epoch 2/2  loss " in last
    assert "val_accuracy" in last
    assert "steps/s" in last


# evaluate and predict


def test_evaluate_weighs_batches_by_their_size():
    x, y = data(25)
    model = network()
    outputs = model(x)
    loss = nn.losses.softmax_cross_entropy(outputs, y).item()
    accuracy = nn.metrics.accuracy(outputs.numpy(), y)
    for batch_size in (1, 7, 25, 100):
        scores = training.evaluate(model, x, y, batch_size=batch_size)
        assert scores["loss"] == pytest.approx(loss, rel=1e-5)
        assert scores["accuracy"] == pytest.approx(accuracy)
    scores = training.evaluate(
        model, x, np.eye(3)[y], loss=lambda z, t: (z * t).sum(), metrics=[lambda z, t: float(z.sum())], batch_size=25
    )
    np.testing.assert_allclose(scores["loss"], (outputs.numpy() * np.eye(3)[y]).sum(), rtol=1e-5)
    np.testing.assert_allclose(scores["<lambda>"], outputs.numpy().sum(), rtol=1e-5)


def test_predict():
    x, _ = data(25)
    model = network()
    expected = model(x).numpy()
    for batch_size in (4, 25, 1000):
        np.testing.assert_allclose(training.predict(model, x, batch_size=batch_size), expected, rtol=1e-5, atol=1e-6)


def test_evaluate_and_predict_leave_everything_as_it_was():
    x, y = data()
    model = network()
    model(x)
    before, state = values_of(model), model.generator.get_state()
    training.evaluate(model, x, y)
    training.predict(model, x)
    assert_same(before, values_of(model))
    assert model.generator.get_state() == state
    assert all(v.grad is None for v in model.trainable_variables)


def test_without_samples():
    x, y = data()
    model = network()
    assert training.predict(model, x[:0]).shape == (0, 3)
    scores = training.evaluate(model, x[:0], y[:0])
    assert math.isnan(scores["loss"])
    assert math.isnan(scores["accuracy"])
    history = fit(model, x, y, validation_data=(x[:0], y[:0]))
    assert math.isnan(history["val_loss"][0])
    with pytest.raises(ShapeError, match=r"fit: x has shape \(0, 6\), which makes no batch"):
        fit(model, x[:0], y[:0])
    with pytest.raises(ShapeError, match=r"fit: x has shape \(5, 6\), which makes no batch of 8"):
        fit(model, x[:5], y[:5], drop_last=True)


# Memory and threads


@pytest.mark.parametrize("kind", ["plain", "norm and dropout"])
def test_memory_stays_flat_without_the_garbage_collector(kind):
    x, y = data(4100 * 8)
    model = network(norm=kind != "plain", dropout=0.0 if kind == "plain" else 0.3)
    blocks = {}

    class Measure(training.Callback):
        def on_step_end(self, step, values):
            if step in (2100, 4100):  # by then Python's free lists, of up to 2000 objects of a size, are full
                blocks[step] = sys.getallocatedblocks()

    gc.collect()
    gc.disable()
    try:
        fit(model, x, y, mg.optim.Adam(0.001), callbacks=[Measure()])
    finally:
        gc.enable()
    # The History keeps one float a step; a leaked tensor would be several objects.
    assert blocks[4100] - blocks[2100] < 1.1 * 2000


def test_two_threads_train_as_one_after_the_other():
    x, y = data(200)

    def run(seed, results):
        model, optimizer = network(seed), mg.optim.SGD(0.05, momentum=0.9)
        history = fit(model, x, y, optimizer, epochs=6, seed=seed, metrics=["accuracy"])
        results[seed] = (history.losses, values_of(model, optimizer))

    alone, together = {}, {}
    for seed in (1, 2):
        run(seed, alone)
    threads = [threading.Thread(target=run, args=(seed, together)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        assert together[seed][0] == alone[seed][0]
        assert_same(alone[seed][1], together[seed][1])


def test_drawn_digits_are_learned():
    (x, y), (x_test, y_test) = mg.data.glyph_dataset(3000, 600, seed=1)
    # 14 x 14 pixels keep the products below the size from which BLAS uses threads, slow on a busy machine.
    x, x_test = (a.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196) / 255 for a in (x, x_test))
    hidden = [layer for _ in range(2) for layer in (nn.Dense(32), norms.BatchNormalization(momentum=0.9), mg.relu)]
    model = nn.Sequential([*hidden, nn.Dense(10)])
    model.set_generator(mg.random.Generator(0))
    fit(model, x, y, mg.optim.SGD(0.1, momentum=0.9), batch_size=40, epochs=8)
    assert training.evaluate(model, x_test, y_test, batch_size=40)["accuracy"] > 0.9
