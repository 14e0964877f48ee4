"""Convolutions and pools, forward and backward: gradients for kernel and images from a random cotangent."""

from __future__ import annotations

from math import prod
from typing import Any

from bench.case import Case, Work

TITLE = "convolution and pooling forward + backward, float32; no gradient for images of 1 or 3 channels, the network's"
BATCH = 32

# Pixels, channels, outputs, kernel, padding, strides.
_CONVOLUTIONS = [
    (28, 1, 10, 3, "VALID", 1),
    (28, 1, 32, 3, "VALID", 1),
    (28, 1, 32, 5, "VALID", 1),
    (32, 3, 32, 3, "VALID", 1),
    (32, 3, 32, 5, "VALID", 1),
    (26, 10, 20, 3, "VALID", 1),
    (26, 32, 32, 3, "VALID", 1),
    (32, 32, 32, 3, "SAME", 1),
    (14, 32, 64, 3, "VALID", 1),
    (14, 32, 64, 5, "VALID", 1),
    (14, 64, 64, 3, "VALID", 1),
    (14, 64, 64, 1, "VALID", 1),
    (32, 32, 64, 3, "SAME", 2),
]
_FIRST = [(28, 1, 32, 3, "VALID", 1), (26, 10, 20, 3, "VALID", 1), (14, 64, 64, 3, "VALID", 1)]
_POOLS = [(26, 10), (24, 32), (28, 32), (10, 64)]


def cases(quick: bool) -> list[Case]:
    """A row a shape, layout and operation."""
    rows = [_convolution("NHWC", *c) for c in _CONVOLUTIONS] + [_convolution("NCHW", *c) for c in _FIRST]
    rows += [_pool(kind, n, c) for kind in ("max", "mean") for n, c in _POOLS]
    return [rows[1], rows[5], rows[-8]] if quick else rows


def _convolution(layout: str, n: int, c: int, out: int, k: int, padding: str, stride: int) -> Case:
    name = f"{k}x{k} {c} to {out}, {n}x{n}{'' if padding == 'VALID' else ' ' + padding}"
    name += f"{'' if stride == 1 else f' stride {stride}'} {layout}"
    data = {"kind": "convolution", "layout": layout, "x": (BATCH, n, n, c), "kernel": (k, k, c, out)}
    return Case(name, {**data, "padding": padding, "stride": stride, "first": c <= 3}, faster=1.0)


def _pool(kind: str, n: int, c: int) -> Case:
    data = {"kind": kind, "layout": "NHWC", "x": (BATCH, n, n, c)}
    return Case(f"{kind} pool 2x2, {n}x{n}x{c} NHWC", data, faster=1.0)


def with_minigrad(case: Case) -> Work:
    import minigrad as mg

    data = case.data
    arrays = _arrays(case)
    first = data.get("first", False)
    x, ct = mg.tensor(arrays[0], requires_grad=not first), mg.tensor(arrays[1])
    kernel = mg.tensor(arrays[2], requires_grad=True) if len(arrays) > 2 else None

    leaves = [t for t in (x, kernel) if t is not None and t.requires_grad]

    def run() -> Any:
        for t in leaves:
            t.grad = None
        if kernel is None:
            y = (mg.max_pool2d if data["kind"] == "max" else mg.avg_pool2d)(x)
        else:
            y = mg.conv2d(x, kernel, data["stride"], data["padding"], data_format=data["layout"])
        y.backward(ct)
        return y

    def check() -> list[float]:
        y = run().numpy()
        return _digest([y, *[t.grad.numpy() for t in leaves]], case)

    columns = {} if kernel is None else {"forward": Work(_forward(x, kernel, data))}
    return Work(run, check=check, columns=columns)


def _forward(x: Any, kernel: Any, data: dict) -> Any:
    import minigrad as mg

    def run() -> Any:
        with mg.no_grad():
            return mg.conv2d(x, kernel, data["stride"], data["padding"], data_format=data["layout"])

    return run


