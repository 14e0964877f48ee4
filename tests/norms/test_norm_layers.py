"""The layers as layers: arguments, Variables, later inputs, dtypes, copies, checkpoints, and equality to functions."""

import copy
import inspect

import numpy as np
import pytest
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

X = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)

#: layer, the function of x, γ and β that it must equal, and the shape of γ and β for inputs of X's shape
LAYERS = {
    "layer": (lambda **o: norms.LayerNormalization(**o), lambda x, g, b: norms.layer_norm(x, g, b), (6,)),
    "layer over two axes": (
        lambda **o: norms.LayerNormalization([1, -1], **o),
        lambda x, g, b: norms.layer_norm(x, g, b, axis=(1, 3)),
        (4, 6),
    ),
    "rms": (lambda **o: norms.RMSNormalization(center=True, **o), lambda x, g, b: norms.rms_norm(x, g, b), (6,)),
    "group": (lambda **o: norms.GroupNormalization(3, **o), lambda x, g, b: norms.group_norm(x, g, b, 3), (6,)),
    "group NCHW": (
        lambda **o: norms.GroupNormalization(2, 1, **o),
        lambda x, g, b: norms.group_norm(x, g, b, 2, axis=1),
        (4,),
    ),
    "instance": (lambda **o: norms.InstanceNormalization(**o), lambda x, g, b: norms.instance_norm(x, g, b), (6,)),
    "filter response": (
        lambda **o: norms.FilterResponseNormalization(**o),
        lambda x, g, b: norms.filter_response_norm(x, g, b),
        (6,),
    ),
}


def randomized(layer, shape, seed=1):
    """The layer, built for inputs of that shape, with random γ and β."""
    layer.build_once(shape)
    rng = np.random.default_rng(seed)
    for v in layer.trainable_variables:
        v.assign(rng.standard_normal(v.shape))
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function_with_variables(name, training):
    make, function, shape = LAYERS[name]
    layer = randomized(make(), X.shape)
    assert layer.gamma.shape == layer.beta.shape == shape
    assert list(layer.variables) == ["gamma", "beta"]
    y = layer(mg.tensor(X), training)
    gamma, beta = layer.gamma.numpy().copy(), layer.beta.numpy().copy()
    np.testing.assert_array_equal(y.numpy(), function(X, gamma, beta).numpy())
    dy = mg.tensor(np.random.default_rng(2).standard_normal(X.shape), dtype="float32")
    y.backward(dy)
    _, pull = mg.vjp(lambda g, b: function(X, g, b), gamma, beta)
    for v, want in zip((layer.gamma, layer.beta), pull(dy)):
        np.testing.assert_array_equal(v.grad.numpy(), want.numpy())


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("name", [n for n in LAYERS if n != "rms"])
def test_center_and_scale(name, center, scale):
    make, function, _ = LAYERS[name]
    layer = randomized(make(center=center, scale=scale), X.shape)
    assert (layer.beta is not None, layer.gamma is not None) == (center, scale)
    want = function(X, *[None if v is None else v.numpy().copy() for v in (layer.gamma, layer.beta)])
    np.testing.assert_array_equal(layer(X).numpy(), want.numpy())


@pytest.mark.parametrize("name", LAYERS)
def test_first_values_names_and_dtype(name):
    make, _, shape = LAYERS[name]
    layer = make(beta_initializer="ones", gamma_initializer=mg.nn.initializers.constant(3.0), name="n", dtype="float64")
    layer.build_once((None, *X.shape[1:]))
    np.testing.assert_array_equal(layer.beta.numpy(), np.ones(shape))
    np.testing.assert_array_equal(layer.gamma.numpy(), np.full(shape, 3.0))
    assert layer.gamma.dtype == np.float64
    assert (layer.gamma.name, layer.beta.name) == ("n/gamma", "n/beta")
    default = make()
    default.build_once(X.shape)
    assert np.all(default.gamma.numpy() == 1)
    assert np.all(default.beta.numpy() == 0)


@pytest.mark.parametrize("name", LAYERS)
def test_later_inputs_must_fit_and_the_message_says_how(name):
    make, _, shape = LAYERS[name]
    layer = make(name="mine")
    layer(X)
    assert layer(X[:2]).shape == (2, 4, 5, 6)
    with pytest.raises(
        ShapeError, match=r"mine: the input has shape \(3, 8, 5, 12\), expected lengths .*" + str(shape[0])
    ):
        layer(np.ones((3, 8, 5, 12), np.float32))
    assert layer(X).shape == X.shape


