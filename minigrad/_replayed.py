"""Replayed: the halves of a `fit`'s step under jit, with the same bits as without, and what makes them record anew."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import random, tape
from minigrad.errors import CaptureError
from minigrad.jit import jit
from minigrad.tensor import Tensor, Variable, full_like, on

#: Changes of attributes after which a run goes on without jit.
MOST_CHANGES = 20


class Replayed:
    """The loss with its gradients, and the update, each recorded once for each shape of a batch.

    Recordings read attributes of layers and of the optimizer only once. So these are compared, before each epoch and
    wherever callbacks have had a say, and where one has changed, all is recorded anew.

    Attributes:
        active: whether replays are used; False after something that can't be captured.
    """

    def __init__(self, run: Any):
        self.active = True
        self._run = run
        self._known: set = set()
        self._seen: list[tuple] = []
        self._changes = 0
        # Without fusion, as a step that is recorded must round as one that is replayed, if a resumed run is to as well.
        self._compute = jit(self._computed, fuse=False)
        self._update = jit(self._updated, fuse=False)

    def look(self) -> None:
        """Notice changed attributes."""
        if self._known and not _same(self._seen, self._attributes()):
            self._known.clear()
            self._compute.clear()
            self._update.clear()
            self._changes += 1
            if self._changes > MOST_CHANGES:
                self._give_up(f"attributes of the model or the optimizer changed {self._changes} times")

    def compute(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple | None:
        """Outputs, loss and gradients of a batch; None where they can't be replayed."""
        device = self._run.model.device
        args = (x, y, weight) if device == "cpu" else [a if a is None else on(device, a) for a in (x, y, weight)]
        return self._guarded(self._compute, *args)

    def update(self, gradients: Sequence[Tensor | None]) -> bool:
        """Change what is trained; False where that can't be replayed, and nothing has changed."""
        return self._guarded(self._update, list(gradients)) is not None

    def _computed(self, x: Any, y: Any, weight: Any) -> tuple:
        run = self._run
        outputs, loss = run.forward(x, y, weight)
        if not isinstance(loss, Tensor) or loss.size != 1:  # what is said of it, is said to the caller
            raise CaptureError("fit: the loss is not one number")
        gradients = tape.backward([loss], [full_like(loss, 1)], run.trained)
        return (outputs if run.metrics else None), loss, list(gradients)

    def _updated(self, gradients: list) -> tuple:
        self._run.optimizer.update(self._run.trained, gradients)
        return ()

    def _guarded(self, function: Callable, *args: Any) -> Any:
        """What the function returns; None if it could not be recorded, and then everything is as before."""
        key = function is self._compute, _shapes(args)
        if key in self._known:
            return function(*args)
        before = [(v, v.numpy().copy()) for v in self._variables()]
        try:
            result = function(*args)
        except CaptureError as error:
            for v, values in before:
                v.assign(values)
            self._give_up(str(error))
            return None
        self._known.add(key)
        self._seen = self._attributes()  # layers may have set some of their own
        return result

    def _give_up(self, why: str) -> None:
        self.active = False
        warnings.warn(f"fit: goes on without jit: {why}", RuntimeWarning, stacklevel=6)

    def _variables(self) -> list[Variable]:
        run = self._run
        found = [*run.model.variables.values(), *run.optimizer.variables.values()]
        found += [g.state for g in (random.default_generator, *run.model.generators)]
        return list({id(v): v for v in found}.values())

    def _attributes(self) -> list[tuple]:
        """(object, name, value) of all that layers, the optimizer and the run have, lists and such taken apart."""
        run = self._run
        found: list[tuple] = [(run, "trained", v) for v in run.trained]
        found += [(run, name, getattr(run, name)) for name in ("frozen", "penalized", "loss")]
        for owner in (run.optimizer, *[layer for _, layer in run.model._walk()]):
            for name, value in vars(owner).items():
                _take_apart(found, owner, name, value)
        for v in run.model.variables.values():
            found += [(v, name, getattr(v, name)) for name in ("trainable", "regularizer", "constraint", "_data")]
        return found


def _take_apart(found: list[tuple], owner: Any, name: str, value: Any, depth: int = 0) -> None:
    if isinstance(value, (list, tuple, dict)) and depth < 4:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found.append((owner, name, len(value)))
        for key, inner in items:
            _take_apart(found, owner, f"{name}[{key!r}]", inner, depth + 1)
    else:
        found.append((owner, name, value))


def _same(one: list[tuple], other: list[tuple]) -> bool:
    return len(one) == len(other) and all(map(_same_entry, one, other))


def _same_entry(one: tuple, other: tuple) -> bool:
    if one[0] is not other[0] or one[1] != other[1]:
        return False
    a, b = one[2], other[2]
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str, np.dtype)) and repr(a) == repr(b))


def _shapes(args: Sequence[Any]) -> tuple:
    return tuple([_shapes(a) if isinstance(a, list) else a if a is None else (a.shape, a.dtype) for a in args])
