"""python -m bench: measure minigrad beside torch and jax.

    python -m bench                                  # every benchmark
    python -m bench norms --only batch               # the rows with that in their names
    python -m bench norms --repeat 9 --save          # and write bench/results/norms.json
    python -m bench train engine --python torch=/opt/torch/bin/python --python jax=/opt/torch/bin/python

The ratio is the best peer's number over ours, so 2x is twice as fast; it is the median over rounds in which the peers
take turns. A peer that is not installed is shown as absent. Results are written only on request: --save writes a file
a benchmark to bench/results, --out one file for all that were run.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from bench import compare, report, suites

PEERS = ("torch", "torch.compile", "jax")
RESULTS = Path(__file__).resolve().parent / "results"


_INTERRUPTED = 130  # the exit status that shells give for Ctrl-C


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    names = sorted(m.name for m in pkgutil.iter_modules(suites.__path__))
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--repeat", type=int, help="rounds (default 5; with --quick 1)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"peers, by default {','.join(PEERS)}")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PEER=PATH",
        help="interpreter of a peer; or set BENCH_PYTHON_<PEER>",
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of each peer (default 2)")
    parser.add_argument(
        "--lowest",
        action="store_true",
        help="take the lowest time of each measurement, not the median: for a machine that has other work",
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases, short measurements: to see that it runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the cases alone whose names contain this")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the results to this file")
    parser.add_argument(
        "--save", action="store_true", help=f"write the results to {RESULTS.parent.name}/{RESULTS.name}"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)}, expected some of {names}")
    options.names = options.names or names
    options.peers = [p for p in options.peers.split(",") if p]
    if options.repeat is None:
        options.repeat = 1 if options.quick else 5
    if options.repeat < 1 or options.threads < 1:
        parser.error("--repeat and --threads take positive numbers")
    options.pythons = {}
    for peer in (compare.OURS, *options.peers):
        given = os.environ.get(f"BENCH_PYTHON_{peer.upper()}")
        if given:
            options.pythons[peer] = given
    for text in options.python:
        peer, found, path = text.partition("=")
        if not found:
            parser.error(f"--python takes PEER=PATH, got {text!r}")
        options.pythons[peer] = path
    for peer in options.peers:  # torch.compile is in torch's
        library = peer.partition(".")[0]
        if library in options.pythons:
            options.pythons.setdefault(peer, options.pythons[library])
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; the exit status is 1 if a process failed, 130 after Ctrl-C, which keeps what is done."""
    from tqdm import tqdm

    def progress(iterable, **bar):
        return tqdm(iterable, leave=False, file=sys.stderr, disable=None, **bar)

    options = parse(arguments)
    results = {}
    recorded = {name: getattr(options, name) for name in ("repeat", "threads", "quick", "lowest")}
    for name in options.names:
        suite = import_module(f"bench.suites.{name}")
        why = getattr(suite, "missing", str)()
        if why:
            print(f"{name}: {why}", end="\n\n", flush=True)
            continue
        results[name] = compare.run(
            f"bench.suites.{name}",
            options.peers,
            pythons=options.pythons,
            rounds=options.repeat,
            quick=options.quick,
            threads=options.threads,
            lowest=options.lowest,
            only=options.only,
            progress=progress,
        )
        if hasattr(suite, "device"):
            results[name]["device"] = suite.device()
        print(report.table(name, results[name]), end="\n\n", flush=True)
        if options.save:
            report.write(RESULTS / f"{name}.json", {name: results[name]}, recorded)
        if results[name].get("interrupted"):
            print("interrupted: the other cases were not measured", file=sys.stderr)
            break
    if options.out:
        report.write(options.out, results, recorded)
    failed = any("error" in m for r in results.values() for row in r["rows"] for m in row["peers"].values())
    if any(r.get("interrupted") for r in results.values()):
        return _INTERRUPTED
    return int(failed or any(p["status"] == "failed" for r in results.values() for p in r["peers"].values()))


if __name__ == "__main__":
    sys.exit(main())
