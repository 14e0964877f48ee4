"""CPU kernels for groups that lie across rows, (k0, r0, k1·r1) with r1 small: statistics of columns, some rows a step.

A chunk is a block of columns (whole groups) of one i0, or where that is too few or too large, a part of its rows. Few
columns are folded: `fold` rows of x make one row here, and the statistics of a column's copies are merged.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.shared_cpu import (
    AGAIN,
    ALARM,
    APPLY,
    COMBINE,
    RAW,
    RELU,
    SIX,
    START,
    SUMS,
    TOTAL,
    clamp,
    copy_to,
    doubtful,
    far,
    gate,
    put,
    rstd_of,
    unpack,
    wild,
)

TILE = 16  # steps of four rows that are summed about one shift
ROWS = 15  # float64 rows of workspace a chunk has: four of sums, seven tables, four rows of gradient behind a clamp


@cpu.chunked
def columns_forward(chunk, stages, work, y, mean, var, x, gamma, beta, geometry, epsilon, like):
    _, r0, k1, r1, fold, _, parts, width, _, _, _, _, _, _, _, _ = unpack(geometry)
    i0, low, columns, area, start, count, tail = place(chunk, stages, geometry, work)
    w, step = fold * columns, fold * k1 * r1
    m, m2, s1, s2 = area[:w], area[w : 2 * w], area[2 * w : 3 * w], area[3 * w : 4 * w]
    tables = area[4 * w : 8 * w].view(like.dtype)
    near, a, b, again = tables[:w], tables[w : 2 * w], tables[2 * w : 3 * w], tables[3 * w : 4 * w]
    one, some = low // r1, columns // r1  # its first group and how many
    means, variances = mean[i0 * k1 + one :][:some], var[i0 * k1 + one :][:some]

    if stages & SUMS:
        moments_of_rows(stages, m, m2, s1, s2, near, x, start, count, step, tail)

    if stages & COMBINE:
        rows, more = r0 // fold, r0 % fold  # the first `more` copies of a column have a row more
        done = count  # part is 0 here
        for other in range(1, parts):
            there = area[other * ROWS * width :]
            count = rows * (other + 1) // parts - rows * other // parts
            merge(m, m2, there, there[w:], done, count, more * columns if other == parts - 1 else 0)
            done += count
        done = rows + (1 if more > 0 else 0)
        for copy in range(1, fold):
            at = copy * columns
            count = rows + (1 if copy < more else 0)
            merge(m[:columns], m2, m[at:], m2[at:], done, count, 0)
            done += count
        if r1 > 1:
            merge_groups(m, m2, r0, r1, some)
        weight = 1.0 / (1 if stages & TOTAL else r0 * r1)
        if stages & AGAIN:
            for c in range(some):
                if doubtful(variances[c], epsilon):
                    means[c] = m[c]
                    variances[c] = m2[c] * weight
        else:
            strange = 0
            for c in range(some):
                means[c] = m[c]
                variances[c] = m2[c] * weight
                strange += doubtful(variances[c], epsilon)
            if strange > 0 and like.itemsize == 4:
                work[0] = ALARM

    if stages & APPLY:
        scale_and_shift(
            area, near, a, b, again, means, variances, gamma, beta, geometry, i0, one, columns, epsilon, work
        )
        for i in range(count + 1):  # the row after the last is cut short
            at = start + i * step
            end = at + (w if i < count else tail)
            if stages & AGAIN and like.itemsize == 8:  # which float32 need not compile
                scale_some(y[at:end], x[at:end], near, a, b, again, stages)
            else:
                scale_row(y[at:end], x[at:end], near, a, b)
                if stages & RELU:
                    clamp(y[at:end], stages)


@cpu.chunked
def columns_backward(
    chunk, stages, work, free, dx, dgamma, dbeta, dmean, dvar, dy, x, mean, var, gamma, beta, geometry, epsilon, like
):
    k0, r0, k1, r1, fold, _, parts, width, gm, gn, gp, _, _, _, sums, coefficients = unpack(geometry)
    i0, low, columns, area, start, count, tail = place(chunk, stages, geometry, work)
    w, step = fold * columns, fold * k1 * r1
    s1, s2 = area[2 * w : 3 * w], area[3 * w : 4 * w]
    tables = area[4 * w : 11 * w].view(like.dtype)
    near, a, b, c = tables[:w], tables[w : 2 * w], tables[2 * w : 3 * w], tables[3 * w : 4 * w]
    a_y, b_y, again = tables[4 * w : 5 * w], tables[5 * w : 6 * w], tables[6 * w : 7 * w]
    gated = area[11 * w : 15 * w].view(x.dtype)[: 4 * w]
    one, some = low // r1, columns // r1
    means, variances = mean[i0 * k1 + one :][:some], var[i0 * k1 + one :][:some]
    to_mean = work[coefficients + i0 * k1 + one :][:some]
    to_var = work[coefficients + (k0 + i0) * k1 + one :][:some]
    flags = work[coefficients + (2 * k0 + i0) * k1 + one :][:some]  # of groups that float32 does not reach
    quarter = count // 4
    apart = quarter * step
    if stages & RELU and stages & (SUMS | APPLY):
        scale_and_shift(
            area, near, a_y, b_y, again, means, variances, gamma, beta, geometry, i0, one, columns, epsilon, work
        )
    else:
        over_columns(near[:columns], means, r1)
        copies(near, columns)
    if stages & AGAIN:
        over_columns(again[:columns], flags, r1)
        copies(again, columns)

    if stages & SUMS:
        for j in range(w):
            s1[j] = 0.0
            s2[j] = 0.0
        for i in range(quarter):
            at = start + i * step
            end = at + 3 * apart + w
            slope, gap = dy[at:end], apart
            if stages & RELU:
                for row in range(4):
                    here = at + row * apart
                    gate(gated[row * w :][:w], dy[here:], x[here:], near, a_y, b_y, stages)
                slope, gap = gated, w
            products_four(s1, s2, slope, gap, x[at:end], apart, near)
        for i in range(4 * quarter, count + 1):
            at = start + i * step
            end = at + (w if i < count else tail)
            slope = dy[at:end]
            if stages & RELU:
                gate(gated[: end - at], slope, x[at:end], near, a_y, b_y, stages)
                slope = gated
            products_row(s1, s2, slope, x[at:end], near)

    if stages & COMBINE:
        for other in range(1, parts):
            add_to(area[2 * w : 4 * w], area[other * ROWS * width + 2 * w :])
        for copy in range(1, fold):
            add_to(s1[:columns], s1[copy * columns :])
            add_to(s2[:columns], s2[copy * columns :])
        shift_sums, scale_sums = area[:columns], area[w : w + columns]
        strange = c[:columns]
        spread(a[:columns], gamma, i0, one, gm, gn, gp, r1)
        through_columns(shift_sums, scale_sums, s1, s2, a[:columns], near, strange, means, variances, epsilon, r1)
        mask = again[: columns if stages & AGAIN else 0]
        put(work[sums + (i0 * k1 + one) * r1 :][:columns], shift_sums, mask)
        put(work[sums + ((k0 + i0) * k1 + one) * r1 :][:columns], scale_sums, mask)
        if dgamma.size > 0:
            put(dgamma[low : low + columns], scale_sums, mask)
        if dbeta.size > 0:
            put(dbeta[low : low + columns], shift_sums, mask)
        sums_of_groups(to_mean, s1, r1)
        sums_of_groups(to_var, s2, r1)
        exchange(dmean, i0 * k1 + one, to_mean, flags[: some if stages & AGAIN else 0], free)
        exchange(dvar, i0 * k1 + one, to_var, flags[: some if stages & AGAIN else 0], free)
        weight = 1.0 / (r0 * r1)
        for g in range(some):
            to_mean[g] *= 0.0 if stages & RAW else weight
            to_var[g] *= 2.0 if stages & TOTAL else 2.0 * weight
        if not stages & AGAIN:
            sums_of_groups(flags, strange, r1)
            total = 0.0
            for g in range(some):
                flags[g] += far(to_mean[g]) + far(to_var[g])
                total += flags[g]
            if total > 0.0 and like.itemsize == 4:
                work[0] = ALARM

    if stages & APPLY:
        slopes(area, near, a, b, c, means, variances, to_mean, to_var, gamma, geometry, i0, one, columns, epsilon, free)
        for i in range(count + 1):
            at = start + i * step
            end = at + (w if i < count else tail)
            slope = dy[at:end]
            if stages & RELU:
                gate(gated[: end - at], slope, x[at:end], near, a_y, b_y, stages)
                slope = gated
            # Where the statistics are inputs b and c are 0, and what stands for x is not to bring in an infinity.
            source = slope if free else x[at:end]
            if stages & AGAIN and like.itemsize == 8:
                slope_some(dx[at:end], slope, source, near, a, b, c, again)
            else:
                slope_row(dx[at:end], slope, source, near, a, b, c)


@cpu.jit
def place(chunk, stages, geometry, work):
    """Where a chunk lies: i0, first column, columns; its workspace; first row in x, full rows, size of a cut row."""
    r0, k1, r1, fold, blocks, parts = geometry[1], geometry[2], geometry[3], geometry[4], geometry[5], geometry[6]
    part = 0
    if stages & (SUMS | APPLY):  # the chunks of COMBINE alone have no parts
        part = chunk % parts
        chunk = chunk // parts
    i0, block = chunk // blocks, chunk % blocks
    low = k1 * block // blocks * r1
    columns = k1 * (block + 1) // blocks * r1 - low
    rows = r0 // fold
    first = rows * part // parts
    count = rows * (part + 1) // parts - first
    tail = r0 % fold * columns if part == parts - 1 else 0
    start = (i0 * r0 + first * fold) * k1 * r1 + low
    return i0, low, columns, work[START + (chunk * parts + part) * geometry[7] * ROWS :], start, count, tail


# What is `exact` gives the same bits wherever it is inlined: the parallel form of a kernel is compiled anew.

# ------------------------------------------------------------------------------------------------------------- tables


@cpu.jit
def spread(row, table, i0, one, m0, n1, p1, r1):
    """The entries of a table of scale or shift over the columns of the groups from `one` on."""
    start = i0 % m0 * n1 * p1
    if r1 > 1:
        piece = r1 // p1
        for g in range(row.size // r1):
            entry = start + (one + g if n1 > 1 else 0) * p1
            for p in range(p1):
                fill(row[g * r1 + p * piece :][:piece], table[entry + p])
    elif n1 > 1:
        copy_to(row, table[start + one :])
    else:
        fill(row, table[start])


@cpu.jit
def over_columns(row, values, r1):
    """A value a group over the group's columns."""
    if r1 > 1:
        for g in range(values.size):
            fill(row[g * r1 :][:r1], values[g])
    else:
        copy_to(row, values)


