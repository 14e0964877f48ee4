"""Loads and stores of several elements at once: up to 16 bytes a thread in one instruction."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.binaries import text_of_file
from minigrad.devices.cuda.kernels import Function, jit
from minigrad.devices.cuda.simulator import in_kernels
from minigrad.devices.function import text_of, text_of_value

BYTES = 16  # the widest access there is


class Intrinsic(Function):
    """A function for kernels that is written in LLVM's terms, with a Python twin for the simulator."""

    def __init__(self, python: Callable, build: Callable[[], Any]):
        super().__init__(python)
        self._build = build

    def _parts(self) -> list[str | None]:
        """The code of the function that builds it, and the whole file, which that may draw upon."""
        code = self._build.__code__
        cells = tuple([cell.cell_contents for cell in self._build.__closure__ or ()])
        files = [text_of_file(path) for path in (code.co_filename, str(Path(__file__).with_name("stored.py")))]
        return [self.__name__, text_of(code), text_of_value(cells), *files]

    def compiled_as_function(self) -> Any:
        if drivers.get().simulated:
            return super().compiled_as_function()
        found = self._functions.get(False)
        if found is None:
            found = self._functions[False] = self._build()
        return found


@lru_cache
def load(count: int) -> Intrinsic:
    """``load(array, i)``: the `count` elements of a flat array from index `i` on, as a tuple, aligned as a whole."""

    def load(array: Any, i: Any) -> tuple:
        _require_aligned(array, i, count)
        return tuple([array[i + k] for k in range(count)])

    def build() -> Any:
        from llvmlite import ir
        from numba.core import types
        from numba.cuda.extending import intrinsic

        @intrinsic
        def load(typingctx: Any, array: Any, i: Any) -> Any:
            result = types.UniTuple(array.dtype, count)

            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                model, pointer, vector, size = _access(context, builder, signature.args, args, count, ir)
                whole = builder.load(pointer, align=size)
                parts = [builder.extract_element(whole, ir.Constant(ir.IntType(32), k)) for k in range(vector.count)]
                if vector.count < count:
                    parts = [value for part in parts for value in model.from_pair(builder, part)]
                else:
                    parts = [model.from_data(builder, part) for part in parts]
                return context.make_tuple(builder, result, parts)

            return result(array, i), generate

        return load

    return Intrinsic(load, build)


@lru_cache
def store(count: int) -> Intrinsic:
    """``store(array, i, values)``: write a tuple of `count` elements to index `i` and on, aligned as a whole."""

    def store(array: Any, i: Any, values: tuple) -> None:
        _require_aligned(array, i, count)
        for k in range(count):
            array[i + k] = values[k]

    def build() -> Any:
        from llvmlite import ir
        from numba.core import types
        from numba.cuda.extending import intrinsic

        @intrinsic
        def store(typingctx: Any, array: Any, i: Any, values: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                model, pointer, vector, size = _access(context, builder, signature.args, args, count, ir)
                whole = ir.Constant(vector, ir.Undefined)
                parts = [
                    context.cast(builder, builder.extract_value(args[2], k), given, signature.args[0].dtype)
                    for k, given in enumerate(signature.args[2])
                ]
                if vector.count < count:
                    parts = [model.as_pair(builder, *parts[k : k + 2]) for k in range(0, count, 2)]
                else:
                    parts = [model.as_data(builder, value) for value in parts]
                for k, part in enumerate(parts):
                    whole = builder.insert_element(whole, part, ir.Constant(ir.IntType(32), k))
                builder.store(whole, pointer, align=size)
                return context.get_dummy_value()

            return types.none(array, i, values), generate

        return store

    return Intrinsic(store, build)


@lru_cache
def moves(count: int, aligned: bool) -> tuple[Function, Function]:
    """`load` and `store`; where places are not aligned, of one element at a time."""
    if aligned:
        return load(count), store(count)
    from minigrad.devices.cpu import from_source

    row = "".join([f"array[i + {k}], " for k in range(count)])
    lines = "".join([f"    array[i + {k}] = values[{k}]\n" for k in range(count)])
    one_by_one = f"def load(array, i):\n    return ({row})\n", f"def store(array, i, values):\n{lines}"
    return jit(from_source("load", one_by_one[0], {})), jit(from_source("store", one_by_one[1], {}))


@lru_cache
def pointed(dtype: np.dtype) -> Intrinsic:
    """``pointed(address, size)``: the memory at an address as a flat array of `size` elements."""
    wide = dtype.itemsize

    def pointed(address: Any, size: Any) -> Any:
        memory: Any = (ctypes.c_uint8 * (int(size) * wide)).from_address(int(address))
        return in_kernels(np.frombuffer(memory, dtype))

    def build() -> Any:
        from llvmlite import ir
        from numba.core import types
        from numba.cuda.extending import intrinsic

        from minigrad.devices.cuda.stored import flat_array

        @intrinsic
        def pointed(typingctx: Any, address: Any, size: Any) -> Any:
            result = flat_array(dtype)

            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                array = context.make_array(result)(context, builder)
                step = ir.Constant(ir.IntType(64), wide)
                array.data = builder.inttoptr(args[0], array.data.type)
                array.nitems, array.itemsize = args[1], step
                array.shape = builder.insert_value(array.shape, args[1], 0)
                array.strides = builder.insert_value(array.strides, step, 0)
                return array._getvalue()

            return result(types.int64, types.int64), generate

        return pointed

    return Intrinsic(pointed, build)


def _require_aligned(array: np.ndarray, i: Any, count: int) -> None:
    """On the simulator, where any access is allowed: raise for one that is an error on a GPU."""
    place = array.__array_interface__["data"][0] + int(i) * array.itemsize
    if place % (count * array.itemsize):
        raise RuntimeError(f"{count} elements of {array.itemsize} bytes are moved at once at {place}, unaligned")


def _access(context: Any, builder: Any, types: Any, args: Any, count: int, ir: Any) -> tuple[Any, Any, Any, int]:
    """The model of the elements, a pointer to a vector of them at the index, the vector's type and size in bytes.

    Where the model knows pairs of elements, the vector is one of these.
    """
    array = context.make_array(types[0])(context, builder, args[0])
    model = context.data_model_manager[types[0].dtype]
    size = count * context.get_abi_sizeof(model.get_data_type())
    pairs = count > 1 and hasattr(model, "from_pair")
    vector = ir.VectorType(ir.IntType(32), count // 2) if pairs else ir.VectorType(model.get_data_type(), count)
    place = builder.gep(array.data, [args[1]])
    return model, builder.bitcast(place, vector.as_pointer()), vector, size
