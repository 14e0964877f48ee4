"""Dtypes: names, kinds and errors."""

import numpy as np
import pytest

from minigrad import dtypes
from minigrad.errors import DTypeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("float32", np.float32),
        (np.int64, np.int64),
        (np.dtype("f8"), np.float64),
        (float, np.float64),
        (bool, np.bool_),
        (">f4", np.float32),
        ("complex64", np.complex64),
        (np.uint8, np.uint8),
    ],
)
def test_as_dtype(value, expected):
    found = dtypes.as_dtype(value)
    assert found == expected
    assert found.isnative


@pytest.mark.parametrize("value", ["float33", "nonsense", 3, object(), [1]])
def test_as_dtype_of_no_dtype(value):
    with pytest.raises(DTypeError, match="names no dtype"):
        dtypes.as_dtype(value)


@pytest.mark.parametrize("value", ["str", object, "datetime64[s]", "V8", [("a", "f4")]])
def test_as_dtype_of_what_tensors_do_not_hold(value):
    with pytest.raises(DTypeError, match="numbers and booleans"):
        dtypes.as_dtype(value)


def test_kinds():
    floats, others = ["float16", "float32", "float64"], ["int32", "int64", "uint8", "bool", "complex64"]
    assert [dtypes.is_differentiable(np.dtype(d)) for d in floats + others] == [True] * 3 + [False] * 5
    assert [dtypes.has_kernels(np.dtype(d)) for d in floats + others] == [False, True, True] + [False] * 5
    assert [dtypes.floating(np.dtype(d)).name for d in floats] == floats
    assert [dtypes.floating(np.dtype(d)).name for d in others] == ["float64"] * 4 + ["complex64"]
    assert dtypes.real(np.dtype("complex64")) == np.float32
    assert dtypes.real(np.dtype("complex128")) == np.float64
    assert dtypes.real(np.dtype("int32")) == np.int32


def test_requirements():
    f, d, i, b = (np.dtype(t) for t in ("f4", "f8", "i4", "?"))
    assert dtypes.require_same("norm", x=f, gamma=None, beta=f) == f
    with pytest.raises(DTypeError, match="norm: beta has dtype float64, expected float32 as of x"):
        dtypes.require_same("norm", x=f, gamma=None, beta=d)
    dtypes.require_floating("norm", "x", f)
    with pytest.raises(DTypeError, match="norm: x has dtype int32, expected a floating-point"):
        dtypes.require_floating("norm", "x", i)
    dtypes.require_integer("take", "indices", i)
    for wrong in (f, b):
        with pytest.raises(DTypeError, match=r"take: indices has dtype .*, expected an integer"):
            dtypes.require_integer("take", "indices", wrong)
