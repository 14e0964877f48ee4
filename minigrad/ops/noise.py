"""Random numbers as primitives, each a function of a generator's state.

``start`` holds (key, position). Block b of a draw is Philox 4x32-10 of the counter (position + b, 0), and elements
take the words of the blocks in order. The reference kernels compute the same bits with NumPy, the normal ones to a
few ulp.
"""

from __future__ import annotations

import math
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu, philox_cpu
from minigrad.devices.philox_reference import pairs, words
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.ops.generator import require_start
from minigrad.primitive import Abstract, Primitive, Sample

random_bits_p = Primitive("mg::random_bits")
random_uniform_p = Primitive("mg::random_uniform")
random_normal_p = Primitive("mg::random_normal")
random_truncated_normal_p = Primitive("mg::random_truncated_normal")
random_integers_p = Primitive("mg::random_integers")
random_bernoulli_p = Primitive("mg::random_bernoulli")
random_permutation_p = Primitive("mg::random_permutation")

for _primitive in (
    random_bits_p,
    random_uniform_p,
    random_normal_p,
    random_truncated_normal_p,
    random_integers_p,
    random_bernoulli_p,
    random_permutation_p,
):
    _primitive.no_derivative("it depends on a counter, an integer, alone")


def number(operation: str, argument: str, value: Any) -> float:
    """`value` as a float.

    Raises:
        ArgumentTypeError: for a tensor (which a kept tape would freeze), and whatever else is no real number.
    """
    if isinstance(value, (float, int, np.floating, np.integer)):
        return float(value)
    raise ArgumentTypeError(f"{operation}: {argument} is {value!r}, expected a number")


# Bits


@random_bits_p.infer
def _(start, *, shape, dtype):
    require_start("random_bits", start)
    if dtype not in ("uint32", "uint64"):
        raise DTypeError(f"random_bits: dtype is {dtype!r}, expected 'uint32' or 'uint64'")
    return Abstract(_checked_shape("random_bits", shape), np.dtype(dtype))


@random_bits_p.kernel("reference")
def _(start, *, shape, dtype):
    drawn = (words if dtype == "uint32" else pairs)(start, prod(shape))
    return drawn.astype(dtype).reshape(shape)


@random_bits_p.kernel("cpu")
def _(out, start, *, shape, dtype):
    flat = out.reshape(-1).view(np.uint32)
    chunks = cpu.chunks_of(flat.size)
    philox_cpu.bits(chunks, flat.size, chunks, flat, start)


@random_bits_p.samples
def _(rng):
    yield from _samples([{"dtype": "uint32"}, {"dtype": "uint64"}])
    yield Sample((_START,), {"shape": (2,), "dtype": "int64"}, error=DTypeError, match="expected 'uint32' or 'uint64'")


# Uniform: low + (high − low)·u, u = the upper 24 bits of a word for float32, 53 bits of two words for float64. Half
# types' numbers are float32's, rounded.


@random_uniform_p.infer
def _(start, *, shape, low, high, dtype):
    require_start("random_uniform", start)
    spec = Abstract(_checked_shape("random_uniform", shape), _checked_float("random_uniform", dtype))
    minimum, span, _ = _interval(low, high, dtype)
    if not (span > 0 and np.isfinite(span) and np.isfinite(minimum)):
        raise ArgumentError(f"random_uniform: low is {low} and high is {high}, expected finite low < high in {dtype}")
    return spec


@lru_cache(maxsize=1024)
def _interval(low: float, high: float, dtype: str) -> tuple[Any, Any, Any]:
    """low, high − low, and the greatest number of the dtype below high, as numbers that are computed with."""
    given = np.dtype(dtype)
    kind = dtypes.arithmetic(given).type
    with np.errstate(all="ignore"):
        first, last = (dtypes.rounded(np.asarray(end), given) for end in (low, high))
        return kind(first), kind(last) - kind(first), kind(np.nextafter(last, first))


@random_uniform_p.kernel("reference")
def _(start, *, shape, low, high, dtype):
    kind, (minimum, span, below) = _drawn_in(dtype), _interval(low, high, dtype)
    if kind is np.float32:
        u = (words(start, prod(shape)) >> _u(8)).astype(kind) * kind(2.0**-24)
    else:
        u = (pairs(start, prod(shape)) >> _u(11)).astype(kind) * 2.0**-53
    return np.minimum(minimum + span * u, below).reshape(shape)


