"""Tests that need Numba's CUDA simulator. `tests/cuda/test_cuda_simulator.py` runs them, in a process of their own."""

import os
import sys

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    collect_ignore_glob = ["test_*.py"]
else:
    sys.setswitchinterval(1e-4)  # the simulator polls Python threads that wait for each other
