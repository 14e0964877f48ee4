"""`check` and `assert_gradients`: the derivatives of a function of tensors, by every means there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, GradientError, MissingRuleError
from minigrad.gradcheck.adjoint import adjoint, forward_against_reverse
from minigrad.gradcheck.central import central_differences, second_order, third_order
from minigrad.gradcheck.complex_step import complex_step
from minigrad.gradcheck.directional import another_point, forward_differences, fourth_order_differences, richardson
from minigrad.gradcheck.extended import extended_precision
from minigrad.gradcheck.repeat import layouts, repeatability
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, Report, Result
from minigrad.gradcheck.rounding import float32
from minigrad.gradcheck.rules import rules
from minigrad.gradcheck.subject import Subject
from minigrad.gradcheck.taylor import taylor

#: Every check of a function, by name, in the order in which they run; each takes a `Subject`.
CHECKS: dict[str, Callable[[Subject], Any]] = {
    "central differences": central_differences,
    "Richardson": richardson,
    "adjoint": adjoint,
    "complex step": complex_step,
    "second order": second_order,
    "third order": third_order,
    "forward differences": forward_differences,
    "fourth-order differences": fourth_order_differences,
    "Taylor slope": taylor,
    "forward against reverse": forward_against_reverse,
    "extended precision": extended_precision,
    "float32": float32,
    "rules": rules,
    "layouts": layouts,
    "repeatability": repeatability,
    "another point": another_point,
}
#: Those that run unless others are asked for.
USUAL = ("central differences", "Richardson", "adjoint", "complex step", "second order", "third order")
_ORDERS = {"second order": 2, "third order": 3}
_FORWARD = ("adjoint", "complex step", "forward against reverse")


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
    checks: Sequence[str] | str | None = None,
    wide: Sequence[int] = (),
) -> Report:
    """Check derivatives of a function of tensors.

    In float64, for random zero-mean cotangents: the gradient against central differences at every element, and against
    Richardson's extrapolation in a random direction; forward mode against reverse, ⟨Jv, w⟩ = ⟨v, Jᵀw⟩, which holds to
    rounding; with `analytic`, forward mode against the complex step; and, to second `order`, the gradient of
    (x, w) ↦ Jᵀw against central differences. Each comes with the error that it could not have seen, and says
    INCONCLUSIVE if that is not well below its signal. With ``checks="all"`` also: forward and fourth-order differences;
    the slopes of Taylor's remainders; entries of J by columns and by rows; extended precision; the gradient in float32
    against its float64 twin; the rule of each primitive on its own; other memory layouts; the same bits from a second
    run; and a point nearby, where what was kept from the first would be wrong.

    Where the function has a kink, differences step around it; if it is at the point, the gradient is held to lie
    between the one-sided slopes, and the report says so. Steps also keep away from where the function is not finite; at
    such an edge, and on a jump, there is nothing to hold the gradient to, and the report says that.

    Args:
        fn: takes the arguments as tensors and returns a tensor or a tuple of tensors.
        args: arrays or tensors; the floats among them are differentiated by, as float64.
        order: 1, 2 or 3.
        seed: of the random cotangents, tangents and directions.
        analytic: whether `fn` is complex differentiable, as written in primitives.
        name: for the report.
        numeric: another function from tensors to tensors that serves as truth; `fn` itself by default.
        second_on: the device for orders above the first. ``"reference"`` checks the rules alone, and compiles no
            kernels of second derivatives for it.
        constant: the positions of arguments that are not differentiated by.
        held: `fn` again, with values that `fn` computes and holds constant (`detach`) as the constants that they are
            at these arguments; it serves as truth for all orders. Without it differences would see them move.
        checks: names of checks, or ``"all"``.
        wide: the positions of arguments that stay float64 in the check of float32.

    Raises:
        ArgumentError: if no argument is a float, one is not finite, `order` is not 1 to 3, a check is not known,
            `constant` or `wide` names no argument, or `fn` is said to be analytic and takes no complex numbers.
        ArgumentTypeError: if `fn` is no function, `args` no list, or `fn` returns no tensors.

    Example:
        >>> import minigrad as mg
        >>> print(mg.gradcheck.check(lambda x: mg.exp(x).sum(), [mg.tensor([0.5, -1.0])]).verdict)
        passed
        >>> report = mg.gradcheck.check(mg.tanh, [mg.tensor([0.5, -1.0])], checks=["Taylor slope"])
        >>> [result.verdict for result in report.results]
        ['passed', 'passed', 'passed']
    """
    if order not in (1, 2, 3):
        raise ArgumentError(f"check: order is {order!r}, expected 1, 2 or 3")
    names = _chosen(checks)
    start = time.perf_counter()
    subject = Subject(
        fn,
        args,
        seed=seed,
        constant=constant,
        truth=numeric,
        held=held,
        analytic=analytic,
        second_on=second_on,
        wide=wide,
    )
    report = Report(name or str(getattr(fn, "__name__", "function")))
    try:
        if not any(o.requires_grad for o in subject.outputs):
            raise GradientError("no result depends on an argument")
        for each in names:
            if _ORDERS.get(each, 1) <= order:
                report.results += _run(each, subject)
    except (GradientError, MissingRuleError) as error:
        report.results.append(Result("derivative", FAILED, np.inf, detail=str(error), seed=seed))
    report.seconds = time.perf_counter() - start
    return report


def assert_gradients(fn: Callable, args: Sequence[Any], **options: Any) -> Report:
    """Assert in a test that all checks of `fn` pass; the options are those of `check`, with ``checks="all"``.

    Raises:
        AssertionError: otherwise, with what failed, where, both values there, what passed, and how to see it again.

    Example:
        >>> import minigrad as mg
        >>> report = mg.gradcheck.assert_gradients(lambda x: mg.tanh(x) * x, [mg.tensor([0.5, -1.0])])
    """
    __tracebackhide__ = True
    report = check(fn, args, **{"checks": "all", **options})
    if not report.passed:
        raise AssertionError(report.explained())
    return report


def _chosen(checks: Sequence[str] | str | None) -> Sequence[str]:
    if checks is None:
        return USUAL
    if isinstance(checks, str):
        checks = list(CHECKS) if checks == "all" else [checks]
    unknown = [c for c in checks if c not in CHECKS]
    if unknown:
        raise ArgumentError(f"check: checks names {unknown}, expected some of {list(CHECKS)}, or 'all'")
    return checks


def _run(name: str, subject: Subject) -> list[Result]:
    try:
        with np.errstate(all="ignore"):  # what is not finite is told in words
            found = CHECKS[name](subject)
    except MissingRuleError as error:
        if name in _FORWARD:
            reason = f"no forward mode: {error}"
            return [Result(name, INCONCLUSIVE, detail=reason, reason=reason, seed=subject.seed)]
        return [Result(name, FAILED, np.inf, detail=str(error), seed=subject.seed)]
    except GradientError as error:
        return [Result(name, FAILED, np.inf, detail=str(error), seed=subject.seed)]
    return found if isinstance(found, list) else [] if found is None else [found]
