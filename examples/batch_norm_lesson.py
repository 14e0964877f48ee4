"""What batch norm does to a plain network: 784-100-100-100-10 with first weights, rates and activations good and bad.

    python examples/batch_norm_lesson.py --quick                  # seconds
    python examples/batch_norm_lesson.py --steps 2000             # minutes: all twelve settings, cut short
    python examples/batch_norm_lesson.py                          # 50,000 steps each, as published
    python examples/batch_norm_lesson.py --only 0.05/0.01/relu 0.05/0.01/sigmoid
    python examples/batch_norm_lesson.py --only 5/1/relu 5/2/relu --seeds 5    # luck, seen as spread

Each setting, stddev/rate/activation, trains two networks from the same first weights on the same batches of 60 by plain
SGD. The published accuracies stand beside ours; the pictures show the accuracy on 5000 validation images on the way.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import experiment
import numpy as np
from experiment import COLOURS, Results

import minigrad as mg
import minigrad_norms as norms
from minigrad import data, nn

#: stddev/rate/activation: the published accuracy on the test images after 50,000 steps, without batch norm and with it.
#: From the notebook that the article takes its pictures from (Udacity, Batch Normalization Lesson).
PUBLISHED = {
    "0.05/0.01/relu": (0.9748, 0.9803),
    "0.05/0.01/sigmoid": (0.8271, 0.9732),
    "0.05/1/relu": (0.0980, 0.9834),
    "0.05/1/sigmoid": (0.9752, 0.9812),
    "0.05/2/relu": (0.1010, 0.9827),
    "0.05/2/sigmoid": (0.9782, 0.9782),
    "5/0.01/relu": (0.0980, 0.7990),
    "5/0.01/sigmoid": (0.2270, 0.8527),
    "5/1/relu": (0.1135, 0.9208),
    "5/1/sigmoid": (0.8957, 0.9505),
    "5/2/relu": (0.0980, 0.9054),
    "5/2/sigmoid": (0.9066, 0.9583),
}
PICTURED = ("0.05/0.01/relu", "0.05/0.01/sigmoid")  # the article's two pictures
BATCH = 60
VALIDATION = 5000


@dataclass
class Run:
    """A trained network: its accuracies, its pace, and where it lost its numbers if it did."""

    test: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    steps_per_second: float = 0.0
    diverged: int | None = None


def build(stddev: float, activation: str, batch_norm: bool, seed: int) -> nn.Sequential:
    """Three hidden layers of 100; batch norm stands before each activation, in place of the bias."""
    weights = nn.initializers.random_normal(stddev=stddev)
    layers: list[Any] = []
    for _ in range(3):
        layers.append(nn.Dense(100, use_bias=not batch_norm, kernel_initializer=weights))
        if batch_norm:
            layers.append(norms.BatchNormalization())
        layers.append(nn.Activation(activation))
    layers.append(nn.Dense(10, kernel_initializer=weights))
    model = nn.Sequential(layers)
    model.set_generator(mg.random.Generator(seed))  # the same kernels, with and without batch norm
    model.build_once((None, 784))
    return model


@np.errstate(over="ignore", invalid="ignore")  # some of these networks are meant to fail
def train(
    options: argparse.Namespace, setting: str, seed: int, batch_norm: bool, arrays: tuple[np.ndarray, ...]
) -> Run:
    """Train one network, and measure it."""
    x, y, x_valid, y_valid, x_test, y_test = arrays
    stddev, rate, activation = setting.split("/")
    model = build(float(stddev), activation, batch_norm, seed)
    optimizer = mg.optim.SGD(float(rate))
    variables = model.trainable_variables

    @mg.jit
    def step(images: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        loss = mg.softmax_cross_entropy(model(images, training=True), labels).mean()
        loss.backward()
        optimizer.step(variables)
        return loss

    def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        with mg.no_grad():
            return float((model(mg.tensor(images)).numpy().argmax(1) == labels).mean())

    run, taken, seconds = Run(), 0, []
    every = max(1, options.steps // 100)
    title = f"{setting} {'with' if batch_norm else 'without'}, seed {seed}"
    with experiment.bar(options, options.steps, title) as shown:
        while taken < options.steps and run.diverged is None:
            epoch = data.batches(x, y, BATCH, seed=seed, epoch=taken * BATCH // len(x), drop_last=True)
            for images, labels in epoch:
                start = time.perf_counter()
                loss = step(mg.tensor(images), mg.tensor(labels))
                seconds.append(time.perf_counter() - start)
                taken += 1
                if taken % every == 0 or taken == options.steps:
                    run.curve.append((taken, accuracy(x_valid, y_valid)))
                    shown.update(taken - shown.n)
                    if not math.isfinite(loss.item()):
                        run.diverged = taken  # no step brings the numbers back
                if taken == options.steps or run.diverged is not None:
                    break
    run.test = accuracy(x_test, y_test)
    run.steps_per_second = 1 / float(np.median(seconds))  # the first ones record and compile
    experiment.tell(options, f"{title}: test accuracy {run.test:.4f}")
    return run


def named(setting: str) -> str:
    """A setting in words."""
    stddev, rate, activation = setting.split("/")
    return f"N(0, {stddev}²), rate {rate}, {activation}"


def draw(figure: Any, pair: tuple[Run, Run], setting: str, steps: int) -> None:
    """The validation accuracy of both networks over the steps."""
    axes = figure.subplots()
    for run, label, colour in zip(pair, ("without batch norm", "with batch norm"), COLOURS):
        axes.plot([0, *(s for s, _ in run.curve)], [0.1, *(a for _, a in run.curve)], color=colour, label=label)
    stddev, rate, activation = setting.split("/")
    axes.set(xlabel="step", ylabel="validation accuracy", ylim=(0, 1), xlim=(0, steps))
    axes.set_title(f"{activation}, learning rate {rate}, weights N(0, {stddev}²)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def lesson(options: argparse.Namespace) -> Results:
    """All chosen settings, as a table and two pictures."""
    found = experiment.digits(options, quick=(1500, 300))
    rows = [a.reshape(len(a), -1).astype(np.float32) / 255 for a in (found.x_train, found.x_test)]
    kept = len(rows[0]) - min(VALIDATION, len(rows[0]) // 5)
    arrays = (rows[0][:kept], found.y_train[:kept], rows[0][kept:], found.y_train[kept:], rows[1], found.y_test)
    every = {
        s: [
            (train(options, s, seed, False, arrays), train(options, s, seed, True, arrays))
            for seed in experiment.seeds(options)
        ]
        for s in options.only
    }
    runs = {setting: pairs[0] for setting, pairs in every.items()}

    results = Results("Batch norm with good and bad first weights, rates and activations", found.name)
    table = []
    for setting, pair in runs.items():
        without, with_norm = pair
        published: tuple[float | None, float | None] = PUBLISHED[setting]
        pace = with_norm.steps_per_second / without.steps_per_second
        row = [named(setting), without.test, published[0], with_norm.test, published[1]]
        note = f"without: diverged by step {without.diverged}" if without.diverged else ""
        table.append([*row, without.steps_per_second, with_norm.steps_per_second, pace, note])
    columns = ["weights, rate, activation", "without", "published", "with", "published"]
    results.table(
        f"{found.name}: test accuracy after {options.steps} steps of {BATCH} (published: after 50,000)",
        [*columns, "steps/s without", "steps/s with", "ratio", ""],
        table,
    )
    results.numbers = {
        setting: {
            "without": vars(pairs[0][0]),
            "with": vars(pairs[0][1]),
            "published": PUBLISHED[setting],
        }
        for setting, pairs in every.items()
    }
    if options.seeds > 1:
        seeds_table(options, results, every)
    for setting in PICTURED:
        if setting in runs:
            path = options.out / f"accuracy-{setting.split('/')[-1]}.png"
            caption = f"Accuracy on the validation images, {setting.split('/')[-1]}, with and without batch norm"
            results.picture(path, caption, lambda f, s=setting: draw(f, runs[s], s, options.steps), (7, 4))
    return results


def seeds_table(options: argparse.Namespace, results: Results, every: dict[str, list[tuple[Run, Run]]]) -> None:
    """The accuracies of every seed, their means and their spreads."""
    rows: list[list[Any]] = []
    for setting, pairs in every.items():
        results.numbers[setting]["every seed"] = [{"without": vars(a), "with": vars(b)} for a, b in pairs]
        for k, kind in enumerate(("without", "with")):
            tested = [pair[k].test for pair in pairs]
            rows.append([f"{named(setting)}, {kind}", *tested, experiment.spread(tested), PUBLISHED[setting][k]])
    heads = [f"seed {seed}" for seed in experiment.seeds(options)]
    results.table("Test accuracy by seed", ["", *heads, "mean ± standard deviation", "published, one run"], rows)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = experiment.parser("batch_norm_lesson", __doc__, ("mnist", "fashion_mnist", "glyphs"))
    parser.add_argument("--steps", type=experiment.positive, help="of each network (default 50000; 60 with --quick)")
    parser.add_argument("--only", nargs="+", choices=PUBLISHED, metavar="SETTING", help=", ".join(PUBLISHED))
    experiment.add_seeds(parser)
    options = parser.parse_args(arguments)
    options.steps = options.steps or (60 if options.quick else 50000)
    options.only = options.only or (list(PICTURED) if options.quick else list(PUBLISHED))
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the lesson; the result is the exit status."""
    return experiment.run(parse(arguments), lesson)


if __name__ == "__main__":
    sys.exit(main())
