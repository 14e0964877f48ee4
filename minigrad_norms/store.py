"""Variables that are shared by name, and collections of what waits to be used: TensorFlow 1's ways, made explicit.

A `VariableStore` holds both. Each thread has one of its own from the start; ``with VariableStore() as store:`` works
with another, and leaves nothing behind. Nothing here is global to the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

#: Names of collections: updates that wait, all Variables, those that train, and what regularizers give.
UPDATE_OPS = "update_ops"
GLOBAL_VARIABLES = "variables"
TRAINABLE_VARIABLES = "trainable_variables"
REGULARIZATION_LOSSES = "regularization_losses"


class _AutoReuse:
    def __repr__(self) -> str:
        return "AUTO_REUSE"


#: As `reuse`: make a Variable where there is none of its name, and share the one that is there.
AUTO_REUSE = _AutoReuse()


class Update:
    """A change of Variables that waits in a collection until it is called, which also takes it out."""

    def __init__(self, name: str, run: Callable[[], None]):
        self.name = name
        self._run: Callable[[], None] | None = run
        self.waits_in: list[list[_Item]] = []

    def __call__(self) -> None:
        run, self._run = self._run, None
        for collection in self.waits_in:
            collection[:] = [item for item in collection if item.value is not self]
        self.waits_in = []
        if run is not None:
            run()

    def __repr__(self) -> str:
        return f"<Update {self.name}, {'run' if self._run is None else 'waiting'}>"


class _Item:
    """What a collection holds: a value, and the key under which another may take its place."""

    def __init__(self, key: str | None, value: Any):
        self.key, self.value = key, value

    @property
    def name(self) -> str:
        return self.key or getattr(self.value, "name", None) or ""


class VariableStore:
    """Variables by name, and collections by name.

    As a context manager it is the store of this thread inside the block. Each time a block begins, default names are
    counted anew: what was ``BatchNorm_1`` in one pass over a network is ``BatchNorm_1`` in the next.

    Attributes:
        variables: the Variables by name.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> store = norms.VariableStore()
        >>> for x in ([[1.0], [3.0]], [[2.0], [6.0]]):
        ...     with store:
        ...         y = norms.batch_norm(mg.tensor(x), reuse=norms.AUTO_REUSE, scope="bn")
        ...         waited = norms.run_updates()
        >>> sorted(store.variables)
        ['bn/beta', 'bn/moving_mean', 'bn/moving_variance']
    """

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self._collections: dict[str, list[_Item]] = {}

    def __enter__(self) -> VariableStore:
        _here.blocks.append(_Block(self))
        return self

    def __exit__(self, *exc: object) -> None:
        _here.blocks.pop()

    @property
    def scope(self) -> Scope:
        """The innermost scope that this thread has opened in the store in use; that of whole names in any other."""
        block = _here.blocks[-1]
        return block.scopes[-1] if block.store is self else Scope("", False)

    def clear(self) -> None:
        """Forget all Variables, collections and counted names."""
        self.variables.clear()
        self._collections.clear()
        for block in _here.blocks:
            if block.store is self:
                block.scopes[0].counted.clear()

    def get_variable(
        self,
        name: str,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        trainable: bool = True,
        collections: Any = None,
        reuse: Any = None,
    ) -> Variable:
        """The Variable of that name in the scope that is open, made if there is none yet.

        Args:
            name: within the scope; the whole name is ``scope/name``.
            shape: of a new Variable; one that is shared must have it.
            dtype: likewise; by default the default float of a new one.
            initializer: a name or a function, ``glorot_uniform`` by default.
            regularizer: a name or a function, whose value REGULARIZATION_LOSSES holds.
            trainable: whether gradients flow to a new one, and TRAINABLE_VARIABLES holds it.
            collections: names of collections that hold it besides GLOBAL_VARIABLES.
            reuse: True to share, AUTO_REUSE to make or share; None and False for what the scope says, which is to make
                where nothing else was asked for.

        Raises:
            ArgumentError: if it is to be made and exists, or to be shared and does not.
            ShapeError, DTypeError: if the one that is there is of another kind.
        """
        name = self.scope.inside(name)
        reuse = checked_reuse("get_variable", reuse) or self.scope.reuse
        known = self.variables.get(name)
        if known is not None:
            if reuse is False:
                raise ArgumentError(f"get_variable: {name!r} exists already; reuse=True or AUTO_REUSE shares it")
            _require_same(name, known, shape, dtype)
            variable = known
        else:
            if reuse is True:
                raise ArgumentError(
                    f"get_variable: {name!r} does not exist, and reuse=True makes none; "
                    f"there are {sorted(self.variables) or 'no Variables'}"
                )
            if shape is None:
                raise ArgumentError(f"get_variable: {name!r} does not exist yet and is given no shape")
            sizes = tuple(int(n) for n in shape)
            kind = mg.dtypes.default_float if dtype is None else mg.dtypes.as_dtype(dtype)
            values = mg.nn.initializers.get(initializer or "glorot_uniform")(sizes, kind, None)
            if values.shape != sizes:
                raise ShapeError(f"get_variable: the initializer of {name!r} gave {values.shape}, expected {sizes}")
            variable = self.variables[name] = Variable(values, trainable, kind, name)
            self.add(GLOBAL_VARIABLES, variable)
            if variable.trainable:
                self.add(TRAINABLE_VARIABLES, variable)
            variable.regularizer = mg.nn.regularizers.get(regularizer)
        for collection in names_of("get_variable", collections):
            self.add(collection, variable)
        return variable

    def add(self, collection: str, value: Any, key: str | None = None) -> None:
        """Put a value into a collection, once; in place of the one that it holds under this key, if there is one."""
        held = self._collections.setdefault(collection, [])
        for item in held:
            if item.value is value or (key is not None and item.key == key):
                item.key, item.value = key, value
                return
        held.append(_Item(key, value))
        if isinstance(value, Update):
            value.waits_in.append(held)

    def collection(self, name: str, scope: str | None = None) -> list:
        """What a collection holds, in a list of its own: all, or what has a name that begins with `scope`.

        REGULARIZATION_LOSSES holds the regularizers' values for the Variables as they are now, as tensors.
        """
        items = self._collections.get(name, ())
        held = [item.value for item in items if scope is None or item.name.startswith(scope)]
        if name == REGULARIZATION_LOSSES:
            chosen = [v for n, v in self.variables.items() if scope is None or n.startswith(scope)]
            return [v.regularizer(v) for v in chosen if v.regularizer is not None] + held
        return held

    def clear_collection(self, name: str) -> None:
        """Empty a collection."""
        self._collections.pop(name, None)

    def run_updates(self, collection: str = UPDATE_OPS) -> int:
        """Run the updates that wait in a collection, in the order in which they came, and say how many there were."""
        waiting = [item for item in self.collection(collection) if isinstance(item, Update)]
        for update in waiting:
            update()
        return len(waiting)


class Scope:
    """A part of a store's names: what is made inside is called ``name/...``."""

    def __init__(self, name: str, reuse: Any):
        self.name, self.reuse = name, reuse
        self.counted: dict[str, int] = {}  # how often each default name was given

    def inside(self, name: str) -> str:
        """The whole name of something in this scope."""
        return f"{self.name}/{name}" if self.name else name

    def unique(self, name: str) -> str:
        """`name`, then ``name_1`` and so on."""
        n = self.counted.get(name, 0)
        self.counted[name] = n + 1
        return f"{name}_{n}" if n else name

    def __repr__(self) -> str:
        return f"<Scope {self.name!r}, reuse={self.reuse}>"


