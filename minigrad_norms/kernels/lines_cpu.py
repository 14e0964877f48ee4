"""CPU kernels for groups that are made of long lines, (k0, r0, k1, r1) with r1 large: a scale and shift a line.

A line is a piece of x that is contiguous and has one scale and one shift: r1 elements, or r1/p1 where a table changes
within (group norm NCHW), or a `cuts`-th of that where groups are so few that one is shared out among chunks.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.shared_cpu import (
    APPLY,
    COMBINE,
    SUMS,
    deviations,
    rstd_of,
    table_row,
    to_statistics,
    unpack,
    wild,
)

START = 64  # elements whose mean is the first shift
TILE = 1024  # elements after which the shift moves to the mean so far, where the line ends by then
LONGEST = 8192  # elements summed about one shift at most


@cpu.chunked
def lines_forward(chunk, stages, y, mean, var, work, x, gamma, beta, geometry, epsilon):
    k0, r0, k1, r1, p1, cuts, parts, spans, gm, gn, gp, bm, bn, bp, _, _ = unpack(geometry)
    span, part = place(chunk, stages, parts)
    lines = r0 * p1 * cuts
    first, last = lines * part // parts, lines * (part + 1) // parts
    for group in range(k0 * k1 * span // spans, k0 * k1 * (span + 1) // spans):
        i0, i1 = group // k1, group % k1
        own = work[3 * group * parts : 3 * (group + 1) * parts]
        if stages & SUMS:
            m, m2, n = moments_of_lines(x, first, last, i0, i1, r0, k1, r1, p1, cuts)
            own[3 * part] = m
            own[3 * part + 1] = m2
            own[3 * part + 2] = n

        if stages & COMBINE:
            m, m2, n = own[0], own[1], own[2]
            for other in range(1, parts):
                d = own[3 * other] - m
                there = own[3 * other + 2]
                weight = there / (n + there)
                m2 += own[3 * other + 1] + d * d * (n * weight)
                m += d * weight
                n += there
            mean[group] = m
            var[group] = m2 / n

        if stages & APPLY:
            m = mean[group]
            r = rstd_of(var[group], epsilon)
            scales, shifts = table_row(i0, i1, gm, gn, gp), table_row(i0, i1, bm, bn, bp)
            near = x.dtype.type(m)
            for line in range(first, last):
                low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                a = r * gamma[scales + p * gp // p1]
                b = beta[shifts + p * bp // p1]
                if wild(m, a):
                    scale_line(y[low:high], x[low:high], m, a, b)
                else:
                    b = x.dtype.type(b - (m - near) * a)
                    scale_line(y[low:high], x[low:high], near, x.dtype.type(a), b)


@cpu.chunked
def lines_backward(chunk, stages, free, dx, dmean, dvar, work, dy, x, mean, var, gamma, geometry, epsilon):
    k0, r0, k1, r1, p1, cuts, parts, spans, gm, gn, gp, _, _, _, shift_sums, coefficients = unpack(geometry)
    groups = k0 * k1
    scale_sums = shift_sums + groups * p1
    span, part = place(chunk, stages, parts)
    lines = r0 * p1 * cuts
    first, last = lines * part // parts, lines * (part + 1) // parts
    for group in range(groups * span // spans, groups * (span + 1) // spans):
        i0, i1 = group // k1, group % k1
        scales = table_row(i0, i1, gm, gn, gp)
        m = mean[group]
        r = rstd_of(var[group], epsilon)
        own = work[2 * group * parts * p1 : 2 * (group + 1) * parts * p1]
        if stages & SUMS:
            sums = own[2 * part * p1 : 2 * (part + 1) * p1]
            for j in range(sums.size):
                sums[j] = 0.0
            for line in range(first, last):
                low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                first_sum, second_sum = products_line(dy[low:high], x[low:high], m)
                sums[2 * p] += first_sum
                sums[2 * p + 1] += second_sum

        if stages & COMBINE:
            to_mean = 0.0
            to_var = 0.0
            for p in range(p1):
                first_sum = 0.0
                second_sum = 0.0
                for other in range(parts):
                    first_sum += own[2 * (other * p1 + p)]
                    second_sum += own[2 * (other * p1 + p) + 1]
                work[shift_sums + group * p1 + p] = first_sum
                work[scale_sums + group * p1 + p] = second_sum * r
                a = r * gamma[scales + p * gp // p1]
                to_mean -= a * first_sum
                to_var -= a * second_sum * r * r * 0.5
            to_mean, to_var = to_statistics(dmean, dvar, group, to_mean, to_var, free)
            work[coefficients + group] = 2.0 * to_var / (r0 * r1)
            work[coefficients + groups + group] = to_mean / (r0 * r1)

    if stages & APPLY:
        # in the order of memory: for each of r0 the groups that are neighbours, and for each group its lines there
        for base in range(first, last, p1 * cuts):
            for group in range(groups * span // spans, groups * (span + 1) // spans):
                i0, i1 = group // k1, group % k1
                m, r = mean[group], rstd_of(var[group], epsilon)
                b, c = work[coefficients + group], work[coefficients + groups + group]
                scales = table_row(i0, i1, gm, gn, gp)
                for line in range(base, min(base + p1 * cuts, last)):
                    low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                    slope_line(dx[low:high], dy[low:high], x[low:high], m, r * gamma[scales + p * gp // p1], b, c)


@cpu.jit
def place(chunk, stages, parts):
    """The span of groups and the part of a chunk; the chunks of COMBINE alone have no parts."""
    if stages & SUMS or stages & APPLY:
        return chunk // parts, chunk % parts
    return chunk, 0


@cpu.jit(inline=True)
def ends(line, i0, i1, r0, k1, r1, p1, cuts):
    """Where a line of a group begins and ends in x, and which piece of the tables' p1 it is."""
    length = r1 // p1
    p = 0
    low = 0
    high = length
    if cuts > 1:
        cut = line % cuts
        line = line // cuts
        low = length * cut // cuts
        high = length * (cut + 1) // cuts
    if p1 > 1:
        p = line % p1
        line = line // p1
    start = ((i0 * r0 + line) * k1 + i1) * r1 + p * length
    return start + low, start + high, p


