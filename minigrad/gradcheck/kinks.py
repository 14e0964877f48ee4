"""Slopes by central differences that step around kinks, and know them where they can't."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

_SHRINK = 2.0**-4
_NEAREST = 2.0**-32  # of the first step, to where an edge is approached
_LOOSE = 1e-3
_NOISES = 16  # of φ's noise, over the step, that a slope may be off


class Slope(NamedTuple):
    """A slope, a bound of its error, and whether a kink is at the point: then the bound reaches both one-sided slopes.

    A jump, where the slopes grow without end, has an infinite bound, and so has an edge, beyond which f is not finite.
    """

    value: float
    bound: float
    kink: bool


_UNKNOWN = Slope(0.0, np.inf, True)


def slope(f: Callable[[float], float], middle: float, h: float, noise: float) -> Slope:
    """f'(0), of which `middle` is f(0), with `h` the step to begin with and `noise` what rounding does to f.

    A smooth function's second difference over h, the gap between its one-sided slopes, halves with h. One that does
    not has a kink within h. Then h shrinks: the gap closes once the kink is out of reach, and stays if it is at 0.
    Where f is not finite within 2h, h shrinks too, until it is.
    """
    nearest = _NEAREST * h
    best, gap = _central(f, middle, h, noise)
    while not np.isfinite(best.value):
        h *= _SHRINK
        if h < nearest:
            return _UNKNOWN
        best, gap = _central(f, middle, h, noise)
    first, sides = gap, [_sides(f, middle, h)]
    while _loose(best, h, noise) or gap:
        if gap > 4 * first > 0:
            return _UNKNOWN
        nearer = h * _SHRINK
        if _NOISES * noise / nearer > (first or best.bound) / 8:
            break  # what is left to be seen would be lost in rounding
        h = nearer
        found, gap = _central(f, middle, h, noise)
        first = first or gap
        sides.append(_sides(f, middle, h))
        if not gap and (first or found.bound < best.bound):
            best, first = found, 0.0
    if not gap:
        grown = _steepness(sides[-1]) > 4 * _steepness(sides[0])
        return _UNKNOWN if grown and _loose(best, h, noise) else best
    # Of the one-sided slopes those that are nearest to the ones before, rounding included.
    errors = [2 * max(np.abs(np.subtract(a, b))) for a, b in pairwise(sides)] or [2 * abs(best.value)]
    steps = [h / _SHRINK**k for k in range(len(sides))][::-1]
    rounded = [e + _NOISES * noise / s for e, s in zip(errors, steps[1:] or steps)]
    k = int(np.argmin(rounded))
    low, high = sorted(sides[k + 1] if len(sides) > 1 else sides[0])
    return Slope((low + high) / 2, (high - low) / 2 + rounded[k], True)


def at_zero(f: Callable[[float], Any], noise: float) -> bool:
    """Whether f has a kink, a jump or an edge at 0."""
    return slope(f, f(0.0), 2.0**-10, noise).kink


def _sides(f: Callable[[float], float], middle: float, h: float) -> tuple[float, float]:
    """The one-sided slopes."""
    return (middle - f(-h)) / h, (f(h) - middle) / h


def _steepness(sides: tuple[float, float]) -> float:
    return max(map(abs, sides))


def _loose(found: Slope, h: float, noise: float) -> bool:
    """Whether the bound tells of a kink between h and 2h: no smooth function of this scale leaves so much."""
    return found.bound > _LOOSE * abs(found.value) and found.bound > 2 * _NOISES * noise / h


def _central(f: Callable[[float], float], middle: float, h: float, noise: float) -> tuple[Slope, float]:
    """The slope of a smooth function, and the gap between its one-sided slopes unless that halves with h: then 0."""
    slopes, gaps = [], []
    for step in (h, 2 * h):
        above, below = f(step), f(-step)
        slopes.append((above - below) / (2 * step))
        gaps.append(abs(above - 2 * middle + below) / step)
    rounding = _NOISES * noise / h
    gap = gaps[0] if gaps[1] < 1.5 * gaps[0] and gaps[0] > rounding else 0.0
    return Slope((4 * slopes[0] - slopes[1]) / 3, abs(slopes[0] - slopes[1]) / 3 + rounding, False), gap
