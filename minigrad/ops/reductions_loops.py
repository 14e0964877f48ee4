"""CPU loops that reduce what they compute: generated from scalar expressions, as elementwise loops are.

An array is (k0, r0, k1, r1): kept, reduced, kept, reduced. Where the last axis is reduced, each result is of contiguous
runs (``rows``); where it is kept, rows are taken into a row of accumulators (``columns``), which are float64. Elements
need never be in memory: they are computed as they are reduced, and stored only if they are wanted besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import scalar
from minigrad.devices import cpu, cpu_loops
from minigrad.ops.reductions_operations import ROWS, Operation
from minigrad.scalar import Expr

SHORTEST = 16  # elements of a loop, below which it is not vectorized
LONG = 256  # elements of a loop, from which those that are left over by vectors cost little where each costs much
STRETCH = 2048  # elements that are computed at a time, where they go through a buffer


class Reduced(NamedTuple):
    """An expression of the elements that are reduced, and what is done with them."""

    operation: Operation
    element: Expr


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


def is_costly(expressions: Sequence[Expr]) -> bool:
    """Whether a function of many operations is in them: then it must be vectorized well."""
    operations = [e.op for e in scalar.topological(expressions) if e.op in scalar.OPERATIONS]
    return any("{m}" in scalar.OPERATIONS[op].code for op in operations)


def buffers_of(reduced: Sequence[Reduced], stored: Sequence[Expr], kinds: str, way: str) -> int:
    """How many buffers a kernel takes, each of `buffer_size`: for reduced elements that are nowhere else."""
    return len(_buffers(_homes(reduced, stored, kinds, way)))


def buffer_size(way: str, width: int) -> int:
    """The elements of a buffer of a chunk, where so many accumulators stand side by side."""
    return ROWS * width if way in ("columns", "flat") else STRETCH


def kernel_of(reduced: Sequence[Reduced], stored: Sequence[Expr], kinds: str, dtype: np.dtype, way: str) -> cpu.Kernel:
    """The kernel that reduces some expressions of ``in_0``, ``in_1`` ... and stores others.

    The ways: ``rows`` and ``columns`` compute the elements of a run, or of a row, in a loop; ``short`` those of as many
    runs as a stretch holds, and ``flat`` those of `ROWS` rows. There operands vary along the last axis alone, if at
    all, and are repeated for as many.

    Called as ``kernel(chunks, work, *cut, work, [buffer,] [strides,] *outs, *divisors, *stored, *inputs)``, with a cut
    of `reductions_cpu`; each output has a divisor. With several pieces the results of chunk c are left in row c of the
    workspace. Elements of several reductions are computed together, and those of one loop are all of one dtype: float64
    accumulators in the midst of float32 would halve its vectors. Only where next to nothing is computed, they are
    reduced at once.
    """
    scope: dict[str, Any] = {"np": np, "math": math, "F": dtype.type, "U": np.uintp, "div": cpu_loops.div}
    scope |= {"STRETCH": STRETCH, "ROWS": ROWS}
    operations = [r.operation for r in reduced]
    for o in operations:
        scope |= {f"join_{o.name}": o.join, f"{o.name}_of": o.run, f"{o.name}_rows": o.rows, f"{o.name}_fold": o.fold}
        scope |= o.names
    names = {f"in_{i}": i for i in range(len(kinds))}
    walked = kinds.replace("l", "v")
    expressions = [*[r.element for r in reduced], *stored]
    lines, results = cpu_loops.statements(expressions, names, walked, dtype, scope, nested=True)
    homes = _homes(reduced, stored, kinds, way)
    lines += [f"stored_{k}[U(at) + i] = {result}" for k, result in enumerate(results[len(reduced) :])]
    columns = way in ("columns", "flat")
    cut = "groups, pieces, r0, k1, block, fold" if columns else "groups, pieces, r0, k1, r1"
    text = _head(cut, homes, stored, kinds)
    if columns:
        text += _columns(operations, lines, results, homes, kinds, "ROWS * fold" if way == "flat" else "fold")
    else:
        text += (_short_rows if way == "short" else _rows)(operations, lines, results, homes, kinds)
    kernel = cpu_loops.shared_kernel(f"{operations[0].name}_{reduced[0].element.op}", text, scope, dtype)
    if not columns:
        kernel.places = _places_of_rows(6 + bool(_buffers(homes)) + has_strides(kinds))
    return kernel


def _places_of_rows(first: int) -> Callable[[int, tuple], np.ndarray | None]:
    """Where the elements of a chunk lie, see `cpu.Kernel.places`; the argument numbered `first` is the first output."""

    def places(chunks: int, args: tuple) -> np.ndarray | None:
        pieces, r0, r1 = args[1], args[2], args[4]
        return cpu.ranges(chunks, args[first].size, r1) if pieces == r0 == 1 else None

    return places


def _homes(reduced: Sequence[Reduced], stored: Sequence[Expr], kinds: str, way: str) -> list[str]:
    """Where the elements of each reduction are found: an array's name, or none if they are taken at once."""
    elements = [r.element for r in reduced]
    at_once = way == "rows" and not is_costly([*elements, *stored])
    places = {id(e): f"stored_{k}" for k, e in enumerate(stored)}
    homes: list[str] = []
    for e in elements:
        if at_once:
            homes.append("")
        elif id(e) not in places and e.op == "var" and kinds[int(e.value[3:])] == "l":
            homes.append(e.value)
        else:
            homes.append(places.setdefault(id(e), f"buffer_{len(_buffers(homes))}"))
    return homes


