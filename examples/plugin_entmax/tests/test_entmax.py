"""The plugin's own tests: the conformance kit that comes with minigrad, and what sparsemax is by its definition."""

import minigrad_entmax as entmax
import numpy as np
import pytest

import minigrad as mg
import minigrad.testing


class TestEntmax(minigrad.testing.Conformance):
    namespace = "entmax"


class TestEntmaxOnOtherValues(TestEntmax):
    seed = 1


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparsemax_is_the_nearest_distribution(scale, dtype):
    rng = np.random.default_rng(0)
    x = (scale * rng.standard_normal((50, 11))).astype(dtype)
    p = entmax.sparsemax(x).numpy().astype("float64")
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5 if dtype == "float32" else 1e-14)
    assert p.min() >= 0
    # The nearest point p of a convex set has no point q of the set on x's side: (x - p)·(q - p) <= 0.
    for q in [*np.eye(11), *rng.dirichlet(np.ones(11), 20)]:
        assert np.max(np.sum((x - p) * (q - p), axis=-1)) < 1e-4 * scale


def test_any_axis():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for axis in (0, 1, 2, -1, -2, -3):
        expected = np.moveaxis(entmax.sparsemax(np.moveaxis(x, axis, -1)).numpy(), -1, axis)
        np.testing.assert_array_equal(entmax.sparsemax(x, axis).numpy(), expected)
        np.testing.assert_array_equal(entmax.Sparsemax(axis)(x).numpy(), expected)


def test_ties_at_the_edge_and_rounding_do_not_keep_the_kernel_running():
    for n in (3, 7, 1000):
        x = np.full((2, n), 0.1)
        x[:, 0] += 1.0 + 0.1 * np.arange(2)
        np.testing.assert_allclose(entmax.sparsemax(x).numpy().sum(-1), 1, rtol=1e-12)
        np.testing.assert_allclose(entmax.sparsemax(np.full(n, 0.3)).numpy(), 1 / n, rtol=1e-12)


def test_the_loss_is_0_from_a_margin_of_1_and_its_gradient_is_the_error():
    z = np.array([[2.0, 0.5, -1.0], [0.3, 0.1, 0.2]])
    t = np.eye(3)[[0, 2]]
    assert entmax.sparsemax_loss(mg.tensor(z[:1]), t[:1]).item() == 0
    gradient = mg.grad(lambda z: entmax.sparsemax_loss(z, t))(mg.tensor(z)).numpy()
    np.testing.assert_allclose(gradient, (entmax.sparsemax(z).numpy() - t) / 2, atol=1e-15)


def test_sigmoid15_is_a_sigmoid_with_ends():
    x = np.linspace(-3, 3, 1001)
    y = entmax.sigmoid15(x).numpy()
    np.testing.assert_allclose(y + entmax.sigmoid15(-x).numpy(), 1, atol=1e-15)
    assert np.all(np.diff(y) >= 0)
    np.testing.assert_array_equal(y[x <= -2], 0)
    np.testing.assert_array_equal(y[x >= 2], 1)
    # 1.5-entmax of (x, 0): p₁ = (x/2 − τ)² and p₂ = τ², whose roots differ by x/2.
    inside = np.abs(x) < 2
    np.testing.assert_allclose((np.sqrt(y) - np.sqrt(1 - y))[inside], x[inside] / 2, atol=1e-12)


def test_mistakes_are_named():
    with pytest.raises(mg.errors.ShapeError, match="sparsemax: axis 2 is out of range"):
        entmax.sparsemax(np.ones((2, 3)), axis=2)
    with pytest.raises(mg.errors.ArgumentTypeError, match="sparsemax: axis is None"):
        entmax.sparsemax(np.ones((2, 3)), axis=None)
