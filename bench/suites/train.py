"""A whole training step: forward, softmax cross-entropy, backward, SGD; input -> (dense -> norm -> relu) x 10 -> 10."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from bench.case import Case, Work

TITLE = "training step of a 10-layer network: forward, cross-entropy, backward, SGD; torch eager, jax.jit"
FEATURES, CLASSES, LAYERS = 784, 10, 10
RATE, EPSILON, MOMENTUM = 0.01, 1e-3, 0.99


def cases(quick: bool) -> list[Case]:
    """Rows by width, batch size and whether there is batch norm."""
    rows = [
        Case("width 100, batch 60, batch norm", {"width": 100, "batch": 60, "norm": True}, faster=1.0, against="torch"),
        Case("width 100, batch 60, no norm", {"width": 100, "batch": 60, "norm": False}),
        Case("width 512, batch 128, batch norm", {"width": 512, "batch": 128, "norm": True}),
        Case("width 512, batch 128, no norm", {"width": 512, "batch": 128, "norm": False}),
    ]
    return rows[:1] if quick else rows


def with_minigrad(case: Case) -> Work:
    step = minigrad_step(**case.data)
    return Work(step, check=_losses(minigrad_step(**case.data)))


def with_torch(case: Case) -> Work:
    step = torch_step(**case.data)
    return Work(step, check=_losses(torch_step(**case.data)))


def with_jax(case: Case) -> Work:
    step = jax_step(**case.data)
    return Work(step, check=_losses(jax_step(**case.data)))


def minigrad_step(width: int = 100, batch: int = 60, norm: bool = True) -> Callable[[], float]:
    """A function that takes one step and returns the loss before it."""
    import minigrad as mg
    import minigrad_norms as norms
    from minigrad import nn

    x, y = _data(batch)
    kernels = _kernels(width)
    layers: list[Any] = []
    for _ in range(LAYERS):
        layers += [nn.Dense(width, use_bias=not norm)]
        layers += [norms.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)] if norm else []
        layers += [nn.Activation("relu")]
    model = nn.Sequential([*layers, nn.Dense(CLASSES)])
    model(mg.tensor(x[:2]))  # makes the Variables
    for layer, kernel in zip([item for item in model.items if isinstance(item, nn.Dense)], kernels):
        layer.kernel.assign(mg.tensor(kernel))
    variables = model.trainable_variables
    optimizer = mg.optim.SGD(RATE)

    def step() -> float:
        loss = nn.losses.softmax_cross_entropy(model(mg.Tensor(x), True), mg.Tensor(y))
        loss.backward()
        optimizer.step(variables)
        return loss.item()

    return step


def torch_step(width: int = 100, batch: int = 60, norm: bool = True) -> Callable[[], float]:
    """As `minigrad_step`, in torch's usual words."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    x, y = (torch.from_numpy(a) for a in _data(batch))
    kernels = _kernels(width)
    layers: list[Any] = []
    for i in range(LAYERS):
        layers += [nn.Linear(width if i else FEATURES, width, bias=not norm)]
        layers += [nn.BatchNorm1d(width, eps=EPSILON, momentum=1 - MOMENTUM)] if norm else []
        layers += [nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, CLASSES))
    with torch.no_grad():
        for layer, kernel in zip([m for m in model if isinstance(m, nn.Linear)], kernels):
            layer.weight.copy_(torch.from_numpy(kernel).T)
            if layer.bias is not None:
                layer.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    criterion = nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(width: int = 100, batch: int = 60, norm: bool = True) -> Callable[[], float]:
    """As `minigrad_step`, with the whole step in one jit."""
    import jax
    import jax.numpy as jnp

    x, y = (jax.device_put(a) for a in _data(batch))
    parameters = [{"kernel": jnp.asarray(k), "shift": jnp.zeros(k.shape[1])} for k in _kernels(width)]
    statistics = [(jnp.zeros(width), jnp.ones(width)) for _ in range(LAYERS)] if norm else []
    if norm:
        for layer in parameters[:-1]:
            layer["scale"] = jnp.ones(width)

    def loss_of(parameters: list, statistics: list) -> tuple[Any, list]:
        h, moved = x, []
        for i, layer in enumerate(parameters[:-1]):
            h = h @ layer["kernel"]
            if norm:
                mean = jnp.mean(h, 0)
                var = jnp.mean(jnp.square(h - mean), 0)
                h = (h - mean) * (jax.lax.rsqrt(var + EPSILON) * layer["scale"])
                old_mean, old_var = statistics[i]
                keep = MOMENTUM
                moved.append((keep * old_mean + (1 - keep) * mean, keep * old_var + (1 - keep) * var))
            h = jax.nn.relu(h + layer["shift"])
        logits = h @ parameters[-1]["kernel"] + parameters[-1]["shift"]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -jnp.mean(picked), moved

    def change(parameters: list, statistics: list) -> tuple[list, list, Any]:
        (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters, statistics)
        return jax.tree.map(lambda p, g: p - RATE * g, parameters, gradients), moved, loss

    compiled = jax.jit(change, donate_argnums=(0, 1))
    state: list[Any] = [parameters, statistics]

    def step() -> float:
        state[0], state[1], loss = compiled(*state)
        return float(jax.block_until_ready(loss))

    return step


def _losses(step: Callable[[], float]) -> Callable[[], list[float]]:
    """The losses of the first steps, which agree only if the gradients do."""
    return lambda: [step() for _ in range(3)]


def _data(batch: int) -> tuple:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.random((batch, FEATURES), np.float32), rng.integers(0, CLASSES, batch)


def _kernels(width: int) -> list:
    import numpy as np

    rng = np.random.default_rng(1)
    sizes = [FEATURES, *[width] * LAYERS, CLASSES]
    return [(rng.standard_normal((n, m)) * np.sqrt(2 / n)).astype(np.float32) for n, m in pairwise(sizes)]
