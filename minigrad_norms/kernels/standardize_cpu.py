"""Standardizing on the CPU: forward, its gradient, and both with given statistics, for every normalization.

    y = f((x − mean)·(γ·rstd) + β)     with rstd = 1/√(var + ε), or 0 where var + ε = 0

Arrays are C-contiguous, of any shape; x, y, γ, β and their gradients of one dtype, float32 or float64; `mean`, `var`,
their gradients and `work` float64. Everything is given, nothing allocated; `work` has at least `plan.workspace`
elements and carries nothing from one call to the next. γ and β may be None, and so may every gradient not wanted.
Sums are taken in float64 about a shift. The cut into chunks follows from the plan alone: same bits for any threads.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu import Kernel
from minigrad_norms.kernels import columns_cpu, layers_cpu, lines_cpu
from minigrad_norms.kernels.columns_cpu import columns_backward, columns_forward
from minigrad_norms.kernels.form import NONE, Affine, Form
from minigrad_norms.kernels.layers_cpu import layers_backward, layers_forward
from minigrad_norms.kernels.lines_cpu import lines_backward, lines_forward
from minigrad_norms.kernels.shared_cpu import (
    ALARM,
    APPLY,
    COMBINE,
    RAW,
    START,
    SUMS,
    TOTAL,
    parameters,
)

ALL = SUMS | COMBINE | APPLY
STATISTICS = {"variance": 0, "mean_square": RAW, "sum_square": RAW | TOTAL}
LIMITS = {None: None, "relu": np.array([0.0, np.inf]), "relu6": np.array([0.0, 6.0])}  # of clamping activations
MOST_CHUNKS = 32
LEAST_CHUNK = 1 << 13  # elements that are worth a chunk
SHARED = 1 << 16  # elements from which rows of columns are shared out among chunks
PART = 1 << 17  # elements that are worth another part of the rows, whose sums must be merged
WIDEST = 1024  # columns of a block: their float64 rows stay in the cache
FOLD = 256  # columns that narrower rows are folded to
LONG = 64  # elements from which a line repays its start
FEWEST = 8  # elements a group from which float32 is enough: the gradient of fewer may cancel to nothing

_wide = np.empty(0, np.float64)
#: An empty array, a scale and a shift for those that are not there, by the size of the dtype.
_defaults = {n.itemsize: (n, np.ones(1, n.dtype), np.zeros(1, n.dtype)) for n in (np.empty(0, np.float32), _wide)}
_no_geometry = np.empty(0, np.int64)


class _Rescue(Kernel):
    """What follows a kernel that computes in float32: on an alarm, the same once more in float64.

    Called from Python it looks at the alarm. Compiled, as part of a plan that is replayed without Python, it fails
    where there is one, which has it called from Python.
    """

    checks = True

    def __init__(self, kernel: Kernel, body: Any):
        super().__init__(body)
        self._kernel = kernel

    def __call__(self, chunks: int, work: int, *args: Any) -> None:
        if cpu.tracers:
            try:
                super().__call__(chunks, work, *args)
                return
            except FloatingPointError:
                pass
        elif args[5][0] != ALARM:
            return
        chunks, combine_chunks, size, split, stages, buffer, *arguments = args
        _stages(self._kernel, chunks, combine_chunks, size, split, stages, buffer, *arguments, _wide, _wide)
        buffer[0] = 0.0


def _rescue_forward(
    chunk, chunks, combine_chunks, size, split, stages, work, y, mean, var, x, gamma, beta, geometry, epsilon, limits,
    grouped,
):  # fmt: skip
    if work[0] == ALARM:
        raise FloatingPointError("beyond float32")


def _rescue_backward(
    chunk, chunks, combine_chunks, size, split, stages, work, free, dx, dgamma, dbeta, dmean, dvar, dy, x, mean, var,
    gamma, beta, geometry, epsilon, limits, grouped,
):  # fmt: skip
    if work[0] == ALARM:
        raise FloatingPointError("beyond float32")


_columns = (columns_forward, columns_backward)
_lines = (lines_forward, lines_backward)
_layers = (layers_forward, layers_backward)
_rescues = {k: (_Rescue(k[0], _rescue_forward), _Rescue(k[1], _rescue_backward)) for k in (_columns, _lines, _layers)}


def _say_places(kernels: tuple[Kernel, Kernel], places: Any) -> None:
    """Have kernels say where their chunks lie, which their geometry tells, but for those of COMBINE alone."""
    for kernel, geometry in zip(kernels, (8, 14)):
        kernel.places = lambda chunks, args, at=geometry: places(args[at]) if args[0] & (SUMS | APPLY) else None


_say_places(_columns, columns_cpu.places)
_say_places(_lines, lines_cpu.places)
_say_places(_layers, layers_cpu.places)


class Plan(NamedTuple):
    """How a form with its tables is computed: the kernels, their chunks and how much workspace they take."""

    forward: Kernel
    backward: Kernel
    rescue: tuple[Kernel, Kernel]
    chunks: int
    combine_chunks: int  # those of COMBINE alone
    split: bool  # whether a group is shared out among chunks, and stages follow one another
    size: int
    geometry: np.ndarray  # int64: eight numbers of the kernel's own, both tables, two places in `work`
    sums: int  # where in the workspace those for the parameters' gradients are: (2, *sums_shape), shift first
    sums_shape: tuple[int, int, int]
    sums_size: int
    direct: int  # the size of a parameter's gradient that the kernel itself writes
    workspace: int
    few: bool  # whether groups are so small that float32 is not enough
    grouped: np.ndarray | None  # None where the column kernels meet groups of one column
    form: Form
    gamma: Affine
    beta: Affine


def forward(y, mean, var, work, x, gamma, beta, plan, epsilon, statistic="variance", activation=None):
    """Fill `y` with x standardized, and `mean` and `var` (biased) with each group's statistics."""
    limits = LIMITS[activation]
    _forward(ALL | STATISTICS[statistic], limits, y, mean, var, work, x, gamma, beta, plan, epsilon)


