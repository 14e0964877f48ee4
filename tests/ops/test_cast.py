"""Casts, copies and constants."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(DTYPES, repeat=2)))
def test_casts_are_numpys(source, target):
    if source == "complex64" and target != "complex64":
        pytest.skip("NumPy warns that the imaginary part is dropped")
    a = np.array([[0, 1, 2.75], [100, 1.5, 7]]).astype(source)
    for x in (a, a.T, a[::-1, ::2], a[:0], a[0, 0]):
        got = mg.astype(mg.Tensor(np.asarray(x)), target)
        assert got.dtype == target
        np.testing.assert_array_equal(got.numpy(), x.astype(target))


def test_the_same_dtype_is_the_same_tensor():
    x = mg.tensor([1.0, 2.0])
    assert mg.astype(x, "float32") is x
    assert x.astype(np.float32) is x


def test_overflow_is_infinite_and_silent():
    x = mg.tensor(np.array([1e300, -1e300, np.nan]))
    np.testing.assert_array_equal(x.astype("float32").numpy(), np.array([np.inf, -np.inf, np.nan], "float32"))
    assert x.astype("int32").dtype == np.int32


def test_gradients_are_cast_back():
    x = mg.tensor(np.array([1.0, 2.0], "float32"), requires_grad=True)
    y = x.astype("float64") * np.array([0.1, 0.2])
    assert y.dtype == np.float64
    y.backward(mg.tensor(np.array([3.0, 4.0])))
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.numpy(), np.array([0.1 * 3, 0.2 * 4]).astype("float32"))


def test_integers_carry_no_gradient():
    x = mg.tensor([1.5, 2.5], requires_grad=True)
    assert not x.astype("int32").requires_grad
    assert not x.astype("int32").astype("float32").requires_grad


def test_a_cast_keeps_nothing_of_its_input():
    w = mg.Variable(np.array([1.0, 2.0], "float32"))
    y = w.astype("float64")
    w.assign(w * 2)  # what a cast needs of it is its dtype alone
    y.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [1, 1])


@pytest.mark.parametrize("dtype", ["text", "S3", object])
def test_what_is_no_dtype(dtype):
    with pytest.raises(DTypeError):
        mg.astype(mg.tensor([1.0]), dtype)


@pytest.mark.parametrize("shape", [(3, 4), (600, 700), (), (0,)])
def test_copy(shape):
    w = mg.Variable(np.random.default_rng(0).standard_normal(shape))
    before = w.numpy().copy()
    c = mg.copy(w)
    assert not np.shares_memory(c._data, w._data)
    w.assign(np.zeros(shape))
    np.testing.assert_array_equal(c.numpy(), before)
    (c * c).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * before)


def test_stop_gradient():
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    (mg.stop_gradient(x) * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 3])
    assert not mg.stop_gradient(x).requires_grad
