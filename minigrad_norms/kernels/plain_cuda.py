"""What the plainer CUDA kernels share: groups laid out as rows, and a block's reductions."""

from __future__ import annotations

import numpy as np

import minigrad as mg
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray
from minigrad.devices.cuda.copies import copy_into
from minigrad.devices.cuda.warp import reducer
from minigrad.errors import DTypeError


@cuda.jit
def _add(a, b):
    return (a[0] + b[0],)


@cuda.jit
def _add_three(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@cuda.jit
def _larger(a, b):
    """The larger; NaN is larger than all."""
    return (b[0],) if b[0] > a[0] or b[0] != b[0] else a


total_of = reducer(_add, (0,), (np.float64,))
three_totals_of = reducer(_add_three, (0, 0, 0), (np.float64,) * 3)
largest_of = reducer(_larger, (0,), (np.float64,))


def require_kernels(operation: str, dtype: np.dtype) -> None:
    """Raise for what the kernels aren't made for."""
    if not mg.dtypes.has_gpu_kernels(dtype):
        raise DTypeError(f"{operation}: on cuda there are kernels for real floats of at most 64 bits, got {dtype}")


def empty_like(a: DeviceArray, shape: tuple[int, ...], dtype: type = np.float64) -> DeviceArray:
    """Memory beside an array's."""
    return cuda.empty(shape, np.dtype(dtype), a.lease.stream.device)


def as_rows(a: DeviceArray, axes: tuple[int, ...]) -> DeviceArray:
    """The array with `axes` last, packed: a row for each group."""
    return cuda.contiguous(a.transpose(_order(a.ndim, axes)))


def from_rows(out: DeviceArray, rows: DeviceArray, axes: tuple[int, ...]) -> None:
    """Write rows back to where their elements belong."""
    turned = out.transpose(_order(out.ndim, axes))
    flat = DeviceArray(rows.lease, turned.shape, rows.dtype, None, rows.offset)
    copy_into(turned, flat)


def _order(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return (*[a for a in range(ndim) if a not in axes], *axes)
