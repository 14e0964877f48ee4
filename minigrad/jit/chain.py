"""Chains: elementwise loops go from chunk to chunk with the kernel beside them, while what both touch is in the cache.

A kernel may say where its chunks lie (`cpu.Kernel.places`), as normalizations and softmax do. A loop that makes what it
reads is then run on a chunk's places right before that chunk, and one that goes on with what it makes right after, by
the same thread. What nobody needs but the loop behind lies where that loop writes. All kernels stay what they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import scalar
from minigrad.devices import cpu, cpu_loops
from minigrad.elementwise import Elementwise
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fuse import is_elementwise
from minigrad.jit.fused import Fused
from minigrad.jit.native import native_of
from minigrad.jit.order import memory_of
from minigrad.jit.rule import Rule
from minigrad.jit.trace import Call, Value, uses_of
from minigrad.primitive import Abstract

NEAR = 32  # calls: what lies further apart would keep too much in memory for longer


class Chained(Fused):
    """A call with the loop before it, the one behind it, or both.

    Args:
        call: what has a kernel of its own.
        head, tail: the elementwise calls.
        hidden: the values that nobody else needs.
    """

    repeats = False

    def __init__(self, call: Call, head: Call | None, tail: Call | None, hidden: Collection[Value]):
        members = [c for c in (head, call, tail) if c is not None]
        super().__init__([], [name for c in members for name in getattr(c.primitive, "members", [c.primitive.name])])
        self._call, self._head, self._tail = call, head, tail
        self._rule = Rule(call, "cpu")
        made = [v for c in members for v in c.outputs]
        self.inputs = list(dict.fromkeys(v for c in members for v in c.inputs if v is not None and v not in made))
        self.outputs = [v for v in made if v not in hidden]
        self._kept = [v for v in made if v in hidden and (head is not None and v in head.outputs)]
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
        return before, self._tail is not None and _last(steps, known[call.outputs[0]]) is not None

    def _read(self, known: dict[Value, np.ndarray]) -> list[np.ndarray]:
        """What the kernel reads of the loop before it."""
        assert self._head is not None
        return [known[v] for v in self._head.outputs if v in self._call.inputs]

    def _follow(self, steps: list[Step], known: dict[Value, np.ndarray]) -> list[Step]:
        assert self._tail is not None
        found = _last(steps, known[self._call.outputs[0]])
        setup, loop = _loop(self._tail, known, None if found is None else found[1], self._inside)
        if found is None:
            steps.append(loop)
            return setup
        at = found[0]
        plain: list[Any] = steps[:]
        steps[at] = plain[at]._replace(then=(loop,))
        for i in range(at + 1, len(steps)):
            if plain[i].kernel.checks:  # what it changes where it fails the loop has to meet again
                steps[i] = plain[i]._replace(again=(*plain[at : i + 1], loop))
        return setup

    def _precede(self, steps: list[Step], known: dict[Value, np.ndarray]) -> list[Step]:
        assert self._head is not None
        found = _first(steps, self._read(known))
        setup, loop = _loop(self._head, known, None if found is None else found[1], None)
        if found is None:
            return [*setup, loop]
        step: Any = steps[found[0]]
        steps[found[0]] = loop._replace(then=(step._replace(then=()), *step.then))
        return setup


def chained(calls: list[Call], kept: Iterable[Value]) -> list[Call]:
    """The calls with loops linked to the kernels beside them; `kept` are values that are needed at the end."""
    at_end = {base for v in kept for base in v.bases}
    uses = uses_of(calls)
    makers = {v: call for call in calls if _is_loop(call) for v in call.outputs}
    result, gone = list(calls), set()
    for call in calls:
        if isinstance(call.primitive, (Fused, Elementwise)) or call.mutates or not call.outputs:
            continue
        y = call.outputs[0]
        if y.base is not None or y.gpu is not None or not y.size:
            continue
        tails = [c for c in uses.get(y, [])[:1] if _is_loop(c) and c not in gone and _goes_on(c, call)]
        heads = [makers[v] for v in call.inputs if v in makers and makers[v] not in gone]
        for head, tail in [(h, t) for h in (*heads[:1], None) for t in (*tails[:1], None)][:-1]:
            members = [c for c in (head, call, tail) if c is not None]
            order = _together(result, members)
            if order is None:
                continue
            inner = [*([] if tail is None else [y]), *([] if head is None else head.outputs)]
            hidden = {v for v in inner if v not in at_end and all(c in members for c in uses.get(v, ()))}
            chain = Chained(call, head, tail, hidden)
            if chain.links() != (head is not None, tail is not None):
                continue
            made = Call(chain, chain.inputs, {}, members[-1].where)  # type: ignore[arg-type]
            made.outputs = chain.outputs
            before, between, after = order
            result = [*before, made, *between, *after]
            gone.update(members)
            break
    return result


def _is_loop(call: Call) -> bool:
    """Whether it is one elementwise loop on the CPU, of elements that there are."""
    if not call.outputs or call.outputs[0].gpu is not None or not call.outputs[0].size:
        return False
    return type(call.primitive) is Fused or is_elementwise(call)


def _goes_on(loop: Call, call: Call) -> bool:
    """Whether a loop is over the elements of a call's first output, and uses nothing else of the call."""
    y, out = call.outputs[0], loop.outputs[0]
    used = {v for v in loop.inputs if v in call.outputs}
    return used == {y} and (out.shape, out.dtype) == (y.shape, y.dtype)


