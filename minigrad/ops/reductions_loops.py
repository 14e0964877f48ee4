"""CPU loops that sum what they compute: generated from scalar expressions, as elementwise loops are.

An array is (k0, r0, k1, r1): kept, reduced, kept, reduced. Where the last axis is reduced, each sum is one of contiguous
runs (``rows``); where it is kept, rows are added to a row of accumulators (``columns``). Sums are carried in float64.
The elements need never be in memory: they are computed as they are summed, and stored only if they are wanted besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import scalar
from minigrad.devices import cpu, cpu_loops
from minigrad.scalar import Expr

SHORTEST = 16  # elements of a run, below which a loop over it is not vectorized


class Walk(NamedTuple):
    """How operands are read beside an array of the form (k0, r0, k1, r1).

    Attributes:
        form: the array's.
        kinds: for each operand ``l`` if it lies like the array, else whether it varies along the last axis (``v``) or
            stays (``s``).
        strides: of the operands (columns) over k0, r0 and k1 (rows).
    """

    form: tuple[int, int, int, int]
    kinds: str
    strides: np.ndarray


_SLOTS = {"r": "3", "kr": "03", "rk": "12", "rr": "13", "krk": "012", "kkr": "023", "krr": "013", "rkr": "123"}
_SLOTS["krkr"] = "0123"


def walk_of(shape: tuple[int, ...], axes: tuple[int, ...], operands: Sequence[tuple[int, ...]]) -> Walk | None:
    """How contiguous operands that broadcast to `shape` are read while `axes` are reduced; None if loops can't.

    Example:
        >>> from minigrad.ops.reductions_loops import walk_of
        >>> walk_of((32, 8, 8, 64), (0, 1, 2), [(32, 8, 8, 64), (64,)])[:2]
        ((1, 2048, 64, 1), 'lv')
    """
    merged = cpu_loops.merged_axes(shape, operands, [axis in axes for axis in range(len(shape))])
    slots = _SLOTS.get("".join(["r" if reduced else "k" for _, reduced, _ in merged]))
    if slots is None:
        return None
    form, steps = [1, 1, 1, 1], np.zeros((4, len(operands)), np.int64)
    for slot, (n, _, column) in zip(map(int, slots), merged):
        form[slot], steps[slot] = n, column
    size, last = math.prod(form), 3 if form[3] > 1 else 2
    kinds = "".join(["l" if math.prod(o) == size else "v" if steps[last, i] else "s" for i, o in enumerate(operands)])
    return Walk(tuple(form), kinds, steps[:3])  # type: ignore[arg-type]


def kernel_of(sums: Sequence[Expr], stored: Sequence[Expr], kinds: str, dtype: np.dtype, columns: bool) -> cpu.Kernel:
    """The kernel that sums some expressions of ``in_0``, ``in_1`` ... and stores others.

    Called as ``kernel(chunks, work, *cut, work, [strides,] *sums, *divisors, *stored, *inputs)``, with a cut of
    `reductions_cpu`. With several pieces the sums of chunk c are left in row c of the workspace.
    """
    rest, scope = (_columns_of if columns else _rows_of)(sums, stored, kinds, dtype)
    return cpu_loops.shared_kernel(f"sum_{sums[0].op}", rest, scope, dtype)


def _rows_of(sums: Sequence[Expr], stored: Sequence[Expr], kinds: str, dtype: np.dtype) -> tuple[str, dict[str, Any]]:
    lines, results, scope = _statements([*sums, *stored], kinds, dtype, 1)
    each = range(len(sums))
    lines += [f"run_{k} += {results[k]}" for k in each]
    lines += [f"stored_{k}[U(at) + i] = {result}" for k, result in enumerate(results[len(sums) :])]
    text = _head("groups, pieces, r0, k1, r1", sums, stored, kinds)
    text += "    low, high = (piece * r0 // pieces, (piece + 1) * r0 // pieces) if r0 > 1 else (0, 1)\n"
    text += "    left, right = (piece * r1 // pieces, (piece + 1) * r1 // pieces) if r0 == 1 else (0, r1)\n"
    text += "    first, last = group * sum_0.size // groups, (group + 1) * sum_0.size // groups\n"
    text += "    slab, kept = first // k1, first % k1\n    for o in range(first, last):\n"
    text += "".join(f"        total_{k} = 0.0\n" for k in each)
    text += "        for row in range(low, high):\n"
    text += "            at = ((slab * r0 + row) * k1 + kept) * r1 + left\n"
    text += _begin(kinds, 0, "at", "row", "kept", "left", 12)
    text += "".join(f"            run_{k} = 0.0\n" for k in each)
    text += "            for i in range(U(right - left)):\n"
    text += "".join(f"                {line}\n" for line in lines)
    text += "".join(f"            total_{k} += run_{k}\n" for k in each)
    for k in each:
        text += f"        if pieces == 1:\n            sum_{k}[o] = total_{k} / divisor_{k}\n"
        text += f"        else:\n            work[chunk, {k}] = total_{k}\n"
    text += "        kept += 1\n        if kept == k1:\n            slab, kept = slab + 1, 0\n"
    return text, scope


def _columns_of(
    sums: Sequence[Expr], stored: Sequence[Expr], kinds: str, dtype: np.dtype
) -> tuple[str, dict[str, Any]]:
    each, several = range(len(sums)), _rows_at_once(sums, stored, kinds)
    text = _head("groups, pieces, r0, k1, block, fold", sums, stored, kinds)
    text += "".join(f"    in_{i} = in_{i % len(kinds)}\n" for i in range(len(kinds), several * len(kinds)))
    text += "    blocks = (k1 + block - 1) // block\n    units = sum_0.size // k1 * blocks\n"
    text += "    low, high = piece * r0 // pieces, (piece + 1) * r0 // pieces\n"
    text += "    for unit in range(group * units // groups, (group + 1) * units // groups):\n"
    text += "        slab, left = unit // blocks, unit % blocks * block\n"
    text += "        width, row = min(block, k1 - left), low\n        n = width * fold\n"
    for k in each:
        text += f"        acc_{k} = work[chunk, {k} * block * fold : {k} * block * fold + n]\n"
        text += f"        for i in range(U(n)):\n            acc_{k}[i] = 0.0\n"
    for at_once in (several, 1) if several > 1 else (1,):
        lines, results, scope = _statements([*sums, *stored], kinds, dtype, at_once)
        copies = [results[k :: len(sums) + len(stored)] for k in range(len(sums) + len(stored))]
        for k in each:
            lines.append(f"acc_{k}[i] += {_tree([f'np.float64({r})' for r in copies[k]])}")
        for k, names in enumerate(copies[len(sums) :]):
            lines += [f"stored_{k}[U(at + {u} * fold * k1) + i] = {name}" for u, name in enumerate(names)]
        text += f"        while row + {at_once} * fold <= high:\n" if at_once > 1 else "        while row < high:\n"
        text += "            at = (slab * r0 + row) * k1 + left\n"
        for u in range(at_once):
            skipped = f"{u} * fold"
            text += _begin(kinds, u * len(kinds), f"at + {skipped} * k1", f"(row + {skipped})", "left", "", 12)
        text += f"            for i in range(U({'n' if at_once > 1 else 'min(n, (high - row) * width)'})):\n"
        text += "".join(f"                {line}\n" for line in lines)
        text += f"            row += {at_once} * fold\n"
    for k in each:
        text += f"        fold_rows(acc_{k}, width, fold)\n        if pieces == 1:\n"
        text += f"            o = sum_{k}[slab * k1 + left : slab * k1 + left + width]\n"
        text += f"            for j in range(width):\n                o[j] = acc_{k}[j] / divisor_{k}\n"
    return text, {**scope, "fold_rows": fold_rows}


def _head(cut: str, sums: Sequence[Expr], stored: Sequence[Expr], kinds: str) -> str:
    names = [f"sum_{k}" for k in range(len(sums))] + [f"divisor_{k}" for k in range(len(sums))]
    names += [f"stored_{k}" for k in range(len(stored))] + [f"in_{i}" for i in range(len(kinds))]
    strides = "strides, " if has_strides(kinds) else ""
    text = f"(chunk, {cut}, work, {strides}{', '.join(names)}):\n"
    return text + "    group, piece = chunk // pieces, chunk % pieces\n"


def has_strides(kinds: str) -> bool:
    """Whether a kernel takes strides, since there are operands that do not lie like the array."""
    return bool(kinds.strip("l"))


def _begin(kinds: str, number: int, at: str, row: str, kept: str, left: str, indent: int) -> str:
    """Where in each operand a loop begins; the first has this number."""
    text, tab = "", " " * indent
    for i, kind in enumerate(kinds):
        if kind == "l":
            text += f"{tab}from_{number + i} = U({at})\n"
            continue
        place = f"slab * strides[0, {i}] + {row} * strides[1, {i}] + {kept} * strides[2, {i}]"
        text += f"{tab}from_{number + i} = U({place}{f' + {left}' if left and kind == 'v' else ''})\n"
        text += f"{tab}x{number + i} = in_{number + i}[from_{number + i}]\n" if kind == "s" else ""
    return text


def _statements(
    expressions: Sequence[Expr], kinds: str, dtype: np.dtype, copies: int
) -> tuple[list[str], list[str], dict[str, Any]]:
    """Assignments and results as of `cpu_loops.statements`, for several elements, each of operands of its own."""
    n = len(kinds)
    scope: dict[str, Any] = {"np": np, "math": math, "F": dtype.type, "U": np.uintp, "div": cpu_loops.div}
    numbers = {f"in_{i}": i for i in range(copies * n)}
    copied = []
    for u in range(copies):
        values = {f"in_{i}": scalar.variable(f"in_{u * n + i}") for i in range(n)}
        copied += [scalar.with_values(e, values) for e in expressions]
    lines, results = cpu_loops.statements(copied, numbers, copies * kinds.replace("l", "v"), dtype, scope, nested=True)
    return lines, results, scope


def _rows_at_once(sums: Sequence[Expr], stored: Sequence[Expr], kinds: str) -> int:
    """How many rows to add in one loop: as many as registers, and the comparisons of addresses, allow."""
    nodes = scalar.topological([*sums, *stored])
    cost = sum(8 if "{m}" in scalar.OPERATIONS[e.op].code else 1 for e in nodes if e.op in scalar.OPERATIONS)
    reads = len(kinds.replace("s", ""))
    for several in (8, 4, 2):
        writes = len(sums) + several * len(stored)
        comparisons = writes * several * reads + writes * (writes - 1) // 2
        if comparisons <= cpu_loops.MOST_COMPARISONS and several * cost <= cpu_loops.MOST_OPERATIONS:
            return several
    return 1


def _tree(names: list[str]) -> str:
    """Their sum, in pairs."""
    if len(names) == 1:
        return names[0]
    half = len(names) // 2
    one, two = _tree(names[:half]), _tree(names[half:])
    return f"({one} + {two})"


@cpu.jit
def fold_rows(acc, width, fold):
    for t in range(1, fold):
        part = acc[t * width : (t + 1) * width]
        for j in range(width):
            acc[j] += part[j]
