"""Checks of kernels: against the reference, memory layouts, buffers, threads, and what the primitive keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu, cuda
from minigrad.errors import MinigradError
from minigrad.gradcheck.repeat import LAYOUTS, spread_along
from minigrad.gradcheck.result import FAILED, PASSED, Result, compare
from minigrad.primitive import Abstract, Primitive, Sample, on_device
from minigrad.tensor import Tensor, Variable

_PERTURBATIONS = 4
_SMALL = 4096  # elements up to which samples are looked at closely
_MARGIN = 64  # bytes around each array; they keep its alignment
_GARBAGE = (0xFF, 0x3F)  # as a float: NaN, and a number near 1


def failed(check: str, detail: str, seed: int) -> Result:
    """A failure that is told in words."""
    return Result(check, FAILED, np.inf, detail=detail, seed=seed)


def infer(p: Primitive, sample: Sample, seed: int) -> Result:
    """Shapes and dtypes that `infer` promises, and what the reference returns, in both dtypes."""
    for dtype in (dtypes.float64, dtypes.float32):
        inputs = cast(p, sample, dtype)
        promised = p.abstract(*[None if a is None else Abstract(a.shape, a.dtype) for a in inputs], **sample.params)
        with np.errstate(all="ignore"):
            got = p.reference(*inputs, **sample.params)
        if len(promised) != len(got) or len(got) != len(p.outputs):
            words = f"{len(got)} outputs by the reference, {len(promised)} by infer, {len(p.outputs)} declared"
            return failed("infer", words, seed)
        for name, want, have in zip(p.outputs, promised, got):
            if (want.shape, want.dtype) != (have.shape, have.dtype):
                words = f"{name} is {have.dtype}{have.shape} by the reference, infer says {want.dtype}{want.shape}"
                return failed("infer", words, seed)
    return Result("infer", PASSED, seed=seed)


def against_reference(
    p: Primitive, sample: Sample, device: str, dtype: np.dtype, seed: int, slack: float = 0.0
) -> Result:
    """A kernel's results within a few roundings of values and inputs of the reference's in higher precision.

    With `slack` as many roundings of the largest input or result are allowed to all results. Of half types the results
    are those of float32, on these inputs, but for one rounding more, which is all that is allowed to them besides.
    """
    name = f"{device} {dtype}"
    if device not in p.devices:
        return failed(name, f"there is no kernel for {device!r}", seed)
    inputs = cast(p, sample, dtype)
    got = run(p, inputs, sample.params, device)
    carried = dtypes.arithmetic(dtype)
    expected, bounds = _allowed(p, [_carried(a) for a in inputs], sample, carried, seed)
    if slack:
        largest = max(_size(a) for a in (*expected, *inputs) if a is not None)
        bounds = [b + slack * float(np.finfo(carried).eps) * largest if b.any() else b for b in bounds]
    for k, y in enumerate(got):
        if dtypes.is_half(y.dtype):
            got[k], expected[k], bounds[k] = _once_rounded(y, expected[k], bounds[k])
    return compare(name, _names(p, inputs), got, expected, bounds, scale=1.0, seed=seed)


def layouts(p: Primitive, sample: Sample, device: str, seed: int, same: Callable | None = None) -> Result:
    """The same bits whatever the memory layout of the inputs; or what `same` takes for the same."""
    same = _same_bits if same is None else same
    inputs = cast(p, sample, dtypes.float32)
    plain = run(p, inputs, sample.params, device)
    for label, change in LAYOUTS.items():
        got = run(p, [None if a is None else change(a) for a in inputs], sample.params, device)
        if name := _difference(p, inputs, got, plain, same):
            return failed("layouts", f"{name} differs for {label} inputs", seed)
    fixed = p.mutated_inputs(len(inputs))  # in memory of a Variable's own
    for label, axis in (("first", 0), ("last", -1)):
        spread = [a if a is None or i in fixed else spread_along(a, axis) for i, a in enumerate(inputs)]
        try:
            plain = run(p, [None if a is None else np.array(a, order="C") for a in spread], sample.params, device)
        except MinigradError:
            continue  # the values that are left do not suit
        if name := _difference(p, inputs, run(p, spread, sample.params, device), plain, same):
            return failed("layouts", f"{name} differs for inputs that are broadcast along their {label} axis", seed)
    return Result("layouts", PASSED, seed=seed)


def buffers(p: Primitive, sample: Sample, device: str, seed: int) -> Result:
    """Inputs stay as they are, outputs have memory of their own, and a kernel writes all of it and nothing else."""
    inputs = cast(p, sample, dtypes.float32)
    kept = [None if a is None else a.copy() for a in inputs]
    with on_device(device):
        tensors = [None if a is None else Tensor(a) for a in inputs]
        for i in p.mutated_inputs(len(tensors)):
            tensors[i] = Variable(inputs[i], trainable=False)
        outputs = _as_tuple(p(*tensors, **sample.params))
    for i, (a, b) in enumerate(zip(inputs, kept)):
        if a is not None and b is not None and a.tobytes() != b.tobytes():
            return failed("buffers", f"the kernel changed its input {p.input_name(i)}", seed)
    arrays = [t._data for t in outputs]
    for k, y in enumerate(arrays):
        for i, a in enumerate(inputs):
            if a is not None and np.may_share_memory(y, a) and not (p.view and i == 0):
                return failed("buffers", f"{p.outputs[k]} shares memory with the input {p.input_name(i)}", seed)
        for j, z in enumerate(arrays[:k]):
            if np.may_share_memory(y, z):
                return failed("buffers", f"{p.outputs[k]} shares memory with {p.outputs[j]}", seed)
    for byte in () if p.mutates else _GARBAGE:
        if problem := _fill(p, device, inputs, sample.params, byte, arrays):
            return failed("buffers", problem, seed)
    return Result("buffers", PASSED, seed=seed)


def threads(p: Primitive, sample: Sample, device: str, seed: int) -> Result:
    """The same bits from a second run, from one thread and from all, and in whatever order chunks are done."""
    inputs = cast(p, sample, dtypes.float32)
    first = run(p, inputs, sample.params, device)
    ways = [("a second run", _as_it_is)]
    if device == "cpu":
        ways += [("one thread", _one_thread), ("chunks done in another order", lambda: _in_order(_backwards))]
        ways += [("chunks done in another order", lambda: _in_order(_odd_ones_first))]
    for label, way in ways:
        with way():
            got = run(p, inputs, sample.params, device)
        for name, a, b in zip(_names(p, inputs), got, first):
            if not _same_bits(a, b):
                return failed("threads", f"{name} has other bits from {label}", seed)
    return Result("threads", PASSED, seed=seed)


def invariances(p: Primitive, sample: Sample, device: str, seed: int) -> Result | None:
    """What the sample says that the primitive keeps, in float64."""
    worst: Result | None = None
    for kept in sample.invariances:
        inputs = cast(p, sample, dtypes.float64)
        changed = [a if a is None else np.array(a) for a in kept.change(*inputs)]
        original = run(p, inputs, sample.params, device)
        expected = [np.asarray(y) for y in _as_tuple(kept.expect(*original) if kept.expect else tuple(original))]
        got = run(p, changed, sample.params, device)
        _, bounds = _allowed(p, changed, Sample(sample.inputs, sample.params, wide=sample.wide), dtypes.float64, seed)
        _, before = _allowed(p, inputs, Sample(sample.inputs, sample.params, wide=sample.wide), dtypes.float64, seed)
        # `expect` may move and scale what the original's bounds belong to.
        both = [b + _stretch(e, y) * np.max(c, initial=0.0) for b, c, e, y in zip(bounds, before, expected, original)]
        result = compare("invariances", _names(p, inputs), got, expected, both, scale=1.0, seed=seed)
        result = result.of(detail=f"under {kept.note}") if result.verdict != PASSED else result
        if worst is None or (result.verdict != PASSED, result.error) > (worst.verdict != PASSED, worst.error):
            worst = result
    return worst


def run(p: Primitive, inputs: Sequence[Any], params: dict, device: str = "cpu") -> list[np.ndarray]:
    """Copies of the outputs, or of what a mutating primitive leaves in its Variables."""
    tensors: list[Any] = [None if a is None else Tensor(placed(a, device)) for a in inputs]
    places = p.mutated_inputs(len(tensors))
    for i in places:
        tensors[i] = Variable(tensors[i], trainable=False)
    with on_device("reference" if device == "reference" else "cpu"), np.errstate(all="ignore"):
        results = p(*tensors, **params)
    return [t.numpy().copy() for t in ([tensors[i] for i in places] if p.mutates else _as_tuple(results))]


def placed(a: np.ndarray, device: str) -> Any:
    """The array where a device's kernels take it, in the same layout."""
    if not device.startswith("cuda"):
        return a
    if a.flags.c_contiguous or not a.size:
        return cuda.to_device(a)
    first = a[tuple([slice(-1, None) if s < 0 else slice(0, 1) for s in a.strides])]  # with all the rest behind it
    reach = [(n - 1) * s for n, s in zip(a.shape, a.strides)]
    size = sum([abs(r) for r in reach]) // a.itemsize + 1
    memory = np.lib.stride_tricks.as_strided(first, (size,), (a.itemsize,))
    return cuda.to_device(memory).strided(a.shape, a.strides, -sum([r for r in reach if r < 0]))


