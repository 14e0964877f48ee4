"""Standardize with every statistic and activation, in every form, element by element, against long double."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad_norms.standardize import normalize_p, standardize_p

LONG = np.longdouble
#: shape, axes, parameter axes: sizes distinct, and between them every kernel with and without several chunks.
FORMS = {
    "batch": ((61, 37), (0,), (1,)),
    "batch, few rows": ((5, 37), (0,), (1,)),
    "batch, many rows": ((3001, 33), (0,), (1,)),
    "batch, shared blocks": ((67, 1100), (0,), (1,)),
    "batch NCHW": ((7, 5, 3, 4), (0, 2, 3), (1,)),
    "batch NCHW, large images": ((7, 5, 12, 11), (0, 2, 3), (1,)),
    "layer": ((29, 131), (1,), (1,)),
    "layer, shared": ((130, 520), (1,), (1,)),
    "group NHWC": ((3, 17, 5, 2), (1, 3), (2, 3)),
    "group NCHW": ((3, 5, 2, 83), (2, 3), (1, 2)),
    "instance NHWC": ((5, 71, 13), (1,), (2,)),
    "everything": ((1, 70001), (0, 1), ()),
    "permuted": ((3, 4, 5, 2), (0, 2), (1, 3)),
}
ACTIVATIONS = {
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, LONG(1), LONG(0))),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: np.where((z > 0) & (z < 6), LONG(1), LONG(0))),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    None: (lambda z: z, np.ones_like),
}
TOLERANCE = {"float32": 5e-7, "float64": 1e-13}


def truth(x, gamma, beta, dy, axes, along, epsilon, statistic, activation):
    """y, dx, dγ and dβ, by the chain rule through z, x̂, the statistic and the mean."""
    x, gamma, beta, dy = (a.astype(LONG) for a in (x, gamma, beta, dy))
    shape = [n if a in along else 1 for a, n in enumerate(x.shape)]
    gamma, beta = gamma.reshape(shape), beta.reshape(shape)
    count = LONG(1)
    for a in axes:
        count *= x.shape[a]
    mean = x.mean(axes, keepdims=True) if statistic == "variance" else np.zeros_like(x.sum(axes, keepdims=True))
    d = x - mean
    var = (d * d).sum(axes, keepdims=True) / (1 if statistic == "sum_square" else count)
    r = 1 / np.sqrt(var + LONG(epsilon))
    function, slope = ACTIVATIONS[activation]
    z = d * r * gamma + beta
    dz = dy * slope(z)
    to_d = dz * gamma * r
    to_var = -(dz * gamma * d).sum(axes, keepdims=True) * r**3 / 2
    to_d = to_d + 2 * to_var * d / (1 if statistic == "sum_square" else count)
    dx = to_d - to_d.sum(axes, keepdims=True) / count if statistic == "variance" else to_d
    others = tuple(a for a in range(x.ndim) if a not in along)
    return function(z), dx, (dz * d * r).sum(others), dz.sum(others), z


def draw(form, dtype, seed=0):
    shape, axes, along = FORMS[form]
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (np.asarray(rng.standard_normal([shape[a] for a in along])).astype(dtype) for _ in range(2))
    return (2 * x + 1).astype(dtype), np.asarray(3 * gamma), np.asarray(2 + beta), dy, axes, along


def gradients(primitive, inputs, dy, **params):
    tensors = [mg.tensor(a, requires_grad=True) for a in inputs]
    result = primitive(*tensors, **params)
    y = result[0] if isinstance(result, tuple) else result
    y.backward(mg.tensor(dy))
    return y.numpy(), *(np.asarray(t.grad) for t in tensors)


def close(found, true, tolerance, size=0.0):
    true = np.asarray(true, LONG)
    bound = tolerance * max(float(abs(true).max()), size)
    assert found.shape == true.shape
    assert (abs(found.astype(LONG) - true) <= bound).all(), float(abs(found.astype(LONG) - true).max() / bound)


def check(form, statistic, activation, dtype):
    x, gamma, beta, dy, axes, along = draw(form, dtype)
    epsilon = 0.01
    y, dx, dgamma, dbeta, z = truth(x, gamma, beta, dy, axes, along, epsilon, statistic, activation)
    if activation in ("relu", "relu6"):  # where z is within rounding of a kink, either slope is right
        dy[(abs(z) < 1e-5) | (abs(z - 6) < 1e-5)] = 0.0
        y, dx, dgamma, dbeta, z = truth(x, gamma, beta, dy, axes, along, epsilon, statistic, activation)
    params = {"axes": axes, "parameter_axes": along, "epsilon": epsilon, "activation": activation}
    got = gradients(standardize_p, (x, gamma, beta), dy, statistic=statistic, **params)
    # Behind a function that bends, a rounding of z, whose terms may cancel, is one of y.
    tolerance, many = TOLERANCE[dtype] * (1 if activation in (None, "relu", "relu6") else 4), np.sqrt(x.size)
    for found, true, size in zip(got, (y, dx, dgamma, dbeta), (0, 0, many, many)):
        close(found, true, tolerance, size)


@pytest.mark.parametrize("statistic", ["variance", "mean_square", "sum_square"])
@pytest.mark.parametrize("form", FORMS)
def test_every_statistic_in_every_form(form, statistic):
    check(form, statistic, None, "float32")
    check(form, statistic, None, "float64")


@pytest.mark.parametrize("activation", ["relu", "relu6", "elu", "tanh", "sigmoid"])
@pytest.mark.parametrize("form", FORMS)
def test_every_activation_in_every_form(form, activation):
    check(form, "variance", activation, "float32")


@pytest.mark.parametrize("form", ["batch, many rows", "layer", "group NCHW"])
def test_statistics_with_activations_in_float64(form):
    check(form, "mean_square", "relu6", "float64")
    check(form, "sum_square", "relu", "float64")
    check(form, "mean_square", "tanh", "float64")


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
@pytest.mark.parametrize(
    "form", ["batch", "batch, many rows", "batch NCHW, large images", "layer, shared", "group NHWC"]
)
def test_given_statistics(form, activation):
    """Of `normalize`, whose mean and variance are inputs: by differences of a formula in long double."""
    x, gamma, beta, dy, axes, along = draw(form, "float32")
    rng = np.random.default_rng(1)
    kept = [n for a, n in enumerate(x.shape) if a not in axes]
    mean, var = rng.standard_normal(kept), 0.5 + rng.random(kept)
    shape = [n if a in along else 1 for a, n in enumerate(x.shape)]
    held = [1 if a in axes else n for a, n in enumerate(x.shape)]
    function, slope = ACTIVATIONS[activation]
    d = x.astype(LONG) - mean.reshape(held)
    r = 1 / np.sqrt(var.reshape(held) + LONG(0.01))
    z = d * r * gamma.astype(LONG).reshape(shape) + beta.astype(LONG).reshape(shape)
    dy[abs(z) < 1e-5] = 0.0
    dz = dy * slope(z)
    e = dz * gamma.astype(LONG).reshape(shape)
    others = tuple(a for a in range(x.ndim) if a not in along)
    expected = (
        function(z),
        e * r,
        (dz * d * r).sum(others),
        dz.sum(others),
        -(e * r).sum(axes),
        -(e * d * r**3).sum(axes) / 2,
    )
    params = {"axes": axes, "parameter_axes": along, "epsilon": 0.01, "activation": activation}
    got = gradients(normalize_p, (x, gamma, beta, mean, var), dy, **params)
    many = np.sqrt(x.size)
    for found, true, size in zip(got, expected, (0, 0, many, many, many, many)):
        close(found, true, 5e-7, size)


@pytest.mark.parametrize("form", ["batch", "layer", "group NCHW", "batch, many rows"])
def test_a_kink_has_the_derivative_of_the_activation_itself(form):
    """A constant group gives z = β exactly, here at both kinks."""
    x, _, _, dy, axes, along = draw(form, "float32")
    x[...] = 3.7
    shape = [x.shape[a] for a in along]
    for at in (0.0, 6.0):
        gamma, beta = np.ones(shape, "f4"), np.full(shape, at, "f4")
        for name in ("relu", "relu6"):
            got = gradients(
                standardize_p, (x, gamma, beta), dy, axes=axes, parameter_axes=along, epsilon=0.1, activation=name
            )
            z = mg.tensor(np.full(x.shape, at, "f4"), requires_grad=True)
            getattr(mg, name)(z).backward(mg.tensor(dy))
            others = tuple(a for a in range(x.ndim) if a not in along)
            close(got[3], np.asarray(z.grad).astype(LONG).sum(others), 5e-7, np.sqrt(x.size))
            assert (got[0] == at).all()


# --------------------------------------------------------------------------------------- where float32 does not reach


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e19, 1e-21])
@pytest.mark.parametrize("statistic", ["variance", "mean_square", "sum_square"])
@pytest.mark.parametrize(
    "form", ["batch", "batch, many rows", "batch NCHW, large images", "layer", "group NHWC", "everything"]
)
def test_squares_beyond_float32(form, statistic, scale):
    x, gamma, beta, dy, axes, along = draw(form, "float32")
    x = (x * scale).astype(np.float32)
    beta[...] = 0.0  # or it would be the largest value
    y, dx, dgamma, _, _ = truth(x, gamma, beta, dy, axes, along, 0.0, statistic, None)
    params = {"axes": axes, "parameter_axes": along, "epsilon": 0.0, "statistic": statistic}
    got = gradients(standardize_p, (x, gamma, beta), dy, **params)
    close(got[0], y, 5e-7)
    close(got[1], dx, 5e-7)
    close(got[2], dgamma, 5e-7, np.sqrt(x.size))


@pytest.mark.parametrize(
    "form", ["batch", "batch, many rows", "batch NCHW, large images", "layer, shared", "group NHWC"]
)
def test_a_group_depends_on_its_own_elements_alone(form):
    """Some groups in need of float64 leave the bits of the others, and are right themselves."""
    x, gamma, beta, dy, axes, along = draw(form, "float32")
    params = {"axes": axes, "parameter_axes": along, "epsilon": 0.0}
    good = gradients(standardize_p, (x, gamma, beta), dy, **params)
    moved = x.copy()
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    chosen = tuple(x.shape[a] // 2 if a in kept else slice(None) for a in range(x.ndim))
    moved[chosen] *= np.float32(1e25)
    got = gradients(standardize_p, (moved, gamma, beta), dy, **params)
    others = np.ones(x.shape, bool)
    others[chosen] = False
    for found, before in zip(got[:2], good[:2]):
        assert (found[others] == before[others]).all()
    beta[...] = 0.0
    y, dx, _, _, _ = truth(moved, gamma, beta, dy, axes, along, 0.0, "variance", None)
    got = gradients(standardize_p, (moved, gamma, beta), dy, **params)
    close(got[0][chosen], y[chosen], 5e-7)
    close(got[1][chosen], dx[chosen], 5e-7)


@pytest.mark.parametrize("form", ["batch", "layer", "group NCHW", "batch, many rows"])
def test_replays_meet_them_too(form):
    """What jit recorded on plain data gives the eager bits on data that need float64, and on plain data after."""
    x, gamma, beta, dy, axes, along = draw(form, "float32")
    params = {"axes": axes, "parameter_axes": along, "epsilon": 0.0}

    def run(x):
        def loss(x):
            y = standardize_p(x, mg.tensor(gamma), mg.tensor(beta), **params)[0]
            return (y * mg.tensor(dy)).sum()

        return mg.value_and_grad(loss)(x)

    jitted = mg.jit(run)
    for scale in (1.0, 1.0, 1e30, 1e-30, 1.0):
        here = mg.tensor((x * scale).astype(np.float32))
        for found, expected in zip(jitted(here), run(here)):
            assert np.array_equal(found.numpy(), expected.numpy())


def test_unknown_names_are_refused():
    x = mg.tensor(np.ones((4, 3)))
    for bad in ({"statistic": "median"}, {"activation": "gelu"}):
        with pytest.raises(ArgumentError, match=f"standardize: {next(iter(bad))} is"):
            standardize_p(x, None, None, axes=(0,), parameter_axes=(1,), epsilon=0.1, **bad)
    statistics = mg.tensor(np.ones(3))
    with pytest.raises(ArgumentError, match="normalize: activation is 'gelu'"):
        normalize_p(
            x, None, None, statistics, statistics, axes=(0,), parameter_axes=(1,), epsilon=0.1, activation="gelu"
        )
