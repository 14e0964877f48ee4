"""What a call of a primitive needs, worked out once for inputs of given shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu, cuda
from minigrad.devices.cpu_loops import Loop
from minigrad.devices.cuda.programs import Repeated
from minigrad.devices.pool import SMALLEST
from minigrad.rules import Abstract


class Kernel(NamedTuple):
    """A device's kernel as it was registered."""

    function: Callable
    returns: bool  # its outputs, rather than fill what it is given
    planned: bool  # made anew for inputs of given shapes and dtypes


class Plan:
    """A call with inputs of known shapes and dtypes.

    Attributes:
        kernel: what computes the outputs.
        planned: whether it was made for this plan, and is not told the params.
        returns: whether it returns the outputs, rather than fill buffers.
        buffers: for each output and workspace its shape and dtype, and what makes the array.
        outputs: how many of the buffers are outputs.
        single: whether the kernel gets one buffer, and not a tuple.
        shapes: of the inputs, None for an absent one.
        differentiable: for each output, whether gradients can flow to it.
        recorded: whether they can to any.
    """

    __slots__ = (
        "buffers", "differentiable", "kernel", "outputs", "planned", "recorded", "returns", "shapes", "single",
    )  # fmt: skip

    def __init__(
        self,
        specs: Sequence[Abstract],
        workspaces: Sequence[Abstract],
        inputs: Sequence[Abstract | None],
        params: dict[str, Any],
        rule: Kernel,
        frozen: Sequence[int] = (),
        gpu: int | None = None,
    ):
        self.buffers = [(a.shape, a.dtype, _allocator(a, gpu)) for a in (*specs, *workspaces)]
        self.outputs = len(specs)
        self.single = len(self.buffers) == 1 and not rule.returns
        self.shapes = tuple(None if a is None else a.shape for a in inputs)
        self.differentiable = tuple(dtypes.is_differentiable(a.dtype) and i not in frozen for i, a in enumerate(specs))
        self.recorded = any(self.differentiable)
        self.returns = rule.returns
        self.planned = rule.planned
        self.kernel = rule.function
        if rule.planned:
            self.kernel = rule.function(*inputs, **params)
        elif gpu is not None and not rule.returns:
            self.kernel = Repeated(rule.function, gpu)
        elif isinstance(rule.function, Loop):
            self.kernel = rule.function.filling(specs[0], inputs)


def _allocator(a: Abstract, gpu: int | None) -> Callable:
    """What makes a buffer."""
    if gpu is not None:
        return partial(cuda.empty, device=gpu)
    return np.empty if a.size * a.dtype.itemsize < SMALLEST else cpu.empty
