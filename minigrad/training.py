"""Training: `fit`, `evaluate`, `predict`, callbacks, and the History that they fill."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import checkpoint, data, random
from minigrad.errors import ArgumentError, ShapeError, TrainingError
from minigrad.nn import Layer, losses, metrics as metric_functions
from minigrad.optim import Optimizer
from minigrad.tape import no_grad
from minigrad.tensor import Tensor


@dataclass
class History:
    """What training saw: for each name (``loss``, ``accuracy``, ``val_loss`` ...) one value an epoch.

    Attributes:
        epochs: the values by name; ``seconds`` and ``steps_per_second`` among them.
        losses: the loss of every step.
        curves: what callbacks measured on the way, as [step, value] pairs by name.
        seconds: spent in steps, callbacks and validation not counted.
    """

    epochs: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def steps_per_second(self) -> float:
        return len(self.losses) / self.seconds if self.seconds else 0.0

    def add(self, **values: float) -> None:
        """Append one epoch's values."""
        for name, value in values.items():
            self.epochs.setdefault(name, []).append(float(value))

    def __getitem__(self, name: str) -> list[float]:
        return self.epochs[name]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"epochs": self.epochs, "losses": self.losses, "curves": self.curves, "seconds": self.seconds}


class Callback:
    """What wants to be told: override what you need.

    Attributes:
        stop: set it, and ``fit`` stops after the running step.
        history: the run's History, set by ``fit``; what is put into its ``curves`` survives a resume.
    """

    stop = False
    history: History

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        """After a step; `step` counts all steps from 1, `values` has ``loss`` and the metrics of the batch."""

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        """After an epoch, counted from 1; `values` as they go into the History."""


def fit(
    model: Layer,
    x: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    loss: Any = "softmax_cross_entropy",
    batch_size: int = 32,
    epochs: int = 1,
    validation_data: tuple[Any, Any] | None = None,
    metrics: Sequence[Any] = (),
    shuffle: bool = True,
    seed: int = 0,
    max_steps: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    save_to: Any = None,
    resume: bool = False,
) -> History:
    """Train a model on arrays.

    Ctrl-C takes effect after the running step: with `save_to` the state is written, then KeyboardInterrupt raised.
    A second Ctrl-C does not wait.

    Args:
        model: its output and a batch of `y` go to the loss.
        x, y: arrays of the same length; floats are cast to the model's dtype.
        optimizer: changes the model's trainable Variables.
        loss: a name or a function of output and targets.
        batch_size, epochs, shuffle, seed: the order of samples depends on the seed and the epoch alone.
        validation_data: (x, y), evaluated after each epoch.
        metrics: names, or functions of outputs and targets as arrays.
        max_steps: stop after so many steps in all, also within an epoch.
        callbacks: told after each step and epoch.
        progress: show a bar.
        save_to: a file that holds the state after each epoch and on Ctrl-C.
        resume: continue from that file if it exists, to the same bits as a run that was not interrupted.

    Returns:
        the History, from the first epoch on also after a resume.

    Raises:
        ShapeError: if x and y differ in length.
        ArgumentError: for numbers out of range.
        TrainingError: if the loss is not finite. The model keeps the parameters from before that step; the error's
            ``history`` and ``step`` say what came before.
        CheckpointError: on resume, if the file is damaged or of another network.
    """
    if not isinstance(epochs, int) or epochs < 0:
        raise ArgumentError(f"fit: epochs is {epochs!r}, expected an integer of at least 0")
    if resume and save_to is None:
        raise ArgumentError("fit: resume needs save_to, the file to continue from")
    x, y = _arrays("fit", model, x, y)
    run = _Run(model, optimizer, losses.get(loss), [metric_functions.get(m) for m in metrics], Path(save_to) if save_to else None)
    if len(x):
        model.build_once((None, *x.shape[1:]))
        with no_grad():
            model(Tensor(x[:1]))  # every layer has its Variables before the first step
    run.optimizer.build(model.trainable_variables)
    if resume and run.path is not None and run.path.exists():
        run.restore()
    for callback in callbacks:
        callback.history = run.history
    with _interrupt_between_steps() as interrupted:
        while run.epoch < epochs and not run.done(max_steps, callbacks):
            order = data.batches(x, y, batch_size, seed=seed, epoch=run.epoch, shuffle=shuffle, start=run.batch)
            _epoch(run, order, epochs, max_steps, callbacks, progress, interrupted)
            if run.done(max_steps, callbacks) and run.batch < len(order) + run.started:
                break
            values = run.close_epoch()
            if validation_data is not None:
                scores = evaluate(model, *validation_data, loss=loss, metrics=metrics, batch_size=max(batch_size, 256))
                values.update({f"val_{name}": value for name, value in scores.items()})
            run.history.add(**values)
            _say(progress, run.epoch, epochs, values)
            for callback in callbacks:
                callback.on_epoch_end(run.epoch, values)
            run.save()
            if interrupted.is_set():
                raise KeyboardInterrupt
    return run.history


