"""Program: a graph as a list of steps in their order, worked out once, and run with values again and again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad import Tensor, no_grad, tape
from minigrad.dialects._walk import gradients, tracked
from minigrad.dialects.theano.graph import Apply, Constant, Gradient, Variable, ancestors
from minigrad.dialects.theano.sharedvar import SharedVariable

_INTEGERS = "iu"


class Program:
    """The steps that compute `outputs` and `updates` from `inputs`, from shared variables and constants.

    Values stand in slots. Integer scalars that only indices and shapes are made of stay Python integers; all else is
    tensors. What costs depend on is recorded on the tape, each expression once, and walked back over once a cost.

    Attributes:
        shared: the shared variables that the outputs depend on.
        steps: for each a function, the slots of its arguments, and the slot of its result, or those of its results.
        nodes: for each step the application that it computes; None for conversions.
        boundary: how many steps are recorded on the tape, at most: the first ones.
        inputs, reads, outputs: the slots of inputs, with their forms, of shared variables, and of outputs and updates.
        numbers: the slots that hold Python integers, or tuples of them.
        dtypes: of the outputs.
    """

    def __init__(self, inputs: Sequence[Variable], outputs: Sequence[Variable], updates: Sequence[Variable] = ()):
        order = ancestors([*outputs, *updates])
        self.shared = [v for v in order if isinstance(v, SharedVariable)]
        self._slots: dict[tuple[int, str], int] = {}
        self.initial: list[Any] = []
        self._host = _on_host(order)
        self.steps: list[tuple[Callable, tuple[int, ...], Any]] = []
        self.nodes: list[Apply | None] = []
        self.inputs = [(self._new(v, self._kind(v)), self._kind(v)) for v in inputs]
        self.reads = [(v, self._new(v, "t")) for v in self.shared]
        gradients = list({id(v.owner): v.owner for v in order if isinstance(v.owner, Gradient)}.values())
        self._tracked = {id(w) for g in gradients for w in g.wrt}
        recorded = {id(v) for v in ancestors([c for g in gradients for c in [*g.costs, *g.cotangents]])}
        first = [v for v in order if id(v) in recorded]
        self._emit(first, "l", gradients, recorded)
        for v in first:
            if id(v) in self._tracked:
                self._slot(v, "l")
        self.boundary = len(self.steps)
        self._emit([v for v in order if id(v) not in recorded], "t", gradients, recorded)
        self.outputs = [self._slot(v, self._kind(v)) for v in outputs] + [self._slot(v, "t") for v in updates]
        self.dtypes = [np.dtype(v.dtype) for v in outputs]
        self.numbers = {slot for (_, kind), slot in self._slots.items() if kind == "h"}
        self._free()

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The outputs: tensors, or integers and tuples of them where they are such."""
        slots = self.start(values)
        self.perform(slots, range(len(self.steps)))
        return [slots[i] for i in self.outputs]

    def start(self, values: Sequence[Any]) -> list[Any]:
        """The slots before the first step: inputs, shared variables and constants are in their places."""
        slots = self.initial.copy()
        for (slot, kind), value in zip(self.inputs, values):
            slots[slot] = Tensor(value) if kind == "t" else int(value)
        for v, slot in self.reads:
            slots[slot] = v.variable
        return slots

    def perform(self, slots: list[Any], order: Sequence[int], free: bool = True) -> None:
        """Take these steps, in their order, and with `free` drop each value after the last step that takes it."""
        ends = self._ends if free else [()] * len(self.steps)
        first = order[: bisect_left(order, self.boundary)]
        if first:
            with tape.enabled():
                self._take(slots, first, ends)
        with no_grad():
            self._take(slots, order[len(first) :], ends)

    def _take(self, slots: list[Any], order: Sequence[int], ends: Sequence[Sequence[int]]) -> None:
        i = 0
        steps = self.steps
        try:
            for i in order:
                function, sources, target = steps[i]
                result = function(*[slots[k] for k in sources])
                if target.__class__ is int:
                    slots[target] = result
                else:
                    for k, value in zip(target, result):
                        slots[k] = value
                for k in ends[i]:
                    slots[k] = None
        except Exception as error:
            self._explain(error, i, slots)
            raise

    def _explain(self, error: Exception, i: int, slots: list[Any]) -> None:
        """Say in the error which expression it came from, and what that was given."""
        node = self.nodes[i]
        if node is None or not hasattr(error, "add_note"):
            return
        given = [slots[k] for k in self.steps[i][1]]
        texts = [f"{v.dtype}{v.shape}" if isinstance(v, Tensor) else repr(v) for v in given]
        error.add_note(f"in {_short(node)}, built at {node.where}; its inputs: {', '.join(texts)}")

    # Slots

    def _kind(self, v: Variable) -> str:
        return "h" if id(v) in self._host else "t"

    def _new(self, v: Variable, kind: str) -> int:
        self._slots[id(v), kind] = len(self.initial)
        self.initial.append(None)
        return len(self.initial) - 1

    def _slot(self, v: Variable, kind: str) -> int:
        """Where a value stands in that form: h for integers, t for a tensor, l for one that gradients are taken by."""
        if kind == "l" and id(v) not in self._tracked:
            kind = "t"
        found = self._slots.get((id(v), kind))
        if found is not None:
            return found
        if isinstance(v, Constant) and kind != "l":
            slot = self._new(v, kind)
            self.initial[slot] = _host_value(v) if kind == "h" else Tensor(v.data)
            return slot
        if kind == "l":
            source = self._slot(v, "t")
            return self._step(tracked, [source], self._new(v, "l"))
        if kind == "t":
            to = partial(_as_tensor, dtype=np.dtype(v.dtype))
            return self._step(to, [self._slot(v, "h")], self._new(v, "t"))
        return self._step(_as_integers, [self._slot(v, "t")], self._new(v, "h"))

    def _step(self, function: Callable, sources: Sequence[int], target: Any, node: Apply | None = None) -> Any:
        self.steps.append((function, tuple(sources), target))
        self.nodes.append(node)
        return target

    # Steps

    def _emit(self, order: Sequence[Variable], form: str, gradients: list[Gradient], recorded: set[int]) -> None:
        """Add the steps of these variables' applications, which take tensors in this form where there is a choice."""
        done: set[int] = set()
        for v in order:
            node = v.owner
            if node is None or id(node) in done or any((id(o), self._kind(o)) in self._slots for o in node.outputs):
                continue
            done.add(id(node))
            if isinstance(node, Gradient):
                again = any(id(o) in recorded for o in node.outputs)
                last = node is gradients[-1]
                self._gradient(node, again, again or not last)
                continue
            self._apply(node, form)

    def _apply(self, node: Apply, form: str) -> None:
        operation = node.operation
        host = operation.host is not None and id(node.outputs[0]) in self._host
        kinds = ["h" if host or i in operation.reads else form for i in range(len(node.inputs))]
        sources = [self._slot(v, kind) for v, kind in zip(node.inputs, kinds)]
        run = operation.host if host and operation.host is not None else operation.run
        params = dict(operation.params)
        function = partial(run, **params) if params else run
        targets = [self._new(o, self._kind(o)) for o in node.outputs]
        self._step(function, sources, targets[0] if len(targets) == 1 else tuple(targets), node)

    def _gradient(self, node: Gradient, again: bool, retain: bool) -> None:
        count, given = len(node.costs), len(node.cotangents)
        form = "l" if again else "t"
        # Costs and cotangents are read in the form that the recorded expressions had.
        sources = [self._slot(v, "l") for v in node.costs] + [self._slot(v, form) for v in node.cotangents]
        sources += [self._slot(v, "l") for v in node.wrt]
        targets = tuple([self._new(o, "t") for o in node.outputs])
        walk = partial(_walk, count=count, given=given, again=again, retain=retain)
        self._step(walk, sources, targets, node)

    def _free(self) -> None:
        """Work out after which step no other needs a slot."""
        kept = {*self.outputs, *(slot for slot, value in enumerate(self.initial) if value is not None)}
        last: dict[int, int] = {}
        for i, (_, sources, _) in enumerate(self.steps):
            for k in sources:
                last[k] = i
        self._ends: list[list[int]] = [[] for _ in self.steps]
        for k, i in last.items():
            if k not in kept:
                self._ends[i].append(k)


