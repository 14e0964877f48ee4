"""Filter response normalization with its threshold and learned ε, and the thresholded linear unit."""

import numpy as np
import pytest
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

X = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
GAMMA, BETA, TAU = np.random.default_rng(1).standard_normal((3, 4))


def expected(x, epsilon, gamma=1.0, beta=0.0, tau=-np.inf):
    square = np.mean(x.astype(np.longdouble) ** 2, axis=(1, 2), keepdims=True)
    return np.maximum(x * gamma / np.sqrt(square + epsilon) + beta, tau)


@pytest.mark.parametrize("e", [None, 0.3, -0.3, [0.3]])
@pytest.mark.parametrize("tau", [None, TAU])
def test_threshold_and_learned_epsilon(tau, e):
    total = 0.1 if e is None else 0.4
    want = expected(X, total, GAMMA, BETA, -np.inf if tau is None else tau)
    close(norms.filter_response_norm(X, GAMMA, BETA, tau, epsilon=0.1, learned_epsilon=e), want)
    first = norms.filter_response_norm(
        np.moveaxis(X, -1, 1), GAMMA, BETA, tau, axis=(2, 3), epsilon=0.1, learned_epsilon=e
    )
    close(np.moveaxis(first.numpy(), 1, -1), want)


def test_fully_connected_layers_have_no_spatial_axes():
    x = X[:, 0, 0]
    want = np.maximum(x * GAMMA / np.sqrt(x * x + 0.4) + BETA, TAU)
    close(norms.filter_response_norm(x, GAMMA, BETA, TAU, axis=(), epsilon=0.1, learned_epsilon=-0.3), want)


def test_gradients_to_everything_to_second_order():
    x = X[:, :2, :3]

    def plain(x, gamma, beta, tau):
        return norms.filter_response_norm(x, gamma, beta, tau, epsilon=0.1)

    def learned(x, gamma, beta, e):
        return norms.filter_response_norm(x, gamma, beta, epsilon=0.1, learned_epsilon=e)

    mg.gradcheck.check(plain, [x, GAMMA, BETA, TAU], second_on="reference").require()
    mg.gradcheck.check(learned, [x, GAMMA, BETA, np.array([-0.2])], second_on="reference").require()


def test_the_threshold_takes_the_gradient_where_it_cuts():
    x = mg.tensor(X)
    y, pull = mg.vjp(lambda tau: norms.filter_response_norm(x, None, None, tau), TAU)
    cut = y.numpy() == TAU
    assert 0 < cut.sum() < cut.size
    dy = np.random.default_rng(2).standard_normal(X.shape)
    close(pull(mg.tensor(dy))[0], (dy * cut).sum((0, 1, 2)))


def test_learned_epsilon_keeps_digits_and_zeros():
    x = (1e20 * X).astype(np.float32)
    y = norms.filter_response_norm(x, learned_epsilon=1e-4).numpy()
    want = expected(x, 0.0)
    assert np.max(np.abs(y - want)) <= 5e-7 * np.max(np.abs(want))
    nothing = norms.filter_response_norm(np.zeros_like(x), None, BETA, epsilon=0.0, learned_epsilon=0.0).numpy()
    np.testing.assert_array_equal(nothing, np.broadcast_to(BETA.astype(np.float32), x.shape))


