"""What kernels multiply with: which library is found, and what MKL is told. The latter where MKL is installed."""

import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from minigrad.devices import blas, blas_library
from minigrad.ops import linalg_cpu

MKL = next(iter(blas_library._mkl_files()), None)
needs_mkl = pytest.mark.skipif(MKL is None, reason="MKL isn't installed")
needs_openblas = pytest.mark.skipif(not list(blas_library._openblas_files()), reason="NumPy has another BLAS here")


def run(code, **variables):
    """What a fresh process prints."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MINIGRAD_BLAS", "MKL_THREADING_LAYER", "MKL_CBWR")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **variables}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_openblas
@pytest.mark.parametrize("choice", ["openblas", "default"])
def test_openblas_on_demand(choice):
    found = blas_library.find(choice)
    assert found.name == "OpenBLAS"
    assert len(set(found.products)) == 4
    assert found.set_own_threads == 0


@needs_openblas
def test_openblas_where_there_is_no_mkl(monkeypatch):
    monkeypatch.setattr(blas_library, "_mkl_files", lambda: iter([]))
    assert blas_library.find("").name == "OpenBLAS"
    with pytest.raises(
        ImportError, match=r"MINIGRAD_BLAS=mkl: MKL is not where NumPy is .* pip install 'minigrad\[mkl\]'"
    ):
        blas_library.find("mkl")


def test_nothing_where_there_is_neither(monkeypatch):
    monkeypatch.setattr(blas_library, "_mkl_files", lambda: iter([]))
    monkeypatch.setattr(blas_library, "_openblas_files", lambda: iter([]))
    assert blas_library.find("") is None


def test_an_mkl_that_does_not_load_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "libmkl_rt.so.9").write_bytes(b"no library at all")
    monkeypatch.setattr(blas_library, "_mkl_files", lambda: iter([tmp_path / "libmkl_rt.so.9"]))
    with pytest.raises(ImportError, match=r"MKL does not load \(.*libmkl_rt.so.9: .*\); MINIGRAD_BLAS=openblas"):
        blas_library.find("")


@needs_openblas
def test_an_mkl_without_integers_of_64_bits_is_not_taken(monkeypatch):
    monkeypatch.setattr(blas_library, "_mkl_files", lambda: iter([Path(find_library("m"))]))
    assert blas_library.find("").name == "OpenBLAS"


@needs_openblas
def test_a_library_that_numpy_did_not_load_is_not_taken(monkeypatch, tmp_path):
    for path in blas_library._openblas_files():
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        assert blas_library._openblas(copy) is None


def test_a_choice_that_is_none():
    done = subprocess.run(
        [sys.executable, "-c", "import minigrad"],
        env={**os.environ, "MINIGRAD_BLAS": "blis"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "ImportError: MINIGRAD_BLAS: got 'blis', expected one of mkl, openblas, default, or nothing" in done.stderr


NAME = "from minigrad.devices import blas; print(blas.LIBRARY.name.split()[0])"


@needs_mkl
@pytest.mark.parametrize(
    ("variables", "name"),
    [({}, "MKL"), ({"MINIGRAD_BLAS": "mkl"}, "MKL"), ({"MINIGRAD_BLAS": "openblas"}, "OpenBLAS")],
)
def test_mkl_where_it_is_installed(variables, name):
    assert run(NAME, **variables) == [name]


SETTINGS = f"""
import ctypes, minigrad
mkl = ctypes.CDLL({str(MKL)!r})
print(mkl.MKL_Get_Max_Threads(), mkl.MKL_CBWR_Get(-1))
"""


@needs_mkl
def test_it_is_sequential_and_indifferent_to_alignment():
    assert run(SETTINGS, MKL_NUM_THREADS="2") == ["1", "2"]


@needs_mkl
def test_settings_of_the_environment_are_left_alone():
    assert run(SETTINGS, MKL_NUM_THREADS="2", MKL_THREADING_LAYER="INTEL", MKL_CBWR="COMPATIBLE") == ["2", "3"]


OTHERS = f"""
import ctypes, threading
mkl = ctypes.CDLL({str(MKL)!r})
mkl.MKL_Set_Num_Threads(2)
print(mkl.MKL_Get_Max_Threads())
import numpy as np, minigrad as mg
from minigrad.devices import blas
print(mkl.MKL_Get_Max_Threads())
mkl.MKL_Set_Num_Threads_Local(3)
held = blas.hold(blas.TABLE)
print(mkl.MKL_Get_Max_Threads())
elsewhere = threading.Thread(target=lambda: print(mkl.MKL_Get_Max_Threads()))
elsewhere.start()
elsewhere.join()
x = mg.tensor(np.ones((200, 200), "float32"))
assert (mg.matmul(x, x).numpy() == 200).all()
blas.release(blas.TABLE, held)
print(mkl.MKL_Get_Max_Threads())
held = blas.hold.python(blas.TABLE)
print(held, mkl.MKL_Get_Max_Threads())
blas.release.python(blas.TABLE, held)
print(mkl.MKL_Get_Max_Threads())
"""


@needs_mkl
def test_an_mkl_that_others_loaded_keeps_its_threads():
    assert run(OTHERS, MINIGRAD_BLAS="mkl") == ["2", "2", "1", "2", "3", "3", "1", "3"]


UNUSED = f"""
import ctypes
mkl = ctypes.CDLL({str(MKL)!r})
import minigrad
mkl.MKL_Set_Num_Threads(2)
print(mkl.MKL_Get_Max_Threads())
"""


@needs_mkl
def test_an_mkl_that_others_have_not_used_yet_is_left_to_them():
    assert run(UNUSED) == ["2"]


@pytest.mark.skipif(blas.TABLE is None, reason="NumPy has another BLAS here")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_where_matrices_lie(dtype):
    rng = np.random.default_rng(0)
    for m, k, n in [(3, 5, 4), (37, 70, 45), (130, 257, 190), (1, 300, 70), (70, 300, 1)]:
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        results = []
        for shift in (0, 1, 3):
            placed = []
            for value in (a, b):
                memory = np.empty(value.size + 64, dtype)
                first = -memory.ctypes.data % 64 // value.itemsize + shift
                place = memory[first : first + value.size].reshape(value.shape)
                place[...] = value
                placed.append(place)
            results.append(np.empty((m, n), dtype))
            linalg_cpu.products(*placed, False, False)(results[-1], *placed)
        np.testing.assert_array_equal(results[1], results[0])
        np.testing.assert_array_equal(results[2], results[0])
