"""Local response normalization against loops over channels, in every layout and at the windows' edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, DTypeError, ShapeError


def bases(x, axis, radius, bias, alpha):
    """bias + α·Σ x², by loops."""
    moved = np.moveaxis(x.astype(np.longdouble), axis, -1)
    d = np.full(moved.shape, bias, np.longdouble)
    channels = moved.shape[-1]
    for c in range(channels):
        for other in range(max(0, c - radius), min(channels, c + radius + 1)):
            d[..., c] += np.longdouble(alpha) * moved[..., other] ** 2
    return np.moveaxis(d, -1, axis)


def exact(x, axis=-1, radius=5, bias=1.0, alpha=1.0, beta=0.5):
    return x / bases(x, axis, radius, bias, alpha) ** np.longdouble(beta)


def slopes(dy, x, axis, radius, bias, alpha, beta):
    """dx, by loops over pairs of channels."""
    d = np.moveaxis(bases(x, axis, radius, bias, alpha), axis, -1)
    moved, ct = (np.moveaxis(a.astype(np.longdouble), axis, -1) for a in (x, dy))
    dx = ct * d ** np.longdouble(-beta)
    for c in range(moved.shape[-1]):
        for other in range(max(0, c - radius), min(moved.shape[-1], c + radius + 1)):
            through = ct[..., other] * moved[..., other] * d[..., other] ** np.longdouble(-beta - 1)
            dx[..., c] -= 2 * np.longdouble(alpha) * np.longdouble(beta) * moved[..., c] * through
    return np.moveaxis(dx, -1, axis)


CASES = {
    "NHWC": ((2, 3, 4, 7), -1, 2),
    "NCHW": ((2, 7, 3, 4), 1, 2),
    "first axis": ((6, 5), 0, 1),
    "a vector": ((9,), 0, 3),
    "one channel": ((4, 1), 1, 5),
    "no neighbours": ((3, 5), 1, 0),
    "more than there are": ((3, 5), 1, 50),
    "rows in several tiles": ((700, 67), 1, 5),
    "stretches in several tiles": ((3, 70, 301), 1, 4),
    "more channels than a tile": ((2, 1301), 1, 7),
    "a few channels, many rows": ((5000, 3), 1, 1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.3])
def test_values_and_gradients_in_float32_keep_its_digits(case, beta):
    shape, axis, radius = CASES[case]
    rng = np.random.default_rng(0)
    x, dy = (3 * rng.standard_normal(shape).astype("f4") for _ in range(2))
    options = {"bias": 0.5, "alpha": 0.3, "beta": beta}
    y, pull = mg.vjp(lambda x: norms.local_response_normalization(x, radius, axis=axis, **options), mg.Tensor(x))
    want = exact(x, axis, radius, **options)
    assert y.dtype == np.float32
    assert np.max(np.abs(y.numpy() - want)) <= 1.2e-7 * np.max(np.abs(want))
    dx = slopes(dy, x, axis, radius, **options)
    assert np.max(np.abs(pull(mg.Tensor(dy))[0].numpy() - dx)) <= 3e-7 * np.max(np.abs(dx))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4).flatmap(
        lambda shape: st.tuples(st.just(tuple(shape)), st.integers(-len(shape), len(shape) - 1))
    ),
    st.integers(0, 9),
    st.sampled_from([0.5, 0.75, 1.0, 2.0, 0.1]),
    st.integers(0, 1000),
)
def test_any_shape_axis_and_radius(where, radius, beta, seed):
    shape, axis = where
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    y, pull = mg.vjp(lambda x: norms.local_response_normalization(x, radius, 0.7, 0.4, beta, axis), x)
    np.testing.assert_allclose(y.numpy(), exact(x, axis, radius, 0.7, 0.4, beta).astype(float), rtol=2e-15)
    want = slopes(dy, x, axis, radius, 0.7, 0.4, beta).astype(float)
    np.testing.assert_allclose(pull(mg.tensor(dy))[0].numpy(), want, rtol=1e-13, atol=1e-14)


def test_defaults_are_tensorflows():
    x = np.random.default_rng(0).standard_normal((2, 13))
    np.testing.assert_allclose(norms.local_response_normalization(x).numpy(), exact(x).astype(float), rtol=1e-14)
    np.testing.assert_allclose(norms.LocalResponseNormalization()(x).numpy(), exact(x).astype(float), rtol=1e-14)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("beta", [0.75, 1.7])
def test_derivatives_to_second_order(axis, beta):
    x = np.random.default_rng(1).standard_normal((2, 4, 3))
    mg.gradcheck.check(lambda x: norms.local_response_normalization(x, 1, 0.6, 0.8, beta, axis), [x]).require()


def test_zeros_without_a_bias_stay_zeros():
    x = np.array([[0.0, 0.0, 0.0, 0.0, 2.0]], np.float32)
    y, pull = mg.vjp(lambda x: norms.local_response_normalization(x, 1, bias=0.0), mg.Tensor(x))
    np.testing.assert_array_equal(y.numpy(), [[0, 0, 0, 0, 1]])
    assert np.isfinite(pull(mg.tensor(np.ones((1, 5), np.float32)))[0].numpy()).all()


def test_nan_stays_within_its_windows():
    x = np.ones((2, 9), np.float32)
    x[1, 4] = np.nan
    y = norms.local_response_normalization(x, 2).numpy()
    np.testing.assert_array_equal(np.isnan(y), [[False] * 9, [False] * 2 + [True] * 5 + [False] * 2])


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: np.repeat(a, 2, 1)[:, ::2]]
)
def test_the_memory_layout_does_not_matter(change):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((6, 11)).astype("f4"), rng.standard_normal((6, 11)).astype("f4")

    def run(x, dy):
        y, pull = mg.vjp(lambda x: norms.local_response_normalization(x, 2), mg.Tensor(x))
        return y.numpy(), pull(mg.Tensor(dy))[0].numpy()

    for got, want in zip(run(change(x), change(dy)), run(x, dy), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4)])
def test_empty(shape):
    assert norms.local_response_normalization(np.empty(shape), axis=1).shape == shape


def test_bits_do_not_depend_on_threads():
    import numba

    rng = np.random.default_rng(0)
    results = set()
    before = numba.get_num_threads()
    x, dy = rng.standard_normal((3, 70, 1301)).astype("f4"), rng.standard_normal((3, 70, 1301)).astype("f4")
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            y, pull = mg.vjp(lambda x: norms.local_response_normalization(x, 3, axis=1), mg.Tensor(x))
            results.add((y.numpy().tobytes(), pull(mg.Tensor(dy))[0].numpy().tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


def test_bad_arguments_are_named():
    x = np.ones((2, 3))
    lrn = norms.local_response_normalization
    with pytest.raises(ShapeError, match="local_response_normalization: axis 2 is out of range"):
        lrn(x, axis=2)
    with pytest.raises(ShapeError, match=r"axis is \(0, 1\), expected one axis"):
        lrn(x, axis=(0, 1))
    for bad in (-1, 1.5, True):
        with pytest.raises(ArgumentError, match=f"depth_radius is {bad}, expected an integer of at least 0"):
            lrn(x, bad)
    with pytest.raises(ArgumentError, match="alpha is -1, expected a finite number of at least 0"):
        lrn(x, alpha=-1)
    with pytest.raises(ArgumentError, match="beta is nan, expected a finite number"):
        norms.LocalResponseNormalization(beta=float("nan"))
    with pytest.raises(DTypeError, match="x has dtype"):
        norms.local_response.local_response_p(mg.tensor([1, 2]), axis=0, depth_radius=1, bias=1.0, alpha=1.0, beta=0.5)


def test_the_layer_has_no_variables_and_casts_integers():
    layer = norms.LocalResponseNormalization(2, 2.0, 1e-4, 0.75, axis=1)
    x = np.arange(30).reshape(2, 5, 3)
    y = layer(x)
    assert y.dtype == np.float32
    assert layer.variables == {}
    np.testing.assert_allclose(y.numpy(), exact(x.astype("f4"), 1, 2, 2.0, 1e-4, 0.75).astype(float), rtol=1e-6)
