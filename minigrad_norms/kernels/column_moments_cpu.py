"""What the column kernels sum: mean and squares of each column over rows, merged over parts of the rows and groups.

What is `exact` gives the same bits wherever it is inlined: the parallel form of a kernel is compiled anew.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad_norms.kernels.shared_cpu import RAW

TILE = 16  # steps of four rows that are summed about one shift
NARROW = 4  # steps that are summed in the elements' own dtype: loops with float64 in them take half as many at a time
ROWS = 17  # float64 rows of workspace a chunk has: six of sums, seven tables, four rows of gradient behind a clamp


@cpu.jit
def moments_of_rows(stages, area, near, t1, t2, x, start, count, step, tail):
    """Mean and Σ(x − mean)² of each column, one pass: a tile of rows is summed about the mean of those before it.

    The first is summed about the mean of four rows. The loss of digits in Σd² − (Σd)²/n is then bounded by what the
    tile's own distance from that mean adds to the result, and a constant column has d = 0 throughout. With RAW the
    shift stays 0.
    """
    w = near.size
    m, m2, s1, s2 = area[:w], area[w : 2 * w], area[2 * w : 3 * w], area[3 * w : 4 * w]
    quarter = count // 4
    apart = quarter * step
    first_shift(stages, m, m2, near, x[start:][: 3 * apart + w], apart)
    i = 0
    done = count - count
    while done < count + 1:
        zero(s1, s2)
        zero(t1, t2)
        last = min(i + TILE, quarter)
        while i < last:
            deviations_four(t1, t2, x[start + i * step :][: 3 * apart + w], apart, near)
            i += 1
            if i % NARROW == 0 or i == last:
                widen(s1, s2, t1, t2)
        end = 4 * last
        size = w
        if done == count:  # the row after the last is cut short
            deviations_row(s1, s2, x[start + count * step : start + count * step + tail], near)
            end = count + 1
            size = tail
        elif last == quarter:
            for row in range(4 * quarter, count):
                deviations_row(s1, s2, x[start + row * step : start + row * step + w], near)
            end = count
        end_tile(stages, m[:size], m2, s1, s2, near, done, end - done)
        done = end


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
def zero(s1, s2):
    for j in range(s1.size):
        s1[j] = 0.0
        s2[j] = 0.0


@cpu.jit
def widen(s1, s2, t1, t2):
    """Add sums in the elements' own dtype to those in float64, and begin them anew."""
    for j in range(s1.size):
        s1[j] += t1[j]
        s2[j] += t2[j]
    zero(t1, t2)


@cpu.jit(exact=True)
def end_tile(stages, m, m2, s1, s2, near, done, count):
    """Add the sums of `count` rows about `near` to the moments of `done` rows, and move `near` to the mean."""
    if stages & RAW:
        for j in range(m.size):
            m2[j] += s2[j]
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


@cpu.jit
def merge_all(m, m2, area, r0, fold, parts, count, columns, width):
    """The moments of the chunks' parts, then of the copies of each column, merged into those at the front."""
    rows, more = r0 // fold, r0 % fold  # the first `more` copies of a column have a row more
    done = count  # part is 0 here
    for other in range(1, parts):
        there = area[other * ROWS * width :]
        count = rows * (other + 1) // parts - rows * other // parts
        merge(m, m2, there, there[m.size :], done, count, more * columns if other == parts - 1 else more - more)
        done += count
    done = rows + (1 if more > 0 else 0)
    for copy in range(1, fold):
        at = copy * columns
        count = rows + (1 if copy < more else 0)
        merge(m[:columns], m2, m[at:], m2[at:], done, count, more - more)
        done += count


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
        means, squares = m[g * r1 : g * r1 + r1], m2[g * r1 : g * r1 + r1]
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


@cpu.jit
def add_to(total, other):
    for j in range(total.size):
        total[j] += other[j]


# Four rows a step and offsets without sign, for the reasons given in columns_cpu.py.


@cpu.jit
def deviations_four(t1, t2, x, apart, near):
    one = np.uint64(apart)
    two = one + one
    three = two + one
    for j in range(np.uint64(near.size)):
        e = near[j]
        p, q, r, s = x[j] - e, x[j + one] - e, x[j + two] - e, x[j + three] - e
        t1[j] += (p + q) + (r + s)
        t2[j] += (p * p + q * q) + (r * r + s * s)


@cpu.jit
def deviations_row(s1, s2, x, near):
    for j in range(x.size):
        d = x[j] - near[j]
        s1[j] += d
        s2[j] += d * d
