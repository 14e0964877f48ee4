"""The article on batch norm in TensorFlow 1: its import line, signatures and formula, read from where they lie."""

import ast
import inspect
import re

import numpy as np
import pytest
from article_code import articles, code

import minigrad as mg
from minigrad.dialects import tf1 as tf

ARTICLES = articles("tensorflow.contrib", "ExponentialMovingAverage")

pytestmark = pytest.mark.skipif(not ARTICLES, reason="the articles are not here")


@pytest.fixture
def text():
    (found,) = ARTICLES.values()
    return found


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as made:
        yield made


def with_our_imports(line):
    """The line with the dialect in the place of TensorFlow."""
    line = re.sub(r"^import tensorflow as (\w+)$", r"from minigrad.dialects import tf1 as \1", line)
    return re.sub(r"^from tensorflow(\S*) import", r"from minigrad.dialects.tf1\1 import", line)


def imported(text):
    names = {}
    lines = [line for line in code(text) if re.match(r"(from|import) ", line)]
    for line in lines:
        exec(compile(with_our_imports(line), "article", "exec"), names)
    return lines, names


def signatures(text):
    """The functions whose headers stand in the article: their names, and their parameters with defaults."""
    found = []
    for header in re.findall(r"def \w+\([^)]*\):", text):
        (function,) = ast.parse(f"{header}\n    pass").body
        names = [a.arg for a in function.args.args]
        scope = {"ops": tf, "DATA_FORMAT_NHWC": "NHWC"}
        values = [eval(ast.unparse(d), scope) for d in function.args.defaults]
        required = len(names) - len(values)
        found.append((function.name, dict(zip(names, [inspect.Parameter.empty] * required + values))))
    return found


def test_the_import_line_is_all_that_changes(text):
    lines, names = imported(text)
    assert lines == ["from tensorflow.contrib.layers.python.layers import batch_norm"]
    assert names["batch_norm"] is tf.contrib.layers.batch_norm


def test_functions_take_what_the_article_says(text):
    ours = {
        "batch_normalization": tf.nn.batch_normalization,
        "moments": tf.nn.moments,
        "__init__": tf.train.ExponentialMovingAverage.__init__,
        "apply": tf.train.ExponentialMovingAverage.apply,
        "batch_norm": tf.contrib.layers.batch_norm,
    }
    found = signatures(text)
    assert sorted(name for name, _ in found) == sorted(ours)
    for name, wanted in found:
        parameters = {n: p.default for n, p in inspect.signature(ours[name]).parameters.items()}
        assert dict(list(parameters.items())[: len(wanted)]) == wanted, name
        assert list(parameters)[: len(wanted)] == list(wanted), name  # in that order, so that places mean the same


def test_the_formula_is_what_apply_does(text):
    (formula,) = [line for line in code(text) if line.startswith("shadow_variable")]
    variable, decay = tf.Variable([1.0, -2.0]), 0.9
    averages = tf.train.ExponentialMovingAverage(decay)
    with tf.control_dependencies([tf.assign_add(variable, [0.5, 3.0])]):
        step = averages.apply([variable])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        shadow_variable = session.run(variable)
        for _ in range(4):
            session.run(step)
            names = {"decay": decay, "shadow_variable": shadow_variable, "variable": session.run(variable)}
            exec(compile(formula, "article", "exec"), names)
            shadow_variable = names["shadow_variable"]
            np.testing.assert_allclose(session.run(averages.average(variable)), shadow_variable, rtol=1e-6)


def test_both_of_its_ways_train_alike(text):
    """Moments, averages and batch_normalization in one network, batch_norm in the other, from the same weights."""
    batch_norm = imported(text)[1]["batch_norm"]
    (x, y), (x_test, y_test) = mg.data.glyph_dataset(640, 200, seed=4)
    x, x_test = (a.reshape(len(a), -1).astype("float32") / 255 for a in (x, x_test))
    losses = {}
    for way in ("together", "at once"):
        tf.set_random_seed(1)
        images, labels = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.int64, [None])
        training = tf.placeholder(tf.bool, [])
        h = images
        for i in range(2):
            with tf.variable_scope(f"{way[:2]}{i}"):
                w = tf.get_variable("w", [h.shape[-1], 40], initializer=tf.random_normal_initializer(0, 0.05, seed=i))
                h = tf.matmul(h, w)
                if way == "at once":
                    h = batch_norm(h, 0.9, scale=True, updates_collections=None, is_training=training)
                else:
                    h = normalized_by_hand(h, training)
                h = tf.nn.relu(h)
        logits = tf.layers.dense(h, 10, kernel_initializer=tf.random_normal_initializer(0, 0.05, seed=9))
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.GradientDescentOptimizer(0.3).minimize(loss)
        right = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            found = losses[way] = []
            for i in range(40):
                part = slice(i % 16 * 40, i % 16 * 40 + 40)
                feed = {images: x[part], labels: y[part], training: True}
                found.append(session.run([loss, step], feed)[0])
            found.append(session.run(right, {images: x_test, labels: y_test, training: False}))
    np.testing.assert_allclose(losses["together"], losses["at once"], rtol=1e-3)
    assert losses["at once"][-1] > 0.8


def normalized_by_hand(x, training):
    n = x.get_shape()[-1]
    gamma, beta = tf.Variable(tf.ones([n])), tf.Variable(tf.zeros([n]))
    # A shadow begins at its Variable's value; here they begin where batch_norm's statistics do.
    held = [tf.Variable(first([n]), trainable=False) for first in (tf.zeros, tf.ones)]
    averages = tf.train.ExponentialMovingAverage(decay=0.9)

    def train():
        mean, variance = tf.nn.moments(x, [0])
        with tf.control_dependencies([tf.assign(held[0], mean), tf.assign(held[1], variance)]):
            step = averages.apply(held)
        with tf.control_dependencies([step]):
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.001)

    def infer():
        mean, variance = (averages.average(v) for v in held)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.001)

    return tf.cond(training, train, infer)


def test_no_article_has_code_that_no_test_runs():
    """Two use Keras, one Theano, one TensorFlow 1; the fifth one, on conditional norms, has no code."""
    kinds = [articles("tf.keras"), articles("theano.shared"), articles("tensorflow.contrib")]
    covered = {name for kind in kinds for name in kind}
    assert [len(kind) for kind in kinds] == [2, 1, 1]
    left = [text for name, text in articles().items() if name not in covered]
    assert len(left) == 1
    assert code(left[0]) == []
