"""The words of Theano: symbolic variables, shared ones, and functions compiled from expressions of them.

Scripts run with their import lines changed: ``import theano`` becomes ``from minigrad.dialects import theano``, and
``import theano.tensor as T`` ``import minigrad.dialects.theano.tensor as T``.
"""

from __future__ import annotations

from typing import Any

from minigrad.dialects.theano import gradient, sandbox, tensor  # after the functions that they use
from minigrad.dialects.theano.config import config
from minigrad.dialects.theano.function import Function, In, MissingInputError, Out, UnusedInputError, function
from minigrad.dialects.theano.gradient import DisconnectedInputError, Lop, Rop, grad
from minigrad.dialects.theano.graph import Apply, Constant, TensorType, Variable
from minigrad.dialects.theano.sharedvar import SharedVariable, shared
from minigrad.errors import ArgumentError

Param = In

__all__ = [
    "Apply",
    "Constant",
    "DisconnectedInputError",
    "Function",
    "In",
    "Lop",
    "MissingInputError",
    "Out",
    "Param",
    "Rop",
    "SharedVariable",
    "TensorType",
    "UnusedInputError",
    "Variable",
    "clone",
    "config",
    "function",
    "grad",
    "gradient",
    "sandbox",
    "scan",
    "shared",
    "tensor",
]


def clone(output: Any, replace: Any = None) -> Any:
    """The expression, or list of expressions, with variables replaced by others: ``clone(y, {x: x + 1})``."""
    new = {old: tensor.as_tensor_variable(value) for old, value in dict(replace or {}).items()}
    several = isinstance(output, (list, tuple))
    found = gradient.replaced(list(output) if several else [output], new)
    return found if several else found[0]


def scan(*args: Any, **kwargs: Any) -> Any:
    """Not offered.

    Raises:
        ArgumentError: always. A Python loop builds a graph of a fixed number of steps.
    """
    raise ArgumentError("scan: loops in the graph are not offered; a Python loop builds a fixed number of steps")
