"""Schedules: values by their formulas, at and around the edges, and bad input."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import ArgumentError


def test_formulas():
    for step in (0, 1, 7, 10, 25, 1000):
        assert optim.step_decay(0.3, 0.5, 10)(step) == 0.3 * 0.5 ** (step // 10)
        assert optim.exponential_decay(0.3, 0.5, 10)(step) == pytest.approx(0.3 * np.exp(step / 10 * np.log(0.5)))
        assert optim.inverse_time_decay(0.3, 0.5, 10)(step) == pytest.approx(0.3 / (1 + 0.05 * step))
        share = min(step / 10, 1)
        assert optim.polynomial_decay(0.3, 10, 0.1, 2.0)(step) == pytest.approx(0.1 + 0.2 * (1 - share) ** 2)
        assert optim.cosine_decay(0.3, 10, 0.1)(step) == pytest.approx(0.1 + 0.2 * (1 + np.cos(np.pi * share)) / 2)
        assert optim.warm_up(10, optim.step_decay(0.3, 0.5, 10))(step) == pytest.approx(
            0.3 * 0.5 ** (step // 10) * min(1, (step + 1) / 10)
        )


def test_piecewise_constant():
    schedule = optim.piecewise_constant([2, 5], [1.0, 0.5, 0.25])
    assert [schedule(step) for step in range(8)] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert optim.piecewise_constant([], [0.1])(3) == 0.1


def test_an_optimizer_follows_its_schedule():
    w, optimizer = mg.Variable(np.zeros(1)), optim.SGD(optim.polynomial_decay(1.0, 4))
    seen = []
    for _ in range(5):
        optimizer.update([w], [mg.tensor(np.ones(1))])
        seen.append(-w.item())
    np.testing.assert_allclose(np.diff([0.0, *seen]), [1.0, 0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: optim.exponential_decay(1.0, 0.5, 0), "exponential_decay: steps is 0, expected a positive number"),
        (lambda: optim.inverse_time_decay(1.0, 0.5, -1), "inverse_time_decay: steps is -1"),
        (lambda: optim.polynomial_decay(1.0, 0.5), "polynomial_decay: steps is 0.5"),
        (lambda: optim.warm_up(0, 1.0), "warm_up: steps is 0"),
        (lambda: optim.piecewise_constant([1], [0.1]), r"boundaries are \[1\] and values \[0.1\]"),
        (lambda: optim.piecewise_constant([2, 2], [1, 2, 3]), "expected rising boundaries"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ArgumentError, match=match):
        call()
