"""Tests that need Numba's CUDA simulator. `tests/cuda/test_cuda_simulator.py` runs them, in a process of their own."""

import os
import sys

import pytest

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    collect_ignore_glob = ["test_*.py"]
else:
    sys.setswitchinterval(1e-4)  # the simulator polls Python threads that wait for each other


@pytest.fixture(autouse=True)
def _driver_of_its_own():
    """What kernels' Python code decides is remembered as long as a driver is: tests that change thresholds need one."""
    from minigrad.devices.cuda import driver, simulator

    before = driver.use(simulator.Simulator())
    yield
    driver.use(before)
