"""The CPU kernels of standardization on hard data: offsets, extremes, constants, NaN, nothing at all."""

import numpy as np
import pytest
from standardize_runs import CASES, MEAN, SQUARES, TOLERANCE, Run, assert_close

from minigrad_norms.kernels.form import NONE, Affine, Form, canonical

pytestmark = pytest.mark.usefixtures("one_form_in_float64")

PATHS = ["batch norm", "batch norm, shared rows", "batch norm NCHW", "batch norm NCHW, shared", "layer norm",
         "layer norm, long rows", "group norm NHWC", "instance norm NHWC", "everything, shared"]  # fmt: skip


def hard(kind, form, rng):
    """Values of a kind, each group with its own."""
    x = rng.standard_normal(form[:4])
    rows = np.arange(form.r0 * form.r1).reshape(form.r0, 1, form.r1)
    if kind == "large mean":
        x = x + 1e6
    elif kind == "huge":
        x = x * 1e30
    elif kind == "tiny":
        x = x * 1e-30
    elif kind == "heavy tails":
        x = rng.standard_cauchy(form[:4])
    elif kind == "spike first":
        x = np.where(rows == 0, 1e7, x * 1e-3)
    elif kind == "spike last":
        x = np.where(rows == form.extent - 1, -1e7, x * 1e-3)
    elif kind == "ramp":
        x = x * 1e-3 + rows
    elif kind == "step":
        x = x + 1e6 * (rows >= form.extent // 2)
    return np.ascontiguousarray(np.broadcast_to(x, form[:4])).ravel()


KINDS = ["large mean", "huge", "tiny", "heavy tails", "spike first", "spike last", "ramp", "step"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATHS)
def test_hard_data_keeps_its_digits(name, kind, dtype):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    x = hard(kind, form, np.random.default_rng(1)).astype(dtype)
    # A mean of 1e6 in float64 is itself rounded by 1e-10, against a spread of 1.
    exact = 1e-9 if kind == "large mean" else 1e-12
    tolerance = 5e-7 if dtype == np.float32 else exact
    run = Run(form, table, table, dtype, epsilon=0.0, x=x)
    run.beta[:] = 0.0  # or it would be the largest value
    y, mean, var = run.truth.forward(x, run.gamma, run.beta)
    out = run.forward()
    spread = np.sqrt(var.ravel())
    assert (abs(out.mean - mean.ravel()) <= 4e-15 * abs(x).max() + MEAN[run.dtype] * spread).all()
    assert (abs(out.var - var.ravel()) / var.ravel()).max() < max(exact, SQUARES[run.dtype])
    assert_close(out.y, y, tolerance)
    got = run.backward(out.mean, out.var, cotangents=False)
    zeros = np.zeros(form.groups)
    dx, dgamma, _ = run.truth.backward(run.dy, x, run.gamma, zeros, zeros)
    assert_close(got.dx, dx, tolerance)
    assert_close(got.dgamma, dgamma, tolerance)


@pytest.mark.parametrize(("spread", "scale"), [(1e-41, 1.0), (1e30, 1e-12), (1e-30, 1e-12), (1e37, 1e6)])
@pytest.mark.parametrize("name", PATHS)
def test_near_the_limits_of_float32(name, spread, scale):
    """1/spread, or scale/spread, is beyond what a normal float32 holds, and the result is not."""
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    x = (np.random.default_rng(1).standard_normal(form.size) * spread).astype(np.float32)
    run = Run(form, table, table, np.float32, epsilon=0.0, x=x)
    run.gamma[:] = scale
    run.beta[:] = 0.0
    y, _, _ = run.truth.forward(x, run.gamma, run.beta)
    assert_close(run.forward().y, y, 5e-7)


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PATHS)
def test_a_constant_group_is_exactly_beta(name, dtype, epsilon):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    value = np.random.default_rng(3).standard_normal((form.k0, 1, form.k1, 1)) * 1e5 + 1 / 3
    x = np.broadcast_to(value.astype(dtype), form[:4]).ravel()
    run = Run(form, table, table, dtype, epsilon=epsilon, x=x)
    out = run.forward()
    assert (out.mean.reshape(value.shape) == value.astype(dtype)).all()
    assert (out.var == 0).all()
    assert (out.y.reshape(form[:4]) == run.beta[run.truth.index(table)]).all()
    got = run.backward(out.mean, out.var)
    if epsilon == 0:  # nothing comes through y, and what does through var is times x − mean
        assert_close(got.dx, np.broadcast_to(run.truth.kept(run.dmean), form[:4]) / form.extent, TOLERANCE[run.dtype])
        assert (got.dgamma == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [n for n in PATHS if n != "everything, shared"])
def test_a_bad_value_stays_in_its_group(name, bad):
    form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
    clean = Run(form, table, table, np.float32)
    clean.gamma[:] = 1.0
    good = clean.forward()
    for j0, j1 in ((0, 0), (form.r0 - 1, form.r1 - 1), (form.r0 // 2, form.r1 // 2)):
        x = clean.x.copy().reshape(form[:4])
        i0, i1 = form.k0 // 2, form.k1 // 2
        x[i0, j0, i1, j1] = bad
        run = Run(form, table, table, np.float32, x=x.ravel())
        run.gamma, run.beta, run.dy = clean.gamma, clean.beta, clean.dy
        out = run.forward()
        y = out.y.reshape(form[:4])
        assert np.isnan(y[i0, :, i1]).all()
        assert np.isnan(out.var[i0 * form.k1 + i1])
        others = np.ones((form.k0, 1, form.k1, 1), bool)
        others[i0, 0, i1, 0] = False
        others = np.broadcast_to(others, form[:4])
        assert (y[others] == good.y.reshape(form[:4])[others]).all()
        dx = run.backward(out.mean, out.var).dx.reshape(form[:4])
        assert np.isnan(dx[i0, :, i1]).all()
        assert np.isfinite(dx[others]).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), ()])
def test_empty_arrays(shape, axes):
    form = canonical(shape, axes)
    run = Run(form, NONE, NONE, np.float32, without=("gamma", "beta"))
    out = run.forward()
    assert (out.mean == 0).all()
    assert (out.var == 0).all()
    assert out.mean.size == form.groups
    got = run.apply_backward(out.mean, out.var)
    for part in (got.dgamma, got.dbeta, got.dmean, got.dvar):
        assert (part == 0).all()
    got = run.backward(out.mean, out.var)
    assert (got.dgamma == 0).all()
    assert (got.dbeta == 0).all()
