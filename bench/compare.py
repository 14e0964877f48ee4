"""One suite's run: the peers in alternation, round after round, so that a machine's drift meets all of them alike."""

from __future__ import annotations

import importlib
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from bench import report
from bench.case import Case
from bench.peers import Peer, PeerError

OURS = "minigrad"
AGREEMENT = 2e-3  # relative difference of the peers' check numbers that float32 explains
_SECONDS, _SECONDS_QUICK = 0.25, 0.02  # that one measurement of one peer takes


def run(
    module: str,
    peers: Sequence[str],
    *,
    pythons: dict[str, str] | None = None,
    rounds: int = 5,
    quick: bool = False,
    threads: int = 2,
    lowest: bool = False,
    only: str = "",
    ours: str = OURS,
    progress: Callable = lambda iterable, **options: iterable,
) -> dict[str, Any]:
    """Measure the suite in `module` with `ours` and the peers, and return its rows and what became of the peers.

    Ctrl-C ends it with the rows that are done, and with ``interrupted`` in the result.

    Args:
        pythons: a peer's interpreter, where it is not this one.
        rounds: of each case; the number of a peer is the median over the rounds.
        quick: fewer cases and shorter measurements.
        lowest: take the lowest time of each measurement instead of the median.
        only: a piece of the names of the cases that are measured.
        progress: wraps the cases, as ``tqdm`` does.
    """
    suite, load = importlib.import_module(module), report.load()
    seconds = _SECONDS_QUICK if quick else _SECONDS
    names = [ours, *[p for p in peers if p != ours]]
    with _processes(module, names, pythons or {}, quick, threads) as processes, _caches() as caches:
        rows: list[dict] = []
        interrupted = False
        chosen = [(i, case) for i, case in enumerate(suite.cases(quick)) if only in case.name]
        try:
            for i, case in progress(chosen, desc=module.rpartition(".")[2], unit="case"):
                if case.commands:
                    measured = _in_fresh_processes(case, processes, case.repeat or rounds, caches)
                else:
                    measured = _in_turns(i, processes, rounds, seconds, lowest)
                rows.append(_row(case, measured, ours))
        except KeyboardInterrupt:
            interrupted = True
        states = {p.name: {"status": p.status, "why": p.why, "python": p.python, **p.versions} for p in processes}
    result = {"title": suite.TITLE, "load": load, "peers": states, "rows": rows, "summary": summary(rows)}
    return {**result, "interrupted": True} if interrupted else result


def summary(rows: Sequence[dict]) -> dict[str, Any]:
    """The geometric mean and the worst of the rows' ratios, and the targets that were missed."""
    ratios = {row["case"]: row["ratio"] for row in rows if row["ratio"] is not None}
    missed = [row["case"] for row in rows if row["met"] is False]
    if not ratios:
        return {"geometric_mean": None, "worst": None, "missed": missed}
    worst = min(ratios, key=ratios.__getitem__)
    mean = math.exp(statistics.fmean(math.log(r) for r in ratios.values()))
    return {"geometric_mean": mean, "worst": {"case": worst, "ratio": ratios[worst]}, "missed": missed}


@contextmanager
def _processes(module: str, names: list[str], pythons: dict, quick: bool, threads: int) -> Iterator[list[Peer]]:
    processes: list[Peer] = []
    try:
        for name in names:
            given = {"python": pythons[name]} if name in pythons else {}
            processes.append(Peer(name, module, quick=quick, threads=threads, **given))
        for process in processes:
            process.wait_until_ready()
        yield processes
    finally:
        for process in processes:
            process.close()


