"""The language of scalar functions: what an elementwise primitive is written in.

A scalar function is written once with the operators and functions of this module. Called with arrays it computes with
NumPy, in any dtype; called with `Expr`\\ s it returns an expression, from which kernels are generated and which can be
differentiated symbolically. Each operation is one line of `OPERATIONS`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from math import pi
from math import sqrt as _sqrt
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minigrad.errors import ArgumentTypeError


class Expr:
    """A scalar expression: a variable (``op == "var"``), a constant (``"const"``), or an operation on expressions.

    Equal expressions are one object, so a subexpression that occurs twice is computed once.
    """

    __slots__ = ("args", "boolean", "op", "value")
    __array_ufunc__ = None
    _known: ClassVar[dict[tuple, Expr]] = {}

    op: str
    args: tuple[Expr, ...]
    value: Any
    boolean: bool

    def __new__(cls, op: str, args: tuple[Expr, ...] = (), value: Any = None) -> Expr:
        key = (op, tuple(id(a) for a in args), repr(value))
        found = cls._known.get(key)
        if found is None:
            found = super().__new__(cls)
            found.op, found.args, found.value = op, args, value
            found.boolean = op in _BOOLEAN
            found = cls._known.setdefault(key, found)
        return found

    def __add__(self, other: Any) -> Expr:
        return add(self, other)

    def __radd__(self, other: Any) -> Expr:
        return add(other, self)

    def __sub__(self, other: Any) -> Expr:
        return sub(self, other)

    def __rsub__(self, other: Any) -> Expr:
        return sub(other, self)

    def __mul__(self, other: Any) -> Expr:
        return mul(self, other)

    def __rmul__(self, other: Any) -> Expr:
        return mul(other, self)

    def __truediv__(self, other: Any) -> Expr:
        return div(self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return div(other, self)

    def __pow__(self, other: Any) -> Expr:
        return pow(self, other)

    def __rpow__(self, other: Any) -> Expr:
        return pow(other, self)

    def __neg__(self) -> Expr:
        return neg(self)

    def __abs__(self) -> Expr:
        return abs(self)

    def __gt__(self, other: Any) -> Expr:
        return gt(self, other)

    def __ge__(self, other: Any) -> Expr:
        return ge(self, other)

    def __lt__(self, other: Any) -> Expr:
        return gt(other, self)

    def __le__(self, other: Any) -> Expr:
        return ge(other, self)

    def __eq__(self, other: Any) -> Any:
        return eq(self, other)

    def __ne__(self, other: Any) -> Any:
        return logical_not(eq(self, other))

    def __and__(self, other: Any) -> Expr:
        return logical_and(self, other)

    def __or__(self, other: Any) -> Expr:
        return logical_or(self, other)

    def __invert__(self) -> Expr:
        return logical_not(self)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise ArgumentTypeError(
            "a scalar function can't branch on a value (if, and, or, min, max); use select(condition, a, b), &, |, "
            "minimum and maximum of minigrad.scalar"
        )

    def __float__(self) -> float:
        raise ArgumentTypeError(
            "a scalar function has no numbers yet; use the functions of minigrad.scalar, not math's"
        )

    __int__ = __index__ = __complex__ = __float__

    def __repr__(self) -> str:
        if self.op == "var":
            return self.value
        if self.op == "const":
            return repr(self.value)
        return f"{self.op}({', '.join(map(repr, self.args))})"


_BOOLEAN = {"gt", "ge", "eq", "logical_and", "logical_or", "logical_not", "isnan"}


class Operation(NamedTuple):
    """How one operation is evaluated, written as kernel source, and differentiated.

    ``code`` is a format over the arguments' names; ``{m}`` in it stands for the suffix of `minigrad.devices.cpu_math`
    functions, ``_f32`` or ``_f64``, and ``div`` is the device's division, rounded as written. ``partials`` gives one
    expression an argument, from the arguments and the result; None where the derivative is zero everywhere it exists.
    """

    numpy: Callable
    code: str
    partials: Callable[..., Sequence[Any]] | None


def constant(value: float) -> Expr:
    """A constant expression.

    Raises:
        ArgumentTypeError: for what is no real number: a tensor, for one, belongs to a scalar function's inputs.
    """
    if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        raise ArgumentTypeError(f"a scalar function meets {type(value).__name__}, expected a number or an input")
    return Expr("const", (), float(value))


def variable(name: str) -> Expr:
    """A variable expression."""
    return Expr("var", (), name)


def _operation(name: str) -> Callable:
    def apply(*args: Any) -> Any:
        if any(isinstance(a, Expr) for a in args):
            return _simplified(name, tuple(a if isinstance(a, Expr) else constant(a) for a in args))
        return OPERATIONS[name].numpy(*args)

    apply.__name__ = name
    return apply


add, sub, mul, div, neg, abs = (_operation(n) for n in ("add", "sub", "mul", "div", "neg", "abs"))
pow, sqrt, sign, floor = (_operation(n) for n in ("pow", "sqrt", "sign", "floor"))
exp, expm1, log, log1p, tanh, sigmoid = (_operation(n) for n in ("exp", "expm1", "log", "log1p", "tanh", "sigmoid"))
erf, erfc, sin, cos = (_operation(n) for n in ("erf", "erfc", "sin", "cos"))
gt, ge, eq, isnan = (_operation(n) for n in ("gt", "ge", "eq", "isnan"))
logical_and, logical_or, logical_not = (_operation(n) for n in ("logical_and", "logical_or", "logical_not"))
select = _operation("select")


def maximum(x: Any, y: Any) -> Any:
    """The larger of two; NaN if either is NaN. Its derivative goes to the first where they are equal."""
    if isinstance(x, Expr) or isinstance(y, Expr):
        return select((x >= y) | isnan(x), x, y)
    return np.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two; NaN if either is NaN. Its derivative goes to the first where they are equal."""
    if isinstance(x, Expr) or isinstance(y, Expr):
        return select((y >= x) | isnan(x), x, y)
    return np.minimum(x, y)


