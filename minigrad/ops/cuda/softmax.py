"""CUDA kernels of softmax and what goes with it: a warp or a block for each row, which it reads twice.

The first reading finds the largest x and the sum of exp(x − largest) at once, from pairs that are combined in a tree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Kernel, faults, gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.faults import report
from minigrad.devices.cuda.warp import WARP, reducer
from minigrad.errors import DTypeError, IndexRangeError
from minigrad.ops.cross_entropy import (
    soft_cross_entropy_grad_p,
    soft_cross_entropy_p,
    softmax_cross_entropy_grad_p,
    softmax_cross_entropy_p,
)
from minigrad.ops.softmax import log_softmax_p, logsumexp_p, softmax_grad_p, softmax_p

_BLOCK = 256  # threads
_LONG = 1024  # elements of a row from which a block is on it, and not a warp


class _Rows:
    """What the kernels for one dtype share: functions of that precision, and reductions over a row's threads."""

    def __init__(self, dtype: np.dtype):
        if not dtypes.has_kernels(dtype):
            raise DTypeError(f"cuda: softmax and cross-entropy take real floats of at most 64 bits, got {dtype}")
        kind: Any = dtype.type
        suffix = "_f32" if dtype == dtypes.float32 else "_f64"
        exp = getattr(cuda_math, f"exp{suffix}")
        infinity, zero, one, nan = kind(np.inf), kind(0), kind(1), kind(np.nan)

        @cuda.jit
        def merge(a, b):
            """(largest, Σ exp(x − largest)) of both. Equal ones, infinite ones too, need no exponential."""
            largest = b[0] if b[0] > a[0] or b[0] != b[0] else a[0]
            first = a[1] if a[0] == largest else a[1] * exp(a[0] - largest)
            second = b[1] if b[0] == largest else b[1] * exp(b[0] - largest)
            return largest, first + second

        @cuda.jit
        def add(a, b):
            return (a[0] + b[0],)

        reduce = reducer(merge, (-np.inf, 0), (kind, kind))
        total = reducer(add, (0,), (kind,))

        @cuda.jit
        def whole(x, row, rows, n):
            """(largest, Σ exp(x − largest)) of a row, in all its threads; the sum is NaN for a largest of +∞."""
            values = (-infinity, zero)
            if row < rows:
                for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                    values = merge(values, (x[row * n + j], one))
            values = reduce(values)
            return values[0], (nan if values[0] == infinity else values[1])

        self.exp, self.log, self.whole, self.total = exp, getattr(cuda_math, f"log{suffix}"), whole, total
        self.zero, self.infinity = zero, infinity


_rows = lru_cache(maxsize=None)(_Rows)


