"""What kernels share in which a warp or a block is on a row: how many threads, and how many elements each moves."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np

from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import vector
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import Function, blocks_of, jit
from minigrad.devices.cuda.warp import WARP

BLOCK = 256  # threads
LONG = 1024  # elements of a row from which a block is on it, and not a warp


def lanes_on(n: int) -> int:
    """Threads on a row of `n` elements."""
    return WARP if n <= LONG else BLOCK


def grid_over(rows: int, n: int) -> tuple[int, tuple[int, int]]:
    """Blocks and threads for rows of `n` elements: row blockIdx.x · blockDim.y + threadIdx.y, if there is one."""
    lanes = lanes_on(n)
    tall = max(1, min(BLOCK // lanes, rows))
    return blocks_of(rows, tall), (lanes, tall)


class Moves(NamedTuple):
    """How neighbours in rows are moved.

    Attributes:
        width: how many at once.
        load: ``load(array, i)``, a tuple of those from index `i` on.
        store: ``store(array, i, values)``.
    """

    width: int
    load: Function
    store: Function


def width_of(n: int, itemsize: int, most: int = vector.BYTES) -> int:
    """How many neighbours in rows of `n` elements a thread takes: as many as 16 bytes hold and `n` is divisible by."""
    return gcd(n, min(most, vector.BYTES // itemsize))


def moves_of(n: int, *arrays: DeviceArray, most: int = vector.BYTES) -> Moves:
    """How neighbours in rows of `n` elements are moved: as one, unless some array begins where that is not allowed.

    How many there are does not depend on where arrays begin, and so the bits of sums don't.
    """
    width = width_of(n, max(a.itemsize for a in arrays), most)
    return Moves(width, *vector.moves(width, all(a.pointer % (width * a.itemsize) == 0 for a in arrays)))


def each(name: str, function: Function, head: str, arguments: str, width: int) -> Function:
    """``names(head)``: the function of each of so many neighbours, whose number stands for ``{k}`` in `arguments`."""
    row = "".join(f"f({arguments.format(k=k)}), " for k in range(width))
    return jit(from_source(name + "s", f"def {name}s({head}):\n    return ({row})\n", {"f": function, "np": np}))
