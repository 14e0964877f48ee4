"""What the engine itself costs: one small operation, recorded and not, its backward, importing, and the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.case import Case, Work

TITLE = "the engine's own cost: an operation on 8 elements, its backward, importing, the first training step"
CHAIN = 100  # operations that a measurement strings together

_STEP = (
    "import os, time; from bench.suites import train; train.{peer}_step()();"
    " print(time.monotonic() - float(os.environ['BENCH_START']))"
)
_IMPORT = "import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"


def cases(quick: bool) -> list[Case]:
    """Operations by mode, then what is measured in fresh processes."""
    modes = {"forward": "not recorded", "recorded": "recorded", "backward": "backward"}
    operations = {"multiply": "x * y", "number": "x * 1.01", "tanh": "tanh(x)", "matmul": "x @ y, (8, 8)"}
    chosen = ["multiply", "matmul"] if quick else list(operations)
    rows = [Case(f"{operations[o]}, {modes[m]}", {"operation": o, "mode": m}) for o in chosen for m in modes]
    imports = {p: _IMPORT.format(modules=m) for p, m in [("torch", "torch"), ("jax", "jax")]}
    imports["minigrad"] = _IMPORT.format(modules="minigrad, minigrad_norms")
    rows.append(Case("import", commands=imports, below=0.4, repeat=1 if quick else 7))
    if not quick:
        steps = {peer: _STEP.format(peer=peer) for peer in ("minigrad", "torch", "jax")}
        first = "process start to the end of the first step"
        rows.append(Case(f"{first}, kernels cached", commands=steps, cache="kept", below=1.5, repeat=7))
        cold = {"minigrad": steps["minigrad"]}
        rows.append(Case(f"{first}, no kernel cached", commands=cold, cache="fresh", below=25.0, repeat=3))
    return rows


def with_minigrad(case: Case) -> Work:
    import minigrad as mg

    operations = {
        "multiply": lambda x, y: x * y,
        "number": lambda x, y: x * 1.01,
        "tanh": lambda x, y: mg.tanh(x),
        "matmul": lambda x, y: x @ y,
    }
    x, y, ct = _arrays(case)
    leaf = mg.tensor(x, requires_grad=case.data["mode"] != "forward")
    y, ct = mg.tensor(y), mg.tensor(ct)

    def backward(end: Any) -> None:
        leaf.grad = None
        end.backward(ct)

    return _work(case, operations[case.data["operation"]], leaf, y, backward)


def with_torch(case: Case) -> Work:
    import torch

    torch.set_num_threads(1)  # 8 elements are one thread's work
    operations = {
        "multiply": lambda x, y: x * y,
        "number": lambda x, y: x * 1.01,
        "tanh": lambda x, y: torch.tanh(x),
        "matmul": lambda x, y: x @ y,
    }
    x, y, ct = (torch.from_numpy(a) for a in _arrays(case))
    x.requires_grad_(case.data["mode"] != "forward")

    def backward(end: Any) -> None:
        x.grad = None
        end.backward(ct)

    return _work(case, operations[case.data["operation"]], x, y, backward)


def _work(case: Case, operation: Callable, x: Any, y: Any, backward: Callable) -> Work:
    def chain() -> Any:
        z = x
        for _ in range(CHAIN):
            z = operation(z, y)
        return z

    if case.data["mode"] == "backward":
        return Work(backward, setup=chain, per=CHAIN)
    return Work(chain, per=CHAIN)


def _arrays(case: Case) -> tuple:
    """x, y that keeps the chain's values in range, and a cotangent."""
    import numpy as np

    x, ct = np.random.default_rng(0).uniform(0.5, 1, (2, 8)).astype(np.float32)
    if case.data["operation"] == "matmul":
        eye = np.eye(8, dtype=np.float32)
        return eye * x, eye[::-1].copy(), eye * ct
    return x, np.ones(8, np.float32), ct