def _numpy_sigmoid(x: Any) -> Any:
    # exp of the negative magnitude alone never overflows; complex values, as complex steps use, have no magnitude.
    if np.iscomplexobj(x):
        return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1 / (1 + e), e / (1 + e))


def _numpy_erf(x: Any) -> Any:
    return _one_by_one(_erf_series, x)


def _numpy_erfc(x: Any) -> Any:
    return _one_by_one(_erfc_series, x)


def _one_by_one(function: Callable, x: Any) -> Any:
    """A function of extended-precision numbers on an array of any dtype."""
    x = np.asarray(x)
    wide = x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble)
    return np.vectorize(function, otypes=[wide.dtype])(wide).astype(x.dtype)


_SQRT_PI = np.longdouble("1.7724538509055160272981674833411451828")


def _erf_series(x: Any) -> Any:
    """The error function of one extended-precision number, by its power series or continued fraction."""
    real = np.real(x)
    if np.isnan(real):
        return x
    if np.abs(real) < 3:
        square, term, total = x * x, x, x
        for n in range(1, 200):
            term = -term * square / n
            total = total + term / (2 * n + 1)
            if np.abs(term) < 1e-22:
                break
        return total * 2 / _SQRT_PI
    if np.abs(real) > 7:
        return np.sign(real) + 0 * x if not np.isinf(real) else np.sign(real)
    return np.sign(real) * (1 - _erfc_fraction(x * np.sign(real)))


def _erfc_series(x: Any) -> Any:
    """1 - erf(x) of one extended-precision number, with the digits that the difference would lose."""
    real = np.real(x)
    if np.isinf(real):
        return 1 - np.sign(real)
    return _erfc_fraction(x) if real > 1.5 else 1 - _erf_series(x)


def _erfc_fraction(z: Any) -> Any:
    """1 - erf(z) for real parts above 1.5, by the continued fraction."""
    fraction = 0 * z
    for n in range(200, 0, -1):
        fraction = (n / 2) / (z + fraction)
    return np.exp(-z * z) / ((z + fraction) * _SQRT_PI)


