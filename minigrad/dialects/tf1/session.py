"""Session: runs parts of a graph, and keeps the values of its Variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.errors import FailedPreconditionError
from minigrad.dialects.tf1.graph import Graph, Operation, Tensor, default_sessions, get_default_graph
from minigrad.dialects.tf1.program import Program
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms import VariableStore


class Session:
    """Runs operations of a graph. Each session has values of its own for the graph's Variables.

    Args:
        target, config: accepted, and ignored.
        graph: the default one if none is given.

    Attributes:
        graph: the graph.
        store: the `VariableStore` that holds the Variables that have values.
        optimizers: by name.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default():
        ...     x = tf.placeholder(tf.float32, [None], name="x")
        ...     w = tf.Variable(2.0, name="w")
        ...     y = w * x
        ...     with tf.Session() as session:
        ...         session.run(tf.global_variables_initializer())
        ...         session.run({"y": y}, feed_dict={x: [1.0, 3.0]})
        {'y': array([2., 6.], dtype=float32)}
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None):
        self.graph = get_default_graph() if graph is None else graph
        self.store = VariableStore()
        self.generator = (
            mg.random.default_generator if self.graph.seed is None else mg.random.Generator(self.graph.seed)
        )
        self.optimizers: dict[str, Any] = {}
        self._generators: dict[Operation, mg.random.Generator] = {}
        self._programs: dict[tuple, Program] = {}
        self._closed = False
        self._entered: list[Any] = []

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run what `fetches` need, and return their values: arrays, and None for operations.

        Args:
            fetches: a tensor, an operation, the name of one, or a list, tuple or dict of those, nested as you like.
            feed_dict: values of placeholders, or of other tensors, which are not computed then.
            options, run_metadata: accepted, and ignored.

        Raises:
            InvalidArgumentError: for a placeholder that is needed and not fed.
            FailedPreconditionError: for a Variable without a value.
            ShapeError, ArgumentTypeError: for a value that does not fit its tensor; also a ValueError or TypeError.
        """
        if self._closed:
            raise ArgumentError("Attempted to use a closed Session.")
        flat: list[Any] = []
        rebuild = self._flattened(fetches, flat)
        feeds: dict[Tensor, Any] = {}
        for key, value in (feed_dict or {}).items():
            t = self._fed(key)
            feeds[t] = fed_value(t, value)
        key = (tuple(map(id, flat)), tuple(map(id, feeds)))
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = Program(self, flat, list(feeds))
        results = [_array(v) for v in program(list(feeds.values()))]
        return rebuild(results)

    def close(self) -> None:
        """Forget all values; the session can't be used any more."""
        self._closed = True
        self.store.clear()
        self.optimizers.clear()
        self._programs.clear()

    def as_default(self) -> Any:
        """A ``with`` block in which ``eval`` and ``run`` use this session, which stays open after it."""
        return _Default(self)

    def __enter__(self) -> Session:
        context = self.graph.as_default()
        context.__enter__()
        self._entered.append(context)
        default_sessions().append(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        default_sessions().pop()
        self._entered.pop().__exit__(*exc)
        self.close()

    # What operations ask for

    def variable(self, name: str) -> mg.Variable:
        """The Variable of that name.

        Raises:
            FailedPreconditionError: if it has no value in this session.
        """
        try:
            return self.store.variables[name]
        except KeyError:
            raise FailedPreconditionError(
                f"Attempting to use uninitialized value {name}; run tf.global_variables_initializer() in this session"
            ) from None

    def initialize(self, name: str, value: Any, trainable: bool) -> mg.Variable:
        """Give a Variable its first value, or that value again."""
        known = self.store.variables.get(name)
        if known is None:
            known = self.store.variables[name] = mg.Variable(value, trainable, name=name)
        else:
            known.assign(value)
        return known

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """The optimizer of that name, made if there is none yet."""
        if name not in self.optimizers:
            self.optimizers[name] = make()
        return self.optimizers[name]

    def generator_of(self, op: Operation, seed: int | None) -> mg.random.Generator:
        """What an operation draws from: this session's generator, or one of its own if it has a seed."""
        if seed is None:
            return self.generator
        if op not in self._generators:
            self._generators[op] = mg.random.Generator(seed)
        return self._generators[op]

    def variables(self) -> dict[str, mg.Variable]:
        """All state by name: Variables, and what optimizers keep."""
        found = dict(self.store.variables)
        for key, value in self.optimizers.items():
            found.update({f"{key}/{name}": v for name, v in value.variables.items()})
        return found

    def copies(self) -> list[tuple[mg.Variable, np.ndarray]]:
        """All state as it is now, the generator's among it."""
        generators = [self.generator, *self._generators.values()]
        return [(v, v.numpy().copy()) for v in [*self.variables().values(), *(g.state for g in generators)]]

    def restore_copies(self, copies: list[tuple[mg.Variable, np.ndarray]]) -> None:
        """Make state what it was."""
        for variable, values in copies:
            variable.assign(values)

    # Fetches and feeds

    def _flattened(self, fetch: Any, flat: list[Any]) -> Callable[[list[Any]], Any]:
        """Add what a structure holds to `flat`, and give the function that makes such a structure of their values."""
        if isinstance(fetch, (list, tuple)):
            parts = [self._flattened(f, flat) for f in fetch]
            kind = type(fetch)
            if hasattr(fetch, "_fields"):
                return lambda values: kind(*[part(values) for part in parts])
            return lambda values: kind([part(values) for part in parts])
        if isinstance(fetch, Mapping):
            named = {name: self._flattened(f, flat) for name, f in fetch.items()}
            return lambda values: {name: part(values) for name, part in named.items()}
        place = len(flat)
        flat.append(self._element(fetch))
        return lambda values: values[place]

    def _element(self, fetch: Any) -> Any:
        if isinstance(fetch, str):
            by_name = self.graph.get_tensor_by_name if ":" in fetch else self.graph.get_operation_by_name
            fetch = by_name(fetch)
        if not isinstance(fetch, (Tensor, Operation)):
            raise ArgumentTypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch).__name__}, must be a string or Tensor. "
                "(Can not convert it into a Tensor or Operation.)"
            )
        if fetch.graph is not self.graph:
            raise ArgumentError(f"Fetch argument {fetch!r} cannot be interpreted as a Tensor: it is of another graph")
        return fetch

    def _fed(self, key: Any) -> Tensor:
        t = self.graph.get_tensor_by_name(key) if isinstance(key, str) else key
        if not isinstance(t, Tensor):
            raise ArgumentTypeError(f"Cannot interpret feed_dict key as Tensor: {key!r} is a {type(key).__name__}")
        if t.graph is not self.graph:
            raise ArgumentError(f"Cannot interpret feed_dict key as Tensor: {t!r} is of another graph")
        return t


