"""What every normalization promises, of layer, RMS, group, instance and filter response normalization."""

import numpy as np
import pytest
from norm_cases import CASES, close

import minigrad as mg

CENTRED = [name for name, case in CASES.items() if case.centred]
COMBINATIONS = [(True, True), (True, False), (False, True), (False, False)]


def gradients(case, x, gamma, beta, dy, epsilon=0.1):
    """y, and the gradients of those of x, gamma and beta that are there."""
    given = [v for v in (x, gamma, beta) if v is not None]

    def function(*values):
        values = iter(values)
        return case.function(*[None if v is None else next(values) for v in (x, gamma, beta)], epsilon=epsilon)

    y, pull = mg.vjp(function, *[mg.Tensor(v) for v in given])
    return y.numpy(), [g.numpy() for g in pull(mg.Tensor(dy))]


@pytest.mark.parametrize(("scale", "shift"), COMBINATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_with_scale_and_shift_in_every_combination(name, dtype, scale, shift):
    case = CASES[name]
    x, gamma, beta = case.draw(dtype=dtype)
    gamma, beta = gamma if scale else None, beta if shift else None
    dy = np.random.default_rng(1).standard_normal(case.shape).astype(dtype)
    y, found = gradients(case, x, gamma, beta, dy)
    close(y, case.expected(x, gamma, beta), dtype)
    dx, dgamma, dbeta = case.expected_gradients(dy, x, gamma)
    for got, want in zip(found, [dx, *[dgamma] * scale, *[dbeta] * shift]):
        close(got, want, dtype)


@pytest.mark.parametrize(("scale", "shift"), COMBINATIONS)
@pytest.mark.parametrize(
    "name", ["layer", "rms, several axes", "group NHWC", "instance NCHW", "filter response of 2-D"]
)
def test_second_order_with_scale_and_shift_in_every_combination(name, scale, shift):
    case = CASES[name]
    x, gamma, beta = case.draw(seed=2)
    args = [x, gamma if scale else None, beta if shift else None]
    mg.gradcheck.check(case.function, args, second_on="reference").require()


@pytest.mark.parametrize("name", CASES)
def test_gamma_of_zero_is_right_to_the_second_order(name):
    case = CASES[name]
    x, gamma, beta = case.draw(seed=3)
    gamma.reshape(-1)[::2] = 0
    mg.gradcheck.check(case.function, [x, gamma, beta], second_on="reference").require()
    everywhere = np.zeros_like(gamma)
    y, (dx, dgamma, _) = gradients(case, x, everywhere, beta, np.ones(case.shape) + x)
    np.testing.assert_array_equal(y, case.expected(np.zeros(case.shape), None, beta).astype(float))
    np.testing.assert_array_equal(dx, 0)
    close(dgamma, case.expected_gradients(np.ones(case.shape) + x, x)[1])


@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
@pytest.mark.parametrize("value", [0.1, 1e6, 1e-30, -7.7, 1e30])
@pytest.mark.parametrize("name", CENTRED)
def test_a_constant_group_gives_exactly_beta(name, value, epsilon):
    case = CASES[name]
    _, gamma, beta = case.draw(dtype=np.float32)
    x = np.full(case.shape, value, np.float32)
    y, found = gradients(case, x, gamma, beta, case.draw(1, np.float32)[0], epsilon)
    np.testing.assert_array_equal(y.reshape(case.cut), np.broadcast_to(beta.reshape(case.standing), case.cut))
    assert all(np.isfinite(g).all() for g in found)


@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
@pytest.mark.parametrize("name", [name for name in CASES if name not in CENTRED])
def test_a_group_of_zeros_gives_exactly_beta_where_no_mean_is_removed(name, epsilon):
    case = CASES[name]
    _, gamma, beta = case.draw(dtype=np.float32)
    x = np.zeros(case.shape, np.float32)
    y, found = gradients(case, x, gamma, beta, case.draw(1, np.float32)[0], epsilon)
    np.testing.assert_array_equal(y.reshape(case.cut), np.broadcast_to(beta.reshape(case.standing), case.cut))
    assert all(np.isfinite(g).all() for g in found)


def largest_error(got, want):
    return np.max(np.abs(got - want)) / np.max(np.abs(want))


@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
@pytest.mark.parametrize(("mean", "spread"), [(1e6, 1), (0, 1), (-1e4, 0.01), (0, 1e30), (0, 1e-30), (1e30, 1e28)])
@pytest.mark.parametrize("name", CASES)
def test_large_means_and_extreme_scales_keep_float32s_digits(name, mean, spread, epsilon):
    case = CASES[name]
    if spread == 1e-30 and epsilon == 0 and name == "filter response of 2-D":
        pytest.skip("a group of one element has no slope: its gradient is a difference of equals")
    rng = np.random.default_rng(4)
    x = (mean + spread * rng.standard_normal(case.shape)).astype(np.float32)
    dy = rng.standard_normal(case.shape).astype(np.float32)
    gamma = rng.standard_normal(case.parameters).astype(np.float32)
    y, (dx, dgamma) = gradients(case, x, gamma, None, dy, epsilon)
    assert largest_error(y, case.expected(x, gamma, None, epsilon)) <= 5e-7
    want_dx, want_dgamma, _ = case.expected_gradients(dy, x, gamma, epsilon)
    assert largest_error(dgamma, want_dgamma) <= 5e-7
    if name != "filter response of 2-D":
        assert largest_error(dx, want_dx) <= 5e-7


LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "reversed within": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "strided": lambda a: np.repeat(a, 2, -1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_results_do_not_depend_on_the_memory_layout(name, layout):
    case, change = CASES[name], LAYOUTS[layout]
    x, gamma, beta = case.draw(dtype=np.float32)
    dy = case.draw(1, np.float32)[0]
    want, want_gradients = gradients(case, x, gamma, beta, dy)
    got, got_gradients = gradients(case, change(x), change(gamma), change(beta), change(dy))
    np.testing.assert_array_equal(got, want)
    for a, b in zip(got_gradients, want_gradients):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_broadcast_inputs_and_cotangents(name):
    case = CASES[name]
    _, gamma, beta = case.draw(dtype=np.float32)
    row = case.draw(1, np.float32)[0][-1:]
    x, dy = np.broadcast_to(row, case.shape), np.broadcast_to(np.float32(1.5), case.shape)
    want, want_gradients = gradients(case, np.array(x), gamma, beta, np.array(dy))
    got, got_gradients = gradients(case, x, gamma, beta, dy)
    np.testing.assert_array_equal(got, want)
    for a, b in zip(got_gradients, want_gradients):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_one_element(name):
    case = CASES[name]
    if name.startswith("group"):
        pytest.skip("several groups need several channels")
    shape = (1,) * len(case.shape)
    one = (1,) * len(case.parameters)
    x, beta = np.full(shape, 3.0, np.float32), np.full(one, 0.7, np.float32)
    gamma = np.full(one, 2.0, np.float32)
    y, (dx, dgamma, dbeta) = gradients(case, x, gamma, beta, np.full(shape, 0.5, np.float32), 0.0)
    want = 0.7 if case.centred else 2.7
    np.testing.assert_array_equal(y, np.full(shape, want, np.float32))
    np.testing.assert_array_equal(dx, np.zeros(shape))
    np.testing.assert_array_equal(dgamma, np.full(one, 0.0 if case.centred else 0.5))
    np.testing.assert_array_equal(dbeta, np.full(one, 0.5))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.parameters != case.shape])
