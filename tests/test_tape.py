"""The tape: recording, no_grad, the walk back, what it frees, and what it refuses."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import GradientError, MutationError


def leaf(*values):
    return mg.tensor(list(values), dtype="float64", requires_grad=True)


def test_gradients_accumulate_over_paths_and_calls():
    x = leaf(2.0, 3.0)
    y = x * x + x
    (y + y).backward(mg.tensor([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [10.0, 140.0])
    (3 * x).backward(mg.tensor([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [13.0, 143.0])


def test_no_grad_records_nothing_and_ends_with_an_exception():
    x = leaf(1.0)

    def broken():
        with mg.no_grad():
            assert not (x * 2).requires_grad
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert (x * 2).requires_grad


def test_no_grad_nests_and_decorates():
    x = leaf(1.0)

    @mg.no_grad()
    def doubled():
        return 2 * x

    with mg.no_grad():
        assert not doubled().requires_grad
        assert not (2 * x).requires_grad
    assert not doubled().requires_grad
    assert (2 * x).requires_grad


def test_no_grad_is_of_one_thread():
    x = leaf(1.0)
    found = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: found.append((2 * x).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]


def test_a_suspended_generator_does_not_leak_no_grad():
    x = leaf(1.0)

    def numbers():
        with mg.no_grad():
            yield (2 * x).requires_grad
            yield (2 * x).requires_grad
        yield (2 * x).requires_grad

    generator = numbers()
    assert next(generator) is False
    assert (2 * x).requires_grad
    assert next(generator) is False
    assert (2 * x).requires_grad
    assert next(generator) is True
    abandoned = numbers()
    next(abandoned)
    del abandoned
    assert mg.tape.state.suspendable == []


def test_a_suspended_generator_whose_no_grad_is_a_decorator():
    x = leaf(1.0)

    @mg.no_grad()
    def numbers():
        yield (2 * x).requires_grad
        yield (2 * x).requires_grad

    generator = numbers()
    assert next(generator) is False
    assert (2 * x).requires_grad
    assert list(generator) == [False]


def test_a_suspended_coroutine_does_not_leak_no_grad():
    x = leaf(1.0)

    class Pause:
        def __await__(self):
            yield

    async def work():
        with mg.no_grad():
            assert not (2 * x).requires_grad
            await Pause()
            assert not (2 * x).requires_grad
        return (2 * x).requires_grad

    coroutine = work()
    coroutine.send(None)
    assert (2 * x).requires_grad
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is True


@pytest.mark.parametrize("length", [100_000])
def test_a_long_chain_goes_forward_backward_and_is_freed(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = -y
    y.backward(mg.tensor([1.0]))
    assert x.grad.item() == 1.0
    y = x
    for _ in range(length):
        y = -y
    freed = weakref.ref(y)
    del y  # without a backward: the whole chain goes at once
    assert freed() is None


def test_nothing_needs_the_garbage_collector():
    w = mg.Variable(np.ones((8, 8)))
    x = mg.tensor(np.ones((4, 8)))

    def step():
        h = mg.tanh(x @ w)
        (h * h).sum().backward()
        w.grad = None

    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(2500):  # by then Python's lists of freed tuples, up to 2000 of a length, are full
            step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            step()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 50_000


def test_backward_frees_what_it_has_passed():
    x = leaf(*np.linspace(0, 1, 1000))
    middle = mg.exp(x)
    node = middle._node
    middle.sum().backward()
    assert node.freed
    with pytest.raises(GradientError, match="retain_graph"):
        middle.sum().backward()


def test_retain_graph_lets_backward_run_twice():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_create_graph_gives_gradients_that_can_be_differentiated():
    x = leaf(2.0)
    (x * x * x).sum().backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.sum().backward()
    assert first.item() == 12.0
    assert x.grad.item() == 12.0


def test_backward_asks_for_a_cotangent_of_the_right_shape():
    x = leaf(1.0, 2.0)
    with pytest.raises(GradientError, match=r"shape \(2,\) needs a cotangent"):
        (2 * x).backward()
    with pytest.raises(mg.errors.ShapeError, match=r"\(3,\), expected \(2,\)"):
        (2 * x).backward(mg.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(GradientError, match="does not depend"):
        mg.tensor([1.0]).backward()


def test_assigning_to_what_backward_needs_is_an_error():
    w = mg.Variable([2.0, 3.0], name="w")
    y = w * w
    w.assign([1.0, 1.0])
    with pytest.raises(MutationError, match="mg::mul was assigned to"):
        y.sum().backward()
    assert w.grad is None


@pytest.mark.parametrize("view", [lambda v: v.reshape(2, 1), lambda v: v.T, lambda v: v.detach(), lambda v: v.mT])
def test_assigning_is_noticed_through_views(view):
    w = mg.Variable(np.array([[2.0, 3.0]]))
    x = mg.tensor(np.ones(view(w).shape), requires_grad=True)
    y = view(w) * x
    w.assign([[1.0, 1.0]])
    with pytest.raises(MutationError):
        y.sum().backward()


def test_assigning_to_what_backward_does_not_need_is_allowed():
    w = mg.Variable([2.0, 3.0])
    y = w.astype("float64") + 1.0
    kept = mg.copy(w) * w.detach().copy()
    w.assign([5.0, 5.0])
    (y + kept).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [3.0, 4.0])


def test_updating_an_optimizer_between_forward_and_backward_is_noticed():
    w = mg.Variable(np.ones((3, 3)))
    y = mg.tensor(np.ones((2, 3)), requires_grad=True) @ w
    mg.optim.SGD(0.1).update([w], [mg.tensor(np.ones((3, 3)))])
    with pytest.raises(MutationError, match="mg::matmul"):
        y.sum().backward()


def test_an_error_in_backward_leaves_no_gradient_behind():
    a, b = leaf(1.0), leaf(2.0)
    bad = mg.Primitive("tests::bad_vjp", override=True)
    bad.infer(lambda x: x)
    bad.kernel("reference", "cpu")(lambda x: x + 0)

    @bad.vjp()
    def _(ct, saved, needs):
        raise RuntimeError("broken rule")

    y = 2 * a + bad(b)
    with pytest.raises(RuntimeError, match="broken rule"):
        y.sum().backward()
    assert a.grad is None
    assert b.grad is None
    assert mg.tape.is_recording()


def test_threads_record_and_go_back_at_the_same_time():
    errors = []

    def work(seed):
        rng = np.random.default_rng(seed)
        w = mg.Variable(rng.standard_normal((5, 5)))
        values = rng.standard_normal((7, 5))
        for _ in range(50):
            w.grad = None
            x = mg.tensor(values)
            mg.square(x @ w).sum().backward()
            expected = 2 * values.T @ (values @ w.numpy())
            if not np.allclose(w.grad.numpy(), expected):
                errors.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
