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


def test_half_types_round_once():
    """To nearest even, for all values that lie between two, and those next to them; float64 is not rounded twice."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (dtypes.float16, dtypes.bfloat16()):
        assert dtypes.is_half(dtype)
        assert dtypes.is_differentiable(dtype)
        assert dtypes.has_gpu_kernels(dtype)
        assert not dtypes.has_kernels(dtype)
        assert dtypes.kind(dtype) == "f"
        assert dtypes.arithmetic(dtype) == np.float32
        assert dtypes.floating(dtype) == dtypes.native(dtype) == dtypes.as_dtype(dtype.name) == dtype
        bits = np.arange(0, 0x7F00 if dtype.kind == "V" else 0x7BFF, dtype=np.uint16)  # all but the largest, finite
        low, high = bits.view(dtype).astype(np.float64), (bits + np.uint16(1)).view(dtype).astype(np.float64)
        middle, even = (low + high) / 2, np.where(bits % 2 == 0, low, high)
        for values, want in [
            (low, low), (middle, even), (np.nextafter(middle, 0), low), (np.nextafter(middle, np.inf), high),
        ]:  # fmt: skip
            for sign in (1.0, -1.0):
                got = dtypes.rounded(sign * values, dtype)
                assert got.dtype == dtype
                assert np.array_equal(got.astype(np.float64), sign * want)
    odd = dtypes.rounded(np.array([np.nan, np.inf, -np.inf, 3.39e38, 3.4e38, -0.0, 1e-300]), dtypes.bfloat16())
    assert odd.astype(float).tolist()[1:] == [np.inf, -np.inf, float(ml_dtypes.finfo(odd.dtype).max), np.inf, 0.0, 0.0]
    assert np.isnan(odd[0])
    assert np.signbit(odd[5].astype(float))
    for kind in (np.int32, np.int64, np.float64):
        whole = dtypes.rounded(np.array([2**24 + 2**16 + 1, -257, -(2**31)], kind), dtypes.bfloat16())
        assert whole.tolist() == [2.0**24 + 2**17, -256, -(2.0**31)]
    ends = np.array([-(2**63), 2**63 - 1])
    assert dtypes.rounded(ends, dtypes.bfloat16()).tolist() == [-(2.0**63), 2.0**63]
    assert dtypes.number(10**30, dtypes.bfloat16()).dtype == dtypes.bfloat16()
    assert not any(map(dtypes.is_half, (dtypes.float32, np.dtype(np.int16), np.dtype(np.uint16), np.dtype("V2"))))


def test_promotion_of_half_types():
    pytest.importorskip("ml_dtypes")
    half, brain = dtypes.float16, dtypes.bfloat16()
    pairs = {
        (brain, brain): brain, (brain, half): dtypes.float32, (brain, dtypes.float32): dtypes.float32,
        (brain, dtypes.float64): dtypes.float64, (brain, dtypes.bool_): brain, (brain, np.dtype(np.int8)): brain,
        (brain, np.dtype(np.int16)): dtypes.float32, (brain, dtypes.int64): dtypes.float64,
        (half, dtypes.float32): dtypes.float32, (brain, np.dtype(np.complex64)): np.complex64,
    }  # fmt: skip
    for (a, b), want in pairs.items():
        assert dtypes.promoted(a, b) == dtypes.promoted(b, a) == want, (a, b)
    assert dtypes.promoted(brain, half, brain) == dtypes.float32
    assert dtypes.promoted(brain, numbers=[1, 2.5, True]) == brain
    assert dtypes.promoted(brain, numbers=[1j]) == np.complex64
