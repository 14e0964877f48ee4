"""float16 and bfloat16 on the simulator: every primitive of both packages, on its first samples."""

import numpy as np
import pytest

import minigrad_norms  # noqa: F401  (registers primitives)
from minigrad import dtypes, primitive
from minigrad.gradcheck import gpu, kernels
from minigrad.gradcheck.primitives import cases

pytest.importorskip("ml_dtypes")
LARGEST = 600  # elements
HALVES = [dtypes.float16, dtypes.bfloat16()]


def first_cases(p):
    """The first good sample that has a float of a few elements, without the wide ones, or else the first of all."""
    good = [c for c in cases(p) if c.sample is not None and c.sample.error is None]
    sizes = [sum(np.size(a) for a in c.sample.inputs if a is not None) for c in good]
    floats = [any(kernels.is_float(a) and np.size(a) > 1 for a in c.sample.inputs) for c in good]
    found = [c for c, n, f in zip(good, sizes, floats) if f and n <= LARGEST]
    return (found or good)[:1]


CASES = [
    c for name in ("mg", "norms") for p in primitive.primitives(name) if "cuda" in p.devices for c in first_cases(p)
]


@pytest.mark.parametrize("dtype", HALVES, ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=[c.primitive.name for c in CASES])
def test_values_and_derivatives(case, dtype):
    gpu.check_half(case.primitive, case.sample, dtype, case.label).require()
