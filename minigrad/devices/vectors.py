"""Vectors of this processor, for code that is written in LLVM's own language."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """How long a vector is: 64 bytes with AVX-512, else 32, which processors with 16 do in two halves."""
    from llvmlite import binding
    from numba import config

    told = config.CPU_FEATURES  # type: ignore[attr-defined]  # of another processor than this, if anything
    has_512 = "+avx512f" in told if told is not None else binding.get_host_cpu_features().get("avx512f")
    return 64 if has_512 else 32


def lanes(dtype: np.dtype) -> int:
    """How many elements of a dtype make a vector."""
    return vector_bytes() // dtype.itemsize


class Vectors:
    """What writes instructions on vectors of an element type, with a builder.

    Attributes:
        size: bytes of an element.
        width: elements of a vector.
        type: of a vector.
    """

    def __init__(self, builder: Any, element: Any):
        from llvmlite import ir

        self.builder = builder
        self.element = element
        self.size = 8 if isinstance(element, ir.DoubleType) else 4
        self.width = vector_bytes() // self.size
        self.type = ir.VectorType(element, self.width)
        self.zero = ir.Constant(self.type, None)

    def pointer(self, address: Any) -> Any:
        """An address as a pointer to elements."""
        return self.builder.inttoptr(address, self.element.as_pointer())

    def at(self, pointer: Any, elements: Any) -> Any:
        """A pointer so many elements on: a value, or a number."""
        from llvmlite import ir

        if isinstance(elements, int):
            elements = ir.Constant(ir.IntType(64), elements)
        return self.builder.gep(pointer, [elements])

    def splat(self, value: Any) -> Any:
        """A vector of one value, an element or an integer."""
        from llvmlite import ir

        int32 = ir.IntType(32)
        undefined = ir.Constant(ir.VectorType(value.type, self.width), ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(int32, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(int32, self.width), None))

    def pick(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """The elements of two vectors at these places; those of the second are counted from `width` on."""
        from llvmlite import ir

        int32 = ir.IntType(32)
        places = ir.Constant(ir.VectorType(int32, len(lanes)), [ir.Constant(int32, i) for i in lanes])
        return self.builder.shuffle_vector(a, b, places)

    def first(self, number: Any) -> Any:
        """A mask of the first lanes, so many as a value says."""
        from llvmlite import ir

        numbers = [ir.Constant(number.type, i) for i in range(self.width)]
        all_lanes = ir.Constant(ir.VectorType(number.type, self.width), numbers)
        return self.builder.icmp_signed("<", all_lanes, self.splat(number))

    def load(self, pointer: Any, mask: Any = None) -> Any:
        """The vector at a pointer to an element; of the lanes outside a mask, zeros, and nothing is read."""
        from llvmlite import ir

        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is not None:
            kinds = [pointer.type, ir.IntType(32), mask.type, self.type]
            given = [pointer, ir.Constant(ir.IntType(32), self.size), mask, self.zero]
            return self._call("llvm.masked.load", f"{self}.p0", self.type, kinds, given)
        value = self.builder.load(pointer)
        value.align = self.size
        return value

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        """Store a vector at a pointer to an element; the lanes outside a mask are left alone."""
        from llvmlite import ir

        pointer = self.builder.bitcast(pointer, value.type.as_pointer())
        if mask is not None:
            kinds = [value.type, pointer.type, ir.IntType(32), mask.type]
            given = [value, pointer, ir.Constant(ir.IntType(32), self.size), mask]
            self._call("llvm.masked.store", f"{self}.p0", ir.VoidType(), kinds, given)
        else:
            self.builder.store(value, pointer).align = self.size

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a·b + c, rounded once where that is as fast."""
        return self._call("llvm.fmuladd", str(self), self.type, [self.type] * 3, [a, b, c])

    def __str__(self) -> str:
        return f"v{self.width}f{8 * self.size}"

    def _call(self, name: str, kind: str, result: Any, kinds: list, given: list) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, kinds), f"{name}.{kind}")
        return self.builder.call(function, given)
