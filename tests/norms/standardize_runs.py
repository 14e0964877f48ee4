"""The CPU kernels of standardization on a problem, in guarded buffers, and the formulas in long double for it."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from minigrad_norms.kernels import standardize_cpu as cpu
from minigrad_norms.kernels.form import Affine, Form

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
