"""Arithmetic, comparisons, reductions and products, and the operators of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import dtypes
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.building import apply, convert_to_tensor
from minigrad.dialects.tf1.graph import Tensor
from minigrad.errors import ArgumentError, DTypeError, ShapeError


def on_host(values: Sequence[Any]) -> bool:
    """Whether these are the integers and booleans that shapes and choices are made of, which are no tensors."""
    return not any(isinstance(v, mg.Tensor) for v in values)


def _unary(type: str, run: Callable, line: str, dtype: Any = None) -> Callable[..., Tensor]:
    def function(x: Any, name: str | None = None) -> Tensor:
        t = convert_to_tensor(x)
        return apply(type, run, [t], name, t.dtype if dtype is None else dtype, t.lengths)

    function.__name__ = function.__qualname__ = type.lower()
    function.__doc__ = line
    return function


def _binary(type: str, run: Callable, host: Callable, line: str, dtype: Any = None) -> Callable[..., Tensor]:
    def compute(x: Any, y: Any) -> Any:
        return host(x, y) if on_host((x, y)) else run(x, y)

    def function(x: Any, y: Any, name: str | None = None) -> Tensor:
        a, b = _alike(name or type, x, y)
        found = a.dtype if dtype is None else dtype
        return apply(type, compute, [a, b], name, found, broadcast(name or type, a.lengths, b.lengths))

    function.__name__ = function.__qualname__ = type.lower()
    function.__doc__ = line
    return function


def _alike(operation: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors of one dtype: numbers take that of the tensor beside them."""
    if isinstance(x, Tensor) and not isinstance(y, Tensor):
        y = convert_to_tensor(y, x.dtype)
    elif isinstance(y, Tensor) and not isinstance(x, Tensor):
        x = convert_to_tensor(x, y.dtype)
    a, b = convert_to_tensor(x), convert_to_tensor(y)
    if a.dtype != b.dtype:
        raise DTypeError(
            f"Input 'y' of {operation!r} has type {b.dtype} ({b.name}) that does not match type {a.dtype} of "
            f"argument 'x' ({a.name}); use tf.cast"
        )
    return a, b


def broadcast(operation: str, one: shapes.Lengths, other: shapes.Lengths) -> shapes.Lengths:
    """The shape that two broadcast to. A length that is not known is taken as the one that it meets, if that is not 1.

    Raises:
        ShapeError: if they don't; also a ValueError.
    """
    if one is None or other is None:
        return None
    n = max(len(one), len(other))
    found = []
    for a, b in zip((1,) * (n - len(one)) + one, (1,) * (n - len(other)) + other):
        if a is not None and b is not None and a != b and 1 not in (a, b):
            raise ShapeError(
                f"Dimensions must be equal, but are {a} and {b} for {operation!r} with input shapes: "
                f"{shapes.text(one)}, {shapes.text(other)}"
            )
        found.append(b if a == 1 else a if b == 1 or a is not None else b)
    return tuple(found)


# As tf.* and as operators

abs_ = _unary("Abs", mg.absolute, "|x|")
negative = _unary("Neg", lambda x: -x, "-x")
sign = _unary("Sign", mg.sign, "-1, 0 or 1")
square = _unary("Square", mg.square, "x²")
sqrt = _unary("Sqrt", mg.sqrt, "√x")
rsqrt = _unary("Rsqrt", mg.rsqrt, "1/√x")
exp = _unary("Exp", mg.exp, "eˣ")
log = _unary("Log", mg.log, "The natural logarithm.")
log1p = _unary("Log1p", mg.log1p, "log(1 + x)")
floor = _unary("Floor", mg.floor, "The largest integer that is not above x.")
sin = _unary("Sin", mg.sin, "sin x")
cos = _unary("Cos", mg.cos, "cos x")
tanh = _unary("Tanh", mg.tanh, "tanh x")
sigmoid = _unary("Sigmoid", mg.sigmoid, "1/(1 + e⁻ˣ)")
erf = _unary("Erf", mg.erf, "The error function.")
reciprocal = _unary("Reciprocal", lambda x: 1.0 / x, "1/x")
is_nan = _unary("IsNan", lambda x: x != x, "Whether it is NaN.", bool)
is_finite = _unary("IsFinite", lambda x: mg.absolute(x) < float("inf"), "Whether it is neither NaN nor infinite.", bool)
logical_not = _unary("LogicalNot", lambda x: mg.equal(x, False) if isinstance(x, mg.Tensor) else not x, "not x", bool)

