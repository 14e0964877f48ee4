"""Regularizers of `minigrad.nn.regularizers`, under Keras's names."""

from typing import Any

from minigrad.dialects.keras.names import by_name
from minigrad.nn.regularizers import L1, L1L2, L2, OrthogonalRegularizer
from minigrad.nn.regularizers import get as _get

__all__ = ["L1", "L1L2", "L2", "OrthogonalRegularizer", "get", "l1", "l1_l2", "l2"]


def l1(l1: float = 0.01) -> L1:
    """l1·Σ|w|."""
    return L1(l1)


def l2(l2: float = 0.01) -> L2:
    """l2·Σw²."""
    return L2(l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """l1·Σ|w| + l2·Σw²."""
    return L1L2(l1, l2)


def get(identifier: Any) -> Any:
    """The regularizer of that name, the function itself, or None for None."""
    return by_name(_get, identifier)
