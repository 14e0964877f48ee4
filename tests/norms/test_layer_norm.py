"""Layer and RMS normalization as functions: axes at random, mistakes, and what tells them from their kin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

KINDS = [(norms.layer_norm, True), (norms.rms_norm, False)]


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("function", "centred"), KINDS)
def test_any_shape_and_axes_in_both_directions(function, centred, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    axes = tuple(data.draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True)))
    signed = [a - len(shape) if data.draw(st.booleans()) else a for a in axes]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    spanned = [n if a in axes else 1 for a, n in enumerate(shape)]
    x, dy = rng.standard_normal((2, *shape))
    gamma, beta = rng.standard_normal((2, *spanned))
    parameters = tuple(shape[a] for a in sorted(axes))
    d = x - x.mean(axes, keepdims=True) if centred else x
    s = 1 / np.sqrt((d * d).mean(axes, keepdims=True) + 0.01)
    h = dy * gamma
    dx = h - d * s * (h * d * s).mean(axes, keepdims=True) - (h.mean(axes, keepdims=True) if centred else 0)
    others = tuple(a for a in range(len(shape)) if a not in axes)

    def normalized(x, gamma, beta):
        return function(x, gamma, beta, axis=signed, epsilon=0.01)

    y, pull = mg.vjp(normalized, x, gamma.reshape(parameters), beta.reshape(parameters))
    # Terms may cancel: a sum is rounded as they are.
    close(y, d * s * gamma + beta, units=64, size=np.max(np.abs(d * s * gamma) + np.abs(beta)))
    found = pull(mg.tensor(dy))
    close(found[0], s * dx, units=64, size=np.max(np.abs(s * h)))
    for gradient, terms in ((found[1], dy * d * s), (found[2], dy)):
        close(gradient, terms.sum(others).reshape(parameters), units=64, size=np.abs(terms).sum(others).max())


def test_statistics_of_large_groups():
    """A million elements a group, and groups longer than a chunk of the kernels."""
    rng = np.random.default_rng(0)
    for shape in ((1, 1_000_000), (3, 70_001), (1037, 33)):
        x = (1e6 + rng.standard_normal(shape)).astype(np.float32)
        wide = x.astype(np.longdouble)
        d = wide - wide.mean(1, keepdims=True)
        y = norms.layer_norm(x, epsilon=0.0).numpy()
        want = d / np.sqrt((d * d).mean(1, keepdims=True))
        assert np.max(np.abs(y - want)) <= 5e-7 * np.max(np.abs(want))


@pytest.mark.parametrize("kind", ["heavy tails", "a spike"])
@pytest.mark.parametrize(("function", "centred"), KINDS)
def test_hard_data_keeps_float32s_digits(function, centred, kind):
    rng = np.random.default_rng(1)
    x = rng.standard_cauchy((5, 4096)).astype(np.float32)
    if kind == "a spike":
        x = np.zeros((5, 4096), np.float32)
        x[:, 17] = 1e4
    dy = rng.standard_normal(x.shape).astype(np.float32)
    wide, h = x.astype(np.longdouble), dy.astype(np.longdouble)
    d = wide - wide.mean(1, keepdims=True) if centred else wide
    s = 1 / np.sqrt((d * d).mean(1, keepdims=True) + np.longdouble(1e-3))
    dx = h - d * s * (h * d * s).mean(1, keepdims=True) - (h.mean(1, keepdims=True) if centred else 0)
    y, pull = mg.vjp(lambda x: function(x, epsilon=1e-3), x)
    assert np.max(np.abs(y.numpy() - d * s)) <= 5e-7 * np.max(np.abs(d * s))
    assert np.max(np.abs(pull(mg.tensor(dy))[0].numpy() - s * dx)) <= 5e-7 * np.max(np.abs(s * dx))


def test_invariances():
    x = np.random.default_rng(2).standard_normal((3, 8))
    layer, rms = norms.layer_norm, norms.rms_norm
    close(layer(3 * x + 2, epsilon=0.0), layer(x, epsilon=0.0).numpy(), units=32)
    close(rms(3 * x, epsilon=0.0), rms(x, epsilon=0.0).numpy(), units=32)
    assert np.max(np.abs(rms(x + 2).numpy() - rms(x).numpy())) > 0.1
    np.testing.assert_allclose(np.square(rms(x, epsilon=0.0).numpy()).mean(1), 1, rtol=1e-12)


def test_one_group_differs_from_layer_norm_in_its_parameters_alone():
    x = np.random.default_rng(3).standard_normal((2, 3, 4, 5))
    group, layer = norms.group_norm(x, groups=1), norms.layer_norm(x, axis=(1, 2, 3))
    close(group, layer.numpy())
    with pytest.raises(ShapeError, match=r"layer_norm: gamma has shape \(5,\), expected \(3, 4, 5\)"):
        norms.layer_norm(x, np.ones(5), axis=(1, 2, 3))
    with pytest.raises(ShapeError, match=r"group_norm: gamma has shape \(3, 4, 5\), expected \(5,\)"):
        norms.group_norm(x, np.ones((3, 4, 5)), groups=1)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_mistakes_are_named(name):
    function = getattr(norms, name)
    x = np.ones((32, 6), np.float32)
    message = rf"{name}: gamma has shape \(5,\), expected \(6,\) to match the normalized axes of x with shape \(32, 6\)"
    with pytest.raises(ShapeError, match=message):
        function(x, np.ones(5))
    with pytest.raises(ShapeError, match=rf"{name}: beta has shape \(6, 1\), expected \(6,\)"):
        function(x, None, np.ones((6, 1)))
    with pytest.raises(ShapeError, match=f"{name}: axis 2 is out of range for 2 dimensions"):
        function(x, axis=2)
    with pytest.raises(ArgumentError, match=f"{name}: axis .* names an axis twice"):
        function(x, axis=(1, -1))
    with pytest.raises(ArgumentTypeError, match=f"{name}: axis is 1.5"):
        function(x, axis=1.5)
    for bad in (-1.0, float("nan"), float("inf"), "1", None, True):
        with pytest.raises(ArgumentError, match=f"{name}: epsilon is .*, expected a finite number of at least 0"):
            function(x, epsilon=bad)


def test_numbers_of_any_kind_serve_as_epsilon():
    x = np.ones((2, 3))
    for epsilon in (1, np.float32(1), np.int64(1), 1.0):
        close(norms.rms_norm(x, epsilon=epsilon), np.full((2, 3), np.sqrt(0.5)))
