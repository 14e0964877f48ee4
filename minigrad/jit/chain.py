"""Chains: elementwise loops go from chunk to chunk with the kernel beside them, while what both touch is in the cache.

A kernel may say where its chunks lie (`cpu.Kernel.places`), as normalizations, softmax and reductions of rows do. A
loop that makes what it reads is then run on a chunk's places right before that chunk, and one that goes on with what it
makes right after, by the same thread. What nobody needs but the loop behind lies where that loop writes. All kernels
stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import numpy as np

from minigrad.devices import cpu
from minigrad.elementwise import Elementwise
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fuse import loop_of, reduction_of
from minigrad.jit.fused import Fused
from minigrad.jit.fused_reductions import FusedReductions
from minigrad.jit.native import native_of
from minigrad.jit.order import memory_of
from minigrad.jit.rule import FusedRule, Rule
from minigrad.jit.trace import Call, Value, uses_of
from minigrad.primitive import Abstract

NEAR = 32  # calls: what lies further apart would keep too much in memory for longer


class Chained(Fused):
    """A call with the loop before it, the one behind it, or both.

    Args:
        call: what has a kernel of its own.
        head, tail: the loops, as of `loop_of`.
        hidden: the values that nobody else needs.
    """

    repeats = False

    def __init__(self, call: Call, head: Call | None, tail: Call | None, hidden: Collection[Value]):
        members = [c for c in (head, call, tail) if c is not None]
        super().__init__([], [name for c in members for name in getattr(c.primitive, "members", [c.primitive.name])])
        self._call, self._head, self._tail = call, head, tail
        self._rule = FusedRule(call) if isinstance(call.primitive, Fused) else Rule(call, "cpu")
        made = [v for c in members for v in c.outputs]
        self.inputs = list(dict.fromkeys(v for c in members for v in c.inputs if v is not None and v not in made))
        self.outputs = [v for v in made if v not in hidden]
        self._kept = [] if head is None else [v for v in head.outputs if v in hidden]
        self._inside = call.outputs[0] if call.outputs[0] in hidden else None
        self.workspaces = [*self._rule.workspaces, *[Abstract(v.shape, v.dtype) for v in self._kept]]

    def steps(
        self, outputs: Sequence[np.ndarray], workspaces: Sequence[np.ndarray], arrays: Sequence[np.ndarray]
    ) -> list[Step]:
        """The kernel's calls, with the loops linked to them; one after another where Python has to make one of them."""
        own = len(self._rule.workspaces)
        known = dict(zip((*self.outputs, *self._kept, *self.inputs), (*outputs, *workspaces[own:], *arrays)))
        if self._inside is not None and self._tail is not None:
            known[self._inside] = known[self._tail.outputs[0]]
        given = [None if v is None else known[v] for v in self._call.inputs]
        steps = self._rule.steps([known[v] for v in self._call.outputs], list(workspaces[:own]), given)
        first: list[Step] = []
        if self._tail is not None:
            first += self._follow(steps, known)
        if self._head is not None:
            first += self._precede(steps, known)
        return [*first, *steps]

    def links(self) -> tuple[bool, bool]:
        """Whether the loop before and the loop behind would be linked to the kernel, as far as shapes tell."""
        call = self._call
        known = {v: np.empty(v.shape, v.dtype) for v in (*call.inputs, *call.outputs) if v is not None}
        spaces = [np.empty(a.shape, a.dtype) for a in self._rule.workspaces]
        given = [None if v is None else known[v] for v in call.inputs]
        if self._rule.returns:
            return False, False
        steps = self._rule.steps([known[v] for v in call.outputs], spaces, given)
        before = self._head is not None and _first(steps, self._read(known)) is not None
        return before, self._tail is not None and _last(steps, known[call.outputs[0]], self._tail) is not None

    def _read(self, known: dict[Value, np.ndarray]) -> list[np.ndarray]:
        """What the kernel reads of the loop before it."""
        assert self._head is not None
        return [known[v] for v in self._head.outputs if v in self._call.inputs]

    def _follow(self, steps: list[Step], known: dict[Value, np.ndarray]) -> list[Step]:
        """Put the loop behind where it belongs among the steps; returns what has to be done before them."""
        assert self._tail is not None
        found = _last(steps, known[self._call.outputs[0]], self._tail)
        setup, loop = _steps_of(self._tail, known, found, self._inside)
        if found is None:
            steps.append(loop)
            return setup
        at, plain = found[0], cast(list[Compiled], steps[:])
        steps[at] = plain[at]._replace(then=(loop,))
        for i in range(at + 1, len(steps)):
            if plain[i].kernel.checks:  # what it changes where it fails the loop has to meet again
                steps[i] = plain[i]._replace(again=(*plain[at : i + 1], loop))
        return setup

    def _precede(self, steps: list[Step], known: dict[Value, np.ndarray]) -> list[Step]:
        """Put the loop before where it belongs among the steps; returns what has to be done before them."""
        assert self._head is not None
        found = _first(steps, self._read(known))
        setup, loop = _steps_of(self._head, known, found, None)
        if found is None:
            return [*setup, loop]
        step = cast(Compiled, steps[found[0]])
        steps[found[0]] = loop._replace(then=(step._replace(then=()), *step.then))
        return setup