def cast(p: Primitive, sample: Sample, dtype: np.dtype) -> list:
    """The inputs as arrays, with floats in `dtype` unless the sample wants them wide."""
    return [
        a
        if a is None
        else np.array(dtypes.rounded(np.asarray(a), dtype))
        if is_float(a) and p.input_name(i) not in sample.wide
        else np.asarray(a)
        for i, a in enumerate(sample.inputs)
    ]


def is_float(a: Any) -> bool:
    return a is not None and dtypes.kind(np.asarray(a).dtype) == "f"


def _carried(a: Any) -> Any:
    """An array of a half type in float32."""
    return a.astype(dtypes.float32) if a is not None and dtypes.is_half(a.dtype) else a


def _once_rounded(got: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, ...]:
    """Results of a half type, what is expected of them, and the bound with half a unit in their last place added."""
    limits = dtypes.finfo(got.dtype)
    eps, tiny, largest = float(limits.eps), float(limits.smallest_subnormal), float(limits.max)
    near = np.abs(np.asarray(expected, np.float64))
    too_large = np.isfinite(near) & (near >= largest * (1 + eps / 4))
    wanted = np.where(too_large, np.copysign(np.inf, expected), expected)
    return got.astype(np.float64), wanted, bound + np.nan_to_num(eps / 2 * near) + tiny / 2


