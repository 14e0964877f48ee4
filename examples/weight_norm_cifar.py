"""Weight normalization in LeNet on CIFAR-10, beside the same network without it, in Keras's words.

    python examples/weight_norm_cifar.py --quick       # seconds, on drawn digits
    python examples/weight_norm_cifar.py               # CIFAR-10, 10 epochs, or drawn digits where it can't be had
    python examples/weight_norm_cifar.py --epochs 2
    python examples/weight_norm_cifar.py --seeds 5     # mean and spread

Two networks (6 and 16 convolutions of 5×5 with max pooling, 120, 84 and 10 units) are trained by Adam in batches of 32;
in the second each layer's weights are g·v/‖v‖ (Salimans & Kingma 2016). The published figures stand beside ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import experiment
import numpy as np
from experiment import COLOURS, Results

from minigrad.dialects import keras
from minigrad.dialects.keras import layers

PLAIN, NORMED = "plain", "weight norm"
#: Training accuracies after epochs 1, 2 and 10, validation accuracy after epoch 10, milliseconds a step, as published.
PUBLISHED = {PLAIN: (0.3253, 0.5039, 0.6889, 0.6029, 3.0), NORMED: (0.3319, 0.4937, 0.7029, 0.6018, 6.0)}
#: Training accuracies of that code under TensorFlow 2.15 with Addons 0.23 on 2 cores, after epochs 1 and 2.
RERUN = {PLAIN: (0.3995, 0.5185), NORMED: (0.4146, 0.5196)}


def build(kind: str) -> keras.Sequential:
    """One of the two networks, compiled."""
    wrapped: Callable[[Any], Any] = layers.WeightNormalization if kind == NORMED else lambda layer: layer
    model = keras.Sequential(
        [
            wrapped(layers.Conv2D(6, 5, activation="relu")),
            layers.MaxPooling2D(2, 2),
            wrapped(layers.Conv2D(16, 5, activation="relu")),
            layers.MaxPooling2D(2, 2),
            layers.Flatten(),
            wrapped(layers.Dense(120, activation="relu")),
            wrapped(layers.Dense(84, activation="relu")),
            wrapped(layers.Dense(10, activation="softmax")),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


class Pace(keras.callbacks.Callback):
    """When each step of training ended."""

    def __init__(self, bar: Any):
        super().__init__()
        self.bar = bar
        self.steps: list[float] = []
        self.last = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.last = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self.last:
            self.steps.append(now - self.last)
        self.last = now
        self.bar.update()


def train(options: argparse.Namespace, kind: str, seed: int, train_on: tuple, validate_on: tuple) -> dict[str, Any]:
    """The History of a network, and its pace."""
    keras.utils.set_random_seed(seed)
    model = build(kind)
    with experiment.bar(options, options.epochs * -(-len(train_on[0]) // 32), f"{kind}, seed {seed}") as shown:
        pace = Pace(shown)
        fit = {"batch_size": 32, "epochs": options.epochs, "validation_data": validate_on, "verbose": 0}
        history = model.fit(*train_on, **fit, callbacks=[pace])
    experiment.tell(options, f"{kind}, seed {seed}: training accuracy {history.history['accuracy'][-1]:.4f}")
    return {"seed": seed, **history.history, "milliseconds": 1000 * float(np.median(pace.steps))}


def draw(figure: Any, runs: dict[str, dict[str, Any]]) -> None:
    """Accuracy over epochs, in training and in validation."""
    places = figure.subplots(1, 2, sharey=True)
    for axes, name, title in zip(places, ("accuracy", "val_accuracy"), ("training", "validation")):
        for (kind, run), colour in zip(runs.items(), COLOURS):
            axes.plot(np.arange(len(run[name])) + 1, run[name], marker="o", color=colour, label=kind)
        axes.set(xlabel="epoch", title=f"{title} accuracy")
        axes.grid(alpha=0.3)
    places[0].legend()


def compare(options: argparse.Namespace) -> Results:
    """Both networks, with every seed."""
    found = experiment.photographs(options, quick=(160, 60))
    arrays = [
        (x.astype(np.float32) / 255, keras.utils.to_categorical(y, 10))
        for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test))
    ]
    every = {
        kind: [train(options, kind, seed, *arrays) for seed in experiment.seeds(options)] for kind in (PLAIN, NORMED)
    }
    runs = {kind: several[0] for kind, several in every.items()}
    results = Results("Weight normalization in LeNet", found.name, numbers=dict(runs))
    results.table(
        f"{found.name}: accuracy in training and in validation, batches of 32, Adam, seed {options.seed}",
        ["", "training", "published", "TensorFlow 2.15", "validation", "published"],
        [epoch_row(options, epoch, kind, run) for epoch in sorted({1, 2, options.epochs} & {*range(options.epochs + 1)})
         for kind, run in runs.items()],
    )  # fmt: skip
    if options.seeds > 1:
        seeds_table(options, results, every)
    plain, normed = runs[PLAIN]["milliseconds"], runs[NORMED]["milliseconds"]
    results.table(
        "Milliseconds a step, batch to batch",
        ["", PLAIN, NORMED, "ratio"],
        [["ours", plain, normed, normed / plain], ["published", 3.0, 6.0, 2.0]],
    )
    results.picture(options.out / "accuracy.png", "Accuracy with and without weight norm", lambda f: draw(f, runs))
    return results


def epoch_row(options: argparse.Namespace, epoch: int, kind: str, run: dict[str, Any]) -> list[Any]:
    """Accuracies after an epoch beside what was published of it."""
    published = dict(zip((1, 2, 10), PUBLISHED[kind][:3])).get(epoch)
    rerun = dict(zip((1, 2), RERUN[kind])).get(epoch)
    validation = PUBLISHED[kind][3] if epoch == 10 else None
    accuracy, validated = run["accuracy"][epoch - 1], run["val_accuracy"][epoch - 1]
    return [f"epoch {epoch}, {kind}", accuracy, published, rerun, validated, validation]


def seeds_table(options: argparse.Namespace, results: Results, every: dict[str, list[dict[str, Any]]]) -> None:
    """The last accuracies of every seed, their means and their spreads."""
    results.numbers["every seed"] = every
    shown = [(kind, name) for name in ("accuracy", "val_accuracy") for kind in every]
    last = {(kind, name): [run[name][-1] for run in every[kind]] for kind, name in shown}
    rows: list[list[Any]] = [
        [f"seed {seed}", *(last[key][k] for key in shown)] for k, seed in enumerate(experiment.seeds(options))
    ]
    rows.append(["mean ± standard deviation", *(experiment.spread(last[key]) for key in shown)])
    if options.epochs == 10:
        rows.append(["published, one run", *(PUBLISHED[kind][2 + (name != "accuracy")] for kind, name in shown)])
    columns = ["", *(f"{kind}, {'training' if name == 'accuracy' else 'validation'}" for kind, name in shown)]
    results.table(f"Accuracy after epoch {options.epochs}, by seed", columns, rows)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = experiment.parser("weight_norm_cifar", __doc__, ("cifar10", "glyphs"))
    parser.add_argument("--epochs", type=experiment.positive, help="default 10; 1 with --quick")
    experiment.add_seeds(parser)
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (1 if options.quick else 10)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and compare; the result is the exit status."""
    return experiment.run(parse(arguments), compare)


if __name__ == "__main__":
    sys.exit(main())