#: Every operation that scalar functions are made of.
OPERATIONS: dict[str, Operation] = {
    "add": Operation(np.add, "({0} + {1})", lambda x, y, o: (1, 1)),
    "sub": Operation(np.subtract, "({0} - {1})", lambda x, y, o: (1, -1)),
    "mul": Operation(np.multiply, "({0} * {1})", lambda x, y, o: (y, x)),
    "div": Operation(np.true_divide, "div({0}, {1})", lambda x, y, o: (1 / y, -(o / y))),
    "neg": Operation(np.negative, "(-{0})", lambda x, o: (-1,)),
    "abs": Operation(np.abs, "abs({0})", lambda x, o: (sign(x),)),
    "pow": Operation(np.power, "({0} ** {1})", lambda x, y, o: (_pow_base(x, y), _pow_exponent(x, y, o))),
    "sqrt": Operation(np.sqrt, "math.sqrt({0})", lambda x, o: (0.5 / o,)),
    "sign": Operation(np.sign, "np.sign({0})", None),
    "floor": Operation(np.floor, "np.floor({0})", None),
    "exp": Operation(np.exp, "exp{m}({0})", lambda x, o: (o,)),
    "expm1": Operation(np.expm1, "expm1{m}({0})", lambda x, o: (exp(x),)),
    "log": Operation(np.log, "log{m}({0})", lambda x, o: (1 / x,)),
    "log1p": Operation(np.log1p, "log1p{m}({0})", lambda x, o: (1 / (1 + x),)),
    "tanh": Operation(np.tanh, "tanh{m}({0})", lambda x, o: (4 * sigmoid(2 * x) * sigmoid(-2 * x),)),
    "sigmoid": Operation(_numpy_sigmoid, "sigmoid{m}({0})", lambda x, o: (o * sigmoid(-x),)),
    "erf": Operation(_numpy_erf, "erf{m}({0})", lambda x, o: (2 / _sqrt(pi) * exp(-(x * x)),)),
    "erfc": Operation(_numpy_erfc, "erfc{m}({0})", lambda x, o: (-2 / _sqrt(pi) * exp(-(x * x)),)),
    "sin": Operation(np.sin, "sin{m}({0})", lambda x, o: (cos(x),)),
    "cos": Operation(np.cos, "cos{m}({0})", lambda x, o: (-sin(x),)),
    "gt": Operation(np.greater, "({0} > {1})", None),
    "ge": Operation(np.greater_equal, "({0} >= {1})", None),
    "eq": Operation(np.equal, "({0} == {1})", None),
    "isnan": Operation(np.isnan, "({0} != {0})", None),
    "logical_and": Operation(np.logical_and, "({0} & {1})", None),
    "logical_or": Operation(np.logical_or, "({0} | {1})", None),
    "logical_not": Operation(np.logical_not, "(not {0})", None),
    "select": Operation(np.where, "({1} if {0} else {2})", None),  # differentiated by branches, see `_derivative`
}


def _pow_base(x: Expr, y: Expr) -> Expr:
    # y x^(y-1), and 0 for y = 0, where x^(-1) may be infinite.
    return select(eq(y, 0), 0, y * pow(x, y - 1)) if y.op != "const" else mul(y, pow(x, constant(y.value - 1)))


def _pow_exponent(x: Expr, y: Expr, o: Expr) -> Expr:
    # x^y log x, and its limit 0 at x = 0 with y > 0.
    return select(eq(x, 0) & ge(y, 0), 0, o * log(x))


def differentiate(result: Expr, variable: Expr) -> Expr:
    """The partial derivative of `result` by `variable`, carried forward through the expression.

    A `select` selects between its branches' derivatives, so what an unselected branch would do (a division by zero)
    does not reach the result.
    """
    known: dict[Expr, Expr] = {}
    for e in topological([result]):
        known[e] = constant(1) if e is variable else _derivative(e, [known[a] for a in e.args])
    return known[result]


