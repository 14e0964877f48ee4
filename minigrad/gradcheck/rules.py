"""Each primitive that a function runs, on its own: which sees what the function's own sums hide, and names the rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.gradcheck import directional
from minigrad.gradcheck.result import FAILED, PASSED, POWER, Result
from minigrad.gradcheck.subject import Subject
from minigrad.primitive import Primitive, on_device
from minigrad.tape import no_grad, state
from minigrad.tensor import Tensor

_MOST = 24  # calls, each with its own dtypes and shapes


def rules(subject: Subject) -> Result:
    """The reverse rule of every primitive that was run, at its own inputs, with random cotangents, by Richardson.

    A normalization has gradient 0 through a sum, whatever its rule says; here its rule is asked directly.
    """
    calls = _calls(subject)
    worst = Result("rules", PASSED, detail="no primitive was run", seed=subject.seed)
    tolerance, signal, decided = 0.0, 0.0, False
    undecided: list[Result] = []
    for primitive, inputs, params in calls:
        found = _of_call(primitive, inputs, params, subject.seed)
        if found is None:
            continue
        if found.verdict == FAILED:
            return found.of(check="rules", detail=f"the reverse rule of {primitive.name} {found.detail}".strip())
        if found.verdict != PASSED:
            words = f"{primitive.name}: {found.detail or 'too little signal'}"
            undecided.append(found.of(check="rules", detail=words, reason=found.reason and words))
            continue
        if found.error >= worst.error:
            worst = found.of(check="rules", detail="")
        tolerance, signal = max(tolerance, found.tolerance), max(signal, found.signal)
        decided = True
    if undecided and not decided:
        return undecided[0]
    words = "; ".join([worst.detail] * bool(worst.detail) + [f"undecided: {u.detail}" for u in undecided])
    return worst.of(tolerance=min(tolerance, POWER * signal), signal=signal, detail=words)


def _calls(subject: Subject) -> list[tuple[Primitive, list[np.ndarray | None], dict]]:
    """The calls of differentiable primitives that `fn` makes, those alike only once."""
    found: dict[tuple, tuple[Primitive, list[np.ndarray | None], dict]] = {}

    def watch(primitive: Primitive, inputs: Sequence[Any], outputs: Sequence[Tensor], params: dict) -> None:
        floats = [t for t in inputs if t is not None and t.dtype == np.float64]
        if not (floats and primitive.is_differentiable and primitive.has_vjp and "reference" in primitive.devices):
            return
        shapes = tuple(None if t is None else t.shape for t in inputs)
        key = (primitive.name, shapes, tuple(params.items()))
        if key not in found and len(found) < _MOST:
            found[key] = primitive, [None if t is None else np.array(t._data) for t in inputs], dict(params)

    state.observers.append(watch)
    try:
        with no_grad():
            subject.fn(*[None if v is None else Tensor(v) for v in subject.values])
    finally:
        state.observers.remove(watch)
    return list(found.values())


def _of_call(primitive: Primitive, inputs: list[np.ndarray | None], params: dict, seed: int) -> Result | None:
    frozen = [i for i in range(len(inputs)) if primitive.input_name(i) in primitive.frozen]
    moving = [name not in primitive.frozen for name in primitive.outputs]
    if not all(moving):
        return None  # what its frozen values are elsewhere only its samples say

    def call(*args: Any) -> Any:
        return primitive(*args, **params)

    def reference(*args: Any) -> Any:
        with on_device("reference"):
            return primitive(*args, **params)

    finite = all(a is None or dtypes.kind(a.dtype) != "f" or np.isfinite(a).all() for a in inputs)
    if not finite or not any(a is not None and a.dtype == np.float64 and i not in frozen for i, a in enumerate(inputs)):
        return None
    own = Subject(call, inputs, seed=seed, truth=reference, constant=frozen)
    return directional.richardson(own) if any(o.requires_grad for o in own.outputs) else None
