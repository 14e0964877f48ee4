"""A function forward and backward, as each peer does it: the result, and gradients from a cotangent that is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from bench.case import Work


def with_minigrad(
    function: Callable, arrays: Sequence, columns: Callable[[Callable], dict[str, Work]] = lambda run: {}
) -> Work:
    """Under `mg.jit`, with eager beside it. The last of the arrays is the cotangent.

    Args:
        columns: called with what is timed, gives more columns.
    """
    import minigrad as mg

    *inputs, ct = [mg.tensor(a) for a in arrays]
    leaves = [mg.tensor(a, requires_grad=True) for a in arrays[:-1]]

    @mg.jit
    def step(*given: Any) -> Any:
        y, pull = mg.vjp(function, *given[:-1])
        return y, *pull(given[-1])

    def run() -> Any:
        return step(*inputs, ct)

    def check() -> list[float]:
        return digest([t.numpy() for t in run()])

    return Work(run, check=check, columns={"eager": Work(eager(function, leaves, ct)), **columns(run)})


def eager(function: Callable, leaves: Sequence, ct: Any) -> Callable[[], Any]:
    """What runs it on minigrad's tensors as it is written, gives the result, and leaves gradients in the leaves."""

    def run() -> Any:
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(ct)
        return y

    return run


def with_torch(function: Callable, tensors: Sequence, arranged: Callable[[Any], Any] = lambda t: t) -> Work:
    """In torch. `arranged` gives a result its axes in the order that they have in NumPy."""
    import torch

    torch.set_num_threads(threads())
    *given, ct = tensors
    leaves = [t.requires_grad_() for t in given]

    def run() -> Any:
        y = function(*leaves)
        found = y, *torch.autograd.grad(y, leaves, ct)
        if ct.is_cuda:
            torch.cuda.synchronize()
        return found

    def check() -> list[float]:
        return digest([arranged(t.detach().cpu()).numpy() for t in run()])

    return Work(run, check=check)


def with_jax(function: Callable, arrays: Sequence) -> Work:
    """Under `jax.jit`."""
    import jax
    import numpy as np

    given = [jax.device_put(a) for a in arrays]

    @jax.jit
    def step(*given: Any) -> Any:
        y, pull = jax.vjp(function, *given[:-1])
        return y, *pull(given[-1])

    def run() -> Any:
        return jax.block_until_ready(step(*given))

    def check() -> list[float]:
        return digest([np.asarray(a) for a in run()])

    return Work(run, check=check)


def digest(arrays: list) -> list[float]:
    """Some elements of each array, from all over it, on the scale of 1."""
    import numpy as np

    found = []
    for i, a in enumerate(arrays):
        flat = np.ascontiguousarray(a).reshape(-1)
        scale = np.sqrt(arrays[0].size / a.size) if i > 1 else 1.0
        found += [float(v) / scale for v in flat[:: max(1, flat.size // 7)][:7]]
    return found


def threads() -> int:
    """How many threads a peer shall use."""
    return int(os.environ["OMP_NUM_THREADS"])