class variable_scope:
    """Open a scope: ``with variable_scope("layer1", reuse=AUTO_REUSE) as scope: ...``.

    Args:
        name_or_scope: a name within the scope that is open, or a `Scope` to open again; None to take `default_name`.
        default_name: a name to make unique by a number if none is given.
        reuse: True to share Variables, AUTO_REUSE to make or share; None and False for what the scope around it says.

    Raises:
        ArgumentError: if neither a name nor a default is given, or reuse=True is asked for without a name.

    Example:
        >>> import minigrad_norms as norms
        >>> with norms.VariableStore():
        ...     with norms.variable_scope("a"), norms.variable_scope("b"):
        ...         w = norms.get_variable("w", (2, 3))
        ...     with norms.variable_scope("a/b", reuse=True):
        ...         norms.get_variable("w") is w
        True
    """

    def __init__(self, name_or_scope: Any, default_name: str | None = None, reuse: Any = None):
        if name_or_scope is None and default_name is None:
            raise ArgumentError("variable_scope: neither a name nor a default name is given")
        if name_or_scope is None and reuse is True:
            raise ArgumentError("variable_scope: reuse=True needs a name to find Variables by")
        if not isinstance(name_or_scope, (str, Scope, type(None))):
            raise ArgumentTypeError(f"variable_scope: got {name_or_scope!r}, expected a name or a Scope")
        self._given, self._default = name_or_scope, default_name
        self._reuse = checked_reuse("variable_scope", reuse)
        self._entered: list[list[Scope]] = []

    def __enter__(self) -> Scope:
        scopes = _here.blocks[-1].scopes
        outer = scopes[-1]
        if isinstance(self._given, Scope):
            name = self._given.name
            inherited = self._given.reuse or outer.reuse
        else:
            name = outer.inside(outer.unique(str(self._default)) if self._given is None else self._given)
            inherited = outer.reuse
        scope = Scope(name, self._reuse or inherited)
        scopes.append(scope)
        self._entered.append(scopes)
        return scope

    def __exit__(self, *exc: object) -> None:
        self._entered.pop().pop()


