"""CPU loops over arrays, generated from scalar expressions: one compiled kernel for each expression and way to walk."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes, scalar
from minigrad.devices import cpu
from minigrad.errors import DTypeError
from minigrad.scalar import Expr


class Loop:
    """Fills an array with an expression of other arrays, element by element, with broadcasting.

    Loops of equal expressions share their kernels, whatever the inputs are called: the derivative of a product by a
    factor is a product again. An operand is read in one of two ways along the innermost axis: it varies (``v``) or
    stays (``s``); each combination in use becomes a kernel, and one more if outer axes are walked by strides.

    Args:
        expression: of the variables `inputs`.
        inputs: their names, in the order of the arrays.
        typed: which array's dtype the arithmetic has: float32 or float64.
        otherwise: what computes the values for other dtypes, which have no kernels.

    Example:
        >>> import numpy as np
        >>> from minigrad import scalar
        >>> from minigrad.devices.cpu_loops import Loop
        >>> x, y = scalar.variable("x"), scalar.variable("y")
        >>> loop, out = Loop(x * y + 1, ("x", "y")), np.empty((2, 3))
        >>> loop(out, np.arange(3.0), np.ones((2, 1)))
        >>> out
        array([[1., 2., 3.],
               [1., 2., 3.]])
    """

    def __init__(self, expression: Expr, inputs: Sequence[str], typed: int = 0, otherwise: Callable | None = None):
        self.expression = expression
        self.inputs = tuple(inputs)
        self._typed = typed
        self._otherwise = otherwise
        self._fillings: dict[tuple, Callable] = {}  # by shapes and dtypes
        self._kernels: dict[tuple[int, str, bool], cpu.Kernel] = {}

    def __call__(self, out: np.ndarray, *arrays: np.ndarray) -> None:
        """Fill `out`, which is C-contiguous; the arrays may be strided and broadcast to its shape."""
        self.filling(out, arrays)(out, *arrays)

    def filling(self, out: Any, operands: Sequence[Any]) -> Callable:
        """What fills an array of the shape and dtype of `out` from such as the operands, called as the loop is."""
        shape, shapes = out.shape, tuple([a.shape for a in operands])
        dtype = operands[self._typed].dtype
        key = (shape, out.dtype, *shapes, *[a.dtype for a in operands])
        found = self._fillings.get(key)
        if found is None:
            if len(self._fillings) >= _MOST_SHAPES:
                self._fillings.clear()
            found = self._fillings[key] = self._filling(shape, dtype, shapes)
        return found

    def _filling(self, shape: tuple[int, ...], dtype: np.dtype, shapes: tuple[tuple[int, ...], ...]) -> Callable:
        if not dtypes.has_kernels(dtype):
            return self._fill_otherwise
        size = prod(shape)
        if not size:
            return _leave
        kernel, lengths, repeats = self._walk(shape, dtype, shapes)
        if size < cpu.PARALLEL_WORK and max(repeats) == 1:
            return _serial(kernel.body, lengths, len(shapes), len(shape) == 1)
        chunks = cpu.chunks_of(size)

        def fill(out: np.ndarray, *arrays: np.ndarray) -> None:
            arrays = tuple([without_repeats(a) for a in arrays])
            if tuple([a.shape for a in arrays]) != shapes:
                self(out, *arrays)
            else:
                kernel(chunks, size, chunks, out.ravel(), *lengths, *map(_copies, arrays, repeats))

        return fill

    def bound(self, out: np.ndarray, *arrays: np.ndarray) -> list[tuple[cpu.Kernel, int, int, tuple]] | None:
        """Kernel, chunks, work and arguments of each call for these arrays; None if it needs Python."""
        dtype = arrays[self._typed].dtype
        if not (dtypes.has_kernels(dtype) and out.flags.c_contiguous):
            return None
        if any(a.shape != out.shape or not a.flags.c_contiguous for a in arrays):
            arrays = tuple([without_repeats(a) for a in arrays])
            if not all(a.flags.c_contiguous for a in arrays):
                return None
        if not out.size:
            return []
        kernel, lengths, repeats = self._walk(out.shape, dtype, tuple([a.shape for a in arrays]))
        return bound(kernel, [out], lengths, arrays, repeats)

    def _fill_otherwise(self, out: np.ndarray, *arrays: np.ndarray) -> None:
        if self._otherwise is None:
            raise DTypeError(
                f"Loop: input {self._typed} has dtype {arrays[self._typed].dtype}, expected float32 or float64"
            )
        out[...] = self._otherwise(*arrays)

    def _walk(
        self, shape: tuple[int, ...], dtype: np.dtype, shapes: tuple[tuple[int, ...], ...]
    ) -> tuple[cpu.Kernel, tuple, tuple[int, ...]]:
        """The kernel for operands of these shapes; the lengths and repeats of a `Walk`."""
        if all(s == shape for s in shapes):
            return self._kernel(dtype, "v" * len(shapes), False), (), (1,) * len(shapes)
        kinds, lengths, repeats = walk(shape, shapes)
        return self._kernel(dtype, kinds, bool(lengths)), lengths, repeats

    def _kernel(self, dtype: np.dtype, kinds: str, nested: bool) -> cpu.Kernel:
        known = self._kernels.get((dtype.num, kinds, nested))
        if known is not None:
            return known
        found = self._kernels[dtype.num, kinds, nested] = kernel_of(
            [self.expression], self.inputs, dtype, kinds, nested
        )
        return found


def _serial(body: cpu.Function, lengths: tuple, operands: int, is_flat: bool) -> Callable:
    """The work of all chunks as one. Flattening copies an array only if it is strided."""
    names = [f"in_{i}" for i in range(operands)]
    flat = ", ".join([f"{name}.ravel()" for name in names])
    source = f"def fill(out, {', '.join(names)}):\n"
    source += f"    entry(0, 1, {'out' if is_flat else 'out.ravel()'}, {'*lengths, ' if lengths else ''}{flat})\n"

    def first(*args: Any) -> None:
        fill.__globals__["entry"] = entry = body.entry_for(args)  # all calls have arguments of the same types
        entry(*args)

    fill = cpu.from_source("fill", source, {"entry": first, "lengths": lengths})
    return fill


def _leave(out: np.ndarray, *arrays: np.ndarray) -> None:
    """There is nothing to fill."""


#: Operations in one loop, beyond which registers run out.
MOST_OPERATIONS = 48

#: Comparisons of addresses that a loop may begin with: LLVM vectorizes it, as a test of the largest such loop sees.
MOST_COMPARISONS = 40

_MOST_SHAPES = 4096  # remembered a loop
_shared: dict[tuple[int, str], cpu.Kernel] = {}


def has_room(outputs: int, inputs: int) -> bool:
    """Whether a loop over so many arrays is fast: of pairs, one of them written, it must know that they lie apart."""
    return outputs * inputs + outputs * (outputs - 1) // 2 <= MOST_COMPARISONS


def kernel_of(
    expressions: Sequence[Expr],
    inputs: Sequence[str],
    dtype: np.dtype,
    kinds: str,
    nested: bool,
    placed: bool = False,
    within: int | None = None,
) -> cpu.Kernel:
    """The kernel that fills an array with each expression; equal ones are one kernel. See `source_of`."""
    rest, scope = source_of(expressions, inputs, dtype, kinds, nested, placed, within)
    return shared_kernel(expressions[-1].op, rest, scope, dtype)


def shared_kernel(name: str, rest: str, scope: dict[str, Any], dtype: np.dtype) -> cpu.Kernel:
    """The kernel whose source is ``def``, a name that begins with `name`, and the rest; the same for the same text."""
    found = _shared.get((dtype.num, rest))
    if found is None:
        name = f"{name}_{hashlib.sha256(rest.encode()).hexdigest()[:8]}"
        made = cpu.chunked(cpu.from_source(name, f"def {name}{rest}", scope))
        found = _shared.setdefault((dtype.num, rest), made)
    return found


@cpu.jit(exact=True)
def div(x, y):
    """x / y rounded once. Fast arithmetic makes an estimate of 1 / sqrt(x) that is NaN at 0 and infinity."""
    return x / y


def layout(
    shape: tuple[int, ...], operands: tuple[tuple[int, ...], ...]
) -> tuple[str, int, np.ndarray | None, np.ndarray | None]:
    """How contiguous operands of these shapes are walked to fill a contiguous output of `shape`.

    Axes that all operands walk alike are merged. Returns for each operand whether it varies along the last merged
    axis (``v``) or stays (``s``), that axis's length, the lengths of the axes before it and each operand's strides
    over those; None for both if there is none.
    """
    merged = [(n, column) for n, _, column in merged_axes(shape, operands, [False] * len(shape))]
    inner, last = merged.pop() if merged else (1, (0,) * len(operands))
    kinds = "".join(["v" if step else "s" for step in last])
    if not merged:
        return kinds, inner, None, None
    outer = np.array([n for n, _ in merged], np.int64)
    return kinds, inner, outer, np.array([column for _, column in merged], np.int64)


class Walk(NamedTuple):
    """How operands are read beside an array that is filled.

    Attributes:
        kinds: for each operand whether it varies along the innermost axis (``v``) or stays (``s``).
        lengths: what a nested kernel takes: `inner`, `outer` and `strides`; nothing for one that is not.
        repeats: how many copies of each operand, one after another, the kernel takes in its place.
    """

    kinds: str
    lengths: tuple
    repeats: tuple[int, ...]


_NARROW = 64  # elements of a row, below which a loop over it is hardly vectorized
_WIDE = 1024  # elements of several such rows, which are walked as one
_MANY = 1 << 14  # elements from which that repays the copies


def walk(shape: tuple[int, ...], operands: tuple[tuple[int, ...], ...]) -> Walk:
    """How contiguous operands of these shapes are walked; operands that are one narrow row are repeated.

    Example:
        >>> from minigrad.devices.cpu_loops import walk
        >>> walk((32, 28, 28, 6), ((32, 28, 28, 6), (6,))).repeats
        (1, 170)
    """
    kinds, inner, outer, strides = layout(shape, operands)
    each = range(len(operands))
    if outer is None or strides is None:
        return Walk(kinds, (), tuple([1 for _ in each]))
    if outer.size == 1 and inner < _NARROW and inner * outer[0] >= _MANY:
        repeats = tuple([_WIDE // inner if kinds[i] == "v" and not strides[0, i] else 1 for i in each])
        if max(repeats) > 1 and all(kinds[i] == "v" or not strides[0, i] for i in each):
            times = max(repeats)
            return Walk(kinds, (inner * times, -(-outer // times), strides * times), repeats)
    return Walk(kinds, (inner, outer, strides), tuple([1 for _ in each]))


def bound(
    kernel: cpu.Kernel, outs: Sequence[np.ndarray], lengths: tuple, arrays: Sequence[np.ndarray], repeats: Sequence[int]
) -> list[tuple[cpu.Kernel, int, int, tuple]]:
    """Kernel, chunks, work and arguments of each call that a walk of these arrays takes."""
    size = outs[0].size
    calls, operands = repeated(arrays, repeats)
    chunks = 1 if size < cpu.PARALLEL_WORK else cpu.chunks_of(size)
    return [*calls, (kernel, chunks, size, (chunks, *[out.ravel() for out in outs], *lengths, *operands))]


def repeated(
    arrays: Sequence[np.ndarray], repeats: Sequence[int]
) -> tuple[list[tuple[cpu.Kernel, int, int, tuple]], list[np.ndarray]]:
    """Contiguous arrays flat, each so many times one after another, and the calls that make them so."""
    calls, operands = [], []
    for a, times in zip(arrays, repeats):
        operands.append(a.ravel() if times == 1 else np.empty(times * a.size, a.dtype))
        if times > 1:
            calls.append((_repeat, 1, 0, (operands[-1], a.ravel())))
    return calls, operands


@cpu.chunked
def _repeat(chunk, out, x):
    for start in range(0, out.size, x.size):
        part = out[start : start + x.size]
        for i in range(x.size):
            part[i] = x[i]


def _copies(a: np.ndarray, times: int) -> np.ndarray:
    """The same for a call from Python, of one array, which may be strided."""
    if times == 1:
        return cpu.contiguous(a).ravel()
    out = cpu.empty((times, a.size), a.dtype)
    out[...] = a.reshape(-1)
    return out.ravel()


def merged_axes(
    shape: tuple[int, ...], operands: Sequence[tuple[int, ...]], marks: Sequence[bool]
) -> list[tuple[int, bool, tuple[int, ...]]]:
    """Length, mark and each operand's stride of the axes of `shape`, those merged that all walk alike.

    Operands are contiguous and broadcast to `shape`; axes of length 1 are left out, and marks are not mixed.
    """
    steps = []
    for operand in operands:
        padded = (1,) * (len(shape) - len(operand)) + operand
        stride, row = 1, []
        for n in reversed(padded):
            row.append(0 if n == 1 else stride)
            stride *= n
        steps.append(row[::-1])
    merged: list[tuple[int, bool, tuple[int, ...]]] = []
    for n, mark, column in zip(shape, marks, zip(*steps)):
        if n == 1:
            continue
        if merged and merged[-1][1] == mark and all(a == b * n for a, b in zip(merged[-1][2], column)):
            merged[-1] = (merged[-1][0] * n, mark, column)
        else:
            merged.append((n, mark, column))
    return merged


def source_of(
    expressions: Sequence[Expr],
    inputs: Sequence[str],
    dtype: np.dtype,
    kinds: str,
    nested: bool,
    placed: bool = False,
    within: int | None = None,
) -> tuple[str, dict[str, Any]]:
    """What follows ``def name`` in the source of one chunk's work, and the names that it uses. Inputs are numbered.

    There is an output for each expression: ``out``, and ``out_1`` and so on after it. Chunks are equal shares of them
    or, if `placed`, lie where an array in the place of their number says, see `cpu.Kernel.places`. The input numbered
    `within`, if any, is not given: it is what the first output holds before.

    Indices are unsigned: a signed one might count from the end, which keeps a loop from being vectorized, and slices,
    the other way around that, take a quarter longer to compile.
    """
    scope: dict[str, Any] = {"np": np, "math": math, "F": dtype.type, "U": np.uintp, "div": div}
    numbers = {name: i for i, name in enumerate(inputs)}
    lines, results = statements(expressions, numbers, kinds, dtype, scope, nested)
    outs = ["out", *[f"out_{i}" for i in range(1, len(results))]]
    given = [f"in_{i}" for i in range(len(kinds)) if i != within]
    lengths = ["inner", "outer", "strides"] if nested else []
    text = f"(chunk, {'places' if placed else 'chunks'}, {', '.join([*outs, *lengths, *given])}):\n"
    text += f"    in_{within} = out\n" if within is not None else ""
    lines += [f"{out}[{'from_out + i' if nested else 'i'}] = {result}" for out, result in zip(outs, results)]
    loop = _range(lines, kinds, nested)
    if not placed:
        text += "    n = out.size\n    low = chunk * n // chunks\n    high = (chunk + 1) * n // chunks\n"
        return text + textwrap.indent(loop, "    "), scope
    text += "    for piece in range(places[chunk, 2]):\n        low = places[chunk, 0] + piece * places[chunk, 3]\n"
    return text + "        high = low + places[chunk, 1]\n" + textwrap.indent(loop, "        "), scope


def _range(lines: Sequence[str], kinds: str, nested: bool) -> str:
    """The source of the loop with these lines from element `low` to element `high`."""
    each = range(len(kinds))
    if not nested:
        text = "".join(f"x{i} = in_{i}[0]\n" for i in each if kinds[i] == "s")
        return text + "for i in range(U(low), U(high)):\n" + "".join(f"    {line}\n" for line in lines)
    text = "while low < high:\n    row = low // inner\n    column = low - row * inner\n"
    text += "    count = min(inner - column, high - low)\n"
    text += "".join(f"    at_{i} = {'column' if kinds[i] == 'v' else '0'}\n" for i in each)
    text += "    for axis in range(outer.size - 1, -1, -1):\n"
    text += "        index = row % outer[axis]\n        row //= outer[axis]\n"
    text += "".join(f"        at_{i} += index * strides[axis, {i}]\n" for i in each)
    text += "".join(f"    from_{i} = U(at_{i})\n" for i in each)
    text += "".join(f"    x{i} = in_{i}[from_{i}]\n" for i in each if kinds[i] == "s")
    text += "    from_out = U(low)\n    for i in range(U(count)):\n"
    return text + "".join(f"        {line}\n" for line in lines) + "    low += count\n"


def statements(
    expressions: Sequence[Expr],
    numbers: dict[str, int],
    kinds: str,
    dtype: np.dtype,
    scope: dict[str, Any],
    nested: bool,
) -> tuple[list[str], list[str]]:
    """One assignment for each operation of the expressions, and the names of the results.

    The element of ``in_0`` is ``x0``, read at ``i`` or, where loops are nested, at ``from_0 + i``, unless it stays.
    """
    suffix = "_f32" if dtype == dtypes.float32 else "_f64"
    names: dict[int, str] = {}
    lines = []
    for e in scalar.topological(expressions):
        if e.op == "var":
            i = numbers[e.value]
            if kinds[i] == "v":
                lines.append(f"x{i} = in_{i}[from_{i} + i]" if nested else f"x{i} = in_{i}[i]")
            names[id(e)] = f"x{i}"
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
    return lines, [names[id(e)] for e in expressions]


def without_repeats(a: np.ndarray) -> np.ndarray:
    """One copy of what a broadcast view repeats, so that it is not written out before it is read."""
    if 0 in a.strides:
        return a[tuple([slice(0, 1) if stride == 0 else slice(None) for stride in a.strides])]
    return a
