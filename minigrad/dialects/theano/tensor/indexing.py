"""Indexing by numbers, slices, symbolic integers, index tensors and masks; and new tensors with elements changed."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import Constant, TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor.elementwise import cast
from minigrad.errors import ArgumentTypeError, DTypeError, IndexRangeError, ShapeError

# A key's template, which is hashable: an item is ("int", n), ("slice", (start, stop, step)), ("new",), ("rest",) or
# ("given",); a part of a slice is a number, None, or _GIVEN. What is given comes as further inputs, in order.
_GIVEN = "given"


def getitem(x: Any, key: Any) -> Variable:
    """``x[key]``: numbers, slices, None, Ellipsis, and symbolic integers, index tensors and masks in their places.

    Raises:
        IndexRangeError: if the key has more items than x dimensions; at the call, for an index out of range.
        DTypeError: for indices that are neither integers nor booleans.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x, i = T.matrix("x"), T.lscalar("i")
        >>> x[i : i + 1, ::-1].eval({x: [[1.0, 2.0], [3.0, 4.0]], i: 1})
        array([[4., 3.]])
    """
    x = as_variable(x)
    template, given, reads, flags = _parsed(x, key if isinstance(key, tuple) else (key,))
    reads = [i + 1 for i in reads]
    whole = x.ndim == 1 and len(template) == 1 and template[0][0] in ("int", "slice", _GIVEN)
    host = _host if whole and np.dtype(x.dtype).kind in "iu" and len(reads) == len(given) else None
    return apply("Subtensor", _getitem, [x, *given], TensorType(x.dtype, flags), reads=reads, host=host, key=template)


def take(x: Any, indices: Any, axis: int | None = None) -> Variable:
    """Entries along an axis, or of the flattened x."""
    x = as_variable(x)
    if axis is None:
        return getitem(x.flatten(), indices)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"take: axis {axis} is out of range for {x.ndim} dimensions")
    return getitem(x, (*[slice(None)] * (axis % x.ndim), indices))


def set_subtensor(x: Variable, y: Any) -> Variable:
    """The tensor of which `x` is an indexed part, with that part replaced by `y`: ``set_subtensor(a[i], y)``.

    Raises:
        ArgumentTypeError: if `x` is not the result of indexing.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> a = T.vector("a")
        >>> T.set_subtensor(a[1:], 0).eval({a: [1.0, 2.0, 3.0]})
        array([1., 0., 0.])
    """
    return _changed("set_subtensor", "SetSubtensor", _set, x, y)


def inc_subtensor(x: Variable, y: Any) -> Variable:
    """The tensor of which `x` is an indexed part, with `y` added to that part; repeated indices add repeatedly."""
    return _changed("inc_subtensor", "IncSubtensor", _add, x, y)


def _changed(operation: str, name: str, run: Callable, x: Any, y: Any) -> Variable:
    owner = x.owner if isinstance(x, Variable) else None
    if owner is None or owner.name != "Subtensor":
        raise ArgumentTypeError(f"{operation}: got {x!r}, expected the result of indexing, such as a[1:]")
    whole, *given = owner.inputs
    y = as_variable(y)
    if graph.upcast(whole.dtype, y.dtype) != whole.dtype and not isinstance(y, Constant):
        raise DTypeError(f"{operation}: the values have dtype {y.dtype}, which {whole.dtype} does not hold")
    if y.ndim > x.ndim:
        raise ShapeError(f"{operation}: the values have {y.ndim} dimensions, expected at most {x.ndim}")
    reads = [i + 1 for i in owner.operation.reads]
    (pair,) = owner.operation.params
    return apply(name, run, [whole, cast(y, whole.dtype), *given], whole.type, reads=reads, key=pair[1])


def nonzero(x: Any, return_matrix: bool = False) -> Any:
    """The indices of the elements that are not 0: a vector for each dimension of x, or a matrix of those."""
    x = as_variable(x)
    if not x.ndim:
        raise ShapeError("nonzero: got a scalar, expected at least one dimension")
    places = apply("Nonzero", _nonzero, [x], TensorType("int64", [False, False]))
    return places if return_matrix else tuple(places[i] for i in range(x.ndim))


def _nonzero(x: Tensor) -> Tensor:
    return Tensor(np.array(np.nonzero(x.numpy()), np.int64))


def _getitem(x: Tensor, *given: Any, key: tuple) -> Tensor:
    return mg.getitem(x, _key(key, given))


def _set(x: Tensor, y: Tensor, *given: Any, key: tuple) -> Tensor:
    return mg.at_set(x, _key(key, given), y)


def _add(x: Tensor, y: Tensor, *given: Any, key: tuple) -> Tensor:
    return mg.at_add(x, _key(key, given), y)


def _host(x: tuple[int, ...], *given: int, key: tuple) -> Any:
    (place,) = _key(key, given)
    try:
        return x[place]
    except IndexError:
        raise IndexRangeError(f"getitem: index {place} is out of range for a vector of length {len(x)}") from None


def _key(template: tuple, given: tuple) -> tuple:
    values = iter(given)
    key: list[Any] = []
    for kind, *rest in template:
        if kind == "slice":
            key.append(slice(*[next(values) if end is _GIVEN else end for end in rest[0]]))
        else:
            key.append(next(values) if kind == _GIVEN else {"int": rest and rest[0], "new": None, "rest": ...}[kind])
    return tuple(key)


def _parsed(x: Variable, items: tuple) -> tuple[tuple, list[Variable], list[int], list[bool]]:
    """A key's template, what is given to it, which of that is read as integers, and which dimensions result."""
    items = tuple([_entry(item) for item in items])
    used = sum([_used(item) for item in items])
    if used > x.ndim:
        raise IndexRangeError(f"getitem: the key has {used} indices for {x!r} with {x.ndim} dimensions")
    if sum([item is Ellipsis for item in items]) > 1:
        raise IndexRangeError("getitem: the key has more than one Ellipsis")
    template: list[tuple] = []
    given: list[Variable] = []
    reads: list[int] = []
    flags: list[bool] = []
    arrays: list[Variable] = []
    axis = 0
    for item in items:
        if item is None:
            template.append(("new",))
            flags.append(True)
        elif item is Ellipsis:
            template.append(("rest",))
            flags.extend(x.broadcastable[axis : axis + x.ndim - used])
            axis += x.ndim - used
        elif isinstance(item, slice):
            ends = [_end(end) for end in (item.start, item.stop, item.step)]
            reads += range(len(given), len(given) + sum([isinstance(end, Variable) for end in ends]))
            given += [end for end in ends if isinstance(end, Variable)]
            template.append(("slice", tuple([_GIVEN if isinstance(end, Variable) else end for end in ends])))
            flags.append(x.broadcastable[axis] and ends == [None, None, None])
        elif isinstance(item, Variable):
            template.append((_GIVEN,))
            if item.ndim:
                arrays.append(item)
            else:
                reads.append(len(given))
            given.append(item)
        else:
            template.append(("int", item))
        axis += _used(item)
    flags += x.broadcastable[axis:]
    if arrays:  # where their dimensions go depends on the rest of the key: nothing is said of lengths
        ndim = max([1 if v.dtype == "bool" else v.ndim for v in arrays])
        flags = [False] * (len(flags) + ndim)
    return tuple(template), given, reads, flags


