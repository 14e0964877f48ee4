"""The layer BatchNormalization: masks and sample weights, Keras's arguments, frozen layers, half inputs."""

import copy

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def weighted(x, w, axes, epsilon):
    w = np.broadcast_to(w, x.shape)
    mean = (w * x).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)
    var = (w * (x - mean) ** 2).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon), mean.squeeze(axes), var.squeeze(axes)


@pytest.mark.parametrize(
    ("shape", "axis", "weights", "standing"),
    [
        ((6, 3), -1, (6,), (6, 1)),
        ((6, 4, 3), -1, (6, 4), (6, 4, 1)),
        ((6, 4, 3), -1, (6,), (6, 1, 1)),
        ((6, 3, 4, 2), 1, (6, 4, 2), (6, 1, 4, 2)),
        ((6, 3, 4, 2), 1, (6, 4), (6, 1, 4, 1)),
        ((6, 4, 3), -1, (6, 1, 3), (6, 1, 3)),
    ],
)
def test_masks_and_sample_weights_of_any_shape(shape, axis, weights, standing):
    rng = np.random.default_rng(0)
    x, w, mask = 2 + rng.standard_normal(shape), rng.random(weights) + 0.1, rng.random(weights) > 0.3
    axes = tuple(a for a in range(len(shape)) if a != axis % len(shape))
    for options, used in [
        ({"mask": mask}, mask),
        ({"sample_weight": w}, w),
        ({"mask": mask, "sample_weight": w}, mask * w),
    ]:
        layer = norms.BatchNormalization(axis=axis, momentum=0.9, dtype="float64")
        y = layer(mg.tensor(x), training=True, **options)
        want, mean, var = weighted(x, used.reshape(standing), axes, 1e-3)
        np.testing.assert_allclose(y.numpy(), want, rtol=1e-12)
        np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-12)
        np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * var, rtol=1e-12)
        plain = (x - np.expand_dims(0.1 * mean, axes)) / np.sqrt(np.expand_dims(0.9 + 0.1 * var, axes) + 1e-3)
        np.testing.assert_allclose(layer(mg.tensor(x), mask=mask).numpy(), plain, rtol=1e-11)  # no say in inference


def test_a_full_mask_is_no_mask():
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 4, 3)), dtype="float32")
    layers = [norms.BatchNormalization(unbiased_moving_variance=True) for _ in range(2)]
    plain, masked = layers[0](x, training=True), layers[1](x, training=True, mask=np.ones((6, 4), bool))
    np.testing.assert_allclose(masked.numpy(), plain.numpy(), rtol=1e-6, atol=1e-7)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(*[layer.variables[name].numpy() for layer in layers], rtol=1e-12)


def test_gradients_with_a_mask_to_second_order():
    rng = np.random.default_rng(1)
    x, mask = rng.standard_normal((5, 3, 2)), np.ones((5, 3), bool)
    mask[0, 2] = mask[3] = False
    layer = norms.BatchNormalization(epsilon=0.1, dtype="float64")
    mg.gradcheck.check(lambda x: layer(x, training=True, mask=mask), [x]).require()


def test_unbiased_variance_with_weights_counts_their_sum():
    x, counts = np.random.default_rng(0).standard_normal((5, 2)), np.array([2.0, 1.0, 0.0, 3.0, 1.0])
    layer = norms.BatchNormalization(momentum=0.0, unbiased_moving_variance=True, dtype="float64")
    layer(mg.tensor(x), training=True, sample_weight=counts)
    want = np.repeat(x, counts.astype(int), 0).var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_variance.numpy(), want, rtol=1e-12)
    before = layer.moving_variance.numpy().copy()
    layer(mg.tensor(x), training=True, mask=[True, False, False, False, False])  # one value has no unbiased variance
    np.testing.assert_array_equal(layer.moving_variance.numpy(), before)


def test_one_value_with_weight_gives_exactly_beta():
    layer = norms.BatchNormalization(beta_initializer=mg.nn.initializers.constant(0.3))
    y = layer(mg.tensor([[5.0], [7.0]]), training=True, mask=[True, False]).numpy()
    assert y[0, 0] == np.float32(0.3)
    assert np.isfinite(y).all()


def test_masks_that_do_not_fit():
    layer, x = norms.BatchNormalization(name="bn"), mg.tensor(np.ones((6, 4, 3), np.float32))
    with pytest.raises(ShapeError, match=r"bn: mask has shape \(4,\), expected \(6, 4\) or its first axes"):
        layer(x, training=True, mask=np.ones(4, bool))
    with pytest.raises(ShapeError, match=r"bn: sample_weight has shape \(6, 1, 2\)"):
        layer(x, training=True, sample_weight=np.ones((6, 1, 2)))
    with pytest.raises(ArgumentError, match=r"add up to 0\.0 in 3 of 3 groups"):
        layer(x, training=True, mask=np.zeros(6, bool))


def test_a_frozen_layer_normalizes_as_in_inference_and_changes_nothing():
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 3)), dtype="float32")
    layer = norms.BatchNormalization(trainable=False)
    np.testing.assert_array_equal(layer(x, training=True).numpy(), layer(x).numpy())
    assert layer.moving_mean.tolist() == [0.0] * 3
    assert layer.trainable_variables == []
    layer.trainable = True
    assert np.abs(layer(x, training=True).numpy().mean(0)).max() < 1e-6
    assert layer.moving_mean.tolist() != [0.0] * 3
    assert len(layer.trainable_variables) == 2


