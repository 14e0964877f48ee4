"""Training: `fit`, `evaluate`, `predict`, and the History that they fill. The callbacks' names too."""

from __future__ import annotations

import inspect
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import _interrupts, data, dtypes
from minigrad._run import History, Run, loss_value
from minigrad.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from minigrad.data._arguments import integer
from minigrad.devices import cache
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError, ShapeError
from minigrad.nn import Layer, losses
from minigrad.nn import metrics as metric_functions
from minigrad.optim import Optimizer
from minigrad.tape import no_grad
from minigrad.tensor import on

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "evaluate",
    "fit",
    "predict",
]


def fit(
    model: Layer,
    x: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    loss: Any = "softmax_cross_entropy",
    batch_size: int = 32,
    epochs: int = 1,
    validation_data: tuple[Any, ...] | None = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    metrics: Sequence[Any] = (),
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int = 0,
    max_steps: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    save_to: Any = None,
    resume: bool = False,
    jit: bool = True,
) -> History:
    """Train a model on arrays.

    Ctrl-C takes effect after the running step: with `save_to` the state is written, then KeyboardInterrupt raised,
    with the ``history`` so far. A second Ctrl-C does not wait.

    Args:
        model: its output and a batch of `y` go to the loss.
        x, y: arrays of the same length; floats are cast to the model's dtype.
        optimizer: changes the model's trainable Variables.
        loss: a name or a function of output and targets.
        batch_size, epochs, shuffle, seed: the order of samples depends on the seed and the epoch alone.
        validation_data: (x, y) or (x, y, sample_weight), evaluated after each epoch.
        validation_split: instead, the share of the samples, the last ones, that are kept out of training for this.
        sample_weight: of shape (n,): the losses' third argument; metrics take no notice.
        class_weight: by label: factors of the weights of its samples. Labels that are not in it count as 1.
        metrics: names, or functions of outputs and targets as arrays.
        drop_last: leave out a last batch that is smaller than the others.
        max_steps: stop after so many steps in all, also within an epoch.
        callbacks: told after each step and epoch.
        progress: show a bar, on stderr.
        save_to: a file that holds the state after each epoch, on Ctrl-C and when `max_steps` or a callback stops it:
            Variables, optimizer, generators, position and History.
        resume: continue from that file if it exists, to the same bits as a run that was not interrupted. The learning
            rate too comes from the file.
        jit: after the first few steps on batches of one shape, record a step and replay it, see `minigrad.jit`: the
            same bits in less time. A change of attributes, by callbacks for instance, is noticed, and so is one of the
            globals and closures that the user's layers and losses refer to. A step that reads values of tensors, or in
            which a layer or the loss changes such things or draws numbers from NumPy, runs without, with a warning
            that says why. What they do elsewhere, printing or writing files, happens at the recording and not again.
            On a GPU, steps are not recorded.

    Returns:
        the History, from the first epoch on also after a resume.

    Raises:
        ShapeError: if x and y differ in length, or are empty.
        ArgumentError, ArgumentTypeError, DTypeError: for arguments out of range or of the wrong kind.
        TrainingError: if the loss or a gradient is not finite. The model keeps the parameters from before that step,
            and `save_to` what it had; the error's ``history`` and ``step`` say what came before.
        CheckpointError: on resume, if the file is damaged, of another network, or of a run with other settings.

    Example:
        >>> import numpy as np, minigrad as mg
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> model = mg.nn.Sequential([mg.nn.Dense(1)])
        >>> sgd = mg.optim.SGD(0.1)
        >>> history = mg.training.fit(
        ...     model, x, 3 * x + 1, optimizer=sgd, loss="mean_squared_error", epochs=30, progress=False
        ... )
        >>> history["loss"][-1] < 0.01
        True
    """
    _require_layer("fit", model)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError(f"fit: optimizer is {optimizer!r}, expected one of minigrad.optim, made")
    callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ArgumentTypeError(f"fit: callbacks holds {callback!r}, expected Callbacks")
    epochs, seed = integer("fit", "epochs", epochs, 0), integer("fit", "seed", seed, 0)
    max_steps = None if max_steps is None else integer("fit", "max_steps", max_steps, 0)
    path = None if save_to is None else _writable(save_to)
    if resume and path is None:
        raise ArgumentError("fit: resume needs save_to, the file to continue from")
    x, y, weight = _arrays("fit", model, x, y, sample_weight)
    if validation_split:
        if validation_data is not None:
            raise ArgumentError("fit: got both validation_data and validation_split")
        (x, y, weight), validation_data = _split(x, y, weight, validation_split)
    elif validation_data is not None:
        validation_data = _triple(model, validation_data)
    if class_weight is not None:
        weight = _weighted_classes(y, weight, class_weight).astype(model.dtype, copy=False)
    if weight is not None:
        _require_weighted(losses.get(loss))
    total = data.number_of_batches(len(x), batch_size, drop_last=drop_last)
    if not total:
        raise ShapeError(f"fit: x has shape {x.shape}, which makes no batch of {batch_size} to train on")
    run = Run(model, optimizer, losses.get(loss), _named("fit", metrics), path)
    run.settings = {
        "optimizer": type(optimizer).__name__, "metrics": list(run.totals)[1:], "samples": len(x),
        "batch_size": int(batch_size), "shuffle": bool(shuffle), "drop_last": bool(drop_last), "seed": int(seed),
    }  # fmt: skip
    with no_grad():
        model(on(model.device, x[:1]))  # every layer has its Variables before the first step
    variables = model.trainable_variables
    if not variables:
        raise GradientError(f"fit: {model.name} has no trainable Variables")
    optimizer.build(variables)
    if resume and path is not None and path.exists():
        run.restore(path)
    if jit:
        from minigrad._replayed import Replayed

        run.replayed = Replayed(run)
    for callback in callbacks:
        callback.history, callback.model, callback.optimizer = run.history, model, optimizer
        callback.on_train_begin()
    with _interrupts.between_steps() as interrupted:
        while run.epoch < epochs and not (interrupted.is_set() or run.done(max_steps, callbacks)):
            order = _batches(run, x, y, weight, batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last)
            _epoch(run, order, total, epochs, max_steps, callbacks, progress, interrupted)
            if interrupted.is_set() or run.batch < total:
                break
            values = run.close_epoch()
            if validation_data is not None:
                options: dict[str, Any] = {"loss": loss, "metrics": metrics, "batch_size": max(batch_size, 256)}
                scores = evaluate(model, *validation_data[:2], sample_weight=validation_data[2], **options)
                values.update({f"val_{name}": value for name, value in scores.items()})
            run.history.add(**values)
            _say(progress, run.epoch, epochs, values)
            for callback in callbacks:
                callback.on_epoch_end(run.epoch, values)
            run.save()
        if run.batch:  # stopped within an epoch
            run.save()
    for callback in callbacks:
        callback.on_train_end()
    if interrupted.is_set():
        raise run.interrupted()
    return run.history


