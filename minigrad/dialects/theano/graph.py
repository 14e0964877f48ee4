"""The symbolic graph: variables with a type, and the applications of functions of tensors that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minigrad import dtypes
from minigrad.dialects._walk import user_line
from minigrad.dialects.theano.config import config
from minigrad.errors import ArgumentTypeError, DTypeError

_NAMES = ("scalar", "vector", "matrix", "tensor3", "tensor4", "tensor5")
_PACKAGE = __name__.rpartition(".")[0]


class TensorType:
    """What is known of a variable before it has a value: its dtype, its dimensions, and which of them have length 1.

    Args:
        dtype: a name, as ``"float32"``; ``"floatX"`` stands for ``config.floatX``.
        broadcastable: for each dimension, whether its length is known to be 1.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.TensorType("float32", (False, True))("x")
        x
    """

    __slots__ = ("broadcastable", "dtype")

    def __init__(self, dtype: Any, broadcastable: Iterable[bool]):
        self.dtype = dtype_name(dtype)
        self.broadcastable = tuple(bool(b) for b in broadcastable)

    @property
    def ndim(self) -> int:
        return len(self.broadcastable)

    def __call__(self, name: str | None = None) -> Variable:
        return Variable(self, name=name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorType) and (self.dtype, self.broadcastable) == (other.dtype, other.broadcastable)

    def __hash__(self) -> int:
        return hash((self.dtype, self.broadcastable))

    def __repr__(self) -> str:
        kind = _NAMES[self.ndim] if self.ndim < len(_NAMES) else f"{self.ndim}D"
        if self.ndim == 2 and any(self.broadcastable):
            kind = "(True, True)" if all(self.broadcastable) else "row" if self.broadcastable[0] else "col"
        return f"TensorType({self.dtype}, {kind})"


class Variable:
    """A value to come: an input, or a result of an `Apply`. The operators and methods of arrays make more of them.

    Attributes:
        type: a `TensorType`; its dtype, ndim and broadcastable are attributes of the variable too.
        name: for messages; may be set.
        owner: the `Apply` that makes it, None for inputs.
        tag: a place for the user's own attributes.
    """

    __slots__ = ("__weakref__", "_tag", "index", "name", "owner", "type")
    __array_ufunc__ = None  # NumPy's operators give way to ours

    def __init__(self, type: TensorType, owner: Apply | None = None, index: int = 0, name: str | None = None):
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self._tag: SimpleNamespace | None = None

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return self.type.ndim

    @property
    def broadcastable(self) -> tuple[bool, ...]:
        return self.type.broadcastable

    @property
    def tag(self) -> SimpleNamespace:
        if self._tag is None:
            self._tag = SimpleNamespace()
        return self._tag

    def __repr__(self) -> str:
        if self.name is not None:
            return self.name
        if self.owner is None:
            return f"<{self.type!r}>"
        return f"{self.owner.name}.{self.index}"

    __str__ = __repr__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise ArgumentTypeError(
            f"{self!r}: a symbolic variable has no truth value before it is computed; use T.switch, or T.and_ and T.or_"
        )

    def __len__(self) -> int:
        raise ArgumentTypeError(f"{self!r}: a symbolic variable has no length before it is computed; use shape[0]")

    def __iter__(self) -> Any:
        raise ArgumentTypeError(f"{self!r}: a symbolic variable can't be iterated over; index it")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise ArgumentTypeError(f"{self!r}: a symbolic variable has no values before it is computed; use eval()")

    if TYPE_CHECKING:  # attached by tensor.methods

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Variable: ...
        def __add__(self, other: Any) -> Variable: ...
        def __radd__(self, other: Any) -> Variable: ...
        def __sub__(self, other: Any) -> Variable: ...
        def __rsub__(self, other: Any) -> Variable: ...
        def __mul__(self, other: Any) -> Variable: ...
        def __rmul__(self, other: Any) -> Variable: ...
        def __truediv__(self, other: Any) -> Variable: ...
        def __rtruediv__(self, other: Any) -> Variable: ...
        def __pow__(self, other: Any) -> Variable: ...
        def __neg__(self) -> Variable: ...


class Constant(Variable):
    """A variable whose value stands in the graph."""

    __slots__ = ("data",)

    def __init__(self, data: np.ndarray, name: str | None = None):
        super().__init__(type_of(data), name=name)
        self.data = data

    @property
    def value(self) -> np.ndarray:
        return self.data

    def __repr__(self) -> str:
        return self.name or (str(self.data) if self.data.size < 10 else f"<constant {self.type!r}>")

    __str__ = __repr__
    __hash__ = object.__hash__


class Operation(NamedTuple):
    """A function of tensors, and how to call it.

    Attributes:
        name: for messages.
        run: the function, from values to a tensor, or to a tuple of them where there are several outputs.
        params: keyword arguments for it, as sorted pairs; hashable, so that equal applications are computed once.
        reads: the positions of the inputs that it takes as Python integers, or tuples of them, not as tensors.
        host: the same function on Python integers, for indices and shapes; None where there is none.
        measures: its output is a tuple of Python integers, as a shape is.
        once: every application is one of a kind, as are draws of random numbers.
    """

    name: str
    run: Callable
    params: tuple = ()
    reads: frozenset[int] = frozenset()
    host: Callable | None = None
    measures: bool = False
    once: bool = False


class Apply:
    """An operation on variables, and the variables that it makes."""

    __slots__ = ("inputs", "operation", "outputs", "where")

    def __init__(
        self, operation: Operation, inputs: Sequence[Variable], types: Sequence[TensorType], where: str | None = None
    ):
        self.operation = operation
        self.inputs = list(inputs)
        self.outputs = [Variable(t, self, i) for i, t in enumerate(types)]
        self.where = user_line(_PACKAGE) if where is None else where

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def op(self) -> Operation:
        return self.operation

    def with_inputs(self, inputs: Sequence[Variable]) -> Apply:
        """The same operation on other inputs."""
        other = type(self)(self.operation, inputs, [v.type for v in self.outputs], self.where)
        for mine, its in zip(self.outputs, other.outputs):
            its.name = mine.name
        return other

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.inputs))})"


class Gradient(Apply):
    """The gradients of `costs`, times their cotangents, with respect to variables that they depend on.

    The inputs are the costs, then a cotangent for each unless ``seeded`` is False, then the variables.
    """

    __slots__ = ()

    @property
    def costs(self) -> list[Variable]:
        return self.inputs[: self.operation.params[0]]

    @property
    def cotangents(self) -> list[Variable]:
        count, seeded = self.operation.params
        return self.inputs[count : 2 * count] if seeded else []

    @property
    def wrt(self) -> list[Variable]:
        count, seeded = self.operation.params
        return self.inputs[2 * count if seeded else count :]


def apply(
    name: str,
    run: Callable,
    inputs: Sequence[Variable],
    type: TensorType,
    *,
    reads: Iterable[int] = (),
    host: Callable | None = None,
    measures: bool = False,
    once: bool = False,
    **params: Any,
) -> Variable:
    """The variable that an operation with one output makes of `inputs`; see `Operation`."""
    operation = Operation(name, run, tuple(sorted(params.items())), frozenset(reads), host, measures, once)
    return Apply(operation, inputs, [type]).outputs[0]


# Types


def dtype_name(dtype: Any) -> str:
    """The name of a dtype; 'floatX' is the one that config says.

    Raises:
        DTypeError: for what names none that tensors have.
    """
    if isinstance(dtype, str) and dtype == "floatX":
        return config.floatX
    return dtypes.as_dtype(dtype).name


def type_of(data: np.ndarray) -> TensorType:
    """The type of an array, with its dimensions of length 1 broadcastable."""
    return TensorType(data.dtype, [n == 1 for n in data.shape])


def upcast(*names: str) -> str:
    """The smallest dtype that holds all of these."""
    return np.result_type(*map(np.dtype, names)).name


def as_variable(value: Any, name: str | None = None, ndim: int | None = None) -> Variable:
    """`value` as a variable: itself, or a constant. Lists that hold variables are stacked.

    Python numbers become the smallest dtype that holds them: floats floatX if that is float32.

    Raises:
        ArgumentTypeError: for what is no number, array, list or variable.
        ShapeError: if the variable has more dimensions than `ndim`.
    """
    if isinstance(value, Variable):
        found = value
    elif isinstance(value, (tuple, list)) and any(isinstance(v, Variable) for v in flattened(value)):
        from minigrad.dialects.theano.tensor.joining import stack

        found = stack([as_variable(v) for v in value])
    elif isinstance(value, Apply):
        if len(value.outputs) != 1:
            raise ArgumentTypeError(f"as_tensor_variable: {value.name} has {len(value.outputs)} outputs, expected one")
        found = value.outputs[0]
    else:
        found = Constant(constant_array(value), name)
    if ndim is not None and found.ndim != ndim:
        from minigrad.dialects.theano.tensor.shaping import with_ndim

        found = with_ndim(found, ndim)
    return found


def constant_array(value: Any, dtype: Any = None) -> np.ndarray:
    """The array of a constant, in the dtype that Theano's scripts expect of Python numbers."""
    try:
        array = np.array(value)
    except ValueError as error:
        raise ArgumentTypeError(f"as_tensor_variable: {value!r} is no array of numbers ({error})") from None
    if array.dtype.kind not in "biufc":
        raise ArgumentTypeError(f"as_tensor_variable: got {value!r} ({type(value).__name__}), expected numbers")
    if dtype is not None:
        return array.astype(dtype_name(dtype))
    if isinstance(value, (np.ndarray, np.generic)):
        return array.astype(dtypes.native(array.dtype))
    if array.dtype.kind == "f" and array.ndim == 0:
        if config.floatX == "float32" or float(np.float32(value)) == value or value != value:
            return array.astype("float32")
    elif array.dtype.kind == "f":
        return array.astype(config.floatX)
    elif array.dtype.kind in "iu" and array.ndim == 0:
        return array.astype(np.min_scalar_type(-abs(int(value)) - 1 if abs(int(value)) < 2**63 else value))
    return array


def flattened(value: Any) -> Iterable[Any]:
    """The items of nested tuples and lists."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (tuple, list)):
            stack.extend(reversed(item))
        else:
            yield item


def require_numeric(operation: str, x: Variable) -> None:
    if np.dtype(x.dtype).kind not in "biufc":
        raise DTypeError(f"{operation}: got {x.dtype}, expected numbers")


# Walks


def ancestors(outputs: Iterable[Variable], stops: Iterable[Variable] = ()) -> list[Variable]:
    """All variables that `outputs` depend on, themselves among them, each after those that it depends on.

    What lies behind `stops` is left out. A loop: no depth is too great.
    """
    stopped = {id(v) for v in stops}
    found: list[Variable] = []
    seen: set[int] = set()
    stack: list[tuple[Variable, bool]] = [(v, False) for v in reversed(list(outputs))]
    while stack:
        v, entered = stack.pop()
        if entered:
            found.append(v)
            continue
        if id(v) in seen:
            continue
        seen.add(id(v))
        stack.append((v, True))
        if v.owner is not None and id(v) not in stopped:
            stack.extend((i, False) for i in reversed(v.owner.inputs) if id(i) not in seen)
    return found
