"""Layers: values, what they hold and train, sharing, freezing, copies, generators, and errors that name the layer."""

import copy

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn
from minigrad.errors import ArgumentError, ArgumentTypeError, MissingRuleError, ShapeError


def array(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# Dense


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 3), (3,), (2, 4, 3), (0, 3)])
def test_dense_values(shape, dtype):
    layer = nn.Dense(4, bias_initializer="random_normal", dtype=dtype)
    x = array(*shape, dtype=dtype)
    y = layer(mg.tensor(x))
    kernel, bias = layer.kernel.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    assert bias.all()
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), x @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert layer.kernel.name == "dense/kernel"


def test_dense_gradients():
    layer = nn.Dense(2, dtype="float64")
    x, ct = array(4, 3, dtype="float64"), array(4, 2, seed=1, dtype="float64")
    (layer(mg.tensor(x)) * mg.tensor(ct)).sum().backward()
    np.testing.assert_allclose(layer.kernel.grad.numpy(), x.T @ ct, rtol=1e-13)
    np.testing.assert_allclose(layer.bias.grad.numpy(), ct.sum(0), rtol=1e-13)


def test_dense_options():
    layer = nn.Dense(np.int64(2), activation="relu", use_bias=False, kernel_initializer="ones", name="head")
    assert layer(mg.tensor([[1.0, 2.0], [-3.0, 1.0]])).tolist() == [[3.0, 3.0], [0.0, 0.0]]
    assert list(layer.variables) == ["kernel"]
    assert layer.bias is None
    assert layer.kernel.name == "head/kernel"
    square = nn.Dense(1, activation=lambda x: x * x, kernel_initializer="ones")
    assert square(mg.tensor([[1.0, 2.0]])).tolist() == [[9.0]]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_dense_casts_integers_to_its_own_dtype(dtype):
    layer = nn.Dense(2)
    x = (array(4, 3) > 0).astype(dtype)
    y = layer(mg.tensor(x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), x.astype(np.float32) @ layer.kernel.numpy(), rtol=1e-6, atol=1e-6)
    y.sum().backward()
    assert layer.kernel.grad.dtype == np.float32


@pytest.mark.parametrize("units", [0, -1, 2.0, True, "3", None])
def test_dense_wants_a_number_of_units(units):
    with pytest.raises(ArgumentError, match=r"Dense: units is .*, expected a positive integer"):
        nn.Dense(units)


def test_dense_wants_the_features_it_was_built_for():
    layer = nn.Dense(2, name="head")
    layer(array(4, 3))
    with pytest.raises(ShapeError, match=r"head: the input has shape \(4, 5\), expected \(\.\.\., 3\)"):
        layer(array(4, 5))
    with pytest.raises(ShapeError, match=r"head: the input has shape \(\)"):
        layer(mg.tensor(1.0))
    with pytest.raises(ShapeError, match="dense: the input has no axes"):
        nn.Dense(2)(mg.tensor(1.0))
    with pytest.raises(ShapeError, match=r"dense: kernel would have shape \(None, 2\)"):
        nn.Dense(2).build_once((3, None))


# Activation, Dropout, Flatten, Reshape


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("exponential", np.exp),
        ("softmax", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
        ("log_softmax", lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
        ("linear", lambda x: x),
    ],
)
def test_activations_by_name(name, function):
    x = 4 * array(5, 3, dtype="float64")
    np.testing.assert_allclose(nn.Activation(name)(mg.tensor(x)).numpy(), function(x), rtol=1e-12, atol=1e-12)


def test_activations_given_otherwise():
    x = mg.tensor([1.0, -2.0])
    assert nn.activation(None) is None
    assert nn.Activation(None)(x) is x
    assert nn.Activation(mg.exp)(x).tolist() == mg.exp(x).tolist()
    with pytest.raises(ArgumentError, match=r"activation: 'rellu' is unknown, expected one of .*'relu'"):
        nn.Activation("rellu")
    with pytest.raises(ArgumentTypeError, match="activation: got 3"):
        nn.Dense(2, activation=3)


def test_dropout():
    x = mg.tensor(np.ones((200, 50), np.float32))
    layer = nn.Dropout(0.2, seed=1)
    assert layer(x) is x
    y = layer(x, training=True).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    assert abs((y == 0).mean() - 0.2) < 0.02
    assert (layer(x, training=True).numpy() != y).any()
    assert nn.Dropout(0.0)(x, training=True) is x
    for rate in (1.0, -0.1, np.nan):
        with pytest.raises(ArgumentError, match=r"Dropout: rate is .*, expected a number in \[0, 1\)"):
            nn.Dropout(rate)
    with pytest.raises(ArgumentTypeError, match=r"Dropout: rate is '0\.5'"):
        nn.Dropout("0.5")


