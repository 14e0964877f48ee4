"""Memory: a place for each value in one arena, in which the dead make room for the living."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Any

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

    In order of time, each takes the smallest gap that it fits into, or grows the arena.

    Example:
        >>> a, b, c = Block(100, 0, 1), Block(60, 1, 2), Block(40, 2, 3)
        >>> place([a, b, c]), a.offset, b.offset, c.offset
        (192, 0, 128, 0)
    """
    total = 0
    gaps: list[tuple[int, int]] = []  # (offset, size), by offset
    ends: list[tuple[int, int, int]] = []  # (last, offset, size) of what is placed, by last
    for block in sorted(blocks, key=lambda b: (b.first, -b.size)):
        size = rounded(block.size)
        while ends and ends[0][0] < block.first:
            _, offset, length = ends.pop(0)
            _give_back(gaps, offset, length)
        fitting = [gap for gap in gaps if gap[1] >= size]
        if fitting:
            offset, length = min(fitting, key=lambda gap: gap[1])
            gaps.remove((offset, length))
            if length > size:
                insort(gaps, (offset + size, length - size))
        else:
            offset = total
            if gaps and sum(gaps[-1]) == total:  # the last gap reaches the end: it grows
                offset = gaps.pop()[0]
            total = offset + size
        block.offset = offset
        insort(ends, (block.last, offset, size))
    return total


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


def _give_back(gaps: list[tuple[int, int]], offset: int, size: int) -> None:
    """Add a gap, joined with those that it touches."""
    for gap in [g for g in gaps if sum(g) == offset or g[0] == offset + size]:
        gaps.remove(gap)
        offset, size = min(offset, gap[0]), size + gap[1]
    insort(gaps, (offset, size))
