"""The buffer pool: memory is handed out again, and never while an array on it lives."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.devices import cpu
from minigrad.devices.pool import SMALLEST, Pool

F32 = np.dtype("float32")
LARGE = SMALLEST // 4  # float32 elements from which the pool serves


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def test_freed_memory_is_reused():
    pool = Pool()
    a = pool.empty((LARGE,), F32)
    place = address(a)
    del a
    assert pool.free_bytes() >= SMALLEST
    b = pool.empty((LARGE // 64, 64), F32)
    assert address(b) == place
    assert pool.free_bytes() == 0
    assert address(pool.empty((LARGE,), F32)) != place


def test_near_sizes_share_blocks_and_far_ones_do_not():
    pool = Pool()
    a = pool.empty((LARGE * 8 - 100,), F32)
    place = address(a)
    del a
    b = pool.empty((LARGE * 8,), F32)
    assert address(b) == place
    del b
    c = pool.empty((LARGE * 16,), F32)
    assert address(c) != place


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3), (1 << 18,), (513, 1025), (1 << 20, 0)])
def test_what_it_gives(shape, dtype):
    a = Pool().empty(shape, np.dtype(dtype))
    assert type(a) is np.ndarray
    assert a.shape == shape
    assert a.dtype == dtype
    assert a.flags.c_contiguous
    assert a.flags.writeable
    assert a.flags.aligned
    a[...] = 1
    assert (a == 1).all()


def test_views_keep_memory_alive():
    pool = Pool()
    a = pool.empty((LARGE, 2), F32)
    a[...] = 7
    view = a.reshape(-1)[::-1][5:].T
    del a
    assert pool.free_bytes() == 0
    b = pool.empty((LARGE, 2), F32)
    b[...] = 9
    assert (view == 7).all()
    del view
    assert pool.free_bytes() > 0


def test_views_of_the_base_do_not_return_it():
    pool = Pool()
    a = pool.empty((LARGE,), F32)
    part = a.base[64:]
    del part
    assert pool.free_bytes() == 0
    a[...] = 5
    assert (a == 5).all()


def test_a_buffer_export_keeps_memory_alive():
    pool = Pool()
    a = pool.empty((LARGE,), F32)
    a[...] = 3
    memory = memoryview(a)
    imported = np.from_dlpack(a)
    del a
    assert pool.free_bytes() == 0
    other = pool.empty((LARGE,), F32)
    other[...] = 4
    assert memory[0] == 3
    assert (imported == 3).all()


def test_limit_is_respected_and_the_longest_unused_goes_first():
    pool = Pool(limit=8 * SMALLEST)
    first = pool.empty((4 * LARGE,), F32)
    del first
    assert pool.free_bytes() == 4 * SMALLEST
    others = [pool.empty((2 * LARGE,), F32) for _ in range(3)]
    places = {address(o) for o in others}
    del others
    assert pool.free_bytes() == 6 * SMALLEST  # the block of four was forgotten for the third block of two
    again = [pool.empty((2 * LARGE,), F32) for _ in range(3)]
    assert {address(o) for o in again} == places
    huge = pool.empty((16 * LARGE,), F32)
    del huge, again
    assert pool.free_bytes() == 6 * SMALLEST  # larger than the limit: not kept, and nothing is forgotten for it


def test_release_gives_everything_back():
    pool = Pool()
    a = pool.empty((LARGE,), F32)
    del a
    assert pool.free_bytes() > 0
    pool.release()
    assert pool.free_bytes() == 0


def test_after_fork_starts_anew_even_if_the_lock_was_held():
    pool = Pool()
    a = pool.empty((LARGE,), F32)
    del a
    assert pool.free_bytes() > 0
    pool._lock.acquire()
    pool.after_fork()
    assert pool.free_bytes() == 0
    assert pool.empty((LARGE,), F32).shape == (LARGE,)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(["new", "view", "drop", "check"]), st.integers(0, 7), st.integers(0, 3)), max_size=60
    )
)
def test_no_living_array_is_ever_overwritten(steps):
    pool = Pool(limit=6 * SMALLEST)
    living: list[tuple[np.ndarray, float]] = []
    for count, (what, at, size) in enumerate(steps):
        if what == "new":
            a = pool.empty((LARGE * (1 + size) // 2, 2), F32)
            a[...] = count
            living.append((a, count))
            del a
        elif living and what == "view":
            a, value = living[at % len(living)]
            living[at % len(living)] = ((a[1:], a.T, a[::2], a.reshape(-1))[size], value)
            del a
        elif living and what == "drop":
            living.pop(at % len(living))
        for a, value in living:
            assert (a == value).all()
    living.clear()
    assert pool.free_bytes() <= pool.limit


def test_threads():
    pool = Pool()
    wrong = []

    def work(value):
        for i in range(200):
            a = pool.empty((LARGE + (i % 3) * LARGE,), F32)
            a[...] = value
            b = a[10:]
            del a
            if not (b == value).all():
                wrong.append(value)
            del b

    threads = [threading.Thread(target=work, args=(float(k),)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_tensors_return_their_memory():
    x = mg.tensor(np.ones((600, 700), "float32"))
    mg.exp(x)
    gc.collect()
    cpu.pool.release()
    y = mg.exp(x)
    place = address(y._data)
    view = y.numpy()[5:]
    del y
    assert address(mg.exp(x)._data) != place
    np.testing.assert_allclose(view, np.e, rtol=1e-6)
    del view
    cpu.pool.release()
    y = mg.exp(x)
    place = address(y._data)
    del y
    assert address(mg.exp(x)._data) == place
