"""Run: the state of a `fit` (position, totals, what a checkpoint holds of them), and the History that it fills."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import checkpoint, dtypes, random, tape
from minigrad.errors import ArgumentTypeError, CheckpointError, ShapeError, TrainingError
from minigrad.nn import Layer
from minigrad.optim import Optimizer
from minigrad.tensor import Tensor, Variable, full_like, on


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


class Run:
    """Where a `fit` stands, and what it has added up in the running epoch."""

    def __init__(self, model: Layer, optimizer: Optimizer, loss: Callable, metrics: list, path: Path | None):
        self.model, self.optimizer, self.loss, self.metrics, self.path = model, optimizer, loss, metrics, path
        self.history = History()
        self.settings: dict[str, Any] = {}  # what a resumed run must share
        self.epoch = 0
        self.batch = 0  # batches of this epoch that are done
        self.seen = 0  # samples of this epoch
        self.seconds = 0.0
        self.totals = dict.fromkeys(["loss", *(name for name, _ in metrics)], 0.0)
        self.trained: list[Variable] = []
        self.frozen = False  # whether there are Variables that could be trained and are not
        self.penalized = False
        self.replayed: Any = None  # what replays steps by jit, if that is wanted

    @np.errstate(over="ignore", invalid="ignore")  # numbers that are not finite become a TrainingError
    def step(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
        """One step, and the loss and metrics of its batch."""
        start = time.perf_counter()
        found = self.replayed.compute(x, y, weight) if self.replays else None
        replayed = found is not None
        if found is None:
            found = self.forward(*[a if a is None else on(self.model.device, a) for a in (x, y, weight)])
        outputs, loss = found
        values = {"loss": loss_value("fit", loss)}
        if not math.isfinite(values["loss"]):
            self.forget_gradients()
            raise self._not_finite(f"the loss is {values['loss']}", x)
        for name, function in self.metrics:
            values[name] = float(function(outputs.numpy(), y))
        if not replayed:
            self.backward(loss)
        self._require_finite_gradients(x)
        if not (replayed and self._replay_update()):
            self.optimizer.step(self.trained)
        for name, value in values.items():
            self.totals[name] += value * len(x)
        self.seen += len(x)
        self.batch += 1
        self.history.losses.append(values["loss"])
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self.history.seconds += elapsed
        return values

    def forward(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """The outputs of a batch, and the loss with all penalties."""
        outputs = self.model(x, True)
        loss = self.loss(outputs, y) if weight is None else self.loss(outputs, y, weight)
        return outputs, sum(self.model.losses, loss) if self.penalized else loss

    def backward(self, loss: Tensor) -> None:
        """Leave the gradients of what is trained."""
        if not self.frozen:
            loss.backward()
            return
        for variable, gradient in zip(self.trained, tape.backward([loss], [full_like(loss, 1)], self.trained)):
            variable.grad = gradient

    @property
    def replays(self) -> bool:
        """Whether steps are replayed by jit."""
        return self.replayed is not None and self.replayed.active

    def enter_epoch(self) -> None:
        """Look up what to train, without gradients that an earlier backward left there."""
        self.trained = self.model.trainable_variables
        self.frozen = len(self.trained) < sum(v.trainable for v in self.model.variables.values())
        self.penalized = bool(self.model.losses)
        self.forget_gradients()
        if self.replays:
            self.replayed.look()

    def done(self, max_steps: int | None, callbacks: Sequence[Any]) -> bool:
        steps = len(self.history.losses)
        return (max_steps is not None and steps >= max_steps) or any(c.stop for c in callbacks)

    def close_epoch(self) -> dict[str, float]:
        """The epoch's averages; the run stands at the start of the next."""
        values = {name: total / max(1, self.seen) for name, total in self.totals.items()}
        values["seconds"] = self.seconds
        values["steps_per_second"] = self.batch / self.seconds if self.seconds else 0.0
        self.totals = dict.fromkeys(self.totals, 0.0)
        self.epoch, self.batch, self.seen, self.seconds = self.epoch + 1, 0, 0, 0.0
        return values

    def interrupted(self) -> KeyboardInterrupt:
        where = f"; {self.path} holds the state, resume=True continues" if self.path else ""
        error = KeyboardInterrupt(f"fit: stopped after step {len(self.history.losses)}{where}")
        error.history = self.history  # type: ignore[attr-defined]
        return error

    def save(self) -> None:
        if self.path is not None:
            place = {n: getattr(self, n) for n in ("epoch", "batch", "seen", "seconds", "totals")}
            values = {"settings": self.settings, "place": place, "history": self.history.as_dict()}
            checkpoint.save(self.path, **self._parts(), **values)

    def restore(self, path: Path) -> None:
        values, commit = checkpoint.prepare(path, **self._parts())
        if not {"settings", "place", "history"} <= set(values):
            raise CheckpointError(f"{path}: holds no position in a run; it was not written by fit")
        for name, now in self.settings.items():
            if (then := values["settings"].get(name)) != now:
                raise CheckpointError(f"{path}: is of a run with {name} {then!r}, this one has {now!r}")
        commit()
        for name, value in values["place"].items():
            setattr(self, name, value)
        self.history = History(**values["history"])

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "generator": _Generators(self.model)}

    def _replay_update(self) -> bool:
        """The optimizer's step by a replay; False, and nothing has changed, where that can't be."""
        if not self.replayed.update([variable.grad for variable in self.trained]):
            return False
        self.forget_gradients()
        return True

    def _require_finite_gradients(self, x: np.ndarray) -> None:
        for variable in self.trained:
            gradient = variable.grad
            if gradient is not None and not _is_finite(gradient):
                self.forget_gradients()
                raise self._not_finite(f"the gradient of {variable.name or 'a Variable'} is not finite", x)

    def forget_gradients(self) -> None:
        """Those of what is trained."""
        for variable in self.trained:
            variable.grad = None

    def _not_finite(self, what: str, x: np.ndarray) -> TrainingError:
        step = len(self.history.losses) + 1
        if dtypes.kind(x.dtype) == "f" and not np.isfinite(x).all():
            advice = "The batch of x holds a NaN or an infinity"
        else:
            advice = f"A smaller learning rate than {self.optimizer.lr.item():g} or clip_norm may help"
        error = TrainingError(
            f"fit: {what} at step {step} (epoch {self.epoch + 1}); "
            f"the model keeps the parameters from before it. {advice}"
        )
        error.history, error.step = self.history, step  # type: ignore[attr-defined]
        return error


class _Generators:
    """The states of the generators that a run draws from, as a part of a checkpoint."""

    def __init__(self, model: Layer):
        self.variables = {"default": random.default_generator.state}
        self.variables |= {str(i): g.state for i, g in enumerate(model.generators) if g is not random.default_generator}


def loss_value(operation: str, loss: Any) -> float:
    """What a loss function returned, as a float, if it is one number."""
    if not isinstance(loss, Tensor):
        raise ArgumentTypeError(f"{operation}: the loss function returned {type(loss).__name__}, expected a Tensor")
    if loss._data.size != 1:
        raise ShapeError(f"{operation}: the loss has shape {loss.shape}, expected one number; take its mean()")
    return float(loss.item())


def _is_finite(gradient: Tensor) -> bool:
    if gradient.device != "cpu":  # NaN and infinities times 0 are NaN, which a sum keeps
        return math.isfinite((gradient.detach() * 0.0).sum().item())
    flat = gradient._data.reshape(-1)
    # The sum of squares takes one pass without a temporary; it may overflow, and where it is long BLAS wakes threads.
    return (flat.size <= 10_000 and math.isfinite(np.dot(flat, flat))) or bool(np.isfinite(flat).all())
