"""Metrics of (y_true, y_pred), averaged over the samples; by name, as classes, or functions of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.dialects.keras.names import by_name, snake
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.nn import metrics as functions
from minigrad.tensor import Tensor

__all__ = [
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "MeanAbsoluteError", "MeanSquaredError", "Metric",
    "SparseCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "get",
]  # fmt: skip


class Metric:
    """A function of (y_true, y_pred) that gives a number a batch, and its average over the samples so far.

    Args:
        function: of arrays; a value for each sample is averaged.
        name: the key in the History.
        on_scores: whether it is the same for what the model's last softmax gets as for what it gives.
    """

    def __init__(self, function: Callable, name: str, on_scores: bool = False):
        self.function, self.name, self.on_scores = function, name, on_scores
        self.reset_state()

    def of(self, y_true: Any, y_pred: Any) -> float:
        """The value of one batch."""
        found = self.function(y_true, y_pred)
        return float(np.mean(found.numpy() if isinstance(found, Tensor) else found))

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """Add a batch."""
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        self._total += self.of(y_true, y_pred) * len(y_true)
        self._count += len(y_true)

    def result(self) -> float:
        """The average over the batches added."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Forget the batches."""
        self._total, self._count = 0.0, 0

    def __call__(self, y_true: Any, y_pred: Any) -> float:
        self.update_state(y_true, y_pred)
        return self.result()


class Accuracy(Metric):
    """The share of right answers: of labels, of one-hot rows, or of 0 and 1 beyond one half, as the shapes say."""

    def __init__(self, name: str = "accuracy"):
        super().__init__(_accuracy, name, on_scores=True)


class SparseCategoricalAccuracy(Metric):
    """The share of rows whose largest output is at the label."""

    def __init__(self, name: str = "sparse_categorical_accuracy"):
        super().__init__(lambda t, p: functions.accuracy(p, _labels(t, p)), name, on_scores=True)


class CategoricalAccuracy(Metric):
    """The share of rows whose largest output is where the one-hot row has its 1."""

    def __init__(self, name: str = "categorical_accuracy"):
        super().__init__(lambda t, p: functions.accuracy(p, t), name, on_scores=True)


class BinaryAccuracy(Metric):
    """The share of elements that lie beyond the threshold where the target is 1, and do not where it is 0."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5):
        super().__init__(lambda t, p: functions.binary_accuracy(p, _alike(t, p), threshold), name)


class TopKCategoricalAccuracy(Metric):
    """The share of rows in which the one-hot row's 1 is at one of the k largest outputs."""

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy"):
        super().__init__(lambda t, p: functions.top_k_accuracy(p, t, k), name, on_scores=True)


class SparseTopKCategoricalAccuracy(Metric):
    """The share of rows in which the label is at one of the k largest outputs."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy"):
        super().__init__(lambda t, p: functions.top_k_accuracy(p, _labels(t, p), k), name, on_scores=True)


class MeanSquaredError(Metric):
    """(y_true − y_pred)²."""

    def __init__(self, name: str = "mean_squared_error"):
        super().__init__(lambda t, p: functions.mean_squared_error(p, _alike(t, p)), name)


class MeanAbsoluteError(Metric):
    """|y_true − y_pred|."""

    def __init__(self, name: str = "mean_absolute_error"):
        super().__init__(lambda t, p: functions.mean_absolute_error(p, _alike(t, p)), name)


_CLASSES: tuple[Any, ...] = (
    Accuracy, SparseCategoricalAccuracy, CategoricalAccuracy, BinaryAccuracy, TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy, MeanSquaredError, MeanAbsoluteError,
)  # fmt: skip
_BY_NAME: dict[str, Any] = {snake(c.__name__): c for c in _CLASSES}
_BY_NAME |= {"acc": Accuracy, "mse": MeanSquaredError, "mae": MeanAbsoluteError}


def get(identifier: Any) -> Metric:
    """The metric of that name, a Metric itself, or a function of (y_true, y_pred) as one; it keeps the name given.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is none of these.
    """
    return by_name(_known, identifier)


def _known(identifier: Any) -> Metric:
    if isinstance(identifier, str):
        if identifier not in _BY_NAME:
            raise ArgumentError(f"metric: {identifier!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[identifier](name=identifier)
    if isinstance(identifier, Metric):
        return identifier
    if callable(identifier):
        name = getattr(identifier, "name", None) or getattr(identifier, "__name__", "metric")
        return Metric(identifier, str(name))
    raise ArgumentTypeError(f"metric: got {identifier!r}, expected a name, a Metric or a function of (y_true, y_pred)")


def _accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    if y_pred.ndim < 2 or y_pred.shape[-1] == 1:
        return functions.binary_accuracy(y_pred, _alike(y_true, y_pred))
    return functions.accuracy(y_pred, _labels(y_true, y_pred))


def _labels(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    return y_true[..., 0] if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1 else y_true


def _alike(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    return y_true.reshape(y_pred.shape) if y_true.size == y_pred.size else y_true
