"""The gradient in random directions, one for each argument, against difference formulas of several orders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.gradcheck import kinks
from minigrad.gradcheck.differences import derivative
from minigrad.gradcheck.result import INCONCLUSIVE, PASSED, POWER, Result, compare
from minigrad.gradcheck.subject import EPS, Subject
from minigrad.gradcheck.weighted import Weighted

_MOVE = 0.03


def forward_differences(subject: Subject) -> Result:
    """⟨gradient, u⟩ against (φ(x + hu) − φ(x))/h."""
    return along("forward differences", subject, "forward")


def fourth_order_differences(subject: Subject) -> Result:
    """⟨gradient, u⟩ against the five-point formula."""
    return along("fourth-order differences", subject, "fourth-order")


def richardson(subject: Subject) -> Result:
    """⟨gradient, u⟩ against Richardson's extrapolation, which is good for ten digits and more."""
    return along("Richardson", subject, "Richardson")


def another_point(subject: Subject) -> Result | None:
    """Richardson's check at a point nearby: what was kept from the first point would be wrong there."""
    if subject.held is not subject.fn:
        return None  # what it holds constant is known for the first point alone
    rng = np.random.default_rng((subject.seed, 3))
    values = list(subject.values)
    for i in subject.wrt:
        values[i] = np.asarray(values[i] + _MOVE * subject.direction(i, rng))
    subject.gradients  # noqa: B018  (at the first point first)
    return along("another point", subject.at(values), "Richardson")


def along(
    check: str,
    subject: Subject,
    scheme: str,
    *,
    phi: Weighted | None = None,
    gradients: Sequence[np.ndarray] | None = None,
    eps: float = EPS,
) -> Result:
    """⟨gradient, u⟩ for a random u in each argument against differences of φ along u.

    The gradients are the subject's, and so is φ, unless they are given, computed to `eps`.
    """
    rng = np.random.default_rng((subject.seed, 4))
    phi = phi or subject.phi
    names, got, expected, bounds, on_kinks = [], [], [], [], []
    for name, i, gradient in zip(subject.names, subject.wrt, gradients or subject.gradients):
        u = subject.direction(i, rng)
        if not u.size:
            continue
        line = phi.along({i: u})
        found = derivative(line, scheme, noise=phi.noise)
        with np.errstate(all="ignore"):
            terms = gradient * u
            value, size = float(terms.sum()), float(np.abs(terms).sum())
        bound = found.bound + 64 * eps * size + 4 * EPS * abs(found.value)
        suspect = not (abs(value - found.value) <= bound <= POWER * abs(found.value))
        if suspect and kinks.at_zero(line, phi.noise):
            on_kinks.append(name)
            continue
        names.append(f"⟨{name}, u⟩")
        got.append(np.asarray(value))
        expected.append(np.asarray(found.value))
        bounds.append(np.asarray(bound))
    if not names and not on_kinks:
        return Result(check, PASSED, detail="nothing to compare", seed=subject.seed)
    words = (
        f"{', '.join(on_kinks)} on a kink or an edge, where there is no derivative in a direction" if on_kinks else ""
    )
    if not names:
        return Result(check, INCONCLUSIVE, detail=words, reason=words, seed=subject.seed)
    result = compare(check, names, got, expected, bounds, scale=phi.size, seed=subject.seed)
    return result.of(detail=words) if result.verdict == PASSED else result
