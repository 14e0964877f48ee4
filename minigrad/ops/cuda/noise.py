"""CUDA kernels of random numbers: a thread for each block of Philox, with the CPU's scalar functions.

Bits, uniform numbers, integers, masks and permutations are the CPU's to the last bit. Normal ones agree to a few ulp:
their logarithms are the devices' own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import Kernel, gpu
from minigrad.devices.cuda.math import times_f32, times_f64
from minigrad.devices.cuda.vector import moves
from minigrad.devices.philox_cpu import _integer, _joined, _normals32, _normals64, _truncated, _words, permute
from minigrad.ops.generator import advance_p
from minigrad.ops.masking import _keeping, dropout_p
from minigrad.ops.noise import (
    _interval,
    _limits,
    random_bernoulli_p,
    random_bits_p,
    random_integers_p,
    random_normal_p,
    random_permutation_p,
    random_truncated_normal_p,
    random_uniform_p,
)


@cache
def _filling(convert: Callable, count: int, params: int, kind: type) -> Kernel:
    """A kernel ``(out, start, *params)``; `convert` makes `count` elements of a block's words and the params."""
    names = "".join([f", p{k}" for k in range(params)])
    lines = [f"        if i + {k} < out.size:\n            out[i + {k}] = kind(values[{k}])\n" for k in range(count)]
    source = f"""def fill(out, start{names}):
    i = gpu.grid(1) * {count}
    if i < out.size:
        w0, w1, w2, w3 = words(start[0], start[1] + U(i // {count}))
        values = convert(w0, w1, w2, w3{names})
{"".join(lines)}"""
    scope = {"gpu": gpu, "words": _words, "convert": cuda.jit(convert), "U": np.uint64, "kind": kind}
    return cuda.kernel(from_source("fill", source, scope))


def _fill(out: Any, start: Any, convert: Callable, count: int, *params: Any) -> None:
    kind: Any = dtypes.arithmetic(out.dtype).type
    made = _filling(convert, count, len(params), kind)
    made(cuda.blocks_of(-(-out.size // count)), cuda.THREADS, out, cuda.contiguous(start), *params)


def _four_words(w0, w1, w2, w3):
    return w0, w1, w2, w3


def _two_pairs(w0, w1, w2, w3):
    return _joined(w0, w1), _joined(w2, w3)


@random_bits_p.kernel("cuda")
def _(out, start, *, shape, dtype):
    _fill(out, start, *((_four_words, 4) if dtype == "uint32" else (_two_pairs, 2)))


# Uniform: the product is rounded before the sum, as on the CPU, and not contracted with it.


@cuda.jit
def _scaled32(word, low, span, below):
    value = low + times_f32(span, np.float32(np.int32(word >> np.uint64(8))) * np.float32(2.0**-24))
    return value if value < below else below


@cuda.jit
def _scaled64(pair, low, span, below):
    value = low + times_f64(span, np.float64(np.int64(pair >> np.uint64(11))) * 2.0**-53)
    return value if value < below else below


def _uniform32(w0, w1, w2, w3, low, span, below):
    return (
        _scaled32(w0, low, span, below),
        _scaled32(w1, low, span, below),
        _scaled32(w2, low, span, below),
        _scaled32(w3, low, span, below),
    )


def _uniform64(w0, w1, w2, w3, low, span, below):
    return _scaled64(_joined(w0, w1), low, span, below), _scaled64(_joined(w2, w3), low, span, below)


@random_uniform_p.kernel("cuda")
def _(out, start, *, shape, low, high, dtype):
    convert = (_uniform64, 2) if dtype == "float64" else (_uniform32, 4)
    _fill(out, start, *convert, *_interval(low, high, dtype))


def _normal32(w0, w1, w2, w3, mean, std):
    a, b = _normals32(w0, w1, mean, std)
    c, d = _normals32(w2, w3, mean, std)
    return a, b, c, d


def _normal64(w0, w1, w2, w3, mean, std):
    return _normals64(_joined(w0, w1), _joined(w2, w3), mean, std)


@random_normal_p.kernel("cuda")
def _(out, start, *, shape, mean, std, dtype):
    kind = dtypes.arithmetic(out.dtype).type
    _fill(out, start, *((_normal64, 2) if dtype == "float64" else (_normal32, 4)), kind(mean), kind(std))


def _truncated_normal(w0, w1, w2, w3, below, between, mean, std, minimum, maximum):
    first = _truncated(_joined(w0, w1), below, between, mean, std, minimum, maximum)
    return first, _truncated(_joined(w2, w3), below, between, mean, std, minimum, maximum)


@random_truncated_normal_p.kernel("cuda")
def _(out, start, *, shape, mean, std, low, high, dtype):
    _fill(out, start, _truncated_normal, 2, *map(float, _limits(mean, std, low, high)))


def _one_integer(w0, w1, w2, w3, minimum, span):
    return (_integer(w0, w1, w2, w3, minimum, span),)


@random_integers_p.kernel("cuda")
def _(out, start, *, shape, low, high, dtype):
    _fill(out, start, _one_integer, 1, np.uint64(low % 2**64), np.uint64((high - low) % 2**64))


def _below(w0, w1, w2, w3, threshold):
    return w0 < threshold, w1 < threshold, w2 < threshold, w3 < threshold


@random_bernoulli_p.kernel("cuda")
def _(out, start, *, shape, p):
    _fill(out, start, _below, 4, np.uint64(round(p * 2**32)))


@cuda.kernel
def _permute(out, start):
    """One thread: each step needs what the one before it left."""
    permute(out, start)


@random_permutation_p.kernel("cuda")
def _(out, start, *, n):
    _permute(1 if n else 0, 1, out, cuda.contiguous(start))


@cuda.jit
def _dropped(x, word, threshold, scale):
    return x * scale if word >= threshold else scale - scale


@cache
def _dropout(aligned: bool) -> Kernel:
    load, store = moves(4, aligned)

    def dropout(out, x, start, threshold, scale):
        i = gpu.grid(1) * 4
        if i < out.size:
            words = _words(start[0], start[1] + np.uint64(i // 4))
            if i + 4 <= out.size:
                four = load(x, i)
                a, b = _dropped(four[0], words[0], threshold, scale), _dropped(four[1], words[1], threshold, scale)
                c, d = _dropped(four[2], words[2], threshold, scale), _dropped(four[3], words[3], threshold, scale)
                store(out, i, (a, b, c, d))
            else:
                for k in range(out.size - i):
                    out[i + k] = _dropped(x[i + k], words[k], threshold, scale)

    return cuda.kernel(dropout)


@dropout_p.kernel("cuda")
def _(out, x, start, *, rate):
    x, start = cuda.contiguous(x), cuda.contiguous(start)
    aligned = (x.pointer | out.pointer) % (4 * x.itemsize) == 0
    numbers = _keeping(rate, dtypes.arithmetic(x.dtype))
    _dropout(aligned)(cuda.blocks_of(-(-x.size // 4)), cuda.THREADS, out, x, start, *numbers)


@cuda.kernel
def _advance(state, blocks):
    state[1] += blocks


@advance_p.kernel("cuda")
def _(out, state, *, blocks):
    _advance(1, 1, out, np.uint64(blocks))
