"""What the CPU kernels of standardization share: their stages, the backward formula, and the parameters' gradients."""

import numpy as np

from minigrad.devices import cpu

# A kernel does the stages that it is asked for: all in one call where a chunk holds whole groups, or one after the
# other where the rows of a group are shared out among chunks.
SUMS = 1  # sums over the chunk's own elements
COMBINE = 2  # sums of the chunks of a group, in their order, and what follows from them
APPLY = 4  # the elements

# Derivation. With d = x − μ, r = (σ² + ε)^−½, y = d·r·γ + β, n elements a group, e = dy·γ, and ċμ, ċv the cotangents
# of μ and σ² as outputs:
#   dγ = Σ dy·d·r     dβ = Σ dy
#   through σ² = Σ d²/n:   v̄ = ċv − r³/2·Σ e·d,   and ∂σ²/∂x = 2·d/n    (∂σ²/∂μ = −2·Σ d/n = 0)
#   through μ = Σ x/n:     m̄ = ċμ − r·Σ e,        and ∂μ/∂x = 1/n
#   dx = r·e + b·d + c   with b = 2·v̄/n and c = m̄/n
# Where μ and σ² are inputs, v̄ and m̄ (without ċ) are their gradients and dx = r·e.
# Where σ² + ε = 0 the group is constant: r := 0, so y = β and dx has only what comes through μ.


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


# y in float32 arithmetic: x − near, with near the mean in float32, is exact where x is close to the mean, and what near
# leaves of the mean goes into the shift: (x − near)·a + (β − (μ − near)·a). A constant group has near = μ.


@cpu.jit(inline=True)
def wild(mean, scale):
    """Whether something in that comes near float32's limits, and must be done in float64. A NaN is a NaN in both."""
    size = abs(scale)
    return size == size and (abs(mean) > 1e15 or size > 1e15 or (size < 1e-15 and size > 0.0))


@cpu.jit(inline=True)
def table_row(i0, i1, m0, n1, p1):
    """Where the entries of group (i0, i1) begin in a table."""
    return ((i0 % m0) * n1 + (i1 if n1 > 1 else 0)) * p1


@cpu.jit(inline=True)
def to_statistics(dmean, dvar, group, to_mean, to_var, free):
    """What reaches a group's mean and variance from y, given out where they are inputs, else with their cotangents."""
    if dmean.size > 0:
        if free:
            dmean[group] = to_mean
        else:
            to_mean += dmean[group]
    if dvar.size > 0:
        if free:
            dvar[group] = to_var
        else:
            to_var += dvar[group]
    return to_mean, to_var


@cpu.jit
def deviations(x, shift):
    """Σ(x − shift) and Σ(x − shift)²."""
    first = 0.0
    second = 0.0
    for j in range(x.size):
        d = np.float64(x[j]) - shift
        first += d
        second += d * d
    return first, second


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
