"""Indexing: everything that NumPy takes as a key, as views and gathers, and new tensors with elements changed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes
from minigrad.axes import normalize
from minigrad.errors import DTypeError, IndexRangeError, ShapeError
from minigrad.ops.indexing_gathers import put_p, scatter_add_p, take_p
from minigrad.ops.indexing_places import OutsideError, flatnonzero_p, one_hot_p, ravel_index_p
from minigrad.ops.indexing_slices import require_values, set_slice_p, slice_p, sliced_shape, unslice_p
from minigrad.tensor import Tensor, as_tensor

_ALL = (None, None, None)  # the slice of a whole axis


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
    basic = _basic("getitem", items)
    return slice_p(x, key=basic) if basic is not None else _gather("getitem", x, _parse("getitem", items, x.shape))


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
    x, places = as_tensor(x), _integers("take", indices)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = normalize("take", int(axis), x.ndim)[0]
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
    x, places = as_tensor(x), _integers("take_along_axis", indices)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if places.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices has shape {places.shape}, expected {x.ndim} dimensions as of x")
    axis = normalize("take_along_axis", int(axis), x.ndim)[0]
    n, order = x.shape[axis], (*[a for a in range(x.ndim) if a != axis], axis)
    back = (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1))
    if axis != x.ndim - 1:
        x, places = x.transpose(order), places.transpose(order)
    try:
        batch = np.broadcast_shapes(x.shape[:-1], places.shape[:-1])
    except ValueError:
        raise ShapeError(
            f"take_along_axis: indices has shape {indices.shape}, which does not fit x but for axis {axis}"
        ) from None
    rows, count = prod(batch), places.shape[-1]
    places = places.broadcast_to((*batch, count)).reshape(rows, count)
    first = Tensor(np.arange(rows).reshape(rows, 1))
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
    return one_hot_p(as_tensor(labels), classes=index(classes), dtype=dtypes.as_dtype(dtype).name)


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
    values = _values("at_set", values, x.dtype)
    items = key if key.__class__ is tuple else (key,)
    basic = _basic("at_set", items)
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
    values = _values("at_add", values, x.dtype)
    items = key if key.__class__ is tuple else (key,)
    basic = _basic("at_add", items)
    if basic is not None:
        shape = sliced_shape(x.shape, basic, "at_add")
        require_values("at_add", values, shape)
        return x + unslice_p(values.broadcast_to(shape), shape=x.shape, key=basic)
    return _scatter("at_add", scatter_add_p, x, items, values)


# Keys


class _Group(NamedTuple):
    """An index tensor and the neighbouring axes, counted after slicing, that it selects from: one, or a mask's."""

    axis: int
    lengths: tuple[int, ...]
    places: Tensor
    named: int  # the axis of x, for messages


class _Advanced(NamedTuple):
    """A key with index arrays: what is sliced first (None for nothing), then the arrays, and where their axes go."""

    basic: tuple | None
    groups: list[_Group]
    at: int


def _basic(operation: str, items: tuple) -> tuple | None:
    """The key as a hashable tuple if a slice can serve it, None if there are index arrays or masks."""
    key = []
    for item in items:
        kind = item.__class__
        if kind is int or item is None or item is Ellipsis:
            key.append(item)
        elif kind is slice:
            key.append(_triple(operation, item))
        elif _is_array(item):
            return None
        else:
            key.append(_integer(operation, item))
    return tuple(key)


def _is_array(item: Any) -> bool:
    return isinstance(item, (Tensor, np.ndarray, bool, np.bool_, Sequence)) and not isinstance(item, str)


def _triple(operation: str, item: slice) -> tuple:
    ends = item.start, item.stop, item.step
    return tuple([end if end is None or end.__class__ is int else _integer(operation, end) for end in ends])


def _integer(operation: str, item: Any) -> int:
    try:
        return index(item)
    except TypeError:
        raise DTypeError(f"{operation}: the key has {item!r}, expected integers, slices, None, ... or masks") from None


