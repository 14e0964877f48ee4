"""What the tests of standardization's CPU kernels share."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigrad.devices import cpu


@pytest.fixture
def one_form_in_float64(request, monkeypatch):
    """Parallel forms are compiled for float32 alone, which halves the time that all this takes."""
    if getattr(request.node, "callspec", SimpleNamespace(params={})).params.get("dtype") is np.float64:
        monkeypatch.setattr(cpu.threads, "count", lambda: 1)
