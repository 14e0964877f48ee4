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
    labels = _labels("accuracy", outputs, targets)
    return _mean(outputs.argmax(-1) == labels)


def top_k_accuracy(outputs: np.ndarray, targets: np.ndarray, k: int = 5) -> float:
    """The share of rows in which fewer than k outputs are larger than the label's.

    Raises:
        ShapeError: as of `accuracy`.
    """
    labels = _labels("top_k_accuracy", outputs, targets)
    right = np.take_along_axis(outputs, labels[..., None], -1)
    return _mean((outputs > right).sum(-1) < k)


def binary_accuracy(outputs: np.ndarray, targets: np.ndarray, threshold: float = 0.5) -> float:
    """The share of elements that lie above the threshold where the target is 1, and do not where it is 0.

    Raises:
        ShapeError: if the shapes differ.
    """
    _require_like("binary_accuracy", outputs, targets)
    return _mean((outputs > threshold) == (targets > 0.5))


def mean_absolute_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """|output − target|, averaged.

    Raises:
        ShapeError: if the shapes differ.
    """
    _require_like("mean_absolute_error", outputs, targets)
    return _mean(np.abs(outputs - targets))


def mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """(output − target)², averaged.

    Raises:
        ShapeError: if the shapes differ.
    """
    _require_like("mean_squared_error", outputs, targets)
    return _mean(np.square(outputs - targets))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    f.__name__: f for f in (accuracy, top_k_accuracy, binary_accuracy, mean_absolute_error, mean_squared_error)
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


def _labels(name: str, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ShapeError(f"{name}: outputs have shape {outputs.shape}, expected (n, classes) of two classes or more")
    if targets.shape not in (outputs.shape, outputs.shape[:-1]):
        raise ShapeError(
            f"{name}: targets have shape {targets.shape}, expected {outputs.shape[:-1]} or {outputs.shape}"
        )
    return targets.argmax(-1) if targets.ndim == outputs.ndim else targets


def _require_like(name: str, outputs: np.ndarray, targets: np.ndarray) -> None:
    if targets.shape != outputs.shape:
        raise ShapeError(f"{name}: targets have shape {targets.shape}, expected {outputs.shape}")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else math.nan
