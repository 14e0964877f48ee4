"""On a GPU: every sample of every primitive that has a CUDA kernel, called and replayed."""

import pytest

import minigrad_norms  # noqa: F401  (registers primitives)
from minigrad import dtypes, primitive
from minigrad.gradcheck import gpu
from minigrad.gradcheck.primitives import cases
from minigrad.gradcheck.result import INCONCLUSIVE

pytestmark = pytest.mark.gpu
PRIMITIVES = [p for name in ("mg", "norms") for p in primitive.primitives(name) if "cuda" in p.devices]


def good(p):
    return [case for case in cases(p) if case.sample is not None and case.sample.error is None]


@pytest.mark.parametrize("p", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_conformance(p):
    for case in good(p):
        report = gpu.check_sample(p, case.sample, case.label)
        if not case.sample.differentiable:  # data for values alone
            report.results = [r for r in report.results if r.check != "derivative"]
        report.require()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("p", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_half_types(p, name):
    pytest.importorskip("ml_dtypes")
    for case in good(p):  # some hold numbers that are too large for the type
        report = gpu.check_half(p, case.sample, dtypes.as_dtype(name), case.label)
        report.results = [r for r in report.results if r.verdict != INCONCLUSIVE]
        if report.results:
            report.require()


@pytest.mark.parametrize("p", PRIMITIVES, ids=[p.name for p in PRIMITIVES])
def test_replays_have_the_bits_of_calls(p):
    for case in good(p):
        result = gpu.replays(p, case.sample)
        assert result.verdict == "passed", (case.label, result)
