"""CPU kernels for groups that lie across rows, (k0, r0, k1·r1) with r1 small: statistics of columns, some rows a step.

A chunk is a block of columns (whole groups) of one i0, or where that is too few or too large, a part of its rows. Few
columns are folded: `fold` rows of x make one row here, and the statistics of a column's copies are merged. The plan
lists for each column of a folded row its group and where its scale and shift are.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.shared_cpu import APPLY, COMBINE, SUMS, rstd_of, to_statistics, wild

TILE = 32  # rows summed about one shift; a multiple of four
ROWS = 6  # float64 rows of workspace a chunk has
LISTS = 16  # where the lists of columns begin in a plan's geometry


@cpu.chunked
def columns_forward(chunk, stages, y, mean, var, work, x, gamma, beta, geometry, epsilon):
    r0, k1, r1, fold, parts = geometry[1], geometry[2], geometry[3], geometry[4], geometry[6]
    i0, low, columns, start, first, count, tail = place(chunk, stages, geometry)
    w, step = fold * columns, fold * k1 * r1
    area = work[start * ROWS :]
    m, s1, s2, s3 = area[:w], area[w : 2 * w], area[2 * w : 3 * w], area[3 * w : 4 * w]
    lists = geometry[LISTS + low :].view(np.uint64)  # an unsigned index does not wrap around
    mean, var = mean[i0 * k1 :], var[i0 * k1 :]
    one, some = low // r1, columns // r1  # its first group and how many

    if stages & SUMS:
        moments_of_rows(m, s1, s2, s3, x, first, count, step, tail)

    if stages & COMBINE:
        rows = r0 // fold
        longer = r0 % fold * columns  # columns with one row more
        done = count  # part is 0 here
        for other in range(1, parts):
            there = area[other * ROWS * geometry[7] :]
            count = rows * (other + 1) // parts - rows * other // parts
            merge(m, s1, there, there[w:], done, count, longer if other == parts - 1 else 0)
            done += count
        weight = 1.0 / (r0 * r1)
        for c in range(one, one + some):
            mean[c] = 0.0
            var[c] = 0.0
        for j in range(w):
            mean[lists[j]] += (rows + (j < longer)) * (m[j] - m[lists[j] * r1 - low])
        for c in range(one, one + some):
            mean[c] = m[c * r1 - low] + mean[c] * weight
        for j in range(w):
            d = m[j] - mean[lists[j]]
            var[lists[j]] += s1[j] + (rows + (j < longer)) * (d * d)
        for c in range(one, one + some):
            var[c] *= weight

    if stages & APPLY:
        scales, shifts = lists[step : step + w], lists[2 * step : 2 * step + w]
        gamma = gamma[i0 % geometry[8] * geometry[9] * geometry[10] :]
        beta = beta[i0 % geometry[11] * geometry[12] * geometry[13] :]
        all_rstd(s3[:some], var[one : one + some], epsilon)
        exceptions = 0
        for j in range(w):
            m[j] = mean[lists[j]]
            s1[j] = s3[lists[j] - np.uint64(one)] * gamma[scales[j]]
            s2[j] = beta[shifts[j]]
            exceptions += wild(m[j], s1[j])
        if x.itemsize == 4 and exceptions == 0:  # in float32, with tables half as long
            narrow = area[4 * w : 6 * w].view(x.dtype)
            high, a, b = narrow[:w], narrow[w : 2 * w], narrow[2 * w : 3 * w]
            for j in range(w):
                high[j] = m[j]
                a[j] = s1[j]
                b[j] = s2[j] - (m[j] - high[j]) * s1[j]
            for i in range(count + 1):
                at = first + i * step
                end = at + (w if i < count else tail)
                scale_row(y[at:end], x[at:end], high, a, b)
        else:
            for i in range(count + 1):  # the row after the last is cut short
                at = first + i * step
                end = at + (w if i < count else tail)
                scale_row(y[at:end], x[at:end], m, s1, s2)


@cpu.chunked
def columns_backward(chunk, stages, free, dx, dmean, dvar, work, dy, x, mean, var, gamma, geometry, epsilon):
    k0, r0, k1, r1, fold, parts = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[6]
    sums, coefficients = geometry[14], geometry[15]
    i0, low, columns, start, first, count, tail = place(chunk, stages, geometry)
    w, step = fold * columns, fold * k1 * r1
    area = work[start * ROWS :]
    m, s1, s2, a = area[:w], area[w : 2 * w], area[2 * w : 3 * w], area[3 * w : 4 * w]
    b, c = area[4 * w : 5 * w], area[5 * w : 6 * w]
    groups = geometry[LISTS + low :].view(np.uint64)
    scales = groups[step : step + w]
    one, some = low // r1, columns // r1
    to_mean = work[coefficients + i0 * k1 :]
    to_var = work[coefficients + (k0 + i0) * k1 :]
    gamma = gamma[i0 % geometry[8] * geometry[9] * geometry[10] :]
    mean, var = mean[i0 * k1 :], var[i0 * k1 :]

    if stages & SUMS:
        for j in range(w):
            m[j] = mean[groups[j]]
            s1[j] = 0.0
            s2[j] = 0.0
        quarter = count // 4
        for i in range(quarter):
            at = first + i * step
            end = at + 3 * quarter * step + w
            products_four(s1, s2, dy[at:end], x[at:end], quarter * step, m)
        for i in range(4 * quarter, count + 1):
            at = first + i * step
            end = at + (w if i < count else tail)
            products_row(s1, s2, dy[at:end], x[at:end], m)

    if stages & COMBINE:
        for other in range(1, parts):
            add_to(area[w : 3 * w], area[other * ROWS * geometry[7] + w :])
        for q in range(1, 2 * fold):  # s1 and s2 are neighbours
            if q != fold:
                add_to(area[w + q // fold * w :][:columns], area[w + q * columns :])
        to_shift = work[sums + i0 * k1 * r1 + low :]
        to_scale = work[sums + (k0 + i0) * k1 * r1 + low :]
        all_rstd(m[:some], var[one : one + some], epsilon)
        for j in range(columns):
            r = m[groups[j] - np.uint64(one)]
            scale = r * gamma[scales[j]]
            b[j] = scale * s1[j]
            c[j] = scale * s2[j] * r * r * 0.5
            to_shift[j] = s1[j]
            to_scale[j] = s2[j] * r
        weight = 1.0 / (r0 * r1)
        for g in range(some):
            mean_bar = 0.0
            var_bar = 0.0
            for j in range(g * r1, (g + 1) * r1):
                mean_bar -= b[j]
                var_bar -= c[j]
            mean_bar, var_bar = to_statistics(dmean, dvar, i0 * k1 + one + g, mean_bar, var_bar, free)
            to_mean[one + g] = mean_bar * weight
            to_var[one + g] = 2.0 * var_bar * weight

    if stages & APPLY:
        all_rstd(s1[:some], var[one : one + some], epsilon)
        for j in range(w):
            m[j] = mean[groups[j]]
            a[j] = s1[groups[j] - np.uint64(one)] * gamma[scales[j]]
            b[j] = to_var[groups[j]]
            c[j] = to_mean[groups[j]]
        half = count // 2
        for i in range(half):
            at = first + i * step
            end = at + half * step + w
            slope_two(dx[at:end], dy[at:end], x[at:end], half * step, m, a, b, c)
        for i in range(2 * half, count + 1):
            at = first + i * step
            end = at + (w if i < count else tail)
            slope_row(dx[at:end], dy[at:end], x[at:end], m, a, b, c)


@cpu.jit
def place(chunk, stages, geometry):
    """Where a chunk lies: i0, first column, columns; its workspace; first row in x, full rows, size of a cut row."""
    r0, k1, r1, fold, blocks, parts = geometry[1], geometry[2], geometry[3], geometry[4], geometry[5], geometry[6]
    part = 0
    if stages & SUMS or stages & APPLY:  # the chunks of COMBINE alone have no parts
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
    return i0, low, columns, (chunk * parts + part) * geometry[7], start, count, tail


@cpu.jit
def all_rstd(rstd, var, epsilon):
    for c in range(rstd.size):
        rstd[c] = rstd_of(var[c], epsilon)


@cpu.jit
def add_to(total, other):
    for j in range(total.size):
        total[j] += other[j]


@cpu.jit
def moments_of_rows(m, m2, s1, s2, x, start, count, step, tail):
    """Mean and Σ(x − mean)² of each column, one pass: a tile of rows is summed about the mean of those before it.

    The loss of digits in Σd² − (Σd)²/n is then bounded by what the tile's own distance from that mean adds to the
    result, and a constant column has d = 0 throughout.
    """
    w = m.size
    row = x[start : start + w]
    for j in range(row.size):
        m[j] = row[j]
        m2[j] = 0.0
    quarter = (count - 1) // 4
    done = 1
    i = 0
    while done <= count:
        for j in range(w):
            s1[j] = 0.0
            s2[j] = 0.0
        width = w
        if i < quarter:
            last = min(i + TILE // 4, quarter)
            done += 4 * (last - i)
            while i < last:
                at = start + (1 + i) * step
                deviations_four(s1, s2, x[at : at + 3 * quarter * step + w], quarter * step, m)
                i += 1
        else:
            if done == count:  # the row after the last is cut short
                width = tail
            at = start + done * step
            deviations_row(s1, s2, x[at : at + width], m)
            done += 1
        weight = 1.0 / done
        for j in range(width):
            m2[j] += s2[j] - s1[j] * s1[j] * weight
            m[j] += s1[j] * weight


@cpu.jit
def merge(m, m2, other_m, other_m2, n, other_n, longer):
    """Chan's formula: the moments of n rows and of other_n, or one more in the first `longer` columns, together."""
    for j in range(m.size):
        there = other_n + (1.0 if j < longer else 0.0)
        weight = there / (n + there)
        d = other_m[j] - m[j]
        m[j] += d * weight
        m2[j] += other_m2[j] + d * d * (n * weight)


