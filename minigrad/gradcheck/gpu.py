"""Checks of CUDA kernels: what a kernel owes on every device, and that derivatives run on the GPU as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes, tape
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, cublas, driver
from minigrad.errors import MinigradError
from minigrad.gradcheck import kernels
from minigrad.gradcheck.result import PASSED, Report, Result, compare
from minigrad.gradcheck.variations import resized
from minigrad.ops.linalg import matmul_p
from minigrad.primitive import Primitive, Sample
from minigrad.tensor import Tensor, Variable

DEVICE = "cuda"


def check_sample(p: Primitive, sample: Sample, label: str = "", seed: int = 0) -> Report:
    """All checks of a primitive's CUDA kernel on one sample: values, layouts, sizes, buffers, repeats, derivatives."""
    report = Report(f"{p.name} ({label}) on cuda")
    report.results = [
        kernels.against_reference(p, sample, DEVICE, dtypes.float32, seed),
        kernels.against_reference(p, sample, DEVICE, dtypes.float64, seed),
        kernels.layouts(p, sample, DEVICE, seed, _close if p is matmul_p and cublas.binding() else None),
        sizes(p, sample, seed),
        buffers(p, sample, seed),
        kernels.threads(p, sample, DEVICE, seed),
    ]
    if (simulator := driver.get()).simulated:
        report.results.append(orders(p, sample, seed, simulator))
    if p.has_vjp and p.is_differentiable:
        report.results.append(derivative(p, sample, seed))
    return report


def check_half(p: Primitive, sample: Sample, dtype: np.dtype, label: str = "", seed: int = 0) -> Report:
    """Values in a half type, on the GPU and on the CPU, and the derivative, which must have that type."""
    report = Report(f"{p.name} ({label}) of {dtype}")
    report.results = [kernels.against_reference(p, sample, device, dtype, seed) for device in (DEVICE, "cpu")]
    if p.has_vjp and p.is_differentiable:
        report.results.append(derivative(p, sample, seed, dtype))
    return report


def orders(p: Primitive, sample: Sample, seed: int, simulator: Any) -> Result:
    """The same bits when blocks, and threads between barriers, run in reverse: what lacks a barrier differs."""
    inputs = kernels.cast(p, sample, dtypes.float32)
    first = kernels.run(p, inputs, sample.params, DEVICE)
    simulator.backwards = True
    try:
        second = kernels.run(p, inputs, sample.params, DEVICE)
    finally:
        simulator.backwards = False
    for name, a, b in zip(kernels._names(p, inputs), second, first):
        if not kernels._same_bits(a, b):
            return kernels.failed("orders", f"{name} depends on the order in which threads run", seed)
    return Result("orders", PASSED, seed=seed)


def replays(p: Primitive, sample: Sample, seed: int = 0) -> Result:
    """The bits of calls from replays of a recorded one, on the sample's values and on others in their place."""
    from minigrad.jit import jit

    inputs = kernels.cast(p, sample, dtypes.float32)
    fixed = list(p.mutated_inputs(len(inputs)))
    given = [inputs, [_moved(a) for a in inputs]] * 2
    expected = [kernels.run(p, [_packed(a) for a in arrays], sample.params, DEVICE) for arrays in given]
    held = {i: Variable(Tensor(cuda.to_device(inputs[i])), trainable=False) for i in fixed}
    free = [i for i, a in enumerate(inputs) if a is not None and i not in held]

    @jit(fuse=False)
    def call(*tensors: Tensor) -> Any:
        known: dict[int, Any] = {**held, **dict(zip(free, tensors))}
        return p(*[known.get(i) for i in range(len(inputs))], **sample.params)

    for number, (arrays, wanted) in enumerate(zip(given, expected)):
        for i, v in held.items():
            v.assign(Tensor(cuda.to_device(arrays[i])))
        found = _as_tuple(call(*[Tensor(cuda.to_device(arrays[i])) for i in free]))
        for name, t, want in zip(kernels._names(p, inputs), found or list(held.values()), wanted):
            if not kernels._same_bits(t.numpy(), want):
                return kernels.failed("replays", f"{name} has other bits in call {number + 1} of 4 by jit", seed)
    if call.recordings != 1:
        return kernels.failed("replays", f"there are {call.recordings} recordings, expected 1", seed)
    return Result("replays", PASSED, seed=seed)


def _moved(a: Any) -> Any:
    """An array of the same form whose values stand elsewhere; integers, which may be places, stay."""
    return np.roll(a, 1) if kernels.is_float(a) else a


def _packed(a: Any) -> Any:
    return None if a is None else np.array(a, order="C")


def sizes(p: Primitive, sample: Sample, seed: int) -> Result:
    """The values with axes cut to 0 and 1, where the primitive takes that."""
    for label, made in resized(p, sample):
        try:
            kernels.run(p, kernels.cast(p, made, dtypes.float64), made.params)
        except MinigradError:
            continue
        result = kernels.against_reference(p, made, DEVICE, dtypes.float64, seed, 64.0)
        if result.verdict != PASSED:
            return result.of(check="sizes", detail=f"{result.detail or 'differs from the reference'}, with {label}")
    return Result("sizes", PASSED, seed=seed)


