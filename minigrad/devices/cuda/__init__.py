"""The CUDA device: memory and streams of GPUs, arrays in it, and `jit` and `kernel`, which make kernels.

Nothing here touches a driver, or imports Numba, before a tensor is asked to be on a GPU.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices.cuda import driver as _driver
from minigrad.devices.cuda import faults
from minigrad.devices.cuda.array import DeviceArray, name_of
from minigrad.devices.cuda.kernels import THREADS, Function, Kernel, blocks_of, gpu, jit, kernel
from minigrad.devices.cuda.memory import Lease, Stream, allocated, current, empty, require_now
from minigrad.errors import ArgumentError, DeviceError

__all__ = [
    "THREADS",
    "DeviceArray",
    "Function",
    "Kernel",
    "Stream",
    "blocks_of",
    "constant",
    "contiguous",
    "copied",
    "count",
    "current",
    "empty",
    "foreign",
    "gpu",
    "hand_over",
    "handle_of",
    "index_of",
    "interface",
    "is_available",
    "jit",
    "kernel",
    "name_of",
    "repeated",
    "status",
    "taken",
    "to_device",
    "to_host",
    "upload",
]


def index_of(device: Any) -> int | None:
    """The GPU's index that a device's name stands for; None for the CPU.

    Raises:
        ArgumentError: for what names no device: ``"cpu"``, ``"cuda"`` and ``"cuda:<index>"`` do.

    Example:
        >>> from minigrad.devices import cuda
        >>> cuda.index_of("cpu"), cuda.index_of("cuda"), cuda.index_of("cuda:1")
        (None, 0, 1)
    """
    if device == "cpu":
        return None
    if isinstance(device, str):
        head, colon, number = device.partition(":")
        if head == "cuda" and (not colon or number.isdecimal()):
            return int(number) if colon else 0
    raise ArgumentError(f"device: {device!r} names no device, expected 'cpu', 'cuda' or 'cuda:<index>'")


def is_available() -> bool:
    """Whether there is a GPU to compute on. Asks the driver."""
    try:
        return count() > 0
    except DeviceError:
        return False


def count() -> int:
    """The number of GPUs.

    Raises:
        DeviceError: if there is no driver.
    """
    return _driver.get().count()


def status() -> str:
    """What there is, or what is missing, in words."""
    try:
        driver = _driver.get()
    except DeviceError as error:
        return str(error)
    if not driver.count():
        return "the driver finds no GPU"
    found = []
    for i in range(driver.count()):
        free, total = driver.memory(i)
        found.append(f"{name_of(i)}: {driver.describe(i)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return "; ".join(found)


def to_device(values: np.ndarray, index: int = 0) -> DeviceArray:
    """A copy of the values in a GPU's memory."""
    values = np.asarray(values, order="C")
    array = allocated(values.shape, values.dtype, index)
    upload(array, values)
    return array


def upload(array: DeviceArray, values: np.ndarray) -> None:
    """Copy values of the same shape and dtype into a contiguous array, now."""
    if array.size:
        stream = current(array.lease.stream.device)
        array.lease.use_on(stream)
        _driver.get().upload(stream.device, array.flat, np.ascontiguousarray(values).reshape(-1), stream.native)


def to_host(array: DeviceArray) -> np.ndarray:
    """A copy of the values in the host's memory."""
    require_now("values on the host")
    values = np.empty(array.shape, array.dtype)
    if array.size:
        packed = contiguous(array)
        stream = current(packed.lease.stream.device)
        packed.lease.use_on(stream)
        _driver.get().download(stream.device, packed.flat, values.reshape(-1), stream.native)
        faults.check(stream.device)
    return values


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array itself if it is C-contiguous, else a copy that is."""
    if array.contiguous:
        return array
    from minigrad.devices.cuda.copies import copy_into

    out = empty(array.shape, array.dtype, array.lease.stream.device)
    copy_into(out, array)
    return out


def constant(value: Any, dtype: np.dtype, index: int) -> DeviceArray:
    """A Python number in a GPU's memory: uploaded once, as numbers never change."""
    return _kept(value, (), dtype, index)


