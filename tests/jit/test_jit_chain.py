"""Chains: loops that go from chunk to chunk with the kernel beside them, and what may not be chained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_jit_fuse import both, names

import minigrad as mg
import minigrad_norms as norms
from minigrad import scalar
from minigrad.devices import threads as team
from minigrad.jit.bind import Compiled
from minigrad.ops.reductions_cpu import plan_for
from minigrad.ops.reductions_loops import Reduced, kernel_of
from minigrad.ops.reductions_operations import SUM
from minigrad_norms.kernels import form as forms
from minigrad_norms.kernels import standardize_cpu as kernels
from minigrad_norms.standardize import standardize_p


def close(got, want, tolerance=1e-11):
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


def links(f):
    """How many parts each call's steps have that are more than one."""
    steps = [step for steps in f._last.plan.steps for step in steps]
    return [len(step.parts) for step in steps if isinstance(step, Compiled) and step.then]


def normed(x, gamma, beta, axes, parameter_axes):
    return norms.standardize(x, gamma, beta, axes=axes, parameter_axes=parameter_axes, epsilon=1e-3)[0]


# Forms of normalization: batch norm of both layouts, layer, group, with groups shared out and tables that repeat.
FORMS = [
    ((7, 5), (0,), (1,)),
    ((71, 33, 40), (0, 1), (2,)),  # rows left over by a fold
    ((40, 2200), (0,), (1,)),  # blocks of columns
    ((3, 4, 90), (0, 2), (1,)),
    ((40, 3, 2000), (0, 2), (1,)),  # the rows of a group in several chunks
    ((6, 20_000), (1,), ()),  # lines that are cut
    ((9, 80), (1,), (1,)),
    ((8, 3, 70), (2,), (1, 2)),  # rows of which every third has the same table
    ((700, 96), (1,), (1,)),
]


@pytest.mark.parametrize(("shape", "axes", "parameter_axes"), FORMS)
def test_a_shortcut_behind_a_norm(shape, axes, parameter_axes):
    rng = np.random.default_rng(0)
    x, shortcut, ct = rng.standard_normal((3, *shape))
    gamma, beta = rng.standard_normal((2, *[shape[a] for a in parameter_axes]))

    def function(x, shortcut, gamma, beta, ct):
        out, pull = mg.vjp(lambda *a: mg.relu(normed(*a[1:], axes, parameter_axes) + a[0]), shortcut, x, gamma, beta)
        return [out, *pull(ct * out.var())]

    (f, got), (g, want) = both(function, x, shortcut, gamma, beta, ct)
    close(got, want)
    assert {"standardize+add+relu", "mul+relu.d0+standardize_vjp"} <= set(names(f))
    assert links(f) == [2, 2]
    assert not links(g)


@pytest.mark.parametrize(("shape", "axes", "parameter_axes"), FORMS)
def test_chunks_touch_the_places_that_they_say(shape, axes, parameter_axes):
    form, table = forms.canonical(shape, axes), forms.affine(shape, axes, parameter_axes)
    plan = kernels.plan_for(form, table, table)
    found = plan.forward.places(plan.chunks, (kernels.APPLY, *[None] * 7, plan.geometry))
    assert plan.forward.places(plan.combine_chunks, (kernels.COMBINE, *[None] * 7, plan.geometry)) is None
    x, near = np.random.default_rng(1).standard_normal((2, form.size)), np.empty(0)
    gamma = np.ones(table.size)
    seen = np.zeros(form.size, int)
    for chunk, (start, length, pieces, stride) in enumerate(found):
        y = np.full(form.size, np.nan)
        stages = kernels.ALL if not plan.split else kernels.APPLY
        mean, var, work = np.zeros(form.groups), np.ones(form.groups), np.zeros(plan.workspace)
        args = (y, mean, var, x[0], gamma, 0 * gamma, plan.geometry, 1e-3, None, plan.grouped, near, None)
        plan.forward.body.entry(chunk, stages, work, *args)
        mine = np.concatenate([np.arange(start + i * stride, start + i * stride + length) for i in range(pieces)])
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(y)), np.sort(mine))
        seen[mine] += 1
    assert (seen == 1).all()


def test_groups_that_are_cut_within_lines_stay_apart():
    x, s = np.random.default_rng(12).standard_normal((2, 4, 3, 30_000))
    (f, got), (_, want) = both(lambda x, s: [normed(x, None, None, (0, 2), (1,)) * s], x, s)
    close(got, want)
    assert names(f) == ["norms::standardize", "mg::mul"]


