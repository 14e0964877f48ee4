"""Arithmetic on indices, as primitives: whoever replays the tape replays it for the indices of then."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample

ravel_index_p = Primitive("mg::ravel_index")
flatnonzero_p = Primitive("mg::flatnonzero")
is_last_p = Primitive("mg::is_last")
one_hot_p = Primitive("mg::one_hot")


class OutsideError(IndexRangeError):
    """An index array points outside; `argument` says which one of several, `entry` where to, `length` past what."""

    def __init__(self, operation: str, argument: int, entry: int, length: int):
        super().__init__(f"{operation}: index {entry} is out of range for an axis of length {length}")
        self.argument, self.entry, self.length = argument, entry, length


@cpu.jit
def _first_outside(index, n):
    outside = False
    for i in range(index.size):
        outside |= (index[i] < -n) | (index[i] >= n)
    if outside:
        for i in range(index.size):
            if index[i] < -n or index[i] >= n:
                return i
    return -1


def require_inside(operation: str, index: np.ndarray, n: int, argument: int = 0) -> np.ndarray:
    """The index array flat and contiguous, once all of it lies in [-n, n): kernels rely on that, not to write afar."""
    flat = cpu.contiguous(index).reshape(-1)
    at = _first_outside(flat, n)
    if at >= 0:
        raise OutsideError(operation, argument, int(flat[at]), n)
    return flat


@ravel_index_p.infer
def _(*indices, dims):
    for i, index in enumerate(indices):
        if index.dtype != dtypes.int64:
            raise DTypeError(f"ravel_index: index {i} has dtype {index.dtype}, expected int64")
    shapes = [index.shape for index in indices]
    if len(dims) != len(shapes):
        raise ShapeError(f"ravel_index: there are {len(shapes)} index arrays for {len(dims)} axes")
    try:
        return Abstract(np.broadcast_shapes(*shapes), dtypes.int64)
    except ValueError:
        raise ShapeError(f"ravel_index: index arrays have shapes {shapes}, which do not broadcast") from None


@ravel_index_p.kernel("reference", "cpu")
def _(*indices, dims):
    if len(indices) > 1:
        try:
            return np.asarray(np.ravel_multi_index(indices, dims))
        except ValueError:
            pass  # it takes no negative indices, and does not say which one is out of range
    total: Any = 0
    for i, (index, n) in enumerate(zip(indices, dims)):
        require_inside("ravel_index", index, n, i)
        total = total * n + np.where(index < 0, index + n, index)
    return np.asarray(total)


@ravel_index_p.samples
def _(rng):
    yield Sample((np.array([[0, 3], [-1, 2]]), np.array([-5, 4])), {"dims": (4, 5)})
    yield Sample((np.array(2), np.array([[0], [1]]), np.array([[-2, 0, 1]])), {"dims": (3, 2, 2)})
    yield Sample((np.empty(0, int), np.array([1])), {"dims": (0, 2)})
    bad = (np.array([0, 1]), np.array([0, 2]))
    yield Sample(bad, {"dims": (2, 2)}, error=IndexRangeError, match="index 2 .* length 2")
    yield Sample(bad, {"dims": (2,)}, error=ShapeError, match="2 index arrays for 1 axes")
    yield Sample((np.zeros(2, int), np.zeros(3, int)), {"dims": (2, 2)}, error=ShapeError, match="do not broadcast")
    yield Sample((np.zeros(2),), {"dims": (2,)}, error=DTypeError, match="index 0 has dtype float64")


# What a mask selects has no shape until its values are known: the count is a param, which a replay holds it to.


@flatnonzero_p.infer
def _(mask, *, count):
    if mask.dtype != dtypes.bool_:
        raise DTypeError(f"flatnonzero: mask has dtype {mask.dtype}, expected bool")
    return Abstract((count,), dtypes.int64)


@flatnonzero_p.kernel("reference", "cpu")
def _(mask, *, count):
    found = np.flatnonzero(mask)
    if found.size != count:
        raise ArgumentError(f"flatnonzero: mask has {found.size} true elements, expected {count}")
    return found


@flatnonzero_p.samples
def _(rng):
    yield Sample((np.array([[True, False, True], [False, False, True]]),), {"count": 3})
    yield Sample((np.zeros((0, 2), bool),), {"count": 0})
    yield Sample((np.array(True),), {"count": 1})
    yield Sample((np.array([True]),), {"count": 2}, error=ArgumentError, match="1 true elements, expected 2")
    yield Sample((np.array([1.0]),), {"count": 1}, error=DTypeError, match="float64, expected bool")


@is_last_p.infer
def _(index, *, length):
    if index.dtype != dtypes.int64:
        raise DTypeError(f"is_last: index has dtype {index.dtype}, expected int64")
    return Abstract(index.shape, dtypes.bool_)


@is_last_p.kernel("reference", "cpu")
def _(index, *, length):
    flat = require_inside("is_last", index, length)
    order = np.arange(flat.size)
    last = np.empty(length, np.int64)
    last[flat] = order
    return (last[flat] == order).reshape(index.shape)


@is_last_p.samples
def _(rng):
    yield Sample((np.array([[0, 3, -1], [0, 2, -4]]),), {"length": 4})
    yield Sample((np.array(-1),), {"length": 2})
    yield Sample((np.empty((2, 0), int),), {"length": 0})
    yield Sample((np.array([4]),), {"length": 4}, error=IndexRangeError, match="index 4 .* length 4")
    yield Sample((np.array([0.0]),), {"length": 4}, error=DTypeError, match="float64, expected int64")


@one_hot_p.infer
def _(labels, *, classes, dtype):
    dtypes.require_integer("one_hot", "labels", labels.dtype)
    if classes < 1:
        raise ArgumentError(f"one_hot: classes is {classes}, expected at least 1")
    return Abstract((*labels.shape, classes), dtypes.as_dtype(dtype))


@one_hot_p.kernel("reference", "cpu")
def _(labels, *, classes, dtype):
    flat = labels.reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= classes):
        bad = flat[(flat < 0) | (flat >= classes)][0]
        raise IndexRangeError(f"one_hot: labels has {bad}, expected labels from 0 to {classes - 1}")
    out = np.zeros((flat.size, classes), dtype)
    out[np.arange(flat.size), flat] = 1
    return out.reshape(*labels.shape, classes)


@one_hot_p.samples
def _(rng):
    for labels in ([2, 0, 2], [[1], [0]], 3, np.empty((2, 0), int)):
        yield Sample((np.asarray(labels),), {"classes": 4, "dtype": "float32"})
    params = {"classes": 3, "dtype": "int64"}
    yield Sample((np.array([2, 0], np.uint8),), params)
    yield Sample((np.array([0, 3]),), params, error=IndexRangeError, match="labels has 3, expected labels from 0 to 2")
    yield Sample((np.array([0, -1]),), params, error=IndexRangeError, match="labels has -1")
    yield Sample((np.array([0.0]),), params, error=DTypeError, match="float64, expected an integer")
    bad = {"classes": 0, "dtype": "float32"}
    yield Sample((np.array([0]),), bad, error=ArgumentError, match="classes is 0")
