"""Weighted: a function of arrays as a real function φ, along any line, with how far rounding moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from minigrad.gradcheck import kinks

_EPS = float(np.finfo(np.float64).eps)
_BASE = _EPS ** (1 / 5)  # the best step for a fourth-order difference of a function of unit scale

#: A function from arrays to arrays.
ArrayFunction = Callable[..., Sequence[np.ndarray]]


class Measured(NamedTuple):
    """A gradient by differences: values, bounds of their errors (inf where nothing is known), and where kinks are."""

    values: list[np.ndarray]
    bounds: list[np.ndarray]
    kinks: list[np.ndarray]


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
        eps: float = _EPS,
    ):
        self.fn, self.args, self.wrt, self.cotangents = fn, list(args), list(wrt), cotangents
        self._eps = eps
        with np.errstate(all="ignore"):
            self.size = float(sum(np.sum(np.abs(w * y)) for w, y in zip(cotangents, fn(*args))))
        self.noise = max(eps * self.size, self._measured_noise(np.random.default_rng(seed)))

    def __call__(self, values: Sequence[np.ndarray | None]) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(sum(np.sum(w * y) for w, y in zip(self.cotangents, self.fn(*values))))[()]

    def along(self, directions: dict[int, np.ndarray]) -> Callable[[float], Any]:
        """t ↦ φ(args + t·directions), where `directions` has one for each argument that moves."""

        def line(t: float) -> Any:
            moved: list[Any] = list(self.args)
            for i, u in directions.items():
                moved[i] = np.asarray(moved[i] + t * u, moved[i].dtype)
            return self(moved)

        return line

    def gradient(self, most: int | None = None, seed: int = 0) -> Measured:
        """The gradient by central differences, and bounds of its errors.

        At each element D(h) = (φ(x+h) − φ(x−h))/2h is taken at h and 2h. Their extrapolation (4D(h) − D(2h))/3 is of
        fourth order; the error of D(h) itself, |D(h) − D(2h)|/3, bounds its truncation from above, and noise/h what
        rounding does. Where the one-sided slopes part, steps shrink until the kink is stepped around, or until it is
        known to be at the point; then the value is the middle between the two slopes, and the bound reaches both. With
        `most`, so many elements of each argument are measured, drawn at random; the others' bounds are infinite.
        """
        rng = np.random.default_rng(seed)
        values = [None if a is None else np.array(a) for a in self.args]
        middle = float(self(values))
        found = Measured([], [], [])
        for i in self.wrt:
            x = np.asarray(values[i])
            values[i] = x
            grad, bound, kink = np.zeros(x.shape), np.full(x.shape, np.inf), np.zeros(x.shape, bool)
            chosen = np.arange(x.size) if most is None else rng.permutation(x.size)[:most]
            for at in zip(*np.unravel_index(chosen, x.shape)) if x.ndim else [()]:
                grad[at], bound[at], kink[at] = self._slope(values, x, at, middle)
            for part, array in zip(found, (grad, bound, kink)):
                part.append(array)
        return found

    def _slope(self, values: list, x: np.ndarray, at: tuple, middle: float) -> kinks.Slope:
        centre = x[at]

        def moved(t: float) -> float:
            x[at] = centre + t
            return float(self(values))

        # A power of two, so that x ± h and their difference are exact where x has room.
        h = float(2.0 ** np.round(np.log2(_BASE * max(abs(float(centre)), 1e-2))))
        try:
            return kinks.slope(moved, middle, h, self.noise)
        finally:
            x[at] = centre

    def _measured_noise(self, rng: np.random.Generator) -> float:
        """The scatter of φ over points so near that only rounding tells them apart, by third differences.

        Third differences of independent errors of deviation σ have deviation σ√20; a smooth function leaves nothing
        in them (Hamming 1971; Moré & Wild 2011). The point itself is left out: a jump there is no noise.
        """
        near = 2.0**-36 * self._eps / _EPS
        directions = {}
        for i in self.wrt:
            a = np.abs(np.asarray(self.args[i]))
            directions[i] = near * np.maximum(a, 2.0**-6) * rng.standard_normal(a.shape)
        line = self.along(directions)
        with np.errstate(all="ignore"):
            scatter = np.diff([line(k) for k in range(1, 13)], 3).astype(np.float64)
        return float(np.sqrt(np.mean(np.square(scatter)))) / sqrt(20) if np.all(np.isfinite(scatter)) else 0.0
