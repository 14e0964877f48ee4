"""Program: the operations that some fetches need, worked out once, and run with fed values again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import no_grad, tape
from minigrad.dialects._walk import tracked
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.errors import InvalidArgumentError
from minigrad.dialects.tf1.graph import Operation, Tensor
from minigrad.errors import CaptureError

_FIRST = 2  # runs that go step by step, before it is worth while to record one
_MOST = 8  # recordings of different shapes; what runs with more goes step by step


class Program:
    """The operations that `fetches` need if `feeds` are given, run in the order in which the graph got them.

    The third run is recorded by `minigrad.jit`, and later ones replay it. Operations that may take another way at each
    run, as a `cond` whose predicate is computed, keep a program from being recorded.

    Args:
        session: whose Variables it works on.
        fetches: tensors and operations.
        feeds: tensors whose values are given; what only they need does not run.

    Raises:
        InvalidArgumentError: for a placeholder that is needed and not fed.
    """

    def __init__(self, session: Any, fetches: Sequence[Any], feeds: Sequence[Tensor]):
        self.session = session
        self.feeds, self._given = list(feeds), set(feeds)
        self.fetches = list(fetches)
        wanted = [f.op if isinstance(f, Tensor) else f for f in fetches if f not in self._given]
        self.order = needed(wanted, self.feeds)
        _require_fed(self.order)
        walks = [op for op in _with_branches(self.order) if op.type == "Gradients"]
        self.last_walk = walks[-1] if walks else None
        recorded = needed([y.op for op in walks for y in op.compute.outputs_of(op)], self.feeds, controls=False)
        self.recorded = set(_with_branches(recorded))
        self.tracked = {x for op in walks for x in op.compute.inputs_of(op)}
        self._replay = all(op.recordable for op in _with_branches(self.order))
        self._runs = 0
        self._jitted = mg.jit(self._compute, limit=2 * _MOST)

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """The fetched values, None for operations."""
        if not self._replay or self._runs < _FIRST or self._jitted.recordings >= _MOST:
            self._runs += 1
            return self._compute(list(values))
        if self._jitted.recordings:
            return self._jitted(list(values))
        before = self.session.copies()
        try:
            return self._jitted(list(values))
        except CaptureError:  # it reads values: it can't be replayed
            self._replay = False
            self.session.restore_copies(before)
            return self._compute(list(values))

    def _compute(self, values: list[Any]) -> list[Any]:
        known: dict[Tensor, Any] = {}
        for t, value in zip(self.feeds, values):
            held = mg.as_tensor(value) if value.__class__ is np.ndarray else value
            known[t] = self._tracked(held) if t in self.tracked else held
        self.perform(self.order, known)
        return [None if isinstance(f, Operation) else _own(self.value(f, known)) for f in self.fetches]

    def perform(self, order: Sequence[Operation], known: dict[Tensor, Any]) -> None:
        """Run these operations; `known` holds the tensors' values."""
        op = None
        try:
            for op in order:
                if op.type == "VariableV2":
                    continue
                inputs = [self.value(t, known) for t in op.inputs]
                with tape.enabled() if op in self.recorded else no_grad():
                    if op.type == "cond":
                        results = op.compute(self, known, *inputs)
                    elif op.type == "Gradients":
                        results = op.compute(inputs, create=op in self.recorded, retain=op is not self.last_walk)
                    else:
                        results = op.compute(*([self.session] if op.in_session else []), *inputs)
                for t, value in zip(op.outputs, results if isinstance(results, tuple) else (results,)):
                    if t in self._given:
                        continue
                    known[t] = self._tracked(mg.as_tensor(value)) if t in self.tracked else value
        except Exception as error:
            if op is not None and hasattr(error, "add_note") and not getattr(error, "__notes__", ()):
                error.add_note(f"in {op.name} ({op.type}), built at {op.where}")
            raise

    def value(self, t: Tensor, known: dict[Tensor, Any]) -> Any:
        """A tensor's value; of a Variable the one that it has now."""
        if t in known:
            return known[t]
        held = self.session.variable(t.op.name)
        if t in self.tracked and not held.trainable:
            held = known[t] = self._tracked(held)
        return held

    def _tracked(self, value: mg.Tensor) -> mg.Tensor:
        """The value as one that gradients can be taken by."""
        if isinstance(value, mg.Variable) and value.trainable:
            return value
        with tape.enabled():
            return tracked(value)


def needed(wanted: Sequence[Operation], feeds: Sequence[Tensor] = (), controls: bool = True) -> list[Operation]:
    """The operations that these need, themselves among them, in the order of the graph; not what only `feeds` need."""
    given = set(feeds)
    found: set[Operation] = set()
    stack = list(wanted)
    while stack:
        op = stack.pop()
        if op in found:
            continue
        found.add(op)
        stack += op.control_inputs if controls else ()
        stack += [t.op for t in op.inputs if t not in given]
    return sorted(found, key=lambda op: op.index)


def _require_fed(order: Sequence[Operation]) -> None:
    for op in order:
        if op.type == "Placeholder":
            t = op.outputs[0]
            raise InvalidArgumentError(
                f"You must feed a value for placeholder tensor {op.name!r} with dtype {t.dtype} and shape "
                f"{shapes.text(t.lengths)}; built at {op.where}"
            )


def _with_branches(order: Sequence[Operation]) -> list[Operation]:
    """These operations and those in the branches of conds among them."""
    found: list[Operation] = []
    for op in order:
        if op.type == "cond":
            for inner in op.compute.orders:
                found += _with_branches(inner)
        found.append(op)
    return found


def _own(value: Any) -> Any:
    """A fetched value in memory of its own, as nothing else changes then."""
    if isinstance(value, mg.Tensor):
        return mg.copy(value) if value._version is not None else value.detach()
    return mg.as_tensor(value)
