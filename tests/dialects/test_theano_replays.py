"""Functions that replay recordings do what they do step by step, at every call and after every change."""

import numpy as np
import pytest

import minigrad.dialects.theano.tensor as T
from minigrad.dialects import theano
from minigrad.dialects.theano.tensor.shared_randomstreams import RandomStreams

RNG = np.random.default_rng(5)
A = RNG.standard_normal((12, 4))


def pair(build):
    """The same function twice, on shared variables of its own: replayed, and step by step."""
    made = []
    for mode in ("FAST_RUN", "FAST_COMPILE"):
        inputs, outputs, options = build()
        made.append(theano.function(inputs, outputs, mode=mode, **options))
    return made


def network():
    rng = np.random.default_rng(1)
    data, labels = theano.shared(A), theano.shared(np.arange(12) % 3)
    w = theano.shared(rng.standard_normal((4, 3)), name="w")
    velocity = theano.shared(np.zeros((4, 3)), name="v")
    x, y, index, rate = T.matrix("x"), T.lvector("y"), T.lscalar("index"), T.dscalar("rate")
    p = T.nnet.softmax(T.dot(T.tanh(x), w))
    cost = T.nnet.categorical_crossentropy(p, y).mean() + 0.01 * (w**2).sum()
    v = 0.9 * velocity - rate * T.grad(cost, w)
    rows = slice(index * 4, (index + 1) * 4)
    options = {"updates": [(velocity, v), (w, w + v)], "givens": {x: data[rows], y: labels[rows]}}
    return [index, rate], [cost, p, w, index + 1], options


def test_training_steps():
    replayed, stepwise = pair(network)
    kept = []
    for i in range(12):
        got, want = replayed(i % 3, 0.1 * i), stepwise(i % 3, 0.1 * i)
        for one, other in zip(got, want):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
        kept.append((got, [a.copy() for a in got]))
    for got, copies in kept:  # later calls left them alone
        for one, other in zip(got, copies):
            np.testing.assert_array_equal(one, other)
    assert replayed._run.recordings == 1
    assert stepwise._run.recordings == 0


def test_the_index_is_not_part_of_the_recording():
    """Nor is another scalar that becomes a tensor."""
    data, i, scale = theano.shared(A), T.iscalar("i"), T.lscalar("scale")
    f = theano.function([i, scale], (data[i : i + 2] * scale).sum())
    for k in range(10):
        np.testing.assert_allclose(f(k, k + 1), A[k : k + 2].sum() * (k + 1))
    assert f._run.recordings == 1


def test_other_shapes_and_too_many_of_them():
    x = T.matrix("x")
    f = theano.function([x], [T.exp(x).sum(0), x.shape, T.arange(x.shape[0])])
    for n in [5, 5, 5, 3, 5, *range(1, 20), 5]:
        total, shape, places = f(np.ones((n, 2)))
        np.testing.assert_allclose(total, n * np.e * np.ones(2))
        assert shape.tolist() == [n, 2]
        assert places.tolist() == list(range(n))
    assert f._run.recordings <= 8


def test_sizes_that_are_inputs():
    n, x = T.iscalar("n"), T.vector("x")
    f = theano.function([n, x], [T.alloc(x[0], n), T.arange(n), x.reshape((n, -1))])
    for k in [2, 2, 2, 2, 3, 6, 1, 4, 12]:
        one, places, shaped = f(k, A.ravel()[:12])
        np.testing.assert_array_equal(one, np.full(k, A[0, 0]))
        np.testing.assert_array_equal(places, np.arange(k))
        np.testing.assert_array_equal(shaped, A.ravel()[:12].reshape(k, -1))


def test_what_depends_on_values():
    """A mask, or counts that are computed: they can't be recorded, and need not be."""
    x, c = T.vector("x"), T.lvector("c")
    f = theano.function([x, c], [x[(x > 0).nonzero()].sum(), T.repeat(x, c * 1)])
    for k in range(5):
        counts = np.arange(4) + k
        total, repeated = f(A[k], counts)
        np.testing.assert_allclose(total, A[k][A[k] > 0].sum())
        np.testing.assert_array_equal(repeated, np.repeat(A[k], counts))


def test_new_values_and_shapes_of_shared_variables():
    w, x = theano.shared(A[0]), T.scalar("x")
    f = theano.function([x], (w * x).sum(), updates=[(w, w * 2)])
    for k in range(5):
        np.testing.assert_allclose(f(1.0), A[0].sum() * 2**k)
    w.set_value(A[1])
    np.testing.assert_allclose(f(3.0), 3 * A[1].sum())
    w.set_value(A[:, 0])
    for k in range(4):
        np.testing.assert_allclose(f(1.0), A[:, 0].sum() * 2**k)


