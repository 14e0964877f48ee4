"""What CUDA kernels of standardization do with one element: x̂, y, the cotangent behind an activation, and dx.

The formulas are those of `shared_cpu`. An element is computed on in its own dtype, about the mean rounded to it; where
float32 does not reach (`wild` groups) in float64. All that is summed is summed in float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import Function
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.rows import each

sqrt = vars(cuda_math)["sqrt_f64"]


@cuda.jit
def rstd_of(variance, epsilon):
    total = variance + epsilon
    return 0.0 if total == 0.0 else 1.0 / sqrt(total)


@cuda.jit
def shift_of(value):
    """What sums are taken about: an element of the group, unless it would spoil them."""
    wide = np.float64(value)
    return wide if wide - wide == 0.0 else 0.0


@cuda.jit
def add_two(a, b):
    return a[0] + b[0], a[1] + b[1]


@cuda.jit
def coefficients(shift_sum, scale_sum, rstd, dmean, dvar, count, raw, total):
    """(mean of e, mean of e·x̂, 2·ċv/n, ċμ/n), of which `Elements.slopes` makes dx."""
    weight = 1.0 if total else 1.0 / count
    if raw:
        return 0.0, scale_sum * rstd * weight, 2.0 * dvar * weight, 0.0
    return shift_sum / count, scale_sum * rstd / count, 2.0 * dvar / count, dmean / count


@cuda.jit
def is_far(c):
    """Whether `coefficients` may be out of float32's range."""
    return abs(c[2]) > 1e30 or abs(c[3]) > 1e30


class Elements(NamedTuple):
    """Device functions for some dtype, activation and width, the number of neighbours that a thread takes.

    Attributes:
        group: ``group(mean, var, epsilon)``, what the other functions want to know of a group; [4], [5] are μ and r.
        outcomes: y of neighbours, from x, the group, γ and β.
        cotangent: dy·f′(z) of an element.
        cotangents: the same of neighbours.
        slopes: dx of neighbours, from dy, x, the group, γ, β, `coefficients`, and whether the statistics are inputs.
        merged: ``merged(c, group)``, what `slopes` of tame groups take for coefficients, and whether it may be out of
            float32's range: dx = r·(dy·f′(z)·γ − [0]) + [1]·(x − μ) + [2], with μ rounded.
    """

    group: Function
    outcomes: Function
    cotangent: Function
    cotangents: Function
    slopes: Function
    merged: Function


