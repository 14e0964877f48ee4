"""Adaptive instance normalization: values, gradients to content and style, promises, mistakes, the layer."""

import numpy as np
import pytest
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

SHAPES = {-1: ((2, 3, 4, 5), (2, 6, 1, 5)), 1: ((2, 5, 4, 3), (2, 5, 2, 7)), 2: ((3, 4, 5), (3, 9, 5))}


def draw(axis=-1, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [(1 + 2 * rng.standard_normal(s)).astype(dtype) for s in SHAPES[axis]]


def expected(content, style, axis, epsilon=1e-5):
    c, s = content.astype(np.longdouble), style.astype(np.longdouble)
    axes = tuple(a for a in range(1, c.ndim) if a != axis % c.ndim)
    mean, var = c.mean(axes, keepdims=True), c.var(axes, keepdims=True)
    spread = np.sqrt(s.var(axes, keepdims=True) + epsilon)
    return (c - mean) / np.sqrt(var + epsilon) * spread + s.mean(axes, keepdims=True)


@pytest.mark.parametrize("axis", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_in_every_data_format(axis, dtype):
    content, style = draw(axis, dtype)
    close(norms.adaptive_instance_norm(content, style, axis), expected(content, style, axis), dtype)


@pytest.mark.parametrize("epsilon", [0.1, 0.0])
def test_the_result_has_the_styles_moments(epsilon):
    content, style = draw()
    y = norms.adaptive_instance_norm(content, style, epsilon=epsilon).numpy()
    np.testing.assert_allclose(y.mean((1, 2)), style.mean((1, 2)), rtol=1e-10)
    if epsilon == 0:
        np.testing.assert_allclose(y.std((1, 2)), style.std((1, 2)), rtol=1e-10)


@pytest.mark.parametrize("epsilon", [0.1, 0.0])
@pytest.mark.parametrize("axis", [1, 2])
def test_gradients_to_content_and_style_to_second_order(axis, epsilon):
    content, style = draw(axis, seed=1)
    content, style = content[:2, ..., :3] if axis == 1 else content[:2], style[:2]

    def function(content, style):
        return norms.adaptive_instance_norm(content, style, axis, epsilon)

    mg.gradcheck.check(function, [content, style], second_on="reference").require()


def test_constant_content_gives_exactly_the_styles_mean_and_constant_style_flattens():
    content, style = draw(dtype=np.float32)
    content[1] = 1e6
    y = norms.adaptive_instance_norm(content, style, epsilon=0.0).numpy()
    mean = style[1].astype(np.float64).mean((0, 1)).astype(np.float32)
    np.testing.assert_array_equal(y[1], np.broadcast_to(mean, y[1].shape))
    style[0] = 7.5

    def function(content, style):
        return norms.adaptive_instance_norm(content, style, epsilon=0.0)

    y, pull = mg.vjp(function, content, style)
    np.testing.assert_array_equal(y.numpy()[0], np.full(y.shape[1:], 7.5))
    assert all(np.isfinite(g.numpy()).all() for g in pull(mg.tensor(content)))


def test_large_means_keep_float32s_digits():
    rng = np.random.default_rng(2)
    content = (1e6 + rng.standard_normal((2, 8, 9, 3))).astype(np.float32)
    style = (-1e6 + rng.standard_normal((2, 5, 5, 3))).astype(np.float32)
    y, want = norms.adaptive_instance_norm(content, style).numpy(), expected(content, style, -1)
    assert np.max(np.abs(y - want)) <= 5e-7 * np.max(np.abs(want))
    centred = norms.adaptive_instance_norm(content, style + 1e6).numpy()
    want = expected(content, style + 1e6, -1)
    assert np.max(np.abs(centred - want)) <= 5e-7 * np.max(np.abs(want))


def test_layouts_nan_and_empty():
    content, style = draw(dtype=np.float32)
    want = norms.adaptive_instance_norm(content, style).numpy()
    turned = [mg.Tensor(np.ascontiguousarray(a.T).T) for a in (content, style)]
    np.testing.assert_array_equal(norms.adaptive_instance_norm(*turned).numpy(), want)
    style[0, 1, 0, 2] = np.nan
    y = norms.adaptive_instance_norm(content, style).numpy()
    assert np.isnan(y[0, ..., 2]).all()
    assert np.isnan(y).sum() == 12
    assert norms.adaptive_instance_norm(content[:0], style[:0]).shape == (0, 3, 4, 5)


def test_the_layer():
    content, style = draw(1, np.float32)
    layer = norms.AdaptiveInstanceNormalization(1)
    want = norms.adaptive_instance_norm(content, style, 1).numpy()
    for y in (layer([content, style]), layer(content, style=style), layer((mg.tensor(content), style), True)):
        np.testing.assert_array_equal(y.numpy(), want)
    assert layer.variables == {}


def test_mistakes_are_named():
    content, style = draw()
    name, function = "adaptive_instance_norm", norms.adaptive_instance_norm
    with pytest.raises(
        ShapeError, match=rf"{name}: style has shape \(1, 6, 1, 5\), expected 4 axes with lengths \(2, 5\)"
    ):
        function(content, style[:1])
    with pytest.raises(ShapeError, match=rf"{name}: style has shape \(2, 6, 5\), expected 4 axes"):
        function(content, style[:, :, 0])
    with pytest.raises(ShapeError, match=rf"{name}: style has shape .* lengths \(2, 5\) at \(0, 3\) as of the content"):
        function(content, style[..., :3])
    with pytest.raises(ShapeError, match=f"{name}: axis 0 of x .* is the samples'"):
        function(content, style, 0)
    with pytest.raises(ArgumentTypeError, match=f"{name}: axis is .*, expected one integer"):
        function(content, style, [1])
    with pytest.raises(ArgumentError, match=f"{name}: epsilon is -1"):
        function(content, style, epsilon=-1)
    layer = norms.AdaptiveInstanceNormalization(name="mine")
    with pytest.raises(ArgumentTypeError, match=r"mine: expected style=, or two inputs, \[content, style\]"):
        layer(content)
    with pytest.raises(ShapeError, match="mine: style has shape"):
        layer([content, style[:1]])
    with pytest.raises(ArgumentError, match="AdaptiveInstanceNormalization: axis is 0"):
        norms.AdaptiveInstanceNormalization(0)
