"""What a check says: passed, FAILED, or INCONCLUSIVE, with the evidence."""

from __future__ import annotations

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
        where: the place of the worst element, e.g. ``"x[1, 2]"``; got, expected: the two values there.
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

    @property
    def settled(self) -> bool:
        """Whether it passed, or is inconclusive for a reason that is written down."""
        return self.verdict == PASSED or (self.verdict == INCONCLUSIVE and bool(self.reason))

    def __str__(self) -> str:
        if self.verdict == PASSED:
            return f"{self.check}: passed (worst {self.error:.2g} of the tolerance, signal {self.signal:.2g})"
        if self.verdict == INCONCLUSIVE:
            return (
                f"{self.check}: INCONCLUSIVE: {self.reason or self.detail or 'too little signal'} "
                f"(signal {self.signal:.2g}, tolerance {self.tolerance:.2g}, {self._origin()})"
            )
        place = f" at {self.where}: got {self.got:.17g}, expected {self.expected:.17g}" if self.where else ""
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
) -> Result:
    """Compare arrays element by element: |got − expected| within `bounds`.

    The power guard: unless the largest bound is well below the signal, the comparison proves nothing. The signal is
    the largest value compared; where all are zero, `scale`, the size that a value there could be expected to have.
    """
    worst, place, pair = -1.0, "", (0.0, 0.0)
    signal = tolerance = 0.0
    for name, a, b, bound in zip(names, got, expected, bounds):
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
            worst, pair = float(ratio[at]), (_number(a[at]), _number(b[at]))
            place = f"{name}[{', '.join(map(str, at))}]" if at else name
        finite = np.isfinite(b) & np.isfinite(bound)
        if finite.any():
            signal = max(signal, float(np.max(np.abs(b[finite]))), float(np.max(np.abs(a[finite]))))
            tolerance = max(tolerance, float(np.max(np.where(finite, bound, 0))))
    if worst < 0:
        return Result(check, PASSED, 0.0, detail="nothing to compare", seed=seed)
    if worst > 1:
        return Result(check, FAILED, worst, tolerance, signal, place, *pair, seed=seed)
    power = signal or scale or 0.0
    verdict = PASSED if tolerance <= POWER * power or (power == 0 and tolerance == 0) else INCONCLUSIVE
    return Result(check, verdict, worst, tolerance, power, place, *pair, seed=seed)


def _number(value: Any) -> float:
    return float(np.real(value))
