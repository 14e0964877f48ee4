"""Every CUDA kernel is compiled for four generations of GPUs, without one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "compiling.py"


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("nvidia") is None,
    reason="needs CUDA's compiler: pip install 'minigrad[cuda]'",
)
@pytest.mark.parametrize("namespace", ["mg", "norms"])
def test_every_kernel_compiles(namespace):
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), namespace], env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    print(done.stdout)  # registers, spills and shared memory: pytest -s shows them
    assert done.stdout.rstrip().endswith("0 spill registers, 0 failed")
    assert int(done.stdout.split()[0]) > 100
