"""The innermost loop of convolutions: a tile of sums of products that is held in vector registers.

Twelve rows by one vector of results stay in registers while the terms run by, which takes the processor to the limit of
its arithmetic. LLVM's loop vectorizer does not find this form in a Numba loop, so the loop is written in LLVM's own
language here, and Numba inlines it into the kernels that call it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.devices.intrinsic import Intrinsic
from minigrad.devices.vectors import Vectors, lanes, vector_bytes

ROWS = 12  # of results a tile: as many as leave registers for the operands where there are only 16


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
    v = Vectors(builder, context.get_data_type(signature.args[0].dtype))
    int64, width = ir.IntType(64), v.width

    def constant(value: int) -> Any:
        return ir.Constant(int64, value)

    ys, xs = [], []
    last = builder.sub(rows, constant(1))
    for r in range(ROWS):
        row = builder.add(first, constant(r))
        row = builder.select(builder.icmp_signed("<", row, rows), row, last)
        ys.append(builder.gep(y, [builder.load(builder.gep(y_at, [row]))]))
        xs.append(builder.gep(x, [builder.load(builder.gep(x_at, [row]))]))
    sums = [cgutils.alloca_once(builder, v.type) for _ in range(ROWS)]  # LLVM turns them into registers
    with builder.if_else(builder.icmp_signed("!=", fresh, constant(0))) as (then, otherwise):
        with then:
            for total in sums:
                builder.store(v.zero, total)
        with otherwise:
            for total, place in zip(sums, ys):
                builder.store(v.load(place), total)
    with cgutils.for_range(builder, taps, intp=int64) as outer:
        offset = builder.load(builder.gep(x_tap, [outer.index]))
        at_tap = [builder.gep(pointer, [offset]) for pointer in xs]
        w_tap = builder.gep(w, [builder.mul(builder.mul(outer.index, terms), w_step)])
        with cgutils.for_range(builder, terms, intp=int64) as inner:
            weights = v.load(builder.gep(w_tap, [builder.mul(inner.index, w_step)]))
            step = builder.mul(inner.index, x_step)
            for total, pointer in zip(sums, at_tap):
                value = v.splat(builder.load(builder.gep(pointer, [step])))
                builder.store(v.multiply_add(value, weights, builder.load(total)), total)
    with builder.if_else(builder.icmp_signed(">=", used, constant(width))) as (then, otherwise):
        with then:
            for total, place in zip(sums, ys):
                v.store(builder.load(total), place)
        with otherwise:
            mask = v.first(used)
            for total, place in zip(sums, ys):
                v.store(builder.load(total), place, mask)
    return context.get_dummy_value()


#: ``tile(y, y_at, x, x_at, first, rows, x_tap, taps, terms, x_step, w, w_step, lanes, fresh)``, for use in kernels:
#:
#: y[y_at[r] + l] (+)= Σ_t Σ_u x[x_at[r] + x_tap[t] + u·x_step] · w[(t·terms + u)·w_step + l]
#:
#: for the `ROWS` rows r from `first` and for the lanes l of a vector of V elements. Rows from `rows` on are computed
#: as the last one once more. Only the first `lanes` lanes are written; what was in y is added to unless `fresh`, for
#: which all V lanes must be there.
tile = Intrinsic(_tile, "void", _emit, (Vectors, vector_bytes.__wrapped__, ROWS))
