"""Elementwise arithmetic: values against NumPy in float32 and float64, accuracy, kinks, ties and edges."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

NAMES = [
    "abs",
    "add",
    "clip",
    "cos",
    "div",
    "equal",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "greater",
    "greater_equal",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "pow",
    "rsqrt",
    "sign",
    "sin",
    "sqrt",
    "square",
    "sub",
    "where",
]


def wide_range(dtype, positive=False):
    """Values of all magnitudes, subnormal ones, both zeros, infinities and NaN."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(3)
    with np.errstate(under="ignore"):
        a = np.exp2(rng.uniform(info.minexp - info.nmant, info.maxexp, 3000)).astype(dtype)
    a = np.concatenate([a, rng.uniform(0, 20, 3000).astype(dtype), rng.uniform(0.5, 2, 500).astype(dtype)])
    special = [0, info.tiny, info.smallest_subnormal, info.max, 1, np.inf, np.nan]
    a = np.concatenate([a, np.array(special, dtype)])
    return a if positive else np.concatenate([a, -a])


def ulps(got, expected):
    """The distance to a wider reference in units of the last place of the dtype of `got`; equal specials are 0."""
    rounded = expected.astype(got.dtype)
    assert np.array_equal(np.isnan(got), np.isnan(rounded))
    infinite = np.isinf(got) | np.isinf(rounded)
    np.testing.assert_array_equal(got[infinite], rounded[infinite])
    usual = np.isfinite(got) & np.isfinite(rounded)
    unit = np.spacing(np.abs(rounded[usual])).astype(np.longdouble)
    return np.max(np.abs(got[usual].astype(np.longdouble) - expected[usual].astype(np.longdouble)) / unit)


def apply(function, *arrays):
    return function(*[mg.tensor(a) for a in arrays]).numpy()


UNARY = [  # function, reference, largest error in ulps: 0.5 for what IEEE rounds correctly
    (mg.negative, np.negative, 0),
    (mg.absolute, np.abs, 0),
    (mg.sign, np.sign, 0),
    (mg.floor, np.floor, 0),
    (mg.square, np.square, 0.5),
    (mg.sqrt, np.sqrt, 0.5),
    (mg.rsqrt, lambda v: 1 / np.sqrt(v), 1.5),
    (mg.exp, np.exp, 1),
    (mg.expm1, np.expm1, 2),
    (mg.log, np.log, 1),
    (mg.log1p, np.log1p, 1),
]


@pytest.mark.parametrize(("function", "reference", "bound"), UNARY, ids=lambda f: getattr(f, "__name__", ""))
@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float64"), ("float64", "longdouble")])
def test_accuracy_over_the_whole_range(function, reference, bound, dtype, wide):
    x = wide_range(dtype)
    with np.errstate(all="ignore"):
        expected = reference(x.astype(wide))
        assert ulps(apply(function, x), expected) <= bound + 0.02


@pytest.mark.parametrize(("function", "reference"), [(mg.sin, np.sin), (mg.cos, np.cos)])
@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float64"), ("float64", "longdouble")])
def test_sine_and_cosine(function, reference, dtype, wide):
    x = np.random.default_rng(0).uniform(-1000, 1000, 5000).astype(dtype)
    assert ulps(apply(function, x), reference(x.astype(wide))) <= 1.02
    with np.errstate(all="ignore"):
        assert np.isnan(apply(function, np.array([np.inf, -np.inf, np.nan], dtype))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_error_function(dtype):
    import math

    x = np.concatenate([np.random.default_rng(0).uniform(-7, 7, 3000), [0.0, 1e-30, np.inf, -np.inf]]).astype(dtype)
    expected = np.array([math.erf(v) for v in x.tolist()])
    assert ulps(apply(mg.erf, x), expected) <= 3.1
    complement = np.array([math.erfc(v) for v in x.tolist()])
    assert ulps(apply(mg.erfc, x), complement) <= 6.7
    assert np.isnan(apply(mg.erf, np.array([np.nan], dtype))).all()


BINARY = [
    (mg.add, np.add),
    (mg.subtract, np.subtract),
    (mg.multiply, np.multiply),
    (mg.divide, np.divide),
    (mg.maximum, np.maximum),
    (mg.minimum, np.minimum),
    (mg.greater, np.greater),
    (mg.greater_equal, np.greater_equal),
    (mg.less, np.less),
    (mg.less_equal, np.less_equal),
    (mg.equal, np.equal),
    (mg.not_equal, np.not_equal),
]


@pytest.mark.parametrize(("function", "reference"), BINARY, ids=lambda f: getattr(f, "__name__", ""))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_numpys(function, reference, dtype):
    rng = np.random.default_rng(1)
    x = wide_range(dtype)
    y = rng.permutation(x)
    y[:100] = x[:100]
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 5], dtype)
    a, b = (m.ravel() for m in np.meshgrid(special, special))
    x, y = np.concatenate([x, a]), np.concatenate([y, b])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(apply(function, x, y), reference(x, y))


