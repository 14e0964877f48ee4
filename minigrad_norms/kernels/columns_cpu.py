"""CPU kernels for groups that lie across rows, (k0, r0, k1·r1) with r1 small: statistics of columns, some rows a step.

A chunk is a block of columns (whole groups) of one i0, or where that is too few or too large, a part of its rows. Few
columns are folded: `fold` rows of x make one row here, and the statistics of a column's copies are merged.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.column_moments_cpu import (
    NARROW,
    ROWS,
    add_to,
    merge_all,
    merge_groups,
    moments_of_rows,
    widen,
    zero,
)
from minigrad_norms.kernels.column_tables_cpu import (
    copies,
    exchange,
    over_columns,
    put,
    scale_and_shift,
    scale_some,
    slope_some,
    slopes,
    sums_of_groups,
    through_columns,
)
from minigrad_norms.kernels.shared_cpu import (
    ALARM,
    APPLY,
    COMBINE,
    RAW,
    START,
    SUMS,
    TOTAL,
    clamp,
    doubtful,
    far,
    gate,
)


@cpu.chunked
def columns_forward(
    chunk, stages, work, y, mean, var, x, gamma, beta, geometry, epsilon, limits, grouped, like, redo
):  # fmt: skip
    r0, k1, r1, fold, parts = geometry[1], geometry[2], geometry[3], geometry[4], geometry[6]
    i0, one, some, area, start, count, tail = place(chunk, stages, geometry, work)
    columns = some * r1
    w, step = fold * columns, fold * k1 * r1
    m, m2 = area[:w], area[w : 2 * w]
    tables = area[6 * w : 13 * w].view(like.dtype)
    near, a, b, mask = tables[:w], tables[w : 2 * w], tables[2 * w : 3 * w], tables[6 * w :]
    t1, t2 = a, b
    means, variances = mean[i0 * k1 + one : i0 * k1 + one + some], var[i0 * k1 + one : i0 * k1 + one + some]

    if stages & SUMS:
        moments_of_rows(stages, area, near, t1, t2, x, start, count, step, tail)

    if stages & COMBINE:
        merge_all(m, m2, area, r0, fold, parts, count, columns, geometry[7])
        if grouped is not None:
            merge_groups(m, m2, r0, r1, some)
        weight = 1.0 / (1 if stages & TOTAL else r0 * r1)
        strange = 0
        for c in range(some):
            if redo is not None and not doubtful(variances[c], epsilon):
                continue
            means[c] = m[c]
            variances[c] = m2[c] * weight
            strange += doubtful(variances[c], epsilon)
        if like.itemsize == 4 and redo is None and strange > 0:
            work[0] = ALARM

    if stages & APPLY:
        scale_and_shift(
            area, near, a, b, mask, means, variances, gamma, beta, geometry, i0, one, epsilon, work, grouped, redo
        )
        for i in range(count + 1):  # the row after the last is cut short
            here = last_read(i, count)
            at = start + here * step
            size = w if here < count else tail
            out, row = y[at : at + size], x[at : at + size]
            if redo is not None:
                scale_some(out, row, near, a, b, mask, limits)
                continue
            scale_row(out, row, near, a, b)
            if limits is not None:
                clamp(out, limits)


@cpu.chunked
def columns_backward(
    chunk, stages, work, free, dx, dgamma, dbeta, dmean, dvar, dy, x, mean, var, gamma, beta, geometry, epsilon,
    limits, grouped, like, redo,
):  # fmt: skip
    k0, r0, k1, r1, fold, parts = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[6]
    i0, one, some, area, start, count, tail = place(chunk, stages, geometry, work)
    columns = some * r1
    w, step = fold * columns, fold * k1 * r1
    s1, s2 = area[2 * w : 3 * w], area[3 * w : 4 * w]
    tables = area[6 * w : 13 * w].view(like.dtype)
    near, group = tables[:w], i0 * k1 + one
    t1, t2 = tables[w : 2 * w], tables[2 * w : 3 * w]
    means, variances = mean[group : group + some], var[group : group + some]
    at = geometry[15] + group
    to_mean, to_var = work[at : at + some], work[at + k0 * k1 :][:some]
    flags = work[at + 2 * k0 * k1 :][:some]  # of groups that float32 does not reach
    quarter = count // 4
    apart = quarter * step
    over_columns(near, means, columns, r1, grouped)
    copies(near, columns)
    mask = near
    if redo is not None:
        mask = tables[6 * w :]
    if limits is not None:
        a_y, b_y = tables[4 * w : 5 * w], tables[5 * w : 6 * w]
        gated = area[13 * w : 17 * w].view(x.dtype)
        if stages & (SUMS | APPLY):
            scale_and_shift(
                area, near, a_y, b_y, mask, means, variances, gamma, beta, geometry, i0, one, epsilon, work, grouped,
                redo,
            )  # fmt: skip
    if redo is not None:
        over_columns(mask, flags, columns, r1, grouped)
        copies(mask, columns)

    if stages & SUMS:
        zero(s1, s2)
        zero(t1, t2)
        for i in range(quarter):
            at = start + i * step
            size = 3 * apart + w
            slope, gap = dy[at : at + size], apart
            if limits is not None:
                for row in range(4):
                    here = at + row * apart
                    gate(gated[row * w : row * w + w], dy[here:], x[here:], near, a_y, b_y, limits)
                slope, gap = gated, w
            products_four(t1, t2, slope, gap, x[at : at + size], apart, near)
            if (i + 1) % NARROW == 0 or i == quarter - 1:
                widen(s1, s2, t1, t2)
        for i in range(4 * quarter, count + 1):
            at = start + i * step
            size = w if i < count else tail
            slope = dy[at : at + size]
            if limits is not None:
                gate(gated[:size], slope, x[at:], near, a_y, b_y, limits)
                slope = gated
            products_row(s1, s2, slope, x[at : at + size], near)

    if stages & COMBINE:
        for other in range(1, parts):
            add_to(area[2 * w :][: 2 * w], area[other * ROWS * geometry[7] + 2 * w :])
        for copy in range(1, fold):
            add_to(s1[:columns], s1[copy * columns :])
            add_to(s2[:columns], s2[copy * columns :])
        through_columns(area, near, means, variances, gamma, geometry, i0, one, epsilon, grouped)
        shift_sums, scale_sums, strange = area[:w], area[w : 2 * w], area[5 * w : 6 * w]
        if dgamma is not None:
            put(dgamma[one:], scale_sums, columns, mask, redo)
        else:
            put(work[geometry[14] + (k0 * k1 + group) * r1 :], scale_sums, columns, mask, redo)
        if dbeta is not None:
            put(dbeta[one:], shift_sums, columns, mask, redo)
        else:
            put(work[geometry[14] + group * r1 :], shift_sums, columns, mask, redo)
        sums_of_groups(to_mean, s1, r1, grouped)
        sums_of_groups(to_var, s2, r1, grouped)
        if dmean is not None:
            exchange(dmean[group:], to_mean, flags, free, redo)
        if dvar is not None:
            exchange(dvar[group:], to_var, flags, free, redo)
        finish(stages, to_mean, to_var, flags, strange, r0, r1, grouped, work, like, redo)

    if stages & APPLY:
        a, b, c = tables[w : 2 * w], tables[2 * w : 3 * w], tables[3 * w : 4 * w]
        slopes(area, near, a, b, c, means, variances, to_mean, to_var, gamma, geometry, i0, one, epsilon, free, grouped)
        for i in range(count + 1):
            here = last_read(i, count)
            at = start + here * step
            size = w if here < count else tail
            out, slope, source = dx[at : at + size], dy[at : at + size], x[at : at + size]
            if limits is not None:
                gate(gated[:size], slope, source, near, a_y, b_y, limits)
                slope = gated
            if free:  # b and c are 0 where the statistics are inputs, and what stands for x brings in no infinity
                source = slope
            if redo is not None:
                slope_some(out, slope, source, near, a, b, c, mask)
                continue
            slope_row(out, slope, source, near, a, b, c)


def places(geometry):
    """Where the chunks lie in x, as of `cpu.Kernel.places`."""
    k0, r0, k1, r1, fold, blocks, parts = map(int, geometry[:7])
    rows, found = r0 // fold, []
    for i0, block, part in np.ndindex(k0, blocks, parts):
        one = k1 * block // blocks
        some = k1 * (block + 1) // blocks - one
        first = rows * part // parts * fold
        count = (r0 if part == parts - 1 else rows * (part + 1) // parts * fold) - first
        start = ((i0 * r0 + first) * k1 + one) * r1
        found.append((start, count * some * r1, 1, 0) if blocks == 1 else (start, some * r1, count, k1 * r1))
    return np.array(found, np.int64)


@cpu.jit
def place(chunk, stages, geometry, work):
    """Where a chunk lies: i0, its first group, groups; its workspace; first row in x, full rows, size of a cut row."""
    r0, k1, r1, fold, blocks, parts = geometry[1], geometry[2], geometry[3], geometry[4], geometry[5], geometry[6]
    part = 0
    if stages & (SUMS | APPLY):  # the chunks of COMBINE alone have no parts
        part = chunk % parts
        chunk = chunk // parts
    i0, block = chunk // blocks, chunk % blocks
    one = k1 * block // blocks
    some = k1 * (block + 1) // blocks - one
    rows = r0 // fold
    first = rows * part // parts
    count = rows * (part + 1) // parts - first
    tail = r0 % fold * some * r1 if part == parts - 1 else 0
    start = ((i0 * r0 + first * fold) * k1 + one) * r1
    return i0, one, some, work[START + (chunk * parts + part) * geometry[7] * ROWS :], start, count, tail


@cpu.jit
def last_read(i, count):
    """The i-th of count + 1 rows from the end, in the order in which sums take them: what the cache still has."""
    row, quarter = count - i, count // 4
    return row if row >= 4 * quarter else row % 4 * quarter + row // 4


@cpu.jit
def finish(stages, to_mean, to_var, flags, strange, r0, r1, grouped, work, like, redo):
    """From what reaches mean and variance, the coefficients of 1 and x − mean; and the flags of groups."""
    weight = 1.0 / (r0 * r1)
    first, second = 0.0 if stages & RAW else weight, 2.0 if stages & TOTAL else 2.0 * weight
    for g in range(flags.size):
        to_mean[g] *= first
        to_var[g] *= second
    if redo is not None:
        return
    sums_of_groups(flags, strange, r1, grouped)
    total = 0.0
    for g in range(flags.size):
        flags[g] += far(to_mean[g]) + far(to_var[g])
        total += flags[g]
    if like.itemsize == 4 and total > 0.0:
        work[0] = ALARM


# ------------------------------------------------------------------------------------------------------- inner loops
# Rows taken together share the loads and stores of the float64 rows. They lie far apart, in pages of their own: the
# processor's prefetcher follows several streams, but not several within a page. They are one slice with unsigned
# offsets: an unsigned index does not wrap around, and then LLVM vectorizes.


@cpu.jit
def scale_row(y, x, near, a, b):
    for j in range(x.size):
        y[j] = (x[j] - near[j]) * a[j] + b[j]


@cpu.jit
def products_four(t1, t2, dy, gap, x, apart, near):
    one, i = np.uint64(apart), np.uint64(gap)
    two, ii = one + one, i + i
    three, iii = two + one, ii + i
    nothing = near.dtype.type(0.0)
    for j in range(np.uint64(near.size)):
        e = near[j]
        p, q, r, s = dy[j] + nothing, dy[j + i] + nothing, dy[j + ii] + nothing, dy[j + iii] + nothing
        t1[j] += (p + q) + (r + s)
        t2[j] += (p * (x[j] - e) + q * (x[j + one] - e)) + (r * (x[j + two] - e) + s * (x[j + three] - e))


@cpu.jit
def products_row(s1, s2, dy, x, near):
    for j in range(x.size):
        s1[j] += dy[j]
        s2[j] += dy[j] * (x[j] - near[j])


@cpu.jit
def slope_row(dx, dy, x, near, a, b, c):
    for j in range(dx.size):
        dx[j] = dy[j] * a[j] + ((x[j] - near[j]) * b[j] + c[j])
