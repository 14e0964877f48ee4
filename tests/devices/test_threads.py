"""The team of threads: every chunk once, whoever takes it; failures, sleep, and limits."""

import threading
import time

import numpy as np
import pytest

from minigrad.devices import cpu, threads
from minigrad.devices.intrinsic import add


@cpu.chunked
def count_up(chunk, out, rounds, bad):
    if chunk == bad:
        raise ValueError("a bad chunk")
    for i in range(rounds):
        out[chunk] += i % 2


@cpu.chunked
def take_numbers(chunk, numbers, counter, rounds):
    numbers[chunk] = add(counter, 0, 1)
    for i in range(rounds):
        counter[8 + chunk] += i % 2


@pytest.fixture
def two(monkeypatch):
    if threads.count() == 1:
        pytest.skip("one thread")
    monkeypatch.setattr(threads, "count", lambda: 2)


def run(chunks, rounds, bad=-1):
    out = np.zeros(chunks, np.int64)
    count_up(chunks, cpu.PARALLEL_WORK, out, rounds, bad)
    return out


def test_every_chunk_is_done_once(two):
    for chunks in (2, 3, 64, 1000):
        for rounds in (2, 2000):
            for _ in range(20):
                assert (run(chunks, rounds) == rounds // 2).all()


def test_one_takes_chunks_from_the_first_on_and_the_other_from_the_last(two):
    shared = False
    for _ in range(200):
        numbers, counter = np.zeros(16, np.int64), np.zeros(24, np.int64)
        take_numbers(16, cpu.PARALLEL_WORK, numbers, counter, 200_000)
        met = max([k for k in range(1, 17) if (np.diff(numbers[:k]) > 0).all()])  # at least where the first one stopped
        assert (np.diff(numbers[met - 1 :]) < 0).all() or (np.diff(numbers[met:]) < 0).all()
        shared = shared or met < 15
        if shared:
            break
    assert shared


def test_threads_that_sleep_are_woken(two):
    run(4, 2)
    deadline = time.monotonic() + 20
    while not threads.WORDS[threads._SLEEPING] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads.WORDS[threads._SLEEPING] == threads._started
    for _ in range(200):  # whether it comes in time depends on what else the machine does
        run(64, 20_000)
        if not threads.WORDS[threads._SLEEPING]:
            break
    assert not threads.WORDS[threads._SLEEPING]


def test_an_error_in_a_chunk_is_raised_and_the_team_goes_on(two):
    with pytest.raises(ValueError, match="a bad chunk"):
        run(8, 2, bad=5)
    assert not threads._one.locked()
    assert (run(8, 2) == 1).all()


def test_one_enters_at_a_time(two):
    assert threads.enter()
    found = []
    other = threading.Thread(target=lambda: found.append(threads.enter()))
    other.start()
    other.join()
    threads.leave()
    assert found == [False]


def test_the_number_is_numbas():
    import numba

    before = numba.get_num_threads()
    if threads.count() == 1:
        pytest.skip("one thread")
    try:
        numba.set_num_threads(1)
        assert threads.count() == 1
        assert not threads.enter()
    finally:
        numba.set_num_threads(before)
    assert threads.count() == before