def test_operators():
    a, b = np.array([1.5, -2.0, 3.0]), np.array([2.0, 3.0, -1.0])
    x, y = mg.tensor(a), mg.tensor(b)
    pairs = [
        (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (-x, -a), (abs(x), abs(a)),
        (2 + x, 2 + a), (2 - x, 2 - a), (2 * x, 2 * a), (2 / x, 2 / a), (2**y, 2**b), (x**2, a**2), (x**3, a**3),
        (x > y, a > b), (x < y, a < b), (x >= y, a >= b), (x <= y, a <= b), (x == y, a == b), (x != y, a != b),
        (a + y, a + b), (x - b, a - b),
    ]  # fmt: skip
    for got, expected in pairs:
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float64"), ("float64", "longdouble")])
def test_power(dtype, wide):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0.01, 30, 5000).astype(dtype), rng.uniform(-8, 8, 5000).astype(dtype)
    assert ulps(apply(mg.power, x, y), x.astype(wide) ** y.astype(wide)) <= 1.5
    special = np.array([0.0, 1, -1, -2, 2, 0.5, 3, -3, np.inf, -np.inf, np.nan], dtype)
    a, b = (m.ravel() for m in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(apply(mg.power, a, b), a**b, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("exponent", [2, 2.0, 0.5, 3, -1, 0, 1, 1.5])
def test_power_by_a_number(exponent):
    a = np.array([0.0, 0.25, 1.0, 7.5], "float32")
    with np.errstate(all="ignore"):
        got = mg.power(mg.tensor(a), exponent)
        np.testing.assert_allclose(got.numpy(), a**exponent, rtol=3e-7)
    assert got.dtype == np.float32
    x = mg.tensor(a[1:].astype("float64"), requires_grad=True)
    mg.power(x, exponent).sum().backward()
    expected = exponent * a[1:].astype("float64") ** (exponent - 1)
    np.testing.assert_allclose(np.zeros(3) if x.grad is None else x.grad.numpy(), expected, rtol=1e-14)


def slopes(function, *values):
    tensors = [mg.tensor(np.array([v], "float64"), requires_grad=True) for v in values]
    function(*tensors).sum().backward()
    return [0.0 if t.grad is None else t.grad.item() for t in tensors]


def test_derivatives_of_power_at_its_edges():
    points = [  # x, y, d/dx, d/dy
        (0, 0, 0, 0), (0, 1, 1, 0), (0, 2, 0, 0), (0, 0.5, np.inf, 0), (0, 3, 0, 0),
        (2, 0, 0, np.log(2)), (-2, 3, 12, np.nan), (-2, 0, 0, np.nan), (-2, 2, -4, np.nan), (1, 7, 7, 0),
    ]  # fmt: skip
    for x, y, dx, dy in points:
        np.testing.assert_allclose(slopes(mg.power, x, y), [dx, dy], err_msg=f"at {x}, {y}")


def test_derivatives_at_kinks_and_ties():
    assert [slopes(mg.absolute, v) for v in (-2, 0, 3)] == [[-1], [0], [1]]
    assert [slopes(mg.maximum, 1, 1), slopes(mg.maximum, 1, 2), slopes(mg.maximum, 2, 1)] == [[1, 0], [0, 1], [1, 0]]
    assert [slopes(mg.minimum, 1, 1), slopes(mg.minimum, 1, 2), slopes(mg.minimum, 2, 1)] == [[1, 0], [1, 0], [0, 1]]
    assert [slopes(mg.sign, 0), slopes(mg.floor, 1)] == [[0], [0]]
    assert [slopes(lambda x: mg.clip(x, -1, 1), v) for v in (-2, -1, 0, 1, 2)] == [[0], [1], [1], [1], [0]]
    assert slopes(mg.sqrt, 0) == [np.inf]


def test_gradients_of_limits():
    for x, expected in ((-2, [0, 1, 0]), (0, [1, 0, 0]), (2, [0, 0, 1]), (-1, [1, 0, 0]), (1, [1, 0, 0])):
        assert slopes(mg.clip, x, -1, 1) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clip_is_numpys(dtype):
    x = np.array([-np.inf, -3, -1, -0.0, 0.5, 1, 3, np.inf, np.nan], dtype)
    for low, high in [(-1, 1), (None, 0.5), (-0.5, None), (0, 0), (-np.inf, np.inf)]:
        np.testing.assert_array_equal(mg.clip(mg.tensor(x), low, high).numpy(), np.clip(x, low, high))
    rng = np.random.default_rng(0)
    x, low, high = rng.standard_normal((4, 5)), rng.standard_normal((4, 1)), rng.standard_normal(5)
    assert (low > high).any()  # where limits cross, the upper one wins
    np.testing.assert_array_equal(mg.clip(mg.tensor(x), mg.tensor(low), mg.tensor(high)).numpy(), np.clip(x, low, high))
    bad = np.array([np.nan, 1.0])
    np.testing.assert_array_equal(
        mg.clip(mg.tensor(x[:2, :2]), mg.tensor(bad), mg.tensor(9.0)).numpy(), np.clip(x[:2, :2], bad, 9.0)
    )
    np.testing.assert_array_equal(
        mg.clip(mg.tensor(x[:2, :2]), mg.tensor(-9.0), mg.tensor(bad)).numpy(), np.clip(x[:2, :2], -9.0, bad)
    )


def test_clip_errors():
    with pytest.raises(ArgumentError, match="both None"):
        mg.clip(mg.tensor([1.0]))
    with pytest.raises(ArgumentError, match="low is 2, above high = 1"):
        mg.clip(mg.tensor([1.0]), 2, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "complex64"])
def test_where(dtype):
    rng = np.random.default_rng(0)
    condition = rng.random((4, 5)) > 0.5
    x, y = (10 * rng.standard_normal((4, 5))).astype(dtype), (10 * rng.standard_normal((4, 5))).astype(dtype)
    for c, a, b in [
        (condition, x, y),
        (condition[:, :1], x[0], y[:, 1:2]),
        (condition.T, x.T, y.T[::-1]),
        (np.array(True), x, y),
        (condition, x[0, 0], y[0, 0]),
        (condition[:0], x[:0], y[0]),
        (np.broadcast_to(condition[0], (4, 5)), np.broadcast_to(x[:, :1], (4, 5)), y),
    ]:
        got = mg.where(mg.Tensor(np.asarray(c)), mg.Tensor(np.asarray(a)), mg.Tensor(np.asarray(b)))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.numpy(), np.where(c, a, b))


