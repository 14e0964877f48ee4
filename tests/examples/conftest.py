"""The examples as modules, as scripts see one another; one thread, for the work is small and cores may be busy."""

import importlib
import sys
from pathlib import Path

import numba
import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = [path.stem for path in FOLDER.glob("*.py")]


@pytest.fixture
def example(monkeypatch):
    """The function from an example's name to its module, imported anew."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield importlib.import_module
    numba.set_num_threads(threads)
    for name in SCRIPTS:
        sys.modules.pop(name, None)
