"""Batch renormalization: r, d, their limits, what the gradient sees of them, and how the averages move."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

EPSILON = 0.01


class Reference:
    """Batch renormalization of (N, C) with NumPy, step by step."""

    def __init__(self, channels, momentum, renorm_momentum, rmin=0.0, rmax=np.inf, dmax=np.inf):
        self.moving_mean, self.moving_var = np.zeros(channels), np.ones(channels)
        self.r_mean, self.r_stddev, self.weight = np.zeros(channels), np.zeros(channels), 0.0
        self.momentum, self.renorm_momentum = momentum, renorm_momentum
        self.limits = rmin, rmax, dmax

    def correction(self, x):
        rmin, rmax, dmax = self.limits
        mean, s = x.mean(0), np.sqrt(x.var(0) + EPSILON)
        mixed_mean = self.r_mean + (1 - self.weight) * mean
        mixed = self.r_stddev + (1 - self.weight) * s
        return np.clip(s / mixed, rmin, rmax), np.clip((mean - mixed_mean) / mixed, -dmax, dmax)

    def step(self, x, gamma, beta):
        r, d = self.correction(x)
        mean, s = x.mean(0), np.sqrt(x.var(0) + EPSILON)
        y = ((x - mean) / s * r + d) * gamma + beta
        keep = self.renorm_momentum
        self.r_mean -= (1 - keep) * (self.r_mean - mean)
        self.r_stddev -= (1 - keep) * (self.r_stddev - s)
        self.weight -= (1 - keep) * (self.weight - 1)
        new_mean, new_var = self.r_mean / self.weight, (self.r_stddev / self.weight) ** 2 - EPSILON
        self.moving_mean -= (1 - self.momentum) * (self.moving_mean - new_mean)
        self.moving_var -= (1 - self.momentum) * (self.moving_var - new_var)
        return y


@pytest.mark.parametrize("clipping", [None, {"rmax": 1.3, "rmin": 0.8, "dmax": 0.2}, {"dmax": 0.1}])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (True, False), (False, False)])
def test_the_layer_step_by_step(clipping, center, scale):
    rng = np.random.default_rng(0)
    layer = norms.BatchNormalization(
        momentum=0.9, epsilon=EPSILON, center=center, scale=scale, dtype="float64",
        renorm=True, renorm_clipping=clipping, renorm_momentum=0.7,
    )  # fmt: skip
    layer.build_once((None, 4))
    gamma, beta = rng.standard_normal(4) if scale else np.ones(4), rng.standard_normal(4) if center else np.zeros(4)
    if scale:
        layer.gamma.assign(gamma)
    if center:
        layer.beta.assign(beta)
    reference = Reference(4, 0.9, 0.7, **(clipping or {}))
    clipped = 0
    for step in range(5):
        x = rng.standard_normal((6, 4)) * (1 + step) + step
        r, d = reference.correction(x)
        clipped += int(clipping is not None and (np.isin(r, reference.limits) | (abs(d) == reference.limits[2])).any())
        want = reference.step(x, gamma, beta)
        got = layer(mg.tensor(x), training=True).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
        if step == 0:
            assert (r == 1).all()
            assert (d == 0).all()
    assert clipped >= 3 or clipping is None
    np.testing.assert_allclose(layer.moving_mean.numpy(), reference.moving_mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.numpy(), reference.moving_var, rtol=1e-12)
    np.testing.assert_allclose(layer.renorm_mean.numpy(), reference.r_mean, rtol=1e-12)
    np.testing.assert_allclose(layer.renorm_stddev.numpy(), reference.r_stddev, rtol=1e-12)
    np.testing.assert_allclose(layer.renorm_weight.numpy(), np.full(4, reference.weight), rtol=1e-12)
    inference = (x - reference.moving_mean) / np.sqrt(reference.moving_var + EPSILON) * gamma + beta
    np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), inference, rtol=1e-11, atol=1e-12)


AVERAGES = {
    "renorm_mean": np.array([0.5, -1.0, 2.0]),
    "renorm_stddev": np.array([0.7, 1.9, 0.4]),
    "renorm_weight": np.array([0.9, 0.8, 0.5]),
}


@pytest.mark.parametrize("clipping", [{}, {"rmax": 1.1, "rmin": 0.95, "dmax": 0.3}])
def test_gradients_hold_r_and_d_to_second_order(clipping):
    rng = np.random.default_rng(1)
    x, gamma, beta = rng.standard_normal((5, 3, 2)), rng.standard_normal(3), rng.standard_normal(3)
    mean, s = x.mean((0, 2)), np.sqrt(x.var((0, 2)) + EPSILON)
    weight = AVERAGES["renorm_weight"]
    mixed = AVERAGES["renorm_stddev"] + (1 - weight) * s
    r = np.clip(s / mixed, clipping.get("rmin", 0), clipping.get("rmax", np.inf))[:, None]
    d = (mean - AVERAGES["renorm_mean"] - (1 - weight) * mean) / mixed
    d = np.clip(d, -clipping.get("dmax", np.inf), clipping.get("dmax", np.inf))[:, None]

    def renorm(x, gamma, beta):
        return norms.batch_renorm(
            x, gamma, beta, **AVERAGES, axis=1, epsilon=EPSILON, renorm_clipping=clipping or None
        )[0]

    def held(x, gamma, beta):
        mean = mg.mean(x, axis=(0, 2), keepdims=True)
        var = mg.mean(mg.square(x - mean), axis=(0, 2), keepdims=True)
        standard = (x - mean) / mg.sqrt(var + EPSILON)
        return (standard * r + d) * gamma.reshape(3, 1) + beta.reshape(3, 1)

    args = [x, gamma, beta]
    np.testing.assert_allclose(renorm(*args).numpy(), held(*map(mg.tensor, args)).numpy(), rtol=1e-12, atol=1e-13)
    mg.gradcheck.check(renorm, args, numeric=held, order=1).require()
    ct = mg.tensor(rng.standard_normal(x.shape))

    def first(f):
        return lambda *inputs: mg.vjp(f, *inputs)[1](ct)

    weights = tuple(mg.tensor(rng.standard_normal(a.shape)) for a in args)
    for got, want in zip(*(mg.vjp(first(f), *map(mg.tensor, args))[1](weights) for f in (renorm, held))):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9, atol=1e-9)


def test_limits_may_be_tensors_that_change():
    rmax = mg.Variable(1.0, trainable=False, dtype="float64")
    clipping = {"rmax": rmax, "rmin": 1.0, "dmax": 0.0}
    layer = norms.BatchNormalization(epsilon=0.0, renorm=True, renorm_clipping=clipping, renorm_momentum=0.9)
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 3)), dtype="float32")
    plain = norms.standardize(x, axes=0, parameter_axes=1, epsilon=0.0)[0].numpy()
    layer(x, training=True)
    wide = mg.tensor(4 * x.numpy())
    np.testing.assert_allclose(layer(wide, training=True).numpy(), plain, rtol=1e-6)
    rmax.assign(3.0)
    layer(x, training=True)
    # Deviations of 1, 4 and 1 with weights .81, .9 and 1 times .1, and what is missing of 4.
    r = 4 / (0.081 + 0.36 + 0.1 + 0.729 * 4)
    assert 1 < r < 3
    np.testing.assert_allclose(layer(wide, training=True).numpy(), plain * r, rtol=1e-6)


def test_a_nan_keeps_all_averages_of_its_channel():
    rng = np.random.default_rng(2)
    layer = norms.BatchNormalization(renorm=True, renorm_momentum=0.5, momentum=0.5)
    x = rng.standard_normal((6, 3)).astype(np.float32)
    layer(mg.tensor(x), training=True)
    before = {name: v.numpy().copy() for name, v in layer.variables.items()}
    x[3, 1] = np.nan
    layer(mg.tensor(x), training=True)
    for name in ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev", "renorm_weight"):
        after = layer.variables[name].numpy()
        assert after[1] == before[name][1]
        assert np.isfinite(after).all()
    assert (layer.renorm_weight.numpy()[[0, 2]] == 0.75).all()


def test_one_call_gives_what_an_epsilon_of_zero_and_constant_channels_allow():
    averages = {"renorm_mean": np.zeros(2), "renorm_stddev": np.zeros(2), "renorm_weight": 0.0}
    beta = np.array([0.3, -2.0], np.float32)
    y, _, _ = norms.batch_renorm(np.full((4, 2), 7.7, np.float32), None, beta, epsilon=0.0, **averages)
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(beta, (4, 2)))


def test_bad_arguments():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ArgumentError, match=r"unknown keys \['max'\], expected some of \['rmin', 'rmax', 'dmax'\]"):
        norms.BatchNormalization(renorm=True, renorm_clipping={"max": 3})
    with pytest.raises(ArgumentError, match=r"rmin is 2, above rmax = 1.5"):
        norms.batch_renorm(x, **AVERAGES, renorm_clipping={"rmin": 2, "rmax": 1.5})
    with pytest.raises(ArgumentError, match="dmax is -1, expected a number of at least 0"):
        norms.batch_renorm(x, **AVERAGES, renorm_clipping={"dmax": -1})
    with pytest.raises(ArgumentTypeError, match="expected a dict"):
        norms.batch_renorm(x, **AVERAGES, renorm_clipping=3)
    with pytest.raises(ShapeError, match=r"renorm_mean has shape \(2,\), expected \(3,\)"):
        norms.batch_renorm(x, **{**AVERAGES, "renorm_mean": np.zeros(2)})
    with pytest.raises(ArgumentError, match="renorm_clipping is given, but renorm is False"):
        norms.BatchNormalization(renorm_clipping={"rmax": 2})
    with pytest.raises(ArgumentError, match=r"renorm_momentum is 1\.5"):
        norms.BatchNormalization(renorm=True, renorm_momentum=1.5)
