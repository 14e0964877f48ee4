"""The functions of NVIDIA's driver that the CUDA device uses, over the host's memory: nothing runs, calls are noted."""

import contextlib
import ctypes
import enum
import re
import struct
import threading
import types

from minigrad.devices.cuda import driver
from minigrad.devices.cuda.launching import ADDRESS, Entry, layout


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class FakeApi:
    """Stands for ``cuda.bindings.driver``.

    Attributes:
        calls: names and arguments of all calls but those that ask for memory.
        blocks: size and memory of what is allocated, by address, which 256 divides.
        fails: statuses that functions return, by name.
    """

    CUresult = CUresult
    CUstream_flags = types.SimpleNamespace(CU_STREAM_DEFAULT=0, CU_STREAM_NON_BLOCKING=1)
    CUevent_flags = types.SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)
    CUpointer_attribute = types.SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)
    CUstream = CUfunction = int
    CU_MEMHOSTALLOC_PORTABLE = 1

    def __init__(self, total=1 << 20):
        self.calls, self.blocks, self.fails = [], {}, {}
        self.total, self._number = total, 100

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)
        real = getattr(self, "_" + name[2:], lambda *args: ())

        def call(*args):
            self.calls.append((name, *args))
            return (self.fails[name],) if name in self.fails else (CUresult.CUDA_SUCCESS, *real(*args))

        self.__dict__[name] = call
        return call

    def used(self):
        return sum(size for size, _ in self.blocks.values())

    def cuMemAlloc(self, size):
        if self.used() + size > self.total:
            return (CUresult.CUDA_ERROR_OUT_OF_MEMORY, None)
        memory = ctypes.create_string_buffer(b"\xff" * (size + 256), size + 256)
        address = -(-ctypes.addressof(memory) // 256) * 256
        self.blocks[address] = size, memory
        return (CUresult.CUDA_SUCCESS, address)

    def _MemHostAlloc(self, size, flags):
        return (self.cuMemAlloc(size)[1],)

    def _MemFree(self, pointer):
        del self.blocks[int(pointer)]
        return ()

    def _MemGetInfo(self):
        return self.total - self.used(), self.total

    def require_alive(self, pointer, size):
        """Raise unless memory is part of what is allocated."""
        if size and not any(start <= pointer and pointer + size <= start + n for start, (n, _) in self.blocks.items()):
            raise AssertionError(f"{size} bytes at {pointer:#x} are not in any block")

    def _MemcpyAsync(self, target, source, size, stream):
        self.require_alive(target, size)
        self.require_alive(source, size)
        ctypes.memmove(target, source, size)
        return ()

    def _MemcpyHtoDAsync(self, target, source, size, stream):
        self.require_alive(target, size)
        ctypes.memmove(target, source, size)
        return ()

    def _MemcpyDtoHAsync(self, target, source, size, stream):
        self.require_alive(source, size)
        ctypes.memmove(target, source, size)
        return ()

    def _PointerGetAttribute(self, attribute, pointer):
        return (next(0 for start, (n, _) in self.blocks.items() if start <= pointer < start + n),)

    def _number_of_its_own(self, *args):
        self._number += 1
        return (self._number,)

    _StreamCreate = _EventCreate = _number_of_its_own


class FakeDriver(driver.NumbaDriver):
    """`NumbaDriver` on these functions: all of its own code runs, and no kernel does, which it does not compile.

    Attributes:
        kinds: kernels and the kinds of their arguments, by the handles that stand for them in launches.
        launches: for each launch the kernel's handle, blocks and threads, and the values that it was given.
    """

    def __init__(self, **options):
        self._count, self._threads, self.state = 1, threading.local(), driver.State()
        self._api = FakeApi(**options)
        self.default_stream = driver.NativeStream(0, 1)
        self.kinds, self.launches = {}, []
        self._api._LaunchKernel = self._launched

    has_blas = False

    def on(self, device):
        return contextlib.nullcontext()

    def capability(self, device):
        return 9, 0

    def multiprocessors(self, device):
        return 132

    def _load(self, kernel, device, kinds):
        handle = len(self.kinds)
        self.kinds[handle] = kernel, kinds
        entry = kernel.entries[self, device, kinds] = Entry(self._api.cuLaunchKernel, handle, kinds, kernel.__name__)
        return entry

    def _launched(self, handle, *rest):
        kinds = self.kinds[handle][1]
        values = told(rest[-1], kinds)
        for at in arrays_in(kinds):
            self._api.require_alive(values[at + ADDRESS], values[at + 2] * values[at + 3])
        self.launches.append((handle, rest[:6], values))
        return ()


def arrays_in(kinds):
    """Where among the values of arguments of these kinds the words of an array begin."""
    at = 0
    for code in re.findall(r"7Q|[a-zA-Z?]", layout(kinds)):
        if code == "7Q":
            yield at
        at += 7 if code == "7Q" else 1


def told(extra, kinds):
    """The values of arguments that a launch is given, read as the driver reads them: where its argument points to."""
    words = (ctypes.c_void_p * 5).from_address(extra)
    assert (words[0], words[2], words[4]) == (1, 2, None)
    size = ctypes.c_size_t.from_address(words[3]).value
    form = "@" + layout(kinds)
    assert size == struct.calcsize(form)
    return struct.unpack(form, ctypes.string_at(words[1], size))
