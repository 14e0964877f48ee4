"""What a check says: passed, FAILED, or INCONCLUSIVE, with the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minigrad.errors import GradientError

PASSED, FAILED, INCONCLUSIVE = "passed", "FAILED", "INCONCLUSIVE"

#: A check must be able to see an error of this share of the signal, or it says INCONCLUSIVE.
POWER = 1e-2


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: what was checked, e.g. ``"central differences"``.
        verdict: ``"passed"``, ``"FAILED"`` or ``"INCONCLUSIVE"``.
        error: the largest difference, over what was allowed in its place; above 1 is a failure.
        tolerance, signal: the largest allowed difference, and the largest value that was compared.
        where: the place of the worst element, e.g. ``"x[1, 2]"``; got, expected: the two values there, the one under
            check and the estimate of it; bound: how far from the estimate it may be, by the estimate's own error.
        detail: in words, where numbers do not say it.
        sample: of a primitive, which one, e.g. ``"3 layer norm"``.
        reason: why it is known to be inconclusive, from `Sample.undecided`; then it holds up nothing.
        seed: the seed that reproduces it.
    """

    check: str
    verdict: str
    error: float = 0.0
    tolerance: float = 0.0
    signal: float = 0.0
    where: str = ""
    got: float = 0.0
    expected: float = 0.0
    detail: str = ""
    sample: str = ""
    reason: str = ""
    seed: int = 0
    bound: float = 0.0

    @property
    def estimate(self) -> float:
        """What the check found by its own means, at the worst element; `bound` belongs to it."""
        return self.expected

    @property
    def settled(self) -> bool:
        """Whether it passed, or is inconclusive for a reason that is written down."""
        return self.verdict == PASSED or (self.verdict == INCONCLUSIVE and bool(self.reason))

    def __str__(self) -> str:
        if self.verdict == PASSED:
            note = f"; {self.detail}" if self.detail else ""
            return f"{self.check}: passed (worst {self.error:.2g} of the tolerance, signal {self.signal:.2g}{note})"
        if self.verdict == INCONCLUSIVE:
            return (
                f"{self.check}: INCONCLUSIVE: {self.reason or self.detail or 'too little signal'} "
                f"(signal {self.signal:.2g}, tolerance {self.tolerance:.2g}, {self._origin()})"
            )
        place = f" at {self.where}: got {self.got:.17g}, expected {self.expected:.17g}" if self.where else ""
        place += f" ± {self.bound:.2g}" if place and 0 < self.bound < np.inf else ""
        return f"{self.check}: FAILED{place}{': ' if self.detail else ''}{self.detail} ({self._origin()})"

    def of(self, **changes: Any) -> Result:
        """The same outcome with some fields changed."""
        return replace(self, **changes)

    def _origin(self) -> str:
        return f"sample {self.sample}, seed {self.seed}" if self.sample else f"seed {self.seed}"


@dataclass
class Report:
    """The outcomes of all checks of one function.

    Example:
        >>> import minigrad as mg
        >>> report = mg.gradcheck.check(lambda x: x * mg.tanh(x), [mg.tensor([0.5, -1.0], dtype="float64")])
        >>> report.passed
        True
    """

    subject: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether there are results and every one passed; INCONCLUSIVE is not passed, but for a written reason."""
        return bool(self.results) and all(r.settled for r in self.results)

    @property
    def verdict(self) -> str:
        verdicts = {r.verdict for r in self.results}
        return FAILED if FAILED in verdicts else PASSED if self.passed else INCONCLUSIVE

    def require(self) -> Report:
        """Return the report if it passed.

        Raises:
            GradientError: otherwise, with every check that did not pass.
        """
        if not self.passed:
            raise GradientError("\n  ".join([f"{self.subject}: {self.verdict}", *self.lines(failures_only=True)]))
        return self

    def explained(self) -> str:
        """What a failed test prints: first what is wrong, then what can't be told, then what is right."""
        lines = [f"gradients of {self.subject}: {self.verdict}"]
        for r in sorted((r for r in self.results if not r.settled), key=lambda r: r.verdict != FAILED):
            lines.append(f"  {r.check}: {r.verdict}{' at ' + r.where if r.where else ''}")
            if r.where and r.verdict == FAILED:
                bound = f" ± {r.bound:.2g}" if 0 < r.bound < np.inf else ""
                lines += [f"    got      {r.got:.17g}", f"    expected {r.expected:.17g}{bound}"]
            elif r.verdict == INCONCLUSIVE:
                lines.append(f"    signal {r.signal:.2g}, tolerance {r.tolerance:.2g}: it would not have seen an error")
            if r.detail:
                lines.append(f"    {r.detail}")
        if passed := [r.check for r in self.results if r.verdict == PASSED]:
            lines.append(f"  passed: {', '.join(passed)}")
        seeds = sorted({r.seed for r in self.results})
        lines.append(f"  again: the same arguments with seed={', '.join(map(str, seeds))}")
        return "\n".join(lines)

    def lines(self, failures_only: bool = False) -> list[str]:
        """One line a result."""
        return [str(r) for r in self.results if not (failures_only and r.settled)]

    def __str__(self) -> str:
        return "\n  ".join([f"{self.subject}: {self.verdict}", *self.lines()])


