"""The global step, and learning rates that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.dialects.tf1 import array_ops, math_ops
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.graph import GraphKeys, Tensor, get_default_graph
from minigrad.dialects.tf1.init_ops import zeros_initializer
from minigrad.dialects.tf1.scopes import get_variable
from minigrad.dialects.tf1.variables import Variable
from minigrad.errors import ArgumentError


def get_global_step(graph: Any = None) -> Variable | None:
    """The Variable that counts steps, None if there is none."""
    found = (graph or get_default_graph()).get_collection(GraphKeys.GLOBAL_STEP)
    return found[0] if found else None


def create_global_step(graph: Any = None) -> Variable:
    """Make the Variable that counts steps.

    Raises:
        ArgumentError: if there is one; also a ValueError.
    """
    if get_global_step(graph) is not None:
        raise ArgumentError('"global_step" already exists.')
    with (graph or get_default_graph()).as_default():
        kinds = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP]
        return get_variable("global_step", (), "int64", zeros_initializer(), trainable=False, collections=kinds)


def get_or_create_global_step(graph: Any = None) -> Variable:
    """The Variable that counts steps."""
    return get_global_step(graph) or create_global_step(graph)


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The count in a session."""
    return int(sess.run(global_step_tensor))


def _progress(global_step: Any, decay_steps: Any, staircase: bool) -> Tensor:
    if global_step is None:
        raise ArgumentError("global_step is required for a rate that decays.")
    p = math_ops.divide(math_ops.cast(global_step, "float32"), float(decay_steps))
    return math_ops.floor(p) if staircase else p


def exponential_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: float, staircase: bool = False,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """rate · decay_rate^(step / decay_steps), the exponent rounded down for a staircase."""
    factor = math_ops.pow_(float(decay_rate), _progress(global_step, decay_steps, staircase))
    return math_ops.multiply(convert_to_tensor(learning_rate, "float32"), factor, name or "ExponentialDecay")


def inverse_time_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: float, staircase: bool = False,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """rate / (1 + decay_rate · step / decay_steps)"""
    below = math_ops.add(1.0, math_ops.multiply(float(decay_rate), _progress(global_step, decay_steps, staircase)))
    return math_ops.divide(convert_to_tensor(learning_rate, "float32"), below, name or "InverseTimeDecay")


def polynomial_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: float = 0.0001, power: float = 1.0,
    cycle: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """(rate − end) · (1 − step / decay_steps)^power + end, which stays at the end.

    Raises:
        ArgumentError: for ``cycle``, which is not offered.
    """
    if cycle:
        raise ArgumentError("polynomial_decay: cycle is not offered")
    left = math_ops.subtract(1.0, math_ops.minimum(_progress(global_step, decay_steps, False), 1.0))
    span = math_ops.subtract(convert_to_tensor(learning_rate, "float32"), float(end_learning_rate))
    falling = math_ops.multiply(span, math_ops.pow_(left, float(power)))
    return math_ops.add(falling, float(end_learning_rate), name or "PolynomialDecay")


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[float], name: str | None = None) -> Tensor:
    """values[i] where x is over i of the boundaries.

    Raises:
        ArgumentError: unless there is one value more than there are boundaries; also a ValueError.
    """
    if len(boundaries) != len(values) - 1:
        raise ArgumentError("The length of boundaries should be 1 less than the length of values")
    found = convert_to_tensor(float(values[0]))
    for boundary, value in zip(boundaries, values[1:]):
        over = math_ops.cast(math_ops.greater(x, boundary), "float32")
        found = math_ops.add(math_ops.multiply(over, float(value)), math_ops.multiply(found, 1.0 - over))
    return array_ops.identity(found, name or "PiecewiseConstant")
