"""Every function that standardizes by its own statistics, with its formula in plain NumPy and extended precision.

A case has the shape of x, the shape in which it is cut into groups, the axes of that shape which share statistics, and
the shape in which scale and shift stand there; all typed by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minigrad_norms as norms


class Case(NamedTuple):
    function: Callable  # of x, gamma, beta, epsilon
    shape: tuple[int, ...]
    cut: tuple[int, ...]
    axes: tuple[int, ...]
    standing: tuple[int, ...]
    parameters: tuple[int, ...]
    centred: bool = True

    def draw(self, seed: int = 0, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, γ and β."""
        rng = np.random.default_rng(seed)
        return tuple(rng.standard_normal(s).astype(dtype) for s in (self.shape, self.parameters, self.parameters))

    def expected(self, x: Any, gamma: Any = None, beta: Any = None, epsilon: float = 0.1) -> np.ndarray:
        """y in extended precision."""
        return self._parts(x, gamma, beta, epsilon)[0].reshape(self.shape)

    def expected_gradients(self, dy: Any, x: Any, gamma: Any = None, epsilon: float = 0.1) -> tuple[np.ndarray, ...]:
        """dx, dγ and dβ in extended precision."""
        _, standard, s = self._parts(x, gamma, None, epsilon)
        dy = np.asarray(dy, np.longdouble).reshape(self.cut)
        h = dy if gamma is None else dy * np.asarray(gamma, np.longdouble).reshape(self.standing)
        dx = h - standard * (h * standard).mean(self.axes, keepdims=True)
        if self.centred:
            dx = dx - h.mean(self.axes, keepdims=True)
        others = tuple(a for a, n in enumerate(self.standing) if n != self.cut[a])
        sums = [(dy * standard).sum(others), dy.sum(others)]
        return (s * dx).reshape(self.shape), *[g.reshape(self.parameters) for g in sums]

    def _parts(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = np.asarray(x, np.longdouble).reshape(self.cut)
        if self.centred:
            x = x - x.mean(self.axes, keepdims=True)
        s = 1 / np.sqrt((x * x).mean(self.axes, keepdims=True) + np.longdouble(epsilon))
        y = standard = x * s
        if gamma is not None:
            y = y * np.asarray(gamma, np.longdouble).reshape(self.standing)
        if beta is not None:
            y = y + np.asarray(beta, np.longdouble).reshape(self.standing)
        return y, standard, s


def _layer(axis: Any) -> Callable:
    return lambda x, gamma=None, beta=None, epsilon=0.1: norms.layer_norm(x, gamma, beta, axis=axis, epsilon=epsilon)


def _rms(axis: Any) -> Callable:
    return lambda x, gamma=None, beta=None, epsilon=0.1: norms.rms_norm(x, gamma, beta, axis=axis, epsilon=epsilon)


def _group(groups: int, axis: int) -> Callable:
    return lambda x, gamma=None, beta=None, epsilon=0.1: norms.group_norm(x, gamma, beta, groups, axis, epsilon)


def _instance(axis: int) -> Callable:
    return lambda x, gamma=None, beta=None, epsilon=0.1: norms.instance_norm(x, gamma, beta, axis, epsilon)


def _filter(axis: Any) -> Callable:
    return lambda x, gamma=None, beta=None, epsilon=0.1: norms.filter_response_norm(
        x, gamma, beta, axis=axis, epsilon=epsilon
    )


CASES = {
    "layer": Case(_layer(-1), (4, 7), (4, 7), (1,), (1, 7), (7,)),
    "layer, several axes": Case(_layer((1, -1)), (5, 2, 3), (5, 2, 3), (1, 2), (1, 2, 3), (2, 3)),
    "layer, channels first": Case(_layer([1]), (2, 5, 3), (2, 5, 3), (1,), (1, 5, 1), (5,)),
    "layer, axes apart": Case(_layer((0, 2)), (2, 5, 3), (2, 5, 3), (0, 2), (2, 1, 3), (2, 3)),
    "layer, all axes": Case(_layer(None), (3, 5), (3, 5), (0, 1), (3, 5), (3, 5)),
    "rms": Case(_rms(-1), (4, 7), (4, 7), (1,), (1, 7), (7,), False),
    "rms, several axes": Case(_rms((1, 2)), (5, 2, 3), (5, 2, 3), (1, 2), (1, 2, 3), (2, 3), False),
    "rms, channels first": Case(_rms(1), (2, 5, 3), (2, 5, 3), (1,), (1, 5, 1), (5,), False),
    "group NHWC": Case(_group(4, -1), (2, 3, 5, 8), (2, 3, 5, 4, 2), (1, 2, 4), (1, 1, 1, 4, 2), (8,)),
    "group NCHW": Case(_group(2, 1), (3, 6, 2, 5), (3, 2, 3, 2, 5), (2, 3, 4), (1, 2, 3, 1, 1), (6,)),
    "group of 2-D": Case(_group(3, 1), (4, 15), (4, 3, 5), (2,), (1, 3, 5), (15,)),
    "one group NHWC": Case(_group(1, -1), (2, 3, 5, 4), (2, 1, 3, 5, 4), (1, 2, 3, 4), (1, 1, 1, 1, 4), (4,)),
    "one group NCHW": Case(_group(1, -3), (2, 4, 3, 5), (2, 1, 4, 3, 5), (1, 2, 3, 4), (1, 1, 4, 1, 1), (4,)),
    "instance NHWC": Case(_instance(-1), (2, 3, 5, 4), (2, 3, 5, 4), (1, 2), (1, 1, 1, 4), (4,)),
    "instance NCHW": Case(_instance(1), (2, 4, 3, 5), (2, 4, 3, 5), (2, 3), (1, 4, 1, 1), (4,)),
    "instance, channels between": Case(_instance(2), (2, 3, 4, 5), (2, 3, 4, 5), (1, 3), (1, 1, 4, 1), (4,)),
    "filter response NHWC": Case(_filter([1, 2]), (2, 3, 5, 4), (2, 3, 5, 4), (1, 2), (1, 1, 1, 4), (4,), False),
    "filter response NCHW": Case(_filter((-2, -1)), (2, 4, 3, 5), (2, 4, 3, 5), (2, 3), (1, 4, 1, 1), (4,), False),
    "filter response of 2-D": Case(_filter(()), (3, 4), (3, 4), (), (1, 4), (4,), False),
}


def close(got: Any, want: Any, dtype: Any = np.float64, units: float = 8, size: float = 0.0) -> None:
    """Assert that all elements agree to some units of rounding of the largest, or of `size` if that is more."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == dtype
    size = np.max(np.abs(want), initial=max(size, np.finfo(dtype).tiny))
    np.testing.assert_allclose(got.astype(np.longdouble), want, rtol=0, atol=float(units * np.finfo(dtype).eps * size))