def with_torch(case: Case) -> Work:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(_threads())
    data = case.data
    arrays = _arrays(case)
    x, ct = (_as_torch(a, data["layout"]) for a in arrays[:2])
    kernel = None
    if len(arrays) > 2:
        kernel = torch.from_numpy(arrays[2]).permute(3, 2, 0, 1).contiguous()
        if data["layout"] == "NHWC":
            kernel = kernel.to(memory_format=torch.channels_last)
        kernel.requires_grad_()
    if not data.get("first", False):
        x.requires_grad_()
    wanted = [t for t in (x, kernel) if t is not None and t.requires_grad]
    same = data.get("padding") == "SAME"
    pads = [0, 0] if not same else [_same_pad(n, k, data["stride"]) for n, k in zip(data["x"][1:], data["kernel"])]
    even = all(before == after for before, after in (pads if same else [])) or not same

    def forward() -> Any:
        if data["kind"] == "max":
            return F.max_pool2d(x, 2)
        if data["kind"] == "mean":
            return F.avg_pool2d(x, 2)
        if even:
            return F.conv2d(x, kernel, stride=data["stride"], padding=[p[0] for p in pads] if same else 0)
        padded = F.pad(x, (*pads[1], *pads[0]))
        return F.conv2d(padded, kernel, stride=data["stride"])

    def run() -> Any:
        y = forward()
        return y, *torch.autograd.grad(y, wanted, ct)

    def no_grad() -> Any:
        with torch.no_grad():
            return forward()

    def check() -> list[float]:
        found = [t.detach() for t in run()]
        if kernel is not None:
            found[-1] = found[-1].permute(2, 3, 1, 0)
        back = data["layout"] == "NHWC"
        images = found if kernel is None else found[:-1]
        moved = [t.permute(0, 2, 3, 1) if back else t for t in images]
        return _digest([t.numpy() for t in [*moved, *found[len(images) :]]], case)

    return Work(run, check=check, columns={} if kernel is None else {"forward": Work(no_grad)})


def with_jax(case: Case) -> Work:
    import jax
    import jax.numpy as jnp

    data = case.data
    arrays = [jax.device_put(a) for a in _arrays(case)]
    axes = (data["layout"], "HWIO", data["layout"])

    def convolution(x: Any, kernel: Any) -> Any:
        strides = (data["stride"],) * 2
        return jax.lax.conv_general_dilated(x, kernel, strides, data["padding"], dimension_numbers=axes)

    def pool(x: Any) -> Any:
        window = (1, 2, 2, 1)
        if data["kind"] == "max":
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 4

    @jax.jit
    def step(x: Any, ct: Any, *kernel: Any) -> Any:
        if not kernel:
            y, pull = jax.vjp(pool, x)
        elif data["first"]:
            y, pull = jax.vjp(lambda k: convolution(x, k), *kernel)
        else:
            y, pull = jax.vjp(convolution, x, *kernel)
        return y, *pull(ct)

    def run() -> Any:
        return jax.block_until_ready(step(*arrays))

    def check() -> list[float]:
        import numpy as np

        return _digest([np.asarray(a) for a in run()], case)

    return Work(run, check=check)


def _arrays(case: Case) -> list:
    """x, the cotangent, and the kernel if there is one: the same for every peer."""
    import numpy as np

    data = case.data
    n, h, w, c = data["x"]
    rng = np.random.default_rng(prod(data["x"]))
    if data["kind"] != "convolution":
        return [rng.standard_normal((n, h, w, c), np.float32), rng.standard_normal((n, h // 2, w // 2, c), np.float32)]
    k, stride = data["kernel"][0], data["stride"]
    rows, columns = (-(-m // stride) if data["padding"] == "SAME" else (m - k) // stride + 1 for m in (h, w))
    kernel = rng.standard_normal(data["kernel"], np.float32) / np.float32(np.sqrt(k * k * c))
    arrays = [rng.standard_normal((n, h, w, c), np.float32)]
    arrays.append(rng.standard_normal((n, rows, columns, data["kernel"][3]), np.float32))
    if data["layout"] == "NCHW":
        arrays = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in arrays]
    return [*arrays, kernel]


def _as_torch(a: Any, layout: str) -> Any:
    import torch

    return torch.from_numpy(a).permute(0, 3, 1, 2) if layout == "NHWC" else torch.from_numpy(a)


def _same_pad(n: int, k: int, stride: int) -> tuple[int, int]:
    total = max((-(-n // stride) - 1) * stride + k - n, 0)
    return total // 2, total - total // 2


def _digest(arrays: list, case: Case) -> list[float]:
    """A few numbers that are wrong if the arrays are: sums with weights that tell places apart."""
    import numpy as np

    found = []
    for a in arrays:
        flat = np.ascontiguousarray(a, np.float64).reshape(-1)
        weights = np.cos(np.arange(flat.size) * 0.1)
        found += [np.mean(flat * flat), flat @ weights / np.sqrt(flat.size * np.mean(flat * flat))]
    return [float(v) for v in found]


def _threads() -> int:
    import os

    return int(os.environ["OMP_NUM_THREADS"])
