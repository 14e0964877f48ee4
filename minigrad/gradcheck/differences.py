"""Numerical derivatives: central differences with a measured error bound, and the complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
_BASE = _EPS ** (1 / 5)  # the best step for a fourth-order difference of a function of unit scale
_COMPLEX_STEP = 1e-40

#: A function from arrays to arrays.
ArrayFunction = Callable[..., Sequence[np.ndarray]]


def pulled_back(
    fn: ArrayFunction,
    args: Sequence[np.ndarray | None],
    wrt: Sequence[int],
    cotangents: Sequence[np.ndarray],
    *,
    most: int | None = None,
    seed: int = 0,
) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """The gradient of φ = Σ⟨cotangent, fn(args)⟩ by central differences, with error bounds, and the size of φ's terms.

    At each element D(h) = (φ(x+h) − φ(x−h))/2h is taken at h and 2h. Their extrapolation (4D(h) − D(2h))/3 is of
    fourth order; the error of D(h) itself, |D(h) − D(2h)|/3, bounds its truncation from above, and the rounding of φ,
    eps·Σ|cotangent·fn|/h, what differences lose. With `most`, so many elements of each argument are measured, drawn
    at random; the others' bounds are infinite.
    """
    rng = np.random.default_rng(seed)

    def phi(values: Sequence[np.ndarray | None]) -> float:
        with np.errstate(all="ignore"):
            return float(sum(np.sum(w * y) for w, y in zip(cotangents, fn(*values))))

    with np.errstate(all="ignore"):
        size = float(sum(np.sum(np.abs(w * y)) for w, y in zip(cotangents, fn(*args))))
    grads, bounds = [], []
    for i in wrt:
        values = [None if a is None else np.array(a) for a in args]
        x = np.asarray(values[i])
        values[i] = x
        grad, bound = np.zeros(x.shape), np.full(x.shape, np.inf)
        chosen = np.arange(x.size) if most is None else rng.permutation(x.size)[:most]
        for at in zip(*np.unravel_index(chosen, x.shape)) if x.ndim else [()]:
            centre = x[at]
            h = _power_of_two(_BASE * max(abs(float(centre)), 1e-2))
            near, far = (_central(phi, values, x, at, centre, step) for step in (h, 2 * h))
            grad[at] = (4 * near - far) / 3
            bound[at] = abs(near - far) / 3 + 16 * _EPS * size / h
        grads.append(grad)
        bounds.append(bound)
    return grads, bounds, size


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


def _central(phi: Callable, values: list, x: np.ndarray, at: tuple, centre: float, h: float) -> float:
    x[at] = centre + h
    above = phi(values)
    x[at] = centre - h
    below = phi(values)
    x[at] = centre
    return (above - below) / (2 * h)


def _power_of_two(h: float) -> float:
    return float(2.0 ** np.round(np.log2(h)))  # so that x ± h and their difference are exact where x has room
