"""Plan: where every value of a recording lies, and the steps that compute them there."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.devices import cpu
from minigrad.elementwise import Elementwise
from minigrad.jit import gpu, memory
from minigrad.jit.bind import Step
from minigrad.jit.chain import chained
from minigrad.jit.exchange import SMALLEST, Exchange, handed_out
from minigrad.jit.fuse import fused
from minigrad.jit.fused import Fused
from minigrad.jit.fused_update import with_updates
from minigrad.jit.order import with_early_changes
from minigrad.jit.passes import Simplified
from minigrad.jit.rule import FusedRule, Rule
from minigrad.jit.trace import Call, Trace, Value
from minigrad.tensor import Leaf


class Plan:
    """A recording laid out in memory and bound to kernels.

    Attributes:
        steps: for each call that is left, what is to be done for it.
        inputs: the arrays that the function's tensors are copied to or stand-ins of, or None for one that nothing uses.
        exchange: the stand-ins of arrays that come in and go out without a copy.
        handed_out: the stand-ins of memory that results and gradients leave with.
        gradients: leaves whose ``grad`` the function reads, and the arrays that it is copied to.
        results: the arrays of what the function returns.
        grads: the leaves whose ``grad`` it changes, and the array of the new one, or None.
        gpu: what is needed on the GPU that it computes on, if any; the rest is of the CPU.
        blocks: the pieces of the arena.
        arena_size, peak, total: bytes of the arena, the least that any arena needs, and all pieces one beside another.
    """

    def __init__(self, trace: Trace, fuse: bool = False):
        self.trace = trace
        self.simplified = Simplified(trace)
        self.calls = self.simplified.calls
        needed = {v for v in (*self.simplified.results, *[v for _, v in self.simplified.grads]) if v is not None}
        index = next((i for i in map(gpu.gpu_of, self.calls) if i is not None), None)
        self.gpu = None if index is None else gpu.Memory(index)
        if fuse and trace.device == "cpu":
            recorded = len(self.calls)
            self.calls = chained(fused(self.calls, needed), needed)
            self.simplified.counts["fused"] = recorded - len(self.calls)
        if self.gpu is not None:  # where one launch changes all Variables
            self.calls = gpu.python_first(self.calls)
        elif trace.device == "cpu":
            self.calls = with_early_changes(self.calls)
            if fuse:
                self.calls = with_updates(self.calls, needed)
        self._arrays: dict[Value, Any] = {}
        self._rules = [self._rule(i, call) for i, call in enumerate(self.calls)]
        self._last = self._last_uses()
        self.blocks: list[memory.Block] = []
        self.exchange = Exchange()
        leaving = [*self.simplified.results, *[v for _, v in self.simplified.grads if v is not None]]
        for v in handed_out(leaving):
            self._arrays[v] = self.exchange.stand_in(v)
        self.handed_out = tuple(self.exchange.arrays)
        workspaces = self._lay_out()
        self.inputs = [self._arrays.get(v) for v in trace.inputs]
        self.gradients: list[tuple[Leaf, np.ndarray]] = [
            (v.source, self._arrays[v]) for v in self._arrays if v.kind == "gradient"
        ]
        self.steps = [self._bind(*work) for work in zip(self.calls, self._rules, workspaces)]
        if self.gpu is not None:
            self.gpu.settle([step for steps in self.steps for step in steps])
        self.results = [self.array(v) for v in self.simplified.results]
        self.grads = [(leaf, None if v is None else self.array(v)) for leaf, v in self.simplified.grads]

    def array(self, value: Value) -> Any:
        """The array of a value, on a GPU a DeviceArray."""
        found = self._arrays.get(value)
        if found is None:
            found = self._arrays[value] = self._outside(value)
        return found

    def _rule(self, number: int, call: Call) -> Any:
        if self.gpu is not None and gpu.gpu_of(call) is not None:
            rule = gpu.FusedRule if isinstance(call.primitive, Fused) else gpu.Rule
            return rule(call, self.gpu, number)
        return FusedRule(call) if isinstance(call.primitive, Fused) else Rule(call, self.trace.device)

    # Memory

    def _last_uses(self) -> dict[Value, int]:
        """When each owner of memory is used last; results, when all is done."""
        last: dict[Value, int] = {}
        for i, call in enumerate(self.calls):
            for v in call.inputs:
                if v is not None:
                    last[v.root] = i
        for v in (*self.simplified.results, *[v for _, v in self.simplified.grads]):
            if v is not None:
                last[v.root] = len(self.calls)
        return last

    def _lay_out(self) -> list[list[np.ndarray]]:
        """Arrays in one arena for inputs, outputs and workspaces; returns the workspaces of each call."""
        for v, last in self._last.items():
            if v.kind == "input" and v.size >= SMALLEST and v.gpu is None:
                self._arrays[v] = self.exchange.stand_in(v)
            elif v.kind in ("input", "gradient"):
                self._make_room(v, -1, last)
        rooms: list[list[memory.Block]] = []
        for i, (call, rule) in enumerate(zip(self.calls, self._rules)):
            for v in call.outputs:
                if v.base is None and v not in self._arrays:
                    self._make_room(v, i, self._last.get(v, i))
            rooms.append([memory.Block(a.size * a.dtype.itemsize, i, i, a) for a in rule.workspaces])
            self.blocks += rooms[-1]
        self.arena_size = memory.place(self.blocks)
        self.peak = memory.most_needed(self.blocks)
        self.total = sum(memory.rounded(b.size) for b in self.blocks)
        raw = cpu.empty((self.arena_size + memory.ALIGNMENT,), np.dtype(np.uint8))
        start = -raw.__array_interface__["data"][0] % memory.ALIGNMENT
        self.arena = raw[start : start + self.arena_size]
        for block in self.blocks:
            if isinstance(block.what, Value):
                self._arrays[block.what] = self._piece(block)
        return [[self._piece(block) for block in room] for room in rooms]

    def _make_room(self, value: Value, first: int, last: int) -> None:
        if self.gpu is not None and value.gpu is not None:
            self._arrays[value] = self.gpu.array(value, first, last)
        else:
            self.blocks.append(memory.Block(value.size, first, last, value))

    def _piece(self, block: memory.Block) -> np.ndarray:
        return np.ndarray(block.what.shape, block.what.dtype, self.arena, block.offset)

    def _outside(self, value: Value) -> Any:
        """The array of a value that has no place of its own in the arena."""
        if value.kind == "variable":
            return value.source._data
        if value.kind == "constant":
            return value.source
        if value.kind == "part":
            assert value.base is not None
            offset, shape, strides = value.source
            return _part(self.array(value.base), offset, shape, strides, value.dtype)
        raise AssertionError(f"jit: {value} was not laid out")

    # Steps

    def _bind(self, call: Call, rule: Rule, workspaces: list[np.ndarray]) -> list[Step]:
        arrays = [None if v is None else self.array(v) for v in call.inputs]
        if not getattr(call.primitive, "repeats", isinstance(call.primitive, Elementwise)):
            fixed = [v is not None and v.kind == "constant" for v in call.inputs]
            arrays = [_dense(a) if a is not None and f else a for a, f in zip(arrays, fixed)]
        if call.mutates:
            targets = tuple([self.array(v) for v in call.mutates])
            return rule.steps_in_place(targets, arrays)
        if call.outputs and all(v.base is not None for v in call.outputs):  # a view: seen once, and for all time
            for v, a in zip(call.outputs, rule.returned(arrays)):
                self._arrays[v] = a
            return []
        outputs = [self._arrays[v] for v in call.outputs]
        return rule.steps(outputs, workspaces, arrays)


def _dense(a: Any) -> Any:
    """A constant in the form that the CPU's kernels read without a copy, unless it is long for what it holds."""
    if not isinstance(a, np.ndarray):
        return a
    return np.ascontiguousarray(a) if a.ndim and a.nbytes <= SMALLEST else a


def _part(base: Any, offset: int, shape: tuple, strides: tuple, dtype: np.dtype) -> Any:
    """The memory of `base`, a contiguous array, seen `offset` bytes on in another form."""
    if not isinstance(base, np.ndarray):
        return base.strided(shape, strides, offset)
    return np.ndarray(shape, dtype, base.reshape(-1).view(np.uint8), offset, strides)
