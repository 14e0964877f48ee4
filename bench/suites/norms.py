"""Normalizations, forward and backward in training mode: gradients for x and parameters from a random cotangent."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from bench import backward
from bench.case import Case, Work
from bench.copying import share_of_copy

TITLE = "normalization forward + backward, float32, gradients for x and the parameters"
EPSILON = 1e-3
LARGE = 8 << 20  # bytes from which an array is beyond the caches, and memory is what counts

# kind, shape, channel axis, groups
_CASES = [
    ("batch", (60, 100), -1, 0),
    ("batch", (128, 1024), -1, 0),
    ("batch", (8192, 1024), -1, 0),
    ("batch", (32, 32, 32, 64), -1, 0),
    ("batch", (32, 64, 32, 32), 1, 0),
    ("layer", (64, 768), -1, 0),
    ("layer", (4096, 768), -1, 0),
    ("layer", (8192, 1024), -1, 0),
    ("rms", (8192, 1024), -1, 0),
    ("group", (32, 26, 26, 10), -1, 5),
    ("group", (32, 64, 32, 32), 1, 32),
    ("group", (32, 32, 32, 64), -1, 32),
    ("instance", (16, 64, 64, 64), 1, 64),
    ("instance", (16, 64, 64, 64), -1, 64),
    ("weight", (784, 1024), -1, 0),
    ("weight", (3, 3, 256, 256), -1, 0),
    ("batch", (32, 64), -1, 0),
    ("batch", (256, 512), -1, 0),
    ("batch", (2048, 256), -1, 0),
    ("batch", (8, 4096), -1, 0),
    ("batch", (64, 14, 14, 256), -1, 0),
    ("batch", (64, 256, 14, 14), 1, 0),
    ("batch", (16, 512, 7, 7), 1, 0),
    ("batch", (8, 3, 64, 64), 1, 0),
    ("batch", (128, 32, 8, 8), 1, 0),
]
_FIRST = 5  # of these, batch norm must be ahead by half; elsewhere it must not be behind


def cases(quick: bool) -> list[Case]:
    """A row for each kind and shape."""
    rows = []
    for i, (kind, shape, axis, groups) in enumerate(_CASES):
        data = {"kind": kind, "shape": shape, "axis": axis % len(shape), "groups": groups}
        rows.append(Case(name_of(kind, shape, axis, groups), data, faster=1.5 if i < _FIRST else 1.0))
    return [rows[0], rows[5], rows[9]] if quick else rows


def with_minigrad(case: Case) -> Work:
    arrays = arrays_of(case)

    def columns(run: Callable) -> dict[str, Work]:
        size = arrays[0].nbytes
        if size <= LARGE:
            return {}
        # Through memory go x and y, then x, dy and dx.
        return {"share of copy [%]": Work(value=lambda: share_of_copy(run, size, 5, backward.threads()))}

    return backward.with_minigrad(function_of(case), arrays, columns)


def function_of(case: Case) -> Any:
    import minigrad_norms as norms

    shape, axis, groups = case.data["shape"], case.data["axis"], case.data["groups"]
    axes = tuple(a for a in range(len(shape)) if a != axis)
    return {
        "batch": lambda x, g, b: norms.standardize(x, g, b, axes=axes, parameter_axes=axis, epsilon=EPSILON)[0],
        "layer": lambda x, g, b: norms.layer_norm(x, g, b, axis=axis, epsilon=EPSILON),
        "rms": lambda x, g: norms.rms_norm(x, g, axis=axis, epsilon=EPSILON),
        "group": lambda x, g, b: norms.group_norm(x, g, b, groups=groups, axis=axis, epsilon=EPSILON),
        "instance": lambda x, g, b: norms.instance_norm(x, g, b, axis=axis, epsilon=EPSILON),
        "weight": lambda v, g: norms.weight_norm(v, g, axis=axis),
    }[case.data["kind"]]


def with_torch(case: Case) -> Work:
    return with_torch_on(case, lambda function: function)


def with_torch_compile(case: Case) -> Work:
    import torch

    return with_torch_on(case, torch.compile)


def with_torch_on(case: Case, compiled: Any, device: str = "cpu") -> Work:
    import torch
    import torch.nn.functional as F

    axis, groups, ndim = case.data["axis"], case.data["groups"], len(case.data["shape"])
    tensors = [torch.from_numpy(a).to(device) for a in arrays_of(case)]
    last = ndim == 4 and axis == 3 and case.data["kind"] != "weight"
    if last:  # torch's view of NHWC memory
        tensors = [t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in tensors]
    function = compiled(
        {
            "batch": lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=EPSILON),
            "layer": lambda x, g, b: F.layer_norm(x, g.shape, g, b, eps=EPSILON),
            "rms": lambda x, g: F.rms_norm(x, g.shape, g, eps=EPSILON),
            "group": lambda x, g, b: F.group_norm(x, groups, g, b, eps=EPSILON),
            "instance": lambda x, g, b: F.instance_norm(x, None, None, g, b, True, eps=EPSILON),
            "weight": lambda v, g: torch._weight_norm(v, g.reshape((1,) * (ndim - 1) + (-1,)), ndim - 1),
        }[case.data["kind"]]
    )
    return backward.with_torch(function, tensors, lambda t: t.permute(0, 2, 3, 1) if last and t.ndim == 4 else t)


def with_jax(case: Case) -> Work:
    import jax
    import jax.numpy as jnp

    kind, shape, axis, groups = (case.data[k] for k in ("kind", "shape", "axis", "groups"))
    ndim = len(shape)
    cut = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]) if groups else shape
    per_sample = kind in ("group", "instance")
    reduced = {
        "batch": tuple(a for a in range(ndim) if a != axis),
        "weight": tuple(a for a in range(ndim) if a != axis),
        "layer": (axis,),
        "rms": (axis,),
    }.get(kind, tuple(a for a in range(1, len(cut)) if a != axis))
    standing = [1] * len(cut)
    for a in (axis, axis + 1) if per_sample else (axis,):
        standing[a] = cut[a]

    def formula(x: Any, gamma: Any, beta: Any = 0.0) -> Any:
        x = x.reshape(cut)
        gamma = gamma.reshape(standing)
        beta = beta if isinstance(beta, float) else beta.reshape(standing)
        if kind == "weight":
            return (x * (gamma * jax.lax.rsqrt(jnp.sum(x * x, reduced, keepdims=True)))).reshape(shape)
        centred = x if kind == "rms" else x - jnp.mean(x, reduced, keepdims=True)
        var = jnp.mean(centred * centred, reduced, keepdims=True)
        return (centred * (jax.lax.rsqrt(var + EPSILON) * gamma) + beta).reshape(shape)

    return backward.with_jax(formula, arrays_of(case))


def arrays_of(case: Case) -> list:
    """x, the parameters and the cotangent: the same for every peer."""
    import numpy as np

    rng = np.random.default_rng(prod(case.data["shape"]))
    kind, shape, channels = case.data["kind"], case.data["shape"], case.data["shape"][case.data["axis"]]
    x, ct = (rng.standard_normal(shape, np.float32) for _ in range(2))
    parameters = [rng.standard_normal(channels, np.float32) for _ in range(1 if kind in ("rms", "weight") else 2)]
    return [2 * x + 1, *parameters, ct]


def name_of(kind: str, shape: tuple[int, ...], axis: int, groups: int) -> str:
    layout = {(4, -1): " NHWC", (4, 1): " NCHW"}.get((len(shape), axis), "") if kind != "weight" else ""
    of = f" in {groups}" if kind == "group" else ""
    return f"{kind} ({', '.join(map(str, shape))}){layout}{of}"
