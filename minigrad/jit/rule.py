"""Rules: what a call on the CPU runs, a primitive's kernel or the loop that stands for several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.jit.bind import Plain, Step, bind
from minigrad.jit.trace import Call
from minigrad.primitive import Abstract


class Rule:
    """What a call runs on the device that was recorded on: a kernel that fills, or one that returns."""

    def __init__(self, call: Call, device: str):
        primitive = call.primitive
        abstract = [None if v is None else Abstract(v.shape, v.dtype) for v in call.inputs]
        found = primitive.kernel_for(device, abstract, [Abstract(v.shape, v.dtype) for v in call.outputs])
        self.name = primitive.name
        self.returns = found.returns
        self.kernel: Callable = found.function(*abstract, **call.params) if found.planned else found.function
        self.params = {} if found.planned else call.params
        self.workspaces: list[Abstract] = [] if found.returns else list(primitive.scratch(abstract, call.params))
        self.single_target = primitive.single_target

    def steps(self, outputs: list, workspaces: list, arrays: list) -> list[Step]:
        """Steps that fill the outputs."""
        if self.returns:
            return [Plain(_returned_into, (self.kernel, tuple(outputs), arrays, self.params), {})]
        out = outputs[0] if len(outputs) == 1 and not workspaces else (*outputs, *workspaces)
        return bind(self.kernel, out, arrays, self.params)

    def steps_in_place(self, targets: tuple, arrays: list) -> list[Step]:
        """Steps that overwrite the targets."""
        if self.returns:
            return [Plain(_returned_into, (self.kernel, targets, arrays, self.params), {})]
        return bind(self.kernel, targets[0] if self.single_target else targets, arrays, self.params)

    def returned(self, arrays: list) -> tuple:
        """The outputs of a kernel that returns them."""
        found = self.kernel(*arrays, **self.params)
        return found if isinstance(found, tuple) else (found,)


class FusedRule(Rule):
    """What a fused call runs: its loop."""

    returns = False

    def __init__(self, call: Call):
        self.fused: Any = call.primitive
        self.workspaces = call.primitive.workspaces  # type: ignore[attr-defined]

    def steps(self, outputs: list, workspaces: list, arrays: list) -> list[Step]:
        return self.fused.steps(outputs, workspaces, arrays)

    def steps_in_place(self, targets: tuple, arrays: list) -> list[Step]:
        return self.fused.steps_in_place(targets, arrays)


def _returned_into(kernel: Callable, targets: tuple, arrays: list, params: dict[str, Any]) -> None:
    """Run a kernel that returns its outputs, and copy them to where they are expected."""
    found = kernel(*arrays, **params)
    for target, result in zip(targets, found if isinstance(found, tuple) else (found,)):
        np.copyto(target, result)
