"""CUDA kernels of gathers, scatters and arithmetic on indices.

An index out of range is reported when values are next copied from that GPU; see `minigrad.devices.cuda.faults`.
"""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices import cuda
from minigrad.devices.cuda import Kernel, faults, gpu
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.copies import copy_into, fill
from minigrad.devices.cuda.faults import report
from minigrad.devices.cuda.loops import Loop
from minigrad.devices.cuda.rows import Moves, moves_of
from minigrad.errors import ArgumentError, IndexRangeError
from minigrad.ops.arithmetic import where_p
from minigrad.ops.indexing_gathers import put_p, scatter_add_p, take_p
from minigrad.ops.indexing_places import flatnonzero_p, is_last_p, one_hot_p, ravel_index_p

_WIDE = 1 << 16  # threads wanted of a scatter, whose parts read the whole index each
_COUNTERS = 256  # threads of the one block that finds what is true

_where = Loop(
    scalar.select(scalar.variable("condition"), scalar.variable("x"), scalar.variable("y")),
    ("condition", "x", "y"),
    typed=1,
)


@where_p.kernel("cuda")
def _(out, condition, x, y):
    _where(out, condition, x, y)


@cuda.jit
def _inside(index, n, words, number):
    """The index counted from the start; −1, and a fault, where it is out of range."""
    at = index + n if index < 0 else index
    if at < 0 or at >= n:
        report(words, number, index)
        return np.int64(-1)
    return np.int64(at)


def _watched(operation: str, device: int, n: int) -> tuple[DeviceArray, int]:
    return faults.watch(
        device, lambda index: IndexRangeError(f"{operation}: index {index} is out of range for an axis of length {n}")
    )


# take: out[a, k, c] = x[a, index[k], c]


