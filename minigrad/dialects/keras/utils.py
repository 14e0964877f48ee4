"""Utilities: one-hot labels and the seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import random
from minigrad.errors import ArgumentError, DTypeError

__all__ = ["normalize", "set_random_seed", "to_categorical"]


def to_categorical(y: Any, num_classes: int | None = None, dtype: Any = "float32") -> np.ndarray:
    """Labels as one-hot rows: (n,) or (n, 1) of integers to (n, num_classes).

    Args:
        y: integers from 0.
        num_classes: by default the largest label and 1.
        dtype: of the rows.

    Raises:
        DTypeError: for labels that are no whole numbers.
        ArgumentError: for a label out of range.

    Example:
        >>> from minigrad.dialects import keras
        >>> keras.utils.to_categorical([0, 2])
        array([[1., 0., 0.],
               [0., 0., 1.]], dtype=float32)
    """
    given = np.asarray(y)
    labels = given.astype(np.int64)
    if given.dtype.kind not in "biuf" or (given.dtype.kind == "f" and (labels != given).any()):
        raise DTypeError(f"to_categorical: y has dtype {given.dtype}, expected whole numbers")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    classes = num_classes or (int(labels.max()) + 1 if labels.size else 0)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        wanted = f"expected 0 to {classes - 1} for {classes} classes"
        raise ArgumentError(f"to_categorical: labels are {labels.min()} to {labels.max()}, {wanted}")
    return (labels[..., None] == np.arange(classes)).astype(dtype)


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """x over its norm along an axis; 0 stays 0."""
    x = np.asarray(x)
    norm = np.atleast_1d(np.linalg.norm(x, order, axis))
    norm[norm == 0] = 1
    return x / np.expand_dims(norm, axis)


def set_random_seed(seed: int) -> None:
    """Fix what is drawn from here on: first weights, noise and the order of samples."""
    random.seed(seed)
