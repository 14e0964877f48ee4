"""What dialects with a graph share: gradients by one walk back over the engine's tape, and where the user's code is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import Tensor, tape
from minigrad.ops.cast import identity_p
from minigrad.tensor import Leaf


def tracked(x: Tensor) -> Tensor:
    """x as a tensor of its own on the tape, to take gradients by."""
    fresh = identity_p(x)
    if fresh._node is None:
        fresh = Tensor(fresh._data, Leaf(fresh.shape, fresh.dtype), 0, fresh._version)
    return fresh


def gradients(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    *,
    create_graph: bool,
    retain_graph: bool,
) -> list[Tensor]:
    """The gradients of all outputs, each times its cotangent (None is 1), by tensors that are on the tape."""
    seeds = [
        Tensor(np.ones(y.shape, y.dtype)) if ct is None else ct.astype(y.dtype).broadcast_to(y.shape)
        for y, ct in zip(outputs, cotangents)
    ]
    # A walk ends at the tensors that it is taken by, so one that lies behind another needs a walk of its own.
    leaves = [i for i, x in enumerate(inputs) if isinstance(x._node, Leaf)]
    groups = [group for group in (leaves, *([i] for i in range(len(inputs)) if i not in leaves)) if group]
    found: list[Tensor | None] = [None] * len(inputs)
    for n, group in enumerate(groups):
        keep = retain_graph or n + 1 < len(groups)
        wrt = [inputs[i] for i in group]
        results = tape.backward(outputs, seeds, wrt, retain_graph=keep, create_graph=create_graph)
        for i, g in zip(group, results):
            found[i] = g
    return [Tensor(np.zeros(x.shape, x.dtype)) if g is None else g for g, x in zip(found, inputs)]


def user_line(package: str) -> str:
    """Where the user's code stands: the nearest frame outside of this package, as ``file:line``."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
