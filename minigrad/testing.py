"""The conformance kit: everything that a primitive promises, tested for all primitives of a namespace.

For the author of a plugin, one class in a test file that pytest runs::

    import minigrad.testing

    class TestEntmax(minigrad.testing.Conformance):
        namespace = "entmax"

gives one test for each primitive and each of its samples (``entmax::sparsemax (2 ties)``). Without pytest,
`conformance` returns the same as reports, and ``python -m minigrad check entmax`` prints them as a table.

What is tested stands in the samples of a primitive, on which these checks run:

============================ ========================================================================================
samples                      There are good ones, and among them some where derivatives exist. Combinations of absent
                             optional inputs that no sample shows are made from those there are.
infer                        The shapes and dtypes that are promised are those of the reference's results.
cpu float32, cpu float64     Each device's kernel gives the reference's values, element by element, within a few
                             roundings of the inputs and of the results: well conditioned data leaves little room, badly
                             conditioned data as much as its own rounding takes.
layouts                      The same bits for transposed, reversed, spaced and broadcast (0-stride) inputs.
sizes                        The same values as the reference's with each axis cut to length 0 and 1, unless that is
                             refused with one of minigrad's errors.
buffers                      Inputs keep their values, outputs share no memory with them (but for views), a kernel
                             writes every element of its outputs and nothing beyond, whatever was there before.
threads                      The same bits from a second run, from 1 thread and all, and for any order of chunks.
invariances                  What samples declare that the primitive keeps, as `minigrad.Invariance`.
central differences          The reverse rule against differences of the reference, with a measured error bound.
Richardson                   The reverse rule in a random direction, to ten digits and more.
parts                        Each cotangent, needed input and tangent alone gives its part of the whole; None is zero;
                             cotangents of any layout; derivatives have the shapes and dtypes of what they belong to.
adjoint                      The forward rule against the reverse rule: ⟨Jv, w⟩ = ⟨v, Jᵀw⟩.
complex step                 The forward rule against the complex step, where the reference is analytic.
second order                 The derivative of the reverse rule against differences.
third order                  The derivative of that, with ``order=3``.
bad input                    Bad samples get the error and the message that they name.
============================ ========================================================================================

A check knows what it could not have seen, and says INCONCLUSIVE where its tolerance is not well below its signal. That
is a failure too, unless the sample gives the reason (`Sample.undecided`); then the test is reported as skipped, with
the reason; one for central differences holds for Richardson's too. A failure names the primitive, the sample, the
check, the place of the worst element, both values there, and the seed that brings them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minigrad import plugins, primitive
from minigrad.errors import ArgumentError
from minigrad.gradcheck.primitives import Case, cases
from minigrad.gradcheck.result import Report

__all__ = ["Conformance", "conformance"]


def conformance(
    namespace: str, *, only: Sequence[str] | None = None, seed: int = 0, order: int = 2
) -> Iterator[Report]:
    """Run all checks on all primitives of a namespace, and yield a report for each primitive and sample.

    Args:
        namespace: whose primitives; the plugin is loaded if it has to be.
        only: names of primitives to leave it at.
        seed: of samples, cotangents and tangents.
        order: of derivatives, 1 to 3.

    Raises:
        ArgumentError: if there is no such namespace or primitive.
        PluginError: if the plugin can't be loaded.

    Example:
        >>> import minigrad.testing
        >>> reports = list(minigrad.testing.conformance("mg", only=["mg::tanh"]))
        >>> all(report.passed for report in reports)
        True
        >>> reports[1].subject
        'mg::tanh (0)'
    """
    return (case.run(order) for case in _cases(namespace, only, seed))


class Conformance:
    """Inherit from it in a test file of pytest's, and all primitives of a namespace are tested.

    Attributes:
        namespace: whose primitives; the plugin is loaded when tests are collected.
        only: names of primitives to leave it at.
        seed, order: as of `conformance`.

    Example:
        >>> import minigrad.testing
        >>> class TestTanh(minigrad.testing.Conformance):
        ...     namespace = "mg"
        ...     only = ("mg::tanh",)
        >>> for case in TestTanh.cases():
        ...     TestTanh().test_conformance(case)
    """

    namespace: str = ""
    only: Sequence[str] | None = None
    seed: int = 0
    order: int = 2

    @classmethod
    def cases(cls) -> list[Case]:
        """What there is to test: primitives with their samples."""
        return _cases(cls.namespace, cls.only, cls.seed)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Called by pytest when it collects tests."""
        if "case" in metafunc.fixturenames:
            found = self.cases()
            metafunc.parametrize("case", found, ids=[f"{c.primitive.name} ({c.label})" for c in found])

    def test_conformance(self, case: Case) -> None:
        """All checks of one primitive and sample."""
        report = case.run(self.order).require()
        reasons = [f"{r.check} is inconclusive: {r.reason}" for r in report.results if r.reason]
        if reasons:
            import pytest

            pytest.skip("; ".join(reasons))


def _cases(namespace: str, only: Sequence[str] | None, seed: int) -> list[Case]:
    if namespace in plugins.names():
        plugins.load(namespace)
    found = primitive.primitives(namespace)
    if not found:
        known = sorted({*primitive.namespaces(), *plugins.names()})
        raise ArgumentError(f"conformance: there are no primitives in {namespace!r}, there are some in {known}")
    unknown = set(only or ()) - {p.name for p in found}
    if unknown:
        raise ArgumentError(f"conformance: {sorted(unknown)} are not in {namespace!r}")
    return [case for p in found if only is None or p.name in only for case in cases(p, seed)]
