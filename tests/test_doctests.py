"""Every example in a docstring or in the README runs and prints what it says."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import minigrad
import minigrad_norms

MODULES = [
    module.name
    for package in (minigrad, minigrad_norms)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    if name == "minigrad.devices.cuda.stored":  # which is imported where kernels are compiled
        pytest.importorskip("numba_cuda")
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_readme():
    failed, attempted = doctest.testfile(str(README), module_relative=False)
    assert attempted > 5
    assert failed == 0
