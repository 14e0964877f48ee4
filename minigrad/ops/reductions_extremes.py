"""The primitives of extremes: max, min, where they are, and any and all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes
from minigrad.elementwise import elementwise
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops.reductions_cpu import reduce_into, workspace_of
from minigrad.ops.reductions_operations import MAX, MIN, SUM, Operation
from minigrad.ops.reductions_sums import count, kept, reduced, reduction_samples, split, sum_p, summed_axes
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.scalar import Expr, eq, select
from minigrad.tensor import Tensor

max_p = Primitive("mg::max")
min_p = Primitive("mg::min")
argmax_p = Primitive("mg::argmax")
argmin_p = Primitive("mg::argmin")
any_p = Primitive("mg::any")
all_p = Primitive("mg::all")


def _with_ties(rng: np.random.Generator) -> Iterator[Sample]:
    hard = np.array([[1.0, 2.0, np.nan], [-0.0, np.inf, 3.0]]), np.array([[1.0, 2.5, np.nan], [0.0, np.inf, -3.0]])
    few = rng.integers(0, 2, (5, 4)).astype(float), np.array([1.0, 0.0, 1.0, 0.0])
    for values, note in ((hard, "NaN, infinities and zeros"), (few, "ties")):
        yield Sample(values, note=note, differentiable=False, exact=("float32", "float64"))
    yield Sample((rng.standard_normal((2, 3)), rng.standard_normal(3)), note="no ties")


@elementwise("mg::tied", samples=_with_ties)
def _tied(x: Expr, y: Expr) -> Expr:
    return select(eq(x, y), 1.0, 0.0)


def _share(x: Tensor, out: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """d out/dx: 1 at the extreme element, and where several tie for it an even share, their subgradients' mean.

    NaN over a NaN, which equals nothing. Constant: the second derivative is 0.
    """
    ties = _tied(x, kept(out, x.shape, axes, keepdims))
    return ties / sum_p(ties, axes=axes, keepdims=True)


_FEW = 8  # elements or results, and
_SMALL = 1 << 18  # elements of an array, up to which one thread of NumPy is done before others have begun


@lru_cache(maxsize=4096)
def _suits_numpy(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether few calls of NumPy's loops over what lies together, in small arrays, are faster than a kernel."""
    if math.prod(shape) > _SMALL:
        return False
    marks = [axis in axes for axis, n in enumerate(shape) if n != 1]  # whether it is reduced
    n, is_last, is_first = count(shape, axes), marks == sorted(marks), marks == sorted(marks, reverse=True)
    return (is_last and math.prod(shape) <= _FEW * n) or (n <= _FEW and sum(marks) <= 1 and (is_first or is_last))


def _define_extreme(primitive: Primitive, operation: Operation, ufunc: np.ufunc) -> None:
    name = operation.name

    @primitive.infer
    def _(x, *, axes, keepdims):
        result = reduced(name, x, axes, keepdims, x.dtype)
        if not count(x.shape, axes):
            empty = [a for a in axes if not x.shape[a]]
            raise ArgumentError(f"{name}: x has shape {x.shape}, expected elements along the reduced axis {empty[0]}")
        return result

    @primitive.workspace
    def _(x, *, axes, keepdims):
        return () if _suits_numpy(x.shape, axes) else workspace_of(x.shape, axes, x.dtype)

    @primitive.kernel("reference")
    def _(x, *, axes, keepdims):
        return ufunc.reduce(x, axis=axes, keepdims=keepdims)

    @primitive.kernel("cpu")
    def _(out, x, *, axes, keepdims):
        if dtypes.has_kernels(x.dtype) and not _suits_numpy(x.shape, axes):
            reduce_into(operation, *split(out), x, axes)
        elif axes == (x.ndim - 1,) and 1 < x.shape[-1] <= _FEW < out.size:
            # NumPy starts its loop anew for every row: with many short ones, going over columns is faster.
            best = out.reshape(x.shape[:-1])
            ufunc(x[..., 0], x[..., 1], out=best)
            for i in range(2, x.shape[-1]):
                ufunc(best, x[..., i], out=best)
        else:
            ufunc.reduce(x, axis=axes, out=out, keepdims=keepdims)

    @primitive.vjp(saves=("x", "out"))
    def _(ct, saved, needs, *, axes, keepdims):
        return kept(ct, saved.shapes[0], axes, keepdims) * _share(saved.x, saved.out, axes, keepdims)

    @primitive.jvp
    def _(tangents, primals, outputs, *, axes, keepdims):
        return sum_p(_share(primals[0], outputs[0], axes, keepdims) * tangents[0], axes=axes, keepdims=keepdims)

    @primitive.samples
    def _(rng):
        yield from reduction_samples(extremes=True)(rng)
        ties = np.array([[1.0, 2.0, 2.0], [2.0, 1.0, 2.0]])
        yield Sample((ties,), {"axes": (1,), "keepdims": False}, note="ties", differentiable=False)
        holes = np.array([[1.0, np.nan, 2.0], [-np.inf, np.inf, 0.0]])
        yield Sample((holes,), {"axes": (1,), "keepdims": False}, note="NaN and infinities", differentiable=False)
        bad = {"axes": (1,), "keepdims": False}
        yield Sample((np.ones((3, 0)),), bad, error=ArgumentError, match="elements along the reduced axis 1")