@cpu.jit
def moments_of_lines(x, first, last, i0, i1, r0, k1, r1, p1, cuts):
    """Mean, Σ(x − mean)² and number of the elements of some lines, one pass.

    Every tile is summed about the mean of those before it, the first about that of its first elements: the loss of
    digits in Σd² − (Σd)²/n is then bounded by what the tile's own distance adds to the result, and d = 0 throughout
    where all are equal.
    """
    low, high, _ = ends(first, i0, i1, r0, k1, r1, p1, cuts)
    few = min(high - low, START)
    m = np.float64(x[low])
    m += deviations(x[low : low + few], m)[0] / few
    m2 = 0.0
    n = 0
    tile = 0
    first_sum = 0.0
    second_sum = 0.0
    for line in range(first, last):
        low, high, _ = ends(line, i0, i1, r0, k1, r1, p1, cuts)
        while low < high:
            end = min(high, low + LONGEST)
            one, two = deviations(x[low:end], m)
            first_sum += one
            second_sum += two
            tile += end - low
            low = end
            if tile >= TILE or (line == last - 1 and low == high):
                n += tile
                m2 += second_sum - first_sum * (first_sum / n)
                m += first_sum / n
                tile = 0
                first_sum = 0.0
                second_sum = 0.0
    return m, m2, n


@cpu.jit
def scale_line(y, x, m, a, b):
    for j in range(x.size):
        y[j] = (x[j] - m) * a + b


@cpu.jit
def products_line(dy, x, m):
    first_sum = 0.0
    second_sum = 0.0
    for j in range(x.size):
        e = np.float64(dy[j])
        first_sum += e
        second_sum += e * (x[j] - m)
    return first_sum, second_sum


@cpu.jit
def slope_line(dx, dy, x, m, a, b, c):
    for j in range(x.size):
        dx[j] = dy[j] * a + ((np.float64(x[j]) - m) * b + c)
