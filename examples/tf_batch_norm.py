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

import minigrad as mg
import minigrad_norms as norms
from minigrad import data, nn

DECAY, EPSILON = 0.9, 0.001
KINDS = {"none": "without", "by_hand": "moments and averages", "batch_norm": "batch_norm"}


class Network:
    """The convnet; its Variables live in a store of its own, by name."""

    def __init__(self, kind: str, seed: int, channels: tuple[int, int] = (32, 64)):
        self.kind, self.channels = kind, channels
        self.store = norms.VariableStore()
        self.averages = norms.ExponentialMovingAverage(DECAY, zero_debias=True)
        self.generator = mg.random.Generator(seed)

    def __call__(self, images: mg.Tensor, training: bool) -> mg.Tensor:
        """The logits, (n, 10), of images (n, height, width, 3)."""
        x = images
        with self.store:
            for i, filters in enumerate(self.channels):
                with norms.variable_scope(f"layer{i}", reuse=norms.AUTO_REUSE):
                    x = self.convolution(x, 5, filters)
                    x = mg.max_pool2d(self.normalized(x, f"layer{i}", training), 2)
            with norms.variable_scope("last", reuse=norms.AUTO_REUSE):
                return self.convolution(x, 3, 10).mean((1, 2))

    @property
    def trainable(self) -> list[mg.Variable]:
        return self.store.collection(norms.TRAINABLE_VARIABLES)

    def convolution(self, x: mg.Tensor, size: int, filters: int) -> mg.Tensor:
        kernel = norms.get_variable("kernel", (size, size, x.shape[-1], filters), initializer=self.first("he_normal"))
        return mg.conv2d(x, kernel, padding="SAME")

    def first(self, name: str) -> Any:
        """An initializer that draws from the network's own generator."""
        return lambda shape, dtype, _: nn.initializers.get(name)(shape, dtype, self.generator)

    def normalized(self, x: mg.Tensor, name: str, training: bool) -> mg.Tensor:
        """x, normalized in the way of this network, after relu."""
        if self.kind == "batch_norm":
            # updates_collections=None moves the averages at once; by default they would wait for `run_updates`.
            return norms.batch_norm(
                x, DECAY, scale=True, epsilon=EPSILON, activation_fn=mg.relu, is_training=training,
                updates_collections=None, zero_debias_moving_mean=True, fused=False, scope="norm",
            )  # fmt: skip
        channels = x.shape[-1:]
        offset = norms.get_variable("offset", channels, initializer="zeros")
        if self.kind == "none":
            return mg.relu(x + offset)
        scale = norms.get_variable("scale", channels, initializer="ones")
        names = (f"{name}/mean", f"{name}/variance")
        if training or self.averages.average(names[0]) is None:  # before the first step there are no averages
            mean, variance = norms.moments(x, (0, 1, 2))
        else:
            mean, variance = (self.averages.average(n) for n in names)
        if training:
            self.averages.apply(dict(zip(names, (mean, variance))))
        return mg.relu(norms.batch_normalization(x, mean, variance, offset, scale, EPSILON))


def train(options: argparse.Namespace, kind: str, arrays: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """Train one network: its accuracies after each epoch, its losses and its pace."""
    x, y, x_test, y_test = arrays
    network = Network(kind, options.seed, (8, 16) if options.quick else (32, 64))
    optimizer = mg.optim.Adam(options.lr)
    network(mg.tensor(x[:1]), training=False)  # makes the Variables

    @mg.jit
    def step(images: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        loss = mg.softmax_cross_entropy(network(images, True), labels).mean()
        loss.backward()
        optimizer.step(network.trainable)
        return loss

    def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        with mg.no_grad():
            parts = [
                network(mg.tensor(images[i : i + 500]), False).numpy().argmax(1) for i in range(0, len(images), 500)
            ]
        return float((np.concatenate(parts) == labels).mean())

    found: dict[str, Any] = {"loss": [], "accuracy": [], "training accuracy": []}
    seconds = []
    total = options.epochs * data.number_of_batches(len(x), options.batch, drop_last=True)
    with experiment.bar(options, total, KINDS[kind]) as shown:
        for epoch in range(options.epochs):
            for images, labels in data.batches(x, y, options.batch, seed=options.seed, epoch=epoch, drop_last=True):
                start = time.perf_counter()
                found["loss"].append(step(mg.tensor(images), mg.tensor(labels)).item())
                seconds.append(time.perf_counter() - start)
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
