"""Blocks of networks, forward and backward: what stands around a normalization, a softmax or a sum, in one function."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bench import backward
from bench.case import Case, Work

TITLE = "blocks forward + backward, float32, gradients for all inputs"
EPSILON = 1e-3

# Each is written once, in the words that `_words_of_*` give it. They take x, as many others of its shape as stand
# behind the name in `_CASES`, and arrays of the shapes that follow.
_BLOCKS: dict[str, Callable] = {
    "relu(layer_norm(x) + s)": lambda o: lambda x, s, g, b: o.relu(o.layer_norm(x, g, b) + s),
    "layer_norm(x + s)": lambda o: lambda x, s, g, b: o.layer_norm(x + s, g, b),
    "relu(batch_norm(x) + s)": lambda o: lambda x, s, g, b: o.relu(o.batch_norm(x, g, b) + s),
    "softmax(x / 8 + mask)": lambda o: lambda x, mask: o.softmax(x * 0.125 + mask),
    "tanh(x) * sigmoid(y)": lambda o: lambda x, y: o.tanh(x) * o.sigmoid(y),
    "relu(x * scale + shift)": lambda o: lambda x, scale, shift: o.relu(x * scale + shift),
    "relu(x * y).sum(-1)": lambda o: lambda x, y: o.relu(x * y).sum(-1),
    "relu(x * y).max(-1)": lambda o: lambda x, y: o.max(o.relu(x * y)),
}
_CASES: list[tuple[str, tuple[int, ...], int, list[tuple[int, ...]]]] = [
    ("relu(layer_norm(x) + s)", (4096, 512), 1, [(512,), (512,)]),
    ("layer_norm(x + s)", (64, 768), 1, [(768,), (768,)]),
    ("layer_norm(x + s)", (4096, 768), 1, [(768,), (768,)]),
    ("relu(batch_norm(x) + s)", (256, 512), 1, [(512,), (512,)]),
    ("relu(batch_norm(x) + s)", (32, 32, 32, 64), 1, [(64,), (64,)]),
    ("softmax(x / 8 + mask)", (8, 8, 128, 128), 0, [(128, 128)]),
    ("tanh(x) * sigmoid(y)", (1024, 1024), 1, []),
    ("relu(x * scale + shift)", (32, 32, 32, 64), 0, [(64,), (64,)]),
    ("relu(x * y).sum(-1)", (4096, 512), 1, []),
    ("relu(x * y).max(-1)", (4096, 512), 1, []),
]


def cases(quick: bool) -> list[Case]:
    """A row for each block and shape."""
    rows = [
        Case(f"{block} {shape}", {"block": block, "shapes": [shape] * (1 + alike) + others}, faster=1.0)
        for block, shape, alike, others in _CASES
    ]
    return [rows[1]] if quick else rows


def with_minigrad(case: Case) -> Work:
    import minigrad as mg
    import minigrad_norms as norms

    def batch_norm(x: Any, gamma: Any, beta: Any) -> Any:
        return norms.standardize(
            x, gamma, beta, axes=tuple(range(x.ndim - 1)), parameter_axes=x.ndim - 1, epsilon=EPSILON
        )[0]

    words = SimpleNamespace(
        **{name: getattr(mg, name) for name in ("relu", "tanh", "sigmoid", "softmax")},
        max=lambda x: x.max(-1),
        layer_norm=lambda x, gamma, beta: norms.layer_norm(x, gamma, beta, epsilon=EPSILON),
        batch_norm=batch_norm,
    )
    return backward.with_minigrad(_BLOCKS[case.data["block"]](words), arrays_of(case))


def with_torch(case: Case) -> Work:
    import torch

    return backward.with_torch(_torch(case), [torch.from_numpy(a) for a in arrays_of(case)])


def with_torch_compile(case: Case) -> Work:
    import torch

    return backward.with_torch(torch.compile(_torch(case)), [torch.from_numpy(a) for a in arrays_of(case)])


def _torch(case: Case) -> Callable:
    import torch
    import torch.nn.functional as F

    def batch_norm(x: Any, gamma: Any, beta: Any) -> Any:
        x = x.movedim(-1, 1)
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPSILON).movedim(1, -1)

    words = SimpleNamespace(
        **{name: getattr(torch, name) for name in ("relu", "tanh", "sigmoid")},
        softmax=lambda x: torch.softmax(x, -1),
        max=lambda x: x.amax(-1),
        layer_norm=lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta, eps=EPSILON),
        batch_norm=batch_norm,
    )
    return _BLOCKS[case.data["block"]](words)


def with_jax(case: Case) -> Work:
    import jax
    import jax.numpy as jnp

    def normalized(x: Any, axes: tuple[int, ...]) -> Any:
        centred = x - jnp.mean(x, axes, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.mean(centred * centred, axes, keepdims=True) + EPSILON)

    words = SimpleNamespace(
        relu=jax.nn.relu,
        tanh=jnp.tanh,
        sigmoid=jax.nn.sigmoid,
        softmax=jax.nn.softmax,
        max=lambda x: x.max(-1),
        layer_norm=lambda x, gamma, beta: normalized(x, (-1,)) * gamma + beta,
        batch_norm=lambda x, gamma, beta: normalized(x, tuple(range(x.ndim - 1))) * gamma + beta,
    )
    return backward.with_jax(_BLOCKS[case.data["block"]](words), arrays_of(case))


def arrays_of(case: Case) -> list:
    """The inputs and the cotangent: the same for every peer."""
    import numpy as np

    shapes = case.data["shapes"]
    rng = np.random.default_rng(len(shapes))
    result = shapes[0][:-1] if case.data["block"].endswith("(-1)") else shapes[0]
    return [rng.standard_normal(shape, np.float32) for shape in [*shapes, result]]