def _indices(operation: str, item: Any) -> Tensor:
    """An item of a key as a tensor of integers or booleans."""
    if isinstance(item, Tensor):
        found = item
    else:
        try:
            array = np.array(item)
        except ValueError as error:
            raise ShapeError(f"{operation}: index lists are of unequal length ({error})") from error
        empty = array.size == 0 and not isinstance(item, np.ndarray)
        found = Tensor(np.zeros(array.shape, np.int64) if empty else array)
    kind = found._data.dtype.kind
    if kind == "b":
        return found
    if kind not in "iu":
        raise DTypeError(f"{operation}: indices have dtype {found._data.dtype}, expected integers or booleans")
    return found if found._data.dtype == dtypes.int64 else found.astype(dtypes.int64)


def _integers(operation: str, indices: Any) -> Tensor:
    found = _indices(operation, indices)
    dtypes.require_integer(operation, "indices", found.dtype)
    return found


def _parse(operation: str, items: tuple, shape: tuple[int, ...]) -> _Advanced:
    """A key with index arrays, taken apart by NumPy's rules."""
    entries = [_indices(operation, i) if _is_array(i) else (_basic(operation, (i,)) or (None,))[0] for i in items]
    used = sum([_axes_used(e) for e in entries])
    if used > len(shape):
        raise IndexRangeError(f"{operation}: the key indexes {used} axes, but the tensor has shape {shape}")
    wholes = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(wholes) > 1:
        raise IndexRangeError(f"{operation}: the key has more than one Ellipsis")
    if not wholes:
        entries.append(Ellipsis)
    basic: list = []
    groups: list[_Group] = []
    axis = sliced = kept = 0  # axes of x, of what slicing leaves of it, and those of them that no array selects from
    first, closed, apart = None, False, False
    for entry in entries:
        if entry is Ellipsis or entry is None or entry.__class__ is tuple:
            added = len(shape) - used if entry is Ellipsis else 1
            basic += [_ALL] * added if entry is Ellipsis else [entry]
            axis += 0 if entry is None else added
            sliced, kept, closed = sliced + added, kept + added, first is not None
            continue
        first, apart = kept if first is None else first, apart or closed
        if entry.__class__ is int:
            basic.append(entry)
            axis += 1
            continue
        lengths: tuple[int, ...] = shape[axis : axis + 1]
        basic += [_ALL if _axes_used(entry) else None] * max(1, _axes_used(entry))
        places, named = entry, axis
        if entry._data.dtype.kind == "b":
            lengths = shape[axis : axis + entry.ndim]
            if entry.shape != lengths:
                raise ShapeError(f"{operation}: the mask has shape {entry.shape}, expected {lengths} from axis {axis} on")
            places = flatnonzero_p(entry, count=int(np.count_nonzero(entry._data)))
            lengths = lengths or (1,)
        groups.append(_Group(sliced, lengths, places, named))
        axis += _axes_used(entry)
        sliced += len(lengths)
    whole = all([item == _ALL for item in basic])
    return _Advanced(None if whole else tuple(basic), groups, 0 if apart or first is None else first)


def _axes_used(entry: Any) -> int:
    if isinstance(entry, Tensor):
        return entry._data.ndim if entry._data.dtype.kind == "b" else 1
    return 0 if entry is None or entry is Ellipsis else 1


# Gathering and its reverse


def _gather(operation: str, x: Tensor, key: _Advanced) -> Tensor:
    if key.basic is not None:
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
    key = _parse(operation, items, x.shape)
    if key.basic is None and len(key.groups) == 1 and key.at == key.groups[0].axis:
        axis, lengths, places, named = key.groups[0]
        target = _merged(x, axis, lengths)
    else:  # any other key: where each of its elements stands among all elements
        everywhere = Tensor(np.arange(x.size).reshape(x.shape))
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


def _values(operation: str, values: Any, dtype: np.dtype) -> Tensor:
    """What is to be written, in the dtype of where it goes."""
    found = values if isinstance(values, Tensor) else Tensor(np.array(values))
    if _RANKS.get(found.dtype.kind, 9) > _RANKS[dtype.kind]:
        raise DTypeError(f"{operation}: values has dtype {found.dtype}, which {dtype} can't hold")
    return found.astype(dtype)


_RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
