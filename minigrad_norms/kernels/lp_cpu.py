"""CPU kernels of Lp normalization, over groups in the canonical form (k0, r0, k1, r1).

A group's sum is taken in m parts, which `combine` puts together: where r1 is long, a part is a cut of all its lines
(m is their number); else rows are added up, and a part is one of its r1 columns. What belongs to a group is spread over
its parts again, so that every loop finds its factor where it found its sum. Arrays are flat, x and y of one dtype, the
rest float64. The cut into parts and chunks follows from the form alone.
"""

from typing import NamedTuple

import numpy as np

from minigrad.axes import Form
from minigrad.devices import cpu
from minigrad.devices.cpu_math import exp_f64, log_f64

ABSOLUTE, SQUARE, LARGEST, POWER, PRODUCT, TIES = 0, 1, 2, 3, 4, 5  # what is summed
SHORTEST = 16  # elements of a line that is summed as one
PIECE = 1024  # elements that are summed together: sums of sums round less than one long sum
WIDEST = 1024  # columns of a block
MOST_CHUNKS = 32
LEAST_CHUNK = 1 << 13  # elements that are worth a chunk


class Plan(NamedTuple):
    """How a form is computed."""

    form: tuple[int, int, int, int]
    parts: int  # of a group
    blocks: int  # of columns; 0 where lines are summed
    chunks: int

    @property
    def units(self) -> int:
        """The length of what is spread."""
        return self.form[0] * self.form[2] * self.parts


