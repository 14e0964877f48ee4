"""Run the study: every primitive and every library's check, shared among processes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from minigrad import _warmup, plugins
from minigrad.gradcheck.study.faults import FAULTS
from minigrad.gradcheck.study.measures import measure

OURS = "minigrad"
PEERS = ("torch", "jax", "autograd")
_PATIENCE = 900.0  # seconds that a library may take
_ABSENT = 3


def run(
    names: Sequence[str],
    *,
    seed: int = 0,
    seeds: int = 20,
    peer_seeds: int = 5,
    peers: Sequence[str] = PEERS,
    pythons: dict[str, str] | None = None,
    processes: int | None = None,
    progress: Callable[[Iterator, int], Iterable] = lambda done, total: done,
) -> dict[str, Any]:
    """The whole study as JSON holds it.

    Args:
        names: of primitives.
        seed: of samples, cotangents and directions.
        seeds: on how many seeds our own check is held to the planted faults; 0 leaves the faults out.
        peer_seeds: the same for the other libraries.
        peers: which libraries to compare with, each in a process of its own.
        pythons: the interpreters of libraries; this one by default.
        processes: how many share the work; 1 does the primitives here.
        progress: takes an iterator of names as they are done, and how many there are.
    """
    start = time.perf_counter()
    pythons = pythons or {}
    libraries = [(OURS, seeds), *((p, peer_seeds) for p in peers)] if seeds else []
    jobs: list[tuple[str, Callable, tuple]] = [
        (name, library, (name, count, pythons.get(name, sys.executable))) for name, count in libraries
    ]
    # From the end: the norms take longest, and should not be left for last.
    jobs += [(name, measure, (name, seed)) for name in sorted(names, reverse=True)]
    done: dict[str, Any] = {}
    for name in progress(_all(jobs, processes or _warmup.processors(), done), len(jobs)):
        del name
    return {
        "seed": seed,
        "versions": _versions(),
        "seconds": time.perf_counter() - start,
        "processes": processes or _warmup.processors(),
        "primitives": [done[name] for name in sorted(names)],
        "faults": [{"name": f.name, "words": f.words} for f in FAULTS] if libraries else [],
        "libraries": {name: done[name] for name, _ in libraries},
    }


def library(name: str, seeds: int, python: str) -> dict[str, Any]:
    """What a library's own check says of the planted faults, from a process of its own."""
    arguments = ["-m", "minigrad.gradcheck.study.peers", name, "--seeds", str(seeds)]
    command = " ".join(["python", *arguments])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MINIGRAD_QUIET": "1"}
    start = time.perf_counter()
    try:
        answer = subprocess.run(
            [python, *arguments], capture_output=True, text=True, timeout=_PATIENCE, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"command": command, "absent": str(error)}
    if answer.returncode:
        words = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        kind = "absent" if answer.returncode == _ABSENT else "error"
        return {"command": command, kind: words}
    return {"command": command, "seconds": time.perf_counter() - start, **json.loads(answer.stdout)}


def _all(jobs: list[tuple[str, Callable, tuple]], processes: int, done: dict[str, Any]) -> Iterator[str]:
    """Do the jobs; yields the name of each once it is in `done`."""
    if processes == 1:
        for name, work, arguments in jobs:
            done[name] = work(*arguments)
            yield name
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(processes, get_context("spawn"), plugins.load_all) as pool:
        running = {pool.submit(work, *arguments): name for name, work, arguments in jobs}
        try:
            for finished in as_completed(running):
                done[running[finished]] = finished.result()
                yield running[finished]
        finally:
            pool.shutdown(cancel_futures=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(_warmup.processors())}
    for name in ("minigrad", "numpy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
