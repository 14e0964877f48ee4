"""Checks of derivative rules one argument at a time: absent cotangents and tangents, `needs`, layouts, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.gradcheck import kernels
from minigrad.gradcheck.repeat import LAYOUTS, spread_along
from minigrad.gradcheck.result import FAILED, PASSED, Result, compare
from minigrad.gradcheck.subject import zero_mean
from minigrad.primitive import Primitive, Sample, on_device
from minigrad.tape import Node, no_grad
from minigrad.tensor import Tensor

#: Between two ways to one derivative, of the largest value: what is left out or taken twice is much more.
_TOLERANCE = 1e-9


class _Call:
    """One call of a primitive, whose rules are asked directly, as backward and forward passes ask them."""

    def __init__(self, p: Primitive, sample: Sample, dtype: np.dtype, seed: int):
        self.p, self.params = p, sample.params
        rng = np.random.default_rng((seed, 2))
        self.inputs: list[Any] = [None if a is None else Tensor(a) for a in kernels.cast(p, sample, dtype)]
        outputs = p(*self.inputs, **self.params)
        self.outputs: tuple[Tensor, ...] = outputs if isinstance(outputs, tuple) else (outputs,)
        self.wrt = [
            i for i, t in enumerate(self.inputs) if t is not None and dtypes.kind(t.dtype) == "f" and self.free(i)
        ]
        self.from_outputs = [
            k for k, y in enumerate(self.outputs) if dtypes.kind(y.dtype) == "f" and self.free_output(k)
        ]
        self.cotangents = {k: _random(rng, self.outputs[k]) for k in self.from_outputs}
        self.tangents = {i: _random(rng, self.inputs[i]) for i in self.wrt}
        shapes = tuple(None if t is None else t.shape for t in self.inputs)
        saved = p.kept((*self.inputs, *[y._data for y in self.outputs], shapes))
        self.node = Node(p, self.params, (), (), len(self.outputs), saved, ())

    def free(self, i: int) -> bool:
        return self.p.input_name(i) not in self.p.frozen

    def free_output(self, k: int) -> bool:
        return self.p.outputs[k] not in self.p.frozen

    def pull(self, cotangents: dict[int, np.ndarray], wrt: Sequence[int]) -> list[Tensor | None]:
        """The cotangents of the inputs in `wrt`; absent outputs' are None."""
        cts = [Tensor(cotangents[k]) if k in cotangents else None for k in range(len(self.outputs))]
        needs = tuple(i in wrt for i in range(len(self.inputs)))
        found = self.node.pull_back(cts, needs)
        return [found[i] for i in wrt]

    def push(self, tangents: dict[int, np.ndarray]) -> list[Tensor | None]:
        """The tangents of the outputs; absent inputs' are None."""
        ts = [Tensor(tangents[i]) if i in tangents else None for i in range(len(self.inputs))]
        found = self.p.push_forward(ts, self.inputs, self.outputs, self.params)
        return [found[k] for k in self.from_outputs]


def parts(p: Primitive, sample: Sample, seed: int) -> Result:
    """Each cotangent, each needed input and each tangent alone gives its part of what all together give.

    Cotangents in other memory layouts, with strides of 0 among them, give what they give in order, and float32 values
    have float32 derivatives of their shapes.
    """
    with no_grad(), np.errstate(all="ignore"):
        if problem := _kinds(p, sample, seed):
            return kernels.failed("parts", problem, seed)
        if not sample.differentiable:
            return Result("parts", PASSED, seed=seed)
        call = _Call(p, sample, dtypes.float64, seed)
        results = [_of_vjp(call, seed)] if p.has_vjp else []
        if p.has_jvp:
            results.append(_of_jvp(call, seed))
    return max(results, key=lambda r: (r.verdict == FAILED, r.error), default=Result("parts", PASSED, seed=seed))


def _of_vjp(call: _Call, seed: int) -> Result:
    names = [call.p.input_name(i) for i in call.wrt]
    whole = _arrays(call.pull(call.cotangents, call.wrt), [call.inputs[i] for i in call.wrt])
    sums = [np.zeros_like(g) for g in whole]
    sizes = [np.abs(g) for g in whole]
    for k, ct in call.cotangents.items():
        for n, i in enumerate(call.wrt):
            (part,) = _arrays(call.pull({k: ct}, [i]), [call.inputs[i]])
            sums[n] = sums[n] + part
            sizes[n] = sizes[n] + np.abs(part)
    worst = _nearly("each cotangent and each needed input alone", names, sums, whole, sizes, seed)
    for label, change in {**LAYOUTS, "0-stride": lambda a: spread_along(a, 0)}.items():
        moved = {k: change(ct) for k, ct in call.cotangents.items()}
        plain = {k: np.array(ct, order="C") for k, ct in moved.items()}
        got, want = (_arrays(call.pull(cts, call.wrt), [call.inputs[i] for i in call.wrt]) for cts in (moved, plain))
        result = _nearly(f"{label} cotangents", names, got, want, [np.abs(g) for g in want], seed)
        if worst.verdict == PASSED and result.verdict == FAILED:
            worst = result
    return worst


def _of_jvp(call: _Call, seed: int) -> Result:
    outputs = [call.outputs[k] for k in call.from_outputs]
    whole = _arrays(call.push(call.tangents), outputs)
    sums = [np.zeros_like(y) for y in whole]
    sizes = [np.abs(y) for y in whole]
    for i, t in call.tangents.items():
        for n, part in enumerate(_arrays(call.push({i: t}), outputs)):
            sums[n] = sums[n] + part
            sizes[n] = sizes[n] + np.abs(part)
    names = [call.p.outputs[k] for k in call.from_outputs]
    return _nearly("each tangent alone", names, sums, whole, sizes, seed)


def _kinds(p: Primitive, sample: Sample, seed: int) -> str:
    """What is wrong with the shapes and dtypes of derivatives, by the rules on the reference."""
    with on_device("reference"):
        call = _Call(p, sample, dtypes.float32, seed)
        checks: list[tuple[str, list, list]] = []
        if p.has_vjp:
            like = [call.inputs[i] for i in call.wrt]
            checks.append(("the cotangent of", [p.input_name(i) for i in call.wrt], like))
            found = [call.pull(call.cotangents, call.wrt)]
        else:
            found = []
        if p.has_jvp:
            checks.append(
                (
                    "the tangent of",
                    [p.outputs[k] for k in call.from_outputs],
                    [call.outputs[k] for k in call.from_outputs],
                )
            )
            found.append(call.push(call.tangents))
    for (words, names, like), values in zip(checks, found):
        for name, want, got in zip(names, like, values):
            if got is not None and (got.shape, got.dtype) != (want.shape, want.dtype):
                return f"{words} {name} is {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    return ""


def _nearly(what: str, names: list[str], got: list, want: list, sizes: list[np.ndarray], seed: int) -> Result:
    largest = max((float(np.max(s, initial=0.0)) for s in sizes), default=0.0)
    bounds = [np.full(w.shape, _TOLERANCE * largest + 1e-300) for w in want]
    result = compare("parts", names, got, want, bounds, scale=1.0, seed=seed)
    return result.of(detail=f"from {what}") if result.verdict == FAILED else result


def _arrays(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[np.ndarray]:
    return [np.zeros(x.shape, x.dtype) if t is None else t.numpy() for t, x in zip(tensors, like)]


def _random(rng: np.random.Generator, like: Tensor) -> np.ndarray:
    return zero_mean(rng, like.shape).astype(like.dtype)
