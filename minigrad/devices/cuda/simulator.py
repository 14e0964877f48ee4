"""GPUs that are not there: kernels run as Python on Numba's CUDA simulator, in the host's memory. For tests.

Of the simulator come the meaning of numba.cuda's names and of arrays; the threads of a block are run here, as greenlets
in one Python thread, from one barrier to the next. That is a hundred times faster than a Python thread for each, and it
can be done in another order: results that depend on it are those of a kernel that lacks a barrier.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices.cuda.driver import State, require
from minigrad.devices.cuda.launching import Slot

_lock = threading.RLock()


class Simulator:
    """What `minigrad.devices.cuda.driver.NumbaDriver` is to real GPUs.

    Attributes:
        devices, total: how many GPUs it pretends to have, and how many bytes each of them.
        backwards: whether blocks, and threads between barriers, run from the last to the first.
    """

    default_stream: Any = 0
    simulated = True
    has_blas = False
    has_graphs = False

    def __init__(self, devices: int = 1, total: int = 1 << 30) -> None:
        from numba import cuda
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        self.devices, self.total, self.backwards = devices, total, False
        self._cuda, self._array = cuda, FakeCUDAArray
        self._used: dict[int, int] = {}
        self.state = State()

    def count(self) -> int:
        return self.devices

    def require(self, device: int) -> None:
        require(device, self.devices)

    def describe(self, device: int) -> str:
        return "Numba's CUDA simulator"

    def capability(self, device: int) -> tuple[int, int]:
        return 9, 0

    def multiprocessors(self, device: int) -> int:
        return 2

    def on(self, device: int) -> Any:
        """There are no contexts to enter."""
        return contextlib.nullcontext()

    def allocate(self, device: int, size: int) -> Any:
        if size > self.memory(device)[0]:
            raise MemoryError
        self._used[device] = self._used.get(device, 0) + size
        return _Memory(size)

    def free(self, device: int, block: Any) -> None:
        self._used[device] -= block.size
        block.bytes = None

    def host_memory(self, device: int, size: int) -> tuple[Any, np.ndarray]:
        block = _Memory(size)
        return block, block.bytes

    def memory(self, device: int) -> tuple[int, int]:
        return self.total - self._used.get(device, 0), self.total

    def pointer(self, block: Any) -> int:
        return block.bytes.ctypes.data

    def foreign(self, device: int, pointer: int, size: int) -> Any:
        return _Memory(size, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer)))

    def device_of(self, pointer: int) -> int:
        return 0

    def flat(self, device: int, block: Any, offset: int, size: int, dtype: np.dtype) -> Any:
        return self._array(np.ndarray((size,), dtype, block.bytes, offset if size else 0))

    def upload(self, device: int, target: Any, values: np.ndarray, stream: Any) -> None:
        target._ary[...] = values

    def download(self, device: int, source: Any, values: np.ndarray, stream: Any) -> None:
        values[...] = source._ary

    def copy(self, device: int, target: Any, source: Any, size: int, stream: Any) -> None:
        target._ary.view(np.uint8)[:size] = source._ary.view(np.uint8)[:size]

    def stream(self, device: int) -> Any:
        self.require(device)
        return self._cuda.stream()

    def handle(self, stream: Any) -> int:
        return id(stream) if stream else 1

    def synchronize(self, device: int, stream: Any) -> None:
        """All that was asked for is done already."""

    def synchronize_all(self, device: int) -> None:
        """As `synchronize`."""

    def wait(self, device: int, stream: Any, other_device: int, other: Any) -> None:
        """There is nothing to wait for."""

    def module(self) -> Any:
        return _Context()

    def compile(self, function: Callable, *, device: bool, inline: bool = False) -> Any:
        return function

    def launch(
        self, device: int, kernel: Any, grid: tuple, block: tuple, stream: Any, shared: int, args: tuple
    ) -> None:
        from numba.cuda.simulator.kernel import _push_kernel_context
        from numba.cuda.simulator.kernelapi import FakeCUDAModule

        body = kernel.compiled_as_function()
        arrays = tuple([in_kernels(a._ary) if isinstance(a, self._array) else a for a in args])
        numbers = list(np.ndindex(*grid))
        with _lock:  # one kernel at a time
            for number in reversed(numbers) if self.backwards else numbers:
                with _push_kernel_context(FakeCUDAModule(grid, block, shared)):
                    if kernel.barriers:
                        _Block(body, number, block, arrays, self.backwards).run()
                    else:
                        self._one_by_one(body, number, block, arrays)

    def prepared(self, device: int, kernel: Any, grid: tuple, block: tuple, shared: int, args: tuple) -> Callable:
        """A launch of which slots among the arguments are yet to get addresses."""

        def array(slot: Any, addresses: list[int]) -> Any:
            size, address = slot.size * slot.dtype.itemsize, addresses[slot.index] + slot.offset
            memory: Any = (ctypes.c_uint8 * size).from_address(address) if size else b""
            return self._array(np.frombuffer(memory, slot.dtype))

        def launch(stream: Any, addresses: list[int]) -> None:
            given = tuple([array(a, addresses) if isinstance(a, Slot) else a for a in args])
            self.launch(device, kernel, grid, block, stream, shared, given)

        return launch

    def _one_by_one(self, body: Callable, number: tuple, block: tuple, args: tuple) -> None:
        """The threads of a block that don't wait for each other."""
        me: Any = threading.current_thread()
        lanes = list(enumerate(np.ndindex(*block)))
        with np.errstate(all="ignore"):  # as on a GPU, where infinities and NaN raise nothing
            for lane, place in reversed(lanes) if self.backwards else lanes:
                _place(me, number, place, lane)
                body(*args)


