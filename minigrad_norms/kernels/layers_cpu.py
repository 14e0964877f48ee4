"""CPU kernels for rows with a scale and shift along the row, (k0, 1, 1, r1), with tables spread over a row.

A chunk is some of the rows that share a row of the tables: rows `residue` + m0·i for a range of i.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.lines_cpu import moments_of_lines
from minigrad_norms.kernels.shared_cpu import (
    ALARM,
    APPLY,
    RAW,
    START,
    SUMS,
    TOTAL,
    clamp,
    doubtful,
    far,
    rstd_of,
    table_row,
    to_statistic,
    unpack,
    wild,
)

ROWS = 6  # of float64, as long as a row, that a chunk has: two tables, and four of gradients behind a clamp
PIECE = 1024  # elements of a row that are summed in the elements' own dtype, while their tables stay in the cache


@cpu.chunked
def layers_forward(
    chunk, stages, work, y, mean, var, x, gamma, beta, geometry, epsilon, limits, grouped, like, redo
):  # fmt: skip
    k0, _, _, r1, m0, parts, _, _, gm, _, gp, bm, _, bp, _, tables = unpack(geometry)
    residue, part = chunk % m0, chunk // m0
    space = work[tables + ROWS * chunk * r1 :][: 2 * r1]
    table = space.view(like.dtype)
    scale, shift = table[:r1], table[r1 : 2 * r1]
    if stages & APPLY:
        spread(scale, gamma, table_row(residue, 0, gm, 1, gp), gp)
        spread(shift, beta, table_row(residue, 0, bm, 1, bp), bp)
    strange = 0
    for i in range(k0 // m0 * part // parts, k0 // m0 * (part + 1) // parts):
        group = residue + m0 * i
        if stages & SUMS and (redo is None or doubtful(var[group], epsilon)):
            m, m2, n = moments_of_lines(stages, x, 0, 1, group, 0, 1, 1, r1, 1, 1, like)
            mean[group] = m
            var[group] = m2 if stages & TOTAL else m2 / n
            strange += doubtful(var[group], epsilon)
        m, r = mean[group], rstd_of(var[group], epsilon)
        if stages & APPLY and (redo is None or wild(m, r)):
            low, high = group * r1, (group + 1) * r1
            strange += wild(m, r)
            near = like.dtype.type(m)
            scale_layer(
                y[low:high], x[low:high], near, like.dtype.type(r), like.dtype.type((near - m) * r), scale, shift
            )
            if limits is not None:
                clamp(y[low:high], limits)
    if like.itemsize == 4 and redo is None and strange > 0:
        work[0] = ALARM


@cpu.chunked
def layers_backward(
    chunk, stages, work, free, dx, dgamma, dbeta, dmean, dvar, dy, x, mean, var, gamma, beta, geometry, epsilon,
    limits, grouped, like, redo,
):  # fmt: skip
    k0, _, _, r1, m0, parts, _, _, gm, _, gp, bm, _, bp, where, tables = unpack(geometry)
    chunks = m0 * parts
    flags = work[where : where + k0]  # of rows that float32 does not reach
    residue, part = chunk % m0, chunk // m0
    shift_sums = work[START + chunk * r1 :][:r1]
    scale_sums = work[START + (chunks + chunk) * r1 :][:r1]
    space = work[tables + ROWS * chunk * r1 :][: ROWS * r1]
    table = space.view(like.dtype)
    scale, shift = table[:r1], table[r1 : 2 * r1]
    gated = space[2 * r1 : 6 * r1].view(x.dtype)[: 4 * r1]
    spread(scale, gamma, table_row(residue, 0, gm, 1, gp), gp)
    if limits is not None:
        spread(shift, beta, table_row(residue, 0, bm, 1, bp), bp)
    for j in range(r1):
        shift_sums[j] = 0.0
        scale_sums[j] = 0.0
    first, last = k0 // m0 * part // parts, k0 // m0 * (part + 1) // parts
    quarter = (last - first) // 4
    apart = quarter * m0
    strange = 0
    done = 0
    while done < last - first:
        four = done < 4 * quarter
        group = residue + m0 * (first + (done // 4 if four else done))
        low = group * r1
        reach = apart * r1 if four else 0
        high = low + 3 * reach + r1
        near, r, rest = of_rows(mean, var, group, reach // r1, epsilon, like)
        slope, gap = dy[low:high], reach
        if limits is not None:
            for row in range(4 if four else 1):
                at = low + row * reach
                gate_layer(gated[row * r1 :], dy[at:], x[at:], near[row], r[row], rest[row], scale, shift, limits)
            slope, gap = gated, r1 if four else 0
        one = two = (0.0, 0.0, 0.0, 0.0)
        for cut in range(0, r1, PIECE):
            end = min(cut + PIECE, r1)
            to_scale, to_shift, part_of = scale_sums[cut:end], shift_sums[cut:end], scale[cut:end]
            if four:
                more, also = products_four(
                    to_scale, to_shift, slope[cut:], gap, x[low + cut : high], reach, part_of, near, r, rest
                )
            else:
                more, also = products_layer(
                    to_scale, to_shift, slope[cut:], x[low + cut : high], part_of, near[0], r[0], rest[0]
                )
            one, two = add_four(one, more), add_four(two, also)
        for row in range(4 if four else 1):
            at = group + row * apart
            m, s = mean[at], rstd_of(var[at], epsilon)
            to_mean = -s * one[row]
            to_var = -0.5 * (s * two[row]) * s
            to_mean = to_statistic(dmean, at, to_mean, free)
            to_var = to_statistic(dvar, at, to_var, free)
            b, c = 2.0 * to_var / (1 if stages & TOTAL else r1), 0.0 if stages & RAW else to_mean / r1
            if free:
                b = c = 0.0
            if redo is None:
                beyond = wild(m, s) or far(b) or far(c)
                flags[at] = beyond
                strange += beyond
            if stages & APPLY and (redo is None or flags[at] != 0.0):
                c -= (m - near[row]) * b
                here = slope[row * gap :][:r1]
                low, high = at * r1, (at + 1) * r1
                b_near, c_near = like.dtype.type(b), like.dtype.type(c)
                # Where the statistics are inputs b and c are 0, and what stands for x is not to bring in an infinity.
                source = here if free else x[low:high]
                slope_layer(dx[low:high], here, source, scale, near[row], r[row], b_near, c_near)
        done += 4 if four else 1
    if like.itemsize == 4 and redo is None and strange > 0:
        work[0] = ALARM


def places(geometry):
    """Where the chunks lie in x, as of `cpu.Kernel.places`."""
    k0, _, _, r1, m0, parts = map(int, geometry[:6])
    found = cpu.ranges(parts, k0 // m0, m0 * r1)
    if m0 == 1:
        return found
    row = m0 * r1
    rows = [(low + at, r1, length // row, row) for low, length, _, _ in found for at in range(0, row, r1)]
    return np.array(rows, np.int64)


@cpu.jit
def of_rows(mean, var, group, apart, epsilon, like):
    """The mean, 1/√(σ² + ε), and what the rounded mean leaves of (x − mean)/√(σ² + ε), of four rows."""
    m0, m1, m2, m3 = mean[group], mean[group + apart], mean[group + 2 * apart], mean[group + 3 * apart]
    r0, r1 = rstd_of(var[group], epsilon), rstd_of(var[group + apart], epsilon)
    r2, r3 = rstd_of(var[group + 2 * apart], epsilon), rstd_of(var[group + 3 * apart], epsilon)
    near = four_of(m0, m1, m2, m3, like)
    rest = ((near[0] - m0) * r0, (near[1] - m1) * r1, (near[2] - m2) * r2, (near[3] - m3) * r3)
    return near, four_of(r0, r1, r2, r3, like), four_of(rest[0], rest[1], rest[2], rest[3], like)


@cpu.jit
def four_of(a, b, c, d, like):
    return like.dtype.type(a), like.dtype.type(b), like.dtype.type(c), like.dtype.type(d)


@cpu.jit
def add_four(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@cpu.jit
def spread(row, table, start, entries):
    """Each of a row's entries in a table over the elements that it is for."""
    width = row.size // entries
    if width == 1:
        part = table[start : start + row.size]
        for j in range(part.size):
            row[j] = part[j]
        return
    for p in range(entries):
        piece = row[p * width : (p + 1) * width]
        value = table[start + p]
        for j in range(piece.size):
            piece[j] = value