def test_a_norm_with_loops_on_both_sides():
    rng = np.random.default_rng(2)
    x, f, gamma, ct = (rng.standard_normal(s) for s in ((300, 96), (300, 96), 96, (300, 96)))

    def function(x, f, gamma, ct):
        def inner(x, f, gamma):
            h = x + f
            return h, mg.tanh(normed(h, gamma, None, (1,), (1,))) * h

        (h, y), pull = mg.vjp(inner, x, f, gamma)
        return [h, y, *pull((ct, ct))]

    (jitted, got), (_, want) = both(function, x, f, gamma, ct)
    close(got, want)
    assert any(name.startswith("add+standardize+mul.d0+tanh.d0") for name in names(jitted))
    assert links(jitted)[0] == 3


def test_a_loop_that_makes_a_scale_stays_apart():
    rng = np.random.default_rng(14)
    x, gamma, s = (rng.standard_normal(n) for n in ((700, 96), 96, (700, 96)))

    def function(x, gamma, s):
        return [normed(x, gamma * 2.0, None, (1,), (1,)), mg.relu(normed(x, gamma * 2.0, None, (0,), (1,)) + s)]

    (f, got), (_, want) = both(function, x, gamma, s)
    close(got, want)
    assert sorted(names(f)) == ["mg::mul", "norms::standardize", "standardize+add+relu"]
    assert links(f) == [2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_scores_before_a_softmax(name, dtype):
    rng = np.random.default_rng(3)
    x, mask, ct = (rng.standard_normal(s).astype(dtype) for s in ((2, 3, 23, 150), (23, 150), (2, 3, 23, 150)))
    ct = ct[..., 0] if name == "logsumexp" else ct

    def function(x, mask, ct):
        y, pull = mg.vjp(lambda x: getattr(mg, name)(x * 0.3 + mask, axis=-1), x)
        return [y, *pull(ct)]

    (f, got), (_, want) = both(function, x, mask, ct)
    close(got, want, 1e-5 if dtype == "float32" else 1e-12)
    assert any(chain.startswith(f"mul+add+{name}") for chain in names(f))
    if name == "softmax":
        assert "softmax_grad+mul.d0" in names(f)


# What lies around


def test_values_that_others_need_are_kept():
    x, s = np.random.default_rng(4).standard_normal((2, 12, 80))

    def function(x, s):
        h = x * s
        y = normed(h, None, None, (1,), (1,))
        return [y, mg.exp(y) - s, h, h.sum(axis=0), y[:3]]

    (f, got), (_, want) = both(function, x, s)
    close(got, want)
    assert "mul+standardize+exp+sub" in names(f)


def test_what_needs_the_statistics_in_between_is_done_after_and_what_the_loop_needs_before():
    running = mg.Variable(np.zeros(6), trainable=False)

    def function(x, w):
        y, mean, _ = norms.standardize(x, None, None, axes=(0,), parameter_axes=(1,), epsilon=1e-3)
        running.assign(running * 0.5 + mean)
        return [mg.relu(y + (x @ w).max(axis=1, keepdims=True)), running * 1.0]

    x, w = np.random.default_rng(5).standard_normal((9, 6)), np.eye(6)
    found = []
    for fuse in (True, False):
        running.assign(np.zeros(6))
        f = mg.jit(function, fuse=fuse)
        found.append([t for _ in range(3) for t in f(mg.tensor(x), mg.tensor(w))])
        assert ("standardize+add+relu" in names(f)) is fuse
    close(*found)


@pytest.mark.parametrize("first", [True, False])
def test_a_loop_that_needs_the_statistics_stays_apart(first):
    x = np.random.default_rng(6).standard_normal((9, 6))

    def function(x):
        y, mean, var = norms.standardize(x, None, None, axes=(0,), parameter_axes=(1,), epsilon=1e-3)
        return [y - mean if first else y * (mean + var), y.T]

    (f, got), (_, want) = both(function, x)
    close(got, want)
    assert not links(f)


def test_a_variable_that_changes_in_between():
    v = mg.Variable(np.full((4, 70), 2.0), trainable=False)

    def function(x):
        old = v * 1.0
        y = normed(x, None, None, (1,), (1,))
        v.assign(x)
        return [mg.relu(y + v), mg.relu(normed(old, None, None, (1,), (1,)) + old)]

    found = []
    for fuse in (True, False):
        v.assign(np.full((4, 70), 2.0))
        f = mg.jit(function, fuse=fuse)
        x = np.random.default_rng(7).standard_normal((4, 70))
        found.append([t for a in (x, x[::-1].copy()) for t in f(mg.tensor(a))])
    close(*found)


def test_groups_beyond_float32_are_done_again_with_their_loop():
    x, s = np.random.default_rng(8).standard_normal((2, 40, 96)).astype("float32")
    x[3] *= 1e25
    x[5] *= 1e-30

    def function(x, s, ct):
        y, pull = mg.vjp(lambda x, s: mg.relu(normed(x, None, None, (1,), (1,)) + s) * 2.0, x, s)
        return [y, *pull(ct)]

    (f, got), (_, want) = both(function, x, s, s)
    assert any(name.startswith("standardize+add+relu+mul") for name in names(f))
    for a, b in zip(got, want):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    columns = mg.jit(lambda x, s: mg.relu(normed(x, None, None, (0,), (1,)) + s))
    x = np.ascontiguousarray(np.tile(x.T, (8, 1)))
    s = np.ascontiguousarray(np.tile(s.T, (8, 1)))
    for _ in range(2):
        y = columns(mg.tensor(x), mg.tensor(s))
    assert links(columns) == [2]
    z = normed(mg.tensor(x), None, None, (0,), (1,)).numpy() + s
    np.testing.assert_allclose(y.numpy(), np.maximum(z, 0), rtol=1e-4, atol=1e-5)


def test_a_loop_waits_for_all_that_the_kernel_does():
    x, s = np.random.default_rng(13).standard_normal((2, 40, 96))

    def function(x, s):
        params = {"axes": (1,), "parameter_axes": (), "epsilon": 1e-3, "activation": "tanh"}
        return [standardize_p(x, None, None, **params)[0] + s]

    (_, got), (_, want) = both(function, x, s)
    close(got, want)


@pytest.mark.parametrize("shape", [(0, 80), (1, 80), (1, 1), (5, 0)])
def test_nothing_and_one_row(shape):
    x, s = np.random.default_rng(9).standard_normal((2, *shape))
    (_, got), (_, want) = both(lambda x, s: [mg.softmax(x + s) * s, normed(x + s, None, None, (1,), ()) * s], x, s)
    close(got, want)


def test_operands_that_are_strided_or_broadcast():
    rng = np.random.default_rng(10)
    x, s, row, column = (rng.standard_normal(n) for n in ((80, 12), (12, 160), 80, (12, 1)))

    def function(x, s, row, column):
        y = normed(x.T, None, None, (1,), ())
        return [mg.relu(mg.softmax(s[:, ::2] * 2.0) + row) * column, mg.relu(y + row) * column, y * x.T]

    (_, got), (_, want) = both(function, x, s, row, column)
    close(got, want)


def test_bits_do_not_depend_on_the_threads(monkeypatch):
    x, s, c = np.random.default_rng(11).standard_normal((3, 700, 96))
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(team, "count", lambda threads=threads: threads)
        f = mg.jit(lambda x, s, c: mg.relu(normed(x + s, None, None, (1,), (1,)) + c) * s)
        found.append([f(*map(mg.tensor, (x, s, c))).numpy() for _ in range(2)])
        assert links(f) == [3]
    assert found[0][1].tobytes() == found[1][1].tobytes() == found[1][0].tobytes()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=9))
