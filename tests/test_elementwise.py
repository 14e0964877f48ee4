"""Elementwise primitives: broadcasting, layouts and derivatives."""

import itertools

import numpy as np
import pytest
from elementwise_parts import SHAPES, chosen, gradients, normal, run, same
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import primitive, scalar
from minigrad.devices import cpu, cpu_loops

# Broadcasting


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_broadcasting(a, b, dtype):
    x, y = normal(a, dtype), normal(b, dtype)
    same(run(mg.subtract, x, y), np.asarray(x - y))
    same(run(mg.greater, x, y), np.asarray(x > y))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans(), st.booleans()), max_size=5), st.integers(0, 5)
)
def test_broadcasting_of_three_in_any_pattern(dims, dropped):
    shapes = [tuple(1 if dim[k] else dim[0] for dim in dims) for k in (1, 2, 3)]
    shapes[2] = shapes[2][min(dropped, len(dims)) :]
    x, y, z = (normal(s) for s in shapes)
    same(run(chosen, x, y, z), np.asarray(np.where(x > y, y, z)))


@pytest.mark.parametrize("kinds", ["".join(k) for k in itertools.product("vs", repeat=3)])
@pytest.mark.parametrize("nested", [False, True])
def test_every_combination_of_varying_and_staying_operands(kinds, nested):
    inner = [(6,) if k == "v" else (1,) for k in kinds]
    outer = [(2,), (2,), (2,)] if nested and "v" in kinds else [()] * 3
    arrays = [normal(a + b, "float32") for a, b in zip(outer, inner)]
    if nested and "v" in kinds:  # an operand that stays along a middle axis keeps the axes from being merged
        arrays = [a[:, None] for a in arrays[:2]] + [np.repeat(arrays[2][:, None], 5, 1)]
    same(run(chosen, *arrays), np.where(arrays[0] > arrays[1], arrays[1], arrays[2]))


@pytest.mark.parametrize(
    ("a", "b"), [((301, 1009), (1009,)), ((301, 1009), (301, 1)), ((700, 1, 90), (13, 1)), ((299, 5, 97), (5, 1))]
)
def test_broadcasting_over_chunks(a, b):
    x, y = normal(a, "float32"), normal(b, "float32")
    assert np.broadcast(x, y).size > cpu.PARALLEL_WORK
    same(run(mg.subtract, x, y), x - y)
    same(run(mg.subtract, y, x), y - x)


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("size", [cpu.PARALLEL_WORK, 1 << 18])
def test_sizes_around_the_parallel_threshold(size, offset):
    x, y = normal(size + offset, "float32"), normal(size + offset, "float32")
    same(run(mg.subtract, x, y), x - y)
    same(run(mg.subtract, x, y[:1]), x - y[:1])


@pytest.mark.parametrize(
    ("operands", "kinds", "inner", "outer"),
    [
        (((2, 3), (2, 3)), "vv", 6, None),
        (((2, 3), ()), "vs", 6, None),
        (((2, 3), (3,)), "vv", 3, [2]),
        (((2, 1), (2, 3)), "sv", 3, [2]),
        (((2, 3, 4), (3, 4)), "vv", 12, [2]),
        (((2, 3, 4), (2, 1, 1)), "vs", 12, [2]),
        (((2, 3, 4), (2, 1, 4)), "vv", 4, [2, 3]),
        (((2, 1, 3, 1, 4), (1,)), "vs", 24, None),
        (((1, 1), (1,)), "ss", 1, None),
    ],
)
def test_axes_that_are_walked_alike_are_merged(operands, kinds, inner, outer):
    found = cpu_loops.layout(np.broadcast_shapes(*operands), operands)
    assert found[:2] == (kinds, inner)
    assert (None if found[2] is None else found[2].tolist()) == outer


@pytest.mark.parametrize("shape", [(61, 331, 3), (20_000, 1), (4097, 6), (2, 8192, 63)])
def test_narrow_rows_are_repeated(shape):
    x, b = normal(shape, "float32"), normal(shape[-1:], "float32")
    repeats = cpu_loops.walk(shape, (shape, shape[-1:])).repeats
    assert (repeats[1] > 1) == (shape[-1] > 1)
    same(mg.subtract(mg.Tensor(x), mg.Tensor(b)).numpy(), x - b)
    f = mg.jit(lambda x, b: x - b)
    for values in (b, b + 1):  # the second call replays with another row
        same(f(mg.Tensor(x), mg.Tensor(values)).numpy(), x - values)


# Memory layouts


def layouts_of(a):
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    yield np.asfortranarray(a)
    yield a[::-1].copy()[::-1]
    yield a[:, ::-1].copy()[:, ::-1]
    yield wide[tuple(slice(None, None, 2) for _ in a.shape)]


@pytest.mark.parametrize("shape", [(7, 5), (301, 211)])
def test_strided_inputs(shape):
    x, y = normal(shape, "float32"), normal(shape, "float32")
    expected = x - y
    for a, b in itertools.product([x, *layouts_of(x)], [y, *layouts_of(y)]):
        same(mg.subtract(mg.Tensor(a), mg.Tensor(b)).numpy(), expected)


def test_strided_inputs_need_no_kernel_of_their_own():
    x, y = normal(9), normal(9)
    mg.subtract(mg.tensor(x), mg.tensor(y))
    loop = primitive.get("mg::sub")._kernel("cpu")[0]
    kernel = loop._kernel(x.dtype, "vv", False)
    compiled = len(kernel.body.compiled().signatures)
    same(mg.subtract(mg.Tensor(x[::-1]), mg.Tensor(y[::-1])).numpy(), x[::-1] - y[::-1])
    assert len(kernel.body.compiled().signatures) == compiled