def _buffers(homes: Sequence[str]) -> list[str]:
    """The buffers among them, each once."""
    return list(dict.fromkeys([home for home in homes if home.startswith("buffer")]))


def _rows(operations: Sequence[Operation], lines: list[str], results: list[str], homes: list[str], kinds: str) -> str:
    each = range(len(homes))
    text = "    low, high = (piece * r0 // pieces, (piece + 1) * r0 // pieces) if r0 != 1 else (0, 1)\n"
    text += "    left, right = (piece * r1 // pieces, (piece + 1) * r1 // pieces) if r0 == 1 else (0, r1)\n"
    text += "    first, last = group * out_0.size // groups, (group + 1) * out_0.size // groups\n"
    text += "    slab, kept = first // k1, first % k1\n    for o in range(first, last):\n"
    text += "".join(f"        all_{k} = {operations[k].start}\n" for k in each)
    text += "        for row in range(low, high):\n"
    text += f"            for begin in range(left, right, {'STRETCH' if homes[0] else 'max(right - left, 1)'}):\n"
    text += f"                n = {'min(STRETCH, right - begin)' if homes[0] else 'right - left'}\n"
    text += "                at = ((slab * r0 + row) * k1 + kept) * r1 + begin\n"
    text += _begin(kinds, "kept", "begin", 16)
    at_once = [k for k in each if not homes[k]]
    text += "".join(f"                {operations[k].begin.format(k=k)}\n" for k in at_once)
    lines = lines + [line.format(k=k, value=results[k]) for k in at_once for line in operations[k].enter]
    text += _element(lines, results, homes, "i", 16, "n")
    for k, home in enumerate(homes):
        place = ":n" if home.startswith("buffer") else "at : at + n"
        name = operations[k].name
        found = f"{name}_of({home}[{place}])" if home else operations[k].found.format(k=k)
        text += f"                all_{k} = join_{name}(all_{k}, {found})\n"
    for k in each:
        text += f"        if pieces == 1:\n            out_{k}[o] = all_{k} / divisor_{k}\n"
        text += f"        else:\n            work[chunk, {k}] = all_{k}\n"
    return text + "        kept += 1\n        if kept == k1:\n            slab, kept = slab + 1, 0\n"


def _short_rows(
    operations: Sequence[Operation], lines: list[str], results: list[str], homes: list[str], kinds: str
) -> str:
    text = "    first, last = group * out_0.size // groups, (group + 1) * out_0.size // groups\n"
    text += "    slab, row, kept, several = 0, 0, 0, STRETCH // r1\n"
    text += "    for begin in range(first, last, several):\n"
    text += "        end = min(begin + several, last)\n        at = begin * r1\n"
    text += _begin(kinds, "kept", "", 8)
    text += _element(lines, results, homes, "i", 8, "(end - begin) * r1")
    text += "        for o in range(begin, end):\n"
    for k, home in enumerate(homes):
        place = "(o - begin) * r1 : (o - begin + 1) * r1" if home.startswith("buffer") else "o * r1 : (o + 1) * r1"
        text += f"            out_{k}[o] = {operations[k].name}_of({home}[{place}]) / divisor_{k}\n"
    return text


