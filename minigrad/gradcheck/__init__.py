"""Gradient checks: whether derivatives are right, with a verdict that knows what it could not have seen."""

from minigrad.gradcheck.function import CHECKS, assert_gradients, check
from minigrad.gradcheck.primitives import check_primitive
from minigrad.gradcheck.result import Report, Result

__all__ = ["CHECKS", "Report", "Result", "assert_gradients", "check", "check_primitive"]