@contextmanager
def _caches() -> Iterator[Callable[[], str]]:
    """A function that makes folders for kernel caches, which are removed at the end."""
    folders: list[str] = []

    def make() -> str:
        folders.append(tempfile.mkdtemp(prefix="minigrad-bench-"))
        return folders[-1]

    try:
        yield make
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _in_turns(index: int, processes: list[Peer], rounds: int, seconds: float, lowest: bool) -> dict[str, dict]:
    measured: dict[str, dict] = {}
    ready = []
    for peer in processes:
        if peer.status != "ready":
            continue
        try:
            answer = peer.ask(do="prepare", case=index)
        except PeerError as error:
            measured[peer.name] = {"error": str(error)}
            continue
        if "check" in answer:
            ready.append(peer)
            measured[peer.name] = {"rounds": [], "columns": {}, "check": answer["check"]}
    for _ in range(rounds):
        for peer in [p for p in ready if "error" not in measured[p.name]]:
            try:
                numbers = peer.ask(do="measure", seconds=seconds, lowest=lowest)["numbers"]
            except PeerError as error:
                measured[peer.name] = {"error": str(error)}
                continue
            result = measured[peer.name]
            result["rounds"].append(numbers.pop(""))
            for name, number in numbers.items():
                result["columns"].setdefault(name, []).append(number)
    return measured


def _in_fresh_processes(case: Case, processes: list[Peer], rounds: int, caches: Callable[[], str]) -> dict[str, dict]:
    measured: dict[str, dict] = {}
    kept = {"MINIGRAD_CACHE_DIR": caches()} if case.cache == "kept" else {}
    running = [p for p in processes if p.name in case.commands and p.status != "absent"]
    if case.cache != "fresh":
        for peer in running:  # fills caches, the file system's too; it fails again below if it fails
            with suppress(PeerError):
                peer.run_code(case.commands[peer.name], **kept)
    for _ in range(rounds):
        for peer in running:
            variables = {"MINIGRAD_CACHE_DIR": caches()} if case.cache == "fresh" else kept
            result = measured.setdefault(peer.name, {"rounds": [], "columns": {}, "check": []})
            if "error" in result:
                continue
            try:
                result["rounds"].append(peer.run_code(case.commands[peer.name], **variables))
            except PeerError as error:
                measured[peer.name] = {"error": str(error)}
    return measured


def _row(case: Case, measured: dict[str, dict], ours: str) -> dict[str, Any]:
    for result in measured.values():
        if "error" not in result:
            result["median"] = statistics.median(result["rounds"])
            result["columns"] = {name: statistics.median(numbers) for name, numbers in result["columns"].items()}
    done = {name: r for name, r in measured.items() if "error" not in r}
    others = [n for n in done if n != ours and ours in done and case.compared]
    ratios = {n: _ratio(done[n]["rounds"], done[ours]["rounds"]) for n in others}
    best = min(ratios, key=ratios.__getitem__, default=None)
    row: dict[str, Any] = {
        "case": case.name,
        "unit": case.unit,
        "peers": measured,
        "best": best,
        "ratio": None if best is None else ratios[best],
        "ratios": ratios,
        "differ": _differing(done, ours),
        "target": _target(case),
        "met": None,
    }
    if case.below is not None and ours in done:
        row["met"] = done[ours]["median"] < case.below
    compared = ratios.get(case.against) if case.against else row["ratio"]
    if case.faster is not None and compared is not None:
        row["met"] = compared >= case.faster and row["met"] is not False
    return row


def _ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as much they take: the median over the rounds, each of which saw the machine at one speed."""
    return statistics.median(t / o for t, o in zip(theirs, ours))


def _differing(done: dict[str, dict], ours: str) -> list[str]:
    """The peers whose check numbers are not ours."""
    if ours not in done:
        return []
    mine = done[ours]["check"]
    return [name for name, r in done.items() if r["check"] and mine and not _agree(mine, r["check"])]


def _agree(mine: list[float], theirs: list[float]) -> bool:
    pairs = zip(mine, theirs)
    return len(mine) == len(theirs) and all(abs(a - b) <= AGREEMENT * max(1.0, abs(a)) for a, b in pairs)


def _target(case: Case) -> str:
    parts = []
    if case.faster is not None:
        parts.append(f"≥ {case.faster:g}x" + (f" {case.against}" if case.against else ""))
    if case.below is not None:
        parts.append(f"< {case.below:g} {case.unit}")
    return ", ".join(parts)
