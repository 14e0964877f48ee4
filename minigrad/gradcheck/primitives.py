"""`check_primitive`: everything that a primitive promises, on all its samples."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import dtypes, plugins
from minigrad.errors import MissingRuleError
from minigrad.gradcheck.function import check
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED, Report, Result, compare
from minigrad.primitive import Abstract, Primitive, Sample, on_device
from minigrad.tensor import Tensor, Variable

CHECKS = (
    "infer",
    "cpu float32",
    "cpu float64",
    "layouts",
    "central differences",
    "adjoint",
    "complex step",
    "second order",
    "bad input",
)
_PERTURBATIONS = 4


def check_primitive(primitive: str | Primitive, *, seed: int = 0, order: int = 2) -> Report:
    """Check a primitive on its samples: kernels, layouts, first and second derivatives, errors.

    Checks: ``infer`` against what the reference returns; each kernel against the reference in float32 and float64,
    within a few roundings of values and inputs; the same bits for transposed and reversed inputs; the derivatives,
    as `check` does, with the reference as truth; bad samples get their named errors. The verdict of a check is its
    worst over the samples.

    Raises:
        ArgumentError: if there is no such primitive.

    Example:
        >>> import minigrad as mg
        >>> mg.gradcheck.check_primitive("mg::exp").passed
        True
    """
    p = plugins.find(primitive) if isinstance(primitive, str) else primitive
    start = time.perf_counter()
    outcomes: dict[str, list[Result]] = {}
    good = [s for s in p.draw_samples(seed) if s.error is None]
    if not good:
        outcomes["samples"] = [Result("samples", INCONCLUSIVE, detail="there is no sample to check on", seed=seed)]
    for sample in p.draw_samples(seed):
        try:
            found = _of_sample(p, sample, seed, order)
        except Exception as error:  # whatever a rule raises is a finding, and the other samples still count
            shapes = [None if a is None else np.shape(a) for a in sample.inputs]
            detail = f"{type(error).__name__}: {error}, for inputs {shapes} and {sample.params}"
            found = [Result("runs", FAILED, np.inf, detail=detail, seed=seed)]
        for result in found:
            outcomes.setdefault(result.check, []).append(result)
    results = [_worst(outcomes[name]) for name in sorted(outcomes, key=_rank)]
    return Report(p.name, results, time.perf_counter() - start)


def _rank(name: str) -> int:
    return CHECKS.index(name) if name in CHECKS else len(CHECKS)


def _worst(results: Sequence[Result]) -> Result:
    """The result that decides: a failure, else the largest error of those that saw anything."""
    failed = [r for r in results if r.verdict == FAILED]
    if failed:
        return max(failed, key=lambda r: r.error)
    undecided = [r for r in results if r.verdict == INCONCLUSIVE]
    decided = [r for r in results if r.verdict == PASSED]
    return max(undecided or decided, key=lambda r: r.error)


def _of_sample(p: Primitive, sample: Sample, seed: int, order: int) -> list[Result]:
    if sample.error is not None:
        return [_bad(p, sample, seed)]
    if p.mutates:
        return [_in_place(p, sample, dtype, seed) for dtype in (dtypes.float32, dtypes.float64)]
    results = [_infer(p, sample, seed)]
    for dtype in (dtypes.float32, dtypes.float64):
        results += _kernel(p, sample, dtype, seed)
    results.append(_layouts(p, sample, seed))
    floats = [a for i, a in enumerate(sample.inputs) if _is_float(a) and p.input_name(i) not in p.frozen]
    if p.is_differentiable and sample.differentiable and floats and _has_float_output(p, sample):
        results += check(
            lambda *args: p(*args, **sample.params),
            sample.inputs,
            order=order,
            seed=seed,
            analytic=p.analytic,
            name=p.name,
            numeric=_reference_of(p, sample),
            second_on="reference",
        ).results
    return results


def _reference_of(p: Primitive, sample: Sample) -> Any:
    def numeric(*args: Any) -> Any:
        with on_device("reference"):
            return p(*args, **sample.params)

    return numeric


def _infer(p: Primitive, sample: Sample, seed: int) -> Result:
    inputs = [None if a is None else np.asarray(a) for a in sample.inputs]
    promised = p.abstract(*[None if a is None else Abstract(a.shape, a.dtype) for a in inputs], **sample.params)
    got = p.reference(*inputs, **sample.params)
    for name, want, have in zip(p.outputs, promised, got):
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            detail = f"{name} is {have.dtype}{have.shape} by the reference, infer says {want.dtype}{want.shape}"
            return Result("infer", FAILED, np.inf, detail=detail, seed=seed)
    if len(promised) != len(got) or len(got) != len(p.outputs):
        detail = f"{len(got)} outputs by the reference, {len(promised)} by infer, {len(p.outputs)} declared"
        return Result("infer", FAILED, np.inf, detail=detail, seed=seed)
    return Result("infer", PASSED, seed=seed)


def _kernel(p: Primitive, sample: Sample, dtype: np.dtype, seed: int) -> list[Result]:
    name = f"cpu {dtype}"
    if "cpu" not in p.devices:
        return [Result(name, FAILED, np.inf, detail="there is no kernel for the CPU", seed=seed)]
    inputs = _cast(p, sample, dtype)
    before = [None if a is None else a.copy() for a in inputs]
    got = _run(p, inputs, sample.params)
    for i, (a, b) in enumerate(zip(inputs, before)):
        if a is not None and b is not None and a.tobytes() != b.tobytes():
            return [Result(name, FAILED, np.inf, detail=f"the kernel changed its input {p.input_name(i)}", seed=seed)]
    expected, bounds = _allowed(p, inputs, sample, dtype, seed)
    again = _run(p, inputs, sample.params)
    if any(a.tobytes() != b.tobytes() for a, b in zip(got, again)):
        return [Result(name, FAILED, np.inf, detail="a second run gave other bits", seed=seed)]
    return [compare(name, list(p.outputs), got, expected, bounds, scale=1.0, seed=seed)]


def _allowed(
    p: Primitive, inputs: list, sample: Sample, dtype: np.dtype, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The reference in float64 (or wider), and how far rounding may take a kernel from it.

    Allowed are a few units in the last place of the result, and what the result moves when each input is moved by
    rounding: a kernel that rounds its inputs and its results is as good as one can ask of arithmetic in `dtype`.
    """
    rng = np.random.default_rng(seed)
    wide = np.dtype(np.longdouble) if dtype == dtypes.float64 else dtypes.float64
    values = [a.astype(wide) if _is_float(a) else a for a in inputs]
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        expected = [np.asarray(y) for y in p.reference(*values, **sample.params)]
        moved = [np.zeros(y.shape) for y in expected]
        for _ in range(0 if dtype.name in sample.exact else _PERTURBATIONS):
            shaken = [
                np.asarray(a * (1 + float(np.finfo(given.dtype).eps) * rng.choice([-1.0, 1.0], a.shape)))
                if _is_float(a)
                else a
                for a, given in zip(values, inputs)
            ]
            for m, y, z in zip(moved, expected, p.reference(*shaken, **sample.params)):
                if y.dtype.kind == "f":
                    np.maximum(m, np.nan_to_num(np.abs(y - z).astype(np.float64)), out=m)
    tiny = float(np.finfo(dtype).tiny)
    sizes = [_size(y) for y in expected]
    bounds = []
    for y, m, size in zip(expected, moved, sizes):
        if y.dtype.kind != "f":
            bounds.append(np.zeros(y.shape))
            continue
        own = max(eps, float(np.finfo(y.dtype).eps))
        # Where a result is 0 by cancellation, the rounding of its terms is left; the other results tell their size.
        floor = own * ((1.0 if dtype.name in sample.exact else 1e-3) * size if size else max(sizes))
        bounds.append(np.asarray(8 * own * np.nan_to_num(np.abs(y).astype(float)) + 8 * m + floor + tiny))
    return expected, bounds


