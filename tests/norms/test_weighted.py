"""Weighted moments: counts are repetitions, weights of any shape, gradients to x and to the weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ShapeError


def expected(x, w, axes):
    x, w = x.astype(np.longdouble), np.broadcast_to(w, x.shape).astype(np.longdouble)
    mean = (w * x).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)
    return mean, (w * (x - mean) ** 2).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize(
    ("shape", "weights", "axes"),
    [
        ((5, 3), (5, 1), 0),
        ((5, 3), (3,), (1,)),
        ((4, 3, 2, 5), (4, 1, 1, 1), (0, 1, 2)),
        ((4, 5, 3, 2), (4, 1, 3, 1), (0, 2, 3)),
        ((2, 3, 4, 2, 5), (3, 1, 2, 1), (0, 2, 4)),
        ((2, 3), (), None),
    ],
)
def test_moments_of_any_shape(shape, weights, axes, keepdims):
    rng = np.random.default_rng(0)
    x, w = 3 + rng.standard_normal(shape), np.asarray(rng.random(weights)) + 0.1
    over = tuple(range(len(shape))) if axes is None else axes
    got = norms.weighted_moments(x, axes, w, keepdims=keepdims)
    for g, want in zip(got, expected(x, w, over)):
        want = want if keepdims else want.squeeze(over)
        assert g.shape == want.shape
        np.testing.assert_allclose(g.numpy(), want.astype(float), rtol=1e-13)


def test_counts_are_repetitions():
    rng = np.random.default_rng(1)
    x, counts = rng.standard_normal((6, 4)), np.array([3, 0, 1, 2, 5, 0])
    mean, var = norms.weighted_moments(x, 0, counts[:, None])
    repeated = np.repeat(x, counts, 0)
    np.testing.assert_allclose(mean.numpy(), repeated.mean(0), rtol=1e-12)
    np.testing.assert_allclose(var.numpy(), repeated.var(0), rtol=1e-12)


def test_large_mean_and_small_spread_keep_their_digits():
    rng = np.random.default_rng(2)
    x = (1e6 + rng.standard_normal((4096, 3))).astype(np.float32)
    w = rng.random((4096, 1)).astype(np.float32)
    mean, var = norms.weighted_moments(x, 0, w)
    want_mean, want_var = expected(x, w, 0)
    np.testing.assert_array_equal(mean.numpy(), want_mean[0].astype(np.float32))
    np.testing.assert_allclose(var.numpy(), want_var[0].astype(float), rtol=2e-7)


def test_a_constant_group_has_no_variance_at_all():
    w = np.random.default_rng(0).random((100, 1))
    mean, var = norms.weighted_moments(np.full((100, 2), [0.1, -7.7e5]), 0, w)
    np.testing.assert_allclose(mean.numpy(), [0.1, -7.7e5], rtol=1e-15)
    assert (var.numpy() >= 0).all()
    assert (var.numpy() <= 1e-28 * np.array([0.01, 6e11])).all()


def test_gradients_to_x_and_weights_to_second_order():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((4, 3, 2)), 0.3 + rng.random((4, 1, 1))
    mg.gradcheck.check(lambda x, w: norms.weighted_moments(x, (0, 2), w), [x, w]).require()
    mg.gradcheck.check(lambda x, w: norms.weighted_moments(x, (0, 2), w)[1], [x, w]).require()
    mg.gradcheck.check(lambda x: norms.weighted_moments(x, (0, 2), w)[0], [x]).require()


def test_gradient_of_the_kernel_against_the_formula_in_float32():
    rng = np.random.default_rng(4)
    for shape, weights, axes in [
        ((9, 5, 7, 3), (9, 1, 1, 1), (0, 1, 2)),
        ((9, 5, 7, 3), (9, 1, 7, 3), (0, 2, 3)),
        ((3, 2, 5, 4, 2), (3, 1, 5, 1, 1), (0, 2, 4)),
        ((600, 40), (600, 1), (0,)),
        ((600, 40), (600, 40), (1,)),
    ]:
        x, w = rng.standard_normal(shape).astype("f4"), rng.random(weights).astype("f4")
        wide, full = x.astype(float), np.broadcast_to(w, shape).astype(float)
        total = full.sum(axes, keepdims=True)
        mean = (full * wide).sum(axes, keepdims=True) / total
        cts = [rng.standard_normal(mean.squeeze(axes).shape) for _ in range(2)]
        standing = [c.reshape(mean.shape) for c in cts]
        want = full / total * (standing[0] + 2 * standing[1] * (wide - mean))
        _, pull = mg.vjp(lambda x, a=axes, w=w: norms.weighted_moments(x, a, w), mg.Tensor(x))
        got = pull(tuple(mg.tensor(c.astype("f4")) for c in cts))[0]
        np.testing.assert_allclose(got.numpy(), want, rtol=2e-5, atol=1e-6 * np.abs(want).max())


def test_half_inputs_are_computed_in_float32():
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float16)
    mean, var = norms.weighted_moments(x, 0, np.ones((50, 1)))
    assert mean.dtype == np.float16
    np.testing.assert_array_equal(mean.numpy(), x.astype(np.float64).mean(0).astype(np.float16))
    np.testing.assert_array_equal(var.numpy(), x.astype(np.float64).var(0).astype(np.float16))


def test_bad_weights():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ShapeError, match=r"weights has shape \(4,\), expected what broadcasts to \(4, 3\)"):
        norms.weighted_moments(x, 0, np.ones(4))
    with pytest.raises(ShapeError, match=r"weights has shape \(1, 1, 1\), expected"):
        norms.weighted_moments(x, 0, np.ones((1, 1, 1)))
    with pytest.raises(ArgumentError, match=r"add up to 0\.0 in 3 of 3 groups, expected a positive sum"):
        norms.weighted_moments(x, 0, np.zeros((4, 1)))
    with pytest.raises(ArgumentError, match="in 1 of 3 groups"):
        norms.weighted_moments(x, 0, np.eye(4, 3) * [1, 0, 1])
    empty = norms.weighted_moments(np.empty((0, 3)), 0, np.empty((0, 1)))
    assert [t.tolist() for t in empty] == [[0.0] * 3] * 2


def test_bits_do_not_depend_on_threads():
    import numba

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4096, 96)).astype("f4"), rng.random((4096, 1)).astype("f4")
    ct = tuple(mg.tensor(rng.standard_normal(96).astype("f4")) for _ in range(2))

    def run():
        moments, pull = mg.vjp(lambda x: norms.weighted_moments(x, 0, w), mg.Tensor(x))
        return b"".join(t.numpy().tobytes() for t in (*moments, *pull(ct)))

    before = numba.get_num_threads()
    try:
        results = set()
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            results.add(run())
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape_axes_and_layout(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=5)))
    axes = tuple(a for a in range(len(shape)) if data.draw(st.booleans()))
    spanned = tuple(n if data.draw(st.booleans()) else 1 for n in shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    order = data.draw(st.permutations(range(len(shape))))
    back = np.argsort(order) if order else ()
    x = np.asarray(rng.standard_normal([shape[a] for a in order])).transpose(back)
    w = np.asarray(rng.random([spanned[a] for a in order])).transpose(back) + 0.1
    got = norms.weighted_moments(x, axes, w, keepdims=True)
    for g, want in zip(got, expected(x, w, axes)):
        np.testing.assert_allclose(g.numpy(), want.astype(float), rtol=1e-11, atol=1e-15)
