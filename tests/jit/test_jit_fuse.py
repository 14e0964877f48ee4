"""Fusion: results to rounding, groups that are legal, loops that are few."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import batches, network, training_step

import minigrad as mg

UNARY = [mg.tanh, mg.exp, mg.sigmoid, lambda x: x * 0.5, lambda x: 1.5 - x, mg.relu, mg.square, mg.absolute]
BINARY = [lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, mg.maximum]


def names(f):
    return [call.primitive.name for call in f._last.plan.calls]


def both(function, *args):
    """The results with and without fusion, of a second call on other values than the first one's."""
    found = []
    for fuse in (True, False):
        f = mg.jit(function, fuse=fuse)
        f(*[mg.tensor(a * 0.9 + 0.01) for a in args])
        found.append((f, f(*[mg.tensor(a) for a in args])))
    return found


def test_a_chain_is_one_loop():
    x, y = np.random.default_rng(0).standard_normal((2, 4, 5))
    (f, got), (g, want) = both(lambda x, y: mg.tanh(x * y + 1.0) * mg.exp(-x), x, y)
    assert len(names(f)) == 1
    assert len(names(g)) == 6
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)
    assert f.plan().total < g.plan().total
    assert "tanh_f64" in next(iter(f.plan().kernels.values()))
    assert "5 fused" in str(f.plan())


def test_values_that_others_need_are_stored():
    def function(x):
        y = mg.exp(x)
        z = mg.tanh(y) + x
        return y, z, z.sum(axis=0)

    x = np.random.default_rng(1).standard_normal((3, 7))
    (f, got), (_, want) = both(function, x)
    assert len(names(f)) == 1
    for a, b in zip(got, want):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)


def test_broadcast_operands():
    rng = np.random.default_rng(2)
    args = rng.standard_normal((4, 3, 5)), rng.standard_normal(5), rng.standard_normal((3, 1)), rng.standard_normal(())
    (f, got), (_, want) = both(lambda x, b, c, d: mg.relu(x + b) * c - d, *args)
    assert len(names(f)) == 1
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)


def test_strided_and_transposed_views_are_left_apart():
    x = np.random.default_rng(3).standard_normal((4, 4))
    (_, got), (_, want) = both(lambda x: mg.exp(x.T) + x * 2 + mg.tanh(x[::2, ::2]).sum(), x)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)


def test_a_user_in_between_keeps_its_order():
    def function(x):
        a = mg.exp(x)
        total = a.sum(axis=1, keepdims=True)  # needs a before b is made
        b = a * total
        return mg.tanh(b) + a

    x = np.random.default_rng(4).standard_normal((3, 5)) / 3
    (f, got), (_, want) = both(function, x)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)
    assert names(f) == ["exp+sum+mul+tanh+add"]  # one after the other, chunk by chunk


def test_a_change_in_between_keeps_its_order():
    v = mg.Variable(np.array([1.0, 2.0]), trainable=False)

    def function(x):
        old = v * 2.0
        v.assign(x)
        return mg.exp(old) + v

    for fuse in (True, False):
        v.assign([1.0, 2.0])
        f = mg.jit(function, fuse=fuse)
        for before, x in (([1.0, 2.0], [0.5, 0.25]), ([0.5, 0.25], [3.0, 1.0])):
            np.testing.assert_allclose(f(mg.tensor(np.array(x))).numpy(), np.exp(2 * np.array(before)) + x, rtol=1e-13)


def test_dtypes_and_shapes_do_not_mix():
    def function(x):
        y = mg.exp(x).astype("float32") * 2
        return mg.tanh(y) + mg.where(x > 0, x, -x).astype("float32"), mg.exp(x[:1]) * 3 + x

    x = np.random.default_rng(5).standard_normal((3, 5))
    (_, got), (_, want) = both(function, x)
    for a, b in zip(got, want):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_sizes(size):
    x = np.linspace(-1, 1, size)
    (f, got), (_, want) = both(lambda x: mg.sigmoid(x * 3) - x, x)
    assert len(names(f)) == 1
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-15)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=12))
def test_random_graphs(program):
    def function(x, y, b):
        values = [x, y, b]
        for operation, i, j in program:
            one, two = values[i % len(values)], values[j % len(values)]
            if operation < 8:
                values.append(UNARY[operation](one) * 0.25)
            else:
                values.append(BINARY[operation - 8](one, two))
            if operation == 3:
                values.append(values[-1].sum())
        return values[-3:]

    rng = np.random.default_rng(len(program))
    args = [rng.standard_normal(s).astype(np.float64) for s in ((3, 4), (3, 4), (4,))]
    (f, got), (g, want) = both(function, *args)
    assert len(names(f)) <= len(names(g))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", [lambda: mg.optim.SGD(0.1), lambda: mg.optim.Adam(0.01)])
