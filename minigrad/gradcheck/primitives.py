"""`check_primitive`: everything that a primitive promises, on all its samples."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import dtypes, plugins
from minigrad.errors import MinigradError
from minigrad.gradcheck import kernels
from minigrad.gradcheck.function import check
from minigrad.gradcheck.parts import parts
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED, Report, Result
from minigrad.gradcheck.variations import absences, resized
from minigrad.primitive import Abstract, Primitive, Sample, on_device
from minigrad.tensor import Tensor, Variable

CHECKS = (
    "samples",
    "infer",
    "cpu float32",
    "cpu float64",
    "layouts",
    "sizes",
    "buffers",
    "threads",
    "invariances",
    "central differences",
    "Richardson",
    "parts",
    "adjoint",
    "complex step",
    "second order",
    "third order",
    "bad input",
)
_ALIKE = ("Richardson",)  # as central differences
# Roundings of the largest value: of cut samples little is left, and what is left may be what cancels.
_SLACK = 64.0


def check_primitive(primitive: str | Primitive, *, seed: int = 0, order: int = 2) -> Report:
    """Check a primitive on its samples: kernels, layouts, first and second derivatives, errors.

    The checks, of which `minigrad.testing` says more: ``samples``, whether they suffice; ``infer`` against what the
    reference returns; each kernel against the reference in float32 and float64, within a few roundings of values and
    inputs; the same bits for other memory ``layouts``, dirty ``buffers``, and any number of ``threads``; other
    ``sizes``, 0 and 1 among them; ``invariances``; the derivatives, as `check` does, with the reference as truth, and
    in ``parts``; bad samples get their named errors. The verdict of a check is its worst over the samples.

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
    for case in cases(p, seed):
        for result in case.run(order).results:
            outcomes.setdefault(result.check, []).append(result)
    results = [_worst(outcomes[name]) for name in sorted(outcomes, key=_rank)]
    return Report(p.name, results, time.perf_counter() - start)


@dataclass(frozen=True)
class Case:
    """A primitive and one of its samples, or none: then it is whether there are samples enough."""

    primitive: Primitive
    label: str
    sample: Sample | None
    seed: int = 0
    problem: Exception | None = None  # of the samples rule

    def run(self, order: int = 2) -> Report:
        """All checks of the case."""
        start = time.perf_counter()
        p, sample = self.primitive, self.sample
        found = [_samples(p, self.seed, self.problem)] if sample is None else _of_sample(p, sample, self.seed, order)
        where = self.label if sample is not None else ""
        report = Report(f"{p.name} ({self.label})")
        report.results = [r.of(sample=where, reason=self._reason(r)) for r in found]
        report.seconds = time.perf_counter() - start
        return report

    def _reason(self, result: Result) -> str:
        """Why a result may be inconclusive, from the sample: what it says of differences it says of all of them."""
        reasons = self.sample.undecided if self.sample else {}
        if result.verdict != INCONCLUSIVE or not reasons:
            return ""
        return reasons.get(result.check) or (reasons.get("central differences", "") if result.check in _ALIKE else "")


def cases(p: Primitive, seed: int = 0) -> list[Case]:
    """Everything there is to check about a primitive, case by case.

    First comes whether there are samples enough, then each sample, then samples without each combination of optional
    inputs that the samples themselves leave out.
    """
    try:
        samples = p.draw_samples(seed)
    except Exception as error:
        return [Case(p, "samples", None, seed, error)]
    found = [Case(p, "samples", None, seed)]
    found += [Case(p, f"{i} {s.note}".strip(), s, seed) for i, s in enumerate(samples)]
    if any(s.error is None for s in samples):
        found += [Case(p, label, s, seed) for label, s in absences(p, samples)]
    return found


def _rank(name: str) -> int:
    return CHECKS.index(name) if name in CHECKS else len(CHECKS)


def _worst(results: Sequence[Result]) -> Result:
    """The result that decides: a failure, else the largest error of those that saw anything."""
    failed = [r for r in results if r.verdict == FAILED]
    if failed:
        return max(failed, key=lambda r: r.error)
    undecided = [r for r in results if not r.settled]
    decided = [r for r in results if r.verdict == PASSED]
    return max(undecided or decided or results, key=lambda r: r.error)


def _samples(p: Primitive, seed: int, problem: Exception | None) -> Result:
    """Whether there are good samples, and among them some on which derivatives can be checked."""
    if problem is not None:
        return kernels.failed("samples", f"the samples rule raised {type(problem).__name__}: {problem}", seed)
    good = [s for s in p.draw_samples(seed) if s.error is None]
    if not good:
        return Result("samples", INCONCLUSIVE, detail="there is no sample to check on", seed=seed)
    if "reference" not in p.devices:
        return kernels.failed("samples", "there is no reference kernel to compare with", seed)
    smooth = [s.differentiable for s in good if has_derivative(p, s)]
    if smooth and not any(smooth):
        detail = "every sample sits on a kink, so that no derivative is checked"
        return Result("samples", INCONCLUSIVE, detail=detail, seed=seed)
    return Result("samples", PASSED, seed=seed)