@np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite says so itself
def evaluate(
    model: Layer,
    x: Any,
    y: Any,
    *,
    loss: Any = "softmax_cross_entropy",
    metrics: Sequence[Any] = ("accuracy",),
    batch_size: int = 256,
    sample_weight: Any = None,
) -> dict[str, float]:
    """Loss and metrics of a model on arrays, in inference mode, each weighted by the size of its batch.

    The loss includes the penalties of regularizers, ``model.losses``. Without samples they are NaN.

    Raises:
        ShapeError: if x and y differ in length.
        ArgumentError, ArgumentTypeError: for an unknown loss or metric, or a batch size below 1.
    """
    _require_layer("evaluate", model)
    x, y, weight = _arrays("evaluate", model, x, y, sample_weight)
    batch_size = integer("evaluate", "batch_size", batch_size, 1)
    loss_function = losses.get(loss)
    functions = _named("evaluate", metrics)
    totals = dict.fromkeys(["loss", *(name for name, _ in functions)], 0.0)
    with no_grad():
        for low in range(0, len(x), batch_size):
            batch, targets = x[low : low + batch_size], y[low : low + batch_size]
            outputs = model(on(model.device, np.ascontiguousarray(batch)), False)
            weights = () if weight is None else (on(model.device, weight[low : low + batch_size].copy()),)
            value = loss_function(outputs, on(model.device, np.ascontiguousarray(targets)), *weights)
            totals["loss"] += loss_value("evaluate", value) * len(batch)
            for name, function in functions:
                totals[name] += float(function(outputs.numpy(), targets)) * len(batch)
        totals["loss"] += sum(penalty.item() for penalty in model.losses) * len(x)
    return {name: total / len(x) if len(x) else math.nan for name, total in totals.items()}