def _size(y: np.ndarray) -> float:
    """The largest finite value of a float result."""
    return float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)) if y.dtype.kind == "f" else 0.0


def _layouts(p: Primitive, sample: Sample, seed: int) -> Result:
    """The same bits whatever the memory layout of the inputs."""
    inputs = _cast(p, sample, dtypes.float32)
    plain = _run(p, inputs, sample.params)
    for label, change in (("transposed", _transposed), ("reversed", _reversed), ("spaced", _spaced)):
        got = _run(p, [None if a is None else change(a) for a in inputs], sample.params)
        for name, a, b in zip(p.outputs, got, plain):
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                return Result("layouts", FAILED, np.inf, detail=f"{name} differs for {label} inputs", seed=seed)
    return Result("layouts", PASSED, seed=seed)


def _in_place(p: Primitive, sample: Sample, dtype: np.dtype, seed: int) -> Result:
    name = f"cpu {dtype}"
    inputs = _cast(p, sample, dtype)
    at = p.mutated_inputs(len(inputs))
    tensors: list[Any] = [None if a is None else Tensor(np.array(a)) for a in inputs]
    for i in at:
        tensors[i] = Variable(inputs[i], trainable=False)
    p(*tensors, **sample.params)
    expected, bounds = _allowed(p, inputs, sample, dtype, seed)
    names = [p.input_name(i) for i in at]
    return compare(name, names, [tensors[i].numpy() for i in at], expected, bounds, scale=1.0, seed=seed)


def _bad(p: Primitive, sample: Sample, seed: int) -> Result:
    assert sample.error is not None
    try:
        tensors: list[Any] = [None if a is None else Tensor(np.asarray(a)) for a in sample.inputs]
        for i in p.mutated_inputs(len(tensors)):
            tensors[i] = Variable(sample.inputs[i], trainable=False)
        p(*tensors, **sample.params)
    except sample.error as error:
        if re.search(sample.match, str(error)):
            return Result("bad input", PASSED, seed=seed)
        detail = f"the message {str(error)!r} does not match {sample.match!r}"
    except Exception as error:
        detail = f"raised {type(error).__name__}: {error}, expected {sample.error.__name__}"
    else:
        detail = f"was accepted, expected {sample.error.__name__}"
    return Result("bad input", FAILED, np.inf, detail=f"{sample.note or 'a bad sample'} {detail}", seed=seed)


def _run(p: Primitive, inputs: Sequence[Any], params: dict) -> list[np.ndarray]:
    result = p(*[None if a is None else Tensor(a) for a in inputs], **params)
    return [np.array(t._data) for t in (result if isinstance(result, tuple) else (result,))]


def _has_float_output(p: Primitive, sample: Sample) -> bool:
    try:
        outputs = p.reference(*[None if a is None else np.asarray(a) for a in sample.inputs], **sample.params)
    except MissingRuleError:
        return False
    return any(dtypes.is_differentiable(y.dtype) for y in outputs)


def _cast(p: Primitive, sample: Sample, dtype: np.dtype) -> list:
    return [
        a
        if a is None
        else np.asarray(a).astype(dtype)
        if _is_float(a) and p.input_name(i) not in sample.wide
        else np.asarray(a)
        for i, a in enumerate(sample.inputs)
    ]


def _is_float(a: Any) -> bool:
    return a is not None and np.asarray(a).dtype.kind == "f"


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