@cache
def elements(dtype: np.dtype, activation: str | None, width: int, apart: bool = False, tame: bool = False) -> Elements:
    """The functions, made once; where neighbours are `apart`, in a group each, with a tuple of groups for them.

    Functions for `tame` groups are for those alone that are not `wild`, of which they want the first three members.
    """
    number: Any = dtype.type
    function, derivative = _activation(activation, dtype)

    @cuda.jit
    def group(mean, var, epsilon):
        rstd = rstd_of(var, epsilon)
        near = number(mean)
        rest = (mean - np.float64(near)) * rstd
        wild = not (abs(mean) < 1e15 and rstd > 1e-14 and rstd < 1e14)
        return near, number(rstd), number(rest), wild, np.float64(mean), np.float64(rstd)

    @cuda.jit
    def near_standard(x, g):
        return (x - g[0]) * g[1] - g[2]

    @cuda.jit
    def any_standard(x, g):
        return number((np.float64(x) - g[4]) * g[5]) if g[3] else near_standard(x, g)

    standard = near_standard if tame else any_standard

    @cuda.jit
    def outcome(x, g, gamma, beta):
        return function(standard(x, g) * gamma + beta)

    @cuda.jit
    def cotangent(dy, x, g, gamma, beta):
        return derivative(dy, standard(x, g) * gamma + beta)

    @cuda.jit
    def free_slope(dy, x, g, gamma, beta, c):
        through = cotangent(dy, x, g, gamma, beta) * gamma
        return number(np.float64(through) * g[5]) if g[3] else through * g[1]

    @cuda.jit
    def wild_slope(dy, x, g, gamma, beta, c):
        through, d = cotangent(dy, x, g, gamma, beta) * gamma, np.float64(x) - g[4]
        return number(g[5] * ((np.float64(through) - c[0]) - d * g[5] * c[1]) + (c[3] + c[2] * d))

    @cuda.jit
    def near_slope(dy, x, g, gamma, beta, c):
        inner = (cotangent(dy, x, g, gamma, beta) * gamma - number(c[0])) - standard(x, g) * number(c[1])
        centred = x - g[0]
        return g[1] * inner + (number(c[2]) * centred + number(c[3] - c[2] * (g[4] - np.float64(g[0]))))

    @cuda.jit
    def settled(g):
        """What is known of a group that is not wild."""
        return g[0], g[1], g[2], False, g[4], g[5]

    def by_group(free_way, wild_way, near_way):
        """dx in the way that suits the group."""

        @cuda.jit
        def chosen(dy, x, g, gamma, beta, c, free):
            if free:
                return free_way(dy, x, g, gamma, beta, c)
            if g[3] or is_far(c):
                return wild_way(dy, x, g, gamma, beta, c)
            return near_way(dy, x, settled(g), gamma, beta, c)

        return chosen

    @cuda.jit
    def merged(c, g):
        slant = c[2] - g[5] * g[5] * c[1]
        far = is_far(c) or abs(slant) > 1e30 or (slant != 0.0 and abs(slant) < 1e-30)
        return number(c[0]), number(slant), number(c[3] + slant * (np.float64(g[0]) - g[4])), far

    @cuda.jit
    def tame_slope(dy, x, g, gamma, beta, c, free):
        through = cotangent(dy, x, g, gamma, beta) * gamma
        return through * g[1] if free else (through - c[0]) * g[1] + (c[1] * (x - g[0]) + c[2])

    g, c = ("g[{k}]", "c[{k}]") if apart else ("g", "c")
    row = f"x[{{k}}], {g}, gamma[{{k}}], beta[{{k}}]"
    outcomes = each("outcome", outcome, "x, g, gamma, beta", row, width)
    cotangents = each("cotangent", cotangent, "dy, x, g, gamma, beta", f"dy[{{k}}], {row}", width)
    head, row = "dy, x, g, gamma, beta, c", f"dy[{{k}}], {row}, {c}"
    if apart:
        slope = tame_slope if tame else by_group(free_slope, wild_slope, near_slope)
        slopes = each("slope", slope, head + ", free", row + ", free", width)
        return Elements(group, outcomes, cotangent, cotangents, slopes, merged)

    # What depends on the group alone is asked once for all neighbours.

    @cuda.jit
    def outcomes_together(x, g, gamma, beta):
        return outcomes(x, g, gamma, beta) if g[3] else outcomes(x, settled(g), gamma, beta)

    @cuda.jit
    def cotangents_together(dy, x, g, gamma, beta):
        return cotangents(dy, x, g, gamma, beta) if g[3] else cotangents(dy, x, settled(g), gamma, beta)

    slopes = by_group(*[each("slope", f, head, row, width) for f in (free_slope, wild_slope, near_slope)])
    return Elements(group, outcomes_together, cotangent, cotangents_together, slopes, merged)


def _activation(name: str | None, dtype: np.dtype) -> tuple[Function, Function]:
    """f(z), and dy·f′(z)."""
    number: Any = dtype.type
    suffix = "_f32" if dtype == np.float32 else "_f64"
    exp, expm1, tanh, sigmoid = (getattr(cuda_math, f + suffix) for f in ("exp", "expm1", "tanh", "sigmoid"))
    zero, one, two, four, six = (number(v) for v in (0, 1, 2, 4, 6))

    def function(z):
        if name == "relu" or name == "relu6":
            z = zero if z <= zero else z
            return six if name == "relu6" and z >= six else z
        if name == "elu":
            return expm1(z) if z <= zero else z
        if name == "tanh":
            return tanh(z)
        return sigmoid(z) if name == "sigmoid" else z

    def derivative(dy, z):
        if name == "relu" or name == "relu6":
            return zero if z <= zero or (name == "relu6" and z >= six) else dy
        if name == "elu":
            return dy * (exp(z) if z <= zero else one)
        if name == "tanh":
            return dy * (four * sigmoid(two * z) * sigmoid(-two * z))
        return dy * (sigmoid(z) * sigmoid(-z)) if name == "sigmoid" else dy

    return cuda.jit(function), cuda.jit(derivative)