def predict(model: Layer, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """The model's outputs for an array of inputs, in inference mode.

    Raises:
        ShapeError: if x has no axes.
        ArgumentError, ArgumentTypeError: for a batch size below 1.
    """
    _require_layer("predict", model)
    x = _cast("predict", "x", model, x)
    batch_size = integer("predict", "batch_size", batch_size, 1)
    with no_grad():
        parts = [
            model(on(model.device, np.ascontiguousarray(x[low : low + batch_size])), False).numpy()
            for low in range(0, max(1, len(x)), batch_size)
        ]
    return np.concatenate(parts)


def _batches(
    run: Run, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, batch_size: int, **options: Any
) -> Iterable[tuple[np.ndarray, ...]]:
    """What is left of the epoch: batches of inputs and targets, and of weights if there are any."""
    options = {"epoch": run.epoch, "start": run.batch, **options}
    if weight is None:
        return data.batches(x, y, batch_size, **options)
    order = data.batches(x, np.arange(len(x)), batch_size, **options)
    return ((batch, y[chosen], weight[chosen]) for batch, chosen in order)


def _epoch(
    run: Run,
    order: Any,
    total: int,
    epochs: int,
    max_steps: int | None,
    callbacks: Sequence[Callback],
    progress: bool,
    interrupted: threading.Event,
) -> None:
    """The rest of an epoch, or as much of it as there is to do."""
    run.enter_epoch()
    watch = any(map(_may_change, callbacks))
    if not run.batch:
        for callback in callbacks:
            callback.on_epoch_begin(run.epoch + 1)
    with _bar(progress, run, total, epochs) as bar, cache.reported(partial(_say_compiling, bar)):
        for arrays in order:
            values = run.step(*arrays)
            if bar is not None:
                bar.update()
                if run.batch % 20 == 0 or (bar.postfix or "").startswith("compiling"):
                    bar.set_postfix({n: f"{t / run.seen:.4f}" for n, t in run.totals.items()}, refresh=False)
            for callback in callbacks:
                callback.on_step_end(len(run.history.losses), values)
            if watch and run.replays:
                run.replayed.look()
            if interrupted.is_set() or run.done(max_steps, callbacks):
                return


def _may_change(callback: Callback) -> bool:
    """Whether a callback may change model and optimizer between steps."""
    told = getattr(callback.on_step_end, "__func__", None) is not Callback.on_step_end
    return told and not callback.passive


@contextmanager
def _bar(progress: bool, run: Run, total: int, epochs: int) -> Iterator[Any]:
    if not progress:
        yield None
        return
    from tqdm import tqdm

    title = f"epoch {run.epoch + 1}/{epochs}"
    with tqdm(total=total, initial=run.batch, desc=title, unit="step", leave=False, file=sys.stderr) as bar:
        yield bar


def _say_compiling(bar: Any, kernel: str) -> None:
    """In the first steps, what takes so long."""
    if bar is not None:
        bar.set_postfix_str(f"compiling {kernel}")


def _say(progress: bool, epoch: int, epochs: int, values: dict[str, float]) -> None:
    if progress:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items() if "second" not in name)
        print(f"epoch {epoch}/{epochs}  {shown}  {values['steps_per_second']:.0f} steps/s", file=sys.stderr)