def chained(calls: list[Call], kept: Iterable[Value]) -> list[Call]:
    """The calls with loops linked to the kernels beside them; `kept` are values that are needed at the end."""
    at_end = {base for v in kept for base in v.bases}
    uses = uses_of(calls)
    loops = {call: loop for call in calls if (loop := loop_of(call)) is not None}
    makers = {v: call for call in loops for v in call.outputs}
    result, gone = list(calls), set()
    for call in calls:
        is_loop = isinstance(call.primitive, (Fused, Elementwise)) and not isinstance(call.primitive, FusedReductions)
        if is_loop or call.mutates or not call.outputs:
            continue
        y = call.outputs[0]
        if y.base is not None or y.gpu is not None or not y.size:
            continue
        head = next((makers[v] for v in call.inputs if v in makers and makers[v] not in gone), None)
        tail = next((c for c in uses.get(y, [])[:1] if c in loops and c not in gone and _goes_on(c, call)), None)
        either = [(head, None), (None, tail)] if head is not None and tail is not None else []
        for before, behind in [(head, tail), *either]:
            members = [c for c in (before, call, behind) if c is not None]
            order = _together(result, members) if len(members) > 1 else None
            if order is None:
                continue
            inner = [] if before is None else before.outputs[:]
            if behind is not None and y.shape == behind.outputs[0].shape:
                inner.append(y)
            hidden = {v for v in inner if v not in at_end and all(c in members for c in uses.get(v, ()))}
            chain = Chained(call, before and loops[before], behind and loops[behind], hidden)
            if chain.links() != (before is not None, behind is not None):
                continue
            made = Call(chain, chain.inputs, {}, members[-1].where)  # type: ignore[arg-type]
            made.outputs = chain.outputs
            first, between, after = order
            result = [*first, made, *between, *after]
            gone.update(members)
            break
    return result


def _goes_on(loop: Call, call: Call) -> bool:
    """Whether a loop is over a call's elements, and uses nothing of the call but what belongs to the element."""
    y, out = call.outputs[0], loop.outputs[0]
    used = {v for v in loop.inputs if v in call.outputs}
    reduced = _reduced_by(call)
    if reduced is None:
        return used == {y} and (out.shape, out.dtype) == (y.shape, y.dtype)
    shape, axes = reduced
    kept = tuple([1 if axis in axes else n for axis, n in enumerate(shape)])
    return (out.shape, out.dtype) == (shape, y.dtype) and all(v.shape in (shape, kept) for v in used)


def _reduced_by(call: Call) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shape of the elements that a call reduces, and over which axes; None if it doesn't."""
    if isinstance(call.primitive, FusedReductions):
        return call.primitive.shape, call.primitive.axes
    found = reduction_of(call)
    return None if found is None else (call.inputs[0].shape, found.axes)  # type: ignore[union-attr]


