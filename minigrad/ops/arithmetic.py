"""Elementwise arithmetic, comparison, selection and the elementary functions, named as NumPy names them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices.cpu_loops import Loop
from minigrad.elementwise import broadcast_shape, elementwise, off_kinks, promoted, with_number
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, as_tensor, full_like


def _samples(*groups: tuple, floor: float | None = None, ceiling: float | None = None) -> Any:
    """A samples rule: standard normal values of these shapes, moved into (floor, ceiling) where a domain asks it."""

    def rule(rng: np.random.Generator) -> Any:
        for shapes in groups:
            values = [off_kinks(rng, s, i) for i, s in enumerate(shapes)]
            if floor is not None and ceiling is not None:
                values = [floor + (ceiling - floor) / (1 + np.exp(-v)) for v in values]
            elif floor is not None:
                values = [floor + np.abs(v) + 0.1 for v in values]
            yield Sample(tuple(np.asarray(v) for v in values))

    return rule


_positive = _samples(((2, 3),), ((5,),), ((),), ((0, 3),), floor=0.0)
_apart = _samples(((2, 3), (2, 3)), ((3, 1), (1, 4)), ((), (4,)), ((0, 3), (1, 3)), ((1,), (2, 1, 5)), ((), ()))
_pairs = _samples(((2, 3), (2, 3)), ((3, 1), (1, 4)), ((0, 3), (1, 3)), ((), ()))


@elementwise("mg::add", floats=False, samples=_apart)
def _add(x, y):
    return x + y


@elementwise("mg::sub", floats=False, samples=_apart)
def _sub(x, y):
    return x - y


@elementwise("mg::mul", floats=False, samples=_apart)
def _mul(x, y):
    return x * y


@elementwise("mg::div", samples=_apart)
def _div(x, y):
    return x / y


@elementwise("mg::neg", floats=False)
def _neg(x):
    return -x


@elementwise("mg::abs", floats=False)
def _abs(x):
    return scalar.abs(x)


@elementwise("mg::sign", floats=False)
def _sign(x):
    return scalar.sign(x)


@elementwise("mg::floor")
def _floor(x):
    return scalar.floor(x)


@elementwise(
    "mg::pow", floats=False, samples=_samples(((2, 3), (2, 3)), ((3, 1), (4,)), ((), ()), floor=0.2, ceiling=3.0)
)
def _pow(x, y):
    return x**y


@elementwise("mg::square", floats=False)
def _square(x):
    return x * x


@elementwise("mg::sqrt", samples=_positive)
def _sqrt(x):
    return scalar.sqrt(x)


@elementwise("mg::rsqrt", samples=_positive, derivatives=lambda x, out: (-0.5 * out * out * out,))
def _rsqrt(x):
    return 1 / scalar.sqrt(x)


@elementwise("mg::exp")
def _exp(x):
    return scalar.exp(x)


@elementwise("mg::expm1")
def _expm1(x):
    return scalar.expm1(x)


@elementwise("mg::log", samples=_positive)
def _log(x):
    return scalar.log(x)


@elementwise("mg::log1p", samples=_positive)
def _log1p(x):
    return scalar.log1p(x)


@elementwise("mg::sin")
def _sin(x):
    return scalar.sin(x)


@elementwise("mg::cos")
def _cos(x):
    return scalar.cos(x)


@elementwise("mg::erf")
def _erf(x):
    return scalar.erf(x)


@elementwise("mg::erfc")
def _erfc(x):
    return scalar.erfc(x)


@elementwise("mg::maximum", floats=False, samples=_pairs)
def _maximum(x, y):
    return scalar.maximum(x, y)


@elementwise("mg::minimum", floats=False, samples=_pairs)
def _minimum(x, y):
    return scalar.minimum(x, y)


@elementwise("mg::greater", floats=False, samples=_pairs)
def _greater(x, y):
    return x > y


@elementwise("mg::greater_equal", floats=False, samples=_pairs)
def _greater_equal(x, y):
    return x >= y


@elementwise("mg::equal", floats=False, samples=_pairs)
def _equal(x, y):
    return x == y


@elementwise("mg::not_equal", floats=False, samples=_pairs)
def _not_equal(x, y):
    return x != y


def _clip_samples(rng: np.random.Generator) -> Any:
    yield Sample((rng.standard_normal((3, 5)), np.asarray(-0.5), np.asarray(0.7)))
    yield Sample((rng.standard_normal((4,)), np.full((4,), -0.2), np.asarray(np.inf)), differentiable=False)


@elementwise("mg::clip", floats=False, samples=_clip_samples)
def _clip(x, low, high):
    limited = scalar.select((x < low) | scalar.isnan(low), low, x)
    return scalar.select((limited > high) | scalar.isnan(high), high, limited)


# Numbers become tensors beforehand: a call that finds out for itself that it was given one takes half as long again.
_NUMBERS = frozenset((int, float))


def add(x: Any, y: Any) -> Tensor:
    """``x + y``, element by element, with broadcasting and dtypes as in NumPy.

    Example:
        >>> import minigrad as mg
        >>> mg.add(mg.tensor([[1.0], [2.0]]), mg.tensor([10.0, 20.0]))
        tensor([[11., 21.],
                [12., 22.]], dtype=float32)
    """
    if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
        x, y = with_number(_add, x, y)
    return _add(x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """``x - y``, element by element."""
    if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
        x, y = with_number(_sub, x, y)
    return _sub(x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """``x * y``, element by element."""
    if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
        x, y = with_number(_mul, x, y)
    return _mul(x, y)


def divide(x: Any, y: Any) -> Tensor:
    """``x / y``, element by element; integers are divided as floats."""
    if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
        x, y = with_number(_div, x, y)
    return _div(x, y)


def negative(x: Any) -> Tensor:
    """``-x``, element by element."""
    return _neg(x)


def absolute(x: Any) -> Tensor:
    """|x|, element by element. The derivative at 0 is 0."""
    return _abs(x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1, element by element. Its derivative is 0."""
    return _sign(x)