@cpu.jit
def scale_layer(y, x, near, r, rest, scale, shift):
    for j in range(x.size):
        y[j] = ((x[j] - near) * r + rest) * scale[j] + shift[j]


@cpu.jit
def gate_layer(dz, dy, x, near, r, rest, scale, shift, limits):
    """dy where z, as `scale_layer` has it, is within the bounds of a clamping activation, else 0."""
    low, high, zero = scale.dtype.type(limits[0]), scale.dtype.type(limits[1]), scale.dtype.type(0.0)
    for j in range(scale.size):
        z = ((x[j] - near) * r + rest) * scale[j] + shift[j]
        dz[j] = zero if z <= low or z >= high else dy[j]


@cpu.jit
def slope_layer(dx, dy, x, scale, near, r, b, c):
    for j in range(x.size):
        dx[j] = dy[j] * (r * scale[j]) + ((x[j] - near) * b + c)


# The sums over rows, for scale and shift, and along each row, for its mean and variance. Four rows a step share the
# loads and stores of the former, rows far apart for the prefetcher's sake; see columns_cpu.py.


@cpu.jit
def products_four(scale_sums, shift_sums, dy, gap, x, apart, scale, near, r, rest):
    one, i = np.uint64(apart), np.uint64(gap)
    two, ii = one + one, i + i
    three, iii = two + one, ii + i
    m0, m1, m2, m3 = near
    r0, r1, r2, r3 = r
    k0, k1, k2, k3 = rest
    zero = scale.dtype.type(0.0)
    s0 = s1 = s2 = s3 = zero
    t0 = t1 = t2 = t3 = zero
    for j in range(np.uint64(scale.size)):
        g = scale[j]
        e0, e1, e2, e3 = dy[j] + zero, dy[j + i] + zero, dy[j + ii] + zero, dy[j + iii] + zero
        f0 = e0 * ((x[j] - m0) * r0 + k0)
        f1 = e1 * ((x[j + one] - m1) * r1 + k1)
        f2 = e2 * ((x[j + two] - m2) * r2 + k2)
        f3 = e3 * ((x[j + three] - m3) * r3 + k3)
        shift_sums[j] += (e0 + e1) + (e2 + e3)
        scale_sums[j] += (f0 + f1) + (f2 + f3)
        s0 += e0 * g
        s1 += e1 * g
        s2 += e2 * g
        s3 += e3 * g
        t0 += f0 * g
        t1 += f1 * g
        t2 += f2 * g
        t3 += f3 * g
    sums = (np.float64(s0), np.float64(s1), np.float64(s2), np.float64(s3))
    return sums, (np.float64(t0), np.float64(t1), np.float64(t2), np.float64(t3))


@cpu.jit
def products_layer(scale_sums, shift_sums, dy, x, scale, near, r, rest):
    zero = scale.dtype.type(0.0)
    s = zero
    t = zero
    for j in range(scale.size):
        e = dy[j] + zero
        f = e * ((x[j] - near) * r + rest)
        shift_sums[j] += e
        scale_sums[j] += f
        s += e * scale[j]
        t += f * scale[j]
    return (np.float64(s), 0.0, 0.0, 0.0), (np.float64(t), 0.0, 0.0, 0.0)
