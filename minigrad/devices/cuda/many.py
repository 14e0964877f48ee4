"""Many: one launch over the elements of many small groups of arrays, as an optimizer's step has them.

Where the arrays are, and how long, stands in a table in the GPU's memory; a block looks up in it which group it is on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cpu import from_source
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda import vector
from minigrad.devices.cuda.array import DeviceArray
from minigrad.devices.cuda.kernels import THREADS, Kernel, blocks_of, gpu, jit, kernel
from minigrad.devices.cuda.memory import here

_MOST_TABLES = 256


def for_each(
    groups: Sequence[Sequence[DeviceArray]], written: int, step: Callable, factors: DeviceArray, *numbers: Any
) -> None:
    """Change corresponding elements of the arrays of each group, all groups in one launch.

    Args:
        groups: of as many contiguous arrays each, those of a group of one size, those in the same place of one dtype.
        written: how many of a group's arrays, the first ones, are overwritten.
        step: ``step(*elements, *factors, *numbers)`` makes their new elements, as a tuple.
        factors: numbers that lie in the GPU's memory, each of which a thread reads once.
        numbers: other ones.
    """
    groups = [group for group in groups if group[0].size]
    if not groups:
        return
    kinds = tuple([a.dtype for a in groups[0]])
    count = vector.BYTES // max(dtype.itemsize for dtype in kinds)
    rows, blocks = [], 0
    for group in groups:
        aligned = all(a.pointer % (count * a.itemsize) == 0 for a in group)
        rows.append([*group, group[0].size, blocks, int(aligned)])
        blocks += blocks_of(group[0].size, THREADS * count)
    made = _kernel(step, kinds, count, written, factors.size, len(numbers))
    device = factors.lease.stream.device
    addresses = table(rows, device)
    uses = [addresses, factors, *[a for group in groups for a in group]]
    made(blocks, THREADS, addresses, len(rows), factors, *numbers, uses=uses)


def table(rows: Sequence[Sequence[Any]], device: int) -> DeviceArray:
    """Rows of arrays, of which the addresses are meant, and of integers, in a GPU's memory; equal ones are one."""
    if here.recording is not None:
        return here.recording.table(rows)
    values = filled(rows)
    known, key = drivers.get().state.tables, (values.tobytes(), device)
    found = known.get(key)
    if found is None:
        if len(known) >= _MOST_TABLES:
            known.clear()
        found = known[key] = cuda.to_device(values, device)
    return found


def filled(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """The integers of a table."""
    return np.array([v.pointer if isinstance(v, DeviceArray) else v for row in rows for v in row], np.int64)


@cache
def _kernel(
    step: Callable, kinds: tuple[np.dtype, ...], count: int, written: int, factors: int, numbers: int
) -> Kernel:
    """Each thread takes `count` elements of each array, at once in groups whose arrays are all aligned for that."""
    arrays = len(kinds)
    each = range(arrays)
    width, name = arrays + 3, f"many_{step.__name__}"
    given = [*[f"f{k}" for k in range(factors)], *[f"n{k}" for k in range(numbers)]]

    def call(elements: str) -> str:
        return f"step({', '.join([elements.format(k=k) for k in each] + given)})"

    lines = [
        f"def {name}({', '.join(['table', 'rows', 'factors', *given[factors:]])}):",
        "    block = gpu.blockIdx.x",
        "    low, high = 0, rows",
        "    while high - low > 1:",
        "        middle = (low + high) // 2",
        f"        if table[middle * {width} + {arrays + 1}] <= block:",
        "            low = middle",
        "        else:",
        "            high = middle",
        f"    row = low * {width}",
        f"    size = table[row + {arrays}]",
        f"    at = ((block - table[row + {arrays + 1}]) * {THREADS} + gpu.threadIdx.x) * {count}",
        *[f"    a{k} = pointed_{k}(table[row + {k}], size)" for k in each],
        *[f"    f{k} = kind(factors[{k}])" for k in range(factors)],
        f"    if table[row + {arrays + 2}] != 0 and at + {count} <= size:",
        *[f"        x{k} = load(a{k}, at)" for k in each],
        *[f"        r{j} = {call(f'x{{k}}[{j}]')}" for j in range(count)],
        *[f"        store(a{k}, at, ({', '.join(f'r{j}[{k}]' for j in range(count))}))" for k in range(written)],
        "    else:",
        f"        for i in range(at, min(at + {count}, size)):",
        f"            r = {call('a{k}[i]')}",
        *[f"            a{k}[i] = r[{k}]" for k in range(written)],
    ]
    scope = {
        "gpu": gpu, "step": jit(step), "kind": dtypes.arithmetic(kinds[0]).type,
        **{f"pointed_{k}": vector.pointed(kind) for k, kind in enumerate(kinds)},
        "load": vector.load(count), "store": vector.store(count),
    }  # fmt: skip
    return kernel(from_source(name, "\n".join(lines) + "\n", scope))