@random_uniform_p.kernel("cpu")
def _(out, start, *, shape, low, high, dtype):
    fill = philox_cpu.uniform64 if dtype == "float64" else philox_cpu.uniform32
    chunks = cpu.chunks_of(out.size)
    fill(chunks, out.size, chunks, out.reshape(-1), start, *_interval(low, high, dtype))


@random_uniform_p.samples
def _(rng):
    params = {"low": -2.0, "high": 3.0, "dtype": "float32"}
    yield from _samples([params, {**params, "dtype": "float64"}])
    for low, high in [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0), (0.0, 1e-60)]:
        bad = {**params, "shape": (2,), "low": low, "high": high}
        yield Sample((_START,), bad, error=ArgumentError, match="expected finite low < high")
    yield Sample((_START,), {**params, "shape": (2,), "dtype": "int64"}, error=DTypeError, match="dtype is 'int64'")


# Normal: mean + std·z by pairs, z = √(−2 log u)·(cos 2πt, sin 2πt). For float32 u is the upper 31 bits of a word and
# 2⁻³² more, t a word; for float64 u is the upper 53 bits of two words and 2⁻⁵³ more, t two words.


@random_normal_p.infer
def _(start, *, shape, mean, std, dtype):
    require_start("random_normal", start)
    _check_mean_and_std("random_normal", mean, std)
    return Abstract(_checked_shape("random_normal", shape), _checked_float("random_normal", dtype))


@random_normal_p.kernel("reference")
def _(start, *, shape, mean, std, dtype):
    size, kind = prod(shape), _drawn_in(dtype)
    if kind is np.float32:
        drawn = words(start, size + size % 2).reshape(-1, 2)
        u = (drawn[:, 0] >> _u(1)).astype(kind) * kind(2.0**-31) + kind(2.0**-32)
        turn = drawn[:, 1] << _u(32)
    else:
        drawn = pairs(start, size + size % 2).reshape(-1, 2)
        u = ((drawn[:, 0] >> _u(11)) + _u(1)).astype(np.float64) * 2.0**-53
        turn = drawn[:, 1]
    r = np.sqrt(-2 * np.log(u.astype(np.float64)))
    quarter = ((turn >> _u(61)) + _u(1)) >> _u(1)
    angle = (turn - (quarter << _u(62))).view(np.int64).astype(np.float64) * (math.pi * 2.0**-63)
    sine, cosine, quarter = np.sin(angle), np.cos(angle), (quarter % _u(4)).astype(np.int64)
    z = np.empty((r.size, 2), kind)
    z[:, 0] = r * np.choose(quarter, [cosine, -sine, -cosine, sine])
    z[:, 1] = r * np.choose(quarter, [sine, cosine, -sine, -cosine])
    return (kind(mean) + kind(std) * z.reshape(-1)[:size]).reshape(shape)


@random_normal_p.kernel("cpu")
def _(out, start, *, shape, mean, std, dtype):
    fill = philox_cpu.normal64 if dtype == "float64" else philox_cpu.normal32
    chunks, kind = cpu.chunks_of(out.size), out.dtype.type
    fill(chunks, 2 * out.size, chunks, out.reshape(-1), start, kind(mean), kind(std))


@random_normal_p.samples
def _(rng):
    params = {"mean": 3.0, "std": 0.5, "dtype": "float32"}
    yield from _samples([params, {**params, "dtype": "float64"}])
    for bad in [{"std": -1.0}, {"std": math.nan}, {"mean": math.inf}]:
        yield Sample((_START,), {**params, "shape": (2,), **bad}, error=ArgumentError, match="expected")
    yield Sample((_START,), {**params, "shape": (2,), "dtype": "bool"}, error=DTypeError, match="dtype is 'bool'")


# Truncated normal: mean + std·Φ⁻¹(Φ(low) + (Φ(high) − Φ(low))·u), u = the upper 52 bits of two words and 2⁻⁵³ more,
# in float64 throughout. Limits that lie rather above 0 are mirrored, since Φ is precise below.


@random_truncated_normal_p.infer
def _(start, *, shape, mean, std, low, high, dtype):
    require_start("random_truncated_normal", start)
    _check_mean_and_std("random_truncated_normal", mean, std)
    if not low < high:
        raise ArgumentError(f"random_truncated_normal: low is {low} and high is {high}, expected low < high")
    if _limits(mean, std, low, high)[1] == 0:
        raise ArgumentError(
            f"random_truncated_normal: nothing of the distribution lies from low = {low} to high = {high}"
        )
    shape = _checked_shape("random_truncated_normal", shape)
    return Abstract(shape, _checked_float("random_truncated_normal", dtype))


