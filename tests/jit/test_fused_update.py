"""Steps of SGD, with and without a momentum, within the products that are their gradients."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def names(step):
    return [call.primitive.name for call in step._last.plan.calls]


def trained(optimizer, shape, rows=5, dtype="float32", jit=True, steps=4):
    """A weight matrix after some steps, the names of the calls, and the losses."""
    rng = np.random.default_rng(0)
    w = mg.Variable(rng.standard_normal(shape).astype(dtype))
    x, y = (mg.tensor(rng.standard_normal((rows, n)).astype(dtype)) for n in shape)

    def step(x, y):
        loss = ((x @ w - y) ** 2).mean()
        loss.backward()
        optimizer.step([w])
        return loss

    run = mg.jit(step) if jit else step
    losses = [run(x, y).item() for _ in range(steps)]
    return w.numpy(), names(run) if jit else [], losses


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 3), (7, 1), (1, 3), (1, 1), (200, 130)])
def test_a_step_within_the_product_is_the_step_behind_it(shape, dtype):
    for decay in (0.0, 0.25):
        wanted, _, losses = trained(mg.optim.SGD(0.1, weight_decay=decay), shape, dtype=dtype, jit=False)
        found, calls, replayed = trained(mg.optim.SGD(0.1, weight_decay=decay), shape, dtype=dtype)
        assert calls.count("matmul+sgd") == 1
        assert "mg::sgd" not in calls
        allowed = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, wanted, rtol=allowed, atol=allowed * np.abs(wanted).max())
        np.testing.assert_allclose(replayed, losses, rtol=allowed)


@pytest.mark.parametrize("shape", [(7, 3), (7, 1), (1, 1), (130, 200)])
def test_momentum_within_the_product_is_the_step_behind_it(shape):
    for decay in (0.0, 0.25):
        (wanted, _, _), (found, calls, _) = (
            trained(mg.optim.SGD(0.1, momentum=0.75, weight_decay=decay), shape, 64, "float64", jit)
            for jit in (False, True)
        )
        assert calls.count("matmul+momentum") == 1
        assert "mg::momentum" not in calls
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def test_blocks_on_several_threads_change_every_element_once():
    wanted, _, _ = trained(mg.optim.SGD(0.1), (300, 500), rows=64, jit=False)
    found, calls, _ = trained(mg.optim.SGD(0.1), (300, 500), rows=64)
    assert "matmul+sgd" in calls
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_rate_is_that_of_the_step():
    schedule = mg.optim.step_decay(0.2, 0.5, 1)
    wanted, _, _ = trained(mg.optim.SGD(schedule), (7, 3), jit=False)
    found, calls, _ = trained(mg.optim.SGD(schedule), (7, 3))
    assert "matmul+sgd" in calls
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [lambda: mg.optim.SGD(0.1, momentum=0.5, nesterov=True), lambda: mg.optim.SGD(0.1, clip_norm=1.0), mg.optim.Adam],
)
def test_what_needs_the_gradient_itself_gets_it(optimizer):
    wanted, _, _ = trained(optimizer(), (7, 3), jit=False)
    found, calls, _ = trained(optimizer(), (7, 3))
    assert not {"matmul+sgd", "matmul+momentum"} & set(calls)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_returned_is_stored():
    w, optimizer = mg.Variable(np.ones((2, 3), np.float32)), mg.optim.SGD(0.5)

    def step(x):
        (x @ w).sum().backward()
        gradient = w.grad
        optimizer.step([w])
        return gradient

    fast = mg.jit(step)
    for k in range(1, 4):
        gradient = fast(mg.tensor(np.full((4, 2), k, np.float32)))
        np.testing.assert_array_equal(gradient.numpy(), np.full((2, 3), 4 * k, np.float32))
    np.testing.assert_array_equal(w.numpy(), np.full((2, 3), 1 - 0.5 * 4 * (1 + 2 + 3), np.float32))
    assert "matmul+sgd" not in names(fast)


def test_a_parameter_is_not_changed_while_the_product_reads_it():
    def run(wrap):
        w, optimizer = mg.Variable(np.diag([1.0, 2.0, 3.0]) + 0.5), mg.optim.SGD(0.1)

        def step(x):
            (x * (w.detach() @ w)).sum().backward()
            optimizer.step([w])

        taken = wrap(step)
        for _ in range(3):
            taken(mg.tensor(np.arange(9.0).reshape(3, 3)))
        return w.numpy(), taken

    wanted, _ = run(lambda f: f)
    found, fast = run(mg.jit)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert "matmul+sgd" not in names(fast)


def test_operands_that_change_in_between_are_read_before():
    def run(wrap):
        w, scale = mg.Variable(np.ones((3, 2))), mg.Variable(np.ones((4, 3)), trainable=False)
        optimizer = mg.optim.SGD(0.1)

        def step(y, new):
            ((scale @ w - y) ** 2).sum().backward()
            scale.assign(new)
            optimizer.step([w])

        taken = wrap(step)
        for k in range(3):
            taken(mg.tensor(np.arange(8.0).reshape(4, 2)), mg.tensor(np.full((4, 3), 0.5 * k)))
        return w.numpy()

    np.testing.assert_allclose(run(mg.jit), run(lambda f: f), rtol=1e-12)


def test_layers_of_a_network_take_their_steps_in_products():
    model = nn.Sequential([nn.Dense(16, activation="relu"), nn.Dense(3)])
    model(mg.tensor(np.zeros((1, 4), np.float32)))
    optimizer, variables = mg.optim.SGD(0.1), model.trainable_variables

    @mg.jit
    def step(x, labels):
        loss = nn.losses.softmax_cross_entropy(model(x, True), labels)
        loss.backward()
        optimizer.step(variables)
        return loss

    for _ in range(3):
        step(mg.tensor(np.ones((2, 4), np.float32)), mg.tensor([0, 2]))
    assert names(step).count("matmul+sgd") == 2
    assert names(step).count("mg::sgd") == 2  # of biases
    assert "matmul+sgd" in str(step.plan())
