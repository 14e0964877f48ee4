"""Matrix products in kernels, by the library that `blas_library` finds: its ``gemm``, held to one thread.

OpenBLAS has threads of its own, which stay awake for a while after a product; kernels' threads and these would take
the processors from each other. So kernels cut a large product into blocks for their own threads, and while they compute
blocks OpenBLAS uses one. The first that enters notes the number of its threads, the last that leaves restores it, under
a lock: several threads of Python may multiply at once. MKL knows a number for each thread that calls, which needs none.

Where there is no such library, there is no `TABLE`.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

from minigrad.devices import blas_library
from minigrad.devices.function import jit
from minigrad.devices.intrinsic import Intrinsic, ask, emit_call, swap, wait

_GEMM, _GEMV, _GET, _SET, _SET_OWN, _YIELD, _LOCK, _INSIDE, _FORMER = 0, 2, *range(4, 11)  # places in the table
_ROWS, _PLAIN, _TRANSPOSED = map(np.int32, (101, 111, 112))  # cblas's words for layout and transposition
_PATIENCE = 1000  # looks at the lock before another thread may have the processor

#: The library that kernels multiply with.
LIBRARY = blas_library.find()


def _table() -> np.ndarray | None:
    if LIBRARY is None:
        return None
    for_threads = (LIBRARY.get_threads, LIBRARY.set_threads, LIBRARY.set_own_threads)
    pause = blas_library.address(ctypes.CDLL(None).sched_yield)
    return np.array([*LIBRARY.products, *for_threads, pause, 0, 0, 0], np.int64)


#: What kernels pass to the functions below: addresses in the library, a lock, how many are inside, and the number of
#: threads to restore.
TABLE = _table()


def _after_fork() -> None:
    """Threads of the parent that were inside do not exist in the child."""
    if TABLE is not None:
        inside, TABLE[_LOCK], TABLE[_INSIDE] = TABLE[_INSIDE], 0, 0
        if inside:
            set_threads(int(TABLE[_FORMER]))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# For Python


def threads() -> int:
    """How many threads the library uses."""
    assert TABLE is not None
    return ask(TABLE[_GET])


def set_threads(number: int) -> None:
    """Have the library use so many threads."""
    assert TABLE is not None
    _tell(TABLE[_SET], number)


# For kernels


@jit
def hold(table):
    """Have the library use one thread, at least in this one, until `release`, which wants what this returns."""
    if table[_SET_OWN] != 0:
        return _tell_own(table[_SET_OWN], np.int32(1))
    _enter(table)
    if table[_INSIDE] == 0:
        table[_FORMER] = ask(table[_GET])
        _tell(table[_SET], np.int32(1))
    table[_INSIDE] += 1
    swap(table, _LOCK, 1, 0)
    return np.int32(0)


@jit
def release(table, held):
    """End what `hold` began. The last to leave restores the number of threads."""
    if table[_SET_OWN] != 0:
        _tell_own(table[_SET_OWN], held)
        return
    _enter(table)
    table[_INSIDE] -= 1
    if table[_INSIDE] == 0:
        _tell(table[_SET], np.int32(table[_FORMER]))
    swap(table, _LOCK, 1, 0)


@jit
def _enter(table):
    looks = 0
    while not swap(table, _LOCK, 0, 1):
        looks += 1
        wait()
        if looks % _PATIENCE == 0:
            ask(table[_YIELD])


@jit
def gemm(table, alpha, beta, size, x_transposed, y_transposed, m, n, k, x, x_row, y, y_row, out, out_row):
    """out = alpha·op(x)·op(y) + beta·out, matrices of m×k, k×n and m×n numbers of `size` bytes, alpha and beta as well.

    Matrices are given by address and by the elements from one row to the next. Where out is a row or a column, it must
    hold numbers even if beta is 0.
    """
    x_op, y_op = _op(x_transposed), _op(y_transposed)
    if n == 1:
        step = np.int64(1) if y_transposed else y_row
        rows, columns = (k, m) if x_transposed else (m, k)
        _gemv(table[_GEMV + size // 8], _ROWS, x_op, rows, columns, alpha, x, x_row, y, step, beta, out, out_row)
    elif m == 1:
        step = x_row if x_transposed else np.int64(1)
        rows, columns = (n, k) if y_transposed else (k, n)
        op = _op(not y_transposed)
        _gemv(table[_GEMV + size // 8], _ROWS, op, rows, columns, alpha, y, y_row, x, step, beta, out, np.int64(1))
    else:
        address = table[_GEMM + size // 8]
        _gemm(address, _ROWS, x_op, y_op, m, n, k, alpha, x, x_row, y, y_row, beta, out, out_row)


@jit
def _op(transposed):
    return _TRANSPOSED if transposed else _PLAIN


# The functions that these call: of the library, by address, and one instruction of the processor


def _tell_python(address, number):
    ctypes.CFUNCTYPE(None, ctypes.c_int)(int(address))(int(number))


def _tell_own_python(address, number):
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(int(address))(int(number))


def _gemm_python(address, order, x_op, y_op, m, n, k, alpha, x, x_row, y, y_row, beta, out, out_row):
    _call(address, (order, x_op, y_op), (m, n, k), alpha, (x, x_row, y, y_row), beta, (out, out_row))


def _gemv_python(address, order, op, rows, columns, alpha, a, a_row, x, x_step, beta, y, y_step):
    _call(address, (order, op), (rows, columns), alpha, (a, a_row, x, x_step), beta, (y, y_step))


def _call(address: int, words: tuple, lengths: tuple, alpha: Any, given: tuple, beta: Any, made: tuple) -> None:
    real, long = ctypes.c_double if isinstance(alpha, np.float64) else ctypes.c_float, ctypes.c_int64
    groups = [(ctypes.c_int, words), (long, lengths), (real, (alpha,)), (long, given), (real, (beta,)), (long, made)]
    kinds = [kind for kind, values in groups for _ in values]
    values = [float(v) if kind is real else int(v) for kind, values in groups for v in values]
    ctypes.CFUNCTYPE(None, *kinds)(int(address))(*values)


_tell = Intrinsic(_tell_python, "void", emit_call)
_tell_own = Intrinsic(_tell_own_python, "int32", emit_call)
_gemm = Intrinsic(_gemm_python, "void", emit_call)
_gemv = Intrinsic(_gemv_python, "void", emit_call)
