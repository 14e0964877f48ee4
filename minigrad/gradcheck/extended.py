"""Extended precision: the gradient in NumPy's longest floats, by the rules and by differences, on the reference."""

from __future__ import annotations

import numpy as np

from minigrad.errors import MinigradError
from minigrad.gradcheck import directional
from minigrad.gradcheck.result import INCONCLUSIVE, Result
from minigrad.gradcheck.rounding import gradients
from minigrad.gradcheck.subject import Subject, as_array_function
from minigrad.gradcheck.weighted import Weighted
from minigrad.primitive import on_device

_EPS = float(np.finfo(np.longdouble).eps)


def extended_precision(subject: Subject) -> Result:
    """⟨gradient, u⟩ in extended precision against Richardson's extrapolation in it, for a direction in each argument.

    It sees errors of the rules themselves down to some 10⁻¹⁵, which in float64 rounding covers.
    """
    check = "extended precision"
    if float(np.finfo(np.float64).eps) <= _EPS:
        return _undecided(check, "this platform has no floats longer than float64", subject.seed)
    values = subject.narrowed(np.longdouble)
    cotangents = [w.astype(np.longdouble) for w in subject.cotangents]
    try:
        with on_device("reference"):
            phi = Weighted(as_array_function(subject.truth), values, subject.wrt, cotangents, subject.seed, _EPS)
            if not isinstance(phi(values), np.longdouble):
                return _undecided(check, "the function rounds to float64 on its way", subject.seed)
            pulled = gradients(values, subject, cotangents)
            result = directional.along(check, subject, "Richardson", phi=phi, gradients=pulled, eps=_EPS)
    except MinigradError as error:
        return _undecided(check, f"the function takes no extended precision: {error}", subject.seed)
    if result.verdict == INCONCLUSIVE:
        return result.of(reason="differences are no closer in extended precision: a kink is near")
    return result


def _undecided(check: str, reason: str, seed: int) -> Result:
    return Result(check, INCONCLUSIVE, detail=reason, reason=reason, seed=seed)
