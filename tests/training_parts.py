"""A small problem, a network for it, and comparisons to the bit, for the tests of training."""

import numpy as np

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn, training


def data(n=50, features=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((n, features)).astype(np.float32)
    x[np.arange(n), y] += 2
    return x, y


def network(seed=0, dropout=0.2, norm=True, classes=3):
    layers = [nn.Dense(8, activation="tanh"), nn.Dropout(dropout)]
    model = nn.Sequential([*layers, *([norms.BatchNormalization()] if norm else []), nn.Dense(classes)])
    model.set_generator(mg.random.Generator(seed))
    return model


def values_of(*parts):
    return [v.numpy().copy() for part in parts for v in part.variables.values()]


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)


def fit(model, x, y, optimizer=None, **options):
    options = {"batch_size": 8, "progress": False, **options}
    return training.fit(model, x, y, optimizer=optimizer or mg.optim.SGD(0.1, momentum=0.9), **options)
