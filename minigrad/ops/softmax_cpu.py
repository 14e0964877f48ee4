"""CPU kernels of softmax, its logarithms and cross-entropies, over rows of n of contiguous arrays.

A chunk works on a few rows at a time: so many that exponentials run over a long stretch however short the rows are,
and so few that they stay in the first-level cache between its steps. Sums are carried in float64.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math import exp_f32, exp_f64, log_f64
from minigrad.dtypes import float32, float64
from minigrad.ops.reductions_operations import MAX, SUM

STRETCH = 2048  # elements that a chunk works on at a time

_total, _largest = SUM.run, MAX.run
exp = exp_f64  # what `_for_floats` binds anew for each dtype


@cpu.jit
def exp_shifted(e, x, n):
    """e = exp(x − the largest of its row)"""
    for row in range(x.size // n):
        a, o = x[row * n : (row + 1) * n], e[row * n : (row + 1) * n]
        shift = _largest(a)
        for j in range(n):
            o[j] = a[j] - shift
    for j in range(x.size):
        e[j] = exp(e[j])


def _for_floats(body: Callable) -> dict[np.dtype, cpu.Kernel]:
    """Kernels of a body for float32 and float64, with the functions of each dtype."""

    def bound(function: Callable, **scope: object) -> types.FunctionType:
        return types.FunctionType(function.__code__, {**function.__globals__, **scope}, function.__name__)

    kernels = {}
    for dtype, exp_of in ((float32, exp_f32), (float64, exp_f64)):
        shifted = cpu.jit(bound(exp_shifted.python, exp=exp_of))
        kernels[dtype] = cpu.chunked(bound(body, exp_shifted=shifted))
    return kernels


@cpu.jit
def _scale(x, by):
    for i in range(x.size):
        x[i] = x[i] * by


@cpu.jit
def _one_or_nan(x):
    found = 1.0
    for i in range(x.size):
        found = found if x[i] == x[i] else np.nan
    return found


@cpu.jit(exact=True)
def _log_probability(x, shift, log_total):
    """(x − shift) − log_total in this order: in another, near logits would lose in rounding what they differ in."""
    return (np.float64(x) - np.float64(shift)) - log_total


@cpu.jit(exact=True)
def _loss(x, shift, log_total):
    """−log probability; as a function of its own, because a minus sign outside would undo the order."""
    return log_total - (np.float64(x) - np.float64(shift))


@_for_floats
def softmax(chunk, chunks, n, out, x):
    rows = x.size // n
    last = (chunk + 1) * rows // chunks
    step = max(1, STRETCH // n)
    for first in range(chunk * rows // chunks, last, step):
        end = min(first + step, last)
        exp_shifted(out[first * n : end * n], x[first * n : end * n], n)
        for row in range(first, end):
            o = out[row * n : (row + 1) * n]
            _scale(o, 1.0 / _total(o))


@_for_floats
def log_softmax(chunk, chunks, n, out, x):
    rows = x.size // n
    last = (chunk + 1) * rows // chunks
    step = max(1, STRETCH // n)
    for first in range(chunk * rows // chunks, last, step):
        end = min(first + step, last)
        exp_shifted(out[first * n : end * n], x[first * n : end * n], n)
        for row in range(first, end):
            a, o = x[row * n : (row + 1) * n], out[row * n : (row + 1) * n]
            shift, log_total = _largest(a), log_f64(_total(o))
            for j in range(n):
                o[j] = _log_probability(a[j], shift, log_total)


@_for_floats
def logsumexp(chunk, chunks, n, out, work, x):
    rows = out.size
    last = (chunk + 1) * rows // chunks
    step = max(1, STRETCH // n)
    for first in range(chunk * rows // chunks, last, step):
        end = min(first + step, last)
        e = work[chunk, : (end - first) * n]
        exp_shifted(e, x[first * n : end * n], n)
        for row in range(first, end):
            a = x[row * n : (row + 1) * n]
            shift = np.float64(_largest(a))
            if abs(shift) == np.inf:  # inf − inf would be NaN; the result is infinite unless there was a NaN
                out[row] = shift * _one_or_nan(a)
            else:
                out[row] = shift + log_f64(_total(e[(row - first) * n : (row + 1 - first) * n]))


@_for_floats
def cross_entropy(chunk, chunks, n, loss, probabilities, bad, x, labels):
    rows = labels.size
    last = (chunk + 1) * rows // chunks
    step = max(1, STRETCH // n)
    bad[chunk] = -1  # the first row whose label is none
    for first in range(chunk * rows // chunks, last, step):
        end = min(first + step, last)
        exp_shifted(probabilities[first * n : end * n], x[first * n : end * n], n)
        for row in range(first, end):
            a, p, label = x[row * n : (row + 1) * n], probabilities[row * n : (row + 1) * n], labels[row]
            if label < 0 or label >= n:
                bad[chunk] = row if bad[chunk] < 0 else bad[chunk]
                continue
            total = _total(p)
            loss[row] = _loss(a[label], _largest(a), log_f64(total))
            _scale(p, 1.0 / total)


@_for_floats
def soft_cross_entropy(chunk, chunks, n, loss, probabilities, x, targets):
    rows = loss.size
    last = (chunk + 1) * rows // chunks
    step = max(1, STRETCH // n)
    for first in range(chunk * rows // chunks, last, step):
        end = min(first + step, last)
        exp_shifted(probabilities[first * n : end * n], x[first * n : end * n], n)
        for row in range(first, end):
            a, p = x[row * n : (row + 1) * n], probabilities[row * n : (row + 1) * n]
            t = targets[row * n : (row + 1) * n]
            total, shift = _total(p), _largest(a)
            log_total, sum_ = log_f64(total), 0.0
            for j in range(n):
                term = t[j] * _loss(a[j], shift, log_total)
                sum_ += 0.0 if t[j] == 0 else term  # 0 · ∞ is 0 here
            loss[row] = sum_
            _scale(p, 1.0 / total)


@cpu.chunked
def softmax_grad(chunk, chunks, n, out, ct, y):
    rows = y.size // n
    for row in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
        o, c, p = out[row * n : (row + 1) * n], ct[row * n : (row + 1) * n], y[row * n : (row + 1) * n]
        inner = 0.0
        for j in range(n):
            inner += np.float64(c[j]) * p[j]
        for j in range(n):
            o[j] = p[j] * (c[j] - inner)


@cpu.chunked
def cross_entropy_grad(chunk, chunks, n, out, bad, ct, probabilities, labels):
    rows = labels.size
    bad[chunk] = -1
    for row in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
        o, p, label = out[row * n : (row + 1) * n], probabilities[row * n : (row + 1) * n], labels[row]
        if label < 0 or label >= n:
            bad[chunk] = row if bad[chunk] < 0 else bad[chunk]
            continue
        c = ct[row]
        for j in range(n):
            o[j] = c * p[j]
        o[label] = c * (p[label] - 1)


@cpu.chunked
def soft_cross_entropy_grad(chunk, chunks, n, out, ct, probabilities, targets):
    rows = ct.size
    for row in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
        o, p = out[row * n : (row + 1) * n], probabilities[row * n : (row + 1) * n]
        t = targets[row * n : (row + 1) * n]
        c, mass = ct[row], _total(t)
        for j in range(n):
            o[j] = c * (p[j] * mass - t[j])


# Chunks are rows one behind the other, and so are what they read and write.


def _row_places(chunks: int, args: tuple) -> np.ndarray:
    return cpu.ranges(chunks, args[2].size // args[1], args[1])


softmax_grad.places = _row_places
for _kernel in (*softmax.values(), *log_softmax.values()):
    _kernel.places = _row_places
for _kernel in logsumexp.values():
    _kernel.places = lambda chunks, args: cpu.ranges(chunks, args[2].size, args[1])
