"""Planted faults are caught, sound code passes, and a check without power says so."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, GradientError

SEEDS = range(5)


def primitive(name="tests::fault", **options):
    """y = x·sin(w) row by row, with every rule right; tests replace one."""
    p = mg.Primitive(name, outputs=("y", "total"), override=True, **options)

    @p.infer
    def _(x, w):
        return mg.Abstract(x.shape, x.dtype), mg.Abstract(x.shape[:1], x.dtype)

    @p.kernel("reference")
    def _(x, w):
        y = x * np.sin(w)
        return y, y.sum(1)

    @p.kernel("cpu")
    def _(out, x, w):
        y, total = out
        np.multiply(x, np.sin(w), out=y)
        np.sum(y, axis=1, out=total)

    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = _cotangent(ct, saved.x)
        return g * mg.sin(saved.w), (g * saved.x * mg.cos(saved.w)).sum_to(saved.shapes[1])

    @p.jvp
    def _(tangents, primals, outputs):
        (tx, tw), (x, w) = tangents, primals
        dy = (0 if tx is None else tx * mg.sin(w)) + (0 if tw is None else x * tw * mg.cos(w))
        return dy, dy.sum(1)

    @p.samples
    def _(rng):
        yield mg.Sample((rng.standard_normal((3, 5)), rng.standard_normal(5)))
        yield mg.Sample((rng.standard_normal((1, 1)), rng.standard_normal(1)))

    return p


def _cotangent(ct, x):
    dy, dtotal = ct
    whole = None if dtotal is None else dtotal.reshape(-1, 1).broadcast_to(x.shape)
    return whole if dy is None else dy if whole is None else dy + whole


def wrong_sign(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = _cotangent(ct, saved.x)
        return g * mg.sin(saved.w), -(g * saved.x * mg.cos(saved.w)).sum_to(saved.shapes[1])


def dropped_term(p):
    @p.jvp
    def _(tangents, primals, outputs):
        dy = tangents[0] * mg.sin(primals[1])
        return dy, dy.sum(1)


def missing_cotangent(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = ct[0] if ct[0] is not None else saved.x * 0
        return g * mg.sin(saved.w), (g * saved.x * mg.cos(saved.w)).sum_to(saved.shapes[1])


def scaled_by_two_percent(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = _cotangent(ct, saved.x)
        return 1.02 * g * mg.sin(saved.w), (g * saved.x * mg.cos(saved.w)).sum_to(saved.shapes[1])


def constant_in_second_order(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = _cotangent(ct, saved.x)
        return g * mg.sin(saved.w.detach()), (g * saved.x * mg.cos(saved.w)).sum_to(saved.shapes[1])


def zero_for_a_gradient(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        return _cotangent(ct, saved.x) * mg.sin(saved.w), None


def kernel_off_by_one_at_the_end(p):
    @p.kernel("cpu")
    def _(out, x, w):
        y, total = out
        np.multiply(x, np.sin(w), out=y)
        np.sum(y[:, :-1], axis=1, out=total)


def kernel_of_low_precision(p):
    @p.kernel("cpu")
    def _(out, x, w):
        y, total = out
        y[...] = x * np.sin(w).astype(np.float16)
        np.sum(y, axis=1, out=total)


def kernel_that_changes_its_input(p):
    @p.kernel("cpu")
    def _(out, x, w):
        y, total = out
        np.multiply(x, np.sin(w), out=y)
        np.sum(y, axis=1, out=total)
        x[0, 0] = 0


def kernel_that_reads_memory_as_it_lies(p):
    @p.kernel("cpu")
    def _(out, x, w):
        y, total = out
        np.multiply(x.ravel("K").reshape(x.shape), np.sin(w), out=y)
        np.sum(y, axis=1, out=total)


def stale_output(p):
    @p.kernel("cpu")
    def _(out, x, w):
        np.multiply(x, np.sin(w), out=out[0])
        out[1][...] = np.random.default_rng().random(out[1].shape)


def wrong_shape_by_infer(p):
    @p.infer
    def _(x, w):
        return mg.Abstract(x.shape, x.dtype), mg.Abstract((x.shape[0], 1), x.dtype)


FAULTS = [
    wrong_sign,
    dropped_term,
    missing_cotangent,
    scaled_by_two_percent,
    constant_in_second_order,
    zero_for_a_gradient,
    kernel_off_by_one_at_the_end,
    kernel_of_low_precision,
    kernel_that_changes_its_input,
    kernel_that_reads_memory_as_it_lies,
    stale_output,
    wrong_shape_by_infer,
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sound_primitive_passes(seed):
    mg.gradcheck.check_primitive(primitive(), seed=seed).require()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_caught_with_every_seed(fault):
    for seed in SEEDS:
        p = primitive()
        fault(p)
        report = mg.gradcheck.check_primitive(p, seed=seed)
        assert report.verdict == "FAILED", report
        with pytest.raises(GradientError, match="tests::fault: FAILED"):
            report.require()


def test_a_failure_names_place_and_both_values():
    p = primitive()
    scaled_by_two_percent(p)
    worst = next(r for r in mg.gradcheck.check_primitive(p).results if r.check == "central differences")
    assert worst.where.startswith("argument 0[")
    assert worst.got == pytest.approx(1.02 * worst.expected, rel=1e-6)
    assert "got" in str(worst)
    assert "seed 0" in str(worst)


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


def test_a_kink_within_the_step_is_not_passed_off_as_smooth():
    report = mg.gradcheck.check(mg.abs_ if hasattr(mg, "abs_") else mg.absolute, [np.array([1e-9, 0.5])], order=1)
    assert report.verdict != "passed"


def test_user_functions_with_several_arguments_and_results():
    def f(x, k, w):
        return mg.tanh(x @ w), (x * x).sum()

    rng = np.random.default_rng(0)
    report = mg.gradcheck.check(f, [rng.standard_normal((2, 3)), 7, rng.standard_normal((3, 2))])
    assert report.passed, report
    assert [r.check for r in report.results] == ["central differences", "adjoint", "second order"]


def test_the_complex_step_is_exact_to_rounding():
    from minigrad.gradcheck.differences import complex_step

    (found,) = complex_step(
        lambda x: [np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)], [np.array(1.5)], [0], [1.0]
    )
    assert abs(found - 4.0534278938986201) < 4e-15  # Squire & Trapp (1998)


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match="order is 3"):
        mg.gradcheck.check(mg.exp, [np.ones(2)], order=3)
    with pytest.raises(ArgumentError, match="no argument is a floating-point"):
        mg.gradcheck.check(mg.exp, [np.ones(2, int)])
    with pytest.raises(ArgumentError, match="no primitive 'mg::nothing'"):
        mg.gradcheck.check_primitive("mg::nothing")


def test_a_function_that_does_not_depend_on_its_arguments_fails():
    assert mg.gradcheck.check(lambda x: mg.tensor([1.0]), [np.ones(2)]).verdict == "FAILED"


def test_the_same_seed_gives_the_same_report():
    first, second = (mg.gradcheck.check_primitive("mg::tanh", seed=3) for _ in range(2))
    assert first.results == second.results
