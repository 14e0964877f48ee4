"""Binding: what a kernel's Python code would do with given arrays, as a list of steps that do it without that code.

A CPU kernel is a Python function that works out chunks and then calls compiled code or NumPy. Its code is run on
`Shadow`\\ s, arrays that let their shapes be seen and not their values: calls of compiled code are written down
instead of made, and so are NumPy's that write into what they are given; whatever would read a value, or make an array
of its own, ends the attempt. That is done twice, on arrays of different contents, and must come to the same. A
kernel that can't be bound is called as it stands.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_loops import Loop
from minigrad.jit.trace import owner


class Unbindable(Exception):
    """The kernel does more than call compiled code on the arrays that it is given."""


class Compiled(NamedTuple):
    """A compiled chunk's work on all chunks: ``kernel(chunks, work, *args)``.

    Each chunk is followed by the same of the calls in `then`, by the same thread. Calls in `again` are made, one after
    another, where this one fails.
    """

    kernel: cpu.Kernel
    chunks: int
    work: int
    args: tuple
    then: tuple[Compiled, ...] = ()
    again: tuple[Compiled, ...] = ()

    @property
    def parts(self) -> tuple[Compiled, ...]:
        """The call and those that follow it chunk by chunk."""
        return (self, *self.then)


class Plain(NamedTuple):
    """A call of a Python function, NumPy's or the kernel itself."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]


Step = Compiled | Plain


def bind(function: Callable, out: Any, arrays: Sequence[np.ndarray | None], params: dict[str, Any]) -> list[Step]:
    """The steps of ``function(out, *arrays, **params)``: one call of it where they can't be known beforehand."""
    if isinstance(function, Loop):
        bound = function.bound(out, *[a for a in arrays if a is not None])
        if bound is not None:
            return [Compiled(*call) for call in bound]
    else:
        # Whatever goes wrong on arrays without values, the call on real ones will do it right, or tell.
        with contextlib.suppress(Exception):
            numbers = itertools.count(0x3A)
            strangers = [_map(lambda a: _look_alike(a, next(numbers)), a) for a in (out, *arrays)]
            before = [_map(_contents, a) for a in strangers]
            known = _Tracer().trace(function, strangers[0], strangers[1:], params)
            if before == [_map(_contents, a) for a in strangers]:  # else it wrote by a way that Shadows don't see
                found = _Tracer().trace(function, _map(_shadow, out), [_map(_shadow, a) for a in arrays], params)
                if len(known) == len(found) and all(map(_alike, known, found)):
                    return [_plain_step(step) for step in found]
    return [Plain(function, (out, *arrays), params)]