def test_random_graphs(program):
    def function(x, y, state):
        values = [x, y, state * 1.0]
        for operation, i, j in program:
            one, two = values[i % len(values)], values[j % len(values)]
            if operation == 0:
                values.append(normed(one, None, None, (1,), (1,)))
            elif operation == 1:
                values.append(mg.softmax(one))
            elif operation == 2:
                state.assign(one)
                values.append(state * 1.0)
            else:
                values.append(one + two if operation == 3 else mg.tanh(one) * two)
        return [*values[-2:], values[3].sum(axis=0)]

    x, y = np.random.default_rng(len(program)).standard_normal((2, 5, 70))
    found = []
    for fuse in (True, False):
        state = mg.Variable(np.ones((5, 70)), trainable=False)
        f = mg.jit(lambda x, y, state=state: function(x, y, state), fuse=fuse)
        found.append([t for _ in range(2) for t in f(mg.tensor(x), mg.tensor(y))])
    close(*found, tolerance=1e-9)


# Reductions of rows


OPERATIONS = {name: getattr(mg.Tensor, name) for name in ("sum", "mean", "max", "min")}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("shape", "axes", "linked"),
    [
        ((700, 96), (1,), True),
        ((9, 20, 33), (1, 2), True),
        ((9, 20, 33), (2,), True),
        ((5000, 7), (1,), True),  # short rows
        ((1, 300), (1,), True),
        ((3, 100_000), (1,), False),  # rows that are cut
        ((96, 70), (0,), False),  # columns
        ((5, 6, 40), (0, 2), False),
    ],
)
def test_a_loop_behind_a_reduction(name, shape, axes, linked):
    x, y = np.random.default_rng(20).standard_normal((2, *shape))
    reduce = OPERATIONS[name]

    def function(x, y):
        z = mg.exp(x) * y
        return [z * reduce(z, axis=axes, keepdims=True) - y]

    (f, got), (_, want) = both(function, x, y)
    close(got, want, 1e-9)
    assert bool(links(f)) == linked
    assert not linked or len(names(f)) == 1


