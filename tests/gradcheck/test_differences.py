"""Difference formulas: their bounds hold, their steps are the best ones, and kinks are stepped around or known."""

import math

import numpy as np
import pytest

from minigrad.gradcheck import kinks
from minigrad.gradcheck.differences import SCHEMES, derivative

EPS = 2.0**-52
FUNCTIONS = {
    "exp": (math.exp, 1.0, 1.0),
    "sin": (lambda t: math.sin(1 + t), math.cos(1), 1.0),
    "fast": (lambda t: math.sin(1 + 50 * t), 50 * math.cos(1), 1.0),
    "slow": (lambda t: math.exp(1e-3 * t), 1e-3, 1.0),
    "line": (lambda t: 3 * t + 2, 3.0, 5.0),
    "large": (lambda t: 1e6 * math.exp(t), 1e6, 1e6),
    "even": (math.cos, 0.0, 1.0),
    "root": (lambda t: math.sqrt(1 + t), 0.5, 1.0),
}


@pytest.mark.parametrize("scheme", [*SCHEMES, "Richardson"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bounds_hold_and_are_small(name, scheme):
    f, true, size = FUNCTIONS[name]
    found = derivative(f, scheme, noise=EPS * size)
    assert abs(found.value - true) <= found.bound
    digits = {"forward": 2e-7, "central": 1e-8, "fourth-order": 2e-10, "Richardson": 2e-11}[scheme]
    assert found.bound <= digits * max(size, abs(true)) * (20 if name == "fast" else 1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_predicted_step_is_the_best_one(scheme):
    f, true, _ = FUNCTIONS["sin"]
    found = derivative(f, scheme, noise=EPS)
    steps = 2.0 ** np.arange(-40.0, 0)
    errors = np.array([abs(SCHEMES[scheme](f, h) - true) for h in steps])
    assert abs(SCHEMES[scheme](f, found.step) - true) <= 30 * max(errors.min(), EPS / found.step)
    order = np.polyfit(np.log(steps[-12:-6]), np.log(errors[-12:-6]), 1)[0] if scheme == "forward" else None
    assert order is None or abs(order - 1) < 0.1


def slope(f, h=2.0**-10, noise=1e-16):
    return kinks.slope(f, f(0.0), h, noise)


def test_a_kink_at_the_point_is_known_and_its_sides_are_the_bound():
    found = slope(lambda t: 3 * max(t, 0.0) - 0.5 * t)
    assert found.kink
    assert found.value - found.bound <= -0.5 <= 2.5 <= found.value + found.bound
    assert found.bound < 1.5 + 1e-6


@pytest.mark.parametrize("place", [1e-4, 1e-6, -3e-8, 1e-9])
def test_a_kink_nearby_is_stepped_around(place):
    found = slope(lambda t: abs(t - place) + t * t)
    assert not found.kink
    assert abs(found.value + math.copysign(1, place)) <= found.bound < 1e-4


def test_a_jump_has_no_slope():
    found = slope(lambda t: float(t > 0) + t)
    assert found.kink
    assert found.bound == np.inf


@pytest.mark.parametrize("f", [math.exp, lambda t: t**3, lambda t: t**4 + t, lambda t: 0.0, lambda t: 1e8 + t])
def test_smooth_functions_have_no_kinks(f):
    found = slope(f, noise=1e-16 * max(1, abs(f(0.0))))
    assert not found.kink
    assert np.isfinite(found.bound)