def test_regularizers_constraints_and_initializers():
    layer = norms.BatchNormalization(
        gamma_regularizer=mg.nn.regularizers.L2(0.5),
        beta_constraint=mg.nn.constraints.NonNeg(),
        gamma_initializer=mg.nn.initializers.constant(2.0),
        moving_mean_initializer="ones",
        moving_variance_initializer=mg.nn.initializers.constant(4.0),
    )
    layer.build_once((None, 3))
    assert [float(loss.item()) for loss in layer.losses] == [6.0]
    assert layer.beta.constraint is not None
    np.testing.assert_allclose(layer(mg.tensor([[1.0, 3.0, 1.0]])).numpy(), [[0.0, 2.0, 0.0]], atol=1e-3)


def test_half_inputs_are_computed_in_float32():
    x = (300 + np.random.default_rng(0).standard_normal((64, 3))).astype(np.float16)  # its squares overflow float16
    layer = norms.BatchNormalization(dtype="float16")
    y = layer(mg.tensor(x), training=True)
    assert y.dtype == np.float16
    assert layer.gamma.dtype == np.float32
    wide = x.astype(float)
    want = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-3)
    np.testing.assert_allclose(y.numpy().astype(float), want, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.01 * wide.mean(0), rtol=1e-12)
    assert layer(mg.tensor(x)).dtype == np.float16


def test_integers_are_cast():
    assert norms.BatchNormalization()(mg.tensor([[1], [3]]), training=True).numpy().dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"renorm": True, "renorm_clipping": {"rmax": 2.0}}, {"virtual_batch_size": 3}])
def test_deepcopy_shares_nothing(options):
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 3)), dtype="float32")
    layer = norms.BatchNormalization(**options)
    layer(x, training=True)
    twin = copy.deepcopy(layer)
    before = {name: v.numpy().copy() for name, v in layer.variables.items()}
    np.testing.assert_array_equal(twin(x, training=True).numpy(), copy.deepcopy(layer)(x, training=True).numpy())
    assert list(twin.variables) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(layer.variables[name].numpy(), value)
    assert twin.moving_mean.numpy().tolist() != before["moving_mean"].tolist()


def test_kerass_arguments_stand_in_kerass_order():
    layer = norms.BatchNormalization(
        1,
        0.9,
        0.01,
        True,
        False,
        "ones",
        "zeros",
        "zeros",
        "ones",
        "l2",
        "l1",
        "non_neg",
        "unit_norm",
        False,
        fused=True,
    )
    x = np.random.default_rng(0).standard_normal((6, 3, 2))
    y = layer(mg.tensor(x, dtype="float32"), training=True).numpy()
    want = (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + 0.01) + 1
    np.testing.assert_allclose(y, want, atol=1e-5)
    assert layer.gamma is None


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="synchronized is True, which is not offered"):
        norms.BatchNormalization(synchronized=True)
    with pytest.raises(ArgumentError, match="unbiased_moving_variance can't correct"):
        norms.BatchNormalization(renorm=True, unbiased_moving_variance=True)
    with pytest.raises(ArgumentTypeError, match="center is 1, expected True or False"):
        norms.BatchNormalization(center=1)
    with pytest.raises(ArgumentTypeError, match="fused is 'yes'"):
        norms.BatchNormalization(fused="yes")
    with pytest.raises(ArgumentError, match=r"momentum is '0\.9'"):
        norms.BatchNormalization(momentum="0.9")


GIVEN = {
    "vectors": ((4, 5, 3), (3,), (3,)),
    "standing": ((4, 5, 3), (1, 1, 3), (1, 1, 3)),
    "a mean of each sample, a scale of each channel": ((4, 5, 3), (4, 1, 3), (3,)),
    "scalars and positions": ((4, 5, 3), (), (5, 3)),
    "channels first": ((4, 3, 5, 2), (3, 1, 1), (1, 3, 1, 1)),
    "different shapes of a kind": ((4, 5, 3), (5, 1), (4, 1, 3)),
}


@pytest.mark.parametrize("case", GIVEN)
def test_batch_normalization_with_given_moments_of_any_shape(case):
    shape, moments, parameters = GIVEN[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    mean, var = np.asarray(rng.standard_normal(moments)), np.asarray(rng.random(moments))
    offset, scale = np.asarray(rng.standard_normal(parameters)), np.asarray(rng.standard_normal(parameters))
    y = norms.batch_normalization(x, mean, var, offset, scale, 0.1)
    np.testing.assert_allclose(y.numpy(), (x - mean) / np.sqrt(var + 0.1) * scale + offset, rtol=1e-12, atol=1e-13)
    y = norms.batch_normalization(x, mean, 2.0, None, scale, 0.1)
    np.testing.assert_allclose(y.numpy(), (x - mean) / np.sqrt(2.1) * scale, rtol=1e-12, atol=1e-13)

    def f(*args):
        return norms.batch_normalization(*args, 0.1)

    mg.gradcheck.check(f, [x, mean, var, offset, scale]).require()


def test_given_moments_without_spread_give_exactly_the_offset():
    x = np.full((3, 2), 7.7, np.float32)
    y = norms.batch_normalization(x, np.float32([7.7, 7.7]), 0.0, np.float32(0.3), None, 0.0)
    np.testing.assert_array_equal(y.numpy(), np.full((3, 2), 0.3, np.float32))


def test_moments_of_half_inputs():
    x = (300 + np.random.default_rng(0).standard_normal((500, 2))).astype(np.float16)
    mean, var = norms.moments(x, 0)
    assert mean.dtype == var.dtype == np.float16
    np.testing.assert_array_equal(mean.numpy(), x.astype(float).mean(0).astype(np.float16))
    np.testing.assert_array_equal(var.numpy(), x.astype(float).var(0).astype(np.float16))
