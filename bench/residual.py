"""A network of any depth whose values stay in range: x + relu(x·W + b), time and again; its step in each library."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

CLASSES, RATE = 10, 0.01


class Size(NamedTuple):
    """How deep and wide the network is, and how many samples a batch has."""

    depth: int = 10
    width: int = 64
    batch: int = 32


def numbers(size: Size) -> tuple:
    """Samples, labels, the blocks' kernels, and the last kernel."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((size.batch, size.width), np.float32)
    y = rng.integers(0, CLASSES, size.batch)
    scale = np.float32((2 / size.width) ** 0.5)
    blocks = rng.standard_normal((size.depth, size.width, size.width), np.float32) * (scale / size.depth)
    return x, y, blocks, rng.standard_normal((size.width, CLASSES), np.float32) * scale


def minigrad_step(size: Size, jit: bool = True) -> Callable[[], float]:
    """A step of minigrad, by jit or eager."""
    import minigrad as mg
    from minigrad import nn

    class Block(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Dense(size.width, activation="relu")

        def call(self, x: Any, training: bool) -> Any:
            return x + self.dense(x, training)

    x, y, blocks, last = numbers(size)
    model = nn.Sequential([*[Block() for _ in range(size.depth)], nn.Dense(CLASSES)])
    model(mg.tensor(x[:1]))
    for layer, kernel in zip(model.items, blocks):
        layer.dense.kernel.assign(mg.tensor(kernel))
    model.items[-1].kernel.assign(mg.tensor(last))
    variables, optimizer = model.trainable_variables, mg.optim.SGD(RATE)
    optimizer.build(variables)

    def update(x: Any, y: Any) -> Any:
        loss = nn.losses.softmax_cross_entropy(model(x, True), y)
        loss.backward()
        optimizer.step(variables)
        return loss

    function, given = mg.jit(update) if jit else update, (mg.tensor(x), mg.tensor(y))
    return lambda: function(*given).item()


def torch_step(size: Size) -> Callable[[], float]:
    """A step of torch, eager."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

    class Block(nn.Module):
        def __init__(self, kernel: Any):
            super().__init__()
            self.dense = _linear(kernel)

        def forward(self, x: Any) -> Any:
            return x + torch.relu(self.dense(x))

    def _linear(kernel: Any) -> Any:
        layer = nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel).T)
            layer.bias.zero_()
        return layer

    x, y, blocks, last = numbers(size)
    model = nn.Sequential(*[Block(kernel) for kernel in blocks], _linear(last))
    optimizer, criterion = torch.optim.SGD(model.parameters(), RATE), nn.CrossEntropyLoss()
    given = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(given[0]), given[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(size: Size) -> Callable[[], float]:
    """A step of jax in one jit; the blocks are scanned, as compiling a thousand one by one would take minutes."""
    import jax
    import jax.numpy as jnp

    x, y, blocks, last = map(jnp.asarray, numbers(size))
    zeros = jnp.zeros((size.depth, size.width)), jnp.zeros(CLASSES)
    state: list[Any] = [(blocks, zeros[0], last, zeros[1])]

    def loss_of(parameters: tuple) -> Any:
        kernels, biases, kernel, bias = parameters
        h, _ = jax.lax.scan(lambda h, p: (h + jax.nn.relu(h @ p[0] + p[1]), None), x, (kernels, biases))
        picked = jnp.take_along_axis(jax.nn.log_softmax(h @ kernel + bias), y[:, None], 1)
        return -jnp.mean(picked)

    def change(parameters: tuple) -> tuple:
        loss, gradients = jax.value_and_grad(loss_of)(parameters)
        return jax.tree.map(lambda p, g: p - RATE * g, parameters, gradients), loss

    compiled = jax.jit(change, donate_argnums=0)

    def step() -> float:
        state[0], loss = compiled(state[0])
        return float(jax.block_until_ready(loss))

    return step


def step_of(peer: str, size: Size) -> Callable[[], float]:
    """A peer's step."""
    return {"minigrad": minigrad_step, "torch": torch_step, "jax": jax_step}[peer](size)


def losses(step: Callable[[], float], steps: int = 3) -> list[float]:
    """Of the first steps: what peers must agree on."""
    return [step() for _ in range(steps)]
