"""Order: each Variable is changed as soon as its gradient is there, which then needs no memory for longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.jit.trace import Call, Value


def with_early_changes(calls: Sequence[Call]) -> list[Call]:
    """The calls in an order in which what changes Variables runs as early as it can, with the same bits.

    A call that changes many Variables, as the optimizers' do, becomes one for each. None is moved in front of one that
    makes or changes what it reads, or that reads or changes what it changes, nor of one that may raise an error: what
    fails has changed no more than it would have in the order in which the calls were written.
    """
    runs: list[list[Call]] = [[]]  # calls that stay, in order, each with those that are moved to right behind it
    read: dict[Any, int] = {}  # memory: the run in which it is read last so far
    changed: dict[Any, int] = {}
    failing = 0
    for whole in calls:
        for call in _parts(whole):
            reads = {memory_of(v) for v in call.inputs if v is not None}
            changes = {memory_of(v) for v in (*call.outputs, *call.mutates)}
            if call.mutates:
                at = max([failing, *[changed.get(m, 0) for m in reads], *[read.get(m, 0) for m in changes]])
                runs[at].append(call)
            else:
                at = len(runs)
                runs.append([call])
                failing = at if _may_fail(call) else failing
            read.update({m: max(at, read.get(m, 0)) for m in reads})
            changed.update(dict.fromkeys(changes, at))
    return [call for run in runs for call in run]


def _parts(call: Call) -> list[Call]:
    """The call of each group of Variables by itself; one that changes none, as it is."""
    if not call.mutates or call.primitive._groups_from is None:
        return [call]
    start, (size, targets) = call.primitive._groups_from, call.primitive._group
    parts = []
    for i, low in enumerate(range(start, len(call.inputs), size)):
        part = Call(call.primitive, [*call.inputs[:start], *call.inputs[low : low + size]], call.params, call.where)
        part.mutates = call.mutates[i * targets : (i + 1) * targets]
        parts.append(part)
    return parts


def _may_fail(call: Call) -> bool:
    """Whether values may decide if it raises: indices and labels can be out of range."""
    return any(v is not None and v.kind != "constant" and v.dtype.kind not in "fc" for v in call.inputs)


def memory_of(value: Value) -> Any:
    """What stands for the memory that a value lies in: a Variable's is the same before and after a change."""
    root = value.root
    return id(root.source) if root.kind == "variable" else root
