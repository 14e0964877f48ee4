"""Replayed: the halves of a `fit`'s step under jit, with the same bits as without, and what makes them record anew."""

from __future__ import annotations

import random as python_random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad._watched import Watched
from minigrad.errors import CaptureError
from minigrad.jit import jit
from minigrad.jit.capture import users_level
from minigrad.tensor import Tensor, Variable, on

#: Steps of a kind (shapes of a batch) that run as written before one is recorded: recording costs as much as many of
#: them, and what layers make at first, they have made by then.
FIRST = 16

#: How often attributes may change, unless so many steps at least lie between two changes.
MOST_CHANGES, STEPS_BETWEEN = 20, 50


class Replayed:
    """The loss with its gradients, and the update, each recorded once for each shape of a batch.

    Recordings read Python's side of layers, loss and optimizer only once. So that is watched: before each epoch,
    wherever callbacks have had a say, and while recording. Where it has changed in between, all is recorded anew; what
    changes it in each step is not recorded at all.

    Attributes:
        active: whether replays are used; False after something that can't be captured.
    """

    def __init__(self, run: Any):
        self.active = True
        self._run = run
        self._steps: dict[tuple, int] = {}  # of each kind
        self._recorded: set = set()
        self._watched: Watched | None = None
        self._changes = self._replays = 0
        # Without fusion, as a step that is recorded must round as one that is replayed, if a resumed run is to as well.
        self._compute = jit(self._computed, fuse=False)
        self._update = jit(self._updated, fuse=False)

    def look(self) -> None:
        """Notice what has changed."""
        if self._watched is None or self._watched.change() is None:
            return
        self._watched = None
        self._recorded.clear()
        self._compute.clear()
        self._update.clear()
        self._steps = dict.fromkeys(self._steps, FIRST - 1)
        self._changes += 1
        if self._changes > MOST_CHANGES and self._replays < self._changes * STEPS_BETWEEN:
            self._give_up(f"attributes of the model or the optimizer changed {self._changes} times")

    def compute(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple | None:
        """Outputs (for metrics) and loss of a batch, whose gradients are left; None where the step is not replayed."""
        kind = _shapes((x, y, weight))
        count = self._steps[kind] = self._steps.get(kind, 0) + 1
        if count <= FIRST:
            return None
        self._replays += 1
        device = self._run.model.device
        args = (x, y, weight) if device == "cpu" else [a if a is None else on(device, a) for a in (x, y, weight)]
        return self._guarded(self._compute, *args)

    def update(self, gradients: Sequence[Tensor | None]) -> bool:
        """Change what is trained; False where that can't be replayed, and nothing has changed."""
        return self._guarded(self._update, list(gradients)) is not None

    def _computed(self, x: Any, y: Any, weight: Any) -> tuple:
        outputs, loss = self._run.forward(x, y, weight)
        if not isinstance(loss, Tensor) or loss.size != 1:  # what is said of it, is said to the caller
            raise CaptureError("fit: the loss is not one number")
        self._run.backward(loss)
        return (outputs if self._run.metrics else None), loss

    def _updated(self, gradients: list) -> tuple:
        self._run.optimizer.update(self._run.trained, gradients)
        return ()

    _computed.__qualname__ = "the training step"  # what messages call it
    _updated.__qualname__ = "the optimizer's step"

    def _guarded(self, function: Any, *args: Any) -> Any:
        """What the function returns; None if it could not be recorded, and then everything is as before."""
        key = function is self._compute, _shapes(args)
        if key in self._recorded:
            return function(*args)
        recordings = function.recordings
        before = [(v, v.numpy().copy()) for v in self._variables()]
        watched, drawn = Watched(self._parts(), self._state), _draws()
        try:
            result = function(*args)
        except CaptureError as error:
            for v, values in before:
                v.assign(values)
            if function is self._compute:
                self._run.forget_gradients()
            self._give_up(str(error))
            return None
        if function.recordings > recordings:
            self._recorded.add(key)
        self._watched = self._watched or watched
        if change := watched.change():
            self._give_up(f"each step changes {change}, which a replay would not do")
        elif drawn != _draws():
            self._give_up("each step draws random numbers from NumPy or Python; replays know those of minigrad.random")
        return result

    def _give_up(self, why: str) -> None:
        self.active = False
        text = f"fit: goes on without jit: {why}. With jit=False it would have run like this from the start"
        warnings.warn(text, RuntimeWarning, stacklevel=users_level())

    def _variables(self) -> list[Variable]:
        run = self._run
        found = [*run.model.variables.values(), *run.optimizer.variables.values()]
        found += [g.state for g in (random.default_generator, *run.model.generators)]
        return list({id(v): v for v in found}.values())

    def _parts(self) -> list[tuple[str, Any]]:
        """What is watched, with names."""
        run = self._run
        parts = [("the loss", run.loss), ("the optimizer", run.optimizer)]
        parts += [(f"layer {layer.name!r}", layer) for _, layer in run.model._walk()]
        return [*parts, *[(v.name or "a Variable", v) for v in run.model.variables.values()]]

    def _state(self) -> tuple:
        return (self._run.frozen, self._run.penalized, *self._run.trained)


def _draws() -> tuple:
    """Where the random numbers of NumPy and Python stand."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002  (whose state it is)
    return state["state"]["pos"], state["state"]["key"].tobytes(), python_random.getstate()


def _shapes(args: Sequence[Any]) -> tuple:
    return tuple([_shapes(a) if isinstance(a, list) else a if a is None else (a.shape, a.dtype) for a in args])
