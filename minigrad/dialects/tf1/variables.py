"""Variables, and variable scopes, in which they are shared by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minigrad as mg
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.control_flow import group
from minigrad.dialects.tf1.graph import GraphKeys, Operation, Tensor, get_default_graph
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms.store import names_of


class Variable(Tensor):
    """A tensor whose value a session keeps from run to run. It has none before its `initializer` has run.

    An operation that takes it sees the value at the moment when that operation runs.

    Args:
        initial_value: a tensor, numbers, or a function without arguments that makes one.
        trainable: whether TRAINABLE_VARIABLES holds it, which optimizers change.
        collections: names of those that hold it; GLOBAL_VARIABLES by default.
        name: made unique by a number.
        dtype: to convert the initial value to.
        validate_shape, caching_device, variable_def, expected_shape: accepted, and ignored.

    Attributes:
        initializer: the operation that gives it its initial value.
        initial_value: a tensor.

    Raises:
        ArgumentError: without an initial value.
        ShapeError: if its shape is not known; also a ValueError.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     count = tf.Variable(0, name="count")
        ...     session.run(count.initializer)
        ...     [session.run(tf.assign_add(count, 2)).item() for _ in range(3)]
        [2, 4, 6]
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool = True,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
    ):
        if initial_value is None:
            raise ArgumentError("Variable: initial_value must be specified")
        graph = get_default_graph()
        whole = graph.unique_name(name or "Variable")
        with graph.control_dependencies(None), graph.name_scope(f"{whole}/"):
            value = initial_value() if callable(initial_value) else initial_value
            self.initial_value = convert_to_tensor(value, dtype, "initial_value")
            known = self.initial_value.lengths
            if known is None or None in known:
                raise ShapeError(f"Variable {whole}: initial_value must have a shape specified: {self.initial_value!r}")
            op = graph.add("VariableV2", None, (), f"{whole}/")  # read from the session by what takes it
            super().__init__(op, 0, self.initial_value.dtype, known)
            op.outputs.append(self)
            self.trainable = bool(trainable) and self.dtype.kind == "f"
            self.initializer = _assignment(self, self.initial_value, None, "Assign").op
        held = [GraphKeys.GLOBAL_VARIABLES] if collections is None else names_of("Variable", collections)
        for collection in dict.fromkeys([*held, *([GraphKeys.TRAINABLE_VARIABLES] if self.trainable else [])]):
            graph.add_to_collection(collection, self)

    def initialized_value(self) -> Tensor:
        """Its value, once the initializer has run."""
        from minigrad.dialects.tf1.control_flow import with_dependencies

        return with_dependencies([self.initializer], self)

    def read_value(self) -> Tensor:
        """A copy of its value at the moment when this runs."""
        from minigrad.dialects.tf1.array_ops import identity

        return identity(self)

    value = read_value

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """The new value, once it is given."""
        return assign(self, value, name=name)

    def assign_add(self, delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """The value, once `delta` is added."""
        return assign_add(self, delta, name=name)

    def assign_sub(self, delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """The value, once `delta` is subtracted."""
        return assign_sub(self, delta, name=name)

    def load(self, value: Any, session: Any = None) -> None:
        """Give it this value in a session, the default one if none is given."""
        from minigrad.dialects.tf1.session import fed_value, session_for

        session_for(self, session).initialize(self.op.name, fed_value(self, value), self.trainable)

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={shapes.text(self.lengths)} dtype={self.dtype}>"


def assign(
    ref: Variable, value: Any, validate_shape: bool = True, use_locking: Any = None, name: str | None = None
) -> Tensor:
    """A Variable's new value, once it is given; ``session.run`` of this gives it.

    Raises:
        ArgumentTypeError: for what is no Variable.
        DTypeError, ShapeError: for a value that does not fit it; also a TypeError or ValueError.
    """
    return _assignment(ref, value, None, name or "Assign")


def assign_add(ref: Variable, value: Any, use_locking: Any = None, name: str | None = None) -> Tensor:
    """A Variable's value, once `value` is added."""
    return _assignment(ref, value, mg.add, name or "AssignAdd")


def assign_sub(ref: Variable, value: Any, use_locking: Any = None, name: str | None = None) -> Tensor:
    """A Variable's value, once `value` is subtracted."""
    return _assignment(ref, value, mg.subtract, name or "AssignSub")


def _assignment(ref: Variable, value: Any, change: Callable | None, name: str) -> Tensor:
    if not isinstance(ref, Variable):
        raise ArgumentTypeError(f"{name}: takes a tf.Variable, got {ref!r}")
    t = convert_to_tensor(value, ref.dtype)
    try:
        shapes.merged(t.lengths, ref.lengths)
    except ArgumentError as error:
        raise ShapeError(f"{name} to {ref.name}: {error}") from None
    key, trainable = ref.op.name, ref.trainable

    def run(session: Any, new: Any) -> mg.Variable:
        if change is not None:
            new = change(session.variable(key), new)
        found: mg.Variable = session.initialize(key, mg.as_tensor(new).detach(), trainable)
        return found

    return get_default_graph().add("Assign", run, [t], name, in_session=True).result(ref.dtype, ref.lengths)


# Of all Variables


def global_variables(scope: str | None = None) -> list[Variable]:
    """All Variables, or those whose names begin with `scope`."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """All trainable Variables, or those whose names begin with `scope`."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    """The Variables of the collection LOCAL_VARIABLES."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def variables_initializer(var_list: Sequence[Variable], name: str = "init") -> Operation:
    """An operation that gives each of these Variables its initial value."""
    return group(*(v.initializer for v in var_list), name=name)


def global_variables_initializer() -> Operation:
    """An operation that gives all Variables their initial values, and begins optimizers anew."""
    others = get_default_graph().get_collection(OPTIMIZER_STARTS)
    return group(*(v.initializer for v in global_variables()), *others, name="init")


initialize_all_variables = global_variables_initializer

#: A collection: operations that make optimizers what they were in the beginning.
OPTIMIZER_STARTS = "optimizer_starts"


def local_variables_initializer() -> Operation:
    """An operation that gives the Variables of LOCAL_VARIABLES their initial values."""
    return variables_initializer(local_variables(), "init")


def is_variable_initialized(variable: Variable, name: str | None = None) -> Tensor:
    """Whether it has a value in the session."""

    def run(session: Any) -> bool:
        return variable.op.name in session.store.variables

    graph = get_default_graph()
    return graph.add("IsVariableInitialized", run, (), name, in_session=True, recordable=False).result(bool, ())
