"""Batch norm in TensorFlow 1's words: moments, moving averages and batch_norm in a convnet for CIFAR-10.

    python examples/tf_batch_norm.py --quick       # seconds, on drawn digits
    python examples/tf_batch_norm.py               # CIFAR-10, or drawn digits where it can't be had
    python examples/tf_batch_norm.py --epochs 10 --only batch_norm

The network is (convolution → normalization → relu → pooling) × 2, a convolution to ten channels, and global average
pooling in place of a dense layer. It is trained three times from the same first weights: without normalization; with
one put together from ``moments``, ``ExponentialMovingAverage`` and ``batch_normalization``; and with ``batch_norm``,
which does all of that in one call. The last two must come to the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import experiment
import numpy as np
from experiment import COLOURS, Results

from minigrad import data
from minigrad.dialects import tf1 as tf

DECAY, EPSILON = 0.9, 0.001
KINDS = {"none": "without", "by_hand": "moments and averages", "batch_norm": "batch_norm"}


def network(images: Any, training: Any, kind: str, channels: tuple[int, int]) -> Any:
    """The logits, (n, 10), of images (n, height, width, 3)."""
    x = images
    for i, filters in enumerate(channels):
        with tf.variable_scope(f"layer{i}"):
            x = normalized(convolution(x, 5, filters), training, kind)
            x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    with tf.variable_scope("last"):
        return tf.reduce_mean(convolution(x, 3, 10), [1, 2])


def convolution(x: Any, size: int, filters: int) -> Any:
    """A convolution that keeps the size; its first weights are He's."""
    shape = [size, size, x.get_shape()[-1], filters]
    kernel = tf.get_variable("kernel", shape, initializer=tf.contrib.layers.variance_scaling_initializer())
    return tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")


def normalized(x: Any, training: Any, kind: str) -> Any:
    """x, normalized in one of the ways, after relu."""
    if kind == "batch_norm":
        # updates_collections=None moves the averages at once; by default they wait in UPDATE_OPS.
        return tf.contrib.layers.batch_norm(
            x, DECAY, scale=True, epsilon=EPSILON, activation_fn=tf.nn.relu, is_training=training,
            updates_collections=None, zero_debias_moving_mean=True,
        )  # fmt: skip
    channels = [x.get_shape()[-1]]
    offset = tf.get_variable("offset", channels, initializer=tf.zeros_initializer())
    if kind == "none":
        return tf.nn.relu(x + offset)
    scale = tf.get_variable("scale", channels, initializer=tf.ones_initializer())
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    averages = tf.train.ExponentialMovingAverage(DECAY, zero_debias=True)

    def moved() -> Any:
        with tf.control_dependencies([averages.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    def kept() -> Any:
        return averages.average(mean), averages.average(variance)

    mean, variance = tf.cond(training, moved, kept)
    return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON))


def train(options: argparse.Namespace, kind: str, arrays: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """Train one network: its accuracies after each epoch, its losses and its pace."""
    x, y, x_test, y_test = arrays
    found: dict[str, Any] = {"loss": [], "accuracy": [], "training accuracy": []}
    seconds = []
    total = options.epochs * data.number_of_batches(len(x), options.batch, drop_last=True)
    with tf.Graph().as_default():
        tf.set_random_seed(options.seed)  # the same first weights for all networks
        images = tf.placeholder(tf.float32, [None, *x.shape[1:]], "images")
        labels, training = tf.placeholder(tf.int64, [None], "labels"), tf.placeholder(tf.bool, [], "training")
        logits = network(images, training, kind, (8, 16) if options.quick else (32, 64))
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss, guess = tf.reduce_mean(each), tf.argmax(logits, 1)
        step = tf.train.AdamOptimizer(options.lr).minimize(loss)
        with tf.Session() as session, experiment.bar(options, total, KINDS[kind]) as shown:
            session.run(tf.global_variables_initializer())

            def accuracy(inputs: np.ndarray, wanted: np.ndarray) -> float:
                parts = [inputs[i : i + 500] for i in range(0, len(inputs), 500)]
                guesses = [session.run(guess, {images: part, training: False}) for part in parts]
                return float((np.concatenate(guesses) == wanted).mean())

            for epoch in range(options.epochs):
                for some, their in data.batches(x, y, options.batch, seed=options.seed, epoch=epoch, drop_last=True):
                    start = time.perf_counter()
                    value, _ = session.run([loss, step], {images: some, labels: their, training: True})
                    seconds.append(time.perf_counter() - start)
                    found["loss"].append(float(value))
                    shown.update()
                found["accuracy"].append(accuracy(x_test, y_test))
                found["training accuracy"].append(accuracy(x[:5000], y[:5000]))
    found["milliseconds"] = 1000 * float(np.median(seconds))
    return found


def draw(figure: Any, runs: dict[str, dict[str, Any]]) -> None:
    """Loss over steps, accuracy over epochs."""
    loss, accuracy = figure.subplots(1, 2)
    for (kind, run), colour, style in zip(runs.items(), COLOURS, ("-", "-", "--")):
        values = np.asarray(run["loss"])
        window = max(1, len(values) // 50)
        loss.plot(np.convolve(values, np.ones(window) / window, "valid"), style, color=colour, label=KINDS[kind])
        accuracy.plot(np.arange(len(run["accuracy"])) + 1, run["accuracy"], style, marker="o", color=colour)
    loss.set(xlabel="step", ylabel="training loss")
    accuracy.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
    loss.legend()
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)


def compare(options: argparse.Namespace) -> Results:
    """All chosen networks."""
    found = experiment.photographs(options, quick=(256, 100))
    x, x_test = (a.astype(np.float32) / 255 - 0.5 for a in (found.x_train, found.x_test))
    arrays = (x, found.y_train, x_test, found.y_test)
    runs = {kind: train(options, kind, arrays) for kind in options.only}
    results = Results("Batch norm from moments, from averages, and in one call", found.name, numbers=runs)
    rows = [
        [KINDS[kind], run["accuracy"][0], run["accuracy"][-1], run["training accuracy"][-1], run["milliseconds"]]
        for kind, run in runs.items()
    ]
    results.table(
        f"{found.name}: {options.epochs} epochs of batches of {options.batch}, Adam at {options.lr:g}",
        ["normalization", "test accuracy, epoch 1", "last", "training accuracy", "ms/step"],
        rows,
    )
    results.picture(options.out / "tf_batch_norm.png", "Loss and test accuracy", lambda f: draw(f, runs))
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = experiment.parser("tf_batch_norm", __doc__, ("cifar10", "glyphs"))
    parser.add_argument("--epochs", type=experiment.positive, help="default 5; 1 with --quick")
    parser.add_argument("--batch", type=experiment.positive, help="default 128; 32 with --quick")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (1 if options.quick else 5)
    options.batch = options.batch or (32 if options.quick else 128)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and compare; the result is the exit status."""
    return experiment.run(parse(arguments), compare)


if __name__ == "__main__":
    sys.exit(main())
