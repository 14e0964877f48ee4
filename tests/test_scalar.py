"""Scalar expressions: construction, evaluation, simplification and symbolic derivatives."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import scalar
from minigrad.errors import ArgumentTypeError
from minigrad.scalar import constant, differentiate, evaluate, select, variable

x, y = variable("x"), variable("y")
RNG = np.random.default_rng(0)


def value(expression, **values):
    with np.errstate(all="ignore"):
        return evaluate(expression, {k: np.asarray(v) for k, v in values.items()})


def test_equal_expressions_are_one_object():
    assert x + y is x + y
    assert (x + y) * 2 is (x + y) * 2.0
    assert x + y is not y + x
    assert constant(0.0) is not constant(-0.0)
    assert constant(math.nan) is constant(math.nan)
    assert variable("x") is x


OPERATORS = [
    (lambda a, b: a + b, np.add),
    (lambda a, b: a - b, np.subtract),
    (lambda a, b: a * b, np.multiply),
    (lambda a, b: a / b, np.true_divide),
    (lambda a, b: abs(a) ** b, lambda a, b: np.abs(a) ** b),
    (lambda a, b: -a + abs(b), lambda a, b: -a + np.abs(b)),
    (lambda a, b: 2 + a * 3 - 1 / b, lambda a, b: 2 + a * 3 - 1 / b),
    (lambda a, b: 2 ** (a / 4) - (1 - b), lambda a, b: 2 ** (a / 4) - (1 - b)),
    (scalar.maximum, np.maximum),
    (scalar.minimum, np.minimum),
    (lambda a, b: select((a > b) & (a <= 1), a, b), lambda a, b: np.where((a > b) & (a <= 1), a, b)),
    (lambda a, b: select((a < b) | ~(a >= 0), a, b), lambda a, b: np.where((a < b) | ~(a >= 0), a, b)),
    (lambda a, b: select(a == b, 1, 0) + select(a != 0, 2, 0), lambda a, b: (a == b) * 1.0 + (a != 0) * 2.0),
    (lambda a, b: select(scalar.isnan(a), b, a), lambda a, b: np.where(np.isnan(a), b, a)),
]


@pytest.mark.parametrize(("function", "reference"), OPERATORS)
def test_traced_function_evaluates_as_numpy(function, reference):
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3.5]
    a, b = (m.ravel() for m in np.meshgrid(special, special))
    a, b = np.concatenate([a, RNG.standard_normal(50)]), np.concatenate([b, RNG.standard_normal(50)])
    with np.errstate(all="ignore"):
        expected = reference(a, b)
    np.testing.assert_array_equal(value(function(x, y), x=a, y=b), expected)


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "sqrt", "sin", "cos", "sign", "floor", "abs"])
def test_functions_compute_on_arrays_and_trace_on_expressions(name):
    a = np.abs(RNG.standard_normal(7)) + 0.1
    function, reference = getattr(scalar, name), getattr(np, name)
    np.testing.assert_array_equal(function(a), reference(a))
    np.testing.assert_array_equal(value(function(x), x=a), reference(a))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_sigmoid_reference(dtype):
    a = np.linspace(-40, 40, 81).astype(dtype)
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(scalar.sigmoid(a), 1 / (1 + np.exp(-a.astype(np.clongdouble))), rtol=tolerance)
    assert scalar.sigmoid(np.float64(-1000)) == 0
    assert scalar.sigmoid(np.float64(1000)) == 1
    assert np.isnan(scalar.sigmoid(np.float64(np.nan)))


def test_erf_reference():
    a = np.concatenate([np.linspace(-8, 8, 161), [1e-300, 1e-10, np.inf, -np.inf]])
    expected = np.array([math.erf(v) for v in a])
    np.testing.assert_allclose(scalar.erf(a), expected, rtol=3e-16)
    assert np.isnan(scalar.erf(np.array([np.nan]))).all()
    complement = np.array([math.erfc(v) for v in a])
    np.testing.assert_allclose(scalar.erfc(a), complement, rtol=5e-16)  # the library: 2 ulp
    z = scalar.erf(np.array([0.3 + 1e-30j, 4.0 + 1e-30j]))
    np.testing.assert_allclose(z.imag / 1e-30, 2 / np.sqrt(np.pi) * np.exp(-np.array([0.09, 16.0])), rtol=1e-14)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (x * 1, x),
        (1 * x, x),
        (x * 0, constant(0)),
        (x * -1, -x),
        (x + 0, x),
        (0 + x, x),
        (x - 0, x),
        (x / 1, x),
        (scalar.neg(-x), x),
        (x + -y, x - y),
        (-y + x, x - y),
        (x**0, constant(1)),
        (x**1, x),
        (x**2, x * x),
        (constant(2) * 3 + 1, constant(7)),
        (scalar.sqrt(constant(4)), constant(2)),
    ],
)
def test_simplification(expression, expected):
    assert expression is expected


def test_what_would_change_a_value_is_not_simplified():
    assert (0 - x).op == "sub"  # −0 for x = 0, where −x is 0
    assert (x - x).op == "sub"  # NaN for infinite x
    assert (x / x).op == "div"


PI = math.pi
DERIVATIVES = [  # f, and its first three derivatives, each written down by hand
    (lambda x: x * x * x, [lambda v: 3 * v**2, lambda v: 6 * v, lambda v: 6 + 0 * v]),
    (lambda x: 1 / x, [lambda v: -1 / v**2, lambda v: 2 / v**3, lambda v: -6 / v**4]),
    (scalar.exp, [np.exp, np.exp, np.exp]),
    (scalar.expm1, [np.exp, np.exp, np.exp]),
    (scalar.log, [lambda v: 1 / v, lambda v: -1 / v**2, lambda v: 2 / v**3]),
    (scalar.log1p, [lambda v: 1 / (1 + v), lambda v: -1 / (1 + v) ** 2, lambda v: 2 / (1 + v) ** 3]),
    (scalar.sqrt, [lambda v: 0.5 * v**-0.5, lambda v: -0.25 * v**-1.5, lambda v: 0.375 * v**-2.5]),
    (scalar.sin, [np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)]),
    (scalar.cos, [lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin]),
    (
        scalar.tanh,
        [
            lambda v: 1 - np.tanh(v) ** 2,
            lambda v: -2 * np.tanh(v) * (1 - np.tanh(v) ** 2),
            lambda v: (6 * np.tanh(v) ** 2 - 2) * (1 - np.tanh(v) ** 2),
        ],
    ),
    (
        scalar.sigmoid,
        [
            lambda v: np.exp(-v) / (1 + np.exp(-v)) ** 2,
            lambda v: np.exp(v) * (1 - np.exp(v)) / (1 + np.exp(v)) ** 3,
            lambda v: np.exp(v) * (1 - 4 * np.exp(v) + np.exp(2 * v)) / (1 + np.exp(v)) ** 4,
        ],
    ),
    (
        scalar.erf,
        [
            lambda v: 2 / np.sqrt(PI) * np.exp(-v * v),
            lambda v: -4 * v / np.sqrt(PI) * np.exp(-v * v),
            lambda v: (8 * v * v - 4) / np.sqrt(PI) * np.exp(-v * v),
        ],
    ),
    (lambda x: x**2.5, [lambda v: 2.5 * v**1.5, lambda v: 3.75 * v**0.5, lambda v: 1.875 * v**-0.5]),
    (
        lambda x: 2.0**x,
        [lambda v: math.log(2) * 2**v, lambda v: math.log(2) ** 2 * 2**v, lambda v: math.log(2) ** 3 * 2**v],
    ),
    (lambda x: scalar.abs(x) * x, [lambda v: 2 * np.abs(v), lambda v: 2 * np.sign(v), lambda v: 0 * v]),
    (lambda x: x * scalar.sign(x - 1), [lambda v: np.sign(v - 1), lambda v: 0 * v, lambda v: 0 * v]),
    (lambda x: x * scalar.floor(x), [np.floor, lambda v: 0 * v, lambda v: 0 * v]),
    (
        lambda x: select(x > 1, x * x * x, 1 / x),
        [
            lambda v: np.where(v > 1, 3 * v * v, -1 / v**2),
            lambda v: np.where(v > 1, 6 * v, 2 / v**3),
            lambda v: np.where(v > 1, 6, -6 / v**4),
        ],
    ),
]


@pytest.mark.parametrize(("function", "derivatives"), DERIVATIVES)
def test_derivatives_to_third_order(function, derivatives):
    v = np.array([0.3, 0.7, 1.3, 2.4])
    expression = function(x)
    for derivative in derivatives:
        expression = differentiate(expression, x)
        np.testing.assert_allclose(
            np.broadcast_to(value(expression, x=v), v.shape), derivative(v), rtol=2e-14, atol=1e-14
        )


def test_partial_derivatives_of_two_variables():
    a, b = np.array([0.5, 1.5, 2.0]), np.array([2.0, -0.5, 3.0])
    f = x**y + x / y - scalar.exp(x * y)
    np.testing.assert_allclose(value(differentiate(f, x), x=a, y=b), b * a ** (b - 1) + 1 / b - b * np.exp(a * b))
    np.testing.assert_allclose(value(differentiate(f, y), x=a, y=b), a**b * np.log(a) - a / b**2 - a * np.exp(a * b))
    mixed = differentiate(differentiate(f, x), y)
    np.testing.assert_array_equal(value(mixed, x=a, y=b), value(mixed, x=a, y=b))
    np.testing.assert_allclose(
        value(mixed, x=a, y=b), a ** (b - 1) * (1 + b * np.log(a)) - 1 / b**2 - np.exp(a * b) * (1 + a * b)
    )


def test_power_at_the_edges():
    by_base, by_exponent = (differentiate(x**y, v) for v in (x, y))
    points = [  # x, y, d/dx, d/dy
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 2.0, 0.0, 0.0),
        (0.0, 0.5, np.inf, 0.0),
        (2.0, 0.0, 0.0, np.log(2)),
        (-2.0, 3.0, 12.0, np.nan),
        (-2.0, 2.0, -4.0, np.nan),
        (-2.0, 0.0, 0.0, np.nan),
        (1.0, 5.0, 5.0, 0.0),
    ]
    for a, b, dx, dy in points:
        np.testing.assert_array_equal(value(by_base, x=a, y=b), dx, err_msg=f"d/dx at {a}, {b}")
        np.testing.assert_allclose(value(by_exponent, x=a, y=b), dy, err_msg=f"d/dy at {a}, {b}")
    square = differentiate(x**y, x)
    np.testing.assert_array_equal(value(differentiate(square, x), x=0.0, y=2.0), 2)
    np.testing.assert_array_equal(value(differentiate(square, x), x=0.0, y=1.0), 0)


def test_an_unselected_branch_does_not_reach_the_derivative():
    f = select(x > 0, scalar.log(x) + scalar.sqrt(x), 0)
    np.testing.assert_allclose(value(differentiate(f, x), x=np.array([-1.0, 0.0, 4.0])), [0, 0, 0.5])
    g = select(x == 0, 1, scalar.sin(x) / x)
    np.testing.assert_allclose(value(differentiate(g, x), x=np.array([0.0, PI])), [0, -1 / PI])


def test_maximum_and_minimum_at_ties_give_to_the_first():
    for f in (scalar.maximum, scalar.minimum):
        assert value(differentiate(f(x, y), x), x=2.0, y=2.0) == 1
        assert value(differentiate(f(x, y), y), x=2.0, y=2.0) == 0
    assert value(differentiate(scalar.maximum(x, y), x), x=1.0, y=2.0) == 0
    assert value(differentiate(scalar.minimum(x, y), y), x=1.0, y=2.0) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda v: v if v > 0 else -v,
        lambda v: max(v, 0),
        lambda v: v > 0 and v,
        lambda v: not v,
        lambda v: 0 < v < 1,
        lambda v: sorted([v, 1]),
    ],
)
def test_branching_on_a_value_is_an_error(function):
    with pytest.raises(ArgumentTypeError, match=r"can't branch on a value.*select"):
        function(x)


@pytest.mark.parametrize("function", [math.exp, math.sqrt, float, int, complex, range])
def test_functions_of_numbers_are_an_error(function):
    with pytest.raises(ArgumentTypeError, match=r"minigrad\.scalar"):
        function(x)


def test_numpy_functions_are_an_error():
    with pytest.raises(TypeError, match="Expr"):
        np.exp(x)


@pytest.mark.parametrize("other", [np.ones(2), "1", None, [1], 1j, Fraction(1, 2)])
def test_only_numbers_and_inputs_take_part(other):
    with pytest.raises(ArgumentTypeError, match="expected a number or an input"):
        x + other


@pytest.mark.parametrize("other", [1, 1.0, True, np.float32(1), np.int64(1), np.bool_(True)])
def test_numbers_of_all_kinds_take_part(other):
    assert x + other is x + 1


def test_substitute():
    f = scalar.exp(x * y) + x * y
    assert scalar.substitute(f, x * y, x) is scalar.exp(x) + x
    assert scalar.substitute(f, variable("absent"), x) is f
    assert scalar.variables_of(f) == ["x", "y"]
    assert scalar.variables_of(constant(3)) == []


def test_is_analytic():
    assert scalar.is_analytic(scalar.exp(x) / (1 + x**2))
    for f in (scalar.abs(x), scalar.sign(x) * x, select(x > 0, x, 0), scalar.floor(x), scalar.maximum(x, y)):
        assert not scalar.is_analytic(f)


def test_a_shared_subexpression_is_evaluated_once_at_any_depth():
    e = x
    for _ in range(5000):
        e = e + e * 0.0  # 2**5000 paths
        e = e * 1.0000001
    assert len(scalar.topological([e])) < 20_000
    assert value(e, x=1.0) == pytest.approx(1.0005, rel=1e-4)
    assert value(differentiate(e, x), x=1.0) == pytest.approx(1.0005, rel=1e-4)


def test_whole_constants_keep_integers_integer():
    a = np.array([3, -4], np.int32)
    assert value(2 * x + 1, x=a).dtype == np.int32
    np.testing.assert_array_equal(value(2 * x + 1, x=a), [7, -7])
    np.testing.assert_array_equal(value(x / 2, x=a), [1.5, -2])
    assert value(x * 0.5, x=a).dtype == np.float64
    assert np.signbit(value(select(x > 0, constant(-0.0), 1), x=1.0))


LEAVES = st.one_of(st.just(x), st.just(y), st.sampled_from([0, 1, -1, 2, 0.5]).map(constant))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["add", "sub", "mul", "maximum", "minimum"]), inner, inner).map(
            lambda t: getattr(scalar, t[0])(t[1], t[2])
        ),
        st.tuples(st.sampled_from(["neg", "tanh", "sin", "sigmoid", "abs"]), inner).map(
            lambda t: getattr(scalar, t[0])(t[1])
        ),
        st.tuples(inner, inner, inner).map(lambda t: select(t[0] > t[1], t[1], t[2])),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.floats(-2, 2), st.floats(-2, 2))
def test_derivative_of_any_expression_by_differences(f, a, b):
    a, b = np.longdouble(a) + np.longdouble("0.01234567890123"), np.longdouble(b) - np.longdouble("0.0345678901234")
    h = np.longdouble(1e-6)

    def slope(step):
        return (value(f, x=a + step, y=b) - value(f, x=a - step, y=b)) / (2 * step)

    near, far = slope(h), slope(2 * h)
    if abs(near - far) > 1e-6 * (1 + abs(near)):
        return  # a kink within reach
    np.testing.assert_allclose(value(differentiate(f, x), x=a, y=b), near, rtol=1e-6, atol=1e-6)
