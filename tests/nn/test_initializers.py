"""Initializers: shapes, dtypes, moments, limits, the generator they draw from, and bad arguments."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.nn import initializers

DRAWN = {
    "random_normal": initializers.random_normal(0.5, 2.0),
    "random_uniform": initializers.random_uniform(-1.0, 3.0),
    "truncated_normal": initializers.truncated_normal(0.5, 2.0),
    "glorot_uniform": initializers.glorot_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "he_uniform": initializers.he_uniform(),
    "he_normal": initializers.he_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "orthogonal": initializers.orthogonal(),
}


def draw(initializer, shape, dtype="float32", seed=3):
    return initializer(shape, np.dtype(dtype), mg.random.Generator(seed))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("initializer", "value"), [("zeros", 0.0), ("ones", 1.0), (initializers.constant(-2.5), -2.5)])
def test_constant_values(initializer, value, dtype):
    array = draw(initializers.get(initializer), (3, 2), dtype)
    assert array.dtype == dtype
    assert array.tolist() == [[value] * 2] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_from_the_generator_given(name, dtype):
    before = mg.random.default_generator.get_state()
    array = draw(DRAWN[name], (6, 5), dtype)
    assert isinstance(array, np.ndarray)
    assert array.shape == (6, 5)
    assert array.dtype == dtype
    assert array.flags.writeable
    np.testing.assert_array_equal(array, draw(DRAWN[name], (6, 5), dtype))
    assert (array != draw(DRAWN[name], (6, 5), dtype, seed=4)).all()
    assert mg.random.default_generator.get_state() == before
    assert len(np.unique(array)) == array.size


def test_without_a_generator_the_default_one_moves():
    mg.random.seed(9)
    first = initializers.random_normal()((4,), np.dtype("float32"), None)
    assert (first != initializers.random_normal()((4,), np.dtype("float32"), None)).all()
    mg.random.seed(9)
    np.testing.assert_array_equal(first, initializers.random_normal()((4,), np.dtype("float32"), None))


def moments_of(array):
    array = array.astype(np.float64)
    return array.mean(), array.var()


def test_moments_and_limits():
    n = 200 * 300
    mean, var = moments_of(draw(initializers.random_normal(0.5, 2.0), (200, 300)))
    assert abs(mean - 0.5) < 5 * 2 / math.sqrt(n)
    assert abs(var / 4 - 1) < 5 * math.sqrt(2 / n)
    uniform = draw(initializers.random_uniform(-1.0, 3.0), (200, 300))
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert abs(moments_of(uniform)[1] / (16 / 12) - 1) < 0.03
    truncated = draw(initializers.truncated_normal(0.5, 2.0), (200, 300))
    assert np.abs(truncated - 0.5).max() <= 4.000001
    assert abs(moments_of(truncated)[1] / (4 * 0.7737413) - 1) < 0.03


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (initializers.glorot_uniform(), 2 / (150 + 400)),
        (initializers.glorot_normal(), 2 / (150 + 400)),
        (initializers.he_uniform(), 2 / 150),
        (initializers.he_normal(), 2 / 150),
        (initializers.lecun_uniform(), 1 / 150),
        (initializers.lecun_normal(), 1 / 150),
        (initializers.variance_scaling(3.0, "fan_out", "normal"), 3 / 400),
        (initializers.variance_scaling(3.0, "fan_out", "uniform"), 3 / 400),
    ],
)
@pytest.mark.parametrize("shape", [(150, 400), (3, 5, 10, 400 // 15)])
def test_variance_scales_with_the_fans(initializer, variance, shape):
    array = draw(initializer, shape)
    if len(shape) == 4:  # fans 15 times inputs and outputs: 150 and 390
        variance = {2 / 550: 2 / 540, 3 / 400: 3 / 390}.get(variance, variance)
    mean, var = moments_of(array)
    assert abs(mean) < 5 * math.sqrt(variance / array.size)
    assert abs(var / variance - 1) < 5 * math.sqrt(2 / array.size)


def test_one_axis_has_its_length_as_both_fans():
    for initializer in (initializers.he_uniform(), initializers.variance_scaling(2.0, "fan_out", "uniform")):
        limit = math.sqrt(3 * 2 / 5000)
        largest = np.abs(draw(initializer, (5000,))).max()
        assert 0.99 * limit < largest <= limit * (1 + 1e-6)
    assert draw(initializers.he_normal(), ()).shape == ()
    assert draw(initializers.he_normal(), (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (2, 3, 4), (0, 3), (3, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal(shape, dtype):
    matrix = draw(initializers.orthogonal(gain=2.0), shape, dtype).astype(np.float64)
    assert matrix.shape == shape
    matrix = matrix.reshape(-1, shape[-1])
    small = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    if small.size and min(matrix.shape):
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=4 * tolerance)


def test_orthogonal_is_uniform_over_signs():
    diagonals = [np.diag(draw(initializers.orthogonal(), (3, 3), seed=s)) for s in range(60)]
    assert 50 < np.sum(np.array(diagonals) > 0) < 130


def test_get():
    function = initializers.get("glorot_uniform")
    np.testing.assert_array_equal(draw(function, (3, 4)), draw(initializers.glorot_uniform(), (3, 4)))
    assert initializers.get(function) is function


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: initializers.get("gloro"), ArgumentError, "'gloro' is unknown, expected one of .*'glorot_uniform'"),
        (lambda: initializers.get(3), ArgumentTypeError, "got 3, expected a name or a function"),
        (lambda: initializers.variance_scaling(mode="fan"), ArgumentError, "mode is 'fan'"),
        (lambda: initializers.variance_scaling(distribution="beta"), ArgumentError, "distribution is 'beta'"),
        (lambda: initializers.variance_scaling(0.0), ArgumentError, "scale is 0.0, expected a positive number"),
        (lambda: initializers.variance_scaling(math.nan), ArgumentError, "scale is nan"),
        (lambda: draw(initializers.orthogonal(), (3,)), ShapeError, r"orthogonal: shape is \(3,\)"),
        (lambda: draw(initializers.random_normal(0.0, -1.0), (3,)), ArgumentError, "std is -1"),
        (lambda: draw(initializers.random_uniform(1.0, 0.0), (3,)), ArgumentError, "low"),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()
