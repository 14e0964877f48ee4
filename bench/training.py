"""The training benchmark's networks: what they are made of, the numbers they start from, and the peers' steps."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

CLASSES, LAYERS = 10, 10
EPSILON, MOMENTUM = 1e-3, 0.99
RATES = {"sgd": 0.01, "adam": 0.001}
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-7


class Stage(NamedTuple):
    """One stage: ``dense`` with a kernel (inputs, outputs), ``conv`` with (k, k, inputs, outputs), ``norm`` of so many
    channels, ``relu``, 2×2 max ``pool``, ``flatten`` of (height, width, channels)."""

    kind: str
    shape: tuple[int, ...] = ()
    norm: str = ""
    bias: bool = True


class Network(NamedTuple):
    """A network: its stages, the shape of a sample, the optimizer, and whether kernels are normed."""

    stages: list[Stage]
    sample: tuple[int, ...]
    optimizer: str
    weight_norm: bool = False


def mlp(width: int = 100, norm: bool = True) -> Network:
    """784 → (dense → batch norm → relu) x 10 → 10, by SGD."""
    stages, inputs = [], 784
    for _ in range(LAYERS):
        stages.append(Stage("dense", (inputs, width), bias=not norm))
        stages += [Stage("norm", (width,), "batch")] if norm else []
        stages.append(Stage("relu"))
        inputs = width
    return Network([*stages, Stage("dense", (width, CLASSES))], (784,), "sgd")


def mnist(norm: str) -> Network:
    """28×28 → 10 convolutions of 3×3 → norm → 128 → 10, by Adam."""
    stages = [Stage("conv", (3, 3, 1, 10)), Stage("norm", (10,), norm), Stage("flatten", (26, 26, 10))]
    stages += [Stage("dense", (6760, 128)), Stage("relu"), Stage("dense", (128, CLASSES))]
    return Network(stages, (28, 28, 1), "adam")


def lenet(weight_norm: bool) -> Network:
    """32×32×3 → 6 and 16 convolutions of 5×5 with pools → 120 → 84 → 10, by Adam."""
    stages = []
    for channels, outputs in ((3, 6), (6, 16)):
        stages += [Stage("conv", (5, 5, channels, outputs)), Stage("relu"), Stage("pool")]
    stages += [Stage("flatten", (5, 5, 16)), Stage("dense", (400, 120)), Stage("relu")]
    stages += [Stage("dense", (120, 84)), Stage("relu"), Stage("dense", (84, CLASSES))]
    return Network(stages, (32, 32, 3), "adam", weight_norm)


def data(network: Network, batch: int) -> tuple:
    """Samples and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.random((batch, *network.sample), np.float32), rng.integers(0, CLASSES, batch)


def kernels(network: Network) -> list:
    """The first kernels of the dense and convolutional stages."""
    import numpy as np

    rng = np.random.default_rng(1)
    shapes = [s.shape for s in network.stages if s.kind in ("dense", "conv")]
    return [(rng.standard_normal(n) * np.sqrt(2 / prod(n[:-1]))).astype(np.float32) for n in shapes]


