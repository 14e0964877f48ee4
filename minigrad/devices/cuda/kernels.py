"""`jit` and `kernel`: functions that are compiled for the GPU when they are first needed, and the one way to launch."""

from __future__ import annotations

import hashlib
import threading
import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from minigrad.devices import cpu
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.launching import Slot
from minigrad.devices.cuda.memory import Stream, submit
from minigrad.devices.cuda.recording import Unsettled
from minigrad.devices.function import text_of, text_of_value

#: Threads of a block, where nothing else is known to be better.
THREADS = 256


class _Gpu:
    """What kernels' source calls numba.cuda: ``gpu.threadIdx.x``, ``gpu.syncthreads()``, ``gpu.shared.array(...)``."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"gpu.{name} exists inside kernels only: functions made by cuda.jit and cuda.kernel")


gpu: Any = _Gpu()
_barriers = {"shfl_xor_sync", "syncthreads", "syncthreads_or", "syncthreads_and", "syncthreads_count", "syncwarp"}


class Function:
    """A function for use in kernels, made by `jit`. Numba and the driver are first touched when it is compiled."""

    def __init__(self, function: Callable, *, inline: bool = False, simulated: Callable | None = None):
        self.python = function
        self.simulated = simulated
        self.inline = inline
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._functions: dict[bool, Any] = {}  # by whether for the simulator
        self._stamp: str | bool | None = False  # not asked for yet

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{self.__name__} runs on the GPU: it is called by kernels")

    def stamp(self) -> str | None:
        """A hash of all that the machine code is made of; None if something in it can't be told apart reliably."""
        if self._stamp is False:
            parts = self._parts()
            whole = None if None in parts else "\0".join(str(part) for part in parts)
            self._stamp = None if whole is None else hashlib.sha256(whole.encode()).hexdigest()
        return self._stamp  # type: ignore[return-value]

    def _parts(self) -> list[str | None]:
        python = self.python
        parts: list[str | None] = [self.__name__, str(self.inline), text_of(python.__code__)]
        for name, value in sorted(_referenced(python).items()):
            text = "gpu" if value is gpu else _text_of(value)
            parts.append(None if text is None else f"{name}={text}")
        return [*parts, text_of_value(python.__defaults__), text_of_value(tuple((python.__kwdefaults__ or {}).items()))]

    @property
    def barriers(self) -> bool:
        """Whether threads wait for each other in it."""
        names = set(self.python.__code__.co_names)
        return bool(names & _barriers) or any(
            isinstance(value, Function) and value.barriers for value in _referenced(self.python).values()
        )

    def compiled_as_function(self) -> Any:
        """Numba's dispatcher of a device function."""
        driver = drivers.get()
        with _lock:
            found = self._functions.get(driver.simulated)
            if found is None:
                python = self.simulated if driver.simulated and self.simulated is not None else self.python
                found = driver.compile(bound(python), device=True, inline=self.inline)
                self._functions[driver.simulated] = found
        return found


class Kernel(Function):
    """A kernel, made by `kernel`, and called as ``kernel(blocks, threads, *arguments)``.

    ``blocks`` and ``threads`` are a number, or two or three. Arguments are `DeviceArray`\\ s, which must be contiguous
    and arrive as flat arrays, flat arrays as `DeviceArray.span` gives them, and numbers: Python integers arrive as
    int64, floats as float64, NumPy's scalars as what they are.
    """

    def __init__(self, function: Callable):
        super().__init__(function)
        self._kernel: Any = None
        self.entries: dict[tuple, Any] = {}  # the driver's, by itself, GPU and kinds of arguments

    def __call__(
        self, blocks: Any, threads: Any, *args: Any, shared: int = 0, uses: Sequence[DeviceArray] | None = None
    ) -> None:
        """Run on the current stream of the arrays' device. Without blocks there is nothing to do.

        `shared` is the size of dynamic shared memory in bytes. `uses` names the arrays where only parts of them are
        among the arguments.
        """
        grid, block = _three(blocks), _three(threads)
        if 0 in grid:
            return
        if uses is None:
            uses = [a for a in args if a.__class__ is DeviceArray]
        natives = tuple([a.flat if a.__class__ is DeviceArray else a for a in args])
        submit(Launch(self, grid, block, shared, natives), uses[0].lease.stream.device, uses)

    def compiled(self) -> Any:
        """Numba's dispatcher of the kernel."""
        with _lock:
            if self._kernel is None:
                self._kernel = drivers.get().compile(bound(self.python), device=False)
        return self._kernel


