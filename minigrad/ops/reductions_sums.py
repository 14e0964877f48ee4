"""The primitives of sums and moments, and what the rules of all reductions share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import axes as axes_of
from minigrad import dtypes
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops.reductions_cpu import reduce_into, var_into, var_workspace, workspace_of
from minigrad.ops.reductions_operations import SUM
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor

sum_p = Primitive("mg::sum")
sum_to_p = Primitive("mg::sum_to")
mean_p = Primitive("mg::mean")
var_p = Primitive("mg::var")


def reduced(operation: str, x: Abstract, axes: tuple[int, ...], keepdims: bool, dtype: np.dtype) -> Abstract:
    """What reducing these axes leaves; they must be as `normalize` gives them."""
    found = axes_of.normalize(operation, axes, x.ndim, "axes")
    if found != axes:
        raise ArgumentError(f"{operation}: axes is {axes!r}, expected sorted non-negative axes {found}")
    return Abstract(axes_of.reduced_shape(x.shape, axes, keepdims), dtype)


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod([shape[a] for a in axes])


def kept(y: Tensor, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduction's result in a shape that broadcasts to what was reduced."""
    if keepdims or axes == tuple(range(len(axes))):  # leading axes: broadcasting puts them back itself
        return y
    return y.reshape(axes_of.reduced_shape(shape, axes, True))


