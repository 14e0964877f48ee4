"""Mistakes that only a running kernel can see, an index out of range for one, reported without waiting for each kernel.

A kernel that sees one leaves its number and a value in a few words of the GPU's memory, and goes on without touching
what lies outside. Whoever next copies from that GPU to the host waits for it anyway, and gets the error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import gpu, jit
from minigrad.devices.cuda.memory import current, empty

_lock = threading.Lock()
_words: dict[tuple[int, int], DeviceArray] = {}  # by driver and GPU: the number of a fault, or 0, and its value
_errors: dict[int, Callable[[int], Exception]] = {}
_pending: set[int] = set()  # GPUs on which kernels may have left a fault since the last look
_MOST = 4096  # errors that are remembered


@jit
def report(words, number, value):
    """Leave a fault, unless another is there already. For kernels."""
    if gpu.atomic.cas(words, 0, 0, number) == 0:
        words[1] = value


def watch(device: int, error: Callable[[int], Exception]) -> tuple[DeviceArray, int]:
    """What a kernel gives to `report`: the words, and the number that stands for ``error(value)``."""
    key = id(drivers.get()), device
    with _lock:
        found = _words.get(key)
        if found is None:
            found = _words[key] = empty((2,), np.dtype(np.int64), device)
            _write(device, found)
        number = max(_errors, default=0) + 1
        _errors[number] = error
        _errors.pop(number - _MOST, None)
        _pending.add(device)
    return found, number


def check(device: int) -> None:
    """Raise the error of a fault that a kernel on this GPU has left. Waits for the GPU, if there can be one."""
    if device not in _pending:
        return
    with _lock:
        _pending.discard(device)
        driver, words = drivers.get(), _words[id(drivers.get()), device]
        driver.synchronize_all(device)
        values = np.zeros(2, np.int64)
        driver.download(device, words.flat, values, current(device).native)
        if not values[0]:
            return
        _write(device, words)
        error: Any = _errors.get(int(values[0]))
    raise error(int(values[1])) if error else RuntimeError("cuda: an error that is no longer remembered")


def _write(device: int, words: DeviceArray) -> None:
    drivers.get().upload(device, words.flat, np.zeros(2, np.int64), current(device).native)
