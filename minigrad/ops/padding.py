"""Reflection: elements before and after an axis mirrored about its ends, and the transpose, which folds them back."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample

reflect_p = Primitive("mg::reflect")
fold_p = Primitive("mg::reflect_fold")

Widths = tuple[tuple[int, int], ...]


def _padded(operation: str, argument: str, shape: tuple[int, ...], ndim: int, widths: Widths) -> tuple[int, ...]:
    """The shape with pads, once they are known to fit."""
    if len(widths) != ndim:
        raise ShapeError(f"{operation}: pad_width has {len(widths)} pairs, expected {ndim} as of {argument}")
    if min([w for pair in widths for w in pair], default=0) < 0:
        raise ArgumentError(f"{operation}: pad_width is {widths}, expected widths of at least 0")
    for n, pair in zip(shape, widths):
        if max(pair) > max(n - 1, 0):
            raise ArgumentError(
                f"{operation}: pad_width is {widths}, expected less than the length of each axis of {argument} with "
                f"shape {shape} to reflect"
            )
    return tuple([n + before + after for n, (before, after) in zip(shape, widths)])


def _inside(shape: tuple[int, ...], widths: Widths) -> Any:
    return (*[slice(before, before + n) for n, (before, _) in zip(shape, widths)], ...)


def _mirrors(axis: int, n: int, pair: tuple[int, int]) -> list[tuple[tuple, tuple]]:
    """Of an axis of n elements with pads: each pad, and the elements that it mirrors, in the order of the pad."""
    before, after = pair
    head = (slice(None),) * axis
    found = []
    if before:
        found.append(((*head, slice(0, before)), (*head, slice(2 * before, before, -1))))
    if after:
        end = before + n
        stop = end - 2 - after
        found.append(((*head, slice(end, end + after)), (*head, slice(end - 2, stop if stop >= 0 else None, -1))))
    return found


def _reflect(out: np.ndarray, x: np.ndarray, widths: Widths) -> np.ndarray:
    out[_inside(x.shape, widths)] = x
    for axis, (n, pair) in enumerate(zip(x.shape, widths)):
        # Along axes that are yet to come, what lies outside is overwritten by them.
        for pad, mirrored in _mirrors(axis, n, pair):
            out[pad] = out[mirrored]
    return out


def _fold(total: np.ndarray, shape: tuple[int, ...], widths: Widths) -> np.ndarray:
    """Add pads to what they mirror, in `total`; what is inside is the result."""
    for axis, (n, pair) in reversed(list(enumerate(zip(shape, widths)))):
        for pad, mirrored in _mirrors(axis, n, pair):
            total[mirrored] += total[pad]
    return total[_inside(shape, widths)]


@reflect_p.infer
def _(x, *, widths):
    return Abstract(_padded("pad", "x", x.shape, x.ndim, widths), x.dtype)


@reflect_p.kernel("reference")
def _(x, *, widths):
    return np.pad(x, widths, "reflect") if x.ndim else x.copy()


@reflect_p.kernel("cpu")
def _(out, x, *, widths):
    _reflect(out, x, widths)


@reflect_p.vjp()
def _(ct, saved, needs, *, widths):
    return fold_p(ct, widths=widths)


@reflect_p.jvp
def _(tangents, primals, outputs, *, widths):
    return reflect_p(tangents[0], widths=widths)


@fold_p.infer
def _(ct, *, widths):
    if len(widths) != ct.ndim:
        raise ShapeError(f"reflect_fold: pad_width has {len(widths)} pairs, expected {ct.ndim} as of ct")
    if dtypes.kind(ct.dtype) not in "fc":
        raise DTypeError(f"reflect_fold: ct has dtype {ct.dtype}, expected a floating-point dtype")
    shape = tuple([n - before - after for n, (before, after) in zip(ct.shape, widths)])
    if min(shape, default=0) < 0:
        raise ShapeError(f"reflect_fold: ct has shape {ct.shape}, expected room for the pads {widths}")
    _padded("reflect_fold", "the result", shape, ct.ndim, widths)
    return Abstract(shape, ct.dtype)


@fold_p.workspace
def _(ct, *, widths):
    return (Abstract(ct.shape, ct.dtype),)


def _unpadded(shape: tuple[int, ...], widths: Widths) -> tuple[int, ...]:
    return tuple([n - before - after for n, (before, after) in zip(shape, widths)])


@fold_p.kernel("reference")
def _(ct, *, widths):
    return _fold(ct.copy(), _unpadded(ct.shape, widths), widths).copy()


@fold_p.kernel("cpu")
def _(buffers, ct, *, widths):
    out, total = buffers
    np.copyto(total, ct)
    np.copyto(out, _fold(total, out.shape, widths))


@fold_p.vjp()
def _(g, saved, needs, *, widths):
    return reflect_p(g, widths=widths)


@fold_p.jvp
def _(tangents, primals, outputs, *, widths):
    return fold_p(tangents[0], widths=widths)


_CASES: list[tuple[tuple[int, ...], Widths]] = [
    ((4, 6), ((1, 2), (3, 5))),
    ((5,), ((4, 4),)),
    ((5,), ((0, 2),)),
    ((2, 3, 4), ((1, 0), (0, 0), (0, 3))),
    ((1, 4), ((0, 0), (1, 1))),
    ((1,), ((0, 0),)),
    ((), ()),
    ((0, 3), ((0, 0), (2, 1))),
]


@reflect_p.samples
def _(rng):
    for shape, widths in _CASES:
        yield Sample((rng.standard_normal(shape),), {"widths": widths}, differentiable=shape not in ((), (1,)))
    yield Sample((rng.standard_normal((12, 4)).T[:, ::-2],), {"widths": ((1, 2), (3, 5))}, note="strided")
    yield Sample((np.arange(6).reshape(2, 3),), {"widths": ((1, 1), (2, 0))}, note="integers")
    yield Sample((np.ones((2, 3)),), {"widths": ((1, 1),)}, error=ShapeError, match="has 1 pairs, expected 2")
    yield Sample((np.ones(3),), {"widths": ((-1, 1),)}, error=ArgumentError, match="at least 0")
    yield Sample((np.ones(3),), {"widths": ((3, 1),)}, error=ArgumentError, match="less than the length of each axis")


@fold_p.samples
def _(rng):
    for shape, widths in _CASES:
        padded = tuple([n + before + after for n, (before, after) in zip(shape, widths)])
        yield Sample((rng.standard_normal(padded),), {"widths": widths}, differentiable=shape not in ((), (1,)))
    yield Sample((np.ones((2, 3)),), {"widths": ((1, 1),)}, error=ShapeError, match="has 1 pairs, expected 2")
    yield Sample((np.ones(3),), {"widths": ((2, 2),)}, error=ShapeError, match="expected room for the pads")
    yield Sample((np.ones(5),), {"widths": ((2, 1),)}, error=ArgumentError, match="less than the length")
    yield Sample((np.ones(5, int),), {"widths": ((1, 1),)}, error=DTypeError, match="dtype int64, expected a floating")