@cache
def _take(moves: Moves) -> Kernel:
    width, load, store = moves

    def take(out, x, index, n, count, inner, words, number):
        i = gpu.grid(1) * width
        if i < out.size:
            k = i // inner % count
            at = _inside(index[k], n, words, number)
            if at >= 0:
                store(out, i, load(x, (i // inner // count * n + at) * inner + i % inner))

    return cuda.kernel(take)


@take_p.kernel("cuda")
def _(out, x, index, *, axis):
    n, inner = x.shape[axis], prod(x.shape[axis + 1 :])
    x, index = cuda.contiguous(x), cuda.contiguous(index)
    words = _watched("take", out.lease.stream.device, n)
    moves = moves_of(inner, out, x)
    _take(moves)(cuda.blocks_of(out.size // moves.width), cuda.THREADS, out, x, index, n, index.size, inner, *words)


# scatter_add: a thread owns some places of one column, and adds to them in the order of the index, always the same.


@cuda.kernel
def _scatter_add(out, x, index, n, count, inner, parts, words, number):
    i = gpu.grid(1)
    columns = out.size // n
    part, column = i // columns, i % columns
    if part < parts:
        block, c = column // inner, column % inner
        low, high = part * n // parts, (part + 1) * n // parts
        for at in range(low, high):
            out[(block * n + at) * inner + c] = 0
        for k in range(count):
            at = _inside(index[k], n, words, number)
            if low <= at and at < high:
                out[(block * n + at) * inner + c] += x[(block * count + k) * inner + c]


@scatter_add_p.kernel("cuda")
def _(out, x, index, *, axis, length):
    x, index = cuda.contiguous(x), cuda.contiguous(index)
    words = _watched("scatter_add", out.lease.stream.device, length)
    inner = prod(x.shape[axis + index.ndim :])
    if not out.size:
        _check(index, length, words)
        return
    columns = out.size // length
    parts = max(1, min(length, _WIDE // columns))
    blocks = cuda.blocks_of(columns * parts)
    half = dtypes.is_half(out.dtype)
    total = cuda.empty(out.shape, dtypes.float32, out.lease.stream.device) if half else out
    _scatter_add(blocks, cuda.THREADS, total, x, index, length, index.size, inner, parts, *words)
    if half:
        copy_into(out, total)


@cuda.kernel
def _check_inside(index, n, words, number):
    i = gpu.grid(1)
    if i < index.size:
        _inside(index[i], n, words, number)


def _check(index: DeviceArray, n: int, words: tuple[DeviceArray, int]) -> None:
    _check_inside(cuda.blocks_of(index.size), cuda.THREADS, index, n, *words)


# Which entry of an index is the last one for its place: the highest number, which integer atomics find in any order.


@cuda.kernel
def _mark_last(last, index, words, number):
    k = gpu.grid(1)
    if k < index.size:
        at = _inside(index[k], last.size, words, number)
        if at >= 0:
            gpu.atomic.max(last, at, k)


@cuda.kernel
def _is_last(out, last, index):
    k = gpu.grid(1)
    if k < index.size:
        at = index[k] + last.size if index[k] < 0 else index[k]
        out[k] = at >= 0 and at < last.size and last[at] == k


def _last_of(operation: str, index: DeviceArray, length: int) -> DeviceArray:
    device = index.lease.stream.device
    last = cuda.empty((length,), np.dtype(np.int64), device)
    fill(last, -1)
    words = _watched(operation, device, length)
    _mark_last(cuda.blocks_of(index.size), cuda.THREADS, last, index, *words)
    return last


@is_last_p.kernel("cuda")
def _(out, index, *, length):
    index = cuda.contiguous(index)
    last = _last_of("is_last", index, length)
    _is_last(cuda.blocks_of(index.size), cuda.THREADS, out, last, index)


@cache
def _put(moves: Moves) -> Kernel:
    width, load, store = moves

    def put(out, x, values, last, n, count, inner, step):
        i = gpu.grid(1) * width
        if i < out.size:
            at = i // inner % n
            k = last[at]
            if k < 0:
                store(out, i, load(x, i))
            else:
                store(out, i, load(values, ((i // inner // n * count + k) * inner + i % inner) * step))

    return cuda.kernel(put)


@put_p.kernel("cuda")
def _(out, x, index, values, *, axis):
    x, index, values = (cuda.contiguous(a) for a in (x, index, values))
    n, inner = x.shape[axis], prod(x.shape[axis + 1 :])
    last = _last_of("put", index, n)
    step = 1 if values.ndim else 0  # one value for all
    if not values.size:
        copy_into(out, x)
        return
    moves = moves_of(inner if step else 1, out, x, values)
    blocks = cuda.blocks_of(out.size // moves.width)
    _put(moves)(blocks, cuda.THREADS, out, x, values, last, n, index.size, inner, step)


@cuda.kernel
def _one_hot(out, labels, classes, words, number):
    i = gpu.grid(1)
    if i < out.size:
        label = labels[i // classes]
        if label < 0 or label >= classes:
            report(words, number, np.int64(label))
        out[i] = label == i % classes


@one_hot_p.kernel("cuda")
def _(out, labels, *, classes, dtype):
    words = faults.watch(
        out.lease.stream.device,
        lambda label: IndexRangeError(f"one_hot: labels has {label}, expected labels from 0 to {classes - 1}"),
    )
    _one_hot(cuda.blocks_of(out.size), cuda.THREADS, out, cuda.contiguous(labels), classes, *words)


@cuda.kernel
def _ravel_step(out, index, n, words, number):
    i = gpu.grid(1)
    if i < out.size:
        at = _inside(index[i], n, words, number)
        out[i] = out[i] * n + (at if at > 0 else 0)


@ravel_index_p.kernel("cuda")
def _(out, *indices, dims):
    fill(out, 0)
    for index, n in zip(indices, dims):
        words = _watched("ravel_index", out.lease.stream.device, n)
        index = cuda.contiguous(index.broadcast_to(out.shape))
        _ravel_step(cuda.blocks_of(out.size), cuda.THREADS, out, index, n, *words)


@cuda.kernel
def _flatnonzero(out, mask, words, number):
    """One block: each thread counts in a stretch of its own, then writes behind what those before it found."""
    counts = gpu.shared.array(_COUNTERS, np.int64)
    me, n = gpu.threadIdx.x, mask.size
    low, high = me * n // _COUNTERS, (me + 1) * n // _COUNTERS
    found = 0
    for i in range(low, high):
        found += 1 if mask[i] else 0
    counts[me] = found
    gpu.syncthreads()
    at = 0
    for k in range(me):
        at += counts[k]
    for i in range(low, high):
        if mask[i]:
            if at < out.size:
                out[at] = i
            at += 1
    if me == _COUNTERS - 1 and at != out.size:
        report(words, number, at)


@flatnonzero_p.kernel("cuda")
def _(out, mask, *, count):
    words = faults.watch(
        out.lease.stream.device,
        lambda found: ArgumentError(f"flatnonzero: mask has {found} true elements, expected {count}"),
    )
    _flatnonzero(1, _COUNTERS, out, cuda.contiguous(mask), *words)