@lru_cache(maxsize=1024)
def _limits(mean: float, std: float, low: float, high: float) -> tuple[float, ...]:
    """Φ(low), Φ(high) − Φ(low), mean, std (negative if mirrored), and the least and the greatest result."""
    minimum, maximum = mean + std * low if std else mean, mean + std * high if std else mean
    if low + high > 0:
        low, high, std = -high, -low, -std
    below, above = (math.erfc(-x / math.sqrt(2)) / 2 for x in (low, high))
    return below, above - below, mean, std, minimum, maximum


@random_truncated_normal_p.kernel("reference")
def _(start, *, shape, mean, std, low, high, dtype):
    from statistics import NormalDist  # which imports decimals and fractions

    below, between, mean, std, minimum, maximum = _limits(mean, std, low, high)
    u = (pairs(start, prod(shape)) >> _u(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    z = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(below + between * u)
    return np.clip(mean + std * z, minimum, maximum).astype(_drawn_in(dtype)).reshape(shape)


@random_truncated_normal_p.kernel("cpu")
def _(out, start, *, shape, mean, std, low, high, dtype):
    chunks = cpu.chunks_of(out.size)
    philox_cpu.truncated(chunks, 8 * out.size, chunks, out.reshape(-1), start, *_limits(mean, std, low, high))


@random_truncated_normal_p.samples
def _(rng):
    params = {"mean": 3.0, "std": 0.5, "low": -2.0, "high": 1.0, "dtype": "float32"}
    yield from _samples([params, {**params, "dtype": "float64"}])
    wide = {"mean": 0.0, "std": 1.0, "shape": (1001,), "dtype": "float64"}
    for low, high in [(-math.inf, math.inf), (3.0, math.inf), (-9.0, -8.0)]:
        yield Sample((_START,), {**wide, "low": low, "high": high})
    for low, high in [(1.0, 1.0), (1.0, -1.0), (0.0, math.nan), (50.0, math.inf)]:
        bad = {**wide, "low": low, "high": high}
        yield Sample((_START,), bad, error=ArgumentError, match="expected low < high|nothing of the distribution")
    yield Sample((_START,), {**params, "shape": (2,), "std": -1.0}, error=ArgumentError, match="std is -1.0")


# Integers: low + ⌊(high − low)·u⌋, u = the four words of a block as a fraction of 2¹²⁸; the bias is below 2⁻⁶⁴.


@random_integers_p.infer
def _(start, *, shape, low, high, dtype):
    require_start("random_integers", start)
    kind = dtypes.as_dtype(dtype)
    dtypes.require_integer("random_integers", "dtype", kind)
    if not low < high:
        raise ArgumentError(f"random_integers: low is {low} and high is {high}, expected low < high")
    limits = np.iinfo(kind)
    if low < limits.min or high - 1 > limits.max:
        raise ArgumentError(f"random_integers: {low} to {high} (excluded) is more than {kind} holds")
    return Abstract(_checked_shape("random_integers", shape), kind)


@random_integers_p.kernel("reference")
def _(start, *, shape, low, high, dtype):
    blocks = words(start, 4 * prod(shape)).reshape(-1, 4).astype(object)
    u = blocks[:, 2] + (blocks[:, 3] << 32) + (blocks[:, 0] << 64) + (blocks[:, 1] << 96)
    return (low + (u * (high - low) >> 128)).astype(dtype).reshape(shape)


@random_integers_p.kernel("cpu")
def _(out, start, *, shape, low, high, dtype):
    chunks = cpu.chunks_of(out.size)
    minimum, span = np.uint64(low % 2**64), np.uint64((high - low) % 2**64)
    philox_cpu.integers(chunks, 4 * out.size, chunks, out.reshape(-1), start, minimum, span)


@random_integers_p.samples
def _(rng):
    yield from _samples([{"low": -3, "high": 7, "dtype": "int64"}, {"low": 250, "high": 256, "dtype": "uint8"}])
    for low, high, dtype in [(-(2**63), 2**63, "int64"), (0, 2**64, "uint64"), (-5, 2**62, "int64"), (4, 5, "int32")]:
        yield Sample((_START,), {"shape": (7,), "low": low, "high": high, "dtype": dtype})
    params = {"shape": (2,), "low": 0, "high": 2, "dtype": "int32"}
    yield Sample((_START,), {**params, "high": 0}, error=ArgumentError, match="expected low < high")
    yield Sample((_START,), {**params, "high": 2**31 + 1}, error=ArgumentError, match="more than int32 holds")
    yield Sample((_START,), {**params, "dtype": "float32"}, error=DTypeError, match="expected an integer dtype")


# Bernoulli: True where a word is below p·2³².


@random_bernoulli_p.infer
def _(start, *, shape, p):
    require_start("random_bernoulli", start)
    if not 0 <= p <= 1:
        raise ArgumentError(f"random_bernoulli: p is {p}, expected a probability in [0, 1]")
    return Abstract(_checked_shape("random_bernoulli", shape), dtypes.bool_)


@random_bernoulli_p.kernel("reference")
def _(start, *, shape, p):
    return (words(start, prod(shape)) < _u(round(p * 2**32))).reshape(shape)


@random_bernoulli_p.kernel("cpu")
def _(out, start, *, shape, p):
    chunks = cpu.chunks_of(out.size)
    philox_cpu.bernoulli(chunks, out.size, chunks, out.reshape(-1), start, np.uint64(round(p * 2**32)))


@random_bernoulli_p.samples
def _(rng):
    yield from _samples([{"p": 0.3}, {"p": 0.0}, {"p": 1.0}])
    for p in (-0.1, 1.1, math.nan):
        yield Sample(
            (_START,), {"shape": (2,), "p": p}, error=ArgumentError, match=r"expected a probability in \[0, 1\]"
        )


# Permutation: for i = 0 … n − 1 in turn, element i takes element j's place and j gets i, j = ⌊(i + 1)·u⌋ with u of
# two words.


@random_permutation_p.infer
def _(start, *, n):
    require_start("random_permutation", start)
    return Abstract(_checked_shape("random_permutation", (n,)), dtypes.int64)


@random_permutation_p.kernel("reference")
def _(start, *, n):
    out = np.empty(n, np.int64)
    for i, word in enumerate(pairs(start, n).tolist()):
        j = word * (i + 1) >> 64
        out[i] = out[j]
        out[j] = i
    return out


@random_permutation_p.kernel("cpu")
def _(out, start, *, n):
    philox_cpu.permute(out, start)


@random_permutation_p.samples
def _(rng):
    for n in (0, 1, 2, 7, 1000):
        yield Sample((_START,), {"n": n})
    yield Sample((_START,), {"n": -1}, error=ShapeError, match="expected lengths of 0 or more")


# What the rules share

_u = np.uint64
_START = np.array([0x0123456789ABCDEF, 2**32 - 2], np.uint64)  # a few blocks from the overflow of a counter's word


def _checked_shape(operation: str, shape: Any) -> tuple[int, ...]:
    if any(n < 0 for n in shape):
        raise ShapeError(f"{operation}: shape is {shape}, expected lengths of 0 or more")
    return shape


def _checked_float(operation: str, dtype: str) -> np.dtype:
    kind = dtypes.as_dtype(dtype)
    if not (dtypes.has_kernels(kind) or dtypes.is_half(kind)):
        raise DTypeError(f"{operation}: dtype is {dtype!r}, expected 'float32', 'float64', 'float16' or 'bfloat16'")
    return kind


def _drawn_in(dtype: str) -> Any:
    """The type of numbers that are drawn: those of half types are float32's, rounded."""
    return dtypes.arithmetic(np.dtype(dtype)).type


def _check_mean_and_std(operation: str, mean: float, std: float) -> None:
    if not math.isfinite(mean):
        raise ArgumentError(f"{operation}: mean is {mean}, expected a finite number")
    if not (math.isfinite(std) and std >= 0):
        raise ArgumentError(f"{operation}: std is {std}, expected a finite number of 0 or more")


def _samples(variants: list[dict]) -> Any:
    """Good samples of every kind of shape for each variant of the params, and bad ones of start and shape."""
    for params in variants:
        for shape in [(2, 3), (), (0, 3), (1,), (5,), (3, 1, 7), (1003,)]:
            yield Sample((_START,), {"shape": shape, **params})
    params = variants[0]
    yield Sample((_START,), {"shape": (2, -1), **params}, error=ShapeError, match="expected lengths of 0 or more")
    yield Sample((np.zeros(2),), {"shape": (2,), **params}, error=DTypeError, match="start has dtype float64")
    yield Sample((np.zeros(3, np.uint64),), {"shape": (2,), **params}, error=ShapeError, match=r"expected \(2,\)")
