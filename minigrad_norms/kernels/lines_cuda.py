"""Where things are for CUDA kernels of groups in lines: elements in memory and shared memory, entries of γ and β.

Indices are divided in 32 bits, or by a multiplication: a GPU has no instruction that divides in 64 bits. So do
Python's ranges with steps, in whose place kernels have ``while``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import Function, vector
from minigrad.devices.cuda.rows import each


class Lines(NamedTuple):
    """Device functions for where things are.

    Attributes:
        origin: ``origin(group, r0, k1, r1)``: where a group begins in x.
        locate: ``locate(origin, place, k1, r1, factor, shift)``: where an element of a group is in x, and where in its
            line, of whose length r1 factor and shift are the `reciprocal`.
        row: ``row(group, k1, m0, n1, p1)``: where the entries of a group begin in a table.
        owner: ``owner(line, per)``: the group that a line is of, and which of its `per` lines it is.
        two: ``two(origin, i, step, end, width, k1, r1, factor, shift)``: the number j of the vector that lies `step`
            behind vector i, or i itself where that is not before `end`; and where the first elements of both are.
    """

    origin: Function
    locate: Function
    row: Function
    owner: Function
    two: Function


@cache
def lines(split: bool, small: bool) -> Lines:
    """The functions for groups of one line, or of several (`split`); `small` ones, counted in 32 bits."""
    number: Any = np.uint32 if small else np.int64
    over = quotient(small)

    @cuda.jit
    def origin(group, r0, k1, r1):
        if not split:
            return group * r1
        i0 = np.int64(number(group) // number(k1))
        return (i0 * r0 * k1 + group - i0 * k1) * r1

    @cuda.jit
    def locate(origin, place, k1, r1, factor, shift):
        if not split:
            return origin + place, place
        line = over(place, factor, shift)
        return origin + place + line * (k1 - 1) * r1, place - line * r1

    @cuda.jit
    def row(group, k1, m0, n1, p1):
        if m0 * n1 == 1:
            return 0
        i0 = np.int64(number(group) // number(k1))
        i1 = group - i0 * k1 if n1 > 1 else 0
        return (np.int64(number(i0) % number(m0)) * n1 + i1) * p1

    @cuda.jit
    def owner(line, per):
        if per == 1:
            return line, 0
        group = np.int64(number(line) // number(per))
        return group, line - group * per

    @cuda.jit
    def two(origin, i, step, end, width, k1, r1, factor, shift):
        j = i + step if i + step < end else i
        return j, locate(origin, i * width, k1, r1, factor, shift), locate(origin, j * width, k1, r1, factor, shift)

    return Lines(origin, locate, row, owner, two)


@cache
def table(kind: str, width: int, load: Function, small: bool) -> Function:
    """``entries(gamma, beta, entry, start, place, factor, shift)``: γ and β of neighbours from `place` in a line on.

    `kind` is ``one`` where a group has a single `entry` of both; ``each`` for one an element, from index `start` on;
    ``spans`` for one for so many elements as factor and shift are the `reciprocal` of, neighbours among the same ones.
    """
    over = quotient(small)
    head = "values, value, start, place, factor, shift"

    @cuda.jit
    def one(values, value, start, place, factor, shift):
        return values[start + over(place, factor, shift)] if kind == "spans" else value

    @cuda.jit
    def several(values, value, start, place, factor, shift):
        return load(values, start + place)

    picked = several if kind == "each" else each("entry", one, head, head, width)

    def entries(gamma, beta, entry, start, place, factor, shift):
        ga = picked(gamma, entry[0], start, place, factor, shift)
        return ga, picked(beta, entry[1], start, place, factor, shift)

    return cuda.jit(entries)


@cache
def staged(itemsize: int, width: int) -> tuple[Function, Function]:
    """``put(stage, at, values)``, ``kept(stage, at)``: neighbours in shared memory, by accesses of at most 16 bytes.

    What lies there is aligned: groups are whole vectors, and of static shared memory, which comes first, there are
    multiples of 16 bytes.
    """
    wide = min(width, vector.BYTES // itemsize)
    places = [f"at + {k}" for k in range(0, width, wide)]
    put = [f"    store(stage, {at}, values[{at[5:]}:{int(at[5:]) + wide}])\n" for at in places]
    source = f"""def put(stage, at, values):
{"".join(put)}
def kept(stage, at):
    return {" + ".join(f"load(stage, {at})" for at in places)}
"""
    scope = {"load": vector.load(wide), "store": vector.store(wide)}
    return tuple(cuda.jit(from_source(name, source, scope)) for name in ("put", "kept"))


# Division


def reciprocal(divisor: int, small: bool) -> tuple[int, int]:
    """(factor, shift) such that n // divisor is n · factor >> shift, for n below 2³¹; if not `small`, what divides."""
    shift = 31 + (divisor - 1).bit_length()
    return (-(-(1 << shift) // divisor), shift) if small else (divisor, 0)


@cache
def quotient(small: bool) -> Function:
    """``quotient(n, factor, shift)``: n // divisor, by its `reciprocal`."""

    def quotient(n, factor, shift):
        if small:
            return np.int64((np.uint64(np.uint32(n)) * np.uint64(np.uint32(factor))) >> np.uint64(shift))
        return n // factor

    return cuda.jit(quotient)
