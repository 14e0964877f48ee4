"""Matrix products in native segments, by the very library that NumPy multiplies with.

NumPy's wheels bring OpenBLAS with 64-bit integers. Where that library is found among what is loaded already, a product
of contiguous matrices becomes a direct call of its ``gemm``, which is what ``numpy.dot`` ends in. That both give the
same bits is seen for each form of product before it is relied on; where there is any doubt, ``numpy.dot`` stays.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigrad.jit.bind import Plain
from minigrad.jit.exchange import address as _start

_PREFIXES = ("scipy_cblas_", "cblas_")
_ROWS = 101  # cblas: matrices lie row after row
_PLAIN, _TRANSPOSED = 111, 112
_LARGEST = 1 << 28  # multiplications that are worth a comparison


Word = tuple[int, np.ndarray | None]  # a word that a thunk reads, and the array whose address it is


class Product(NamedTuple):
    """``out = op(a) @ op(b)``, with m×k, k×n and m×n matrices; `tail` are the arguments that gemm takes after these."""

    address: int
    numbers: tuple[int, ...]  # order, op of a, op of b, m, n, k
    a: np.ndarray
    lda: int
    b: np.ndarray
    ldb: int
    out: np.ndarray
    ldc: int

    @property
    def is_double(self) -> bool:
        return self.out.dtype == np.float64


def product_of(step: Any) -> Product | None:
    """A step ``numpy.dot(a, b, out)`` as a product, or None where it has to stay what it is."""
    if not (isinstance(step, Plain) and step.function is np.dot and len(step.args) == 3 and not step.kwargs):
        return None
    a, b, out = step.args
    arrays = (a, b, out)
    if not all(type(x) is np.ndarray and x.ndim == 2 and x.dtype == out.dtype and min(x.shape) > 1 for x in arrays):
        return None
    if not all(x.flags.c_contiguous or x.flags.f_contiguous for x in (a, b)) or not out.flags.c_contiguous:
        return None
    if _start(a) == _start(b):  # a matrix times its transpose is another routine's work
        return None
    address = _gemm(out.dtype.char)
    if address is None:
        return None
    transposed = tuple([not x.flags.c_contiguous for x in (a, b)])
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    if m * n * k > _LARGEST or not _agrees(out.dtype.char, transposed, m, k, n):
        return None
    return _product(address, transposed, a, b, out)


def _product(address: int, transposed: tuple[bool, ...], a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Product:
    ops = [_TRANSPOSED if t else _PLAIN for t in transposed]
    lda, ldb = (x.shape[0] if t else x.shape[1] for x, t in zip((a, b), transposed))
    return Product(address, (_ROWS, *ops, out.shape[0], out.shape[1], a.shape[1]), a, lda, b, ldb, out, out.shape[1])


@lru_cache(maxsize=4096)
def _agrees(char: str, transposed: tuple[bool, ...], m: int, k: int, n: int) -> bool:
    """Whether gemm gives the bits of ``numpy.dot`` for products of this form."""
    address = _gemm(char)
    assert address is not None
    rng = np.random.default_rng(m + k + n)
    a, b = (rng.standard_normal(shape[::-1] if t else shape) for shape, t in zip(((m, k), (k, n)), transposed))
    a, b = (x.astype(char).T if t else x.astype(char) for x, t in zip((a, b), transposed))
    want, got = np.empty((m, n), char), np.zeros((m, n), char)
    np.dot(a, b, want)
    run(_product(address, transposed, a, b, got))
    return want.tobytes() == got.tobytes()


def run(product: Product) -> None:
    """Compute a product, from Python."""
    real = ctypes.c_double if product.is_double else ctypes.c_float
    word, long, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    kinds: list[Any] = [*[word] * 3, *[long] * 3, real, pointer, long, pointer, long, real, pointer, long]
    p = product
    ctypes.CFUNCTYPE(None, *kinds)(p.address)(
        *p.numbers, 1.0, _start(p.a), p.lda, _start(p.b), p.ldb, 0.0, _start(p.out), p.ldc
    )


def packed(product: Product) -> list[Word]:
    """What a thunk of gemm reads: m, n, k and such, then addresses and lengths of rows."""
    words: list[Word] = [(number, None) for number in product.numbers]
    for a, length in ((product.a, product.lda), (product.b, product.ldb), (product.out, product.ldc)):
        words += [(_start(a), a), (length, None)]
    return words


def emit(builder: Any, reader: Any, address: int, is_double: bool) -> None:
    """The thunk's code: a call of gemm with what the reader gives."""
    from llvmlite import ir

    word, long = ir.IntType(32), ir.IntType(64)
    real = ir.DoubleType() if is_double else ir.FloatType()
    kinds = [*[word] * 3, *[long] * 3, real, long, long, long, long, real, long, long]
    function = builder.inttoptr(ir.Constant(long, address), ir.FunctionType(ir.VoidType(), kinds).as_pointer())
    head = [reader.number(kind) for kind in kinds[:6]]
    a, lda, b, ldb, out, ldc = (reader.word() for _ in range(6))
    one, zero = ir.Constant(real, 1.0), ir.Constant(real, 0.0)
    builder.call(function, [*head, one, a, lda, b, ldb, zero, out, ldc])


@lru_cache(maxsize=4)
def _gemm(char: str) -> int | None:
    """The address of gemm for ``"f"`` or ``"d"`` in NumPy's own OpenBLAS, if that is there."""
    if char not in "fd" or not hasattr(os, "RTLD_NOLOAD"):
        return None
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        for path in sorted(folder.glob("*openblas64_*")):
            try:
                library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
            except OSError:  # there, but not what NumPy loaded
                continue
            for prefix in _PREFIXES:
                name = f"{prefix}{'s' if char == 'f' else 'd'}gemm64_"
                if hasattr(library, name):
                    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    return None
