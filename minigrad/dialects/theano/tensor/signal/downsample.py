"""The older name of the pooling module."""

from __future__ import annotations

from typing import Any

from minigrad.dialects.theano.graph import Variable
from minigrad.dialects.theano.tensor.signal.pool import max_pool_2d_same_size, pool_2d

__all__ = ["max_pool_2d", "max_pool_2d_same_size", "pool_2d"]


def max_pool_2d(
    input: Any, ds: Any, ignore_border: bool = False, st: Any = None, padding: Any = (0, 0), mode: str = "max"
) -> Variable:
    """`pool_2d` under its older name, with ``ignore_border=False`` where it is not given."""
    return pool_2d(input, ds, ignore_border, st, padding, mode)
