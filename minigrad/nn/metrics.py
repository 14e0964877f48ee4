"""Metrics: functions of outputs and targets, as arrays, that give one number to look at (NaN without samples)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of rows whose largest output is at the label; labels as integers or one-hot rows.

    Raises:
        ShapeError: if the outputs are no rows of two classes or more, or the targets are no labels of theirs.

    Example:
        >>> import numpy as np
        >>> from minigrad.nn.metrics import accuracy
        >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        0.5
    """
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ShapeError(f"accuracy: outputs have shape {outputs.shape}, expected (n, classes) of two classes or more")
    if targets.shape not in (outputs.shape, outputs.shape[:-1]):
        raise ShapeError(
            f"accuracy: targets have shape {targets.shape}, expected {outputs.shape[:-1]} or {outputs.shape}"
        )
    labels = targets.argmax(-1) if targets.ndim == outputs.ndim else targets
    return _mean(outputs.argmax(-1) == labels)


def mean_absolute_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """|output − target|, averaged.

    Raises:
        ShapeError: if the shapes differ.
    """
    if targets.shape != outputs.shape:
        raise ShapeError(f"mean_absolute_error: targets have shape {targets.shape}, expected {outputs.shape}")
    return _mean(np.abs(outputs - targets))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "mean_absolute_error": mean_absolute_error,
}


def get(metric: Any) -> tuple[str, Callable[[np.ndarray, np.ndarray], float]]:
    """The name and the function of a metric, given by either.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ArgumentError(f"metric: {metric!r} is unknown, expected one of {sorted(METRICS)}")
        return metric, METRICS[metric]
    if callable(metric):
        return getattr(metric, "__name__", "metric"), metric
    raise ArgumentTypeError(f"metric: got {metric!r}, expected a name or a function of outputs and targets")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else math.nan
