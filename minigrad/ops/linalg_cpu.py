"""The CPU's matrix products, cut into blocks of the result, in chunks of blocks: what they become on several threads.

A product is never cut along its sums, and the bits of a sum do not depend on the block that it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.ops.linalg_block import product, product_of
from minigrad.primitive import Abstract

_ALONE = 1 << 20  # multiplications below which a product is one block: another thread's start costs as much
_BLOCK = 1 << 25  # multiplications of a block, where there are more than two: each packs its operands anew
_MOST = 16  # blocks of a product
_CHUNKS = 64  # of many products
_UNIT = 16  # rows and columns that blocks have a multiple of

COLUMNS, CUT, BLOCKS = 3, 8, 9  # where a form holds the result's columns, in how many parts they are cut, the blocks


def products(x: Abstract, y: Abstract, tx: bool, ty: bool) -> Callable | None:
    """A function ``fill(out, x, y)`` for operands of these shapes; None if there is no kernel for them."""
    if not dtypes.has_kernels(x.dtype) or not (x.size and y.size):
        return None
    address, are_matrices, known = product_of(x.dtype), x.ndim == y.ndim == 2, _form(x.shape, y.shape, tx, ty)

    def fill(out: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        chunks, work, form = known
        if not (x.flags.c_contiguous and y.flags.c_contiguous):
            chunks, work, form, x, y = operands(x, y, tx, ty)
        if not are_matrices:
            out, x, y = out.reshape(-1), x.reshape(-1), y.reshape(-1)
        multiply(chunks, work, chunks, out, x, y, form, address)

    return fill


def operands(x: np.ndarray, y: np.ndarray, tx: bool, ty: bool) -> tuple[int, int, np.ndarray, np.ndarray, np.ndarray]:
    """Chunks, work and form of a product, as `multiply` wants them, and both operands with rows that follow another."""
    (x, x_flipped), (y, y_flipped) = _by_rows(x), _by_rows(y)
    return *_form(x.shape, y.shape, tx != x_flipped, ty != y_flipped), x, y


def has_whole_rows(x: Any, y: Any, tx: bool, ty: bool) -> bool:
    """Whether blocks of a product of such operands are whole rows of the result, one behind another in memory."""
    return _form(x.shape, y.shape, tx, ty)[2][CUT] == 1


def _by_rows(a: np.ndarray) -> tuple[np.ndarray, bool]:
    """The matrices row after row: as they are, transposed (and whether they are), or a copy."""
    if not a.flags.c_contiguous and a.swapaxes(-1, -2).flags.c_contiguous:
        return a.swapaxes(-1, -2), True
    return cpu.contiguous(a), False


@lru_cache(maxsize=4096)
def _form(x: tuple[int, ...], y: tuple[int, ...], tx: bool, ty: bool) -> tuple[int, int, np.ndarray]:
    """How many chunks there are, the multiplications, and what `multiply` reads about operands of these shapes."""
    if len(y) == 2 and not tx:  # one product, no batch
        x = (prod(x[:-1]), x[-1])
    (m, k), n = x[-2:][:: -1 if tx else 1], y[-2 if ty else -1]
    places = [np.arange(prod(s[:-2])).reshape(s[:-2]) * (s[-1] * s[-2]) for s in (x, y)]
    at = np.stack([p.reshape(-1) for p in np.broadcast_arrays(*places)], axis=1)
    rows, columns = _cut_into(m, n, k)
    blocks, work = len(at) * rows * columns, len(at) * m * n * k
    chunks = max(1, min(blocks, _CHUNKS, 2 * work // _ALONE))
    head = [tx, ty, m, n, k, x[-1], y[-1], rows, columns, blocks]
    return chunks, work, np.concatenate([np.array(head), at.reshape(-1)]).astype(np.int64)


def _cut_into(m: int, n: int, k: int) -> tuple[int, int]:
    """Into how many parts rows and columns are cut: of those that give the most blocks, what packs the least."""
    work, blocks = m * n * k, 1
    while blocks < _MOST and work >= (_ALONE if blocks == 1 else 2 * blocks * _BLOCK):
        blocks *= 2
    powers = [1 << i for i in range(blocks.bit_length())]
    cuts = [(r, c) for r in powers for c in powers if r * c <= blocks and r <= -(-m // _UNIT) and c <= -(-n // _UNIT)]
    return max(cuts, key=lambda cut: (cut[0] * cut[1], -cut[1] * m - cut[0] * n, cut[0]))


@cpu.chunked
def multiply(chunk, chunks, out, x, y, form, address):
    """The blocks of one chunk. `form` holds what is transposed, m, n, k, rows of x and y, and the cut; then places."""
    one = out.dtype.type(1)
    for block in range(chunk * form[BLOCKS] // chunks, (chunk + 1) * form[BLOCKS] // chunks):
        multiply_block(block, out, x, y, form, address, one, one - one)


@cpu.chunked
def descend(chunk, chunks, param, x, y, form, address, lr, weight_decay):
    """param ← param − lr·(x·y + weight_decay·param): a step down a gradient that is a product, the blocks of one chunk.

    The gradient is stored nowhere. A rate of 0 changes nothing, whatever the gradient.
    """
    step, keep = param.dtype.type(-lr[0]), param.dtype.type(1.0 - lr[0] * weight_decay)
    for block in range(chunk * form[BLOCKS] // chunks, (chunk + 1) * form[BLOCKS] // chunks):
        multiply_block(block, param, x, y, form, address, step, keep)


@cpu.chunked
def descend_with_momentum(chunk, chunks, param, velocity, x, y, form, address, lr, momentum, weight_decay):
    """velocity ← momentum·velocity − lr·(x·y + weight_decay·param), then param ← param + velocity, as `descend`."""
    kind = param.dtype.type
    step, keep, decay, n = kind(-lr[0]), kind(momentum), kind(lr[0] * weight_decay), form[COLUMNS]
    for block in range(chunk * form[BLOCKS] // chunks, (chunk + 1) * form[BLOCKS] // chunks):
        at, _, height, width = multiply_block(block, velocity, x, y, form, address, step, keep)
        for row in range(height):
            p, v = param[at + row * n : at + row * n + width], velocity[at + row * n : at + row * n + width]
            for i in range(width):
                v[i] -= decay * p[i]
                p[i] += v[i]


@cpu.jit
def multiply_block(block, out, x, y, form, address, alpha, beta):
    """One block of out ← alpha·x·y + beta·out. Returns where it begins, in `out` and in its rows; rows and columns."""
    x_transposed, y_transposed, m, n, k, x_line, y_line = form[0], form[1], form[2], form[3], form[4], form[5], form[6]
    rows, columns = form[7], form[CUT]
    x_row, x_step = (1, x_line) if x_transposed else (x_line, 1)
    y_step, y_column = (1, y_line) if y_transposed else (y_line, 1)
    size = out.itemsize
    item, row, column = block // (rows * columns), block // columns % rows, block % columns
    top, left = _cut(row, rows, m), _cut(column, columns, n)
    height, width = _cut(row + 1, rows, m) - top, _cut(column + 1, columns, n) - left
    x_at, y_at = form[10 + 2 * item] + top * x_row, form[11 + 2 * item] + left * y_column
    at = (item * m + top) * n + left
    product(
        address, height, width, k, x.ctypes.data + x_at * size, x_row, x_step, y.ctypes.data + y_at * size, y_step,
        y_column, out.ctypes.data + at * size, n, alpha, beta,
    )  # fmt: skip
    return at, left, height, width


@cpu.jit
def _cut(part, parts, length):
    """Where a part begins, of rows or columns cut into parts."""
    return min(length, part * (-(-length // _UNIT)) // parts * _UNIT)