def _require_layer(operation: str, model: Any) -> None:
    if not isinstance(model, Layer):
        raise ArgumentTypeError(f"{operation}: model is {type(model).__name__}, expected a Layer")


def _arrays(
    operation: str, model: Layer, x: Any, y: Any, weight: Any = None, of: str = ""
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    x, y = _cast(operation, f"x{of}", model, x), _cast(operation, f"y{of}", model, y)
    if len(x) != len(y):
        raise ShapeError(f"{operation}: x{of} has shape {x.shape} and y{of} {y.shape}, expected the same length")
    if weight is not None:
        weight = _cast(operation, f"sample_weight{of}", model, weight)
        if len(weight) != len(x):
            raise ShapeError(f"{operation}: sample_weight{of} has shape {weight.shape}, expected ({len(x)},)")
        weight = weight.astype(model.dtype, copy=False)
    return x, y, weight


def _cast(operation: str, name: str, model: Layer, value: Any) -> np.ndarray:
    a = np.asarray(value)
    if dtypes.kind(a.dtype) not in "biuf":
        raise DTypeError(f"{operation}: {name} has dtype {a.dtype}, expected real numbers")
    if a.ndim == 0:
        raise ShapeError(f"{operation}: {name} has shape (), expected samples along the first axis")
    return a.astype(model.dtype, copy=False) if dtypes.kind(a.dtype) == "f" else a


def _triple(model: Layer, value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise ArgumentTypeError(f"fit: validation_data is {type(value).__name__}, expected a pair (x, y)")
    x, y, weight = value if len(value) == 3 else (*value, None)
    return _arrays("fit", model, x, y, weight, " of validation_data")


def _split(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, share: float) -> tuple[tuple, tuple]:
    """What to train on, and the last samples, to validate with."""
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ArgumentError(f"fit: validation_split is {share!r}, expected a number in [0, 1)")
    n = int(len(x) * (1 - share))
    if not 0 < n < len(x):
        raise ShapeError(f"fit: validation_split {share} of {len(x)} samples leaves none on one side")
    parts = x, y, weight
    return tuple(None if a is None else a[:n] for a in parts), tuple(None if a is None else a[n:] for a in parts)


def _weighted_classes(y: np.ndarray, weight: np.ndarray | None, factors: Any) -> np.ndarray:
    """The weights times the factor of each sample's label."""
    if not isinstance(factors, dict):
        raise ArgumentTypeError(
            f"fit: class_weight is {type(factors).__name__}, expected a dict from labels to factors"
        )
    labels = y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y), -1)[:, 0]
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] == 0):
        raise ShapeError(f"fit: y has shape {y.shape}, expected one label a sample for class_weight")
    found = np.ones(len(y)) if weight is None else weight.copy()
    for label, factor in factors.items():
        found[labels == label] *= factor
    return found


def _require_weighted(loss: Callable) -> None:
    try:
        inspect.signature(loss).bind(0, 0, 0)
    except TypeError as error:
        name = getattr(loss, "__name__", loss)
        raise ArgumentTypeError(f"fit: the loss {name} takes no weights of samples as a third argument") from error


def _named(operation: str, metrics: Any) -> list[tuple[str, Callable]]:
    found = [metric_functions.get(m) for m in ([metrics] if isinstance(metrics, str) else metrics)]
    names = ["loss", *(name for name, _ in found)]
    if len(set(names)) < len(names):
        raise ArgumentError(f"{operation}: metrics has the names {names[1:]}, expected each once and none 'loss'")
    return found


def _writable(path: Any) -> Path:
    """The path of a file to write, found out before the work rather than after it."""
    path = Path(path)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ArgumentError(
            f"fit: save_to is {str(path)!r}, but the folder {folder} does not exist or can't be written"
        )
    if path.is_dir():
        raise ArgumentError(f"fit: save_to is {str(path)!r}, a folder; expected a file")
    return path