class _Halves:
    """A flat array of a half type as kernels see it: what is read is float32, what is written is rounded."""

    def __init__(self, values: np.ndarray):
        self._values, self.dtype, self.itemsize, self.size = values, values.dtype, values.itemsize, values.size
        self.shape, self.__array_interface__ = values.shape, values.__array_interface__

    def __getitem__(self, i: Any) -> np.float32:
        return np.float32(self._values[i])

    def __setitem__(self, i: Any, value: Any) -> None:
        self._values[i] = dtypes.rounded(np.asarray(value), self.dtype)


def in_kernels(values: np.ndarray) -> Any:
    """A flat array as simulated kernels take it."""
    return _Halves(values) if dtypes.is_half(values.dtype) else values


class _Block:
    """A block whose threads wait for each other: each is a greenlet, which runs to its next barrier or its end."""

    def __init__(self, body: Callable, number: tuple, block: tuple, args: tuple, backwards: bool):
        from greenlet import getcurrent, greenlet

        self.shared: dict = {}  # what simulated functions exchange within the block
        me: Any = threading.current_thread()
        me.block, me.syncthreads, me.wait = self, self._syncthreads, self._wait
        self._me = me
        self._number, self._main = number, getcurrent()
        self._args, self._body = args, body
        places = [(x, y, z) for z in range(block[2]) for y in range(block[1]) for x in range(block[0])]
        lanes = [(i, place, greenlet(self._run)) for i, place in enumerate(places)]
        self._lanes = lanes[::-1] if backwards else lanes

    def run(self) -> None:
        live = self._lanes
        while live:
            waiting, barriers = [], set()
            for lane in live:
                i, place, thread = lane
                _place(self._me, self._number, place, i)
                barrier = thread.switch()
                if not thread.dead:
                    waiting.append(lane)
                    barriers.add(barrier)
            if len(barriers) > 1:
                raise RuntimeError(f"threads of one block wait at different barriers: {sorted(barriers)}")
            live = waiting

    def _run(self) -> None:
        with np.errstate(all="ignore"):
            self._body(*self._args)

    def _syncthreads(self) -> None:
        frame = sys._getframe(2)  # behind the module's own function of that name
        self._wait(f"{frame.f_code.co_filename}:{frame.f_lineno}")

    def _wait(self, barrier: str) -> None:
        """Wait until all other threads of the block wait, or have ended."""
        self._main.switch(barrier)


def exchanged(value: Any, mask: int) -> Any:
    """`minigrad.devices.cuda.warp.exchange`: the value of another thread of the warp."""
    me: Any = threading.current_thread()
    slots, lane = me.block.shared, me.thread_id
    slots[lane] = value
    me.wait("exchange, before")
    result = slots[lane ^ mask]
    me.wait("exchange, after")
    return result


def _place(thread: Any, number: tuple, place: tuple, lane: int) -> None:
    from numba.cuda.simulator.kernelapi import Dim3

    thread.blockIdx, thread.threadIdx, thread.thread_id = Dim3(*number), Dim3(*place), lane


class _Context:
    """What `gpu` is in simulated kernels: the part of numba.cuda that belongs to the kernel that runs."""

    def __getattr__(self, name: str) -> Any:
        from numba.cuda.simulator import kernel

        return getattr(kernel._get_kernel_context(), name)


class _Memory:
    """A block of simulated memory, full of garbage, aligned as a GPU's is."""

    def __init__(self, size: int, memory: np.ndarray | None = None):
        self.size = size
        if memory is None:
            whole = np.full(size + 256, 0xFF, np.uint8)
            start = -whole.ctypes.data % 256
            memory = whole[start : start + size]
        self.bytes: Any = memory
