"""Matrix products."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.elementwise import promoted
from minigrad.errors import ShapeError
from minigrad.ops import linalg_cpu
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor

matmul_p = Primitive("mg::matmul")


@matmul_p.infer
def _(x, y, *, tx, ty):
    dtype = dtypes.require_same("matmul", x=x.dtype, y=y.dtype)
    if x.ndim < 2 or y.ndim < 2 or _rows_columns(x.shape, tx)[1] != _rows_columns(y.shape, ty)[0]:
        raise ShapeError(f"matmul: x has shape {x.shape} and y {y.shape}, expected (..., n, k) and (..., k, m)")
    try:
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise ShapeError(f"matmul: the leading axes of x {x.shape} and y {y.shape} do not broadcast") from None
    return Abstract((*batch, _rows_columns(x.shape, tx)[0], _rows_columns(y.shape, ty)[1]), dtype)


def _rows_columns(shape: tuple[int, ...], transposed: bool) -> tuple[int, int]:
    return (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])


@matmul_p.kernel("reference")
def _(x, y, *, tx, ty):
    return np.matmul(x.swapaxes(-1, -2) if tx else x, y.swapaxes(-1, -2) if ty else y)


@matmul_p.kernel("cpu", planned=True)
def _(x, y, *, tx, ty):
    fill = linalg_cpu.products(x, y, tx, ty)
    if fill is not None:
        return fill

    def by_numpy(out: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        x, y = x.swapaxes(-1, -2) if tx else x, y.swapaxes(-1, -2) if ty else y
        if out.ndim == x.ndim == y.ndim == 2:
            np.dot(x, y, out)
        else:
            np.matmul(x, y, out)

    return by_numpy


# With X = op(x) and Y = op(y), where op transposes or not: dX = ct·Yᵀ and dY = Xᵀ·ct, transposed back for dx and dy.


@matmul_p.vjp(saves=("x", "y"))
def _(ct, saved, needs, *, tx, ty):
    x_shape, y_shape = saved.shapes
    dx = dy = None
    if needs[0]:
        dx = matmul_p(saved.y, ct, tx=ty, ty=True) if tx else matmul_p(ct, saved.y, tx=False, ty=not ty)
        dx = dx if dx._data.shape == x_shape else dx.sum_to(x_shape)
    if needs[1]:
        if len(y_shape) == 2 and len(x_shape) > 2 and not (tx or ty):  # the batch is summed over: one product again
            rows = prod(x_shape[:-1])
            dy = matmul_p(saved.x.reshape(rows, x_shape[-1]), ct.reshape(rows, ct.shape[-1]), tx=True, ty=False)
        else:
            dy = matmul_p(ct, saved.x, tx=True, ty=tx) if ty else matmul_p(saved.x, ct, tx=not tx, ty=False)
            dy = dy if dy._data.shape == y_shape else dy.sum_to(y_shape)
    return dx, dy


@matmul_p.jvp
def _(tangents, primals, outputs, *, tx, ty):
    (dx, dy), (x, y) = tangents, primals
    left = None if dx is None else matmul_p(dx, y, tx=tx, ty=ty)
    right = None if dy is None else matmul_p(x, dy, tx=tx, ty=ty)
    return left if right is None else right if left is None else left + right


@matmul_p.samples
def _(rng):
    for x, y in [
        ((2, 3), (3, 5)),
        ((1, 1), (1, 1)),
        ((4, 2, 3), (3, 5)),
        ((2, 3), (4, 3, 5)),
        ((4, 1, 2, 3), (6, 3, 5)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 3)),
        ((4, 2, 0), (0, 3)),
        ((4, 2, 3), (3, 0)),
    ]:
        yield Sample((rng.standard_normal(x), rng.standard_normal(y)), {"tx": False, "ty": False})
    for x, y, tx, ty in [
        ((3, 2), (3, 5), True, False),
        ((2, 3), (5, 3), False, True),
        ((3, 2), (5, 3), True, True),
        ((4, 3, 2), (3, 5), True, False),
        ((4, 2, 3), (5, 3), False, True),
        ((3, 2), (4, 5, 3), True, True),
    ]:
        yield Sample((rng.standard_normal(x), rng.standard_normal(y)), {"tx": tx, "ty": ty})
    plain = {"tx": False, "ty": False}
    yield Sample(
        (np.ones((2, 3)), np.ones((2, 3))), plain, error=ShapeError, match=r"x has shape \(2, 3\) and y \(2, 3\)"
    )
    yield Sample((np.ones((4, 2, 3)), np.ones((5, 3, 2))), plain, error=ShapeError, match="do not broadcast")


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product x @ y over the last two axes; leading axes broadcast, vectors are rows left, columns right.

    Args:
        x: shape (..., n, k), or (k,).
        y: shape (..., k, m), or (k,).

    Returns:
        shape (..., n, m), without the axis of an argument that was a vector.

    Raises:
        ShapeError: if the inner lengths differ, the leading axes do not broadcast, or an argument is a scalar.

    Example:
        >>> import minigrad as mg
        >>> mg.matmul(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([1.0, -1.0]))
        tensor([-1., -1.], dtype=float32)
    """
    if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x._data.dtype is y._data.dtype):
        x, y = promoted("matmul", (x, y))
    if x._data.ndim > 1 and y._data.ndim > 1:
        return matmul_p(x, y, tx=False, ty=False)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"matmul: x has shape {x.shape} and y {y.shape}, expected at least one dimension in each")
    row, column = x.ndim == 1, y.ndim == 1
    result = matmul_p(x.reshape(1, x.size) if row else x, y.reshape(y.size, 1) if column else y, tx=False, ty=False)
    shape = result.shape
    return result.reshape(shape[:-2] if row and column else (*shape[:-2], shape[-1]) if row else shape[:-1])


def dot(x: Any, y: Any) -> Tensor:
    """NumPy's ``dot`` for what it shares with `matmul`: vectors, matrices and scalars (which multiply)."""
    x, y = promoted("dot", (x, y))
    return x * y if x.ndim == 0 or y.ndim == 0 else matmul(x, y)