def test_an_update_that_changes_the_shape():
    w = theano.shared(np.ones(1))
    f = theano.function([], w.sum(), updates=[(w, T.concatenate([w, w]))])
    assert [float(f()) for _ in range(7)] == [2.0**k for k in range(7)]


def overlapping():
    a, b = theano.shared(A[0]), theano.shared(A[1])
    i, x = T.lscalar("i"), T.vector("x")
    updates = [(a, b[::-1] + x[::-1]), (b, a * 2 + T.concatenate([a[i:], a[:i]]))]
    return [i, x], [a, b, a[i:], a + b], {"updates": updates}


def test_updates_of_each_other():
    replayed, stepwise = pair(overlapping)
    for k in range(8):
        for one, other in zip(replayed(k % 4, A[k]), stepwise(k % 4, A[k])):
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_a_view_of_a_shared_variable_as_an_argument():
    a, x = theano.shared(A[0]), T.vector("x")
    f = theano.function([x], [], updates=[(a, a + x[::-1])])
    want = A[0].copy()
    for _ in range(6):
        want = want + want[::-1]
        f(a.get_value(borrow=True))
        np.testing.assert_allclose(a.get_value(), want)


def test_rows_of_a_table_that_is_updated():
    table, i = theano.shared(A), T.lscalar("i")
    row = table[i]
    f = theano.function([i], row.sum(), updates=[(table, T.inc_subtensor(row, row[::-1]))])
    want = A.copy()
    for k in [0, 1, 1, 2, 0, 5, 3, 1, 11, 7, 8, 9, 10, 4, 6]:
        np.testing.assert_allclose(f(k), want[k].sum(), rtol=1e-12)
        want[k] += want[k][::-1]
    np.testing.assert_allclose(table.get_value(), want)


def test_random_variables_draw_anew():
    srng = RandomStreams(3)
    x = T.vector("x")
    noisy = x + srng.normal(x.shape) + srng.binomial(x.shape, p=0.5)
    f = theano.function([x], noisy)
    draws = [f(np.zeros(50)) for _ in range(8)]
    assert f._run.recordings == 1
    for i, one in enumerate(draws):
        assert all((one != other).any() for other in draws[:i])
    srng.seed(3)
    again = [f(np.zeros(50)) for _ in range(8)]
    np.testing.assert_allclose(again, draws, rtol=1e-13)
    fixed = theano.function([x], noisy, no_default_updates=True)
    for _ in range(5):
        np.testing.assert_allclose(fixed(np.zeros(50)), fixed(np.zeros(50)), rtol=1e-13)


def test_errors_of_replays():
    """Wrong values and shapes are told at every call, and change nothing."""
    x, y, w = T.matrix("x"), T.lvector("y"), theano.shared(A[:4, :3])
    p = T.nnet.softmax(T.dot(x, w))
    cost = T.nnet.categorical_crossentropy(p, y).mean()
    f = theano.function([x, y], cost, updates=[(w, w - 0.1 * T.grad(cost, w))])
    good = A, np.arange(12) % 3
    for _ in range(6):
        f(*good)
        before = w.get_value()
        with pytest.raises(IndexError, match="expected 0 to 2 for 3 classes"):
            f(A, np.arange(12))
        with pytest.raises(ValueError, match="dot: x has shape"):
            f(A[:, :3], good[1])
        np.testing.assert_array_equal(w.get_value(), before)


def test_layouts_of_arguments():
    x = T.matrix("x")
    f = theano.function([x], [T.dot(x.T, x), T.grad((T.exp(x) * x).sum(), x)])
    want = A.T @ A, np.exp(A) * (1 + A)
    for given in [A] * 4 + [np.asfortranarray(A), np.repeat(A, 2, 0)[::2], A[::-1].copy()[::-1]]:
        for one, other in zip(f(given), want):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_a_first_step_uses_last():
    """A tensor that the recording needs, and that a later slice by a given number is taken of."""
    x, i = T.matrix("x"), T.lscalar("i")
    f = theano.function([x, i], [T.exp(x).sum(), x[i : i + 2] * 2, i * 3, i])
    for k in range(8):
        total, rows, number, same = f(A + k, k)
        np.testing.assert_allclose(total, np.exp(A + k).sum())
        np.testing.assert_array_equal(rows, 2 * (A + k)[k : k + 2])
        assert (number, same) == (3 * k, k)
    assert f._run.recordings == 1


def test_an_integer_state():
    state, i = theano.shared(0), T.lscalar("i")
    f = theano.function([i], state, updates=[(state, i * 2)])
    assert [int(f(k)) for k in range(8)] == [0, 0, 2, 4, 6, 8, 10, 12]
    assert f._run.recordings == 1
