"""What the CUDA device asks of the machine, of NVIDIA's driver through numba.cuda. It is found when first asked for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.devices.cuda.binaries import binary_of
from minigrad.devices.cuda.launching import Entry, Flat, Prepared, flattened, kinds_of
from minigrad.errors import DeviceError

_lock = threading.RLock()
_found: Any = None


def get() -> Any:
    """The driver.

    Raises:
        DeviceError: if there is none, saying what is missing.
    """
    return _found if _found is not None else _find()


def use(driver: Any) -> Any:
    """Take another driver in place of the one that was found; returns the one before. For tests."""
    global _found
    with _lock:
        before, _found = _found, driver
    return before


def is_simulated() -> bool:
    """Whether Numba's simulator is switched on: ``NUMBA_ENABLE_CUDASIM=1`` when Numba is imported."""
    import numba

    return bool(numba.config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


def _find() -> Any:
    global _found
    with _lock:
        if _found is None:
            if is_simulated():
                from minigrad.devices.cuda.simulator import Simulator

                _found = Simulator()
            else:
                _found = NumbaDriver()
    return _found


class State:
    """What is kept in GPUs' memory, by index of the GPU, as long as the driver is: it goes when the driver does."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.streams: dict[int, Any] = {}  # the default ones
        self.constants: dict[tuple, Any] = {}
        self.faults: dict[int, Any] = {}
        self.pending: set[int] = set()  # GPUs on which kernels may have left a fault
        self.tables: dict[tuple, Any] = {}  # of addresses
        self.captures: dict[int, Any] = {}  # streams that graphs are captured on
        self.current = threading.local()  # streams, by attribute ``by_device``


class NumbaDriver:
    """NVIDIA's driver. Numba compiles kernels and keeps the contexts; memory, copies, streams and launches are ours."""

    simulated = False
    has_blas = True
    has_graphs = True  # a stream's work can be captured, to be given again as a whole

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver as api
            from numba import cuda
        except ImportError as error:
            raise DeviceError(
                f"cuda: Numba's CUDA support can't be imported ({error}); pip install 'minigrad[cuda]' brings it"
            ) from error
        try:
            self._count = len(cuda.gpus)
        except Exception as error:  # Numba has several classes for it, each with the driver's own words
            words = " ".join(str(error).split())
            if "NO_DEVICE" in words:
                raise DeviceError(f"cuda: the NVIDIA driver finds no GPU ({words}); use device 'cpu'") from error
            raise DeviceError(
                f"cuda: there is no NVIDIA driver on this machine, or it does not start ({words}); use device 'cpu'"
            ) from error
        self._cuda: Any = cuda
        self._api: Any = api
        self._threads = threading.local()
        self.default_stream = NativeStream(api.CUstream(0), 1)
        self.state = State()

    def ask(self, name: str, *args: Any) -> Any:
        """What a function of the driver returns besides its status.

        Raises:
            DeviceError: with the driver's word for what is wrong.
        """
        status, *found = getattr(self._api, name)(*args)
        if status:
            raise DeviceError(f"cuda: {name} failed: {getattr(status, 'name', status)}")
        return found[0] if found else None

    @property
    def relaxed_capture(self) -> Any:
        """The mode of captures that memory which is freed meanwhile does not end."""
        return self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED

    def count(self) -> int:
        return self._count

    def require(self, device: int) -> None:
        require(device, self._count)

    def describe(self, device: int) -> str:
        gpu = self._cuda.gpus[device]
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        major, minor = gpu.compute_capability
        return f"{name} (sm_{major}{minor})"

    def capability(self, device: int) -> tuple[int, int]:
        return self._cuda.gpus[device].compute_capability

    def multiprocessors(self, device: int) -> int:
        return self._cuda.gpus[device].MULTIPROCESSOR_COUNT

    def on(self, device: int) -> Any:
        """Inside, the device's context is this thread's current one. Device 0's is, where nothing else is asked."""
        if device:
            return self._cuda.gpus[device]
        if not getattr(self._threads, "ready", False):
            self._cuda.select_device(0)
            self._threads.ready = True
        return _NOTHING

    def allocate(self, device: int, size: int) -> int:
        """A block of memory, which stays until it is freed; to this driver it is its address."""
        with self.on(device):
            status, pointer = self._api.cuMemAlloc(size)
        if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError
        if status:
            raise DeviceError(f"cuda: allocating {size} bytes failed: {status.name}")
        return int(pointer)

    def free(self, device: int, block: int) -> None:
        with self.on(device):
            self.ask("cuMemFree", block)

    def host_memory(self, device: int, size: int) -> tuple[int, np.ndarray]:
        """Bytes of the host's memory that GPUs reach at the same address, as a block and as an array. They stay."""
        with self.on(device):
            address = int(self.ask("cuMemHostAlloc", size, self._api.CU_MEMHOSTALLOC_PORTABLE))
        return address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def memory(self, device: int) -> tuple[int, int]:
        """Bytes that are free, and all that the GPU has."""
        with self.on(device):
            _, free, total = self._api.cuMemGetInfo()
        return free, total

    def pointer(self, block: int) -> int:
        return block

    def foreign(self, device: int, pointer: int, size: int) -> int:
        """Memory that somebody else allocated."""
        return pointer

    def flat(self, device: int, block: int, offset: int, size: int, dtype: np.dtype) -> Flat:
        return Flat(block + offset, size, dtype)

    def upload(self, device: int, target: Flat, values: np.ndarray, stream: NativeStream) -> None:
        """Copy values that lie together; they may change as soon as this returns."""
        with self.on(device):
            self.ask("cuMemcpyHtoDAsync", target.pointer, values.ctypes.data, values.nbytes, stream.handle)
            self.ask("cuStreamSynchronize", stream.handle)

    def download(self, device: int, source: Flat, values: np.ndarray, stream: NativeStream) -> None:
        with self.on(device):
            self.ask("cuMemcpyDtoHAsync", values.ctypes.data, source.pointer, values.nbytes, stream.handle)
            self.ask("cuStreamSynchronize", stream.handle)

    def copy(self, device: int, target: Flat, source: Flat, size: int, stream: NativeStream) -> None:
        """Bytes from one place to another, on one GPU or between two."""
        with self.on(device):
            self.ask("cuMemcpyAsync", target.pointer, source.pointer, size, stream.handle)

    def handle(self, stream: NativeStream) -> int:
        """The stream's address as other libraries know it, and 1 for the default stream."""
        return stream.address

    def device_of(self, pointer: int) -> int:
        """The GPU on which memory lies."""
        attribute = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, device = self._api.cuPointerGetAttribute(attribute, pointer)
        if status:
            raise DeviceError(f"cuda: {pointer:#x} is no address in a GPU's memory")
        return int(device)

    def synchronize_all(self, device: int) -> None:
        with self.on(device):
            self.ask("cuCtxSynchronize")

    def stream(self, device: int, *, waits: bool = True) -> NativeStream:
        """A new stream; one that does not `wait` for the default stream, nor that for it, serves captures."""
        self.require(device)
        flags = self._api.CUstream_flags
        with self.on(device):
            handle = self.ask("cuStreamCreate", flags.CU_STREAM_DEFAULT if waits else flags.CU_STREAM_NON_BLOCKING)
        return NativeStream(handle, int(handle), lambda: self._destroy(device, handle))

    def _destroy(self, device: int, handle: Any) -> None:
        with self.on(device):
            self.ask("cuStreamDestroy", handle)

    def synchronize(self, device: int, stream: NativeStream) -> None:
        with self.on(device):
            self.ask("cuStreamSynchronize", stream.handle)

    def wait(self, device: int, stream: NativeStream, other_device: int, other: NativeStream) -> None:
        """Let later work of a stream wait for what another one has been given."""
        if other.handle is None:
            self.synchronize_all(other_device)
            return
        with self.on(other_device):
            event = self.ask("cuEventCreate", self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
            self.ask("cuEventRecord", event, other.handle)
        with self.on(device):
            self.ask("cuStreamWaitEvent", stream.handle, event, 0)
            self.ask("cuEventDestroy", event)  # which the driver does once it has come to pass

    def module(self) -> Any:
        """What `gpu` is in kernels."""
        return self._cuda

    def compile(self, function: Callable, *, device: bool, inline: bool = False) -> Any:
        return self._cuda.jit(function, device=device, **({"inline": "always"} if inline else {}))

    def launch(
        self, device: int, kernel: Any, grid: tuple, block: tuple, stream: NativeStream, shared: int, args: tuple
    ) -> None:
        with self.on(device):
            self._entry(device, kernel, args).launch(grid, block, stream.handle, shared, flattened(args))

    def prepared(self, device: int, kernel: Any, grid: tuple, block: tuple, shared: int, args: tuple) -> Prepared:
        """A launch of which slots among the arguments are yet to get addresses."""
        return Prepared(self._entry(device, kernel, args), grid, block, shared, args)

    def _entry(self, device: int, kernel: Any, args: tuple) -> Entry:
        kinds = kinds_of(args)
        return kernel.entries.get((self, device, kinds)) or self._load(kernel, device, kinds)

    def _load(self, kernel: Any, device: int, kinds: tuple) -> Entry:
        """The kernel, compiled for arguments of these kinds and loaded on a GPU."""
        with self.state.lock, self.on(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image, name = binary_of(kernel, kinds, self.capability(device))
            module = self.ask("cuModuleLoadData", image)
            function = self.ask("cuModuleGetFunction", module, name.encode())
            entry = Entry(self._api.cuLaunchKernel, function, kinds, kernel.__name__)
            kernel.entries[self, device, kinds] = entry
        return entry


class NativeStream:
    """A stream as the driver knows it, and its address as other libraries do.

    The handle is None once the stream is destroyed, of which arrays that were part of the same garbage may still speak.
    """

    __slots__ = ("_destroy", "address", "handle")

    def __init__(self, handle: Any, address: int, destroy: Callable | None = None):
        self.handle, self.address, self._destroy = handle, address, destroy

    def __del__(self) -> None:
        if self._destroy is not None and not sys.is_finalizing():  # the driver ends before Python's last objects do
            self._destroy()
            self.handle = None


def require(device: int, count: int) -> None:
    """Raise a DeviceError unless the machine has a device of that index."""
    if device >= count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        there = "there is none" if count == 0 else f"there are {count}" if count > 1 else "there is one"
        raise DeviceError(f"cuda: GPU {device} was asked for, {there}{hint}")


_NOTHING = contextlib.nullcontext()
