"""Joining and splitting: concatenate, stack, split; and new arrays: zeros, ones, alloc, arange, eye."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, axes
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import Constant, TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor import shaping
from minigrad.dialects.theano.tensor.elementwise import cast
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError


def concatenate(tensor_list: Sequence[Any], axis: int = 0) -> Variable:
    """Tensors of one number of dimensions one after another along an axis.

    Raises:
        ShapeError: if their numbers of dimensions differ.
        ArgumentTypeError: if it is no list of tensors.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.vector("x")
        >>> T.concatenate([x, x * 2]).eval({x: [1.0, 2.0]})
        array([1., 2., 2., 4.])
    """
    if not isinstance(tensor_list, (tuple, list)) or not tensor_list:
        raise ArgumentTypeError(f"concatenate: takes a list of tensors, got {tensor_list!r}")
    variables = [as_variable(v) for v in tensor_list]
    ndims = [v.ndim for v in variables]
    if len(set(ndims)) > 1 or not ndims[0]:
        raise ShapeError(f"concatenate: the tensors have {ndims} dimensions, expected one number of at least 1")
    (axis,) = axes.normalize("concatenate", axis, ndims[0])
    dtype = graph.upcast(*[v.dtype for v in variables])
    flags = [a != axis and builtins.any(v.broadcastable[a] for v in variables) for a in range(ndims[0])]
    return apply("Join", _concatenate, [cast(v, dtype) for v in variables], TensorType(dtype, flags), axis=axis)


def _concatenate(*parts: Tensor, axis: int) -> Tensor:
    return mg.concatenate(parts, axis)


def join(axis: int, *tensors: Any) -> Variable:
    """`concatenate` with the axis first."""
    return concatenate(list(tensors), axis)


def stack(*tensors: Any, axis: int = 0) -> Variable:
    """Tensors of one shape along a new axis: ``stack([x, y])``, or as of old ``stack(x, y)``."""
    if tensors and isinstance(tensors[0], (tuple, list)):
        if len(tensors) == 2:
            axis = tensors[1]
        tensors = tuple(tensors[0])
    if not tensors:
        raise ArgumentTypeError("stack: takes a list of tensors, got none")
    variables = [as_variable(v) for v in tensors]
    ndims = {v.ndim for v in variables}
    if len(ndims) > 1:
        raise ShapeError(f"stack: the tensors have {sorted(ndims)} dimensions, expected one number")
    dtype = graph.upcast(*[v.dtype for v in variables])
    variables = [cast(v, dtype) for v in variables]
    if ndims == {0}:
        axes.normalize("stack", axis, 1)
        host = _host_vector if np.dtype(dtype).kind in "iu" else None
        return apply("MakeVector", _stack, variables, TensorType(dtype, [len(variables) == 1]), host=host)
    return concatenate([shaping.shape_padaxis(v, axis) for v in variables], axis)


def _stack(*parts: Tensor) -> Tensor:
    return mg.stack(parts)


def _host_vector(*items: int) -> tuple[int, ...]:
    return items


def horizontal_stack(*tensors: Any) -> Variable:
    """Matrices side by side."""
    return concatenate(list(tensors), 1)


def vertical_stack(*tensors: Any) -> Variable:
    """Matrices one below another."""
    return concatenate(list(tensors), 0)


def split(x: Any, splits_size: Sequence[int], n_splits: int, axis: int = 0) -> list[Variable]:
    """x cut along an axis into `n_splits` parts of these lengths."""
    x = as_variable(x)
    sizes = shaping.lengths("split", splits_size)
    if len(sizes) != n_splits:
        raise ShapeError(f"split: got {len(sizes)} lengths, expected n_splits = {n_splits}")
    (axis,) = axes.normalize("split", axis, x.ndim)
    parts, start = [], 0
    for size in sizes:
        parts.append(x[(*[slice(None)] * axis, slice(start, start + size))])
        start = start + size
    return parts


# New arrays


def alloc(value: Any, *shape: Any) -> Variable:
    """`value`, broadcast to a shape that may be symbolic.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.matrix("x")
        >>> T.alloc(0.0, x.shape[0], 2).eval({x: [[1.0], [2.0]]})
        array([[0., 0.],
               [0., 0.]], dtype=float32)
    """
    x = as_variable(value)
    given_shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    items = shaping.lengths("alloc", given_shape)
    if len(items) < x.ndim:
        raise ShapeError(f"alloc: the value has {x.ndim} dimensions, the shape only {len(items)}")
    pattern, given = shaping.split_lengths(items)
    type, reads = TensorType(x.dtype, shaping.flags_of(items)), range(1, len(given) + 1)
    return apply("Alloc", _alloc, [x, *given], type, reads=reads, pattern=pattern)


def _alloc(x: Tensor, *given: int, pattern: tuple) -> Tensor:
    return mg.broadcast_to(x, shaping.filled(pattern, given))


def zeros(shape: Any, dtype: Any = None) -> Variable:
    """Zeros of a shape that may be symbolic, floatX by default."""
    return alloc(_number(0, dtype or "floatX"), *shaping.lengths("zeros", shape))


def ones(shape: Any, dtype: Any = None) -> Variable:
    """Ones of a shape that may be symbolic, floatX by default."""
    return alloc(_number(1, dtype or "floatX"), *shaping.lengths("ones", shape))


def zeros_like(model: Any, dtype: Any = None) -> Variable:
    """Zeros in the shape and dtype of `model`."""
    return fill(model, _number(0, dtype or as_variable(model).dtype))


def ones_like(model: Any, dtype: Any = None) -> Variable:
    """Ones in the shape and dtype of `model`."""
    return fill(model, _number(1, dtype or as_variable(model).dtype))


def fill(model: Any, value: Any) -> Variable:
    """`value` in the shape of `model`."""
    model, value = as_variable(model), as_variable(value)
    return apply("Fill", _fill, [shaping.shape(model), value], TensorType(value.dtype, model.broadcastable), reads=[0])


def _fill(shape: tuple[int, ...], value: Tensor) -> Tensor:
    return mg.broadcast_to(value, shape)


def _number(value: int, dtype: Any) -> Constant:
    return Constant(np.array(value, graph.dtype_name(dtype)))


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Variable:
    """``start, start + step, ...`` up to but without `stop`; from 0 if only one number is given.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> y = T.lvector("y")
        >>> T.arange(y.shape[0]).eval({y: [5, 5, 5]})
        array([0, 1, 2])
    """
    if stop is None:
        start, stop = 0, start
    parts = [as_variable(v) for v in (start, stop, step)]
    if builtins.any(v.ndim for v in parts):
        raise ShapeError(f"arange: got {parts}, expected scalars")
    whole = np.dtype(graph.upcast(*[v.dtype for v in parts])).kind in "iu"
    if not whole:
        if not builtins.all(isinstance(v, Constant) for v in parts):
            raise DTypeError("arange: symbolic limits must be integers; scale the result for other steps")
        limits: list[Any] = [v.data for v in parts if isinstance(v, Constant)]
        values = np.arange(*limits)
        return Constant(values.astype(graph.dtype_name(dtype) if dtype is not None else values.dtype))
    dtype = "int64" if dtype is None else graph.dtype_name(dtype)
    return apply("ARange", _arange, parts, TensorType(dtype, [False]), reads=[0, 1, 2], dtype=dtype)


def _arange(start: int, stop: int, step: int, dtype: str) -> Tensor:
    return Tensor(np.arange(start, stop, step, dtype=dtype))


def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = None) -> Variable:
    """A matrix of zeros with ones on the diagonal, or `k` places right of it; the size is a number."""
    return Constant(np.eye(n, m, k, dtype=graph.dtype_name(dtype or "floatX")))