# ------------------------------------------------------------------------------------------------------- inner loops
# Rows taken together share the loads and stores of the float64 rows. They lie far apart, in pages of their own: the
# processor's prefetcher follows several streams, but not several within a page. They are one slice with unsigned
# offsets: an unsigned index does not wrap around, and then LLVM vectorizes.


@cpu.jit
def deviations_four(s1, s2, x, apart, m):
    one = np.uint64(apart)
    two = one + one
    three = two + one
    for j in range(np.uint64(m.size)):
        e = m[j]
        p, q, r, s = x[j] - e, x[j + one] - e, x[j + two] - e, x[j + three] - e
        s1[j] += (p + q) + (r + s)
        s2[j] += (p * p + q * q) + (r * r + s * s)


@cpu.jit
def deviations_row(s1, s2, x, m):
    for j in range(x.size):
        d = x[j] - m[j]
        s1[j] += d
        s2[j] += d * d


@cpu.jit
def scale_row(y, x, m, a, b):
    for j in range(x.size):
        y[j] = (x[j] - m[j]) * a[j] + b[j]


@cpu.jit
def products_four(s1, s2, dy, x, apart, m):
    one = np.uint64(apart)
    two = one + one
    three = two + one
    for j in range(np.uint64(m.size)):
        e = m[j]
        p, q, r, s = np.float64(dy[j]), np.float64(dy[j + one]), np.float64(dy[j + two]), np.float64(dy[j + three])
        s1[j] += (p + q) + (r + s)
        s2[j] += (p * (x[j] - e) + q * (x[j + one] - e)) + (r * (x[j + two] - e) + s * (x[j + three] - e))


@cpu.jit
def products_row(s1, s2, dy, x, m):
    for j in range(dy.size):
        s1[j] += dy[j]
        s2[j] += dy[j] * (x[j] - m[j])


@cpu.jit
def slope_two(dx, dy, x, apart, m, a, b, c):
    one = np.uint64(apart)
    for j in range(np.uint64(m.size)):
        e, f, g, h = m[j], a[j], b[j], c[j]
        dx[j] = dy[j] * f + ((x[j] - e) * g + h)
        dx[j + one] = dy[j + one] * f + ((x[j + one] - e) * g + h)


@cpu.jit
def slope_row(dx, dy, x, m, a, b, c):
    for j in range(x.size):
        dx[j] = dy[j] * a[j] + ((x[j] - m[j]) * b[j] + c[j])
