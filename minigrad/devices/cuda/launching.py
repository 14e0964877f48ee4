"""How a kernel is started: what its arguments look like to the GPU, and the call of the driver that takes them.

Numba compiles kernels; its own way to launch them takes longer than most of them run. Here a kernel that is compiled
for arguments of certain kinds packs their values into a few words of memory, of which the driver is told.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import DeviceError

ADDRESS = 4  # the place of an array's address among its words


class Flat:
    """A flat array as kernels take it. It does not keep its memory: the array that it is of does.

    Attributes:
        pointer: the address of its first element.
        size: how many elements.
        words: what the kernel is given, in the order of Numba's structure of an array: nothing twice, for the object
            that owns the memory, then size, bytes of an element, address, length, and bytes from one to the next.
    """

    __slots__ = ("dtype", "pointer", "size", "words")

    def __init__(self, pointer: int, size: int, dtype: np.dtype):
        wide = dtype.itemsize
        self.pointer, self.size, self.dtype = pointer, size, dtype
        self.words = (0, 0, size, wide, pointer, size, wide)


class Slot(Flat):
    """A flat array that is at another address each time.

    Attributes:
        index: which of the addresses that a launch is given.
        offset: bytes from there to its first element.
    """

    __slots__ = ("index", "offset")

    def __init__(self, index: int, offset: int, size: int, dtype: np.dtype):
        super().__init__(0, size, dtype)
        self.index, self.offset = index, offset


def kinds_of(args: tuple) -> tuple:
    """What decides how a kernel is compiled: the dtypes of flat arrays, the classes of numbers, and both in tuples."""
    return tuple(
        [a.dtype if isinstance(a, Flat) else kinds_of(a) if a.__class__ is tuple else a.__class__ for a in args]
    )


def flattened(args: tuple) -> list:
    """The numbers of which arguments consist, in their order."""
    values: list[Any] = []
    for a in args:
        if isinstance(a, Flat):
            values += a.words
        elif a.__class__ is tuple:
            values += flattened(a)
        else:
            values.append(a)
    return values


def signature(kinds: tuple) -> tuple:
    """Numba's types of arguments of these kinds."""
    from numba.core import types
    from numba.cuda.np.numpy_support import from_dtype

    from minigrad.devices.cuda.stored import flat_array

    def numba_type(kind: Any) -> Any:
        if isinstance(kind, tuple):
            return types.BaseTuple.from_types(signature(kind))
        return flat_array(kind) if isinstance(kind, np.dtype) else from_dtype(np.dtype(kind))

    return tuple([numba_type(kind) for kind in kinds])


def layout(kinds: tuple) -> str:
    """How arguments of these kinds follow each other in memory, in the terms of `struct`: aligned as C aligns them."""
    parts = []
    for kind in kinds:
        if isinstance(kind, tuple):
            parts.append(layout(kind))
        elif isinstance(kind, np.dtype):
            parts.append("7Q")
        elif dtypes.kind(np.dtype(kind)) in "biuf" and not dtypes.is_half(np.dtype(kind)):
            parts.append(np.dtype(kind).char)
        else:
            raise TypeError(f"kernels take flat arrays, numbers and tuples of numbers, not {kind.__name__}")
    return "".join(parts)


class Entry:
    """A kernel that is compiled for arguments of certain kinds and loaded.

    Args:
        launch: the driver's ``cuLaunchKernel``.
        function: its handle of the kernel.
        kinds: of the arguments.
        name: for errors.
    """

    def __init__(self, launch: Callable, function: Any, kinds: tuple, name: str):
        self._launch, self._function, self._name = launch, function, name
        self._struct = struct.Struct("@" + layout(kinds))
        self._spare: list[_Frame] = []

    def launch(self, grid: tuple, block: tuple, stream: Any, shared: int, values: list) -> None:
        """Give the kernel to a stream. The driver has copied the values when this returns.

        Raises:
            DeviceError: with the driver's word for what is wrong with the launch, or with a kernel before it.
        """
        spare = self._spare
        frame = spare.pop() if spare else _Frame(self._struct.size)  # of which each launch has one to itself
        self._struct.pack_into(frame.memory, 0, *values)
        (status,) = self._launch(self._function, *grid, *block, shared, stream, None, frame.address)
        spare.append(frame)
        if status:
            raise DeviceError(f"cuda: launching {self._name} failed: {getattr(status, 'name', status)}")


class Prepared:
    """A launch of which all is known but where its arrays are.

    Args:
        args: arrays that move are `Slot`\\ s.
    """

    def __init__(self, entry: Entry, grid: tuple, block: tuple, shared: int, args: tuple):
        self._launch, self._grid, self._block, self._shared = entry.launch, grid, block, shared
        self._values = flattened(args)
        starts = [len(flattened(args[:i])) for i in range(len(args))]
        self._moved = [(at + ADDRESS, a.index, a.offset) for at, a in zip(starts, args) if isinstance(a, Slot)]

    def __call__(self, stream: Any, addresses: list[int]) -> None:
        """Launch it on a stream, with its slots at these addresses."""
        values = self._values.copy()
        for at, index, offset in self._moved:
            values[at] = addresses[index] + offset
        self._launch(self._grid, self._block, stream.handle, self._shared, values)


class _Frame:
    """Memory for the arguments of a launch, and what tells the driver of it."""

    _BUFFER, _SIZE, _END = 1, 2, 0  # CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END

    def __init__(self, size: int):
        self.memory = ctypes.create_string_buffer(max(size, 1))
        self._size = ctypes.c_size_t(size)
        buffer, length = ctypes.addressof(self.memory), ctypes.addressof(self._size)
        self._told = (ctypes.c_void_p * 5)(self._BUFFER, buffer, self._SIZE, length, self._END)
        self.address = ctypes.addressof(self._told)
