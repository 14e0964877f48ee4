"""CUDA kernels of softmax and what goes with it: a warp or a block for each row, which it reads twice.

The first reading finds the largest x and the sum of exp(x − largest) at once, from pairs that are combined in a tree.
Neighbours are moved 16 bytes at a time, where the rows allow it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Kernel, faults, gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.faults import report
from minigrad.devices.cuda.rows import Moves, each, grid_over, moves_of
from minigrad.devices.cuda.warp import reducer
from minigrad.errors import DTypeError, IndexRangeError
from minigrad.ops.cross_entropy import (
    soft_cross_entropy_grad_p,
    soft_cross_entropy_p,
    softmax_cross_entropy_grad_p,
    softmax_cross_entropy_p,
)
from minigrad.ops.softmax import log_softmax_p, logsumexp_p, softmax_grad_p, softmax_p


@cuda.jit
def _row():
    return gpu.blockIdx.x * gpu.blockDim.y + gpu.threadIdx.y


class _Rows:
    """What the kernels for one dtype and width share: functions of that precision, and what is found of a whole row."""

    def __init__(self, dtype: np.dtype, moves: Moves):
        if not dtypes.has_kernels(dtype):
            raise DTypeError(f"cuda: softmax and cross-entropy take real floats of at most 64 bits, got {dtype}")
        kind: Any = dtype.type
        suffix = "_f32" if dtype == dtypes.float32 else "_f64"
        exp = getattr(cuda_math, f"exp{suffix}")
        infinity, zero, one, nan = kind(np.inf), kind(0), kind(1), kind(np.nan)
        width, load, _ = moves

        @cuda.jit
        def larger(a, b):
            return b if b > a or b != b else a

        @cuda.jit
        def share(x, largest):
            """exp(x − largest). Equal ones, infinite ones too, need no exponential."""
            return one if x == largest else exp(x - largest)

        @cuda.jit
        def merge(a, b):
            """(largest, Σ exp(x − largest)) of both."""
            largest = larger(a[0], b[0])
            return largest, a[1] * share(a[0], largest) + b[1] * share(b[0], largest)

        @cuda.jit
        def lifted(values):
            """The same of neighbours."""
            largest = kind(values[0])
            for k in range(1, width):
                largest = larger(largest, kind(values[k]))
            total = zero
            for k in range(width):
                total += share(kind(values[k]), largest)
            return largest, total

        @cuda.jit
        def add(a, b):
            return (a[0] + b[0],)

        reduce = reducer(merge, (-np.inf, 0), (kind, kind))

        @cuda.jit
        def whole(x, row, rows, n):
            """(largest, Σ exp(x − largest)) of a row, in all its threads; the sum is NaN for a largest of +∞."""
            values = (-infinity, zero)
            if row < rows:
                for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                    values = merge(values, lifted(load(x, row * n + j)))
            values = reduce(values)
            return values[0], (nan if values[0] == infinity else values[1])

        self.kind, self.zero, self.infinity, self.moves = kind, zero, infinity, moves
        self.exp, self.log, self.whole = exp, getattr(cuda_math, f"log{suffix}"), whole
        self.total = reducer(add, (0,), (kind,))

    def each(self, function: Callable, head: str, arguments: str) -> Any:
        """A function of neighbours, of one of each."""
        return each(function.__name__, cuda.jit(function), head, arguments, self.moves.width)

    def shares(self) -> Any:
        """``shares(x, largest, total)``: the softmax of neighbours."""
        exp = self.exp

        def share(x, largest, total):
            return exp(x - largest) / total

        return self.each(share, "x, largest, total", "x[{k}], largest, total")


def _over_rows(make: Callable[[_Rows], Callable]) -> Callable[..., None]:
    """What runs, for the dtype of its second array, the kernel ``body(rows, n, *arrays)`` that `make` makes.

    Arrays with an element for each of the rows' are moved as wide as all of these allow.
    """

    @cache
    def made(dtype: np.dtype, moves: Moves) -> Kernel:
        return cuda.kernel(make(_Rows(dtype, moves)))

    def run(*arguments: Any, shape: tuple[int, ...]) -> None:
        n, rows = shape[-1], prod(shape[:-1])
        packed = [cuda.contiguous(a) if isinstance(a, DeviceArray) else a for a in arguments]
        moves = moves_of(n, *[a for a in packed if isinstance(a, DeviceArray) and a.shape == shape])
        made(dtypes.arithmetic(arguments[1].dtype), moves)(*grid_over(rows, n), rows, n, *packed)

    return run


@_over_rows
def _softmax(r):
    whole, shares, (width, load, store) = r.whole, r.shares(), r.moves

    def softmax(rows, n, out, x):
        row = _row()
        largest, total = whole(x, row, rows, n)
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                store(out, row * n + j, shares(load(x, row * n + j), largest, total))

    return softmax


@softmax_p.kernel("cuda")
def _(out, x):
    _softmax(out, x, shape=x.shape)


@_over_rows
def _log_softmax(r):
    whole, log, (width, load, store) = r.whole, r.log, r.moves

    def logarithm(x, largest, shift):
        return (x - largest) - shift

    logarithms = r.each(logarithm, "x, largest, shift", "x[{k}], largest, shift")

    def log_softmax(rows, n, out, x):
        row = _row()
        largest, total = whole(x, row, rows, n)
        if row < rows:
            shift = log(total)
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                store(out, row * n + j, logarithms(load(x, row * n + j), largest, shift))

    return log_softmax


@log_softmax_p.kernel("cuda")
def _(out, x):
    _log_softmax(out, x, shape=x.shape)


@_over_rows
def _logsumexp(r):
    whole, log, infinity = r.whole, r.log, r.infinity

    def logsumexp(rows, n, out, x):
        row = _row()
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
    sum_of, kind, zero, (width, load, store) = r.total, r.kind, r.zero, r.moves

    def slope(ct, y, total):
        return y * (ct - total)

    slopes = r.each(slope, "ct, y, total", "ct[{k}], y[{k}], total")

    def softmax_grad(rows, n, out, ct, y):
        row = _row()
        total = zero
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                given, shares = load(ct, row * n + j), load(y, row * n + j)
                for k in range(width):
                    total += kind(given[k]) * kind(shares[k])
        total = sum_of((total,))[0]
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                store(out, row * n + j, slopes(load(ct, row * n + j), load(y, row * n + j), total))

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
    whole, shares, log, (width, load, store) = r.whole, r.shares(), r.log, r.moves

    def cross_entropy(rows, n, loss, logits, labels, probabilities, words, number):
        row = _row()
        largest, total = whole(logits, row, rows, n)
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                store(probabilities, row * n + j, shares(load(logits, row * n + j), largest, total))
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


@cache
def _cross_entropy_grad(dtype: np.dtype, moves: Moves) -> Kernel:
    """A thread for neighbours in a row."""
    one, zero = dtype.type(1), dtype.type(0)
    width, load, store = moves

    def slope(p, ct, own):
        return ct * (p - (one if own else zero))

    slopes = each("slope", cuda.jit(slope), "p, ct, place", "p[{k}], ct, place == {k}", width)

    def cross_entropy_grad(out, ct, probabilities, labels, n, words, number):
        at = gpu.grid(1) * width
        if at < out.size:
            row = at // n
            label = np.int64(labels[row])
            if label < 0 or label >= n:
                report(words, number, label)
            store(out, at, slopes(load(probabilities, at), ct[row], label - at % n))

    return cuda.kernel(cross_entropy_grad)


@softmax_cross_entropy_grad_p.kernel("cuda")
def _(out, ct, probabilities, labels):
    n = out.shape[-1]
    words = _watched("softmax_cross_entropy_grad", out.lease.stream.device, n)
    ct, probabilities, labels = (cuda.contiguous(a) for a in (ct, probabilities, labels))
    moves = moves_of(n, out, probabilities)
    made = _cross_entropy_grad(dtypes.arithmetic(out.dtype), moves)
    made(cuda.blocks_of(out.size // moves.width), cuda.THREADS, out, ct, probabilities, labels, n, *words)


# Cross-entropy with probabilities for labels


@_over_rows
def _soft_cross_entropy(r):
    whole, shares, log, sum_of = r.whole, r.shares(), r.log, r.total
    kind, zero, (width, load, store) = r.kind, r.zero, r.moves

    def soft_cross_entropy(rows, n, loss, logits, targets, probabilities):
        row = _row()
        largest, total = whole(logits, row, rows, n)
        lost = zero
        if row < rows:
            shift = log(total)
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                x, t = load(logits, row * n + j), load(targets, row * n + j)
                store(probabilities, row * n + j, shares(x, largest, total))
                for k in range(width):
                    target = kind(t[k])
                    lost += zero if target == zero else target * (shift - (kind(x[k]) - largest))
        lost = sum_of((lost,))[0]
        if row < rows and gpu.threadIdx.x == 0:
            loss[row] = lost

    return soft_cross_entropy


@soft_cross_entropy_p.kernel("cuda")
def _(out, logits, targets):
    loss, probabilities = out
    _soft_cross_entropy(loss, logits, targets, probabilities, shape=logits.shape)


@_over_rows
def _soft_cross_entropy_grad(r):
    sum_of, kind, zero, (width, load, store) = r.total, r.kind, r.zero, r.moves

    def slope(p, t, ct, total):
        return ct * (p * total - t)

    slopes = r.each(slope, "p, t, ct, total", "p[{k}], t[{k}], ct, total")

    def soft_cross_entropy_grad(rows, n, out, ct, probabilities, targets):
        row = _row()
        total = zero
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                t = load(targets, row * n + j)
                for k in range(width):
                    total += kind(t[k])
        total = sum_of((total,))[0]
        if row < rows:
            for j in range(width * gpu.threadIdx.x, n, width * gpu.blockDim.x):
                p, t = load(probabilities, row * n + j), load(targets, row * n + j)
                store(out, row * n + j, slopes(p, t, ct[row], total))

    return soft_cross_entropy_grad


@soft_cross_entropy_grad_p.kernel("cuda")
def _(out, ct, probabilities, targets):
    _soft_cross_entropy_grad(out, ct, probabilities, targets, shape=probabilities.shape)
