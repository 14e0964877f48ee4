"""`check`: the derivatives of a function of tensors against each other and against differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import autodiff, dtypes
from minigrad.errors import ArgumentError, GradientError, MissingRuleError
from minigrad.gradcheck.differences import ArrayFunction, Weighted, complex_step
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, Report, Result, compare
from minigrad.primitive import on_device
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

_EPS = float(np.finfo(np.float64).eps)
# Elements drawn at random for the second order, of each argument and of all: each costs four gradients.
_SECOND_ORDER_ELEMENTS, _SECOND_ORDER_TOTAL, _SECOND_ORDER_LEAST = 10, 24, 2


def check(
    fn: Callable,
    args: Sequence[Any],
    *,
    order: int = 2,
    seed: int = 0,
    analytic: bool = False,
    name: str | None = None,
    numeric: Callable | None = None,
    second_on: str = "cpu",
    constant: Sequence[int] = (),
    held: Callable | None = None,
) -> Report:
    """Check first and second derivatives of a function of tensors.

    Four checks, element by element, in float64: the gradient against central differences for a random zero-mean
    cotangent; forward mode against reverse, ⟨Jv, w⟩ = ⟨v, Jᵀw⟩, which holds to rounding; with `analytic`, forward
    mode against the complex step; and, to second `order`, the gradient of (x, w) ↦ Jᵀw against central differences.
    Each comes with the error that it could not have seen, and says INCONCLUSIVE if that is not well below its signal.

    Args:
        fn: takes the arguments as tensors and returns a tensor or a tuple of tensors.
        args: arrays or tensors; the floats among them are differentiated by, as float64.
        order: 1 or 2.
        seed: of the random cotangents and tangents.
        analytic: whether `fn` is complex differentiable, as written in primitives.
        name: for the report.
        numeric: another function from tensors to tensors that serves as truth; `fn` itself by default.
        second_on: the device for the second order. ``"reference"`` checks the rules alone, and compiles no kernels of
            second derivatives for it.
        constant: the positions of arguments that are not differentiated by.
        held: `fn` again, with values that `fn` computes and holds constant (`detach`) as the constants that they are
            at these arguments; it serves as truth for both orders. Without it differences would see them move.

    Raises:
        ArgumentError: if no argument is a float, or `order` is neither 1 nor 2.

    Example:
        >>> import minigrad as mg
        >>> print(mg.gradcheck.check(lambda x: mg.exp(x).sum(), [mg.tensor([0.5, -1.0])]).verdict)
        passed
    """
    if order not in (1, 2):
        raise ArgumentError(f"check: order is {order!r}, expected 1 or 2")
    start = time.perf_counter()
    values = [_as_float64(a) for a in args]
    wrt = [i for i, v in enumerate(values) if v is not None and v.dtype == np.float64 and i not in constant]
    if not wrt:
        raise ArgumentError("check: no argument is a floating-point array, so there is no derivative to check")
    numeric = held or numeric or fn
    report = Report(name or str(getattr(fn, "__name__", "function")))
    try:
        _check_orders(report, fn, numeric, values, wrt, seed, analytic)
        if order == 2:
            with on_device(second_on):
                report.results.append(_second_order(fn, held or fn, values, wrt, seed))
    except (GradientError, MissingRuleError) as error:
        report.results.append(Result("derivative", FAILED, np.inf, detail=str(error), seed=seed))
    report.seconds = time.perf_counter() - start
    return report


def _check_orders(
    report: Report, fn: Callable, numeric: Callable, values: list, wrt: list[int], seed: int, analytic: bool
) -> None:
    rng = np.random.default_rng((seed, 1))  # apart from the samples: tangents must not equal primals
    differentiable, arrays_of = _on_floats(fn, values, wrt), _as_array_function(numeric, values)
    outputs, pull = autodiff.vjp(differentiable, *[values[i] for i in wrt])
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    names = [f"argument {i}" for i in wrt]
    cotangents = [zero_mean(rng, o.shape) for o in outputs]
    if not any(o.requires_grad for o in outputs):
        report.results.append(Result("central differences", FAILED, np.inf, detail="no result depends on an argument"))
        return
    tensors = tuple(Tensor(w) for w in cotangents)
    grads = [g.numpy() for g in pull(tensors if len(tensors) > 1 else tensors[0])]
    phi = Weighted(arrays_of, values, wrt, cotangents, seed)
    report.results.append(against_differences("central differences", names, grads, phi, seed))
    tangents = [rng.standard_normal(values[i].shape) for i in wrt]
    try:
        pushed = autodiff.jvp(differentiable, [values[i] for i in wrt], tangents)[1]
        pushed = [t.numpy() for t in (pushed if isinstance(pushed, tuple) else (pushed,))]
        report.results.append(adjoint(pushed, cotangents, tangents, grads, phi.noise, seed))
        if analytic:
            report.results.append(_against_complex_step(pushed, numeric, values, wrt, tangents, seed))
    except MissingRuleError as error:
        report.results.append(Result("adjoint", INCONCLUSIVE, detail=str(error), seed=seed))


def against_differences(
    check_name: str, names: list[str], grads: list[np.ndarray], phi: Weighted, seed: int, most: int | None = None
) -> Result:
    """Reverse mode against central differences."""
    expected, bounds = phi.gradient(most, seed)
    own = [b + 64 * _EPS * np.abs(g) for b, g in zip(bounds, expected)]
    extent = max((float(np.max(np.abs(np.asarray(phi.args[i])), initial=0.0)) for i in phi.wrt), default=1.0)
    return compare(check_name, names, grads, expected, own, scale=phi.size / max(extent, 1e-300), seed=seed)


def adjoint(
    pushed: list[np.ndarray],
    cotangents: list[np.ndarray],
    tangents: list[np.ndarray],
    pulled: list[np.ndarray],
    noise: float,
    seed: int,
) -> Result:
    """⟨Jv, w⟩ = ⟨v, Jᵀw⟩, to the rounding of the two sums and the noise of what was differentiated."""
    with np.errstate(all="ignore"):
        left = np.array(sum(float(np.sum(a * b)) for a, b in zip(pushed, cotangents)))
        right = np.array(sum(float(np.sum(a * b)) for a, b in zip(tangents, pulled)))
        terms = sum(float(np.sum(np.abs(a * b))) for a, b in [*zip(pushed, cotangents), *zip(tangents, pulled)])
    bound = np.array(4096 * _EPS * terms + 64 * noise)
    return compare("adjoint", ["⟨Jv, w⟩"], [left], [right], [bound], scale=1.0, seed=seed)


def zero_mean(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A random cotangent whose mean is 0, to which no normalization is blind."""
    w = rng.standard_normal(shape)
    return np.asarray(w - w.mean()) if w.size > 2 else np.asarray(w)