add = _binary("Add", mg.add, np.add, "x + y")
subtract = _binary("Sub", mg.subtract, np.subtract, "x - y")
multiply = _binary("Mul", mg.multiply, np.multiply, "x · y")
_real = _binary("RealDiv", mg.divide, np.true_divide, "x / y")
floordiv = _binary("FloorDiv", lambda x, y: _floored(x, y), np.floor_divide, "⌊x / y⌋")
mod = _binary("FloorMod", lambda x, y: x - _floored(x, y) * y, np.mod, "x - ⌊x / y⌋ · y")
pow_ = _binary("Pow", mg.power, np.power, "xʸ")
maximum = _binary("Maximum", mg.maximum, np.maximum, "The larger one.")
minimum = _binary("Minimum", mg.minimum, np.minimum, "The smaller one.")
squared_difference = _binary(
    "SquaredDifference", lambda x, y: mg.square(x - y), lambda x, y: np.square(x - y), "(x - y)²"
)
equal = _binary("Equal", mg.equal, np.equal, "x = y", bool)
not_equal = _binary("NotEqual", mg.not_equal, np.not_equal, "x ≠ y", bool)
greater = _binary("Greater", mg.greater, np.greater, "x > y", bool)
greater_equal = _binary("GreaterEqual", mg.greater_equal, np.greater_equal, "x ≥ y", bool)
less = _binary("Less", mg.less, np.less, "x < y", bool)
less_equal = _binary("LessEqual", mg.less_equal, np.less_equal, "x ≤ y", bool)
logical_and = _binary("LogicalAnd", mg.multiply, np.logical_and, "x and y", bool)
logical_or = _binary("LogicalOr", mg.maximum, np.logical_or, "x or y", bool)


def _floored(x: Any, y: Any) -> Any:
    wide = mg.floor(mg.as_tensor(x).astype("float64") / mg.as_tensor(y).astype("float64"))
    return wide.astype(mg.as_tensor(x).dtype)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, of integers too: those become float64."""
    a, b = _alike(name or "truediv", x, y)
    if a.dtype.kind in "iu":
        a, b = cast(a, "float64"), cast(b, "float64")
    return _real(a, b, name)


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x in another dtype; itself if it has it."""
    t, wanted = convert_to_tensor(x), dtypes.as_dtype(dtype)
    if t.dtype == wanted:
        return t

    def run(value: Any) -> Any:
        array = value if isinstance(value, mg.Tensor) else np.asarray(value)
        # Integers stay on the host if they were, as lengths do; floats are tensors.
        return array.astype(wanted) if isinstance(value, mg.Tensor) or wanted.kind != "f" else mg.tensor(array, wanted)

    return apply("Cast", run, [t], name, wanted, t.lengths)


def to_float(x: Any, name: str | None = None) -> Tensor:
    """x as float32."""
    return cast(x, "float32", name)


def add_n(inputs: Sequence[Any], name: str | None = None) -> Tensor:
    """The sum of several tensors of one shape."""
    if not inputs:
        raise ArgumentError("add_n: got no tensors, expected at least one")
    total = convert_to_tensor(inputs[0])
    for t in inputs[1:]:
        total = add(total, t, name)
    return total


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor:
    """t, between two values."""
    return minimum(maximum(t, clip_value_min), clip_value_max, name)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, name: str | None = None) -> Tensor:
    """The matrix product, of the transposed matrices where that is asked for.

    Raises:
        ShapeError: for shapes that do not fit; also a ValueError.
    """
    x, y = _alike(name or "MatMul", a, b)
    for what, t in (("a", x), ("b", y)):
        if t.lengths is not None and len(t.lengths) < 2:
            raise ShapeError(f"{name or 'MatMul'}: Shape must be rank 2 but is rank {len(t.lengths)} for {what}, {t!r}")
    if x.lengths is not None and y.lengths is not None:
        inner = (x.lengths[-2 if transpose_a else -1], y.lengths[-1 if transpose_b else -2])
        if None not in inner and inner[0] != inner[1]:
            raise ShapeError(
                f"Dimensions must be equal, but are {inner[0]} and {inner[1]} for {name or 'MatMul'!r} with input "
                f"shapes: {shapes.text(x.lengths)}, {shapes.text(y.lengths)}"
            )
        if len(x.lengths) == len(y.lengths) == 2:
            shape = (x.lengths[1 if transpose_a else 0], y.lengths[0 if transpose_b else 1])
            run = partial(_product, transpose_a=transpose_a, transpose_b=transpose_b)
            return apply("MatMul", run, [x, y], name, x.dtype, shape)
    return apply("BatchMatMul", partial(_product, transpose_a=transpose_a, transpose_b=transpose_b), [x, y], name)


