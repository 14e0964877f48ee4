"""Layers of images: Keras's shapes and arguments, values by the functions, gradients, errors that name the layer."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def images(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def first(x):
    """The channels first."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("padding", ["valid", "same", ((1, 0), (2, 1))])
def test_conv2d(padding):
    x = images(2, 7, 6, 4)
    layer = nn.Conv2D(6, (3, 2), (2, 1), padding, dilation_rate=(1, 2), groups=2, bias_initializer="random_normal")
    y = layer(mg.tensor(x))
    assert layer.kernel.shape == (3, 2, 2, 6)
    assert layer.bias.numpy().all()
    want = mg.conv2d(x, layer.kernel, (2, 1), padding, (1, 2), 2).numpy() + layer.bias.numpy()
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-6)
    assert [v.name for v in layer.trainable_variables] == ["conv2d/kernel", "conv2d/bias"]


def test_conv2d_options():
    x = images(2, 5, 5, 3)
    layer = nn.Conv2D(
        4, 3, activation="relu", use_bias=False, kernel_initializer="he_normal", kernel_regularizer="l2", name="first"
    )
    y = layer(mg.tensor(x))
    assert layer.bias is None
    assert list(layer.variables) == ["kernel"]
    assert layer.kernel.name == "first/kernel"
    assert len(layer.losses) == 1
    np.testing.assert_array_equal(y.numpy(), np.maximum(mg.conv2d(x, layer.kernel).numpy(), 0))
    other = layer.replaced(kernel=mg.tensor(-layer.kernel.numpy()))
    np.testing.assert_array_equal(other(mg.tensor(x)).numpy(), np.maximum(-mg.conv2d(x, layer.kernel).numpy(), 0))
    assert layer(mg.tensor(np.ones((1, 5, 5, 3), np.uint8))).dtype == np.float32


def test_conv2d_fans():
    """Glorot's limit is that of kh·kw·channels inputs and kh·kw·filters outputs."""
    layer = nn.Conv2D(64, 5)
    layer.build_once((None, 32, 32, 32))
    limit = np.sqrt(6 / (25 * 32 + 25 * 64))
    assert 0.99 * limit < np.max(np.abs(layer.kernel.numpy())) <= limit * 1.0001


@pytest.mark.parametrize(
    "make",
    [
        lambda f: nn.Conv2D(6, 3, 2, "same", f, groups=3, bias_initializer="random_normal"),
        lambda f: nn.Conv2DTranspose(5, 3, 2, "same", data_format=f, bias_initializer="random_normal"),
        lambda f: nn.DepthwiseConv2D(3, depth_multiplier=2, data_format=f, bias_initializer="random_normal"),
    ],
)
def test_channels_first(make):
    x = images(2, 7, 6, 3)
    last, other = make("channels_last"), make("channels_first")
    y = last(mg.tensor(x))
    other.build_once((None, 3, 7, 6))
    for mine, given in zip(other.variables.values(), last.variables.values()):
        mine.assign(given)
    z = other(mg.tensor(first(x)))
    np.testing.assert_array_equal(z.numpy(), y.numpy().transpose(0, 3, 1, 2))
    ct = images(*y.shape, seed=1)
    (y * mg.tensor(ct)).sum().backward()
    (z * mg.tensor(first(ct))).sum().backward()
    for mine, given in zip(other.variables.values(), last.variables.values()):
        assert given.grad.numpy().any()
        np.testing.assert_allclose(mine.grad.numpy(), given.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("padding", "output_padding"), [("valid", None), ("same", None), ("same", 1), (((1, 1), (0, 1)), 1)]
)
def test_conv2d_transpose(padding, output_padding):
    x = images(2, 4, 5, 3)
    layer = nn.Conv2DTranspose(6, (3, 2), 2, padding, output_padding, activation="tanh")
    y = layer(mg.tensor(x))
    assert layer.kernel.shape == (3, 2, 6, 3)
    want = np.tanh(mg.conv2d_transpose(x, layer.kernel, 2, padding, output_padding).numpy())
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-5, atol=1e-6)


