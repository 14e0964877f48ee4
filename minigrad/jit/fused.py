"""Fused calls: what stands for the primitives of a group, and the one kernel that does the work of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.devices import cpu, cpu_loops
from minigrad.jit.bind import Compiled, Step
from minigrad.ops import linalg_cpu
from minigrad.ops.linalg_block import product_of
from minigrad.primitive import Abstract
from minigrad.scalar import Expr


class Fused:
    """What stands for a primitive in a call that was fused of several.

    Attributes:
        expressions: of each output, in the variables ``in_0``, ``in_1`` ...
        members: the names of the primitives.
        workspaces: what the steps need besides, as of the other primitives' kernels.
        repeats: whether its kernel repeats what is repeated of operands, at no cost.
    """

    mutates: tuple = ()
    view = False
    repeats = True
    workspaces: Sequence[Abstract] = ()

    def __init__(self, expressions: list[Expr], members: list[str]):
        self.expressions = expressions
        self.members = members
        self.name = "+".join(name.partition("::")[2] for name in members)

    def steps(
        self, outputs: Sequence[np.ndarray], workspaces: Sequence[np.ndarray], arrays: Sequence[np.ndarray]
    ) -> list[Step]:
        """The call of the one loop that fills the outputs."""
        if not outputs[0].size:
            return []
        kernel, lengths, arrays, repeats = self._loop(outputs[0], arrays)
        return [Compiled(*call) for call in cpu_loops.bound(kernel, outputs, lengths, arrays, repeats)]

    def steps_over(
        self, places: np.ndarray, outputs: Sequence[np.ndarray], arrays: Sequence[np.ndarray], within: int | None
    ) -> tuple[list[Compiled], Compiled]:
        """What has to be done before, and the call of the loop over places, a row for each chunk.

        The array numbered `within`, if any, is what the first output holds before.
        """
        kernel, lengths, arrays, repeats = self._loop(outputs[0], arrays, True, within)
        setup, operands = cpu_loops.repeated(arrays, repeats)
        operands = [a for i, a in enumerate(operands) if i != within]
        args = (places, *[out.ravel() for out in outputs], *lengths, *operands)
        return [Compiled(*call) for call in setup], Compiled(kernel, len(places), outputs[0].size, args)

    def _loop(
        self, out: np.ndarray, arrays: Sequence[np.ndarray], placed: bool = False, within: int | None = None
    ) -> tuple[cpu.Kernel, tuple, list[np.ndarray], tuple[int, ...]]:
        """The kernel, the lengths that it takes, the arrays without what they repeat, and how often it wants each."""
        arrays = [a if a.flags.c_contiguous else cpu_loops.without_repeats(a) for a in arrays]
        kinds, lengths, repeats = cpu_loops.walk(out.shape, tuple([a.shape for a in arrays]))
        inputs = [f"in_{i}" for i in range(len(arrays))]
        kernel = cpu_loops.kernel_of(self.expressions, inputs, out.dtype, kinds, bool(lengths), placed, within)
        return kernel, lengths, arrays, repeats


class FusedProduct(Fused):
    """A matrix product and what is done to its elements: each block is finished while it is in the cache.

    The product itself is the variable ``in_0``; if an output is just that, it is the first. The arrays are its two
    operands, and then ``in_1`` and so on, each of which is like the output, or one row, one column or one element.
    """

    def __init__(self, expressions: list[Expr], members: list[str], params: dict[str, Any]):
        super().__init__(expressions, members)
        self.params = params

    def steps(
        self, outputs: Sequence[np.ndarray], workspaces: Sequence[np.ndarray], arrays: Sequence[np.ndarray]
    ) -> list[Step]:
        """The call of the one kernel that multiplies and finishes."""
        chunks, work, form, x, y = linalg_cpu.operands(arrays[0], arrays[1], **self.params)
        others = [a if a.flags.c_contiguous else cpu_loops.without_repeats(a) for a in arrays[2:]]
        ways = [_way(outputs[0].shape, a.shape) for a in others]
        kernel = self._kernel(outputs[0].dtype, ways)
        flat, address = [a.reshape(-1) for a in (*outputs, x, y)], product_of(x.dtype)
        return [Compiled(kernel, chunks, work, (chunks, *flat, form, address, *[a.reshape(-1) for a in others]))]

    def _kernel(self, dtype: np.dtype, ways: list[str]) -> cpu.Kernel:
        inputs = [f"in_{i}" for i in range(1 + len(ways))]
        names = {name: i for i, name in enumerate(inputs)}
        scope = {
            **{
                "np": np,
                "math": math,
                "F": dtype.type,
                "U": np.uintp,
                "div": cpu_loops.div,
                "BLOCKS": linalg_cpu.BLOCKS,
            },
            **{"COLUMNS": linalg_cpu.COLUMNS, "multiply_block": linalg_cpu.multiply_block},
        }
        kinds = "v" + "".join(["v" if way in ("like", "row") else "s" for way in ways])
        lines, results = cpu_loops.statements(self.expressions, names, kinds, dtype, scope, nested=True)
        outs = ["out", *[f"out_{i}" for i in range(1, len(results))]]
        places = {"like": "from_{0} = U(at)", "row": "from_{0} = U(left)"}
        places |= {"column": "x{0} = in_{0}[at // form[COLUMNS]]", "one": "x{0} = in_{0}[0]"}
        begin = ["from_0 = U(at)", *[places[way].format(i) for i, way in enumerate(ways, 1)]]
        lines += [f"{out}[from_0 + i] = {result}" for out, result in zip(outs, results) if result != "x0"]
        text = f"(chunk, chunks, {', '.join(outs)}, x, y, form, address{''.join(f', {n}' for n in inputs[1:])}):\n"
        text += "    in_0 = out\n"
        text += "    for block in range(chunk * form[BLOCKS] // chunks, (chunk + 1) * form[BLOCKS] // chunks):\n"
        text += "        at, left, height, width = multiply_block(block, out, x, y, form, address, F(1), F(0))\n"
        text += "        for _ in range(height):\n"
        text += "".join(f"            {line}\n" for line in begin)
        text += "            for i in range(U(width)):\n"
        text += "".join(f"                {line}\n" for line in lines)
        text += "            at += form[COLUMNS]\n"
        return cpu_loops.shared_kernel(f"matmul_{self.expressions[-1].op}", text, scope, dtype)

    @staticmethod
    def takes(shape: tuple[int, ...], operand: tuple[int, ...] | None) -> bool:
        """Whether an operand of a shape without repeats can be read beside the blocks of a product of this shape."""
        return operand is not None and bool(_way(shape, operand))


def _way(shape: tuple[int, ...], operand: tuple[int, ...]) -> str:
    """How an operand lies beside an output: like it, or one row, column or element of it; empty for anything else."""
    padded = (1,) * (len(shape) - len(operand)) + operand
    if padded == shape:
        return "like"
    if all(n == 1 for n in padded):
        return "one"
    if padded[-1] == shape[-1] and all(n == 1 for n in padded[:-1]):
        return "row"
    return "column" if padded == (*shape[:-1], 1) else ""
