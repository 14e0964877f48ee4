"""The CPU kernels of standardization and their canonical form, against formulas in long double, element by element."""

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.devices import cpu as devices_cpu
from minigrad_norms.kernels import standardize_cpu as cpu
from minigrad_norms.kernels.form import NONE, Affine, Form, affine, canonical

LONG = np.longdouble
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# ----------------------------------------------------------------------------------------------------- the definition


@dataclass
class Truth:
    """The formulas, in long double, for x of shape (k0, r0, k1, r1) and parameters looked up one by one."""

    form: Form
    gamma: Affine
    beta: Affine
    epsilon: float

    def index(self, table):
        i0, j0, i1, j1 = np.ogrid[: self.form.k0, : self.form.r0, : self.form.k1, : self.form.r1]
        per = max(1, self.form.r1 // table.p1)
        return ((i0 % table.m0) * table.n1 + i1 % table.n1) * table.p1 + j1 // per + 0 * j0

    def spread(self, parameter, table, missing):
        values = np.full(1, missing, LONG) if parameter is None else parameter.astype(LONG)
        return values[self.index(table)]

    def kept(self, statistic):
        return statistic.astype(LONG).reshape(self.form.k0, 1, self.form.k1, 1)

    def moments(self, x):
        x = x.astype(LONG).reshape(self.form[:4])
        mean = x.mean((1, 3), keepdims=True)
        return mean, ((x - mean) ** 2).mean((1, 3), keepdims=True)

    def rstd(self, var):
        total = var + LONG(self.epsilon)
        with np.errstate(divide="ignore"):
            return np.where(total == 0, LONG(0), 1 / np.sqrt(total))

    def apply(self, x, mean, var, gamma, beta):
        x = x.astype(LONG).reshape(self.form[:4])
        scale, shift = self.spread(gamma, self.gamma, 1), self.spread(beta, self.beta, 0)
        return (x - mean) * self.rstd(var) * scale + shift

    def forward(self, x, gamma, beta):
        mean, var = self.moments(x)
        return self.apply(x, mean, var, gamma, beta), mean, var

    def apply_backward(self, dy, x, mean, var, gamma):
        """Gradients of `apply`: of x, mean and var, gamma, beta, by the chain rule."""
        x, dy = x.astype(LONG).reshape(self.form[:4]), dy.astype(LONG).reshape(self.form[:4])
        r = self.rstd(var)
        e = dy * self.spread(gamma, self.gamma, 1)
        dmean = -(e * r).sum((1, 3), keepdims=True)
        dvar = -(e * (x - mean)).sum((1, 3), keepdims=True) * r**3 / 2
        dgamma, dbeta = np.zeros(self.gamma.size, LONG), np.zeros(self.beta.size, LONG)
        np.add.at(dgamma, self.index(self.gamma), dy * (x - mean) * r)
        np.add.at(dbeta, self.index(self.beta), dy)
        return e * r, dmean, dvar, dgamma, dbeta

    def backward(self, dy, x, gamma, dmean, dvar):
        """Gradients of `forward`, with cotangents of its mean and var."""
        mean, var = self.moments(x)
        dx, to_mean, to_var, dgamma, dbeta = self.apply_backward(dy, x, mean, var, gamma)
        to_mean, to_var = to_mean + self.kept(dmean), to_var + self.kept(dvar)
        d = x.astype(LONG).reshape(self.form[:4]) - mean
        return dx + (2 * to_var * d + to_mean) / self.form.extent, dgamma, dbeta


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


# ------------------------------------------------------------------------------------------------------------ running


@pytest.fixture(autouse=True)
def one_form_in_float64(request, monkeypatch):
    """Parallel forms are compiled for float32 alone, which halves the time that all this takes."""
    if getattr(request.node, "callspec", SimpleNamespace(params={})).params.get("dtype") is np.float64:
        monkeypatch.setattr(devices_cpu.threads, "count", lambda: 1)


GUARD = 17  # elements on both sides of a buffer that must stay as they are


class Buffer:
    """An output between guards, full of a value that no result may show."""

    def __init__(self, size, dtype):
        self.whole = np.full(size + 2 * GUARD, 123456.0, dtype)
        self.inner = self.whole[GUARD : GUARD + size]

    def check(self):
        assert (self.whole[:GUARD] == 123456.0).all()
        assert (self.whole[self.whole.size - GUARD :] == 123456.0).all()


class Run:
    """One problem's buffers, and the kernels run on them."""

    def __init__(self, form, gamma, beta, dtype, epsilon=1e-3, seed=0, x=None, without=()):
        rng = np.random.default_rng(seed)
        self.truth = Truth(form, gamma, beta, epsilon)
        self.form, self.epsilon, self.dtype = form, epsilon, np.dtype(dtype)
        self.plan = cpu.plan_for(form, gamma, beta)
        draw = lambda size: rng.standard_normal(size).astype(dtype)  # noqa: E731
        self.x = draw(form.size) + self.dtype.type(0.5) if x is None else x
        self.dy = draw(form.size)
        self.gamma, self.beta = draw(gamma.size), draw(beta.size)
        self.gamma[:: max(2, gamma.size // 3)] = 0.0  # some are 0 in every problem
        if "gamma" in without:
            self.gamma = None
        if "beta" in without:
            self.beta = None
        self.dmean, self.dvar = (rng.standard_normal(form.groups) for _ in range(2))
        self.buffers = []

    def buffer(self, size, dtype=FLOAT64):
        self.buffers.append(Buffer(size, dtype))
        return self.buffers[-1].inner

    def work(self):
        work = self.buffer(self.plan.workspace)
        work.fill(np.nan)  # nothing may be expected in it
        return work

    def check_guards(self):
        for buffer in self.buffers:
            buffer.check()

    def forward(self):
        y, mean, var = (
            self.buffer(self.form.size, self.dtype),
            self.buffer(self.form.groups),
            self.buffer(self.form.groups),
        )
        cpu.forward(y, mean, var, self.work(), self.x, self.gamma, self.beta, self.plan, self.epsilon)
        self.check_guards()
        return SimpleNamespace(y=y, mean=mean, var=var)

    def backward(self, mean, var, wanted="dx dgamma dbeta", cotangents=True):
        out = self.gradients(wanted)
        extra = (self.dmean, self.dvar) if cotangents else (None, None)
        cpu.backward(
            out.dx, out.dgamma, out.dbeta, self.work(), self.dy, self.x, mean, var, self.gamma,
            self.plan, self.epsilon, *extra,
        )  # fmt: skip
        self.check_guards()
        return out

    def apply_backward(self, mean, var, wanted="dx dgamma dbeta dmean dvar"):
        out = self.gradients(wanted)
        cpu.apply_backward(
            out.dx, out.dgamma, out.dbeta, out.dmean, out.dvar, self.work(), self.dy, self.x, mean, var, self.gamma,
            self.plan, self.epsilon,
        )  # fmt: skip
        self.check_guards()
        return out

    def gradients(self, wanted):
        gamma, beta = self.truth.gamma, self.truth.beta
        sizes = {
            "dx": (self.form.size, self.dtype),
            "dgamma": (gamma.size, self.dtype),
            "dbeta": (beta.size, self.dtype),
            "dmean": (self.form.groups, FLOAT64),
            "dvar": (self.form.groups, FLOAT64),
        }
        return SimpleNamespace(**{n: self.buffer(*of) if n in wanted.split() else None for n, of in sizes.items()})


#: Of the largest true value: a few roundings of float32, whose sums go on in float64.
TOLERANCE = {FLOAT32: 4e-7, FLOAT64: 4e-14}
#: Of the largest variance, and of its root for a mean.
SQUARES, MEAN = {FLOAT32: 6e-7, FLOAT64: 1e-13}, {FLOAT32: 1e-7, FLOAT64: 0.0}


def assert_close(found, true, tolerance, terms=0.0):
    """Element by element, within `tolerance` of the largest true value (or of the largest term it is summed from)."""
    true = np.asarray(true, LONG).ravel()
    assert found.shape == true.shape
    bound = tolerance * max(abs(true).max(initial=0), terms)
    wrong = ~(abs(found.astype(LONG) - true) <= bound)
    assert not wrong.any(), (np.flatnonzero(wrong)[:5], found[wrong][:5], true[wrong][:5], float(bound))


def check_all(run):
    """Every entry point on one problem."""
    truth, x, tolerance = run.truth, run.x, TOLERANCE[run.dtype]
    y, mean, var = truth.forward(x, run.gamma, run.beta)
    out = run.forward()
    assert_close(out.y, y, tolerance)
    spread = float(np.sqrt(var.max(initial=0)))
    assert (abs(out.mean - mean.ravel()) <= 4e-15 * abs(x).max(initial=0) + MEAN[run.dtype] * spread).all()
    assert_close(out.var, var, SQUARES[run.dtype])

    moments = SimpleNamespace(mean=run.buffer(run.form.groups), var=run.buffer(run.form.groups))
    cpu.moments(moments.mean, moments.var, run.work(), x, run.plan)
    assert (moments.mean == out.mean).all()
    assert (moments.var == out.var).all()

    r = float(truth.rstd(var).max(initial=0))
    many = np.sqrt(run.form.size)  # of a sum of as many terms
    size = abs(run.dy).max(initial=0) * (1 if run.gamma is None else max(1, abs(run.gamma).max(initial=0)))
    for cotangents in (True, False):
        dmean, dvar = (run.dmean, run.dvar) if cotangents else (np.zeros(run.form.groups),) * 2
        got = run.backward(out.mean, out.var, cotangents=cotangents)
        dx, dgamma, dbeta = truth.backward(run.dy, x, run.gamma, dmean, dvar)
        assert_close(got.dx, dx, tolerance, size * r)
        assert_close(got.dgamma, dgamma, tolerance, many)
        assert_close(got.dbeta, dbeta, tolerance, many)

    # given statistics, that are not the array's own
    mean, var = out.mean + 0.25, out.var * 1.5 + 0.1
    y = run.buffer(run.form.size, run.dtype)
    cpu.apply(y, run.work(), x, mean, var, run.gamma, run.beta, run.plan, run.epsilon)
    run.check_guards()
    assert_close(y, truth.apply(x, truth.kept(mean), truth.kept(var), run.gamma, run.beta), tolerance)
    got = run.apply_backward(mean, var)
    true = truth.apply_backward(run.dy, x, truth.kept(mean), truth.kept(var), run.gamma)
    for name, expected in zip(("dx", "dmean", "dvar", "dgamma", "dbeta"), true):
        assert_close(getattr(got, name), expected, tolerance, many)


# Form, table, and what it is; every size distinct and mostly prime. Between them they take every path of every plan.
CASES = {
    "batch norm": ((1, 61, 103, 1), (1, 103, 1)),
    "batch norm, few channels": ((1, 997, 3, 1), (1, 3, 1)),
    "batch norm, shared rows": ((1, 4099, 67, 1), (1, 67, 1)),
    "batch norm, shared columns": ((1, 53, 1051, 1), (1, 1051, 1)),
    "batch norm, both shared": ((1, 67, 4801, 1), (1, 4801, 1)),
    "batch norm, two rows": ((1, 2, 5, 1), (1, 5, 1)),
    "batch norm NCHW": ((1, 7, 11, 131), (1, 11, 1)),
    "batch norm NCHW, small images": ((1, 7, 11, 9), (1, 11, 1)),
    "batch norm NCHW, shared": ((1, 13, 3, 1511), (1, 3, 1)),
    "layer norm": ((37, 1, 1, 139), (1, 1, 139)),
    "layer norm, shared rows": ((131, 1, 1, 769), (1, 1, 769)),
    "layer norm, long rows": ((3, 1, 1, 9001), (1, 1, 9001)),
    "layer norm, no table": ((37, 1, 1, 139), (1, 1, 1)),
    "instance norm NHWC": ((5, 71, 13, 1), (1, 13, 1)),
    "instance norm NHWC, shared": ((11, 157, 29, 1), (1, 29, 1)),
    "instance norm NCHW": ((5 * 7, 1, 1, 83), (7, 1, 1)),
    "group norm NHWC": ((3, 53, 5, 2), (1, 5, 2)),
    "group norm NHWC, wide groups": ((3, 19, 2, 89), (1, 2, 89)),
    "group norm NCHW": ((3 * 5, 1, 1, 2 * 97), (5, 1, 2)),
    "group norm NCHW, small images": ((3 * 5, 1, 1, 2 * 7), (5, 1, 2)),
    "conditional NHWC": ((5, 71, 13, 1), (5, 13, 1)),
    "conditional NCHW": ((5 * 13, 1, 1, 71), (5 * 13, 1, 1)),
    "alternating, blocks": ((1, 2, 131, 35), (1, 1, 5)),
    "everything, shared": ((1, 1, 1, 140009), (1, 1, 1)),
    "everything, in pieces": ((1, 1, 1, 3 * 30011), (1, 1, 3)),
    "alternating": ((3, 5, 7, 11), (3, 7, 11)),
    "alternating, a scale for each k0": ((3, 5, 7, 11), (3, 1, 1)),
    "nothing reduced": ((17, 1, 1, 1), (17, 1, 1)),
    "one element": ((1, 1, 1, 1), (1, 1, 1)),
}


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


# ----------------------------------------------------------------------------------------------------------- hard data

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


# ---------------------------------------------------------------------------------------- threads, memory, form, plan


def digest(names):
    """The bits of all results on some cases large enough to run in parallel."""
    import hashlib

    found = hashlib.sha256()
    for name in names:
        form, table = Form(*CASES[name][0]), Affine(*CASES[name][1])
        run = Run(form, table, table, np.float32)
        out = run.forward()
        got = run.backward(out.mean, out.var)
        for part in (out.y, out.mean, out.var, got.dx, got.dgamma, got.dbeta):
            found.update(part.tobytes())
    return found.hexdigest()


SHARED = [name for name, (form, _) in CASES.items() if Form(*form).size >= 1 << 15]


def test_the_same_bits_for_any_number_of_threads():
    assert {cpu.plan_for(Form(*CASES[n][0]), Affine(*CASES[n][1])).forward.__name__ for n in SHARED} == {
        "columns_forward", "lines_forward", "layers_forward"}  # fmt: skip
    before = numba.get_num_threads()
    found = set()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.add(digest(SHARED))
    finally:
        numba.set_num_threads(before)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_standardize_cpu as t; print(t.digest(t.SHARED))"
    for threads in (2, 8):
        output = subprocess.run(
            [sys.executable, "-c", script, os.path.dirname(__file__)],
            env={**os.environ, "NUMBA_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(output.stdout.strip())
    assert len(found) == 1


def test_arrays_of_any_shape_are_taken_as_they_lie():
    form, table = Form(*CASES["group norm NHWC"][0]), Affine(*CASES["group norm NHWC"][1])
    run = Run(form, table, table, np.float32)
    flat = run.forward()
    y, mean, var = np.empty((3, 53, 10), np.float32), np.empty((3, 1, 5, 1)), np.empty((3, 1, 5, 1))
    gamma, beta = run.gamma.reshape(5, 2), run.beta.reshape(5, 2)
    cpu.forward(y, mean, var, run.work(), run.x.reshape(3, 53, 10), gamma, beta, run.plan, run.epsilon)
    assert (y.ravel() == flat.y).all()
    assert (mean.ravel() == flat.mean).all()


def test_canonical_form_of_every_pattern():
    """The statistics of x seen in the form are those over the axes, in the order of the kept ones."""
    rng = np.random.default_rng(0)
    for shape in ((2, 3, 5, 4, 7), (2, 1, 5, 1, 7), (1, 1), (), (6,)):
        x = rng.standard_normal(shape)
        for axes in itertools.chain.from_iterable(
            itertools.combinations(range(len(shape)), n) for n in range(len(shape) + 1)
        ):
            form = canonical(shape, axes)
            seen = x if form.permutation is None else np.ascontiguousarray(x.transpose(form.permutation))
            assert form.size == x.size
            found = seen.reshape(form[:4]).mean((1, 3)).ravel()
            np.testing.assert_allclose(found, np.asarray(x.mean(axes)).ravel(), rtol=1e-12)
            if form.permutation is not None:
                again = canonical(seen.shape, tuple(range(x.ndim - len(axes), x.ndim)))
                assert again == form._replace(permutation=None)


def test_a_table_finds_the_parameter_that_broadcasting_would():
    """For every choice of reduced and spanned axes: right where there is a table, and there is one in every layer."""
    shape = (2, 3, 5, 4)
    tables = 0
    subsets = [s for n in range(5) for s in itertools.combinations(range(4), n)]
    for axes, spanned in itertools.product(subsets, subsets):
        form, table = canonical(shape, axes), affine(shape, axes, spanned)
        if table is None:
            continue
        tables += 1
        sizes = [shape[a] if a in spanned else 1 for a in range(4)]
        parameter = np.arange(np.prod(sizes)).reshape(sizes)
        expected = np.broadcast_to(parameter, shape).ravel()
        assert (Truth(form, table, table, 0).index(table).ravel() == expected).all()
    assert tables > 70
    n, h, w, g, c = 2, 5, 7, 3, 4
    assert affine((n, h, w, c), (0, 1, 2), (3,)) == (1, c, 1)
    assert affine((n, c, h, w), (0, 2, 3), (1,)) == (1, c, 1)
    assert affine((n, h, w, c), (1, 2), (3,)) == (1, c, 1)
    assert affine((n, c, h, w), (2, 3), (1,)) == (c, 1, 1)
    assert affine((n, h, w, c), (1, 2), (0, 3)) == (n, c, 1)
    assert affine((n, c, h, w), (2, 3), (0, 1)) == (n * c, 1, 1)
    assert affine((n, h), (1,), (1,)) == (1, 1, h)
    assert affine((n, h, w, g, c), (1, 2, 4), (3, 4)) == (1, g, c)
    assert affine((n, g, c, h, w), (2, 3, 4), (1, 2)) == (g, 1, c)
    assert affine((n, c, h, w), (1,), (1,)) is None  # along r0: permute first
    assert canonical((n, c, h, w), (0, 2)).permutation == (1, 3, 0, 2)
    assert affine((n, c, h, w), (0, 2), (0, 2)) is None
    assert affine((c, w, n, h), (2, 3), (2, 3)) == (1, 1, n * h)


def test_a_plan_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="permutation"):
        cpu.plan_for(canonical((2, 3, 4, 5), (0, 2)))
    for table in (Affine(2, 1, 1), Affine(1, 2, 1), Affine(1, 1, 2)):
        with pytest.raises(ValueError, match="does not fit"):
            cpu.plan_for(Form(3, 5, 7, 11), table)
    run = Run(Form(1, 5, 3, 1), Affine(1, 3, 1), Affine(1, 3, 1), np.float32, without=("gamma",))
    with pytest.raises(ValueError, match="None"):
        run.forward()
    with pytest.raises(ValueError, match="None"):
        run.backward(np.zeros(3), np.ones(3))


def test_the_workspace_does_not_depend_on_threads():
    """It is part of the engine's memory plan, which is made once."""
    before = numba.get_num_threads()
    cpu.plan_for.cache_clear()
    sizes = [cpu.plan_for(Form(*f), Affine(*t), Affine(*t)).workspace for f, t in CASES.values()]
    try:
        numba.set_num_threads(1)
        cpu.plan_for.cache_clear()
        assert [cpu.plan_for(Form(*f), Affine(*t), Affine(*t)).workspace for f, t in CASES.values()] == sizes
    finally:
        numba.set_num_threads(before)
        cpu.plan_for.cache_clear()


@st.composite
def problems(draw):
    k0, r0, k1, r1 = (draw(st.sampled_from([1, 2, 3, 5, 8, 33, 64, 130])) for _ in range(4))
    while k0 * r0 * k1 * r1 > 1 << 15:
        k0, r0, k1, r1 = (max(1, k // 2) for k in (k0, r0, k1, r1))

    def table():
        divisors = lambda n: [d for d in range(1, n + 1) if n % d == 0]  # noqa: E731
        return Affine(
            draw(st.sampled_from(divisors(k0))), draw(st.sampled_from([1, k1])), draw(st.sampled_from(divisors(r1)))
        )

    gamma = table()
    return Form(k0, r0, k1, r1), gamma, draw(st.sampled_from([gamma, NONE])), draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_any_form_with_any_table(problem):
    form, gamma, beta, seed = problem
    check_all(Run(form, gamma, beta, np.float32, seed=seed))
