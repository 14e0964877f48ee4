"""Bits: the same from a second run, and from arguments and cotangents that lie otherwise in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import tape
from minigrad.gradcheck.result import FAILED, PASSED, Result
from minigrad.gradcheck.subject import EPS, Subject
from minigrad.tensor import Leaf, Tensor


def repeatability(subject: Subject) -> Result:
    """Values and gradients have the same bits when they are computed again, after others at another point."""
    first = _run(subject, subject.values, subject.cotangents)
    _run(subject, [a if i not in subject.wrt else np.asarray(a * 1.25 + 0.5) for i, a in enumerate(subject.values)],
         subject.cotangents)  # fmt: skip
    again = _run(subject, subject.values, subject.cotangents)
    for name, a, b in zip(_names(subject), first, again):
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            at = _worst(a, b)
            words = f"{name} has other bits from a second run"
            return Result("repeatability", FAILED, np.inf, 0.0, _size(a), at[0], at[1], at[2], words, seed=subject.seed)
    return Result("repeatability", PASSED, 0.0, 0.0, max(map(_size, first), default=0.0), seed=subject.seed)


def layouts(subject: Subject) -> Result:
    """Values and gradients are the same for arguments and cotangents with other strides, to a few roundings."""
    plain = _run(subject, subject.values, subject.cotangents)
    largest, worst = max(map(_size, plain), default=0.0), 0.0
    for label, change in LAYOUTS.items():
        moved = [change(a) if i in subject.wrt else a for i, a in enumerate(subject.values)]
        found = _run(subject, moved, [change(w) for w in subject.cotangents])
        for name, a, b in zip(_names(subject), found, plain):
            bound = 256 * EPS * max(_size(b), EPS * largest)
            if a.shape != b.shape or not np.all((np.abs(a - b) <= bound) | (a == b) | (np.isnan(a) & np.isnan(b))):
                place, got, want = _worst(b, a)
                words = f"{name} differs for {label} arguments and cotangents"
                return Result("layouts", FAILED, np.inf, bound, largest, place, want, got, words, seed=subject.seed)
            worst = max(worst, float(np.max(np.abs(a - b), initial=0.0)) / bound if bound else 0.0)
    return Result("layouts", PASSED, worst, 256 * EPS * largest, largest, seed=subject.seed)


def spread_along(a: np.ndarray, axis: int) -> np.ndarray:
    """The first slice along an axis in place of all, with stride 0. Writable: read-only memory is another type."""
    if not a.ndim or not a.size:
        return a
    first = np.take(a, [0], axis)
    strides = list(first.strides)
    strides[axis] = 0
    return np.lib.stride_tricks.as_strided(first, a.shape, strides)


def _transposed(a: np.ndarray) -> np.ndarray:
    return np.asarray(a.T.copy().T)


def _reversed(a: np.ndarray) -> np.ndarray:
    every = (slice(None, None, -1),) * a.ndim
    return np.asarray(np.asarray(a[every]).copy()[every])


def _spaced(a: np.ndarray) -> np.ndarray:
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    every = (slice(None, None, 2),) * a.ndim
    wide[every] = a
    return np.asarray(wide[every])


#: Changes of memory layout that keep the values.
LAYOUTS = {"transposed": _transposed, "reversed": _reversed, "spaced": _spaced}


def _run(subject: Subject, values: Sequence[Any], cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values and gradients, computed anew, from arguments that lie in memory as they are given."""
    inputs: list[Any] = [None if a is None else Tensor(a) for a in values]
    for i in subject.wrt:
        inputs[i] = Tensor(values[i], Leaf(values[i].shape, values[i].dtype))
    with tape.enabled():
        result = subject.fn(*inputs)
        outputs = result if isinstance(result, tuple) else (result,)
        leaves = [inputs[i] for i in subject.wrt]
        found = tape.backward(outputs, [Tensor(w) for w in cotangents], leaves, create_graph=False)
    gradients = [np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(found, leaves)]
    return [np.array(a) for a in (*(y.numpy() for y in outputs), *gradients)]


def _names(subject: Subject) -> list[str]:
    return [*(f"result {k}" for k in range(len(subject.outputs))), *(f"the gradient of {n}" for n in subject.names)]


def _size(a: np.ndarray) -> float:
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)) if a.size else 0.0


def _worst(a: np.ndarray, b: np.ndarray) -> tuple[str, float, float]:
    """The place where two arrays differ most, and both values."""
    if a.shape != b.shape or not a.size:
        return "", 0.0, 0.0
    with np.errstate(all="ignore"):
        gap = np.nan_to_num(np.abs(np.asarray(a, float) - b), nan=np.inf)
    at = np.unravel_index(int(np.argmax(gap)), a.shape)
    return f"[{', '.join(map(str, at))}]", float(a[at]), float(b[at])
