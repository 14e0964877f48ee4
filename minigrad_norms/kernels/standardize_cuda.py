"""CUDA kernels of standardize, normalize, moments and their gradients: which kernels run on a form, with what.

| groups | kernels |
|---|---|
| lie in lines and fit into shared memory | one: memory is read once |
| lie in lines | sums of pieces, their combination, and the elements: memory is read twice |
| lie across rows of short lines | the same, a thread a few columns |
| are columns, of few rows | one: what it reads again comes out of a cache |

Gradients of γ and β come out of the sums of dy and dy·x̂, of which there is one for each entry in a group, or for each
column; but where γ has an entry for an element of a line, or for a few, by kernels of their own.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, vector
from minigrad.devices.cuda.copies import copy_into, fill
from minigrad.devices.cuda.rows import BLOCK, Moves, grid_over, moves_of, width_of
from minigrad.devices.cuda.warp import WARP
from minigrad.errors import DTypeError
from minigrad_norms.kernels import column_pieces_cuda as columns
from minigrad_norms.kernels import combine_cuda as combine
from minigrad_norms.kernels import rows_cuda as rows
from minigrad_norms.kernels import whole_columns_cuda as whole
from minigrad_norms.kernels.form import Affine, Form, affine, canonical
from minigrad_norms.kernels.lines_cuda import reciprocal
from minigrad_norms.standardize import moments_p, normalize_p, normalize_vjp_p, standardize_p, standardize_vjp_p

_BLOCKS = 1024  # wanted, before groups are no longer cut: what the largest GPUs hold at a time
_PIECE = 4096  # elements that a piece has at least
_SHORT = 32  # elements of a line up to which a thread takes a column
_SHARED = 44 << 10  # bytes of shared memory for a block's elements; every GPU has 48 KiB
_PER_WARP = 4 << 10  # bytes of these for a warp, by which it is chosen how many are on a group
_PER_BLOCK = 16 << 10  # bytes of these that several groups may have together: small blocks fill a GPU evenly
_ROWS = 16  # rows that a thread has at least in a piece of columns
_WHOLE = 32  # rows that a thread has at most where a block has whole columns
_NARROW = 8  # threads side by side there, at most


class Plan(NamedTuple):
    """A form, its table of γ and β, and the orders of axes that arrays need first, None where they lie right."""

    form: Form
    table: Affine
    order: tuple[int, ...] | None  # of x
    statistics: tuple[int, ...] | None
    parameters: tuple[int, ...] | None

    @property
    def across(self) -> bool:
        """Whether a thread takes a column."""
        return self.form.k1 > 1 and self.form.r1 < _SHORT

    @property
    def own_sums(self) -> bool:
        """Whether the gradients of γ and β are not among the sums."""
        return not self.across and self.table.p1 > 1 and self.per == 1

    @property
    def per(self) -> int:
        """How many lines a group is summed in: one for each entry of γ and β, where that makes long ones."""
        p1 = self.table.p1
        return p1 if not self.across and p1 > 0 and self.form.r1 // p1 >= _SHORT else 1


@lru_cache(maxsize=4096)
def plan_for(shape: tuple[int, ...], axes: tuple[int, ...], parameter_axes: tuple[int, ...]) -> Plan:
    """How arrays of a shape are computed. Where nothing else fits, axes are put in an order that always does."""
    form = canonical(shape, axes)
    table = affine(shape, axes, parameter_axes) if form.permutation is None else None
    if table is not None:
        return Plan(form, table, None, None, None)
    kept = [a for a in range(len(shape)) if a not in axes]
    first = sorted(kept, key=lambda a: a in parameter_axes)
    last = sorted(axes, key=lambda a: a not in parameter_axes)
    spanned = [a for a in (*first, *last) if a in parameter_axes]
    form = Form(prod(shape[a] for a in kept), 1, 1, prod(shape[a] for a in axes))
    m0, p1 = (prod(shape[a] for a in where if a in parameter_axes) for where in (kept, axes))
    statistics, parameters = tuple(kept.index(a) for a in first), tuple(parameter_axes.index(a) for a in spanned)
    return Plan(form, Affine(m0, 1, p1), (*first, *last), statistics, parameters)


class _Run:
    """One call: arrays as the kernels take them, and the numbers that go with the plan."""

    def __init__(self, x: DeviceArray, axes: tuple, parameter_axes: tuple, activation: str | None):
        if not mg.dtypes.has_gpu_kernels(x.dtype):
            raise DTypeError(f"cuda: normalizations take real floats of at most 64 bits, got {x.dtype}")
        self.plan = plan_for(x.shape, axes, parameter_axes)
        self.device, self.dtype, self.activation = x.lease.stream.device, mg.dtypes.arithmetic(x.dtype), activation
        self.x = self.lay(x, self.plan.order)
        k0, r0, k1, r1, _ = self.plan.form
        m0, n1, p1 = self.plan.table
        self.shape, self.table, self.groups, self.count = (k0, r0, k1, r1), (m0, n1, p1), k0 * k1, r0 * r1
        self.small = max(self.count, self.groups * self.plan.per) < 1 << 31
        if self.plan.across:
            self.width = width_of(k1 * r1, x.itemsize)
            self.lanes = _lanes(k1 * r1 // self.width)
            self.tall = max(self.width, min(BLOCK // self.lanes, r0))  # a thread for each column, at least
            self.blocks = cuda.blocks_of(k1 * r1 // self.width, self.lanes)
            self.chunk = -(-max(1, r0) // _pieces(k0 * self.blocks, r0, self.tall * _ROWS))
            self.pieces = -(-r0 // self.chunk)
            self.whole = r1 == 1 and r0 <= _WHOLE * (BLOCK // min(self.lanes, _NARROW))
            self.number = None if r1 == 1 else np.uint32 if k1 * r1 < 1 << 32 else np.int64  # that holds columns
        else:
            self.blocks, (self.lanes, self.tall) = grid_over(self.groups, self.count)
            self.pieces, self.whole = _pieces(self.blocks, self.count, _PIECE), False

    def lay(self, a: DeviceArray, order: tuple[int, ...] | None) -> DeviceArray:
        return cuda.contiguous(a if order is None else a.transpose(order))

    def statistic(self, a: DeviceArray | None) -> DeviceArray:
        return self.empty((0,), np.float64) if a is None else self.lay(a, self.plan.statistics)

    def parameter(self, a: DeviceArray | None, value: float) -> DeviceArray:
        """γ or β; of one that is not there all entries are 1 or 0."""
        if a is not None:
            return self.lay(a, self.plan.parameters)
        return cuda.repeated(value, max(1, prod(self.table)), self.x.dtype, self.device)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return cuda.empty(shape, np.dtype(dtype), self.device)

    def target(self, out: DeviceArray, order: tuple[int, ...] | None) -> DeviceArray:
        """What a kernel fills: `out`, or a buffer with axes in another order, for `back`."""
        return out if order is None else self.empty(tuple(out.shape[a] for a in order), out.dtype)

    def back(self, out: DeviceArray, target: DeviceArray, order: tuple[int, ...] | None) -> None:
        if order is not None:
            copy_into(out.transpose(order), target)

    def kernel(self, make: Any, *arrays: DeviceArray, table: tuple = (), per: int = 1) -> tuple[Any, int, tuple]:
        """A kernel for lines with moves as wide as they allow, this width, and the reciprocals that it takes.

        `table` is γ and β. Groups may be taken as `per` lines each.
        """
        _, r0, _, r1 = self.shape
        r1, p1 = r1 // per, self.table[2] // per
        span = r1 // p1
        kind = "one" if p1 == 1 else "each" if span == 1 else "spans"
        width = width_of(span if kind == "spans" else r1, max(a.itemsize for a in arrays))
        moved = (*arrays, *table) if kind == "each" else arrays
        moves = Moves(width, *vector.moves(width, all(a.pointer % (width * a.itemsize) == 0 for a in moved)))
        made = make(self.dtype, self.activation, kind, moves, r0 > 1, self.small)
        return made, width, (*reciprocal(r1, self.small), *reciprocal(span, self.small))

    def column_kernel(self, make: Any, *arrays: DeviceArray, **kind: Any) -> Any:
        """A kernel for columns."""
        return make(self.dtype, self.activation, moves_of(self.shape[2] * self.shape[3], *arrays), self.number, **kind)

    def staged(self, arrays: int) -> tuple[int, int, int] | None:
        """Threads on a group, groups of a block, and bytes: if so many arrays of a group fit into shared memory."""
        size = arrays * self.count * self.dtype.itemsize
        if self.plan.across or size > _SHARED:
            return None
        warps = min(BLOCK // WARP, 1 << (-(-size // _PER_WARP) - 1).bit_length())
        tall = 1 if warps > 1 else min(BLOCK // WARP, self.groups, max(1, _PER_BLOCK // size))
        return WARP * warps, tall, tall * size

    def grid(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Blocks and threads of kernels over all elements."""
        blocks = self.shape[0] * self.blocks if self.plan.across else self.blocks
        return (blocks, self.pieces), (self.lanes, self.tall)

    def vectors(self, width: int) -> int:
        """Vectors of a piece of a group."""
        return -(-(self.count // width) // self.pieces)

    def whole_grid(self) -> tuple[int, int, tuple[int, int]]:
        """Where blocks have whole columns: how many have an i0's, how many there are, and their threads."""
        lanes = min(self.lanes, _NARROW)
        across = cuda.blocks_of(self.shape[2] // self.width, lanes)
        return across, self.shape[0] * across, (lanes, max(self.width, min(BLOCK // lanes, self.shape[1])))

    def sums_of_pieces(self) -> tuple[DeviceArray, int]:
        """Room for two sums for each piece of each column, or group; and how many columns a group has."""
        columns_of_group = self.shape[3] if self.plan.across else 1
        return self.empty((2 * self.pieces * self.groups * columns_of_group,), np.float64), columns_of_group

    def each_warp(self, number: int) -> tuple[int, tuple[int, int]]:
        tall = max(1, min(BLOCK // WARP, number))
        return cuda.blocks_of(number, tall), (WARP, tall)

    def moments(self, mean: Any, var: Any, raw: Any, total: Any) -> None:
        """Statistics by way of sums. In float64 once more about the mean, where nothing wider keeps the digits."""
        if self.whole:
            nothing = self.empty((0,), self.x.dtype)
            self._whole_forward(nothing, mean, var, nothing, nothing, 0.0, raw, total)
            return
        sums, p = self.sums_of_pieces()
        for first in (True, False) if self.dtype == np.float64 and not raw else (True,):
            if self.plan.across:
                blocks, threads = self.grid()
                numbers: Any = (*self.shape, self.blocks, self.chunk, first, raw)
                made = columns.sums(moves_of(self.shape[2] * self.shape[3], self.x), self.number)
                made(blocks, threads, sums, self.x, mean, *numbers)
            else:
                made, width, reciprocals = self.kernel(_without_table(rows.sums), self.x)
                chunk = self.vectors(width)
                numbers = (*self.shape[1:], *reciprocals[:2], self.groups, self.pieces, chunk, first, raw)
                made(*self.grid(), sums, self.x, mean, *numbers)
            numbers = (*self.shape, p, self.pieces, first, raw, total)
            combine.moments(*self.each_warp(self.groups), mean, var, sums, self.x, *numbers)

    def forward(self, y: Any, mean: Any, var: Any, gamma: Any, beta: Any, epsilon: Any, raw: Any, total: Any) -> None:
        if self.whole:
            self._whole_forward(y, mean, var, gamma, beta, epsilon, raw, total)
            return
        staged = self.staged(1)
        if staged is None:
            self.moments(mean, var, raw, total)
            self.apply(y, mean, var, gamma, beta, epsilon)
            return
        lanes, tall, shared = staged
        made, _, reciprocals = self.kernel(rows.forward, self.x, y, table=(gamma, beta))
        numbers: Any = (*self.shape[1:], *self.table, *reciprocals, self.groups, epsilon, raw, total)
        blocks = cuda.blocks_of(self.groups, tall)
        made(blocks, (lanes, tall), y, mean, var, self.x, gamma, beta, *numbers, shared=shared)

    def _whole_forward(self, y: Any, mean: Any, var: Any, gamma: Any, beta: Any, *numbers: Any) -> None:
        """The same where a block has whole columns. A y of shape (0,) is not wanted."""
        across, blocks, threads = self.whole_grid()
        made = self.column_kernel(whole.forward, self.x, *[y] * bool(y.size))
        made(blocks, threads, y, mean, var, self.x, gamma, beta, *self.shape[1:3], *self.table, across, *numbers)

    def apply(self, y: Any, mean: Any, var: Any, gamma: Any, beta: Any, epsilon: float) -> None:
        blocks, threads = self.grid()
        if self.plan.across:
            numbers: Any = (*self.shape, *self.table, self.blocks, self.chunk, epsilon)
            made = self.column_kernel(columns.apply, self.x, y)
            made(blocks, threads, y, self.x, mean, var, gamma, beta, *numbers)
            return
        made, width, reciprocals = self.kernel(rows.apply, self.x, y, table=(gamma, beta))
        numbers = (*self.shape[1:], *self.table, *reciprocals, self.groups, self.vectors(width), epsilon)
        made(blocks, threads, y, self.x, mean, var, gamma, beta, *numbers)

    def backward(
        self, dx: Any, dgamma: Any, dbeta: Any, new_dmean: Any, new_dvar: Any, dy: Any, mean: Any, var: Any, gamma: Any,
        beta: Any, dmean: Any, dvar: Any, *, epsilon: float, flags: tuple[bool, bool], free: bool,
    ) -> None:  # fmt: skip
        """Gradients; those of shape (0,) are not wanted."""
        given = (dy, self.x, mean, var, gamma, beta)
        raw, total = flags
        p = self.shape[3] if self.plan.across else self.plan.per
        staged = self.staged(2) if not free and dx.size and (p == 1 or self.shape[1] == 1) else None
        wanted, own = dgamma.size or dbeta.size, self.table[:2] == (self.shape[0], self.shape[2])
        if self.plan.across and p == 1 and (self.whole or own or not wanted):
            c, none = self.empty((4 * self.groups,), np.float64), self.empty((0,), self.x.dtype)
            ends = (c, *((dgamma, dbeta) if own else (none, none)), new_dmean, new_dvar)
            sums = self._columns(dx, ends, dmean, dvar, given, epsilon, raw, total, free, bool(wanted) and not own)
            wanted = sums is not None
        elif staged is not None:
            lanes, tall, shared = staged
            sums = self.empty((2 * self.groups * p,), np.float64)
            make = partial(rows.backward, kept_sums=not self.plan.own_sums)
            made, _, reciprocals = self.kernel(make, dx, dy, self.x, table=(gamma, beta))
            numbers: Any = (*self.shape[1:], *self.table, *reciprocals, self.groups, epsilon, raw, total)
            blocks = cuda.blocks_of(self.groups, tall)
            made(blocks, (lanes, tall), dx, sums, dmean, dvar, *given, *numbers, shared=shared)
        else:
            sums = self._sums(given, epsilon)
            c = self.empty((4 * self.groups,), np.float64)
            numbers = (*self.shape, p, *self.table, self.plan.own_sums, epsilon, raw, total, free)
            ends = (c, new_dmean, new_dvar, sums, dmean, dvar, mean, var, gamma)
            one_by_one = cuda.blocks_of(self.groups, 4 * WARP), 4 * WARP
            combine.slopes(p == 1, self.small)(*one_by_one if p == 1 else self.each_warp(self.groups), *ends, *numbers)
            if dx.size:
                self._slopes(dx, c, given, epsilon, free)
        if wanted:
            self._parameters(dgamma, dbeta, sums, p, given, epsilon)

    def _columns(
        self, dx: Any, ends: tuple, dmean: Any, dvar: Any, given: tuple, epsilon: Any, raw: Any, total: Any, free: bool,
        keep: bool,
    ) -> DeviceArray | None:  # fmt: skip
        """Gradients by fewer kernels where columns are groups; the sums of each, if they are to be kept."""
        x, (k0, r0, k1, _), (m0, n1, p1) = self.x, self.shape, self.table
        if not self.whole:
            sums = self._sums_of_pieces(given, epsilon)
            numbers: Any = (k0, r0, k1, m0, n1, self.pieces, epsilon, raw, total, free)
            more = (sums, dmean, dvar, given[3], given[4])
            combine.finish_columns(*self.each_warp(self.groups), *ends, *more, *numbers)
            if dx.size:
                self._slopes(dx, ends[0], given, epsilon, free)
            return None
        sums = self.empty((2 * self.groups * keep,), np.float64)
        across, blocks, threads = self.whole_grid()
        numbers = (k0, r0, k1, m0, n1, p1, across, epsilon, raw, total)
        made = self.column_kernel(whole.backward, *[dx] * bool(dx.size), given[0], x, free=free)
        made(blocks, threads, dx, *ends, sums, dmean, dvar, *given, *numbers)
        return sums if keep else None

    def _sums(self, given: tuple, epsilon: float) -> DeviceArray:
        """The two sums of each column, or line."""
        if self.plan.across:
            return self._together(self._sums_of_pieces(given, epsilon), self.groups * self.shape[3], self.pieces)
        per = self.plan.per
        (_, r0, k1, r1), count = self.shape, self.groups * per
        size = self.count // per
        along, threads = grid_over(count, size)
        pieces = _pieces(along, size, _PIECE)
        made, width, reciprocals = self.kernel(rows.backward_sums, *given[:2], table=given[-2:], per=per)
        sums = self.empty((2 * pieces * count,), np.float64)
        chunk = -(-(size // width) // pieces)
        numbers = (r0, k1 * per, r1 // per, *self.table, *reciprocals, count, per, pieces, chunk, epsilon)
        made((along, pieces), threads, sums, *given, *numbers)
        return self._together(sums, count, pieces)

    def _sums_of_pieces(self, given: tuple, epsilon: float) -> DeviceArray:
        """The two sums of each piece of each column."""
        sums, _ = self.sums_of_pieces()
        numbers: Any = (*self.shape, *self.table, self.blocks, self.chunk, epsilon)
        self.column_kernel(columns.backward_sums, *given[:2])(*self.grid(), sums, *given, *numbers)
        return sums

    def _together(self, sums: DeviceArray, size: int, pieces: int) -> DeviceArray:
        if pieces == 1:
            return sums
        out = self.empty((2 * size,), np.float64)
        combine.pieces_of_columns(*self.each_warp(size), out, sums, size, pieces)
        return out

    def _slopes(self, dx: DeviceArray, c: DeviceArray, given: tuple, epsilon: float, free: bool) -> None:
        blocks, threads = self.grid()
        if self.plan.across:
            numbers: Any = (*self.shape, *self.table, self.blocks, self.chunk, epsilon)
            self.column_kernel(columns.backward_apply, dx, *given[:2], free=free)(
                blocks, threads, dx, c, *given, *numbers
            )
            return
        made, width, reciprocals = self.kernel(rows.backward_apply, dx, *given[:2], table=given[-2:])
        numbers = (*self.shape[1:], *self.table, *reciprocals, self.groups, self.vectors(width), epsilon, free)
        made(blocks, threads, dx, c, *given, *numbers)

    def _parameters(self, dgamma: Any, dbeta: Any, sums: Any, p: int, given: tuple, epsilon: float) -> None:
        k0, r0, k1, r1 = self.shape
        m0, n1, _ = self.table
        if self.plan.own_sums:
            moves = moves_of(r1, *given[:2])
            lanes = _lanes(r1 // moves.width)
            count = k0 // m0 * r0 * (k1 // n1)
            across, tall = cuda.blocks_of(r1 // moves.width, lanes), min(BLOCK // lanes, count)
            chunk = -(-count // _pieces(m0 * n1 * across, count, tall * _ROWS))
            pieces = -(-count // chunk)
            sums = self.empty((2 * pieces * m0 * n1 * r1,), np.float64)
            numbers: Any = (*self.shape, *self.table, across, chunk, epsilon)
            number = None if r0 * k1 == 1 else np.uint32 if k0 * r0 * k1 < 1 << 32 else np.int64
            made = columns.parameter_sums(self.dtype, self.activation, moves, number)
            made((m0 * n1 * across, pieces), (lanes, tall), sums, *given, *numbers)
            k0, k1, p = pieces * m0, n1, r1
        added = combine.parameters(k0 * k1 * p < 1 << 31)
        added(*self.each_warp(prod(self.table)), dgamma, dbeta, sums, k0, k1, p, *self.table)


def _lanes(columns: int) -> int:
    """Threads side by side for so many columns, or neighbouring ones together."""
    return min(WARP, 1 << (columns - 1).bit_length())


def _pieces(blocks: int, count: int, least: int) -> int:
    """In how many pieces to cut what is summed, where there are so many blocks without."""
    return max(1, min(-(-_BLOCKS // max(1, blocks)), count // least))


def _without_table(make: Any) -> Any:
    return lambda dtype, activation, kind, moves, split, small: make(moves, split, small)


def _flags(statistic: str) -> tuple[bool, bool]:
    """Whether no mean is removed, and whether the statistic is a sum."""
    return statistic != "variance", statistic == "sum_square"


@standardize_p.kernel("cuda")
def _(out, x, gamma, beta, *, axes, parameter_axes, epsilon, statistic="variance", activation=None):
    run = _Run(x, axes, parameter_axes, activation)
    if not x.size:
        _zero(out[1:])
        return
    targets: Any = [run.target(out[0], run.plan.order), *[run.target(s, run.plan.statistics) for s in out[1:]]]
    parameters = run.parameter(gamma, 1.0), run.parameter(beta, 0.0)
    run.forward(targets[0], targets[1], targets[2], *parameters, float(epsilon), *_flags(statistic))
    run.back(out[0], targets[0], run.plan.order)
    for given, target in zip(out[1:], targets[1:]):
        run.back(given, target, run.plan.statistics)


@normalize_p.kernel("cuda")
def _(out, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, activation=None):
    if not x.size:
        return
    run = _Run(x, axes, parameter_axes, activation)
    target = run.target(out, run.plan.order)
    parameters = run.parameter(gamma, 1.0), run.parameter(beta, 0.0)
    run.apply(target, run.statistic(mean), run.statistic(var), *parameters, float(epsilon))
    run.back(out, target, run.plan.order)


@moments_p.kernel("cuda")
def _(out, x, *, axes):
    if not x.size:
        _zero(out)
        return
    run = _Run(x, axes, (), None)
    targets: Any = [run.target(s, run.plan.statistics) for s in out]
    run.moments(targets[0], targets[1], False, False)
    for given, target in zip(out, targets):
        run.back(given, target, run.plan.statistics)


@standardize_vjp_p.kernel("cuda")
def _(
    out, dy, x, gamma, beta, mean, var, dmean, dvar,
    *, axes, parameter_axes, epsilon, wants, statistic="variance", activation=None,
):  # fmt: skip
    nothing = cuda.empty((0,), np.dtype(np.float64), x.lease.stream.device)
    outputs = (*out, nothing, nothing)
    form = (axes, parameter_axes, activation)
    _gradients(outputs, dy, x, gamma, beta, mean, var, dmean, dvar, form, epsilon, statistic, False)


@normalize_vjp_p.kernel("cuda")
def _(out, dy, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, wants, activation=None):
    form = (axes, parameter_axes, activation)
    _gradients(out, dy, x, gamma, beta, mean, var, None, None, form, epsilon, "variance", True)


def _gradients(out, dy, x, gamma, beta, mean, var, dmean, dvar, form, epsilon, statistic, free):
    if not x.size:
        _zero(out[1:])
        return
    run = _Run(x, *form)
    orders: Any = (run.plan.order, run.plan.parameters, run.plan.parameters, run.plan.statistics, run.plan.statistics)
    orders = [order if g.size else None for g, order in zip(out, orders)]
    targets: Any = [run.target(g, order) for g, order in zip(out, orders)]
    statistics = [run.statistic(s) for s in (mean, var)]
    cotangents = [run.statistic(s) for s in (dmean, dvar)]
    parameters = [run.parameter(gamma, 1.0), run.parameter(beta, 0.0)]
    dy = run.lay(dy, run.plan.order)
    arguments: Any = (*targets, dy, *statistics, *parameters, *cotangents)
    run.backward(*arguments, epsilon=float(epsilon), flags=_flags(statistic), free=free)
    for given, target, order in zip(out, targets, orders):
        run.back(given, target, order)


def _zero(arrays: Any) -> None:
    for a in arrays:
        if a.size:
            fill(a, 0.0)
