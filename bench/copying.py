"""The memory's bandwidth, as a copy of an array sees it: what memory-bound work is measured against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ROUNDS = 15


def share_of_copy(run: Callable, nbytes: int, passes: int, threads: int) -> float:
    """The bandwidth of `run`, in percent of that of a copy of an array of `nbytes`.

    Args:
        run: reads or writes such arrays, each once if it did as little as it can, `passes` times in all.
        nbytes: the size of an array; a copy reads one and writes one.
        threads: the copy is shared among so many.
    """
    import numpy as np

    source = np.ones(nbytes, np.uint8)
    target = np.zeros(nbytes, np.uint8)
    parts = [slice(nbytes * i // threads, nbytes * (i + 1) // threads) for i in range(threads)]
    times: dict[str, list[float]] = {"run": [], "copy": []}
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        for _ in range(ROUNDS):  # in turns, so that a machine's drift meets both alike
            for name, work in (("copy", copy), ("run", run)):
                work()
                start = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - start)
    needed, copied = passes * nbytes, 2 * nbytes
    return 100 * (needed / statistics.median(times["run"])) / (copied / statistics.median(times["copy"]))
