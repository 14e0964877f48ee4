"""Batch norm in a network of 10 layers, in Theano's words: symbolic expressions, shared variables, a compiled function.

    python examples/theano_batch_norm.py --quick            # seconds, on drawn digits
    python examples/theano_batch_norm.py                    # MNIST, or drawn digits where it can't be had
    python examples/theano_batch_norm.py --activation sigmoid --rate 1

The network is input → (dense → batch norm → activation) × 10 → output; the second one has no batch norm. The layer is
that of the article: by each batch's own mean and variance, in training and in testing, so nothing is averaged.
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

import minigrad.dialects.theano.tensor as T
from minigrad.dialects import theano

LAYERS, BATCH = 10, 60


def shared(values: Any, name: str) -> Any:
    """A shared variable of the configured float type."""
    return theano.shared(np.asarray(values, dtype=theano.config.floatX), name=name, borrow=True)


class Dense:
    """x·W + b."""

    def __init__(self, rng: np.random.Generator, x: Any, inputs: int, units: int, stddev: float, name: str):
        self.weight = shared(rng.normal(0, stddev, (inputs, units)), f"{name}/weight")
        self.bias = shared(np.zeros(units), f"{name}/bias")
        self.output = T.dot(x, self.weight) + self.bias
        self.params = [self.weight, self.bias]


class BatchNormalization:
    """gamma·(x − mean)/√(variance + 1e-5) + beta, each over the batch."""

    def __init__(self, x: Any, units: int, name: str):
        self.gamma = shared(np.ones(units), f"{name}/gamma")
        self.beta = shared(np.zeros(units), f"{name}/beta")
        mean, variance = x.mean(axis=0, keepdims=True), x.var(axis=0, keepdims=True)
        self.output = self.gamma * (x - mean) / T.sqrt(variance + 1e-5) + self.beta
        self.params = [self.gamma, self.beta]


@dataclass
class Run:
    """How a network did: test accuracies and losses on the way, and its pace."""

    accuracy: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    milliseconds: float = 0.0
    compiled: float = 0.0
    diverged: int | None = None


def network(options: argparse.Namespace, x: Any, pixels: int, batch_norm: bool) -> tuple[Any, list[Any]]:
    """The probabilities of the ten classes, and what is trained."""
    rng = np.random.default_rng(options.seed)
    activation = {"relu": T.nnet.relu, "sigmoid": T.nnet.sigmoid, "tanh": T.tanh}[options.activation]
    params, h, inputs = [], x, pixels
    for i in range(LAYERS):
        dense = Dense(rng, h, inputs, options.width, options.stddev, f"layer{i}")
        params += dense.params
        h, inputs = dense.output, options.width
        if batch_norm:
            norm = BatchNormalization(h, options.width, f"norm{i}")
            params += norm.params
            h = norm.output
        h = activation(h)
    last = Dense(rng, h, inputs, 10, options.stddev, "output")
    return T.nnet.softmax(last.output), [*params, *last.params]


@np.errstate(over="ignore", invalid="ignore")  # a network without batch norm may fail
def train(options: argparse.Namespace, batch_norm: bool, arrays: tuple[np.ndarray, ...]) -> Run:
    """Train one network by plain gradient descent, and measure it."""
    x_train, y_train, x_test, y_test = arrays
    images, labels = theano.shared(x_train, borrow=True), theano.shared(y_train, borrow=True)
    x, y, index = T.matrix("x"), T.lvector("y"), T.lscalar("index")
    probabilities, params = network(options, x, x_train.shape[1], batch_norm)
    cost = T.nnet.categorical_crossentropy(probabilities, y).mean()
    gradients = T.grad(cost, params)
    start = time.perf_counter()
    step = theano.function(
        [index],
        cost,
        updates=[(p, p - np.float32(options.rate) * g) for p, g in zip(params, gradients)],
        givens={x: images[index * BATCH : (index + 1) * BATCH], y: labels[index * BATCH : (index + 1) * BATCH]},
    )
    classify = theano.function([x], T.argmax(probabilities, axis=1))
    run = Run(compiled=time.perf_counter() - start)
    batches, seconds = len(x_train) // BATCH, []
    order = np.random.default_rng([options.seed, 1])
    every = max(1, options.steps // 40)
    queue: list[int] = []
    with experiment.bar(options, options.steps, "with batch norm" if batch_norm else "without") as shown:
        for i in range(1, options.steps + 1):
            queue = queue or order.permutation(batches).tolist()
            start = time.perf_counter()
            loss = float(step(queue.pop()))
            seconds.append(time.perf_counter() - start)
            run.losses.append(loss)
            shown.update()
            if i % every == 0 or i == options.steps or not math.isfinite(loss):
                run.accuracy = float((classify(x_test) == y_test).mean())
                run.curve.append((i, run.accuracy))
            if not math.isfinite(loss):
                run.diverged = i
                break
    run.milliseconds = 1000 * float(np.median(seconds))
    return run


def draw(figure: Any, runs: dict[str, Run]) -> None:
    """Test accuracy and training loss over the steps."""
    accuracy, loss = figure.subplots(1, 2)
    for (name, run), colour in zip(runs.items(), COLOURS):
        accuracy.plot(*zip(*run.curve), color=colour, label=name)
        window = max(1, len(run.losses) // 50)
        loss.plot(np.convolve(run.losses, np.ones(window) / window, "valid"), color=colour)
    accuracy.set(xlabel="step", ylabel="test accuracy", ylim=(0, 1))
    loss.set(xlabel="step", ylabel="training loss")
    accuracy.legend()
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)


def compare(options: argparse.Namespace) -> Results:
    """Both networks."""
    found = experiment.digits(options, quick=(600, 200))
    x_train, x_test = (a.reshape(len(a), -1).astype(np.float32) / 255 for a in (found.x_train, found.x_test))
    order = np.random.default_rng(options.seed).permutation(len(x_train))
    arrays = (x_train[order], found.y_train[order], x_test, found.y_test)
    with theano.config.change_flags(floatX="float32"):
        runs = {name: train(options, name != "without", arrays) for name in ("without", "with batch norm")}
    results = Results(
        "Batch norm in a network of ten layers", found.name, numbers={n: vars(r) for n, r in runs.items()}
    )
    rows = [
        [
            name,
            run.accuracy,
            run.losses[-1],
            run.milliseconds,
            f"diverged at step {run.diverged}" if run.diverged else "",
        ]
        for name, run in runs.items()
    ]
    results.table(
        f"{found.name}: {options.steps} steps of {BATCH}, {LAYERS} layers of {options.width}, {options.activation}, "
        f"rate {options.rate:g}, weights N(0, {options.stddev:g}²)",
        ["network", "test accuracy", "last loss", "ms/step", ""],
        rows,
        "The article shows its result as a picture, without figures.",
    )
    results.picture(options.out / "theano_batch_norm.png", "With and without batch norm", lambda f: draw(f, runs))
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = experiment.parser("theano_batch_norm", __doc__, ("mnist", "fashion_mnist", "glyphs"))
    parser.add_argument("--steps", type=experiment.positive, help="default 4000; 60 with --quick")
    parser.add_argument("--activation", choices=("relu", "sigmoid", "tanh"), default="sigmoid")
    parser.add_argument("--rate", type=float, default=0.1, help="of learning")
    parser.add_argument("--stddev", type=float, default=0.05, help="of the first weights")
    parser.add_argument("--width", type=experiment.positive, help="units of each layer (default 100; 20 with --quick)")
    options = parser.parse_args(arguments)
    options.steps = options.steps or (60 if options.quick else 4000)
    options.width = options.width or (20 if options.quick else 100)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and compare; the result is the exit status."""
    return experiment.run(parse(arguments), compare)


if __name__ == "__main__":
    sys.exit(main())
