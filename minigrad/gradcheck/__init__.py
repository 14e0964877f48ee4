"""Gradient checks: whether derivatives are right, with a verdict that knows what it could not have seen.

`check` takes any function of tensors, `assert_gradients` is the same for tests, `check_primitive` holds a primitive to
all that it promises, and ``python -m minigrad study`` studies the checks themselves. Each check is a file:

========================== ============================================================================================
central                    every element against central differences; second and third order
directional, differences   random directions: forward, central, fourth-order, Richardson; steps chosen by their error
complex_step               forward mode against Im f(x + ih)/h
adjoint                    ⟨Jv, w⟩ = ⟨v, Jᵀw⟩; entries of J by columns and by rows
taylor                     slopes 1, 2, 3 of the remainder
extended                   in NumPy's longest floats
rounding                   float32 against its float64 twin, within what random rounding explains
rules                      every primitive that was run, on its own
repeat                     the same bits again, and from memory laid out otherwise
kinks                      where there is no derivative: stepped around, or reported
========================== ============================================================================================
"""

from minigrad.gradcheck.function import CHECKS, assert_gradients, check
from minigrad.gradcheck.primitives import check_primitive
from minigrad.gradcheck.result import Report, Result

__all__ = ["CHECKS", "Report", "Result", "assert_gradients", "check", "check_primitive"]
