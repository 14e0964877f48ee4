"""The primitives that see the same elements in another shape or order: views, where memory allows it."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from operator import index
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample

reshape_p = Primitive("mg::reshape", view=True)
transpose_p = Primitive("mg::transpose", view=True)
matrix_transpose_p = Primitive("mg::matrix_transpose", view=True)
broadcast_to_p = Primitive("mg::broadcast_to", view=True)
flip_p = Primitive("mg::flip", view=True)


def integer(operation: str, argument: str, value: Any) -> int:
    """`value` as a Python integer, or an ArgumentTypeError that names the argument."""
    try:
        return index(value)
    except TypeError:
        raise ArgumentTypeError(f"{operation}: {argument} is {value!r}, expected an integer") from None


def axis_of(operation: str, axis: Any, ndim: int, argument: str = "axis") -> int:
    """One axis as a non-negative integer."""
    found = integer(operation, argument, axis)
    if not -ndim <= found < ndim:
        raise ShapeError(f"{operation}: {argument} {found} is out of range for {ndim} dimensions")
    return found % ndim


# reshape. Of an array that is not contiguous it is a copy, which the version counter it then shares makes no worse.


@lru_cache(maxsize=4096)
def _resolved(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """`target` with its -1 replaced by what is left of the elements."""
    for n in target:
        if integer("reshape", "shape", n) < -1:
            raise ShapeError(f"reshape: shape is {target}, expected lengths of at least 0, or -1")
    size, known = prod(shape), prod([n for n in target if n != -1])
    open_axes = target.count(-1)
    if open_axes > 1:
        raise ShapeError(f"reshape: shape is {target}, expected at most one -1")
    if open_axes and known and size % known == 0:
        return tuple([size // known if n == -1 else n for n in target])
    if open_axes or known != size:
        raise ShapeError(f"reshape: x has shape {shape}, whose {size} elements do not fit shape {target}")
    return target


@reshape_p.infer
def _(x, *, shape):
    return Abstract(_resolved(x.shape, shape), x.dtype)


@reshape_p.kernel("reference", "cpu")
def _(x, *, shape):
    try:
        return x.reshape(shape)
    except TypeError:  # 2.0 equals 2, so that a plan is found for it
        raise ArgumentTypeError(f"reshape: shape is {shape}, expected integers") from None


@reshape_p.vjp()
def _(ct, saved, needs, *, shape):
    return reshape_p(ct, shape=saved.shapes[0])


@reshape_p.jvp
def _(tangents, primals, outputs, *, shape):
    return reshape_p(tangents[0], shape=shape)


@reshape_p.samples
def _(rng):
    for shape, target in [
        ((2, 3), (3, 2)),
        ((2, 3, 5), (6, -1)),
        ((), (1, 1)),
        ((1,), ()),
        ((0, 3), (-1, 3)),
        ((0, 3), (5, 0)),
    ]:
        yield Sample((rng.standard_normal(shape),), {"shape": target})
    yield Sample((rng.standard_normal((5, 3)).T,), {"shape": (5, 3)}, note="transposed, so copied")
    yield Sample((np.ones((2, 3)),), {"shape": (4, -1)}, error=ShapeError, match="6 elements do not fit")
    yield Sample((np.ones((2, 3)),), {"shape": (5,)}, error=ShapeError, match=r"do not fit shape \(5,\)")
    yield Sample((np.ones((2, 3)),), {"shape": (-1, -1)}, error=ShapeError, match="at most one -1")
    yield Sample((np.ones((2, 3)),), {"shape": (6, -2)}, error=ShapeError, match="lengths of at least 0")
    yield Sample((np.ones((0, 3)),), {"shape": (0, -1)}, error=ShapeError, match="do not fit")


# transpose


@lru_cache(maxsize=4096)
def permutation(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """`axes` as non-negative integers, once they are known to name each axis once."""
    if len(axes) != ndim:
        raise ShapeError(f"transpose: axes is {axes}, expected the {ndim} axes of x")
    order = tuple([axis_of("transpose", axis, ndim, "axis") for axis in axes])
    if len(set(order)) < ndim:
        raise ArgumentError(f"transpose: axes {axes} names an axis twice")
    return order


@lru_cache(maxsize=4096)
def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    order = permutation(len(axes), axes)
    return tuple([order.index(i) for i in range(len(order))])


@transpose_p.infer
def _(x, *, axes):
    return Abstract(x.shape[::-1] if axes is None else tuple([x.shape[a] for a in permutation(x.ndim, axes)]), x.dtype)


@transpose_p.kernel("reference", "cpu")
def _(x, *, axes):
    try:
        return x.transpose(axes)
    except TypeError:  # as above
        raise ArgumentTypeError(f"transpose: axes is {axes}, expected integers") from None


@transpose_p.vjp()
def _(ct, saved, needs, *, axes):
    return transpose_p(ct, axes=None if axes is None else inverse(axes))


@transpose_p.jvp
def _(tangents, primals, outputs, *, axes):
    return transpose_p(tangents[0], axes=axes)


@transpose_p.samples
def _(rng):
    for shape, axes in [((2, 3), None), ((2, 3, 5), (1, 2, 0)), ((4, 2, 3), (-1, 0, 1)), ((), ()), ((0, 3), (1, 0))]:
        yield Sample((rng.standard_normal(shape),), {"axes": axes})
    yield Sample((np.ones((2, 3)),), {"axes": (0,)}, error=ShapeError, match="expected the 2 axes of x")
    yield Sample((np.ones((2, 3)),), {"axes": (0, 2)}, error=ShapeError, match="axis 2 is out of range")
    yield Sample((np.ones((2, 3)),), {"axes": (1, -1)}, error=ArgumentError, match="names an axis twice")


@matrix_transpose_p.infer
def _(x):
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: x has shape {x.shape}, expected at least two dimensions")
    return Abstract((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)


@matrix_transpose_p.kernel("reference", "cpu")
def _(x):
    return x.swapaxes(-1, -2)


@matrix_transpose_p.vjp()
def _(ct, saved, needs):
    return matrix_transpose_p(ct)


@matrix_transpose_p.jvp
def _(tangents, primals, outputs):
    return matrix_transpose_p(tangents[0])


@matrix_transpose_p.samples
def _(rng):
    for shape in [(2, 3), (4, 2, 3), (1, 1), (0, 3)]:
        yield Sample((rng.standard_normal(shape),))
    yield Sample((np.ones(3),), error=ShapeError, match="expected at least two dimensions")


# broadcast_to


@lru_cache(maxsize=4096)
def _broadcast_strides(shape: tuple[int, ...], strides: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    added = len(target) - len(shape)
    return (0,) * added + tuple([0 if n == 1 else stride for n, stride in zip(shape, strides)])


@broadcast_to_p.infer
def _(x, *, shape):
    added = len(shape) - x.ndim
    for n in shape:
        if integer("broadcast_to", "shape", n) < 0:
            raise ShapeError(f"broadcast_to: shape is {shape}, expected lengths of at least 0")
    if added < 0 or not all(n in (1, m) for n, m in zip(x.shape, shape[added:])):
        raise ShapeError(f"broadcast_to: x has shape {x.shape}, which does not broadcast to {shape}")
    return Abstract(shape, x.dtype)


@broadcast_to_p.kernel("reference", "cpu")
def _(x, *, shape):
    # Writeable, as numpy.broadcast_to's result is not: to compiled kernels a read-only array is another type.
    strides = _broadcast_strides(x.shape, x.strides, shape)
    if x.flags.c_contiguous and x.size:
        return np.ndarray(shape, x.dtype, x, 0, strides)
    return as_strided(x, shape, strides) if x.size else np.empty(shape, x.dtype)


@broadcast_to_p.vjp()
def _(ct, saved, needs, *, shape):
    return ct.sum_to(saved.shapes[0])


@broadcast_to_p.jvp
def _(tangents, primals, outputs, *, shape):
    return broadcast_to_p(tangents[0], shape=shape)


@broadcast_to_p.samples
def _(rng):
    for shape, target in [
        ((3,), (2, 3)),
        ((2, 1), (2, 3)),
        ((2, 1, 5), (4, 2, 3, 5)),
        ((0, 1), (0, 3)),
        ((1, 3), (0, 3)),
        ((), ()),
    ]:
        yield Sample((rng.standard_normal(shape),), {"shape": target})
    yield Sample((rng.standard_normal((6, 4))[::-2, ::2],), {"shape": (2, 3, 2)}, note="strided")
    for shape in [(), (1, 1)]:  # to one element, a zero-mean cotangent sums to nothing that could be checked
        yield Sample((rng.standard_normal(shape),), {"shape": (4, 5)}, differentiable=False)
    yield Sample((np.ones((2,)),), {"shape": (2, 3)}, error=ShapeError, match=r"\(2,\), which does not broadcast")
    yield Sample((np.ones((2, 3)),), {"shape": (3,)}, error=ShapeError, match="does not broadcast")
    yield Sample((np.ones((1,)),), {"shape": (-1,)}, error=ShapeError, match="at least 0")


# flip


@lru_cache(maxsize=1024)
def _reversing(ndim: int, axes: tuple[int, ...]) -> tuple[Any, ...]:
    return (*[slice(None, None, -1) if axis in axes else slice(None) for axis in range(ndim)], Ellipsis)


@flip_p.infer
def _(x, *, axes):
    for axis in axes:
        axis_of("flip", axis, x.ndim)
    return x


@flip_p.kernel("reference", "cpu")
def _(x, *, axes):
    return x[_reversing(x.ndim, axes)]


@flip_p.vjp()
def _(ct, saved, needs, *, axes):
    return flip_p(ct, axes=axes)


@flip_p.jvp
def _(tangents, primals, outputs, *, axes):
    return flip_p(tangents[0], axes=axes)


@flip_p.samples
def _(rng):
    for shape, axes in [((2, 3), (0,)), ((2, 3, 5), (0, 2)), ((), ()), ((1,), (0,)), ((0, 3), (0, 1))]:
        yield Sample((rng.standard_normal(shape),), {"axes": axes})
    yield Sample((np.ones((2, 3)),), {"axes": (2,)}, error=ShapeError, match="axis 2 is out of range")
