"""Keras's layers, losses, metrics, initializers, optimizers and callbacks: names, arguments, defaults and errors."""

import inspect
import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn
from minigrad.dialects import keras
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

L = keras.layers


# Layers


def test_layers_come_from_here_and_from_plugins():
    for name in (
        "Dense",
        "Conv2D",
        "Conv2DTranspose",
        "MaxPooling2D",
        "GlobalAveragePooling2D",
        "Dropout",
        "Embedding",
    ):
        assert issubclass(getattr(L, name), getattr(nn, name))
        assert name in dir(L)
    theirs = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization")
    for name in (*theirs, "WeightNormalization", "SpectralNormalization", "UnitNormalization", "RMSNormalization"):
        kind = getattr(L, name)
        assert issubclass(kind, getattr(norms, name))
        assert kind is getattr(L, name)
        assert name in dir(L)
        assert kind.__doc__ == getattr(norms, name).__doc__
    assert L.MaxPool2D is not L.AveragePooling2D
    assert issubclass(L.MaxPool2D, nn.MaxPooling2D)
    for name in ("Bidirectional", "Sequential", "__path__"):
        assert not hasattr(L, name)
    with pytest.raises(AttributeError, match=r"has no 'Densee'; neither minigrad\.nn nor a plugin offers it"):
        L.Densee


def test_every_layer_takes_what_keras_layers_take():
    layer = L.GroupNormalization(2, axis=3, input_shape=(4, 4, 6), name="gn", trainable=False, dtype=None)
    assert (layer.name, layer.input_shape, layer.trainable) == ("gn", (4, 4, 6), False)
    assert L.Dropout(0.5).name == "dropout"
    assert L.MaxPooling2D((2, 2)).name == "max_pooling2d"
    dense = L.Dense(
        3, kernel_initializer=keras.initializers.HeNormal(seed=3), kernel_regularizer="L2", bias_constraint="NonNeg"
    )
    again = L.Dense(3, kernel_initializer="HeNormal", bias_initializer=lambda shape, dtype=None: np.full(shape, 2.0))
    x = np.ones((2, 4), np.float32)
    dense(x), again(x)
    assert [w.shape for w in dense.get_weights()] == [(4, 3), (3,)]
    assert len(dense.losses) == 1
    assert dense.bias.constraint is not None
    assert again.bias.tolist() == [2.0] * 3
    assert dense.count_params() == 15
    twin = L.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=3))
    twin(x)
    np.testing.assert_array_equal(twin.get_weights()[0], dense.get_weights()[0])
    for call, match in [
        (lambda: L.Dense(unit=3), r"Dense: got an unexpected keyword argument 'unit'"),
        (lambda: L.Dense(), "Dense: missing 1 required positional argument: 'units'"),
        (lambda: L.GroupNormalization(group=3), r"GroupNormalization: got an unexpected keyword argument 'group'"),
        (lambda: L.Dense(3, activation=4), "^activation: got 4"),
    ]:
        with pytest.raises(ArgumentTypeError, match=match):
            call()


def test_activation_layers():
    x = np.array([-2.0, -0.5, 0.0, 0.5, 7.0])
    e = np.exp(x - x.max())
    for layer, wanted in [
        (L.ReLU(), np.maximum(x, 0)),
        (L.ReLU(max_value=6, negative_slope=0.1, threshold=0.25), [-0.225, -0.075, -0.025, 0.5, 6]),
        (L.LeakyReLU(), np.where(x > 0, x, 0.3 * x)),
        (L.LeakyReLU(alpha=0.1), np.where(x > 0, x, 0.1 * x)),
        (L.ELU(0.5), np.where(x > 0, x, 0.5 * np.expm1(x))),
        (L.Softmax(), e / e.sum()),
        (L.Softmax(axis=0), e / e.sum()),
        (L.Activation("tanh"), np.tanh(x)),
    ]:
        np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), wanted, rtol=1e-12)
    with pytest.raises(ArgumentError, match="ReLU: max_value is -1"):
        L.ReLU(-1)


