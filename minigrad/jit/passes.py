"""Passes over a recording: constants folded, equal calls merged, dead ones removed. No result changes a bit.

What a call computes depends on its values and params alone, so equal calls are one. A Variable that was changed is
another value from then on, which keeps calls before and after the change apart.
"""

from __future__ import annotations

from typing import Any

from minigrad.jit.trace import Call, Trace, Value
from minigrad.primitive import on_device
from minigrad.tape import no_grad
from minigrad.tensor import Tensor


class Simplified:
    """The calls that are left of a recording, and what became of values that lost theirs.

    Attributes:
        calls: in order.
        counts: how many calls each pass removed, by name.
    """

    def __init__(self, trace: Trace):
        self.trace = trace
        self._replaced: dict[Value, Value] = {}
        self.counts = {"folded": 0, "merged": 0, "dead": 0}
        self.calls = self._without_dead(self._without_equals(trace.calls))

    def now(self, value: Value) -> Value:
        """What stands for this value."""
        return self._replaced.get(value, value)

    @property
    def results(self) -> list[Value]:
        """What the function returns."""
        return [self.now(v) for v in self.trace.results]

    @property
    def grads(self) -> list[tuple[Any, Value | None]]:
        """The leaves whose gradients change, and to what."""
        return [(leaf, None if v is None else self.now(v)) for leaf, v in self.trace.grads]

    def _without_equals(self, calls: list[Call]) -> list[Call]:
        """Constants folded, and equal calls merged."""
        kept: list[Call] = []
        known: dict[tuple, Call] = {}
        for call in calls:
            for v in call.inputs:
                if v is not None and v.kind == "part" and v.base in self._replaced:
                    v.base = self._replaced[v.base].root
            call.inputs = [None if v is None else self.now(v) for v in call.inputs]
            for v in call.outputs:
                if v.base is not None:
                    v.base = self.now(v.base).root
            if call.mutates:
                kept.append(call)
                continue
            present = [v for v in call.inputs if v is not None]
            if present and all(v.kind == "constant" for v in present):
                self._fold(call)
                continue
            params = tuple([(k, v, repr(v)) for k, v in call.params.items()])  # 0.0 and -0.0 are equal, but not alike
            key = (call.primitive, tuple(map(id, call.inputs)), params)
            same = known.setdefault(key, call)
            if same is call:
                kept.append(call)
                continue
            self._replaced.update(zip(call.outputs, same.outputs))
            self.counts["merged"] += 1
        return kept

    def _fold(self, call: Call) -> None:
        arrays = [None if v is None else Tensor(v.source) for v in call.inputs]
        with no_grad(), on_device(self.trace.device):
            found = call.primitive(*arrays, **call.params)
        for value, t in zip(call.outputs, found if isinstance(found, tuple) else (found,)):
            self._replaced[value] = Value("constant", t._data, t._data)
        self.counts["folded"] += 1

    def _without_dead(self, calls: list[Call]) -> list[Call]:
        needed: set[Value] = set()

        def need(value: Value | None) -> None:
            needed.update(() if value is None else value.bases)

        for value in self.results:
            need(value)
        for _, gradient in self.grads:
            need(gradient)
        kept = []
        for call in reversed(calls):
            if call.mutates or any(v in needed for v in call.outputs):
                kept.append(call)
                for v in call.inputs:
                    need(v)
            else:
                self.counts["dead"] += 1
        return kept[::-1]