def test_where_keeps_nan_of_the_other_side_out():
    x = mg.tensor([-1.0, 4.0], requires_grad=True)
    y = mg.where(x > 0, mg.sqrt(x), 0.0)
    np.testing.assert_array_equal(y.numpy(), [0, 2])
    w = mg.where(mg.tensor([True, False]), x, mg.tensor([np.nan, 5.0]))
    w.backward(mg.tensor([3.0, 7.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [3, 0])


def test_where_promotes_and_refuses():
    c = mg.tensor([True, False])
    assert mg.where(c, mg.tensor([1.0, 2.0]), 0).dtype == np.float32
    assert mg.where(c, mg.tensor([1, 2]), mg.tensor([1.0, 2.0])).dtype == np.float64
    with pytest.raises(DTypeError, match="condition has dtype int64, expected bool"):
        mg.where(mg.tensor([1, 0]), 1.0, 2.0)
    with pytest.raises(ShapeError, match=r"where: shapes \(2,\) and \(3,\) and \(3,\) do not broadcast"):
        mg.where(c, mg.tensor(np.ones(3)), mg.tensor(np.ones(3)))
    with pytest.raises(ArgumentTypeError, match="where: takes tensors"):
        mg.where(c, None, 1.0)


def test_large_arrays_take_the_parallel_form_with_the_same_values():
    x = np.random.default_rng(5).standard_normal(300_001).astype("float32")
    whole = apply(mg.exp, x)
    parts = np.concatenate([apply(mg.exp, part) for part in np.array_split(x, 20)])
    np.testing.assert_array_equal(whole, parts)
