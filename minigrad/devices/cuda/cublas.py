"""cuBLAS through nvmath-python, where that is installed: matrix products in full precision, of batches too."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.memory import current
from minigrad.errors import DeviceError

_threads = threading.local()  # a handle serves one thread
_binding: Any = None  # False once it is known to be missing


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
    """out = x @ y over the last two axes; False where there is no cuBLAS. Leading axes broadcast to those of out.

    cuBLAS is told of columns: row-major out = x·y is column-major outᵀ = yᵀ·xᵀ, so that y comes first. A matrix whose
    rows or columns are contiguous is used as it lies.
    """
    blas = binding()
    if blas is None:
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
    device = out.lease.stream.device
    stream = current(device)
    for a in (out, x, y):
        a.lease.use_on(stream)
    name, kind = ("sgemm", np.float32) if out.dtype == np.float32 else ("dgemm", np.float64)
    one, zero = np.ones((), kind), np.zeros((), kind)
    with drivers.get().on(device):
        handle = _handle(blas, device)
        blas.set_stream(handle, 0 if stream.native == 0 else drivers.get().handle(stream.native))
        call = getattr(blas, f"{name}_strided_batched_64")
        call(
            *(handle, int(y_transposed), int(x_transposed), m, n, k, one.ctypes.data),
            *(y.pointer, y_step, y_stride, x.pointer, x_step, x_stride, zero.ctypes.data),
            *(out.pointer, m, n * m, matrices),
        )
    return True


def _handle(blas: Any, device: int) -> int:
    handles = _threads.__dict__.setdefault("handles", {})
    if device not in handles:
        try:
            handles[device] = blas.create()
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
