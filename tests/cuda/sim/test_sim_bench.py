"""The benchmark of GPUs, on the simulator: that it runs, that its numbers are the CPU's, and what it writes."""

import json

import numpy as np
import pytest

from bench import __main__ as command
from bench import compare, training
from bench.case import Case
from bench.suites import gpu, norms, train
from minigrad.primitive import on_device


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(gpu, "_ROUNDS", 1)
    monkeypatch.setattr(gpu, "_RUNS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


@pytest.mark.parametrize("kind", ["batch", "layer", "rms", "group", "instance", "weight"])
def test_norms(kind):
    groups = {"group": 2, "instance": 4}.get(kind, 0)
    shape = (2, 3, 3, 4) if groups or kind == "weight" else (5, 4)
    case = Case(kind, {"kind": kind, "shape": shape, "axis": len(shape) - 1, "groups": groups})
    work = gpu.with_minigrad(case)
    with on_device("reference"):
        wanted = norms.with_minigrad(case).columns["eager"].run().numpy()
    np.testing.assert_allclose(work.run().numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert work.check()
    assert work.columns["share of copy [%]"].value() > 0


def test_steps(monkeypatch):
    stages = [
        training.Stage("dense", (6, 4), bias=False),
        training.Stage("norm", (4,), "batch"),
        training.Stage("relu"),
    ]
    network = training.Network([*stages, training.Stage("dense", (4, training.CLASSES))], (6,), "adam")
    monkeypatch.setattr(training, "tiny", lambda: network, raising=False)
    case = Case("step: tiny", {"kind": "tiny", "arguments": {}, "batch": 5})
    work = gpu.with_minigrad(case)
    losses = work.check()
    with on_device("reference"):
        np.testing.assert_allclose(losses, train.losses(train.step_of(network, 5, False))(), rtol=1e-4)
    assert losses[2] < losses[1] < losses[0]
    assert work.columns["eager"].run() == pytest.approx(losses[0], rel=1e-4)


def test_results_name_the_device(monkeypatch, capsys, tmp_path):
    result = {"title": "t", "load": 0.0, "peers": {}, "rows": [], "summary": compare.summary([])}
    monkeypatch.setattr(compare, "run", lambda *args, **options: result)
    assert command.main(["gpu", "--out", str(tmp_path / "gpu.json")]) == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["benchmarks"]["gpu"]["device"] == gpu.device()
    assert written["date"]
    assert f"gpu: t ({gpu.device()})" in capsys.readouterr().out
