"""Fused updates: gradient descent along a matrix product, which is added to the parameter block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fuse import is_contiguous
from minigrad.jit.fused import Fused
from minigrad.jit.order import memory_of
from minigrad.jit.trace import Call, Value, uses_of
from minigrad.ops import linalg_cpu
from minigrad.ops.linalg import matmul_p
from minigrad.ops.linalg_block import product_of
from minigrad.ops.state import momentum_p, sgd_p


class FusedUpdate(Fused):
    """p ← p − lr·(x·y + decay·p) for a parameter whose gradient is the product x·y, which is stored nowhere.

    Or, with a momentum, v ← μ·v − lr·(x·y + decay·p) and p ← p + v.
    """

    mutates = ("targets",)

    def __init__(self, product: dict[str, Any], update: Call):
        super().__init__([], [matmul_p.name, update.primitive.name])
        self.product, self.weight_decay = product, update.params["weight_decay"]
        self.momentum = update.params.get("momentum")

    def steps_in_place(self, targets: Sequence[np.ndarray], arrays: Sequence[np.ndarray]) -> list[Step]:
        """The call of the one kernel that multiplies and changes the targets; arrays are x, y and the rate."""
        x, y, lr = arrays
        chunks, work, form, x, y = linalg_cpu.operands(x, y, **self.product)
        flat = [a.reshape(-1) for a in (*targets, x, y)]
        args = (chunks, *flat, form, product_of(x.dtype), lr.reshape(1))
        if self.momentum is None:
            return [Compiled(linalg_cpu.descend, chunks, work, (*args, self.weight_decay))]
        args = (*args, self.momentum, self.weight_decay)
        return [Compiled(linalg_cpu.descend_with_momentum, chunks, work, args)]


def with_updates(calls: Sequence[Call], kept: Iterable[Value]) -> list[Call]:
    """The calls with each product that is only the gradient of one step of SGD done within that step.

    `kept` are values that are needed at the end.
    """
    uses, at_end = uses_of(calls), {base for v in kept for base in v.bases}
    products = {call.outputs[0]: i for i, call in enumerate(calls) if call.primitive is matmul_p}
    made: list[Call | None] = list(calls)
    for i, call in enumerate(calls):
        if not _is_step(call):
            continue
        lr, gradient = call.inputs[0], call.inputs[-1]
        at = products.get(gradient) if gradient is not None and gradient not in at_end else None
        if at is not None and uses[calls[at].outputs[0]] == [call] and _can_wait(calls[at], calls[at + 1 : i + 1]):
            primitive: Any = FusedUpdate(calls[at].params, call)
            update = Call(primitive, [*calls[at].inputs, lr], {}, call.where)
            update.mutates = call.mutates
            made[at], made[i] = None, update
    return [call for call in made if call is not None]


def _is_step(call: Call) -> bool:
    """Whether a call steps one parameter by what is linear in its gradient."""
    if call.primitive is momentum_p:  # Nesterov's step uses the gradient twice
        return len(call.inputs) == 4 and not call.params["nesterov"]
    return call.primitive is sgd_p and len(call.inputs) == 3


def _can_wait(product: Call, later: Sequence[Call]) -> bool:
    """Whether a product of two matrices finds its operands as they are now when the last of `later` runs."""
    operands = [v for v in product.inputs if v is not None]
    if not dtypes.has_kernels(operands[0].dtype):
        return False
    if not all(len(v.shape) == 2 and v.size and is_contiguous(v) for v in operands):
        return False
    needed = {memory_of(v) for v in operands}
    return not any(memory_of(v) in needed for call in later for v in call.mutates)
