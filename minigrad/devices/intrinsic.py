"""Intrinsics: functions for use in kernels whose code is written in LLVM's own language. Calls by address, atomics."""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

from minigrad.devices.function import Function, from_source, text_of


class Intrinsic(Function):
    """A function that Numba inlines into the kernels that call it.

    Args:
        python: does the same in Python, for calls from there and where compilation is switched off.
        result: the type of what it returns, of `numba.types`; None for that of its first argument.
        emit: writes the instructions, as Numba's ``intrinsic`` wants it: ``emit(context, builder, signature, values)``.
        made_of: functions, classes and constants besides `emit` that the code depends on.
        results: how many of these it returns, as a tuple where there are several.
    """

    def __init__(
        self, python: Callable, result: str | None, emit: Callable, made_of: Sequence[Any] = (), *, results: int = 1
    ):
        super().__init__(python)
        self._results = results
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
        parts = [text for p in self._made_of for text in _texts(p)]
        return hashlib.sha256(
            "\0".join([self.__name__, str(self._result), str(self._results), *parts]).encode()
        ).hexdigest()

    def _typing(self) -> Callable:
        """What Numba asks for types: a function with the arguments' names."""
        from numba import types

        def signature(given: list) -> Any:
            result = given[0] if self._result is None else getattr(types, self._result)
            if self._results > 1:
                result = types.UniTuple(result, self._results)
            return result(*map(types.unliteral, given)), self._emit

        names = ", ".join(inspect.signature(self.python).parameters)
        source = f"def {self.__name__}(context, {names}):\n    return signature([{names}])\n"
        return from_source(self.__name__, source, {"signature": signature})


def _texts(part: Any) -> list[str]:
    """What tells a function, all functions of a class, or a constant from any other."""
    functions = [part] if inspect.isfunction(part) else vars(part).values() if inspect.isclass(part) else ()
    return [text_of(f.__code__) for f in functions if inspect.isfunction(f)] or [repr(part)]


def emit_call(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """A call of the C function at the address that comes first; the types are those of the arguments."""
    from llvmlite import ir
    from numba import types

    result = signature.return_type
    returned = ir.VoidType() if result == types.void else context.get_value_type(result)
    function = ir.FunctionType(returned, [context.get_value_type(t) for t in signature.args[1:]])
    found = builder.call(builder.inttoptr(values[0], function.as_pointer()), values[1:])
    return context.get_dummy_value() if result == types.void else found


# Words that several threads use: elements of arrays of int64


def _load(words, at):
    return words[at]


def _add(words, at, number):
    words[at] += number
    return words[at] - number


def _swap(words, at, expected, new):
    if words[at] != expected:
        return False
    words[at] = new
    return True


def _take(words, at, new):
    old = words[at]
    words[at] = new
    return old


def _ask(address):
    return ctypes.CFUNCTYPE(ctypes.c_int)(int(address))()


def _wait():
    time.sleep(0)


def _place(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    words = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(words.data, [context.cast(builder, values[1], signature.args[1], signature.args[0].dtype)])


def _emit_load(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.load_atomic(_place(context, builder, signature, values), "seq_cst", 8)


def _emit_add(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.atomic_rmw("add", _place(context, builder, signature, values), values[2], "seq_cst")


def _emit_take(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.atomic_rmw("xchg", _place(context, builder, signature, values), values[2], "seq_cst")


def _emit_swap(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    place = _place(context, builder, signature, values)
    return builder.extract_value(builder.cmpxchg(place, values[2], values[3], "seq_cst", "monotonic"), 1)


def _emit_wait(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    if builder.module.triple.partition("-")[0] in ("x86_64", "i686"):
        pause = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
    return context.get_dummy_value()


#: ``load(words, at)``: the word as it is now.
load = Intrinsic(_load, "int64", _emit_load, [_place])
#: ``add(words, at, number)``: the word before `number` was added.
add = Intrinsic(_add, "int64", _emit_add, [_place])
#: ``take(words, at, new)``: the word before it became `new`.
take = Intrinsic(_take, "int64", _emit_take, [_place])
#: ``swap(words, at, expected, new)``: whether the word was as expected, and is `new` now.
swap = Intrinsic(_swap, "boolean", _emit_swap, [_place])
#: ``ask(address)``: the int that a C function without arguments returns.
ask = Intrinsic(_ask, "int32", emit_call)
#: ``wait()``: tell the processor that this is a loop that waits for another thread.
wait = Intrinsic(_wait, "void", _emit_wait)
