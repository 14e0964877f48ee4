"""Keys: what users put in brackets, taken apart by NumPy's rules."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes
from minigrad.errors import DTypeError, IndexRangeError, ShapeError
from minigrad.ops.indexing_places import flatnonzero_p
from minigrad.tensor import Tensor, as_tensor

_ALL = (None, None, None)  # the slice of a whole axis


class Group(NamedTuple):
    """An index tensor and the neighbouring axes, counted after slicing, that it selects from: one, or a mask's."""

    axis: int
    lengths: tuple[int, ...]
    places: Tensor
    named: int  # the axis of x, for messages


class Advanced(NamedTuple):
    """A key with index arrays: what is sliced first (None for nothing), then the arrays, and where their axes go."""

    basic: tuple | None
    groups: list[Group]
    at: int


def plain(operation: str, items: tuple) -> tuple | None:
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


def indices_of(operation: str, item: Any, like: Tensor) -> Tensor:
    """An item of a key as a tensor of integers or booleans, on `like`'s device unless it is a tensor already."""
    if isinstance(item, Tensor):
        found = item
    else:
        try:
            array = np.array(item)
        except ValueError as error:
            raise ShapeError(f"{operation}: index lists are of unequal length ({error})") from error
        empty = array.size == 0 and not isinstance(item, np.ndarray)
        found = as_tensor(np.zeros(array.shape, np.int64) if empty else array, like=like)
    kind = found._data.dtype.kind
    if kind == "b":
        return found
    if kind not in "iu":
        raise DTypeError(f"{operation}: indices have dtype {found._data.dtype}, expected integers or booleans")
    return found if found._data.dtype == dtypes.int64 else found.astype(dtypes.int64)


def integers_of(operation: str, indices: Any, like: Tensor) -> Tensor:
    found = indices_of(operation, indices, like)
    dtypes.require_integer(operation, "indices", found.dtype)
    return found


def parse(operation: str, items: tuple, x: Tensor) -> Advanced:
    """A key with index arrays, for x, taken apart by NumPy's rules."""
    shape = x._data.shape
    entries = [indices_of(operation, i, x) if _is_array(i) else (plain(operation, (i,)) or (None,))[0] for i in items]
    used = sum([_axes_used(e) for e in entries])
    if used > len(shape):
        raise IndexRangeError(f"{operation}: the key has {used} indices for a tensor of shape {shape}")
    wholes = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(wholes) > 1:
        raise IndexRangeError(f"{operation}: the key has more than one Ellipsis")
    if not wholes:
        entries.append(Ellipsis)
    basic: list = []
    groups: list[Group] = []
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
                raise ShapeError(f"{operation}: the mask has shape {entry.shape}, expected {lengths} as of axis {axis}")
            places = flatnonzero_p(entry, count=int(np.count_nonzero(entry.numpy())))
            lengths = lengths or (1,)
        groups.append(Group(sliced, lengths, places, named))
        axis += _axes_used(entry)
        sliced += len(lengths)
    whole = all(item == _ALL for item in basic)
    return Advanced(None if whole else tuple(basic), groups, 0 if apart or first is None else first)


def _axes_used(entry: Any) -> int:
    if isinstance(entry, Tensor):
        return entry._data.ndim if entry._data.dtype.kind == "b" else 1
    return 0 if entry is None or entry is Ellipsis else 1