@cpu.jit
def fill(row, value):
    for j in range(row.size):
        row[j] = value


@cpu.jit
def copies(row, columns):
    """The first columns once more for each copy of them in a folded row."""
    for at in range(columns, row.size, columns):
        copy_to(row[at : at + columns], row)


@cpu.jit
def over_rstd(row, other, variances, epsilon, r1):
    for c in range(variances.size):
        other[c] = rstd_of(variances[c], epsilon)
    over_columns(row, other[: variances.size], r1)


@cpu.jit(exact=True)
def scale_and_shift(area, near, a, b, again, means, variances, gamma, beta, geometry, i0, one, columns, epsilon, work):
    """The tables of y = (x − near)·a + b, and of where float32 does not reach."""
    w, r1 = near.size, geometry[3]
    mean, rstd, spare = area[:columns], area[w : w + columns], area[2 * w : 2 * w + columns]
    over_columns(mean, means, r1)
    over_rstd(rstd, spare, variances, epsilon, r1)
    spread(a[:columns], gamma, i0, one, geometry[8], geometry[9], geometry[10], r1)
    spread(b[:columns], beta, i0, one, geometry[11], geometry[12], geometry[13], r1)
    strange = 0
    for j in range(columns):
        scale = rstd[j] * a[j]
        beyond = wild(mean[j], rstd[j]) or far(scale)
        strange += beyond
        again[j] = beyond
        near[j] = mean[j]
        a[j] = scale
        b[j] = b[j] - (mean[j] - near[j]) * scale
    if strange > 0 and near.itemsize == 4:
        work[0] = ALARM
    copies(near, columns)
    copies(a, columns)
    copies(b, columns)
    copies(again, columns)


