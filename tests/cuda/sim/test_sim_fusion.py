"""Fused loops on a GPU: groups of elementwise calls are one launch, whatever the form of what they read."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, scalar
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray
from minigrad.devices.cuda.loops import Loop
from minigrad.errors import ArgumentError
from minigrad.jit import fuse

SIZES = (1, 31, 32, 33, 255, 257, 1025)


def names(f):
    return [call.primitive.name for call in f._last.plan.calls]


def both(function, *args):
    """The function with fusion and its results, and results without, of a second call on other values."""
    found = []
    for fused in (True, False):
        f = mg.jit(function, fuse=fused)
        f(*[mg.tensor(a * 0.9, device="cuda") for a in args])
        found.append((f, f(*[mg.tensor(a, device="cuda") for a in args])))
    (f, got), (g, want) = found
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6 if a.dtype == np.float32 else 1e-13, atol=1e-30)
    return f, g


@pytest.mark.parametrize("n", SIZES)
def test_groups_with_several_outputs_at_every_length(n):
    def function(x, y):
        a = mg.exp(x)
        b = mg.tanh(a * y + 1.0)
        return a, b - x, b.sum()

    rng = np.random.default_rng(n)
    for kind in ("f4", "f8") if n in (1, 33) else ("f4",):
        f, g = both(function, *rng.standard_normal((2, n)).astype(kind))
        assert names(f) == ["exp+mul+add+tanh+sub", "mg::sum"]
        assert len(names(g)) == 6
        assert len(f._last.launches) == 1


@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 33), (4, 1), (1, 6)])
def test_rows_columns_and_scalars_are_repeated(shape):
    rng = np.random.default_rng(0)
    column = (*shape[:-1], 1)
    first = (shape[0], *[1] * (len(shape) - 1))
    args = [rng.standard_normal(s).astype("f4") for s in (shape, shape[-1:], column, (), first)]

    def function(x, row, column, one, first):
        y = mg.relu(x + row) * column
        return y, mg.sin(y - one) * first + row

    f, _ = both(function, *args)
    assert names(f) == ["add+relu+mul+sub+sin+mul+add"]


@pytest.mark.parametrize("start", [0, 1, 2])
def test_loops_write_their_outputs_alone(start):
    x, y = scalar.variable("x"), scalar.variable("y")
    loop = Loop((x * y, scalar.exp(x), x - y), ("x", "y"))
    rng = np.random.default_rng(start)
    for shape, other in [((259,), (259,)), ((5, 12), (5, 1)), ((5, 12), (12,))]:
        a, b = rng.standard_normal(shape).astype("f4"), rng.standard_normal(other).astype("f4")
        memory = [cuda.to_device(np.full(300, 7, "f4")) for _ in range(3)]
        outs = [DeviceArray(m.lease, shape, m.dtype, None, 4 * (start if k else 4)) for k, m in enumerate(memory)]
        loop(tuple(outs), cuda.to_device(a), cuda.to_device(b))
        for out, m, want in zip(outs, memory, (a * b, np.exp(a), a - b)):
            np.testing.assert_allclose(cuda.to_host(out), want, rtol=1e-6)
            assert (cuda.to_host(m) == 7).sum() == 300 - a.size


def test_a_change_in_between_keeps_its_order():
    v = mg.Variable([1.0, 2.0], trainable=False, device="cuda")

    def function(x):
        old = v * 2.0
        v.assign(x)
        return mg.exp(old) + v

    f = mg.jit(function)
    for before, x in (([1.0, 2.0], [0.5, 0.25]), ([0.5, 0.25], [3.0, 1.0]), ([3.0, 1.0], [0.0, 1.0])):
        got = f(mg.tensor(x, device="cuda")).numpy()
        np.testing.assert_allclose(got, np.exp(2 * np.array(before, "f4")) + np.array(x, "f4"), rtol=1e-6)


def test_a_user_in_between_keeps_its_order():
    def function(x):
        a = mg.exp(x)
        b = a * a.sum(axis=1, keepdims=True)  # the sum needs a before b is made
        return mg.tanh(b) + a, (b * 2.0 + 1.0).T

    f, _ = both(function, np.random.default_rng(2).standard_normal((3, 5)).astype("f4") / 3)
    assert names(f) == ["mg::exp", "mg::sum", "mul+tanh+add+mul+add", "mg::transpose"]


def test_groups_of_each_device_are_of_that_device():
    def function(x):
        y = mg.exp(x.to("cpu")) * 2.0
        return y, mg.exp(x) * 2.0 + y.to("cuda")

    f, _ = both(function, np.linspace(-1, 1, 5, dtype="f4"))
    assert [n for n in names(f) if "+" in n] == ["exp+mul", "exp+mul+add"]
    assert len(f.plan().kernels) == 2


def test_a_loop_has_room_for_so_many_arrays():
    def added(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = mg.exp(total) + x
        return (total,)

    args = np.random.default_rng(3).standard_normal((fuse.MOST_GPU_ARRAYS, 3)).astype("f4") - 2
    f, _ = both(added, *args[:-1])
    assert len(names(f)) == 1
    f, _ = both(added, *args)
    assert len(names(f)) == 2


def test_the_plan_shows_loops():
    f = mg.jit(lambda x: mg.tanh(x * 2.0) + 1.0)
    with pytest.raises(ArgumentError, match="no recording"):
        f.plan()
    f(mg.tensor([1.0], device="cuda"))
    report = f.plan()
    assert "2 fused" in str(report)
    assert "mul+tanh+add" in str(report)
    ((name, source),) = report.kernels.items()
    assert f"def {name}(n, out, in_0" in source  # the loop, and the function in it
    assert "= tanh_f32(" in source


def test_training_agrees_to_rounding():
    found = []
    for fused in (True, False):
        model = nn.Sequential([nn.Dense(6, activation="gelu"), nn.Dense(4, activation="tanh"), nn.Dense(3)])
        mg.random.seed(1)
        rng = np.random.default_rng(0)
        model.to("cuda")
        x, y = rng.standard_normal((8, 5)).astype("f4"), mg.tensor(rng.integers(0, 3, 8), device="cuda")
        model(mg.tensor(x, device="cuda"))
        optimizer = mg.optim.SGD(0.1)
        optimizer.build(model.trainable_variables)

        def step(x, y, model=model, optimizer=optimizer):
            loss = nn.losses.softmax_cross_entropy(model(x, True), y)
            loss.backward()
            optimizer.step(model.trainable_variables)
            return loss

        jitted = mg.jit(step, fuse=fused)
        losses = [jitted(mg.tensor(x + 0.1 * i, device="cuda"), y).item() for i in range(3)]
        found.append((losses, [v.numpy() for v in model.variables.values()], len(names(jitted))))
    (losses, state, calls), (others, their_state, their_calls) = found
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for a, b in zip(state, their_state):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert calls < their_calls
