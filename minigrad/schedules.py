"""Schedules: functions from the number of steps taken to a learning rate. `minigrad.optim` has their names too."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from minigrad.errors import ArgumentError

#: ``schedule(step) -> rate``
Schedule = Callable[[int], float]


def step_decay(lr: float, factor: float, every: int) -> Schedule:
    """lr · factor^⌊step/every⌋, with `every` in steps.

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.step_decay(0.1, 0.5, every=100)
        >>> schedule(0), schedule(99), schedule(200)
        (0.1, 0.1, 0.025)
    """
    _require_steps("step_decay", "every", every)
    return lambda step: lr * factor ** (step // every)


def exponential_decay(lr: float, factor: float, steps: int) -> Schedule:
    """lr · factor^(step/steps).

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.exponential_decay(1.0, 0.25, steps=10)
        >>> schedule(0), schedule(5), schedule(20)
        (1.0, 0.5, 0.0625)
    """
    _require_steps("exponential_decay", "steps", steps)
    return lambda step: lr * factor ** (step / steps)


def inverse_time_decay(lr: float, rate: float, steps: int) -> Schedule:
    """lr/(1 + rate·step/steps).

    Example:
        >>> import minigrad as mg
        >>> mg.optim.inverse_time_decay(1.0, 0.5, steps=10)(40)
        0.3333333333333333
    """
    _require_steps("inverse_time_decay", "steps", steps)
    return lambda step: lr / (1 + rate * step / steps)


def polynomial_decay(lr: float, steps: int, final: float = 0.0, power: float = 1.0) -> Schedule:
    """From `lr` to `final` in `steps` steps: (lr − final)·(1 − step/steps)^power + final, and `final` from then on.

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.polynomial_decay(1.0, 100, final=0.5)
        >>> schedule(0), schedule(50), schedule(200)
        (1.0, 0.75, 0.5)
    """
    _require_steps("polynomial_decay", "steps", steps)
    return lambda step: (lr - final) * (1 - min(step, steps) / steps) ** power + final


def cosine_decay(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From `lr` to `final` along half a cosine, in `steps` steps (Loshchilov & Hutter 2017).

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.cosine_decay(1.0, 100)
        >>> [round(schedule(step), 3) for step in (0, 50, 100, 200)]
        [1.0, 0.5, 0.0, 0.0]
    """
    _require_steps("cosine_decay", "steps", steps)
    return lambda step: final + (lr - final) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """values[0] up to and including step boundaries[0], then values[1], and so on.

    Raises:
        ArgumentError: unless the boundaries rise and there is one value more than boundaries.

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.piecewise_constant([100, 200], [0.1, 0.01, 0.001])
        >>> schedule(100), schedule(101), schedule(1000)
        (0.1, 0.01, 0.001)
    """
    edges, rates = list(boundaries), list(values)
    if len(rates) != len(edges) + 1 or any(a >= b for a, b in pairwise(edges)):
        wanted = "expected rising boundaries and one value more"
        raise ArgumentError(f"piecewise_constant: boundaries are {edges} and values {rates}, {wanted}")
    return lambda step: rates[bisect_left(edges, step)]


def warm_up(steps: int, schedule: Any) -> Schedule:
    """`schedule` (or a constant rate), its first `steps` values times (step + 1)/steps (Goyal et al. 2017).

    Example:
        >>> import minigrad as mg
        >>> schedule = mg.optim.warm_up(4, 1.0)
        >>> schedule(0), schedule(3), schedule(10)
        (0.25, 1.0, 1.0)
    """
    _require_steps("warm_up", "steps", steps)
    rate = schedule if callable(schedule) else lambda step: schedule
    return lambda step: rate(step) * min(1.0, (step + 1) / steps)


def _require_steps(schedule: str, argument: str, value: Any) -> None:
    if not value >= 1:
        raise ArgumentError(f"{schedule}: {argument} is {value!r}, expected a positive number of steps")