@cpu.jit(exact=True)
def slopes(area, near, a, b, c, means, variances, to_mean, to_var, gamma, geometry, i0, one, columns, epsilon, free):
    """The tables of dx = dy·a + ((x − near)·b + c)."""
    w, r1 = near.size, geometry[3]
    mean, rstd, spare = area[:columns], area[w : w + columns], area[2 * w : 2 * w + columns]
    over_columns(mean, means, r1)
    over_rstd(rstd, spare, variances, epsilon, r1)
    first, second = spare, area[3 * w : 3 * w + columns]
    if free:
        fill(first, 0.0)
        fill(second, 0.0)
    else:
        over_columns(first, to_mean, r1)
        over_columns(second, to_var, r1)
    spread(a[:columns], gamma, i0, one, geometry[8], geometry[9], geometry[10], r1)
    for j in range(columns):
        a[j] = rstd[j] * a[j]
        b[j] = second[j]
        c[j] = first[j] - (mean[j] - near[j]) * second[j]
    copies(a, columns)
    copies(b, columns)
    copies(c, columns)


# -------------------------------------------------------------------------------------------------------------- sums


@cpu.jit
def moments_of_rows(stages, m, m2, s1, s2, near, x, start, count, step, tail):
    """Mean and Σ(x − mean)² of each column, one pass: a tile of rows is summed about the mean of those before it.

    The first is summed about the mean of four rows. The loss of digits in Σd² − (Σd)²/n is then bounded by what the
    tile's own distance from that mean adds to the result, and a constant column has d = 0 throughout. With RAW the
    shift stays 0.
    """
    w = m.size
    quarter = count // 4
    apart = quarter * step
    first_shift(stages, m, m2, near, x[start : start + 3 * apart + w], apart)
    i = 0
    done = 0
    while done < count:
        begin_tile(s1, s2)
        last = min(i + TILE, quarter)
        while i < last:
            at = start + i * step
            deviations_four(s1, s2, x[at : at + 3 * apart + w], apart, near)
            i += 1
        end = 4 * last
        if last == quarter:
            for row in range(4 * quarter, count):
                at = start + row * step
                deviations_row(s1, s2, x[at : at + w], near)
            end = count
        end_tile(stages, m, m2, s1, s2, near, done, end - done)
        done = end
    if tail > 0:
        at = start + count * step
        begin_tile(s1, s2)
        deviations_row(s1, s2, x[at : at + tail], near)
        end_tile(stages, m[:tail], m2, s1, s2, near, count, 1)