class Shadow(np.ndarray):
    """An array whose values can't be read by Python. Views of it are Shadows too."""

    __numba_array_subtype_dispatch__ = True  # Numba is not to take it for an ndarray: see `_refuse_shadows`

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None or not all(isinstance(o, Shadow) for o in out):
            raise Unbindable(ufunc.__name__)
        _active().steps.append(Plain(getattr(ufunc, method), inputs, {"out": out, **kwargs}))
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        target = _target(function, args, kwargs)
        if not isinstance(target, Shadow):
            raise Unbindable(function.__name__)
        _active().steps.append(Plain(function, args, kwargs))
        return target

    def __getitem__(self, key: Any) -> Any:
        return self._unless_copied(super().__getitem__(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, np.ndarray) or (isinstance(key, tuple) and any(isinstance(k, np.ndarray) for k in key)):
            raise Unbindable("an index array")
        _active().steps.append(Plain(operator.setitem, (self, key, value), {}))

    def fill(self, value: Any) -> None:
        _active().steps.append(Plain(np.ndarray.fill, (self, value), {}))

    def ravel(self, *args: Any) -> Any:
        return self._unless_copied(super().ravel(*args))

    def reshape(self, *args: Any, **kwargs: Any) -> Any:
        return self._unless_copied(super().reshape(*args, **kwargs))

    def _unless_copied(self, found: Any) -> Any:
        if not isinstance(found, Shadow) or owner(found) is not owner(self):
            raise Unbindable("a value or a copy")
        return found

    def _unreadable(self, *args: Any, **kwargs: Any) -> Any:
        raise Unbindable("a value")


_READERS = (
    "__bool__ __int__ __float__ __complex__ __index__ __iter__ __contains__ __copy__ __deepcopy__ __reduce__ __repr__ "
    "__str__ __format__ all any argmax argmin argpartition argsort astype byteswap choose clip compress conj conjugate "
    "copy cumprod cumsum diagonal dot dump dumps flatten item max mean min nonzero partition prod put repeat resize "
    "round searchsorted sort std sum take tobytes tofile tolist trace var"
)
for _name in _READERS.split():
    setattr(Shadow, _name, Shadow._unreadable)


class _Tracer:
    """One run of a kernel's code on Shadows."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._thread = threading.get_ident()

    def trace(self, function: Callable, out: Any, arrays: Sequence[Any], params: dict[str, Any]) -> list[Step]:
        _refuse_shadows()
        _here.tracer = self
        cpu.tracers.append(self.take)
        try:
            function(out, *arrays, **params)
        finally:
            cpu.tracers.remove(self.take)
            del _here.tracer
        return self.steps

    def take(self, kernel: Any, chunks: int, work: int, args: tuple) -> bool:
        """A compiled kernel is about to run; true if it is written down instead."""
        if threading.get_ident() != self._thread:
            return False
        if not isinstance(kernel, cpu.Kernel):
            raise Unbindable("a compiled function without chunks")
        if chunks:
            self.steps.append(Compiled(kernel, chunks, work, args))
        return True


_here = threading.local()


def _active() -> _Tracer:
    tracer = getattr(_here, "tracer", None)
    if tracer is None:
        raise Unbindable("a Shadow outlived its trace")
    return tracer


def _target(function: Callable, args: tuple, kwargs: dict) -> Any:
    """The array that a NumPy function writes its result into."""
    if function is np.copyto:
        return args[0] if args else None
    if function is np.dot:
        return args[2] if len(args) > 2 else kwargs.get("out")
    if function is np.concatenate:
        return args[2] if len(args) > 2 else kwargs.get("out")
    return None


def _map(change: Callable, value: Any) -> Any:
    """`change` of an array, or of each in a tuple; None stays."""
    if value is None:
        return None
    return tuple([change(v) for v in value]) if isinstance(value, tuple) else change(value)


def _shadow(a: np.ndarray) -> Shadow:
    return a.view(Shadow)


def _look_alike(a: np.ndarray, content: int) -> Shadow:
    """A Shadow of the same form in other memory, which is filled with a byte."""
    reach = [(n - 1) * step for n, step in zip(a.shape, a.strides)] if a.size else []
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
    memory = np.empty(high - low + a.itemsize, np.uint8)
    memory[:_LOOKED_AT].fill(content % 256)
    return np.ndarray(a.shape, a.dtype, memory, -low, a.strides).view(Shadow)


def _contents(a: Shadow) -> bytes:
    """The first bytes of a look-alike's memory."""
    return owner(a)[:_LOOKED_AT].tobytes()


_LOOKED_AT = 1 << 14  # bytes


def _alike(one: Step, other: Step) -> bool:
    if isinstance(one, Compiled) and isinstance(other, Compiled):
        if (one.kernel, one.chunks, one.work) != (other.kernel, other.chunks, other.work):
            return False
        return len(one.args) == len(other.args) and all(map(_alike_values, one.args, other.args))
    if isinstance(one, Plain) and isinstance(other, Plain):
        return one.function == other.function and _alike_values((one.args, one.kwargs), (other.args, other.kwargs))
    return False


def _alike_values(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_alike_values, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike_values(v, other[k]) for k, v in one.items())
    if isinstance(one, Shadow):
        return (one.shape, one.strides, one.dtype) == (other.shape, other.strides, other.dtype)
    if isinstance(one, np.ndarray):  # a table of the kernel's own: an array made for this call lies somewhere else
        return one.shape == other.shape and one.strides == other.strides and _start(one) == _start(other)
    return one is other or repr(one) == repr(other)


def _start(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def _plain_step(step: Step) -> Step:
    if isinstance(step, Compiled):
        return Compiled(step.kernel, step.chunks, step.work, _plain_values(step.args))
    return Plain(step.function, _plain_values(step.args), _plain_values(step.kwargs))


def _plain_values(value: Any) -> Any:
    if isinstance(value, Shadow):
        return value.view(np.ndarray)
    if isinstance(value, (tuple, list)):
        return type(value)([_plain_values(v) for v in value])
    if isinstance(value, dict):
        return {k: _plain_values(v) for k, v in value.items()}
    return value


_refused = False


def _refuse_shadows() -> None:
    """Have Numba reject Shadows: compiled code that is called past `cpu.Kernel` would run unseen."""
    global _refused
    if not _refused:
        from numba.extending import typeof_impl

        @typeof_impl.register(Shadow)
        def _(value: Shadow, context: Any) -> Any:
            raise Unbindable("compiled code that was called directly")

        _refused = True
