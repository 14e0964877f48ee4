"""Callbacks: when they are told what, and what those of the house do, by hand-made curves of values."""

import csv
import math

import numpy as np
import pytest
from training_parts import data, fit, network, values_of

import minigrad as mg
from minigrad import training
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.training import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)


def play(callback, values, name="val_loss", model=None, lr=1.0):
    """Tell a callback of epochs with these values, until it stops; the rates after each."""
    callback.history, callback.model, callback.optimizer = History(), model or network(), mg.optim.SGD(lr)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values, 1):
        callback.on_epoch_begin(epoch)
        callback.history.add(**{name: value})
        callback.on_epoch_end(epoch, {"loss": 1.0, name: value})
        rates.append(callback.optimizer.lr.item())
        if callback.stop:
            break
    callback.on_train_end()
    return rates


def test_the_order_of_calls():
    told = []

    class Tell(Callback):
        def on_train_begin(self):
            told.append(("begin", len(self.history.losses), self.model is model, self.optimizer is sgd))

        def on_epoch_begin(self, epoch):
            told.append(("epoch", epoch))

        def on_step_end(self, step, values):
            told.append(("step", step, sorted(values)))

        def on_epoch_end(self, epoch, values):
            told.append(("end", epoch, set(values) >= {"loss", "accuracy", "val_loss"}))

        def on_train_end(self):
            told.append(("over",))

    x, y = data(16)
    model, sgd = network(), mg.optim.SGD(0.1)
    fit(model, x, y, optimizer=sgd, epochs=2, callbacks=[Tell()], metrics=["accuracy"], validation_data=(x, y))
    step = ["accuracy", "loss"]
    assert told == [
        ("begin", 0, True, True),
        *[("epoch", 1), ("step", 1, step), ("step", 2, step), ("end", 1, True)],
        *[("epoch", 2), ("step", 3, step), ("step", 4, step), ("end", 2, True)],
        ("over",),
    ]


@pytest.mark.parametrize(
    ("options", "values", "stopped", "best"),
    [
        ({}, [3, 2, 2.5, 1], 3, 2),
        ({"patience": 2}, [3, 2, 2.5, 1, 1.5, 1.6, 0], 6, 4),
        ({"patience": 2}, [3, 2, 1], 0, 3),
        ({"min_delta": 0.5}, [3, 2.4, 2.0], 3, 2),
        ({"mode": "max"}, [1, 2, 1.5, 3], 3, 2),
        ({"monitor": "val_accuracy"}, [0.1, 0.5, 0.4], 3, 2),
        ({"monitor": "val_accuracy", "mode": "min"}, [0.1, 0.5], 2, 1),
        ({"baseline": 2.0, "patience": 2}, [3, 2.5, 1], 2, 0),
        ({"start_from_epoch": 2}, [1, 5, 6, 5.5, 5.7], 5, 4),
        ({}, [math.nan, math.nan], 1, 0),
    ],
)
def test_early_stopping(options, values, stopped, best):
    callback = EarlyStopping(**options)
    play(callback, values, options.get("monitor", "val_loss"))
    assert (callback.stopped_epoch, callback.best_epoch) == (stopped, best)
    assert callback.stop is bool(stopped)
    play(callback, values[:1], options.get("monitor", "val_loss"))
    assert callback.stopped_epoch == (1 if stopped == 1 else 0)  # a second run begins anew


def test_early_stopping_restores_the_best_weights():
    x, y = data()
    seen = []

    class Keep(Callback):
        def on_epoch_end(self, epoch, values):
            seen.append((values["val_loss"], values_of(self.model)))

    stop = EarlyStopping(patience=2, restore_best_weights=True)
    model = network()
    other = data(30, seed=3)[0], data(30, seed=4)[1]  # nothing to be learnt: it gets worse soon
    fit(model, x, y, epochs=40, validation_data=other, callbacks=[Keep(), stop])
    assert 3 <= stop.stopped_epoch == len(seen) < 40
    best = min(range(len(seen)), key=lambda i: seen[i][0])
    assert stop.best_epoch == best + 1 == stop.stopped_epoch - 2
    for value, kept, last in zip(values_of(model), seen[best][1], seen[-1][1]):
        np.testing.assert_array_equal(value, kept)
        assert last.shape == kept.shape
    assert any((a != b).any() for a, b in zip(seen[best][1], seen[-1][1]))


def test_early_stopping_counts_on_after_a_resume(tmp_path):
    x, y = data()

    class Script(Callback):
        """Takes the place of the loss."""

        def on_epoch_end(self, epoch, values):
            self.history.epochs["loss"][-1] = values["loss"] = [5.0, 1.0, 2.0, 2.0, 2.0, 2.0][epoch - 1]

    def run(epochs, resume):
        stop = EarlyStopping("loss", patience=3)
        options = {"save_to": tmp_path / "run.npz", "resume": resume, "callbacks": [Script(), stop]}
        fit(network(), x, y, epochs=epochs, **options)
        return stop

    assert run(3, False).stopped_epoch == 0
    assert run(9, True).stopped_epoch == 5


