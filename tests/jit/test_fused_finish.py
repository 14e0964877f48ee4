"""Finish: kernels that do themselves what they can of the elementwise work on their outputs."""

import numpy as np
import pytest
from test_jit_fuse import both, names

import minigrad as mg
import minigrad_norms as norms

AXES = {"axes": (0,), "parameter_axes": (1,), "epsilon": 1e-3}


@pytest.fixture
def shifted():
    before = mg.primitive.registered()
    p = mg.Primitive("test::shifted", outputs=("y", "sum"))

    @p.infer
    def _(x, *, sign=False):
        return mg.Abstract(x.shape, x.dtype), mg.Abstract((), x.dtype)

    @p.kernel("reference", "cpu")
    def _(x, *, sign=False):
        y = x + 1
        return -y if sign else y, np.asarray(x.sum())

    @p.finish
    def _(name, *, sign=False):
        return {"sign": True} if name == "mg::neg" and not sign else None

    yield p
    mg.primitive.restore(before)


def test_a_plugin_finishes_its_output(shifted):
    x = np.arange(6.0).reshape(2, 3)

    def function(x):
        y, total = shifted(x)
        return -y, total

    (f, got), (_, want) = both(function, x)
    assert [a.numpy().tolist() for a in got] == [a.numpy().tolist() for a in want]
    assert names(f) == ["test::shifted"]


@pytest.mark.parametrize(
    "function",
    [
        lambda shifted, x: (-shifted(x)[0]) * shifted(x)[0],  # needed besides
        lambda shifted, x: (-(y := shifted(x)[0]), y),  # by the caller
        lambda shifted, x: (-(y := shifted(x)[0]), y.T),  # as a view
        lambda shifted, x: (mg.exp(shifted(x)[0]),),  # by something else
        lambda shifted, x: (-shifted(x)[1],),  # another output
        lambda shifted, x: (-shifted(x, sign=True)[0],),  # finished already
    ],
)
def test_outputs_that_are_needed_otherwise_stay(shifted, function):
    (f, got), (_, want) = both(lambda x: function(shifted, x), np.arange(6.0).reshape(2, 3))
    for a, b in zip(_list(got), _list(want), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-14)
    assert len([name for name in names(f) if name != "mg::transpose"]) == 2


def _list(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("activation", [mg.relu, mg.relu6])
def test_norms_clamp_what_they_make(activation):
    rng = np.random.default_rng(0)
    x, gamma, beta, c = (rng.standard_normal(s) for s in ((7, 5), 5, 5, (7, 5)))

    def loss(x, gamma, beta, c):
        return mg.mean(activation(norms.standardize(x, gamma, beta, **AXES)[0]) * c)

    (f, got), (_, want) = both(lambda *args: mg.value_and_grad(loss, argnums=(0, 1, 2))(*args), 3 * x, gamma, beta, c)
    for a, b in zip([got[0], *got[1]], [want[0], *want[1]]):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-13)
    assert not [name for name in names(f) if name.endswith(("relu", "relu6"))]