def apply(y, work, x, mean, var, gamma, beta, plan, epsilon, activation=None):
    """Fill `y` with x standardized by given statistics."""
    _forward(APPLY, LIMITS[activation], y, mean, var, work, x, gamma, beta, plan, epsilon)


def moments(mean, var, work, x, plan):
    """Fill `mean` and `var` (biased) with each group's statistics."""
    _forward(SUMS | COMBINE, None, _defaults[x.itemsize][0], mean, var, work, x, None, None, plan, 0.0)


def backward(
    dx, dgamma, dbeta, work, dy, x, mean, var, gamma, plan, epsilon, dmean=None, dvar=None, statistic="variance",
    activation=None, beta=None,
):  # fmt: skip
    """Fill the gradients of `forward`, from the cotangents of y and, where given, of mean and var.

    `beta` is needed behind an activation only.
    """
    flags, limits = STATISTICS[statistic], LIMITS[activation]
    _backward(flags, limits, 0, dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, beta, plan, epsilon)


def apply_backward(
    dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon, activation=None, beta=None
):
    """Fill the gradients of `apply`, whose mean and var are inputs like x."""
    limits = LIMITS[activation]
    _backward(0, limits, 1, dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, beta, plan, epsilon)


@lru_cache(maxsize=512)
def plan_for(form: Form, gamma: Affine = NONE, beta: Affine = NONE) -> Plan:
    """The plan for a form, with the tables of scale and shift (`NONE` for one that is always None).

    Raises:
        ValueError: the form has a permutation that was not applied, or a table does not fit the form.
    """
    if form.permutation is not None:
        raise ValueError(f"{form} needs its permutation applied first")
    if form.size == 0:
        return Plan(
            *_lines, _rescues[_lines], 0, 0, False, 0, _no_geometry, 0, (0, 0, 0), 0, 0, START, False, None,
            form, gamma, beta,
        )  # fmt: skip
    for table in (gamma, beta):
        if form.k0 % table.m0 or table.n1 not in (1, form.k1) or form.r1 % table.p1:
            raise ValueError(f"{table} does not fit {form}")
    m0, p1 = max(gamma.m0, beta.m0), max(gamma.p1, beta.p1)
    if m0 % min(gamma.m0, beta.m0) or p1 % min(gamma.p1, beta.p1):
        raise ValueError(f"{gamma} and {beta} do not divide one another")
    if form.r1 // p1 >= LONG or (form.r0 == 1 and p1 == 1):
        return _plan_lines(form, gamma, beta, p1)
    if form.r0 == 1 and form.k1 == 1:
        return _plan_layers(form, gamma, beta, m0)
    return _plan_columns(form, gamma, beta)


