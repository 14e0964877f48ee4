"""Softmax, its logarithm, and the logarithm of a sum of exponentials, which do not overflow."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from minigrad import axes as axes_of
from minigrad import dtypes, scalar
from minigrad.devices import cpu
from minigrad.elementwise import elementwise
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError
from minigrad.ops import arithmetic, cast, softmax_cpu
from minigrad.ops.reductions_sums import sum_p
from minigrad.primitive import Abstract, Invariance, Primitive, Sample
from minigrad.tensor import Tensor, as_tensor


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x)/Σ exp(x) over an axis, computed as exp(x − max x) so that nothing overflows.

    A −∞ gets 0; a slice of −∞ alone, or with +∞ or NaN in it, is NaN. Integers become float64.

    Args:
        x: any shape with at least one dimension.
        axis: the axis over which results add up to 1.

    Raises:
        ShapeError: if the axis is out of range.
        ArgumentTypeError: if it is no single integer.

    Example:
        >>> import minigrad as mg
        >>> mg.softmax(mg.tensor([[0.0, 0.0], [1000.0, 0.0]]))
        tensor([[0.5, 0.5],
                [1. , 0. ]], dtype=float32)
    """
    return _over_last("softmax", softmax_p, x, axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x − log Σ exp(x) over an axis: softmax's logarithm, exact where softmax is 0 or nearly 1.

    A −∞ stays −∞; else as `softmax`, arguments and errors too.

    Example:
        >>> import minigrad as mg
        >>> mg.log_softmax(mg.tensor([1000.0, 0.0]))
        tensor([    0., -1000.], dtype=float32)
    """
    return _over_last("log_softmax", log_softmax_p, x, axis)


def logsumexp(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """log Σ exp(x) over axes, computed as max x + log Σ exp(x − max x).

    −∞ over no elements and over −∞ alone, where its gradient is 0. Arguments are those of `sum`.

    Raises:
        ShapeError: if an axis is out of range.

    Example:
        >>> import minigrad as mg
        >>> mg.logsumexp(mg.tensor([1000.0, 1000.0]))
        tensor(1000.6932, dtype=float32)
    """
    x = floating("logsumexp", x)
    axes = axes_of.normalize("logsumexp", axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shape = x.shape
    if (*kept, *axes) != tuple(range(x.ndim)):
        x = x.transpose((*kept, *axes))
    if len(axes) != 1:
        x = x.reshape((*[shape[a] for a in kept], prod([shape[a] for a in axes])))
    y = logsumexp_p(x)
    return y.reshape(axes_of.reduced_shape(shape, axes, True)) if keepdims else y


# Arguments


def floating(operation: str, x: Any) -> Tensor:
    """x as a tensor of real floats; integers and booleans become float64.

    Raises:
        DTypeError: for complex numbers, which have no order and so no largest.
    """
    x = as_tensor(x)
    if dtypes.kind(x._data.dtype) == "f":
        return x
    if x._data.dtype.kind == "c":
        raise DTypeError(f"{operation}: x has dtype {x.dtype}, expected a real dtype")
    return cast.astype(x, dtypes.float64)


def last_axis(operation: str, axis: Any, ndim: int) -> tuple[int, ...] | None:
    """The order of axes that moves `axis` behind the others; None if it is there."""
    if isinstance(axis, (tuple, list)) or axis is None:
        raise ArgumentTypeError(f"{operation}: axis is {axis!r}, expected one integer")
    (axis,) = axes_of.normalize(operation, axis, ndim)
    return None if axis == ndim - 1 else (*range(axis), *range(axis + 1, ndim), axis)


def _over_last(operation: str, primitive: Primitive, x: Any, axis: Any) -> Tensor:
    x = floating(operation, x)
    order = None if axis == -1 and x._data.ndim else last_axis(operation, axis, x._data.ndim)
    if order is None:
        return primitive(x)
    at = order[-1]
    return primitive(x.transpose(order)).transpose((*range(at), x.ndim - 1, *range(at, x.ndim - 1)))


# Primitives, over the last axis

softmax_p = Primitive("mg::softmax")
softmax_grad_p = Primitive("mg::softmax_grad")
log_softmax_p = Primitive("mg::log_softmax")
logsumexp_p = Primitive("mg::logsumexp")


def require_rows(operation: str, x: Abstract, argument: str = "x") -> None:
    """Raise unless there is a last axis, of floats."""
    dtypes.require_floating(operation, argument, x.dtype)
    if not x.ndim:
        raise ShapeError(f"{operation}: {argument} has shape (), expected at least one dimension")


def shifted(x: np.ndarray) -> np.ndarray:
    """x less the largest of each row, NumPy's way; for complex steps the largest real part, which is a constant."""
    with np.errstate(invalid="ignore"):
        return x - np.max(x.real, axis=-1, keepdims=True, initial=-np.inf).astype(x.real.dtype)


def last_sum(x: Tensor) -> Tensor:
    """The sum over the last axis, which stays."""
    return sum_p(x, axes=(x._data.ndim - 1,), keepdims=True)


def flat(*arrays: np.ndarray) -> list[np.ndarray]:
    """Contiguous arrays of one dimension."""
    return [cpu.contiguous(a).reshape(-1) for a in arrays]


def row_chunks(shape: tuple[int, ...]) -> int:
    """How many chunks to cut rows of this shape into; an exponential is worth four elements that are only touched."""
    return max(1, min(prod(shape[:-1]), cpu.chunks_of(prod(shape), 1 << 11)))


def _row_samples(rng: np.random.Generator, moved: Callable | None = None) -> Any:
    """Rows; `moved` is what the result becomes where 3 is added to x."""
    kept = (Invariance("a shift of x", lambda x: (x + 3.0,), moved),)
    yield Sample((rng.standard_normal((4, 3)),), invariances=kept)
    for shape in [(2, 3), (5,), (1,), (4, 1), (3, 2, 5), (0, 3), (2, 0), (3, 17)]:
        yield Sample((rng.standard_normal(shape),))
    yield Sample((rng.standard_normal((5, 3)).T,), note="transposed")
    yield Sample((rng.standard_normal((6, 8))[::-2, ::2],), note="strided")
    yield Sample((1e3 + rng.standard_normal((3, 4)),), note="large", differentiable=False)
    with_holes = rng.standard_normal((3, 4))
    with_holes[0, 1] = with_holes[1, 3] = -np.inf
    yield Sample((with_holes,), note="-inf", differentiable=False)
    yield Sample((np.ones(()),), error=ShapeError, match="at least one dimension")


def _row_infer(primitive: Primitive, operation: str) -> None:
    @primitive.infer
    def _(x):
        require_rows(operation, x)
        return Abstract(x.shape, x.dtype)


_row_infer(softmax_p, "softmax")
_row_infer(log_softmax_p, "log_softmax")
softmax_p.samples(_row_samples)
log_softmax_p.samples(_row_samples)
logsumexp_p.samples(lambda rng: _row_samples(rng, lambda out: out + 3.0))


def _fill_rows(kernels: dict[np.dtype, cpu.Kernel], primitive: Primitive, out: np.ndarray, x: np.ndarray) -> None:
    if not dtypes.has_kernels(x.dtype):
        out[...] = primitive.reference(x)[0]
    elif x.size:
        chunks = row_chunks(x.shape)
        kernels[x.dtype](chunks, 4 * x.size, chunks, x.shape[-1], out.reshape(-1), *flat(x))


@softmax_p.kernel("reference")
def _(x):
    e = np.exp(shifted(x))
    return e / np.sum(e, axis=-1, keepdims=True)


@softmax_p.kernel("cpu")
def _(out, x):
    _fill_rows(softmax_cpu.softmax, softmax_p, out, x)


@softmax_p.vjp(saves=("out",))
def _(ct, saved, needs):
    return softmax_grad_p(ct, saved.out)


@softmax_p.jvp
def _(tangents, primals, outputs):
    return softmax_grad_p(tangents[0], outputs[0])


# softmax_grad: y·(ct − Σ ct·y), softmax's derivative, which is symmetric: a rule for cotangents and tangents alike.


@softmax_grad_p.infer
def _(ct, y):
    require_rows("softmax_grad", y, "y")
    dtypes.require_same("softmax_grad", ct=ct.dtype, y=y.dtype)
    if ct.shape != y.shape:
        raise ShapeError(f"softmax_grad: ct has shape {ct.shape}, expected {y.shape} as of y")
    return Abstract(y.shape, y.dtype)


@softmax_grad_p.kernel("reference")
def _(ct, y):
    return y * (ct - np.sum(ct * y, axis=-1, keepdims=True))


@softmax_grad_p.kernel("cpu")
def _(out, ct, y):
    if not dtypes.has_kernels(y.dtype):
        out[...] = softmax_grad_p.reference(ct, y)[0]
    elif y.size:
        chunks = row_chunks(y.shape)
        softmax_cpu.softmax_grad(chunks, y.size, chunks, y.shape[-1], out.reshape(-1), *flat(ct, y))


@softmax_grad_p.vjp(saves=("ct", "y"))
def _(g, saved, needs):
    ct, y = saved.ct, saved.y
    d_y = g * (ct - last_sum(ct * y)) - ct * last_sum(g * y) if needs[1] else None
    return softmax_grad_p(g, y) if needs[0] else None, d_y


@softmax_grad_p.jvp
def _(tangents, primals, outputs):
    (t_ct, t_y), (ct, y) = tangents, primals
    result = None if t_ct is None else softmax_grad_p(t_ct, y)
    if t_y is None:
        return result
    through_y = t_y * (ct - last_sum(ct * y)) - y * last_sum(ct * t_y)
    return through_y if result is None else result + through_y


@softmax_grad_p.samples
def _(rng):
    for shape in [(2, 3), (5,), (4, 1), (3, 2, 5), (0, 3), (2, 0), (3, 17)]:
        yield Sample((rng.standard_normal(shape), rng.random(shape)))
    yield Sample((rng.standard_normal((5, 3)).T, rng.random((6, 10))[::-2, ::2]), note="strided")
    yield Sample((np.ones((2, 3)), np.ones((3, 2))), error=ShapeError, match=r"ct has shape \(2, 3\)")


@log_softmax_p.kernel("reference")
def _(x):
    y = shifted(x)
    with np.errstate(divide="ignore"):
        return y - np.log(np.sum(np.exp(y), axis=-1, keepdims=True))


@log_softmax_p.kernel("cpu")
def _(out, x):
    _fill_rows(softmax_cpu.log_softmax, log_softmax_p, out, x)


@log_softmax_p.vjp(saves=("out",))
def _(ct, saved, needs):
    return ct - arithmetic.exp(saved.out) * last_sum(ct)


@log_softmax_p.jvp
def _(tangents, primals, outputs):
    return tangents[0] - last_sum(arithmetic.exp(outputs[0]) * tangents[0])


@logsumexp_p.infer
def _(x):
    require_rows("logsumexp", x)
    return Abstract(x.shape[:-1], x.dtype)


@logsumexp_p.workspace
def _(x):
    width = max(softmax_cpu.STRETCH, x.shape[-1]) if x.size else 1
    return (Abstract((row_chunks(x.shape), width), x.dtype),)


@logsumexp_p.kernel("reference")
def _(x):
    largest = np.max(x.real, axis=-1, initial=-np.inf).astype(x.real.dtype)
    largest = np.where(np.isinf(largest), 0, largest).astype(largest.dtype)
    with np.errstate(divide="ignore", over="ignore"):
        return largest + np.log(np.sum(np.exp(x - largest[..., None]), axis=-1))


@logsumexp_p.kernel("cpu")
def _(buffers, x):
    out, work = buffers
    if not dtypes.has_kernels(x.dtype):
        out[...] = logsumexp_p.reference(x)[0]
    elif x.size:
        chunks = len(work)
        softmax_cpu.logsumexp[x.dtype](chunks, 4 * x.size, chunks, x.shape[-1], out.reshape(-1), work, *flat(x))
    else:
        out[...] = -np.inf


@elementwise("mg::weight_in_sum")
def _weight(x, total):
    return scalar.select(scalar.eq(total, -np.inf), 0, scalar.exp(x - total))


def _weights(x: Tensor, total: Tensor) -> Tensor:
    """d logsumexp/dx = exp(x − logsumexp), the softmax."""
    return _weight(x, total.reshape((*total.shape, 1)))


@logsumexp_p.vjp(saves=("x", "out"))
def _(ct, saved, needs):
    return ct.reshape((*ct.shape, 1)) * _weights(saved.x, saved.out)


@logsumexp_p.jvp
def _(tangents, primals, outputs):
    return sum_p(_weights(primals[0], outputs[0]) * tangents[0], axes=(primals[0].ndim - 1,), keepdims=False)
