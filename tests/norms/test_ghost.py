"""Ghost batch normalization: each virtual batch by itself, as a function and as an argument of the layer."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def by_parts(x, size, axes, channel, gamma, beta, epsilon):
    """Every virtual batch normalized alone, with NumPy."""
    standing = [1] * x.ndim
    standing[channel] = -1
    parts = []
    for low in range(0, len(x), size):
        part = x[low : low + size].astype(float)
        mean, var = part.mean(axes, keepdims=True), part.var(axes, keepdims=True)
        parts.append((part - mean) / np.sqrt(var + epsilon) * gamma.reshape(standing) + beta.reshape(standing))
    return np.concatenate(parts)


LAYOUTS = {
    "2-D": ((12, 5), -1, (0,)),
    "NHWC": ((12, 4, 2, 5), -1, (0, 1, 2)),
    "NCHW": ((12, 5, 2, 4), 1, (0, 2, 3)),
}


@pytest.mark.parametrize("size", [3, 4, 12])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_virtual_batch_by_itself(layout, size):
    shape, axis, axes = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    x = (5 * rng.standard_normal((len(LAYOUTS) * 4, *[1] * (len(shape) - 1))) + rng.standard_normal(shape)).astype("f4")
    gamma, beta = rng.standard_normal(5).astype("f4"), rng.standard_normal(5).astype("f4")
    y, mean, var = norms.ghost_batch_norm(x, gamma, beta, virtual_batch_size=size, axis=axis, epsilon=0.01)
    want = by_parts(x, size, axes, axis, gamma, beta, 0.01)
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-6, atol=1e-6)
    parts = x.astype(float).reshape(12 // size, size, *shape[1:])
    over = tuple(a + 1 for a in axes)
    np.testing.assert_allclose(mean.numpy(), parts.mean(over), rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(var.numpy(), parts.var(over), rtol=1e-6)


def test_gradients_to_second_order():
    rng = np.random.default_rng(1)
    x, gamma, beta = rng.standard_normal((6, 3, 2)), rng.standard_normal(3), rng.standard_normal(3)

    def f(x, gamma, beta):
        return norms.ghost_batch_norm(x, gamma, beta, virtual_batch_size=2, axis=1, epsilon=0.1)[0]

    mg.gradcheck.check(f, [x, gamma, beta]).require()


def test_the_layer_moves_once_by_the_mean_of_the_virtual_batches():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((8, 3))
    layer = norms.BatchNormalization(momentum=0.9, virtual_batch_size=4, dtype="float64")
    y = layer(mg.tensor(x), training=True)
    np.testing.assert_allclose(y.numpy(), by_parts(x, 4, 0, 1, np.ones(3), np.zeros(3), 1e-3), rtol=1e-12)
    parts = x.reshape(2, 4, 3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * parts.mean(1).mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * parts.var(1).mean(0), rtol=1e-12)
    inference = (x - layer.moving_mean.numpy()) / np.sqrt(layer.moving_variance.numpy() + 1e-3)
    np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), inference, rtol=1e-12)


def test_the_layer_with_a_mask_and_an_unbiased_variance():
    rng = np.random.default_rng(3)
    x, mask = rng.standard_normal((6, 4, 2)), np.ones((6, 4), bool)
    mask[:, 3] = mask[1, 2] = False
    layer = norms.BatchNormalization(
        momentum=0.0, virtual_batch_size=3, unbiased_moving_variance=True, dtype="float64", epsilon=0.0
    )
    y = layer(mg.tensor(x), training=True, mask=mask).numpy()
    means, variances = [], []
    for rows in (slice(0, 3), slice(3, 6)):
        used = x[rows][mask[rows]]
        np.testing.assert_allclose(y[rows], (x[rows] - used.mean(0)) / used.std(0), rtol=1e-11)
        means.append(used.mean(0))
        variances.append(used.var(0, ddof=1))
    np.testing.assert_allclose(layer.moving_mean.numpy(), np.mean(means, 0), rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.numpy(), np.mean(variances, 0), rtol=1e-12)


def test_bad_sizes():
    x = mg.tensor(np.ones((6, 3), np.float32))
    with pytest.raises(ShapeError, match=r"x has shape \(6, 3\), expected a batch that virtual_batch_size = 4 divides"):
        norms.ghost_batch_norm(x, virtual_batch_size=4)
    with pytest.raises(ArgumentTypeError, match=r"virtual_batch_size is 2\.0, expected an integer"):
        norms.ghost_batch_norm(x, virtual_batch_size=2.0)
    with pytest.raises(ArgumentError, match="virtual_batch_size is 0"):
        norms.BatchNormalization(virtual_batch_size=0)
    with pytest.raises(ArgumentError, match="holds the batch"):
        norms.ghost_batch_norm(x, virtual_batch_size=2, axis=0)
    with pytest.raises(ArgumentError, match="exclude one another"):
        norms.BatchNormalization(virtual_batch_size=2, renorm=True)
    with pytest.raises(ArgumentError, match="one value a channel"):
        norms.BatchNormalization(virtual_batch_size=1)(x, training=True)
    with pytest.raises(ShapeError, match=r"gamma has shape \(2,\), expected \(3,\)"):
        norms.ghost_batch_norm(x, np.ones(2), virtual_batch_size=3)
    with pytest.raises(ShapeError, match="expected a batch that virtual_batch_size = 4 divides"):
        norms.BatchNormalization(virtual_batch_size=4, name="bn")(x, training=True)