# Order


def _together(calls: Sequence[Call], members: Sequence[Call]) -> tuple[list[Call], list[Call], list[Call]] | None:
    """What comes before the members if they become one call, what of those in between after it, and all after that.

    None if something in between needs one of them and is needed by another, or if they lie far apart.
    """
    places = [i for i, call in enumerate(calls) if call in members]
    if len(places) < len(members) or places[-1] - places[0] > NEAR:
        return None
    before, met, later = list(calls[: places[0]]), [], []  # type: ignore[var-annotated]
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


def _last(steps: Sequence[Step], y: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The step that writes an array last, place by place, and the places; None if there is none to link to."""
    at = [i for i, step in enumerate(steps) if _uses(step, y) and not _checks(step)]
    return _linked(steps, at[-1], y) if at else None


def _first(steps: Sequence[Step], arrays: Sequence[np.ndarray]) -> tuple[int, np.ndarray] | None:
    """The step that reads some arrays first."""
    at = [i for i, step in enumerate(steps) if any(_uses(step, a) for a in arrays)]
    return _linked(steps, at[0], arrays[0]) if at else None


def _linked(steps: Sequence[Step], at: int, a: np.ndarray) -> tuple[int, np.ndarray] | None:
    step = steps[at]
    if not isinstance(step, Compiled) or step.kernel.places is None or any(native_of(s) is None for s in steps):
        return None
    places = step.kernel.places(step.chunks, step.args)
    if places is None or len(places) != step.chunks or int((places[:, 1] * places[:, 2]).sum()) != a.size:
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


def _loop(
    call: Call, known: dict[Value, np.ndarray], places: np.ndarray | None, inside: Value | None
) -> tuple[list[Step], Compiled]:
    """The call of an elementwise loop over places, or over everything, and what it needs done before.

    The value `inside`, if any, is read from where the first output is written.
    """
    inputs: Any = list(dict.fromkeys(call.inputs))
    names = [f"in_{i}" for i in range(len(inputs))]
    given = {v: scalar.variable(name) for v, name in zip(inputs, names)}
    primitive: Any = call.primitive
    own = [f"in_{i}" for i in range(len(call.inputs))] if isinstance(primitive, Fused) else primitive.inputs
    mapping = {name: given[v] for name, v in zip(own, call.inputs)}
    mine = primitive.expressions if isinstance(primitive, Fused) else [primitive.expression]
    expressions = [scalar.with_values(e, mapping) for e in mine]
    outs, arrays = [known[v] for v in call.outputs], [known[v] for v in inputs]
    arrays = [a if a.flags.c_contiguous else cpu_loops.without_repeats(a) for a in arrays]
    kinds, lengths, repeats = cpu_loops.walk(outs[0].shape, tuple([a.shape for a in arrays]))
    within = inputs.index(inside) if inside in inputs else None
    kernel = cpu_loops.placed_kernel(expressions, names, outs[0].dtype, kinds, bool(lengths), within)
    setup, operands = cpu_loops.repeated(arrays, repeats)
    operands = [a for i, a in enumerate(operands) if i != within]
    size = outs[0].size
    if places is None:
        places = cpu.ranges(cpu.chunks_of(size), size)
    args = (places, *[out.ravel() for out in outs], *lengths, *operands)
    return [Compiled(*c) for c in setup], Compiled(kernel, len(places), size, args)
