"""Unit normalization: the function and the layer against NumPy, short vectors and zeros, axes, gradients, mistakes."""

import numpy as np
import pytest
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def expected(x, axes, epsilon=1e-12):
    x = x.astype(np.longdouble)
    return x / np.sqrt(np.maximum((x * x).sum(axes, keepdims=True), epsilon))


@pytest.mark.parametrize("axis", [-1, 1, 0, (0, 2), [1, -1], None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-5])
def test_values_over_any_axes(axis, dtype, scale):
    x = (scale * np.random.default_rng(0).standard_normal((3, 4, 5))).astype(dtype)
    axes = tuple(axis) if isinstance(axis, list) else axis
    close(norms.unit_norm(x, axis=axis), expected(x, axes), dtype, units=2)


def test_short_vectors_are_divided_by_the_root_of_epsilon_and_zeros_stay():
    x = np.array([[3e-7, 4e-7], [0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(norms.unit_norm(x).numpy(), [[0.3, 0.4], [0, 0], [0.6, 0.8]], rtol=1e-12)
    np.testing.assert_allclose(norms.unit_norm(x, epsilon=0).numpy(), [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-12)
    np.testing.assert_allclose(norms.unit_norm(x, epsilon=100.0).numpy(), x / 10, rtol=1e-12)
    slope = mg.grad(lambda x: norms.unit_norm(x, epsilon=0.0)[1, 0])(mg.tensor(x)).numpy()
    assert np.isfinite(slope).all()


def test_gradients_to_second_order():
    x = np.random.default_rng(1).standard_normal((3, 4, 2))
    for axis in (-1, (0, 2)):
        mg.gradcheck.check(lambda x, axis=axis: norms.unit_norm(x, axis=axis), [x], second_on="reference").require()
    mg.gradcheck.check(lambda x: norms.unit_norm(x, epsilon=100.0), [x], second_on="reference").require()


def test_layouts_nan_and_empty():
    x = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)
    want = norms.unit_norm(x).numpy()
    for turned in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x[::-1].copy()[::-1]):
        np.testing.assert_array_equal(norms.unit_norm(mg.Tensor(turned)).numpy(), want)
    row = np.broadcast_to(x[:1], (4, 6))
    np.testing.assert_array_equal(norms.unit_norm(mg.Tensor(row)).numpy(), np.broadcast_to(want[:1], (4, 6)))
    spoilt = x.copy()
    spoilt[1, 2] = np.nan
    y = norms.unit_norm(spoilt).numpy()
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[[0, 2, 3]], want[[0, 2, 3]])
    assert norms.unit_norm(x[:0]).shape == (0, 6)
    assert norms.unit_norm(x[:, :0]).shape == (4, 0)
    np.testing.assert_array_equal(norms.unit_norm(np.array([-3.0])).numpy(), [-1.0])


def test_the_layer():
    x = np.random.default_rng(3).standard_normal((2, 3, 4)).astype(np.float32)
    layer = norms.UnitNormalization([1, 2])
    np.testing.assert_array_equal(layer(x).numpy(), norms.unit_norm(x, axis=(1, 2)).numpy())
    assert layer.variables == {}
    assert layer(x.astype(np.float64)).dtype == np.float64
    assert layer(x.astype(np.float16)).dtype == np.float16
    whole = layer(np.arange(24).reshape(2, 3, 4))
    assert whole.dtype == np.float32
    model = mg.nn.Sequential([mg.nn.Dense(5), norms.UnitNormalization()])
    np.testing.assert_allclose(np.linalg.norm(model(x).numpy(), axis=-1), 1, rtol=1e-6)


def test_mistakes_are_named():
    x = np.ones((2, 3))
    with pytest.raises(ShapeError, match="unit_norm: axis 2 is out of range for 2 dimensions"):
        norms.unit_norm(x, axis=2)
    with pytest.raises(ArgumentError, match="unit_norm: epsilon is -1"):
        norms.unit_norm(x, epsilon=-1)
    with pytest.raises(ShapeError, match="mine: axis 5 is out of range"):
        norms.UnitNormalization(5, name="mine")(x)
    with pytest.raises(ArgumentTypeError, match="UnitNormalization: axis is None"):
        norms.UnitNormalization(None)
