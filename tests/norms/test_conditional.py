"""Conditional instance and batch normalization: labels and mixtures against loops, gradients, mistakes, layers."""

import copy

import numpy as np
import pytest
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, ShapeError

N, STYLES, C = 4, 3, 5
LABELS = np.array([2, 0, 2, 1])
SHAPES = {-1: (N, 2, 3, C), 1: (N, C, 3, 2), 2: (N, 3, C)}


def draw(axis=-1, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    arrays = (rng.standard_normal(s) for s in (SHAPES[axis], (STYLES, C), (STYLES, C), (N, STYLES)))
    return [a.astype(dtype) for a in arrays]


def by_loops(x, gamma, beta, mixture, axis, epsilon=1e-5):
    """A sample and a channel at a time."""
    x = np.moveaxis(x.astype(np.longdouble), axis, 1)
    y = np.empty_like(x)
    for n in range(len(x)):
        for c in range(C):
            scale = sum(w * g for w, g in zip(mixture[n], gamma[:, c]))
            shift = sum(w * b for w, b in zip(mixture[n], beta[:, c]))
            v = x[n, c]
            y[n, c] = (v - v.mean()) / np.sqrt(v.var() + epsilon) * scale + shift
    return np.moveaxis(y, 1, axis)


@pytest.mark.parametrize("axis", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_and_weights_against_loops(axis, dtype):
    x, gamma, beta, weights = draw(axis, dtype=dtype)
    one_hot = np.eye(STYLES)[LABELS]
    y = norms.conditional_instance_norm(x, gamma, beta, LABELS, axis=axis)
    close(y, by_loops(x, gamma, beta, one_hot, axis), dtype, units=32)
    y = norms.conditional_instance_norm(x, gamma, beta, weights=weights, axis=axis)
    close(y, by_loops(x, gamma, beta, weights, axis), dtype, units=32)
    np.testing.assert_allclose(
        norms.conditional_instance_norm(x, gamma, beta, weights=one_hot, axis=axis).numpy(),
        norms.conditional_instance_norm(x, gamma, beta, LABELS, axis=axis).numpy(),
        rtol=1e-5 if dtype == np.float32 else 1e-13,
    )


def test_weights_are_not_normalized():
    x, gamma, beta, weights = draw()
    y, doubled = (norms.conditional_instance_norm(x, gamma, beta, weights=w) for w in (weights, 2 * weights))
    close(doubled, 2 * y.numpy())


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("shift", [True, False])
def test_gradients_to_second_order_in_every_combination(scale, shift):
    x, gamma, beta, weights = draw(2, seed=1)
    gamma[1, ::2] = 0
    gamma, beta = gamma if scale else None, beta if shift else None

    def labelled(x, gamma, beta):
        return norms.conditional_instance_norm(x, gamma, beta, LABELS, axis=2, epsilon=0.1)

    def mixed(x, gamma, beta, weights):
        return norms.conditional_instance_norm(x, gamma, beta, weights=weights, axis=2, epsilon=0.1)

    mg.gradcheck.check(labelled, [x, gamma, beta], second_on="reference").require()
    if scale or shift:  # else nothing depends on the weights
        mg.gradcheck.check(mixed, [x, gamma, beta, weights], second_on="reference").require()


def test_a_row_collects_the_gradients_of_its_samples_alone():
    x, gamma, beta, _ = draw(seed=2)
    dy = np.random.default_rng(3).standard_normal(x.shape)
    _, pull = mg.vjp(lambda g, b: norms.conditional_instance_norm(x, g, b, [2, 2, 0, 2]), gamma, beta)
    dgamma, dbeta = (g.numpy() for g in pull(mg.tensor(dy)))
    assert not dgamma[1].any()
    assert not dbeta[1].any()
    close(dbeta[0], dy[2].sum((0, 1)))
    close(dbeta[2], dy[[0, 1, 3]].sum((0, 1, 2)))


def test_promises_of_a_constant_instance_an_empty_batch_and_nan():
    x, gamma, beta, _ = draw(dtype=np.float32)
    x[1] = 1e6
    y = norms.conditional_instance_norm(x, gamma, beta, LABELS, epsilon=0.0).numpy()
    np.testing.assert_array_equal(y[1], np.broadcast_to(beta[0], (2, 3, C)))
    x[2, 0, 0, 3] = np.nan
    spoilt = norms.conditional_instance_norm(x, gamma, beta, LABELS, epsilon=0.0).numpy()
    assert np.isnan(spoilt[2, ..., 3]).all()
    assert np.isnan(spoilt).sum() == 6
    empty = norms.conditional_instance_norm(x[:0], gamma, beta, LABELS[:0])
    assert empty.shape == (0, 2, 3, C)


def test_layouts_do_not_matter():
    x, gamma, beta, weights = draw(dtype=np.float32)
    want = norms.conditional_instance_norm(x, gamma, beta, LABELS).numpy()
    strided = np.repeat(LABELS, 2)[::2]
    turned = [mg.Tensor(np.ascontiguousarray(a.T).T) for a in (x, gamma, beta)]
    np.testing.assert_array_equal(norms.conditional_instance_norm(*turned, mg.Tensor(strided)).numpy(), want)
    want = norms.conditional_instance_norm(x, gamma, beta, weights=weights).numpy()
    turned_weights = mg.Tensor(np.ascontiguousarray(weights.T).T)
    np.testing.assert_allclose(
        norms.conditional_instance_norm(*turned, weights=turned_weights).numpy(), want, rtol=1e-5, atol=1e-6
    )


def test_mistakes_are_named():
    x, gamma, beta, weights = draw()
    function, name = norms.conditional_instance_norm, "conditional_instance_norm"
    with pytest.raises(ArgumentError, match=f"{name}: got neither of labels and weights"):
        function(x, gamma, beta)
    with pytest.raises(ArgumentError, match=f"{name}: got both of labels and weights"):
        function(x, gamma, beta, LABELS, weights)
    for bad in (3, -1):
        with pytest.raises(IndexRangeError, match=f"{name}: label {bad} is out of range for 3 styles, expected 0 to 2"):
            function(x, gamma, beta, [0, bad, 1, 1])
    with pytest.raises(DTypeError, match=f"{name}: labels has dtype float32, expected integers"):
        function(x, gamma, beta, [0.0, 1.0, 1.0, 1.0])
    with pytest.raises(ShapeError, match=rf"{name}: labels has shape \(3,\), expected \(4,\), one a sample"):
        function(x, gamma, beta, [0, 1, 2])
    with pytest.raises(DTypeError, match=f"{name}: weights has dtype int64, expected floats; integers are labels"):
        function(x, gamma, beta, weights=np.ones((N, STYLES), int))
    with pytest.raises(ShapeError, match=rf"{name}: weights has shape \(4, 2\), expected \(4, 3\)"):
        function(x, gamma, beta, weights=np.ones((N, 2)))
    with pytest.raises(ShapeError, match=rf"{name}: gamma has shape \(5,\), expected \(styles, 5\)"):
        function(x, gamma[0], beta, LABELS)
    with pytest.raises(ShapeError, match=rf"{name}: beta has shape \(3, 4\), expected \(styles, 5\) to match"):
        function(x, gamma, beta[:, :4], LABELS)
    with pytest.raises(ShapeError, match=rf"{name}: beta has shape \(2, 5\), expected \(3, 5\) as of gamma"):
        function(x, gamma, beta[:2], LABELS)
    with pytest.raises(ShapeError, match=f"{name}: axis 0 of x .* is the samples'"):
        function(x, gamma, beta, LABELS, axis=0)
    with pytest.raises(ArgumentError, match=f"{name}: epsilon is -1"):
        function(x, gamma, beta, LABELS, epsilon=-1)


def built(layer, shape=SHAPES[-1]):
    layer.build_once(shape)
    rng = np.random.default_rng(7)
    for v in layer.trainable_variables:
        v.assign(rng.standard_normal(v.shape))
    return layer


def test_the_instance_layer_in_every_way_of_calling():
    x, _, _, weights = draw(dtype=np.float32)
    layer = built(norms.ConditionalInstanceNormalization(STYLES))
    assert layer.gamma.shape == layer.beta.shape == (STYLES, C)
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    want = norms.conditional_instance_norm(x, gamma, beta, LABELS).numpy()
    for y in (layer(x, labels=LABELS), layer([x, LABELS]), layer((mg.tensor(x), mg.tensor(LABELS)), True)):
        np.testing.assert_array_equal(y.numpy(), want)
    want = norms.conditional_instance_norm(x, gamma, beta, weights=weights).numpy()
    for y in (layer(x, weights=weights), layer([x, weights])):
        np.testing.assert_array_equal(y.numpy(), want)
    np.testing.assert_array_equal(copy.deepcopy(layer)([x, weights]).numpy(), want)
    model = mg.nn.Sequential([layer, mg.nn.Activation("relu"), layer])
    inner = norms.conditional_instance_norm(np.maximum(want, 0), gamma, beta, weights=weights).numpy()
    np.testing.assert_array_equal(model(x, weights=weights).numpy(), inner)
    first = built(norms.ConditionalInstanceNormalization(STYLES, axis=1), SHAPES[1])
    moved = np.moveaxis(x, -1, 1)
    want = norms.conditional_instance_norm(moved, first.gamma, first.beta, LABELS, axis=1).numpy()
    np.testing.assert_array_equal(first(moved, labels=LABELS).numpy(), want)


@pytest.mark.parametrize("kind", [norms.ConditionalInstanceNormalization, norms.ConditionalBatchNormalization])
def test_layers_name_mistakes(kind):
    x, _, _, _ = draw(dtype=np.float32)
    for bad in (0, -1, 2.5, "a", True):
        with pytest.raises(ArgumentError, match=f"{kind.__name__}: (styles|classes) is {bad!r}, expected a positive"):
            kind(bad)
    layer = kind(STYLES, name="mine")
    with pytest.raises(ArgumentTypeError, match=r"mine: expected labels=, weights=, or two inputs, \[x, condition\]"):
        layer(x)
    with pytest.raises(ArgumentError, match="mine: got both of labels and weights"):
        layer(x, labels=LABELS, weights=np.ones((N, STYLES)))
    with pytest.raises(IndexRangeError, match="mine: label 3 is out of range for 3 styles"):
        layer(x, labels=[0, 1, 2, 3])
    with pytest.raises(ShapeError, match=r"mine: the input has shape \(4, 2, 3, 6\), expected lengths \(5,\)"):
        layer(np.ones((N, 2, 3, 6), np.float32), labels=LABELS)
    with pytest.raises(ShapeError, match=r"mine: labels has shape \(2,\), expected \(4,\)"):
        layer(x, labels=[0, 1])


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_batch_layer_shares_statistics_and_has_a_row_a_class(axis, center, scale):
    x, _, _, weights = draw(axis, dtype=np.float64)
    x = 3 + 2 * x
    layer = built(
        norms.ConditionalBatchNormalization(
            STYLES, axis, momentum=0.8, epsilon=0.1, center=center, scale=scale, dtype="float64"
        ),
        SHAPES[axis],
    )
    others = tuple(a for a in range(4) if a != axis % 4)
    mean, var = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    gamma = layer.gamma.numpy() if scale else np.ones((STYLES, C))
    beta = layer.beta.numpy() if center else np.zeros((STYLES, C))
    standing = [N, 1, 1, 1]
    standing[axis] = C
    for mixture in (np.eye(STYLES)[LABELS], weights):
        condition = {"labels": LABELS} if mixture is not weights else {"weights": weights}
        g = (mixture @ gamma if scale else np.ones((N, C))).reshape(standing)
        b = (mixture @ beta if center else np.zeros((N, C))).reshape(standing)
        close(layer(x, True, **condition), (x - mean) / np.sqrt(var + 0.1) * g + b, units=64)
        moving_mean, moving_var = (v.numpy() for v in (layer.batch.moving_mean, layer.batch.moving_variance))
        kept = np.moveaxis(x, axis, -1).reshape(-1, C)
        s = 1 / np.sqrt(moving_var + 0.1)
        inference = np.moveaxis(((kept - moving_mean) * s).reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
        close(layer(x, **condition), inference * g + b, units=64)
    share = 1 - 0.8**2  # of two steps on the same batch
    np.testing.assert_allclose(moving_mean, share * mean.ravel(), rtol=1e-12)
    np.testing.assert_allclose(moving_var, (1 - share) + share * var.ravel(), rtol=1e-12)
    trained = [name for name, v in layer.variables.items() if v.trainable]
    assert trained == ["gamma"] * scale + ["beta"] * center


def test_gradients_of_the_batch_layer():
    x, gamma, beta, weights = draw(2, seed=4)
    layer = norms.ConditionalBatchNormalization(STYLES, 2, epsilon=0.1, dtype="float64")
    layer.build_once(x.shape)

    def function(x, gamma, beta, weights):
        return layer.replaced(gamma=gamma, beta=beta)(x, True, weights=weights)

    mg.gradcheck.check(function, [x, gamma, beta, weights], second_on="reference").require()


def test_a_frozen_batch_layer_uses_and_keeps_its_running_statistics():
    x, _, _, _ = draw(dtype=np.float32)
    layer = norms.ConditionalBatchNormalization(STYLES, trainable=False)
    want = layer(x, labels=LABELS).numpy()
    np.testing.assert_array_equal(layer(x, True, labels=LABELS).numpy(), want)
    assert layer.batch.moving_mean.tolist() == [0.0] * C
    assert layer.trainable_variables == []


def test_constant_channels_give_exactly_beta_in_the_batch_layer():
    layer = built(norms.ConditionalBatchNormalization(STYLES, epsilon=0.0))
    x = np.full(SHAPES[-1], 1e6, np.float32)
    want = np.broadcast_to(layer.beta.numpy()[LABELS][:, None, None], x.shape)
    np.testing.assert_array_equal(layer(x, True, labels=LABELS).numpy(), want)


def test_half_floats_go_in_and_come_out():
    x, _, _, _ = draw(dtype=np.float16)
    layer = built(norms.ConditionalInstanceNormalization(STYLES))
    y = layer(x, labels=LABELS)
    assert y.dtype == np.float16
    want = layer(x.astype(np.float32), labels=LABELS).numpy().astype(np.float16)
    np.testing.assert_array_equal(y.numpy(), want)