def test_an_empty_batch(name):
    case = CASES[name]
    if name == "layer, axes apart":
        pytest.skip("the batch is normalized over")
    _, gamma, beta = case.draw(dtype=np.float32)
    x = np.empty((0, *case.shape[1:]), np.float32)
    y, (dx, dgamma, dbeta) = gradients(case, x, gamma, beta, x)
    assert y.shape == dx.shape == x.shape
    np.testing.assert_array_equal(dgamma, np.zeros(case.parameters))
    np.testing.assert_array_equal(dbeta, np.zeros(case.parameters))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", CASES)
def test_nan_and_infinity_stay_in_their_group(name, bad):
    case = CASES[name]
    x, gamma, beta = case.draw(dtype=np.float32)
    dy = case.draw(1, np.float32)[0]
    y, (dx, _, _) = gradients(case, x, gamma, beta, dy)
    spoilt = x.copy()
    spoilt.reshape(-1)[x.size // 2] = bad
    place = np.zeros(case.shape, bool)
    place.reshape(-1)[x.size // 2] = True
    group = np.broadcast_to(place.reshape(case.cut).any(case.axes, keepdims=True), case.cut).reshape(case.shape)
    got, (got_dx, _, _) = gradients(case, spoilt, gamma, beta, dy)
    assert np.isnan(got[place]).all()
    assert np.isnan(got_dx[place]).all()
    if np.isnan(bad) or case.centred:
        assert np.isnan(got[group]).all()
    np.testing.assert_array_equal(got[~group], y[~group])
    np.testing.assert_array_equal(got_dx[~group], dx[~group])


@pytest.mark.parametrize("name", ["layer", "rms", "group NHWC", "instance NCHW", "filter response NHWC"])
def test_integers_and_half_floats(name):
    case = CASES[name]
    whole = np.arange(np.prod(case.shape)).reshape(case.shape) % 13
    close(case.function(whole), case.expected(whole))
    x = case.draw(dtype=np.float16)[0]
    _, gamma, beta = case.draw(dtype=np.float32)
    got = case.function(x, gamma, beta).numpy()
    close(got, case.expected(x, gamma, beta), np.float16, units=1)


@pytest.mark.parametrize("name", ["layer", "rms", "group NHWC", "instance NHWC"])
def test_bits_do_not_depend_on_threads(name):
    import numba

    case = CASES[name]
    rng = np.random.default_rng(5)
    shape = (512, *case.shape[1:-1], 64)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    gamma, beta = (rng.standard_normal(64).astype(np.float32) for _ in range(2))
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        found.append(gradients(case, x, gamma, beta, dy))
    (y, first), (again, second) = found
    np.testing.assert_array_equal(y, again)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