def test_operands_of_every_dtype_are_told_apart():
    # What fills is settled at its first call on machine code that takes its arguments' dtypes for granted.
    loop = cpu_loops.Loop(scalar.select(scalar.variable("c"), scalar.variable("x"), 0), ("c", "x"), typed=1)
    out, x = np.empty(3, np.float32), np.float32([1, 2, 3])
    fills = {loop.filling(out, (np.zeros(3, dtype), x)) for dtype in ("bool", "int16")}
    assert len(fills) == 2
    assert loop.filling(out, (np.zeros(3, bool), x)) in fills
    assert loop.filling(out.astype(np.float64), (np.zeros(3, bool), x)) not in fills


def test_broadcast_views_as_inputs():
    row, column, number = normal((1, 6)), normal((4, 1)), normal(())
    for a, b in itertools.permutations([row, column, number], 2):
        x, y = np.broadcast_to(a, (4, 6)), np.broadcast_to(b, (4, 6))
        same(mg.subtract(mg.Tensor(x), mg.Tensor(y)).numpy(), x - y)
        same(mg.subtract(mg.Tensor(x[:, ::2]), mg.Tensor(y[::-1, ::2])).numpy(), x[:, ::2] - y[::-1, ::2])
    empty = np.broadcast_to(np.zeros((1, 0)), (3, 0))
    same(mg.exp(mg.Tensor(empty)).numpy(), np.exp(empty))


def test_results_are_contiguous_and_fresh():
    x = mg.Tensor(np.asfortranarray(normal((3, 4))))
    y = mg.negative(x)
    assert y._data.flags.c_contiguous
    assert not np.shares_memory(y._data, x._data)


def test_large_views_that_repeat_or_run_backwards():
    row, square = normal((1, 512), "float32"), normal((512, 512), "float32")
    assert square.size > cpu.PARALLEL_WORK
    x, y = np.broadcast_to(row, square.shape), square[::-1, ::-1]
    for a, b in [(x, square), (square, x), (y, square), (x, y), (x, x)]:
        same(mg.subtract(mg.Tensor(a), mg.Tensor(b)).numpy(), a - b)


# Gradients


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_gradients_are_summed_over_what_was_broadcast(a, b):
    x, y = normal(a), normal(b)
    w = normal(np.broadcast_shapes(a, b))
    full = np.broadcast_shapes(a, b)

    def summed(g, shape):
        for _ in range(len(full) - len(shape)):
            g = g.sum(0)
        for axis, n in enumerate(shape):
            if n == 1:
                g = g.sum(axis, keepdims=True)
        return np.asarray(g)

    dx, dy = gradients(mg.multiply, x, y, weights=w)
    assert (dx.shape, dy.shape) == (a, b)
    np.testing.assert_allclose(dx, summed(w * y, a), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dy, summed(w * x, b), rtol=1e-13, atol=1e-13)
    if 0 in full:
        assert not np.isnan(dx).any()
        assert (dx == 0).all()
    dx, dy = gradients(mg.subtract, x, y, weights=w)
    np.testing.assert_allclose(dx, summed(w, a), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dy, -summed(w, b), rtol=1e-13, atol=1e-13)


def test_gradients_of_strided_cotangents():
    x, y, w = normal((4, 6)), normal((4, 6)), normal((6, 4))
    (dx, dy) = (
        mg.vjp(mg.multiply, mg.tensor(x), mg.tensor(y))[1](ct)
        for ct in (mg.Tensor(w.T), mg.Tensor(np.broadcast_to(w[0, 0], (4, 6))))
    )
    np.testing.assert_array_equal(dx[0].numpy(), w.T * y)
    np.testing.assert_array_equal(dy[1].numpy(), w[0, 0] * x)


def test_forward_mode_broadcasts_tangents():
    x, y = normal((3, 1)), normal((1, 4))
    tx, ty = normal((3, 1)), normal((1, 4))
    value, tangent = mg.jvp(mg.multiply, [mg.tensor(x), mg.tensor(y)], [mg.tensor(tx), mg.tensor(ty)])
    np.testing.assert_array_equal(value.numpy(), x * y)
    np.testing.assert_allclose(tangent.numpy(), tx * y + x * ty, rtol=1e-14)
    _, tangent = mg.jvp(lambda v: mg.add(v, mg.tensor(y)), [mg.tensor(x)], [mg.tensor(tx)])
    np.testing.assert_array_equal(tangent.numpy(), np.broadcast_to(tx, (3, 4)))


def test_comparisons_carry_no_gradient():
    x = mg.tensor([1.0, -1.0], requires_grad=True)
    for f in (mg.greater, mg.less, mg.equal, mg.not_equal, mg.greater_equal, mg.less_equal):
        y = f(x, 0.0)
        assert y.dtype == np.bool_
        assert not y.requires_grad


@pytest.mark.parametrize(
    ("function", "derivatives"),
    [
        (mg.exp, [np.exp] * 3),
        (
            mg.tanh,
            [
                lambda v: 1 - np.tanh(v) ** 2,
                lambda v: -2 * np.tanh(v) * (1 - np.tanh(v) ** 2),
                lambda v: (6 * np.tanh(v) ** 2 - 2) * (1 - np.tanh(v) ** 2),
            ],
        ),
        (lambda x: x * x * x / 6, [lambda v: v * v / 2, lambda v: v, lambda v: 1 + 0 * v]),
        (mg.log, [lambda v: 1 / v, lambda v: -1 / v**2, lambda v: 2 / v**3]),
    ],
)
def test_derivatives_to_third_order(function, derivatives):
    v = np.array([0.3, 0.9, 1.7])
    f = function
    for derivative in derivatives:
        f = mg.grad(lambda x, f=f: f(x).sum())
        np.testing.assert_allclose(f(mg.tensor(v)).numpy(), derivative(v), rtol=1e-13)
