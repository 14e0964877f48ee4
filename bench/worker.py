"""A peer's process: `python -m bench.worker MODULE PEER QUICK THREADS`. Takes requests from stdin, answers on stdout.

Requests and answers are JSON, one a line. What libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import sys
import time
import traceback
from typing import Any, TextIO

from bench.case import Work

_VERSIONS = ("minigrad", "numpy", "numba", "torch", "jax", "jaxlib")
_BLOCK = 50e-6  # seconds; shorter runs are timed several at once, so that reading the clock does not count


def main(module: str, peer: str, quick: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    limit_processors(int(threads))
    library = peer.partition(".")[0]  # torch.compile is torch, used in another way
    try:
        importlib.import_module(library)  # before anything that loads NumPy, as its users do
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        _say(answers, {"absent": f"{sys.executable} has no {library}"})
        return
    suite = importlib.import_module(module)
    cases = suite.cases(quick == "quick")
    make = getattr(suite, f"with_{peer.replace('.', '_')}", lambda case: None)
    _say(answers, {"versions": versions()})
    works: dict[str, Work] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(request, cases, make, works)
        except Exception:
            answer = {"error": traceback.format_exc()}
        _say(answers, answer)


def _answer(request: dict, cases: list, make: Any, works: dict[str, Work]) -> dict:
    if request["do"] == "prepare":
        works.clear()
        work = make(cases[request["case"]])
        if work is None:
            return {"empty": True}
        works.update({"": work, **work.columns})
        check = [float(v) for v in work.check()] if work.check else []
        for each in works.values():
            if each.value is None:
                _once(each)
        return {"check": check}
    return {"numbers": {name: measure(work, request["seconds"], request["lowest"]) for name, work in works.items()}}


def measure(work: Work, seconds: float, lowest: bool = False) -> float:
    """The number of a Work that has one; else the median, or lowest, time of as many runs as fit into `seconds`."""
    if work.value is not None:
        return float(work.value())
    assert work.run is not None
    run, clock = work.run, time.perf_counter
    chosen = min if lowest else statistics.median
    first = min(_once(work) for _ in range(3))
    times = []
    end = clock() + max(seconds, 3 * first)
    if work.setup is not None:
        while clock() < end:
            times.append(_once(work))
        return chosen(times) / work.per
    inner = range(max(1, round(_BLOCK / max(first, 1e-9))))
    while clock() < end:
        start = clock()
        for _ in inner:
            run()
        times.append(clock() - start)
    return chosen(times) / len(inner) / work.per


def _once(work: Work) -> float:
    assert work.run is not None
    arguments = () if work.setup is None else (work.setup(),)
    start = time.perf_counter()
    work.run(*arguments)
    return time.perf_counter() - start


def limit_processors(threads: int) -> None:
    """Run on so many processors, which is the limit that all the libraries' thread pools know."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if threads < len(allowed):
            os.sched_setaffinity(0, allowed[:threads])


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that are loaded."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        if name in sys.modules:
            found[name] = getattr(sys.modules[name], "__version__", "") or _installed(name)
    return found


def _installed(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _say(answers: TextIO, content: dict) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
