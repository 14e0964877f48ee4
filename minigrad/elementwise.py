"""Elementwise primitives: from one scalar function come reference, CPU loops and the derivatives of every order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices.cpu_loops import Loop
from minigrad.devices.cuda import DeviceArray, constant
from minigrad.devices.cuda.loops import Loop as CudaLoop
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.scalar import Expr
from minigrad.tape import is_recording, state
from minigrad.tensor import Tensor, as_tensor

_derive_lock = threading.RLock()
_ndarray = np.ndarray


def elementwise(name: str, **options: Any) -> Callable[[Callable], Elementwise]:
    """Make an elementwise primitive of a scalar function, written with the operators and `minigrad.scalar`.

    The function is traced once; branches are written ``scalar.select(condition, a, b)``. Inputs broadcast, and meet
    in one dtype by NumPy's rules.

    Args:
        name: ``namespace::name``.
        derivatives: a function of the inputs and the output that returns one partial derivative for each input, where
            a better form is known than the symbolic derivative.
        floats: whether integers become floats first, as for ``exp``.
        samples: the samples rule; without it, samples are drawn from a standard normal distribution.
        override: replace a primitive of that name.

    Example:
        >>> import minigrad as mg
        >>> from minigrad import scalar
        >>> @mg.elementwise("doctest::softsign", override=True)
        ... def softsign(x):
        ...     return x / (1 + scalar.abs(x))
        >>> x = mg.tensor([-1.0, 3.0], requires_grad=True)
        >>> y = softsign(x)
        >>> y
        tensor([-0.5 ,  0.75], dtype=float32, requires_grad=True)
        >>> y.backward(mg.tensor([1.0, 1.0]))
        >>> x.grad
        tensor([0.25  , 0.0625], dtype=float32)
    """
    return lambda function: Elementwise(name, function, **options)


def promoted(operation: str, values: Sequence[Any], floats: bool = False, like: Tensor | None = None) -> list[Tensor]:
    """Tensors of one dtype, by NumPy's promotion rules; with `floats`, integers become floats.

    They are on the device of the first tensor among them, or where there is none, of `like`.

    Python numbers take part with their kind alone, so that a float32 tensor times 2.5 stays float32.

    Raises:
        ArgumentTypeError: for what is no tensor, array or number.
        ArgumentError: for a Python number that the dtype does not hold.
    """
    dtype = None
    for v in values:
        if isinstance(v, Tensor):
            if dtype is None:
                dtype, like = v._data.dtype, v
            elif v._data.dtype is not dtype:
                break
        elif v.__class__ is not float and v.__class__ is not int:
            break
    else:
        if dtype is not None and dtypes.is_differentiable(dtype):  # the usual case: floats of one dtype, and numbers
            return [v if isinstance(v, Tensor) else _number(operation, v, dtype, like) for v in values]
    for v in values:
        if v is None or isinstance(v, str):
            raise ArgumentTypeError(f"{operation}: takes tensors, arrays and numbers, got {v!r}")
    like = next((v for v in values if isinstance(v, Tensor)), like)
    found = [v if isinstance(v, Tensor) or v.__class__ in _PYTHON_NUMBERS else as_tensor(v, like=like) for v in values]
    numbers = [v for v in found if not isinstance(v, Tensor)]
    dtype = dtypes.promoted(*[v._data.dtype for v in found if isinstance(v, Tensor)], numbers=numbers)
    if not any(isinstance(v, Tensor) for v in found) and dtype == dtypes.float64:
        dtype = dtypes.default_float
    if floats:
        dtype = dtypes.floating(dtype)
    return [v.astype(dtype) if isinstance(v, Tensor) else _number(operation, v, dtype, like) for v in found]


def with_number(primitive: Elementwise, x: Any, y: Any) -> Sequence[Tensor]:
    """Two values, one of them a Python number, as tensors for a primitive; beside floats by a shorter way."""
    if isinstance(x, Tensor) and x._data.dtype.kind == "f":
        return x, _number(primitive.name, y, x._data.dtype, x)
    if isinstance(y, Tensor) and y._data.dtype.kind == "f":
        return _number(primitive.name, x, y._data.dtype, y), y
    return primitive._admitted((x, y), {})


_PYTHON_NUMBERS = (bool, int, float, complex)


def _number(operation: str, value: Any, dtype: np.dtype, like: Tensor | None) -> Tensor:
    try:
        if like is not None and like._data.__class__ is DeviceArray:
            return Tensor(constant(dtypes.number(value, dtype).item(), dtype, like._data.lease.stream.device))
        return _constant(value, dtype) if value else Tensor(dtypes.number(value, dtype))  # 0.0 and -0.0 are equal
    except OverflowError:
        raise ArgumentError(f"{operation}: the number {value} does not fit {dtype}") from None


@lru_cache(maxsize=1024, typed=True)
def _constant(value: Any, dtype: np.dtype) -> Tensor:
    return Tensor(dtypes.number(value, dtype))


class Elementwise(Primitive):
    """A primitive that computes each output element from the input elements in its place; see `elementwise`."""

    def __init__(
        self,
        name: str,
        function: Callable,
        *,
        derivatives: Callable | None = None,
        floats: bool = True,
        samples: Callable | None = None,
        override: bool = False,
        derived: bool = False,
    ):
        names = tuple(signature(function).parameters)
        if "out" in names:
            raise ArgumentError(f"{name}: an input is called 'out', which is what derivatives call the output")
        expression = function(*map(scalar.variable, names))  # a function that can't be traced is not registered
        super().__init__(name, override=override, derived=derived)
        self.__doc__ = function.__doc__
        self._define(names, expression, floats)
        given = derivatives(*map(scalar.variable, (*names, "out"))) if derivatives else [None] * len(names)
        self._set_rules(given)
        self.samples(samples or self._default_samples)

    def _define(self, names: tuple[str, ...], expression: Any, floats: bool) -> None:
        self.expression = expression if isinstance(expression, Expr) else scalar.constant(expression)
        self.analytic = scalar.is_analytic(self.expression)
        self.infer(self._infer_rule)
        self.inputs = names
        self.kernel("reference")(self._reference)
        self.kernel("cpu")(Loop(self.expression, names, otherwise=self._reference))
        self.kernel("cuda")(CudaLoop(self.expression, names))
        self._floats = floats
        self._partials: list[tuple[Expr, list[str]]] = []
        self._scaled: list[Callable] = []  # for each input: what multiplies by its partial derivative
        self._derivatives: dict[int, Elementwise] = {}

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """As any primitive's call. One or two tensors on the CPU, the usual case, take a shorter way."""
        here = state.__dict__
        try:
            if len(inputs) == 2:
                x, y = inputs
                a, b = x._data, y._data
                needs: tuple = x._node is not None, y._node is not None
                changeable = x._version is not None or y._version is not None
                on_cpu = a.__class__ is _ndarray and b.__class__ is _ndarray
                plan = self._plans[here["device"], a.shape, a.dtype, b.shape, b.dtype]
            else:
                (x,) = inputs
                a, b = x._data, None
                needs, changeable = (x._node is not None,), x._version is not None
                on_cpu = a.__class__ is _ndarray
                plan = self._plans[here["device"], a.shape, a.dtype]
        except (AttributeError, KeyError, ValueError):  # no tensors, the first of their kind, or more of them
            return super().__call__(*inputs, **params)
        if params or not (on_cpu and plan.single):
            return super().__call__(*inputs, **params)
        shape, dtype, empty = plan.buffers[0]
        out = empty(shape, dtype)
        if b is None:
            plan.kernel(out, a)
        else:
            plan.kernel(out, a, b)
        node = None
        if True in needs and plan.recorded and not here["no_grad"] and (not here["suspendable"] or is_recording()):
            edge = (x._node, x._index) if needs[0] else None
            edges = (edge,) if b is None else (edge, (y._node, y._index) if needs[1] else None)
            node = self._record(inputs, (out,), params, edges, needs, plan.shapes, changeable)
        result = Tensor(out, node)
        if here["observers"]:
            for observer in tuple(here["observers"]):
                observer(self, inputs, (result,), params)
        return result

    def _admitted(self, inputs: Sequence[Any], params: dict) -> Sequence[Any]:
        if params or len(inputs) != len(self.inputs):
            raise ArgumentTypeError(f"{self.name}: takes {self.inputs}, got {len(inputs)} inputs and {sorted(params)}")
        return promoted(self.name, inputs, self._floats)

    # Rules

    def _infer_rule(self, *inputs: Abstract) -> Abstract:
        dtype = dtypes.require_same(self.name, **{n: a.dtype for n, a in zip(self.inputs, inputs)})
        if self._floats:
            dtypes.require_floating(self.name, self.inputs[0], dtype)
        return Abstract(broadcast_shape(self.name, [a.shape for a in inputs]), self._dtype_of_result(dtype))

    def _dtype_of_result(self, dtype: np.dtype) -> np.dtype:
        if dtypes.is_differentiable(dtype):
            return dtypes.bool_ if self.expression.boolean else dtype
        try:  # whatever NumPy makes of integers, booleans and complex numbers
            value = scalar.evaluate(self.expression, {n: np.empty(0, dtype) for n in self.inputs})
        except TypeError as error:
            raise DTypeError(f"{self.name}: {self.inputs[0]} has dtype {dtype}, which it is not defined for") from error
        return np.asarray(value).dtype

    def _reference(self, *arrays: np.ndarray) -> np.ndarray:
        dtype = self._dtype_of_result(arrays[0].dtype)
        try:
            with np.errstate(all="ignore"):
                value = scalar.evaluate(self.expression, dict(zip(self.inputs, arrays)))
        except ValueError as error:
            raise ArgumentError(f"{self.name}: {error}") from error
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        return np.array(np.broadcast_to(value, shape), dtype)

    def _set_rules(self, given: Sequence[Any]) -> None:
        if self.expression.boolean:
            return
        out = scalar.variable("out")
        for name, partial in zip(self.inputs, given):
            if partial is None:
                partial = scalar.differentiate(self.expression, scalar.variable(name))
                if self.expression.op != "var":
                    partial = scalar.substitute(partial, self.expression, out)
            elif not isinstance(partial, Expr):
                partial = scalar.constant(partial)
            self._partials.append((partial, scalar.variables_of(partial)))
        saves = [n for n in (*self.inputs, "out") if any(n in used for _, used in self._partials)]
        self._scaled = [self._scaling(i, [saves.index(n) for n in used]) for i, (_, used) in enumerate(self._partials)]
        self.vjp(saves)(self._vjp_rule)
        self.vjp_record = None  # the rule knows what is where
        self.jvp(self._jvp_rule)

    def _vjp_rule(self, ct: Tensor, saved: Any, needs: tuple[bool, ...]) -> list[Tensor | None]:
        shapes = saved[-1]
        result: list[Tensor | None] = [None] * len(needs)
        for i, need in enumerate(needs):
            if need:
                g = self._scaled[i](ct, saved)
                result[i] = g if g is None or g._data.shape == shapes[i] else g.sum_to(shapes[i])
        return result

    def _jvp_rule(self, tangents: tuple, primals: tuple, outputs: tuple) -> Tensor | None:
        values = dict(zip((*self.inputs, "out"), (*primals, *outputs)))
        saved = [values[n] for n in self.vjp_saves]
        total: Tensor | None = None
        for scaled, tangent in zip(self._scaled, tangents):
            term = scaled(tangent, saved) if tangent is not None else None
            if term is not None:
                total = term if total is None else total + term
        return total if total is None or total.shape == outputs[0].shape else total.broadcast_to(outputs[0].shape)

    def _scaling(self, i: int, places: list[int]) -> Callable[[Tensor, Sequence[Tensor]], Tensor | None]:
        """What multiplies a cotangent by the partial derivative by input `i`, which is of the saved values there.

        It gives None where the derivative is zero everywhere.
        """
        partial = self._partials[i][0]
        if partial.op == "const" and partial.value in (0, 1):
            return (lambda ct, saved: ct) if partial.value else (lambda ct, saved: None)

        def scaled(ct: Tensor, saved: Sequence[Tensor]) -> Tensor:
            derivative = self._derivative(i).__call__
            if len(places) == 1:
                place = places[0]
                self._scaled[i] = lambda ct, saved: derivative(ct, saved[place])
            else:
                self._scaled[i] = lambda ct, saved: derivative(ct, *[saved[k] for k in places])
            return self._scaled[i](ct, saved)

        return scaled

    def _derivative(self, i: int) -> Elementwise:
        """The primitive ``name.d<i>``: a cotangent times the partial derivative, with derivatives of its own."""
        found = self._derivatives.get(i)
        if found is None:
            with _derive_lock:
                found = self._derivatives.get(i)
                if found is None:
                    found = self._derivatives[i] = self._derive(i)
        return found

    def _derive(self, i: int) -> Elementwise:
        partial, used = self._partials[i]
        order = self.name.count(".d")
        output = f"out_{order}"  # `out` will be the new primitive's own output
        partial = scalar.substitute(partial, scalar.variable("out"), scalar.variable(output))
        arguments = [f"ct_{order}", *[output if n == "out" else n for n in used]]
        body = scalar.mul(scalar.variable(arguments[0]), partial)
        derived = Elementwise.__new__(Elementwise)
        Primitive.__init__(derived, f"{self.name}.d{i}", override=True, derived=True)
        derived._define(tuple(arguments), body, self._floats)
        derived._set_rules([None] * len(arguments))
        derived.samples(derived._default_samples)
        return derived

    def _default_samples(self, rng: np.random.Generator) -> list[Sample]:
        n = len(self.inputs)
        shapes: list[list[tuple[int, ...]]] = [[(2, 3)] * n, [(5,)] * n, [()] * n, [(0, 3)] * n]
        shapes.append([(3, 1), (1, 4), *[(4,)] * n][:n])
        return [Sample(tuple(off_kinks(rng, s, i) for i, s in enumerate(group))) for group in shapes]


def off_kinks(rng: np.random.Generator, shape: tuple[int, ...], i: int = 0) -> np.ndarray:
    """Normal values for input `i` that are not near 0, other multiples of 0.1, or values of the other inputs.

    That is where elementwise functions have their kinks, across which differences are no derivatives.
    """
    offset = (0.03, 0.06, 0.045)[i % 3]
    return np.asarray(np.round(rng.standard_normal(shape), 1) + offset + rng.uniform(-0.005, 0.005, shape))


def broadcast_shape(operation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that all shapes broadcast to, or a ShapeError that names the operation."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{operation}: shapes {' and '.join(map(str, shapes))} do not broadcast") from None
