"""Sums, extremes and centred squares on the CPU: how they are cut up, and what runs.

Work is cut over outputs, and over what is reduced into one output (`pieces`) where outputs are few; the pieces' results
are then combined in their order. Sums and extremes are the loops of `reductions_loops` over what is already in memory.
"""

from __future__ import annotations

from functools import lru_cache
from math import lcm
from typing import NamedTuple

import numpy as np

from minigrad import dtypes, scalar
from minigrad.axes import canonical
from minigrad.devices import cpu
from minigrad.ops.reductions_loops import Reduced, kernel_of
from minigrad.ops.reductions_operations import SUM, Operation
from minigrad.primitive import Abstract

_NO_WORK = np.empty((1, 1))
_BLOCK = 1024  # accumulators that stay in the first-level cache, with the rows that are added to them
_WIDTH = 32  # rows narrower than this are taken several at a time, so many that their width is a multiple of it


class Plan(NamedTuple):
    """How a reduction is cut up. `work` is the shape of the float64 workspace; None where none is needed."""

    permutation: tuple[int, ...] | None
    columns: bool
    chunks: int
    size: int
    cut: tuple[int, ...]  # (groups, pieces, r0, k1, r1) of rows, (groups, pieces, r0, k1, block, fold) of columns
    combine: tuple[int, int] | None  # (k1, block) where several pieces make one output
    work: tuple[int, int] | None


@lru_cache(maxsize=4096)
def plan_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> Plan:
    """The plan for an array of `shape`, which depends on nothing else: results do not depend on the threads."""
    k0, r0, k1, r1, permutation = canonical(shape, axes)
    return plan_for(k0, r0, k1, r1)._replace(permutation=permutation)


