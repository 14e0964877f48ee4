"""Standardizing on the CPU: forward, its gradient, and both with given statistics, for every normalization.

    y = (x − mean)·(γ·rstd) + β     with rstd = 1/√(var + ε), or 0 where var + ε = 0

Arrays are C-contiguous, of any shape; x, y, γ, β and their gradients of one dtype, float32 or float64; `mean`, `var`,
their gradients and `work` float64. Everything is given, nothing allocated; `work` has at least `plan.workspace`
elements and carries nothing from one call to the next. γ and β may be None, and so may every gradient not wanted.
Sums are taken in float64 about a shift. The cut into chunks follows from the plan alone: same bits for any threads.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from minigrad.devices.cpu import Kernel
from minigrad_norms.kernels.columns_cpu import ROWS, columns_backward, columns_forward
from minigrad_norms.kernels.form import NONE, Affine, Form
from minigrad_norms.kernels.layers_cpu import layers_backward, layers_forward
from minigrad_norms.kernels.lines_cpu import lines_backward, lines_forward
from minigrad_norms.kernels.shared_cpu import APPLY, COMBINE, SUMS, parameters

ALL = SUMS | COMBINE | APPLY
MOST_CHUNKS = 32
LEAST_CHUNK = 1 << 13  # elements that are worth a chunk
CACHED = 1 << 18  # elements of a block of columns that are read a second time from the cache
NARROWEST = 256  # columns of a block: narrower ones would read memory in short pieces
WIDEST = 4096  # columns of a block: their float64 rows stay in the cache
FOLD = 256  # columns that narrower rows are folded to
LONG = 64  # elements from which a line repays its start

_nothing = {np.dtype(d): np.empty(0, d) for d in ("float32", "float64")}
_ones = {np.dtype(d): np.ones(1, d) for d in ("float32", "float64")}
_zeros = {np.dtype(d): np.zeros(1, d) for d in ("float32", "float64")}
_no_statistics = _nothing[np.dtype("float64")]
_no_geometry = np.empty(0, np.int64)


class Plan(NamedTuple):
    """How a form with its tables is computed: the kernels, their chunks and how much workspace they take."""

    forward: Kernel
    backward: Kernel
    chunks: int
    combine_chunks: int  # those of COMBINE alone
    split: bool  # whether a group is shared out among chunks, and stages follow one another
    size: int
    geometry: np.ndarray  # int64: eight numbers of the kernel's own, both tables, two places in `work`, then lists
    sums: int  # where in the workspace those for the parameters' gradients are: (2, *sums_shape), shift first
    sums_shape: tuple[int, int, int]
    sums_size: int
    workspace: int
    form: Form
    gamma: Affine
    beta: Affine


def forward(y, mean, var, work, x, gamma, beta, plan, epsilon):
    """Fill `y` with x standardized, and `mean` and `var` (biased) with each group's statistics."""
    _forward(ALL, y, mean, var, work, x, gamma, beta, plan, epsilon)


def apply(y, work, x, mean, var, gamma, beta, plan, epsilon):
    """Fill `y` with x standardized by given statistics."""
    _forward(APPLY, y, mean, var, work, x, gamma, beta, plan, epsilon)


def moments(mean, var, work, x, plan):
    """Fill `mean` and `var` (biased) with each group's statistics."""
    _forward(SUMS | COMBINE, _nothing[x.dtype], mean, var, work, x, None, None, plan, 0.0)


def backward(dx, dgamma, dbeta, work, dy, x, mean, var, gamma, plan, epsilon, dmean=None, dvar=None):
    """Fill the gradients of `forward`, from the cotangents of y and, where given, of mean and var."""
    _backward(0, dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon)


def apply_backward(dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon):
    """Fill the gradients of `apply`, whose mean and var are inputs like x."""
    if dgamma is not None or dbeta is not None or dmean is not None or dvar is not None:
        _backward(1, None, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon)
    if dx is not None:
        plan = plan_for(plan.form, plan.gamma, NONE)
        zeros = work[plan.workspace - plan.form.groups : plan.workspace]
        zeros.fill(0.0)
        _forward(APPLY, dx, zeros, var, work, dy, gamma, None, plan, epsilon)


@lru_cache(maxsize=512)
def plan_for(form: Form, gamma: Affine = NONE, beta: Affine = NONE) -> Plan:
    """The plan for a form, with the tables of scale and shift (`NONE` for one that is always None).

    Raises:
        ValueError: the form has a permutation that was not applied, or a table does not fit the form.
    """
    if form.permutation is not None:
        raise ValueError(f"{form} needs its permutation applied first")
    if form.size == 0:
        return Plan(lines_forward, lines_backward, 0, 0, False, 0, _no_geometry, 0, (0, 0, 0), 0, 0, form, gamma, beta)
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
    sums = form.groups * parts * max(3, 2 * p1)
    coefficients = sums + 2 * form.groups * p1
    geometry = [k0, r0, k1, r1, p1, cuts, parts, spans, *gamma, *beta, sums, coefficients]
    return _plan(lines_forward, lines_backward, spans, parts, geometry, sums, (k0, k1, p1), form, gamma, beta)


