"""Fused sums: elements are summed as they are computed, whatever is reduced, stored besides or broadcast."""

import numpy as np
import pytest
from test_jit_fuse import both, names

import minigrad as mg
from minigrad.devices import cpu_loops
from minigrad.devices import threads as team


def close(got, want, dtype="float64"):
    rtol = 2e-5 if dtype == "float32" else 1e-12
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol)


# What users write


def mean_squared_error(y, t):
    return ((y - t) ** 2).mean()


def penalty(w, t):
    return (w * w).sum() + mg.absolute(t).sum()


def softmax(x, c):
    e = mg.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True) * c).sum()


def rms_norm(x, c):
    return (x / mg.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * c).sum()


@pytest.mark.parametrize(
    ("loss", "dtype", "sums"),
    [
        (mean_squared_error, "float32", ["sub+square+mean"]),
        (penalty, "float64", ["mul+sum", "abs+sum"]),
        (
            softmax,
            "float32",
            ["sub+exp+sum", "div+mul+sum", "mul.d0+div.d0+div.d1+sum_to", "add+exp.d0+sub.d1+sum_to", "mg::sum"],
        ),
        (rms_norm, "float64", ["mul+mean", "div+mul+sum", "mul.d0+div.d0+div.d1+sum_to"]),
    ],
)
def test_losses_and_norms_written_by_hand(loss, dtype, sums):
    x, c = np.random.default_rng(0).standard_normal((2, 9, 260)).astype(dtype)
    (f, got), (_, want) = both(lambda x, c: mg.value_and_grad(loss)(x, c), x, c)
    close(got, want, dtype)
    assert [name for name in names(f) if "sum" in name or "mean" in name] == sums


def test_gradients_are_clipped_by_their_global_norm():
    gradients = [np.random.default_rng(i).standard_normal((5, 16 + i)) for i in range(3)]

    def clip(*gradients):
        norm = mg.sqrt(sum((g * g).sum() for g in gradients))
        return [g * mg.minimum(1.0 / norm, 1.0) for g in gradients]

    (f, got), (_, want) = both(clip, *gradients)
    close(got, want)
    assert names(f).count("mul+sum") == 3


# Forms


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 17), (1,)),
        ((19, 5), (0,)),
        ((3, 17), (0, 1)),
        ((2, 3, 260), (0, 2)),
        ((4, 9, 3), (1,)),
        ((2, 3, 2, 256), (1, 3)),
        ((4, 3, 5, 2), (1, 3)),
        ((1, 21, 1), (1,)),
        ((2, 2500), (1,)),
        ((70, 1500), (0,)),
        ((9000, 11), (0,)),
        ((3, 40_000), (1,)),
        ((300_000,), (0,)),
    ],
)
def test_forms(shape, axes, costly, stored):
    x, y = np.random.default_rng(1).standard_normal((2, *shape))

    def summed(x, y):
        z = (mg.exp(x) if costly else x) * y
        return (z.sum(axis=axes), z) if stored else (z.sum(axis=axes),)

    (f, got), (_, want) = both(summed, x, y)
    np.testing.assert_allclose(got[0].numpy(), ((np.exp(x) if costly else x) * y).sum(axis=axes), rtol=1e-10, atol=1e-9)
    assert len(names(f)) == 1 + (shape[-1] == 2)  # of which no loop is worth it
    close(got, want)


@pytest.mark.parametrize(
    ("shape", "axes", "operand", "fused"),
    [
        ((6, 17), (1,), (17,), True),
        ((6, 17), (1,), (6, 1), True),
        ((6, 40), (0,), (40,), True),
        ((6, 40), (0,), (6, 1), True),
        ((6, 17), (0, 1), (17,), True),
        ((6, 17), (0, 1), (), True),
        ((3, 4, 2, 16), (1, 3), (4, 2, 16), True),
        ((3, 4, 2, 16), (1, 3), (3, 1, 2, 1), True),
        ((20, 6), (0,), (6,), True),  # rows are folded
        ((20, 6), (0,), (1, 1), True),
        ((2, 20, 6), (1,), (2, 1, 6), False),
        ((6, 7), (1,), (7,), True),  # short runs
        ((6, 7), (1,), (6, 1), False),
        ((2, 3, 16), (0, 1, 2), (3, 1), False),  # three strides in one slot
        ((2, 16, 3), (1,), (3,), True),
        ((3, 16, 5, 16), (0, 2), (16,), False),  # an order of axes that needs a copy
    ],
)
def test_broadcast_operands(shape, axes, operand, fused):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(shape), rng.standard_normal(operand)
    (f, got), (_, want) = both(lambda x, y: [(x * y - x).sum(axis=axes)], x, y)
    close(got, want)
    assert names(f) == (["mul+sub+sum"] if fused else ["mul+sub", "mg::sum"])


