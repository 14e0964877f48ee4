"""Batch normalization: the layer, moments, and what REFERENCE promises of them."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, DTypeError, ShapeError

LAYOUTS = {
    "2-D": ((6, 5), -1, (0,)),
    "NHWC": ((3, 4, 2, 5), -1, (0, 1, 2)),
    "NCHW": ((3, 5, 2, 4), 1, (0, 2, 3)),
    "first axis": ((5, 3, 4), 0, (1, 2)),
    "two axes": ((3, 5, 2, 4), (1, 3), (0, 2)),
}


def expected(x, axes, epsilon, gamma=1.0, beta=0.0):
    x = x.astype(np.longdouble)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon) * gamma + beta, mean, var


def standing(values, shape, axes):
    full = [1 if a in axes else n for a, n in enumerate(shape)]
    return values.reshape(full)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_and_inference_in_every_layout(layout, dtype):
    shape, axis, axes = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    layer = norms.BatchNormalization(axis=axis, momentum=0.9, dtype=dtype)
    layer.build_once(shape)
    gamma, beta = rng.standard_normal(layer.gamma.shape), rng.standard_normal(layer.beta.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    g, b = (standing(np.asarray(v), shape, axes) for v in (layer.gamma, layer.beta))
    moving_mean, moving_var = np.zeros(g.shape), np.ones(g.shape)
    tight = {"rtol": 4e-7, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    for _ in range(3):
        x = (3 + 2 * rng.standard_normal(shape)).astype(dtype)
        y, mean, var = expected(x, axes, 1e-3, g, b)
        np.testing.assert_allclose(layer(mg.tensor(x), training=True).numpy(), y.astype(float), **tight)
        moving_mean = 0.9 * moving_mean + 0.1 * mean
        moving_var = 0.9 * moving_var + 0.1 * var
    near = {"rtol": 5e-7} if dtype == "float32" else {"rtol": 1e-12}
    np.testing.assert_allclose(standing(layer.moving_mean.numpy(), shape, axes), moving_mean.astype(float), **near)
    np.testing.assert_allclose(standing(layer.moving_variance.numpy(), shape, axes), moving_var.astype(float), **near)
    y = (x - moving_mean) / np.sqrt(moving_var + 1e-3) * g + b
    np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), y.astype(float), **tight)


def test_gradients_against_differences_in_training_and_inference():
    rng = np.random.default_rng(1)
    x, gamma, beta = rng.standard_normal((4, 3, 2)), rng.standard_normal(3), rng.standard_normal(3)

    def training(x, gamma, beta):
        return norms.standardize(x, gamma, beta, axes=(0, 2), parameter_axes=1, epsilon=0.1)[0]

    mg.gradcheck.check(training, [x, gamma, beta]).require()
    mean, var = rng.standard_normal(3), rng.random(3)

    def inference(x, gamma, beta, mean, var):
        stats = [v.reshape(3, 1) for v in (mean, var, beta, gamma)]
        return norms.batch_normalization(x, *stats, 0.1)

    mg.gradcheck.check(inference, [x, gamma, beta, mean, var]).require()


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_scale_and_shift_in_every_combination(center, scale):
    layer = norms.BatchNormalization(center=center, scale=scale)
    x = mg.tensor(np.random.default_rng(0).standard_normal((8, 3)), dtype="float32")
    y = layer(x, training=True)
    assert (layer.beta is not None, layer.gamma is not None) == (center, scale)
    assert len(layer.trainable_variables) == center + scale
    np.testing.assert_allclose(y.numpy().mean(0), 0, atol=1e-6)
    (y * y * y).sum().backward() if layer.trainable_variables else None
    for v in layer.trainable_variables:
        assert v.grad is not None


def test_large_mean_and_small_spread_keep_float32s_digits_forward_and_backward():
    rng = np.random.default_rng(2)
    x = (1e6 + rng.standard_normal((512, 4))).astype(np.float32)
    dy = rng.standard_normal((512, 4)).astype(np.float32)
    leaf = mg.tensor(x, requires_grad=True)
    y, _, _ = norms.standardize(leaf, axes=0, parameter_axes=1, epsilon=1e-3)
    y.backward(mg.tensor(dy))
    wide, ct = x.astype(np.longdouble), dy.astype(np.longdouble)
    want, _, var = expected(x, (0,), 1e-3)
    s = 1 / np.sqrt(var + 1e-3)
    standard = (wide - wide.mean(0)) * s
    dx = s * (ct - ct.mean(0) - standard * (ct * standard).mean(0))
    assert np.max(np.abs(y.numpy() - want)) <= 5e-7 * np.max(np.abs(want))
    assert np.max(np.abs(leaf.grad.numpy() - dx)) <= 5e-7 * np.max(np.abs(dx))


@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
@pytest.mark.parametrize("value", [0.1, 1e6, 1e-30, -7.7])
def test_a_constant_group_gives_exactly_beta(epsilon, value):
    beta = np.array([0.3, -1.7], np.float32)
    x = mg.tensor(np.full((7, 2), value, np.float32), requires_grad=True)
    y, _, _ = norms.standardize(x, None, beta, axes=0, parameter_axes=1, epsilon=epsilon)
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(beta, (7, 2)))
    y.backward(mg.tensor(np.random.default_rng(0).standard_normal((7, 2)), dtype="float32"))
    assert np.isfinite(x.grad.numpy()).all()


def test_nan_and_infinity_stay_in_their_channel_and_out_of_the_averages():
    layer = norms.BatchNormalization(momentum=0.5)
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    x[2, 0], x[3, 1] = np.nan, np.inf
    y = layer(mg.tensor(x), training=True).numpy()
    assert np.isnan(y[:, 0]).all()
    assert np.isnan(y[:, 1]).any()
    assert np.isfinite(y[:, 2]).all()
    assert layer.moving_mean.numpy()[:2].tolist() == [0.0, 0.0]
    assert layer.moving_variance.numpy()[:2].tolist() == [1.0, 1.0]
    assert layer.moving_mean.numpy()[2] == pytest.approx(0.5 * x[:, 2].astype(float).mean())


def test_an_empty_batch_changes_nothing():
    layer = norms.BatchNormalization()
    layer.build_once((None, 3))
    assert layer(mg.tensor(np.empty((0, 3), np.float32)), training=True).shape == (0, 3)
    assert layer.moving_mean.tolist() == [0.0, 0.0, 0.0]
    assert layer.moving_variance.tolist() == [1.0, 1.0, 1.0]


def test_one_value_a_channel_is_an_error_in_training_only():
    layer = norms.BatchNormalization()
    x = mg.tensor(np.ones((1, 3), np.float32))
    with pytest.raises(ArgumentError, match="one value a channel"):
        layer(x, training=True)
    assert layer(x).shape == (1, 3)


def test_unbiased_running_variance():
    x = np.random.default_rng(0).standard_normal((5, 2))
    layer = norms.BatchNormalization(momentum=0.0, unbiased_moving_variance=True, dtype="float64")
    layer(mg.tensor(x), training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x.var(0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize(
    "change", [lambda a: np.asfortranarray(a), lambda a: a[::-1].copy()[::-1], lambda a: np.repeat(a, 2, 1)[:, ::2]]
)
def test_the_memory_layout_of_input_and_cotangent_does_not_matter(change):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((6, 4)).astype("f4"), rng.standard_normal((6, 4)).astype("f4")

    def run(x, dy):
        leaf = mg.Tensor(x)
        y, pull = mg.vjp(lambda x: norms.standardize(x, axes=0, parameter_axes=1, epsilon=1e-3)[0], leaf)
        return y.numpy(), pull(mg.Tensor(dy))[0].numpy()

    for got, want in zip(run(change(x), change(dy)), run(x, dy)):
        np.testing.assert_array_equal(got, want)


def test_broadcast_cotangents_are_taken():
    x = mg.tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    y, _, _ = norms.standardize(x, axes=0, parameter_axes=1, epsilon=1e-3)
    y.backward(mg.broadcast_to(mg.tensor([1.0, 2.0, 3.0]), (4, 3)))
    np.testing.assert_allclose(x.grad.numpy(), 0, atol=1e-12)


def test_moments_match_numpy_with_shift_and_keepdims():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    mean, var = norms.moments(x, (0, -1), keepdims=True)
    np.testing.assert_allclose(mean.numpy(), x.mean((0, 2), keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(var.numpy(), x.var((0, 2), keepdims=True), rtol=1e-13)
    shifted, same = norms.moments(x, (0, -1), shift=np.full((1, 4, 1), 0.5))
    np.testing.assert_allclose(shifted.numpy(), x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(same.numpy(), x.var((0, 2)), rtol=1e-12)
    assert norms.moments(np.ones((2, 2), np.float32), 0)[0].dtype == np.float32
    assert norms.moments([1, 2, 3], 0)[0].dtype == np.float64
    mg.gradcheck.check(lambda x: norms.moments(x, (0, 2)), [x[:2, :2, :3]]).require()


def test_bad_arguments_are_named():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ShapeError, match="axes 2 is out of range"):
        norms.moments(x, 2)
    with pytest.raises(ShapeError, match=r"gamma has shape \(4,\), expected \(3,\)"):
        norms.standardize(x, np.ones(4), axes=0, parameter_axes=1, epsilon=0.0)
    with pytest.raises(ArgumentError, match="epsilon is -1"):
        norms.standardize(x, axes=0, parameter_axes=1, epsilon=-1)
    with pytest.raises(ArgumentError, match="momentum is 2"):
        norms.BatchNormalization(momentum=2)
    with pytest.raises(ShapeError, match="mean has shape"):
        norms.batch_normalization(x, np.ones(2), np.ones(3), None, None, 1e-3)
    layer = norms.BatchNormalization(axis=2, name="bn")
    with pytest.raises(ShapeError, match="bn: axis 2 is out of range for 2 dimensions"):
        layer(mg.tensor(x))
    layer = norms.BatchNormalization(name="bn")
    layer(mg.tensor(x))
    with pytest.raises(ShapeError, match=r"bn: the input has shape \(4, 5\)"):
        layer(mg.tensor(np.ones((4, 5))))
    with pytest.raises(DTypeError, match="the input has dtype float64, expected float32"):
        layer(mg.tensor(np.ones((4, 3))), training=True)


def test_bits_do_not_depend_on_threads():
    import numba

    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((4096, 96)).astype("f4"), rng.standard_normal((4096, 96)).astype("f4")

    def run():
        y, pull = mg.vjp(lambda x: norms.standardize(x, axes=0, parameter_axes=1, epsilon=1e-3)[0], mg.Tensor(x))
        return y.numpy().tobytes(), pull(mg.Tensor(dy))[0].numpy().tobytes()

    before = numba.get_num_threads()
    try:
        results = set()
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            results.add(run())
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


def test_the_plugin_uses_public_names_only():
    import ast
    from pathlib import Path

    public = set(dir(mg)) | {"devices"}
    for file in Path(norms.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minigrad":
                parts = node.module.split(".")[1:]
                names = [*parts, *(alias.name for alias in node.names)]
                assert not any(n.startswith("_") for n in names), (file, names)
                assert (parts[:1] or names)[0] in public, (file, names)