def floor(x: Any) -> Tensor:
    """The largest integer not above x, as a float. Its derivative is 0."""
    return _floor(x)


def power(x: Any, y: Any) -> Tensor:
    """``x ** y``, element by element.

    d/dx = y·x^(y−1), also for negative x with integral y; d/dy = x^y·log x, 0 at x = 0 with y ≥ 0.

    Example:
        >>> import minigrad as mg
        >>> mg.power(mg.tensor([-2.0, 3.0]), 2)
        tensor([4., 9.], dtype=float32)
    """
    if type(y) in (int, float):  # NumPy's own numbers are typed, and take part in the promotion
        if y == 2:
            return _square(x)
        if y == 0.5:
            return _sqrt(x)
    return _pow(x, y)


def square(x: Any) -> Tensor:
    """``x * x``, element by element."""
    return _square(x)


def sqrt(x: Any) -> Tensor:
    """The square root, NaN for negative x. The derivative at 0 is infinite."""
    return _sqrt(x)


def rsqrt(x: Any) -> Tensor:
    """1/√x, element by element."""
    return _rsqrt(x)


def exp(x: Any) -> Tensor:
    """eˣ, element by element.

    Example:
        >>> import minigrad as mg
        >>> mg.exp(mg.tensor([0.0, 1.0]))
        tensor([1.       , 2.7182817], dtype=float32)
    """
    return _exp(x)


def expm1(x: Any) -> Tensor:
    """eˣ − 1, exact for small x too."""
    return _expm1(x)


def log(x: Any) -> Tensor:
    """The natural logarithm: −∞ at 0, NaN below."""
    return _log(x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), exact for small x too."""
    return _log1p(x)


def sin(x: Any) -> Tensor:
    """The sine of x in radians."""
    return _sin(x)


def cos(x: Any) -> Tensor:
    """The cosine of x in radians."""
    return _cos(x)


def erf(x: Any) -> Tensor:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt."""
    return _erf(x)


def erfc(x: Any) -> Tensor:
    """1 − erf(x), exact also where that is small.

    Example:
        >>> import minigrad as mg
        >>> mg.erfc(mg.tensor([0.0, 5.0]))
        tensor([1.0000000e+00, 1.5374598e-12], dtype=float32)
    """
    return _erfc(x)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, element by element; NaN if either is. Where they are equal the gradient goes to x."""
    return _maximum(x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of two, element by element; NaN if either is. Where they are equal the gradient goes to x."""
    return _minimum(x, y)


