"""Fused reductions: what stands for a group of elementwise calls and the sums and extremes of what they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu_loops
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fused import Fused
from minigrad.ops.reductions_cpu import combiner, plan_for
from minigrad.ops.reductions_loops import (
    LONG,
    SHORTEST,
    STRETCH,
    Reduced,
    buffer_size,
    buffers_of,
    has_strides,
    is_costly,
    kernel_of,
    walk_of,
)
from minigrad.ops.reductions_operations import ROWS
from minigrad.primitive import Abstract
from minigrad.scalar import Expr


class FusedReductions(Fused):
    """Expressions reduced over the same axes; outputs are what they come to, and then what is stored of the elements.

    Args:
        reduced: the expressions that are reduced, and how.
        divisors: what each result is divided by.
        stored: the expressions that are stored.
        members: the names of the primitives.

    Attributes:
        shape, axes: of the elements, and over which they are reduced.
    """

    def __init__(self, reduced: list[Reduced], divisors: list[float], stored: list[Expr], members: list[str]):
        super().__init__([*[r.element for r in reduced], *stored], members)
        self.reduced, self.divisors, self.stored = reduced, divisors, stored
        self.axes: tuple[int, ...] = ()
        self.shape: tuple[int, ...] = ()

    def lay_out(self, x: Abstract, axes: tuple[int, ...], operands: Sequence[tuple[int, ...]]) -> bool:
        """See how elements like `x` are reduced over these axes; false if their loop would not be vectorized.

        The operands' shapes are without what they repeat.
        """
        walk = walk_of(x.shape, axes, operands)
        if walk is None:
            return False
        self.axes, self.shape = axes, x.shape
        plan, (_, r0, k1, r1) = plan_for(*walk.form), walk.form
        others = [kind != "l" for kind in walk.kinds]
        least = LONG if is_costly(self.expressions) else SHORTEST
        if plan.columns:
            block, fold = plan.cut[-2:]
            flat = k1 < LONG and not walk.strides[:2].any(where=others)
            way, times = ("flat", ROWS * fold) if flat else ("columns", 1)
            fits = flat or (fold == 1 and min(k1, block) >= least)
        else:
            short = r0 == 1 and r1 < least and not walk.strides.any(where=others)
            way, times = ("short", STRETCH // r1) if short else ("rows", 1)
            fits = short or r1 >= least
        buffers = buffers_of(self.reduced, self.stored, walk.kinds, way)
        writes, reads = len(self.stored) + buffers, len(walk.kinds.replace("s", ""))
        if not fits or not cpu_loops.has_room(writes, reads):
            return False
        width = plan.work[1] if plan.work else 1
        self._walk, self._plan, self._way = walk, plan, way
        self._repeats = [times if kind == "v" else 1 for kind in walk.kinds]
        self.workspaces = [
            Abstract((plan.chunks, len(self.reduced) * width), dtypes.float64),
            Abstract((plan.chunks, buffers * buffer_size(way, width)), x.dtype),
        ]
        return True

    def steps(
        self, outputs: Sequence[np.ndarray], workspaces: Sequence[np.ndarray], arrays: Sequence[np.ndarray]
    ) -> list[Step]:
        """The call of the one kernel that computes and reduces, and of what combines the results of pieces."""
        n, plan, walk = len(self.reduced), self._plan, self._walk
        kernel = kernel_of(self.reduced, self.stored, walk.kinds, outputs[0].dtype, self._way)
        arrays = [a if a.flags.c_contiguous else cpu_loops.without_repeats(a) for a in arrays]
        work, *buffers = [w for w in workspaces if w.size]
        outs = [o.reshape(-1) for o in outputs[:n]]
        calls, operands = cpu_loops.repeated(arrays, self._repeats)
        others = [*[o.reshape(-1) for o in outputs[n:]], *operands]
        strides = [walk.strides] if has_strides(walk.kinds) else []
        args = (*plan.cut, work, *buffers, *strides, *outs, *self.divisors, *others)
        steps: list[Step] = [*[Compiled(*call) for call in calls], Compiled(kernel, plan.chunks, plan.size, args)]
        if plan.combine is not None:
            width = work.shape[1] // n
            for k, (r, out, divisor) in enumerate(zip(self.reduced, outs, self.divisors)):
                args = (k * width, out, work, plan.cut[1], *plan.combine, divisor)
                steps.append(Compiled(combiner(r.operation), 1, 0, args))
        return steps
