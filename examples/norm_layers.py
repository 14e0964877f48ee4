"""Group, instance and layer norm in three small convnets for MNIST, in Keras's words.

    python examples/norm_layers.py --quick       # seconds, on drawn digits
    python examples/norm_layers.py               # MNIST, or drawn digits where it can't be had

Each network is reshape → 10 convolutions of 3×3 → normalization → flatten → 128 relu → dropout → 10 softmax. It is
trained by Adam for one epoch in batches of 32, first on the 10,000 test images as the tutorial does, where the accuracy
is the running one of training; then on the training images, and tested on the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import experiment
import numpy as np
from experiment import COLOURS, Results

from minigrad.dialects import keras
from minigrad.dialects.keras import layers

#: Accuracy in the tutorial; accuracy and milliseconds a step of its code under TensorFlow 2.15 with Addons 0.23.
PUBLISHED = {
    "group norm, 5 groups": (0.7722, 0.858, 6.5),
    "instance norm": (0.7194, 0.833, 5.6),
    "layer norm": (0.8049, 0.871, 9.0),
}


def normalizations() -> dict[str, Any]:
    """The three layers, new ones; each normalizes 10 channels, the last axis."""
    uniform = {"gamma_initializer": "random_uniform", "beta_initializer": "random_uniform"}
    return {
        "group norm, 5 groups": layers.GroupNormalization(groups=5, axis=3),
        "instance norm": layers.InstanceNormalization(axis=3, **uniform),
        "layer norm": layers.LayerNormalization(axis=3),
    }


def build(kind: str) -> keras.Sequential:
    """One of the three networks, compiled."""
    model = keras.Sequential(
        [
            layers.Reshape((28, 28, 1), input_shape=(28, 28)),
            layers.Conv2D(10, 3),
            normalizations()[kind],
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Watch(keras.callbacks.Callback):
    """The accuracy of every batch, and when it was there."""

    def __init__(self, bar: Any):
        super().__init__()
        self.bar = bar
        self.accuracies: list[float] = []
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.times.append(time.perf_counter())
        self.accuracies.append(logs["accuracy"])
        self.bar.update()

    @property
    def milliseconds(self) -> float:
        """A step's, between one batch and the next."""
        return 1000 * float(np.median(np.diff(self.times))) if len(self.times) > 1 else float("nan")


def train(options: argparse.Namespace, kind: str, x: np.ndarray, y: np.ndarray, where: str) -> tuple[Any, Any, Watch]:
    """A network after one epoch on these images: itself, its History and what was watched."""
    keras.utils.set_random_seed(options.seed)
    model = build(kind)
    with experiment.bar(options, -(-len(x) // 32), f"{kind}, {where}") as shown:
        watch = Watch(shown)
        history = model.fit(x, y, verbose=0, callbacks=[watch])
    return model, history, watch


def draw(figure: Any, watched: dict[str, Watch]) -> None:
    """The accuracy of the batches, averaged over the last ones, on the way through the epoch."""
    axes = figure.subplots()
    for (kind, watch), colour in zip(watched.items(), COLOURS):
        window = max(1, len(watch.accuracies) // 15)
        smooth = np.convolve(watch.accuracies, np.ones(window) / window, "valid")
        axes.plot(np.arange(len(smooth)) + window, smooth, color=colour, label=kind)
    axes.set(xlabel="step", ylabel="accuracy of the batches", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def tutorial(options: argparse.Namespace) -> Results:
    """The three networks, in the tutorial's way and on the proper split."""
    found = experiment.digits(options, quick=(192, 192))
    x_train, x_test = (a.astype(np.float32) / 255 for a in (found.x_train, found.x_test))
    results = Results("Group, instance and layer norm in a convnet", found.name)
    as_published, proper, watched = [], [], {}
    for kind, (article, theirs, their_pace) in PUBLISHED.items():
        _, history, watch = train(options, kind, x_test, found.y_test, "test images")
        ours = history.history["accuracy"][-1]
        as_published.append([kind, ours, article, theirs, watch.milliseconds, their_pace])
        watched[kind] = watch
        results.numbers[kind] = {"accuracy": ours, "milliseconds": watch.milliseconds}
    for kind in PUBLISHED:
        model, history, watch = train(options, kind, x_train, found.y_train, "training images")
        loss, accuracy = model.evaluate(x_test, found.y_test, batch_size=256, verbose=0)
        proper.append([kind, history.history["accuracy"][-1], accuracy, loss, watch.milliseconds])
        results.numbers[kind] |= {"test accuracy": accuracy, "test loss": loss}
    results.table(
        f"{found.name}: accuracy in one epoch on the {len(x_test)} test images, as the tutorial trains",
        ["network", "accuracy", "tutorial", "TensorFlow 2.15", "ms/step", "TensorFlow's"],
        as_published,
    )
    results.table(
        f"{found.name}: one epoch on the {len(x_train)} training images, tested on the others",
        ["network", "training accuracy", "test accuracy", "test loss", "ms/step"],
        proper,
    )
    path = options.out / "accuracy.png"
    results.picture(path, "Accuracy on the way through the test images", lambda f: draw(f, watched), (7, 4))
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    return experiment.parser("norm_layers", __doc__, ("mnist", "fashion_mnist", "glyphs")).parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train the networks; the result is the exit status."""
    return experiment.run(parse(arguments), tutorial)


if __name__ == "__main__":
    sys.exit(main())