def test_dropout_draws_from_its_own_generator_the_models_or_the_default_one():
    x = mg.tensor(np.ones((4, 50), np.float32))

    def drawn(layer):
        return layer(x, training=True).tolist()

    one, same = nn.Dropout(0.5, seed=1), nn.Dropout(0.5, seed=1)
    mg.random.seed(0)
    assert drawn(one) == drawn(same)
    same.set_generator(mg.random.Generator(7))
    assert drawn(one) == drawn(same)
    given, default = nn.Dropout(0.5), nn.Dropout(0.5)
    given.set_generator(mg.random.Generator(7))
    other = nn.Dropout(0.5)
    other.set_generator(mg.random.Generator(7))
    assert drawn(given) == drawn(other)
    before = mg.random.default_generator.get_state()
    drawn(given), drawn(one)
    assert mg.random.default_generator.get_state() == before
    drawn(default)
    assert mg.random.default_generator.get_state() != before


def test_flatten_and_reshape():
    x = mg.tensor(array(2, 3, 4))
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten()(mg.tensor(array(5))).shape == (5, 1)
    assert nn.Flatten()(mg.tensor(array(0, 3, 4))).shape == (0, 12)
    assert nn.Reshape((2, 6))(x).shape == (2, 2, 6)
    assert nn.Reshape((-1, 2))(x).shape == (2, 6, 2)
    assert nn.Reshape([12])(x).tolist() == nn.Flatten()(x).tolist()
    assert nn.Reshape((-1, 2))(mg.tensor(array(0, 3, 4))).shape == (0, 6, 2)
    for layer in (nn.Flatten(), nn.Reshape((1,))):
        with pytest.raises(ShapeError, match="the input has no axes"):
            layer(mg.tensor(1.0))
    for target in ((5,), (-1, 5), (-1, 0)):
        with pytest.raises(ShapeError, match=r"reshape: a sample of shape \(3, 4\) has 12 elements, expected \("):
            nn.Reshape(target)(x)
    for target in ((-1, -1), (2.0,), (-2, 3)):
        with pytest.raises(ArgumentError, match="Reshape: target_shape is"):
            nn.Reshape(target)


# Sequential


def small(**options):
    return nn.Sequential([nn.Dense(4, activation="tanh"), nn.Dropout(0.5), nn.Dense(2)], **options)


def test_sequential_calls_layers_and_functions_in_turn():
    first, second = nn.Dense(4), nn.Dense(2)
    model = nn.Sequential([first, mg.tanh, second, lambda x: 2 * x])
    x = mg.tensor(array(5, 3))
    assert model(x).tolist() == (2 * second(mg.tanh(first(x)))).tolist()
    assert len(model) == 4
    assert model[0] is first
    assert nn.Sequential()(x) is x


def test_sequential_hands_training_down():
    outer = nn.Sequential([nn.Sequential([nn.Dropout(0.5)])])
    x = mg.tensor(np.ones((10, 10), np.float32))
    assert (outer(x).numpy() == 1).all()
    assert (outer(x, training=True).numpy() == 0).any()


def test_sequential_builds_from_a_shape():
    model = nn.Sequential([nn.Flatten(), small(), norms.BatchNormalization()])
    model.build_once((None, 3, 5))
    assert model.variables["items/1/items/0/kernel"].shape == (15, 4)
    kernel = model.variables["items/1/items/0/kernel"]
    model.build_once((None, 3, 5))
    model(array(2, 3, 5))
    assert model.variables["items/1/items/0/kernel"] is kernel
    assert model.variables["items/2/moving_mean"].tolist() == [0.0, 0.0]
    dense = nn.Dense(2)
    dense.build_once((None, 3))
    kernel = dense.kernel
    dense(array(4, 3))
    assert dense.kernel is kernel


def test_sequential_of_wider_layers_is_as_wide():
    assert small().dtype == np.float32
    assert nn.Sequential([nn.Flatten(), nn.Dense(2, dtype="float64")]).dtype == np.float64
    assert small(dtype="float64").dtype == np.float64
    assert nn.Sequential([nn.Dense(2, dtype="float64")], dtype="float32").dtype == np.float32


