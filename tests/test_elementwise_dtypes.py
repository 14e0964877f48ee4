"""Elementwise primitives: promotion of dtypes, and what is refused."""

import itertools

import numpy as np
import pytest
from elementwise_parts import chosen, run, same

import minigrad as mg
from minigrad import primitive
from minigrad.elementwise import promoted
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]
BINARY = [
    (mg.add, np.add),
    (mg.subtract, np.subtract),
    (mg.multiply, np.multiply),
    (mg.divide, np.true_divide),
    (mg.maximum, np.maximum),
    (mg.greater, np.greater),
    (mg.equal, np.equal),
]


def outcome(function, *args):
    """The dtype and values, or the kind of error."""
    try:
        with np.errstate(all="ignore"):
            result = function(*args)
    except (TypeError, ValueError) as error:
        return TypeError if isinstance(error, TypeError) else ValueError
    return np.asarray(result)


def agree(got, expected, note):
    if isinstance(expected, type):
        assert got is expected, note
        return
    assert not isinstance(got, type), note
    assert got.dtype == expected.dtype, note
    rtol = 4 * np.finfo(expected.dtype).eps if expected.dtype.kind in "fc" else 0
    np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=note)


@pytest.mark.parametrize(("function", "reference"), BINARY, ids=lambda f: getattr(f, "__name__", ""))
def test_promotion_of_arrays_is_numpys(function, reference):
    for a, b in itertools.product(DTYPES, repeat=2):
        x, y = np.array([0, 1, 3]).astype(a), np.array([1, 1, 2]).astype(b)
        expected = outcome(reference, x, y)
        if reference is np.true_divide and np.result_type(a, b).kind in "biu":
            expected = expected.astype("float64")
        agree(outcome(function, mg.tensor(x), mg.tensor(y)), expected, f"{a} {b}")


@pytest.mark.parametrize(("function", "reference"), BINARY[:4], ids=lambda f: getattr(f, "__name__", ""))
@pytest.mark.parametrize("number", [True, 2, 2.5, 2j])
def test_python_numbers_take_part_with_their_kind_alone(function, reference, number):
    for dtype in DTYPES:
        x = np.array([1, 0, 3]).astype(dtype)
        expected = outcome(reference, x, number)
        if reference is np.true_divide and not isinstance(expected, type) and np.result_type(x, number).kind in "biu":
            expected = expected.astype("float64")
        agree(outcome(function, mg.tensor(x), number), expected, f"{dtype} {number}")
        reflected = outcome(reference, number, x)
        if reference is np.true_divide and not isinstance(reflected, type) and np.result_type(x, number).kind in "biu":
            reflected = reflected.astype("float64")
        agree(outcome(function, number, mg.tensor(x)), reflected, f"{number} {dtype}")


def test_numpys_own_numbers_and_arrays_are_typed():
    x = mg.tensor([1.0, 2.0])
    assert (x * np.float64(2)).dtype == np.float64
    assert (x * np.float32(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float64
    assert (np.ones(2) - x).dtype == np.float64
    assert mg.power(x, np.float64(2)).dtype == np.float64
    assert (x**2).dtype == np.float32


def test_python_numbers_alone():
    assert mg.add(2, 3).dtype == np.int64
    assert mg.add(2.0, 3).dtype == mg.add(2, 3.0).dtype == np.float32
    assert mg.add(True, False).dtype == np.bool_
    assert mg.exp(1).dtype == np.float64
    assert mg.add(2, 3.5).item() == 5.5


@pytest.mark.parametrize(("dtype", "number"), [("uint8", 300), ("uint8", -1), ("int32", 2**31), ("float32", 10**400)])
def test_a_number_that_does_not_fit(dtype, number):
    with pytest.raises(ArgumentError, match=f"mg::add: the number {number} does not fit {dtype}"):
        mg.add(mg.tensor(np.ones(2, dtype)), number)


def test_integers_become_floats_where_the_result_is_one():
    for dtype in ("bool", "int32", "uint8"):
        x = np.array([0, 1, 1]).astype(dtype)
        for f, g in ((mg.exp, np.exp), (mg.sqrt, np.sqrt), (mg.tanh, np.tanh)):
            got = run(f, x)
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, g(x.astype("float64")), rtol=1e-15)


def test_integer_arithmetic_is_exact():
    x, y = np.array([2**53 + 1, -7, 0]), np.array([1, 3, -5])
    for f, g in ((mg.add, np.add), (mg.multiply, np.multiply), (mg.minimum, np.minimum), (mg.power, None)):
        if g is None:
            same(run(f, x[1:], abs(y[1:])), x[1:] ** abs(y[1:]))
        else:
            same(run(f, x, y), g(x, y))
    same(run(mg.square, y), y * y)
    same(run(mg.absolute, y), abs(y))
    same(run(mg.sign, y), np.sign(y))
    same(run(mg.negative, y), -y)
    same(mg.clip(mg.tensor(y), -2, 2).numpy(), np.clip(y, -2, 2))


def test_complex_arithmetic():
    z = np.array([1 + 2j, -0.5j], "complex64")
    same(run(mg.absolute, z), np.abs(z))
    np.testing.assert_allclose(run(mg.exp, z), np.exp(z), rtol=1e-6)
    same(run(mg.multiply, z, z), z * z)


def test_half_precision():
    x = np.array([0.1, -2, 60000, np.inf, np.nan], "float16")
    with np.errstate(all="ignore"):
        same(run(mg.add, x, x), x + x)
        same(run(mg.exp, x), np.exp(x))
        same(run(mg.relu, x), np.where(x <= 0, np.float16(0), x))


# Errors


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"mg::add: shapes \(2, 3\) and \(4,\) do not broadcast"):
        mg.add(mg.tensor(np.ones((2, 3))), mg.tensor(np.ones(4)))


@pytest.mark.parametrize("bad", [None, "text", object(), [1.0, "a"], np.array(["a"]), {}])
def test_what_is_no_number(bad):
    with pytest.raises(TypeError):
        mg.add(mg.tensor([1.0]), bad)


def test_wrong_calls():
    with pytest.raises(ArgumentTypeError, match=r"takes \('x', 'y'\), got 1 inputs"):
        primitive.get("mg::add")(mg.tensor([1.0]))
    with pytest.raises(ArgumentTypeError, match="got 3 inputs and \\['axis'\\]"):
        chosen(1.0, 2.0, 3.0, axis=1)
    with pytest.raises(DTypeError, match="mg::neg: x has dtype bool"):
        mg.negative(mg.tensor([True]))
    with pytest.raises(DTypeError, match="mg::sub: x has dtype bool"):
        mg.subtract(mg.tensor([True]), mg.tensor([False]))
    with pytest.raises(ArgumentError, match="mg::pow: Integers to negative integer powers"):
        mg.power(mg.tensor([1, 2]), mg.tensor([-1, 2]))


def test_promoted_refuses_and_names_the_operation():
    with pytest.raises(ArgumentTypeError, match="stack: takes tensors, arrays and numbers, got None"):
        promoted("stack", [mg.tensor([1.0]), None])