def plan_for(form: Form) -> Plan:
    """The plan for a form that has elements and no permutation."""
    k0, r0, k1, r1 = form[:4]
    target = max(1, min(MOST_CHUNKS, form.size // LEAST_CHUNK))
    if r1 >= SHORTEST or k1 * r1 == r1:
        cuts = max(1, min(target // form.groups, r1 // SHORTEST))
        return Plan((k0, r0, k1, r1), cuts, 0, max(1, min(form.groups * cuts, target)))
    columns = k1 * r1
    blocks = max(-(-columns // WIDEST), min(-(-target // k0), columns // 64), 1)
    return Plan((k0, r0, k1, r1), r1, blocks, max(1, min(k0 * blocks, target)))


@cpu.chunked
def sums(chunk, chunks, kind, totals, x, other, spread, p, k0, r0, k1, r1, parts, blocks):
    """Each part's sum, or its largest |x|. `other` is dy for PRODUCT, `spread` the scale for POWER and TIES."""
    units = k0 * blocks if blocks else k0 * k1 * parts
    for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
        if blocks:
            first, low, high = columns_of(unit, r0, k1, r1, blocks)
            acc, scale = totals[low:high], spread[low:high]
            for j in range(acc.size):
                acc[j] = 0.0
            for i in range(r0):
                at = first + i * k1 * r1
                end = at + high - low
                add_row(kind, acc, x[at:end], other[at:end], scale, p)
        else:
            total = 0.0
            for i in range(r0):
                at, end = line_of(unit, i, r0, k1, r1, parts)
                while at < end:
                    stop = min(at + PIECE, end)
                    found = line_sum(kind, x[at:stop], other[at:stop], spread[unit], p)
                    if kind == LARGEST:
                        total = found if found > total or found != found else total
                    else:
                        total += found
                    at = stop
            totals[unit] = total


@cpu.chunked
def combine(chunk, kind, norm, totals, spread, p, epsilon, last, parts, flag):
    """‖x‖ of each group; `spread` is what y takes of x in the `last` step, else what POWER divides by."""
    for group in range(norm.size):
        total = 0.0
        for q in range(group * parts, (group + 1) * parts):
            part = totals[q]
            if kind == LARGEST:
                total = part if part > total or part != part else total
            else:
                total += part
        if kind == SQUARE:
            if total < 1e-280 or (total > 1e280 and total < np.inf) or total == np.inf:
                flag[0] = 1.0  # out of range, or perhaps
            total = np.sqrt(total)
        elif kind == POWER:
            largest = norm[group]
            total = largest * exp_f64(log_f64(total) / p) if largest > 0.0 and largest < np.inf else largest
        norm[group] = total
        if last:
            value = inverse(total if total > epsilon or total != total else epsilon)
        else:
            value = 1.0 if total == 0.0 else total
        for q in range(group * parts, (group + 1) * parts):
            spread[q] = value


@cpu.chunked
def apply(chunk, chunks, y, x, spread, k0, r0, k1, r1, parts, blocks):
    """y = x times what is spread."""
    units = k0 * blocks if blocks else k0 * k1 * parts
    for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
        if blocks:
            first, low, high = columns_of(unit, r0, k1, r1, blocks)
            factor = spread[low:high]
            for i in range(r0):
                at = first + i * k1 * r1
                out, row = y[at : at + high - low], x[at : at + high - low]
                for j in range(factor.size):
                    out[j] = row[j] * factor[j]
        else:
            a = spread[unit]
            for i in range(r0):
                at, end = line_of(unit, i, r0, k1, r1, parts)
                out, line = y[at:end], x[at:end]
                for j in range(out.size):
                    out[j] = line[j] * a


@cpu.chunked
def combine_backward(chunk, kind, products, ties, scale, slope, norm, dnorm, power, epsilon, parts):
    """What dx takes of dy (`scale`) and of x's share in ‖x‖ (`slope`); into `products` ‖x‖, or 1 for 0."""
    for group in range(norm.size):
        n = norm[group]
        one = inverse(n if n > epsilon or n != n else epsilon)
        total = 0.0
        tied = 0.0
        for q in range(group * parts, (group + 1) * parts):
            total += products[q]
            tied += ties[q] if kind == LARGEST else 0.0
        to_norm = 0.0 if n < epsilon else -total * one * one
        if dnorm.size:
            to_norm += dnorm[group]
        if n == 0.0:
            to_norm = 0.0
        elif kind == LARGEST:
            to_norm = 0.0 if tied == 0.0 else to_norm / tied
        elif kind == SQUARE:
            to_norm /= n
        for q in range(group * parts, (group + 1) * parts):
            scale[q] = one
            slope[q] = to_norm
            products[q] = 1.0 if n == 0.0 else n


@cpu.chunked
def apply_backward(chunk, chunks, kind, dx, dy, x, scale, slope, size, p, k0, r0, k1, r1, parts, blocks):
    """dx = dy·scale + slope·∂‖x‖/∂x, where for p = 2 the slope is over ‖x‖ already."""
    units = k0 * blocks if blocks else k0 * k1 * parts
    for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
        if blocks:
            first, low, high = columns_of(unit, r0, k1, r1, blocks)
            a, b, s = scale[low:high], slope[low:high], size[low:high]
            for i in range(r0):
                at = first + i * k1 * r1
                end = at + high - low
                slope_row(kind, dx[at:end], dy[at:end], x[at:end], a, b, s, p)
        else:
            for i in range(r0):
                at, end = line_of(unit, i, r0, k1, r1, parts)
                slope_line(kind, dx[at:end], dy[at:end], x[at:end], scale[unit], slope[unit], size[unit], p)


@cpu.jit
def columns_of(unit, r0, k1, r1, blocks):
    """Where a block of columns begins in x, and where it lies in what is spread."""
    i0, block = unit // blocks, unit % blocks
    columns = k1 * r1
    low, high = columns * block // blocks, columns * (block + 1) // blocks
    return i0 * r0 * columns + low, i0 * columns + low, i0 * columns + high


@cpu.jit
def line_of(unit, i, r0, k1, r1, cuts):
    """Where a cut of a group's i-th line begins and ends in x."""
    group, cut = unit // cuts, unit % cuts
    start = ((group // k1 * r0 + i) * k1 + group % k1) * r1
    return start + r1 * cut // cuts, start + r1 * (cut + 1) // cuts


@cpu.jit(inline=True)
def inverse(n):
    return 0.0 if n == 0.0 else 1.0 / n


@cpu.jit(inline=True)
def term(kind, x, dy, s, p):
    """What an element adds to its sum."""
    a = abs(x)
    if kind == ABSOLUTE:
        return a
    if kind == SQUARE:
        return a * a
    if kind == PRODUCT:
        return x * dy
    if kind == TIES:
        return 1.0 if a == s else 0.0
    return exp_f64(p * log_f64(a / s))


@cpu.jit(inline=True)
def share(kind, x, s, p):
    """∂‖x‖/∂x, for SQUARE times ‖x‖; 0 at x = 0. s is ‖x‖."""
    if kind == SQUARE:
        return x
    sign = (1.0 if x > 0.0 else 0.0) - (1.0 if x < 0.0 else 0.0)
    if kind == ABSOLUTE:
        return sign
    if kind == LARGEST:
        return sign if abs(x) == s else 0.0
    slope = exp_f64((p - 1.0) * log_f64(abs(x) / s))
    return 0.0 if x == 0.0 else sign * slope


@cpu.jit
def line_sum(kind, x, dy, s, p):
    total = 0.0
    if kind == LARGEST:
        for j in range(x.size):
            a = abs(np.float64(x[j]))
            total = a if a > total or a != a else total
    elif kind == ABSOLUTE:
        for j in range(x.size):
            total += term(ABSOLUTE, np.float64(x[j]), 0.0, s, p)
    elif kind == SQUARE:
        for j in range(x.size):
            total += term(SQUARE, np.float64(x[j]), 0.0, s, p)
    elif kind == PRODUCT:
        for j in range(x.size):
            total += term(PRODUCT, np.float64(x[j]), np.float64(dy[j]), s, p)
    elif kind == TIES:
        for j in range(x.size):
            total += term(TIES, np.float64(x[j]), 0.0, s, p)
    else:
        for j in range(x.size):
            total += term(POWER, np.float64(x[j]), 0.0, s, p)
    return total


@cpu.jit
def add_row(kind, acc, x, dy, s, p):
    if kind == LARGEST:
        for j in range(acc.size):
            a = abs(np.float64(x[j]))
            acc[j] = a if a > acc[j] or a != a else acc[j]
    elif kind == ABSOLUTE:
        for j in range(acc.size):
            acc[j] += term(ABSOLUTE, np.float64(x[j]), 0.0, s[j], p)
    elif kind == SQUARE:
        for j in range(acc.size):
            acc[j] += term(SQUARE, np.float64(x[j]), 0.0, s[j], p)
    elif kind == PRODUCT:
        for j in range(acc.size):
            acc[j] += term(PRODUCT, np.float64(x[j]), np.float64(dy[j]), s[j], p)
    elif kind == TIES:
        for j in range(acc.size):
            acc[j] += term(TIES, np.float64(x[j]), 0.0, s[j], p)
    else:
        for j in range(acc.size):
            acc[j] += term(POWER, np.float64(x[j]), 0.0, s[j], p)


@cpu.jit
def slope_line(kind, dx, dy, x, a, b, s, p):
    if kind == SQUARE:
        for j in range(dx.size):
            dx[j] = dy[j] * a + b * x[j]
    elif kind == POWER:
        for j in range(dx.size):
            dx[j] = dy[j] * a + b * share(POWER, np.float64(x[j]), s, p)
    elif kind == ABSOLUTE:
        for j in range(dx.size):
            dx[j] = dy[j] * a + b * share(ABSOLUTE, np.float64(x[j]), s, p)
    else:
        for j in range(dx.size):
            dx[j] = dy[j] * a + b * share(LARGEST, np.float64(x[j]), s, p)


@cpu.jit
def slope_row(kind, dx, dy, x, a, b, s, p):
    if kind == SQUARE:
        for j in range(dx.size):
            dx[j] = dy[j] * a[j] + b[j] * x[j]
    elif kind == POWER:
        for j in range(dx.size):
            dx[j] = dy[j] * a[j] + b[j] * share(POWER, np.float64(x[j]), s[j], p)
    elif kind == ABSOLUTE:
        for j in range(dx.size):
            dx[j] = dy[j] * a[j] + b[j] * share(ABSOLUTE, np.float64(x[j]), s[j], p)
    else:
        for j in range(dx.size):
            dx[j] = dy[j] * a[j] + b[j] * share(LARGEST, np.float64(x[j]), s[j], p)
