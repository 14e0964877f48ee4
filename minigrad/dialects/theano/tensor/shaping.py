"""Shapes, and what changes them but no values: reshape, dimshuffle, flatten, repeat, tile."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, axes
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import Constant, TensorType, Variable, apply, as_variable
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError


def shape(x: Any) -> Variable:
    """The lengths of x's dimensions, as a symbolic vector of int64; ``shape(x)[i]`` is one of them."""
    x = as_variable(x)
    return apply("Shape", _shape, [x], TensorType("int64", [x.ndim == 1]), measures=True)


def _shape(x: Tensor) -> tuple[int, ...]:
    return x.shape


def lengths(operation: str, given: Any) -> list[Any]:
    """What was given as a shape, as a list of integers and symbolic integer scalars."""
    if isinstance(given, Variable) and given.ndim == 1:
        owner = given.owner
        if owner is not None and owner.name == "MakeVector":
            return list(owner.inputs)
        if isinstance(given, Constant):
            return given.data.tolist()
        if owner is not None and owner.name == "Shape":
            return [given[i] for i in range(owner.inputs[0].ndim)]
        raise ShapeError(f"{operation}: {given!r} is a vector of unknown length; give its length, as ndim={{...}}")
    items = list(given) if isinstance(given, (tuple, list, np.ndarray)) else [given]
    return [one_length(operation, item) for item in items]


def one_length(operation: str, item: Any) -> Any:
    if isinstance(item, Variable):
        if item.ndim or np.dtype(item.dtype).kind not in "iu":
            raise DTypeError(f"{operation}: the shape has {item!r} of {item.type!r}, expected integer scalars")
        return int(item.data) if isinstance(item, Constant) else item
    try:
        return index(item)
    except TypeError:
        raise ArgumentTypeError(f"{operation}: the shape has {item!r}, expected integers") from None


def flags_of(items: Sequence[Any]) -> list[bool]:
    """Which of these lengths are known to be 1."""
    return [item.__class__ is int and item == 1 for item in items]


def split_lengths(items: Sequence[Any]) -> tuple[tuple[int | None, ...], list[Variable]]:
    """Known lengths, None in the place of symbolic ones, and those."""
    pattern = tuple(None if isinstance(item, Variable) else item for item in items)
    return pattern, [item for item in items if isinstance(item, Variable)]


def filled(pattern: Sequence[int | None], given: Sequence[int]) -> tuple[int, ...]:
    """The pattern with the values of its symbolic lengths."""
    values = iter(given)
    return tuple([next(values) if n is None else n for n in pattern])


def reshape(x: Any, newshape: Any, ndim: int | None = None) -> Variable:
    """x with its elements in another shape, row by row; one length may be -1.

    Args:
        x: any shape.
        newshape: integers and symbolic integers, or a symbolic vector of them.
        ndim: the length of `newshape`, where it is a vector that does not show it.

    Raises:
        ShapeError: at the call of the function, if the number of elements differs; here, if the number of dimensions is
            unknown.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.matrix("x")
        >>> x.reshape((x.shape[0] * x.shape[1],)).eval({x: [[1.0, 2.0]]})
        array([1., 2.])
    """
    x = as_variable(x)
    if ndim is not None and isinstance(newshape, Variable) and newshape.ndim == 1:
        type = TensorType(x.dtype, [False] * ndim)
        return apply("Reshape", _reshape_to, [x, newshape], type, reads=[1])
    items = lengths("reshape", newshape)
    if ndim is not None and ndim != len(items):
        raise ShapeError(f"reshape: ndim is {ndim}, but newshape has {len(items)} items")
    pattern, given = split_lengths(items)
    type = TensorType(x.dtype, flags_of(items))
    return apply("Reshape", _reshape, [x, *given], type, reads=range(1, len(given) + 1), pattern=pattern)


def _reshape(x: Tensor, *given: int, pattern: tuple) -> Tensor:
    return mg.reshape(x, filled(pattern, given) if given else pattern)


def _reshape_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return mg.reshape(x, shape)


