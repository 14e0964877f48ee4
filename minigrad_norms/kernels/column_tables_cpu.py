"""What the column kernels spread over columns before they run over rows: tables, and what becomes of sums.

`grouped` is None where a group is one column, as in batch norm, which then compiles nothing else.
"""

from minigrad.devices import cpu
from minigrad_norms.kernels.shared_cpu import ALARM, far, rstd_of, wild


@cpu.jit
def over_columns(row, values, columns, r1, grouped):
    """A value a group over the group's columns."""
    if grouped is None:
        for j in range(columns):
            row[j] = values[j]
    else:
        for g in range(values.size):
            part = row[g * r1 : g * r1 + r1]
            for j in range(r1):
                part[j] = values[g]


@cpu.jit
def copies(row, columns):
    """The first columns once more for each copy of them in a folded row."""
    for at in range(columns, row.size, columns):
        part = row[at : at + columns]
        for j in range(columns):
            part[j] = row[j]


@cpu.jit
def spread(row, table, place, columns, geometry, i0, one, grouped):
    """The entries of a table of scale or shift over the columns of the groups from `one` on."""
    m0, n1, p1, r1 = place[0], place[1], place[2], geometry[3]
    start = i0 % m0 * n1 * p1
    if grouped is None:
        if n1 > 1:
            part = table[start + one :]
            for j in range(columns):
                row[j] = part[j]
        else:
            for j in range(columns):
                row[j] = table[start]
    else:
        length = r1 // p1
        for g in range(columns // r1):
            entry = start + (one + g if n1 > 1 else 0) * p1
            for p in range(p1):
                part = row[g * r1 + p * length : g * r1 + p * length + length]
                for j in range(length):
                    part[j] = table[entry + p]


@cpu.jit(exact=True)
def over_rstd(row, other, variances, columns, epsilon, r1, grouped):
    """1/√(σ² + ε) over columns; `other` is used up where a group has several."""
    if grouped is None:
        for c in range(variances.size):
            row[c] = rstd_of(variances[c], epsilon)
    else:
        for c in range(variances.size):
            other[c] = rstd_of(variances[c], epsilon)
        over_columns(row, other[: variances.size], columns, r1, grouped)


@cpu.jit(exact=True)
def scale_and_shift(
    area, near, a, b, mask, means, variances, gamma, beta, geometry, i0, one, epsilon, work, grouped, redo
):
    """The tables of y = (x − near)·a + b, and of where float32 does not reach."""
    w, r1 = near.size, geometry[3]
    columns = means.size * r1
    mean, rstd, scale, shift = area[:w], area[w : 2 * w], area[4 * w : 5 * w], area[5 * w : 6 * w]
    over_rstd(rstd, mean, variances, columns, epsilon, r1, grouped)
    over_columns(mean, means, columns, r1, grouped)
    spread(scale, gamma, geometry[8:11], columns, geometry, i0, one, grouped)
    spread(shift, beta, geometry[11:14], columns, geometry, i0, one, grouped)
    strange = 0
    for j in range(columns):
        factor = rstd[j] * scale[j]
        beyond = wild(mean[j], rstd[j]) or far(factor)
        strange += beyond
        near[j] = mean[j]
        a[j] = factor
        b[j] = shift[j] - (mean[j] - near[j]) * factor
        if redo is not None:
            mask[j] = beyond
    if near.itemsize == 4 and strange > 0:
        work[0] = ALARM
    if redo is not None:
        copies(mask, columns)
    copies(near, columns)
    copies(a, columns)
    copies(b, columns)


@cpu.jit(exact=True)
def through_columns(area, near, means, variances, gamma, geometry, i0, one, epsilon, grouped):
    """From Σ dy and Σ dy·(x − near), in rows 2 and 3: what reaches mean and variance, there; shift and scale, in rows 0
    and 1; and in row 5 whether float32 does not reach."""
    w, r1 = near.size, geometry[3]
    columns = means.size * r1
    mean, rstd, scale, strange = area[:w], area[w : 2 * w], area[4 * w : 5 * w], area[5 * w : 6 * w]
    s1, s2 = area[2 * w : 3 * w], area[3 * w : 4 * w]
    over_rstd(rstd, mean, variances, columns, epsilon, r1, grouped)
    over_columns(mean, means, columns, r1, grouped)
    spread(scale, gamma, geometry[8:11], columns, geometry, i0, one, grouped)
    for j in range(columns):
        m, r, first = mean[j], rstd[j], s1[j]
        second = (s2[j] - (m - near[j]) * first) * r
        along = r * scale[j]
        mean[j] = first
        rstd[j] = second
        s1[j] = -along * first
        s2[j] = -0.5 * (along * second) * r
        strange[j] = wild(m, r) or far(along)


@cpu.jit(exact=True)
def slopes(area, near, a, b, c, means, variances, to_mean, to_var, gamma, geometry, i0, one, epsilon, free, grouped):
    """The tables of dx = dy·a + ((x − near)·b + c)."""
    w, r1 = near.size, geometry[3]
    columns = means.size * r1
    mean, rstd, scale = area[:w], area[w : 2 * w], area[4 * w : 5 * w]
    first, second = area[2 * w : 3 * w], area[3 * w : 4 * w]
    over_rstd(rstd, mean, variances, columns, epsilon, r1, grouped)
    over_columns(mean, means, columns, r1, grouped)
    over_columns(first, to_mean, columns, r1, grouped)
    over_columns(second, to_var, columns, r1, grouped)
    spread(scale, gamma, geometry[8:11], columns, geometry, i0, one, grouped)
    for j in range(columns):
        a[j] = rstd[j] * scale[j]
        b[j] = 0.0 if free else second[j]
        c[j] = 0.0 if free else first[j] - (mean[j] - near[j]) * second[j]
    copies(a, columns)
    copies(b, columns)
    copies(c, columns)


@cpu.jit
def sums_of_groups(totals, row, r1, grouped):
    if grouped is None:
        for g in range(totals.size):
            totals[g] = row[g]
    else:
        for g in range(totals.size):
            part = row[g * r1 : g * r1 + r1]
            total = 0.0
            for j in range(r1):
                total += part[j]
            totals[g] = total


@cpu.jit
def put(row, values, columns, mask, redo):
    """The values, or in a second run those where the mask is not 0."""
    for j in range(columns):
        if redo is None or mask[j] != 0.0:
            row[j] = values[j]


@cpu.jit
def exchange(cotangent, row, mask, free, redo):
    """What reaches a statistic is given out where it is an input, and joined by its cotangent where it is an output."""
    if free:
        put(cotangent, row, row.size, mask, redo)
    else:
        for g in range(row.size):
            row[g] += cotangent[g]


@cpu.jit
def scale_some(y, x, near, a, b, mask, limits):
    for j in range(y.size):
        if mask[j] != 0.0:
            value = (x[j] - near[j]) * a[j] + b[j]
            if limits is not None:
                value = limits[0] if value <= limits[0] else (limits[1] if value >= limits[1] else value)
            y[j] = value


@cpu.jit
def slope_some(dx, dy, x, near, a, b, c, mask):
    for j in range(dx.size):
        if mask[j] != 0.0:
            dx[j] = dy[j] * a[j] + ((x[j] - near[j]) * b[j] + c[j])
