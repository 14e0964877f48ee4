"""On an NVIDIA GPU: normalizations forward and backward, and training steps, beside torch and torch.compile there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import backward, training
from bench.case import Case, Work
from bench.suites import norms, train

TITLE = "on the GPU, float32: normalization forward + backward, and training steps"
DEVICE = "cuda"
_ROUNDS = 15
_RUNS = 10  # before the GPU is waited for, so that Python works ahead of it

# kind, shape, channel axis, groups: 64 MiB each
_NORMS = [
    ("batch", (16384, 1024), -1, 0),
    ("batch", (64, 64, 64, 64), -1, 0),
    ("batch", (64, 64, 64, 64), 1, 0),
    ("layer", (16384, 1024), -1, 0),
    ("layer", (4096, 4096), -1, 0),
    ("rms", (16384, 1024), -1, 0),
    ("group", (64, 64, 64, 64), 1, 32),
    ("group", (64, 64, 64, 64), -1, 32),
    ("instance", (64, 64, 64, 64), 1, 64),
    ("instance", (64, 64, 64, 64), -1, 64),
    ("weight", (3, 3, 1365, 1365), -1, 0),
]


def missing() -> str:
    """Why nothing can be measured here; empty where there is a GPU."""
    from minigrad.devices import cuda

    return "" if cuda.is_available() else f"no GPU to measure on ({cuda.status()})"


def device() -> str:
    """Which GPUs there are."""
    from minigrad.devices import cuda

    return cuda.status()


def cases(quick: bool) -> list[Case]:
    """A row for each normalization, and one for each network."""
    rows = []
    for kind, shape, axis, groups in _NORMS:
        data = {"kind": kind, "shape": shape, "axis": axis % len(shape), "groups": groups}
        rows.append(Case(norms.name_of(kind, shape, axis, groups), data, faster=1.0))
    steps = [Case(f"step: {row.name}", row.data, faster=1.0) for row in train.cases(False)]
    return [rows[0], rows[3], steps[0]] if quick else [*rows, *steps]


def with_minigrad(case: Case) -> Work:
    if "shape" in case.data:
        return _norm(case)
    network, batch = train.network_of(case)
    step, eager = (train.step_of(network, batch, jit, DEVICE) for jit in (True, False))
    return Work(step, check=train.losses(train.step_of(network, batch, True, DEVICE)), columns={"eager": Work(eager)})


def with_torch(case: Case) -> Work:
    return _torch(case, False)


def with_torch_compile(case: Case) -> Work:
    return _torch(case, True)


def _torch(case: Case, compiled: bool) -> Work:
    import torch

    torch.backends.cudnn.allow_tf32 = False  # float32 for every peer, convolutions included
    if "shape" in case.data:
        return norms.with_torch_on(case, torch.compile if compiled else lambda function: function, DEVICE)
    network, batch = train.network_of(case)

    def make() -> Callable[[], float]:
        return training.torch_step(network, batch, compiled, DEVICE)

    return Work(make(), check=train.losses(make()))


def _norm(case: Case) -> Work:
    import minigrad as mg
    from minigrad.devices import cuda

    *values, ct = [mg.tensor(a, device=DEVICE) for a in norms.arrays_of(case)]
    leaves = [mg.tensor(v, requires_grad=True) for v in values]
    given, stream = backward.eager(norms.function_of(case), leaves, ct), cuda.current(0)

    def run() -> Any:
        y = given()
        stream.synchronize()
        return y

    def check() -> list[float]:
        y = run()
        return backward.digest([t.numpy() for t in (y, *[leaf.grad for leaf in leaves])])

    def share() -> float:
        """The bandwidth of what must be moved, in percent of that of a copy of x."""
        taken, copied = _medians([given, lambda: mg.ops.copy(leaves[0])], stream.synchronize)
        return 100 * (_moved(case) / taken) / (2 / copied)

    return Work(run, check=check, columns={"share of copy [%]": Work(value=share)})


def _moved(case: Case) -> int:
    """How many times the size of x must go through memory: what caches can't hold is read again.

    A row, or an image's channel, is read once: x in, y out; x and dy in, dx out. What is normalized over the batch is
    read twice each way, since statistics of a column are known at the end of the array.
    """
    return 8 if case.data["kind"] in ("batch", "weight") else 5


def _medians(works: Sequence[Callable], wait: Callable) -> list[float]:
    """The median times of things given to the GPU, which take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(_ROUNDS):
        for work, taken in zip(works, times):
            work()
            wait()
            start = time.perf_counter()
            for _ in range(_RUNS):
                work()
            wait()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]