def _over_rows(make: Callable[[_Rows], Callable]) -> Callable[..., None]:
    """What runs, for the dtype of its second array, the kernel ``body(row, rows, n, *arrays)`` that `make` makes."""

    @cache
    def made(dtype: np.dtype) -> Kernel:
        return cuda.kernel(make(_rows(dtype)))

    def run(*arguments: Any, shape: tuple[int, ...]) -> None:
        n, rows = shape[-1], prod(shape[:-1])
        lanes = WARP if n <= _LONG else _BLOCK
        tall = max(1, min(_BLOCK // lanes, rows))
        packed = [cuda.contiguous(a) if isinstance(a, DeviceArray) else a for a in arguments]
        made(dtypes.arithmetic(arguments[1].dtype))(cuda.blocks_of(rows, tall), (lanes, tall), rows, n, *packed)

    return run


@_over_rows
def _softmax(r):
    whole, exp = r.whole, r.exp

    def softmax(rows, n, out, x):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        largest, total = whole(x, row, rows, n)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                out[row * n + j] = exp(x[row * n + j] - largest) / total

    return softmax


@softmax_p.kernel("cuda")
def _(out, x):
    _softmax(out, x, shape=x.shape)


@_over_rows
def _log_softmax(r):
    whole, log = r.whole, r.log

    def log_softmax(rows, n, out, x):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        largest, total = whole(x, row, rows, n)
        if row < rows:
            shift = log(total)
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                out[row * n + j] = (x[row * n + j] - largest) - shift

    return log_softmax


@log_softmax_p.kernel("cuda")
def _(out, x):
    _log_softmax(out, x, shape=x.shape)


@_over_rows
def _logsumexp(r):
    whole, log, infinity = r.whole, r.log, r.infinity

    def logsumexp(rows, n, out, x):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        largest, total = whole(x, row, rows, n)
        if row < rows and gpu.threadIdx.x == 0:
            out[row] = largest if largest == infinity or largest == -infinity else largest + log(total)

    return logsumexp


@logsumexp_p.kernel("cuda")
def _(out, x):
    if x.size:
        _logsumexp(out, x, shape=x.shape)
    else:
        fill(out, -np.inf)


@_over_rows
def _softmax_grad(r):
    total, zero = r.total, r.zero

    def softmax_grad(rows, n, out, ct, y):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        values = (zero,)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                values = (values[0] + ct[row * n + j] * y[row * n + j],)
        values = total(values)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                out[row * n + j] = y[row * n + j] * (ct[row * n + j] - values[0])

    return softmax_grad


@softmax_grad_p.kernel("cuda")
def _(out, ct, y):
    _softmax_grad(out, ct, y, shape=y.shape)


# Cross-entropy with integer labels


def _watched(operation: str, device: int, classes: int) -> tuple[DeviceArray, int]:
    plural = "es" * (classes != 1)
    return faults.watch(
        device,
        lambda label: IndexRangeError(
            f"{operation}: labels has {label}, expected 0 to {classes - 1} for {classes} class{plural}"
        ),
    )


@_over_rows
def _cross_entropy(r):
    whole, exp, log = r.whole, r.exp, r.log

    def cross_entropy(rows, n, loss, logits, labels, probabilities, words, number):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        largest, total = whole(logits, row, rows, n)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                probabilities[row * n + j] = exp(logits[row * n + j] - largest) / total
            if gpu.threadIdx.x == 0:
                label = np.int64(labels[row])
                if label >= 0 and label < n:
                    loss[row] = log(total) - (logits[row * n + label] - largest)
                else:
                    report(words, number, label)

    return cross_entropy


@softmax_cross_entropy_p.kernel("cuda")
def _(out, logits, labels):
    loss, probabilities = out
    words = _watched("softmax_cross_entropy", loss.lease.stream.device, logits.shape[-1])
    _cross_entropy(loss, logits, labels, probabilities, *words, shape=logits.shape)


@cuda.kernel
def _cross_entropy_grad(out, ct, probabilities, labels, n, one, words, number):
    i = gpu.grid(1)
    if i < out.size:
        row = i // n
        label = np.int64(labels[row])
        if label < 0 or label >= n:
            report(words, number, label)
        p = probabilities[i]
        out[i] = ct[row] * (p - one if label == i % n else p)


@softmax_cross_entropy_grad_p.kernel("cuda")
def _(out, ct, probabilities, labels):
    n = out.shape[-1]
    words = _watched("softmax_cross_entropy_grad", out.lease.stream.device, n)
    arrays = [cuda.contiguous(a) for a in (ct, probabilities, labels)]
    one = dtypes.arithmetic(out.dtype).type(1)
    _cross_entropy_grad(cuda.blocks_of(out.size), cuda.THREADS, out, *arrays, n, one, *words)


# Cross-entropy with probabilities for labels


@_over_rows
def _soft_cross_entropy(r):
    whole, exp, log, sum_of, zero = r.whole, r.exp, r.log, r.total, r.zero

    def soft_cross_entropy(rows, n, loss, logits, targets, probabilities):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        largest, total = whole(logits, row, rows, n)
        values = (zero,)
        if row < rows:
            shift = log(total)
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                x, t = logits[row * n + j] - largest, targets[row * n + j]
                probabilities[row * n + j] = exp(x) / total
                values = (values[0] + (zero if t == 0 else t * (shift - x)),)
        values = sum_of(values)
        if row < rows and gpu.threadIdx.x == 0:
            loss[row] = values[0]

    return soft_cross_entropy


@soft_cross_entropy_p.kernel("cuda")
def _(out, logits, targets):
    loss, probabilities = out
    _soft_cross_entropy(loss, logits, targets, probabilities, shape=logits.shape)


@_over_rows
def _soft_cross_entropy_grad(r):
    sum_of, zero = r.total, r.zero

    def soft_cross_entropy_grad(rows, n, out, ct, probabilities, targets):
        row = gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y
        values = (zero,)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                values = (values[0] + targets[row * n + j],)
        values = sum_of(values)
        if row < rows:
            for j in range(gpu.threadIdx.x, n, gpu.blockDim.x):
                out[row * n + j] = ct[row] * (probabilities[row * n + j] * values[0] - targets[row * n + j])

    return soft_cross_entropy_grad


@soft_cross_entropy_grad_p.kernel("cuda")
def _(out, ct, probabilities, targets):
    _soft_cross_entropy_grad(out, ct, probabilities, targets, shape=probabilities.shape)