@cpu.jit
def first_shift(stages, m, m2, near, x, apart):
    """The mean of four rows, or where there is none between them of one row, four times."""
    one = np.uint64(apart)
    two = one + one
    three = two + one
    quarter, zero = near.dtype.type(0.25), near.dtype.type(0.0)
    for j in range(np.uint64(near.size)):
        shift = ((x[j] + x[j + one]) + (x[j + two] + x[j + three])) * quarter
        near[j] = shift if abs(shift) < np.inf and not stages & RAW else zero
        m[j] = near[j]
        m2[j] = 0.0


@cpu.jit
def begin_tile(s1, s2):
    for j in range(s1.size):
        s1[j] = 0.0
        s2[j] = 0.0


@cpu.jit(exact=True)
def end_tile(stages, m, m2, s1, s2, near, done, count):
    """Add the sums of `count` rows about `near` to the moments of `done` rows, and move `near` to the mean."""
    if stages & RAW:
        add_to(m2[: m.size], s2)
        return
    weight = 1.0 / (done + count)
    for j in range(m.size):
        gap = m[j] - near[j] if abs(m[j]) < np.inf else 0.0
        total = s1[j] - count * gap  # Σ(x − m)
        m2[j] += (s2[j] - gap * (s1[j] + total)) - total * total * weight
        mean = m[j] + total * weight
        m[j] = mean
        if abs(mean) < np.inf:
            near[j] = mean


@cpu.jit(exact=True)
def merge(m, m2, other_m, other_m2, n, other_n, longer):
    """Chan's formula: the moments of n rows and of other_n, or one more in the first `longer` columns, together."""
    for j in range(m.size):
        there = other_n + (1.0 if j < longer else 0.0)
        weight = there / (n + there)
        d = other_m[j] - m[j] if abs(m[j]) < np.inf else other_m[j]
        m[j] += d * weight
        m2[j] += other_m2[j] + d * d * (n * weight)


@cpu.jit(exact=True)
def merge_groups(m, m2, rows, r1, groups):
    """The moments of columns, which have equally many rows, merged within each group, to the front."""
    for g in range(groups):
        means, squares = m[g * r1 :][:r1], m2[g * r1 :][:r1]
        origin = means[0]
        total = 0.0
        for j in range(r1):
            total += means[j] - origin
        centre = origin + total / r1
        between = 0.0
        within = 0.0
        for j in range(r1):
            d = means[j] - centre
            between += d * d
            within += squares[j]
        m[g] = centre
        m2[g] = within + rows * between


