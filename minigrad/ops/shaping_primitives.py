"""The primitives that rearrange elements: views where memory allows it, and joins, padding and repetition."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from operator import index
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad import dtypes
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor

reshape_p = Primitive("mg::reshape", view=True)
transpose_p = Primitive("mg::transpose", view=True)
matrix_transpose_p = Primitive("mg::matrix_transpose", view=True)
broadcast_to_p = Primitive("mg::broadcast_to", view=True)
flip_p = Primitive("mg::flip", view=True)
concatenate_p = Primitive("mg::concatenate")
pad_p = Primitive("mg::pad")
repeat_p = Primitive("mg::repeat")


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
    return x.reshape(shape)


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
    return x.transpose(axes)


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
        ((), (2, 3)),
        ((1, 1), (4, 5)),
        ((2, 1, 5), (4, 2, 3, 5)),
        ((0, 1), (0, 3)),
        ((1, 3), (0, 3)),
        ((), ()),
    ]:
        yield Sample((rng.standard_normal(shape),), {"shape": target})
    yield Sample((rng.standard_normal((6, 4))[::-2, ::2],), {"shape": (2, 3, 2)}, note="strided")
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


# concatenate


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
        *[Tensor(np.zeros(p.shape, p.dtype)) if t is None else t for t, p in zip(tangents, primals)], axis=axis
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
    if x.dtype.kind in "biu" and not float(value).is_integer():
        raise DTypeError(f"pad: constant_values is {value}, expected an integer as x has dtype {x.dtype}")
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
    yield Sample((np.ones(2, int),), {"widths": ((1, 1),), "value": 0.5}, error=DTypeError, match="expected an integer")


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
    out.reshape(*head, repeats, *tail)[...] = x.reshape(*head, 1, *tail)


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
    for shape, repeats, axis in [((2, 3), 4, 0), ((2, 3), 2, -1), ((5,), 1, 0), ((1,), 3, 0), ((0, 3), 2, 1), ((2, 3), 0, 0)]:
        yield Sample((rng.standard_normal(shape),), {"repeats": repeats, "axis": axis})
    yield Sample((np.ones(2),), {"repeats": -1, "axis": 0}, error=ArgumentError, match="repeats is -1")
    yield Sample((np.ones(2),), {"repeats": 2, "axis": 1}, error=ShapeError, match="axis 1 is out of range")
