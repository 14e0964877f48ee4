"""python -m examples: lists the examples, runs one, or runs them all and makes one page of what they came to."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # the examples are scripts, and import what they share from beside them

import page  # noqa: E402

#: In the order of a report. mlp10 was there before the others and keeps files of its own.
NAMES = (
    "norm_layers",
    "weight_norm_cifar",
    "theano_batch_norm",
    "batch_norm_lesson",
    "style_transfer",
    "tf_batch_norm",
    "mlp10",
    "gradcheck_study",
)


def summary(name: str) -> str:
    """The first line of an example's docstring, without running it."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    return (text or "").splitlines()[0]


def listing() -> str:
    """The examples, a line each."""
    width = max(map(len, NAMES))
    lines = [f"  {name:<{width}}  {summary(name)}" for name in NAMES]
    return "\n".join(["python -m examples NAME --help, or --quick for a first look:", *lines])


def run(name: str, arguments: list[str]) -> int:
    """Run one example; the result is its exit status."""
    status: int = importlib.import_module(name).main(arguments)
    return status


def report(names: list[str], out: Path, quick: bool, quiet: bool) -> int:
    """Run examples, each into a folder of its own, and write one page about them; 0 if all of them ran."""
    failed = []
    for name in names:
        print(f"== {name}", file=sys.stderr)
        arguments = [*(["--quick"] if quick else []), *(["--quiet"] if quiet else [])]
        if run(name, [*arguments, "--out", str(out / name)]):
            failed.append(name)
    path = page.write(out, {name: summary(name) for name in names})
    print(f"written to {path}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of a report."""
    parser = argparse.ArgumentParser(prog="python -m examples", description=listing(), add_help=True,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which examples (default all)")
    parser.add_argument(
        "--report", type=Path, required=True, metavar="OUT", help="a folder for report.html and all else"
    )
    parser.add_argument("--quick", action="store_true", help="seconds each, on drawn images")
    parser.add_argument("--page-only", action="store_true", help="make the page of what earlier runs left in OUT")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no example {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """What the command line asks for; the result is the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(listing())
        return 0
    if arguments[0] in NAMES and not any(a.split("=")[0] == "--report" for a in arguments):
        return run(arguments[0], arguments[1:])
    options = parse(arguments)
    names = options.names or list(NAMES)
    if options.page_only:
        print(f"written to {page.write(options.report, {n: summary(n) for n in names})}", file=sys.stderr)
        return 0
    return report(names, options.report, options.quick, options.quiet)


if __name__ == "__main__":
    sys.exit(main())
