"""Upsampling and reflection against NumPy; derivatives, layouts, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors


def values(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def between(line, factor):
    """A line of n values at n·factor places, by numpy.interp at half-pixel centres."""
    n = len(line)
    return np.interp((np.arange(n * factor) + 0.5) / factor - 0.5, np.arange(n), line)


def written_out(x, size, interpolation):
    x = x.astype(np.float64)
    if interpolation == "nearest":
        return x.repeat(size[0], 1).repeat(size[1], 2)
    return np.apply_along_axis(between, 2, np.apply_along_axis(between, 1, x, size[0]), size[1])


lengths = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 2), lengths, lengths, st.sampled_from([1, 3, 17])),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["nearest", "bilinear"]),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_size(shape, size, interpolation, dtype):
    x = values(*shape, dtype=dtype)
    y, pull = mg.vjp(lambda t: mg.upsample2d(t, size, interpolation), x)
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(y.numpy(), written_out(x, size, interpolation), rtol=tolerance, atol=tolerance)
    ct, probe = values(*y.shape, seed=1, dtype=dtype), values(*shape, seed=2, dtype=dtype)
    dx = pull(ct)[0].numpy().astype(np.float64)
    left, right = np.sum(dx * probe), np.sum(ct * written_out(probe, size, interpolation))
    np.testing.assert_allclose(left, right, atol=float(20 * tolerance * ct.size**0.5 + tolerance))
    assert y.dtype == dtype


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_gradients_element_by_element(interpolation):
    shape, size = (2, 3, 4, 2), (2, 3)
    ct = values(2, 6, 12, 2)
    (dx,) = mg.vjp(lambda t: mg.upsample2d(t, size, interpolation), np.zeros(shape))[1](ct)
    for at in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[at] = 1
        np.testing.assert_allclose(dx.numpy()[at], np.sum(ct * written_out(unit, size, interpolation)), atol=1e-13)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_channels_first_and_layouts(interpolation):
    x = values(2, 3, 4, 5, dtype=np.float32)
    want = mg.upsample2d(x, 2, interpolation).numpy()
    got = mg.upsample2d(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), 2, interpolation, "NCHW").numpy()
    np.testing.assert_array_equal(got, want.transpose(0, 3, 1, 2))
    reversed_x = mg.Tensor(np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1])
    np.testing.assert_array_equal(mg.upsample2d(reversed_x, 2, interpolation).numpy(), want)


def test_many_rows_and_a_constant():
    y = mg.upsample2d(np.full((8, 20, 24, 16), 0.1, np.float32), 2, "bilinear").numpy()
    np.testing.assert_allclose(y, np.float32(0.1), rtol=2e-7)
    x = values(8, 20, 24, 16, dtype=np.float32)
    np.testing.assert_allclose(
        mg.upsample2d(x, 2, "bilinear").numpy(), written_out(x, (2, 2), "bilinear"), rtol=1e-5, atol=1e-6
    )


def test_upsampling_errors():
    x = np.ones((1, 2, 3, 1))
    with pytest.raises(errors.ShapeError, match=r"upsample2d: x has shape \(2, 3, 1\), expected \(batch"):
        mg.upsample2d(x[0])
    with pytest.raises(errors.ArgumentError, match="size is 0, expected at least 1"):
        mg.upsample2d(x, 0)
    with pytest.raises(errors.ArgumentError, match="interpolation is 'cubic', expected 'nearest' or 'bilinear'"):
        mg.upsample2d(x, 2, "cubic")
    for interpolation in ("nearest", "bilinear"):
        with pytest.raises(errors.ShapeError, match="expected at least one row and column"):
            mg.upsample2d(x[:, :0], 2, interpolation)


# Reflection


@st.composite
def reflections(draw):
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    return shape, tuple(draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))) for n in shape)


@settings(max_examples=60, deadline=None)
@given(reflections())
def test_reflection_is_numpys(problem):
    shape, widths = problem
    x = values(*shape)
    y, pull = mg.vjp(lambda t: mg.pad(t, widths, "reflect"), x)
    np.testing.assert_array_equal(y.numpy(), np.pad(x, widths, "reflect"))
    ct = values(*y.shape, seed=1)
    places = np.pad(np.arange(x.size).reshape(shape), widths, "reflect")
    want = np.bincount(places.ravel(), ct.ravel(), x.size).reshape(shape)
    np.testing.assert_allclose(pull(ct)[0].numpy(), want, atol=1e-13)


def test_reflection_takes_other_dtypes_and_layouts():
    x = np.arange(12).reshape(3, 4)
    got = mg.pad(mg.Tensor(x.T[::-1]), ((1, 2), (0, 1)), "reflect")
    np.testing.assert_array_equal(got.numpy(), np.pad(x.T[::-1], ((1, 2), (0, 1)), "reflect"))
    assert got.dtype == np.int64


def test_reflection_errors():
    with pytest.raises(errors.ArgumentError, match=r"pad: pad_width is \(\(3, 0\),\), expected less than the length"):
        mg.pad(np.ones(3), (3, 0), "reflect")
    with pytest.raises(errors.ArgumentError, match="expected widths of at least 0"):
        mg.pad(np.ones(3), (-1, 0), "reflect")
    with pytest.raises(errors.ArgumentError, match="mode is 'edge', expected 'constant' or 'reflect'"):
        mg.pad(np.ones(3), 1, "edge")
