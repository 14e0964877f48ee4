"""CUDA loops over arrays, generated from scalar expressions: one kernel for each function and way to walk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda import vector
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import THREADS, Function, Kernel, blocks_of, gpu, jit, kernel
from minigrad.errors import DTypeError
from minigrad.scalar import Expr

_MOST_WALKS = 4096  # shapes and strides remembered a loop


class Loop:
    """Fills arrays of one shape, each with an expression of other arrays, element by element, with broadcasting.

    All arrays may be strided. Axes that all walk alike are merged; what is then one axis, and contiguous, is moved 16
    bytes at a time, as are rows that allow it.

    Args:
        expressions: of the variables `inputs`; one, or one for each output.
        inputs: their names, in the order of the arrays.
        typed: which array's dtype the arithmetic has.

    Example:
        >>> from minigrad import scalar
        >>> from minigrad.devices.cuda.loops import Loop
        >>> x, y = scalar.variable("x"), scalar.variable("y")
        >>> loop = Loop(x * y + 1, ("x", "y"))
        >>> loop(out, a, b)  # doctest: +SKIP
    """

    def __init__(self, expressions: Expr | Sequence[Expr], inputs: Sequence[str], typed: int = 0):
        self.expressions = (expressions,) if isinstance(expressions, Expr) else tuple(expressions)
        self.inputs = tuple(inputs)
        self._typed = typed
        self._walks: dict[tuple, Walk] = {}

    def __call__(self, out: DeviceArray | tuple[DeviceArray, ...], *arrays: DeviceArray) -> None:
        """Fill `out`, a tuple where there are several; the arrays broadcast to its shape."""
        outs = out if isinstance(out, tuple) else (out,)
        if not outs[0].size:
            return
        key = tuple([(a.shape, a.strides, a.dtype, a.pointer % vector.BYTES) for a in (*outs, *arrays)])
        walk = self._walks.get(key)
        if walk is None:
            if len(self._walks) >= _MOST_WALKS:
                self._walks.clear()
            walk = self._walks[key] = self._plan(outs, arrays)
        walk.run(*outs, *arrays)

    def _plan(self, outs: Sequence[DeviceArray], arrays: Sequence[DeviceArray]) -> Walk:
        dtype = arrays[self._typed].dtype if arrays else outs[0].dtype
        if dtypes.kind(dtype) not in "biuf":
            raise DTypeError(f"cuda: there are no kernels for {dtype}; cast, or move the tensors to the CPU")
        function = _scalar_function(self.expressions, self.inputs, dtypes.arithmetic(dtype))
        return plan(function, outs, arrays)


class Walk(NamedTuple):
    """How given arrays are walked: the kernel, the threads that it needs, and its arguments besides the arrays."""

    kernel: Kernel
    threads: int
    head: tuple
    strides: Sequence[tuple]  # of each array over the axes; none where there is but one axis, which all walk alike

    def run(self, *arrays: DeviceArray) -> None:
        arguments = list(self.head)
        for i, a in enumerate(arrays):
            flat, start = (a.flat, 0) if a.contiguous else a.span()
            arguments.append(flat)
            if self.strides:
                arguments += [start, self.strides[i]]
        self.kernel(blocks_of(self.threads), THREADS, *arguments, uses=arrays)


def plan(function: Function, outs: Sequence[DeviceArray], arrays: Sequence[DeviceArray]) -> Walk:
    """How to fill `outs` with the function of the elements of `arrays`."""
    operands, size = [*outs, *arrays], outs[0].size
    shape, strides = merged(outs[0].shape, operands)
    count = _vector_length(shape, strides, operands, len(outs))
    kinds = ["s" if row[-1] == 0 else "v" if row[-1] == 1 else "g" for row in strides]
    ways = "".join(kinds[: len(outs)]).upper() + "".join(kinds[len(outs) :])
    number = np.uint32 if size < 2**31 else np.int64
    if len(shape) == 1 and "g" not in kinds and "S" not in ways:
        made = _kernel(function, ways, 0, count, number)
        return Walk(made, blocks_of(size, count), (number(size),), ())
    lengths = tuple([number(n) for n in (*shape[:-1], shape[-1] // count)])
    made = _kernel(function, ways, len(shape), count, number)
    size //= count
    return Walk(made, size, (number(size), lengths), [(*row[:-1], row[-1] * count) for row in strides])


def merged(shape: tuple[int, ...], operands: Sequence[DeviceArray]) -> tuple[list[int], list[tuple[int, ...]]]:
    """The lengths of the axes once those that all operands walk alike are one, and each operand's strides over them.

    Strides are in elements; 0 where an operand repeats.
    """
    columns = []
    for a in operands:
        new = len(shape) - a.ndim
        steps = [0 if n == 1 else s // a.dtype.itemsize for n, s in zip(a.shape, a.strides)]
        columns.append([*[0] * new, *steps])
    found: list[tuple[int, tuple[int, ...]]] = []
    for n, column in zip(shape, zip(*columns)):
        if n == 1:
            continue
        if found and all(before == here * n for before, here in zip(found[-1][1], column)):
            found[-1] = (found[-1][0] * n, column)
        else:
            found.append((n, column))
    if not found:
        found = [(1, (1,) * len(operands))]
    return [n for n, _ in found], [tuple(row) for row in zip(*[column for _, column in found])]


def _vector_length(
    shape: Sequence[int], strides: Sequence[tuple[int, ...]], operands: Sequence[DeviceArray], outputs: int
) -> int:
    """How many elements a thread can move at a time: all accesses aligned, and 16 bytes at most."""
    count = vector.BYTES // max(a.dtype.itemsize for a, row in zip(operands, strides) if row[-1])
    while count > 1:
        width = [count * a.dtype.itemsize for a in operands]
        if (
            (len(shape) == 1 or shape[-1] % count == 0)
            and all(row[-1] in (0, 1) for row in strides)
            and all(row[-1] == 1 for row in strides[:outputs])
            and all(
                row[-1] == 0 or (a.pointer % w == 0 and all(s % count == 0 for s in row[:-1]))
                for a, row, w in zip(operands, strides, width)
            )
        ):
            return count
        count //= 2
    return 1


_shared: dict[tuple, Any] = {}


def _kernel(function: Function, ways: str, axes: int, count: int, number: type) -> Kernel:
    key = (function, ways, axes, count, number)
    found = _shared.get(key)
    if found is None:
        found = _shared.setdefault(key, kernel(_with_source(*key)))
    return found


def _scalar_function(expressions: Sequence[Expr], inputs: Sequence[str], dtype: np.dtype) -> Function:
    """The expressions as a function of numbers of that dtype, a tuple if several; equal ones are one function."""
    suffix = "_f32" if dtype == dtypes.float32 else "_f64"
    scope: dict[str, Any] = {"F": dtype.type, "np": np, "div": cuda_math.div}
    numbers = {name: f"x{i}" for i, name in enumerate(inputs)}
    names: dict[int, str] = {}
    lines = []
    for e in scalar.topological(expressions):
        if e.op == "var":
            names[id(e)] = numbers[e.value]
        elif e.op == "const":
            minus = "-" if e.value < 0 else ""
            names[id(e)] = f"F({e.value!r})" if np.isfinite(e.value) else f"F({minus}np.{abs(e.value)!r})"
        else:
            code = cuda_math.CODE.get(e.op, scalar.OPERATIONS[e.op].code)
            if dtype.kind in "iu" and e.op in _INTEGERS:
                code = _INTEGERS[e.op]
            if "{m}" in code:
                scope[e.op + suffix] = getattr(cuda_math, e.op + suffix)
            names[id(e)] = f"t{len(names)}"
            lines.append(f"{names[id(e)]} = " + code.format(*[names[id(a)] for a in e.args], m=suffix))
    rest = f"({', '.join(numbers.values())}):\n" + "".join(f"    {line}\n" for line in lines)
    rest += f"    return {', '.join([names[id(e)] for e in expressions])}\n"
    found = _shared.get((dtype, rest))
    if found is None:
        name = f"{expressions[-1].op}_{hashlib.sha256(rest.encode()).hexdigest()[:8]}"
        found = _shared.setdefault((dtype, rest), jit(from_source(name, f"def {name}{rest}", scope)))
    return found


#: What some operations are on integers.
_INTEGERS = {"sign": "(({0} > F(0)) - ({0} < F(0)))", "floor": "{0}", "pow": "{0} ** {1}"}


def _with_source(function: Function, ways: str, axes: int, count: int, number: type) -> Callable:
    """What one thread does: `count` elements in a row, at a place along `axes` axes; 0 where all is one axis.

    Along the last axis an array varies without gaps (v), in steps (g), or stays (s); outputs, capital letters, come
    first. Indices are unsigned: signed ones might count from the end. Those that are divided are of 32 bits where they
    can be, in which a division takes a fraction of the time.
    """
    scope: dict[str, Any] = {"f": function, "gpu": gpu, "U": np.uint64, "I": np.int64, "N": number}
    if count > 1:
        scope["load"], scope["store"] = vector.load(count), vector.store(count)
    arrays = _names(ways)
    lines = ["i = gpu.grid(1)"]
    if axes == 0:
        head = f"n, {', '.join(arrays)}"
        lines += [f"at = U(i) * U({count})", f"if at + U({count}) <= U(n):"]
        lines += _moves(ways, ["0" if way == "s" else "at" for way in ways], count)
        if count > 1:  # what is left at the end
            lines += ["elif at < U(n):", "    for j in range(at, U(n)):"]
            lines += ["    " + line for line in _moves(ways, ["0" if way == "s" else "j" for way in ways], 1)]
    else:
        head = f"n, shape, {', '.join(f'{a}, start_{a}, strides_{a}' for a in arrays)}"
        lines += ["if i < n:", "    rest = N(i)"]
        for axis in range(axes - 1, 0, -1):
            lines += [f"    i{axis} = N(rest % shape[{axis}])", f"    rest = N(rest // shape[{axis}])"]
        lines += ["    i0 = rest"]
        for a in arrays:
            steps = [f"I(i{axis}) * strides_{a}[{axis}]" for axis in range(axes)]
            lines.append(f"    at_{a} = U({' + '.join([f'start_{a}', *steps])})")
        lines += _moves(ways, [f"at_{a}" for a in arrays], count)
    name = f"{function.__name__}_{ways}_{axes}_{count}"
    return from_source(name, f"def {name}({head}):\n" + "".join(f"    {line}\n" for line in lines), scope)


def _names(ways: str) -> list[str]:
    """Of the arrays: ``out``, ``out_1`` and so on, ``in_0`` and so on."""
    outputs = sum(map(str.isupper, ways))
    return ["out", *[f"out_{k}" for k in range(1, outputs)], *[f"in_{k}" for k in range(len(ways) - outputs)]]


def _moves(ways: str, places: Sequence[str], count: int) -> list[str]:
    """Load, compute and store `count` elements at the places in the arrays, as the body of a block."""
    lines: list[str] = []
    values: list[list[str]] = []  # of each input, one for each element
    outs: list[tuple[str, str]] = []
    for way, name, place in zip(ways, _names(ways), places):
        if way.isupper():
            outs.append((name, place))
            continue
        x = f"x{len(values)}"
        lines.append(f"{x} = load({name}, {place})" if way == "v" and count > 1 else f"{x} = {name}[{place}]")
        values.append([f"{x}[{j}]" if way == "v" and count > 1 else x for j in range(count)])
    lines += [f"y{j} = f({', '.join([v[j] for v in values])})" for j in range(count)]
    for k, (name, place) in enumerate(outs):
        results = [f"y{j}[{k}]" if len(outs) > 1 else f"y{j}" for j in range(count)]
        whole = f"store({name}, {place}, ({', '.join(results)}))"
        lines.append(whole if count > 1 else f"{name}[{place}] = {results[0]}")
    return [f"    {line}" for line in lines]
