"""What the tests of elementwise primitives share: random arrays, pairs of shapes that broadcast, and a comparison."""

import numpy as np

import minigrad as mg
from minigrad import scalar

RNG = np.random.default_rng(0)


def normal(shape, dtype="float64"):
    return np.asarray(RNG.standard_normal(shape)).astype(dtype)


def run(function, *arrays):
    return function(*[mg.tensor(a) for a in arrays]).numpy()


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def gradients(function, *arrays, weights):
    tensors = [mg.tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).backward(mg.tensor(weights))
    return [t.grad.numpy() for t in tensors]


@mg.elementwise("test_elementwise::chosen", override=True)
def chosen(x, y, z):
    return scalar.select(x > y, y, z)


SHAPES = [
    ((), ()),
    ((5,), (5,)),
    ((5,), ()),
    ((), (5,)),
    ((1,), (5,)),
    ((2, 3), (3,)),
    ((2, 1), (2, 3)),
    ((2, 1), (1, 3)),
    ((1, 1), (2, 3)),
    ((4, 1, 3), (2, 1)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 4), (2, 1, 4)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((2, 1, 2, 1, 2, 1, 2), (1, 3, 1, 3, 1, 3, 1)),
    ((1,) * 20 + (3,), (2,) + (1,) * 20),
    ((0,), (0,)),
    ((0,), (1,)),
    ((0, 3), (3,)),
    ((3, 0), (3, 1)),
    ((2, 0, 4), (1, 1)),
    ((), (2, 0)),
]
