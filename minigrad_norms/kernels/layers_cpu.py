"""CPU kernels for rows with a scale and shift along the row, (k0, 1, 1, r1), tables kept in float64 beside the rows.

A chunk is some of the rows that share a row of the tables: rows `residue` + m0·i for a range of i.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.lines_cpu import moments_of_lines
from minigrad_norms.kernels.shared_cpu import (
    APPLY,
    SUMS,
    rstd_of,
    table_row,
    to_statistics,
    unpack,
    wild,
)


@cpu.chunked
def layers_forward(chunk, stages, y, mean, var, work, x, gamma, beta, geometry, epsilon):
    k0, _, _, r1, m0, parts, _, _, gm, _, gp, bm, _, bp, _, tables = unpack(geometry)
    residue, part = chunk % m0, chunk // m0
    table = work[tables + 2 * chunk * r1 : tables + 2 * (chunk + 1) * r1].view(x.dtype)
    scale, shift = table[:r1], table[r1 : 2 * r1]
    if stages & APPLY:
        spread(scale, gamma, table_row(residue, 0, gm, 1, gp), gp)
        spread(shift, beta, table_row(residue, 0, bm, 1, bp), bp)
    for i in range(k0 // m0 * part // parts, k0 // m0 * (part + 1) // parts):
        group = residue + m0 * i
        if stages & SUMS:
            m, m2, n = moments_of_lines(x, 0, 1, group, 0, 1, 1, r1, 1, 1)
            mean[group] = m
            var[group] = m2 / n
        if stages & APPLY:
            low, high = group * r1, (group + 1) * r1
            m, r = mean[group], rstd_of(var[group], epsilon)
            if wild(m, r):
                scale_layer(y[low:high], x[low:high], m, r, 0.0, scale, shift)
            else:
                near = x.dtype.type(m)
                rest = x.dtype.type((near - m) * r)
                scale_layer(y[low:high], x[low:high], near, x.dtype.type(r), rest, scale, shift)


@cpu.chunked
def layers_backward(chunk, stages, free, dx, dmean, dvar, work, dy, x, mean, var, gamma, geometry, epsilon):
    k0, _, _, r1, m0, parts, _, _, gm, _, gp, _, _, _, _, tables = unpack(geometry)
    chunks = m0 * parts
    if stages & SUMS:
        residue, part = chunk % m0, chunk // m0
        shift_sums = work[chunk * r1 : (chunk + 1) * r1]
        scale_sums = work[(chunks + chunk) * r1 : (chunks + chunk + 1) * r1]
        scale = work[tables + 2 * chunk * r1 : tables + (2 * chunk + 1) * r1]
        spread(scale, gamma, table_row(residue, 0, gm, 1, gp), gp)
        for j in range(r1):
            shift_sums[j] = 0.0
            scale_sums[j] = 0.0
        first, last = k0 // m0 * part // parts, k0 // m0 * (part + 1) // parts
        quarter = (last - first) // 4
        apart = quarter * m0
        done = 0
        while done < last - first:
            four = done < 4 * quarter
            group = residue + m0 * (first + (done // 4 if four else done))
            low, high = group * r1, (group + 1) * r1
            if four:
                m = (mean[group], mean[group + apart], mean[group + 2 * apart], mean[group + 3 * apart])
                r = (
                    rstd_of(var[group], epsilon),
                    rstd_of(var[group + apart], epsilon),
                    rstd_of(var[group + 2 * apart], epsilon),
                    rstd_of(var[group + 3 * apart], epsilon),
                )
                high += 3 * apart * r1
                one, two = products_four(scale_sums, shift_sums, dy[low:high], x[low:high], apart * r1, scale, m, r)
            else:
                m = (mean[group], 0.0, 0.0, 0.0)
                r = (rstd_of(var[group], epsilon), 0.0, 0.0, 0.0)
                one, two = products_layer(scale_sums, shift_sums, dy[low:high], x[low:high], scale, m[0], r[0])
            for row in range(4 if four else 1):
                at = group + row * apart
                to_mean = -r[row] * one[row]
                to_var = -0.5 * (r[row] * two[row]) * r[row]
                to_mean, to_var = to_statistics(dmean, dvar, at, to_mean, to_var, free)
                if stages & APPLY:
                    low, high = at * r1, (at + 1) * r1
                    b, c = 2.0 * to_var / r1, to_mean / r1
                    slope_layer(dx[low:high], dy[low:high], x[low:high], scale, m[row], r[row], b, c)
            done += 4 if four else 1


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
        value = np.float64(table[start + p])
        for j in range(piece.size):
            piece[j] = value


@cpu.jit
def scale_layer(y, x, m, r, rest, scale, shift):
    for j in range(x.size):
        y[j] = ((x[j] - m) * r + rest) * scale[j] + shift[j]


@cpu.jit
def slope_layer(dx, dy, x, scale, m, r, b, c):
    for j in range(x.size):
        dx[j] = dy[j] * (r * scale[j]) + ((x[j] - m) * b + c)


# The sums over rows, for scale and shift, and along each row, for its mean and variance. Four rows a step share the
# loads and stores of the former, rows far apart for the prefetcher's sake; see columns_cpu.py.


@cpu.jit
def products_four(scale_sums, shift_sums, dy, x, apart, scale, m, r):
    one = np.uint64(apart)
    two = one + one
    three = two + one
    m0, m1, m2, m3 = m
    r0, r1, r2, r3 = r
    s0 = s1 = s2 = s3 = 0.0
    t0 = t1 = t2 = t3 = 0.0
    for j in range(np.uint64(scale.size)):
        g = scale[j]
        e0, e1, e2, e3 = np.float64(dy[j]), np.float64(dy[j + one]), np.float64(dy[j + two]), np.float64(dy[j + three])
        f0 = e0 * ((x[j] - m0) * r0)
        f1 = e1 * ((x[j + one] - m1) * r1)
        f2 = e2 * ((x[j + two] - m2) * r2)
        f3 = e3 * ((x[j + three] - m3) * r3)
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
    return (s0, s1, s2, s3), (t0, t1, t2, t3)


@cpu.jit
def products_layer(scale_sums, shift_sums, dy, x, scale, m, r):
    s = 0.0
    t = 0.0
    for j in range(x.size):
        e = np.float64(dy[j])
        f = e * ((x[j] - m) * r)
        shift_sums[j] += e
        scale_sums[j] += f
        s += e * scale[j]
        t += f * scale[j]
    return (s, 0.0, 0.0, 0.0), (t, 0.0, 0.0, 0.0)
