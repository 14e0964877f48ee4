"""How time and memory of a training step grow: with depth, width, batch and threads, in a residual network."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from bench import peak, residual
from bench.case import Case, Work
from bench.residual import Size
from bench.worker import limit_processors

TITLE = (
    "a training step of residual layers x + relu(x·W + b): time and peak memory against depth, width, batch, threads"
)
_BASE = Size()
_SIZES = {
    "depth": [_BASE._replace(depth=n) for n in (10, 100, 1000)],
    "width": [_BASE._replace(width=n) for n in (128, 256, 512, 1024)],
    "batch": [_BASE._replace(batch=n) for n in (8, 128, 512, 2048)],
}
_WIDE = Size(10, 512, 256)  # with work for several threads
_PEERS = ("minigrad", "torch", "jax")
_CODE = "from bench.suites import scaling; print(scaling.{call}({peer!r}, {arguments}))"


def cases(quick: bool) -> list[Case]:
    """Times, then times by threads and memory in fresh processes."""
    sizes = {name: found[:1] for name, found in _SIZES.items()} if quick else _SIZES
    rows = []
    for name, found in sizes.items():
        rows += [Case(f"{name} {getattr(s, name)}", {"size": tuple(s)}) for s in found]
    if quick:
        return rows[:1]
    for threads in sorted({1, 2, os.cpu_count() or 1}):
        rows.append(Case(f"threads {threads}", commands=_commands("timed", f"{threads}"), repeat=3))
    if not peak.missing():
        for name, found in sizes.items():
            for s in found:
                given = _commands("most", f"{tuple(s)}")
                rows.append(Case(f"memory, {name} {getattr(s, name)}", commands=given, unit="MiB", repeat=1))
    return rows


def with_minigrad(case: Case) -> Work:
    size = Size(*case.data["size"])
    eager = Work(residual.minigrad_step(size, jit=False))
    layer = Work(residual.minigrad_step(size), per=size.depth)
    return _work("minigrad", size, {"eager": eager, "a layer": layer})


def with_torch(case: Case) -> Work:
    return _work("torch", Size(*case.data["size"]))


def with_jax(case: Case) -> Work:
    return _work("jax", Size(*case.data["size"]))


def timed(peer: str, threads: int) -> float:
    """Seconds of a step, in this process, with so many threads."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    limit_processors(threads)
    step = residual.step_of(peer, _WIDE)
    times = []
    for _ in range(60):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[10:])


def most(peer: str, size: tuple) -> float:
    """MiB at the peak of a step."""
    return peak.of_step(lambda: residual.step_of(peer, Size(*size)), lambda: residual.step_of(peer, Size(2, 16, 8)))


def _work(peer: str, size: Size, columns: dict[str, Work] | None = None) -> Work:
    step: Any = residual.step_of(peer, size)
    return Work(step, columns=columns or {}, check=lambda: residual.losses(residual.step_of(peer, size)))


def _commands(call: str, arguments: str) -> dict[str, str]:
    return {peer: _CODE.format(call=call, peer=peer, arguments=arguments) for peer in _PEERS}