def torch_step(network: Network, batch: int, compiled: bool = False, device: str = "cpu") -> Callable[[], float]:
    """A step in torch's usual words, images channels first."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    x, y = (torch.from_numpy(a).to(device) for a in data(network, batch))
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
    model = _torch_model(network).to(device)
    criterion = torch.nn.CrossEntropyLoss()
    rate = RATES[network.optimizer]
    if network.optimizer == "sgd":
        optimizer: Any = torch.optim.SGD(model.parameters(), rate)
    else:
        optimizer = torch.optim.Adam(model.parameters(), rate, (BETA1, BETA2), ADAM_EPSILON)

    def loss_of() -> Any:
        return criterion(model(x), y)

    if compiled:  # on a GPU with CUDA graphs
        loss_of = torch.compile(loss_of, mode="default" if device == "cpu" else "reduce-overhead")

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _torch_model(network: Network) -> Any:
    import torch
    from torch import nn

    class ChannelNorm(nn.LayerNorm):
        """Layer norm over the channels of images."""

        def forward(self, x: Any) -> Any:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    norms = {
        "batch": lambda n: nn.BatchNorm1d(n, eps=EPSILON, momentum=1 - MOMENTUM),
        "group": lambda n: nn.GroupNorm(n // 2, n, eps=EPSILON),
        "layer": lambda n: ChannelNorm(n, eps=EPSILON),
        "instance": lambda n: nn.InstanceNorm2d(n, eps=EPSILON, affine=True),
    }
    values, modules, flattened = iter(kernels(network)), [], None
    for stage in network.stages:
        if stage.kind in ("dense", "conv"):
            w = torch.from_numpy(next(values))
            if stage.kind == "conv":
                k, _, inputs, outputs = stage.shape
                layer: Any = nn.Conv2d(inputs, outputs, k, bias=stage.bias)
                w = w.permute(3, 2, 0, 1)
            else:
                layer = nn.Linear(*stage.shape, bias=stage.bias)
                if flattened:  # the rows in the order of channels first
                    w = w.reshape(*flattened, -1).permute(2, 0, 1, 3).reshape(w.shape)
                    flattened = None
                w = w.T
            with torch.no_grad():
                layer.weight.copy_(w)
                if stage.bias:
                    layer.bias.zero_()
            modules.append(nn.utils.parametrizations.weight_norm(layer) if network.weight_norm else layer)
        elif stage.kind == "norm":
            modules.append(norms[stage.norm](*stage.shape))
        elif stage.kind == "flatten":
            flattened = stage.shape
            modules.append(nn.Flatten())
        else:
            modules.append(nn.ReLU() if stage.kind == "relu" else nn.MaxPool2d(2))
    return nn.Sequential(*modules)


def jax_step(network: Network, batch: int) -> Callable[[], float]:
    """A step in one jit, images channels last."""
    import jax
    import jax.numpy as jnp

    x, y = (jax.device_put(a) for a in data(network, batch))
    parameters = _jax_parameters(network)
    statistics = [(jnp.zeros(s.shape), jnp.ones(s.shape)) for s in network.stages if s.norm == "batch"]

    def loss_of(parameters: list, statistics: list) -> tuple[Any, list]:
        h, moved = x, []
        before = iter(statistics)
        for stage, p in zip(network.stages, parameters):
            if stage.norm == "batch":
                h, found = _jax_batch_norm(h, p, next(before))
                moved.append(found)
            else:
                h = _jax_apply(stage, p, h)
        picked = jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1)
        return -jnp.mean(picked), moved

    rate = RATES[network.optimizer]

    def change(parameters: list, statistics: list, slots: Any) -> tuple:
        (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters, statistics)
        if network.optimizer == "sgd":
            return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), moved, slots, loss
        t, m, v = slots
        t = t + 1
        m = jax.tree.map(lambda a, g: BETA1 * a + (1 - BETA1) * g, m, gradients)
        v = jax.tree.map(lambda a, g: BETA2 * a + (1 - BETA2) * g * g, v, gradients)
        # Epsilon beside the debiased root, as torch and minigrad have it: many gradients are as small as it is.
        scale, root = rate / (1 - BETA1**t), jnp.sqrt(1 - BETA2**t)
        parameters = jax.tree.map(lambda p, a, b: p - scale * a / (jnp.sqrt(b) / root + ADAM_EPSILON), parameters, m, v)
        return parameters, moved, (t, m, v), loss

    compiled = jax.jit(change, donate_argnums=(0, 1, 2))
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)] if network.optimizer == "adam" else []
    state: list[Any] = [parameters, statistics, (jnp.zeros(()), *zeros)]

    def step() -> float:
        *state[:], loss = compiled(*state)
        return float(jax.block_until_ready(loss))

    return step


def _jax_parameters(network: Network) -> list[dict]:
    import jax.numpy as jnp

    values, parameters = iter(kernels(network)), []
    for stage in network.stages:
        p = {}
        if stage.kind in ("dense", "conv"):
            p["kernel"] = jnp.asarray(next(values))
            if network.weight_norm:
                p["length"] = jnp.sqrt(jnp.sum(p["kernel"] ** 2, tuple(range(len(stage.shape) - 1))))
            if stage.bias:
                p["bias"] = jnp.zeros(stage.shape[-1])
        elif stage.kind == "norm":
            p = {"scale": jnp.ones(stage.shape), "shift": jnp.zeros(stage.shape)}
        parameters.append(p)
    return parameters


def _jax_batch_norm(h: Any, p: dict, before: tuple) -> tuple[Any, tuple]:
    import jax
    import jax.numpy as jnp

    mean = jnp.mean(h, 0)
    var = jnp.mean(jnp.square(h - mean), 0)
    y = (h - mean) * (jax.lax.rsqrt(var + EPSILON) * p["scale"]) + p["shift"]
    return y, tuple(MOMENTUM * old + (1 - MOMENTUM) * new for old, new in zip(before, (mean, var)))


def _jax_apply(stage: Stage, p: dict, h: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if stage.kind == "relu":
        return jax.nn.relu(h)
    if stage.kind == "pool":
        return jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    if stage.kind == "flatten":
        return h.reshape(h.shape[0], -1)
    if stage.kind == "norm":
        n, height, width, c = h.shape
        axes = {"group": (1, 2, 4), "layer": (3, 4), "instance": (1, 2)}[stage.norm]
        t = h.reshape(n, height, width, c // 2, 2) if stage.norm == "group" else h[..., None]
        mean = jnp.mean(t, axes, keepdims=True)
        var = jnp.mean(jnp.square(t - mean), axes, keepdims=True)
        return ((t - mean) * jax.lax.rsqrt(var + EPSILON)).reshape(h.shape) * p["scale"] + p["shift"]
    kernel = p["kernel"]
    if "length" in p:
        square = jnp.sum(jnp.square(kernel), tuple(range(kernel.ndim - 1)))
        kernel = kernel * (p["length"] * jax.lax.rsqrt(square))
    if stage.kind == "conv":
        h = jax.lax.conv_general_dilated(h, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    else:
        h = h @ kernel
    return h + p["bias"] if stage.bias else h
