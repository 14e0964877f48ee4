"""Reshaping, transposing, broadcasting, joining, splitting, padding and repeating, named as NumPy names them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import axes as axes_of
from minigrad.elementwise import promoted
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.ops import indexing
from minigrad.ops.padding import reflect_p
from minigrad.ops.shaping_copies import concatenate_p, pad_p, repeat_p
from minigrad.ops.shaping_views import (
    axis_of,
    broadcast_to_p,
    flip_p,
    integer,
    matrix_transpose_p,
    reshape_p,
    transpose_p,
)
from minigrad.tensor import Tensor, as_tensor


def reshape(x: Any, shape: Any) -> Tensor:
    """The same elements in another shape, in C order: a view where the memory layout allows it.

    Args:
        x: any shape.
        shape: an integer or several; one may be -1, for what is left.

    Raises:
        ShapeError: if the number of elements differs, or more than one length is -1.

    Example:
        >>> import minigrad as mg
        >>> mg.reshape(mg.tensor([1, 2, 3, 4, 5, 6]), (2, -1))
        tensor([[1, 2, 3],
                [4, 5, 6]], dtype=int64)
    """
    if shape.__class__ is not tuple:
        shape = _lengths("reshape", shape)
    return reshape_p(as_tensor(x), shape=shape)


def ravel(x: Any) -> Tensor:
    """All elements along one axis, in C order: ``reshape(x, -1)``."""
    return reshape_p(as_tensor(x), shape=(-1,))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order, reversed by default. A view.

    Raises:
        ShapeError: if `axes` does not have as many axes as x, or one is out of range.
        ArgumentError: if one stands twice.

    Example:
        >>> import minigrad as mg
        >>> mg.transpose(mg.tensor([[1, 2, 3], [4, 5, 6]]))
        tensor([[1, 4],
                [2, 5],
                [3, 6]], dtype=int64)
        >>> mg.transpose(mg.Variable([[[1.0, 2.0, 3.0]]]), (2, 0, 1)).shape
        (3, 1, 1)
    """
    if axes is not None and axes.__class__ is not tuple:
        axes = _lengths("transpose", axes, "axes")
    return transpose_p(as_tensor(x), axes=axes)


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged: shape (..., n, m) becomes (..., m, n). A view.

    Raises:
        ShapeError: if x has fewer than two dimensions.

    Example:
        >>> import minigrad as mg
        >>> mg.matrix_transpose(mg.tensor([[[1, 2, 3]]])).shape
        (1, 3, 1)
    """
    return matrix_transpose_p(as_tensor(x))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged. A view."""
    x = as_tensor(x)
    one, other = axis_of("swapaxes", axis1, x.ndim, "axis1"), axis_of("swapaxes", axis2, x.ndim, "axis2")
    order = list(range(x.ndim))
    order[one], order[other] = other, one
    return transpose_p(x, axes=tuple(order))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other places, the rest in their order. A view.

    Raises:
        ShapeError: if an axis is out of range.
        ArgumentError: if one stands twice, or there are not as many sources as destinations.

    Example:
        >>> import minigrad as mg
        >>> mg.moveaxis(mg.Variable([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]), 0, -1).shape
        (1, 3, 2)
    """
    x = as_tensor(x)
    pairs = []
    for name, given in (("source", source), ("destination", destination)):
        items = given if isinstance(given, Sequence) else (given,)
        found = [axis_of("moveaxis", axis, x.ndim, name) for axis in items]
        if len(set(found)) < len(found):
            raise ArgumentError(f"moveaxis: {name} {tuple(items)} names an axis twice")
        pairs.append(found)
    if len(pairs[0]) != len(pairs[1]):
        raise ArgumentError(f"moveaxis: source names {len(pairs[0])} axes and destination {len(pairs[1])}")
    order = [axis for axis in range(x.ndim) if axis not in pairs[0]]
    for place, axis in sorted(zip(pairs[1], pairs[0])):
        order.insert(place, axis)
    return transpose_p(x, axes=tuple(order))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """x repeated to another shape by NumPy's broadcasting rules; x itself if it has that shape. A view.

    Raises:
        ShapeError: if x does not broadcast to `shape`.

    Example:
        >>> import minigrad as mg
        >>> mg.broadcast_to(mg.tensor([1.0, 2.0]), (2, 2))
        tensor([[1., 2.],
                [1., 2.]], dtype=float32)
    """
    x = as_tensor(x)
    if shape.__class__ is not tuple:
        shape = _lengths("broadcast_to", shape)
    return x if x._data.shape == shape else broadcast_to_p(x, shape=shape)


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """x without axes of length 1: all of them, or those named. A view.

    Raises:
        ShapeError: if a named axis has another length, or is out of range.
    """
    x = as_tensor(x)
    return reshape_p(x, shape=_squeezed(x._data.shape, _hashable(axis)))


def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """x with new axes of length 1; `axis` says where they stand in the result. A view.

    Example:
        >>> import minigrad as mg
        >>> mg.expand_dims(mg.tensor([1.0, 2.0]), -1)
        tensor([[1.],
                [2.]], dtype=float32)
    """
    x = as_tensor(x)
    return reshape_p(x, shape=_expanded(x._data.shape, _hashable(axis)))


def concatenate(xs: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis that they have; flattened and joined if it is None.

    Args:
        xs: arrays of shapes that differ in the joined axis alone. Their dtypes are promoted.

    Raises:
        ShapeError: if shapes do not fit together, or the axis is out of range.
        ArgumentError: if there are no arrays.

    Example:
        >>> import minigrad as mg
        >>> mg.concatenate([mg.tensor([1.0, 2.0]), mg.tensor([3.0])])
        tensor([1., 2., 3.], dtype=float32)
    """
    tensors = _alike("concatenate", xs)
    if axis is None:
        return concatenate_p(*[ravel(x) for x in tensors], axis=0)
    return concatenate_p(*tensors, axis=integer("concatenate", "axis", axis))


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis; `axis` says where it stands in the result.

    Raises:
        ShapeError: if shapes differ, or the axis is out of range.
        ArgumentError: if there are no arrays.

    Example:
        >>> import minigrad as mg
        >>> mg.stack([mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0])], axis=1)
        tensor([[1., 3.],
                [2., 4.]], dtype=float32)
    """
    tensors = _alike("stack", xs)
    shape = tensors[0].shape
    for i, x in enumerate(tensors):
        if x.shape != shape:
            raise ShapeError(f"stack: array {i} has shape {x.shape}, expected {shape} as of array 0")
    at = axis_of("stack", axis, len(shape) + 1)
    if at == len(shape):
        tensors = [reshape_p(x, shape=(*shape, 1)) for x in tensors]
        return concatenate_p(*tensors, axis=at)
    # Along an axis that is there already the joined elements lie as the new axis has them: one reshape does it.
    return reshape_p(concatenate_p(*tensors, axis=at), shape=(*shape[:at], len(tensors), *shape[at:]))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x cut along an axis: into so many equal parts, or before each of the given places. Views.

    Raises:
        ArgumentError: if the axis can't be cut into equal parts.

    Example:
        >>> import minigrad as mg
        >>> [part.tolist() for part in mg.split(mg.tensor([1, 2, 3, 4, 5]), [1, 3])]
        [[1], [2, 3], [4, 5]]
    """
    x = as_tensor(x)
    axis = axis_of("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(indices_or_sections, (Sequence, np.ndarray, Tensor)):
        places = [integer("split", "indices_or_sections", i) for i in indices_or_sections]
    else:
        sections = integer("split", "indices_or_sections", indices_or_sections)
        if sections < 1 or n % sections:
            raise ArgumentError(f"split: axis {axis} of length {n} can't be cut into {sections} equal parts")
        places = [i * n // sections for i in range(1, sections)]
    before = (slice(None),) * axis
    return [x[(*before, slice(low, high))] for low, high in zip([0, *places], [*places, n])]


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements in reverse order along axes, all of them by default. A view."""
    x = as_tensor(x)
    return flip_p(x, axes=axes_of.normalize("flip", axis, x.ndim))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Tensor:
    """x with elements before and after it along each axis: a constant, or its own in reverse.

    Args:
        x: any shape.
        pad_width: how many: an integer, a pair (before, after), or such a pair for each axis.
        mode: "constant", or "reflect" to mirror x about its first and last elements, which are not repeated.
        constant_values: a number.

    Raises:
        ShapeError: if `pad_width` has not as many pairs as x has axes.
        ArgumentError: for a negative width, another mode, or a reflection of as many elements as the axis has.
        DTypeError: for a constant that x's dtype does not hold.

    Example:
        >>> import minigrad as mg
        >>> mg.pad(mg.tensor([1.0, 2.0]), (1, 2))
        tensor([0., 1., 2., 0., 0.], dtype=float32)
        >>> mg.pad(mg.tensor([1.0, 2.0, 3.0]), (1, 2), "reflect")
        tensor([2., 1., 2., 3., 2., 1.], dtype=float32)
    """
    x = as_tensor(x)
    if mode == "reflect":
        return reflect_p(x, widths=_widths(pad_width, x.shape))
    if mode != "constant":
        raise ArgumentError(f"pad: mode is {mode!r}, expected 'constant' or 'reflect'")
    if not isinstance(constant_values, (int, float, np.number)):
        raise ArgumentTypeError(f"pad: constant_values is {constant_values!r}, expected a number")
    value = constant_values.item() if isinstance(constant_values, np.number) else constant_values
    return pad_p(x, widths=_widths(pad_width, x.shape), value=value)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element several times in a row along an axis; of the flattened x if that is None.

    Args:
        x: any shape.
        repeats: how often: one integer, or one for each element along the axis.

    Raises:
        ShapeError: if `repeats` has not one element, nor as many as the axis.
        ArgumentError: if one is negative.
        DTypeError: if they are no integers.

    Example:
        >>> import minigrad as mg
        >>> mg.repeat(mg.tensor([1.0, 2.0]), 2)
        tensor([1., 1., 2., 2.], dtype=float32)
        >>> mg.repeat(mg.tensor([1.0, 2.0]), [1, 3])
        tensor([1., 2., 2., 2.], dtype=float32)
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("repeat", axis, x.ndim)
    if repeats.__class__ is int:
        return repeat_p(x, repeats=repeats, axis=axis)
    counts, n = np.asarray(repeats), x.shape[axis]
    if counts.dtype.kind not in "iu":
        raise DTypeError(f"repeat: repeats has dtype {counts.dtype}, expected an integer dtype")
    if counts.size == 1 and counts.ndim < 2:
        return repeat_p(x, repeats=int(counts.item()), axis=axis)
    if counts.shape != (n,):
        raise ShapeError(f"repeat: repeats has shape {counts.shape}, expected ({n},) as of axis {axis} of x")
    if counts.min(initial=0) < 0:
        raise ArgumentError(f"repeat: repeats has {counts.min()}, expected at least 0")
    return indexing.take(x, np.repeat(np.arange(n), counts), axis)


def tile(x: Any, reps: int | Sequence[int]) -> Tensor:
    """x laid side by side so many times along each axis; missing axes are added in front, as NumPy does.

    Example:
        >>> import minigrad as mg
        >>> mg.tile(mg.tensor([1.0, 2.0]), (2, 2))
        tensor([[1., 2., 1., 2.],
                [1., 2., 1., 2.]], dtype=float32)
    """
    x = as_tensor(x)
    times = _lengths("tile", reps, "reps")
    if min(times, default=0) < 0:
        raise ArgumentError(f"tile: reps is {times}, expected at least 0")
    ndim = max(x.ndim, len(times))
    times = (1,) * (ndim - len(times)) + times
    shape = (1,) * (ndim - x.ndim) + x.shape
    apart = reshape_p(x, shape=tuple([n for length in shape for n in (1, length)]))
    spread = broadcast_to_p(apart, shape=tuple([n for pair in zip(times, shape) for n in pair]))
    return reshape_p(spread, shape=tuple([t * n for t, n in zip(times, shape)]))


# Arguments


def _lengths(operation: str, shape: Any, argument: str = "shape") -> tuple[int, ...]:
    """A shape, given as an integer or several, as a tuple."""
    if isinstance(shape, (Sequence, np.ndarray)) and not isinstance(shape, str):
        return tuple([integer(operation, argument, n) for n in shape])
    return (integer(operation, argument, shape),)


def _hashable(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


@lru_cache(maxsize=4096)
def _squeezed(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple([n for n in shape if n != 1])
    axes = axes_of.normalize("squeeze", axis, len(shape))
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of x with shape {shape} has length {shape[a]}, expected 1")
    return tuple([n for a, n in enumerate(shape) if a not in axes])


@lru_cache(maxsize=4096)
def _expanded(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    if axis is None:
        raise ArgumentTypeError("expand_dims: axis is None, expected integers")
    added = len(axis) if isinstance(axis, tuple) else 1
    axes = axes_of.normalize("expand_dims", axis, len(shape) + added)
    lengths = iter(shape)
    return tuple([1 if a in axes else next(lengths) for a in range(len(shape) + added)])


def _alike(operation: str, xs: Any) -> list[Tensor]:
    """Tensors of one dtype, at least one of them."""
    if isinstance(xs, (Tensor, np.ndarray)):
        xs = [xs[i] for i in range(len(xs))]
    if not isinstance(xs, Sequence) or isinstance(xs, str):
        raise ArgumentTypeError(f"{operation}: takes a sequence of arrays, got {type(xs).__name__}")
    if not xs:
        raise ArgumentError(f"{operation}: there are no arrays, expected at least one")
    first = xs[0]
    if isinstance(first, Tensor) and all(isinstance(x, Tensor) and x._data.dtype is first._data.dtype for x in xs):
        return list(xs)
    return promoted(operation, xs)


def _widths(pad_width: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """A pair of widths for each axis, from what users pass."""
    given = np.asarray(pad_width)
    if not shape and not given.size:
        return ()
    if given.dtype.kind not in "iu":
        raise ArgumentTypeError(f"pad: pad_width is {pad_width!r}, expected integers")
    if given.ndim == 2 and given.shape[1:] in ((1,), (2,)) and len(given) not in (1, len(shape)):
        raise ShapeError(f"pad: pad_width has {len(given)} pairs, expected {len(shape)} as x has shape {shape}")
    try:
        pairs = np.broadcast_to(given, (len(shape), 2))
    except ValueError:
        raise ShapeError(f"pad: pad_width is {pad_width!r}, expected an integer or pairs of them") from None
    return tuple([(int(before), int(after)) for before, after in pairs])