def buffers(p: Primitive, sample: Sample, seed: int) -> Result:
    """Inputs stay as they are, and outputs are written in full, and nothing else is, whatever their memory held."""
    inputs = kernels.cast(p, sample, dtypes.float32)
    tensors: list[Any] = [None if a is None else Tensor(cuda.to_device(a)) for a in inputs]
    fixed = p.mutated_inputs(len(tensors))
    for i in fixed:
        tensors[i] = Variable(tensors[i], trainable=False)
    outputs = _as_tuple(p(*tensors, **sample.params))
    for i, (t, a) in enumerate(zip(tensors, inputs)):
        if a is not None and i not in fixed and t.numpy().tobytes() != np.ascontiguousarray(a).tobytes():
            return kernels.failed("buffers", f"the kernel changed its input {p.input_name(i)}", seed)
    if p.mutates:
        return Result("buffers", PASSED, seed=seed)
    arrays = [t._data for t in tensors if t is not None]
    if not arrays:
        return Result("buffers", PASSED, seed=seed)
    plan = p._plan((0, __name__), [None if t is None else t._data for t in tensors], sample.params)
    del p._plans[0, __name__]
    if plan.returns:
        return Result("buffers", PASSED, seed=seed)
    for byte in (0xFF, 0x3F):
        places = [_in_garbage(shape, dtype, byte) for shape, dtype, _ in plan.buffers]
        views = tuple([view for _, view in places])
        given = [None if t is None else t._data for t in tensors]
        plan.kernel(views[0] if plan.single else views, *given, **({} if plan.planned else sample.params))
        for name, view, want in zip(p.outputs, views, outputs):
            if not kernels._same_bits(cuda.to_host(view), want.numpy()):
                return kernels.failed("buffers", f"{name} depends on what its memory held before", seed)
        for k, (memory, view) in enumerate(places):
            around = cuda.to_host(memory)
            if np.any(around[:_MARGIN] != byte) or np.any(around[_MARGIN + view.nbytes :] != byte):
                name = p.outputs[k] if k < plan.outputs else f"workspace {k - plan.outputs}"
                return kernels.failed("buffers", f"the kernel wrote beyond the ends of {name}", seed)
    return Result("buffers", PASSED, seed=seed)


_MARGIN = 64
_CLOSE = 1e-10  # of derivatives in float64


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two products agree as float32's do: for each layout of its factors cuBLAS has kernels of its own."""
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= 1e-5 * np.max(np.abs(b), initial=1.0)))


def _in_garbage(shape: tuple[int, ...], dtype: np.dtype, byte: int) -> tuple[DeviceArray, DeviceArray]:
    """Memory full of a byte, and an array inside it."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = cuda.to_device(np.full(size + 2 * _MARGIN, byte, np.uint8))
    return memory, DeviceArray(memory.lease, shape, dtype, None, memory.offset + _MARGIN)


def derivative(p: Primitive, sample: Sample, seed: int, dtype: np.dtype = dtypes.float64) -> Result:
    """The reverse rule on the GPU against the same on the CPU, which rounds half types at the same places."""
    found: list[list[np.ndarray]] = []
    names: list[str] = []
    for device in ("cpu", DEVICE):
        inputs = kernels.cast(p, sample, dtype)
        tensors = [
            None if a is None else Tensor(kernels.placed(a, device)) if not kernels.is_float(a) else _leaf(a, device)
            for a in inputs
        ]
        outputs = [y for y in _as_tuple(p(*tensors, **sample.params)) if y.requires_grad]
        rng = np.random.default_rng(seed)
        values = [dtypes.rounded(np.asarray(rng.standard_normal(y.shape)), y.dtype) for y in outputs]
        tape.backward(outputs, [Tensor(kernels.placed(ct, device)) for ct in values])
        leaves = [(i, t) for i, t in enumerate(tensors) if t is not None and t.requires_grad]
        names = [p.input_name(i) for i, _ in leaves]
        for i, t in leaves:
            if t.grad is not None and t.grad.dtype != t.dtype:
                words = f"the gradient of {p.input_name(i)} is {t.grad.dtype}, expected {t.dtype}"
                return kernels.failed("derivative", words, seed)
        grads = [np.zeros(t.shape) if t.grad is None else t.grad.numpy().copy() for _, t in leaves]
        found.append([g.astype(np.float64) if dtypes.is_half(g.dtype) else g for g in grads])
    expected, got = found
    sizes = [np.where(np.isfinite(e), np.abs(e), 0.0) for e in expected]
    bounds = [np.full(e.shape, _CLOSE * (1 + np.max(e, initial=0.0))) for e in sizes]
    if dtypes.is_half(dtype):
        unit, narrow = float(dtypes.finfo(dtype).eps), float(np.finfo(np.float32).eps)
        bounds = [unit * e + narrow * np.max(e, initial=1.0) for e in sizes]
    return compare("derivative", names, got, expected, bounds, scale=1.0, seed=seed)


def _leaf(a: np.ndarray, device: str) -> Tensor:
    from minigrad.tensor import tensor

    return tensor(a, requires_grad=True, device=device)


def _as_tuple(results: Any) -> tuple:
    return results if isinstance(results, tuple) else () if results is None else (results,)
