"""State under jit: Variables, layers, threads, copies, memory, and what errors leave behind."""

import copy
import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from networks import assert_same_state, batches, network, training_step

import minigrad as mg
from minigrad.errors import IndexRangeError


def test_what_is_assigned_between_calls_is_seen():
    w = mg.Variable([1.0, 2.0])
    f = mg.jit(lambda x: x * w.detach() + w.reshape(2, 1).sum())
    for n in range(4):
        w.assign([float(n), 1.0])
        assert f(mg.tensor([1.0, 1.0])).tolist() == [n + n + 1.0, 1 + n + 1.0]


def test_reads_before_and_after_an_assignment():
    w = mg.Variable([1.0, 2.0])

    def step(x):
        view = w.detach()
        before = (w * x, view * x, w.reshape(1, 2) * x)
        w.assign(w + x)
        after = (w * x, view * x, w.reshape(1, 2) * x)
        return before, after

    f = mg.jit(step)
    state = np.array([1.0, 2.0])
    with mg.no_grad():
        for n in (1.0, 2.0, 3.0):
            before, after = f(mg.tensor([n, n], "float32"))
            for found in before:
                np.testing.assert_array_equal(found.numpy().reshape(-1), state * n)
            state = state + n
            for found in after:
                np.testing.assert_array_equal(found.numpy().reshape(-1), state * n)


def test_a_tape_recorded_before_notices_what_a_replay_changes():
    w = mg.Variable([2.0])
    f = mg.jit(lambda x: w.assign(w + x))
    f(mg.tensor([1.0]))
    y = (w * w).sum()
    f(mg.tensor([1.0]))
    with pytest.raises(mg.errors.MutationError, match="was assigned to"):
        y.backward()


def test_a_first_call_that_builds_layers_is_not_kept():
    model = mg.nn.Sequential([mg.nn.Dense(3, activation="tanh"), mg.nn.Dense(2)])
    f = mg.jit(lambda x: model(x))
    x = mg.tensor(np.ones((4, 5), np.float32))
    with mg.no_grad():
        want = f(x)
        assert f.recordings == 0
        for _ in range(2):
            np.testing.assert_array_equal(f(x).numpy(), want.numpy())
    assert f.recordings == 1


def test_variables_made_at_every_call_end_in_a_warning():
    f = mg.jit(lambda x: mg.Variable([1.0]) * x, limit=3)
    with mg.no_grad():
        for _ in range(3):
            assert f(mg.tensor([2.0])).item() == 2.0
        with pytest.warns(RuntimeWarning, match="recorded 3 times"):
            assert f(mg.tensor([2.0])).item() == 2.0
    assert f.recordings == 0


def test_an_error_in_a_replay_leaves_variables_as_the_eager_step_does():
    eager, jitted = network(), network()
    one, other = mg.optim.SGD(0.1), mg.optim.SGD(0.1)
    plain, fast = training_step(eager, one), mg.jit(training_step(jitted, other), fuse=False)
    good = batches(3)
    bad = good[0][0], mg.tensor(np.array([0, 1, 2, 0, 1, 7]))
    for step in (plain, fast):
        step(*good[0])
        step(*good[1])
        with pytest.raises(IndexRangeError, match=r"labels\[5\] is 7"):
            step(*bad)
        step(*good[2])
    assert fast.recordings == 1
    assert_same_state(eager, jitted)


def test_an_error_while_recording_leaves_nothing_behind():
    fail = [True]

    def step(x):
        if fail[0]:
            raise KeyError("once")
        return x + 1

    f = mg.jit(step)
    with pytest.raises(KeyError, match="once"):
        f(mg.tensor([1.0]))
    fail[0] = False
    assert not mg.tape.state.observers
    assert f(mg.tensor([1.0])).item() == 2.0
    assert f(mg.tensor([2.0])).item() == 3.0


def test_two_threads_at_once():
    w = mg.Variable(np.arange(4.0), trainable=False)
    f = mg.jit(lambda x: mg.exp(-((x - w) ** 2)).sum())
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x = rng.standard_normal(4)
            if abs(f(mg.tensor(x)).item() - np.exp(-((x - np.arange(4.0)) ** 2)).sum()) > 1e-12:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_deep_copies_have_recordings_of_their_own():
    class Model(mg.nn.Layer):
        def __init__(self):
            super().__init__()
            self.w = mg.Variable([2.0], trainable=False)
            self.fast = mg.jit(self.scaled)

        def scaled(self, x):
            return x * self.w

    model = Model()
    x = mg.tensor([3.0])
    assert model.fast(x).item() == 6.0
    other = copy.deepcopy(model)
    other.w.assign([5.0])
    assert [model.fast(x).item(), other.fast(x).item()] == [6.0, 15.0]
    assert [model.fast(x).item(), other.fast(x).item()] == [6.0, 15.0]


def test_as_a_method():
    class Counter:
        def __init__(self):
            self.total = mg.Variable([0.0], trainable=False)

        @mg.jit
        def add(self, x):
            """Adds."""
            self.total.assign(self.total + x)
            return self.total.copy()

    one, two = Counter(), Counter()
    assert Counter.add.__doc__ == "Adds."
    assert [one.add(mg.tensor([1.0])).item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert two.add(mg.tensor([5.0])).item() == 5.0
    assert one.total.item() == 3.0


def test_memory_is_flat_over_ten_thousand_replays():
    w = mg.Variable(np.ones(50), trainable=False)
    f = mg.jit(lambda x: w.assign(w * 0.5 + x))
    x = mg.tensor(np.ones(50))
    for _ in range(3):
        f(x)
    tracemalloc.start()
    try:
        for _ in range(100):
            f(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            f(x)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000


def test_a_dropped_function_frees_its_memory():
    w = mg.Variable(np.ones(3), trainable=False)
    f = mg.jit(lambda x: w * x)
    f(mg.tensor(np.ones(3)))
    plan = weakref.ref(f._last.plan)
    del f
    gc.collect()
    assert plan() is None


@pytest.mark.parametrize("labels_dtype", [np.int64, np.int32])
def test_labels_out_of_range_are_an_error_of_the_replay_too(labels_dtype):
    def f(x, labels):
        total = lambda x: mg.softmax_cross_entropy(x, labels).sum()  # noqa: E731
        return mg.value_and_grad(total)(x)

    x = mg.tensor(np.random.default_rng(0).standard_normal((4, 3)))
    jitted = mg.jit(f)
    good = np.array([0, 2, 1, 1], labels_dtype)
    jitted(x, good)
    assert all(type(s).__name__ == "Compiled" or "setitem" in str(s) for step in jitted._last.plan.steps for s in step)
    for wrong, place in [(3, 2), (-1, 0)]:
        bad = good.copy()
        bad[place] = wrong
        with pytest.raises(mg.errors.IndexRangeError, match=rf"labels\[{place}\] is {wrong}, expected 0 to 2"):
            jitted(x, bad)
        for got, want in zip(jitted(x, good), f(x, mg.tensor(good))):
            np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-14)


def test_gradients_that_another_thread_changes_are_not_recorded():
    mine, theirs = mg.Variable([1.0, 2.0]), mg.Variable([3.0])

    @mg.jit
    def step(x):
        (mine * x).sum().backward()
        other = threading.Thread(target=lambda: (theirs * 2).sum().backward())
        other.start()
        other.join()

    for _ in range(2):
        mine.grad = theirs.grad = None
        step(mg.tensor([5.0, 6.0]))
        assert mine.grad.tolist() == [5.0, 6.0]
    assert theirs.grad is None  # the replay has no thread
