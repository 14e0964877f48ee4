"""Casts and copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import DTypeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, as_tensor

cast_p = Primitive("mg::cast", analytic=False, moves=True)
copy_p = Primitive("mg::copy", moves=True)  # the same values in memory of their own
identity_p = Primitive("mg::identity", view=True)  # the same values in the same memory, as a tensor of its own


@cast_p.infer
def _(x, *, dtype, source):
    if x.dtype != source:
        raise DTypeError(f"cast: x has dtype {x.dtype}, expected {source} as source says")
    return Abstract(x.shape, dtypes.as_dtype(dtype))


@cast_p.kernel("reference")
def _(x, *, dtype, source):
    with np.errstate(all="ignore"):
        return np.array(dtypes.rounded(x, np.dtype(dtype)))


@cast_p.kernel("cpu")
def _(out, x, *, dtype, source):
    with np.errstate(all="ignore"):
        np.copyto(out, dtypes.rounded(x, out.dtype) if dtypes.is_half(out.dtype) else x, casting="unsafe")


@cast_p.vjp()
def _(ct, saved, needs, *, dtype, source):
    return astype(ct, source)


@cast_p.jvp
def _(tangents, primals, outputs, *, dtype, source):
    return astype(tangents[0], outputs[0].dtype) if dtypes.is_differentiable(outputs[0].dtype) else None


@cast_p.samples
def _(rng):
    for shape in [(2, 3), (), (0, 2)]:
        x = rng.standard_normal(shape)
        yield Sample((x,), {"dtype": "float64", "source": "float64"}, wide=("x",))
        yield Sample((x,), {"dtype": "float32", "source": "float64"}, wide=("x",), differentiable=False)
        yield Sample((x,), {"dtype": "int32", "source": "float64"}, wide=("x",))
    yield Sample(
        (np.ones(2),), {"dtype": "float32", "source": "int64"}, wide=("x",), error=DTypeError, match="x has dtype"
    )
    yield Sample((np.ones(2),), {"dtype": "str", "source": "float64"}, error=DTypeError, match="numbers and booleans")


@copy_p.kernel("reference")
def _(x):
    return x.copy()


@copy_p.kernel("cpu")
def _(out, x):
    np.copyto(out, x)


@identity_p.kernel("reference", "cpu")
def _(x):
    return x.view()


def _same_values(rng: np.random.Generator) -> Iterator[Sample]:
    yield Sample((rng.standard_normal((2, 3)),))
    yield Sample((np.empty((0, 2)),))


for _primitive in (copy_p, identity_p):
    _primitive.infer(lambda x: x)
    _primitive.vjp()(lambda ct, saved, needs: ct)
    _primitive.jvp(lambda tangents, primals, outputs: tangents[0])
    _primitive.samples(_same_values)


def astype(x: Any, dtype: Any) -> Tensor:
    """x in another dtype; x itself if it has that dtype. The gradient is cast back.

    Raises:
        DTypeError: for a dtype that tensors don't have.

    Example:
        >>> import minigrad as mg
        >>> mg.astype(mg.tensor([1.7, -1.7]), "int32")
        tensor([ 1, -1], dtype=int32)
    """
    x = as_tensor(x)
    if dtype is x._data.dtype:
        return x
    target = dtypes.as_dtype(dtype)
    return x if x.dtype == target else cast_p(x, dtype=target.name, source=x.dtype.name)


def copy(x: Any) -> Tensor:
    """The same values in memory of their own, differentiable: what a Variable's value now is, whatever it becomes."""
    return copy_p(as_tensor(x))


def stop_gradient(x: Any) -> Tensor:
    """The same values, constant to every derivative; `Tensor.detach` as a function."""
    return as_tensor(x).detach()
