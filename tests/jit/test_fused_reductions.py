"""Fused reductions: elements are reduced as they are computed, whatever is reduced, stored besides or broadcast."""

import numpy as np
import pytest
from test_jit_fuse import both, names

import minigrad as mg
from minigrad.devices import cpu_loops
from minigrad.devices import threads as team
from minigrad.jit.chain import Chained


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
            [
                "sub+exp+sum",
                "div+mul+sum",
                "mul.d0+div.d0+div.d1+sum_to",
                "tied+sum",
                "add+exp.d0+sub.d1+sum_to+div+mul+add",  # the last sum with the loop behind it
            ],
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
        ((6, 7), (1,), (6, 1), None),
        ((2, 3, 16), (0, 1, 2), (3, 1), None),  # three strides in one slot
        ((2, 16, 3), (1,), (3,), True),
        ((3, 16, 5, 16), (0, 2), (16,), False),  # an order of axes that needs a copy
    ],
)
def test_broadcast_operands(shape, axes, operand, fused):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(shape), rng.standard_normal(operand)
    (f, got), (_, want) = both(lambda x, y: [(x * y - x).sum(axis=axes)], x, y)
    close(got, want)
    assert names(f) == (["mul+sub", "mg::sum"] if fused is False else ["mul+sub+sum"])
    assert isinstance(f._last.plan.calls[-1].primitive, Chained) == (fused is None)  # two kernels, chunk by chunk


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


# Extremes


def holed(shape, dtype, seed=9):
    """Numbers with ties, infinities, and NaN at the ends and in the middle of some rows and columns."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_normal(shape), 1).astype(dtype)
    flat = x.reshape(-1)
    flat[:: 5 * shape[-1] + 3] = np.inf
    flat[1 :: 7 * shape[-1] + 2] = -np.inf
    flat[[flat.size // 2, flat.size // 3, -1]] = np.nan
    return x


FORMS = [
    ((3, 37), (1,), "float32"),  # rows
    ((12, 7), (1,), "float64"),  # short ones
    ((1, 21, 1), (1,), "float32"),  # one result
    ((45, 40), (0,), "float32"),  # columns
    ((83, 5), (0,), "float64"),  # narrow ones
    ((70, 1100), (0,), "float64"),  # several blocks
    ((3, 4, 2, 260), (1, 3), "float32"),  # both
    ((9000, 11), (0,), "float32"),  # pieces
    ((2, 40_000), (1,), "float64"),
    ((3, 4), (0,), "float32"),  # a column or row without NaN beside one
]


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize(("shape", "axes", "dtype"), FORMS)
def test_extremes_in_all_forms(shape, axes, dtype, costly):
    x = holed(shape, dtype)
    unit = np.array(1, dtype)

    def function(x, y):
        z = (mg.sigmoid(x) if costly else x) * y
        return z.max(axis=axes), z.min(axis=axes)

    f, g = mg.jit(function), mg.jit(lambda x, y: (mg.sigmoid(x) if costly else x) * y)
    z = g(mg.tensor(x), mg.tensor(unit)).numpy()
    got = [f(mg.tensor(x), mg.tensor(unit)) for _ in range(2)][1]  # the first call is of single primitives
    assert np.isnan(z).any()
    assert not all(np.isnan(t.numpy()).all() for t in got) or got[0].size <= 4
    for t, want in zip(got, (z.max(axis=axes), z.min(axis=axes)), strict=True):
        assert t.dtype == dtype
        np.testing.assert_allclose(t.numpy(), want, rtol=1e-6 if costly else 0)
    (name,) = names(f)
    assert name == ("sigmoid+mul+max+min" if costly else "mul+max+min")


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_and_extremes_of_the_same_elements_are_one_loop(axis):
    x, y = np.random.default_rng(10).standard_normal((2, 60, 300)).astype("float32")

    def function(x, y):
        z = mg.tanh(x) * y
        return z.max(axis=axis), z.mean(axis=axis), z.min(axis=axis), z, (z * z).max(axis=axis)

    (f, got), (_, want) = both(function, x, y)
    close(got, want, "float32")
    assert len(names(f)) == 2  # that of another square apart
    f = mg.jit(lambda x, y: ((z := x * y).sum(axis), z.max(axis)))
    got = [f(mg.tensor(x), mg.tensor(y)) for _ in range(2)][1]
    assert names(f) == ["mul+sum+max"]
    np.testing.assert_array_equal(got[1].numpy(), (x * y).max(axis))
    np.testing.assert_allclose(got[0].numpy(), (x * y).sum(axis, dtype=float), rtol=1e-4, atol=1e-5)


def test_extremes_of_strided_and_repeated_operands():
    x, y = np.random.default_rng(11).standard_normal((40, 33)), np.random.default_rng(12).standard_normal((1, 40))
    (_, got), (_, want) = both(lambda x, y: [(x.T * y).max(1), (x * x[:1]).min(1), (x[::2, ::2] - 1).max(0)], x, y)
    for a, b, c in zip(got, want, ((x.T * y).max(1), (x * x[:1]).min(1), (x[::2, ::2] - 1).max(0)), strict=True):
        np.testing.assert_array_equal(a.numpy(), c)
        np.testing.assert_array_equal(b.numpy(), c)


def test_gradients_through_fused_extremes():
    x = np.round(np.random.default_rng(13).standard_normal((20, 30)), 1)
    c = np.random.default_rng(14).standard_normal(20)
    (f, got), (_, want) = both(mg.grad(lambda x, c: (mg.relu(x * 2.0).max(1) * c).sum()), x, c)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)
    assert "mul+relu+max" in names(f)
    z = np.maximum(x * 2, 0)
    ties = z == z.max(1, keepdims=True)
    np.testing.assert_allclose(got.numpy(), 2 * ties * (z > 0) / ties.sum(1, keepdims=True) * c[:, None], rtol=1e-12)


def test_elements_of_several_reductions_have_buffers_of_their_own():
    x, y = np.random.default_rng(15).standard_normal((2, 20, 300))

    def function(x, y):
        z = mg.exp(x)
        w = z * y
        return z.max(1), w.min(1), z.sum(1)

    (f, got), (_, want) = both(function, x, y)
    close(got, want)
    assert names(f) == ["exp+mul+max+min+sum"]
