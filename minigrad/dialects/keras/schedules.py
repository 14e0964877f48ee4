"""Learning-rate schedules with Keras's arguments, on those of `minigrad.schedules`."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

from minigrad import schedules
from minigrad.schedules import Schedule

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]


class LearningRateSchedule:
    """A function from the number of steps taken to a learning rate; define ``__call__(step)``."""

    _rate: Schedule

    def __call__(self, step: Any) -> float:
        return self._rate(step)


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate · decay_rate^(step/decay_steps), with ⌊ ⌋ around the exponent if staircase."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: Any = None,
    ):
        kind = schedules.step_decay if staircase else schedules.exponential_decay
        self._rate = kind(initial_learning_rate, decay_rate, decay_steps)


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate·step/decay_steps), with ⌊ ⌋ around the quotient if staircase."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: Any = None,
    ):
        plain = schedules.inverse_time_decay(initial_learning_rate, decay_rate, decay_steps)
        self._rate = (lambda step: plain(decay_steps * floor(step / decay_steps))) if staircase else plain


class PolynomialDecay(LearningRateSchedule):
    """From initial_learning_rate to end_learning_rate in decay_steps steps, along a power."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        name: Any = None,
    ):
        self._rate = schedules.polynomial_decay(initial_learning_rate, decay_steps, end_learning_rate, power)


class CosineDecay(LearningRateSchedule):
    """From initial_learning_rate to alpha times that in decay_steps steps, along half a cosine."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, alpha: float = 0.0, name: Any = None):
        self._rate = schedules.cosine_decay(initial_learning_rate, decay_steps, alpha * initial_learning_rate)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1], and so on."""

    def __init__(self, boundaries: Sequence[int], values: Sequence[float], name: Any = None):
        self._rate = schedules.piecewise_constant(boundaries, values)
