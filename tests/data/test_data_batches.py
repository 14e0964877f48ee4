"""batches: every example once, an order fixed by seed and epoch, resumable, and refusing what it can't serve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.data import batches, number_of_batches
from minigrad.errors import ArgumentError, ArgumentTypeError, MinigradError, ShapeError

X = np.arange(23 * 2).reshape(23, 2)
Y = np.arange(23)


def labels(**options):
    return [y.tolist() for _, y in batches(X, Y, **{"batch_size": 5, "seed": 3, **options})]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 40),
    size=st.integers(1, 45),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 5),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_each_example_comes_once(n, size, seed, epoch, shuffle, drop_last):
    x, y = np.arange(n * 3.0).reshape(n, 3), np.arange(n)
    run = batches(x, y, size, seed=seed, epoch=epoch, shuffle=shuffle, drop_last=drop_last)
    got = list(run)
    assert len(got) == len(run) == number_of_batches(n, size, drop_last=drop_last)
    for xb, yb in got:
        np.testing.assert_array_equal(xb, x[yb])
    seen = [int(label) for _, yb in got for label in yb]
    assert len(set(seen)) == len(seen) == (n - n % size if drop_last else n)
    assert all(len(yb) == size for _, yb in got[:-1])


@settings(deadline=None, max_examples=40)
@given(start=st.integers(0, 5), epoch=st.integers(0, 3), shuffle=st.booleans())
def test_start_gives_the_rest_of_the_same_epoch(start, epoch, shuffle):
    whole = labels(epoch=epoch, shuffle=shuffle)
    rest = labels(epoch=epoch, shuffle=shuffle, start=start)
    assert rest == whole[start:]


def test_start_with_drop_last():
    assert labels(drop_last=True, start=3) == labels()[3:4]
    assert labels(drop_last=True, start=4) == []


def test_order_is_that_of_this_version():
    # Frozen: an order that changes would break the resuming of saved runs.
    frozen = "3 22 12 20 15 2 17 14 21 9 18 0 16 8 13 10 7 11 19 1 4 5 6"
    assert " ".join(map(str, labels(batch_size=23)[0])) == frozen


def test_order_depends_on_seed_and_epoch():
    orders = [labels(batch_size=23, seed=seed, epoch=epoch)[0] for seed in (0, 1, 2**32) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 9
    assert all(order != sorted(order) for order in orders)


def test_order_is_fair():
    first = np.array([labels(batch_size=23, epoch=epoch)[0] for epoch in range(400)])
    # Each example's mean position: sd of one position is 6.63, so of a mean of 400 0.33.
    positions = np.argsort(first, axis=1).mean(0)
    assert np.abs(positions - 11).max() < 5 * 0.332


def test_order_is_not_numpys_global_state():
    np.random.seed(0)
    before = labels()
    np.random.seed(1)
    assert labels() == before


def test_no_shuffle_keeps_the_order():
    assert labels(shuffle=False, epoch=4, batch_size=20) == [list(range(20)), [20, 21, 22]]


def test_iterating_twice_starts_again():
    run = batches(X, Y, 5, seed=0, start=1)
    assert [y.tolist() for _, y in run] == [y.tolist() for _, y in run]
    one, other = iter(run), iter(run)
    next(one)
    assert next(one)[1].tolist() != next(other)[1].tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_share_no_memory(shuffle):
    x, y = X.copy(), Y.copy()
    got = list(batches(x, y, 5, seed=0, shuffle=shuffle))
    arrays = [array for pair in got for array in pair]
    for i, array in enumerate(arrays):
        assert not np.shares_memory(array, x)
        assert not np.shares_memory(array, y)
        assert not any(np.shares_memory(array, other) for other in arrays[:i])
    for array in arrays:
        array[...] = -1
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_dtypes_and_strided_inputs():
    x = np.arange(60, dtype=np.float32).reshape(10, 6)[::2, ::3]
    y = np.asfortranarray(np.arange(10, dtype=np.uint8).reshape(5, 2))
    for shuffle in (True, False):
        for xb, yb in batches(x, y, 2, seed=1, shuffle=shuffle):
            assert xb.dtype == np.float32
            assert yb.dtype == np.uint8
            np.testing.assert_array_equal(xb[:, 0], 12 * (yb[:, 0] // 2))


def test_lists_are_taken():
    assert sorted(y for _, yb in batches([[1.0], [2.0]], [7, 8], 1, seed=0) for y in yb.tolist()) == [7, 8]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": Y[:-1]}, ShapeError, r"batches: y has 22 examples \(shape \(22,\)\), expected 23 as in x"),
        ({"x": 3.0}, ShapeError, r"batches: x has shape \(\), expected at least one axis"),
        ({"y": np.int64(3)}, ShapeError, r"batches: y has shape \(\)"),
        ({"x": [[1], [1, 2]]}, ArgumentTypeError, "batches: x does not convert to an array"),
        ({"batch_size": 0}, ArgumentError, "batches: batch_size is 0, wanted an integer of at least 1"),
        ({"batch_size": -2}, ArgumentError, "batch_size is -2"),
        ({"batch_size": 2.0}, ArgumentTypeError, "batches: batch_size is 2.0, of type float; wanted an integer"),
        ({"batch_size": True}, ArgumentTypeError, "batch_size is True, a bool"),
        ({"batch_size": None}, ArgumentTypeError, "batch_size is None"),
        ({"seed": -1}, ArgumentError, "seed is -1, wanted an integer of at least 0"),
        ({"seed": "a"}, ArgumentTypeError, "seed is 'a', of type str"),
        ({"epoch": -1}, ArgumentError, "epoch is -1"),
        ({"epoch": 0.5}, ArgumentTypeError, "epoch is 0.5"),
        ({"start": -1}, ArgumentError, "start is -1"),
        ({"start": 6}, ArgumentError, "start is 6, wanted at most 5, the number of batches in the epoch"),
        ({"start": 5, "drop_last": True}, ArgumentError, "start is 5, wanted at most 4"),
        ({"shuffle": 1}, ArgumentTypeError, "shuffle is 1, of type int; wanted True or False"),
        ({"drop_last": "no"}, ArgumentTypeError, "drop_last is 'no'"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message) as caught:
        batches(**{"x": X, "y": Y, "batch_size": 5, "seed": 0, **options})
    assert isinstance(caught.value, MinigradError)


def test_numpy_integers_are_taken():
    assert labels(batch_size=np.int32(5), seed=np.uint8(3), start=np.int64(1)) == labels(start=1)


@pytest.mark.parametrize(
    ("n", "size", "drop", "wanted"),
    [(0, 3, False, 0), (1, 3, False, 1), (1, 3, True, 0), (6, 3, False, 2), (6, 3, True, 2)],
)
def test_number_of_batches(n, size, drop, wanted):
    assert number_of_batches(n, size, drop_last=drop) == wanted


def test_number_of_batches_refuses():
    with pytest.raises(ArgumentError, match="number_of_batches: n is -1"):
        number_of_batches(-1, 2)
    with pytest.raises(ArgumentError, match="number_of_batches: batch_size is 0"):
        number_of_batches(1, 0)
