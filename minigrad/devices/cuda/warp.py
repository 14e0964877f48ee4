"""Reductions within a warp and a block: every thread gets the result, combined in an order that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from minigrad.devices.cpu import from_source
from minigrad.devices.cuda.kernels import Function, gpu, jit
from minigrad.devices.cuda.simulator import exchanged

WARP = 32


@jit(simulated=exchanged)
def exchange(value, mask):
    """The value of the thread whose place in the warp differs by the bits of `mask`. The whole block calls it."""
    return gpu.shfl_xor_sync(0xFFFFFFFF, value, mask)


@cache
def reducer(combine: Function, start: tuple, dtypes: Sequence[Any], warps: bool = False) -> Function:
    """``reduce(values)``: the combined values of all threads with the same threadIdx.y, given and returned as a tuple.

    All threads of the block call it, blockDim.x is a multiple of 32, and more than 32 only where blockDim.y is 1. It
    may be called again and again. If `warps`, it is each warp's values that are combined, and no more.

    Args:
        combine: of two tuples; associative.
        start: what leaves others as they are.
        dtypes: NumPy's types of the tuple's members.
    """
    each = range(len(dtypes))

    def members(form: str) -> str:
        return "(" + "".join([form.format(k=k) + ", " for k in each]) + ")"

    exchanges = f"""for step in range(5):
        values = combine(values, {members("exchange(values[{k}], 16 >> step)")})"""
    block = f"""    if gpu.blockDim.x > 32:
        lane = gpu.threadIdx.x & 31
        warp = gpu.threadIdx.x >> 5
{"".join(f"        shared_{k} = gpu.shared.array(32, dtype_{k}){chr(10)}" for k in each)}
        if lane == 0:
{"".join(f"            shared_{k}[warp] = values[{k}]{chr(10)}" for k in each)}
        gpu.syncthreads()
        values = {members("start_{k}")}
        if lane < gpu.blockDim.x >> 5:
            values = {members("shared_{k}[lane]")}
        gpu.syncthreads()
        for step in range(5):
            values = combine(values, {members("exchange(values[{k}], 16 >> step)")})
"""
    source = f"""def reduce(values):
    {exchanges}
{"" if warps else block}    return values
"""
    scope: dict[str, Any] = {"gpu": gpu, "exchange": exchange, "combine": combine}
    for k in each:
        scope[f"dtype_{k}"], scope[f"start_{k}"] = dtypes[k], dtypes[k](start[k])
    return jit(from_source("reduce", source, scope))
