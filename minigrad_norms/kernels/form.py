"""Where scale and shift of a normalization are found, in the canonical form of `minigrad.axes`."""

from functools import lru_cache
from math import prod
from typing import NamedTuple

from minigrad.axes import Form, canonical, slots

__all__ = ["NONE", "Affine", "Form", "affine", "canonical"]


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
    found = slots(shape, axes)
    if found is None:
        return None
    k0, r0, k1, r1 = ([(shape[axis], axis in parameter_axes) for axis in slot] for slot in found)
    m0, n1, p1 = _leading(k0[::-1]), _leading(k1), _leading(r1)
    if m0 is None or p1 is None or any(spanned for _, spanned in r0):
        return None
    if n1 not in (1, prod(size for size, _ in k1)):
        return None
    return Affine(m0, n1, p1)


def _leading(slot: list[tuple[int, bool]]) -> int | None:
    """The product of the sizes that are spanned, which must come first; None if they don't."""
    spanned = [flag for _, flag in slot]
    if sorted(spanned, reverse=True) != spanned:
        return None
    return prod(size for size, flag in slot if flag)
