"""Optimizers: `minimize` as an operation of the graph, done by those of `minigrad.optim`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minigrad as mg
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.control_flow import control_dependencies, gradients, group
from minigrad.dialects.tf1.graph import Operation, Tensor, get_default_graph
from minigrad.dialects.tf1.variables import OPTIMIZER_STARTS, Variable, assign_add, trainable_variables
from minigrad.errors import ArgumentError, ArgumentTypeError


class Optimizer:
    """The base of optimizers.

    Args:
        make: a function that makes one of `minigrad.optim`; each session has one of its own.
        learning_rate: a number or a scalar tensor.
        name: of its operations.

    Raises:
        ArgumentError: for a negative rate; also a ValueError.
    """

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2

    def __init__(self, make: Callable[[], mg.optim.Optimizer], learning_rate: Any, name: str):
        if isinstance(learning_rate, (int, float)) and not learning_rate >= 0:
            raise ArgumentError(f"{name}: learning_rate is {learning_rate!r}, expected a number of at least 0")
        self._make, self._rate, self._name = make, learning_rate, name

    def get_name(self) -> str:
        """Its name."""
        return self._name

    def minimize(
        self,
        loss: Tensor,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """An operation that takes one step, and adds 1 to `global_step` then.

        Args:
            loss: a tensor; of one that is no scalar the sum is minimized.
            var_list: the Variables to change; by default all trainable ones.

        Raises:
            ArgumentError: if there are no Variables, or the loss depends on none of them; also a ValueError.
        """
        pairs = self.compute_gradients(loss, var_list, grad_loss=grad_loss)
        if all(g is None for g, _ in pairs):
            raise ArgumentError(
                f"No gradients provided for any variable, check that the loss {loss!r} depends on one of "
                f"{[v.name for _, v in pairs]}"
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Tensor,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Tensor | None, Variable]]:
        """Pairs of a gradient, None where there is none, and its Variable."""
        if not isinstance(loss, Tensor):
            raise ArgumentTypeError(f"minimize: loss is {loss!r}, expected a tensor")
        variables = trainable_variables() if var_list is None else list(_flat(var_list))
        if not variables:
            raise ArgumentError("No variables to optimize.")
        for v in variables:
            if not isinstance(v, Variable):
                raise ArgumentTypeError(f"Argument is not a tf.Variable: {v!r}")
        return list(zip(gradients(loss, variables, grad_loss, name=f"{self._name}/gradients"), variables))

    def apply_gradients(
        self, grads_and_vars: Sequence[tuple[Any, Variable]], global_step: Any = None, name: str | None = None
    ) -> Operation:
        """An operation that changes Variables by their gradients, and adds 1 to `global_step` then.

        Raises:
            ArgumentError: without a gradient; also a ValueError.
        """
        pairs = [(convert_to_tensor(g, v.dtype), v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ArgumentError(f"No gradients provided for any variable: {[v.name for _, v in grads_and_vars]}.")
        graph, names = get_default_graph(), [v.op.name for _, v in pairs]
        with graph.name_scope(name or self._name):
            key = graph.unique_name("slots")
            rate = convert_to_tensor(self._rate, None, "learning_rate")

            def optimizer(session: Any) -> tuple[mg.optim.Optimizer, list[mg.Variable]]:
                found: mg.optim.Optimizer = session.kept(key, self._make)
                variables = [session.variable(n) for n in names]
                found.build(variables)
                return found, variables

            def update(session: Any, lr: Any, *values: mg.Tensor) -> None:
                found, variables = optimizer(session)
                found.lr.assign(mg.as_tensor(lr).astype("float64"))
                found.update(variables, [g.detach() for g in values])

            def start(session: Any) -> None:
                found, _ = optimizer(session)
                found.steps.assign(0)
                for slots in found.slots:
                    for slot in slots:
                        slot.assign(mg.broadcast_to(mg.tensor(found.slot_value, slot.dtype), slot.shape))

            op = graph.add("ApplyGradients", update, [rate, *(g for g, _ in pairs)], "update", in_session=True)
            begins = [v.initializer for _, v in pairs]
            with graph.control_dependencies(None), graph.control_dependencies(begins):
                graph.add_to_collection(OPTIMIZER_STARTS, graph.add("Start", start, (), "start", in_session=True))
        if global_step is None:
            return op
        with control_dependencies([op]):
            return group(assign_add(global_step, 1), name=name or self._name)


def _flat(variables: Any) -> list[Any]:
    if isinstance(variables, (list, tuple)):
        return [v for item in variables for v in _flat(item)]
    return [variables]


class GradientDescentOptimizer(Optimizer):
    """w ← w − rate · g

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     w = tf.Variable(1.0)
        ...     step = tf.train.GradientDescentOptimizer(0.25).minimize(w * w)
        ...     session.run(tf.global_variables_initializer())
        ...     session.run(step)
        ...     float(session.run(w))
        0.5
    """

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"):
        super().__init__(lambda: mg.optim.SGD(0.0), learning_rate, name)


class _Momentum(mg.optim.SGD):
    """v ← μ·v + g, w ← w − rate · v: the rate is that of the step, not those of the steps before."""

    def change(self, variable: mg.Variable, gradient: mg.Tensor, slots: tuple[mg.Variable, ...]) -> None:
        (slot,) = slots
        slot.assign(slot * self.momentum + gradient)
        along = slot * self.momentum + gradient if self.nesterov else slot
        variable.assign(variable.detach() - self.lr.astype(variable.dtype) * along)


class MomentumOptimizer(Optimizer):
    """v ← momentum · v + g, w ← w − rate · v; with Nesterov's correction w ← w − rate · (g + momentum · v)."""

    def __init__(
        self, learning_rate: Any, momentum: float, use_locking: bool = False, name: str = "Momentum",
        use_nesterov: bool = False,
    ):  # fmt: skip
        super().__init__(lambda: _Momentum(0.0, momentum, use_nesterov), learning_rate, name)


class AdamOptimizer(Optimizer):
    """Adam (Kingma & Ba 2015), with epsilon as the paper's ε̂, beside √v before its bias is removed."""

    def __init__(
        self, learning_rate: Any = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
        use_locking: bool = False, name: str = "Adam",
    ):  # fmt: skip
        super().__init__(lambda: mg.optim.Adam(0.0, beta1, beta2, epsilon, epsilon_hat=True), learning_rate, name)


class AdagradOptimizer(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011)."""

    def __init__(
        self, learning_rate: Any, initial_accumulator_value: float = 0.1, use_locking: bool = False,
        name: str = "Adagrad",
    ):  # fmt: skip
        super().__init__(lambda: mg.optim.Adagrad(0.0, initial_accumulator_value, 0.0), learning_rate, name)


class RMSPropOptimizer(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), whose average of g² begins at 0.

    Raises:
        ArgumentError: for ``centered``, which is not offered.
    """

    def __init__(
        self, learning_rate: Any, decay: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-10,
        use_locking: bool = False, centered: bool = False, name: str = "RMSProp",
    ):  # fmt: skip
        if centered:
            raise ArgumentError("RMSPropOptimizer: centered is not offered")
        super().__init__(lambda: mg.optim.RMSprop(0.0, decay, momentum, epsilon), learning_rate, name)
