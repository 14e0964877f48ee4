"""Callbacks: Keras's hooks for one's own, and those of `minigrad.callbacks` with Keras's arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from minigrad import callbacks as ours
from minigrad.callbacks import CSVLogger
from minigrad.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "CSVLogger", "Callback", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint",
    "ReduceLROnPlateau",
]  # fmt: skip

_HOOKS = (
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_begin",
    "on_train_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


class Callback:
    """What wants to be told: override what you need. Epochs and batches are counted from 0.

    Attributes:
        model: the model in training; ``self.model.stop_training = True`` ends it after the running batch.
        params: what `fit` was asked for: ``epochs``, ``verbose``.
    """

    model: Any = None
    params: dict[str, Any]

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first batch."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last batch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After an epoch; `logs` has the averages by name."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch; `logs` has its values by name."""
        self.on_batch_end(batch, logs)

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The same, under its old name."""


class LambdaCallback(Callback):
    """Hooks given as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **hooks: Callable):
        known = [*_HOOKS, "on_batch_end"]
        for name, hook in hooks.items():
            if name not in known:
                raise ArgumentTypeError(f"LambdaCallback: unknown hook {name!r}, expected some of {known}")
            setattr(self, name, hook)


class History(Callback):
    """What `fit` returns.

    Attributes:
        history: for each of ``loss``, ``accuracy``, ``val_loss`` ... one value an epoch.
        epoch: the numbers of the epochs, from 0.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class EarlyStopping(ours.EarlyStopping):
    """`minigrad.callbacks.EarlyStopping`, whose epochs count from 1. With `verbose` it says when it stops."""

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0, verbose: int = 0, **options: Any
    ):
        super().__init__(monitor, abs(min_delta), patience, **options)
        self.verbose = verbose

    def on_train_end(self) -> None:
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch}: early stopping", file=sys.stderr)


class ModelCheckpoint(ours.ModelCheckpoint):
    """`minigrad.callbacks.ModelCheckpoint`: writes what `load_weights` reads, whether or not `save_weights_only`."""

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
    ):
        super().__init__(filepath, monitor, save_best_only, mode)
        if save_freq != "epoch":
            raise ArgumentError(f"ModelCheckpoint: save_freq is {save_freq!r}, expected 'epoch'")
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        before = self.best
        super().on_epoch_end(epoch, values)
        if self.verbose and (self.best != before or not self.save_best_only):
            print(f"Epoch {epoch}: saving model to {self.filepath.format(epoch=epoch, **values)}", file=sys.stderr)


class LearningRateScheduler(ours.LearningRateScheduler):
    """`minigrad.callbacks.LearningRateScheduler`. With `verbose` it says each epoch's rate."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__(schedule)
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int) -> None:
        super().on_epoch_begin(epoch)
        if self.verbose:
            print(f"Epoch {epoch}: learning rate {self.optimizer.lr.item():g}", file=sys.stderr)


class ReduceLROnPlateau(ours.ReduceLROnPlateau):
    """`minigrad.callbacks.ReduceLROnPlateau`. With `verbose` it says when the rate falls."""

    def __init__(
        self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0, **options: Any
    ):
        super().__init__(monitor, factor, patience, **options)
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        before = self.optimizer.lr.item()
        super().on_epoch_end(epoch, values)
        if self.verbose and self.optimizer.lr.item() != before:
            print(f"Epoch {epoch}: learning rate falls to {self.optimizer.lr.item():g}", file=sys.stderr)


class Bridge(ours.Callback):
    """Calls the hooks of Keras's callbacks when `minigrad.training.fit` calls those of its own."""

    def __init__(self, callbacks: list[Any], model: Any, params: dict[str, Any]):
        self.callbacks, self.keras_model = callbacks, model
        self.batch = 0
        self.by_batch = [c for c in callbacks if _overrides(c, *_HOOKS[4:], "on_batch_end")]
        self.passive = not self.by_batch
        for callback in callbacks:
            callback.set_params(params)
            callback.set_model(model)
        model.stop_training = False

    def on_train_begin(self) -> None:
        for callback in self.callbacks:
            callback.on_train_begin()

    def on_epoch_begin(self, epoch: int) -> None:
        self.batch = 0
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch - 1)
        self._begin_batch()

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        for callback in self.by_batch:
            callback.on_train_batch_end(self.batch, dict(values))
        self.batch += 1
        self.stop = self.keras_model.stop_training
        self._begin_batch()

    def on_epoch_end(self, epoch: int, values: dict[str, float]) -> None:
        logs = {name: value for name, value in values.items() if name not in ("seconds", "steps_per_second")}
        for callback in self.callbacks:
            callback.on_epoch_end(epoch - 1, dict(logs))
        self.stop = self.keras_model.stop_training

    def on_train_end(self) -> None:
        for callback in self.callbacks:
            callback.on_train_end()

    def _begin_batch(self) -> None:
        for callback in self.by_batch:
            callback.on_train_batch_begin(self.batch)


def bridged(callbacks: Any, model: Any, params: dict[str, Any], history: History) -> list[Any]:
    """Callbacks of both kinds as those of `fit`; the History is told first.

    Raises:
        ArgumentTypeError: for what is neither.
    """
    given = [] if callbacks is None else list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in given:
        if not isinstance(callback, (Callback, ours.Callback)):
            raise ArgumentTypeError(f"fit: callbacks has {callback!r}, expected objects of keras.callbacks")
    theirs = [c for c in given if isinstance(c, Callback)]
    return [Bridge([history, *theirs], model, params), *(c for c in given if not isinstance(c, Callback))]


def _overrides(callback: Callback, *hooks: str) -> bool:
    return any(hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook) for hook in hooks)
