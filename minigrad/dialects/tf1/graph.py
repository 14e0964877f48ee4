"""The graph: operations in the order in which they were added, and the tensors that they make."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import dtypes
from minigrad.dialects._walk import user_line
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.shapes import Lengths, TensorShape
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad_norms.store import GLOBAL_VARIABLES, REGULARIZATION_LOSSES, TRAINABLE_VARIABLES, UPDATE_OPS, Scope

_PACKAGE = __name__.rpartition(".")[0]


class GraphKeys:
    """The names of collections."""

    GLOBAL_VARIABLES = VARIABLES = GLOBAL_VARIABLES
    LOCAL_VARIABLES = "local_variables"
    TRAINABLE_VARIABLES = TRAINABLE_VARIABLES
    MODEL_VARIABLES = "model_variables"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    REGULARIZATION_LOSSES = REGULARIZATION_LOSSES
    LOSSES = "losses"
    UPDATE_OPS = UPDATE_OPS
    SUMMARIES = "summaries"
    GLOBAL_STEP = "global_step"


class Operation:
    """A step of the graph: a function of its inputs' values, which runs after `control_inputs` have.

    What runs in a session runs in the order in which it was added to the graph, so that a read of a Variable that was
    added before an assignment sees the value before it.

    Attributes:
        name, type: of the operation; names are unique in a graph.
        inputs, outputs: tensors.
        control_inputs: operations.
        graph: that it belongs to.
    """

    def __init__(
        self,
        graph: Graph,
        type: str,
        name: str,
        run: Any,
        inputs: Sequence[Tensor],
        in_session: bool,
        recordable: bool,
    ):
        self.graph, self.type, self.name, self.compute = graph, type, name, run
        self.inputs = list(inputs)
        self.in_session = in_session  # its function takes the session first
        self.recordable = recordable  # jit can record it
        self.control_inputs = list(graph.controls[-1])
        self.outputs: list[Tensor] = []
        self.index = len(graph.operations)
        self.where = user_line(_PACKAGE)
        graph.operations.append(self)

    def result(self, dtype: Any, shape: Lengths) -> Tensor:
        """Another output."""
        self.outputs.append(Tensor(self, len(self.outputs), dtype, shape))
        return self.outputs[-1]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it in a session, the default one if none is given."""
        from minigrad.dialects.tf1.session import session_for

        session_for(self, session).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"


