"""The one skeleton of reductions on a GPU, in the (k0, r0, k1, r1) form, for any associative combination.

Where the last axis is reduced, a warp or a block makes each result (``rows``); where it is kept, a block makes 32
neighbouring results (``columns``). What is reduced into few results is cut into pieces, whose results are combined in
their order. How much is cut depends on the shape alone, so that the bits do not depend on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.axes import canonical
from minigrad.devices import cuda
from minigrad.devices.cuda import vector
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import Function, Kernel, blocks_of, gpu, jit, kernel
from minigrad.devices.cuda.warp import WARP, reducer

_BLOCK = 256  # threads
_BLOCKS = 256  # wanted, before what is reduced is no longer cut
_PIECE = 4096  # elements that a piece has at least
_LONG = 1024  # elements of a row from which a block is on it, and not a warp


class Reduction(NamedTuple):
    """What is done with the elements.

    Attributes:
        lift: ``lift(x, place, center)`` makes a tuple of accumulators of an element. `place` counts what is reduced,
            in order; `center` is that of the result, or 0.
        combine: makes one of two such tuples.
        finish: ``finish(values, center, factor)`` makes the result of the last one.
        start: accumulators that change nothing.
        dtypes: NumPy's types of the accumulators.
    """

    lift: Function
    combine: Function
    finish: Function
    start: tuple
    dtypes: tuple


def reduction(lift: Callable, combine: Callable, finish: Callable, start: tuple, dtypes: tuple) -> Reduction:
    """A `Reduction` of plain functions."""
    return Reduction(jit(lift), jit(combine), jit(finish), start, dtypes)


def reduce_into(
    out: DeviceArray,
    x: DeviceArray,
    axes: tuple[int, ...],
    what: Reduction,
    center: DeviceArray | None = None,
    factor: float = 1.0,
) -> None:
    """Fill `out` with the reduction of x over `axes`; `center` has an element for each of out's."""
    k0, r0, k1, r1, permutation = canonical(x.shape, axes)
    x = cuda.contiguous(x if permutation is None else x.transpose(permutation))
    slots, count = k0 * k1, r0 * r1
    if not slots:
        return
    columns = r1 == 1 and k1 > 1
    lanes = WARP if columns or count <= _LONG else _BLOCK
    tall = _BLOCK // lanes
    rows = min(tall, max(1, r0)) if columns else min(tall, slots)
    blocks = k0 * blocks_of(k1, WARP) if columns else blocks_of(slots, rows)
    pieces = max(1, min(blocks_of(_BLOCKS, blocks), count // _PIECE))
    device, centers = out.lease.stream.device, center if center is not None else out
    parts = [out] if pieces == 1 else [cuda.empty((pieces, slots), np.dtype(t), device) for t in what.dtypes]
    common = (centers, x, factor, slots, count, k1, pieces)
    if columns:
        _columns(what, center is not None, pieces > 1)((blocks, pieces), (lanes, rows), *common, *parts)
    else:
        width = _width(x, r1)
        made = _rows(what, center is not None, pieces > 1, r0 > 1, width)
        made((blocks, pieces), (lanes, rows), *common, r0, r1, *parts)
    if pieces > 1:
        _finish(what, center is not None)(blocks_of(slots), cuda.THREADS, out, centers, factor, slots, pieces, *parts)


def _width(x: DeviceArray, run: int) -> int:
    """How many elements of a run a thread can load at a time."""
    width = vector.BYTES // x.itemsize
    while width > 1 and (run % width or x.pointer % (width * x.itemsize)):
        width //= 2
    return width


def _members(form: str, count: int) -> str:
    return "(" + "".join([form.format(k=k) + ", " for k in range(count)]) + ")"


def _scope(what: Reduction) -> dict[str, Any]:
    scope: dict[str, Any] = {"gpu": gpu, "lift": what.lift, "combine": what.combine, "finish": what.finish}
    scope |= {f"start_{k}": t(s) for k, (t, s) in enumerate(zip(what.dtypes, what.start))}
    scope |= {f"dtype_{k}": t for k, t in enumerate(what.dtypes)}
    scope["reduce"] = reducer(what.combine, what.start, what.dtypes)
    return scope


def _results(what: Reduction, cut: bool) -> tuple[str, str]:
    """The arguments for what a kernel writes, and the statements that write `values` of a `slot`."""
    if not cut:
        return "out", "out[slot] = finish(values, center, factor)\n"
    names = [f"part_{k}" for k in range(len(what.dtypes))]
    return ", ".join(names), "".join(f"{n}[piece * slots + slot] = values[{k}]; " for k, n in enumerate(names)) + "\n"


@cache
def _rows(what: Reduction, centred: bool, cut: bool, split: bool, width: int) -> Kernel:
    """A warp or a block for each result, and each piece of what is reduced into it."""
    names, write = _results(what, cut)
    at = "((slot // k1 * r0 + place // r1) * k1 + slot % k1) * r1 + place % r1" if split else "slot * count + place"
    if width == 1:
        step = f"values = combine(values, lift(x[{at}], place, center))"
    else:
        step = f"row = load(x, {at})\n            " + "\n            ".join(
            f"values = combine(values, lift(row[{k}], place + {k}, center))" for k in range(width)
        )
    source = f"""def rows(centers, x, factor, slots, count, k1, pieces, r0, r1, {names}):
    slot = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
    piece = gpu.blockIdx.y
    values = {_members("start_{k}", len(what.dtypes))}
    center = centers[0] * 0
    if slot < slots:
        center = {"centers[slot]" if centred else "center"}
        wide = count // {width}
        low = piece * wide // pieces
        high = (piece + 1) * wide // pieces
        for i in range(low + gpu.threadIdx.x, high, gpu.blockDim.x):
            place = i * {width}
            {step}
    values = reduce(values)
    if slot < slots and gpu.threadIdx.x == 0:
        {write}"""
    return _kernel("rows", source, {**_scope(what), "load": vector.load(width)})


@cache
def _columns(what: Reduction, centred: bool, cut: bool) -> Kernel:
    """A block for 32 neighbouring results: each warp takes rows of its own, and the first adds up what they found."""
    names, write = _results(what, cut)
    each = range(len(what.dtypes))
    shared = "".join(f"    shared_{k} = gpu.shared.array({_BLOCK}, dtype_{k})\n" for k in each)
    keep = "".join(f"    shared_{k}[here] = values[{k}]\n" for k in each)
    source = f"""def columns(centers, x, factor, slots, count, k1, pieces, {names}):
{shared}    across = (k1 + 31) // 32
    column = gpu.blockIdx.x % across * 32 + gpu.threadIdx.x
    group = gpu.blockIdx.x // across
    piece = gpu.blockIdx.y
    slot = group * k1 + column
    here = gpu.threadIdx.y * 32 + gpu.threadIdx.x
    values = {_members("start_{k}", len(what.dtypes))}
    center = centers[0] * 0
    if column < k1:
        center = {"centers[slot]" if centred else "center"}
        low = piece * count // pieces
        high = (piece + 1) * count // pieces
        for place in range(low + gpu.threadIdx.y, high, gpu.blockDim.y):
            values = combine(values, lift(x[(group * count + place) * k1 + column], place, center))
{keep}    gpu.syncthreads()
    if gpu.threadIdx.y == 0 and column < k1:
        for i in range(1, gpu.blockDim.y):
            values = combine(values, {_members("shared_{k}[i * 32 + gpu.threadIdx.x]", len(what.dtypes))})
        {write}"""
    return _kernel("columns", source, _scope(what))


@cache
def _finish(what: Reduction, centred: bool) -> Kernel:
    """A thread for each result, which combines the pieces' in order."""
    parts = [f"part_{k}" for k in range(len(what.dtypes))]
    source = f"""def finish_pieces(out, centers, factor, slots, pieces, {", ".join(parts)}):
    slot = gpu.grid(1)
    if slot < slots:
        center = {"centers[slot]" if centred else "centers[0] * 0"}
        values = {_members("part_{k}[slot]", len(parts))}
        for piece in range(1, pieces):
            values = combine(values, {_members("part_{k}[piece * slots + slot]", len(parts))})
        out[slot] = finish(values, center, factor)
"""
    return _kernel("finish_pieces", source, _scope(what))


def _kernel(name: str, source: str, scope: dict[str, Any]) -> Kernel:
    from minigrad.devices.cpu import from_source

    return kernel(from_source(name, source, scope))
