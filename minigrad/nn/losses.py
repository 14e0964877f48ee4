"""Losses: functions of the model's output and the targets that give one number, the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad.tensor import Tensor, as_tensor


def softmax_cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """−log softmax(logits)[label], averaged over the batch.

    Args:
        logits: shape (n, classes), before the softmax.
        labels: integers of shape (n,), or probabilities of shape (n, classes).

    Example:
        >>> import minigrad as mg
        >>> loss = mg.nn.losses.softmax_cross_entropy(mg.tensor([[0.0, 0.0]]), mg.tensor([1]))
        >>> round(loss.item(), 4)
        0.6931
    """
    return ops.softmax_cross_entropy(logits, labels).mean()


def mean_squared_error(outputs: Tensor, targets: Any) -> Tensor:
    """(output − target)², averaged over all elements."""
    return ops.square(outputs - _like(outputs, targets, "mean_squared_error")).mean()


def mean_absolute_error(outputs: Tensor, targets: Any) -> Tensor:
    """|output − target|, averaged over all elements."""
    return ops.absolute(outputs - _like(outputs, targets, "mean_absolute_error")).mean()


def sigmoid_cross_entropy(logits: Tensor, targets: Any) -> Tensor:
    """−t·log σ(z) − (1−t)·log(1 − σ(z)) = softplus(z) − t·z, averaged over all elements; z are the logits."""
    targets = _like(logits, targets, "sigmoid_cross_entropy")
    return (ops.softplus(logits) - targets * logits).mean()


LOSSES: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
}


def get(loss: Any) -> Callable[[Tensor, Any], Tensor]:
    """The loss of that name, or the function itself.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither a name nor a function.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ArgumentError(f"loss: {loss!r} is unknown, expected one of {sorted(LOSSES)}")
        return LOSSES[loss]
    if callable(loss):
        return loss
    raise ArgumentTypeError(f"loss: got {loss!r}, expected a name or a function of outputs and targets")


def _like(outputs: Tensor, targets: Any, name: str) -> Tensor:
    targets = as_tensor(targets).astype(outputs.dtype)
    if targets.shape != outputs.shape:
        raise ShapeError(f"{name}: targets have shape {targets.shape}, expected {outputs.shape} as the outputs")
    return targets
