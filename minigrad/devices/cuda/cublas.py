"""cuBLAS through nvmath-python, where that is installed: matrix products in full precision, of batches too.

Products of half types are added up in float32 and rounded once: also where cuBLAS cuts sums into pieces, which it would
otherwise round each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.memory import Stream, here, submit
from minigrad.errors import DeviceError

_threads = threading.local()  # a handle serves one thread
_binding: Any = None  # False once it is known to be missing
_LETTERS = {dtypes.float32: "s", dtypes.float64: "d"}
_FLOAT16, _BFLOAT16 = 2, 14  # CUDA_R_16F and CUDA_R_16BF
_BFLOAT16_FROM = 8, 0  # the first generation whose cuBLAS has products of bfloat16


def binding() -> Any:
    """nvmath's module of cuBLAS, or None; on the simulator there is no cuBLAS."""
    global _binding
    if _binding is None:
        try:
            from nvmath.bindings import cublas

            _binding = cublas
        except ImportError:
            _binding = False
    return _binding if _binding and drivers.get().has_blas else None


def matmul(out: DeviceArray, x: DeviceArray, y: DeviceArray) -> bool:
    """out = x @ y over the last two axes; False where cuBLAS does not do it. Leading axes broadcast to those of out.

    cuBLAS is told of columns: row-major out = x·y is column-major outᵀ = yᵀ·xᵀ, so that y comes first. A matrix whose
    rows or columns are contiguous is used as it lies.
    """
    blas = binding()
    device = out.lease.stream.device
    if blas is None or (dtypes.is_bfloat16(out.dtype) and drivers.get().capability(device) < _BFLOAT16_FROM):
        return False
    x, x_transposed, x_step = _as_blas(x)
    y, y_transposed, y_step = _as_blas(y)
    (n, k), m = x.shape[-2:], y.shape[-1]
    batch, matrices = out.shape[:-2], int(np.prod(out.shape[:-2]))
    x_stride, y_stride = _batch_stride(x, batch), _batch_stride(y, batch)
    if x_stride is None:
        x, x_transposed, x_step = _as_blas(cuda.copied(x.broadcast_to((*batch, n, k)), x.lease.stream.device))
        x_stride = n * k
    if y_stride is None:
        y, y_transposed, y_step = _as_blas(cuda.copied(y.broadcast_to((*batch, k, m)), y.lease.stream.device))
        y_stride = k * m
    second = int(y_transposed), y, y_step, y_stride
    first = int(x_transposed), x, x_step, x_stride
    uses = [out, x, y]
    if here.recording is not None and here.recording.captured:  # where cuBLAS can't allocate a workspace by itself
        uses.append(cuda.empty((_workspace(device),), np.dtype(np.uint8), device))
    submit(_Product(out, second, first, (m, n, k), matrices, uses[3:]), device, uses)
    return True


def prepare(device: int) -> None:
    """Start cuBLAS for this thread, which can't be done under capture."""
    blas = binding()
    if blas is not None:
        with drivers.get().on(device):
            _handle(blas, device)


class _Product:
    """A call of cuBLAS."""

    def __init__(
        self, out: DeviceArray, second: tuple, first: tuple, sizes: tuple[int, int, int], matrices: int, workspace: list
    ):
        self._arrays = out, second[1], first[1], *workspace
        self._ways = (second[0], *second[2:]), (first[0], *first[2:])
        self._sizes, self._matrices, self._room = sizes, matrices, [memory.size for memory in workspace]
        kind = dtypes.arithmetic(out.dtype)
        self._one, self._zero = np.ones((), kind), np.zeros((), kind)
        halves = kind != out.dtype
        self._element = () if not halves else (_BFLOAT16 if dtypes.is_bfloat16(out.dtype) else _FLOAT16,)
        self._name = "gemm_strided_batched_ex_64" if halves else f"{_LETTERS[kind]}gemm_strided_batched_64"

    def give(self, stream: Stream) -> None:
        with drivers.get().on(stream.device):
            self._call(stream.device, stream.native, [a.pointer for a in self._arrays])

    def prepared(self, device: int, place_of: Callable) -> Callable:
        """The call of which is yet to be told where its arrays are."""
        places = [place_of(a.lease, a.offset) for a in self._arrays]
        return lambda native, addresses: self._call(device, native, [addresses[i] + start for i, start in places])

    def _call(self, device: int, native: Any, pointers: Sequence[int]) -> None:
        blas, (out, y, x, *workspace) = binding(), pointers
        (m, n, k), ((ty, *y_steps), (tx, *x_steps)) = self._sizes, self._ways
        handle, element = _handle(blas, device), self._element
        blas.set_stream(handle, drivers.get().handle(native))
        for pointer, size in zip(workspace, self._room):  # after the stream, which takes cuBLAS's own again
            blas.set_workspace(handle, pointer, size)
        how = (blas.ComputeType.COMPUTE_32F, blas.GemmAlgo.DEFAULT) if element else ()
        getattr(blas, self._name)(
            *(handle, ty, tx, m, n, k, self._one.ctypes.data),
            *(y, *element, *y_steps, x, *element, *x_steps),
            *(self._zero.ctypes.data, out, *element, m, n * m, self._matrices, *how),
        )

    def settle(self) -> None:
        """Pointers are read when it is given to a stream."""


def _workspace(device: int) -> int:
    """Bytes that NVIDIA recommends for a GPU: what cuBLAS takes by itself there."""
    return 32 << 20 if drivers.get().capability(device) >= (9, 0) else 4 << 20


def _handle(blas: Any, device: int) -> int:
    handles = _threads.__dict__.setdefault("handles", {})
    if device not in handles:
        try:
            handles[device] = blas.create()
            blas.set_math_mode(handles[device], blas.Math.DISALLOW_REDUCED_PRECISION_REDUCTION)
        except Exception as error:  # nvmath has classes of its own for a library that is missing
            raise DeviceError(
                f"cuda: cuBLAS does not start ({error}); pip install 'minigrad[cuda]' brings it"
            ) from error
    return handles[device]


def _as_blas(a: DeviceArray) -> tuple[DeviceArray, bool, int]:
    """The array, or a packed copy; whether its columns are contiguous and not its rows; the step between those."""
    (rows, columns), (row, column), size = a.shape[-2:], a.strides[-2:], a.itemsize
    if column == size and row >= size * columns and row % size == 0:
        return a, False, row // size
    if row == size and column >= size * rows and column % size == 0:
        return a, True, column // size
    if columns == 1 and row % size == 0 and row >= size:
        return a, False, row // size
    return cuda.contiguous(a) if not a.contiguous else a, False, max(1, columns)


def _batch_stride(a: DeviceArray, batch: tuple[int, ...]) -> int | None:
    """The one step from matrix to matrix, in elements; None where there is not one."""
    wide = a.broadcast_to((*batch, *a.shape[-2:]))
    steps = [(n, s) for n, s in zip(batch, wide.strides) if n != 1]
    if not steps:
        return 0
    if any(outer != inner * n for (_, outer), (n, inner) in pairwise(steps)):
        return None
    step = steps[-1][1]
    return step // a.itemsize if step >= 0 and step % a.itemsize == 0 else None