class Launch:
    """One call of a kernel."""

    __slots__ = ("args", "block", "grid", "kernel", "shared")

    def __init__(self, kernel: Kernel, grid: tuple, block: tuple, shared: int, args: tuple):
        self.kernel = kernel
        self.grid = grid
        self.block = block
        self.shared = shared
        self.args = args  # as the driver takes them; arrays that have no memory yet come from a recording

    def give(self, stream: Stream) -> None:
        """Launch it on a stream."""
        drivers.get().launch(stream.device, self.kernel, self.grid, self.block, stream.native, self.shared, self.args)

    def prepared(self, device: int, place_of: Callable) -> Callable:
        """The launch of which is yet to be told where its arrays are.

        Args:
            place_of: of memory, and bytes from its start: which address it is to be told, and bytes from there.
        """

        def slot(a: Unsettled) -> Slot:
            index, start = place_of(a.place, a.offset)
            return Slot(index, start, a.size, a.dtype)

        args = [slot(a) if a.__class__ is Unsettled else a for a in self.args]
        return drivers.get().prepared(device, self.kernel, self.grid, self.block, self.shared, tuple(args))

    def settle(self) -> None:
        """Take the memory of arrays that had none: it is there now."""
        self.args = tuple([a.settled() if a.__class__ is Unsettled else a for a in self.args])


def jit(function: Callable | None = None, *, inline: bool = False, simulated: Callable | None = None) -> Any:
    """Make a function that kernels call.

    Arithmetic is IEEE's, with products and sums contracted to fused multiply-adds: Numba's fast-math switch for CUDA
    would take NaN and infinity for impossible, flush small numbers to 0, and approximate division, exp and tanh.

    Args:
        function: takes scalars and flat arrays. ``gpu`` in its source is numba.cuda.
        inline: have Numba inline it before it infers types.
        simulated: what stands for it on the simulator, where its code can't run there.

    Example:
        >>> from minigrad.devices import cuda
        >>> @cuda.jit
        ... def twice(x):
        ...     return x + x
    """
    if function is None:
        return lambda f: jit(f, inline=inline, simulated=simulated)
    return Function(function, inline=inline, simulated=simulated)


def kernel(function: Callable) -> Kernel:
    """Make a kernel of what one thread does; see `Kernel` for how it is called.

    Example:
        >>> from minigrad.devices import cuda
        >>> from minigrad.devices.cuda import gpu
        >>> @cuda.kernel
        ... def double(out, x):
        ...     i = gpu.grid(1)
        ...     if i < out.size:
        ...         out[i] = 2 * x[i]
        >>> double(cuda.blocks_of(x.size), cuda.THREADS, out, x)  # doctest: +SKIP
    """
    return Kernel(function)


def blocks_of(work: int, threads: int = THREADS) -> int:
    """How many blocks of so many threads have a thread for each piece of work."""
    return -(-work // threads)


def bound(function: Callable) -> Callable:
    """The function with numba.cuda in place of `gpu`, and compiled functions in place of those it calls."""
    scope = dict(function.__globals__)
    for name, value in _referenced(function).items():
        if name in scope:
            scope[name] = _within(value)
    cells = [types.CellType(_within(cell.cell_contents)) for cell in function.__closure__ or ()]
    made = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, tuple(cells))
    made.__kwdefaults__ = function.__kwdefaults__
    made.__module__ = function.__module__
    made.__qualname__ = function.__qualname__
    return made


def _within(value: Any) -> Any:
    """What stands in a kernel for a value that its source names."""
    if value is gpu:
        return drivers.get().module()
    return _for_kernels(value).compiled_as_function() if isinstance(value, (Function, cpu.Function)) else value


def _text_of(value: Any) -> str | None:
    """What stands for a value that a kernel's source names in the kernel's stamp."""
    return _for_kernels(value).stamp() if isinstance(value, (Function, cpu.Function)) else text_of_value(value)


@cache
def _for_kernels(function: Function | cpu.Function) -> Function:
    """The function itself; one that `cpu.jit` made serves here as well: of arrays it takes flat ones."""
    return function if isinstance(function, Function) else Function(function.python)


_lock = threading.RLock()


def _referenced(function: Callable) -> dict[str, Any]:
    """What the function names outside itself, by name."""
    scope = function.__globals__
    found = {name: scope[name] for name in function.__code__.co_names if name in scope}
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return found | dict(zip(function.__code__.co_freevars, cells))


def _three(n: Any) -> Any:
    if isinstance(n, tuple):
        return (*n, 1, 1)[:3]
    return int(n), 1, 1
