"""The library that kernels multiply with: Intel's MKL where the extra ``mkl`` is installed, else NumPy's OpenBLAS.

``MINIGRAD_BLAS`` chooses: ``mkl``, or ``openblas`` (and ``default``, see `minigrad._blas`) where both are there.

If nobody has loaded MKL before, it is told to be sequential, since kernels bring the threads, and to give the same bits
wherever matrices lie in memory, as OpenBLAS does. Settings in the environment (``MKL_THREADING_LAYER``, ``MKL_CBWR``)
are left alone, and so is an MKL that others have loaded before: kernels then only ask for one thread within their own.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigrad import _blas

OPENBLAS = "OpenBLAS"

_PRODUCTS = ("cblas_sgemm", "cblas_dgemm", "cblas_sgemv", "cblas_dgemv")
_SEQUENTIAL = 1  # MKL's words for threading layers
_SAME_BITS = 2  # and for the choice of instructions: what is best here, whatever the alignment


class Library(NamedTuple):
    """Addresses of functions whose integers have 64 bits.

    Attributes:
        name: of the library, with its version where it tells.
        products: gemm and gemv: sgemm, dgemm, sgemv, dgemv.
        get_threads, set_threads: for the number of its threads.
        set_own_threads: for that of the calling thread, which returns the former; 0 where there is no such thing.
    """

    name: str
    products: tuple[int, ...]
    get_threads: int
    set_threads: int
    set_own_threads: int = 0


def find(choice: str = _blas.CHOICE) -> Library | None:
    """The library of this choice; None where NumPy has no OpenBLAS with integers of 64 bits.

    Raises:
        ImportError: if the choice is MKL, which isn't there, or if it is there and does not load.
    """
    if choice in ("", "mkl"):
        found = next(filter(None, map(_mkl, _mkl_files())), None)
        if found:
            return found
    if choice == "mkl":
        raise ImportError(
            "MINIGRAD_BLAS=mkl: MKL is not where NumPy is installed; pip install 'minigrad[mkl]' (Linux, x86-64)"
        )
    return next(filter(None, map(_openblas, _openblas_files())), None)


def bundled(pattern: str) -> Iterator[Path]:
    """The libraries of such a name that came with NumPy."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        yield from sorted(folder.glob(pattern))


def address(function: Any) -> int:
    """Where a function of a library of C begins."""
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


def _loaded(path: Path) -> ctypes.CDLL | None:
    """The library, if this process has loaded it."""
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None


def _openblas_files() -> Iterator[Path]:
    """OpenBLAS with integers of 64 bits that came with NumPy."""
    return bundled("*openblas64_*") if hasattr(os, "RTLD_NOLOAD") else iter(())


def _openblas(path: Path) -> Library | None:
    library = _loaded(path)  # not there if NumPy loaded another
    names = (*_PRODUCTS, "openblas_get_num_threads", "openblas_set_num_threads")
    for prefix in ("scipy_", ""):
        functions = [getattr(library, f"{prefix}{name}64_", None) for name in names]
        if all(functions):
            *products, get_threads, set_threads = map(address, functions)
            return Library(OPENBLAS, tuple(products), get_threads, set_threads)
    return None


def _mkl_files() -> Iterator[Path]:
    """MKL's one library for all, where packages put it: in ``lib``, above the folder that NumPy is in."""
    if sys.platform == "linux":
        yield from sorted(Path(np.__file__).parents[:4][-1].glob("libmkl_rt.so*"), reverse=True)


def _mkl(path: Path) -> Library | None:
    library = _loaded(path)
    is_ours = library is None
    if library is None:
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise ImportError(f"MKL does not load ({error}); MINIGRAD_BLAS=openblas does without") from error
    functions = [getattr(library, f"{name}_64", None) for name in _PRODUCTS]
    if not all(functions):  # MKL before 2022
        return None
    if is_ours and "MKL_THREADING_LAYER" not in os.environ:
        library.MKL_Set_Threading_Layer(_SEQUENTIAL)
    if is_ours and "MKL_CBWR" not in os.environ:
        library.MKL_CBWR_Set(_SAME_BITS)
    text = ctypes.create_string_buffer(200)
    library.MKL_Get_Version_String(text, len(text))
    version = re.search(r"Version (\S+?)-", text.value.decode())
    return Library(
        f"MKL {version[1]}" if version else "MKL",
        tuple(map(address, functions)),
        address(library.MKL_Get_Max_Threads),
        address(library.MKL_Set_Num_Threads),
        address(library.MKL_Set_Num_Threads_Local),
    )
