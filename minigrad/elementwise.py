"""Elementwise primitives: from one scalar function come reference, CPU loops and the derivatives of every order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices import cpu
from minigrad.errors import ArgumentTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.scalar import Expr
from minigrad.tensor import Tensor, as_tensor

_derive_lock = threading.RLock()


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


def promoted(operation: str, values: Sequence[Any], floats: bool = False) -> list[Tensor]:
    """Tensors of one dtype, by NumPy's promotion rules; with `floats`, integers become floats.

    Python numbers take part with their kind alone, so that a float32 tensor times 2.5 stays float32.
    """
    for v in values:
        if v is None or isinstance(v, str):
            raise ArgumentTypeError(f"{operation}: takes tensors, arrays and numbers, got {v!r}")
    found = [v if isinstance(v, (Tensor, bool, int, float, complex)) else as_tensor(v) for v in values]
    if not any(isinstance(v, Tensor) for v in found):
        found[0] = as_tensor(found[0])
    dtype = np.result_type(*[v._data.dtype if isinstance(v, Tensor) else v for v in found])
    if floats:
        dtype = dtypes.floating(dtype)
    return [v.astype(dtype) if isinstance(v, Tensor) else Tensor(np.array(v, dtype)) for v in found]


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
        super().__init__(name, override=override, derived=derived)
        names = tuple(signature(function).parameters)
        self.__doc__ = function.__doc__
        self._define(names, function(*map(scalar.variable, names)), floats)
        self.analytic = scalar.is_analytic(self.expression)
        self._partials: list[tuple[Expr, list[str]]] = []
        self._derivatives: dict[int, Elementwise] = {}
        given = derivatives(*map(scalar.variable, (*names, "out"))) if derivatives else [None] * len(names)
        if not self.expression.boolean:
            self._set_rules(given)
        self.samples(samples or self._default_samples)

    def _define(self, names: tuple[str, ...], expression: Any, floats: bool) -> None:
        self.expression = expression if isinstance(expression, Expr) else scalar.constant(expression)
        self._floats = floats
        self._variants: dict[tuple, cpu.Kernel] = {}
        self.infer(self._infer_rule)
        self.inputs = names
        self.kernel("reference")(self._reference)
        self.kernel("cpu")(self._fill)

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        if params or len(inputs) != len(self.inputs):
            raise ArgumentTypeError(f"{self.name}: takes {self.inputs}, got {len(inputs)} inputs and {sorted(params)}")
        first = inputs[0]
        if isinstance(first, Tensor):
            dtype = first._data.dtype
            if (dtype.kind == "f" or not self._floats) and all(
                [isinstance(t, Tensor) and t._data.dtype is dtype for t in inputs]
            ):
                return super().__call__(*inputs)
        return super().__call__(*promoted(self.name, inputs, self._floats))

    # Rules

    def _infer_rule(self, *inputs: Abstract) -> Abstract:
        dtype = dtypes.require_same(self.name, **{n: a.dtype for n, a in zip(self.inputs, inputs)})
        if self._floats:
            dtypes.require_floating(self.name, self.inputs[0], dtype)
        return Abstract(_broadcast(self.name, [a.shape for a in inputs]), dtypes.bool_ if self.expression.boolean else dtype)

    def _reference(self, *arrays: np.ndarray) -> np.ndarray:
        dtype = arrays[0].dtype
        with np.errstate(all="ignore"):
            value = scalar.evaluate(self.expression, dict(zip(self.inputs, arrays)))
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        return np.array(np.broadcast_to(value, shape), dtypes.bool_ if self.expression.boolean else dtype)

    def _set_rules(self, given: Sequence[Any]) -> None:
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
        self.vjp(saves)(self._vjp_rule)
        self.jvp(self._jvp_rule)

    def _vjp_rule(self, ct: Tensor, saved: Any, needs: tuple[bool, ...]) -> list[Tensor | None]:
        result: list[Tensor | None] = []
        for i, need in enumerate(needs):
            g = self._scaled(i, ct, saved._asdict()) if need else None
            result.append(g if g is None or g._data.shape == saved.shapes[i] else g.sum_to(saved.shapes[i]))
        return result

    def _jvp_rule(self, tangents: tuple, primals: tuple, outputs: tuple) -> Tensor | None:
        values = {**dict(zip(self.inputs, primals)), "out": outputs[0]}
        total: Tensor | None = None
        for i, tangent in enumerate(tangents):
            term = self._scaled(i, tangent, values) if tangent is not None else None
            if term is not None:
                total = term if total is None else total + term
        return total if total is None or total.shape == outputs[0].shape else total.broadcast_to(outputs[0].shape)

    def _scaled(self, i: int, ct: Tensor, values: dict[str, Tensor]) -> Tensor | None:
        """`ct` times the partial derivative by input `i`; None where that is zero everywhere."""
        partial, used = self._partials[i]
        if partial.op == "const" and partial.value in (0, 1):
            return ct if partial.value else None
        return self._derivative(i)(ct, *[values[n] for n in used])

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
        derived._partials, derived._derivatives = [], {}
        derived._set_rules([None] * len(arguments))
        derived.samples(derived._default_samples)
        return derived

    def _default_samples(self, rng: np.random.Generator) -> list[Sample]:
        n = len(self.inputs)
        shapes = [[(2, 3)] * n, [(5,)] * n, [()] * n, [(0, 3)] * n, [(3, 1), (1, 4), (4,)][:n]]
        return [Sample(tuple(rng.standard_normal(s) for s in group)) for group in shapes if len(group) == n]

    # The CPU loop

    def _fill(self, out: np.ndarray, *arrays: np.ndarray) -> None:
        dtype = arrays[0].dtype
        if not dtypes.has_kernels(dtype):
            out[...] = self._reference(*arrays)
            return
        shape, strides, size = out.shape, out.strides, out.size
        chunks = cpu.chunks_of(size)
        if self.expression.boolean:
            strides = arrays[0].strides if arrays[0].flags.c_contiguous else ()
        for a in arrays:
            if a.shape != shape or a.strides != strides:
                break
        else:
            kernel = self._variant(dtype, "v" * len(arrays), False)
            kernel(chunks, size, chunks, out.reshape(-1), *[a.reshape(-1) for a in arrays])
            return
        self._fill_broadcast(out, arrays, dtype, chunks)

    def _fill_broadcast(self, out: np.ndarray, arrays: Sequence[np.ndarray], dtype: np.dtype, chunks: int) -> None:
        arrays = [_without_repeats(a) for a in arrays]
        kinds, inner, outer, strides = _layout(out.shape, tuple([a.shape for a in arrays]))
        flat = [cpu.contiguous(a).reshape(-1) for a in arrays]
        if outer.size:
            kernel = self._variant(dtype, kinds, True)
            kernel(chunks, out.size, chunks, out.reshape(-1), inner, outer, strides, *flat)
        else:
            self._variant(dtype, kinds, False)(chunks, out.size, chunks, out.reshape(-1), *flat)

    def _variant(self, dtype: np.dtype, kinds: str, nested: bool) -> cpu.Kernel:
        key = (dtype, kinds, nested)
        found = self._variants.get(key)
        if found is None:
            source, scope = _source(self, kinds, nested, dtype)
            found = self._variants[key] = cpu.chunked(cpu.from_source(_identifier(self.name), source, scope))
        return found


def _broadcast(operation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{operation}: shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def _without_repeats(a: np.ndarray) -> np.ndarray:
    """One copy of what a broadcast view repeats, so that it is not written out before it is read."""
    if 0 in a.strides and a.size:
        return a[tuple([slice(0, 1) if stride == 0 else slice(None) for stride in a.strides])]
    return a


@lru_cache(maxsize=4096)
def _layout(shape: tuple[int, ...], operands: tuple[tuple[int, ...], ...]) -> tuple[str, int, np.ndarray, np.ndarray]:
    """How contiguous operands of these shapes are walked to fill a contiguous output of `shape`.

    Axes that all operands walk alike are merged. Returns for each operand whether it varies along the last merged
    axis (``v``) or stays (``s``), that axis's length, the lengths of the axes before it, and each operand's strides
    over those.
    """
    steps = []
    for operand in operands:
        padded = (1,) * (len(shape) - len(operand)) + operand
        stride, row = 1, []
        for n in reversed(padded):
            row.append(0 if n == 1 else stride)
            stride *= n
        steps.append(row[::-1])
    merged: list[tuple[int, tuple[int, ...]]] = []
    for n, column in zip(shape, zip(*steps)):
        if n == 1:
            continue
        if merged and all(before == here * n for before, here in zip(merged[-1][1], column)):
            merged[-1] = (merged[-1][0] * n, column)
        else:
            merged.append((n, column))
    if not merged or any(step not in (0, 1) for step in merged[-1][1]):
        merged.append((1, (0,) * len(operands)))
    inner, last = merged.pop()
    outer = np.array([n for n, _ in merged], np.int64)
    strides = np.array([column for _, column in merged], np.int64).reshape(len(merged), len(operands))
    return "".join("v" if step else "s" for step in last), inner, outer, strides


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _source(primitive: Elementwise, kinds: str, nested: bool, dtype: np.dtype) -> tuple[str, dict[str, Any]]:
    """The kernel's source text, and the names that it uses."""
    import math

    inputs, n = primitive.inputs, len(primitive.inputs)
    scope: dict[str, Any] = {"np": np, "math": math, "F": dtype.type}
    lines, result = _statements(primitive, kinds, dtype, scope)
    arrays = ", ".join(f"in_{name}" for name in inputs)
    head = f"def {_identifier(primitive.name)}(chunk, chunks, out, {'inner, outer, strides, ' if nested else ''}{arrays}):\n"
    text = head + "    n = out.size\n    low = chunk * n // chunks\n    high = (chunk + 1) * n // chunks\n"
    if not nested:
        text += "    count = high - low\n    o = out[low:high]\n"
        for name, kind in zip(inputs, kinds):
            text += f"    v_{name} = in_{name}[low:high]\n" if kind == "v" else f"    x_{name} = in_{name}[0]\n"
        return text + _loop(lines, result, "    "), scope
    text += "    while low < high:\n        row = low // inner\n        column = low - row * inner\n"
    text += "        count = min(inner - column, high - low)\n        o = out[low:low + count]\n"
    text += "".join(f"        at_{name} = 0\n" for name in inputs)
    text += "        for axis in range(outer.size - 1, -1, -1):\n            index = row % outer[axis]\n            row //= outer[axis]\n"
    text += "".join(f"            at_{name} += index * strides[axis, {i}]\n" for i, name in zip(range(n), inputs))
    for name, kind in zip(inputs, kinds):
        if kind == "v":
            text += f"        v_{name} = in_{name}[at_{name} + column:at_{name} + column + count]\n"
        else:
            text += f"        x_{name} = in_{name}[at_{name}]\n"
    return text + _loop(lines, result, "        ") + "        low += count\n", scope