def _allowed(
    p: Primitive, inputs: list, sample: Sample, dtype: np.dtype, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The reference in float64 (or wider), and how far rounding may take a kernel from it.

    Allowed are a few units in the last place of the result, and what the result moves when each input is moved by
    rounding: a kernel that rounds its inputs and its results is as good as one can ask of arithmetic in `dtype`. In
    float64 it has nothing wider to add up in, and the rounding of sums grows as a random walk.
    """
    wide = np.dtype(np.longdouble) if dtype == dtypes.float64 else dtypes.float64
    values = [a.astype(wide) if is_float(a) else a for a in inputs]
    with np.errstate(all="ignore"):
        expected = [np.asarray(y) for y in p.reference(*values, **sample.params)]
        moved = [np.zeros(y.shape) for y in expected]
        if dtype.name not in sample.exact:
            for which in _shaken_together(inputs):
                most = _most_moved(p, sample, dtype, values, inputs, which, expected, seed)
                moved = [a + b for a, b in zip(moved, most)]
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    sizes = [_size(y) for y in expected]
    bounds = []
    for y, m, size in zip(expected, moved, sizes):
        if dtypes.kind(y.dtype) != "f":
            bounds.append(np.zeros(y.shape))
            continue
        own = max(eps, float(np.finfo(y.dtype).eps))
        # Where a result is 0 by cancellation, the rounding of its terms is left; the other results tell their size.
        vanishes = size <= own * own * max(sizes)
        floor = own * (max(sizes) if vanishes else size * (1.0 if dtype.name in sample.exact else 1e-3))
        bounds.append(np.asarray(8 * own * np.nan_to_num(np.abs(y).astype(float)) + 8 * m + floor + tiny))
    return expected, bounds


def _shaken_together(inputs: Sequence[Any]) -> list[list[int]]:
    """The inputs that are moved at a time: one, so that none hides another's part, or all where they are large."""
    floats = [i for i, a in enumerate(inputs) if is_float(a)]
    small = sum(inputs[i].size for i in floats) <= _SMALL
    return [[i] for i in floats] if small else [floats]


def _most_moved(
    p: Primitive,
    sample: Sample,
    dtype: np.dtype,
    values: list,
    inputs: list,
    which: Sequence[int],
    expected: list[np.ndarray],
    seed: int,
) -> list[np.ndarray]:
    """How far the reference moves, element by element, when some inputs are moved by a rounding, up or down."""
    rng = np.random.default_rng((seed, *which))
    longest = max((inputs[i].size for i in which), default=0)
    walk = max(1.0, longest**0.5 / 4) if dtype == dtypes.float64 else 1.0
    most = [np.zeros(y.shape) for y in expected]
    for _ in range(2 * _PERTURBATIONS if longest <= _SMALL else _PERTURBATIONS):
        shaken = list(values)
        for i in which:
            eps = walk * float(np.finfo(inputs[i].dtype).eps)
            shaken[i] = np.asarray(values[i] * (1 + eps * rng.choice([-1.0, 1.0], values[i].shape)))
        for m, y, z in zip(most, expected, p.reference(*shaken, **sample.params)):
            if dtypes.kind(y.dtype) == "f":
                np.maximum(m, np.nan_to_num(np.abs(y - z).astype(np.float64)), out=m)
    return most


def _size(y: np.ndarray) -> float:
    """The largest finite value of a float result."""
    return float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)) if dtypes.kind(y.dtype) == "f" else 0.0