def test_call_may_or_may_not_name_training():
    x, seen = mg.tensor([1.0]), []

    class Plain(L.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    class Told(L.Layer):
        def call(self, inputs, mask=None, training=None):
            seen.append((mask, training))
            return inputs

    class Open(L.Layer):
        def call(self, inputs, **options):
            seen.append(options)
            return inputs

    assert Plain()(x, training=True).tolist() == [2.0]
    Told()(x, mask=3, training=True)
    Told()(x)
    Open()(x, True)
    assert seen == [(3, True), (None, False), {"training": True}]
    assert Told().options == {"mask"}


# Activations, constraints, regularizers, initializers


def test_functions_by_both_forms_of_their_names():
    assert keras.activations.get("relu") is mg.relu
    assert keras.activations.get(None) is keras.activations.linear
    assert keras.activations.linear(3) == 3
    assert isinstance(keras.regularizers.get("L1L2"), nn.regularizers.L1L2)
    assert isinstance(keras.regularizers.get(keras.regularizers.L2), nn.regularizers.L2)
    assert keras.regularizers.l2(0.3).l2 == 0.3
    assert (keras.regularizers.l1_l2(l1=0.1).l1, keras.regularizers.l1(0.2).l1) == (0.1, 0.2)
    assert isinstance(keras.constraints.get("MaxNorm"), nn.constraints.MaxNorm)
    assert isinstance(keras.constraints.max_norm(3), nn.constraints.MaxNorm)


def test_initializers():
    kinds = [
        getattr(keras.initializers, n) for n in keras.initializers.__all__ if n[0].isupper() and n != "Initializer"
    ]
    assert len(kinds) == 15
    for kind in kinds:
        first, other = kind(seed=1)((6, 4), "float64"), kind(seed=1)((6, 4), "float64")
        np.testing.assert_array_equal(first, other)
        assert first.dtype == np.float64
        assert kind()((3, 3)).dtype == np.float32
    z = keras.initializers.RandomNormal(mean=5.0, stddev=0.1, seed=2)((1000,))
    assert abs(z.mean() - 5) < 0.02
    assert abs(z.std() - 0.1) < 0.01
    np.testing.assert_array_equal(keras.initializers.Identity(2.0)((2, 3)), [[2, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(keras.initializers.Constant(3)((2,)), [3, 3])
    assert repr(keras.initializers.Constant(3)) == "Constant(value=3, seed=None)"
    for name in ("he_normal", "HeNormal", "uniform", "variance_scaling", "Zeros", "constant"):
        assert callable(keras.initializers.get(name))
    with pytest.raises(ArgumentTypeError, match=r"RandomNormal: takes \['mean', 'stddev', 'seed'\], got"):
        keras.initializers.RandomNormal(std=1.0)
    with pytest.raises(ArgumentError, match="'he_norml' is unknown"):
        keras.initializers.get("he_norml")


# Losses and metrics


def test_losses_take_the_truth_first():
    t, p = np.array([[1.0, 0.0], [0.0, 1.0]]), mg.tensor(np.array([[0.9, 0.1], [0.4, 0.6]]))
    ce = -np.mean(np.log([0.9, 0.6]))
    labels = np.array([[0], [1]])
    z = mg.log(p) + 3.0
    losses = keras.losses
    for found, wanted in [
        (losses.categorical_crossentropy(t, p), ce),
        (losses.CategoricalCrossentropy(from_logits=True)(t, z), ce),
        (losses.SparseCategoricalCrossentropy()(labels, p), ce),
        (losses.SparseCategoricalCrossentropy(from_logits=True)(labels[:, 0], z), ce),
        (losses.get("mse")(t, p), np.mean([0.01, 0.01, 0.16, 0.16])),
        (losses.get("MeanAbsoluteError")(t, p), 0.25),
        (losses.MeanSquaredError()(np.array([1.0, 2.0]), mg.tensor([[1.0], [4.0]])), 2.0),
        (losses.Huber(delta=0.2)(t, p), np.mean([0.005, 0.005, 0.2 * 0.3, 0.2 * 0.3])),
        (losses.binary_crossentropy(t, p), -np.mean(np.log([0.9, 0.9, 0.6, 0.6]))),
        (losses.BinaryCrossentropy(from_logits=True)(np.array([1.0]), mg.tensor([2.0])), np.log1p(np.exp(-2))),
        (losses.CategoricalCrossentropy(label_smoothing=0.2)(t, p), ce - 0.1 * (np.log(1 / 9) + np.log(4 / 6)) / 2),
    ]:
        assert found.item() == pytest.approx(wanted, rel=1e-6)
    weighted = losses.categorical_crossentropy(t, p, sample_weight=np.array([1.0, 0.0]))
    assert weighted.item() == pytest.approx(-np.log(0.9) / 2)
    assert losses.get("hinge").name == "hinge"
    with pytest.raises(ArgumentError, match="reduction is 'none'"):
        losses.MeanSquaredError(reduction="none")
    with pytest.raises(ArgumentError, match="label_smoothing is 2"):
        losses.CategoricalCrossentropy(label_smoothing=2)

    def half(y_true, y_pred):
        return 0.5

    with pytest.raises(ArgumentTypeError, match="loss half: returned float, expected a tensor"):
        losses.get(half)(t, p)


def test_metrics():
    t, p = np.array([0, 1, 2]), np.array([[0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.2, 0.1, 0.7]])
    metrics, one_hot = keras.metrics, np.eye(3)[np.array([0, 1, 2])]
    for found, wanted in [
        (metrics.SparseCategoricalAccuracy()(t, p), 2 / 3),
        (metrics.SparseCategoricalAccuracy()(t[:, None], p), 2 / 3),
        (metrics.CategoricalAccuracy()(one_hot, p), 2 / 3),
        (metrics.SparseTopKCategoricalAccuracy(k=2)(t, p), 1.0),
        (metrics.TopKCategoricalAccuracy(k=1)(one_hot, p), 2 / 3),
        (metrics.BinaryAccuracy(threshold=0.8)(np.array([1, 0]), np.array([[0.7], [0.2]])), 0.5),
        (metrics.get("accuracy")(np.array([1, 0]), np.array([[0.7], [0.2]])), 1.0),
        (metrics.get("mae")(one_hot, p), np.abs(one_hot - p).mean()),
    ]:
        assert found == pytest.approx(wanted)
    running = metrics.get("acc")
    assert running.name == "acc"
    assert running.result() == 0
    running.update_state(t[:1], p[:1])
    running.update_state(t[1:], p[1:])
    assert running.result() == pytest.approx(2 / 3)
    running.reset_state()
    assert running.result() == 0


# Optimizers


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("SGD", mg.optim.SGD(0.01)),
        ("RMSprop", mg.optim.RMSprop(0.001)),
        ("Adagrad", mg.optim.Adagrad(0.001)),
        ("Adam", mg.optim.Adam(0.001, epsilon_hat=True)),
        ("AdamW", mg.optim.AdamW(0.001, weight_decay=0.004, epsilon_hat=True)),
    ],
)
def test_defaults_of_optimizers(name, ours):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(5), rng.standard_normal((3, 5))
    a, b = mg.Variable(start), mg.Variable(start)
    theirs = getattr(keras.optimizers, name)()
    for g in gradients:
        ours.update([a], [mg.tensor(g)])
        theirs.apply_gradients([(mg.tensor(g), b)])
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert type(keras.optimizers.get(name.lower())) is type(theirs)
    assert theirs.iterations.item() == 3


def test_options_of_optimizers():
    w, g = np.zeros(2), mg.tensor(np.array([3.0, 4.0]))

    def step(**options):
        variables = [mg.Variable(w), mg.Variable(w)]
        keras.optimizers.SGD(1.0, **options).update(variables, [g, g])
        return -variables[0].numpy()

    np.testing.assert_allclose(step(), [3, 4])
    np.testing.assert_allclose(step(clipnorm=1.0), [0.6, 0.8])
    np.testing.assert_allclose(step(clipvalue=3.5), [3, 3.5])
    np.testing.assert_allclose(step(global_clipnorm=1.0), np.array([0.6, 0.8]) / math.sqrt(2))
    optimizer = keras.optimizers.Adam(learning_rate=0.5)
    assert optimizer.learning_rate.item() == 0.5
    optimizer.learning_rate = 0.25
    assert optimizer.lr.item() == 0.25
    assert keras.optimizers.SGD(lr=0.3).learning_rate.item() == pytest.approx(0.3)
    decayed, v = keras.optimizers.SGD(1.0, decay=1.0), mg.Variable(np.zeros(1))
    for _ in range(3):
        decayed.update([v], [mg.tensor(np.ones(1))])
    assert v.item() == pytest.approx(-1 - 1 / 2 - 1 / 3)
    for call, error, match in [
        (lambda: keras.optimizers.Adam(amsgrad=True), ArgumentError, "Adam: amsgrad=True is not offered"),
        (lambda: keras.optimizers.RMSprop(centered=True), ArgumentError, "centered=True is not offered"),
        (lambda: keras.optimizers.SGD(rho=0.5), ArgumentTypeError, r"SGD: unknown argument \['rho'\]"),
        (lambda: keras.optimizers.SGD(clipnorm=0), ArgumentError, "clipnorm is 0"),
        (lambda: keras.optimizers.SGD(clipnorm=1, clipvalue=1), ArgumentError, "expected at most one"),
        (lambda: keras.optimizers.SGD(0.1, 0.9, weight_decay=0.1), ArgumentError, "together with momentum"),
        (lambda: setattr(decayed, "learning_rate", 1.0), ArgumentError, "SGD: has a schedule"),
        (
            lambda: keras.optimizers.get(keras.optimizers.SGD),
            ArgumentTypeError,
            "expected a name or an optimizer, made",
        ),
        (lambda: keras.optimizers.SGD(lambda s: 0.1, decay=0.1), ArgumentError, "decay besides a schedule"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_schedules():
    s = keras.optimizers.schedules
    steps = np.array([0, 3, 5, 10, 17])
    for schedule, wanted in [
        (s.ExponentialDecay(0.1, 5, 0.5), 0.1 * 0.5 ** (steps / 5)),
        (s.ExponentialDecay(0.1, 5, 0.5, staircase=True), 0.1 * 0.5 ** (steps // 5)),
        (s.InverseTimeDecay(0.1, 5, 0.5), 0.1 / (1 + 0.1 * steps)),
        (s.InverseTimeDecay(0.1, 5, 0.5, staircase=True), 0.1 / (1 + 0.5 * (steps // 5))),
        (s.PolynomialDecay(0.1, 10, 0.01, 2.0), 0.09 * (1 - np.minimum(steps, 10) / 10) ** 2 + 0.01),
        (s.CosineDecay(0.1, 10, 0.2), 0.02 + 0.08 * (1 + np.cos(np.pi * np.minimum(steps, 10) / 10)) / 2),
        (s.PiecewiseConstantDecay([3, 10], [1.0, 0.5, 0.1]), [1.0, 1.0, 0.5, 0.5, 0.1]),
    ]:
        np.testing.assert_allclose([schedule(int(n)) for n in steps], wanted, rtol=1e-12)
        assert keras.optimizers.Adam(schedule).learning_rate.item() == pytest.approx(wanted[0])


# Callbacks


def fitted(callbacks, epochs=3, **options):
    x = np.arange(12.0).reshape(12, 1) / 6 - 1
    model = keras.Sequential([L.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, 2 * x, 4, epochs, 0, callbacks, validation_data=(x, 2 * x), **options)
    return model, history


def test_hooks_and_their_numbers():
    told = []

    class Tell(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            told.append(("train", self.params["epochs"]))

        def on_epoch_begin(self, epoch, logs=None):
            told.append(("epoch", epoch))

        def on_train_batch_begin(self, batch, logs=None):
            told.append(("before", batch))

        def on_batch_end(self, batch, logs=None):
            told.append(("after", batch, sorted(logs)))

        def on_epoch_end(self, epoch, logs=None):
            told.append(("end", epoch, sorted(logs)))
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            told.append(("over",))

    ends = []
    end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch))
    _, history = fitted([Tell(), end], epochs=9)
    assert len(history.history["loss"]) == 2
    assert ends == [0, 1]
    assert told[0] == ("train", 9)
    assert told[1:5] == [("epoch", 0), ("before", 0), ("after", 0, ["loss"]), ("before", 1)]
    assert [t for t in told if t[0] == "after"] == [("after", i, ["loss"]) for i in (0, 1, 2)] * 2
    assert [t for t in told if t[0] == "end"] == [("end", i, ["loss", "val_loss"]) for i in (0, 1)]
    assert told[-1] == ("over",)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model, history = fitted(Stop())
    assert history.history == {}
    assert model.optimizer.iterations.item() == 2


def test_callbacks_with_keras_arguments(tmp_path, capsys):
    c = keras.callbacks
    stop = c.EarlyStopping(monitor="val_loss", min_delta=10, patience=2, verbose=1, restore_best_weights=True)
    plateau = c.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=10, verbose=1)
    keep = c.ModelCheckpoint(tmp_path / "{epoch}.npz", verbose=1, save_weights_only=True, save_best_only=True)
    rate = c.LearningRateScheduler(lambda epoch, lr: lr, verbose=1)
    log = c.CSVLogger(tmp_path / "log.csv")
    model, history = fitted([stop, plateau, keep, rate, log], epochs=9)
    assert len(history.history["loss"]) == 3
    said = capsys.readouterr().err
    for words in ("Epoch 3: early stopping", "Epoch 2: learning rate falls to 0.05", "Epoch 1: saving model to"):
        assert words in said
    assert "Epoch 1: learning rate 0.1" in said
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,val_loss\n0,")
    model.load_weights(tmp_path / "1.npz")
    quiet = [c.EarlyStopping(), c.ModelCheckpoint(tmp_path / "a.npz"), c.LearningRateScheduler(lambda e: 0.1)]
    fitted(quiet)
    assert capsys.readouterr().err == ""
    with pytest.raises(ArgumentError, match="save_freq is 100, expected 'epoch'"):
        c.ModelCheckpoint("a", save_freq=100)
    with pytest.raises(ArgumentTypeError, match="callbacks has 3, expected objects of keras"):
        fitted([3])
    with pytest.raises(ArgumentTypeError, match="unknown hook 'on_end'"):
        c.LambdaCallback(on_end=print)


# Data and utilities


def test_to_categorical():
    f = keras.utils.to_categorical
    np.testing.assert_array_equal(f([0, 2, 1]), np.eye(3)[[0, 2, 1]])
    assert f(np.array([[1], [0]], np.uint8), 4).shape == (2, 4)
    assert f([], 3).shape == (0, 3)
    assert f([1.0, 0.0], 2, "int8").dtype == np.int8
    for call, error, match in [
        (lambda: f([0, 3], 3), ArgumentError, "labels are 0 to 3, expected 0 to 2 for 3 classes"),
        (lambda: f([-1, 0]), ArgumentError, "labels are -1 to 0"),
        (lambda: f([0.5]), DTypeError, "y has dtype float64, expected whole numbers"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(keras.utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(keras.utils.normalize(x, axis=0), [[1, 1], [0, 0]])


def test_load_data(monkeypatch):
    glyphs = mg.data.glyph_dataset(30, 10, seed=0)
    asked = []
    for name in ("mnist", "fashion_mnist", "cifar10"):
        monkeypatch.setattr(mg.data, name, lambda path, name=name: asked.append((name, path)) or glyphs)
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
        assert x_train.dtype == y_train.dtype == y_test.dtype == np.uint8
        assert y_train.shape == ((30, 1) if name == "cifar10" else (30,))
        np.testing.assert_array_equal(x_test, glyphs.x_test)
    assert asked == [("mnist", None), ("fashion_mnist", None), ("cifar10", None)]


def test_every_public_name_is_there_and_documented():
    for name in keras.__all__:
        module = getattr(keras, name)
        for inner in getattr(module, "__all__", ()):
            value = getattr(module, inner)
            assert inspect.ismodule(value) or value.__doc__, f"{name}.{inner}"


def test_dialects_are_found_when_asked_for():
    from minigrad import dialects

    assert "keras" in dir(dialects)
    assert dialects.keras is keras
    with pytest.raises(AttributeError, match="has no attribute 'caffe'; the dialects are"):
        dialects.caffe
    with pytest.raises(ShapeError):
        dialects.keras.Sequential([L.Dense(1, input_shape=(2,)), L.Reshape((5,))])
