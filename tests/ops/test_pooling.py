"""Pooling against windows written out; ties, NaN, derivatives, layouts, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors
from minigrad.devices import cpu

FUNCTIONS = {"max": mg.max_pool2d, "mean": mg.avg_pool2d}


def values(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def written_out(kind, x, ct, size, strides, pads):
    """The pool and the derivative by x, one window at a time."""
    n, h, w, c = x.shape
    rows, columns = ((m + sum(p) - k) // s + 1 for m, p, k, s in zip((h, w), pads, size, strides))
    y, dx = np.zeros((n, rows, columns, c)), np.zeros(x.shape)
    for r in range(rows):
        for q in range(columns):
            top, left = r * strides[0] - pads[0][0], q * strides[1] - pads[1][0]
            low, first = max(top, 0), max(left, 0)
            window = x[:, low : max(top + size[0], 0), first : max(left + size[1], 0)].astype(np.float64)
            flat = window.reshape(n, -1, c)
            if kind == "mean":
                y[:, r, q] = flat.mean(1)
                dx[:, low : low + window.shape[1], first : first + window.shape[2]] += (
                    ct[:, r, q][:, None, None] / flat.shape[1]
                )
                continue
            at = np.argmax(flat, 1)
            y[:, r, q] = np.take_along_axis(flat, at[:, None], 1)[:, 0]
            for image, channel in np.ndindex(n, c):
                i, j = divmod(at[image, channel], window.shape[2])
                dx[image, low + i, first + j, channel] += ct[image, r, q, channel]
    return y, dx


@st.composite
def problems(draw):
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = tuple(draw(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1))) for k in size)
    sizes = [draw(st.integers(max(1, k - sum(p)), k + 8)) for k, p in zip(size, pads)]
    return (draw(st.integers(1, 3)), *sizes, draw(st.sampled_from([1, 2, 5, 17]))), size, strides, pads


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from(["max", "mean"]), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_any_pool(problem, kind, dtype, with_ties):
    shape, size, strides, pads = problem
    x = values(*shape, dtype=dtype)
    x = np.round(x) if with_ties else x
    y, pull = mg.vjp(lambda t: FUNCTIONS[kind](t, size, strides, pads), x)
    ct = values(*y.shape, seed=1, dtype=dtype)
    want, want_dx = written_out(kind, x, ct, size, strides, pads)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y.numpy(), want, rtol=0 if kind == "max" else 16 * eps, atol=16 * eps * (kind != "max"))
    np.testing.assert_allclose(pull(ct)[0].numpy(), want_dx, rtol=16 * eps, atol=64 * eps)
    assert y.dtype == dtype


@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize(("size", "strides"), [(2, None), (3, 2), (2, 3)])
def test_large_pools_in_any_number_of_threads(kind, size, strides, monkeypatch):
    x = values(32, 25, 26, 12, dtype=np.float32)

    def run():
        y, pull = mg.vjp(lambda t: FUNCTIONS[kind](t, size, strides), x)
        return y.numpy().copy(), pull(values(*y.shape, seed=1, dtype=np.float32))[0].numpy().copy()

    y, dx = run()
    s = strides or size
    want, want_dx = written_out(
        kind, x, values(*y.shape, seed=1, dtype=np.float32), (size,) * 2, (s,) * 2, ((0, 0), (0, 0))
    )
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1 << 60)
    for a, b in zip((y, dx), run()):
        np.testing.assert_array_equal(a, b)


def test_the_first_of_equals_gets_the_gradient():
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0, 1, 2:] = 1
    y, pull = mg.vjp(mg.max_pool2d, x)
    assert y.tolist() == [[[[0.0], [1.0]]]]
    (dx,) = pull(np.array([2.0, 3.0], np.float32).reshape(1, 1, 2, 1))
    assert dx.numpy()[0, :, :, 0].tolist() == [[2, 0, 0, 0], [0, 0, 3, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity(dtype):
    x = values(1, 2, 8, 17, dtype=dtype)
    x[0, :, :2] = -np.inf
    x[0, 1, 2] = np.nan
    x[0, 0, 5] = np.inf
    y, pull = mg.vjp(mg.max_pool2d, x)
    assert (y.numpy()[0, 0, 0] == -np.inf).all()
    assert np.isnan(y.numpy()[0, 0, 1]).all()
    assert (y.numpy()[0, 0, 2] == np.inf).all()
    assert np.isfinite(y.numpy()[0, 0, 3]).all()
    dx = pull(np.ones(y.shape, dtype))[0].numpy()
    assert dx[0, 0, 0].all()
    assert dx[0, 1, 2].all()
    assert dx[0, 0, 5].all()
    assert dx.sum() == 4 * 17
    padded, pull = mg.vjp(lambda t: mg.max_pool2d(t, 2, padding=((1, 0), (0, 1))), np.full((1, 1, 1, 2), -np.inf))
    assert (padded.numpy() == -np.inf).all()
    assert pull(np.ones(padded.shape))[0].numpy().all()  # to the pixel, not to a pad


@pytest.mark.parametrize("kind", ["max", "mean"])
def test_channels_first_and_layouts(kind):
    x = values(2, 5, 6, 3, dtype=np.float32)
    want, back = mg.vjp(lambda t: FUNCTIONS[kind](t, 2, padding="SAME"), x)
    ct = values(*want.shape, seed=1, dtype=np.float32)
    want_dx = back(ct)[0].numpy()
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    got, pull = mg.vjp(lambda t: FUNCTIONS[kind](t, 2, padding="SAME", data_format="NCHW"), first)
    np.testing.assert_array_equal(got.numpy(), want.numpy().transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(pull(ct.transpose(0, 3, 1, 2))[0].numpy(), want_dx.transpose(0, 3, 1, 2))
    reversed_x = mg.Tensor(np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1])
    np.testing.assert_array_equal(FUNCTIONS[kind](reversed_x, 2, padding="SAME").numpy(), want.numpy())
    even = np.broadcast_to(np.float32(2), ct.shape)
    np.testing.assert_array_equal(back(mg.Tensor(even))[0].numpy(), back(np.array(even))[0].numpy())


def test_same_counts_pixels_alone():
    x = np.arange(1.0, 4).reshape(1, 1, 3, 1)
    assert mg.avg_pool2d(x, (1, 2), padding="SAME").numpy().ravel().tolist() == [1.5, 3.0]
    assert mg.max_pool2d(-x, (1, 2), padding="SAME").numpy().ravel().tolist() == [-1.0, -3.0]


def test_other_dtypes():
    assert mg.max_pool2d(np.arange(4).reshape(1, 2, 2, 1)).dtype == np.float64
    half = values(1, 4, 4, 2, dtype=np.float16)
    assert mg.max_pool2d(half).dtype == np.float16
    assert mg.avg_pool2d(half).dtype == np.float16


@pytest.mark.parametrize("kind", ["max", "mean"])
def test_second_order(kind):
    x = values(1, 4, 5, 2) * 3
    mg.gradcheck.check(lambda t: mg.exp(0.3 * FUNCTIONS[kind](t, (2, 3), 1)), [x]).require()


def test_errors():
    x = np.ones((2, 4, 6, 3))
    for name, function in (("max_pool2d", mg.max_pool2d), ("avg_pool2d", mg.avg_pool2d)):
        with pytest.raises(errors.ShapeError, match=rf"{name}: x has shape \(4, 6, 3\), expected \(batch, rows"):
            function(x[0])
        with pytest.raises(errors.ShapeError, match=r"window has size \(5, 5\), expected at most the \(4, 6\) of x"):
            function(x, 5)
        with pytest.raises(errors.ArgumentError, match=f"{name}: size is 0, expected at least 1"):
            function(x, 0)
        with pytest.raises(errors.ArgumentTypeError, match=f"{name}: strides is 'two', expected an integer or two"):
            function(x, 2, "two")
        with pytest.raises(errors.ArgumentError, match="expected less than the size"):
            function(x, 2, padding=2)
        with pytest.raises(errors.ArgumentError, match="padding is 'full', expected 'VALID', 'SAME' or integers"):
            function(x, padding="full")
        with pytest.raises(errors.ArgumentError, match="data_format is 'channels_last'"):
            function(x, data_format="channels_last")