def _derivative(e: Expr, tangents: list[Expr]) -> Expr:
    if e.op == "select":
        return select(e.args[0], tangents[1], tangents[2]) if tangents[1] is not tangents[2] else tangents[1]
    total = constant(0)
    rule = OPERATIONS[e.op].partials if e.op in OPERATIONS else None
    if rule is None or all(_is_zero(t) for t in tangents):
        return total
    for tangent, partial in zip(tangents, rule(*e.args, e)):
        if not _is_zero(tangent):
            total = add(total, mul(tangent, partial))
    return total


def _is_zero(e: Expr) -> bool:
    return e.op == "const" and e.value == 0


def substitute(result: Expr, old: Expr, new: Expr) -> Expr:
    """`result` with every occurrence of `old` replaced by `new`."""
    known: dict[Expr, Expr] = {}
    for e in topological([result]):
        if e is old:
            known[e] = new
        elif e.args and any(known[a] is not a for a in e.args):
            known[e] = Expr(e.op, tuple(known[a] for a in e.args))
        else:
            known[e] = e
    return known[result]


def with_values(result: Expr, values: dict[str, Expr]) -> Expr:
    """`result` with expressions in the place of all its variables, by name."""
    known: dict[int, Expr] = {}
    for e in topological([result]):
        if e.op == "var":
            known[id(e)] = values[e.value]
        else:
            known[id(e)] = Expr(e.op, tuple([known[id(a)] for a in e.args]), e.value) if e.args else e
    return known[id(result)]


def variables_of(result: Expr) -> list[str]:
    """The names of the variables in an expression."""
    return [e.value for e in topological([result]) if e.op == "var"]


def is_analytic(result: Expr) -> bool:
    """Whether the expression is complex differentiable: it takes no magnitude and makes no comparison."""
    used = [e.op for e in topological([result]) if e.args]
    return all(op != "abs" and OPERATIONS[op].partials is not None for op in used)


def topological(results: Sequence[Expr]) -> list[Expr]:
    """All subexpressions, arguments before what uses them."""
    order: list[Expr] = []
    seen: set[int] = set()
    stack = [(r, False) for r in reversed(results)]
    while stack:
        e, expanded = stack.pop()
        if expanded:
            order.append(e)
        elif id(e) not in seen:
            seen.add(id(e))
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args))
    return order


def evaluate(result: Expr, values: dict[str, Any]) -> Any:
    """The value of an expression with NumPy, for arrays of any dtype by variable name."""
    known: dict[int, Any] = {}
    for e in topological([result]):
        if e.op == "var":
            known[id(e)] = values[e.value]
        elif e.op == "const":  # whole numbers are given as integers, so that integer arrays stay integer
            known[id(e)] = int(e.value) if e.value.is_integer() and 0 < builtins.abs(e.value) < 2**31 else e.value
        else:
            known[id(e)] = OPERATIONS[e.op].numpy(*[known[id(a)] for a in e.args])
    return known[id(result)]


def _simplified(name: str, args: tuple[Expr, ...]) -> Expr:
    """The operation, without what the exact rules x·1, x·0 (of a derivative), x+0, x−0, x/1 and −(−x) remove."""
    if all(a.op == "const" for a in args) and name not in _BOOLEAN and name != "select":
        with np.errstate(all="ignore"):
            return constant(float(OPERATIONS[name].numpy(*[a.value for a in args])))
    if name == "mul":
        for one, other in (args, args[::-1]):
            if one.op == "const" and one.value in (0, 1, -1):
                return other if one.value == 1 else neg(other) if one.value == -1 else one
    if name == "add":
        for one, other in (args, args[::-1]):
            if one.op == "const" and one.value == 0:
                return other
            if other.op == "neg":
                return sub(one, other.args[0])
    if name == "sub" and args[1].op == "const" and args[1].value == 0:
        return args[0]
    if name == "div" and args[1].op == "const" and args[1].value == 1:
        return args[0]
    if name == "neg" and args[0].op == "neg":
        return args[0].args[0]
    if name == "pow" and args[1].op == "const" and args[1].value in (0, 1, 2):
        return (constant(1), args[0], mul(args[0], args[0]))[int(args[1].value)]
    return Expr(name, args)