class _Block:
    """A ``with`` block of a store, and the scopes that are open in it."""

    def __init__(self, store: VariableStore):
        self.store = store
        self.scopes = [Scope("", False)]


class _Here(threading.local):
    def __init__(self) -> None:
        self.blocks = [_Block(VariableStore())]


_here = _Here()


def get_store() -> VariableStore:
    """The store in use: that of the innermost ``with`` block, or this thread's own, whose ``clear`` empties it."""
    return _here.blocks[-1].store


def get_variable(name: str, shape: Sequence[int] | None = None, dtype: Any = None, **options: Any) -> Variable:
    """`VariableStore.get_variable` of the store in use."""
    return get_store().get_variable(name, shape, dtype, **options)


def add_to_collection(name: str, value: Any) -> None:
    """Put a value into a collection of the store in use."""
    get_store().add(name, value)


def get_collection(name: str, scope: str | None = None) -> list:
    """`VariableStore.collection` of the store in use."""
    return get_store().collection(name, scope)


def run_updates(collection: str = UPDATE_OPS) -> int:
    """Run the updates that wait in a collection of the store in use, and say how many there were.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> with norms.VariableStore() as store:
        ...     y = norms.batch_norm(mg.tensor([[1.0], [3.0]]), decay=0.5, scope="bn")
        ...     before = store.variables["bn/moving_mean"].item()
        ...     norms.run_updates()
        ...     before, store.variables["bn/moving_mean"].item()
        1
        (0.0, 1.0)
    """
    return get_store().run_updates(collection)


def names_of(operation: str, collections: Any) -> list[str]:
    """Names of collections as a list: from None, one name, or several."""
    if collections is None:
        return []
    names = [collections] if isinstance(collections, str) else collections
    if not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
        raise ArgumentTypeError(f"{operation}: collections is {collections!r}, expected names")
    return list(names)


def checked_reuse(operation: str, reuse: Any) -> Any:
    """`reuse`, if it is one of the three."""
    if reuse not in (None, True, False) and reuse is not AUTO_REUSE:
        raise ArgumentTypeError(f"{operation}: reuse is {reuse!r}, expected True, False, None or AUTO_REUSE")
    return reuse


def _require_same(name: str, known: Tensor, shape: Any, dtype: Any) -> None:
    if shape is not None and tuple(shape) != known.shape:
        raise ShapeError(f"get_variable: {name!r} has shape {known.shape}, expected {tuple(shape)}")
    if dtype is not None and mg.dtypes.as_dtype(dtype) != known.dtype:
        raise DTypeError(f"get_variable: {name!r} has dtype {known.dtype}, expected {mg.dtypes.as_dtype(dtype)}")
