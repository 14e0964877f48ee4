"""Callbacks: what `fit` tells of its steps and epochs; those that stop it, keep weights, change the rate, or log."""

from __future__ import annotations

import csv
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import checkpoint
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.ops.noise import number

_MODES = ("auto", "min", "max")
_NOT_WRITTEN = ("seconds", "steps_per_second")  # in the log they would be the machine's, not the model's


class Callback:
    """What wants to be told: override what you need.

    Attributes:
        stop: set it, and ``fit`` stops after the running step.
        passive: set it if `on_step_end` leaves model and optimizer as they are; then `fit` need not look each time.
        history: the run's History, set by ``fit``; what is put into its ``curves`` survives a resume.
        model, optimizer: those of the run, set by ``fit``.
    """

    stop = False
    passive = False
    history: Any
    model: Any
    optimizer: Any

    def on_train_begin(self) -> None:
        """Before the first step; after a resume `history` has what came before."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch, counted from 1; not where a resume takes it up in its middle."""

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        """After a step; `step` counts all steps from 1, `values` has ``loss`` and the metrics of the batch."""

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        """After an epoch, counted from 1; `values` as they go into the History."""

    def on_train_end(self) -> None:
        """After the last step, however training ended, but not after an error."""


class _Watch(Callback):
    """A callback that looks whether a value got better than ever by more than `min_delta`."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        self.kind = type(self).__name__
        if mode not in _MODES:
            raise ArgumentError(f"{self.kind}: mode is {mode!r}, expected one of {_MODES}")
        self.monitor = monitor
        rising = mode == "max" or (mode == "auto" and monitor.removeprefix("val_").endswith(("accuracy", "acc", "auc")))
        self.sign = 1.0 if rising else -1.0
        self.min_delta = number(self.kind, "min_delta", min_delta)
        if not self.min_delta >= 0:
            raise ArgumentError(f"{self.kind}: min_delta is {min_delta!r}, expected a number of at least 0")
        self.best = -math.inf * self.sign

    def value(self, values: dict[str, float]) -> float:
        """The watched one.

        Raises:
            ArgumentError: if there is none of that name.
        """
        if self.monitor not in values:
            raise ArgumentError(f"{self.kind}: monitor is {self.monitor!r}, expected one of {sorted(values)}")
        return values[self.monitor]

    def is_better(self, value: float) -> bool:
        """Whether it beats the best; NaN never does."""
        return self.sign * (value - self.best) > self.min_delta

    def earlier(self) -> list[float]:
        """The values of the epochs that a resumed run has behind it."""
        return self.history.epochs.get(self.monitor, [])


class EarlyStopping(_Watch):
    """Stops training when a value has not got better for `patience` epochs.

    Args:
        monitor: the name of a value of the History.
        min_delta: by more than this it must get better.
        patience: for how many epochs it need not; 0 stops at the first that is not better.
        mode: whether smaller (``min``) or larger (``max``) is better; ``auto``: larger for an accuracy.
        baseline: what it must beat in the beginning.
        restore_best_weights: give the model the weights of its best epoch when it is stopped.
        start_from_epoch: how many epochs not to look at.

    Attributes:
        best: the best value. best_epoch: when, from 1. stopped_epoch: when it stopped, from 1; 0 if it did not.

    Raises:
        ArgumentError, ArgumentTypeError: for values out of range; in training if nothing has that name.

    Example:
        >>> import numpy as np, minigrad as mg
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> model, stop = mg.nn.Dense(1), mg.training.EarlyStopping("loss", min_delta=1e-3)
        >>> options = {"optimizer": mg.optim.SGD(0.1), "loss": "mean_squared_error", "progress": False}
        >>> history = mg.training.fit(model, x, 3 * x, epochs=100, callbacks=[stop], **options)
        >>> 5 < stop.stopped_epoch == len(history["loss"]) < 100
        True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.baseline = None if baseline is None else number(self.kind, "baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.best_epoch = self.stopped_epoch = self.wait = 0
        self._best_weights: dict[str, np.ndarray] = {}

    def on_train_begin(self) -> None:
        self.best = -math.inf * self.sign if self.baseline is None else self.baseline
        self.best_epoch = self.stopped_epoch = self.wait = 0
        self.stop = False
        self._best_weights = {}
        for i, value in enumerate(self.earlier()):
            self._see(i + 1, value)

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        value = self.value(values)
        if self._see(epoch, value) and self.restore_best_weights:
            self._best_weights = {name: v.numpy().copy() for name, v in self.model.variables.items()}
        if self.wait >= max(1, self.patience):
            self.stop, self.stopped_epoch = True, epoch
            for name, variable in self.model.variables.items():
                if name in self._best_weights:
                    variable.assign(self._best_weights[name])

    def _see(self, epoch: int, value: float) -> bool:
        if epoch <= self.start_from_epoch:
            return False
        if self.is_better(value):
            self.best, self.best_epoch, self.wait = value, epoch, 0
            return True
        self.wait += 1
        return False


class ModelCheckpoint(_Watch):
    """Writes the model to a file after an epoch, with `minigrad.save` under the name ``model``.

    Args:
        filepath: the file; ``{epoch}``, from 1, and names of the History's values in it are filled in, as in
            ``"weights-{epoch:02d}-{val_loss:.2f}.npz"``.
        monitor: the name of a value of the History.
        save_best_only: only when it got better than ever.
        mode: as of EarlyStopping.

    Raises:
        ArgumentError: for another mode; in training if nothing has that name, or a name in the path.
        OSError: in training, if the file can't be written.
    """

    def __init__(self, filepath: Any, monitor: str = "val_loss", save_best_only: bool = False, mode: str = "auto"):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.save_best_only = save_best_only

    def on_train_begin(self) -> None:
        for value in self.earlier():
            if self.is_better(value):
                self.best = value

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        if self.save_best_only:
            value = self.value(values)
            if not self.is_better(value):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch, **values)
        except (KeyError, IndexError, ValueError) as error:
            known = ["epoch", *values]
            raise ArgumentError(
                f"{self.kind}: filepath is {self.filepath!r}, which can use {known} ({error})"
            ) from error
        checkpoint.save(path, model=self.model)


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Args:
        schedule: a function of the epoch, here counted from 0 as in Keras, and of the rate so far, to the new rate; or
            of the epoch alone.

    Raises:
        ArgumentTypeError: if it can't be called.
        ArgumentError: in training, if the optimizer has a schedule of its own, or the rate is negative.
    """

    def __init__(self, schedule: Callable[..., float]):
        if not callable(schedule):
            raise ArgumentTypeError(
                f"LearningRateScheduler: schedule is {schedule!r}, expected a function of the epoch"
            )
        self.schedule = schedule
        self.takes = 2 if _takes_two(schedule) else 1

    def on_epoch_begin(self, epoch: int) -> None:
        _set_rate(self, self.schedule(*(epoch - 1, self.optimizer.lr.item())[: self.takes]))


class ReduceLROnPlateau(_Watch):
    """Multiplies the learning rate by `factor` when a value has not got better for `patience` epochs.

    Args:
        monitor, mode, min_delta: as of EarlyStopping.
        factor: in (0, 1).
        patience: for how many epochs it need not get better.
        cooldown: how many epochs after a change not to look at.
        min_lr: the rate stays above.

    Raises:
        ArgumentError, ArgumentTypeError: for values out of range; in training if nothing has that name, or if the
            optimizer has a schedule of its own.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.factor, self.min_lr = number(self.kind, "factor", factor), number(self.kind, "min_lr", min_lr)
        if not 0 < self.factor < 1:
            raise ArgumentError(f"{self.kind}: factor is {factor!r}, expected a number in (0, 1)")
        self.patience, self.cooldown = patience, cooldown
        self.wait = self.pause = 0

    def on_train_begin(self) -> None:
        self.best, self.wait, self.pause = -math.inf * self.sign, 0, 0
        for value in self.earlier():  # the rate itself is in the checkpoint
            self._see(value)

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        if self._see(self.value(values)):
            rate = self.optimizer.lr.item()
            if rate > self.min_lr:
                _set_rate(self, max(rate * self.factor, self.min_lr))

    def _see(self, value: float) -> bool:
        """Whether the rate is to fall after this value."""
        if self.pause:
            self.pause, self.wait = self.pause - 1, 0
        if self.is_better(value):
            self.best, self.wait = value, 0
        elif not self.pause:
            self.wait += 1
            if self.wait >= max(1, self.patience):
                self.pause, self.wait = self.cooldown, 0
                return True
        return False


