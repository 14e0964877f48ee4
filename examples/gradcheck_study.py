"""What gradient checks see and miss: steps, slopes, kinks, roundings, and sixteen planted faults.

    python examples/gradcheck_study.py --quick                    # seconds
    python examples/gradcheck_study.py                            # every fault with five seeds
    python -m minigrad study --out out/study                      # the study itself, over every primitive

Five stations. A difference formula has a best step, which its own error tells. The slope of Taylor's remainder tells a
right gradient from a wrong one. A kink is stepped around, or named. Rounding explains an error in float32, or does not.
And of sixteen faults in one gradient, each check sees some, and all together see all.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import experiment
import numpy as np
from experiment import COLOURS, Results

import minigrad as mg
from minigrad import gradcheck
from minigrad.gradcheck.differences import SCHEMES, derivative
from minigrad.gradcheck.study.faults import NAMES, Gradient, arguments
from minigrad.gradcheck.study.peers import Minigrad

_EPS = float(np.finfo(np.float64).eps)
_POINT = 1.0


def tour(options: argparse.Namespace) -> Results:
    """The five stations, one after another."""
    results = Results("What gradient checks see and miss", "functions of one's own")
    steps(results, options)
    slopes(results, options)
    kinks(results)
    roundings(results, options)
    faults(results, options)
    return results


def steps(results: Results, options: argparse.Namespace) -> None:
    """Error against step for exp at 1: truncation falls with the step's power, rounding rises as it shrinks."""

    def f(t: float) -> float:
        return float(np.exp(_POINT + t))

    true, tried = float(np.exp(_POINT)), 2.0 ** -np.arange(1.0, 48.0)
    errors = {name: [abs(scheme(f, h) - true) / true for h in tried] for name, scheme in SCHEMES.items()}
    chosen = {name: derivative(f, name, noise=_EPS * true) for name in (*SCHEMES, "Richardson")}
    rows: list[list[Any]] = []
    for name, found in chosen.items():
        best = int(np.argmin(errors[name])) if name in errors else None
        measured = [f"{tried[best]:.1e}", f"{errors[name][best]:.1e}"] if best is not None else ["", ""]
        error = abs(found.value - true) / true
        rows.append([name, f"{found.step:.1e}", f"{error:.1e}", f"{found.bound / true:.1e}", *measured])
    columns = ["formula", "step it chose", "error", "its bound", "best step", "best error"]
    results.table("The derivative of exp at 1 by differences, relative errors", columns, rows)
    results.numbers["steps"] = {"tried": tried, "errors": errors}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for colour, (name, values) in zip(COLOURS, errors.items()):
            axes.loglog(tried, np.maximum(values, 1e-17), color=colour, label=name)
            axes.plot(chosen[name].step, abs(chosen[name].value - true) / true, "v", color=colour, ms=9)
        axes.set_xlabel("step")
        axes.set_ylabel("relative error")
        axes.grid(alpha=0.3)
        axes.legend()

    results.picture(options.out / "steps.png", "Error against step for exp at 1; ▾ the step that was chosen", draw)


def slopes(results: Results, options: argparse.Namespace) -> None:
    """Taylor's remainder: of slope 2 with the right gradient, and 1 with a wrong one."""
    lib = Minigrad()
    rows = []
    for fault in (None, "dropped term", "factor 1 + 1e-6", "second order"):
        planted = lib.planted(Gradient(fault))
        found = gradcheck.check(planted, arguments(options.seed), checks=["Taylor slope"], seed=options.seed).results
        rows.append([fault or "sound", *(f"{r.got:.2f} {r.verdict}" for r in found)])
    results.table(
        "The slope of the remainder of a normalization",
        ["fault", "without the gradient: 1", "with it: 2", "with the Hessian: 3"],
        rows,
    )


def kinks(results: Results) -> None:
    """relu and max where they have no derivative, and next to that."""
    rows = []
    for words, fn, x in (
        ("relu at 0", mg.relu, [0.0, 0.7, -0.3]),
        ("relu at 1e-9", mg.relu, [1e-9, 0.7, -0.3]),
        ("the largest of equals", lambda x: x.max(), [1.0, 0.2, 1.0]),
        ("relu at 0 alone", mg.relu, [0.0, 0.0]),
    ):
        (found,) = gradcheck.check(fn, [np.array(x)], checks=["central differences"]).results
        rows.append([words, found.verdict, found.detail])
    results.table("Central differences at kinks", ["where", "verdict", "what the report says"], rows)


def roundings(results: Results, options: argparse.Namespace) -> None:
    """float32 against its float64 twin: what rounding explains passes, half precision does not."""
    x = np.random.default_rng(options.seed).standard_normal((3, 5))

    def half(x: Any) -> Any:
        rough = x.numpy().astype("float16" if x.dtype == np.float32 else x.dtype).astype(x.dtype)
        return x + mg.Tensor(rough - x.numpy())

    rows = []
    for words, fn in (
        ("softmax", mg.softmax),
        ("(x + 1e6 − 1e6)²", lambda x: mg.square(x + 1e6 - 1e6)),
        ("x times x in half precision", lambda x: x * half(x)),
    ):
        (found,) = gradcheck.check(fn, [x], checks=["float32"], seed=options.seed).results
        error = abs(found.got - found.expected)
        rows.append([words, f"{error:.1e}", f"{found.bound:.1e}", found.verdict, found.detail])
    columns = ["function", "error of the worst element", "rounding explains", "verdict", "why"]
    results.table("Gradients in float32", columns, rows)


def faults(results: Results, options: argparse.Namespace) -> None:
    """Each fault and each check: with how many seeds the check does not pass it."""
    lib, seeds = Minigrad(), 1 if options.quick else 5
    checks = [
        c for c in gradcheck.CHECKS if c not in ("complex step", "third order", "adjoint", "forward against reverse")
    ]
    seen = np.zeros((len(NAMES) + 1, len(checks)), int)
    caught = np.zeros(len(NAMES) + 1, int)
    with experiment.bar(options, (len(NAMES) + 1) * seeds, "faults") as bar:
        for i, fault in enumerate((None, *NAMES)):
            for seed in range(options.seed, options.seed + seeds):
                fn, args = lib.case(fault, seed, "float64")
                report = gradcheck.check(fn, args, checks=checks, seed=seed, second_on="reference")
                failed = [r.check for r in report.results if r.verdict == "FAILED"]
                seen[i] += [any(f.startswith(c) for f in failed) for c in checks]
                caught[i] += report.verdict == "FAILED"
                bar.update()
    names = ["none", *NAMES]
    rows = [
        [name, f"{n}/{seeds}", ", ".join(c for c, k in zip(checks, row) if k == seeds)]
        for name, n, row in zip(names, caught, seen)
    ]
    results.table("Faults planted in a normalization", ["fault", "caught", "by, with every seed"], rows)
    results.numbers["faults"] = {"names": names, "checks": checks, "seen": seen, "caught": caught, "seeds": seeds}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(seen / seeds, cmap="Greens", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(checks)), checks, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)

    results.picture(options.out / "faults.png", "Which check sees which fault", draw, (10, 6))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return experiment.parser("gradcheck_study", __doc__).parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Take the tour; the result is the exit status."""
    return experiment.run(parse(arguments), tour)


if __name__ == "__main__":
    sys.exit(main())