def test_axes_out_of_range_name_the_layer():
    with pytest.raises(ShapeError, match="mine: axis 4 is out of range for 4 dimensions"):
        norms.LayerNormalization(4, name="mine")(X)
    with pytest.raises(ShapeError, match="mine: axis -5 is out of range"):
        norms.GroupNormalization(2, -5, name="mine")(X)
    with pytest.raises(ArgumentError, match=r"mine: axis \(1, -3\) names an axis twice"):
        norms.RMSNormalization((1, -3), name="mine")(X)
    with pytest.raises(ShapeError, match=r"group: axis 0 of x with shape \(3, 4, 5, 6\) is the samples'"):
        norms.GroupNormalization(2, -4, name="group")(X)
    with pytest.raises(ShapeError, match=r"frn: axis is \(0, 1\) for x .* axis 0 is the samples'"):
        norms.FilterResponseNormalization(axis=[0, 1], name="frn")(X)


def test_bad_arguments_are_found_when_the_layer_is_made():
    with pytest.raises(ArgumentTypeError, match="LayerNormalization: axis is 'last', expected an integer or a list"):
        norms.LayerNormalization("last")
    with pytest.raises(ArgumentTypeError, match=r"GroupNormalization: axis is \[1\], expected one integer"):
        norms.GroupNormalization(2, [1])
    with pytest.raises(ArgumentError, match="InstanceNormalization: axis is 0, which is the samples'"):
        norms.InstanceNormalization(0)
    for bad in (-1e-3, float("nan"), float("inf"), "small", True, None):
        with pytest.raises(ArgumentError, match="RMSNormalization: epsilon is "):
            norms.RMSNormalization(epsilon=bad)
    for bad in (0, -2, 2.0, True, None):
        with pytest.raises(ArgumentError, match=f"GroupNormalization: groups is {bad!r}, expected a positive integer"):
            norms.GroupNormalization(bad)
    with pytest.raises(ArgumentTypeError, match="LayerNormalization: center is None, expected True or False"):
        norms.LayerNormalization(center=None)
    with pytest.raises(ArgumentTypeError, match="LayerNormalization: rms_scaling is 1"):
        norms.LayerNormalization(rms_scaling=1)
    with pytest.raises(ArgumentError, match="initializer: 'many' is unknown"):
        norms.LayerNormalization(gamma_initializer="many")
    with pytest.raises(ArgumentError, match="regularizer: 'many' is unknown"):
        norms.RMSNormalization(gamma_regularizer="many")
    with pytest.raises(ArgumentTypeError, match="constraint: got 3"):
        norms.InstanceNormalization(beta_constraint=3)
    with pytest.raises(TypeError, match="moving_mean"):
        norms.LayerNormalization(moving_mean=1)


def test_groups_that_do_not_divide_the_channels():
    with pytest.raises(ShapeError, match=r"g: the 6 channels at axis 3 of x with shape .* can't be cut into 4 groups"):
        norms.GroupNormalization(4, name="g")(X)
    with pytest.raises(ShapeError, match=r"6 channels .* 32 groups"):
        norms.GroupNormalization()(X)


def test_dtypes_of_inputs():
    layer = randomized(norms.LayerNormalization(), X.shape)
    whole = (10 * X).astype(np.int64)
    np.testing.assert_array_equal(layer(whole).numpy(), layer(whole.astype(np.float32)).numpy())
    half = X.astype(np.float16)
    y = layer(half)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y.numpy(), layer(half.astype(np.float32)).numpy().astype(np.float16))
    with pytest.raises(DTypeError, match="layernormalization: the input has dtype float64, expected float32"):
        layer(X.astype(np.float64))
    assert norms.LayerNormalization(dtype="float16").dtype == np.float32
    plain = norms.LayerNormalization(center=False, scale=False)
    assert plain(X.astype(np.float64)).dtype == np.float64


def test_axes_from_the_end_serve_inputs_of_several_dimensions():
    layer = norms.LayerNormalization()
    layer(X)
    np.testing.assert_array_equal(layer(X[0]).numpy(), norms.layer_norm(X[0]).numpy())


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_checkpoints(name, tmp_path):
    make, _, _ = LAYERS[name]
    layer = randomized(make(), X.shape)
    y = layer(X).numpy()
    twin = copy.deepcopy(layer)
    mg.save(tmp_path / "weights", layer=layer)
    for v in layer.trainable_variables:
        v.assign(v * 2)
    np.testing.assert_array_equal(twin(X).numpy(), y)
    fresh = make()
    fresh.build_once(X.shape)
    mg.load(tmp_path / "weights", layer=fresh)
    np.testing.assert_array_equal(fresh(X).numpy(), y)


