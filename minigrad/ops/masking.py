"""Dropout: a random mask as a linear map of its input, drawn again rather than kept for the gradient."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu, philox_cpu
from minigrad.devices.philox_reference import words
from minigrad.errors import ArgumentError, DTypeError
from minigrad.ops.generator import Generator, begin, require_start
from minigrad.ops.noise import number
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, as_tensor

dropout_p = Primitive("mg::dropout")


def dropout(x: Any, rate: float, generator: Generator | None = None) -> Tensor:
    """Each element of x set to 0 with probability `rate`, or else divided by ``1 - rate``, so that the mean stays.

    The mask is drawn from the generator, and drawn again from the same numbers for the gradient: nothing of x's size
    is kept. A dropped element is 0 whatever it was, NaN included. With rate 0 nothing is drawn and x is returned.

    Args:
        x: a tensor of floats, of any shape.
        rate: the probability of 0, in [0, 1); resolved to 2⁻³².
        generator: `minigrad.random.default_generator` if None.

    Raises:
        ArgumentError: if the rate is not in [0, 1).
        DTypeError: if x holds no floats.

    Source: Srivastava et al. (2014), Dropout: a simple way to prevent neural networks from overfitting.

    Example:
        >>> import minigrad as mg
        >>> mg.dropout(mg.tensor([1.0, 2.0, 3.0, 4.0]), 0.5, mg.random.Generator(seed=2))
        tensor([0., 0., 6., 0.], dtype=float32)
    """
    x, rate = as_tensor(x), number("dropout", "rate", rate)
    start = begin(dropout_p, generator, 1, Abstract(x._data.shape, x._data.dtype), rate=rate)
    return dropout_p(x, start.to(x.device), rate=rate) if rate else x


@dropout_p.infer
def _(x, start, *, rate):
    require_start("dropout", start)
    dtypes.require_floating("dropout", "x", x.dtype)
    if not 0 <= rate < 1:
        raise ArgumentError(f"dropout: rate is {rate}, expected a probability in [0, 1)")
    return x


@lru_cache(maxsize=256)
def _keeping(rate: float, dtype: np.dtype) -> tuple[Any, Any]:
    """The word from which an element is kept, and what it is then multiplied by."""
    return np.uint64(min(round(rate * 2**32), 2**32 - 1)), dtypes.real(dtype).type(1 / (1 - rate))


def _dropout_reference(x, start, *, rate):
    threshold, scale = _keeping(rate, x.dtype)
    kept = words(start, x.size).reshape(x.shape) >= threshold
    return np.where(kept, x * scale, np.zeros((), x.dtype))


dropout_p.kernel("reference")(_dropout_reference)


@dropout_p.kernel("cpu")
def _(out, x, start, *, rate):
    if not dtypes.has_kernels(x.dtype):
        out[...] = _dropout_reference(x, start, rate=rate)
        return
    chunks = cpu.chunks_of(x.size)
    x = cpu.contiguous(x).reshape(-1)
    philox_cpu.dropout(chunks, 2 * x.size, chunks, out.reshape(-1), x, start, *_keeping(rate, x.dtype))


@dropout_p.vjp(saves=("start",))
def _(ct, saved, needs, *, rate):
    return dropout_p(ct, saved.start, rate=rate), None


@dropout_p.jvp
def _(tangents, primals, outputs, *, rate):
    return None if tangents[0] is None else dropout_p(tangents[0], primals[1], rate=rate)


_SAMPLE_START = np.array([0x0123456789ABCDEF, 2**32 - 2], np.uint64)


@dropout_p.samples
def _(rng):
    for shape in [(2, 3), (), (0, 3), (1,), (5,), (3, 1, 7)]:
        yield Sample((rng.standard_normal(shape), _SAMPLE_START), {"rate": 0.4})
    yield Sample((rng.standard_normal((5, 4)).T[::-1], _SAMPLE_START), {"rate": 0.5}, note="strided")
    yield Sample((1e6 + rng.standard_normal((3, 5)), _SAMPLE_START), {"rate": 0.0})
    for rate in (1.0, -0.1, math.nan):
        bad = (np.ones(2), _SAMPLE_START)
        yield Sample(bad, {"rate": rate}, error=ArgumentError, match=r"expected a probability in \[0, 1\)")
    yield Sample((np.ones(2, np.int64), _SAMPLE_START), {"rate": 0.5}, error=DTypeError, match="x has dtype int64")
