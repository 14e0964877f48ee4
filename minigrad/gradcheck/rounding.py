"""What rounding does to a gradient: measured by rounding every result of every primitive at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad import autodiff
from minigrad.errors import DTypeError, GradientError
from minigrad.gradcheck.result import INCONCLUSIVE, PASSED, Result, compare
from minigrad.gradcheck.subject import Subject, is_float
from minigrad.primitive import Primitive, on_device
from minigrad.tape import state
from minigrad.tensor import Tensor

_RUNS = 8
_FACTOR = 8.0


def float32(subject: Subject) -> Result:
    """The gradient in float32 against its float64 twin at the same float32 numbers, within what rounding explains.

    How far rounding may take it is measured: the float64 gradient is computed again and again with every argument, and
    every result of every primitive, moved by half a unit in float32's last place, up or down at random. (Stochastic
    arithmetic: Vignes 1974; Parker 1997.)
    """
    twin, narrow, cotangents = _narrowed(subject)
    try:
        got = [g.astype(np.float64) for g in gradients(narrow, subject, cotangents)]
    except DTypeError as error:
        reason = f"the function takes no float32: {error}"
        return Result("float32", INCONCLUSIVE, detail=reason, reason=reason, seed=subject.seed)
    expected, moved = truth_and_rounding(twin, cotangents, np.dtype(np.float32), subject.seed)
    eps = float(np.finfo(np.float32).eps)
    size = max((float(np.max(np.abs(e), initial=0.0)) for e in expected), default=0.0)
    if not size and not any(g.any() for g in got):
        return Result("float32", PASSED, detail="the gradient is 0", seed=subject.seed)
    tiny = float(np.finfo(np.float32).tiny)
    bounds = [_FACTOR * (m + eps * np.abs(e)) + eps * 1e-3 * size + tiny for m, e in zip(moved, expected)]
    # Of a sum the terms may round otherwise than its result: no element is held closer than the typical one.
    bounds = [np.maximum(b, np.sqrt(np.mean(b * b))) if b.size else b for b in bounds]
    result = compare("float32", subject.names, got, expected, bounds, scale=max(size, tiny), seed=subject.seed)
    if result.verdict == INCONCLUSIVE:
        reason = "float32 holds too few digits of this gradient: the data is badly conditioned"
        return result.of(reason=reason, detail=reason)
    return result


def _narrowed(subject: Subject) -> tuple[Subject, list[np.ndarray | None], list[np.ndarray]]:
    """The subject at the float32 numbers nearest to its own, these in float32, and such cotangents in float64."""
    narrow = subject.narrowed(np.float32)
    wide = [a.astype(np.float64) if is_float(a) else a for a in narrow]
    return subject.at(wide), narrow, [w.astype(np.float32).astype(np.float64) for w in subject.cotangents]


def gradients(
    values: Sequence[np.ndarray | None], subject: Subject, cotangents: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The gradients at values of any dtype, by the rules, on the device in force."""
    at = subject.at(values)
    outputs, pull = autodiff.vjp(at.on_floats(subject.fn), *[Tensor(np.asarray(values[i])) for i in subject.wrt])
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    if not any(o.requires_grad for o in several):
        raise GradientError("no result depends on an argument")
    weights = tuple(Tensor(w.astype(o.dtype)) for w, o in zip(cotangents, several))
    return [np.asarray(g._data) for g in pull(weights if isinstance(outputs, tuple) else weights[0])]


def truth_and_rounding(
    subject: Subject, cotangents: Sequence[np.ndarray], dtype: np.dtype, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The float64 gradients on the reference, and how far rounding to `dtype` moves each of their elements."""
    with on_device("reference"):
        expected = gradients(subject.values, subject, cotangents)
        moved = [np.zeros(e.shape) for e in expected]
        rng = np.random.default_rng((seed, 7))
        half = float(np.finfo(dtype).eps) / 2
        for _ in range(_RUNS):
            values = [_shaken(rng, a, half) if i in subject.wrt else a for i, a in enumerate(subject.values)]
            weights = [_shaken(rng, w, half) for w in cotangents]
            with _rounding(rng, half):
                shaken = gradients(values, subject, weights)
            for m, e, g in zip(moved, expected, shaken):
                with np.errstate(all="ignore"):
                    np.maximum(m, np.nan_to_num(np.abs(e - g), posinf=0.0), out=m)
    return expected, moved


@contextmanager
def _rounding(rng: np.random.Generator, half: float) -> Iterator[None]:
    """Move every result of every primitive by half a unit in the last place, in this thread."""

    def shake(primitive: Primitive, inputs: Sequence[Any], outputs: Sequence[Tensor], params: dict) -> None:
        for y in outputs:
            a = y._data
            if a.dtype == np.float64 and a.flags.writeable and not (primitive.view or _shares(a, inputs)):
                a *= 1 + half * rng.choice([-1.0, 1.0], a.shape)

    state.observers.append(shake)
    try:
        yield
    finally:
        state.observers.remove(shake)


def _shares(a: np.ndarray, inputs: Sequence[Any]) -> bool:
    return any(t is not None and np.may_share_memory(a, t._data) for t in inputs)


def _shaken(rng: np.random.Generator, a: np.ndarray, half: float) -> np.ndarray:
    return np.asarray(a * (1 + half * rng.choice([-1.0, 1.0], a.shape)))