def evaluate(
    model: Layer,
    x: Any,
    y: Any,
    *,
    loss: Any = "softmax_cross_entropy",
    metrics: Sequence[Any] = ("accuracy",),
    batch_size: int = 256,
) -> dict[str, float]:
    """Loss and metrics of a model on arrays, in inference mode, each weighted by the size of its batch.

    Raises:
        ShapeError: if x and y differ in length.
    """
    x, y = _arrays("evaluate", model, x, y)
    loss_function = losses.get(loss)
    functions = [metric_functions.get(m) for m in metrics]
    totals = dict.fromkeys(["loss", *(name for name, _ in functions)], 0.0)
    with no_grad():
        for low in range(0, len(x), batch_size):
            batch, targets = x[low : low + batch_size], y[low : low + batch_size]
            outputs = model(Tensor(np.ascontiguousarray(batch)), False)
            totals["loss"] += loss_function(outputs, Tensor(np.ascontiguousarray(targets))).item() * len(batch)
            for name, function in functions:
                totals[name] += function(outputs.numpy(), targets) * len(batch)
    return {name: total / max(1, len(x)) for name, total in totals.items()}


def predict(model: Layer, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """The model's outputs for an array of inputs, in inference mode."""
    x = _cast(model, np.asarray(x))
    with no_grad():
        parts = [
            model(Tensor(np.ascontiguousarray(x[low : low + batch_size])), False).numpy()
            for low in range(0, max(1, len(x)), batch_size)
        ]
    return np.concatenate(parts)


class _Run:
    """The state of a `fit`: where it stands, and what it has added up in the running epoch."""

    def __init__(self, model: Layer, optimizer: Optimizer, loss: Callable, metrics: list, path: Path | None):
        self.model, self.optimizer, self.loss, self.metrics, self.path = model, optimizer, loss, metrics, path
        self.history = History()
        self.epoch = 0
        self.batch = 0  # batches of this epoch that are done
        self.started = 0  # the batch at which this process entered the epoch
        self.seen = 0  # samples of this epoch
        self.seconds = 0.0
        self.totals = dict.fromkeys(["loss", *(name for name, _ in metrics)], 0.0)
        self.variables: list = []

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """One step, and the loss and metrics of its batch."""
        start = time.perf_counter()
        outputs = self.model(Tensor(x), True)
        loss = self.loss(outputs, Tensor(y))
        value = float(loss._data)
        if not math.isfinite(value):
            raise self._not_finite(value)
        loss.backward()
        self.optimizer.step(self.variables)
        values = {"loss": value}
        for name, function in self.metrics:
            values[name] = function(outputs._data, y)
        for name, v in values.items():
            self.totals[name] += v * len(x)
        self.seen += len(x)
        self.batch += 1
        self.history.losses.append(value)
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self.history.seconds += elapsed
        return values

    def done(self, max_steps: int | None, callbacks: Sequence[Callback]) -> bool:
        steps = len(self.history.losses)
        return (max_steps is not None and steps >= max_steps) or any(c.stop for c in callbacks)

    def close_epoch(self) -> dict[str, float]:
        """The epoch's averages; the run stands at the start of the next."""
        values = {name: total / max(1, self.seen) for name, total in self.totals.items()}
        values["seconds"] = self.seconds
        values["steps_per_second"] = self.batch / self.seconds if self.seconds else 0.0
        self.totals = dict.fromkeys(self.totals, 0.0)
        self.epoch, self.batch, self.started, self.seen, self.seconds = self.epoch + 1, 0, 0, 0, 0.0
        return values

    def save(self) -> None:
        if self.path is not None:
            place = {n: getattr(self, n) for n in ("epoch", "batch", "seen", "seconds", "totals")}
            parts = {"model": self.model, "optimizer": self.optimizer, "generator": random.default_generator.state}
            checkpoint.save(self.path, **parts, place=place, history=self.history.as_dict())

    def restore(self) -> None:
        parts = {"model": self.model, "optimizer": self.optimizer, "generator": random.default_generator.state}
        values = checkpoint.load(self.path, **parts)
        for name, value in values["place"].items():
            setattr(self, name, value)
        self.started = self.batch
        self.history = History(**values["history"])

    def _not_finite(self, value: float) -> TrainingError:
        step = len(self.history.losses) + 1
        error = TrainingError(
            f"fit: the loss is {value} at step {step} (epoch {self.epoch + 1}); the model keeps the parameters from "
            f"before it. A smaller learning rate than {float(self.optimizer.lr.item()):g} or clip_norm may help"
        )
        error.history, error.step = self.history, step  # type: ignore[attr-defined]
        return error


def _epoch(
    run: _Run,
    order: Any,
    epochs: int,
    max_steps: int | None,
    callbacks: Sequence[Callback],
    progress: bool,
    interrupted: threading.Event,
) -> None:
    run.variables = run.model.trainable_variables
    with _bar(progress, run, len(order), epochs) as bar:
        for x, y in order:
            values = run.step(x, y)
            if bar is not None:
                bar.update()
                if run.batch % 20 == 0:
                    bar.set_postfix({n: f"{t / run.seen:.4f}" for n, t in run.totals.items()}, refresh=False)
            for callback in callbacks:
                callback.on_step_end(len(run.history.losses), values)
            if interrupted.is_set():
                run.save()
                raise KeyboardInterrupt
            if run.done(max_steps, callbacks):
                return


@contextmanager
def _bar(progress: bool, run: _Run, remaining: int, epochs: int) -> Iterator[Any]:
    if not progress:
        yield None
        return
    from tqdm import tqdm

    total = run.started + remaining
    title = f"epoch {run.epoch + 1}/{epochs}"
    with tqdm(total=total, initial=run.batch, desc=title, unit="step", leave=False, file=sys.stderr) as bar:
        yield bar


def _say(progress: bool, epoch: int, epochs: int, values: dict[str, float]) -> None:
    if progress:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items() if "second" not in name)
        print(f"epoch {epoch}/{epochs}  {shown}  {values['steps_per_second']:.0f} steps/s", file=sys.stderr)


@contextmanager
def _interrupt_between_steps() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that is looked at between steps, so that no step is left half done.

    Only in the main thread and only in place of Python's own handler, which is put back at the end and by the first
    Ctrl-C itself.
    """
    asked = threading.Event()
    own = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not own:
        yield asked
        return

    def handler(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, own)
        asked.set()

    signal.signal(signal.SIGINT, handler)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, own)


def _arrays(operation: str, model: Layer, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = _cast(model, np.asarray(x)), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ShapeError(f"{operation}: x has shape {x.shape} and y {y.shape}, expected the same length")
    return x, _cast(model, y)


def _cast(model: Layer, a: np.ndarray) -> np.ndarray:
    return a.astype(model.dtype, copy=False) if a.dtype.kind == "f" else a
