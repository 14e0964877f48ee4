"""The slope of Taylor's remainder: 1 without the gradient, 2 with it, 3 with the Hessian too."""

from __future__ import annotations

import numpy as np

from minigrad import autodiff
from minigrad.gradcheck import kinks
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED, POWER, Result
from minigrad.gradcheck.subject import Subject
from minigrad.primitive import on_device
from minigrad.tensor import Tensor

_FIRST, _STEPS = 2.0**-4, 20  # relative steps, each half the last
_ROOM = 64  # a remainder counts if it is so many times the noise
_TOLERANCE = 0.2  # of the slope; the next term of the series bends it by O(h)


def taylor(subject: Subject) -> list[Result]:
    """R(h) = |φ(x + hu) − Taylor's polynomial|, whose slope in log–log is the order of what the polynomial lacks.

    A wrong gradient leaves a term in h, and the slope sinks to 1 as h shrinks. The slope is taken between the smallest
    steps whose remainders stand clear of noise; what a remainder of that step could still hide is the tolerance.
    """
    rng = np.random.default_rng((subject.seed, 6))
    directions = [subject.direction(i, rng) for i in subject.wrt]
    phi = subject.phi
    line = phi.along(dict(zip(subject.wrt, directions)))
    base, steps = float(line(0.0)), _FIRST * 0.5 ** np.arange(_STEPS)
    first = float(sum(np.sum(g * u) for g, u in zip(subject.gradients, directions)))
    if kinks.at_zero(line, phi.noise) or not np.isfinite(line(steps[-1])):
        words = "the point is on a kink or an edge, where there is no series"
        return [
            Result(f"Taylor slope {k}", INCONCLUSIVE, detail=words, reason=words, seed=subject.seed) for k in (1, 2, 3)
        ]
    with on_device(subject.second_on):
        second = _curvature(subject, directions)
    with np.errstate(all="ignore"):
        rises = np.array([float(line(h)) - base for h in steps])
    inside = slice(1 + max(np.flatnonzero(~np.isfinite(rises)), default=-1), None)  # not beyond an edge
    steps, rises = steps[inside], rises[inside]
    found = []
    for order, polynomial in enumerate((0.0, first * steps, first * steps + second * steps**2 / 2), 1):
        remainders = np.abs(rises - np.asarray(polynomial))
        found.append(_slope(f"Taylor slope {order}", order, steps, remainders, phi.noise, first, second, subject.seed))
    return found


def _slope(
    check: str, order: int, steps: np.ndarray, remainders: np.ndarray, noise: float, first: float, second: float,
    seed: int,
) -> Result:  # fmt: skip
    """The slope between the smallest two steps that are clear of noise; none are where the series ends before."""
    signal = abs(first) if order < 3 else abs(second)
    room = _ROOM * max(noise, 1e-300)
    clear = np.flatnonzero(np.isfinite(remainders) & (remainders > room))
    # Those before the first that is lost in noise: later ones are clear by chance.
    lost = np.flatnonzero(~(remainders > room))
    clear = clear[clear < lost[0]] if lost.size else clear
    power = order - 1 if order > 1 else 1
    if clear.size < 3:
        h = float(steps[0])
        hidden = room / h**power
        if order == 1 and abs(first) * h <= room:
            return Result(
                check, PASSED, tolerance=hidden, detail="nothing rises, nor does the gradient say so", seed=seed
            )
        if order == 1 or not np.isfinite(remainders[0]):
            return Result(check, INCONCLUSIVE, tolerance=hidden, signal=signal, detail="no rise but noise", seed=seed)
        verdict = PASSED if hidden <= POWER * signal or signal == 0 else INCONCLUSIVE
        words = f"the series ends before order {order}: remainders are noise"
        return Result(check, verdict, 0.0, hidden, signal, "", order, order, detail=words, seed=seed, bound=_TOLERANCE)
    i, j = clear[-2], clear[-1]
    slope = float(np.log2(remainders[i] / remainders[j]))
    allowed = _TOLERANCE + 4 * noise / float(remainders[j])
    hidden = float(remainders[j]) / float(steps[j]) ** power
    short = (order - slope) / allowed  # steeper than expected is no fault: a term happens to be 0
    verdict = FAILED if short > 1 else PASSED
    if verdict == PASSED and order > 1 and hidden > POWER * signal:
        verdict = INCONCLUSIVE
    place = f"h = {float(steps[j]):.2g}"
    return Result(check, verdict, max(short, 0.0), hidden, signal, place, slope, order, seed=seed, bound=allowed)


def _curvature(subject: Subject, directions: list[np.ndarray]) -> float:
    """uᵀHu of φ, by reverse over reverse."""
    differentiable = subject.on_floats(subject.held if subject.held is not subject.fn else subject.fn)
    weights = tuple(Tensor(w) for w in subject.cotangents)

    def along(*floats: Tensor) -> Tensor:
        outputs, pull = autodiff.vjp(differentiable, *floats)
        pulled = pull(weights if isinstance(outputs, tuple) else weights[0])
        parts = [(g * Tensor(u)).sum() for g, u in zip(pulled, directions)]
        return sum(parts[1:], parts[0])

    values = [subject.values[i] for i in subject.wrt]
    result, pull = autodiff.vjp(along, *values)
    if not result.requires_grad:
        return 0.0
    gradients = pull(Tensor(np.ones(())))
    return float(sum(np.sum(g.numpy() * u) for g, u in zip(gradients, directions)))
