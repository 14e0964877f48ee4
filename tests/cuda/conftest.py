"""Tests of mark `gpu` need a GPU: where there is none they are skipped, saying what is missing."""

import pytest

from minigrad.devices import cuda
from minigrad.devices.cuda import driver


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    if not cuda.is_available():
        pytest.skip(f"needs a GPU: {cuda.status()}")
    if driver.is_simulated():
        pytest.skip("needs a GPU, and not Numba's simulator: NUMBA_ENABLE_CUDASIM is set")
