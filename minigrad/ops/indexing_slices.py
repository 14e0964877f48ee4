"""The primitives of basic indexing: slices as views, their transpose, and arrays with a slice replaced."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import ArgumentError, IndexRangeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, full_like

slice_p = Primitive("mg::slice", view=True)
unslice_p = Primitive("mg::unslice")
set_slice_p = Primitive("mg::set_slice")


def zero(like: Tensor) -> Tensor:
    """A 0 of the dtype of `like`, on its device."""
    return full_like(like, 0, ())


# Slices: integers, slices, None and Ellipsis. A slice is a triple in the key, because Python's are not hashable.


@lru_cache(maxsize=4096)
def _decoded(key: tuple) -> tuple:
    """The key as NumPy takes it, with an Ellipsis, without which integers alone would give no view."""
    items = tuple([slice(*item) if item.__class__ is tuple else item for item in key])
    return items if Ellipsis in key else (*items, Ellipsis)


@lru_cache(maxsize=4096)
def sliced_shape(shape: tuple[int, ...], key: tuple, operation: str = "getitem") -> tuple[int, ...]:
    """The shape of what `key` selects, once every item of it is in range."""
    if key.count(Ellipsis) > 1:
        raise IndexRangeError(f"{operation}: the key has more than one Ellipsis")
    used = sum([item is not None and item is not Ellipsis for item in key])
    if used > len(shape):
        raise IndexRangeError(f"{operation}: the key has {used} indices for a tensor of shape {shape}")
    axis = 0
    for item in key:
        if item is Ellipsis:
            axis += len(shape) - used
        elif item is not None:
            if item.__class__ is tuple:
                if item[2] == 0:
                    raise ArgumentError(f"{operation}: a slice has step 0, expected a step forwards or backwards")
            elif not -shape[axis] <= item < shape[axis]:
                raise IndexRangeError(
                    f"{operation}: index {item} is out of range for axis {axis} of length {shape[axis]}"
                )
            axis += 1
    return np.broadcast_to(np.empty(()), shape)[_decoded(key)].shape


@slice_p.infer
def _(x, *, key):
    return Abstract(sliced_shape(x.shape, key), x.dtype)


@slice_p.kernel("reference", "cpu")
def _(x, *, key):
    return x[_decoded(key)]


@slice_p.vjp()
def _(ct, saved, needs, *, key):
    return unslice_p(ct, shape=saved.shapes[0], key=key)


@slice_p.jvp
def _(tangents, primals, outputs, *, key):
    return slice_p(tangents[0], key=key)


_KEYS: list[tuple[tuple[int, ...], tuple]] = [
    ((5, 3), (2,)),
    ((5, 3), ((1, 4, None), -1)),
    ((5, 3), ((None, None, -2), None)),
    ((4, 5, 3), (Ellipsis, 0)),
    ((4, 5, 3), (None, (3, 0, -1), Ellipsis, (None, None, 2))),
    ((4, 3), ((2, 2, None),)),
    ((), ()),
    ((), (None, Ellipsis)),
    ((1,), (0,)),
    ((0, 3), ((None, None, None), 1)),
]


@slice_p.samples
def _(rng):
    for shape, key in _KEYS:
        yield Sample((rng.standard_normal(shape),), {"key": key})
    yield Sample((np.ones((2, 3)),), {"key": (2,)}, error=IndexRangeError, match="index 2 .* axis 0 of length 2")
    yield Sample((np.ones((2, 3)),), {"key": (None, Ellipsis, -4)}, error=IndexRangeError, match="index -4 .* axis 1")
    yield Sample((np.ones((2,)),), {"key": (0, 0)}, error=IndexRangeError, match=r"2 indices for .* shape \(2,\)")
    yield Sample((np.ones((2,)),), {"key": (Ellipsis, Ellipsis)}, error=IndexRangeError, match="more than one Ellipsis")
    yield Sample((np.ones((2,)),), {"key": ((0, 1, 0),)}, error=ArgumentError, match="step 0")


@unslice_p.infer
def _(x, *, shape, key):
    expected = sliced_shape(shape, key)
    if x.shape != expected:
        raise ShapeError(f"unslice: x has shape {x.shape}, expected {expected}")
    return Abstract(shape, x.dtype)


@unslice_p.kernel("reference")
def _(x, *, shape, key):
    out = np.zeros(shape, x.dtype)
    out[_decoded(key)] = x
    return out


@unslice_p.kernel("cpu")
def _(out, x, *, shape, key):
    out.fill(0)
    out[_decoded(key)] = x


@unslice_p.vjp()
def _(ct, saved, needs, *, shape, key):
    return slice_p(ct, key=key)


@unslice_p.jvp
def _(tangents, primals, outputs, *, shape, key):
    return unslice_p(tangents[0], shape=shape, key=key)


@unslice_p.samples
def _(rng):
    for shape, key in _KEYS:
        yield Sample((rng.standard_normal(sliced_shape(shape, key)),), {"shape": shape, "key": key})
    bad = {"shape": (5, 3), "key": ((0, 2, None),)}
    yield Sample((np.ones((2, 2)),), bad, error=ShapeError, match=r"x has shape \(2, 2\), expected \(2, 3\)")


@set_slice_p.infer
def _(x, values, *, key):
    require_values("at_set", values, sliced_shape(x.shape, key, "at_set"))
    dtypes.require_same("at_set", x=x.dtype, values=values.dtype)
    return x


def require_values(operation: str, values: Any, shape: tuple[int, ...]) -> None:
    """Raise a ShapeError unless `values` broadcasts to the shape of what it replaces."""
    added = len(shape) - values.ndim
    if added < 0 or not all(n in (1, m) for n, m in zip(values.shape, shape[added:])):
        raise ShapeError(f"{operation}: values has shape {values.shape}, expected {shape} or what broadcasts to it")


@set_slice_p.kernel("reference")
def _(x, values, *, key):
    out = x.astype(dtypes.promoted(x.dtype, values.dtype))
    out[_decoded(key)] = values
    return out


@set_slice_p.kernel("cpu")
def _(out, x, values, *, key):
    np.copyto(out, x)
    out[_decoded(key)] = values


@set_slice_p.vjp()
def _(ct, saved, needs, *, key):
    return (
        set_slice_p(ct, zero(ct), key=key) if needs[0] else None,
        slice_p(ct, key=key).sum_to(saved.shapes[1]) if needs[1] else None,
    )


@set_slice_p.jvp
def _(tangents, primals, outputs, *, key):
    tx, values = tangents
    x = primals[0]
    if tx is None:
        shape = sliced_shape(x.shape, key)
        return unslice_p(values if values.shape == shape else values.broadcast_to(shape), shape=x.shape, key=key)
    return set_slice_p(tx, zero(x) if values is None else values, key=key)


@set_slice_p.samples
def _(rng):
    for shape, key in _KEYS:
        yield Sample((rng.standard_normal(shape), rng.standard_normal(sliced_shape(shape, key))), {"key": key})
    yield Sample((rng.standard_normal((5, 3)), rng.standard_normal(())), {"key": (2,)}, note="broadcast")
    yield Sample((rng.standard_normal((5, 3)), rng.standard_normal((4, 1))), {"key": ((1, None, None),)})
    bad = {"key": ((0, 2, None),)}
    yield Sample((np.ones((5, 3)), np.ones(2)), bad, error=ShapeError, match=r"\(2,\), expected \(2, 3\)")
    yield Sample((np.ones((5, 3)), np.ones((1, 2, 3))), bad, error=ShapeError, match=r"\(1, 2, 3\), expected \(2, 3\)")
