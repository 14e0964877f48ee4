"""Batch norm rescues a 10-layer network: input → (dense → batch norm → activation) × 10 → output, with and without.

    python examples/mlp10.py                                # MNIST, or drawn digits where it can't be had
    python examples/mlp10.py --activation sigmoid --lr 1 --epochs 2
    python examples/mlp10.py --quick                        # a first look, in seconds, on drawn digits
    python examples/mlp10.py --norm batch --epochs 10 --lr 0.1 --resume

Prints a table, and writes history.json, curves.png (with matplotlib) and a checkpoint for each network to --out.
Ctrl-C saves the state after the running step; the same command with --resume goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
import minigrad_norms as norms
from minigrad import data, nn, training
from minigrad.errors import DataError, MinigradError, TrainingError


@dataclass
class Outcome:
    """What one network came to."""

    name: str
    accuracy: float = 0.0
    loss: float = float("nan")
    steps_per_second: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    note: str = ""
    history: dict[str, Any] = field(default_factory=dict)


def build(norm: str, activation: str, width: int, init_std: float, seed: int) -> nn.Sequential:
    """The 10-layer network."""
    weights = nn.initializers.random_normal(stddev=init_std)
    layers: list[Any] = []
    for _ in range(10):
        layers.append(nn.Dense(width, use_bias=norm == "none", kernel_initializer=weights))
        if norm == "batch":
            # Running statistics of ten layers, each built on the one before: with 0.99 they lag by hundreds of steps.
            layers.append(norms.BatchNormalization(momentum=0.9))
        layers.append(nn.Activation(activation))
    layers.append(nn.Dense(10, kernel_initializer=weights))
    model = nn.Sequential(layers, name=f"mlp10_{norm}")
    model.set_generator(mg.random.Generator(seed))
    return model


class AccuracyCurve(training.Callback):
    """Measures test accuracy about forty times on the way, and at the end."""

    def __init__(self, model: nn.Layer, x: np.ndarray, y: np.ndarray, total: int):
        self.model, self.x, self.y, self.total = model, x, y, total
        self.every = max(1, total // 40)

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        if step % self.every == 0 or step == self.total:
            scores = training.evaluate(self.model, self.x, self.y, batch_size=2000)
            self.history.curves.setdefault("test accuracy", []).append([step, scores["accuracy"]])


def train(norm: str, options: argparse.Namespace, arrays: tuple[np.ndarray, ...]) -> Outcome:
    """Train one network and measure it on the test set."""
    x, y, x_test, y_test = arrays
    model = build(norm, options.activation, options.width, options.init_std, options.seed).to(options.device)
    optimizer = mg.optim.SGD(options.lr)
    outcome = Outcome("with batch norm" if norm == "batch" else "without")
    total = options.epochs * data.number_of_batches(len(x), options.batch_size)
    if options.max_steps is not None:
        total = min(total, options.max_steps)
    curve = AccuracyCurve(model, x_test[:2000], y_test[:2000], total)
    print(f"{outcome.name}: training for {total} steps", file=sys.stderr)
    try:
        history = training.fit(
            model,
            x,
            y,
            optimizer=optimizer,
            batch_size=options.batch_size,
            epochs=options.epochs,
            max_steps=options.max_steps,
            metrics=["accuracy"],
            seed=options.seed,
            callbacks=[curve],
            progress=not options.quiet,
            save_to=options.out / f"checkpoint-{norm}.npz",
            resume=options.resume,
        )
    except TrainingError as error:
        history = error.history  # type: ignore[attr-defined]
        outcome.note = f"diverged at step {error.step}"  # type: ignore[attr-defined]
        print(f"{outcome.name}: {error}", file=sys.stderr)
    scores = training.evaluate(model, x_test, y_test, batch_size=2000)
    outcome.accuracy, outcome.loss = scores["accuracy"], scores["loss"]
    outcome.steps = len(history.losses)
    outcome.steps_per_second = history.steps_per_second
    outcome.seconds = history.seconds
    outcome.history = history.as_dict()
    return outcome


def load(options: argparse.Namespace) -> tuple[str, tuple[np.ndarray, ...]]:
    """The data set's name, and images as rows in [0, 1] with their labels."""
    if options.data == "auto":
        try:
            found = data.mnist()
        except DataError as error:
            print(f"MNIST can't be had ({str(error).splitlines()[0]}); using drawn digits instead", file=sys.stderr)
            found = data.glyph_dataset(20000, 4000, seed=options.seed)
    elif options.data == "glyphs":
        found = data.glyph_dataset(*((2000, 500) if options.quick else (20000, 4000)), seed=options.seed)
    else:
        found = getattr(data, options.data)()
    rows = [a.reshape(len(a), -1).astype(np.float32) / 255 for a in (found.x_train, found.x_test)]
    return found.name, (rows[0], found.y_train, rows[1], found.y_test)


