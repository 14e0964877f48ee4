"""Half types on the CPU: kernels of float32 compute, between inputs that are widened and outputs rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import dtypes
from minigrad.calls import Kernel, Plan
from minigrad.rules import Abstract

if TYPE_CHECKING:
    from minigrad.primitive import Primitive


def concerned(values: Sequence[Any]) -> bool:
    """Whether one of the values, None where absent, has a half type."""
    return any(a is not None and dtypes.is_half(a.dtype) for a in values)


def through_float32(primitive: Primitive, rule: Kernel, specs: Sequence[Abstract]) -> Kernel:
    """A kernel of a primitive, `rule`, as one that takes half types and returns outputs like `specs`.

    Where inputs are overwritten, it returns what they become.
    """

    def planned(*inputs: Abstract | None, **params: Any) -> Callable:
        wide = [None if a is None else _wide(a) for a in inputs]
        mutated = primitive.mutated_inputs(len(inputs))
        wanted = [a.dtype for a in ([inputs[i] for i in mutated] if mutated else specs) if a is not None]
        room = () if rule.returns else primitive.scratch(wide, params)
        plan = Plan([_wide(a) for a in specs], room, wide, params, rule)
        given = {} if plan.planned else params

        def run(*arrays: np.ndarray | None) -> tuple:
            values = [None if a is None else _widened(a) for a in arrays]
            results: Any
            if plan.returns:
                found = plan.kernel(*values, **given)
                results = found if isinstance(found, tuple) else (found,)
            elif mutated:
                results = tuple([values[i] for i in mutated])
                plan.kernel(results[0] if primitive.single_target else results, *values, **given)
            else:
                out = tuple([empty(shape, dtype) for shape, dtype, empty in plan.buffers])
                plan.kernel(out[0] if plan.single else out, *values, **given)
                results = out[: plan.outputs]
            return tuple([dtypes.rounded(np.asarray(y), dtype) for y, dtype in zip(results, wanted)])

        return run

    return Kernel(planned, True, True)


def _wide(a: Abstract) -> Abstract:
    return Abstract(a.shape, dtypes.arithmetic(a.dtype))


def _widened(a: np.ndarray) -> np.ndarray:
    return a.astype(dtypes.float32) if dtypes.is_half(a.dtype) else a
