"""The articles that use Keras: their code, read from where they lie, runs with its import lines changed alone."""

import numpy as np
import pytest
from article_code import articles, code

import minigrad as mg
import minigrad_norms as norms
from minigrad.dialects import keras

IMPORTS = {
    "import tensorflow as tf": "import minigrad.dialects as tf",
    "import tensorflow_addons as tfa": "import minigrad.dialects.keras as tfa",
}
ARTICLES = articles("tf.keras", "tensorflow_addons")

pytestmark = pytest.mark.skipif(not ARTICLES, reason="the articles are not here")


@pytest.fixture
def small_data(monkeypatch):
    """The data sets' places taken by glyphs, which are as quickly learnt and of the same shapes."""
    glyphs = mg.data.glyph_dataset(128, 320, seed=0)

    def coloured(x, y):
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        return np.stack([padded, padded // 2, 255 - padded], -1), y.astype(np.uint8)[:, None]

    plain = tuple((x, y.astype(np.uint8)) for x, y in glyphs)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: plain)
    monkeypatch.setattr(
        keras.datasets.cifar10, "load_data", lambda: tuple(coloured(x[:128], y[:128]) for x, y in plain)
    )


@pytest.fixture
def pictures(monkeypatch):
    """Matplotlib without a screen; the pictures shown."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append([line.get_label() for line in pyplot.gca().lines]))
    yield shown
    pyplot.close("all")


def run(text):
    """Run an article's statements, and give its names and the values of what it called at the top level."""
    names, values = {}, []
    for statement in code(text):
        statement = IMPORTS.get(statement, statement)
        try:
            values.append(eval(compile(statement, "article", "eval"), names))
        except SyntaxError:
            exec(compile(statement, "article", "exec"), names)
    return names, values


def one(word):
    return next((text for text in ARTICLES.values() if word in text), "")


def test_only_imports_are_changed():
    for text in ARTICLES.values():
        statements = code(text)
        assert sum(statement in IMPORTS for statement in statements) == 2
        left = [s for s in statements if "import" in s and s not in IMPORTS]
        assert all("numpy" in s or "matplotlib" in s for s in left)


def test_normalization_layers(small_data):
    mg.random.seed(0)
    text = one("GroupNormalization")
    names, values = run(text)
    histories = [v for v in values if isinstance(v, keras.callbacks.History)]
    assert len(histories) == 3
    for history in histories:
        assert list(history.history) == ["loss", "accuracy"]
        assert history.history["loss"][0] < 4  # over the first ten steps
    assert names["model"].evaluate(names["x_test"], names["y_test"])[1] > 0.2
    assert isinstance(names["model"].layers[2], norms.LayerNormalization)
    assert names["model"].output_shape == (None, 10)
    assert len(code(text)) == 14


def test_weight_normalization(small_data, pictures):
    mg.random.seed(0)
    names, _ = run(one("WeightNormalization"))
    for name in ("reg_history", "wn_history"):
        history = names[name].history
        assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
        assert all(len(values) == 10 for values in history.values())
        assert history["loss"][-1] < 0.95 * history["loss"][0]
    wrapped = [layer for layer in names["wn_model"].layers if isinstance(layer, norms.WeightNormalization)]
    assert len(wrapped) == 5
    assert all(layer.initialized.item() for layer in wrapped)
    assert pictures == [["Regular ConvNet", "WeightNorm ConvNet"]]