@pytest.mark.parametrize("thresholded", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_the_layer(thresholded, learned):
    layer = norms.FilterResponseNormalization(
        0.1, [1, 2], learned_epsilon=learned, thresholded=thresholded, dtype="float64", name="frn"
    )
    layer.build_once(X.shape)
    names = ["gamma", "beta", *["tau"] * thresholded, *["learned_epsilon"] * learned]
    assert list(layer.variables) == names
    assert all(v.trainable for v in layer.variables.values())
    if learned:
        assert layer.learned_epsilon.tolist() == [1e-4]
        layer.learned_epsilon.assign([-0.3])
    if thresholded:
        assert layer.tau.tolist() == [0.0] * 4
        layer.tau.assign(TAU)
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    want = expected(X, 0.4 if learned else 0.1, GAMMA, BETA, TAU if thresholded else -np.inf)
    y = layer(X)
    close(y, want)
    mg.sum(y).backward()
    assert all(v.grad is not None for v in layer.trainable_variables)
    assert layer(X[:1]).shape == (1, 3, 5, 4)


def test_an_empty_choice_of_spatial_axes_in_the_layer():
    layer = norms.FilterResponseNormalization(axis=[], learned_epsilon=True)
    x = X[:, 0, 0].astype(np.float32)
    close(layer(x), x / np.sqrt(x.astype(float) ** 2 + 1e-6 + 1e-4), np.float32)


@pytest.mark.parametrize("axis", [None, -1, 1, (1, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_thresholded_linear_unit(axis, affine):
    layer = norms.TLU(affine, axis=axis, dtype="float64")
    layer.build_once((None, *X.shape[1:]))
    shape = {None: (3, 5, 4), -1: (4,), 1: (3,), (1, 3): (3, 4)}[axis]
    standing = {None: (3, 5, 4), -1: (4,), 1: (3, 1, 1), (1, 3): (3, 1, 4)}[axis]
    assert layer.tau.shape == shape
    assert list(layer.variables) == ["tau", *["alpha"] * affine]
    assert not layer.tau.numpy().any()
    np.testing.assert_array_equal(layer(X).numpy(), np.maximum(X, 0))
    rng = np.random.default_rng(3)
    tau, alpha = rng.standard_normal((2, *shape))
    layer.tau.assign(tau)
    threshold = tau.reshape(standing)
    if affine:
        layer.alpha.assign(alpha)
        threshold = threshold + X * alpha.reshape(standing)
    np.testing.assert_allclose(layer(X).numpy(), np.maximum(X, threshold), rtol=1e-14)

    def function(x, tau, alpha):
        return layer.replaced(tau=tau, **({"alpha": alpha} if affine else {}))(x)

    arguments = [X, tau, alpha if affine else None]
    mg.gradcheck.check(function, arguments, order=1).require()


def test_tlu_after_filter_response_is_the_thresholded_layer():
    x = X.astype(np.float32)
    frn, tlu = norms.FilterResponseNormalization(), norms.TLU(axis=-1, tau_initializer="ones")
    both = norms.FilterResponseNormalization(thresholded=True)
    both.build_once(x.shape)
    both.tau.assign(np.ones(4))
    np.testing.assert_array_equal(tlu(frn(x)).numpy(), both(x).numpy())


def test_mistakes_are_named():
    name = "filter_response_norm"
    with pytest.raises(ShapeError, match=rf"{name}: tau has shape \(3,\), expected \(4,\) to match the channels"):
        norms.filter_response_norm(X, tau=np.ones(3))
    with pytest.raises(ShapeError, match=rf"{name}: learned_epsilon has shape \(4,\), expected one number"):
        norms.filter_response_norm(X, learned_epsilon=np.ones(4))
    with pytest.raises(ShapeError, match=rf"{name}: axis is \(0, 1\) for x .* axis 0 is the samples'"):
        norms.filter_response_norm(X, axis=(0, 1))
    with pytest.raises(ShapeError, match=f"{name}: axis 4 is out of range"):
        norms.filter_response_norm(X, axis=(2, 4))
    with pytest.raises(ArgumentError, match=f"{name}: epsilon is -1"):
        norms.filter_response_norm(X, epsilon=-1)
    with pytest.raises(ArgumentTypeError, match="FilterResponseNormalization: thresholded is 1"):
        norms.FilterResponseNormalization(thresholded=1)
    with pytest.raises(ArgumentTypeError, match="TLU: affine is 1"):
        norms.TLU(1)
    layer = norms.TLU(name="mine")
    layer(X.astype(np.float32))
    with pytest.raises(ShapeError, match=r"mine: the input has shape \(2, 3, 5, 6\), expected lengths \(3, 5, 4\)"):
        layer(np.ones((2, 3, 5, 6), np.float32))
