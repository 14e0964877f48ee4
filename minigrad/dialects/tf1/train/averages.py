"""ExponentialMovingAverage: shadows as Variables of the graph, moved by minigrad_norms."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad.dialects.tf1 import array_ops, math_ops
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.control_flow import group
from minigrad.dialects.tf1.graph import GraphKeys, Operation, Tensor, get_default_graph
from minigrad.dialects.tf1.variables import Variable, trainable_variables
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad_norms.batch import fraction
from minigrad_norms.running import move_averages_p


class ExponentialMovingAverage:
    """shadow = decay · shadow + (1 − decay) · value, for Variables and tensors.

    With `num_updates` n the decay is min(decay, (1 + n)/(10 + n)). A Variable's shadow begins at its initial value, a
    tensor's at 0; with `zero_debias` a tensor's average is freed of that. An element that is NaN or infinite leaves
    its average as it is.

    Args:
        decay: in [0, 1].
        num_updates: a number or a scalar tensor.
        zero_debias: whether averages of tensors are freed from their beginning at 0.
        name: what names of shadows end in.

    Raises:
        ArgumentError: for a decay outside [0, 1].

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     w = tf.Variable(1.0, name="w")
        ...     averages = tf.train.ExponentialMovingAverage(0.75)
        ...     with tf.control_dependencies([tf.assign(w, 5.0)]):
        ...         step = averages.apply([w])
        ...     session.run(tf.global_variables_initializer())
        ...     session.run(step)
        ...     averages.average_name(w), float(session.run(averages.average(w)))
        ('w/ExponentialMovingAverage', 2.0)
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ):
        self._decay = decay if isinstance(decay, Tensor) else fraction("ExponentialMovingAverage", "decay", decay)
        self._updates, self._debias, self.name = num_updates, bool(zero_debias), name
        self._shadows: dict[Tensor, Variable] = {}
        self._left: dict[Tensor, Variable] = {}  # of debiased averages: how much of the beginning at 0 is left

    def apply(self, var_list: Any = None) -> Operation:
        """An operation that takes present values into the averages; by default of all trainable Variables.

        Raises:
            ArgumentTypeError: for what is no floating tensor; also a TypeError.
            ArgumentError: for one whose average is kept already; also a ValueError.
        """
        values = trainable_variables() if var_list is None else list(var_list)
        graph = get_default_graph()
        for value in values:
            if not isinstance(value, Tensor) or value.dtype.kind != "f":
                raise ArgumentTypeError(f"The variables must be half, float, or double: {value!r}")
            if value in self._shadows:
                raise ArgumentError(f"Moving average already computed for: {value.name}")
            with graph.control_dependencies(None), graph.name_scope(None):
                self._keep(value)
        decay = self._decay
        if self._updates is not None:
            n = math_ops.cast(self._updates, "float64")
            decay = math_ops.minimum(convert_to_tensor(decay, "float64"), (n + 1.0) / (n + 10.0))
        moves = [self._move(value, decay) for value in values]
        return group(*moves, name=self.name)

    def average(self, var: Any) -> Tensor | None:
        """A value's average, None if none is kept: the shadow, or without its beginning at 0."""
        shadow = self._shadows.get(var)
        if shadow is None or var not in self._left:
            return shadow
        whole = math_ops.subtract(1.0, self._left[var])
        one = array_ops.ones_like(whole)
        return math_ops.cast(
            math_ops.cast(shadow, "float64") / array_ops.where(math_ops.greater(whole, 0.0), whole, one), shadow.dtype
        )

    def average_name(self, var: Any) -> str:
        """The name of a value's average."""
        return self._shadows[var].op.name if var in self._shadows else f"{var.op.name}/{self.name}"

    def variables_to_restore(self, moving_avg_variables: Any = None) -> dict[str, Variable]:
        """What a `Saver` takes to read averages into the Variables that they are of: Variables by name."""
        averaged = trainable_variables() if moving_avg_variables is None else list(moving_avg_variables)
        found = {self.average_name(v): v for v in averaged}
        others = get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES)
        held = [*averaged, *self._shadows.values(), *self._left.values()]
        return {**found, **{v.op.name: v for v in others if v not in held}}

    def _keep(self, value: Tensor) -> None:
        name = f"{value.op.name}/{self.name}"
        if isinstance(value, Variable):
            first = value.initialized_value()
        else:
            if None in (value.lengths or (None,)) and value.lengths != ():
                raise ArgumentError(f"apply: the shape of {value!r} must be known")
            first = array_ops.zeros(value.lengths, value.dtype)
            if self._debias:
                start = array_ops.ones(value.lengths, "float64")
                self._left[value] = Variable(start, False, name=f"{name}/left")
        self._shadows[value] = Variable(first, False, name=name)
        get_default_graph().add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, value)

    def _move(self, value: Tensor, decay: Any) -> Operation:
        targets = [self._shadows[value]] + ([self._left[value]] if value in self._left else [])
        names = [t.op.name for t in targets]

        def run(session: Any, keep: Any, new: mg.Tensor) -> None:
            new = new.detach()
            pairs = [session.variable(names[0]), new]
            if len(names) > 1:
                pairs += [session.variable(names[1]), (new * 0).astype("float64")]  # 0, or NaN where it is not finite
            move_averages_p(mg.as_tensor(keep).astype("float64"), *pairs)

        inputs = [decay if isinstance(decay, Tensor) else convert_to_tensor(decay, "float64"), value]
        return get_default_graph().add("AssignMovingAvg", run, inputs, "AssignMovingAvg", in_session=True)
