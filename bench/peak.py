"""The most memory that a training step takes, as the operating system counts it. Measured in a process of its own."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM, MEASURED = 3, 3  # steps


def missing() -> str:
    """Why it can't be measured here; empty if it can."""
    return "" if _CLEAR.exists() else "the peak of a process's memory is read from /proc, which is not here"


def of_step(make: Callable[[], Callable], small: Callable[[], Callable]) -> float:
    """MiB at the peak of a step, above what the process held once the library had trained a small network.

    Parameters, gradients, slots, activations and all that the library keeps besides count; what compiling takes
    for a while does not, as the first steps are not measured. What malloc keeps free of the small network's memory is
    given back before: the network that is measured would use it, uncounted.

    Args:
        make: makes the step, with its network and data.
        small: makes a step of a small network.
    """
    step = small()
    for _ in range(WARM):
        step()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # the GNU C library's
        trim(ctypes.c_size_t(0))
    before = _kib("VmRSS")
    step = make()
    for _ in range(WARM):
        step()
    _CLEAR.write_text("5")  # the peak begins anew
    for _ in range(MEASURED):
        step()
    return (_kib("VmHWM") - before) / 1024


def of_process() -> float:
    """MiB of the whole process at the peak of the steps that `of_step` measured: interpreter, library, code and all."""
    return _kib("VmHWM") / 1024


def _kib(name: str) -> int:
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(name))
