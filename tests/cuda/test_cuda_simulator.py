"""The tests in `sim`, on Numba's CUDA simulator: in another process, because Numba is told before it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "sim"


@pytest.mark.parametrize("name", sorted(f.name for f in FOLDER.glob("test_*.py")))
def test_on_the_simulator(name):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", str(FOLDER / name)]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
