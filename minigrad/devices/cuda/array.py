"""DeviceArray: shape, strides and place of values in a GPU's memory, and its views. Knows nothing of kernels."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import prod
from operator import index as integer
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minigrad.devices.cuda.memory import Lease


class DeviceArray:
    """What an ndarray is to the CPU: dtype, shape and strides of values that lie in a GPU's memory.

    Views share memory and keep it alive, as NumPy's do. Kernels are given `flat` or `span`.

    Attributes:
        lease: the memory, of which this is a part.
        offset: bytes from the start of the memory to the first element.
        strides: in bytes.
    """

    __slots__ = ("_flat", "contiguous", "dtype", "lease", "ndim", "offset", "shape", "size", "strides")

    def __init__(
        self,
        lease: Lease,
        shape: tuple[int, ...],
        dtype: np.dtype,
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
    ):
        self.lease = lease
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self.size = prod(shape)
        self.offset = offset
        packed = packed_strides(shape, dtype.itemsize)
        self.strides = packed if strides is None else strides
        self.contiguous = (
            strides is None or self.size == 0 or all(n == 1 or a == b for n, a, b in zip(shape, self.strides, packed))
        )
        self._flat: Any = None

    def __repr__(self) -> str:
        return f"<DeviceArray {self.dtype}{self.shape} on {self.device}>"

    @property
    def device(self) -> str:
        """``"cuda"``, or ``"cuda:1"`` and so on for others than the first."""
        return name_of(self.lease.stream.device)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def pointer(self) -> int:
        """The address of the first element in the GPU's memory."""
        return self.lease.pointer + self.offset

    @property
    def flat(self) -> Any:
        """The elements as the one-dimensional array that kernels take; the array must be contiguous."""
        if self._flat is not None:
            return self._flat
        if not self.contiguous:
            raise ValueError(f"{self!r} has strides {self.strides}; cuda.contiguous makes a copy that kernels take")
        found = self.lease.native(self.offset, self.size, self.dtype)
        if self.lease.settled:
            self._flat = found
        return found

    def span(self) -> tuple[Any, int]:
        """All memory between the first and the last element as a flat array, and where in it the first element is."""
        size = self.dtype.itemsize
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides)]
        low = sum([s for s in steps if s < 0])
        high = sum([s for s in steps if s > 0])
        return self.lease.native(self.offset + low, (high - low) // size + 1, self.dtype), -low // size

    def copy(self) -> DeviceArray:
        """A contiguous copy on the same GPU."""
        from minigrad.devices.cuda import copied

        return copied(self, self.lease.stream.device)

    # Views

    def strided(self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> DeviceArray:
        """The same memory with other shape and strides, from `offset` bytes after the first element."""
        return DeviceArray(self.lease, shape, self.dtype, strides, self.offset + offset)

    def view(self) -> DeviceArray:
        return self.strided(self.shape, self.strides)

    def reshaped(self, shape: tuple[int, ...]) -> DeviceArray | None:
        """A view with that many elements; None where strides don't allow one."""
        if self.contiguous:
            return DeviceArray(self.lease, shape, self.dtype, None, self.offset)
        strides = _reshaped_strides(self.shape, self.strides, shape)
        return None if strides is None else self.strided(shape, strides)

    def transpose(self, axes: Iterable[int] | None = None) -> DeviceArray:
        order = range(self.ndim)[::-1] if axes is None else list(axes)
        return self.strided(tuple([self.shape[a] for a in order]), tuple([self.strides[a] for a in order]))

    def broadcast_to(self, shape: tuple[int, ...]) -> DeviceArray:
        """A view in which axes of length 1, and new leading ones, repeat."""
        new = len(shape) - self.ndim
        strides = [0 if n == 1 and m != 1 else s for n, m, s in zip(self.shape, shape[new:], self.strides)]
        return self.strided(shape, (*[0] * new, *strides))

    def __getitem__(self, key: Any) -> DeviceArray:
        """Basic indexing alone: integers, slices, None and an ellipsis, all in range."""
        keys = key if isinstance(key, tuple) else (key,)
        taken = sum(k is not None and k is not Ellipsis for k in keys)
        if Ellipsis not in [k for k in keys if k is None or k is Ellipsis]:
            keys = (*keys, Ellipsis)
        shape: list[int] = []
        strides: list[int] = []
        offset, axis = 0, 0
        for k in keys:
            if k is None:
                shape.append(1)
                strides.append(0)
            elif k is Ellipsis:
                rest = slice(axis, axis + self.ndim - taken)
                shape += self.shape[rest]
                strides += self.strides[rest]
                axis = rest.stop
            elif isinstance(k, slice):
                places = range(*k.indices(self.shape[axis]))
                shape.append(len(places))
                strides.append(places.step * self.strides[axis])
                offset += places.start * self.strides[axis] if len(places) else 0
                axis += 1
            else:
                offset += range(self.shape[axis])[integer(k)] * self.strides[axis]
                axis += 1
        return self.strided(tuple(shape), tuple(strides), offset)


def name_of(index: int) -> str:
    """The device's name: its index, unless that is 0."""
    return f"cuda:{index}" if index else "cuda"


@lru_cache(maxsize=4096)
def packed_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides of a C-contiguous array."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _reshaped_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], target: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides with which `target` walks the same elements; None if there are none. Sizes are equal and not 0."""
    old = [(n, s) for n, s in zip(shape, strides) if n != 1]
    merged: list[list[int]] = []  # runs of axes that are walked as one
    for n, s in old:
        if merged and merged[-1][1] == n * s:
            merged[-1] = [merged[-1][0] * n, s]
        else:
            merged.append([n, s])
    result: list[int] = []
    for n in reversed(target):  # from the innermost, each length is cut from the end of a run
        if n == 1:
            result.append(0)
            continue
        if merged[-1][0] % n:
            return None
        length, step = merged[-1]
        result.append(step)
        merged[-1] = [length // n, step * n]
        if merged[-1][0] == 1:
            merged.pop()
    return tuple(reversed(result))
