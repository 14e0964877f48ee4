"""Axes: normalized from what users pass, and merged into the one form that reducing kernels work in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from operator import index
from typing import Any, NamedTuple

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


class Form(NamedTuple):
    """An array as (k0, r0, k1, r1): kept, reduced, kept, reduced, after neighbouring axes of a kind are merged.

    There is a group of elements to reduce for each (i0, i1), in the order of the kept axes.

    Attributes:
        permutation: None where the axes fit the four slots as they lie. Otherwise the array must be transposed by it
            (kept axes, then reduced ones) and copied first, and is (k0, 1, 1, r1) from then on.
    """

    k0: int
    r0: int
    k1: int
    r1: int
    permutation: tuple[int, ...] | None = None

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.k0 * self.k1

    @property
    def extent(self) -> int:
        """How many elements a group has."""
        return self.r0 * self.r1

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.groups * self.extent


def normalize(operation: str, axes: Any, ndim: int, argument: str = "axis") -> tuple[int, ...]:
    """`axes` (None for all, an integer, or a sequence) as sorted non-negative integers.

    Raises:
        ArgumentTypeError: for something that is no integer.
        ShapeError: for an axis out of range.
        ArgumentError: for one that stands twice.
    """
    if axes is None:
        return tuple(range(ndim))
    if axes.__class__ is int and -ndim <= axes < ndim:
        return (axes % ndim,)
    plural = axes.__class__ is tuple or (isinstance(axes, Sequence) and not isinstance(axes, str))
    items = axes if plural else (axes,)
    found = []
    for item in items:
        try:
            axis = index(item)
        except TypeError:
            raise ArgumentTypeError(f"{operation}: {argument} is {axes!r}, expected integers or None") from None
        if not -ndim <= axis < ndim:
            raise ShapeError(f"{operation}: {argument} {axis} is out of range for {ndim} dimensions")
        found.append(axis % ndim)
    if len(found) == 1:
        return (found[0],)
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
    found = slots(shape, axes)
    if found is not None:
        k0, r0, k1, r1 = (prod(shape[axis] for axis in slot) for slot in found)
        return Form(k0, r0, k1, r1)
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    return Form(prod(shape[a] for a in kept), 1, 1, prod(shape[a] for a in axes), kept + axes)


def slots(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """The axes in each of the four slots, those of size 1 left out; None where they need more slots."""
    runs: list[tuple[bool, list[int]]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        reduced = axis in axes
        if runs and runs[-1][0] == reduced:
            runs[-1][1].append(axis)
        else:
            runs.append((reduced, [axis]))
    pattern = "".join("r" if reduced else "k" for reduced, _ in runs)
    # Rows stay rows: "kr" is (k, 1, 1, r), so that r1 is 1 only where the last axis is kept.
    where = {"": "", "k": "0", "r": "3", "kr": "03", "rk": "12", "krk": "012", "rkr": "123", "krkr": "0123"}.get(
        pattern
    )
    if where is None:
        return None
    found: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for place, (_, run) in zip(where, runs):
        found[int(place)].extend(run)
    return found


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape that is left of `shape` once `axes` are reduced."""
    if keepdims:
        return tuple(1 if a in axes else n for a, n in enumerate(shape))
    return tuple(n for a, n in enumerate(shape) if a not in axes)
