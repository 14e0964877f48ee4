"""Numerical derivatives: central differences with a measured error bound, and the complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
_BASE = _EPS ** (1 / 5)  # the best step for a fourth-order difference of a function of unit scale
_COMPLEX_STEP = 1e-40

#: A function from arrays to arrays.
ArrayFunction = Callable[..., Sequence[np.ndarray]]


class Weighted:
    """φ(args) = Σ⟨cotangent, fn(args)⟩, whose gradient reverse mode computes, and what rounding does to it.

    Attributes:
        size: Σ|cotangent·fn|, the size of φ's terms.
        noise: how far rounding moves φ: half a unit in the last place of its terms, or what is measured where terms
            cancel inside `fn`.
    """

    def __init__(
        self,
        fn: ArrayFunction,
        args: Sequence[np.ndarray | None],
        wrt: Sequence[int],
        cotangents: Sequence[np.ndarray],
        seed: int = 0,
    ):
        self.fn, self.args, self.wrt, self.cotangents = fn, list(args), list(wrt), cotangents
        with np.errstate(all="ignore"):
            self.size = float(sum(np.sum(np.abs(w * y)) for w, y in zip(cotangents, fn(*args))))
        self.noise = max(_EPS * self.size, self._measured_noise(np.random.default_rng(seed)))

    def __call__(self, values: Sequence[np.ndarray | None]) -> float:
        with np.errstate(all="ignore"):
            return float(sum(np.sum(w * y) for w, y in zip(self.cotangents, self.fn(*values))))

    def gradient(self, most: int | None = None, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The gradient by central differences, and bounds of its errors.

        At each element D(h) = (φ(x+h) − φ(x−h))/2h is taken at h and 2h. Their extrapolation (4D(h) − D(2h))/3 is of
        fourth order; the error of D(h) itself, |D(h) − D(2h)|/3, bounds its truncation from above, and noise/h what
        rounding does. Where the two one-sided slopes differ and do not meet as h shrinks there is a kink, and their
        difference is added. With `most`, so many elements of each argument are measured, drawn at random; the others'
        bounds are infinite.
        """
        rng = np.random.default_rng(seed)
        values = [None if a is None else np.array(a) for a in self.args]
        middle = self(values)
        grads, bounds = [], []
        for i in self.wrt:
            x = np.asarray(values[i])
            values[i] = x
            grad, bound = np.zeros(x.shape), np.full(x.shape, np.inf)
            chosen = np.arange(x.size) if most is None else rng.permutation(x.size)[:most]
            for at in zip(*np.unravel_index(chosen, x.shape)) if x.ndim else [()]:
                grad[at], bound[at] = self._slope(values, x, at, middle)
            grads.append(grad)
            bounds.append(bound)
        return grads, bounds

    def _slope(self, values: list, x: np.ndarray, at: tuple, middle: float) -> tuple[float, float]:
        centre = x[at]
        # A power of two, so that x ± h and their difference are exact where x has room.
        h = float(2.0 ** np.round(np.log2(_BASE * max(abs(float(centre)), 1e-2))))
        slopes, jumps = [], []
        for step in (h, 2 * h):
            x[at] = centre + step
            above = self(values)
            x[at] = centre - step
            below = self(values)
            slopes.append((above - below) / (2 * step))
            jumps.append(abs(above - 2 * middle + below) / step)
        x[at] = centre
        bound = abs(slopes[0] - slopes[1]) / 3 + 16 * self.noise / h
        if jumps[1] < 1.5 * jumps[0]:  # of a smooth function it would double
            bound += jumps[0]
        return (4 * slopes[0] - slopes[1]) / 3, bound

    def _measured_noise(self, rng: np.random.Generator) -> float:
        """The scatter of φ over points so near that only rounding tells them apart, by third differences.

        Third differences of independent errors of deviation σ have deviation σ√20; a smooth function leaves nothing
        in them (Hamming 1971; Moré & Wild 2011).
        """
        directions = {i: rng.standard_normal(np.asarray(self.args[i]).shape) for i in self.wrt}
        table = []
        for k in range(12):
            moved = list(self.args)
            for i, u in directions.items():
                a = np.asarray(self.args[i])
                moved[i] = np.asarray(a + k * 2.0**-36 * np.maximum(np.abs(a), 2.0**-6) * u)
            table.append(self(moved))
        with np.errstate(all="ignore"):
            scatter = np.diff(table, 3)
        return float(np.sqrt(np.mean(np.square(scatter)))) / sqrt(20) if np.all(np.isfinite(scatter)) else 0.0


def complex_step(
    fn: ArrayFunction, args: Sequence[np.ndarray | None], wrt: Sequence[int], tangents: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The derivative of `fn` in the direction of the tangents, Im fn(x + ih·t)/h: exact to rounding, for analytic fn.

    f(x + iht) = f(x) + ih f'(x)t + O(h²): no difference is taken, so nothing cancels and h can be tiny.
    """
    values: list = [None if a is None else np.asarray(a) for a in args]
    for i, t in zip(wrt, tangents):
        values[i] = values[i] + 1j * _COMPLEX_STEP * t
    with np.errstate(all="ignore"):
        return [np.imag(y) / _COMPLEX_STEP for y in fn(*values)]
