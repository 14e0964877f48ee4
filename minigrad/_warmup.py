"""warmup: compile kernels beforehand, on all cores, so that first calls find them in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minigrad import dtypes, plugins, primitive
from minigrad.devices import cpu, threads
from minigrad.gradcheck.kernels import cast, run
from minigrad.tape import no_grad


def compile_all(names: Sequence[str], parallel: bool, processes: int) -> Iterator[str]:
    """Compile the kernels of primitives, float32 and float64; yields each primitive's name once that is done.

    Args:
        names: of primitives.
        parallel: whether to compile the forms for several threads too.
        processes: how many share the work; 1 does it here.
    """
    if processes == 1:
        for name in names:
            compile_one(name, parallel)
            yield name
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(processes, get_context("spawn"), plugins.load_all) as pool:
        running = {pool.submit(compile_one, name, parallel): name for name in names}
        try:
            for done in as_completed(running):
                done.result()
                yield running[done]
        finally:
            pool.shutdown(cancel_futures=True)


def compile_one(name: str, parallel: bool) -> None:
    """Run a primitive on its samples, which compiles what it needs."""
    p = primitive.get(name)
    with no_grad(), _noted() as calls:
        for sample in p.draw_samples():
            if sample.error is None:
                for dtype in (dtypes.float32, dtypes.float64):
                    run(p, cast(p, sample, dtype), sample.params)
    if parallel:
        for kernel, chunks, args in calls:
            _compile_parallel(kernel, chunks, args)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _noted() -> Iterator[list[tuple[Any, int, tuple]]]:
    """The calls of kernels within, one for each kernel and form of its arguments."""
    from numba import typeof

    calls: dict[tuple, tuple[Any, int, tuple]] = {}

    def note(kernel: Any, chunks: int, work: int, args: tuple) -> bool:
        if type(kernel) is cpu.Kernel:
            calls.setdefault((id(kernel), *map(typeof, args)), (kernel, chunks, args))
        return False

    found: list[tuple[Any, int, tuple]] = []
    cpu.tracers.append(note)
    try:
        yield found
    finally:
        cpu.tracers.remove(note)
        found += calls.values()


def _compile_parallel(kernel: cpu.Kernel, chunks: int, args: tuple) -> None:
    from numba import typeof

    dispatcher: Any = kernel.parallel.compiled()
    if hasattr(dispatcher, "overloads"):  # Numba is not switched off
        threads.prepare()
        dispatcher.compile(tuple([typeof(a) for a in (chunks, threads.WORDS, *args)]))