def test_sequential_refuses_what_is_no_layer():
    with pytest.raises(ArgumentTypeError, match="net: item 1 is 3, expected a layer or a function"):
        nn.Sequential([nn.Dense(2), 3], name="net")
    with pytest.raises(ArgumentTypeError, match=r"item 0 is the class Flatten, expected a layer"):
        nn.Sequential([nn.Flatten])
    with pytest.raises(ArgumentTypeError, match="layers is <Dense dense>, expected a list"):
        nn.Sequential(nn.Dense(2))


def test_an_error_names_the_layer_its_place_and_the_shapes():
    model = nn.Sequential([nn.Flatten(), small(name="head")], name="net")
    model(array(2, 3, 5))
    kernels = [v.numpy().copy() for v in model.variables.values()]
    wanted = (
        r"net: item 1 \(head\) got shape \(2, 12\): head: item 0 \(dense\) got shape \(2, 12\): "
        r"dense: the input has shape \(2, 12\), expected \(\.\.\., 15\)"
    )
    with pytest.raises(ShapeError, match=wanted):
        model(array(2, 3, 4))
    for kernel, variable in zip(kernels, model.variables.values()):
        np.testing.assert_array_equal(kernel, variable.numpy())
    single = nn.Sequential([nn.Flatten(), norms.BatchNormalization()])
    with pytest.raises(ArgumentError, match=r"item 1 \(batchnormalization\) got shape \(1, 3\): .*one value a channel"):
        single(array(1, 3), training=True)
    with pytest.raises(ShapeError, match=r"item 0 \(<lambda>\) got shape \(2, 3\): "):
        nn.Sequential([lambda x: x @ mg.tensor(array(4, 2))])(array(2, 3))


# What a layer holds


