"""What a recording holds: values, the calls of primitives on them, and what a function leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.devices.cuda import DeviceArray
from minigrad.primitive import Abstract, Primitive
from minigrad.tensor import Leaf, Tensor, Variable


class Value:
    """An array of which a recording knows where it comes from, not what it holds.

    ``kind`` says where from, ``source`` which one:

    | kind | source |
    |---|---|
    | input | the place among the function's tensors |
    | variable | the Variable, as it stood between two changes |
    | gradient | the leaf of the Variable whose ``grad`` it was when the function was called |
    | constant | the array |
    | result | (call, output) |
    | part | (offset in bytes, shape, strides): memory of `base` seen anew, without a primitive |

    `base` is the value whose memory this one shares, if any. `fixed` says that it follows from constants alone, `gpu`
    which GPU it is on, None for the CPU.
    """

    __slots__ = ("base", "dtype", "fixed", "gpu", "kind", "shape", "source")

    def __init__(self, kind: str, source: Any, array: Any, base: Value | None = None):
        self.kind = kind
        self.source = source
        self.shape = array.shape
        self.dtype = array.dtype
        self.gpu: int | None = array.lease.stream.device if array.__class__ is DeviceArray else None
        self.base = base
        self.fixed: bool = kind == "constant" or (base is not None and base.fixed)

    @property
    def root(self) -> Value:
        """The value that owns the memory."""
        value = self
        while value.base is not None:
            value = value.base
        return value

    @property
    def bases(self) -> Iterator[Value]:
        """The value, and those that it is a view of."""
        value: Value | None = self
        while value is not None:
            yield value
            value = value.base

    @property
    def size(self) -> int:
        n = self.dtype.itemsize
        for length in self.shape:
            n *= length
        return n

    @property
    def abstract(self) -> Abstract:
        """Shape and dtype, as rules take them."""
        return Abstract(self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.dtype}{self.shape}>"


class Call:
    """One call of a primitive."""

    __slots__ = ("inputs", "mutates", "outputs", "params", "primitive", "where")

    def __init__(self, primitive: Primitive, inputs: list[Value | None], params: dict[str, Any], where: str):
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.where = where  # the line of the user's that led here
        self.outputs: list[Value] = []
        self.mutates: list[Value] = []  # the values whose memory it overwrites

    def __repr__(self) -> str:
        return f"<{self.primitive.name} at {self.where}>"


@dataclass
class Trace:
    """A recorded call of a function.

    Attributes:
        inputs: the values of its tensors.
        calls: in the order in which they ran.
        result: what it returned, with a `Value` for each tensor.
        results: those Values, in order.
        grads: the leaves whose ``grad`` it changed, and what that became: a Value, or None.
        expected: the leaves of the Variables that it used, and whether each had a ``grad`` before.
        device: whose kernels ran.
        open_results: the places among `results` of those that the recorded function left differentiable.
    """

    inputs: list[Value]
    calls: list[Call]
    result: Any
    results: list[Value]
    grads: list[tuple[Leaf, Value | None]]
    expected: list[tuple[Leaf, bool]]
    device: str
    open_results: frozenset[int] = frozenset()
    variables: dict[int, Variable] = field(default_factory=dict)


def uses_of(calls: Iterable[Call]) -> dict[Value, list[Call]]:
    """The calls that use each value, or a view of it."""
    uses: dict[Value, list[Call]] = {}
    for call in calls:
        for v in call.inputs:
            for base in v.bases if v is not None else ():
                uses.setdefault(base, []).append(call)
    return uses


class Structure:
    """Python objects with tensors in them, and how to put others in their places.

    Tuples, named tuples, lists and dicts are looked into; anything else is kept as it is, a Variable too.
    """

    __slots__ = ("parts", "rebuild")

    def __init__(self, value: Any):
        self.parts: list[Tensor] = []
        self.rebuild = self._visit(value)

    def _visit(self, value: Any) -> Any:
        if isinstance(value, Tensor) and not isinstance(value, Variable):
            self.parts.append(value)
            at = len(self.parts) - 1
            return lambda tensors: tensors[at]
        if isinstance(value, (tuple, list)):
            inner = [self._visit(v) for v in value]
            kind = type(value)
            if hasattr(kind, "_fields"):
                return lambda tensors: kind(*[v(tensors) for v in inner])
            return lambda tensors: kind([v(tensors) for v in inner])
        if isinstance(value, dict):
            pairs = [(k, self._visit(v)) for k, v in value.items()]
            return lambda tensors: {k: v(tensors) for k, v in pairs}
        return lambda tensors: value


def owner(a: Any) -> Any:
    """The array that holds the memory of `a`; on a GPU, the lease of it."""
    if a.__class__ is DeviceArray:
        return a.lease
    while True:
        base = a.base
        if not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)  # what numpy.lib.stride_tricks puts in between
            if not isinstance(base, np.ndarray):
                return a
        a = base
