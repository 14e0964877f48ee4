"""Difference formulas for f'(0): forward, central, fourth-order and Richardson, with a step chosen by its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
_LEVELS = 7  # of Richardson's table
_SHRINKS = (2.0**-4, 2.0**-9, 2.0**-14)
_SAFETY = 4.0

#: A real function of one real variable.
Line = Callable[[float], Any]


class Estimate(NamedTuple):
    """A derivative, a bound of its error, the step it was taken with, and what the bound is made of."""

    value: float
    bound: float
    step: float
    truncation: float
    rounding: float


class Scheme(NamedTuple):
    """Σ weight·f(offset·h)/h, whose truncation is c·h^order and whose rounding is `amplification`·noise/h."""

    name: str
    order: int
    offsets: tuple[int, ...]
    weights: tuple[float, ...]

    def __call__(self, f: Line, h: float) -> Any:
        return sum(w * f(k * h) for k, w in zip(self.offsets, self.weights)) / h

    @property
    def amplification(self) -> float:
        return sum(map(abs, self.weights))

    def best_step(self, c: float, noise: float) -> float:
        """Where c·h^p + a·noise/h is least: (a·noise/(p·c))^(1/(p+1))."""
        return float((self.amplification * noise / (self.order * c)) ** (1 / (self.order + 1)))


SCHEMES = {
    s.name: s
    for s in (
        Scheme("forward", 1, (0, 1), (-1.0, 1.0)),
        Scheme("central", 2, (-1, 1), (-0.5, 0.5)),
        Scheme("fourth-order", 4, (1, -1, 2, -2), (2 / 3, -2 / 3, -1 / 12, 1 / 12)),  # in pairs, equal values cancel
    )
}


def derivative(f: Line, scheme: str = "central", *, noise: float, scale: float = 1.0, eps: float = _EPS) -> Estimate:
    """f'(0) by a scheme, with the step where truncation and rounding balance.

    The truncation c·h^p is measured: |D(2h) − D(h)| = c·h^p·(2^p − 1). That gives the step where c·h^p + a·noise/h is
    least; one or two rounds find it. Where the two differ by rounding alone, steps grow.

    Args:
        f: the function of one variable.
        scheme: ``"forward"``, ``"central"``, ``"fourth-order"`` or ``"Richardson"``.
        noise: how far rounding moves f.
        scale: over which f changes by as much as its size.
        eps: of the arithmetic in which f is computed, for the first step.

    Example:
        >>> import math
        >>> from minigrad.gradcheck.differences import derivative
        >>> found = derivative(math.exp, "central", noise=1e-16)
        >>> abs(found.value - 1) <= found.bound < 1e-9
        True
    """
    if scheme == "Richardson":
        best = _richardson(f, noise, scale)
        for shrink in _SHRINKS:  # where f changes faster than that, or has a kink nearby
            if best.truncation <= _SAFETY * best.rounding:
                break
            best = min(best, _richardson(f, noise, shrink * scale), key=lambda found: found.bound)
        return best
    s = SCHEMES[scheme]
    h = _power_of_two(scale * eps ** (1 / (s.order + 1)))
    least: Estimate | None = None
    for _ in range(4):
        with np.errstate(all="ignore"):
            near, far = s(f, h), s(f, 2 * h)
        truncation = float(abs(far - near)) / (2**s.order - 1)
        rounding = s.amplification * noise / h
        found = Estimate(float(near), _SAFETY * (truncation + rounding), h, truncation, rounding)
        if np.isfinite(found.bound) and (least is None or found.bound < least.bound):
            least = found
        if not np.isfinite(truncation):
            wanted = h / 64
        elif truncation <= rounding:
            wanted = min(8 * h, scale / 8)
        else:
            wanted = s.best_step(truncation / h**s.order, noise) if noise else h / 8
        if 0.5 < wanted / h < 2:
            break
        h = _power_of_two(wanted)
    return least or Estimate(np.nan, np.inf, h, np.inf, np.inf)


def _richardson(f: Line, noise: float, scale: float) -> Estimate:
    """Central differences at h, h/2, h/4 ..., whose errors in h², h⁴ ... are eliminated one after another.

    Of the table the entry is taken whose neighbours agree best, rounding included (Richardson 1927; Ridders 1982).
    """
    best = Estimate(np.nan, np.inf, scale, np.inf, np.inf)
    central = SCHEMES["central"]
    before: list[Any] = []
    errors_before: list[float] = []
    for level in range(_LEVELS):
        h = _power_of_two(scale / 8) * 0.5**level
        with np.errstate(all="ignore"):
            row, errors = [central(f, h)], [noise / h]
            for k, coarse in enumerate(before):
                factor = 4.0 ** (k + 1)
                row.append((factor * row[k] - coarse) / (factor - 1))
                errors.append((factor * errors[k] + errors_before[k]) / (factor - 1))
                truncation = float(max(abs(row[k + 1] - row[k]), abs(row[k + 1] - coarse)))
                bound = _SAFETY * (truncation + errors[-1])
                if bound < best.bound:
                    best = Estimate(float(row[-1]), bound, h, truncation, errors[-1])
        before, errors_before = row, errors
    return best


def _power_of_two(h: float) -> float:
    return float(2.0 ** np.round(np.log2(h)))
