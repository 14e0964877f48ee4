"""What the CUDA device asks of the machine, of NVIDIA's driver through numba.cuda. It is found when first asked for."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.errors import DeviceError

_lock = threading.RLock()
_found: Any = None
_MOST_LAUNCHERS = 1024  # shapes of blocks and grids remembered a kernel


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
    """NVIDIA's driver, through numba.cuda."""

    default_stream: Any = 0
    simulated = False
    has_blas = True

    def __init__(self) -> None:
        try:
            from numba import cuda
            from numba.cuda.cudadrv.devicearray import DeviceNDArray
            from numba.cuda.cudadrv.driver import CudaAPIError, device_to_device, host_to_device
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
        self._cuda, self._array, self._error = cuda, DeviceNDArray, CudaAPIError
        self._move, self._upload = device_to_device, host_to_device
        self._threads = threading.local()
        self.state = State()

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

    def allocate(self, device: int, size: int) -> Any:
        with self.on(device):
            try:
                return self._cuda.current_context().memalloc(size)
            except self._error as error:
                if "OUT_OF_MEMORY" in str(error) or error.code == 2:
                    raise MemoryError from None
                raise DeviceError(f"cuda: allocating {size} bytes failed: {error}") from error

    def memory(self, device: int) -> tuple[int, int]:
        """Bytes that are free, and all that the GPU has."""
        with self.on(device):
            info = self._cuda.current_context().get_memory_info()
        return info.free, info.total

    def pointer(self, block: Any) -> int:
        return int(block.device_pointer)

    def foreign(self, device: int, pointer: int, size: int) -> Any:
        """Memory that somebody else allocated."""
        from numba.cuda.cudadrv.driver import MemoryPointer, binding

        with self.on(device):
            return MemoryPointer(self._cuda.current_context(), binding.CUdeviceptr(pointer), size)

    def flat(self, device: int, block: Any, offset: int, size: int, dtype: np.dtype) -> Any:
        with self.on(device):
            data = block.view(offset) if size and offset else block
            if not dtypes.is_half(dtype):
                return self._array((size,), (dtype.itemsize,), dtype, gpu_data=data)
            from minigrad.devices.cuda.stored import flat_array

            # To Numba memory of either half type holds float16, and to kernels it is what it is.
            array: Any = self._array((size,), (dtype.itemsize,), dtypes.float16, gpu_data=data)
            array._numba_type_ = flat_array(dtype)
            return array

    def upload(self, device: int, target: Any, values: np.ndarray, stream: Any) -> None:
        with self.on(device):
            target.copy_to_device(_as_numba_knows(values), stream=stream)
            if stream:
                stream.synchronize()  # `values` may change as soon as this returns

    def download(self, device: int, source: Any, values: np.ndarray, stream: Any) -> None:
        with self.on(device):
            source.copy_to_host(_as_numba_knows(values), stream=stream)
            if stream:
                stream.synchronize()

    def copy(self, device: int, target: Any, source: Any, size: int, stream: Any) -> None:
        """Bytes from one place to another, on one GPU or between two."""
        with self.on(device):
            self._move(target, source, size, stream=stream)

    def handle(self, stream: Any) -> int:
        """The stream's address as other libraries know it, and 1 for the default stream."""
        return int(stream.handle) if stream else 1

    def device_of(self, pointer: int) -> int:
        """The GPU on which memory lies."""
        from numba.cuda.cudadrv.driver import binding

        attribute = binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, device = binding.cuPointerGetAttribute(attribute, binding.CUdeviceptr(pointer))
        if int(status):
            raise DeviceError(f"cuda: {pointer:#x} is no address in a GPU's memory")
        return int(device)

    def synchronize_all(self, device: int) -> None:
        with self.on(device):
            self._cuda.synchronize()

    def stream(self, device: int) -> Any:
        self.require(device)
        with self.on(device):
            return self._cuda.stream()

    @property
    def graphs(self) -> Any:
        """The driver's own functions, graphs among them; None where their binding is not installed."""
        try:
            from cuda.bindings import driver
        except ImportError:
            return None
        return driver

    def external(self, device: int, handle: int) -> Any:
        """A stream that was made by the driver's own functions."""
        with self.on(device):
            return self._cuda.external_stream(handle)

    def synchronize(self, device: int, stream: Any) -> None:
        with self.on(device):
            if stream:
                stream.synchronize()
            else:
                self._cuda.synchronize()

    def wait(self, device: int, stream: Any, other_device: int, other: Any) -> None:
        cuda: Any = self._cuda
        with self.on(other_device):
            event = cuda.event(timing=False)
            event.record(other)
        with self.on(device):
            event.wait(stream)

    def module(self) -> Any:
        """What `gpu` is in kernels."""
        return self._cuda

    def compile(self, function: Callable, *, device: bool, inline: bool = False) -> Any:
        return self._cuda.jit(function, device=device, **({"inline": "always"} if inline else {}))

    def launch(
        self, device: int, kernel: Any, grid: tuple, block: tuple, stream: Any, shared: int, args: tuple
    ) -> None:
        with self.on(device):
            self._configured(kernel, (grid, block, stream, shared))(*args)

    def _configured(self, kernel: Any, shape: tuple) -> Any:
        """Numba's launcher for blocks of this shape. It warns of small grids when it is made, which ours may be."""
        found = kernel.launchers.get(shape)
        if found is None:
            with self.state.lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if len(kernel.launchers) >= _MOST_LAUNCHERS:
                    kernel.launchers.clear()
                found = kernel.launchers[shape] = kernel.compiled()[shape]
        return found


def _as_numba_knows(values: np.ndarray) -> np.ndarray:
    """The same memory, in a dtype that Numba can copy."""
    return values.view(dtypes.float16) if dtypes.is_bfloat16(values.dtype) else values


def require(device: int, count: int) -> None:
    """Raise a DeviceError unless the machine has a device of that index."""
    if device >= count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        there = "there is none" if count == 0 else f"there are {count}" if count > 1 else "there is one"
        raise DeviceError(f"cuda: GPU {device} was asked for, {there}{hint}")


_NOTHING = contextlib.nullcontext()