def greater(x: Any, y: Any) -> Tensor:
    """``x > y`` as booleans."""
    return _greater(x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """``x >= y`` as booleans."""
    return _greater_equal(x, y)


def less(x: Any, y: Any) -> Tensor:
    """``x < y`` as booleans."""
    return _greater(y, x)


def less_equal(x: Any, y: Any) -> Tensor:
    """``x <= y`` as booleans."""
    return _greater_equal(y, x)


def equal(x: Any, y: Any) -> Tensor:
    """``x == y`` as booleans."""
    return _equal(x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """``x != y`` as booleans."""
    return _not_equal(x, y)


def clip(x: Any, low: Any = None, high: Any = None) -> Tensor:
    """x limited to [low, high]; None leaves a side open. The gradient is 1 inside and at the limits, else 0.

    Raises:
        ArgumentError: if both limits are numbers and low > high, or both are None.

    Example:
        >>> import minigrad as mg
        >>> mg.clip(mg.tensor([-2.0, 0.5, 2.0]), -1, 1)
        tensor([-1. ,  0.5,  1. ], dtype=float32)
    """
    if low is None and high is None:
        raise ArgumentError("clip: low and high are both None, expected at least one limit")
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
        raise ArgumentError(f"clip: low is {low}, above high = {high}")
    if high is None:
        return _maximum(x, low)
    if low is None:
        return _minimum(x, high)
    return _clip(x, low, high)


where_p = Primitive("mg::where")


@where_p.infer
def _(condition, x, y):
    if condition.dtype != dtypes.bool_:
        raise DTypeError(f"where: condition has dtype {condition.dtype}, expected bool")
    dtype = dtypes.require_same("where", x=x.dtype, y=y.dtype)
    return Abstract(broadcast_shape("where", [condition.shape, x.shape, y.shape]), dtype)


@where_p.kernel("reference")
def _(condition, x, y):
    return np.where(condition, x, y)


where_p.kernel("cpu")(
    Loop(
        scalar.select(scalar.variable("condition"), scalar.variable("x"), scalar.variable("y")),
        ("condition", "x", "y"),
        typed=1,
        otherwise=np.where,
    )
)


@where_p.vjp(saves=("condition",))
def _(ct, saved, needs):
    _, x, y = saved.shapes
    zero = full_like(ct, 0, ())
    return (
        None,
        where_p(saved.condition, ct, zero).sum_to(x) if needs[1] else None,
        where_p(saved.condition, zero, ct).sum_to(y) if needs[2] else None,
    )


@where_p.jvp
def _(tangents, primals, outputs):
    _, tx, ty = tangents
    zero = full_like(outputs[0], 0, ())
    result = where_p(primals[0], zero if tx is None else tx, zero if ty is None else ty)
    return result if result.shape == outputs[0].shape else result.broadcast_to(outputs[0].shape)


@where_p.samples
def _(rng):
    some = np.array([[True, False, True], [False, True, False]])
    yield Sample((some, rng.standard_normal((2, 3)), rng.standard_normal((2, 3))))
    yield Sample((some[:, :1], rng.standard_normal((3,)), rng.standard_normal(())))
    yield Sample((rng.random((0, 2)) > 0.5, rng.standard_normal((2,)), rng.standard_normal((1, 2))))
    yield Sample((rng.random((2,)), np.ones(2), np.ones(2)), error=DTypeError, match="condition has dtype")
    yield Sample((some, np.ones(3), np.ones((2, 2))), error=ShapeError, match="do not broadcast")


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, else y; broadcast. The gradient flows to the one that was taken.

    Raises:
        DTypeError: if the condition is not boolean.
        ShapeError: if the shapes do not broadcast.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([-1.0, 2.0])
        >>> mg.where(x > 0, x, 0.0)
        tensor([0., 2.], dtype=float32)
    """
    x, y = promoted("where", (x, y), like=condition if isinstance(condition, Tensor) else None)
    return where_p(as_tensor(condition, like=x), x, y)
