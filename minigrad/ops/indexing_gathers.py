"""The primitives of one index array on one axis: take, its transpose scatter_add, and put, which replaces."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.devices.pool import SMALLEST
from minigrad.errors import DTypeError, IndexRangeError, ShapeError
from minigrad.ops.indexing_places import is_last_p, require_inside
from minigrad.ops.indexing_slices import zero
from minigrad.primitive import Abstract, Primitive, Sample

take_p = Primitive("mg::take")
scatter_add_p = Primitive("mg::scatter_add")
put_p = Primitive("mg::put")


def _at(axis: int, index: np.ndarray) -> tuple:
    return (*(slice(None),) * axis, index)


def _require_index(operation: str, x: Abstract, index: Abstract, axis: int) -> None:
    if index.dtype != dtypes.int64:
        raise DTypeError(f"{operation}: index has dtype {index.dtype}, expected int64")
    if not 0 <= axis < x.ndim:
        raise ShapeError(f"{operation}: axis {axis} is out of range for {x.ndim} dimensions")


@take_p.infer
def _(x, index, *, axis):
    _require_index("take", x, index, axis)
    return Abstract((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)


@take_p.kernel("reference")
def _(x, index, *, axis):
    require_inside("take", index, x.shape[axis])
    return x[_at(axis, index)]


@take_p.kernel("cpu")
def _(out, x, index, *, axis):
    if 0 < out.nbytes < SMALLEST:  # NumPy checks the indices itself, but takes into memory of its own
        try:
            np.copyto(out, x.take(index, axis))
        except IndexError:
            require_inside("take", index, x.shape[axis])
            raise
    elif x.flags.c_contiguous:
        require_inside("take", index, x.shape[axis])
        x.take(index, axis, out, "wrap")
    else:
        require_inside("take", index, x.shape[axis])
        np.copyto(out, x[_at(axis, index)])


@take_p.vjp(saves=("index",))
def _(ct, saved, needs, *, axis):
    return scatter_add_p(ct, saved.index, axis=axis, length=saved.shapes[0][axis]), None


@take_p.jvp
def _(tangents, primals, outputs, *, axis):
    return None if tangents[0] is None else take_p(tangents[0], primals[1], axis=axis)


_INDICES: list[tuple[tuple[int, ...], Any, int]] = [
    ((5, 3), [4, 0, 0, -1, -5, 2], 0),
    ((5, 3), [[1, 1, 1], [0, 2, 1]], 1),
    ((2, 4, 3), [3, 3, -4], 1),
    ((2, 4, 70), [[1], [-1]], 1),
    ((7,), 3, 0),
    ((1, 2), [0, 0, -1], 0),
    ((4, 2), np.empty((0, 3), int), 0),
    ((0, 2), [1, 1, 0], 1),
    ((3, 0), [2, 2], 0),
]


@take_p.samples
def _(rng):
    for shape, index, axis in _INDICES:
        yield Sample((rng.standard_normal(shape), np.asarray(index)), {"axis": axis})
    yield Sample((rng.standard_normal((3, 5)).T, np.array([4, 4, 1])), {"axis": 0}, note="transposed")
    for large in (rng.standard_normal((200, 300)), rng.standard_normal((300, 200)).T):  # other paths of the kernel
        yield Sample((large, np.arange(-200, 199)), {"axis": 0}, note="large", differentiable=False)
    bad = np.ones((5, 3))
    yield Sample((bad, np.array([0, 5])), {"axis": 0}, error=IndexRangeError, match="index 5 .* length 5")
    yield Sample((bad, np.array([0, -4])), {"axis": 1}, error=IndexRangeError, match="index -4 .* length 3")
    yield Sample((np.ones((0, 3)), np.array([0])), {"axis": 0}, error=IndexRangeError, match="index 0 .* length 0")
    yield Sample((bad, np.array([0], np.int32)), {"axis": 0}, error=DTypeError, match="dtype int32, expected int64")
    yield Sample((bad, np.array([0])), {"axis": 2}, error=ShapeError, match="axis 2 is out of range")


@cpu.chunked
def _scatter_add(chunk, parts, out, x, index):
    # A chunk owns some rows of `out` and adds to them in the order of the index, whoever runs it.
    block, part = chunk // parts, chunk % parts
    low, high = part * out.shape[1] // parts, (part + 1) * out.shape[1] // parts
    n, inner = out.shape[1], out.shape[2]
    mine = out[block, low:high].reshape((high - low) * inner)
    for i in range(mine.size):
        mine[i] = 0
    for k in range(index.size):
        at = index[k] + n if index[k] < 0 else index[k]
        if low <= at < high:
            if inner == 1:
                mine[at - low] += x[block, k, 0]
            else:
                row, source = out[block, at], x[block, k]
                for j in range(row.size):
                    row[j] += source[j]


@scatter_add_p.infer
def _(x, index, *, axis, length):
    if index.dtype != dtypes.int64:
        raise DTypeError(f"scatter_add: index has dtype {index.dtype}, expected int64")
    if x.shape[axis : axis + index.ndim] != index.shape or axis > x.ndim:
        raise ShapeError(f"scatter_add: x has shape {x.shape}, expected {index.shape} of the index from axis {axis} on")
    return Abstract((*x.shape[:axis], length, *x.shape[axis + index.ndim :]), x.dtype)


@scatter_add_p.kernel("reference")
def _(x, index, *, axis, length):
    require_inside("scatter_add", index, length)
    out = np.zeros((*x.shape[:axis], length, *x.shape[axis + index.ndim :]), x.dtype)
    np.add.at(out, _at(axis, index), x)
    return out


@scatter_add_p.kernel("cpu")
def _(out, x, index, *, axis, length):
    flat = require_inside("scatter_add", index, length)
    if not dtypes.has_kernels(x.dtype):
        out.fill(0)
        np.add.at(out, _at(axis, index), x)
        return
    outer, inner = prod(x.shape[:axis]), prod(x.shape[axis + index.ndim :])
    # Each part reads the whole index, which only long rows repay, and only where blocks are too few for all threads.
    parts = max(1, min(8, length, inner // 16)) if outer < 8 else 1
    source = cpu.contiguous(x).reshape(outer, flat.size, inner)
    _scatter_add(outer * parts, out.size + x.size, parts, out.reshape(outer, length, inner), source, flat)


@scatter_add_p.vjp(saves=("index",))
def _(ct, saved, needs, *, axis, length):
    return take_p(ct, saved.index, axis=axis), None


@scatter_add_p.jvp
def _(tangents, primals, outputs, *, axis, length):
    return None if tangents[0] is None else scatter_add_p(tangents[0], primals[1], axis=axis, length=length)


@scatter_add_p.samples
def _(rng):
    for shape, index, axis in _INDICES:
        index = np.asarray(index)
        x = rng.standard_normal((*shape[:axis], *index.shape, *shape[axis + 1 :]))
        yield Sample((x, index), {"axis": axis, "length": shape[axis]})
    yield Sample((rng.standard_normal((3, 4)).T, np.array([1, 6, 1, 1])), {"axis": 0, "length": 9}, note="transposed")
    bad = {"axis": 0, "length": 3}
    yield Sample((np.ones(2), np.array([0, 3])), bad, error=IndexRangeError, match="index 3 .* length 3")
    yield Sample((np.ones(2), np.array([0, 1, 2])), bad, error=ShapeError, match=r"x has shape \(2,\), expected \(3,\)")
    yield Sample((np.ones(1), np.array([0.0])), bad, error=DTypeError, match="float64, expected int64")


# put, of which the last of several values for one place stays; the others have no gradient.


@put_p.infer
def _(x, index, values, *, axis):
    _require_index("put", x, index, axis)
    dtypes.require_same("put", x=x.dtype, values=values.dtype)
    expected = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    if values.shape not in (expected, ()):
        raise ShapeError(f"put: values has shape {values.shape}, expected {expected} or ()")
    return x


@put_p.kernel("reference")
def _(x, index, values, *, axis):
    require_inside("put", index, x.shape[axis])
    out = x.astype(dtypes.promoted(x.dtype, values.dtype))
    out[_at(axis, index)] = values
    return out


@put_p.kernel("cpu")
def _(out, x, index, values, *, axis):
    require_inside("put", index, x.shape[axis])
    np.copyto(out, x)
    out[_at(axis, index)] = values


@put_p.vjp(saves=("index",))
def _(ct, saved, needs, *, axis):
    shape, index = saved.shapes[0], saved.index
    dx = dvalues = None
    if needs[0]:
        dx = put_p(ct, index, zero(ct), axis=axis)
    if needs[2]:
        stays = is_last_p(index, length=shape[axis]).reshape(*index.shape, *(1,) * (len(shape) - axis - 1))
        dvalues = take_p(ct, index, axis=axis) * stays.astype(ct.dtype)
        dvalues = dvalues if saved.shapes[2] else dvalues.sum()
    return dx, None, dvalues


@put_p.jvp
def _(tangents, primals, outputs, *, axis):
    tx, _, tv = tangents
    x, index, _ = primals
    if tx is None and tv is None:
        return None
    tx = zero(x).broadcast_to(x.shape) if tx is None else tx
    return put_p(tx, index, zero(x) if tv is None else tv, axis=axis)


@put_p.samples
def _(rng):
    for shape, index, axis in _INDICES:
        index = np.asarray(index)
        values = rng.standard_normal((*shape[:axis], *index.shape, *shape[axis + 1 :]))
        yield Sample((rng.standard_normal(shape), index, values), {"axis": axis})
    yield Sample((rng.standard_normal((3, 5)), np.array([4, 4, 0]), rng.standard_normal(())), {"axis": 1})
    bad = {"axis": 0}
    yield Sample((np.ones(2), np.array([2]), np.ones(1)), bad, error=IndexRangeError, match="index 2 .* length 2")
    yield Sample((np.ones(2), np.array([1]), np.ones(2)), bad, error=ShapeError, match=r"\(2,\), expected \(1,\)")
    yield Sample((np.ones(2), np.array([1]), np.ones(1, "f4")), bad, error=DTypeError, match="values has dtype float32")
    yield Sample((np.ones(2), np.array([1], "i4"), np.ones(1)), bad, error=DTypeError, match="int32, expected int64")
