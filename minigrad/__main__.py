"""The command line: ``python -m minigrad info | check | study | warmup``."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad import plugins, primitive
from minigrad.errors import ArgumentError
from minigrad.gradcheck.primitives import CHECKS, check_primitive
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED, Report
from minigrad.gradcheck.study import command
from minigrad.plugins import Plugin
from minigrad.primitive import Primitive

_CELLS = {PASSED: "ok", FAILED: "FAILED", INCONCLUSIVE: "?"}
_HEADS = {
    "cpu float32": "float32",
    "cpu float64": "float64",
    "invariances": "keeps",
    "central differences": "vjp",
    "complex step": "complex",
    "Richardson": "along",
    "second order": "2nd",
    "third order": "3rd",
    "bad input": "errors",
}
_CHECK_HELP = """\
columns: samples (there are enough), infer (promised shapes and dtypes), float32 and float64 (the CPU's kernel against
the reference), layouts (strided inputs give the same bits), sizes (axes of length 0 and 1), buffers (inputs kept, all
of the outputs written and nothing else), threads (the same bits from any number), keeps (declared invariances), vjp
(against central differences), along (against Richardson's extrapolation in a random direction), parts (each cotangent
and tangent alone), adjoint (jvp against vjp), complex (jvp against the complex step), 2nd and 3rd (the derivatives of
the vjp; 3rd with --order 3), errors (bad inputs get theirs).
cells: ok, FAILED, ? (INCONCLUSIVE: the check would not have seen an error), (?) (the same, for a reason that a sample
gives), - (there is nothing to check).
exit status: 0 if all passed, 1 if a check failed or was inconclusive, or a plugin is broken, 2 for a wrong command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit status."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals that don't know ⟨ or ∂
    try:
        status = {"info": _info, "check": _check, "study": _study, "warmup": _warmup}[options.command](options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit's own flush would fail again
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minigrad", description="minigrad's own tools")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="devices, threads, vectors, cache and plugins in force")
    checker = commands.add_parser(
        "check",
        help="check primitives: kernels, derivatives, errors",
        description="Check primitives on their samples: kernels, first and second derivatives, errors.",
        epilog=_CHECK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checker.add_argument(
        "names", nargs="*", metavar="NAME", help="namespaces (mg) or primitives (mg::exp); default all"
    )
    checker.add_argument("--order", type=int, choices=(1, 2, 3), default=2, help="of derivatives (default 2)")
    checker.add_argument("--seed", type=int, default=0, help="of samples and cotangents (default 0)")
    checker.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    warmer = commands.add_parser(
        "warmup",
        help="compile kernels beforehand",
        description="Compile the kernels of primitives for float32 and float64 and keep them in the cache.",
    )
    warmer.add_argument("names", nargs="*", metavar="NAME", help="namespaces (mg) or primitives (mg::exp); default all")
    warmer.add_argument("--parallel", action="store_true", help="also the forms for several threads: takes longer")
    warmer.add_argument("--processes", type=int, metavar="N", help="how many to share the work (default: all cores)")
    student = commands.add_parser(
        "study",
        help="the gradient-check study: a page and JSON",
        description="Study gradient checks over primitives: errors against steps and sizes, roundings, times, and "
        "which planted faults our check and those of torch, jax and autograd catch.",
    )
    student.add_argument(
        "names", nargs="*", metavar="NAME", help="namespaces (mg) or primitives (mg::exp); default all"
    )
    command.add_options(student)
    return parser


def _info(options: argparse.Namespace) -> int:
    from minigrad import _info

    print("\n".join(_info.lines()))
    return 0


def _check(options: argparse.Namespace) -> int:
    try:
        subjects, broken = _subjects(options.names)
        if options.json:
            options.json.touch()  # what can't be written is better known before the checks than after
    except (ArgumentError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    reports = _run(subjects, options)
    undone = [r for r in reports if r.verdict != PASSED]
    for report in undone:
        for line in report.lines(failures_only=True):
            print(f"{report.subject}: {line}")
    for report in reports:
        for result in report.results:
            if result.reason:
                print(f"{report.subject}: {result}")
    for plugin in broken:
        print(plugin.error)
    counts = {v: sum(r.verdict == v for r in reports) for v in (PASSED, FAILED, INCONCLUSIVE)}
    print(f"{len(reports)} primitives: {', '.join(f'{n} {verdict.lower()}' for verdict, n in counts.items())}")
    if undone:
        again = [*[r.subject for r in undone], "--seed", str(options.seed), "--order", str(options.order)]
        print(f"again: python -m minigrad check {' '.join(again)}")
    if options.json:
        options.json.write_text(json.dumps(_as_json(options, reports, broken), indent=1, allow_nan=False) + "\n")
    return 1 if undone or broken else 0


def _study(options: argparse.Namespace) -> int:
    try:
        subjects, broken = _subjects(options.names)
        status = command.study(options, subjects)
    except (ArgumentError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for plugin in broken:
        print(plugin.error)
    return 1 if broken else status


def _warmup(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from minigrad import _warmup
    from minigrad.devices import cache

    try:
        subjects, broken = _subjects(options.names)
        if options.processes is not None and options.processes < 1:
            raise ArgumentError(f"warmup: processes is {options.processes}, expected at least 1")
    except ArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    path, reason = cache.folder()
    if path is None:
        print(f"warmup: there is no folder to keep kernels in: {reason}", file=sys.stderr)
        return 1
    processes = min(options.processes or _warmup.processors(), max(1, len(subjects)))
    done = _warmup.compile_all([p.name for p in subjects], options.parallel, processes)
    seen = sys.stderr.isatty()
    with tqdm(done, total=len(subjects), unit="primitive", file=sys.stderr, mininterval=0.1 if seen else 5) as bar:
        for name in bar:
            bar.set_description(name, refresh=seen)
    for plugin in broken:
        print(plugin.error)
    print(f"warmup: the kernels of {len(subjects)} primitives are in {path}")
    return 1 if broken else 0


def _subjects(names: Sequence[str]) -> tuple[list[Primitive], list[Plugin]]:
    """The primitives that are meant, and the plugins among them that can't be loaded."""
    if not names:
        loaded = plugins.load_all()
        return primitive.primitives(), [p for p in loaded if p.error]
    subjects: dict[str, Primitive] = {}
    broken: dict[str, Plugin] = {}
    for name in names:
        namespace, separator, _ = name.partition("::")
        if namespace in plugins.names():
            plugin = plugins.report(namespace)
            if plugin.error:
                broken[namespace] = plugin
                continue
        found = [primitive.get(name)] if separator else primitive.primitives(name)
        if not found:
            known = sorted({*primitive.namespaces(), *plugins.names()})
            raise ArgumentError(f"check: there are no primitives in {name!r}, there are some in {', '.join(known)}")
        subjects.update({p.name: p for p in found})
    return list(subjects.values()), list(broken.values())


def _run(subjects: Sequence[Primitive], options: argparse.Namespace) -> list[Report]:
    """Check them one by one: rows of the table to stdout, progress to stderr."""
    from tqdm import tqdm

    if not subjects:
        return []
    width = max(len(p.name) for p in subjects)
    heads = [_HEADS.get(c, c) for c in CHECKS]
    print(f"{'primitive':{width}}  {'  '.join(heads)}  {'verdict':12}  seconds")
    reports = []
    seen = sys.stderr.isatty()  # a terminal gets a bar that moves, a log a line now and then
    with tqdm(subjects, unit="primitive", file=sys.stderr, leave=False, mininterval=0.1 if seen else 5) as bar:
        show = bar.write if seen else print  # `write` takes the bar out of the row's way and puts it back
        for p in bar:
            bar.set_description(p.name, refresh=seen)
            reports.append(check_primitive(p, seed=options.seed, order=options.order))
            show(_row(reports[-1], width, heads))
            sys.stdout.flush()
    return reports


def _row(report: Report, width: int, heads: list[str]) -> str:
    verdicts = {r.check: "(?)" if r.reason else _CELLS[r.verdict] for r in report.results}
    cells = [f"{verdicts.get(c, '-'):^{len(h)}}" for c, h in zip(CHECKS, heads)]
    return f"{report.subject:{width}}  {'  '.join(cells)}  {report.verdict:12}  {report.seconds:7.2f}"


def _as_json(options: argparse.Namespace, reports: Sequence[Report], broken: Sequence[Plugin]) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "order": options.order,
        "primitives": [
            {
                "name": r.subject,
                "verdict": r.verdict,
                "seconds": r.seconds,
                "results": [{k: _finite(v) for k, v in vars(result).items()} for result in r.results],
            }
            for r in reports
        ],
        "broken": {p.name: str(p.error) for p in broken},
    }


def _finite(value: Any) -> Any:
    """JSON has no words for infinities and NaN: they become strings."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
