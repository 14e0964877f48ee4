"""Batch norm, forward and backward, in training mode: gradients for x, gamma and beta from a random cotangent."""

from __future__ import annotations

from math import prod
from typing import Any

from bench.case import Case, Work

TITLE = "batch norm forward + backward, float32, training mode, gradients for x, gamma and beta"
EPSILON = 1e-3

# Shapes that must be faster than every peer by half, then those that must not be slower.
_FIRST = [
    ((60, 100), -1),
    ((128, 1024), -1),
    ((8192, 1024), -1),
    ((32, 32, 32, 64), -1),
    ((32, 64, 32, 32), 1),
]
_MORE = [
    ((32, 64), -1),
    ((256, 512), -1),
    ((2048, 256), -1),
    ((8, 4096), -1),
    ((64, 14, 14, 256), -1),
    ((64, 256, 14, 14), 1),
    ((16, 512, 7, 7), 1),
    ((8, 3, 64, 64), 1),
    ((128, 32, 8, 8), 1),
]


def cases(quick: bool) -> list[Case]:
    """A row a shape."""
    chosen = [(s, c, 1.5) for s, c in _FIRST] + [(s, c, 1.0) for s, c in _MORE]
    chosen = [chosen[0], chosen[5]] if quick else chosen
    return [Case(_name(s, c), {"shape": s, "axis": c % len(s)}, faster=target) for s, c, target in chosen]


def with_minigrad(case: Case) -> Work:
    import minigrad as mg
    import minigrad_norms as norms

    shape, axis = case.data["shape"], case.data["axis"]
    axes = tuple(a for a in range(len(shape)) if a != axis)
    arrays = _arrays(case)
    x, gamma, beta = (mg.tensor(a, requires_grad=True) for a in arrays[:3])
    ct = mg.tensor(arrays[3])

    def run() -> Any:
        x.grad = gamma.grad = beta.grad = None
        y, _, _ = norms.standardize(x, gamma, beta, axes=axes, parameter_axes=(axis,), epsilon=EPSILON)
        y.backward(ct)
        return y

    def check() -> list[float]:
        import numpy as np

        return _digest([run().numpy(), *(np.asarray(t.grad) for t in (x, gamma, beta))], axis)

    return Work(run, check=check, columns={"kernels": Work(_kernels(arrays, axes, axis))})


def _kernels(arrays: list, axes: tuple[int, ...], axis: int) -> Any:
    """The two kernels by themselves, on buffers that are there already."""
    import numpy as np

    from minigrad_norms.kernels import form as forms
    from minigrad_norms.kernels import standardize_cpu as kernels

    x, gamma, beta, ct = arrays
    table = forms.affine(x.shape, axes, (axis,))
    plan = kernels.plan_for(forms.canonical(x.shape, axes), table, table)
    mean, var, work = np.empty(x.shape[axis]), np.empty(x.shape[axis]), np.empty(plan.workspace)
    y, dx, dgamma, dbeta = (np.empty_like(a) for a in (x, x, gamma, beta))

    def run() -> None:
        kernels.forward(y, mean, var, work, x, gamma, beta, plan, EPSILON)
        kernels.backward(dx, dgamma, dbeta, work, ct, x, mean, var, gamma, plan, EPSILON, None, None)

    return run


def with_torch(case: Case) -> Work:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(_threads())
    channels_last = len(case.data["shape"]) == 4 and case.data["axis"] == 3
    x, gamma, beta, ct = (torch.from_numpy(a) for a in _arrays(case))
    if channels_last:  # torch's view of NHWC memory
        x, ct = x.permute(0, 3, 1, 2), ct.permute(0, 3, 1, 2)
    for t in (x, gamma, beta):
        t.requires_grad_()

    def run() -> Any:
        y = F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPSILON)
        return y, *torch.autograd.grad(y, (x, gamma, beta), ct)

    def check() -> list[float]:
        return _digest([t.detach().numpy() for t in run()], 1)

    return Work(run, check=check)


def with_jax(case: Case) -> Work:
    import jax
    import jax.numpy as jnp

    axis, shape = case.data["axis"], case.data["shape"]
    axes = tuple(a for a in range(len(shape)) if a != axis)
    broadcast = tuple(-1 if a == axis else 1 for a in range(len(shape)))
    arrays = [jax.device_put(a) for a in _arrays(case)]

    def formula(x: Any, gamma: Any, beta: Any) -> Any:
        mean = jnp.mean(x, axes, keepdims=True)
        centred = x - mean
        var = jnp.mean(centred * centred, axes, keepdims=True)
        return centred * (jax.lax.rsqrt(var + EPSILON) * gamma.reshape(broadcast)) + beta.reshape(broadcast)

    @jax.jit
    def step(x: Any, gamma: Any, beta: Any, ct: Any) -> Any:
        y, pull = jax.vjp(formula, x, gamma, beta)
        return y, *pull(ct)

    def run() -> Any:
        return jax.block_until_ready(step(*arrays))

    def check() -> list[float]:
        import numpy as np

        return _digest([np.asarray(a) for a in run()], axis)

    return Work(run, check=check)


def _arrays(case: Case) -> list:
    """x, gamma, beta and the cotangent: the same for every peer."""
    import numpy as np

    rng = np.random.default_rng(prod(case.data["shape"]))
    shape, channels = case.data["shape"], case.data["shape"][case.data["axis"]]
    x, ct = (rng.standard_normal(shape, np.float32) for _ in range(2))
    gamma, beta = (rng.standard_normal(channels, np.float32) for _ in range(2))
    return [2 * x + 1, gamma, beta, ct]


def _digest(arrays: list, axis: int) -> list[float]:
    """A few numbers that are wrong if the arrays are: each channel's mean square, and some of the gradients."""
    import numpy as np

    y, dx, dgamma, dbeta = arrays
    axes = tuple(a for a in range(y.ndim) if a != axis)
    squares = [np.mean(np.square(a, dtype=np.float64), axes)[:4] for a in (y, dx)]
    scale = np.sqrt(y.size / y.shape[axis])
    return [float(v) for v in np.concatenate([*squares, dgamma[:4] / scale, dbeta[:4] / scale])]


def _name(shape: tuple[int, ...], axis: int) -> str:
    layout = {(2, -1): "", (4, -1): " NHWC", (4, 1): " NCHW"}[len(shape), axis]
    return f"({', '.join(map(str, shape))}){layout}"


def _threads() -> int:
    import os

    return int(os.environ["OMP_NUM_THREADS"])
