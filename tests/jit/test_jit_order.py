"""Order: Variables are changed as early as may be, and nothing else about a step changes."""

import numpy as np
import pytest
from networks import assert_same_state, batches, network, training_step

import minigrad as mg
from minigrad import nn
from minigrad.errors import IndexRangeError
from minigrad.jit.order import with_early_changes

OPTIMIZERS = {
    "sgd": lambda: mg.optim.SGD(0.1),
    "momentum": lambda: mg.optim.SGD(0.1, momentum=0.9),
    "adam": lambda: mg.optim.Adam(mg.optim.exponential_decay(0.1, 0.5, 2)),
    "clipped": lambda: mg.optim.RMSprop(0.1, clip_norm=0.01),
}


def dense(widths, seed=0):
    model = nn.Sequential([nn.Dense(n, activation="tanh") for n in widths])
    model.set_generator(mg.random.Generator(seed))
    model(mg.tensor(np.zeros((1, 4), np.float32)))
    return model


def names(plan):
    return [call.primitive.name for call in plan.calls]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_bits_are_those_of_the_order_as_written(kind):
    eager, replayed = network(), network()
    optimizers = OPTIMIZERS[kind](), OPTIMIZERS[kind]()
    step, fast = training_step(eager, optimizers[0]), mg.jit(training_step(replayed, optimizers[1]), fuse=False)
    for x, labels in batches(5):
        assert step(x, labels).item() == fast(x, labels).item()
    assert_same_state(eager, replayed)
    assert_same_state(*optimizers)
    assert fast.recordings


def test_gradients_do_not_wait_for_each_other():
    model = dense([256] * 8)
    step = mg.jit(training_step(model, mg.optim.SGD(0.1, momentum=0.9, nesterov=True)))
    x, labels = mg.tensor(np.ones((2, 4), np.float32)), mg.tensor(np.zeros(2, np.int64))
    for _ in range(3):
        step(x, labels)
    plan = step._last.plan
    assert names(plan).count("mg::momentum") == 16
    weights = 7 * 256 * 256 * 4
    assert plan.peak < weights / 3  # two of seven, and activations
    updates = [i for i, name in enumerate(names(plan)) if name == "mg::momentum"]
    assert updates[0] < len(names(plan)) - 20


def test_a_clipped_gradient_waits_for_all():
    step = mg.jit(training_step(dense([8] * 4), OPTIMIZERS["clipped"]()), fuse=False)
    x, labels = mg.tensor(np.ones((2, 4), np.float32)), mg.tensor(np.zeros(2, np.int64))
    for _ in range(3):
        step(x, labels)
    kinds = names(step._last.plan)
    assert kinds.index("mg::rmsprop") > len(kinds) - 1 - [*reversed(kinds)].index("mg::sqrt")


def test_what_reads_the_old_values_does():
    w = mg.Variable(np.arange(3, dtype=np.float32))

    def step(x):
        loss = (w * x).sum()
        loss.backward()
        before = w * 1
        mg.optim.SGD.update(optimizer, [w], [w.grad])
        w.grad = None
        after = w * 1
        mg.optim.SGD.update(optimizer, [w], [before])
        return before, after

    optimizer = mg.optim.SGD(0.5)
    optimizer.build([w])
    fast = mg.jit(step, fuse=False)
    now = w.numpy().copy()
    for k in range(1, 4):
        before, after = fast(mg.tensor(np.full(3, k, np.float32)))
        np.testing.assert_array_equal(before.numpy(), now)
        np.testing.assert_array_equal(after.numpy(), now - np.float32(0.5 * k))
        now = after.numpy() - np.float32(0.5) * now
        np.testing.assert_array_equal(w.numpy(), now)


def test_values_change_hands_behind_the_last_call_that_reads_them():
    a, b, c = (mg.Variable(np.full(2, value, np.float32), trainable=False) for value in (1, 2, 3))

    def step(x):
        y = mg.exp(mg.sin(x)) * 0 + b
        a.assign(b)
        b.assign(c)
        c.assign(c + 1)
        return y

    fast = mg.jit(step, fuse=False)
    for k in range(1, 5):
        assert fast(mg.tensor([0.5, 0.25])).tolist() == [k + 1] * 2
        assert [v.numpy()[0] for v in (a, b, c)] == [k + 1, k + 2, k + 3]


def test_nothing_has_changed_when_a_later_label_is_out_of_range():
    model = dense([5, 3])
    optimizer = mg.optim.SGD(0.1)
    variables = model.trainable_variables

    def step(x, labels):
        out = model(x, True)
        (out * out).mean().backward()
        told = mg.softmax_cross_entropy(out.detach(), labels)
        optimizer.step(variables)
        return told

    fast = mg.jit(step)
    x = mg.tensor(np.ones((2, 4), np.float32))
    for _ in range(3):
        fast(x, mg.tensor([0, 2]))
    before = [v.numpy().copy() for v in variables]
    with pytest.raises(IndexRangeError):
        fast(x, mg.tensor([0, 3]))
    for v, values in zip(variables, before):
        np.testing.assert_array_equal(v.numpy(), values)


def test_a_thousand_updates_are_ordered_at_once():
    variables = [mg.Variable(np.ones(1, np.float32)) for _ in range(1000)]
    optimizer = mg.optim.SGD(0.1)

    def step(x):
        for v in variables:
            x = x * v
        x.sum().backward()
        optimizer.step(variables)
        return x

    fast = mg.jit(step, fuse=False)
    for _ in range(3):
        fast(mg.tensor(np.ones(1, np.float32)))
    calls = fast._last.plan.calls
    assert [c.primitive.name for c in with_early_changes(calls)] == names(fast._last.plan)
    assert names(fast._last.plan).count("mg::sgd") == 1000