def table(name: str, options: argparse.Namespace, outcomes: list[Outcome]) -> str:
    """The results as text."""
    head = (
        f"{name}, 10 layers of width {options.width}, {options.activation}, lr {options.lr:g}, "
        f"batch {options.batch_size}, weights N(0, {options.init_std:g}²)"
    )
    lines = [head, f"{'network':<18}{'steps':>8}{'test accuracy':>15}{'test loss':>12}{'seconds':>10}{'steps/s':>10}"]
    for o in outcomes:
        numbers = f"{o.steps:>8}{o.accuracy:>15.4f}{o.loss:>12.4g}{o.seconds:>10.1f}{o.steps_per_second:>10.0f}"
        lines.append(f"{o.name:<18}{numbers}  {o.note}".rstrip())
    return "\n".join(lines)


def draw(path: Path, title: str, outcomes: list[Outcome]) -> bool:
    """Test accuracy and training loss over steps; False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 4), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for o, colour in zip(outcomes, ("#d95f02", "#1f78b4")):
        curve = o.history["curves"].get("test accuracy", [])
        accuracy.plot([step for step, _ in curve], [value for _, value in curve], color=colour, label=o.name)
        losses = np.asarray(o.history["losses"])
        loss.plot(np.arange(len(losses)) + 1, losses, color=colour, alpha=0.25, linewidth=0.8)
        window = max(1, len(losses) // 50)
        if len(losses):
            smooth = np.convolve(losses, np.ones(window) / window, "valid")
            loss.plot(np.arange(len(smooth)) + (window + 1) / 2, smooth, color=colour, label=o.name)
    accuracy.set(xlabel="step", ylabel="test accuracy", ylim=(0, 1))
    loss.set(xlabel="step", ylabel="training loss", yscale="log")
    loss.set_ylim(top=min(loss.get_ylim()[1], 30.0))  # a loss that explodes leaves the picture to the others
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
    accuracy.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    return True


def without_nan(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: None in their place."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activation", choices=("relu", "sigmoid", "tanh"), default="relu")
    parser.add_argument("--norm", choices=("batch", "none", "both"), default="both")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate of plain SGD (default 0.01)")
    parser.add_argument("--batch-size", type=positive, default=60)
    parser.add_argument("--width", type=positive, default=100, help="units of each hidden layer")
    parser.add_argument("--epochs", type=positive, default=4)
    parser.add_argument("--max-steps", type=positive, help="stop after so many steps")
    parser.add_argument("--init-std", type=float, default=0.05, help="standard deviation of the first weights")
    parser.add_argument("--data", choices=("auto", "mnist", "fashion_mnist", "glyphs"), default="auto")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda or cuda:1 for a GPU (default cpu)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mlp10"))
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoints in --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--quick", action="store_true", help="60 steps on drawn digits, unless said otherwise")
    options = parser.parse_args(arguments)
    if options.quick:
        options.max_steps = options.max_steps or 60
        options.data = "glyphs" if options.data == "auto" else options.data
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; the result is the exit status."""
    options = parse(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        name, arrays = load(options)
        kinds = ("none", "batch") if options.norm == "both" else (options.norm,)
        outcomes = [train(kind, options, arrays) for kind in kinds]
    except (MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; --resume continues from the checkpoint in {options.out}", file=sys.stderr)
        return 130
    text = table(name, options, outcomes)
    print(text)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    content = without_nan({"data": name, "options": settings, "outcomes": [vars(o) for o in outcomes]})
    (options.out / "history.json").write_text(json.dumps(content, indent=1, allow_nan=False))
    drawn = draw(options.out / "curves.png", text.splitlines()[0], outcomes)
    print(f"written to {options.out}: history.json{', curves.png' if drawn else ''} and checkpoints", file=sys.stderr)
    if not drawn:
        print("curves.png needs matplotlib: pip install 'minigrad[plots]'", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