class CSVLogger(Callback):
    """Writes a line after each epoch: the epoch, counted from 0 as in Keras, and the History's values by name.

    Args:
        filename: the file. A resumed run goes on with it; else it begins anew, unless told to append.
        separator: between the values.
        append: keep the lines that are there.

    Raises:
        OSError: in training, if it can't be written.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        self.filename, self.separator, self.append = Path(filename), separator, append

    def on_train_begin(self) -> None:
        if not (self.append or self.history.losses):
            self.filename.write_text("")

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        row = {"epoch": epoch - 1, **{name: v for name, v in values.items() if name not in _NOT_WRITTEN}}
        fresh = not self.filename.exists() or not self.filename.stat().st_size
        with open(self.filename, "a", newline="") as file:
            writer = csv.DictWriter(file, row, delimiter=self.separator)
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def _takes_two(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(0, 0.1)
    except (TypeError, ValueError):
        return False
    return True


def _set_rate(callback: Callback, rate: Any) -> None:
    kind = type(callback).__name__
    rate = number(kind, "the rate", rate)
    if not rate >= 0:
        raise ArgumentError(f"{kind}: the rate is {rate!r}, expected a number of at least 0")
    if callback.optimizer.schedule is not None:
        raise ArgumentError(f"{kind}: the optimizer has a schedule of its own, which would set the rate again")
    callback.optimizer.lr.assign(rate)
