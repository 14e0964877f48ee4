"""Every CUDA kernel is compiled for one of four generations of GPUs in turn, at night for all, without any."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "compiling.py"


compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("nvidia") is None,
    reason="needs CUDA's compiler: pip install 'minigrad[cuda]'",
)


@compiler
@pytest.mark.parametrize("namespace", ["mg", "norms"])
def test_every_kernel_compiles(namespace):
    assert compiled(namespace) > 100


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("namespace", ["mg", "norms"])
def test_every_kernel_compiles_for_every_generation(namespace):
    assert compiled("--all", namespace) > 100


SOME = ("mg::matmul", "mg::mean", "mg::dropout", "mg::adam", "norms::spectral_norm")  # of each kind of kernel one


@compiler
@pytest.mark.parametrize("names", [SOME, *[pytest.param([name], marks=pytest.mark.slow) for name in ("mg", "norms")]])
def test_kernels_of_half_types_compile(names):
    pytest.importorskip("ml_dtypes")
    assert compiled("--half", *names) > 30


def compiled(*arguments):
    """How many kernels were compiled, none of which failed or spills."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    print(done.stdout)  # registers, spills and shared memory: pytest -s shows them
    assert done.stdout.rstrip().endswith("0 spill registers, 0 failed")
    return int(done.stdout.split()[0])
