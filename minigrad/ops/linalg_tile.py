"""The innermost parts of matrix products, in LLVM's own language: a tile of the result, which is held in registers.

LLVM's loop vectorizer does not find this form in a Numba loop, so it is written down here. Matrices are given by
addresses, and by the elements from one row, column or term to the next.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from minigrad.devices.intrinsic import Intrinsic
from minigrad.devices.vectors import Vectors, lanes, vector_bytes

VECTORS = 2  # side by side in a tile, and in a panel


def most_rows() -> int:
    """How many rows a tile has at most: so many sums leave 4 registers, of 32 or of 16, for the operands."""
    return 14 if vector_bytes() == 64 else 6


def most_vectors() -> int:
    """How many vectors a single row may have, if it has more than `VECTORS`: as many, no fewer."""
    return 16 if vector_bytes() == 64 else 8


def matrix(address: int, rows: int, columns: int, row: int, column: int, dtype: np.dtype) -> np.ndarray:
    """The matrix at an address, with so many elements from one row and from one column to the next."""
    size = dtype.itemsize
    memory: Any = (ctypes.c_char * (((rows - 1) * row + (columns - 1) * column + 1) * size)).from_address(int(address))
    return np.ndarray((rows, columns), dtype, memory, 0, (row * size, column * size))


def _tile(rows, columns, terms, x, x_row, x_step, y, y_row, out, out_row, alpha, beta):
    dtype = alpha.dtype
    left = matrix(x, rows, terms, x_row, x_step, dtype)
    right = matrix(y, terms, columns, y_row, 1, dtype)
    place, found = matrix(out, rows, columns, out_row, 1, dtype), alpha * (left @ right)
    place[...] = found if beta == 0 else found + beta * place


def _emit_tile(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """A call of the function for so many rows and vectors."""
    from llvmlite import ir

    rows, columns, *given = values
    width = Vectors(builder, given[-1].type).width
    end, number = builder.append_basic_block(), rows.type

    def exceeds(vectors: int) -> Any:
        return builder.icmp_signed(">", columns, ir.Constant(columns.type, vectors * width))

    key = builder.add(builder.mul(rows, ir.Constant(number, VECTORS)), builder.zext(exceeds(1), number))
    choice = builder.switch(builder.select(exceeds(VECTORS), ir.Constant(number, 0), key), end)
    cases = {VECTORS * r + v - 1: (r, v) for r in range(1, most_rows() + 1) for v in range(1, VECTORS + 1)}
    for case, (height, vectors) in {0: (1, most_vectors()), **cases}.items():
        block = builder.append_basic_block()
        choice.add_case(ir.Constant(number, case), block)
        builder.position_at_end(block)
        builder.call(_function(builder.module, height, vectors, [v.type for v in (columns, *given)]), [columns, *given])
        builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _function(module: Any, rows: int, vectors: int, kinds: list) -> Any:
    """The function for a tile of so many rows and vectors, in this module."""
    from llvmlite import ir

    name = f"minigrad_tile_{rows}_{vectors}_{kinds[-1]}"
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")  # else LLVM puts all of them into the one that calls
        builder = ir.IRBuilder(function.append_basic_block())
        _emit_sums(builder, rows, vectors, *function.args)
        builder.ret_void()
    return module.globals[name]


def _emit_sums(
    builder: Any, rows: int, vectors: int, columns: Any, terms: Any, x: Any, x_row: Any, x_step: Any, y: Any,
    y_row: Any, out: Any, out_row: Any, alpha: Any, beta: Any,
) -> None:  # fmt: skip
    """Sums over the terms, in registers, and what is done with them."""
    from llvmlite import ir

    v = Vectors(builder, alpha.type)
    zero, one = ir.Constant(terms.type, 0), ir.Constant(terms.type, 1)
    x, y, out = v.pointer(x), v.pointer(y), v.pointer(out)
    x_rows = [v.at(x, builder.mul(x_row, ir.Constant(terms.type, r))) for r in range(rows)]
    out_rows = [v.at(out, builder.mul(out_row, ir.Constant(terms.type, r))) for r in range(rows)]
    places = [v.at(row, i * v.width) for row in out_rows for i in range(vectors)]
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    term, former = builder.phi(terms.type), [builder.phi(v.type) for _ in range(rows * vectors)]
    start = v.at(y, builder.mul(term, y_row))
    right = [v.load(v.at(start, i * v.width)) for i in range(vectors)]
    step = builder.mul(term, x_step)
    sums: list[Any] = []
    for row in x_rows:
        left = v.splat(builder.load(v.at(row, step)))
        sums += [v.multiply_add(left, values, former[len(sums) + i]) for i, values in enumerate(right)]
    following = builder.add(term, one)
    for variable, first, value in zip([term, *former], [zero, *[v.zero] * len(sums)], [following, *sums]):
        variable.add_incoming(first, before)
        variable.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, terms), loop, after)
    builder.position_at_end(after)
    scale, keep = v.splat(alpha), v.splat(beta)
    sums = [builder.fmul(value, scale) for value in sums]
    left_over = v.first(builder.sub(columns, ir.Constant(columns.type, (vectors - 1) * v.width)))
    is_whole = builder.icmp_signed("==", columns, ir.Constant(columns.type, vectors * v.width))
    is_fresh = builder.fcmp_ordered("==", beta, ir.Constant(v.element, 0.0))
    with builder.if_else(is_whole) as widths:
        for is_of_this_width, mask in zip(widths, (None, left_over)):
            with is_of_this_width, builder.if_else(is_fresh) as uses:
                for is_this_use, fresh in zip(uses, (True, False)):
                    with is_this_use:
                        for i, (value, place) in enumerate(zip(sums, places)):
                            only = mask if (i + 1) % vectors == 0 else None
                            if not fresh:
                                value = v.multiply_add(keep, v.load(place, only), value)
                            v.store(value, place, only)


def _copy(rows, columns, x, x_row, out, out_row, one):
    width = -(-columns // lanes(one.dtype)) * lanes(one.dtype)
    place = matrix(out, rows, width, out_row, 1, one.dtype)
    place[:, :columns], place[:, columns:] = matrix(x, rows, columns, x_row, 1, one.dtype), 0


def _emit_copy(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    rows, columns, x, x_row, out, out_row, one = values
    v = Vectors(builder, one.type)
    x, out, width = v.pointer(x), v.pointer(out), ir.Constant(columns.type, v.width)
    vectors, left_over = builder.sdiv(columns, width), builder.srem(columns, width)
    mask, has_rest = v.first(left_over), builder.icmp_signed("!=", left_over, ir.Constant(columns.type, 0))
    with cgutils.for_range(builder, rows, intp=rows.type) as loop:
        source, place = v.at(x, builder.mul(loop.index, x_row)), v.at(out, builder.mul(loop.index, out_row))
        with cgutils.for_range(builder, vectors, intp=columns.type) as inner:
            at = builder.mul(inner.index, width)
            v.store(v.load(v.at(source, at)), v.at(place, at))
        with builder.if_then(has_rest):
            at = builder.mul(vectors, width)
            v.store(v.load(v.at(source, at), mask), v.at(place, at))
    return context.get_dummy_value()


def _transpose(terms, columns, y, y_column, panel, one):
    width = lanes(one.dtype)
    place, columns = matrix(panel, width, width, VECTORS * width, 1, one.dtype), min(columns, width)
    place[...] = 0
    place[:terms, :columns] = matrix(y, min(terms, width), columns, 1, y_column, one.dtype)


def _emit_transpose(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    from llvmlite import ir

    terms, columns, y, y_column, panel, one = values
    v = Vectors(builder, one.type)
    y, panel = v.pointer(y), v.pointer(panel)
    width = ir.Constant(terms.type, v.width)
    starts = [v.at(y, builder.mul(y_column, ir.Constant(terms.type, r))) for r in range(v.width)]
    places = [v.at(panel, r * VECTORS * v.width) for r in range(v.width)]
    is_whole = builder.and_(builder.icmp_signed(">=", terms, width), builder.icmp_signed(">=", columns, width))
    with builder.if_else(is_whole) as (whole, partial):
        with whole:
            _emit_exchanges(v, [v.load(start) for start in starts], places)
        with partial:
            rows = []
            for r, start in enumerate(starts):
                is_there = builder.icmp_signed(">", columns, ir.Constant(columns.type, r))
                rows.append(v.load(start, v.first(builder.select(is_there, terms, ir.Constant(terms.type, 0)))))
            _emit_exchanges(v, rows, places)
    return context.get_dummy_value()


def _emit_exchanges(v: Vectors, rows: list, places: list) -> None:
    """Store as many rows as a vector has elements, transposed: rows 1, 2, 4 ... apart exchange their halves."""
    apart = 1
    while apart < v.width:
        low = [i if not i & apart else i - apart + v.width for i in range(v.width)]
        high = [i + apart if not i & apart else i + v.width for i in range(v.width)]
        for r in range(v.width):
            if not r & apart:
                a, b = rows[r], rows[r + apart]
                rows[r], rows[r + apart] = v.pick(a, b, low), v.pick(a, b, high)
        apart *= 2
    for row, place in zip(rows, places):
        v.store(row, place)


_MADE_OF = (Vectors, vector_bytes.__wrapped__, VECTORS)
#: ``tile(rows, columns, terms, x, x_row, x_step, y, y_row, out, out_row, alpha, beta)``, for use in kernels:
#:
#: out[r, j] = alpha·Σ_t x[r, t]·y[t, j] + beta·out[r, j]
#:
#: for up to `most_rows()` rows and `VECTORS` vectors of columns, or one row and `most_vectors()` vectors. The terms are
#: added one after the other. Of y, whole vectors are read. If beta is 0, what out holds isn't read. x, y and out are
#: addresses, `x_row` and so on elements, alpha and beta have the dtype of all.
tile = Intrinsic(_tile, "void", _emit_tile, (*_MADE_OF, _function, _emit_sums, most_rows, most_vectors))
#: ``copy(rows, columns, x, x_row, out, out_row, one)``: out[r, j] = x[r, j], and zeros up to a whole vector.
copy = Intrinsic(_copy, "void", _emit_copy, _MADE_OF)
#: ``transpose(terms, columns, y, y_column, panel, one)``: panel[t, j] = y[j, t] for the first vector of terms and of
#: columns, zeros where there are not as many.
transpose = Intrinsic(_transpose, "void", _emit_transpose, (*_MADE_OF, _emit_exchanges))