@cpu.jit(exact=True)
def through_columns(shift_sums, scale_sums, s1, s2, scale, near, strange, means, variances, epsilon, r1):
    """From Σ dy and Σ dy·(x − near): what reaches shift, scale, and, left in s1 and s2, mean and variance."""
    over_rstd(scale_sums, shift_sums, variances, epsilon, r1)
    over_columns(shift_sums, means, r1)
    for j in range(scale.size):
        m, r = shift_sums[j], scale_sums[j]
        first = s1[j]
        second = (s2[j] - (m - near[j]) * first) * r
        along = r * scale[j]
        shift_sums[j] = first
        scale_sums[j] = second
        s1[j] = -along * first
        s2[j] = -0.5 * (along * second) * r
        strange[j] = wild(m, r) or far(along)


@cpu.jit
def sums_of_groups(totals, row, r1):
    if r1 > 1:
        for g in range(totals.size):
            part = row[g * r1 :][:r1]
            total = 0.0
            for j in range(r1):
                total += part[j]
            totals[g] = total
    else:
        copy_to(totals, row)


@cpu.jit
def exchange(cotangent, at, row, mask, free):
    """What reaches a statistic is given out where it is an input, and joined by its cotangent where it is an output."""
    if cotangent.size > 0:
        part = cotangent[at : at + row.size]
        if free:
            put(part, row, mask)
        else:
            add_to(row, part)


@cpu.jit
def add_to(total, other):
    for j in range(total.size):
        total[j] += other[j]


# ------------------------------------------------------------------------------------------------------- inner loops
# Rows taken together share the loads and stores of the float64 rows. They lie far apart, in pages of their own: the
# processor's prefetcher follows several streams, but not several within a page. They are one slice with unsigned
# offsets: an unsigned index does not wrap around, and then LLVM vectorizes.


@cpu.jit
def deviations_four(s1, s2, x, apart, near):
    one = np.uint64(apart)
    two = one + one
    three = two + one
    for j in range(np.uint64(near.size)):
        e = near[j]
        p, q, r, s = x[j] - e, x[j + one] - e, x[j + two] - e, x[j + three] - e
        s1[j] += (p + q) + (r + s)
        s2[j] += (p * p + q * q) + (r * r + s * s)


@cpu.jit
def deviations_row(s1, s2, x, near):
    for j in range(x.size):
        d = x[j] - near[j]
        s1[j] += d
        s2[j] += d * d


@cpu.jit
def scale_row(y, x, near, a, b):
    for j in range(x.size):
        y[j] = (x[j] - near[j]) * a[j] + b[j]


@cpu.jit
def scale_some(y, x, near, a, b, mask, stages):
    top = 6.0 if stages & SIX else np.inf
    for j in range(x.size):
        if mask[j] != 0.0:
            value = (x[j] - near[j]) * a[j] + b[j]
            if stages & RELU:
                value = 0.0 if value <= 0.0 else (top if value >= top else value)
            y[j] = value


@cpu.jit
def slope_some(dx, dy, x, near, a, b, c, mask):
    for j in range(dx.size):
        if mask[j] != 0.0:
            dx[j] = dy[j] * a[j] + ((x[j] - near[j]) * b[j] + c[j])


@cpu.jit
def products_four(s1, s2, dy, gap, x, apart, near):
    one, i = np.uint64(apart), np.uint64(gap)
    two, ii = one + one, i + i
    three, iii = two + one, ii + i
    zero = near.dtype.type(0.0)
    for j in range(np.uint64(near.size)):
        e = near[j]
        p, q, r, s = dy[j] + zero, dy[j + i] + zero, dy[j + ii] + zero, dy[j + iii] + zero
        s1[j] += (p + q) + (r + s)
        s2[j] += (p * (x[j] - e) + q * (x[j + one] - e)) + (r * (x[j + two] - e) + s * (x[j + three] - e))


@cpu.jit
def products_row(s1, s2, dy, x, near):
    for j in range(x.size):
        s1[j] += dy[j]
        s2[j] += dy[j] * (x[j] - near[j])


@cpu.jit
def slope_row(dx, dy, x, near, a, b, c):
    for j in range(dx.size):
        dx[j] = dy[j] * a[j] + ((x[j] - near[j]) * b[j] + c[j])