def _product(x: Any, y: Any, transpose_a: bool, transpose_b: bool) -> mg.Tensor:
    return mg.matmul(mg.matrix_transpose(x) if transpose_a else x, mg.matrix_transpose(y) if transpose_b else y)


def _reduction(type: str, run: Callable, line: str) -> Callable[..., Tensor]:
    def function(
        input_tensor: Any,
        axis: Any = None,
        keepdims: Any = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: Any = None,
    ) -> Tensor:
        axis = reduction_indices if axis is None else axis
        keep = bool(keep_dims if keepdims is None else keepdims)
        over = None if axis is None else tuple(axis) if isinstance(axis, (list, tuple, np.ndarray)) else int(axis)
        t = convert_to_tensor(input_tensor)
        return apply(type, partial(run, axis=over, keepdims=keep), [t], name, dtype=t.dtype)

    function.__name__ = function.__qualname__ = f"reduce_{type.lower()}"
    function.__doc__ = (
        f"{line} over `axis`, an axis, several, or None for all; ``reduction_indices`` is its older name."
    )
    return function


def _typed(reduce: Callable) -> Callable:
    """A reduction whose result has its argument's dtype, as TensorFlow's have, of integers too."""

    def run(x: Any, axis: Any, keepdims: bool) -> Any:
        x = mg.as_tensor(x)
        return reduce(x, axis, keepdims=keepdims).astype(x.dtype)

    return run


def _integer_mean(x: mg.Tensor, axis: Any, keepdims: bool) -> mg.Tensor:
    found = mg.mean(x, axis, keepdims=keepdims)
    return found if x.dtype.kind == "f" else mg.floor(found)


reduce_sum = _reduction("Sum", _typed(mg.sum), "The sum")
reduce_mean = _reduction("Mean", _typed(_integer_mean), "The mean")
reduce_max = _reduction("Max", _typed(mg.max), "The largest")
reduce_min = _reduction("Min", _typed(mg.min), "The smallest")
reduce_all = _reduction("All", _typed(mg.all), "Whether all are true")
reduce_any = _reduction("Any", _typed(mg.any), "Whether one is true")
reduce_logsumexp = _reduction("Logsumexp", _typed(mg.logsumexp), "log Σ exp")


def argmax(
    input: Any,
    axis: int | None = None,
    name: str | None = None,
    dimension: int | None = None,
    output_type: Any = "int64",
) -> Tensor:
    """The place of the largest along an axis, the first one by default; `dimension` is its older name."""
    return _place("ArgMax", mg.argmax, input, axis, name, dimension, output_type)


def argmin(
    input: Any,
    axis: int | None = None,
    name: str | None = None,
    dimension: int | None = None,
    output_type: Any = "int64",
) -> Tensor:
    """The place of the smallest along an axis, the first one by default."""
    return _place("ArgMin", mg.argmin, input, axis, name, dimension, output_type)


def _place(
    type: str, run: Callable, x: Any, axis: int | None, name: str | None, dimension: int | None, dtype: Any
) -> Tensor:
    along = int(dimension or 0) if axis is None else int(axis)
    wanted = dtypes.as_dtype(dtype)
    return apply(type, lambda value: run(value, along).astype(wanted), [convert_to_tensor(x)], name)


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor:
    """√ Σ ‖t‖² over several tensors, None among them."""
    return sqrt(add_n([reduce_sum(square(t)) for t in t_list if t is not None]), name)


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list, Tensor]:
    """Tensors scaled together so that their norm is at most `clip_norm`, and the norm that they had."""
    norm = global_norm(t_list) if use_norm is None else convert_to_tensor(use_norm)
    scale = divide(clip_norm, maximum(norm, clip_norm))
    return [None if t is None else multiply(t, scale) for t in t_list], norm


_BINARY: dict[str, Callable] = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "floordiv": floordiv, "mod": mod, "pow": pow_,
    "matmul": matmul, "and": logical_and, "or": logical_or,
}  # fmt: skip
_COMPARED: dict[str, Callable] = {"gt": greater, "ge": greater_equal, "lt": less, "le": less_equal}
_SINGLE: dict[str, Callable] = {"neg": negative, "abs": abs_, "invert": logical_not}
for _symbol, _function in {**_BINARY, **_COMPARED}.items():
    setattr(Tensor, f"__{_symbol}__", lambda self, other, f=_function: f(self, other))
for _symbol, _function in _BINARY.items():
    setattr(Tensor, f"__r{_symbol}__", lambda self, other, f=_function: f(other, self))
for _symbol, _function in _SINGLE.items():
    setattr(Tensor, f"__{_symbol}__", lambda self, f=_function: f(self))