def _on_host(order: Sequence[Variable]) -> set[int]:
    """The variables that are computed as Python integers or tuples of them."""
    found: set[int] = set()
    for v in order:
        if np.dtype(v.dtype).kind not in _INTEGERS or v.ndim > 1:
            continue
        node = v.owner
        if node is None:
            if (not v.ndim or isinstance(v, Constant)) and not isinstance(v, SharedVariable):
                found.add(id(v))
        elif node.operation.measures or (node.operation.host is not None and all(id(i) in found for i in node.inputs)):
            found.add(id(v))
    return found


def _host_value(v: Constant) -> Any:
    return tuple(v.data.tolist()) if v.ndim else v.data.item()


def _as_tensor(value: Any, dtype: np.dtype) -> Tensor:
    return Tensor(np.array(value, dtype))


def _as_integers(x: Tensor) -> Any:
    return tuple(x.tolist()) if x.ndim else int(x.item())


def _walk(*tensors: Tensor, count: int, given: int, again: bool, retain: bool) -> list[Tensor]:
    """The gradients of the first `count` tensors by the last ones."""
    cotangents = tensors[count : count + given] if given else [None] * count
    wrt = tensors[count + given :]
    return gradients(tensors[:count], cotangents, wrt, create_graph=again, retain_graph=retain)


def _short(node: Apply) -> str:
    text = repr(node)
    return text if len(text) < 120 else f"{text[:117]}..."
