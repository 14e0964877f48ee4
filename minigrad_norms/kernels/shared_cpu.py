"""What the CPU kernels of standardization share: their stages, the backward formula, and the parameters' gradients."""

import numpy as np

from minigrad.devices import cpu

# A kernel does the stages that it is asked for: all in one call where a chunk holds whole groups, or one after the
# other where the rows of a group are shared out among chunks.
SUMS = 1  # sums over the chunk's own elements
COMBINE = 2  # sums of the chunks of a group, in their order, and what follows from them
APPLY = 4  # the elements
RAW = 8  # flag: no mean is removed; it is 0, and what is called the variance is the mean of squares
TOTAL = 16  # flag: their sum instead

START = 8  # where workspace begins in `work`; in front is the alarm
ALARM = -1.2345678901234567e-289  # in work[0]

# Derivation. With d = x − μ, r = (σ² + ε)^−½, y = d·r·γ + β, n elements a group, e = dy·γ, and ċμ, ċv the cotangents
# of μ and σ² as outputs:
#   dγ = Σ dy·d·r     dβ = Σ dy
#   through σ² = Σ d²/n:   v̄ = ċv − r³/2·Σ e·d,   and ∂σ²/∂x = 2·d/n    (∂σ²/∂μ = −2·Σ d/n = 0)
#   through μ = Σ x/n:     m̄ = ċμ − r·Σ e,        and ∂μ/∂x = 1/n
#   dx = r·e + b·d + c   with b = 2·v̄/n and c = m̄/n
# Where μ and σ² are inputs, v̄ and m̄ (without ċ) are their gradients and dx = r·e.
# Where σ² + ε = 0 the group is constant: r := 0, so y = β and dx has only what comes through μ. With RAW nothing comes
# through μ, and with TOTAL b = 2·v̄. Behind a clamp dy is 0 where y is at a bound.
#
# Arithmetic. Elements are computed on in the dtype of `like`: float32 is enough for float32 where it is about a shift
# near the mean and sums of a few elements go on in float64. x − near, with near the mean in that dtype, is exact where
# x is close to the mean; what near leaves of the mean is made good in float64, (x − near)·a + (β − (μ − near)·a) for y.
# A constant group has near = μ. Where float32 does not reach (squares that overflow or vanish, NaN) a kernel gives the
# alarm, and is run again in float64 for those groups: what a group gets depends on its own elements alone.
#
# What an argument that may be None is for is not compiled where it is: `redo` is an array for the second run, `limits`
# holds the bounds of a clamping activation, `grouped` is None for columns that are groups of their own.


@cpu.jit
def unpack(geometry):
    """What a plan tells its kernels, as scalars."""
    a, b, c, d = geometry[0], geometry[1], geometry[2], geometry[3]
    e, f, g, h = geometry[4], geometry[5], geometry[6], geometry[7]
    gm, gn, gp, bm, bn, bp = geometry[8], geometry[9], geometry[10], geometry[11], geometry[12], geometry[13]
    return a, b, c, d, e, f, g, h, gm, gn, gp, bm, bn, bp, geometry[14], geometry[15]


@cpu.jit(inline=True)
def rstd_of(variance, epsilon):
    total = variance + epsilon
    return 0.0 if total == 0.0 else 1.0 / np.sqrt(total)


@cpu.jit(inline=True)
def doubtful(variance, epsilon):
    """Whether a variance from squares in float32 may be wrong: they overflowed, or vanished next to nothing.

    The limits lie well before that, so that the corrected variance is on the same side of them.
    """
    return not 1e-28 < variance + epsilon < 1e28


@cpu.jit(inline=True)
def wild(mean, rstd):
    """Whether a group needs float64: its variance is doubtful, or its mean near float32's limits."""
    return not (abs(mean) < 1e15 and 1e-14 < rstd < 1e14)


@cpu.jit(inline=True)
def far(value):
    """Whether a factor is near float32's limits; 0 is not."""
    return value != 0.0 and not 1e-30 < abs(value) < 1e30


@cpu.jit(inline=True)
def table_row(i0, i1, m0, n1, p1):
    """Where the entries of group (i0, i1) begin in a table."""
    return ((i0 % m0) * n1 + (i1 if n1 > 1 else 0)) * p1


@cpu.jit
def to_statistic(cotangent, group, value, free):
    """What reaches a statistic is given out where it is an input, and joined by its cotangent where it is an output."""
    if cotangent is None:
        return value
    if free:
        cotangent[group] = value
        return value
    return value + cotangent[group]


@cpu.jit
def clamp(y, limits):
    """y of a clamping activation, in place."""
    low, high = y.dtype.type(limits[0]), y.dtype.type(limits[1])
    for j in range(y.size):
        value = y[j]
        value = low if value <= low else value
        y[j] = high if value >= high else value


@cpu.jit
def gate(dz, dy, x, near, a, b, limits):
    """dy where z = (x − near)·a + b is within the bounds of a clamping activation, else 0."""
    low, high, zero = near.dtype.type(limits[0]), near.dtype.type(limits[1]), dz.dtype.type(0.0)
    for j in range(dz.size):
        z = (x[j] - near[j]) * a[j] + b[j]
        dz[j] = zero if z <= low or z >= high else dy[j]


@cpu.chunked
def parameters(which, dgamma, dbeta, sums, k0, k1, p, geometry):
    """The gradients of the tables of shift and scale, from sums of shape (2, k0, k1, p), which are overwritten."""
    out = dgamma if which else dbeta
    if out.size == 0:
        return
    at = 8 if which else 11
    m0, n1, p1 = geometry[at], geometry[at + 1], geometry[at + 2]
    start = which * k0 * k1 * p
    span = m0 * k1 * p
    head = sums[start : start + span]
    for at in range(start + span, start + k0 * k1 * p, span):
        part = sums[at : at + span]
        for t in range(head.size):
            head[t] += part[t]
    if out.size == span:
        for t in range(out.size):
            out[t] = head[t]
        return
    width = p // p1
    for t in range(out.size):
        row = head[(t // (n1 * p1) * k1 + t // p1 % n1) * p + t % p1 * width :]
        total = 0.0
        for c in range(k1 // n1):  # n1 is k1, or 1 and then all are summed
            for j in range(width):
                total += row[c * p + j]
        out[t] = total