def repeated(value: Any, size: int, dtype: np.dtype, index: int) -> DeviceArray:
    """A flat array of one number, to be read alone: where it is not long, it is uploaded once."""
    if size * dtype.itemsize <= _LARGEST_CONSTANT:
        return _kept(value, (size,), dtype, index)
    from minigrad.devices.cuda.copies import fill

    made = empty((size,), dtype, index)
    fill(made, value)
    return made


def _kept(value: Any, shape: tuple[int, ...], dtype: np.dtype, index: int) -> DeviceArray:
    known = _driver.get().state.constants
    key = repr(value), shape, dtype, index  # 0.0 equals −0.0, and NaN does not equal itself
    found = known.get(key)
    if found is None:
        if len(known) >= _MOST_CONSTANTS:
            known.clear()
        found = known[key] = to_device(np.full(shape, dtypes.rounded(np.array(value), dtype)), index)
    return found


_MOST_CONSTANTS = 1024
_LARGEST_CONSTANT = 1 << 16  # bytes


def copied(array: Any, index: int | None) -> Any:
    """A copy on a GPU, or on the CPU for None, wherever the array lies."""
    if isinstance(array, np.ndarray):
        return array.copy() if index is None else to_device(array, index)
    if index is None:
        return to_host(array)
    out = empty(array.shape, array.dtype, index)
    if array.lease.stream.device == index:
        from minigrad.devices.cuda.copies import copy_into

        copy_into(out, array)
        return out
    require_now("a copy from another GPU")
    if array.size:
        source, stream = contiguous(array), current(index)
        source.lease.use_on(stream)
        _driver.get().copy(index, out.flat, source.flat, array.nbytes, stream.native)
    return out


# Exchange with other libraries


def interface(array: DeviceArray) -> dict[str, Any]:
    """``__cuda_array_interface__``, version 3, of an array that others may read."""
    return {
        "shape": array.shape,
        "typestr": array.dtype.str,  # of bfloat16 "<V2", as in torch
        "data": (array.pointer if array.size else 0, True),
        "strides": None if array.contiguous else array.strides,
        "stream": handle_of(array.lease.stream),
        "version": 3,
    }


def handle_of(stream: Stream) -> int:
    """The stream as other libraries name it: 1 is the default stream."""
    return _driver.get().handle(stream.native)


def hand_over(array: DeviceArray, stream: int | None) -> None:
    """Let a stream of another library wait for the array's; None is the default stream, -1 does not wait."""
    if stream != -1 and (stream or 1) != handle_of(array.lease.stream):
        array.lease.stream.synchronize()


def foreign(
    owner: Any, pointer: int, shape: tuple, dtype: np.dtype, strides: tuple | None, stream: Stream
) -> DeviceArray:
    """An array in memory that `owner` has, and that is kept as long as the array is."""
    steps = [0] if strides is None else [(n - 1) * s for n, s in zip(shape, strides)]
    low, high = sum([s for s in steps if s < 0]), sum([s for s in steps if s > 0])
    size = prod(shape) * dtype.itemsize if strides is None else high - low + dtype.itemsize
    block = _driver.get().foreign(stream.device, pointer + low, size)
    return DeviceArray(Lease(stream, block, size, owner), shape, dtype, strides, -low)


def taken(owner: Any) -> DeviceArray:
    """An array in the memory of what has ``__cuda_array_interface__``."""
    told = owner.__cuda_array_interface__
    pointer, strides = told["data"][0], told.get("strides")
    driver = _driver.get()
    index = driver.device_of(pointer)
    stream = current(index)
    if told.get("stream") not in (None, handle_of(stream)):
        driver.synchronize_all(index)
    dtype = dtypes.bfloat16() if told["typestr"] == "<V2" else np.dtype(told["typestr"])
    return foreign(owner, pointer, tuple(told["shape"]), dtype, None if strides is None else tuple(strides), stream)