def test_trainable():
    assert norms.GroupNormalization(2, trainable=False).trainable is False
    frozen = norms.LayerNormalization(trainable=False)
    frozen(X)
    assert frozen.trainable_variables == []
    assert len(frozen.variables) == 2


def test_regularizers_and_constraints_reach_their_variables():
    layer = norms.GroupNormalization(
        2, gamma_regularizer="l2", beta_regularizer=lambda b: mg.sum(b) * 3.0, beta_constraint="non_neg"
    )
    layer(X)
    layer.beta.assign(np.arange(6.0))
    losses = sorted(loss.item() for loss in layer.losses)
    assert losses == pytest.approx([0.01 * 6, 45.0])
    layer.beta.assign(np.arange(6.0) - 3)
    optimizer, variables = mg.optim.SGD(0.01), layer.trainable_variables
    mg.sum(layer(X)).backward()
    before = layer.beta.numpy() - 0.01 * layer.beta.grad.numpy()
    assert np.min(before) < 0
    optimizer.update(variables, [v.grad for v in variables])
    np.testing.assert_allclose(layer.beta.numpy(), np.maximum(before, 0), rtol=1e-6)


KERAS = (
    "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer gamma_regularizer beta_constraint"
)


@pytest.mark.parametrize(
    ("make", "first", "defaults"),
    [
        (norms.LayerNormalization, (), {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True}),
        (norms.RMSNormalization, (), {"axis": -1, "epsilon": 1e-6, "center": False, "scale": True}),
        (norms.GroupNormalization, (), {"groups": 32, "axis": -1, "epsilon": 1e-3, "center": True, "scale": True}),
        (norms.InstanceNormalization, (), {"groups": -1, "axis": -1, "epsilon": 1e-3, "center": True, "scale": True}),
        (norms.ConditionalInstanceNormalization, (2,), {"styles": 2, "axis": -1, "epsilon": 1e-5}),
        (norms.ConditionalBatchNormalization, (2,), {"axis": -1, "epsilon": 1e-3}),
        (norms.AdaptiveInstanceNormalization, (), {"axis": -1, "epsilon": 1e-5}),
        (norms.FilterResponseNormalization, (), {"axis": (1, 2), "epsilon": 1e-6, "center": True, "scale": True}),
        (norms.UnitNormalization, (), {"axis": -1, "center": False, "scale": False}),
    ],
)
def test_defaults_are_those_of_keras_and_addons(make, first, defaults):
    layer = make(*first)
    for name, value in defaults.items():
        assert getattr(layer, name) == value, name


def test_arguments_may_be_given_in_keras_order():
    layer = norms.GroupNormalization(2, 1, 0.5, True, True, "ones", "zeros")
    layer(X)
    assert (layer.axis, layer.epsilon) == (1, 0.5)
    assert layer.beta.tolist() == [1.0] * 4
    assert layer.gamma.tolist() == [0.0] * 4
    names = list(inspect.signature(norms.Normalization).parameters)
    assert names[: len(KERAS.split())] == KERAS.split()


def test_training_moves_scale_and_shift():
    """A layer in a network: the loss of a small regression falls, and γ and β have moved."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5)).astype(np.float32)
    target = (x[:, :1] * 2 - x[:, 1:2]).astype(np.float32)
    model = mg.nn.Sequential([mg.nn.Dense(8), norms.LayerNormalization(), mg.nn.Activation("relu"), mg.nn.Dense(1)])
    optimizer = mg.optim.SGD(0.1)
    losses = []
    for _ in range(60):
        loss = mg.mean(mg.square(model(x, training=True) - target))
        loss.backward()
        variables = model.trainable_variables
        optimizer.update(variables, [v.grad for v in variables])
        for v in variables:
            v.grad = None
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert np.any(model[1].gamma.numpy() != 1)
    assert np.any(model[1].beta.numpy() != 0)


def test_rms_scaling_divides_by_the_spread_and_keeps_the_mean():
    rng = np.random.default_rng(3)
    x, g = rng.standard_normal((4, 7)), rng.standard_normal(7)
    layer = norms.LayerNormalization(rms_scaling=True, scale=False, epsilon=0.1, dtype="float64")
    layer.build_once(x.shape)
    layer.gamma.assign(g)
    assert layer.beta is None
    close(layer(x).numpy(), x * g / np.sqrt(x.var(1, keepdims=True) + 0.1))

    def function(x):
        return layer(x)

    mg.gradcheck.check(function, [x]).require()