def _plan_layers(form: Form, gamma: Affine, beta: Affine, m0: int) -> Plan:
    parts = max(1, min(form.k0 // m0, _target(form.size) // m0))
    chunks = m0 * parts
    tables = 2 * chunks * form.r1
    geometry = [*form[:4], m0, parts, 0, 0, *gamma, *beta, 0, tables]
    return _plan(layers_forward, layers_backward, chunks, 1, geometry, 0, (chunks, 1, form.r1), form, gamma, beta)


def _plan_columns(form: Form, gamma: Affine, beta: Affine) -> Plan:
    k0, r0, k1, r1 = form[:4]
    columns = k1 * r1
    fold = 1 if columns >= FOLD else min(r0, -(-FOLD // columns))
    target = _target(form.size)
    blocks, parts = 1, 1
    if k0 < min(target, 8):
        wanted = -(-target // k0)
        most = max(1, min(k1, columns // NARROWEST))
        if fold == 1 and most >= min(wanted, 4) and r0 * (columns // most) <= CACHED:
            blocks = min(wanted, most)
        else:
            parts = min(wanted, r0 // fold)
    if fold == 1 and columns // blocks > WIDEST:
        blocks = min(k1, -(-columns // WIDEST))
    width = fold * r1 * -(-k1 // blocks)
    sums = k0 * blocks * parts * ROWS * width
    coefficients = sums + 2 * k0 * columns
    geometry = [k0, r0, k1, r1, fold, blocks, parts, width, *gamma, *beta, sums, coefficients]
    group, j = np.divmod(np.arange(columns), r1)
    for entry in (group, *(group % t.n1 * t.p1 + j // (r1 // t.p1) for t in (gamma, beta))):
        geometry.extend(np.tile(entry, fold))
    return _plan(columns_forward, columns_backward, k0 * blocks, parts, geometry, sums, (k0, k1, r1), form, gamma, beta)


def _target(size: int) -> int:
    """How many chunks to aim at: a power of two, so that they share out evenly."""
    return 1 << (max(1, min(MOST_CHUNKS, size // LEAST_CHUNK)).bit_length() - 1)


def _plan(forward, backward, blocks, parts, geometry, sums, sums_shape, form, gamma, beta) -> Plan:
    # Behind the sums as much again (tables of layers, coefficients), or two coefficients a group; then a zero a group.
    size = 2 * prod(sums_shape)
    workspace = sums + size + max(size, 2 * form.groups) + form.groups
    if beta != NONE:
        workspace = max(workspace, plan_for(form, gamma, NONE).workspace)
    table = np.array(geometry, np.int64)
    return Plan(
        forward, backward, blocks * parts, blocks, parts > 1, form.size, table, sums, sums_shape, size, workspace,
        form, gamma, beta,
    )  # fmt: skip


def _forward(stages, y, mean, var, work, x, gamma, beta, plan, epsilon):
    if plan.size == 0:
        if stages & SUMS:
            mean.fill(0.0)
            var.fill(0.0)
        return
    if stages & APPLY and ((gamma is None and plan.gamma != NONE) or (beta is None and plan.beta != NONE)):
        raise ValueError("None given where the plan has a table")
    kernel, chunks, size = plan.forward, plan.chunks, plan.size
    arguments = (
        y.ravel(),
        mean.ravel(),
        var.ravel(),
        work,
        x.ravel(),
        _ones[x.dtype] if gamma is None else gamma.ravel(),
        _zeros[x.dtype] if beta is None else beta.ravel(),
        plan.geometry,
        epsilon,
    )
    if not plan.split:
        kernel(chunks, size, stages, *arguments)
        return
    if stages & SUMS:
        kernel(chunks, size, SUMS, *arguments)
        kernel(plan.combine_chunks, 0, COMBINE, *arguments)
    if stages & APPLY:
        kernel(chunks, size, APPLY, *arguments)


def _backward(free, dx, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon):
    if plan.size == 0:
        for gradient in (dgamma, dbeta, *((dmean, dvar) if free else ())):
            if gradient is not None:
                gradient.fill(0.0)
        return
    if gamma is None and plan.gamma != NONE:
        raise ValueError("None given where the plan has a table")
    nothing = _nothing[x.dtype]
    kernel, chunks, size, geometry = plan.backward, plan.chunks, plan.size, plan.geometry
    arguments = (
        free,
        nothing if dx is None else dx.ravel(),
        _no_statistics if dmean is None else dmean.ravel(),
        _no_statistics if dvar is None else dvar.ravel(),
        work,
        dy.ravel(),
        x.ravel(),
        mean.ravel(),
        var.ravel(),
        _ones[x.dtype] if gamma is None else gamma.ravel(),
        geometry,
        epsilon,
    )
    elements = 0 if dx is None else APPLY
    if plan.split:
        kernel(chunks, size, SUMS, *arguments)
        kernel(plan.combine_chunks, 0, COMBINE, *arguments)
        if elements:
            kernel(chunks, size, APPLY, *arguments)
    else:
        kernel(chunks, size, SUMS | COMBINE | elements, *arguments)
    if dgamma is not None or dbeta is not None:
        dgamma = nothing if dgamma is None else dgamma.ravel()
        dbeta = nothing if dbeta is None else dbeta.ravel()
        parameters(2, plan.sums_size, dgamma, dbeta, work[plan.sums :], *plan.sums_shape, geometry)
