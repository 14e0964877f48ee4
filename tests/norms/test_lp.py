"""Lp normalization against its formula, for every kind of p, any axes, and where derivatives end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, DTypeError, ShapeError

INF = float("inf")
POWERS = [1.0, 2.0, INF, 3.0, 0.5, 1.5]


def norm_of(x, p, axes):
    a = np.abs(x.astype(np.longdouble))
    if p == INF:
        return a.max(axes, keepdims=True, initial=0)
    return (a ** np.longdouble(p)).sum(axes, keepdims=True) ** (1 / np.longdouble(p))


def exact(x, p, axes, epsilon=1e-12):
    return x / np.maximum(norm_of(x, p, axes), epsilon)


def slopes(dy, x, p, axes, epsilon):
    """dx where nothing is 0 and nothing ties."""
    dy, x = dy.astype(np.longdouble), x.astype(np.longdouble)
    n = norm_of(x, p, axes)
    m = np.maximum(n, epsilon)
    share = (np.abs(x) == n) * np.sign(x) if p == INF else np.sign(x) * (np.abs(x) / n) ** np.longdouble(p - 1)
    return dy / m - (n >= epsilon) * (dy * x).sum(axes, keepdims=True) / m**2 * share


AXES = {
    "rows": ((6, 7), (1,)),
    "columns": ((7, 6), (0,)),
    "NCHW channels": ((2, 5, 3, 4), (1,)),
    "two runs": ((2, 3, 4, 5), (1, 3)),
    "a permutation": ((3, 2, 4, 5), (0, 2)),
    "all": ((3, 5), (0, 1)),
    "long rows, shared out": ((2, 40001), (1,)),
    "many columns": ((9, 3001), (0,)),
    "short lines in many rows": ((300, 5, 7), (0, 2)),
}


@pytest.mark.parametrize("case", AXES)
@pytest.mark.parametrize("p", POWERS)
def test_values_and_gradients_in_float32_keep_its_digits(case, p):
    shape, axes = AXES[case]
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    y, pull = mg.vjp(lambda x: norms.lp_normalize(x, p, axes), mg.Tensor(x))
    want = exact(x, p, axes)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), want.astype(float), rtol=2e-7)
    dx = slopes(dy, x, p, axes, 1e-12)
    assert np.max(np.abs(pull(mg.Tensor(dy))[0].numpy() - dx)) <= 2e-7 * np.max(np.abs(dx))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4).flatmap(
        lambda shape: st.tuples(st.just(tuple(shape)), st.sets(st.integers(0, len(shape) - 1)))
    ),
    st.sampled_from([*POWERS, 7.0]),
    st.sampled_from([0.0, 1e-12, 2.0]),
    st.integers(0, 1000),
)
def test_any_shape_and_axes(where, p, epsilon, seed):
    shape, axes = where[0], tuple(sorted(where[1]))
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    y, pull = mg.vjp(lambda x: norms.lp_normalize(x, p, axes, epsilon), x)
    np.testing.assert_allclose(y.numpy(), exact(x, p, axes, epsilon).astype(float), rtol=1e-14)
    want = slopes(dy, x, p, axes, epsilon)
    scale = float(np.max(np.abs(dy) / np.maximum(norm_of(x, p, axes), epsilon)))
    size = max(1.0, float(np.max(norm_of(x, p, axes) / np.abs(x)))) if p < 1 else 1.0  # shares above 1
    np.testing.assert_allclose(
        pull(mg.tensor(dy))[0].numpy(), want.astype(float), rtol=1e-12, atol=1e-13 * scale * size
    )


@pytest.mark.parametrize("p", POWERS)
def test_derivatives_to_second_order(p):
    x = np.array([[0.8, -1.5, 2.5], [-3.3, 0.6, 1.1]])
    mg.gradcheck.check(lambda x: norms.lp_normalize(x, p), [x]).require()
    mg.gradcheck.check(lambda x: norms.lp_normalize(x, p, 0, epsilon=20.0), [x], order=1).require()


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("epsilon", [0.0, 1e-12])
def test_zeros_stay_zeros_with_finite_gradients(p, epsilon):
    x = np.zeros((2, 4), np.float32)
    x[1] = [0.0, 2.0, 0.0, -1.0]
    y, pull = mg.vjp(lambda x: norms.lp_normalize(x, p, epsilon=epsilon), mg.Tensor(x))
    np.testing.assert_array_equal(y.numpy()[0], 0)
    dx = pull(mg.tensor(np.arange(1.0, 9.0, dtype="f4").reshape(2, 4)))[0].numpy()
    assert np.isfinite(dx).all()
    n = float(norm_of(x[1], p, (0,))[0])
    np.testing.assert_allclose(dx[1, [0, 2]], np.array([5, 7]) / n, rtol=1e-6)  # a 0 has no share in the norm


def test_the_largest_share_their_derivative():
    x = np.array([3.0, -3.0, 1.0])
    _, pull = mg.vjp(lambda x: norms.lp_normalize(x, INF), x)
    dy = np.array([1.0, 2.0, 4.0])
    product = (dy * x).sum() / 9  # 1/9
    want = dy / 3 - product * np.array([0.5, -0.5, 0.0])
    np.testing.assert_allclose(pull(mg.tensor(dy))[0].numpy(), want, rtol=1e-14)


def test_below_epsilon_it_is_a_division_and_at_epsilon_the_gradient_still_flows():
    dy = np.array([1.0, 0.0])
    for x, flows in (([0.0, 0.25], False), ([0.0, 0.5], True), ([0.0, 0.75], True)):
        x = np.array(x)
        _, pull = mg.vjp(lambda x: norms.lp_normalize(x, 2, epsilon=0.5), x)
        other = pull(mg.tensor(dy[::-1].copy()))[0].numpy()[1]
        assert other == pytest.approx(0 if flows else 2)


@pytest.mark.parametrize("p", [1.0, 2.0, INF, 3.0, 20.0])
@pytest.mark.parametrize("scale", ["large", "small"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_overflow_and_no_underflow(p, scale, dtype):
    factor = {"float32": {"large": 1e35, "small": 1e-35}, "float64": {"large": 1e300, "small": 1e-290}}[dtype][scale]
    x = (factor * np.random.default_rng(0).standard_normal((3, 17))).astype(dtype)
    got = norms.lp_normalize(x, p, epsilon=0.0).numpy()
    want = exact(x / np.longdouble(factor), p, (1,), 0.0)  # NumPy overflows too
    np.testing.assert_allclose(got, want.astype(float), rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("p", POWERS)
def test_nan_stays_in_its_group(p):
    x = np.ones((3, 40), np.float32)
    x[1, 30] = np.nan
    for axis, a in ((1, x), (0, x.T)):
        y = norms.lp_normalize(a, p, axis).numpy()
        np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(np.isnan(a.sum(axis, keepdims=True)), a.shape))


@pytest.mark.parametrize("p", [2.0, INF, 3.0])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: np.repeat(a, 2, 1)[:, ::2]]
)
def test_the_memory_layout_does_not_matter(change, axis, p):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((6, 21)).astype("f4"), rng.standard_normal((6, 21)).astype("f4")

    def run(x, dy):
        y, pull = mg.vjp(lambda x: norms.lp_normalize(x, p, axis), mg.Tensor(x))
        return y.numpy(), pull(mg.Tensor(dy))[0].numpy()

    for got, want in zip(run(change(x), change(dy)), run(x, dy), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("shape", "axis"), [((0, 3), 0), ((0, 3), 1), ((3, 0), 1), ((), ())])
def test_empty_and_scalar(shape, axis):
    assert norms.lp_normalize(np.ones(shape), axis=axis).shape == shape


def test_bits_do_not_depend_on_threads():
    import numba

    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 70001)).astype("f4"), rng.standard_normal((3, 70001)).astype("f4")
    before, results = numba.get_num_threads(), set()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            found = []
            for axis in (0, 1):
                y, pull = mg.vjp(lambda x, axis=axis: norms.lp_normalize(x, 3.0, axis), mg.Tensor(x))
                found += [y.numpy().tobytes(), pull(mg.Tensor(dy))[0].numpy().tobytes()]
            results.add(tuple(found))
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


def test_bad_arguments_are_named():
    x = np.ones((2, 3))
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"p is .*, expected a positive number"):
            norms.lp_normalize(x, bad)
    with pytest.raises(ArgumentError, match="p is 'two'"):
        norms.lp_normalize(x, "two")
    with pytest.raises(ArgumentError, match="lp_normalize: epsilon is -1"):
        norms.lp_normalize(x, epsilon=-1)
    with pytest.raises(ShapeError, match="lp_normalize: axis 2 is out of range"):
        norms.lp_normalize(x, axis=2)
    with pytest.raises(DTypeError, match="x has dtype complex128"):
        norms.lp_normalize(x.astype(complex))