def compare(
    check: str,
    names: list[str],
    got: list[Any],
    expected: list[np.ndarray],
    bounds: list[np.ndarray],
    *,
    scale: float | None = None,
    seed: int = 0,
    kinks: Sequence[np.ndarray] | None = None,
) -> Result:
    """Compare arrays element by element: |got − expected| within `bounds`, where those are finite.

    The power guard: unless the largest bound is well below the signal, the comparison proves nothing. The signal is
    the largest value compared; where all are zero, `scale`, the size that a value there could be expected to have.
    Elements on `kinks` are held to their bounds, which reach both one-sided slopes, or are infinite, but prove nothing.
    """
    worst, place, pair, allowed = -1.0, "", (0.0, 0.0), 0.0
    signal = tolerance = 0.0
    seen, on_kinks, lost = False, [], []
    for k, (name, a, b, bound) in enumerate(zip(names, got, expected, bounds)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape:
            return Result(check, FAILED, np.inf, detail=f"{name} has shape {a.shape}, expected {b.shape}", seed=seed)
        if not a.size:
            continue
        if a.dtype.kind == "b" or b.dtype.kind == "b":
            a, b = a.astype(np.int8), b.astype(np.int8)
        bound = np.broadcast_to(bound, b.shape)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(all="ignore"):
            ratio = np.where(same | np.isposinf(bound), 0.0, np.abs(a - b) / bound)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[at] > worst:
            worst, pair, allowed = float(ratio[at]), (_number(a[at]), _number(b[at])), float(bound[at])
            place = _place(name, at)
        finite = np.isfinite(b) & np.isfinite(bound)
        seen = seen or bool(np.any(~np.isposinf(bound)))
        if kinks is not None and kinks[k].any():
            held = kinks[k] & np.isfinite(bound)
            on_kinks += _places(name, held)
            lost += _places(name, kinks[k] & ~held)
            finite &= ~kinks[k]
        if finite.any():
            signal = max(signal, float(np.max(np.abs(b[finite]))), float(np.max(np.abs(a[finite]))))
            tolerance = max(tolerance, float(np.max(np.where(finite, bound, 0))))
    if worst < 0:
        return Result(check, PASSED, 0.0, detail="nothing to compare", seed=seed)
    if worst > 1:
        return Result(check, FAILED, worst, tolerance, signal, place, *pair, seed=seed, bound=allowed)
    power = signal or scale or 0.0
    verdict = PASSED if tolerance <= POWER * power or (power == 0 and tolerance == 0) else INCONCLUSIVE
    words = [f"on a kink, between the one-sided slopes: {_some(on_kinks)}"] if on_kinks else []
    words += [f"on a jump or an edge, where there are no slopes: {_some(lost)}"] if lost else []
    detail = "; ".join(words)
    if not seen or (on_kinks and not tolerance):
        verdict, detail = INCONCLUSIVE, detail or "nothing could be measured"
    return Result(check, verdict, worst, tolerance, power, place, *pair, detail, seed=seed, bound=allowed)


def _places(name: str, chosen: np.ndarray) -> list[str]:
    return [_place(name, tuple(map(int, where))) for where in np.argwhere(chosen)]


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(places[:3]) + more


def _place(name: str, at: tuple) -> str:
    return f"{name}[{', '.join(map(str, at))}]" if at else name


def _number(value: Any) -> float:
    return float(np.real(value))
