"""DLPack for memory of GPUs: capsules given and taken, by the C structs of the standard (version 0)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.errors import DeviceError, DTypeError

_CPU, _CUDA, _CUDA_MANAGED = 1, 2, 13
HOST = _CPU, 0  # what ``__dlpack_device__`` says of the host's memory
_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_BFLOAT16 = 4


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
_CapsuleEnd = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_given: dict[int, tuple] = {}  # what consumers hold, by the address of its struct: kept until they call the deleter


@_Deleter
def _release(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


@_CapsuleEnd
def _end(capsule: int) -> None:
    # Nobody has taken it: one who does renames the capsule, and calls the deleter himself.
    if _is_valid(capsule, _NAME):
        _given.pop(_pointer(capsule, _NAME), None)


_NAME, _USED = b"dltensor", b"used_dltensor"
_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_SetName", _api))


def capsule(array: cuda.DeviceArray, *, stream: int | None = None, copy: bool | None = None, **options: Any) -> Any:
    """A capsule of an array on a GPU, ready to use on the consumer's stream: 1 the default one, -1 whichever."""
    if options.get("dl_device") not in (None, device(array)):
        raise BufferError(f"dlpack: the tensor is on {array.device}; move it with .to(device) first")
    if copy:
        array = cuda.copied(array, array.lease.stream.device)
    cuda.hand_over(array, stream)
    return _capsule(array, array.pointer, device(array))


def capsule_of_host(array: np.ndarray, **options: Any) -> Any:
    """A capsule of an array on the CPU that NumPy makes none of: bfloat16's. The consumer may write to it."""
    if options.get("dl_device") not in (None, HOST):
        raise BufferError("dlpack: the tensor is on the CPU; move it with .to(device) first")
    return _capsule(array, array.__array_interface__["data"][0], HOST)


def _capsule(array: Any, pointer: int, place: tuple[int, int]) -> Any:
    n = array.ndim
    shape = (ctypes.c_int64 * n)(*array.shape)
    strides = (ctypes.c_int64 * n)(*[s // array.itemsize for s in array.strides])
    code = _BFLOAT16 if dtypes.is_bfloat16(array.dtype) else _KINDS[array.dtype.kind]
    dtype = _DType(code, 8 * array.itemsize, 1)
    tensor = _Tensor(pointer if array.size else None, _Device(*place), n, dtype, shape, strides, 0)
    managed = _Managed(tensor, None, _release)
    address = ctypes.addressof(managed)
    _given[address] = (managed, shape, strides, array)
    return _new(address, _NAME, ctypes.cast(_end, ctypes.c_void_p))


def device(array: cuda.DeviceArray) -> tuple[int, int]:
    """What ``__dlpack_device__`` says."""
    return _CUDA, array.lease.stream.device


def taken(source: Any) -> Any:
    """An ndarray or DeviceArray in the memory of what has ``__dlpack__``.

    Raises:
        DeviceError: for other devices than the CPU and CUDA's.
    """
    kind, index = source.__dlpack_device__()
    if kind == _CPU:
        return _on_host(source) if "bfloat16" in str(getattr(source, "dtype", "")) else np.from_dlpack(source)
    if kind not in (_CUDA, _CUDA_MANAGED):
        raise DeviceError(f"from_dlpack: the memory is on a device of type {int(kind)}, expected the CPU or CUDA")
    here = cuda.current(index)
    owner, pointer, shape, dtype, strides = _opened(source.__dlpack__(stream=cuda.handle_of(here)))
    return cuda.foreign(owner, pointer, shape, dtype, strides, here)


def _on_host(source: Any) -> np.ndarray:
    """An array of bfloat16, which NumPy does not take."""
    owner, pointer, shape, dtype, strides = _opened(source.__dlpack__())
    steps = [(n - 1) * s for n, s in zip(shape, strides)] if strides and 0 not in shape else []
    low, high = sum([s for s in steps if s < 0]), sum([s for s in steps if s > 0])
    size = high - low + dtype.itemsize if strides else dtype.itemsize * int(np.prod(shape))
    memory: Any = (ctypes.c_uint8 * size).from_address(pointer + low) if pointer else bytearray(size)
    if pointer:
        memory.owner = owner  # which lives as long as the array
    return np.ndarray(shape, dtype, memory, -low, strides)


def _opened(found: Any) -> tuple[_Taken, int, tuple[int, ...], np.dtype, tuple[int, ...] | None]:
    """What keeps the memory in a capsule, where it is, and the array's shape, dtype and strides in bytes."""
    address = _pointer(id(found), _NAME)
    managed = _Managed.from_address(address)
    _rename(id(found), _USED)
    owner = _Taken(managed)
    tensor = managed.tensor
    kinds = {code: k for k, code in _KINDS.items()}
    if (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == (_BFLOAT16, 16, 1):
        dtype = dtypes.bfloat16()
    elif tensor.dtype.lanes != 1 or tensor.dtype.code not in kinds or tensor.dtype.bits % 8:
        raise DTypeError(f"from_dlpack: tensors don't hold elements of DLPack's type {tensor.dtype.code}")
    else:
        dtype = np.dtype(f"{kinds[tensor.dtype.code]}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple([s * dtype.itemsize for s in tensor.strides[: tensor.ndim]]) if tensor.strides else None
    return owner, (tensor.data or 0) + tensor.byte_offset, shape, dtype, strides


class _Taken:
    """Memory of another library, which is told when it is no longer used."""

    def __init__(self, managed: _Managed):
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(ctypes.pointer(self._managed))
