"""What the tests of `jit` train: a small network with everything in it, twice the same."""

import numpy as np

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn


def network(seed=0, dropout=0.25):
    layers = []
    for width in (7, 5):
        layers += [nn.Dense(width), norms.BatchNormalization(), nn.Activation("relu"), nn.Dropout(dropout)]
    model = nn.Sequential([*layers, nn.Dense(3)])
    model.set_generator(mg.random.Generator(seed))
    model(mg.tensor(np.zeros((1, 4), np.float32)))
    return model


def training_step(model, optimizer):
    variables = model.trainable_variables
    loss_of = nn.losses.get("softmax_cross_entropy")

    def step(x, labels):
        loss = loss_of(model(x, True), labels)
        loss.backward()
        optimizer.step(variables)
        return loss

    return step


def batches(count, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (mg.tensor(rng.standard_normal((rows, 4)).astype(np.float32)), mg.tensor(rng.integers(0, 3, rows)))
        for _ in range(count)
    ]


def assert_same_state(one, other):
    """All Variables of two layers or optimizers have the same bits."""
    assert list(one.variables) == list(other.variables)
    for name, v in one.variables.items():
        np.testing.assert_array_equal(v.numpy(), other.variables[name].numpy(), err_msg=name)
