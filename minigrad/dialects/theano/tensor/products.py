"""Products of vectors, matrices and stacks of them: dot, outer, tensordot, batched_dot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor.elementwise import cast, mul
from minigrad.errors import ShapeError


def dot(x: Any, y: Any) -> Variable:
    """The matrix product of vectors and matrices; with scalars a multiple, with more dimensions NumPy's ``dot``.

    Raises:
        ShapeError: at the call of the function, if the inner lengths differ.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> x, w = T.matrix("x"), T.vector("w")
        >>> T.dot(x, w).eval({x: [[1.0, 2.0], [3.0, 4.0]], w: [1.0, -1.0]})
        array([-1., -1.])
    """
    x, y = as_variable(x), as_variable(y)
    if x.ndim == 0 or y.ndim == 0:
        return mul(x, y)
    if x.ndim > 2 or y.ndim > 2:
        return tensordot(x, y, [[x.ndim - 1], [max(0, y.ndim - 2)]])
    dtype = graph.upcast(x.dtype, y.dtype)
    flags = [*x.broadcastable[:-1], *(y.broadcastable[1:] if y.ndim == 2 else ())]
    return apply("Dot", _dot, [cast(x, dtype), cast(y, dtype)], TensorType(dtype, flags))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[-1] != y.shape[0]:
        raise ShapeError(f"dot: x has shape {x.shape} and y {y.shape}, expected the last length of x to be y's first")
    return mg.matmul(x, y)


def outer(x: Any, y: Any) -> Variable:
    """The matrix x[i]·y[j] of two vectors; other shapes are flattened."""
    x, y = as_variable(x), as_variable(y)
    return dot(x.flatten().dimshuffle(0, "x"), y.flatten().dimshuffle("x", 0))


def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Variable:
    """The sum of products over the last axes of x and the first of y, or over pairs of axes, as NumPy's ``tensordot``.

    Raises:
        ShapeError: if there are not as many axes of one as of the other; at the call, if their lengths differ.
    """
    x, y = as_variable(x), as_variable(y)
    if isinstance(axes, (int, np.integer)):
        left, right = list(range(x.ndim - int(axes), x.ndim)), list(range(int(axes)))
    else:
        left, right = ([int(a) for a in np.atleast_1d(side)] for side in axes)
    bad = [a for a in left if not -x.ndim <= a < x.ndim] + [a for a in right if not -y.ndim <= a < y.ndim]
    if len(left) != len(right) or bad:
        raise ShapeError(f"tensordot: axes {axes!r} do not fit x with {x.ndim} dimensions and y with {y.ndim}")
    left, right = [a % x.ndim for a in left], [a % y.ndim for a in right]
    dtype = graph.upcast(x.dtype, y.dtype)
    flags = [b for a, b in enumerate(x.broadcastable) if a not in left]
    flags += [b for a, b in enumerate(y.broadcastable) if a not in right]
    inputs, type = [cast(x, dtype), cast(y, dtype)], TensorType(dtype, flags)
    return apply("TensorDot", _tensordot, inputs, type, left=tuple(left), right=tuple(right))


def _tensordot(x: Tensor, y: Tensor, left: tuple[int, ...], right: tuple[int, ...]) -> Tensor:
    rows = [a for a in range(x.ndim) if a not in left]
    columns = [a for a in range(y.ndim) if a not in right]
    inner = tuple([x.shape[a] for a in left])
    if inner != tuple([y.shape[a] for a in right]):
        raise ShapeError(f"tensordot: axes {left} of x with shape {x.shape} differ from {right} of y with {y.shape}")
    count = int(np.prod(inner, dtype=np.int64))
    height, width = tuple([x.shape[a] for a in rows]), tuple([y.shape[a] for a in columns])
    x = mg.transpose(x, (*rows, *left)).reshape(int(np.prod(height, dtype=np.int64)), count)
    y = mg.transpose(y, (*right, *columns)).reshape(count, int(np.prod(width, dtype=np.int64)))
    return mg.matmul(x, y).reshape((*height, *width))


def batched_dot(x: Any, y: Any) -> Variable:
    """For each i of the first dimension the product of x[i] and y[i]."""
    x, y = as_variable(x), as_variable(y)
    if not x.ndim or not y.ndim:
        raise ShapeError("batched_dot: got a scalar, expected a first dimension of batches")
    if x.ndim == 1 or y.ndim == 1:
        scale, other = (x, y) if x.ndim == 1 else (y, x)
        return scale.dimshuffle(0, *["x"] * (other.ndim - 1)) * other
    if x.ndim > 3 or y.ndim > 3:
        raise ShapeError(f"batched_dot: x has {x.ndim} dimensions and y {y.ndim}, expected at most 3")
    dtype = graph.upcast(x.dtype, y.dtype)
    flags = [x.broadcastable[0] and y.broadcastable[0], *x.broadcastable[1:-1], *y.broadcastable[2:]]
    return apply("BatchedDot", _batched_dot, [cast(x, dtype), cast(y, dtype)], TensorType(dtype, flags))


def _batched_dot(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[0] != y.shape[0]:
        raise ShapeError(f"batched_dot: x has shape {x.shape} and y {y.shape}, expected as many batches in both")
    rows = x if x.ndim == 3 else mg.expand_dims(x, 1)
    columns = y if y.ndim == 3 else mg.expand_dims(y, 2)
    result = mg.matmul(rows, columns)
    result = result if x.ndim == 3 else mg.squeeze(result, 1)
    return result if y.ndim == 3 else mg.squeeze(result, -1)