class Tensor:
    """A value to come: an output of an `Operation`. The operators make more of them.

    Attributes:
        op: the operation that makes it.
        dtype: a NumPy dtype.
        name: the operation's, a colon, and which of its outputs this is.
        shape: what is known of it, as a `TensorShape`.
    """

    __array_ufunc__ = None  # NumPy's operators give way to ours

    def __init__(self, op: Operation, value_index: int, dtype: Any, shape: Lengths):
        self.op = op
        self.value_index = value_index
        self.dtype = dtypes.as_dtype(dtype)
        self.lengths = shape

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.lengths)

    def get_shape(self) -> TensorShape:
        """What is known of its shape."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Add what is known of its shape.

        Raises:
            ArgumentError: if it contradicts what was known.
        """
        self.lengths = shapes.merged(self.lengths, shapes.lengths(shape))

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Its value in a session, the default one if none is given."""
        from minigrad.dialects.tf1.session import session_for

        return session_for(self, session).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={shapes.text(self.lengths)} dtype={self.dtype}>"

    def __bool__(self) -> bool:
        raise ArgumentTypeError(
            f"{self.name}: a tensor has no truth value before the graph runs; use tf.cond, tf.where or `is not None`"
        )

    def __iter__(self) -> Any:
        raise ArgumentTypeError(f"{self.name}: a tensor can't be iterated over before the graph runs")

    def __len__(self) -> int:
        raise ArgumentTypeError(f"{self.name}: a tensor has no len() before the graph runs; use tf.shape(x)[0]")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise ArgumentTypeError(f"{self.name}: a tensor has no values before the graph runs; use session.run or eval")

    if TYPE_CHECKING:  # attached by math

        def __getitem__(self, key: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...


class Graph:
    """Operations, collections and names. There is a default one; ``with graph.as_default():`` makes another that.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default() as graph:
        ...     a = tf.constant(2.0, name="a")
        ...     b = tf.add(a, a, name="b")
        >>> graph.get_tensor_by_name("b:0") is b
        True
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.seed: int | None = None
        self.names: dict[str, Operation] = {}
        self.controls: list[list[Operation]] = [[]]
        self.scopes: list[Scope] = [Scope("", False)]  # of names of operations
        self.variable_scopes: list[Any] = []
        self.variables: dict[str, Any] = {}  # by get_variable
        self._collections: dict[str, list] = {}

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """Add what is made inside the ``with`` block to this graph."""
        _here.graphs.append(self)
        try:
            yield self
        finally:
            _here.graphs.pop()

    def add(
        self,
        type: str,
        run: Any,
        inputs: Sequence[Tensor] = (),
        name: str | None = None,
        in_session: bool = False,
        recordable: bool = True,
    ) -> Operation:
        """Add an operation, whose outputs are added to it after that."""
        for t in inputs:
            if t.graph is not self:
                raise ArgumentError(f"{name or type}: {t.name} must be from the same graph as the others, and is not")
        return self._named(Operation(self, type, self.unique_name(name or type), run, inputs, in_session, recordable))

    def _named(self, op: Operation) -> Operation:
        self.names[op.name] = op
        return op

    def unique_name(self, name: str) -> str:
        """The whole name of an operation in the scope that is open, with a number if it is taken."""
        if name.endswith("/"):  # the name as it is
            return name[:-1]
        whole = self.scopes[-1].inside(name)
        found, n = whole, 0
        while found in self.names:
            n += 1
            found = f"{whole}_{n}"
        return found

    def add_to_collection(self, name: str, value: Any) -> None:
        """Put a value into a collection."""
        self._collections.setdefault(name, []).append(value)

    def get_collection(self, name: str, scope: str | None = None) -> list:
        """What a collection holds, in a list of its own: all, or what has a name that begins with `scope`."""
        held = self._collections.get(name, ())
        return [v for v in held if scope is None or getattr(v, "name", "").startswith(scope)]

    def get_collection_ref(self, name: str) -> list:
        """The list itself that a collection holds."""
        return self._collections.setdefault(name, [])

    def clear_collection(self, name: str) -> None:
        """Empty a collection."""
        self._collections.pop(name, None)

    def get_operations(self) -> list[Operation]:
        """All operations in their order."""
        return list(self.operations)

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            ArgumentError: if there is none.
        """
        if name not in self.names:
            raise ArgumentError(f"The name {name!r} refers to an Operation not in the graph")
        return self.names[name]

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor ``name:index``.

        Raises:
            ArgumentError: if there is none.
        """
        op, separator, index = name.partition(":")
        if not separator or not index.isdigit():
            raise ArgumentError(f"The name {name!r} is no tensor's, which look like 'operation:0'")
        outputs = self.get_operation_by_name(op).outputs
        if int(index) >= len(outputs):
            raise ArgumentError(f"The name {name!r} refers to a Tensor that is not there: {op} has {len(outputs)}")
        return outputs[int(index)]

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """What is added inside runs after these operations and tensors, if it runs; None for no dependencies."""
        given = [] if control_inputs is None else [operation_of(c) for c in control_inputs]
        self.controls.append([] if control_inputs is None else [*self.controls[-1], *given])
        try:
            yield
        finally:
            self.controls.pop()

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Names of operations that are added inside begin with ``name/``; a number makes the scope's unique."""
        outer = self.scopes[-1]
        if not name:
            scope = Scope("", False)
        elif name.endswith("/"):
            scope = Scope(name[:-1], False)
        else:
            scope = Scope(outer.inside(outer.unique(name)), False)
        self.scopes.append(scope)
        try:
            yield f"{scope.name}/" if scope.name else ""
        finally:
            self.scopes.pop()


class _Here(threading.local):
    def __init__(self) -> None:
        self.base = Graph()
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []


_here = _Here()


def get_default_graph() -> Graph:
    """The graph that operations are added to: that of the innermost ``with``, or this thread's own."""
    return _here.graphs[-1] if _here.graphs else _here.base


def reset_default_graph() -> None:
    """Begin a new default graph.

    Raises:
        ArgumentError: inside ``with graph.as_default()``, which has another one.
    """
    if _here.graphs:
        raise ArgumentError("Do not use tf.reset_default_graph() to clear nested graphs")
    _here.base = Graph()


def default_sessions() -> list[Any]:
    """The sessions of this thread's ``with`` blocks, the innermost last."""
    return _here.sessions


def operation_of(value: Any) -> Operation:
    """The operation that is meant: itself, or the one that makes a tensor."""
    if isinstance(value, Operation):
        return value
    if isinstance(value, Tensor):
        return value.op
    raise ArgumentTypeError(f"got {value!r} ({type(value).__name__}), expected an Operation or a Tensor")
