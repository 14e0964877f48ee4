"""The innermost loop of convolutions: a tile of sums of products that is held in vector registers.

Twelve rows by one vector of results stay in registers while the terms run by, which takes the processor to the limit of
its arithmetic. LLVM's loop vectorizer does not find this form in a Numba loop, so the loop is written in LLVM's own
language here, and Numba inlines it into the kernels that call it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.devices.intrinsic import Intrinsic

ROWS = 12  # of results a tile: as many as leave registers for the operands where there are only 16


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """How long a vector is: 64 bytes with AVX-512, else 32, which processors with 16 do in two halves."""
    from llvmlite import binding

    return 64 if binding.get_host_cpu_features().get("avx512f") else 32


def lanes(dtype: np.dtype) -> int:
    """How many elements of a dtype make a vector."""
    return vector_bytes() // dtype.itemsize


def _tile(y, y_at, x, x_at, first, rows, x_tap, taps, terms, x_step, w, w_step, lanes_used, fresh):
    width = lanes(y.dtype)
    for row in range(first, min(first + ROWS, rows)):
        place = y[y_at[row] :][: width if not fresh else min(lanes_used, width)]
        total = np.zeros(width, y.dtype)
        for t in range(taps):
            start = x_at[row] + x_tap[t]
            for u in range(terms):
                at = (t * terms + u) * w_step
                total += x[start + u * x_step] * w[at : at + width]
        place[...] = total[: place.size] if fresh else place + total


def _emit(context: Any, builder: Any, signature: Any, arguments: tuple) -> Any:
    """The loop, as LLVM's instructions."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    def data(i: int) -> Any:
        return context.make_array(signature.args[i])(context, builder, arguments[i]).data

    def integer(i: int) -> Any:
        return context.cast(builder, arguments[i], signature.args[i], types.int64)

    y, y_at, x, x_at, x_tap, w = (data(i) for i in (0, 1, 2, 3, 6, 10))
    first, rows, taps, terms, x_step, w_step, used, fresh = (integer(i) for i in (4, 5, 7, 8, 9, 11, 12, 13))
    element = context.get_data_type(signature.args[0].dtype)
    size = context.get_abi_sizeof(element)
    width = vector_bytes() // size
    int64, vector = ir.IntType(64), ir.VectorType(element, width)
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{width}f{8 * size}"
    )

    def constant(value: int) -> Any:
        return ir.Constant(int64, value)

    def load(pointer: Any) -> Any:
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = size
        return value

    ys, xs = [], []
    last = builder.sub(rows, constant(1))
    for r in range(ROWS):
        row = builder.add(first, constant(r))
        row = builder.select(builder.icmp_signed("<", row, rows), row, last)
        ys.append(builder.gep(y, [builder.load(builder.gep(y_at, [row]))]))
        xs.append(builder.gep(x, [builder.load(builder.gep(x_at, [row]))]))
    sums = [cgutils.alloca_once(builder, vector) for _ in range(ROWS)]  # LLVM turns them into registers
    with builder.if_else(builder.icmp_signed("!=", fresh, constant(0))) as (then, otherwise):
        with then:
            for total in sums:
                builder.store(ir.Constant(vector, None), total)
        with otherwise:
            for total, place in zip(sums, ys):
                builder.store(load(place), total)
    with cgutils.for_range(builder, taps, intp=int64) as outer:
        offset = builder.load(builder.gep(x_tap, [outer.index]))
        at_tap = [builder.gep(pointer, [offset]) for pointer in xs]
        w_tap = builder.gep(w, [builder.mul(builder.mul(outer.index, terms), w_step)])
        with cgutils.for_range(builder, terms, intp=int64) as inner:
            weights = load(builder.gep(w_tap, [builder.mul(inner.index, w_step)]))
            step = builder.mul(inner.index, x_step)
            for total, pointer in zip(sums, at_tap):
                value = _splat(builder, builder.load(builder.gep(pointer, [step])), vector)
                builder.store(builder.call(multiply_add, [value, weights, builder.load(total)]), total)
    with builder.if_else(builder.icmp_signed(">=", used, constant(width))) as (then, otherwise):
        with then:
            for total, place in zip(sums, ys):
                stored = builder.store(builder.load(total), builder.bitcast(place, vector.as_pointer()))
                stored.align = size
        with otherwise:
            _store_some(builder, sums, ys, used, vector, size)
    return context.get_dummy_value()


def _store_some(builder: Any, sums: list, places: list, used: Any, vector: Any, size: int) -> None:
    """Store the first `used` lanes: by halves, a power of two of them for each bit of that number."""
    from llvmlite import ir
    from numba.core import cgutils

    int64, int32 = ir.IntType(64), ir.IntType(32)
    at = [cgutils.alloca_once_value(builder, place) for place in places]
    undefined = ir.Constant(vector, ir.Undefined)
    half = vector.count // 2
    while half:
        part = ir.VectorType(vector.element, half)
        low = ir.Constant(ir.VectorType(int32, half), [ir.Constant(int32, i) for i in range(half)])
        down = [ir.Constant(int32, (i + half) % vector.count) for i in range(vector.count)]
        shifted = ir.Constant(ir.VectorType(int32, vector.count), down)
        bit = builder.and_(used, ir.Constant(int64, half))
        with builder.if_then(builder.icmp_signed("!=", bit, ir.Constant(int64, 0))):
            for total, place in zip(sums, at):
                value, pointer = builder.load(total), builder.load(place)
                stored = builder.store(
                    builder.shuffle_vector(value, undefined, low), builder.bitcast(pointer, part.as_pointer())
                )
                stored.align = size
                builder.store(builder.shuffle_vector(value, undefined, shifted), total)
                builder.store(builder.gep(pointer, [ir.Constant(int64, half)]), place)
        half //= 2


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """A vector of one value."""
    from llvmlite import ir

    int32 = ir.IntType(32)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(int32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(int32, vector.count), None))


#: ``tile(y, y_at, x, x_at, first, rows, x_tap, taps, terms, x_step, w, w_step, lanes, fresh)``, for use in kernels:
#:
#: y[y_at[r] + l] (+)= Σ_t Σ_u x[x_at[r] + x_tap[t] + u·x_step] · w[(t·terms + u)·w_step + l]
#:
#: for the `ROWS` rows r from `first` and for the lanes l of a vector of V elements. Rows from `rows` on are computed
#: as the last one once more. Only the first `lanes` lanes are written; what was in y is added to unless `fresh`, for
#: which all V lanes must be there.
tile = Intrinsic(_tile, "void", _emit, (_store_some, _splat, vector_bytes.__wrapped__, ROWS))
