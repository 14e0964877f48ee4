"""The primitives that make new arrays of old elements: concatenate, pad and repeat."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.ops.shaping_views import axis_of
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import full_like

concatenate_p = Primitive("mg::concatenate")
pad_p = Primitive("mg::pad")
repeat_p = Primitive("mg::repeat")


@concatenate_p.infer
def _(*xs, axis):
    if not xs:
        raise ArgumentError("concatenate: there are no arrays, expected at least one")
    first = xs[0]
    if not first.ndim:
        raise ShapeError("concatenate: array 0 has shape (), expected at least one dimension")
    at = axis_of("concatenate", axis, first.ndim)
    for i, x in enumerate(xs):
        if x.dtype != first.dtype:
            raise DTypeError(f"concatenate: array {i} has dtype {x.dtype}, expected {first.dtype} as of array 0")
        if x.ndim != first.ndim or x.shape[:at] != first.shape[:at] or x.shape[at + 1 :] != first.shape[at + 1 :]:
            raise ShapeError(
                f"concatenate: array {i} has shape {x.shape}, expected {first.shape} as of array 0 but for axis {at}"
            )
    return Abstract((*first.shape[:at], sum([x.shape[at] for x in xs]), *first.shape[at + 1 :]), first.dtype)


@concatenate_p.kernel("reference")
def _(*xs, axis):
    return np.concatenate(xs, axis)


@concatenate_p.kernel("cpu")
def _(out, *xs, axis):
    np.concatenate(xs, axis, out)


@concatenate_p.vjp()
def _(ct, saved, needs, *, axis):
    axis, low, result = axis % ct.ndim, 0, []
    for shape, need in zip(saved.shapes, needs):
        high = low + shape[axis]
        result.append(ct[(slice(None),) * axis + (slice(low, high),)] if need else None)
        low = high
    return result


@concatenate_p.jvp
def _(tangents, primals, outputs, *, axis):
    return concatenate_p(
        *[full_like(p, 0) if t is None else t for t, p in zip(tangents, primals)],
        axis=axis,
    )


@concatenate_p.samples
def _(rng):
    for shapes, axis in [
        (((2, 3), (4, 3)), 0),
        (((2, 3), (2, 1), (2, 5)), 1),
        (((2, 3, 5), (2, 4, 5)), -2),
        (((3,),), 0),
        (((0, 3), (2, 3), (0, 3)), 0),
    ]:
        yield Sample(tuple([rng.standard_normal(s) for s in shapes]), {"axis": axis})
    yield Sample((rng.standard_normal((5, 2)).T, rng.standard_normal((4, 5))[::-2]), {"axis": 0}, note="strided")
    yield Sample((np.ones(2), np.ones(())), {"axis": 0}, error=ShapeError, match=r"array 1 has shape \(\)")
    yield Sample((np.ones(()),), {"axis": 0}, error=ShapeError, match="at least one dimension")
    yield Sample((np.ones((2, 3)), np.ones((2, 4))), {"axis": 0}, error=ShapeError, match="array 1 .* but for axis 0")
    yield Sample((np.ones(2), np.ones(2)), {"axis": 1}, error=ShapeError, match="axis 1 is out of range")
    yield Sample((np.ones(2), np.ones(2, np.int64)), {"axis": 0}, error=DTypeError, match="array 1 has dtype int64")


# pad


@lru_cache(maxsize=1024)
def _inside(shape: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    return (*[slice(before, before + n) for n, (before, _) in zip(shape, widths)], Ellipsis)


@pad_p.infer
def _(x, *, widths, value):
    if len(widths) != x.ndim:
        raise ShapeError(f"pad: pad_width has {len(widths)} pairs, expected {x.ndim} as x has shape {x.shape}")
    if min([n for pair in widths for n in pair], default=0) < 0:
        raise ArgumentError(f"pad: pad_width is {widths}, expected widths of at least 0")
    if x.dtype.kind in "biu":
        limits = np.iinfo(x.dtype) if x.dtype.kind != "b" else np.iinfo(np.uint8)
        if not (float(value).is_integer() and limits.min <= value <= limits.max):
            raise DTypeError(f"pad: constant_values is {value}, which x's dtype {x.dtype} does not hold")
    return Abstract(tuple([n + before + after for n, (before, after) in zip(x.shape, widths)]), x.dtype)


@pad_p.kernel("reference")
def _(x, *, widths, value):
    return np.pad(x, widths, constant_values=value) if x.ndim else x.copy()


@pad_p.kernel("cpu")
def _(out, x, *, widths, value):
    out.fill(value)
    out[_inside(x.shape, widths)] = x


@pad_p.vjp()
def _(ct, saved, needs, *, widths, value):
    return ct[_inside(saved.shapes[0], widths)]


@pad_p.jvp
def _(tangents, primals, outputs, *, widths, value):
    return pad_p(tangents[0], widths=widths, value=0.0)


@pad_p.samples
def _(rng):
    for shape, widths, value in [
        ((2, 3), ((1, 2), (0, 3)), 0.0),
        ((4,), ((2, 0),), -1.5),
        ((0, 3), ((1, 0), (0, 2)), 2.0),
        ((), (), 3.0),
        ((1, 2, 3), ((0, 0), (1, 1), (0, 1)), 0.0),
    ]:
        yield Sample((rng.standard_normal(shape),), {"widths": widths, "value": value})
    yield Sample((np.ones(2),), {"widths": ((1, 1), (0, 0)), "value": 0.0}, error=ShapeError, match="has 2 pairs")
    yield Sample((np.ones(2),), {"widths": ((1, -1),), "value": 0.0}, error=ArgumentError, match="at least 0")
    yield Sample(
        (np.ones(2, int),), {"widths": ((1, 1),), "value": 0.5}, error=DTypeError, match="dtype int64 does not hold"
    )


# repeat, of every element alike; as many as each wants is a `take`


@repeat_p.infer
def _(x, *, repeats, axis):
    axis = axis_of("repeat", axis, x.ndim)
    if repeats < 0:
        raise ArgumentError(f"repeat: repeats is {repeats}, expected at least 0")
    return Abstract((*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]), x.dtype)


@repeat_p.kernel("reference")
def _(x, *, repeats, axis):
    return np.repeat(x, repeats, axis)


@repeat_p.kernel("cpu")
def _(out, x, *, repeats, axis):
    axis %= x.ndim
    head, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
    out = out.reshape(*head, repeats, *tail)
    if repeats > 32:
        out[...] = x.reshape(*head, 1, *tail)
    else:  # a short axis makes a slow innermost loop
        for i in range(repeats):
            out[(*(slice(None),) * len(head), i)] = x


@repeat_p.vjp()
def _(ct, saved, needs, *, repeats, axis):
    shape = saved.shapes[0]
    axis %= len(shape)
    return ct.reshape(*shape[: axis + 1], repeats, *shape[axis + 1 :]).sum(axis=axis + 1)


@repeat_p.jvp
def _(tangents, primals, outputs, *, repeats, axis):
    return repeat_p(tangents[0], repeats=repeats, axis=axis)


@repeat_p.samples
def _(rng):
    for shape, repeats, axis in [((2, 3), 4, 0), ((2, 3), 2, -1), ((5,), 1, 0), ((0, 3), 2, 1), ((2, 3), 0, 0)]:
        yield Sample((rng.standard_normal(shape),), {"repeats": repeats, "axis": axis})
    one = (rng.standard_normal(1),)  # to one element, a zero-mean cotangent sums to nothing that could be checked
    yield Sample(one, {"repeats": 3, "axis": 0}, differentiable=False)
    yield Sample((np.ones(2),), {"repeats": -1, "axis": 0}, error=ArgumentError, match="repeats is -1")
    yield Sample((np.ones(2),), {"repeats": 2, "axis": 1}, error=ShapeError, match="axis 1 is out of range")
