"""What the engine itself costs: one small operation, recorded and not, its backward, importing, and the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.case import Case, Work
from bench.suites import cold

TITLE = "the engine's own cost: an operation on 8 elements, its backward, importing, the first training step"
CHAIN = 100  # operations that a measurement strings together


def cases(quick: bool) -> list[Case]:
    """Operations by mode, then what is measured in fresh processes."""
    modes = {"forward": "not recorded", "recorded": "recorded", "backward": "backward"}
    operations = {"multiply": "x * y", "number": "x * 1.01", "tanh": "tanh(x)", "matmul": "x @ y, (8, 8)"}
    chosen = ["multiply", "matmul"] if quick else list(operations)
    rows = [Case(f"{operations[o]}, {modes[m]}", {"operation": o, "mode": m}) for o in chosen for m in modes]
    return [*rows, *cold.starts(quick)]


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
