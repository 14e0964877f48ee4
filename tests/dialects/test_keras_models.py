"""Keras's Sequential and Model: building, fitting as in NumPy, the last activation, summaries, weights, errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.dialects import keras
from minigrad.errors import ArgumentError, ArgumentTypeError, CheckpointError, ShapeError
from minigrad.tape import no_grad

L = keras.layers


def data(n=64, features=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((n, features))
    x[np.arange(n), y] += 2
    return x, y


def classifier(classes=3, last="softmax", **options):
    return keras.Sequential([L.Dense(8, activation="tanh"), L.Dense(classes, activation=last)], **options)


# Building


def test_input_shape_makes_the_weights_at_once():
    model = keras.Sequential()
    model.add(L.Reshape((4, 1), input_shape=(2, 2)))
    assert model.output_shape == (None, 4, 1)
    model.add(L.Flatten())
    model.add(L.Dense(3))
    assert model.layers[2].kernel.shape == (4, 3)
    assert model.output_shape == (None, 3)
    assert model.input_shape == (2, 2)
    assert keras.Sequential([L.Dense(3, input_dim=7)]).layers[0].kernel.shape == (7, 3)
    assert keras.Sequential([L.Dense(3, batch_input_shape=(None, 6))]).layers[0].kernel.shape == (6, 3)
    assert keras.Sequential([keras.Input(shape=(5,)), L.Dense(3)]).layers[0].kernel.shape == (5, 3)
    assert keras.Sequential([L.InputLayer(input_shape=(4,)), L.Dense(3)]).count_params() == 15
    assert keras.Sequential([L.Embedding(9, 2, input_shape=(4,)), L.Flatten()]).output_shape == (None, 8)


def test_without_it_the_first_batch_does():
    model = classifier()
    assert model.output_shape is None
    assert model.weights == []
    x, y = data()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    assert model.output_shape == (None, 3)
    assert [w.shape for w in model.get_weights()] == [(5, 8), (8,), (8, 3), (3,)]
    later = classifier()
    later.build((None, 4))
    assert later.count_params() == 4 * 8 + 8 + 8 * 3 + 3


def test_names_are_numbered():
    model = keras.Sequential([L.Dense(2), L.Dense(2, name="head"), L.Dense(2), L.ReLU(), L.RMSNormalization()])
    assert [layer.name for layer in model.layers] == ["dense", "head", "dense_1", "re_lu", "rms_normalization"]
    assert model.get_layer("head") is model.layers[1] is model.get_layer(index=1)
    with pytest.raises(ArgumentError, match="no layer 'tail', there are"):
        model.get_layer("tail")
    assert model.pop().name == "rms_normalization"
    assert len(model.layers) == 4


@pytest.mark.parametrize(
    ("loss", "targets", "words"),
    [
        ("sparse_categorical_crossentropy", (8, 3), r"\(8, 3\) and y_pred \(8, 3\), expected labels of shape \(8,\)"),
        ("categorical_crossentropy", (8,), r"\(8,\) and y_pred \(8, 3\), expected the same; integer labels go with"),
        ("categorical_crossentropy", (8, 4), r"\(8, 4\) and y_pred \(8, 3\)"),
    ],
)
def test_targets_that_do_not_fit_name_the_loss_and_both_shapes(loss, targets, words):
    model = keras.Sequential([L.Dense(3, activation="softmax")])
    model.compile("sgd", loss)
    with pytest.raises(ShapeError, match=f"{loss}: y_true has shape {words}"):
        model.fit(np.zeros((8, 5), np.float32), np.zeros(targets), verbose=0)


def test_shapes_that_do_not_fit_name_layer_place_and_both_shapes():
    with pytest.raises(ShapeError, match=r"sequential: item 1 \(reshape\) got shape \(1, 3\): .*3 elements.*\(2, 2\)"):
        keras.Sequential([L.Dense(3, input_shape=(4,)), L.Reshape((2, 2))])
    model = classifier(name="net")
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data()
    model.fit(x, y, verbose=0)
    with pytest.raises(
        ShapeError, match=r"net: item 0 \(dense\) got shape \(1, 4\): .*\(1, 4\), expected \(\.\.\., 5\)"
    ):
        model.fit(x[:, :4], y, verbose=0)
    fixed = classifier()
    fixed = keras.Sequential([L.Flatten(input_shape=(2, 3)), L.Dense(2)])
    fixed.compile("sgd", "mse")
    for call in (fixed.predict, lambda z: fixed.fit(z, z), lambda z: fixed.evaluate(z, z)):
        with pytest.raises(
            ShapeError, match=r"sequential: .* shape \(8, 2, 4\) for item 0 \(flatten\), expected \(None, 2, 3"
        ):
            call(np.zeros((8, 2, 4)))
    with pytest.raises(ShapeError, match=r"the input has shape \(8, 6\), expected \(None, 2, 3\)"):
        fixed(np.zeros((8, 6)))
    model = keras.Sequential([L.Dense(3, input_shape=(4,))])
    with pytest.raises(ShapeError, match="item 1"):
        model.add(L.Permute((2, 1)))
    assert len(model.layers) == 1
    assert model.output_shape == (None, 3)


# Training


def test_fit_is_gradient_descent():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    model = keras.Sequential([L.Dense(2, dtype="float64", kernel_initializer="he_normal")])
    model.build((None, 3))
    w, b = model.get_weights()
    model.compile(keras.optimizers.SGD(learning_rate=0.1), "mse", metrics=["mae"])
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
    losses, errors = [], []
    for _ in range(2):
        for i in (0, 4, 8):
            r = x[i : i + 4] @ w + b - y[i : i + 4]
            losses.append(np.mean(r**2))
            errors.append(np.mean(np.abs(r)))
            w, b = w - 0.1 * x[i : i + 4].T @ (2 * r / r.size), b - 0.1 * (2 * r / r.size).sum(0)
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-12)
    np.testing.assert_allclose(history.history["loss"], np.reshape(losses, (2, 3)).mean(1), rtol=1e-12)
    np.testing.assert_allclose(history.history["mae"], np.reshape(errors, (2, 3)).mean(1), rtol=1e-12)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert history.epoch == [0, 1]
    assert history.model is model
    r = x @ w + b - y
    assert history.history["val_loss"][-1] == pytest.approx(np.mean(r**2), rel=1e-12)
    assert model.evaluate(x, y, verbose=0) == pytest.approx([np.mean(r**2), np.mean(np.abs(r))], rel=1e-12)
    assert model.evaluate(x, y, return_dict=True)["mae"] == pytest.approx(np.mean(np.abs(r)))
    np.testing.assert_allclose(model.predict(x), x @ w + b, rtol=1e-12)


@pytest.mark.parametrize("form", ["labels", "column", "floats", "one-hot"])
def test_it_learns_whatever_the_form_of_labels(form):
    mg.random.seed(1)
    x, y = data()
    targets = {"labels": y, "column": y[:, None].astype(np.uint8), "floats": y.astype(np.float64)}
    targets["one-hot"] = keras.utils.to_categorical(y)
    model = classifier()
    loss = "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    history = model.fit(x, targets[form], epochs=40, batch_size=16, validation_split=0.25, verbose=0)
    assert history.history["accuracy"][-1] > 0.85
    assert history.history["val_accuracy"][-1] > 0.6
    assert (model.predict(x).argmax(1) == y).mean() > 0.8


def test_binary_classification():
    mg.random.seed(1)
    x, y = data(classes=2)
    for target in (y, y[:, None]):
        model = keras.Sequential([L.Dense(8, "relu"), L.Dense(1, activation="sigmoid")])
        model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
        history = model.fit(x, target, epochs=30, verbose=0)
        assert history.history["accuracy"][-1] > 0.85
        wrong = (model.predict(x)[:, 0] > 0.5) == y
        assert model.evaluate(x, target)[1] == pytest.approx(wrong.mean())


def _wrapped():
    class Wrapper(nn.Layer):
        """Hands its input on to the layer inside."""

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def call(self, x, training):
            return self.layer(x, training)

    return [L.Dense(8, "tanh"), Wrapper(L.Dense(3, "softmax"))]


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.Dense(8, "tanh"), L.Dense(3, "softmax")],
        lambda: [L.Dense(8, "tanh"), L.Dense(3), L.Activation("softmax")],
        lambda: [L.Dense(8, "tanh"), L.Dense(3), L.Softmax()],
        lambda: [L.Dense(8, "tanh"), L.Dense(3), mg.softmax],
        _wrapped,
    ],
)
def test_a_last_softmax_goes_into_the_loss(layers):
    mg.random.seed(2)
    x, y = data()
    model = keras.Sequential(layers())
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy", "mse", "acc"])
    one_hot = keras.utils.to_categorical(y)
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", metrics=["accuracy", "mse"])
    model.build((None, 5))
    for w in model.weights:
        w.assign(40 * w.numpy())  # probabilities that round to 0
    found = model.fit(x, one_hot, verbose=0).history
    p = model.predict(x).astype(np.float64)
    assert (p == 0).any()
    assert found["accuracy"][0] == (p.argmax(1) == y).mean()
    assert found["mse"][0] == pytest.approx(np.mean((p - one_hot) ** 2), rel=1e-5)
    with no_grad():
        h = np.tanh(x @ model.weights[0].numpy() + model.weights[1].numpy())
    z = h @ model.weights[2].numpy().astype(np.float64) + model.weights[3].numpy()
    exact = np.mean(np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y])
    assert found["loss"][0] == pytest.approx(exact, rel=1e-4)
    plain = keras.losses.categorical_crossentropy(one_hot, mg.tensor(p)).item()
    assert plain < 0.9 * exact  # what is lost otherwise, to the clipping of probabilities


def test_loss_and_metrics_of_ones_own():
    x, y = data()
    t = keras.utils.to_categorical(y)

    def each(y_true, y_pred):
        return ((y_true - y_pred) ** 2.0).mean(-1)

    def furthest(y_true, y_pred):
        return np.abs(y_true - y_pred).max(-1)

    class Twice(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return 2.0 * each(y_true, y_pred)

    for loss, factor in ((each, 1), (Twice(), 2)):
        model = classifier()
        model.compile(keras.optimizers.SGD(0.0), loss, metrics=[furthest, keras.metrics.CategoricalAccuracy("right")])
        history = model.fit(x, t, verbose=0, sample_weight=np.full(64, 0.5)).history
        p = model.predict(x)
        assert list(history) == ["loss", "furthest", "right"]
        assert history["loss"][0] == pytest.approx(factor * 0.5 * np.mean((p - t) ** 2), rel=1e-5)
        assert history["furthest"][0] == pytest.approx(np.abs(p - t).max(1).mean(), rel=1e-5)


def test_what_runs_eagerly_is_not_replayed(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.models.training, "fit", lambda *args, jit, **options: seen.append(jit))
    x, y = data()
    for options in ({}, {"run_eagerly": False, "jit_compile": True}, {"run_eagerly": True}, {"jit_compile": False}):
        model = classifier()
        model.compile("sgd", "sparse_categorical_crossentropy", **options)
        model.fit(x, y, verbose=0)
    assert seen == [True, True, False, False]


def test_orders_differ_from_fit_to_fit_and_follow_the_seed():
    x, y = data()

    def losses():
        keras.utils.set_random_seed(5)
        model = classifier()
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        return [model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"] for _ in range(2)]

    first = losses()
    assert first == losses()
    keras.utils.set_random_seed(6)
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    for _ in range(2):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[Watch()])
    assert seen[:8] != seen[8:]


def test_batches():
    x, y = data()
    model = classifier()
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    first = model.train_on_batch(x, y)
    assert first[0] > model.test_on_batch(x, y)[0]
    assert model.predict_on_batch(x).shape == (64, 3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert isinstance(model.train_on_batch(x, y), float)


# Weights and summaries


def test_weights_go_and_come(tmp_path):
    x, y = data()
    model, twin = classifier(), classifier()
    for m in (model, twin):
        m.compile("adam", "sparse_categorical_crossentropy")
        m.build((None, 5))
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "net.weights.h5")
    twin.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    other = classifier()
    other.build((None, 5))
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    with pytest.raises(ShapeError, match=r"set_weights got shapes \[\(5, 8\)\], expected \[\(5, 8\), \(8,\)"):
        other.set_weights(model.get_weights()[:1])
    with pytest.raises(CheckpointError, match="has no Variables yet"):
        classifier().load_weights(tmp_path / "net.weights.h5")


def test_summary():
    model = keras.Sequential([L.Flatten(input_shape=(2, 3)), L.Dense(4), L.BatchNormalization(), L.Dropout(0.5)])
    model.layers[1].trainable = False
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert 'Model: "sequential"' in text
    rows = [line.split() for line in lines if line.startswith(("flatten", "dense", "batch", "dropout"))]
    assert [row[-1] for row in rows] == ["0", "28", "16", "0"]
    assert rows[1] == ["dense", "(Dense)", "(None,", "4)", "28"]
    assert lines[-3:] == ["Total params: 44", "Trainable params: 8", "Non-trainable params: 36"]
    lines.clear()
    classifier().summary(print_fn=lines.append, line_length=60)
    assert len(lines[1]) == 60
    assert "?" in lines[4]


# Models of one's own


def test_subclasses():
    class Scale(L.Layer):
        def __init__(self, start=1.0, **options):
            super().__init__(**options)
            self.start = start

        def build(self, input_shape):
            self.w = self.add_weight("w", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start))
            self.b = self.add_weight(shape=(input_shape[-1],), initializer="zeros", trainable=False, name="b")
            super().build(input_shape)

        def call(self, inputs):
            return inputs * self.w + self.b

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = Scale(2.0)
            self.drop = L.Dropout(0.5)
            self.out = L.Dense(3, activation="softmax")

        def call(self, inputs, training=False):
            return self.out(self.drop(self.scale(inputs), training=training))

    mg.random.seed(0)
    x, y = data()
    model = Net()
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=20, verbose=0)
    assert history.history["accuracy"][-1] > 0.6
    assert [layer.name for layer in model.layers] == ["scale", "dropout", "dense"]
    assert len(model.trainable_weights) == 3
    assert len(model.non_trainable_weights) == 1
    assert model.scale.w.name == "scale/w"
    assert (model.scale.w.numpy() != 2).all()
    np.testing.assert_allclose(model.predict(x).sum(1), 1, rtol=1e-5)
    model.summary(print_fn=lambda line: None)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: classifier().fit(*data()), ArgumentError, r"fit needs a loss; call compile\(optimizer, loss\) first"),
        (lambda: classifier().compile("sdg"), ArgumentError, "optimizer: 'sdg' is unknown, expected one of"),
        (lambda: classifier().compile("sgd", "mze"), ArgumentError, "loss: 'mze' is unknown, expected one of"),
        (lambda: classifier().compile("sgd", "mse", ["acurracy"]), ArgumentError, "metric: 'acurracy' is unknown"),
        (lambda: keras.Sequential([L.Dense]), ArgumentTypeError, "is the class Dense, expected a layer"),
        (lambda: keras.Sequential([L.Dense(2), keras.Input((2,))]), ArgumentError, "can only be the first item"),
        (lambda: keras.Sequential().pop(), ArgumentError, "pop: there are no layers"),
        (lambda: keras.Sequential([L.Dense(2)]).build(), ArgumentError, "build needs the shape of the inputs"),
        (lambda: keras.Model(inputs=1, outputs=2), ArgumentTypeError, "there is no functional API"),
        (lambda: keras.Input(), ArgumentTypeError, "shape is None"),
    ],
)
def test_bad_use(call, error, match):
    with pytest.raises(error, match=match):
        call()
