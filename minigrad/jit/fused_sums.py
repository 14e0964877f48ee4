"""Fused sums: what stands for a group of elementwise calls and the sums of what they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu_loops
from minigrad.jit.bind import Compiled, Step
from minigrad.jit.fused import Fused
from minigrad.ops.reductions_cpu import combine, plan_for
from minigrad.ops.reductions_loops import SHORTEST, buffer_size, buffers_of, has_strides, kernel_of, walk_of
from minigrad.primitive import Abstract
from minigrad.scalar import Expr


class FusedSums(Fused):
    """Sums of expressions over the same axes; outputs are the sums, and then what is stored of the elements.

    Args:
        sums: the expressions that are summed.
        stored: those that are stored.
        divisors: what each sum is divided by.
        shape, dtype: of the elements.
        axes: that are summed.
        operands: the shapes of the arrays, without what they repeat.
    """

    def __init__(
        self, sums: list[Expr], stored: list[Expr], members: list[str], divisors: list[float],
        shape: tuple[int, ...], dtype: np.dtype, axes: tuple[int, ...], operands: Sequence[tuple[int, ...]],
    ):  # fmt: skip
        super().__init__([*sums, *stored], members)
        self._sums, self._stored = sums, stored
        self.divisors = divisors
        walk = walk_of(shape, axes, operands)
        assert walk is not None
        self._walk = walk
        self._plan = plan_for(*walk.form)
        width, chunks = self._plan.work[1] if self._plan.work else 1, self._plan.chunks
        buffers = buffers_of(sums, stored, walk.kinds, self._plan.columns)
        self.workspaces = [
            Abstract((chunks, len(sums) * width), dtypes.float64),
            Abstract((chunks, buffers * buffer_size(self._plan.columns, width)), dtype),
        ]

    def steps(
        self, outputs: Sequence[np.ndarray], workspaces: Sequence[np.ndarray], arrays: Sequence[np.ndarray]
    ) -> list[Step]:
        """The call of the one kernel that computes and sums, and of what combines the sums of pieces."""
        n, plan, walk = len(self._sums), self._plan, self._walk
        kernel = kernel_of(self._sums, self._stored, walk.kinds, outputs[0].dtype, plan.columns)
        arrays = [a if a.flags.c_contiguous else cpu_loops.without_repeats(a) for a in arrays]
        work, *buffers = [w for w in workspaces if w.size]
        sums = [o.reshape(-1) for o in outputs[:n]]
        others = [a.reshape(-1) for a in (*outputs[n:], *arrays)]
        strides = [walk.strides] if has_strides(walk.kinds) else []
        args = (*plan.cut, work, *buffers, *strides, *sums, *self.divisors, *others)
        steps: list[Step] = [Compiled(kernel, plan.chunks, plan.size, args)]
        if plan.combine is not None:
            width = work.shape[1] // n
            for k, (out, divisor) in enumerate(zip(sums, self.divisors)):
                steps.append(Compiled(combine, 1, 0, (k * width, out, work, plan.cut[1], *plan.combine, divisor)))
        return steps

    @staticmethod
    def takes(
        sums: list[Expr], stored: list[Expr], shape: tuple[int, ...], axes: tuple[int, ...],
        operands: Sequence[tuple[int, ...]],
    ) -> bool:  # fmt: skip
        """Whether a loop that is vectorized can compute and sum these, with operands of these shapes."""
        walk = walk_of(shape, axes, operands)
        if walk is None:
            return False
        plan = plan_for(*walk.form)
        if plan.columns:  # where rows are folded, operands that do not lie like them are single elements
            fits = plan.cut[-1] == 1 or not walk.strides.any(where=[kind != "l" for kind in walk.kinds])
        else:
            fits = walk.form[3] >= SHORTEST
        writes = len(stored) + buffers_of(sums, stored, walk.kinds, plan.columns)
        comparisons = writes * len(walk.kinds.replace("s", "")) + writes * (writes - 1) // 2
        return fits and comparisons <= cpu_loops.MOST_COMPARISONS
