"""CPU kernels of weighted moments, for the canonical form (k0, r0, k1, r1): weighted sums of a group, and the gradient.

A chunk is one i0, or a part of its rows. Weights are an array of four axes as well, of which those of length 1 are the
same for all; a geometry is k0, r0, k1, r1, the parts of an i0, and the weights' strides in elements, 0 for those axes.
"""

import numpy as np

from minigrad.devices import cpu


@cpu.chunked
def weighted_sums(chunk, x, w, m, work, geometry):
    """Σw, Σw·(x − m) and Σw·(x − m)² of a chunk's part of each group, as three rows of `work`."""
    r0, k1, r1, parts = geometry[1], geometry[2], geometry[3], geometry[4]
    i0, part = chunk // parts, chunk % parts
    area = work[chunk * 3 * k1 : (chunk + 1) * 3 * k1]
    for i in range(area.size):
        area[i] = 0.0
    s0, s1, s2 = area[:k1], area[k1 : 2 * k1], area[2 * k1 :]
    m = m[i0 * k1 : (i0 + 1) * k1]
    for j0 in range(r0 * part // parts, r0 * (part + 1) // parts):
        start = (i0 * r0 + j0) * k1 * r1
        row = x[start : start + k1 * r1]
        at = i0 * geometry[5] + j0 * geometry[6]
        if r1 == 1:
            if geometry[7]:
                add_weighted_row(s0, s1, s2, row, m, w[at : at + k1])
            else:
                add_row(s0, s1, s2, row, m, np.float64(w[at]))
        else:
            for i1 in range(k1):
                line = row[i1 * r1 : (i1 + 1) * r1]
                where = at + i1 * geometry[7]
                if geometry[8]:
                    a, b, c = weighted_line(line, m[i1], w[where : where + r1])
                else:
                    a, b, c = weighted_alike(line, m[i1], np.float64(w[where]))
                s0[i1] += a
                s1[i1] += b
                s2[i1] += c


@cpu.chunked
def weighted_combine(i0, mean, var, total, work, geometry):
    """The sums of the parts together: a better mean, and the variance about it."""
    k1, parts = geometry[2], geometry[4]
    for i1 in range(k1):
        s0 = 0.0
        s1 = 0.0
        s2 = 0.0
        for part in range(parts):
            area = work[(i0 * parts + part) * 3 * k1 :]
            s0 += area[i1]
            s1 += area[k1 + i1]
            s2 += area[2 * k1 + i1]
        at = i0 * k1 + i1
        shift = s1 / s0
        spread = s2 / s0 - shift * shift
        if np.isfinite(mean[at]):  # an infinite one has no deviations to be bettered by
            mean[at] += shift
        var[at] = 0.0 if spread < 0.0 else spread
        total[at] = s0


@cpu.chunked
def weighted_slope(chunk, dx, x, w, mean, a, b, geometry):
    """dx = w·(a + b·(x − mean)), with mean, a and b one a group."""
    r0, k1, r1, parts = geometry[1], geometry[2], geometry[3], geometry[4]
    i0, part = chunk // parts, chunk % parts
    mean, a, b = mean[i0 * k1 : (i0 + 1) * k1], a[i0 * k1 : (i0 + 1) * k1], b[i0 * k1 : (i0 + 1) * k1]
    for j0 in range(r0 * part // parts, r0 * (part + 1) // parts):
        start = (i0 * r0 + j0) * k1 * r1
        row, target = x[start : start + k1 * r1], dx[start : start + k1 * r1]
        at = i0 * geometry[5] + j0 * geometry[6]
        if r1 == 1 and geometry[7]:
            weights = w[at : at + k1]
            for i in range(target.size):
                target[i] = weights[i] * (a[i] + b[i] * (row[i] - mean[i]))
        elif r1 == 1:
            weight = np.float64(w[at])
            for i in range(target.size):
                target[i] = weight * (a[i] + b[i] * (row[i] - mean[i]))
        else:
            for i1 in range(k1):
                line, out = row[i1 * r1 : (i1 + 1) * r1], target[i1 * r1 : (i1 + 1) * r1]
                where = at + i1 * geometry[7]
                e, f, g = mean[i1], a[i1], b[i1]
                if geometry[8]:
                    weights = w[where : where + r1]
                    for j in range(out.size):
                        out[j] = weights[j] * (f + g * (line[j] - e))
                else:
                    weight = np.float64(w[where])
                    for j in range(out.size):
                        out[j] = weight * (f + g * (line[j] - e))


@cpu.jit
def add_row(s0, s1, s2, x, m, weight):
    for i in range(x.size):
        d = x[i] - m[i]
        s0[i] += weight
        s1[i] += weight * d
        s2[i] += weight * (d * d)


@cpu.jit
def add_weighted_row(s0, s1, s2, x, m, w):
    for i in range(x.size):
        d = x[i] - m[i]
        s0[i] += w[i]
        s1[i] += w[i] * d
        s2[i] += w[i] * (d * d)


@cpu.jit
def weighted_line(x, m, w):
    a = 0.0
    b = 0.0
    c = 0.0
    for j in range(x.size):
        d = np.float64(x[j]) - m
        weight = np.float64(w[j])
        a += weight
        b += weight * d
        c += weight * (d * d)
    return a, b, c


@cpu.jit
def weighted_alike(x, m, weight):
    b = 0.0
    c = 0.0
    for j in range(x.size):
        d = np.float64(x[j]) - m
        b += d
        c += d * d
    return weight * x.size, weight * b, weight * c
