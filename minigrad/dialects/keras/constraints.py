"""Constraints of `minigrad.nn.constraints`, under Keras's names."""

from typing import Any

from minigrad.dialects.keras.names import by_name
from minigrad.nn.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from minigrad.nn.constraints import get as _get

max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

__all__ = ["MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "get", "max_norm", "min_max_norm", "non_neg", "unit_norm"]


def get(identifier: Any) -> Any:
    """The constraint of that name, the function itself, or None for None."""
    return by_name(_get, identifier)
