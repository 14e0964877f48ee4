"""Names as Keras writes them: classes in CamelCase, their strings in snake_case, both accepted everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")


def snake(name: str) -> str:
    """``GlorotUniform`` as ``glorot_uniform``, ``Conv2D`` as ``conv2d``; what is in snake_case stays.

    Example:
        >>> from minigrad.dialects.keras.names import snake
        >>> [snake(n) for n in ("GlorotUniform", "MaxPooling2D", "L1L2", "he_normal", "ReLU", "RMSNormalization")]
        ['glorot_uniform', 'max_pooling2d', 'l1_l2', 'he_normal', 're_lu', 'rms_normalization']
    """
    if name in ("L1L2", "l1l2"):
        return "l1_l2"
    return _WORDS.sub("_", name).lower()


def by_name(get: Callable[[Any], Any], value: Any) -> Any:
    """What `get` knows by this name in either form; classes are made without arguments, other values are its own."""
    if isinstance(value, type):
        value = value()
    return get(snake(value) if isinstance(value, str) else value)
