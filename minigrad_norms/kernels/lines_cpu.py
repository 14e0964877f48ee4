"""CPU kernels for groups that are made of long lines, (k0, r0, k1, r1) with r1 large: a scale and shift a line.

A line is a piece of x that is contiguous and has one scale and one shift: r1 elements, or r1/p1 where a table changes
within (group norm NCHW), or a `cuts`-th of that where groups are so few that one is shared out among chunks.
"""

import numpy as np

from minigrad.devices import cpu
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
    rstd_of,
    table_row,
    to_statistic,
    unpack,
    wild,
)

FEW = 16  # elements at three places of a line, whose means' median is the first shift
TILE = 1024  # elements after which the shift moves to the mean so far, where the line ends by then
LONGEST = 1024  # elements that are summed in the elements' own dtype
LANES = 64  # sums that the processor makes at a time


@cpu.chunked
def lines_forward(
    chunk, stages, work, y, mean, var, x, gamma, beta, geometry, epsilon, limits, grouped, like, redo
):  # fmt: skip
    k0, r0, k1, r1, p1, cuts, parts, spans, gm, gn, gp, bm, bn, bp, _, _ = unpack(geometry)
    span, part = place(chunk, stages, parts)
    lines = r0 * p1 * cuts
    first, last = lines * part // parts, lines * (part + 1) // parts
    strange = 0
    for group in range(k0 * k1 * span // spans, k0 * k1 * (span + 1) // spans):
        i0, i1 = group // k1, group % k1
        own = work[START + 3 * group * parts :][: 3 * parts]
        afresh = redo is None or doubtful(var[group], epsilon)
        if stages & SUMS and afresh:
            m, m2, n = moments_of_lines(stages, x, first, last, i0, i1, r0, k1, r1, p1, cuts, like)
            own[3 * part] = m
            own[3 * part + 1] = m2
            own[3 * part + 2] = n

        if stages & COMBINE and afresh:
            m, m2, n = own[0], own[1], own[2]
            for other in range(1, parts):
                d = own[3 * other] - m
                there = own[3 * other + 2]
                weight = there / (n + there)
                m2 += own[3 * other + 1] + d * d * (n * weight)
                m += d * weight
                n += there
            mean[group] = m
            var[group] = m2 if stages & TOTAL else m2 / n
            strange += doubtful(var[group], epsilon)

        if stages & APPLY:
            m = mean[group]
            r = rstd_of(var[group], epsilon)
            scales, shifts = table_row(i0, i1, gm, gn, gp), table_row(i0, i1, bm, bn, bp)
            near = like.dtype.type(m)
            for line in range(first, last):
                low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                a = r * gamma[scales + p * gp // p1]
                b = beta[shifts + p * bp // p1] - (m - near) * a
                beyond = wild(m, r) or far(a)
                strange += beyond
                if redo is not None and not beyond:
                    continue
                scale_line(y[low:high], x[low:high], near, like.dtype.type(a), like.dtype.type(b))
                if limits is not None:
                    clamp(y[low:high], limits)
    if like.itemsize == 4 and redo is None and strange > 0:
        work[0] = ALARM


@cpu.chunked
def lines_backward(
    chunk, stages, work, free, dx, dgamma, dbeta, dmean, dvar, dy, x, mean, var, gamma, beta, geometry, epsilon,
    limits, grouped, like, redo,
):  # fmt: skip
    k0, r0, k1, r1, p1, cuts, parts, spans, gm, gn, gp, bm, bn, bp, shift_sums, coefficients = unpack(geometry)
    groups = k0 * k1
    scale_sums = shift_sums + groups * p1
    flags = coefficients + 2 * groups  # of groups that float32 does not reach
    span, part = place(chunk, stages, parts)
    lines = r0 * p1 * cuts
    first, last = lines * part // parts, lines * (part + 1) // parts
    low_group, high_group = groups * span // spans, groups * (span + 1) // spans
    bundle = 1 if r0 == 1 else high_group - low_group  # groups that are finished before the next ones are begun
    single = r0 * r1 == 1 and not free and not stages & RAW  # then x is the mean, and all that comes through y cancels
    strange = 0
    for begin in range(low_group, high_group, bundle):
        for group in range(begin, begin + bundle):
            i0, i1 = group // k1, group % k1
            scales, shifts = table_row(i0, i1, gm, gn, gp), table_row(i0, i1, bm, bn, bp)
            m = mean[group]
            near = like.dtype.type(m)
            r = rstd_of(var[group], epsilon)
            if redo is not None and work[flags + group] == 0.0:
                continue
            own = work[START + 2 * group * parts * p1 :][: 2 * parts * p1]
            if stages & SUMS:
                sums = own[2 * part * p1 :][: 2 * p1]
                for j in range(sums.size):
                    sums[j] = 0.0
                for line in range(first, last):
                    low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                    a, b = r, r
                    if limits is not None:
                        a = r * gamma[scales + p * gp // p1]
                        b = beta[shifts + p * bp // p1] - (m - near) * a
                    while low < high:
                        end = min(low + LONGEST, high)
                        one, two = products_line(dy[low:end], x[low:end], near, a, b, like, limits)
                        sums[2 * p] += one
                        sums[2 * p + 1] += two
                        low = end

            if stages & COMBINE:
                to_mean = 0.0
                to_var = 0.0
                beyond = wild(m, r)
                for p in range(p1):
                    first_sum = 0.0
                    second_sum = 0.0
                    for other in range(parts):
                        first_sum += own[2 * (other * p1 + p)]
                        second_sum += own[2 * (other * p1 + p) + 1]
                    second_sum -= (m - near) * first_sum
                    work[shift_sums + group * p1 + p] = first_sum
                    work[scale_sums + group * p1 + p] = second_sum * r
                    a = r * gamma[scales + p * gp // p1]
                    beyond = beyond or far(a)
                    to_mean -= a * first_sum
                    to_var -= a * second_sum * r * r * 0.5
                if single:
                    to_mean = 0.0
                to_mean = to_statistic(dmean, group, to_mean, free)
                to_var = to_statistic(dvar, group, to_var, free)
                to_mean = 0.0 if stages & RAW else to_mean / (r0 * r1)
                to_var *= 2.0 / (1 if stages & TOTAL else r0 * r1)
                if redo is None:
                    beyond = beyond or far(to_mean) or far(to_var)
                    work[flags + group] = beyond
                    strange += beyond
                work[coefficients + group] = to_var
                work[coefficients + groups + group] = to_mean

        if stages & APPLY:
            # in the order of memory: for each of r0 the groups that are neighbours, and for each group its lines there
            for base in range(first, last, p1 * cuts):
                for group in range(begin, begin + bundle):
                    if redo is not None and work[flags + group] == 0.0:
                        continue
                    i0, i1 = group // k1, group % k1
                    m, r = mean[group], rstd_of(var[group], epsilon)
                    near = like.dtype.type(m)
                    slope = 0.0 if free else work[coefficients + group]
                    rest = 0.0 if free else work[coefficients + groups + group] - (m - near) * slope
                    scales, shifts = table_row(i0, i1, gm, gn, gp), table_row(i0, i1, bm, bn, bp)
                    for line in range(base, min(base + p1 * cuts, last)):
                        low, high, p = ends(line, i0, i1, r0, k1, r1, p1, cuts)
                        a = 0.0 if single else r * gamma[scales + p * gp // p1]
                        b, source = 0.0, x[low:high]
                        if limits is not None:
                            b = beta[shifts + p * bp // p1] - (m - near) * a
                        elif free:  # no infinity is to come in by x, which is wanted for z alone
                            source = dy[low:high]
                        slope_line(dx[low:high], dy[low:high], source, near, a, b, slope, rest, like, limits)
    if like.itemsize == 4 and redo is None and strange > 0:
        work[0] = ALARM


def places(geometry):
    """Where the chunks lie in x, as of `cpu.Kernel.places`; None if they are cut in more ways than that can say."""
    k0, r0, k1, r1, p1, cuts, parts, spans = map(int, geometry[:8])
    groups, row = k0 * k1, p1 * cuts  # lines of a group that are one behind the other
    if r0 > 1 and ((k0 > 1 and spans < groups) or (parts > 1 and row > 1)):
        return None
    found = []
    for span, part in np.ndindex(spans, parts):
        group, end = groups * span // spans, groups * (span + 1) // spans
        first, last = r0 * row * part // parts, r0 * row * (part + 1) // parts
        if r0 == 1:
            low, high = [line // cuts * (r1 // p1) + r1 // p1 * (line % cuts) // cuts for line in (first, last)]
            found.append((group * r1 + low, (end - 1 - group) * r1 + high - low, 1, 0))
        else:
            start = ((group // k1 * r0 + first // row) * k1 + group % k1) * r1
            found.append((start, (end - group) * r1, (last - first) // row, k1 * r1))
    return np.array(found, np.int64)


@cpu.jit
def place(chunk, stages, parts):
    """The span of groups and the part of a chunk; the chunks of COMBINE alone have no parts."""
    if stages & (SUMS | APPLY):
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
def moments_of_lines(stages, x, first, last, i0, i1, r0, k1, r1, p1, cuts, like):
    """Mean, Σ(x − mean)² and number of the elements of some lines, one pass.

    Every tile is summed about the mean of those before it, the first about that of a few elements: the loss of
    digits in Σd² − (Σd)²/n is then bounded by what the tile's own distance adds to the result, and d = 0 throughout
    where all are equal. With RAW the shift stays 0.
    """
    low, high, _ = ends(first, i0, i1, r0, k1, r1, p1, cuts)
    m = first_shift(x[low:high], like)
    if stages & RAW:
        m = 0.0
    m2 = 0.0
    n = 0
    tile = 0
    first_sum = 0.0
    second_sum = 0.0
    near = like.dtype.type(m)
    m = np.float64(near)
    for line in range(first, last):
        low, high, _ = ends(line, i0, i1, r0, k1, r1, p1, cuts)
        while low < high:
            end = min(high, low + LONGEST)
            one, two = deviations(x[low:end], near, like)
            first_sum += one
            second_sum += two
            tile += end - low
            low = end
            if tile >= TILE or (line == last - 1 and low == high):
                n += tile
                if stages & RAW:
                    m2 += second_sum
                else:
                    gap = m - near if abs(m) < np.inf else 0.0
                    total = first_sum - tile * gap  # Σ(x − m)
                    m2 += (second_sum - gap * (first_sum + total)) - total * (total / n)
                    m += total / n
                    if abs(m) < np.inf:
                        near = like.dtype.type(m)
                tile = 0
                first_sum = 0.0
                second_sum = 0.0
    return m, m2, n


@cpu.jit
def first_shift(x, like):
    """The median of the means of a few elements at three places, which no single large element moves."""
    few = min(x.size, FEW)
    middle = (x.size - few) // 2
    a = deviations(x[:few], x[0], like)[0]
    b = deviations(x[middle : middle + few], x[0], like)[0]
    c = deviations(x[x.size - few :], x[0], like)[0]
    shift = x[0] + max(min(a, b), min(max(a, b), c)) / few
    return shift if abs(shift) < np.inf else 0.0


@cpu.jit
def deviations(x, near, like):
    """Σ(x − near) and Σ(x − near)²; of a few elements, whose sums go on in float64."""
    first = like.dtype.type(0.0)
    second = like.dtype.type(0.0)
    shift = like.dtype.type(near)
    whole = x[: x.size // LANES * LANES]
    for j in range(whole.size):
        d = whole[j] - shift
        first += d
        second += d * d
    first_wide, second_wide = np.float64(first), np.float64(second)
    rest = x[whole.size :]  # these would be summed one after the other
    for j in range(rest.size):
        d = np.float64(rest[j] - shift)
        first_wide += d
        second_wide += d * d
    return first_wide, second_wide


@cpu.jit
def scale_line(y, x, near, a, b):
    for j in range(x.size):
        y[j] = (x[j] - near) * a + b


@cpu.jit
def products_line(dy, x, near, a_wide, b_wide, like, limits):
    """Σ dz and Σ dz·(x − near), with dz = dy, or behind a clamp dy where z = (x − near)·a + b is within its bounds."""
    zero = like.dtype.type(0.0)
    first = zero
    second = zero
    if limits is not None:
        a, b = like.dtype.type(a_wide), like.dtype.type(b_wide)
        bottom, top = like.dtype.type(limits[0]), like.dtype.type(limits[1])
        for j in range(x.size):
            z = (x[j] - near) * a + b
            e = zero if z <= bottom or z >= top else dy[j] + zero
            first += e
            second += e * (x[j] - near)
    else:
        for j in range(x.size):
            e = dy[j] + zero
            first += e
            second += e * (x[j] - near)
    return np.float64(first), np.float64(second)


@cpu.jit
def slope_line(dx, dy, x, near, a_wide, b_wide, slope_wide, rest_wide, like, limits):
    """dz·a + ((x − near)·slope + rest)."""
    a, slope, rest = like.dtype.type(a_wide), like.dtype.type(slope_wide), like.dtype.type(rest_wide)
    if limits is not None:
        b, bottom, top = like.dtype.type(b_wide), like.dtype.type(limits[0]), like.dtype.type(limits[1])
        zero = like.dtype.type(0.0)
        for j in range(x.size):
            d = x[j] - near
            z = d * a + b
            e = zero if z <= bottom or z >= top else dy[j] + zero
            dx[j] = e * a + (d * slope + rest)
    else:
        for j in range(x.size):
            dx[j] = dy[j] * a + ((x[j] - near) * slope + rest)