def _columns(
    operations: Sequence[Operation], lines: list[str], results: list[str], homes: list[str], kinds: str, step: str
) -> str:
    each = range(len(homes))
    text = "    blocks = (k1 + block - 1) // block\n    units = out_0.size // k1 * blocks\n"
    text += "    low, high = piece * r0 // pieces, (piece + 1) * r0 // pieces\n"
    text += "    for unit in range(group * units // groups, (group + 1) * units // groups):\n"
    text += "        slab, left = unit // blocks, unit % blocks * block\n"
    text += "        width = min(block, k1 - left)\n        n = width * fold\n"
    for k in each:
        text += f"        acc_{k} = work[chunk, {k} * block * fold : {k} * block * fold + n]\n"
        text += f"        for i in range(U(n)):\n            acc_{k}[i] = {operations[k].start}\n"
    text += "        for first in range(low, high, ROWS * fold):\n            last = min(first + ROWS * fold, high)\n"
    if any(not home.startswith("in_") for home in homes) or len(results) > len(homes):
        text += f"            for row in range(first, last, {step}):\n"
        text += "                at = (slab * r0 + row) * k1 + left\n"
        text += _begin(kinds, "left", "", 16)
        text += "                from_buffer = U((row - first) * width)\n"
        text += _element(lines, results, homes, "from_buffer + i", 16, f"min({step}, last - row) * width")
    text += "            rows, rest = (last - first) // fold, (last - first) % fold * width\n"
    text += "            at = (slab * r0 + first) * k1 + left\n"
    for k, home in enumerate(homes):
        where = f"{home}, n" if home.startswith("buffer") else f"{home}[at:], k1 * fold"
        text += f"            {operations[k].name}_rows(acc_{k}, {where}, rows, rest)\n"
    for k in each:
        text += f"        {operations[k].name}_fold(acc_{k}, width, fold)\n        if pieces == 1:\n"
        text += f"            o = out_{k}[slab * k1 + left : slab * k1 + left + width]\n"
        text += f"            for j in range(width):\n                o[j] = acc_{k}[j] / divisor_{k}\n"
    return text


def _head(cut: str, homes: list[str], stored: Sequence[Expr], kinds: str) -> str:
    """The arguments, and what chunks begin with."""
    names = [f"out_{k}" for k in range(len(homes))] + [f"divisor_{k}" for k in range(len(homes))]
    names += [f"stored_{k}" for k in range(len(stored))] + [f"in_{i}" for i in range(len(kinds))]
    buffers = _buffers(homes)
    others = ("buffer, " if buffers else "") + ("strides, " if has_strides(kinds) else "")
    text = f"(chunk, {cut}, work, {others}{', '.join(names)}):\n"
    text += f"    size = buffer.shape[1] // {len(buffers)}\n" if buffers else ""
    text += "".join(f"    {name} = buffer[chunk, {k} * size : {k + 1} * size]\n" for k, name in enumerate(buffers))
    return text + "    group, piece = chunk // pieces, chunk % pieces\n"


def has_strides(kinds: str) -> bool:
    """Whether a kernel takes strides, since there are operands that do not lie like the array."""
    return bool(kinds.strip("l"))


def _begin(kinds: str, kept: str, left: str, indent: int) -> str:
    """Where in each operand a loop begins."""
    text, tab = "", " " * indent
    for i, kind in enumerate(kinds):
        place = f"slab * strides[0, {i}] + row * strides[1, {i}] + {kept} * strides[2, {i}]"
        place += f" + {left}" if left and kind == "v" else ""
        text += f"{tab}from_{i} = U({'at' if kind == 'l' else place})\n"
        text += f"{tab}x{i} = in_{i}[from_{i}]\n" if kind == "s" else ""
    return text


def _element(lines: list[str], results: list[str], homes: list[str], place: str, indent: int, count: str) -> str:
    """The loop over elements, those for buffers written there."""
    tab = " " * indent
    values = dict(zip(homes, results))
    lines = lines + [f"{buffer}[{place}] = {values[buffer]}" for buffer in _buffers(homes)]
    return f"{tab}for i in range(U({count})):\n" + "".join(f"{tab}    {line}\n" for line in lines)
