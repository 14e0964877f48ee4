"""Finish: elementwise calls that the call before them can do itself, as its primitive's rule says."""

from __future__ import annotations

from minigrad.elementwise import Elementwise
from minigrad.jit.trace import Call, Value


def finished(calls: list[Call], uses: dict[Value, list[Call]], at_end: set[Value]) -> list[Call]:
    """The calls without those that others do besides. The bits of a result may change as the kernels' do."""
    gone: set[Call] = set()
    kept = []
    for call in calls:
        if call in gone:
            continue
        last = _after(call, uses, at_end)
        params = None if last is None else call.primitive.finish_rule(last.primitive.name, **call.params)
        if last is not None and params is not None:
            gone.add(last)
            made = Call(call.primitive, call.inputs, params, call.where)
            made.outputs = [last.outputs[0], *call.outputs[1:]]
            call = made
        kept.append(call)
    return kept


def _after(call: Call, uses: dict[Value, list[Call]], at_end: set[Value]) -> Call | None:
    """The elementwise call that alone uses the first output, and nothing else, if there is one."""
    if not call.outputs or call.outputs[0] in at_end or call.outputs[0].base is not None:
        return None
    y, users = call.outputs[0], uses.get(call.outputs[0], [])
    if len(users) != 1 or not isinstance(users[0].primitive, Elementwise) or users[0].inputs != [y]:
        return None
    out = users[0].outputs[0]
    return users[0] if (out.shape, out.dtype, out.gpu) == (y.shape, y.dtype, y.gpu) else None
