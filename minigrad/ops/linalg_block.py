"""The product of two matrices by one thread, block by block, so that what is used next is in the cache.

Every element is Σ_t x[i, t]·y[t, j] with one term after the other, in parts of `TERMS` terms. So its bits depend on a
row, a column and the number of terms, and on nothing else: not on the other rows, on threads, or on where matrices lie
in memory.

The code is compiled once for each dtype, into a function of its own, which kernels call by its address.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.intrinsic import Intrinsic
from minigrad.devices.vectors import lanes
from minigrad.ops.linalg_tile import VECTORS, copy, matrix, most_rows, most_vectors, tile, transpose

TERMS = 256  # in a part of the sums: a panel of y takes 32 KiB with AVX-512, which the nearest cache holds
_BLOCK_BYTES = 1 << 18  # of a block of x, about; the next cache holds it while panels of y pass
_MANY = 512  # columns of y from which a copy of x's blocks, without gaps, repays itself


@lru_cache
def product_of(dtype: np.dtype) -> int:
    """The address that `product` wants for matrices of this dtype."""
    function, one = _function(dtype), dtype.type(1)
    if not hasattr(function.compiled(), "overloads"):  # where compilation is switched off, nobody calls it
        return 0
    record = function.overload((*[0] * 11, one, one))
    return record.library.get_pointer_to_function(record.fndesc.llvm_func_name)


@lru_cache
def _function(dtype: np.dtype) -> cpu.Function:
    """What `product` calls."""
    kind, size, vector, most = dtype.type, dtype.itemsize, lanes(dtype), most_rows()
    panel_row, wide = VECTORS * vector, most_vectors() * vector
    tile_row = -(-most // vector) * vector  # of a block of x whose terms lie one behind the other
    tiles_most = _BLOCK_BYTES // (TERMS * tile_row * size)
    height_most = tiles_most * most
    block_row = TERMS + vector  # else; a power of two would have rows meet in the cache
    panel_memory = _scratch(TERMS * panel_row * size)
    block_memory = _scratch(max(tiles_most * TERMS * tile_row, height_most * block_row) * size)

    def multiply(m, n, k, x, x_row, x_step, y, y_step, y_column, out, out_row, alpha, beta):
        if n == 1 and out_row == 1:  # the other way round, one row
            m, n, x, x_row, x_step, y, y_step, y_column = n, m, y, 1, y_step, x, x_step, x_row
        is_row = m == 1 and y_column == 1  # then whole vectors of y are read where they are
        one, panel, block = kind(1), panel_memory(), block_memory()
        for first in range(0, k, TERMS):
            terms, keep = min(TERMS, k - first), beta if first == 0 else one
            for above in range(0, m, height_most):
                height = min(height_most, m - above)
                tiles = -(-height // most)
                x_at, row, step, apart = x + (above * x_row + first * x_step) * size, x_row, x_step, 0
                if n >= _MANY:
                    row, step, apart = pack(tiles, height, terms, x_at, x_row, x_step, block)
                    x_at = block
                left = 0
                while left < n:
                    columns = wide if is_row and n - left >= wide else min(panel_row, n - left)
                    y_at, y_row = y + (first * y_step + left * y_column) * size, y_step
                    if not is_row or columns < panel_row:
                        lay(terms, columns, y_at, y_step, y_column, panel)
                        y_at, y_row = panel, panel_row
                    for t in range(tiles):
                        top, rows = part(t, tiles, height)
                        at = out + ((above + top) * out_row + left) * size
                        tile_at = x_at + (t * apart if apart else top * row) * size
                        tile(rows, columns, terms, tile_at, row, step, y_at, y_row, at, out_row, alpha, keep)
                    left += columns

    @cpu.jit(inline=True)
    def lay(terms, columns, y, y_step, y_column, panel):
        if y_column == 1:
            copy(terms, columns, y, y_step, panel, panel_row, kind(1))
            return
        for t in range(0, terms, vector):
            for j in range(0, columns, vector):
                place = panel + (t * panel_row + j) * size
                transpose(terms - t, columns - j, y + (j * y_column + t) * size, y_column, place, kind(1))

    @cpu.jit(inline=True)
    def pack(tiles, height, terms, x, x_row, x_step, block):
        if x_step == 1:
            copy(height, terms, x, x_row, block, block_row, kind(1))
            return block_row, 1, 0
        for t in range(tiles):
            top, rows = part(t, tiles, height)
            copy(terms, rows, x + top * x_row * size, x_step, block + t * terms * tile_row * size, tile_row, kind(1))
        return 1, tile_row, terms * tile_row

    @cpu.jit(inline=True)
    def part(t, tiles, height):
        top = t * height // tiles
        return top, (t + 1) * height // tiles - top

    return cpu.Function(multiply)


def _product(address, m, n, k, x, x_row, x_step, y, y_step, y_column, out, out_row, alpha, beta):
    dtype = alpha.dtype
    place = matrix(out, m, n, out_row, 1, dtype)
    found = alpha * (matrix(x, m, k, x_row, x_step, dtype) @ matrix(y, k, n, y_step, y_column, dtype))
    place[...] = found if beta == 0 else found + beta * place


def _emit_product(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    from numba import types

    kinds = signature.args[1:]
    kind = context.call_conv.get_function_type(types.none, kinds)
    function = builder.inttoptr(values[0], kind.as_pointer())
    context.call_conv.call_function(builder, function, types.none, kinds, values[1:])
    return context.get_dummy_value()


#: ``product(address, m, n, k, x, x_row, x_step, y, y_step, y_column, out, out_row, alpha, beta)``, for use in kernels:
#: out = alpha·x·y + beta·out, for m × k and k × n elements of the dtype that alpha and beta have, at the addresses x, y
#: and out, with so many elements from one row, term or column to the next. `x_row` or `x_step` is 1, `y_step` or
#: `y_column` as well. `address` is `product_of` the dtype. If beta is 0, what out holds isn't read.
product = Intrinsic(_product, "void", _emit_product)


def _scratch(size: int) -> Intrinsic:
    """A function that gives the address of so many bytes on the stack, which are there until the kernel returns."""
    kept = threading.local()

    def scratch():
        kept.memory = np.empty(size, np.uint8)
        return kept.memory.ctypes.data

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        from llvmlite import ir

        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(ir.IntType(8), size))
        place.align = 64
        return builder.ptrtoint(place, ir.IntType(64))

    return Intrinsic(scratch, "int64", emit, [size])
