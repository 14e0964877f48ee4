"""Fused updates: gradient descent along a matrix product, which BLAS adds to the parameter as it multiplies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import blas
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fuse import is_contiguous
from minigrad.jit.fused import Fused
from minigrad.jit.order import memory_of
from minigrad.jit.trace import Call, Value, uses_of
from minigrad.ops import linalg_cpu
from minigrad.ops.linalg import matmul_p
from minigrad.ops.state import sgd_p


class FusedUpdate(Fused):
    """p ← p − lr·(x·y + decay·p) for a parameter whose gradient is the product x·y, which is stored nowhere."""

    mutates = ("param",)

    def __init__(self, product: dict[str, Any], weight_decay: float):
        super().__init__([], [matmul_p.name, sgd_p.name])
        self.product, self.weight_decay = product, weight_decay

    def steps_in_place(self, targets: Sequence[np.ndarray], arrays: Sequence[np.ndarray]) -> list[Step]:
        """The call of the one kernel that multiplies and changes the parameter; arrays are x, y and the rate."""
        (param,), (x, y, lr) = targets, arrays
        chunks, work, form, x, y = linalg_cpu.operands(x, y, **self.product)
        flat = [a.reshape(-1) for a in (param, x, y)]
        args = (chunks, *flat, form, blas.TABLE, lr.reshape(1), self.weight_decay)
        return [Compiled(linalg_cpu.descend, chunks, work, args)]


def with_updates(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """The calls with each product that is only the gradient of one step of SGD done within that step.

    `kept` are values that are needed at the end.
    """
    uses, at_end = uses_of(calls), {base for v in kept for base in v.bases}
    products = {call.outputs[0]: i for i, call in enumerate(calls) if call.primitive is matmul_p}
    made: list[Call | None] = list(calls)
    for i, call in enumerate(calls):
        if call.primitive is not sgd_p or len(call.inputs) != 3:
            continue
        lr, _, gradient = call.inputs
        at = products.get(gradient) if gradient is not None and gradient not in at_end else None
        if at is not None and uses[calls[at].outputs[0]] == [call] and _can_wait(calls[at], calls[at + 1 : i + 1]):
            primitive: Any = FusedUpdate(calls[at].params, call.params["weight_decay"])
            update = Call(primitive, [*calls[at].inputs, lr], {}, call.where)
            update.mutates = call.mutates
            made[at], made[i] = None, update
    return [call for call in made if call is not None]


def _can_wait(product: Call, later: Sequence[Call]) -> bool:
    """Whether a product of two matrices, by BLAS, finds its operands as they are now when the last of `later` runs."""
    operands = [v for v in product.inputs if v is not None]
    if blas.TABLE is None or not dtypes.has_kernels(operands[0].dtype):
        return False
    if not all(len(v.shape) == 2 and v.size and is_contiguous(v) for v in operands):
        return False
    needed = {memory_of(v) for v in operands}
    return not any(memory_of(v) in needed for call in later for v in call.mutates)
