"""The gradient against central differences, element by element; and the second order, which is the same of Jᵀw."""

from __future__ import annotations

import numpy as np

from minigrad.gradcheck import directional
from minigrad.gradcheck.result import FAILED, Result, compare
from minigrad.gradcheck.subject import EPS, Subject
from minigrad.primitive import on_device

# Elements drawn at random where a direction can't tell, of each argument and of all: each costs four gradients.
_ELEMENTS, _TOTAL, _LEAST = 10, 24, 2


def central_differences(subject: Subject) -> Result:
    """Reverse mode against central differences, at every element."""
    return _elements("central differences", subject)


def second_order(subject: Subject) -> Result:
    """The gradient of (x, w) ↦ Jᵀw, whose Jᵀw the first order has vouched for: in random directions of all elements.

    Where a direction fails, or meets a kink, some elements are measured one by one, which names the place.
    """
    with on_device(subject.second_on):
        derived = subject.derived()
        found = directional.along("second order", derived, "central")
        if found.settled and not found.reason:
            return found
        most = min(_ELEMENTS, max(_LEAST, _TOTAL // len(derived.wrt)))
        closer = _elements("second order", derived, most)
        return found if found.verdict == FAILED and closer.verdict != FAILED else closer


def third_order(subject: Subject) -> Result:
    """The gradient of the gradient of Jᵀw, in a random direction of each argument."""
    with on_device(subject.second_on):
        return directional.along("third order", subject.derived().derived(), "central")


def _elements(check: str, subject: Subject, most: int | None = None) -> Result:
    phi = subject.phi
    expected, bounds, kinks = phi.gradient(most, subject.seed)
    own = [b + 64 * EPS * np.abs(g) for b, g in zip(bounds, expected)]
    extent = max((float(np.max(np.abs(np.asarray(phi.args[i])), initial=0.0)) for i in phi.wrt), default=1.0)
    scale = phi.size / max(extent, 1e-300)
    return compare(check, subject.names, subject.gradients, expected, own, scale=scale, seed=subject.seed, kinks=kinks)