def _plan_lines(form: Form, gamma: Affine, beta: Affine, p1: int) -> Plan:
    k0, r0, k1, r1 = form[:4]
    target = _target(form.size)
    parts, cuts = 1, 1
    if form.groups < min(target, 8):
        parts = -(-target // form.groups)
        cuts = -(-parts // (r0 * p1))
        if r1 // p1 // cuts < LONG:  # short lines: there is little to share out
            parts, cuts = min(parts, r0 * p1), 1
    # Where r0 > 1, memory is in pieces as long as a span's groups are together: rather fewer spans.
    spans = form.groups if parts > 1 else min(form.groups, target if r0 == 1 else max(8, target // 2))
    sums = START + form.groups * parts * max(3, 2 * p1)
    coefficients = sums + 2 * form.groups * p1
    geometry = [k0, r0, k1, r1, p1, cuts, parts, spans, *gamma, *beta, sums, coefficients]
    end = coefficients + 3 * form.groups
    return _plan(_lines, spans, parts, geometry, sums, (k0, k1, p1), end, form, gamma, beta)


def _plan_layers(form: Form, gamma: Affine, beta: Affine, m0: int) -> Plan:
    parts = max(1, min(form.k0 // m0, _target(form.size) // m0))
    chunks = m0 * parts
    flags = START + 2 * chunks * form.r1
    tables = flags + form.k0
    end = tables + layers_cpu.ROWS * chunks * form.r1
    geometry = [*form[:4], m0, parts, 0, 0, *gamma, *beta, flags, tables]
    sums_shape = (chunks, 1, form.r1)
    return _plan(_layers, chunks, 1, geometry, START, sums_shape, end, form, gamma, beta)


def _plan_columns(form: Form, gamma: Affine, beta: Affine) -> Plan:
    k0, r0, k1, r1 = form[:4]
    columns = k1 * r1
    fold = 1 if columns >= FOLD else min(r0, -(-FOLD // columns))
    blocks, parts = min(k1, -(-columns // WIDEST)), 1
    if k0 * blocks < 8 and form.size >= SHARED:
        wanted = min(MOST_CHUNKS, max(2, _power_of_two(form.size // PART)))
        parts = max(1, min(wanted // (k0 * blocks), r0 // fold))
    width = fold * r1 * -(-k1 // blocks)
    sums = START + k0 * blocks * parts * columns_cpu.ROWS * width
    coefficients = sums + 2 * k0 * columns
    geometry = [k0, r0, k1, r1, fold, blocks, parts, width, *gamma, *beta, sums, coefficients]
    end = coefficients + 3 * k0 * k1
    direct = k1 if k0 == 1 and r1 == 1 else 0
    return _plan(_columns, k0 * blocks, parts, geometry, sums, (k0, k1, r1), end, form, gamma, beta, direct)


def _target(size: int) -> int:
    """How many chunks to aim at: a power of two, so that they share out evenly."""
    return min(MOST_CHUNKS, _power_of_two(size // LEAST_CHUNK))


def _power_of_two(number: int) -> int:
    """The largest that is not above `number`; at least 1."""
    return 1 << (max(1, number).bit_length() - 1)


def _plan(
    kernels: tuple[Kernel, Kernel], blocks: int, parts: int, geometry: list[int], sums: int,
    sums_shape: tuple[int, int, int], end: int, form: Form, gamma: Affine, beta: Affine, direct: int = 0,
) -> Plan:  # fmt: skip
    size = 2 * sums_shape[0] * sums_shape[1] * sums_shape[2]
    grouped = _wide if kernels is _columns and form.r1 > 1 else None
    return Plan(
        *kernels, _rescues[kernels], blocks * parts, blocks, parts > 1, form.size, np.array(geometry, np.int64),
        sums, sums_shape, size, direct, end, form.extent < FEWEST, grouped, form, gamma, beta,
    )  # fmt: skip


def _forward(stages, limits, y, mean, var, work, x, gamma, beta, plan, epsilon):
    if plan.size == 0:
        if stages & SUMS:
            mean.fill(0.0)
            var.fill(0.0)
        return
    if stages & APPLY and ((gamma is None and plan.gamma != NONE) or (beta is None and plan.beta != NONE)):
        raise ValueError("None given where the plan has a table")
    nothing, one, zero = _defaults[x.itemsize]
    arguments = (
        y.ravel(),
        mean if mean.ndim == 1 else mean.ravel(),
        var if var.ndim == 1 else var.ravel(),
        x.ravel(),
        one if gamma is None else gamma if gamma.ndim == 1 else gamma.ravel(),
        zero if beta is None else beta if beta.ndim == 1 else beta.ravel(),
        plan.geometry,
        epsilon,
        limits,
        plan.grouped,
    )
    _run(plan.forward, plan.rescue[0], plan, plan.size, stages, work, arguments, nothing)


def _backward(flags, limits, free, dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, beta, plan, epsilon):
    if plan.size == 0:
        for gradient in (dgamma, dbeta, *((dmean, dvar) if free else ())):
            if gradient is not None:
                gradient.fill(0.0)
        return
    if (gamma is None and plan.gamma != NONE) or (limits is not None and beta is None and plan.beta != NONE):
        raise ValueError("None given where the plan has a table")
    nothing, one, zero = _defaults[x.itemsize]
    if dgamma is not None and dgamma.ndim != 1:
        dgamma = dgamma.ravel()
    if dbeta is not None and dbeta.ndim != 1:
        dbeta = dbeta.ravel()
    size = plan.direct
    direct = size and (dgamma is None or dgamma.size == size) and (dbeta is None or dbeta.size == size)
    arguments = (
        free,
        nothing if dx is None else dx.ravel(),
        dgamma if direct else None,
        dbeta if direct else None,
        None if dmean is None else dmean.ravel(),
        None if dvar is None else dvar.ravel(),
        dy.ravel(),
        x.ravel(),
        mean if mean.ndim == 1 else mean.ravel(),
        var if var.ndim == 1 else var.ravel(),
        one if gamma is None else gamma if gamma.ndim == 1 else gamma.ravel(),
        zero if beta is None else beta if beta.ndim == 1 else beta.ravel(),
        plan.geometry,
        epsilon,
        limits,
        plan.grouped,
    )
    stages = flags | SUMS | COMBINE if dx is None else flags | ALL
    _run(plan.backward, plan.rescue[1], plan, 2 * plan.size, stages, work, arguments, nothing)
    if not direct and (dgamma is not None or dbeta is not None):
        tables = (nothing if dgamma is None else dgamma, nothing if dbeta is None else dbeta)
        parameters(2, plan.sums_size, *tables, work[plan.sums :], *plan.sums_shape, plan.geometry)


def _run(kernel, rescue, plan, size, stages, work, arguments, like):
    """The stages of a kernel: in the dtype of `like`, that of x, and if that gives the alarm, in float64."""
    if plan.few:
        like = _wide
    if plan.split:
        _stages(kernel, plan.chunks, plan.combine_chunks, size, True, stages, work, *arguments, like, None)
    else:
        kernel(plan.chunks, size, stages, work, *arguments, like, None)
    if like is not _wide and (cpu.tracers or work[0] == ALARM):
        rescue(1, 0, plan.chunks, plan.combine_chunks, size, plan.split, stages, work, *arguments)


def _stages(kernel, chunks, combine_chunks, size, split, stages, *arguments):
    if not split:
        kernel(chunks, size, stages, *arguments)
        return
    if stages & SUMS:
        kernel(chunks, size, stages & ~(COMBINE | APPLY), *arguments)
        kernel(combine_chunks, 0, stages & ~(SUMS | APPLY), *arguments)
    if stages & APPLY:
        kernel(chunks, size, stages & ~(SUMS | COMBINE), *arguments)
