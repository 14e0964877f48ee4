"""Layers: keyword arguments of a call, copies, and the smaller ones: Embedding, GaussianNoise, Permute and the like."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, ShapeError


def array(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def small(**options):
    return nn.Sequential([nn.Dense(4, activation="tanh"), nn.Dropout(0.5), nn.Dense(2)], **options)


# Arguments of a call, and copies


class Shift(nn.Layer):
    def call(self, x, training, by, *, twice=False):
        return x + (2.0 * by if twice else by)


def test_calls_pass_keyword_arguments_on():
    x = mg.tensor([1.0, 2.0])
    layer = Shift()
    assert layer.options == {"by", "twice"}
    assert layer(x, by=3.0).tolist() == [4.0, 5.0]
    assert layer(x, True, by=3.0, twice=True).tolist() == [7.0, 8.0]
    with pytest.raises(ArgumentTypeError, match=r"shift: got \['mask'\], call takes \['by', 'twice'\] besides x"):
        layer(x, by=3.0, mask=None)
    with pytest.raises(ArgumentTypeError, match=r"flatten: got \['labels'\], call takes \[\]"):
        nn.Flatten()(x, labels=3)


def test_sequential_gives_keyword_arguments_to_those_who_take_them():
    class Wrap(nn.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x, training, **options):
            return self.inner(x, training, **options)

    class Scale(nn.Layer):
        def call(self, x, training, factor=1.0):
            return x * factor

    model = nn.Sequential([Scale(), mg.negative, nn.Sequential([Wrap(Shift()), nn.Dropout(0.5)]), Wrap(nn.Flatten())])
    assert model.options == {"by", "twice", "factor"}
    x = mg.tensor([[1.0, 2.0]])
    assert model(x, by=1.0, factor=3.0).tolist() == [[-2.0, -5.0]]
    assert model(x, by=1.0).tolist() == [[0.0, -1.0]]
    with pytest.raises(
        ArgumentTypeError, match=r"sequential: got \['labels'\], call takes \['by', 'factor', 'twice'\]"
    ):
        model(x, by=1.0, labels=2)


def test_parameters_take_their_options_from_attributes():
    class Line(nn.Layer):
        slope_initializer = "ones"
        slope_regularizer = "l2"

        def build(self, shape):
            self.slope = self.add_parameter("slope", (2,))

        def call(self, x, training):
            return x * self.slope

    layer = Line()
    layer(mg.tensor([1.0, 2.0]))
    assert [p.item() for p in layer.losses] == pytest.approx([0.02])
    assert layer.slope.constraint is None


def test_replaced_leaves_the_layer_as_it_is():
    layer = nn.Dense(2, kernel_initializer="ones")
    x = mg.tensor([[1.0, 2.0]])
    assert layer(x).tolist() == [[3.0, 3.0]]
    assert layer.replaced(kernel=2.0 * layer.kernel, activation=mg.negative)(x).tolist() == [[-6.0, -6.0]]
    assert layer(x).tolist() == [[3.0, 3.0]]
    assert layer.replaced().bias is layer.bias


def test_deep_copies_share_nothing():
    model = small()
    model.set_generator(mg.random.Generator(3))
    x = array(4, 3)
    model(x)
    twin = copy.deepcopy(model)
    before = model(x).numpy().copy()
    assert twin(x).tolist() == before.tolist()
    assert not set(map(id, twin.variables.values())) & set(map(id, model.variables.values()))
    assert twin.generators[0] is not model.generators[0]
    assert (twin(x, True).numpy() == model(x, True).numpy()).all()  # the same stream, drawn from apart
    mg.optim.SGD(0.5).update(twin.trainable_variables, [mg.tensor(v.numpy()) for v in twin.trainable_variables])
    assert model(x).tolist() == before.tolist()
    assert twin(x).tolist() != before.tolist()


# The smaller layers


def test_embedding():
    layer = nn.Embedding(5, 3, embeddings_regularizer="l2", embeddings_constraint="unit_norm")
    rows = np.array([[4, 0], [4, 2]], np.uint8)
    y = layer(mg.tensor(rows))
    np.testing.assert_array_equal(y.numpy(), layer.embeddings.numpy()[rows])
    y.sum().backward()
    np.testing.assert_array_equal(layer.embeddings.grad.numpy(), np.array([1, 0, 1, 0, 2])[:, None] * np.ones(3))
    assert len(layer.losses) == 1
    with pytest.raises(DTypeError, match="embedding: the input has dtype float32, expected integers"):
        layer(mg.tensor([1.0]))
    with pytest.raises(IndexRangeError):
        layer(mg.tensor([5]))
    for bad in (0, 2.0, None):
        with pytest.raises(ArgumentError, match="Embedding: output_dim is"):
            nn.Embedding(3, bad)


def test_gaussian_noise():
    x = mg.tensor(np.full((400, 50), 3.0, np.float32))
    layer = nn.GaussianNoise(0.5, seed=1)
    assert layer(x) is x
    y = layer(x, True).numpy()
    assert abs(y.mean() - 3) < 0.02
    assert abs(y.std() - 0.5) < 0.02
    assert (layer(x, True).numpy() != y).any()
    assert nn.GaussianNoise(0)(x, True) is x
    with pytest.raises(ArgumentError, match="stddev is -1"):
        nn.GaussianNoise(-1)


def test_permute_repeat_and_lambda():
    x = array(2, 3, 4, 5)
    np.testing.assert_array_equal(nn.Permute((3, 1, 2))(x).numpy(), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(nn.RepeatVector(3)(x[:, 0, 0]).numpy(), np.repeat(x[:, None, 0, 0], 3, 1))
    np.testing.assert_array_equal(nn.Lambda(lambda z: z * 2.0)(x).numpy(), 2 * x)
    for call, error, match in [
        (lambda: nn.Permute((0, 1)), ArgumentError, "expected each of 1 to 2 once"),
        (lambda: nn.Permute((2, 1))(x), ShapeError, r"permute: the input has shape \(2, 3, 4, 5\), expected 3 axes"),
        (lambda: nn.RepeatVector(0), ArgumentError, "RepeatVector: n is 0"),
        (lambda: nn.RepeatVector(2)(x), ShapeError, r"expected \(batch, features\)"),
        (lambda: nn.Lambda(3), ArgumentTypeError, "Lambda: got 3"),
    ]:
        with pytest.raises(error, match=match):
            call()
