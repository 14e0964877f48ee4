"""Fusion: neighbouring elementwise calls become one loop, which keeps what lies between them in registers.

A group grows from a call to the calls that use its results, as long as all fill arrays of one shape and dtype, and as
long as nothing in between needs what the group makes or changes what it reads. The group runs where its last call
stood; of its values only those are stored that something else needs. Loops are generated from the primitives' scalar
functions, as those of single calls are. Rounding may differ, as the compiler joins products and sums over the whole.

On a GPU loops may be of strided arrays as well, and have room for more of them.

A group may begin with a matrix product: a dense layer's bias and activation, or on the way back the activation's
derivative, are applied to each block of the product right after it was computed. It may end with sums and
extremes over axes, all over the same, of what it makes: elements are reduced as they are computed.

Before all that, kernels do themselves what they can of the elementwise work on their outputs; see `finish`. What is
left beside a normalization or a softmax then follows its chunks; see `chain`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from minigrad import dtypes, scalar
from minigrad.devices import cpu_loops
from minigrad.devices.cuda import loops as cuda_loops
from minigrad.elementwise import Elementwise
from minigrad.jit.finish import finished
from minigrad.jit.fused import Fused, FusedProduct
from minigrad.jit.fused_reductions import FusedReductions
from minigrad.jit.trace import Call, Value, uses_of
from minigrad.ops import linalg_cpu, reductions_extremes
from minigrad.ops.linalg import matmul_p
from minigrad.ops.reductions_extremes import Reduction
from minigrad.ops.reductions_loops import Reduced
from minigrad.scalar import Expr

#: Operations in one loop on a GPU, where a thread has more registers, and arrays, of each of which it holds 16 bytes.
#: With as many as this, float32 loops use 80 registers, of which three quarters of a GPU's threads can have that many.
MOST_GPU_OPERATIONS = 96
MOST_GPU_ARRAYS = 16

_CONTIGUOUS_VIEWS = frozenset({"mg::reshape", "mg::broadcast_to", "mg::identity"})


def fused(calls: list[Call], kept: set[Value]) -> list[Call]:
    """The calls with groups of them fused; `kept` are values that are needed at the end."""
    at_end = {base for v in kept for base in v.bases}
    calls = finished(calls, uses_of(calls), at_end)
    uses = uses_of(calls)
    place = {call: i for i, call in enumerate(calls)}
    joined: dict[Call, Call | None] = {}  # for each member of a group what takes its place, if anything does
    for group in _groups(calls):
        members = sorted(group.calls, key=place.__getitem__)
        while len(members) > 1:  # as many of the first ones as can be one loop, and then the same of the rest
            sizes = range(len(members), 1, -1)
            made = next((m for n in sizes if (m := _join(members[:n], uses, at_end)) is not None), None)
            size = 1 if made is None else len(made.primitive.members)  # type: ignore[attr-defined]
            if made is not None:
                joined.update(dict.fromkeys(members[:size]))
                joined[members[size - 1]] = made
            members = members[size:]
    return [made for call in calls if (made := joined.get(call, call)) is not None]


def loop_of(call: Call) -> Call | None:
    """The call as one generated loop on the CPU, if it can be one and there are elements."""
    if not call.outputs or call.outputs[0].gpu is not None or not call.outputs[0].size:
        return None
    if _is_elementwise(call):
        return _join([call], {}, set(call.outputs))
    return call if type(call.primitive) is Fused else None


class _Group:
    """Calls that may become one."""

    __slots__ = ("axes", "calls", "closed", "made", "reads")

    def __init__(self, call: Call):
        self.calls = [call]
        self.axes: tuple[int, ...] | None = None  # over which what it makes is reduced
        self.made = set(call.outputs)
        self.reads = {v for v in call.inputs if v is not None}
        self.closed = False  # something that stays outside has used its values, or changed what it reads


def _groups(calls: list[Call]) -> list[_Group]:
    groups: dict[_Group, None] = {}  # in order
    of: dict[Value, _Group] = {}  # the group that makes a value
    readers: dict[int, list[_Group]] = {}  # of a Variable's memory
    for call in calls:
        joins = _is_elementwise(call)
        if not (joins or _is_product(call)):
            if _reduces(call, of):
                continue
            for v in call.inputs:
                if v is not None and v.root in of:
                    of[v.root].closed = True
            for target in call.mutates:
                for reader in readers.pop(id(target.root.source), ()):
                    reader.closed = True
            continue
        mine = _Group(call)
        for v in call.inputs:
            group = None if v is None else of.get(v.root)
            if group is None or group is mine:
                continue
            if joins and v in group.made and not group.closed and _fits(group, mine):
                groups.pop(mine, None)
                mine = _merged(group, mine)
                of.update(dict.fromkeys(mine.made, mine))
            else:
                group.closed = True
        groups[mine] = None
        of.update(dict.fromkeys(mine.made, mine))
        for v in mine.reads:
            if v.root.kind == "variable":
                readers.setdefault(id(v.root.source), []).append(mine)
    return list(groups)


def _reduces(call: Call, of: dict[Value, _Group]) -> bool:
    """Whether a call reduces what a group makes, which it is a part of from now on."""
    found = reduction_of(call)
    group = None if found is None else of.get(call.inputs[0])  # type: ignore[arg-type]
    if found is None or group is None or call.inputs[0] not in group.made or group.closed:
        return False
    if group.axes not in (None, found.axes) or any(map(_is_product, group.calls)):
        return False
    group.calls.append(call)
    group.axes = found.axes
    of[call.outputs[0]] = group
    return True


def _merged(one: _Group, other: _Group) -> _Group:
    """Both, the calls in an order in which values are made before they are used."""
    one.calls += [call for call in other.calls if call not in one.calls]
    one.made |= other.made
    one.reads = (one.reads | other.reads) - one.made
    return one


def _fits(group: _Group, other: _Group) -> bool:
    """Whether two groups can be one loop that is still fast, if it stores no more than one value."""
    one, two = group.calls[0].outputs[0], other.calls[0].outputs[0]
    if one.shape != two.shape or one.dtype != two.dtype or group.axes is not None or other.axes is not None:
        return False
    calls = (*group.calls, *other.calls)
    if sum(map(_is_product, calls)) > 1:
        return False
    loops = [call for call in calls if not _is_product(call)]
    reads = {v for call in loops for v in call.inputs if v is not None} - group.made - other.made
    operations = sum(map(_operations, loops))
    most = cpu_loops.MOST_OPERATIONS if one.gpu is None else MOST_GPU_OPERATIONS
    return operations <= most and _has_room(one, 1, reads)


def _has_room(like: Value, outputs: int, reads: Collection[Value]) -> bool:
    """Whether a loop is fast with so many outputs and these inputs."""
    if like.gpu is not None:
        return outputs + len(reads) <= MOST_GPU_ARRAYS
    return cpu_loops.has_room(outputs, len([v for v in reads if v.size > v.dtype.itemsize]))


def _operations(call: Call) -> int:
    return len(scalar.topological([call.primitive.expression]))  # type: ignore[attr-defined]


def _is_elementwise(call: Call) -> bool:
    primitive = call.primitive
    if not isinstance(primitive, Elementwise) or primitive.expression.boolean:
        return False
    out = call.outputs[0]
    device, loop = ("cpu", cpu_loops.Loop) if out.gpu is None else ("cuda", cuda_loops.Loop)
    if not isinstance(primitive._kernel(device).function, loop):  # someone registered another
        return False
    return dtypes.has_kernels(out.dtype) and all(
        v is not None and v.dtype == out.dtype and (v.gpu is not None or is_contiguous(v)) for v in call.inputs
    )


def _is_product(call: Call) -> bool:
    """Whether it is a matrix product that is computed in blocks of whole rows.

    Where columns are cut, loops of their own are quicker: they walk through memory from end to end.
    """
    if call.primitive is not matmul_p or call.outputs[0].gpu is not None:
        return False
    if not all(v is not None and dtypes.has_kernels(v.dtype) and v.size and is_contiguous(v) for v in call.inputs):
        return False
    x, y = call.inputs
    return linalg_cpu.has_whole_rows(x, y, **call.params)


def is_contiguous(v: Value) -> bool:
    """Whether its array is contiguous, apart from repeats by broadcasting."""
    while v.base is not None:
        if v.kind != "result" or v.source[0].primitive.name not in _CONTIGUOUS_VIEWS:
            return False
        v = v.source[0].inputs[0]
    return v.kind != "constant" or cpu_loops.without_repeats(v.source).flags.c_contiguous


def _plain_shape(v: Value) -> tuple[int, ...] | None:
    """The shape of a value without what it repeats, as `cpu_loops.without_repeats` finds it; None if that is open."""
    if v.kind == "constant":
        return cpu_loops.without_repeats(v.source).shape
    if v.base is None or v.kind != "result":
        return v.shape
    call = v.source[0]
    inner = _plain_shape(call.inputs[0])
    if inner is None or call.primitive.name == "mg::identity":
        return inner
    if call.primitive.name == "mg::broadcast_to":
        return (1,) * (len(v.shape) - len(inner)) + inner
    return v.shape if inner == call.inputs[0].shape else None


def _join(calls: list[Call], uses: dict[Value, list[Call]], at_end: set[Value]) -> Call | None:
    """One call for several; None if the loop would not be fast."""
    members = set(calls)
    product = next(filter(_is_product, calls), None)
    inputs: list[Value] = []
    known: dict[Value, Expr] = {}
    if product is not None:
        known[product.outputs[0]] = scalar.variable("in_0")
    loops = [call for call in calls if _is_elementwise(call)]
    for call in loops:
        mapping = {}
        for name, v in zip(call.primitive.inputs, call.inputs):
            assert v is not None
            if v not in known:
                known[v] = scalar.variable(f"in_{len(inputs) + (product is not None)}")
                inputs.append(v)
            mapping[name] = known[v]
        known[call.outputs[0]] = scalar.with_values(call.primitive.expression, mapping)  # type: ignore[attr-defined]
    outputs = [
        call.outputs[0]
        for call in calls
        if call.outputs[0] in known
        and (call.outputs[0] in at_end or any(user not in members for user in uses.get(call.outputs[0], ())))
    ]
    names = [call.primitive.name for call in calls]
    expressions = [known[v] for v in outputs]
    reductions = [call for call in calls if call not in loops and call is not product]
    primitive: Any
    if reductions:
        primitive = _reduced(reductions, known, expressions, names, inputs)
        outputs = [*[call.outputs[0] for call in reductions], *outputs]
    elif not _has_room(outputs[0], len(outputs), inputs):
        return None
    elif product is not None:
        if not all(FusedProduct.takes(outputs[0].shape, _plain_shape(v)) for v in inputs):
            return None
        outputs.sort(key=lambda v: v is not product.outputs[0])
        primitive = FusedProduct([known[v] for v in outputs], names, product.params)
        inputs = [*product.inputs, *inputs]  # type: ignore[list-item]
    else:
        primitive = Fused(expressions, names)
    if primitive is None:
        return None
    made = Call(primitive, inputs, {}, calls[-1].where)  # type: ignore[arg-type]
    made.outputs = outputs
    return made


def _reduced(
    calls: list[Call], known: dict[Value, Expr], stored: list[Expr], names: list[str], inputs: list[Value]
) -> FusedReductions | None:
    """What reduces values known as expressions of the inputs, and stores others; None if it would be slow."""
    shapes = [shape for v in inputs if (shape := _plain_shape(v)) is not None]
    found = [(call.inputs[0], r) for call in calls if (r := reduction_of(call)) is not None]
    if not all(x in known for x, _ in found):  # another loop makes it
        return None
    reduced = [Reduced(r.operation, known[x]) for x, r in found]  # type: ignore[index]
    made = FusedReductions(reduced, [r.divisor for _, r in found], stored, names)
    x, first = found[0]
    if len(shapes) < len(inputs) or not made.lay_out(x.abstract, first.axes, shapes):  # type: ignore[union-attr]
        return None
    return made


def reduction_of(call: Call) -> Reduction | None:
    """How a call reduces its input, if it does and a loop can."""
    x = call.inputs[0] if call.inputs else None
    if x is None or x.gpu is not None or not x.size:
        return None
    found = reductions_extremes.reduction_of(call.primitive, x.abstract, call.params)
    return found if found is not None and found.axes else None