def _stretch(expected: np.ndarray, original: np.ndarray) -> float:
    """How much larger values have become, at least 1."""
    return max(1.0, _size(expected) / (_size(original) or 1.0))


def _names(p: Primitive, inputs: Sequence[Any]) -> list[str]:
    return [p.input_name(i) for i in p.mutated_inputs(len(inputs))] if p.mutates else list(p.outputs)


def _difference(
    p: Primitive, inputs: Sequence[Any], got: list[np.ndarray], plain: list[np.ndarray], same: Callable
) -> str:
    """The first result that is not the same, by name."""
    for name, a, b in zip(_names(p, inputs), got, plain):
        if not same(a, b):
            return name
    return ""


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same; any NaN is as good as another."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    if dtypes.kind(a.dtype) == "f":
        a, b = (np.where(np.isnan(x), np.nan, x) for x in (a, b))
    return a.tobytes() == b.tobytes()


def _fill(p: Primitive, device: str, inputs: list, params: dict, byte: int, expected: list) -> str:
    """What is wrong with a kernel that fills memory which holds, and lies in, garbage."""
    key = device, __name__
    plan = p._plan(key, inputs, params)
    del p._plans[key]
    if plan.returns:
        return ""
    placed = [None if a is None else _in_garbage(a.shape, a.dtype, byte, a)[1] for a in inputs]
    filled = [_in_garbage(shape, dtype, byte) for shape, dtype, _ in plan.buffers]
    views = tuple(view for _, view in filled)
    with np.errstate(all="ignore"):
        plan.kernel(views[0] if plan.single else views, *placed, **({} if plan.planned else params))
    for k, (memory, _) in enumerate(filled):
        if np.any(memory[:_MARGIN] != byte) or np.any(memory[memory.size - _MARGIN :] != byte):
            name = p.outputs[k] if k < plan.outputs else f"workspace {k - plan.outputs}"
            return f"the kernel wrote beyond the ends of {name}"
    for name, view, want in zip(p.outputs, views, expected):
        if not _same_bits(view, want):
            return f"{name} depends on what its memory held before, or on what lies beside an input"
    return ""


def _in_garbage(
    shape: tuple[int, ...], dtype: np.dtype, byte: int, values: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Memory full of a byte, and an array inside it, with values or without."""
    memory = np.full(prod(shape) * dtype.itemsize + 2 * _MARGIN, byte, np.uint8)
    view = np.ndarray(shape, dtype, memory.data, _MARGIN)
    if values is not None:
        view[...] = values
    elif dtype.kind == "b":
        view[...] = byte == _GARBAGE[0]  # other bytes are no booleans
    return memory, view


def _as_tuple(results: Any) -> tuple:
    return results if isinstance(results, tuple) else () if results is None else (results,)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _one_thread() -> Iterator[None]:
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


_patching = threading.Lock()


def _backwards(chunks: int) -> list[int]:
    return list(range(chunks))[::-1]


def _odd_ones_first(chunks: int) -> list[int]:
    return [*range(1, chunks, 2), *range(0, chunks, 2)]


@contextmanager
def _in_order(order: Callable[[int], list[int]]) -> Iterator[None]:
    """Do chunks one by one in another order, which no sound kernel can tell from all at once."""

    def call(self: cpu.Kernel, chunks: int, work: int, *args: Any) -> None:
        for chunk in order(chunks):
            self.body.entry(chunk, *args)

    with _patching:
        usual = cpu.Kernel.__call__
        cpu.Kernel.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            cpu.Kernel.__call__ = usual  # type: ignore[method-assign]
