"""Indexing: everything that NumPy takes as a key, as views and gathers, and new tensors with elements changed."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import DTypeError, IndexRangeError, ShapeError
from minigrad.ops.indexing_gathers import put_p, scatter_add_p, take_p
from minigrad.ops.indexing_keys import Advanced, indices_of, integers_of, parse, plain
from minigrad.ops.indexing_places import OutsideError, one_hot_p, ravel_index_p
from minigrad.ops.indexing_slices import require_values, set_slice_p, slice_p, sliced_shape, unslice_p
from minigrad.ops.shaping_views import axis_of, integer
from minigrad.tensor import Tensor, as_tensor


def getitem(x: Any, key: Any) -> Tensor:
    """``x[key]`` as in NumPy: integers, slices, None and Ellipsis give a view; integer arrays and masks a gather.

    The gradient of an element that was taken several times is the sum over those times.

    Args:
        x: any shape.
        key: an item or a tuple of them. Index arrays may be tensors, arrays or lists.

    Raises:
        IndexRangeError: if an index is out of range, or the key has more items than x has axes.
        ShapeError: if a mask has another shape than the axes that it selects from, or index arrays do not broadcast.
        DTypeError: for indices that are neither integers nor booleans.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> x[:, ::-2]
        tensor([[3., 1.],
                [6., 4.]], dtype=float32)
        >>> x[[0, 1, 1], 2]
        tensor([3., 6., 6.], dtype=float32)
        >>> x[x > 4]
        tensor([5., 6.], dtype=float32)
        >>> x[2]
        Traceback (most recent call last):
        ...
        minigrad.errors.IndexRangeError: getitem: index 2 is out of range for axis 0 of length 2
    """
    x = as_tensor(x)
    items = key if key.__class__ is tuple else (key,)
    basic = plain("getitem", items)
    if basic is not None:
        return slice_p(x, key=basic)
    if len(items) == 1 and x._data.ndim:
        places = indices_of("getitem", items[0], x)
        if places._data.dtype.kind != "b":
            return _take("getitem", x, places, 0, 0, 0)
        items = (places,)
    return _gather("getitem", x, parse("getitem", items, x))


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Entries along an axis, ``x[:, ..., indices]``; of the flattened x if the axis is None.

    Args:
        x: any shape.
        indices: integers of any shape in [-n, n), which takes the place of the axis in the result's shape.

    Raises:
        IndexRangeError: if an index is out of range.
        DTypeError: if the indices are no integers.
        ShapeError: if the axis is out of range.

    Example:
        >>> import minigrad as mg
        >>> mg.take(mg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), [2, 0], axis=1)
        tensor([[3., 1.],
                [6., 4.]], dtype=float32)
    """
    x = as_tensor(x)
    places = integers_of("take", indices, x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of("take", axis, x.ndim)
    return _take("take", x, places, axis, axis, axis)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """``out[i, j, k] = x[i, indices[i, j, k], k]`` for the middle axis of three: an index for each other position.

    Args:
        x: any shape.
        indices: integers, with as many dimensions; but for `axis`, the shapes broadcast.
        axis: the axis that is indexed; None for the flattened x, with one dimension of indices.

    Raises:
        IndexRangeError: if an index is out of range.
        ShapeError: if the shapes do not fit.
        DTypeError: if the indices are no integers.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([[1.0, 5.0, 3.0], [6.0, 2.0, 4.0]])
        >>> mg.take_along_axis(x, mg.argmax(x, axis=1, keepdims=True), axis=1)
        tensor([[5.],
                [6.]], dtype=float32)
    """
    x = as_tensor(x)
    places = integers_of("take_along_axis", indices, x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if places.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices has shape {places.shape}, expected {x.ndim} dimensions as of x")
    axis = axis_of("take_along_axis", axis, x.ndim)
    shapes = f"indices has shape {places.shape}, x {x.shape}"
    n, order = x.shape[axis], (*[a for a in range(x.ndim) if a != axis], axis)
    back = (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1))
    if axis != x.ndim - 1:
        x, places = x.transpose(order), places.transpose(order)
    try:
        batch = np.broadcast_shapes(x.shape[:-1], places.shape[:-1])
    except ValueError:
        raise ShapeError(f"take_along_axis: {shapes}, which do not broadcast but for axis {axis}") from None
    rows, count = prod(batch), places.shape[-1]
    places = places.broadcast_to((*batch, count)).reshape(rows, count)
    first = as_tensor(np.arange(rows).reshape(rows, 1), like=x)
    try:
        flat = ravel_index_p(first, places, dims=(rows, n))
    except OutsideError as error:
        raise _located("take_along_axis", error, axis) from None
    result = take_p(x.broadcast_to((*batch, n)).reshape(-1), flat, axis=0).reshape(*batch, count)
    return result if axis == len(batch) else result.transpose(back)


def one_hot(labels: Any, classes: int, dtype: Any = dtypes.default_float) -> Tensor:
    """Labels as rows of zeros with a one: shape (...) becomes (..., classes).

    Raises:
        IndexRangeError: if a label is not in [0, classes).
        DTypeError: if the labels are no integers.

    Example:
        >>> import minigrad as mg
        >>> mg.one_hot([2, 0], 3)
        tensor([[0., 0., 1.],
                [1., 0., 0.]], dtype=float32)
    """
    return one_hot_p(
        as_tensor(labels), classes=integer("one_hot", "classes", classes), dtype=dtypes.as_dtype(dtype).name
    )


def at_set(x: Any, key: Any, values: Any) -> Tensor:
    """x with ``x[key]`` replaced by values: what ``x[key] = values`` would make of an array, as a new tensor.

    Where the key names an element several times the last value stays, and gets its gradient.

    Args:
        x: any shape.
        key: as of `getitem`.
        values: what broadcasts to the shape of ``x[key]``; cast to x's dtype.

    Raises:
        ShapeError: if the values do not broadcast to that shape.
        DTypeError: for floats to be set among integers.
        IndexRangeError, ShapeError: for the key, as of `getitem`.

    Example:
        >>> import minigrad as mg
        >>> mg.at_set(mg.tensor([1.0, 2.0, 3.0]), slice(1, None), 0)
        tensor([1., 0., 0.], dtype=float32)
    """
    x = as_tensor(x)
    values = _values("at_set", values, x)
    items = key if key.__class__ is tuple else (key,)
    basic = plain("at_set", items)
    if basic is not None:
        return set_slice_p(x, values, key=basic)
    return _scatter("at_set", put_p, x, items, values)


def at_add(x: Any, key: Any, values: Any) -> Tensor:
    """x with values added to ``x[key]``; where the key names an element several times, all of them are added.

    Arguments and errors are those of `at_set`.

    Example:
        >>> import minigrad as mg
        >>> mg.at_add(mg.tensor([1.0, 2.0, 3.0]), [0, 0, 2], mg.tensor([10.0, 20.0, 30.0]))
        tensor([31.,  2., 33.], dtype=float32)
    """
    x = as_tensor(x)
    values = _values("at_add", values, x)
    items = key if key.__class__ is tuple else (key,)
    basic = plain("at_add", items)
    if basic is not None:
        shape = sliced_shape(x.shape, basic, "at_add")
        require_values("at_add", values, shape)
        return x + unslice_p(values.broadcast_to(shape), shape=x.shape, key=basic)
    return _scatter("at_add", scatter_add_p, x, items, values)


# Gathering and its reverse


def _gather(operation: str, x: Tensor, key: Advanced) -> Tensor:
    if key.basic is not None:
        sliced_shape(x.shape, key.basic, operation)  # so that an error names the operation
        x = slice_p(x, key=key.basic)
    if len(key.groups) == 1:
        axis, lengths, places, named = key.groups[0]
        return _take(operation, _merged(x, axis, lengths), places, axis, key.at, named)
    selected = [g.axis + i for g in key.groups for i in range(len(g.lengths))]
    rest = [a for a in range(x.ndim) if a not in selected]
    try:
        flat = ravel_index_p(*[g.places for g in key.groups], dims=tuple([prod(g.lengths) for g in key.groups]))
    except OutsideError as error:
        raise _located(operation, error, key.groups[error.argument].named) from None
    except ShapeError:
        shapes = " and ".join([str(g.places.shape) for g in key.groups])
        raise ShapeError(f"{operation}: index arrays of shapes {shapes} do not broadcast") from None
    order = (*rest[: key.at], *selected, *rest[key.at :])
    x = x if order == tuple(range(x.ndim)) else x.transpose(order)
    return take_p(_merged(x, key.at, x.shape[key.at : key.at + len(selected)]), flat, axis=key.at)


def _take(operation: str, x: Tensor, places: Tensor, axis: int, at: int, named: int) -> Tensor:
    """`take_p`, with its new axes moved to `at`."""
    try:
        result = take_p(x, places, axis=axis)
    except OutsideError as error:
        raise _located(operation, error, named) from None
    if at == axis or not places.ndim:
        return result
    new = range(axis, axis + places.ndim)
    rest = [a for a in range(result.ndim) if a not in new]
    return result.transpose((*rest[:at], *new, *rest[at:]))


def _merged(x: Tensor, axis: int, lengths: tuple[int, ...]) -> Tensor:
    """x with neighbouring axes of these lengths as one."""
    if len(lengths) == 1:
        return x
    return x.reshape((*x.shape[:axis], prod(lengths), *x.shape[axis + len(lengths) :]))


def _located(operation: str, error: OutsideError, axis: int) -> IndexRangeError:
    return IndexRangeError(f"{operation}: index {error.entry} is out of range for axis {axis} of length {error.length}")


def _scatter(operation: str, primitive: Any, x: Tensor, items: tuple, values: Tensor) -> Tensor:
    """`put_p` or `scatter_add_p` of the values at a key with index arrays."""
    key = parse(operation, items, x)
    if key.basic is None and len(key.groups) == 1 and key.at == key.groups[0].axis:
        axis, lengths, places, named = key.groups[0]
        target = _merged(x, axis, lengths)
    else:  # any other key: where each of its elements stands among all elements
        everywhere = as_tensor(np.arange(x.size).reshape(x.shape), like=x)
        axis, named, places, target = 0, 0, _gather(operation, everywhere, key), x.reshape(-1)
    shape = (*target.shape[:axis], *places.shape, *target.shape[axis + 1 :])
    require_values(operation, values, shape)
    values = values if values.shape == shape else values.broadcast_to(shape)
    try:
        if primitive is put_p:
            return put_p(target, places, values, axis=axis).reshape(x.shape)
        return x + scatter_add_p(values, places, axis=axis, length=target.shape[axis]).reshape(x.shape)
    except OutsideError as error:
        raise _located(operation, error, named) from None


def _values(operation: str, values: Any, x: Tensor) -> Tensor:
    """What is to be written, in the dtype of where it goes."""
    dtype = x.dtype
    found = values if isinstance(values, Tensor) else as_tensor(np.array(values), like=x)
    if _RANKS.get(found.dtype.kind, 9) > _RANKS[dtype.kind]:
        raise DTypeError(f"{operation}: values has dtype {found.dtype}, which {dtype} can't hold")
    return found.astype(dtype)


_RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