def spread(y: Tensor, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduction's result repeated over what was reduced; a view."""
    y = kept(y, shape, axes, keepdims)
    return y if y._data.shape == shape else y.broadcast_to(shape)


def split(out: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The output buffer, and the workspace if the plan asked for one."""
    return out if out.__class__ is tuple else (out, None)


_SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 3), (0,)),
    ((2, 3), (1,)),
    ((2, 3), (0, 1)),
    ((), ()),
    ((1,), (0,)),
    ((7,), ()),
    ((3, 5, 2), (1,)),
    ((3, 5, 2), (0, 2)),
    ((2, 3, 5, 4), (0, 2)),
    ((2, 3, 5, 4), (1, 3)),
    ((0, 3), (1,)),
    ((33, 2), (0,)),
]


def reduction_samples(*, extremes: bool = False, **params: Any) -> Callable:
    """A samples rule: every form of reduction, strided inputs, a large mean with a small variance.

    Extremes have no value over nothing, and kinks where a large mean brings elements close together.
    """

    def rule(rng: np.random.Generator) -> Any:
        draw = (lambda shape: _apart(rng, shape)) if extremes else rng.standard_normal
        for i, (shape, axes) in enumerate(_SHAPES):
            yield Sample((draw(shape),), {"axes": axes, "keepdims": i % 2 == 1, **params})
        flat, kept_ = {"keepdims": False, **params}, {"keepdims": True, **params}
        yield Sample((draw((5, 3)).T,), {"axes": (0,), **flat}, note="transposed")
        yield Sample((draw((6, 4))[::-2, ::2],), {"axes": (1,), **kept_}, note="strided")
        offset = 100 + 0.1 * rng.standard_normal((4, 3))
        yield Sample((offset,), {"axes": (0,), **flat}, note="large mean, small variance", differentiable=not extremes)
        if not extremes:
            nothing = rng.standard_normal((0, 3))
            yield Sample((nothing,), {"axes": (0,), **flat}, note="over nothing", differentiable=False)
        ones = np.ones((2, 3))
        yield Sample((ones,), {"axes": (2,), **flat}, error=ShapeError, match="axes 2 is out of range for 2 dimensions")
        yield Sample((ones,), {"axes": (1, 0), **flat}, error=ArgumentError, match="expected sorted")

    return rule


def _apart(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values that no small step lets change places, which is a kink of their extremes."""
    size = math.prod(shape)
    return (rng.permutation(size) - size / 2 + rng.uniform(-0.2, 0.2, size)).reshape(shape) / 4


# sum and sum_to, each other's derivative's shape apart: what one repeats the other adds up.


def _summed(dtype: np.dtype) -> np.dtype:
    if dtype.kind in "bi":
        return dtypes.int64
    return np.dtype(np.uint64) if dtype.kind == "u" else dtype


@sum_p.infer
def _(x, *, axes, keepdims):
    return reduced("sum", x, axes, keepdims, _summed(x.dtype))


@sum_p.workspace
def _(x, *, axes, keepdims):
    return workspace_of(x.shape, axes, x.dtype)


@sum_p.kernel("reference")
def _(x, *, axes, keepdims):
    return np.add.reduce(x, axis=axes, keepdims=keepdims)


@sum_p.kernel("cpu")
def _(out, x, *, axes, keepdims):
    if dtypes.has_kernels(x.dtype):
        reduce_into(SUM, *split(out), x, axes)
    else:
        np.add.reduce(x, axis=axes, out=out, keepdims=keepdims)


@sum_p.vjp()
def _(ct, saved, needs, *, axes, keepdims):
    return spread(ct, saved.shapes[0], axes, keepdims)


@sum_p.jvp
def _(tangents, primals, outputs, *, axes, keepdims):
    return sum_p(tangents[0], axes=axes, keepdims=keepdims)


sum_p.samples(reduction_samples())


def summed_axes(primitive: Primitive, x: Abstract, params: dict[str, Any]) -> tuple[tuple[int, ...], float] | None:
    """The axes that a call of `sum_p`, `sum_to_p` or `mean_p` sums, and what it divides by; None for another one."""
    if primitive is sum_to_p:
        return stretched(x.shape, params["shape"]), 1.0
    if primitive is sum_p or primitive is mean_p:
        return params["axes"], float(count(x.shape, params["axes"])) if primitive is mean_p else 1.0
    return None


@lru_cache(maxsize=4096)
def stretched(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `shape` that broadcasting from `target` added or stretched."""
    added = len(shape) - len(target)
    if added < 0 or not all(t in (1, n) for t, n in zip(target, shape[added:])):
        raise ShapeError(f"sum_to: shape is {target}, expected one that broadcasts to x's shape {shape}")
    return (*range(added), *[added + i for i, (t, n) in enumerate(zip(target, shape[added:])) if t != n])


@sum_to_p.infer
def _(x, *, shape):
    stretched(x.shape, shape)
    return Abstract(shape, _summed(x.dtype))


@sum_to_p.workspace
def _(x, *, shape):
    return workspace_of(x.shape, stretched(x.shape, shape), x.dtype)


@sum_to_p.kernel("reference")
def _(x, *, shape):
    return np.add.reduce(x, axis=stretched(x.shape, shape)).reshape(shape)


@sum_to_p.kernel("cpu")
def _(out, x, *, shape):
    axes = stretched(x.shape, shape)
    if dtypes.has_kernels(x.dtype):
        reduce_into(SUM, *split(out), x, axes)
    else:
        out[...] = np.add.reduce(x, axis=axes).reshape(shape)


@sum_to_p.vjp()
def _(ct, saved, needs, *, shape):
    return ct.broadcast_to(saved.shapes[0])


@sum_to_p.jvp
def _(tangents, primals, outputs, *, shape):
    return sum_to_p(tangents[0], shape=shape)


@sum_to_p.samples
def _(rng):
    for shape, target in [
        ((2, 3), (3,)),
        ((2, 3), (2, 1)),
        ((2, 3), ()),
        ((2, 3), (2, 3)),
        ((4, 2, 3, 5), (2, 1, 5)),
        ((4, 2, 3, 5), (1, 2, 3, 1)),
        ((), ()),
        ((0, 3), (3,)),
        ((0, 3), (1, 1)),
        ((1, 4), (4,)),
    ]:
        yield Sample((rng.standard_normal(shape),), {"shape": target})
    yield Sample((rng.standard_normal((5, 3)).T,), {"shape": (5,)}, note="transposed")
    yield Sample((np.ones((2, 3)),), {"shape": (2,)}, error=ShapeError, match=r"broadcasts to x's shape \(2, 3\)")
    yield Sample((np.ones((3,)),), {"shape": (1, 3)}, error=ShapeError, match=r"shape is \(1, 3\)")


@mean_p.infer
def _(x, *, axes, keepdims):
    dtypes.require_floating("mean", "x", x.dtype)
    return reduced("mean", x, axes, keepdims, x.dtype)


@mean_p.workspace
def _(x, *, axes, keepdims):
    return workspace_of(x.shape, axes, x.dtype)


@mean_p.kernel("reference")
def _(x, *, axes, keepdims):
    with np.errstate(invalid="ignore"):
        return np.asarray(np.add.reduce(x, axis=axes, keepdims=keepdims) / x.dtype.type(count(x.shape, axes)), x.dtype)


@mean_p.kernel("cpu")
def _(out, x, *, axes, keepdims):
    if dtypes.has_kernels(x.dtype):
        reduce_into(SUM, *split(out), x, axes, float(count(x.shape, axes)))
    else:
        out[...] = mean_p.reference(x, axes=axes, keepdims=keepdims)[0]


@mean_p.vjp()
def _(ct, saved, needs, *, axes, keepdims):
    shape = saved.shapes[0]
    return spread(ct / float(count(shape, axes)), shape, axes, keepdims)


@mean_p.jvp
def _(tangents, primals, outputs, *, axes, keepdims):
    return mean_p(tangents[0], axes=axes, keepdims=keepdims)


mean_p.samples(reduction_samples())


@var_p.infer
def _(x, *, axes, keepdims, ddof):
    dtypes.require_floating("var", "x", x.dtype)
    return reduced("var", x, axes, keepdims, x.dtype)


@var_p.workspace
def _(x, *, axes, keepdims, ddof):
    return var_workspace(x.shape, axes, x.dtype)


def _freedom(shape: tuple[int, ...], axes: tuple[int, ...], ddof: float) -> float:
    """n − ddof, and 0 below it."""
    return max(float(count(shape, axes) - ddof), 0.0)


@var_p.kernel("reference")
def _(x, *, axes, keepdims, ddof):
    centred = x - mean_p.reference(x, axes=axes, keepdims=True)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.add.reduce(centred * centred, axis=axes, keepdims=keepdims)
        return np.asarray(total / x.dtype.type(_freedom(x.shape, axes, ddof)), x.dtype)


@var_p.kernel("cpu")
def _(out, x, *, axes, keepdims, ddof):
    if dtypes.has_kernels(x.dtype):
        result, work, means = out
        var_into(result, work, means, x, axes, float(count(x.shape, axes)), _freedom(x.shape, axes, ddof))
    else:
        out[...] = var_p.reference(x, axes=axes, keepdims=keepdims, ddof=ddof)[0]


def _var_slope(x: Tensor, axes: tuple[int, ...], ddof: float) -> Tensor:
    """d var/dx = 2(x − mean)/(n − ddof)."""
    freedom = _freedom(x.shape, axes, ddof)
    centred = x - mean_p(x, axes=axes, keepdims=True)
    centred = centred - mean_p(centred, axes=axes, keepdims=True)  # what rounding left of a large mean
    return centred * (2.0 / freedom if freedom else math.inf)


@var_p.vjp(saves=("x",))
def _(ct, saved, needs, *, axes, keepdims, ddof):
    return kept(ct, saved.shapes[0], axes, keepdims) * _var_slope(saved.x, axes, ddof)


@var_p.jvp
def _(tangents, primals, outputs, *, axes, keepdims, ddof):
    return sum_p(_var_slope(primals[0], axes, ddof) * tangents[0], axes=axes, keepdims=keepdims)


@var_p.samples
def _(rng):
    yield from reduction_samples(ddof=0)(rng)
    yield Sample((rng.standard_normal((4, 3)),), {"axes": (0,), "keepdims": False, "ddof": 1}, note="unbiased")