# Order


def _together(calls: Sequence[Call], members: Sequence[Call]) -> tuple[list[Call], list[Call], list[Call]] | None:
    """What comes before the members if they become one call, what of those in between after it, and all after that.

    None if something in between needs one of them and is needed by another, or if they lie far apart.
    """
    places = [i for i, call in enumerate(calls) if call in members]
    if len(places) < len(members) or places[-1] - places[0] > NEAR:
        return None
    before, met, later = list(calls[: places[0]]), list[Call](), list[Call]()
    for call in calls[places[0] : places[-1] + 1]:
        waits = any(_depend(other, call) for other in later)
        if call in members:
            if waits:
                return None
            met.append(call)
        elif waits or (call.mutates and later) or any(_depend(other, call) for other in met):
            later.append(call)
        else:
            before.append(call)
    return before, later, list(calls[places[-1] + 1 :])


def _depend(one: Call, other: Call) -> bool:
    """Whether two calls must stay in this order."""
    made, changed = _writes(one), _writes(other)
    return bool(made & (_reads(other) | changed)) or bool(_reads(one) & changed)


def _reads(call: Call) -> set[Any]:
    return {what for v in call.inputs if v is not None for what in (v, memory_of(v))}


def _writes(call: Call) -> set[Any]:
    """Values and memory; a view is a value that writes none."""
    owned = [v for v in call.outputs if v.base is None]
    return {*call.outputs, *[memory_of(v) for v in (*call.mutates, *owned)]}


# Steps


def _last(steps: Sequence[Step], y: np.ndarray, loop: Call) -> tuple[int, np.ndarray] | None:
    """The step that writes an array last, and the places where a loop follows it; None if there is none to link to."""
    at = [i for i, step in enumerate(steps) if _uses(step, y) and not _checks(step)]
    return _linked(steps, at[-1], math.prod(loop.outputs[0].shape)) if at else None


def _first(steps: Sequence[Step], arrays: Sequence[np.ndarray]) -> tuple[int, np.ndarray] | None:
    """The step that reads some arrays first."""
    at = [i for i, step in enumerate(steps) if any(_uses(step, a) for a in arrays)]
    return _linked(steps, at[0], arrays[0].size) if at else None


def _linked(steps: Sequence[Step], at: int, size: int) -> tuple[int, np.ndarray] | None:
    step = steps[at]
    if not isinstance(step, Compiled) or step.kernel.places is None or any(native_of(s) is None for s in steps):
        return None
    places = step.kernel.places(step.chunks, step.args)
    if places is None or len(places) != step.chunks or int((places[:, 1] * places[:, 2]).sum()) != size:
        return None
    return at, places


def _checks(step: Step) -> bool:
    return isinstance(step, Compiled) and step.kernel.checks


def _uses(step: Step, a: np.ndarray) -> bool:
    """Whether a step is given memory of an array."""
    return any(isinstance(b, np.ndarray) and np.may_share_memory(a, b) for b in _flat([step.args, *_given(step)]))


def _given(step: Step) -> list[Any]:
    return [] if isinstance(step, Compiled) else list(step.kwargs.values())


def _flat(values: Iterable[Any]) -> list[Any]:
    return [b for v in values for b in (_flat(v) if isinstance(v, (tuple, list)) else [v])]


def _steps_of(
    loop: Call, known: dict[Value, np.ndarray], link: tuple[int, np.ndarray] | None, inside: Value | None
) -> tuple[list[Step], Compiled]:
    """What has to be done before a loop, and its call over the places of the step that it is linked to, or over all.

    The value `inside`, if any, is read from where the first output is written.
    """
    inputs, outputs = [known[v] for v in loop.inputs if v is not None], [known[v] for v in loop.outputs]
    size = outputs[0].size
    places = cpu.ranges(cpu.chunks_of(size), size) if link is None else link[1]
    within = loop.inputs.index(inside) if inside in loop.inputs else None
    fused = cast(Fused, loop.primitive)
    setup, made = fused.steps_over(places, outputs, inputs, within)
    return [*setup], made
