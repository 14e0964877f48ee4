"""Every primitive of minigrad and of minigrad_norms keeps its promises; none is inconclusive without a reason."""

from minigrad.testing import Conformance


class TestEngine(Conformance):
    namespace = "mg"


class TestNorms(Conformance):
    namespace = "norms"
