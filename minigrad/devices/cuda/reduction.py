"""The one skeleton of reductions on a GPU, in the (k0, r0, k1, r1) form, for any associative combination.

Where the last axis is reduced, a warp or a block makes each result (``rows``); where it is kept, a thread reads a few
neighbouring columns at once, and a block makes their results (``columns``). What is reduced into few results is cut
into pieces, whose results are combined in their order. How much is cut depends on the shape alone, so that the bits do
not depend on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.axes import canonical
from minigrad.devices import cuda
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import Function, Kernel, blocks_of, gpu, jit, kernel
from minigrad.devices.cuda.rows import BLOCK, Moves, lanes_on, moves_of
from minigrad.devices.cuda.warp import WARP, reducer

_BLOCKS = 256  # wanted, before what is reduced is no longer cut
_PIECE = 4096  # elements that a piece has at least
_NEIGHBOURS = 4  # columns of a thread at most, of which it keeps the accumulators


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
    moves = moves_of(k1, x, most=_NEIGHBOURS) if columns else moves_of(r1, x)
    wide = moves.width if columns else 1
    lanes = min(WARP, 1 << (k1 // wide - 1).bit_length()) if columns else lanes_on(count)
    tall = BLOCK // lanes
    rows = min(tall, max(1, r0)) if columns else min(tall, slots)
    blocks = k0 * blocks_of(k1 // wide, lanes) if columns else blocks_of(slots, rows)
    pieces = max(1, min(blocks_of(_BLOCKS, blocks), count // _PIECE))
    device, centers = out.lease.stream.device, center if center is not None else out
    parts = [out] if pieces == 1 else [cuda.empty((pieces, slots), np.dtype(t), device) for t in what.dtypes]
    common = (centers, x, factor, slots, count, k1, pieces)
    if columns:
        made = _columns(what, center is not None, pieces > 1, moves)
        made((blocks, pieces), (lanes, rows), *common, *parts)
    else:
        made = _rows(what, center is not None, pieces > 1, r0 > 1, moves)
        made((blocks, pieces), (lanes, rows), *common, r0, r1, *parts)
    if pieces > 1:
        _finish(what, center is not None)(blocks_of(slots), cuda.THREADS, out, centers, factor, slots, pieces, *parts)


def _members(form: str, count: int) -> str:
    return "(" + "".join([form.format(k=k) + ", " for k in range(count)]) + ")"


def _scope(what: Reduction) -> dict[str, Any]:
    scope: dict[str, Any] = {"gpu": gpu, "lift": what.lift, "combine": what.combine, "finish": what.finish}
    scope |= {f"start_{k}": t(s) for k, (t, s) in enumerate(zip(what.dtypes, what.start))}
    scope |= {f"dtype_{k}": t for k, t in enumerate(what.dtypes)}
    scope["reduce"] = reducer(what.combine, what.start, what.dtypes)
    return scope


def _results(what: Reduction, cut: bool, number: str = "") -> tuple[str, str]:
    """The arguments for what a kernel writes, and the statements that write ``values`` of a ``slot``.

    With a number, those of that neighbour.
    """
    slot, values, center = (f"slot + {number}", f"values_{number}", f"center_{number}") if number else _ONE
    if not cut:
        return "out", f"out[{slot}] = finish({values}, {center}, factor)\n"
    names = [f"part_{k}" for k in range(len(what.dtypes))]
    lines = [f"{n}[piece * slots + {slot}] = {values}[{k}]; " for k, n in enumerate(names)]
    return ", ".join(names), "".join(lines) + "\n"


_ONE = "slot", "values", "center"


@cache
def _rows(what: Reduction, centred: bool, cut: bool, split: bool, moves: Moves) -> Kernel:
    """A warp or a block for each result, and each piece of what is reduced into it."""
    names, write = _results(what, cut)
    width = moves.width
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
    return _kernel("rows", source, {**_scope(what), "load": moves.load})


@cache
def _columns(what: Reduction, centred: bool, cut: bool, moves: Moves) -> Kernel:
    """A block for neighbouring results: rows of threads take rows of x, and the first one adds up what all found."""
    names, _ = _results(what, cut)
    width = moves.width
    each, neighbours = range(len(what.dtypes)), range(width)
    size = width * BLOCK

    def lines(form: str) -> str:
        """A line for each neighbour `n`."""
        return "".join(form.format(n=n) + "\n" for n in neighbours)

    shared = "".join(f"    shared_{k} = gpu.shared.array({size}, dtype_{k})\n" for k in each)
    keep = "".join(f"    shared_{k}[here + {n * BLOCK}] = values_{n}[{k}]\n" for n in neighbours for k in each)
    others = _members("shared_{k}[at + {{n}} * " + str(BLOCK) + "]", len(what.dtypes))
    source = f"""def columns(centers, x, factor, slots, count, k1, pieces, {names}):
{shared}    across = (k1 // {width} + gpu.blockDim.x - 1) // gpu.blockDim.x
    column = (gpu.blockIdx.x % across * gpu.blockDim.x + gpu.threadIdx.x) * {width}
    group = gpu.blockIdx.x // across
    piece = gpu.blockIdx.y
    slot = group * k1 + column
    here = gpu.threadIdx.y * gpu.blockDim.x + gpu.threadIdx.x
{lines(f"    values_{{n}} = {_members('start_{k}', len(what.dtypes))}")}\
{lines("    center_{n} = centers[0] * 0")}\
    if column < k1:
{lines("        center_{n} = " + ("centers[slot + {n}]" if centred else "center_{n}"))}\
        low = piece * count // pieces
        high = (piece + 1) * count // pieces
        for place in range(low + gpu.threadIdx.y, high, gpu.blockDim.y):
            row = load(x, (group * count + place) * k1 + column)
{lines("            values_{n} = combine(values_{n}, lift(row[{n}], place, center_{n}))")}\
{keep}    gpu.syncthreads()
    if gpu.threadIdx.y == 0 and column < k1:
        for i in range(1, gpu.blockDim.y):
            at = i * gpu.blockDim.x + gpu.threadIdx.x
{lines(f"            values_{{n}} = combine(values_{{n}}, {others})")}\
{"".join("        " + _results(what, cut, str(n))[1] for n in neighbours)}"""
    return _kernel("columns", source, {**_scope(what), "load": moves.load})


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