def _devices(p: Primitive) -> Iterable[str]:
    """The devices on which kernels are checked. Every primitive owes one for the CPU."""
    return ("cpu",)


def _of_sample(p: Primitive, sample: Sample, seed: int, order: int) -> list[Result]:
    if sample.error is not None:
        return [_bad(p, sample, seed)]
    results: list[Result] = []
    if not p.mutates:
        _run_check(results, sample, seed, "infer", kernels.infer, p, sample, seed)
    for device in _devices(p):
        for t in (dtypes.float32, dtypes.float64):
            _run_check(results, sample, seed, f"{device} {t}", kernels.against_reference, p, sample, device, t, seed)
        if device in p.devices:
            for f in (kernels.layouts, _sizes, kernels.buffers, kernels.threads, kernels.invariances):
                _run_check(results, sample, seed, f.__name__.strip("_"), f, p, sample, device, seed)
    if has_derivative(p, sample):
        _run_check(results, sample, seed, "parts", parts, p, sample, seed)
        if sample.differentiable:
            _run_check(results, sample, seed, "central differences", _derivatives, p, sample, seed, order)
    return results


def _run_check(results: list[Result], sample: Sample, seed: int, name: str, check: Callable, *arguments: Any) -> None:
    """Add what a check finds. Whatever a rule raises is a finding, and the other checks still count."""
    try:
        found = check(*arguments)
    except Exception as error:
        shapes = [None if a is None else np.shape(a) for a in sample.inputs]
        words = f"raised {type(error).__name__}: {error}, for inputs {shapes} and {sample.params}"
        found = kernels.failed(name, words, seed)
    results.extend(found if isinstance(found, list) else [] if found is None else [found])


def _derivatives(p: Primitive, sample: Sample, seed: int, order: int) -> list[Result]:
    fn, options = as_function(p, sample)
    return check(fn, sample.inputs, order=order, seed=seed, name=p.name, **options).results


def as_function(p: Primitive, sample: Sample) -> tuple[Callable, dict[str, Any]]:
    """A primitive with a sample's params as a function of its inputs, and the options with which `check` takes it.

    The reference is the truth; frozen inputs are constants, and frozen outputs are left out.
    """
    moving = [name not in p.frozen for name in p.outputs]

    def unfrozen(outputs: Any) -> Any:
        if all(moving):
            return outputs
        left = tuple(y for y, free in zip(outputs, moving) if free)
        return left if len(left) > 1 else left[0]

    def call(*args: Any) -> Any:
        return unfrozen(p(*args, **sample.params))

    def reference(*args: Any) -> Any:
        with on_device("reference"):
            return call(*args)

    def held(*args: Any) -> Any:
        assert sample.held is not None
        return unfrozen(sample.held(*args))

    return call, {
        "analytic": p.analytic,
        "numeric": reference,
        "second_on": "reference",
        "constant": [i for i in range(len(sample.inputs)) if p.input_name(i) in p.frozen],
        "held": held if sample.held else None,
        "wide": [i for i in range(len(sample.inputs)) if p.input_name(i) in sample.wide],
    }


def has_derivative(p: Primitive, sample: Sample) -> bool:
    """Whether a float that may move goes in, and one comes out."""
    floats = [a for i, a in enumerate(sample.inputs) if kernels.is_float(a) and p.input_name(i) not in p.frozen]
    if not (p.is_differentiable and floats):
        return False
    outputs = p.abstract(
        *[None if a is None else Abstract(np.shape(a), np.asarray(a).dtype) for a in sample.inputs], **sample.params
    )
    return any(dtypes.is_differentiable(y.dtype) for y, name in zip(outputs, p.outputs) if name not in p.frozen)


def _sizes(p: Primitive, sample: Sample, device: str, seed: int) -> Result | None:
    """The sample with axes cut to lengths 0 and 1, where the primitive takes that: kernels, shapes of derivatives."""
    seen = False
    for label, made in resized(p, sample):
        try:
            kernels.run(p, kernels.cast(p, made, dtypes.float64), made.params, device)
        except MinigradError:
            continue  # refused for its values
        except Exception as error:
            return kernels.failed("sizes", f"raised {type(error).__name__}: {error}, with {label}", seed)
        seen = True
        results: list[Result] = []
        if not p.mutates:
            _run_check(results, made, seed, "infer", kernels.infer, p, made, seed)
        _run_check(
            results, made, seed, "values", kernels.against_reference, p, made, device, dtypes.float64, seed, _SLACK
        )
        if has_derivative(p, made):
            _run_check(results, made, seed, "parts", parts, p, made, seed)
        for result in results:
            if result.verdict == FAILED:
                words = f"{result.check}: {result.detail or 'differs from the reference'}, with {label}"
                return result.of(check="sizes", detail=words)
    return Result("sizes", PASSED, seed=seed) if seen else None


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