def flatten(x: Any, ndim: int | None = None, outdim: int | None = None) -> Variable:
    """x with `ndim` dimensions (1), the last of which is all the others laid flat. `outdim` is its older name."""
    x = as_variable(x)
    ndim = (1 if outdim is None else outdim) if ndim is None else ndim
    if not 1 <= ndim <= builtins.max(1, x.ndim):
        raise ShapeError(f"flatten: ndim is {ndim}, expected 1 to {builtins.max(1, x.ndim)} for {x!r} of {x.type!r}")
    type = TensorType(x.dtype, [*x.broadcastable[: ndim - 1], builtins.all(x.broadcastable[ndim - 1 :])])
    return apply("Flatten", _flatten, [x], type, ndim=ndim)


def _flatten(x: Tensor, ndim: int) -> Tensor:
    kept = x.shape[: ndim - 1]
    last = int(np.prod(x.shape[ndim - 1 :], dtype=np.int64))
    return mg.reshape(x, (*kept, last))


def ravel(x: Any) -> Variable:
    """x as a vector."""
    return flatten(x, 1)


def dimshuffle(x: Any, *pattern: Any) -> Variable:
    """The dimensions in another order: numbers of x's own, and 'x' for new ones of length 1.

    Raises:
        ShapeError: for a number out of range or twice; for a dimension left out that is not known to have length 1.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.vector().dimshuffle("x", 0).broadcastable
        (True, False)
    """
    x = as_variable(x)
    items = list(pattern[0]) if len(pattern) == 1 and isinstance(pattern[0], (tuple, list)) else list(pattern)
    order: list[Any] = []
    for item in items:
        if item == "x":
            order.append("x")
            continue
        axis = one_length("dimshuffle", item)
        if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
            raise ShapeError(f"dimshuffle: {item!r} is no dimension of {x!r}, which has {x.ndim}")
        order.append(axis % x.ndim)
    kept = [a for a in order if a != "x"]
    if len(set(kept)) < len(kept):
        raise ShapeError(f"dimshuffle: {tuple(items)} names a dimension twice")
    for axis in range(x.ndim):
        if axis not in kept and not x.broadcastable[axis]:
            raise ShapeError(f"dimshuffle: {tuple(items)} drops dimension {axis} of {x!r}, which may be longer than 1")
    flags = [True if a == "x" else x.broadcastable[a] for a in order]
    if order == list(range(x.ndim)):
        return x
    return apply("DimShuffle", _dimshuffle, [x], TensorType(x.dtype, flags), order=tuple(order))


def _dimshuffle(x: Tensor, order: tuple) -> Tensor:
    kept = [a for a in order if a != "x"]
    dropped = [a for a in range(x.ndim) if a not in kept]
    for a in dropped:
        if x.shape[a] != 1:
            raise ShapeError(f"dimshuffle: {order} drops dimension {a}, which has length {x.shape[a]}")
    if dropped or kept != list(range(x.ndim)):
        x = mg.transpose(x, (*kept, *dropped))
    lengths = iter(x.shape)
    return mg.reshape(x, tuple([1 if a == "x" else next(lengths) for a in order]))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Variable:
    """The dimensions in another order, reversed by default."""
    x = as_variable(x)
    return dimshuffle(x, *(reversed(range(x.ndim)) if axes is None else axes))


def swapaxes(x: Any, axis1: int, axis2: int) -> Variable:
    """x with two dimensions exchanged."""
    x = as_variable(x)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return dimshuffle(x, *order)


def with_ndim(x: Variable, ndim: int) -> Variable:
    """x with broadcastable dimensions added, or dropped, in front."""
    if x.ndim <= ndim:
        return dimshuffle(x, *["x"] * (ndim - x.ndim), *range(x.ndim))
    return dimshuffle(x, *range(x.ndim - ndim, x.ndim))


def shape_padleft(x: Any, n_ones: int = 1) -> Variable:
    """x with dimensions of length 1 in front."""
    x = as_variable(x)
    return dimshuffle(x, *["x"] * n_ones, *range(x.ndim))


def shape_padright(x: Any, n_ones: int = 1) -> Variable:
    """x with dimensions of length 1 at the end."""
    x = as_variable(x)
    return dimshuffle(x, *range(x.ndim), *["x"] * n_ones)


def shape_padaxis(x: Any, axis: int) -> Variable:
    """x with a dimension of length 1 in this place of the result."""
    x = as_variable(x)
    order: list[Any] = list(range(x.ndim))
    (axis,) = axes.normalize("shape_padaxis", axis, x.ndim + 1)
    order.insert(axis, "x")
    return dimshuffle(x, *order)


