"""Intrinsic: a function for use in kernels whose code is written in LLVM's own language."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from minigrad.devices import cpu


class Intrinsic(cpu.Function):
    """A function that Numba inlines into the kernels that call it.

    Args:
        python: does the same in Python, for calls from there and where compilation is switched off.
        result: the type of what it returns, of `numba.types`.
        emit: writes the instructions, as Numba's ``intrinsic`` wants it: ``emit(context, builder, signature, values)``.
        made_of: functions and constants besides `emit` that the code depends on.
    """

    def __init__(self, python: Callable, result: str, emit: Callable, made_of: Sequence[Any] = ()):
        super().__init__(python)
        self.entry = python
        self._result = result
        self._emit = emit
        self._made_of = (emit, *made_of)
        self._intrinsic: Any = None

    def compiled(self) -> Any:
        import numba
        from numba.extending import intrinsic

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return self.python
        if self._intrinsic is None:
            self._intrinsic = intrinsic(self._typing())
        return self._intrinsic

    def stamp(self) -> str:
        parts = [cpu._text_of(p.__code__) if inspect.isfunction(p) else repr(p) for p in self._made_of]
        return hashlib.sha256("\0".join([self.__name__, self._result, *parts]).encode()).hexdigest()

    def _typing(self) -> Callable:
        """What Numba asks for types: a function with the arguments' names."""
        from numba import types

        def signature(given: tuple) -> Any:
            return getattr(types, self._result)(*map(types.unliteral, given)), self._emit

        names = ", ".join(inspect.signature(self.python).parameters)
        source = f"def {self.__name__}(context, {names}):\n    return signature(({names},))\n"
        return cpu.from_source(self.__name__, source, {"signature": signature})