def test_depthwise():
    x = images(2, 5, 6, 3)
    layer = nn.DepthwiseConv2D((3, 2), padding="same", depth_multiplier=2, depthwise_regularizer="l1")
    y = layer(mg.tensor(x)).numpy()
    assert layer.kernel.shape == (3, 2, 3, 2)
    assert y.shape == (2, 5, 6, 6)
    assert len(layer.losses) == 1
    for c in range(3):
        kernel = layer.kernel.numpy()[:, :, c : c + 1]
        want = mg.conv2d(x[..., c : c + 1], kernel, padding="SAME").numpy()
        np.testing.assert_allclose(y[..., 2 * c : 2 * c + 2], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layers_without_variables(data_format):
    x = images(2, 5, 6, 3)
    given = mg.tensor(x if data_format == "channels_last" else first(x))
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    format_ = {"data_format": "NHWC" if data_format == "channels_last" else "NCHW"}
    pads = [(0, 0)] * 4
    pads[axes[0]], pads[axes[1]] = (1, 2), (2, 0)
    cases = [
        (nn.MaxPooling2D(3, 2, "same", data_format), mg.max_pool2d(given, 3, 2, "SAME", **format_)),
        (nn.AveragePooling2D((2, 3), None, "same", data_format), mg.avg_pool2d(given, (2, 3), None, "SAME", **format_)),
        (nn.GlobalAveragePooling2D(data_format), x.mean((1, 2))),
        (nn.GlobalMaxPooling2D(data_format), x.max((1, 2))),
        (nn.GlobalAveragePooling2D(data_format, keepdims=True), np.asarray(given).mean(axes, keepdims=True)),
        (nn.GlobalMaxPooling2D(data_format, keepdims=True), np.asarray(given).max(axes, keepdims=True)),
        (nn.UpSampling2D((2, 3), data_format), mg.upsample2d(given, (2, 3), **format_)),
        (nn.UpSampling2D(2, data_format, "bilinear"), mg.upsample2d(given, 2, "bilinear", **format_)),
        (nn.ZeroPadding2D(((1, 2), (2, 0)), data_format), np.pad(np.asarray(given), pads)),
        (nn.ReflectionPadding2D(((1, 2), (2, 0)), data_format), np.pad(np.asarray(given), pads, "reflect")),
    ]
    for layer, want in cases:
        got = layer(given)
        assert not layer.variables
        np.testing.assert_allclose(got.numpy(), np.asarray(want), rtol=1e-6, err_msg=layer.name)


def test_a_small_network_learns():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8, 8, 1)).astype(np.float32)
    labels = (x[:, :4].mean((1, 2, 3)) > x[:, 4:].mean((1, 2, 3))).astype(np.int64)
    model = nn.Sequential(
        [nn.Conv2D(8, 3, padding="same", activation="relu"), nn.AveragePooling2D(4), nn.Flatten(), nn.Dense(2)]
    )
    model.set_generator(mg.random.Generator(1))
    model(mg.tensor(x))
    optimizer = mg.optim.Adam(0.02)
    losses = []
    for _ in range(60):
        loss = mg.softmax_cross_entropy(model(mg.tensor(x), training=True), labels).mean()
        losses.append(loss.item())
        for v in model.trainable_variables:
            v.grad = None
        loss.backward()
        optimizer.step(model.trainable_variables)
    assert losses[-1] < 0.25 * losses[0]


def test_errors():
    for layer in (nn.Conv2D(2, 3), nn.Conv2DTranspose(2, 3), nn.DepthwiseConv2D(3), nn.MaxPooling2D()):
        with pytest.raises(ShapeError, match=rf"{layer.name}: the input has shape \(5, 3\), expected \(n, h, w, chan"):
            layer(np.ones((5, 3), np.float32))
    with pytest.raises(ShapeError, match=r"globalmaxpooling2d: the input has shape \(5,\), expected \(n, channels, h"):
        nn.GlobalMaxPooling2D("channels_first")(np.ones(5))
    layer = nn.Conv2D(2, 3, name="c1")
    layer(images(1, 5, 5, 3))
    with pytest.raises(ShapeError, match=r"c1: the input has shape \(1, 5, 5, 4\), expected \(n, h, w, 3\)"):
        layer(images(1, 5, 5, 4))
    with pytest.raises(ShapeError, match=r"kernel has size \(3, 3\), expected at most the \(2, 5\) of x"):
        layer(images(1, 2, 5, 3))
    with pytest.raises(ShapeError, match="whose channels must be known"):
        nn.Conv2D(2, 3).build_once((None, 5, 5, None))
    with pytest.raises(ArgumentError, match="c2: groups is 2, expected a divisor of the 3 channels"):
        nn.Conv2D(2, 3, groups=2, name="c2")(images(1, 5, 5, 3))
    with pytest.raises(ArgumentError, match="Conv2D: groups is 2, expected a divisor of the 3 filters"):
        nn.Conv2D(3, 3, groups=2)
    with pytest.raises(ArgumentError, match="Conv2D: filters is 0, expected a positive integer"):
        nn.Conv2D(0, 3)
    with pytest.raises(ArgumentTypeError, match=r"Conv2D: kernel_size is 2\.5, expected an integer or two"):
        nn.Conv2D(1, 2.5)
    with pytest.raises(ArgumentError, match="Conv2D: padding is 'full', expected 'VALID', 'SAME' or integers"):
        nn.Conv2D(1, 3, padding="full")
    with pytest.raises(ArgumentError, match="MaxPooling2D: data_format is 'first', expected 'channels_last' or"):
        nn.MaxPooling2D(data_format="first")
    with pytest.raises(ArgumentError, match="DepthwiseConv2D: depth_multiplier is 0"):
        nn.DepthwiseConv2D(3, depth_multiplier=0)
    with pytest.raises(ArgumentError, match="UpSampling2D: interpolation is 'cubic'"):
        nn.UpSampling2D(interpolation="cubic")
    with pytest.raises(ArgumentError, match="ZeroPadding2D: padding is 'same', expected integers"):
        nn.ZeroPadding2D("same")
    with pytest.raises(ArgumentError, match=r"pad: pad_width is .*expected less than the length"):
        nn.ReflectionPadding2D(2)(images(1, 2, 5, 3))