def _entry(item: Any) -> Any:
    """An item of a key as an int, slice, None, Ellipsis or variable."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, (list, tuple, np.ndarray, bool, np.bool_)):
        array = np.asarray(item) if not isinstance(item, (list, tuple)) else None
        item = Constant(array) if array is not None and array.ndim else as_variable(item)
        if isinstance(item, Constant) and item.data.size == 0:
            item = Constant(item.data.astype(np.int64))
    if isinstance(item, Variable):
        kind = np.dtype(item.dtype).kind
        if kind not in "iub" or (kind == "b" and not item.ndim):
            raise DTypeError(f"getitem: the key has {item!r} of {item.type!r}, expected integers or masks")
        if isinstance(item, Constant) and not item.ndim:
            return int(item.data)
        return item
    try:
        return index(item)
    except TypeError:
        raise DTypeError(f"getitem: the key has {item!r}, expected integers, slices, None, ... or masks") from None


def _end(end: Any) -> Any:
    """A part of a slice as an int, None or integer scalar."""
    if end is None:
        return None
    found = _entry(end)
    if isinstance(found, int) or (isinstance(found, Variable) and not found.ndim):
        return found
    raise DTypeError(f"getitem: the key has a slice with {end!r}, expected an integer scalar")


def _used(item: Any) -> int:
    """How many dimensions of x an item of a key takes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Variable) and item.dtype == "bool" else 1
