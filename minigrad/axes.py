"""Axes: normalized from what users pass, and merged into the one form that reducing kernels work in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


class Form(NamedTuple):
    """An array as (k0, r0, k1, r1): kept, reduced, kept, reduced, after neighbouring axes of a kind are merged.

    `permutation` is None where the array itself has that form, else the order of axes, kept ones first, that gives
    it after a transposed copy.
    """

    k0: int
    r0: int
    k1: int
    r1: int
    permutation: tuple[int, ...] | None

    @property
    def kept(self) -> int:
        return self.k0 * self.k1

    @property
    def reduced(self) -> int:
        return self.r0 * self.r1


def normalize(operation: str, axes: Any, ndim: int, argument: str = "axis") -> tuple[int, ...]:
    """`axes` (None for all, an integer, or a sequence) as sorted non-negative integers.

    Raises:
        ArgumentTypeError: for something that is no integer.
        ShapeError: for an axis out of range.
        ArgumentError: for one that stands twice.
    """
    if axes is None:
        return tuple(range(ndim))
    items = axes if isinstance(axes, Sequence) and not isinstance(axes, str) else (axes,)
    found = []
    for item in items:
        try:
            axis = index(item)
        except TypeError:
            raise ArgumentTypeError(f"{operation}: {argument} is {axes!r}, expected integers or None") from None
        if not -ndim <= axis < ndim:
            raise ShapeError(f"{operation}: {argument} {axis} is out of range for {ndim} dimensions")
        found.append(axis % ndim)
    if len(set(found)) < len(found):
        raise ArgumentError(f"{operation}: {argument} {tuple(items)} names an axis twice")
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def canonical(shape: tuple[int, ...], axes: tuple[int, ...]) -> Form:
    """The form of an array of `shape` of which the sorted, non-negative `axes` are reduced.

    Example:
        >>> from minigrad.axes import canonical
        >>> canonical((32, 64, 8, 8), (0, 2, 3))[:4]
        (1, 32, 64, 64)
        >>> canonical((32, 8, 8, 64), (0, 1, 2))[:4]
        (1, 2048, 64, 1)
        >>> canonical((5, 7), (1,))[:4]
        (5, 1, 1, 7)
    """
    runs: list[tuple[bool, int]] = []  # whether reduced, and the length, of neighbours of a kind
    for axis, n in enumerate(shape):
        reduced = axis in axes
        if n == 1:
            continue
        if runs and runs[-1][0] == reduced:
            runs[-1] = (reduced, runs[-1][1] * n)
        else:
            runs.append((reduced, n))
    lengths = [length for _, length in runs]
    # Where the runs stand among k0, r0, k1 and r1: r1 is 1 only where the last axis is kept.
    pattern = "".join("r" if reduced else "k" for reduced, _ in runs)
    places = {"": "", "k": "0", "r": "3", "kr": "03", "rk": "12", "krk": "012", "rkr": "123", "krkr": "0123"}.get(
        pattern
    )
    if places is not None:
        slots = [1, 1, 1, 1]
        for place, length in zip(places, lengths):
            slots[int(place)] = length
        return Form(slots[0], slots[1], slots[2], slots[3], None)
    kept = [a for a in range(len(shape)) if a not in axes]
    order = (*kept, *axes)
    form = canonical(tuple(shape[a] for a in order), tuple(range(len(kept), len(shape))))
    return form._replace(permutation=order)


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape that is left of `shape` once `axes` are reduced."""
    if keepdims:
        return tuple(1 if a in axes else n for a, n in enumerate(shape))
    return tuple(n for a, n in enumerate(shape) if a not in axes)