class InteractiveSession(Session):
    """A session that is the default one from the start, until it is closed."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None):
        super().__init__(target, graph, config)
        default_sessions().append(self)

    def close(self) -> None:
        """Forget all values; the session is not the default one any more."""
        sessions = default_sessions()
        if self in sessions:
            sessions.remove(self)
        super().close()


class GPUOptions:
    """Settings of GPUs: kept, and of no effect here."""

    def __init__(self, **settings: Any):
        self.__dict__.update(settings)


class ConfigProto:
    """Settings of a session: kept, and of no effect here.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> config = tf.ConfigProto(allow_soft_placement=True)
        >>> config.gpu_options.allow_growth = True
        >>> tf.Session(config=config).close()
    """

    def __init__(self, **settings: Any):
        self.gpu_options = GPUOptions()
        self.__dict__.update(settings)


@contextmanager
def device(device_name_or_function: Any) -> Iterator[None]:
    """``with tf.device("/cpu:0"): ...``: accepted, and of no effect: all runs on minigrad's own device."""
    yield


class _Default:
    def __init__(self, session: Session):
        self._session = session

    def __enter__(self) -> Session:
        default_sessions().append(self._session)
        return self._session

    def __exit__(self, *exc: object) -> None:
        default_sessions().pop()


def get_default_session() -> Session | None:
    """The session of the innermost ``with`` block, None if there is none."""
    sessions = default_sessions()
    return sessions[-1] if sessions else None


def session_for(value: Any, session: Session | None) -> Session:
    """The session to run something in.

    Raises:
        ArgumentError: if none is given and there is no default one.
    """
    found = get_default_session() if session is None else session
    if found is None:
        raise ArgumentError(
            f"Cannot evaluate {value!r}: no default session is registered. Use `with sess.as_default()` or pass one."
        )
    return found


def fed_value(t: Tensor, value: Any) -> Any:
    """A fed value as the program takes it: an array, or a Python boolean where a single one is fed."""
    if isinstance(value, Tensor):
        raise ArgumentTypeError(
            f"The value of a feed cannot be a tf.Tensor object: got {value!r} for {t.name}; feed numbers or arrays"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentTypeError(f"Cannot feed {value!r} for Tensor {t.name!r}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise ArgumentTypeError(f"Cannot feed {value!r} for Tensor {t.name!r}, which has dtype {t.dtype}")
    known = t.lengths
    if known is not None and (
        len(known) != array.ndim or any(n is not None and n != m for n, m in zip(known, array.shape))
    ):
        raise ShapeError(
            f"Cannot feed value of shape {array.shape} for Tensor {t.name!r}, which has shape {shapes.text(known)!r}"
        )
    if t.dtype.kind == "b" and not array.ndim:
        return bool(array)  # a way through the graph, which is planned for each of the two
    return np.ascontiguousarray(array, t.dtype).reshape(array.shape)


def _array(value: Any) -> Any:
    if value is None:
        return None
    array = np.array(value.numpy())
    return array if array.ndim else array[()]
