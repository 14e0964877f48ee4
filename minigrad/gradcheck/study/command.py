"""``python -m minigrad study``: its options, progress, and what it prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from minigrad.errors import ArgumentError
from minigrad.gradcheck.study import report, tables
from minigrad.gradcheck.study.run import PEERS, run
from minigrad.primitive import Primitive


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options, names of primitives aside."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for study.html and study.json")
    parser.add_argument("--seed", type=int, default=0, help="of samples, cotangents and directions (default 0)")
    parser.add_argument(
        "--seeds", type=int, help="on how many our check is held to planted faults (default 20; 0, none, with a NAME)"
    )
    parser.add_argument("--peer-seeds", type=int, default=5, help="the same for other libraries (default 5)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"to compare with, by default {','.join(PEERS)}")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PEER=PATH",
        help="interpreter of a peer; or set BENCH_PYTHON_<PEER>",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many share the work (default: all cores)")


def study(options: argparse.Namespace, subjects: list[Primitive]) -> int:
    """Run the study, write the page and the JSON, print what matters; the exit status, 1 if anything failed.

    Raises:
        ArgumentError: if an option does not make sense.
        OSError: if nothing can be written into the folder.
    """
    peers, pythons = _peers(options)
    if options.seeds is None:
        options.seeds = 0 if options.names else 20  # the faults have nothing to do with what is named
    if options.seeds < 0 or options.peer_seeds < 1 or (options.processes is not None and options.processes < 1):
        raise ArgumentError("study: --seeds takes 0 or more, --peer-seeds and --processes 1 or more")
    options.out.mkdir(parents=True, exist_ok=True)
    found = run(
        [p.name for p in subjects],
        seed=options.seed,
        seeds=options.seeds,
        peer_seeds=options.peer_seeds,
        peers=peers,
        pythons=pythons,
        processes=options.processes,
        progress=_bar,
    )
    given = [*options.names, "--seed", options.seed, "--seeds", options.seeds, "--peer-seeds", options.peer_seeds]
    found["command"] = " ".join(["python -m minigrad study", *map(str, given), "--peers", options.peers, "--out DIR"])
    page, numbers = report.write(found, options.out)
    print("\n".join(summary(found)))
    print(f"written to {page} and {numbers}")
    faults = any(tables.missed(lib) for name, lib in tables.present(found).items() if name == "minigrad")
    return 1 if faults or any(p["verdict"] != "passed" for p in found["primitives"]) else 0


def summary(found: tables.Study) -> list[str]:
    """What the terminal shows: verdicts, failures, and how each library does on the planted faults."""
    counts = tables.verdicts(found)
    lines = [f"{len(found['primitives'])} primitives: {', '.join(f'{n} {v.lower()}' for v, n in counts.items())}"]
    for p in tables.worst_first(found):
        for check, r in p["checks"].items():
            if not r["settled"]:
                words = r["detail"] or f"got {r['got']:.17g}, expected {r['expected']:.17g} ± {r['bound']:.2g}"
                lines.append(f"{p['name']}: {check}: {r['verdict']} {words}")
    for name, lib in found["libraries"].items():
        if "faults" not in lib:
            lines.append(f"{name}: not compared: {lib.get('absent') or lib.get('error')}")
            continue
        caught, count = tables.score(lib)
        lost = f", misses {', '.join(tables.missed(lib))}" if tables.missed(lib) else ""
        alarms = lib["false_alarms"]["float64"]
        words = f"{name} {lib['version']}: {caught} of {count} faults caught with each of {lib['seeds']} seeds{lost}"
        lines.append(f"{words}; {alarms} false alarms; {1e3 * lib['check_seconds']:.0f} ms a check")
    lines.append(f"{found['seconds']:.0f} seconds on {found['processes']} processes")
    return lines


def _peers(options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    peers = [p for p in options.peers.split(",") if p]
    if unknown := set(peers) - set(PEERS):
        raise ArgumentError(f"study: --peers names {sorted(unknown)}, expected some of {', '.join(PEERS)}")
    pythons = {p: given for p in peers if (given := os.environ.get(f"BENCH_PYTHON_{p.upper()}"))}
    for text in options.python:
        peer, found, path = text.partition("=")
        if not found or peer not in PEERS:
            raise ArgumentError(f"study: --python takes PEER=PATH with a peer of {', '.join(PEERS)}, got {text!r}")
        pythons[peer] = path
    return peers, pythons


def _bar(done: Iterator[str], total: int) -> Iterable[str]:
    from tqdm import tqdm

    seen = sys.stderr.isatty()
    with tqdm(done, total=total, unit="job", file=sys.stderr, leave=False, mininterval=0.1 if seen else 5) as bar:
        for name in bar:
            bar.set_description(name, refresh=seen)
            yield name
