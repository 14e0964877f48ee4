"""The CPU kernels of standardization against formulas in long double, element by element."""

import itertools

import numpy as np
import pytest
from standardize_runs import CASES, LONG, Run, Truth, check_all

from minigrad_norms.kernels.form import NONE, Affine, Form

pytestmark = pytest.mark.usefixtures("one_form_in_float64")


def test_the_definition_is_its_own_derivative():
    """Central differences of the formula, to long double's digits: what the rest is held to is the gradient."""
    rng = np.random.default_rng(0)
    truth = Truth(Form(2, 3, 2, 4), Affine(2, 1, 2), Affine(1, 2, 1), 0.1)
    x, dy = (rng.standard_normal(truth.form.size).astype(LONG) for _ in range(2))
    gamma, beta = rng.standard_normal(4).astype(LONG), rng.standard_normal(2).astype(LONG)
    dmean, dvar = rng.standard_normal(4).astype(LONG), rng.standard_normal(4).astype(LONG)

    def value(x, gamma, beta):
        y, mean, var = truth.forward(x, gamma, beta)
        return (y.ravel() * dy).sum() + (mean.ravel() * dmean).sum() + (var.ravel() * dvar).sum()

    def difference(i, h, which):
        low, high = [x.copy(), gamma.copy(), beta.copy()], [x.copy(), gamma.copy(), beta.copy()]
        low[which][i] -= h
        high[which][i] += h
        return (value(*high) - value(*low)) / (2 * h)

    found = truth.backward(dy, x, gamma, dmean, dvar)
    for which, gradient in enumerate(found):
        for i, expected in enumerate(gradient.ravel()):
            assert abs(difference(i, LONG(1e-6), which) - expected) < 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_every_case_matches_the_definition(name, dtype):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    check_all(Run(form, table, table, dtype))


@pytest.mark.parametrize("without", [("gamma",), ("beta",), ("gamma", "beta")])
@pytest.mark.parametrize("name", ["batch norm", "batch norm NCHW", "layer norm", "group norm NHWC", "group norm NCHW"])
def test_scale_and_shift_may_be_missing(name, without):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    gamma, beta = (NONE if part in without else table for part in ("gamma", "beta"))
    check_all(Run(form, gamma, beta, np.float32, without=without))


@pytest.mark.parametrize("name", ["batch norm", "batch norm, shared rows", "batch norm NCHW", "layer norm"])
def test_only_what_is_wanted_is_written(name):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    run = Run(form, table, table, np.float32)
    out = run.forward()
    names = ("dx", "dgamma", "dbeta")
    full = run.backward(out.mean, out.var)
    for some in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(3)):
        got = run.backward(out.mean, out.var, wanted=" ".join(some))
        for part in some:
            assert (getattr(got, part) == getattr(full, part)).all()
    full = run.apply_backward(out.mean, out.var)
    for part in (*names, "dmean", "dvar"):
        got = run.apply_backward(out.mean, out.var, wanted=part)
        assert (getattr(got, part) == getattr(full, part)).all()