def test_training_agrees_to_rounding(optimizer):
    models, losses = (network(dropout=0.0), network(dropout=0.0)), []
    for model, fuse in zip(models, (True, False)):
        step = mg.jit(training_step(model, optimizer()), fuse=fuse)
        losses.append([step(x, labels).item() for x, labels in batches(20)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 3, 7), (1, 1), (300, 64)])
def test_a_product_is_finished_block_by_block(dtype, shape):
    rng = np.random.default_rng(7)
    args = [rng.standard_normal(s).astype(dtype) for s in (shape, (shape[-1], 12), (12,), (*shape[:-1], 1), ())]

    def function(x, w, row, column, one):
        pre = x @ w + row
        return mg.relu(pre) * column - one, mg.tanh(pre)

    (f, got), (_, want) = both(function, *args)
    assert names(f) == ["matmul+add+relu+mul+sub+tanh"]
    for a, b in zip(got, want):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)


def test_a_product_that_is_needed_itself_is_kept():
    x, w = np.random.default_rng(8).standard_normal((2, 6, 6))

    def function(x, w):
        product = x @ w
        return product, mg.exp(product * 0.1), product.sum(axis=0)

    (f, got), (_, want) = both(function, x, w)
    assert names(f)[0] == "matmul+mul+exp"
    for a, b in zip(got, want):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)


def test_operands_that_lie_across_blocks_leave_the_product_apart():
    x, w, c = (np.random.default_rng(9).standard_normal(s) for s in ((4, 3, 5), (5, 6), (4, 1, 1)))
    (f, got), (_, want) = both(lambda x, w, c: mg.tanh(x @ w * c), x, w, c)
    assert names(f) == ["mg::matmul", "mul+tanh"]
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)


def test_two_products_are_two_calls():
    x, w, u = np.random.default_rng(10).standard_normal((3, 4, 4))
    (f, got), (_, want) = both(lambda x, w, u: mg.tanh(x @ w + mg.exp(x) @ u), x, w, u)
    assert len(names(f)) == 3
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)


@pytest.mark.parametrize("width", [8, 512])
def test_gradients_through_finished_products(width):
    """Where columns are cut too, which leaves the product apart, and where they are not."""
    rng = np.random.default_rng(width)
    layers = [(mg.Variable(rng.standard_normal((width, width)) / width), mg.Variable(rng.standard_normal(width)))] * 3

    def loss(x):
        for w, b in layers:
            x = mg.gelu(x @ w + b)
        return (x * x).mean()

    x = rng.standard_normal((9, width))
    (_, (value, dx)), (_, (want, want_dx)) = both(lambda x: mg.value_and_grad(loss)(x), x)
    np.testing.assert_allclose(value.item(), want.item(), rtol=1e-12)
    np.testing.assert_allclose(dx.numpy(), want_dx.numpy(), rtol=1e-10, atol=1e-15)


def test_several_results_of_several_arrays_are_one_loop():
    def function(x, y, w):
        out, pull = mg.vjp(lambda x, y: mg.tanh(x) * mg.sigmoid(y), x, y)
        return out, *pull(w)

    args = np.random.default_rng(4).standard_normal((3, 6, 7))
    (f, got), (_, want) = both(function, *args)
    assert [name for name in names(f) if name != "mg::identity"] == [
        "tanh+sigmoid+mul+mul.d0+mul.d1+sigmoid.d0+tanh.d0"
    ]
    for a, b in zip(got, want):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
