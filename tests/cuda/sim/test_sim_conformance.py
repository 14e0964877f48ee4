"""Every CUDA kernel of the built-in primitives against its definition, on every sample."""

import numpy as np
import pytest

from minigrad import primitive
from minigrad.gradcheck import gpu
from minigrad.gradcheck.primitives import cases

LARGEST = 5000  # elements; samples with more are there for other paths of the CPU's kernels
CASES = [
    case
    for p in primitive.primitives("mg")
    if "cuda" in p.devices
    for case in cases(p)
    if case.sample is not None and case.sample.error is None
    if sum(np.size(a) for a in case.sample.inputs if a is not None) <= LARGEST
]


@pytest.mark.parametrize("case", CASES, ids=[f"{c.primitive.name} ({c.label})" for c in CASES])
def test_conformance(case):
    gpu.check_sample(case.primitive, case.sample, case.label).require()
