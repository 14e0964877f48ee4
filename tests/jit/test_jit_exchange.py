"""Large arguments and results of replays, which are not copied: whose memory they have, and what keeps them apart."""

import numpy as np
import pytest
from networks import assert_same_state, batches, network, training_step

import minigrad as mg
from minigrad.devices import cpu
from minigrad.jit import exchange, plan
from minigrad.jit.bind import Compiled
from minigrad.jit.exchange import Exchange
from minigrad.jit.native import Segment
from minigrad.jit.trace import Value, owner

SHAPE = (180, 170)  # float64: beyond what is copied, below what runs in parallel


def values(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape)


def recorded(function, *args, **options):
    jitted = mg.jit(function, **options)
    jitted(*args)
    return jitted


@pytest.mark.parametrize("shape", [SHAPE, (700, 500)], ids=["native", "parallel"])
def test_arguments_and_results_have_the_bits_of_eager_calls(shape):
    def f(x, y):
        z = mg.exp(x) * y
        return {"z": z, "turned": z.T, "product": (x.T @ y)[1:], "row": z[3], "x": x, "sum": mg.tanh(y).sum(axis=0)}

    jitted = recorded(f, mg.tensor(values(0, shape)), mg.tensor(values(1, shape)), fuse=False)
    kept = []
    for seed in range(2, 6):
        x, y = mg.tensor(values(seed, shape)), mg.tensor(values(seed + 10, shape))
        kept.append((jitted(x, y), f(x, y)))
    for got, want in kept:  # no later call has changed them
        for name, a in want.items():
            np.testing.assert_array_equal(got[name].numpy(), a.numpy(), err_msg=name)


def test_large_results_take_no_place_in_the_arena_and_small_parts_keep_nothing_alive():
    x = mg.tensor(values(0))
    whole = recorded(lambda x: mg.exp(x), x)
    assert whole.plan().arena == 0
    part = recorded(lambda x: mg.exp(x)[:2], x)
    assert part.plan().arena >= x.numpy().nbytes
    assert owner(part(x)._data).nbytes == 2 * SHAPE[1] * 8
    assert not np.shares_memory(whole(x)._data, x._data)
    same = recorded(lambda x: x.reshape(-1), x)
    assert not np.shares_memory(same(x)._data, x._data)  # what is passed in does not come out


@pytest.mark.parametrize("change", ["strided", "read-only", "big-endian", "reversed"])
def test_arguments_of_other_forms_are_copied(change):
    jitted = recorded(lambda x: mg.exp(x) @ x.T, mg.tensor(values(0)))
    a = values(1)
    if change == "strided":
        given = np.repeat(a, 2, axis=1)[:, ::2]
    elif change == "reversed":
        given = a[::-1].copy()[::-1]
    elif change == "big-endian":
        given = a.astype(">f8")
    else:
        given = a.copy()
        given.flags.writeable = False
    np.testing.assert_array_equal(jitted(given).numpy(), jitted(a).numpy())
    assert jitted.recordings == (1 if change != "read-only" else jitted.recordings)


def test_an_argument_in_the_memory_of_a_variable_that_changes_is_read_as_it_was():
    w = mg.Variable(values(0))

    def step(x):
        w.assign(w * 2.0)
        return mg.exp(x)

    jitted = recorded(step, mg.tensor(values(1)))
    before = values(2)
    w.assign(mg.tensor(before))
    shared = mg.Tensor(w._data)
    np.testing.assert_array_equal(jitted(shared).numpy(), mg.exp(mg.tensor(before)).numpy())
    np.testing.assert_array_equal(w.numpy(), 2 * before)


def test_lending():
    changed = [np.zeros(100), np.zeros(0), np.zeros(7)]
    lend = exchange.lender(changed)
    a = np.arange(5.0)
    assert lend(a, a.dtype)[0] is a
    for inside in (changed[0], changed[0][10:20], changed[0][99:], changed[2][3:4]):
        array, place = lend(inside, inside.dtype)
        assert not np.shares_memory(array, inside)
        assert place == array.__array_interface__["data"][0]
        np.testing.assert_array_equal(array, inside)


def test_gradients_left_on_variables_are_the_callers():
    w = mg.Variable(values(0))

    def step(x):
        w.grad = None
        (mg.tanh(w) * x).sum().backward()

    step_jitted = recorded(step, mg.tensor(values(1)))
    x = mg.tensor(values(2))
    step(x)
    want = w.grad.numpy().copy()
    step_jitted(x)
    first = w.grad
    np.testing.assert_allclose(first.numpy(), want, rtol=1e-14)
    kept = first.numpy().copy()
    step_jitted(mg.tensor(values(3)))
    np.testing.assert_array_equal(first.numpy(), kept)
    assert not np.shares_memory(first._data, w.grad._data)


def test_a_training_step_with_everything_exchanged(monkeypatch):
    monkeypatch.setattr(exchange, "SMALLEST", 1)
    monkeypatch.setattr(plan, "SMALLEST", 1)
    one, other = network(), network()
    optimizers = [mg.optim.Adam(0.01), mg.optim.Adam(0.01)]
    eager = training_step(one, optimizers[0])
    jitted = mg.jit(training_step(other, optimizers[1]), fuse=False)
    for x, labels in batches(6):
        assert eager(x, labels).item() == jitted(x, labels).item()
    assert jitted._last.plan.exchange.arrays
    assert_same_state(one, other)
    assert_same_state(*optimizers)


def test_an_error_in_compiled_code_is_raised_for_the_arrays_of_the_call():
    @cpu.chunked
    def first_is_positive(chunk, x):
        if x[0] <= 0:
            raise ValueError("not positive")

    table = Exchange()
    like = np.ones(3)
    a = table.stand_in(Value("input", 0, like))
    a[...] = 1
    segment = Segment([Compiled(first_is_positive, 1, 3, (a,)), Compiled(first_is_positive, 1, 3, (a[1:],))], table)
    assert [offset for _, _, offset in segment.places] == [0, 8]
    now = np.array([1.0, -1.0, 1.0])
    for at, _, offset in segment.places:
        segment.words[at] = exchange.address(now) + offset
    failed = segment.entry()
    assert failed == 2
    with pytest.raises(ValueError, match="not positive"):
        segment.fail(failed, (now,))
