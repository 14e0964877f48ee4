"""The complex step: forward mode against Im f(x + iht)/h, which is exact to rounding where f is analytic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.errors import ArgumentError, DTypeError
from minigrad.gradcheck.result import Result, compare
from minigrad.gradcheck.subject import EPS, Subject, as_array_function
from minigrad.gradcheck.weighted import ArrayFunction
from minigrad.primitive import on_device

_STEP = 1e-40


def complex_step(subject: Subject) -> Result | None:
    """Forward mode against the complex step, for functions that are said to be analytic.

    Raises:
        ArgumentError: if the function takes no complex numbers after all.
    """
    if not subject.analytic:
        return None
    pushed = subject.pushed
    try:
        with on_device("reference"):
            expected = derivative(as_array_function(subject.truth), subject.values, subject.wrt, subject.tangents)
    except DTypeError as error:
        raise ArgumentError(f"check: analytic is True, but the function takes no complex numbers: {error}") from error
    size = max((float(np.max(np.abs(e), initial=0.0)) for e in expected), default=0.0)
    bounds = [np.full(e.shape, 4096 * EPS * size) for e in expected]
    names = [f"result {i}" for i in range(len(expected))]
    return compare("complex step", names, pushed, expected, bounds, scale=1.0, seed=subject.seed)


def derivative(
    fn: ArrayFunction, args: Sequence[np.ndarray | None], wrt: Sequence[int], tangents: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The derivative of `fn` in the direction of the tangents, Im fn(x + ih·t)/h: exact to rounding, for analytic fn.

    f(x + iht) = f(x) + ih f'(x)t + O(h²): no difference is taken, so nothing cancels and h can be tiny.
    """
    values: list = [None if a is None else np.asarray(a) for a in args]
    for i, t in zip(wrt, tangents):
        values[i] = values[i] + 1j * _STEP * t
    with np.errstate(all="ignore"):
        return [np.imag(y) / _STEP for y in fn(*values)]