def plan_for(k0: int, r0: int, k1: int, r1: int) -> Plan:
    """The plan for an array of a form."""
    size, kept = k0 * r0 * k1 * r1, k0 * k1
    wanted = cpu.chunks_of(size)
    if r1 == 1 and k1 > 1:
        block = min(k1, _BLOCK)
        fold = lcm(k1, _WIDTH) // k1 if k1 < _WIDTH else 1
        units = k0 * -(-k1 // block)
        pieces = max(1, min(wanted // max(1, units), r0 // (8 * fold)))
        groups = units if pieces > 1 else max(1, min(wanted, units))
        cut: tuple[int, ...] = (groups, pieces, r0, k1, block, fold)
        combine = (k1, block) if pieces > 1 else None
        return Plan(None, True, groups * pieces, size, cut, combine, (groups * pieces, block * fold))
    pieces = max(1, min(wanted // max(1, kept), r0 if r0 > 1 else r1 // 4096))
    groups = kept if pieces > 1 else min(wanted, kept)
    cut = (groups, pieces, r0, k1, r1)
    work = (groups * pieces, 1) if pieces > 1 else None
    return Plan(None, False, groups * pieces, size, cut, (1, 1) if pieces > 1 else None, work)


def workspace_of(shape: tuple[int, ...], axes: tuple[int, ...], dtype: np.dtype) -> tuple[Abstract, ...]:
    """The workspace of `reduce_into`."""
    work = plan_of(shape, axes).work if dtypes.has_kernels(dtype) else None
    return () if work is None else (Abstract(work, dtypes.float64),)


def var_workspace(shape: tuple[int, ...], axes: tuple[int, ...], dtype: np.dtype) -> tuple[Abstract, ...]:
    """The workspace of `var_into`: accumulators, in columns with means beside them; the outputs' means."""
    if not dtypes.has_kernels(dtype):
        return ()
    chunks, width = plan_of(shape, axes).work or (1, 1)
    groups = canonical(shape, axes).groups
    return Abstract((chunks, 2 * width), dtypes.float64), Abstract((groups,), dtypes.float64)


def reduce_into(
    operation: Operation,
    out: np.ndarray,
    work: np.ndarray | None,
    x: np.ndarray,
    axes: tuple[int, ...],
    divisor: float = 1.0,
) -> None:
    """Fill `out` with what the operation makes of the elements over `axes`, divided by `divisor`."""
    plan = plan_of(x.shape, axes)
    work = _NO_WORK if work is None else work
    _reduce_into(operation, out.reshape(-1), work, _flat(x, plan.permutation), plan, divisor)


def var_into(
    out: np.ndarray,
    work: np.ndarray,
    means: np.ndarray,
    x: np.ndarray,
    axes: tuple[int, ...],
    count: float,
    divisor: float,
) -> None:
    """Fill `out` with the sums of (x − mean)² over `axes`, divided by `divisor`; `count` elements make a mean."""
    plan = plan_of(x.shape, axes)
    x = _flat(x, plan.permutation)
    out = out.reshape(-1)
    if plan.combine:
        _reduce_into(SUM, means, work, x, plan, count)
    kernel = _squares_columns if plan.columns else _squares_rows
    kernel(plan.chunks, plan.size, *plan.cut, work, out, divisor, means, count, x)
    if plan.combine:
        combiner(SUM)(1, 0, 0, out, work, plan.cut[1], *plan.combine, divisor)


def _reduce_into(
    operation: Operation, out: np.ndarray, work: np.ndarray, x: np.ndarray, plan: Plan, divisor: float
) -> None:
    kernel = _kernel(operation, x.dtype, plan.columns)
    kernel(plan.chunks, plan.size, *plan.cut, work, out, divisor, x)
    if plan.combine:
        combiner(operation)(1, 0, 0, out, work, plan.cut[1], *plan.combine, divisor)


def _flat(x: np.ndarray, permutation: tuple[int, ...] | None) -> np.ndarray:
    return cpu.contiguous(x if permutation is None else x.transpose(permutation)).reshape(-1)


@lru_cache
def _kernel(operation: Operation, dtype: np.dtype, columns: bool) -> cpu.Kernel:
    reduced = Reduced(operation, scalar.variable("in_0"))
    return kernel_of([reduced], [], "l", dtype, "columns" if columns else "rows")


_fold = SUM.fold
_sum_rows, _sum_columns = [_kernel(SUM, dtypes.float64, columns).body for columns in (False, True)]


@cpu.jit
def _squares(x, mean):
    total = 0.0
    for i in range(x.size):
        d = x[i] - mean
        total += d * d
    return total


@cpu.chunked
def _squares_rows(chunk, groups, pieces, r0, k1, r1, work, out, divisor, means, count, x):
    group, piece = chunk // pieces, chunk % pieces
    low, high = (piece * r0 // pieces, (piece + 1) * r0 // pieces) if r0 > 1 else (0, 1)
    left, right = (piece * r1 // pieces, (piece + 1) * r1 // pieces) if r0 == 1 else (0, r1)
    if pieces == 1:
        _sum_rows(chunk, groups, pieces, r0, k1, r1, work, means, count, x)
    for o in range(group * out.size // groups, (group + 1) * out.size // groups):
        at = o * r1 if r0 == 1 else ((o // k1 * r0 + low) * k1 + o % k1) * r1
        total = 0.0
        for _ in range(low, high):
            total += _squares(x[at + left : at + right], means[o])
            at += k1 * r1
        if pieces == 1:
            out[o] = total / divisor
        else:
            work[chunk, 0] = total


@cpu.jit
def _add_squares(acc, mean, x, rows, stride, rest):
    """acc[j] = Σ (x[r·stride + j] − mean[j])² over the rows, and one more of which only `rest` elements are there."""
    n = acc.size
    for j in range(n):
        acc[j] = 0.0
    at = 0
    for _ in range(rows):
        a = x[at : at + n]
        for j in range(n):
            d = a[j] - mean[j]
            acc[j] += d * d
        at += stride
    a = x[at : at + rest]
    for j in range(rest):
        d = a[j] - mean[j]
        acc[j] += d * d


@cpu.chunked
def _squares_columns(chunk, groups, pieces, r0, k1, block, fold, work, out, divisor, means, count, x):
    group, piece = chunk // pieces, chunk % pieces
    blocks = (k1 + block - 1) // block
    units = out.size // k1 * blocks
    low, high = piece * r0 // pieces, (piece + 1) * r0 // pieces
    if pieces == 1:
        _sum_columns(chunk, groups, pieces, r0, k1, block, fold, work, means, count, x)
    for unit in range(group * units // groups, (group + 1) * units // groups):
        slab, left = unit // blocks, unit % blocks * block
        width = min(block, k1 - left)
        acc, mean = work[chunk, : width * fold], work[chunk, block * fold : block * fold + width * fold]
        for j in range(width * fold):
            mean[j] = means[slab * k1 + left + j % width]
        part = x[(slab * r0 + low) * k1 + left : (slab * r0 + high) * k1]
        _add_squares(acc, mean, part, (high - low) // fold, k1 * fold, (high - low) % fold * k1)
        _fold(acc, width, fold)
        if pieces == 1:
            o = out[slab * k1 + left : slab * k1 + left + width]
            for j in range(width):
                o[j] = acc[j] / divisor


@lru_cache
def combiner(operation: Operation) -> cpu.Kernel:
    join = operation.join

    @cpu.chunked
    def combine(chunk, first, out, work, pieces, k1, block, divisor):
        """The outputs from their pieces' results, which stand one below the other, in order. All in one chunk.

        They are in the columns of the workspace from `first` on.
        """
        blocks = (k1 + block - 1) // block
        for unit in range(out.size // k1 * blocks):
            slab, left = unit // blocks, unit % blocks * block
            width = min(block, k1 - left)
            acc = work[unit * pieces, first : first + width]
            for p in range(1, pieces):
                row = work[unit * pieces + p, first : first + width]
                for j in range(width):
                    acc[j] = join(acc[j], row[j])
            o = out[slab * k1 + left : slab * k1 + left + width]
            for j in range(width):
                o[j] = acc[j] / divisor

    return combine
