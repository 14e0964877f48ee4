"""Vectors: their length on this processor and on one that the environment names."""

import os
import subprocess
import sys

import numpy as np
import pytest

from minigrad.devices.intrinsic import Intrinsic
from minigrad.devices.vectors import Vectors, lanes, vector_bytes


def test_lanes_make_a_vector():
    assert vector_bytes() in (32, 64)
    assert lanes(np.dtype("float32")) * 4 == lanes(np.dtype("float64")) * 8 == vector_bytes()


@pytest.mark.parametrize(("features", "length"), [("+avx2,+fma", 32), ("+avx2,+avx512f", 64), ("", 32)])
def test_the_processor_that_numba_compiles_for_counts(features, length):
    done = subprocess.run(
        [sys.executable, "-c", "from minigrad.devices.vectors import vector_bytes; print(vector_bytes())"],
        env={**os.environ, "NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": features},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == length


def test_what_vectors_write_is_in_the_stamp_of_intrinsics(monkeypatch):
    def intrinsic():
        return Intrinsic(lambda x: x, None, lambda context, builder, signature, values: values[0], [Vectors]).stamp()

    before = intrinsic()
    assert intrinsic() == before
    monkeypatch.setattr(Vectors, "splat", lambda self, value: value)
    assert intrinsic() != before
