"""Mistakes that only a running kernel can see, an index out of range for one, reported without waiting for each kernel.

A kernel that sees one leaves its number and a value in a few words of the host's memory, which GPUs can reach, and goes
on without touching what lies outside. Whoever next copies from that GPU waits for it anyway, and gets the error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import gpu, jit
from minigrad.devices.cuda.memory import Lease, current, here

_errors: dict[int, Callable[[int], Exception]] = {}
_MOST = 4096  # errors that are remembered


@jit
def report(words, number, value):
    """Leave a fault, unless another is there already. For kernels."""
    if gpu.atomic.cas(words, 0, 0, number) == 0:
        words[1] = value


def watch(device: int, error: Callable[[int], Exception]) -> tuple[DeviceArray, int]:
    """What a kernel gives to `report`: the words, and the number that stands for ``error(value)``."""
    driver = drivers.get()
    with driver.state.lock:
        if device not in driver.state.faults:
            block, values = driver.host_memory(device, 16)
            words = DeviceArray(Lease(current(device), block, 16, values), (2,), np.dtype(np.int64))
            driver.state.faults[device] = words, values.view(np.int64)
            values[:] = 0
        words, _ = driver.state.faults[device]
        number = max(_errors, default=0) + 1
        _errors[number] = error
        _errors.pop(number - _MOST, None)
        driver.state.pending.add(device)
    if here.recording is not None:
        here.recording.watched[number] = error
    return words, number


def watch_again(device: int, errors: dict[int, Callable[[int], Exception]]) -> None:
    """Expect faults of a recording's kernels, whose numbers stand for these errors, from its replay."""
    _errors.update(errors)
    drivers.get().state.pending.add(device)


def check(device: int) -> None:
    """Raise the error of a fault that a kernel on this GPU has left. Waits for the GPU, if there can be one."""
    driver = drivers.get()
    if device not in driver.state.pending:
        return
    with driver.state.lock:
        driver.state.pending.discard(device)
        driver.synchronize_all(device)
        _, values = driver.state.faults[device]
        number, value = values.tolist()
        values[:] = 0
    if number:
        raise _errors[number](value)
