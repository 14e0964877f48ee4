"""Variable scopes, in which Variables are shared by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from minigrad import dtypes
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.graph import GraphKeys, Tensor, get_default_graph
from minigrad.dialects.tf1.init_ops import Initializer, glorot_uniform_initializer, zeros_initializer
from minigrad.dialects.tf1.variables import Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad_norms.store import Scope, checked_reuse


class VariableScope:
    """A part of the names of `get_variable`, and what is asked for there.

    Attributes:
        name: the whole name of the scope.
        reuse: whether Variables are shared: True, AUTO_REUSE, or False.
        initializer, regularizer, dtype: of Variables for which nothing else is said.
    """

    def __init__(self, scope: Scope, initializer: Any = None, regularizer: Any = None, dtype: Any = "float32"):
        self.scope = scope
        self.initializer, self.regularizer, self.dtype = initializer, regularizer, dtype

    @property
    def name(self) -> str:
        return self.scope.name

    original_name_scope = property(lambda self: f"{self.name}/" if self.name else "")

    @property
    def reuse(self) -> Any:
        return self.scope.reuse

    def reuse_variables(self) -> None:
        """From now on share the Variables that are there."""
        self.scope.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """From now on use this initializer where none is given."""
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        """From now on use this regularizer where none is given."""
        self.regularizer = regularizer

    def get_variable(self, name: str, shape: Any = None, **options: Any) -> Variable:
        """`get_variable` in this scope."""
        with variable_scope(self):
            return get_variable(name, shape, **options)

    def global_variables(self) -> list[Variable]:
        """The Variables of this scope."""
        return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, self.original_name_scope)

    def trainable_variables(self) -> list[Variable]:
        """The trainable ones among them."""
        return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, self.original_name_scope)


def get_variable_scope() -> VariableScope:
    """The scope that is open, at first that of whole names."""
    scopes = get_default_graph().variable_scopes
    if not scopes:
        scopes.append(VariableScope(Scope("", False)))
    found: VariableScope = scopes[-1]
    return found


@contextmanager
def variable_scope(
    name_or_scope: Any,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: Any = None,
    constraint: Any = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[VariableScope]:
    """Open a scope: ``with tf.variable_scope("layer1", reuse=tf.AUTO_REUSE) as scope: ...``.

    Args:
        name_or_scope: a name within the scope that is open, or a `VariableScope` to open again; None for
            `default_name`, with a number to make it unique.
        reuse: True to share Variables, AUTO_REUSE to make or share them; None for what the scope around it says.
        initializer, regularizer, dtype: of Variables in it for which nothing else is said.
        values, caching_device, partitioner, custom_getter, use_resource, constraint: accepted, and ignored.

    Raises:
        ArgumentError: without a name, or for reuse without one; also a ValueError.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default():
        ...     with tf.variable_scope("a"):
        ...         w = tf.get_variable("w", [2, 3])
        ...     with tf.variable_scope("a", reuse=True):
        ...         w.name, tf.get_variable("w", [2, 3]) is w
        ('a/w:0', True)
    """
    outer, graph = get_variable_scope(), get_default_graph()
    reuse = checked_reuse("variable_scope", reuse)
    if name_or_scope is None and default_name is None:
        raise ArgumentError("variable_scope: if default_name is None then name_or_scope is required")
    if name_or_scope is None and reuse is True:
        raise ArgumentError("variable_scope: reuse=True cannot be used without a name_or_scope")
    if not isinstance(name_or_scope, (str, VariableScope, type(None))):
        raise ArgumentTypeError(f"variable_scope: name_or_scope must be a string or VariableScope: {name_or_scope!r}")
    if isinstance(name_or_scope, VariableScope):
        like, name = name_or_scope, name_or_scope.name
        leaf = f"{name}/" if name else None
    else:
        like = outer
        leaf = outer.scope.unique(str(default_name)) if name_or_scope is None else name_or_scope
        if name_or_scope is not None:
            outer.scope.unique(leaf)  # counted, so that no default name is the same
        name = outer.scope.inside(leaf)
    scope = VariableScope(
        Scope(name, reuse or like.reuse or outer.reuse),
        like.initializer if initializer is None else initializer,
        like.regularizer if regularizer is None else regularizer,
        like.dtype if dtype is None else dtype,
    )
    graph.variable_scopes.append(scope)
    try:
        with graph.name_scope(leaf):
            yield scope
    finally:
        graph.variable_scopes.pop()


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool = True,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: Any = None,
    custom_getter: Any = None,
    constraint: Any = None,
) -> Variable:
    """The Variable of that name in the scope that is open: made, or shared if the scope says so.

    Args:
        name: within the scope.
        shape: of a new Variable, unless the initializer is a tensor or an array; one that is shared must have it.
        dtype: likewise.
        initializer: a tensor or an array; or a function of shape and dtype that makes one, by default Glorot's
            uniform, and zeros for integers.
        regularizer: a function of the Variable, whose value REGULARIZATION_LOSSES holds.
        trainable, collections: as of `Variable`.

    Raises:
        ArgumentError: if it is to be made and exists, or to be shared and does not; also a ValueError.
        ShapeError, DTypeError: if the one that is there is of another kind; also a ValueError.
    """
    scope, graph = get_variable_scope(), get_default_graph()
    whole = scope.scope.inside(name)
    known = graph.variables.get(whole)
    wanted = None if shape is None else shapes.lengths(shape)
    if known is not None:
        if not scope.reuse:
            raise ArgumentError(
                f"Variable {whole} already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE "
                f"in VarScope? It was defined at {known.op.where}"
            )
        if wanted is not None and wanted != known.lengths:
            raise ShapeError(
                f"Trying to share variable {whole}, but specified shape {shapes.text(wanted)} and found shape "
                f"{shapes.text(known.lengths)}."
            )
        if dtype is not None and dtypes.as_dtype(dtype) != known.dtype:
            raise DTypeError(
                f"Trying to share variable {whole}, but specified dtype {dtypes.as_dtype(dtype)} and found dtype "
                f"{known.dtype}."
            )
        return known
    if scope.reuse is True:
        raise ArgumentError(
            f"Variable {whole} does not exist, or was not created with tf.get_variable(). Did you mean to set "
            f"reuse=tf.AUTO_REUSE in VarScope? There are {sorted(graph.variables) or 'none'}"
        )
    kind = dtypes.as_dtype(scope.dtype if dtype is None else dtype)
    with graph.name_scope(None):
        value = _first(whole, wanted, kind, scope.initializer if initializer is None else initializer)
        made = Variable(value, trainable, collections, name=whole, dtype=None if isinstance(value, Tensor) else dtype)
    graph.variables[whole] = made
    regularizer = scope.regularizer if regularizer is None else regularizer
    if regularizer is not None:
        with graph.name_scope(f"{whole}/"):
            loss = regularizer(made)
        if loss is not None:
            graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return made


def _first(name: str, shape: shapes.Lengths, dtype: Any, initializer: Any) -> Any:
    """A Variable's initial value, or the function that makes it."""
    if isinstance(initializer, type) and issubclass(initializer, Initializer):
        initializer = initializer()  # type: ignore[call-arg]
    if initializer is None:
        initializer = glorot_uniform_initializer() if dtype.kind == "f" else zeros_initializer()
    if not callable(initializer):
        if shape is not None:
            raise ArgumentError(f"get_variable: {name}: if initializer is a constant, do not specify shape")
        return initializer
    if shape is None or None in shape:
        raise ShapeError(
            f"Shape of a new variable ({name}) must be fully defined, but instead was {shapes.text(shape)}."
        )
    return partial(initializer, shape, dtype)
