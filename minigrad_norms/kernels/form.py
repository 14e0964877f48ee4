"""The canonical form of a normalization: which axes are kept and reduced, and where scale and shift are found."""

from functools import lru_cache
from math import prod
from typing import NamedTuple


class Form(NamedTuple):
    """An array seen as (k0, r0, k1, r1): slots kept, reduced, kept, reduced, of neighbouring axes merged.

    There is a statistic for each (i0, i1), k0·k1 in all, in the order of the kept axes.

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
        """How many statistics there are."""
        return self.k0 * self.k1

    @property
    def extent(self) -> int:
        """How many elements a statistic is over."""
        return self.r0 * self.r1

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.groups * self.extent


class Affine(NamedTuple):
    """Where scale and shift are found: a table of shape (m0, n1, p1), held flat.

    Element (i0, j0, i1, j1) of the form takes table[i0 % m0, i1 % n1, j1 // (r1 / p1)], with m0 a divisor of k0,
    n1 either 1 or k1, p1 a divisor of r1:

    | case | table |
    |---|---|
    | batch norm | (1, C, 1) |
    | instance norm NHWC / NCHW | (1, C, 1) / (C, 1, 1) |
    | layer norm | (1, 1, features) |
    | group norm NHWC / NCHW | (1, G, C/G) / (G, 1, C/G) |
    | conditional instance norm NHWC / NCHW | (N, C, 1) / (N·C, 1, 1) |
    | none | (1, 1, 1) |
    """

    m0: int
    n1: int
    p1: int

    @property
    def size(self) -> int:
        """How many parameters the table has."""
        return self.m0 * self.n1 * self.p1


#: The table of a scale or shift that is not there.
NONE = Affine(1, 1, 1)


@lru_cache(maxsize=4096)
def canonical(shape: tuple[int, ...], axes: tuple[int, ...]) -> Form:
    """The form of an array of `shape` reduced over `axes` (sorted, not negative).

    Example:
        >>> canonical((32, 7, 7, 64), (0, 1, 2))
        Form(k0=1, r0=1568, k1=64, r1=1, permutation=None)
        >>> canonical((32, 64, 7, 7), (0, 2, 3))
        Form(k0=1, r0=32, k1=64, r1=49, permutation=None)
        >>> canonical((4, 5, 6, 7), (0, 2))
        Form(k0=35, r0=1, k1=1, r1=24, permutation=(1, 3, 0, 2))
    """
    slots = _slots(shape, axes)
    if slots is not None:
        k0, r0, k1, r1 = (prod(shape[axis] for axis in slot) for slot in slots)
        return Form(k0, r0, k1, r1)
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    return Form(prod(shape[a] for a in kept), 1, 1, prod(shape[a] for a in axes), kept + axes)


@lru_cache(maxsize=4096)
def affine(shape: tuple[int, ...], axes: tuple[int, ...], parameter_axes: tuple[int, ...]) -> Affine | None:
    """The table of a parameter that spans `parameter_axes` (sorted) of an array of `shape` reduced over `axes`.

    None where the parameter fits no table; scale and shift are then operations of their own. Where the form has a
    permutation, permute `shape` and the axes before asking.

    Example:
        >>> affine((32, 7, 7, 64), (0, 1, 2), (3,))  # batch norm
        Affine(m0=1, n1=64, p1=1)
        >>> affine((32, 8, 2, 7, 7), (2, 3, 4), (1, 2))  # group norm, 8 groups of 2 channels
        Affine(m0=8, n1=1, p1=2)
    """
    slots = _slots(shape, axes)
    if slots is None:
        return None
    k0, r0, k1, r1 = ([(shape[axis], axis in parameter_axes) for axis in slot] for slot in slots)
    m0, n1, p1 = _leading(k0[::-1]), _leading(k1), _leading(r1)
    if m0 is None or p1 is None or any(spanned for _, spanned in r0):
        return None
    if n1 not in (1, prod(size for size, _ in k1)):
        return None
    return Affine(m0, n1, p1)


def _slots(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[list[int], list[int], list[int], list[int]] | None:
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
    slots: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for place, (_, run) in zip(where, runs):
        slots[int(place)].extend(run)
    return slots


def _leading(slot: list[tuple[int, bool]]) -> int | None:
    """The product of the sizes that are spanned, which must come first; None if they don't."""
    spanned = [flag for _, flag in slot]
    if sorted(spanned, reverse=True) != spanned:
        return None
    return prod(size for size, flag in slot if flag)