class Branches(nn.Layer):
    """Layers and Variables in every kind of place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Dense(3)
        self.listed = [nn.Dense(2, use_bias=False), "text", (nn.Dense(2, use_bias=False), 5)]
        self.named = {"a": nn.Dense(2, use_bias=False), "b": None}
        self.scales = [mg.Variable([2.0]), mg.Variable(np.array([3]))]

    def call(self, x, training):
        x = self.stem(x)
        branches = [self.listed[0], self.listed[2][0], self.named["a"]]
        return sum((branch(x) for branch in branches), 0) * self.scales[0]


def test_containers_of_layers_and_variables():
    model = Branches()
    model(array(4, 5))
    assert list(model.variables) == [
        "scales/0",
        "scales/1",
        "stem/kernel",
        "stem/bias",
        "listed/0/kernel",
        "listed/2/0/kernel",
        "named/a/kernel",
    ]
    assert [place for place, _ in model.inner_layers] == ["stem", "listed/0", "listed/2/0", "named/a"]
    assert len(model.trainable_variables) == 6


def test_a_shared_layer_is_listed_and_trained_once():
    shared = nn.Dense(3, use_bias=False, kernel_initializer="ones", dtype="float64")
    model = nn.Sequential([shared, nn.Sequential([shared]), shared])
    x = mg.tensor(array(4, 3, dtype="float64"))
    model(x).sum().backward()
    assert list(model.variables) == ["items/0/kernel"]
    assert model.trainable_variables == [shared.kernel] or model.trainable_variables[0] is shared.kernel
    assert len(model.trainable_variables) == 1
    gradient = shared.kernel.grad.numpy().copy()
    mg.optim.SGD(0.5).step(model.trainable_variables)
    np.testing.assert_allclose(shared.kernel.numpy(), 1 - 0.5 * gradient, rtol=1e-14)


def test_a_shared_variable_is_listed_once():
    first, second = nn.Dense(3, use_bias=False), nn.Dense(3, use_bias=False)
    model = nn.Sequential([first, second])
    model(array(4, 3))
    second.kernel = first.kernel
    assert list(model.variables) == ["items/0/kernel"]
    assert len(model.trainable_variables) == 1


def test_layers_that_know_each_other():
    parent, child = Branches(), nn.Dense(2)
    parent.stem.parent = parent
    parent.child = child
    child(array(1, 2))
    parent(array(4, 5))
    assert len(parent.variables) == 9
    parent.set_generator(mg.random.Generator(1))
    assert child.generator is parent.generator


def test_frozen_layers():
    frozen = nn.Sequential([nn.Dense(3), nn.Dense(3)])
    model = nn.Sequential([frozen, norms.BatchNormalization(), nn.Dense(2)])
    model(array(4, 3))
    assert len(model.trainable_variables) == 8
    frozen.trainable = False
    names = {id(v): n for n, v in model.variables.items()}
    trained = [names[id(v)] for v in model.trainable_variables]
    assert trained == ["items/1/gamma", "items/1/beta", "items/2/kernel", "items/2/bias"]
    assert len(model.variables) == 10
    model.trainable = False
    assert model.trainable_variables == []
    outside = nn.Sequential([frozen, frozen[0]])  # the first layer can be reached around the frozen parent
    assert [v is w for v, w in zip(outside.trainable_variables, frozen[0].variables.values())] == [True, True]


def test_copies_are_independent_and_alike():
    model = nn.Sequential([nn.Dense(4), norms.BatchNormalization(), nn.Dropout(0.5), nn.Dropout(0.5, seed=3), mg.tanh])
    model.set_generator(mg.random.Generator(5))
    x = mg.tensor(array(6, 3))
    model(x, training=True)
    twin = copy.deepcopy(model)
    assert twin(x, training=True).tolist() == model(x, training=True).tolist()
    assert list(twin.variables) == list(model.variables)
    for name, variable in model.variables.items():
        assert twin.variables[name] is not variable
        assert twin.variables[name].tolist() == variable.tolist()
        assert twin.variables[name].trainable == variable.trainable
    twin(x, training=True)
    assert twin.variables["items/1/moving_mean"].tolist() != model.variables["items/1/moving_mean"].tolist()
    assert "items/3/own_generator" in model.variables
    assert twin.variables["items/3/own_generator"].tolist() != model.variables["items/3/own_generator"].tolist()
    twin.variables["items/0/kernel"].assign(0.0)
    assert model.variables["items/0/kernel"].numpy().any()


def test_a_copy_of_shared_layers_shares():
    shared = nn.Dense(3)
    twin = copy.deepcopy(nn.Sequential([shared, shared]))
    assert twin[0] is twin[1]
    assert twin[0] is not shared


# Generators


def test_set_generator_fixes_first_values():
    def built(seed):
        model = Branches()
        model.set_generator(mg.random.Generator(seed))
        model(array(4, 5))
        return [v.tolist() for v in model.variables.values()]

    assert built(1) == built(1)
    assert built(1) != built(2)
    model = nn.Sequential([nn.Dense(2)])
    model.set_generator(mg.random.Generator(1))
    model(array(4, 5))
    assert list(model.variables) == ["items/0/kernel", "items/0/bias"]  # the same with a generator as without


def test_set_generator_reaches_layers_added_later():
    generator, own = mg.random.Generator(1), mg.random.Generator(2)
    model = nn.Sequential([nn.Dense(3)])
    model.set_generator(generator)
    inner = nn.Sequential()
    model.add(inner)
    inner.add(nn.Dense(2))
    given = nn.Dense(2)
    given.set_generator(own)
    model.add(given)
    assert inner.generator is generator
    assert inner[0].generator is generator
    assert given.generator is own
    assert model.generators == [generator, own]

    class Late(nn.Layer):
        def build(self, shape):
            self.inner = nn.Dense(2)

        def call(self, x, training):
            return self.inner(x)

    before = mg.random.default_generator.get_state()
    late = Late()
    late.set_generator(generator)
    late(array(4, 3))
    assert late.inner.generator is generator
    added = Branches()
    added.set_generator(generator)
    added.extra = nn.Dense(2)
    added(array(4, 5))
    assert added.extra.generator is generator
    assert mg.random.default_generator.get_state() == before
    with pytest.raises(ArgumentTypeError, match="sequential: generator is 3, expected a"):
        model.set_generator(3)


# Layers of one's own


def test_a_layer_without_a_rule():
    with pytest.raises(MissingRuleError, match=r"layer: Layer defines no call\(x, training\)"):
        nn.Layer()(array(2, 3))


def test_an_initializer_of_the_wrong_shape():
    layer = nn.Dense(2, kernel_initializer=lambda shape, dtype, generator: np.zeros(3, dtype))
    with pytest.raises(ShapeError, match=r"dense: the initializer of kernel gave shape \(3,\), expected \(4, 2\)"):
        layer(array(5, 4))
    assert not layer.built


def test_inputs_may_be_arrays_and_lists():
    layer = nn.Dense(2, kernel_initializer="ones")
    for x in ([[1.0, 2.0]], np.array([[1.0, 2.0]], np.float32), mg.tensor([[1.0, 2.0]])):
        y = layer(x)
        assert isinstance(y, mg.Tensor)
        assert y.tolist() == [[3.0, 3.0]]


def test_repr():
    assert repr(nn.Dense(2, name="head")) == "<Dense head>"
