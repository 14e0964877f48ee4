"""What is measured of one primitive: its checks, errors against step and size, condition, roundings, and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from minigrad import autodiff, plugins
from minigrad.gradcheck.differences import SCHEMES, derivative
from minigrad.gradcheck.function import CHECKS, USUAL, check
from minigrad.gradcheck.primitives import as_function, check_primitive, has_derivative
from minigrad.gradcheck.result import Report, Result
from minigrad.gradcheck.rounding import gradients, truth_and_rounding
from minigrad.gradcheck.subject import Subject, as_array_function, is_float
from minigrad.gradcheck.variations import grown
from minigrad.gradcheck.weighted import Weighted
from minigrad.primitive import Abstract, Primitive, Sample, on_device
from minigrad.tensor import Tensor

_SMALL, _LARGE, _MOST = 4096, 65536, 12  # elements of a sample for curves and for roundings; samples of a primitive
_CANCELLED = 64.0  # roundings of the largest gradient: below, another one is the rest of terms that cancel
_SHORTEST = 3  # sizes at least, or nothing is seen of growth
_STEPS = 2.0 ** -np.arange(2.0, 44.0)
_ALSO = (*(c for c in CHECKS if c not in (*USUAL, "rules", "layouts", "another point")), "third order")
DTYPES = ("float64", "float32")


def measure(name: str, seed: int = 0) -> dict[str, Any]:
    """Everything about one primitive, as JSON holds it. Times are of this process alone."""
    p = plugins.find(name)
    start = time.perf_counter()
    found: dict[str, Any] = {"name": p.name, "seed": seed}
    battery = check_primitive(p, seed=seed)
    results = list(battery.results)
    smooth = _smooth(p, seed)
    if smooth:
        sample, *_ = smooth = sorted(smooth, key=lambda s: abs(_elements(s) - 24))
        measures: dict[str, Callable[[], Any]] = {
            "more checks": lambda: results.extend(_more_checks(p, sample, seed)),
            "curves": lambda: _curves(p, sample, seed),
            "condition": lambda: _condition(_subject(p, sample, seed)),
            "second_order": lambda: _second_order(p, sample, seed),
            "time": lambda: _times(p, sample, seed),
            "roundings": lambda: [_roundings(p, s, seed) for s in smooth[:_MOST]],
            "sizes": lambda: _sizes(p, smooth, seed),
        }
        missing = {}
        for key, take in measures.items():
            try:
                found[key] = take()
            except Exception as error:  # whatever a rule raises belongs into the report
                missing[key] = f"{type(error).__name__}: {error}"
        found.pop("more checks", None)
        found["not_measured"] = missing
    found["checks"] = {r.check: as_json(r) for r in results}
    found["verdict"] = Report(p.name, results).verdict
    found["seconds"] = time.perf_counter() - start
    return found


def as_json(result: Result) -> dict[str, Any]:
    """A result as JSON holds it; `settled` tells whether it holds anything up."""
    return {**vars(result), "settled": result.settled}


def _smooth(p: Primitive, seed: int) -> list[Sample]:
    """The samples on which derivatives can be taken."""
    try:
        samples = p.draw_samples(seed)
    except Exception:
        return []  # the battery has said so
    if not p.has_vjp:
        return []
    usable = [s for s in samples if s.error is None and s.differentiable and not s.undecided]
    return [s for s in usable if 0 < _elements(s) <= _LARGE and has_derivative(p, s) and _results(p, s)]


def _elements(sample: Sample) -> int:
    return sum(np.size(a) for a in sample.inputs if a is not None and np.asarray(a).dtype.kind == "f")


def _results(p: Primitive, sample: Sample) -> int:
    """The elements of what comes out of a sample."""
    inputs = [None if a is None else Abstract(np.shape(a), np.asarray(a).dtype) for a in sample.inputs]
    return sum(prod(y.shape) for y in p.abstract(*inputs, **sample.params))


def _subject(p: Primitive, sample: Sample, seed: int) -> Subject:
    fn, options = as_function(p, sample)
    options["truth"] = options.pop("numeric")
    return Subject(fn, sample.inputs, seed=seed, **options)


def _more_checks(p: Primitive, sample: Sample, seed: int) -> list[Result]:
    """The checks that the battery leaves out, on one sample."""
    fn, options = as_function(p, sample)
    return check(fn, sample.inputs, order=3, seed=seed, checks=_ALSO, **options).results


def _curves(p: Primitive, sample: Sample, seed: int) -> dict[str, Any] | None:
    """The error of each difference formula against its step, in both dtypes, along a random direction."""
    if _elements(sample) > _SMALL:
        return None
    subject = _subject(p, sample, seed)
    rng = np.random.default_rng((seed, 11))
    directions = {i: subject.direction(i, rng) for i in subject.wrt}
    found: dict[str, Any] = {"steps": _STEPS.tolist(), "sample": sample.note}
    for dtype in DTYPES:
        values = subject.narrowed(dtype)
        ways = {i: u.astype(values[i].dtype) for i, u in directions.items()}
        # The truth at the numbers that the dtype holds.
        at = subject.at([a.astype(np.float64) if is_float(a) else a for a in values])
        with on_device("reference"):
            pulled = gradients(at.values, at, at.cotangents)
        true = float(sum(np.sum(g * ways[i].astype(np.float64)) for i, g in zip(at.wrt, pulled)))
        size = float(sum(np.sum(np.abs(g * ways[i])) for i, g in zip(at.wrt, pulled)))
        if not size > 0:
            continue
        cotangents = [w.astype(dtype) for w in at.cotangents]
        phi = Weighted(as_array_function(subject.truth), values, at.wrt, cotangents, seed, float(np.finfo(dtype).eps))
        along = phi.along(ways)
        eps = float(np.finfo(dtype).eps)
        found[dtype] = {scheme: _curve(along, scheme, true, size, phi.noise, eps) for scheme in SCHEMES}
    return found


def _curve(along: Callable, scheme: str, true: float, size: float, noise: float, eps: float) -> dict[str, Any]:
    def line(t: float) -> np.float64:
        return np.float64(along(t))  # or dividing by the step would round once more

    with np.errstate(all="ignore"):
        errors = [abs(float(SCHEMES[scheme](line, h)) - true) / size for h in _STEPS]
    best = int(np.nanargmin(errors)) if np.isfinite(errors).any() else 0
    estimate = derivative(line, scheme, noise=noise, eps=eps)
    error = abs(estimate.value - true) / size
    return {
        "errors": [e if np.isfinite(e) else None for e in errors],
        "best_step": float(_STEPS[best]),
        "best_error": errors[best],
        "predicted_step": estimate.step,
        "predicted_error": error,
        "bound": estimate.bound / size,
    }


def _condition(subject: Subject) -> dict[str, float]:
    """By how much relative changes of the inputs are enlarged: in φ = Σ⟨w, f⟩, and, as measured, in its gradient."""
    with on_device("reference"):
        pulled = gradients(subject.values, subject, subject.cotangents)
        enlarged = sum(float(np.sum(np.abs(subject.values[i] * g))) for i, g in zip(subject.wrt, pulled))
        delta, rng, moved, size = 1e-7, np.random.default_rng((subject.seed, 12)), 0.0, 0.0
        for _ in range(4):
            values = [
                np.asarray(a * (1 + delta * rng.choice([-1.0, 1.0], a.shape))) if i in subject.wrt else a
                for i, a in enumerate(subject.values)
            ]
            for g, h in zip(pulled, gradients(values, subject, subject.cotangents)):
                moved = max(moved, float(np.max(np.abs(g - h), initial=0.0)))
                size = max(size, float(np.max(np.abs(g), initial=0.0)))
    return {
        "value": enlarged / subject.phi.size if subject.phi.size else 0.0,
        "gradient": moved / size / delta if size else 0.0,
    }


def _roundings(p: Primitive, sample: Sample, seed: int) -> dict[str, Any]:
    """The error of the reverse rule by the compiled kernels in units in the last place, against a longer dtype.

    `largest` takes the unit of the largest element of a gradient, `element` that of each element that is not lost in
    the largest's rounding. `explained` is what rounding of inputs and results brings at random.
    """
    found: dict[str, Any] = {"elements": _elements(sample), "note": sample.note}
    subject = _subject(p, sample, seed)
    for dtype in DTYPES:
        found[dtype] = _ulps(subject, dtype, seed)
    return found


def _sizes(p: Primitive, samples: list[Sample], seed: int) -> list[dict[str, Any]]:
    """The roundings as an axis of a sample grows, each size with the length of that axis: of the first that does."""
    for sample in samples:
        longer = grown(p, sample, _LARGE, seed)
        if len(longer) > _SHORTEST and sample.held is None:  # what is held constant is known for its own values alone
            return [{"length": n, **_roundings(p, s, seed)} for n, s in longer]
    return []


def _ulps(subject: Subject, dtype: str, seed: int, device: str = "cpu") -> dict[str, float]:
    kind = np.dtype(dtype)
    narrow = subject.narrowed(kind)
    cotangents = [w.astype(kind) for w in subject.cotangents]
    with on_device(device):
        got = gradients(narrow, subject, cotangents)
    longer = np.float64 if kind == np.float32 else np.longdouble
    wide = [a.astype(longer) if is_float(a) else a for a in narrow]
    with on_device("reference"):
        true = gradients(wide, subject, [w.astype(longer) for w in cotangents])
    overall = max((float(np.max(np.abs(t[np.isfinite(t)]), initial=0.0)) for t in true), default=0.0)
    explained = 0.0
    if kind == np.float32:
        _, moved = truth_and_rounding(subject.at(wide), [w.astype(np.float64) for w in cotangents], kind, seed)
        if max((float(np.max(m, initial=0.0)) for m in moved), default=0.0) > overall:
            overall = 0.0  # rounding moves it by more than there is of it: it is 0
        explained = max((_in_units(m, t, kind, overall)[0] for m, t in zip(moved, true)), default=0.0)
    pairs = [_in_units(g.astype(longer) - t, t, kind, overall) for g, t in zip(got, true)]
    return {
        "largest": max((a for a, _ in pairs), default=0.0),
        "element": max((b for _, b in pairs), default=0.0),
        "explained": explained,
    }


def _in_units(error: np.ndarray, true: np.ndarray, dtype: np.dtype, overall: float) -> tuple[float, float]:
    """The largest error in units in the last place of the largest value, and of each element's own.

    Where all of `true` is 0 but for rounding, the largest value is the `overall` one, of all gradients. An overall
    value of 0 has no units.
    """
    error, true = np.abs(error).astype(np.float64), np.abs(true).astype(np.float64)
    usable = np.isfinite(error) & np.isfinite(true)
    if not usable.any() or not overall > 0:
        return 0.0, 0.0
    largest = float(true[usable].max())
    if largest < _CANCELLED * np.finfo(dtype).eps * overall:
        largest = overall
    seen = usable & (true > 1e-3 * largest)
    with np.errstate(over="ignore"):
        units = np.spacing(true.astype(dtype)).astype(np.float64)
        unit = float(np.spacing(dtype.type(largest)))
    return float(error[usable].max() / unit), float(np.max(error[seen] / units[seen], initial=0.0))


def _second_order(p: Primitive, sample: Sample, seed: int) -> dict[str, Any]:
    """The second order by the rules in float64, against differences, and in float32, in units in the last place."""
    if _elements(sample) > _SMALL:
        return {}
    with on_device("reference"):
        derived = _subject(p, sample, seed).derived()
        if not any(o.requires_grad for o in derived.outputs):
            return {}  # it is 0 by the rules
        return _ulps(derived, "float32", seed, "reference")


def _times(p: Primitive, sample: Sample, seed: int) -> dict[str, float]:
    """Seconds of one gradient by the compiled kernels, and of the usual checks of the first order and both."""
    fn, options = as_function(p, sample)
    subject = _subject(p, sample, seed)
    weights = tuple(Tensor(w) for w in subject.cotangents)
    inputs = [Tensor(subject.values[i]) for i in subject.wrt]
    on_floats = subject.on_floats(fn)

    def gradient() -> None:
        outputs, pull = autodiff.vjp(on_floats, *inputs)
        pull(weights if isinstance(outputs, tuple) else weights[0])

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def checked(order: int) -> float:
        return seconds(lambda: check(fn, sample.inputs, order=order, seed=seed, **options))

    median = statistics.median(seconds(gradient) for _ in range(15))
    return {"gradient": median, "first_order": checked(1), "second_order": checked(2)}
