"""What kernels share in which a warp or a block is on a row: how many threads, and how many elements each moves."""

from __future__ import annotations

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


def width_of(n: int, *arrays: DeviceArray) -> int:
    """How many neighbours in rows of `n` elements can be moved at once: 16 bytes, if all places are aligned to that."""
    width = vector.BYTES // max(a.itemsize for a in arrays)
    while width > 1 and (n % width or any(a.pointer % (width * a.itemsize) for a in arrays)):
        width //= 2
    return width


def each(name: str, function: Function, head: str, arguments: str, width: int) -> Function:
    """``names(head)``: the function of each of so many neighbours, whose number stands for ``{k}`` in `arguments`."""
    row = "".join(f"f({arguments.format(k=k)}), " for k in range(width))
    return jit(from_source(name + "s", f"def {name}s({head}):\n    return ({row})\n", {"f": function, "np": np}))