def _loop(lines: list[str], result: str, indent: str) -> str:
    body = "".join(f"{indent}    {line}\n" for line in lines)
    return f"{indent}for i in range(count):\n{body}{indent}    o[i] = {result}\n"


def _statements(primitive: Elementwise, kinds: str, dtype: np.dtype, scope: dict[str, Any]) -> tuple[list[str], str]:
    """One assignment for each operation of the expression, and the name of the result."""
    suffix = "_f32" if dtype == dtypes.float32 else "_f64"
    kind_of = dict(zip(primitive.inputs, kinds))
    names: dict[int, str] = {}
    lines = []
    for e in scalar.topological([primitive.expression]):
        if e.op == "var":
            if kind_of[e.value] == "v":
                lines.append(f"x_{e.value} = v_{e.value}[i]")
            names[id(e)] = f"x_{e.value}"
        elif e.op == "const":
            minus = "-" if e.value < 0 else ""
            names[id(e)] = f"F({e.value!r})" if np.isfinite(e.value) else f"F({minus}np.{abs(e.value)!r})"
        else:
            code = scalar.OPERATIONS[e.op].code
            if "{m}" in code:
                from minigrad.devices import cpu_math

                function = f"{e.op}{suffix}"
                scope[function] = getattr(cpu_math, function)
            names[id(e)] = f"t{len(names)}"
            lines.append(f"{names[id(e)]} = " + code.format(*[names[id(a)] for a in e.args], m=suffix))
    return lines, names[id(primitive.expression)]