_define_extreme(max_p, MAX, np.maximum)
_define_extreme(min_p, MIN, np.minimum)


class Reduction(NamedTuple):
    """How a call reduces its input: the axes, the operation, and what the result is divided by."""

    axes: tuple[int, ...]
    operation: Operation
    divisor: float = 1.0


def reduction_of(primitive: Primitive, x: Abstract, params: dict[str, Any]) -> Reduction | None:
    """How a call of a sum, mean, max or min reduces; None for another one."""
    if primitive is max_p or primitive is min_p:
        return Reduction(params["axes"], MAX if primitive is max_p else MIN)
    found = summed_axes(primitive, x, params)
    return None if found is None else Reduction(found[0], SUM, found[1])


def _define_place(primitive: Primitive, name: str, method: Callable) -> None:
    @primitive.infer
    def _(x, *, axis, keepdims):
        axes = tuple(range(x.ndim)) if axis is None else (axis,)
        result = reduced(name, x, axes, keepdims, dtypes.int64)
        if not count(x.shape, axes):
            where = "" if axis is None else f" along axis {axis}"
            raise ArgumentError(f"{name}: x has shape {x.shape}, expected elements{where}")
        return result

    @primitive.kernel("reference")
    def _(x, *, axis, keepdims):
        return method(x, axis, keepdims=keepdims)

    @primitive.kernel("cpu")
    def _(out, x, *, axis, keepdims):
        method(x, axis, out, keepdims=keepdims)

    @primitive.samples
    def _(rng):
        for shape, axis in [((2, 3), 0), ((2, 3), 1), ((4, 2, 3), None), ((), None), ((1,), 0), ((0, 3), 1)]:
            yield Sample((rng.standard_normal(shape),), {"axis": axis, "keepdims": len(shape) == 3})
        yield Sample((rng.standard_normal((5, 3)).T,), {"axis": 1, "keepdims": False}, note="transposed")
        yield Sample((np.array([1.0, 2.0, 2.0]),), {"axis": None, "keepdims": False}, note="ties")
        yield Sample((np.array([1.0, np.nan, 2.0]),), {"axis": 0, "keepdims": False}, note="NaN")
        bad: dict[str, Any] = {"axis": 0, "keepdims": False}
        yield Sample((np.ones((0, 3)),), bad, error=ArgumentError, match="expected elements along axis 0")
        bad = {"axis": 2, "keepdims": False}
        yield Sample((np.ones((2, 3)),), bad, error=ShapeError, match="axes 2 is out of range")


_define_place(argmax_p, "argmax", np.ndarray.argmax)
_define_place(argmin_p, "argmin", np.ndarray.argmin)


def _define_truth(primitive: Primitive, name: str, ufunc: np.ufunc) -> None:
    @primitive.infer
    def _(x, *, axes, keepdims):
        return reduced(name, x, axes, keepdims, dtypes.bool_)

    @primitive.kernel("reference")
    def _(x, *, axes, keepdims):
        return ufunc.reduce(x, axis=axes, keepdims=keepdims)

    @primitive.kernel("cpu")
    def _(out, x, *, axes, keepdims):
        ufunc.reduce(x, axis=axes, out=out, keepdims=keepdims)

    @primitive.samples
    def _(rng):
        for shape, axes in [((2, 3), (0,)), ((2, 3), (0, 1)), ((4, 2, 3), (1,)), ((), ()), ((0, 3), (0,))]:
            yield Sample((rng.random(shape) > 0.5,), {"axes": axes, "keepdims": len(shape) == 3})
            yield Sample((np.round(rng.random(shape)),), {"axes": axes, "keepdims": False})
        bad = {"axes": (2,), "keepdims": False}
        yield Sample((np.ones((2, 3)),), bad, error=ShapeError, match="axes 2 is out of range")


_define_truth(any_p, "any", np.logical_or)
_define_truth(all_p, "all", np.logical_and)
