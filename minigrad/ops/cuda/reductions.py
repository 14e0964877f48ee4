"""CUDA kernels of the reductions: what is done with the elements; the skeleton is in `minigrad.devices.cuda`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda.reduction import Reduction, reduce_into, reduction
from minigrad.ops.reductions_extremes import all_p, any_p, argmax_p, argmin_p, max_p, min_p
from minigrad.ops.reductions_sums import _freedom, count, mean_p, stretched, sum_p, sum_to_p, var_p


@cache
def _sum(kind: str) -> Reduction:
    """Sums: floats are carried in float64, and divided by a factor; integers in 64 bits, and by 1."""
    carried: Any = {"f": np.float64, "u": np.uint64}.get(kind, np.int64)

    def lift(x, place, center):
        return (carried(x),)

    def combine(a, b):
        return (a[0] + b[0],)

    def divide(values, center, factor):
        return values[0] / factor

    def keep(values, center, factor):
        return values[0]

    return reduction(lift, combine, divide if kind == "f" else keep, (0,), (carried,))


@sum_p.kernel("cuda")
def _(out, x, *, axes, keepdims):
    reduce_into(out, x, axes, _sum(dtypes.kind(x.dtype)))


@sum_to_p.kernel("cuda")
def _(out, x, *, shape):
    reduce_into(out, x, stretched(x.shape, shape), _sum(dtypes.kind(x.dtype)))


@mean_p.kernel("cuda")
def _(out, x, *, axes, keepdims):
    reduce_into(out, x, axes, _sum("f"), factor=float(count(x.shape, axes)))


# The variance: first the mean, which is kept in float64, then the sum of squares around it.


@cache
def _squares() -> Reduction:
    def lift(x, place, center):
        return ((x - center) * (x - center),)

    def combine(a, b):
        return (a[0] + b[0],)

    def finish(values, center, factor):
        return values[0] / factor

    return reduction(lift, combine, finish, (0,), (np.float64,))


@var_p.kernel("cuda")
def _(out, x, *, axes, keepdims, ddof):
    elements = float(count(x.shape, axes))
    means = cuda.empty(out.shape, np.dtype(np.float64), out.lease.stream.device)
    reduce_into(means, x, axes, _sum("f"), factor=elements)
    reduce_into(out, x, axes, _squares(), center=means, factor=_freedom(x.shape, axes, ddof))


# Extremes. NaN is larger than all and smaller than all; of equal elements the first counts.


@cache
def _extreme(dtype: np.dtype, largest: bool) -> Reduction:
    carried: Any = np.int32 if dtype.kind == "b" else dtype.type
    bounds = np.iinfo(carried) if dtype.kind in "iub" else None
    least = (bounds.min if largest else bounds.max) if bounds else -np.inf if largest else np.inf

    def lift(x, place, center):
        return (carried(x),)

    def combine(a, b):
        take = (b[0] > a[0] if largest else b[0] < a[0]) or b[0] != b[0]
        return (b[0],) if take and a[0] == a[0] else a

    def finish(values, center, factor):
        return values[0]

    return reduction(lift, combine, finish, (least,), (carried,))


@cache
def _place(dtype: np.dtype, largest: bool) -> Reduction:
    """Beside the extreme its place; none yet has place −1."""
    carried: Any = np.int32 if dtype.kind == "b" else dtype.type

    def lift(x, place, center):
        return carried(x), np.int64(place)

    def combine(a, b):
        if a[1] < 0 or b[1] < 0:
            return b if a[1] < 0 else a
        unordered_a, unordered_b = a[0] != a[0], b[0] != b[0]
        if unordered_a or unordered_b:
            earlier = b[1] < a[1] if unordered_a and unordered_b else unordered_b
            return b if earlier else a
        if a[0] == b[0]:
            return b if b[1] < a[1] else a
        return b if (b[0] > a[0] if largest else b[0] < a[0]) else a

    def finish(values, center, factor):
        return values[1]

    return reduction(lift, combine, finish, (0, -1), (carried, np.int64))


for _primitive, _largest in ((max_p, True), (min_p, False)):

    @_primitive.kernel("cuda")
    def _(out, x, *, axes, keepdims, largest=_largest):
        reduce_into(out, x, axes, _extreme(dtypes.arithmetic(x.dtype), largest))


for _primitive, _largest in ((argmax_p, True), (argmin_p, False)):

    @_primitive.kernel("cuda")
    def _(out, x, *, axis, keepdims, largest=_largest):
        axes = tuple(range(x.ndim)) if axis is None else (axis,)
        reduce_into(out, x, axes, _place(dtypes.arithmetic(x.dtype), largest))


@cache
def _truth(every: bool) -> Reduction:
    def lift(x, place, center):
        return (np.int32(1) if x else np.int32(0),)

    def combine(a, b):
        return (a[0] & b[0],) if every else (a[0] | b[0],)

    def finish(values, center, factor):
        return values[0] != 0

    return reduction(lift, combine, finish, (int(every),), (np.int32,))


@any_p.kernel("cuda")
def _(out, x, *, axes, keepdims):
    reduce_into(out, x, axes, _truth(False))


@all_p.kernel("cuda")
def _(out, x, *, axes, keepdims):
    reduce_into(out, x, axes, _truth(True))
