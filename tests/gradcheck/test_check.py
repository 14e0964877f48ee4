"""`check` sees through functions what it can, says INCONCLUSIVE where it can't, and names what it is not given."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, GradientError


def test_normalizations_are_seen_through_zero_mean_cotangents():
    def wrong_norm(x):
        mean = x.mean(axis=0, keepdims=True)
        var = mg.square(x - mean.detach()).mean(axis=0, keepdims=True)  # the mean's part in the variance is right: 0
        return (x - mean) / mg.sqrt(var.detach() + 0.1)  # but the variance is held constant

    x = np.random.default_rng(0).standard_normal((6, 3))
    assert mg.gradcheck.check(wrong_norm, [x]).verdict == "FAILED"
    summed = mg.gradcheck.check(lambda x: wrong_norm(x).sum(), [x], order=1)
    assert not summed.passed  # through a sum every normalization has gradient 0: nothing is proved
    assert any(r.verdict == "INCONCLUSIVE" for r in summed.results)


def test_too_little_signal_is_inconclusive_not_passed():
    report = mg.gradcheck.check(lambda x: 1e8 + 1e-9 * x, [np.ones(3)], order=1)
    assert report.verdict == "INCONCLUSIVE"
    assert not report.passed
    with pytest.raises(GradientError, match="INCONCLUSIVE"):
        report.require()


def test_a_kink_within_the_step_is_stepped_around():
    report = mg.gradcheck.check(mg.absolute, [np.array([1e-9, 0.5])], order=1)
    assert report.passed, report
    assert not report.results[0].detail


def test_user_functions_with_several_arguments_and_results():
    def f(x, k, w):
        return mg.tanh(x @ w), (x * x).sum()

    rng = np.random.default_rng(0)
    report = mg.gradcheck.check(f, [rng.standard_normal((2, 3)), 7, rng.standard_normal((3, 2))])
    assert report.passed, report
    assert [r.check for r in report.results] == ["central differences", "Richardson", "adjoint", "second order"]


def test_the_complex_step_is_exact_to_rounding():
    from minigrad.gradcheck.complex_step import derivative

    (found,) = derivative(lambda x: [np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)], [np.array(1.5)], [0], [1.0])
    assert abs(found - 4.0534278938986201) < 4e-15  # Squire & Trapp (1998)


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match="order is 4"):
        mg.gradcheck.check(mg.exp, [np.ones(2)], order=4)
    with pytest.raises(ArgumentError, match="no argument is a floating-point"):
        mg.gradcheck.check(mg.exp, [np.ones(2, int)])
    with pytest.raises(ArgumentError, match="no primitive 'mg::nothing'"):
        mg.gradcheck.check_primitive("mg::nothing")


def test_a_function_that_does_not_depend_on_its_arguments_fails():
    assert mg.gradcheck.check(lambda x: mg.tensor([1.0]), [np.ones(2)]).verdict == "FAILED"


def test_the_same_seed_gives_the_same_report():
    first, second = (mg.gradcheck.check_primitive("mg::tanh", seed=3) for _ in range(2))
    assert first.results == second.results


def batch_renorm(x, held=None):
    """(x − μ)/σ·r + d, with r and d constants, as they are at `held`."""
    constants = x.detach() if held is None else held
    mean, std = x.mean(axis=0), mg.sqrt(mg.square(x - x.mean(axis=0)).mean(axis=0) + 0.1)
    m, s = constants.mean(axis=0), mg.sqrt(mg.square(constants - constants.mean(axis=0)).mean(axis=0) + 0.1)
    r, d = s / 1.5, (m - 0.2) / 1.5
    return (x - mean) / std * r + d


def test_values_held_constant_are_held_by_the_differences_too():
    x = np.random.default_rng(0).standard_normal((6, 3))
    at = mg.tensor(x)
    report = mg.gradcheck.check(batch_renorm, [x], held=lambda x: batch_renorm(x, at))
    assert report.passed, report
    assert [r.check for r in report.results] == ["central differences", "Richardson", "adjoint", "second order"]
    moving = mg.gradcheck.check(batch_renorm, [x])
    assert {r.check for r in moving.results if r.verdict == "FAILED"} == {
        "central differences",
        "Richardson",
        "second order",
    }
    leaking = mg.gradcheck.check(lambda x: batch_renorm(x, x), [x], held=lambda x: batch_renorm(x, at))
    assert {r.check for r in leaking.results if r.verdict == "FAILED"} == {
        "central differences",
        "Richardson",
        "second order",
    }


def test_constant_arguments_are_not_differentiated_by():
    x, u = np.random.default_rng(0).standard_normal((2, 3))
    mg.gradcheck.check(lambda x, u: mg.tanh(x * u.detach()), [x, u], constant=[1]).require()
    assert mg.gradcheck.check(lambda x, u: mg.tanh(x * u.detach()), [x, u]).verdict == "FAILED"
    with pytest.raises(ArgumentError, match="no argument is a floating-point"):
        mg.gradcheck.check(mg.tanh, [x], constant=[0])