def test_views_that_repeat_are_read_without_repeats():
    x, c = np.random.default_rng(3).standard_normal((4, 3, 16)), np.arange(4.0).reshape(4, 1, 1)

    def function(x, c):
        wide = c.broadcast_to((4, 3, 16))
        return [(x * wide).sum(axis=2), (x * wide.reshape((12, 16)).reshape((4, 3, 16)) * 2).sum(axis=(0, 1))]

    (f, got), (_, want) = both(function, x, c)
    close(got, want)
    assert "mul+sum" in names(f)


def test_a_repeated_operand_that_lies_across_blocks_leaves_the_product_apart():
    x, w, c = (np.random.default_rng(4).standard_normal(s) for s in ((4, 3, 5), (5, 6), (4, 1, 1)))
    (_, got), (_, want) = both(lambda x, w, c: [(x @ w) * c.broadcast_to((4, 3, 6))], x, w, c)
    close(got, want)


@pytest.mark.parametrize("shape", [(0, 17), (17, 0), (0,), (1, 1), (1,)])
def test_nothing_and_one_element(shape):
    x = np.full(shape, 3.0)
    (_, got), (_, want) = both(lambda x: [(x * x).sum(axis=0), (x * x).sum(), (x * x + x).mean(axis=-1)], x)
    close(got, want)


# Order, and what else needs the elements


def test_several_sums_over_the_same_axes_are_one_loop():
    x = np.random.default_rng(5).standard_normal((900, 33))

    def function(x):
        y = mg.tanh(x) * 2.0
        return [y.sum(axis=0), (z := y * x).mean(axis=0), z.sum(axis=0), y]

    (f, got), (_, want) = both(function, x)
    close(got, want)
    assert len(names(f)) == 2


def test_sums_over_other_axes_and_users_of_sums_stay_apart():
    x = np.random.default_rng(6).standard_normal((20, 18))

    def function(x):
        y = mg.tanh(x) * 2.0
        rows, columns = y.sum(axis=1, keepdims=True), y.sum(axis=0)
        z = y * rows
        return [columns, z + columns, z.sum(), (y + 1.0).sum(axis=1)]

    (_, got), (_, want) = both(function, x)
    close(got, want)


def test_a_change_in_between_keeps_its_order():
    v = mg.Variable(np.ones(20), trainable=False)

    def function(x):
        old = v * x
        v.assign(x)
        return [old.sum(), (v * x).sum()]

    f = mg.jit(function)
    for before, x in ((1.0, 2.0), (2.0, 3.0)):
        got = f(mg.tensor(np.full(20, x)))
        assert [t.item() for t in got] == [20 * before * x, 20 * x * x]


def test_more_values_than_a_loop_can_store_are_several_loops(monkeypatch):
    monkeypatch.setattr(cpu_loops, "MOST_COMPARISONS", 8)
    arrays = np.random.default_rng(7).standard_normal((3, 4, 16))

    def function(x, y, z):
        values = [x * y]
        for other in (z, x, y, z):
            values.append(mg.tanh(values[-1]) * other)
        return [*values, values[-1].sum(axis=0), values[1].sum(axis=0)]

    (f, got), (_, want) = both(function, *arrays)
    close(got, want)
    assert 1 < len(names(f)) < 6


# Values


def test_nan_and_infinity_arrive():
    x = np.ones((4, 20))
    x[1, 3], x[2, 5], x[3, 7] = np.nan, np.inf, -np.inf
    (f, got), (_, want) = both(lambda x: [(x * 2).sum(axis=1), (mg.exp(x) - 1).mean(axis=0)], x)
    assert len(names(f)) == 2
    close(got, want)
    assert np.isnan(got[0].numpy()).tolist() == [False, True, False, False]


def test_float32_is_carried_in_float64():
    x = np.full(1 << 20, 0.1, np.float32)
    (_, got), _ = both(lambda x: (x * 1.5).sum(), x)
    each = np.float64(np.float32(0.1) * np.float32(1.5))
    np.testing.assert_allclose(got.item(), each * (1 << 20), rtol=1e-7)


def test_bits_do_not_depend_on_the_threads(monkeypatch):
    x, y = np.random.default_rng(8).standard_normal((2, 700, 300))

    def function(x, y):
        z = mg.tanh(x) * y
        return [z, z.sum(axis=0), (x * y).sum(axis=1), (x - y).mean()]

    found = []
    for threads in (1, 2):
        monkeypatch.setattr(team, "count", lambda threads=threads: threads)
        f = mg.jit(function)
        found.append([t.numpy() for _ in range(2) for t in f(mg.tensor(x), mg.tensor(y))])
    for a, b in zip(*found):
        assert a.tobytes() == b.tobytes()


def test_the_plan_shows_what_is_summed():
    x = mg.tensor(np.ones((3, 20)))
    f = mg.jit(lambda x: ((x - 1.0) ** 2).mean())
    f(x)
    (name,) = f.plan().kernels
    assert name.startswith("sum_mul")
    assert "run_0 += t" in f.plan().kernels[name]
    assert "sub+square+mean" in str(f.plan())