def test_a_reduction_of_what_is_nowhere_stored():
    x, y = np.random.default_rng(23).standard_normal((2, 300, 50))
    (f, got), (_, want) = both(lambda x, y: [y / mg.exp(x).sum(axis=1, keepdims=True)], x, y)
    close(got, want)
    assert links(f) == [2]


def test_a_loop_before_rows_that_are_cut_stays_apart():
    x, y = np.random.default_rng(24).standard_normal((2, 3, 40_000)), np.random.default_rng(25).standard_normal((3, 1))
    (f, got), (_, want) = both(lambda x, y: [(mg.exp(x) * y).sum()], x, y)  # a walk that no reduction takes
    close(got, want)
    assert names(f) == ["exp+mul", "mg::sum"]


def test_what_a_reduction_makes_and_stores_is_there_for_others():
    x, y = np.random.default_rng(21).standard_normal((2, 300, 50))

    def function(x, y):
        z = x * y
        mean, most = z.mean(axis=1, keepdims=True), z.max(axis=1, keepdims=True)
        return [(z - mean) / most + y, mg.exp(mean), z, most]

    (f, got), (_, want) = both(function, x, y)
    close(got, want)
    assert links(f) == [2]


def test_results_of_other_rows_keep_a_loop_apart():
    x = np.random.default_rng(22).standard_normal((300, 300))
    (f, got), (_, want) = both(lambda x: [x - x.mean(axis=1)], x)  # row r goes with column r
    close(got, want)
    assert not links(f)
    y = np.random.default_rng(26).standard_normal((2, 300, 150))  # as many elements in other rows
    (f, got), (_, want) = both(lambda x, y: [y * x.mean(axis=1, keepdims=True)], x, y)
    close(got, want)
    assert not links(f)
    x = x.reshape(1, 300, 300)
    (f, got), (_, want) = both(lambda x: [x - x.mean(axis=2)], x)
    close(got, want)
    assert not links(f)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 900), st.integers(1, 300), st.sampled_from(sorted(OPERATIONS)), st.sampled_from(["f4", "f8"]))
def test_any_rows(rows, length, name, dtype):
    x, ct = np.random.default_rng(rows).standard_normal((2, rows, length)).astype(dtype)

    def function(x, ct):
        out, pull = mg.vjp(lambda x: mg.tanh(x) * OPERATIONS[name](mg.tanh(x), axis=-1, keepdims=True), x)
        return [out, *pull(ct)]

    (_, got), (_, want) = both(function, x, ct)
    close(got, want, 1e-11 if dtype == "f8" else 3e-5)


@pytest.mark.parametrize(
    ("way", "shape"), [("rows", (700, 16)), ("rows", (64, 3000)), ("rows", (1, 5)), ("short", (9000, 7))]
)
def test_chunks_of_rows_touch_the_places_that_they_say(way, shape):
    x, y = scalar.variable("in_0"), scalar.variable("in_1")
    reduced, stored = [Reduced(SUM, x * y)], [x * y]
    kernel = kernel_of(reduced, stored, "ls", np.dtype("float64"), way)
    plan = plan_for(shape[0], 1, 1, shape[1])
    size = shape[0] * shape[1]
    out, work, strides = np.zeros(shape[0]), np.zeros((plan.chunks, 1)), np.zeros((3, 2), np.int64)
    seen = np.zeros(size, int)
    for chunk in range(plan.chunks):
        z = np.full(size, np.nan)
        args = (*plan.cut, work, strides, out, 1.0, z, np.ones(size), np.ones(1))
        kernel.body.entry(chunk, *args)
        start, length, pieces, _ = kernel.places(plan.chunks, args)[chunk]
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(z)), np.arange(start, start + length))
        assert pieces == 1
        seen[start : start + length] += 1
    assert (seen == 1).all()


def test_other_reductions_have_no_places():
    reduced, number = [Reduced(SUM, scalar.variable("in_0"))], np.dtype("float64")
    assert kernel_of(reduced, [], "l", number, "columns").places is None
    rows = kernel_of(reduced, [], "l", number, "rows")
    for form in [(2, 3, 4, 5), (1, 1, 1, 100_000)]:  # rows of several slabs, and one that is cut
        plan = plan_for(*form)
        assert rows.places(plan.chunks, (*plan.cut, None, np.empty(form[0] * form[2]), 1.0, None)) is None
