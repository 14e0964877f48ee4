"""The benchmarks of memory, growth and cold starts: what they count, and that deep networks train."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are no installed package

from bench import peak, residual
from bench.residual import Size
from bench.suites import cold, memory, scaling


@pytest.mark.skipif(bool(peak.missing()), reason="no /proc")
def test_the_peak_is_what_a_step_holds_at_a_time():
    kept = []

    def make():
        kept.append(b"\1" * (16 << 20))
        return lambda: b"\1" * (64 << 20)

    assert 78 < peak.of_step(make, lambda: lambda: None) < 90


def test_an_installation_counts_what_it_needs():
    assert {"minigrad", "numpy", "numba", "llvmlite", "tqdm"} <= set(cold.needed("minigrad"))
    assert cold.installed("minigrad") > cold.installed("numpy") > 1


def test_a_residual_network_learns_the_same_by_jit_and_eager():
    work = scaling.with_minigrad(scaling.cases(True)[0])
    losses = work.check()
    assert losses == pytest.approx(residual.losses(residual.minigrad_step(Size(), jit=False)), rel=1e-5)
    assert losses[2] < losses[0]


def test_rows_name_what_they_run():
    for suite in (memory, scaling, cold):
        for case in suite.cases(False):
            for code in case.commands.values():
                compile(code, case.name, "exec")


@pytest.mark.slow
def test_a_thousand_layers():
    size = Size(1000, 8, 4)
    assert residual.losses(residual.minigrad_step(size)) == pytest.approx(
        residual.losses(residual.minigrad_step(size, jit=False)), rel=1e-5
    )