def test_model_checkpoint(tmp_path):
    model = network()
    model(data()[0])
    play(ModelCheckpoint(tmp_path / "m-{epoch:02d}-{val_loss:.1f}.npz"), [3, 2], model=model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m-01-3.0.npz", "m-02-2.0.npz"]
    best = ModelCheckpoint(tmp_path / "best.npz", save_best_only=True)

    class Model:
        variables = {"w": mg.Variable([0.0])}  # noqa: RUF012

    values, held = [3, 2, 4, 1, 5], []

    class Count(Callback):
        def on_epoch_begin(self, epoch):
            Model.variables["w"].assign([epoch])

    best.history, best.model, best.optimizer = History(), Model(), None
    for epoch, value in enumerate(values, 1):
        Count().on_epoch_begin(epoch)
        best.on_epoch_end(epoch, {"val_loss": value})
        twin = Model()
        twin.variables = {"w": mg.Variable([0.0])}
        mg.load(tmp_path / "best.npz", model=twin)
        held.append(int(twin.variables["w"].item()))
    assert held == [1, 2, 2, 4, 4]
    assert best.best == 1


def test_learning_rate_scheduler():
    assert play(LearningRateScheduler(lambda epoch: 0.5**epoch), [1, 1, 1]) == [1.0, 0.5, 0.25]
    assert play(LearningRateScheduler(lambda epoch, rate: rate / 2), [1, 1, 1], lr=4.0) == [2.0, 1.0, 0.5]

    def broken(epoch):
        raise TypeError("its own")

    with pytest.raises(TypeError, match="its own"):
        play(LearningRateScheduler(broken), [1])


def test_it_sets_the_rate_of_the_steps():
    x, y = data(8)
    model, twin = network(dropout=0.0), network(dropout=0.0)
    fit(model, x, y, optimizer=mg.optim.SGD(5.0), callbacks=[LearningRateScheduler(lambda epoch: 0.25)])
    fit(twin, x, y, optimizer=mg.optim.SGD(0.25))
    for a, b in zip(values_of(model), values_of(twin)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "factor": 0.5}, [3, 2, 2, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "factor": 0.5, "cooldown": 2}, [3, 3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ({"patience": 1, "factor": 0.1, "min_lr": 0.05}, [3, 3, 3, 3], [1, 0.1, 0.05, 0.05]),
        ({"patience": 1, "factor": 0.5, "min_delta": 0.5}, [3, 2.7, 2.4], [1, 0.5, 0.5]),
        ({"patience": 1, "factor": 0.5, "mode": "max"}, [3, 2, 4], [1, 0.5, 0.5]),
    ],
)
def test_reduce_on_plateau(options, values, rates):
    assert play(ReduceLROnPlateau(**options), values) == pytest.approx(rates)


def test_csv_logger(tmp_path):
    x, y = data()
    file = tmp_path / "log.csv"
    options = {"metrics": ["accuracy"], "validation_data": (x, y), "save_to": tmp_path / "run.npz"}
    history = fit(network(), x, y, epochs=2, callbacks=[CSVLogger(file)], **options)
    fit(network(), x, y, epochs=3, resume=True, callbacks=[CSVLogger(file)], **options)
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["loss"]) for row in rows[:2]] == history["loss"]
    play(CSVLogger(file, separator=";"), [1.5])
    assert file.read_text() == "epoch;loss;val_loss\n0;1.0;1.5\n"
    play(CSVLogger(file, separator=";", append=True), [2.5])
    assert file.read_text() == "epoch;loss;val_loss\n0;1.0;1.5\n0;1.0;2.5\n"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: EarlyStopping(mode="least"), ArgumentError, "EarlyStopping: mode is 'least', expected one of"),
        (lambda: EarlyStopping(min_delta=-1), ArgumentError, "min_delta is -1"),
        (lambda: EarlyStopping(baseline="1"), ArgumentTypeError, "baseline is '1', expected a number"),
        (
            lambda: play(EarlyStopping("val_los"), [1]),
            ArgumentError,
            r"'val_los', expected one of \['loss', 'val_loss'\]",
        ),
        (lambda: play(ModelCheckpoint("{acc}"), [1]), ArgumentError, r"'\{acc\}', which can use \['epoch', 'loss'"),
        (lambda: LearningRateScheduler(0.1), ArgumentTypeError, "schedule is 0.1, expected a function"),
        (lambda: play(LearningRateScheduler(lambda e: -1.0), [1]), ArgumentError, "the rate is -1.0"),
        (lambda: play(LearningRateScheduler(lambda e: "1"), [1]), ArgumentTypeError, "the rate is '1'"),
        (
            lambda: play(LearningRateScheduler(lambda e: 0.1), [1], lr=lambda s: 0.1),
            ArgumentError,
            "schedule of its own",
        ),
        (lambda: ReduceLROnPlateau(factor=1.0), ArgumentError, r"factor is 1.0, expected a number in \(0, 1\)"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_names():
    assert training.Callback is mg.callbacks.Callback
