"""Memory: a place for each value in one arena, in which the dead make room for the living."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass
class Block:
    """Bytes that are needed from one call to another, both included, and where they lie in the arena."""

    size: int
    first: int
    last: int
    what: Any = None
    offset: int = 0


def place(blocks: list[Block]) -> int:
    """Give each block an offset such that no two that are needed at one time overlap; returns the arena's size.

    The largest first, each as low as those allow that are placed already and needed at a time that it is needed at:
    in training steps that comes to within a few percent of what no placement can go below.

    Example:
        >>> a, b, c = Block(100, 0, 1), Block(60, 1, 2), Block(40, 2, 3)
        >>> place([a, b, c]), a.offset, b.offset, c.offset
        (192, 0, 128, 0)
    """
    placed = np.empty((4, len(blocks)), np.int64)  # offset, end, first, last: by offset
    for count, block in enumerate(sorted(blocks, key=lambda b: -b.size)):
        size = rounded(block.size)
        offsets, ends, firsts, lasts = placed[:, :count]
        met = (firsts <= block.last) & (lasts >= block.first)
        above = np.maximum.accumulate(ends[met])  # from here on there is room, up to the next one
        room = np.flatnonzero(offsets[met][1:] - above[:-1] >= size)
        if not above.size or offsets[met][0] >= size:
            block.offset = 0
        else:
            block.offset = int(above[room[0]] if room.size else above[-1])
        at = int(np.searchsorted(offsets, block.offset))
        placed[:, at + 1 : count + 1] = placed[:, at:count].copy()
        placed[:, at] = block.offset, block.offset + size, block.first, block.last
    return int(placed[1].max()) if blocks else 0


def most_needed(blocks: list[Block]) -> int:
    """The largest sum of sizes needed at one time: what no placement can go below."""
    changes: dict[int, int] = {}
    for block in blocks:
        size = rounded(block.size)
        changes[block.first] = changes.get(block.first, 0) + size
        changes[block.last + 1] = changes.get(block.last + 1, 0) - size
    most = now = 0
    for moment in sorted(changes):
        now += changes[moment]
        most = max(most, now)
    return most


def rounded(size: int) -> int:
    """The bytes that a block takes up."""
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