def squeeze(x: Any, axis: Any = None) -> Variable:
    """x without the dimensions that are known to have length 1, or without those of `axis`."""
    x = as_variable(x)
    if axis is None:
        return dimshuffle(x, *[a for a, flag in enumerate(x.broadcastable) if not flag])
    dropped = axes.normalize("squeeze", axis, x.ndim)
    return dimshuffle(addbroadcast(x, *dropped), *[a for a in range(x.ndim) if a not in dropped])


def patternbroadcast(x: Any, broadcastable: Sequence[bool]) -> Variable:
    """x with other dimensions declared to have length 1, which is checked when the function is called."""
    x = as_variable(x)
    type = TensorType(x.dtype, broadcastable)
    if type.ndim != x.ndim:
        raise ShapeError(f"patternbroadcast: got {type.ndim} flags for {x!r}, which has {x.ndim} dimensions")
    return x if type == x.type else apply("Rebroadcast", _ones_at, [x], type, flags=type.broadcastable)


def addbroadcast(x: Any, *axis: int) -> Variable:
    """x with these dimensions declared to have length 1."""
    x = as_variable(x)
    return patternbroadcast(x, [flag or a in axis for a, flag in enumerate(x.broadcastable)])


def unbroadcast(x: Any, *axis: int) -> Variable:
    """x with these dimensions no longer known to have length 1."""
    x = as_variable(x)
    return patternbroadcast(x, [flag and a not in axis for a, flag in enumerate(x.broadcastable)])


def _ones_at(x: Tensor, flags: tuple[bool, ...]) -> Tensor:
    for axis, flag in enumerate(flags):
        if flag and x.shape[axis] != 1:
            raise ShapeError(f"patternbroadcast: dimension {axis} has length {x.shape[axis]}, expected 1")
    return mg.reshape(x, x.shape)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Variable:
    """Each element several times in a row along an axis; of the flattened x if that is None.

    Args:
        x: any shape.
        repeats: an integer or a vector with one for each element; may be symbolic.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.repeat(T.as_tensor_variable([1.0, 2.0]), 2).eval()
        array([1., 1., 2., 2.])
    """
    x, times = as_variable(x), as_variable(repeats)
    graph.require_numeric("repeat", times)
    if np.dtype(times.dtype).kind not in "iu" or times.ndim > 1:
        raise DTypeError(f"repeat: repeats is {times!r} of {times.type!r}, expected an integer, or a vector of them")
    if axis is not None:
        (axis,) = axes.normalize("repeat", axis, x.ndim)
    flags = [False] if axis is None else [flag and a != axis for a, flag in enumerate(x.broadcastable)]
    type = TensorType(x.dtype, flags)
    return apply("Repeat", _repeat, [x, times], type, reads=[1], axis=axis)


def _repeat(x: Tensor, times: Any, axis: int | None) -> Tensor:
    return mg.repeat(x, list(times) if isinstance(times, tuple) else times, axis)


def tile(x: Any, reps: Any, ndim: int | None = None) -> Variable:
    """x laid side by side so many times along each axis; missing axes are added in front."""
    x = as_variable(x)
    items = lengths("tile", reps)
    if ndim is not None and ndim > len(items):
        items = [1] * (ndim - len(items)) + items
    flags = [False] * builtins.max(x.ndim, len(items))
    pattern, given = split_lengths(items)
    type, reads = TensorType(x.dtype, flags), range(1, len(given) + 1)
    return apply("Tile", _tile, [x, *given], type, reads=reads, pattern=pattern)


def _tile(x: Tensor, *given: int, pattern: tuple) -> Tensor:
    return mg.tile(x, filled(pattern, given))


def roll(x: Any, shift: int, axis: int | None = None) -> Variable:
    """x moved along an axis by `shift` places; what leaves at one end comes back at the other."""
    x = as_variable(x)
    if axis is not None:
        (axis,) = axes.normalize("roll", axis, x.ndim)
    return apply("Roll", _roll, [x, as_variable(shift)], x.type, reads=[1], axis=axis)


def _roll(x: Tensor, shift: int, axis: int | None) -> Tensor:
    if axis is None:
        return _roll(mg.ravel(x), shift, 0).reshape(x.shape)
    if not x.shape[axis]:
        return x.reshape(x.shape)
    cut = -shift % x.shape[axis]
    whole = (slice(None),) * axis
    return mg.concatenate([x[(*whole, slice(cut, None))], x[(*whole, slice(0, cut))]], axis)