def _against_complex_step(
    pushed: list[np.ndarray], fn: Callable, values: list, wrt: list[int], tangents: list[np.ndarray], seed: int
) -> Result:
    with on_device("reference"):
        expected = complex_step(_as_array_function(fn, values), values, wrt, tangents)
    size = max((float(np.max(np.abs(e), initial=0.0)) for e in expected), default=0.0)
    bounds = [np.full(e.shape, 4096 * _EPS * size) for e in expected]
    names = [f"result {i}" for i in range(len(expected))]
    return compare("complex step", names, pushed, expected, bounds, scale=1.0, seed=seed)


def _second_order(fn: Callable, truth: Callable, values: list, wrt: list[int], seed: int) -> Result:
    """The first-order check of (x, w) ↦ Jᵀw, whose Jᵀw the checks before have vouched for."""
    rng = np.random.default_rng(seed + 1)
    floats, args = _on_floats(fn, values, wrt), [values[i] for i in wrt]

    def pulled_by(function: Callable) -> Callable:
        def pulled(*inputs: Tensor) -> tuple[Tensor, ...]:
            result, pull = autodiff.vjp(function, *inputs[: len(args)])
            ws = inputs[len(args) :]
            return pull(ws if isinstance(result, tuple) else ws[0])

        return pulled

    outputs = autodiff.vjp(floats, *args)[0]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    inputs = [*args, *[zero_mean(rng, o.shape) for o in outputs]]
    gradients, pull = autodiff.vjp(pulled_by(floats), *inputs)
    weights = [
        np.asarray(rng.standard_normal(g.shape)) for g in gradients
    ]  # centred, they would cancel a mean's gradient
    grads = [g.numpy() for g in pull(tuple(Tensor(w) for w in weights))]
    labels = [*[f"argument {i}" for i in wrt], *[f"cotangent {i}" for i in range(len(outputs))]]
    expected = _as_array_function(pulled_by(_on_floats(truth, values, wrt)), inputs)
    phi = Weighted(expected, inputs, range(len(inputs)), weights, seed)
    most = min(_SECOND_ORDER_ELEMENTS, max(_SECOND_ORDER_LEAST, _SECOND_ORDER_TOTAL // len(inputs)))
    return against_differences("second order", labels, grads, phi, seed, most)


def _on_floats(fn: Callable, values: list, wrt: list[int]) -> Callable:
    """`fn` as a function of its floating-point arguments alone."""

    def wrapped(*floats: Tensor) -> Any:
        full = [None if v is None else Tensor(v) for v in values]
        for i, x in zip(wrt, floats):
            full[i] = x
        return fn(*full)

    return wrapped


def _as_array_function(fn: Callable, values: list) -> ArrayFunction:
    def wrapped(*arrays: Any) -> list[np.ndarray]:
        with no_grad():
            result = fn(*[None if a is None else Tensor(np.asarray(a)) for a in arrays])
        return [t._data for t in (result if isinstance(result, tuple) else (result,))]

    return wrapped


def _as_float64(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    array = np.array(as_tensor(value)._data)
    return array.astype(np.float64) if dtypes.is_differentiable(array.dtype) else array
