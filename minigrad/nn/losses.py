"""Losses: functions of the model's output and the targets that give one number, the mean over the batch.

Each takes the weights of the samples as a third argument, of the shape of the losses or of as many leading axes as it
has: the mean is then Σ weight·loss / number of losses.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.tensor import Tensor, as_tensor, full_like

_EPSILON = 1e-7  # how close probabilities may come to 0 and 1, as in Keras


def softmax_cross_entropy(logits: Tensor, labels: Any, sample_weight: Any = None) -> Tensor:
    """−log softmax(logits)[label], averaged over the batch.

    Args:
        logits: shape (n, classes), before the softmax.
        labels: integers of shape (n,), or probabilities of shape (n, classes).
        sample_weight: shape (n,).

    Example:
        >>> import minigrad as mg
        >>> loss = mg.nn.losses.softmax_cross_entropy(mg.tensor([[0.0, 0.0]]), mg.tensor([1]))
        >>> round(loss.item(), 4)
        0.6931
    """
    return averaged("softmax_cross_entropy", ops.softmax_cross_entropy(logits, labels), sample_weight)


def cross_entropy(probabilities: Tensor, labels: Any, sample_weight: Any = None) -> Tensor:
    """−log p[label], averaged over the batch, with p = probability/Σ probability kept in [1e-7, 1 − 1e-7].

    `softmax_cross_entropy` of what the softmax gets is exact where this one has no digits left.

    Args:
        probabilities: shape (n, classes).
        labels: integers of shape (n,), or probabilities of shape (n, classes).
        sample_weight: shape (n,).

    Raises:
        IndexRangeError, ShapeError, DTypeError: for labels that do not fit.
    """
    p = ops.clip(probabilities / probabilities.sum(-1, keepdims=True), _EPSILON, 1 - _EPSILON)
    labels = as_tensor(labels, like=p)
    if labels.shape == p.shape:
        values = -(labels.astype(p.dtype) * ops.log(p)).sum(-1)
    elif labels.shape != p.shape[:-1]:
        wanted = f"{p.shape[:-1]} or {p.shape}"
        raise ShapeError(f"cross_entropy: labels have shape {labels.shape}, expected {wanted} as of the probabilities")
    elif labels.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: labels have dtype {labels.dtype}, expected integers for shape {labels.shape}")
    else:
        values = -ops.log(ops.take_along_axis(p, ops.expand_dims(labels, -1), -1)).squeeze(-1)
    return averaged("cross_entropy", values, sample_weight)


def sigmoid_cross_entropy(logits: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """−t·log σ(z) − (1−t)·log(1 − σ(z)) = softplus(z) − t·z, averaged over all elements; z are the logits."""
    targets = _like(logits, targets, "sigmoid_cross_entropy")
    return averaged("sigmoid_cross_entropy", ops.softplus(logits) - targets * logits, sample_weight)


def binary_cross_entropy(probabilities: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """−t·log p − (1−t)·log(1 − p), averaged over all elements, with p kept in [1e-7, 1 − 1e-7]."""
    targets = _like(probabilities, targets, "binary_cross_entropy")
    p = ops.clip(probabilities, _EPSILON, 1 - _EPSILON)
    return averaged("binary_cross_entropy", -(targets * ops.log(p) + (1 - targets) * ops.log(1 - p)), sample_weight)


def mean_squared_error(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """(output − target)², averaged over all elements."""
    error = outputs - _like(outputs, targets, "mean_squared_error")
    return averaged("mean_squared_error", ops.square(error), sample_weight)


def mean_absolute_error(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """|output − target|, averaged over all elements."""
    error = outputs - _like(outputs, targets, "mean_absolute_error")
    return averaged("mean_absolute_error", ops.absolute(error), sample_weight)


def mean_absolute_percentage_error(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """100·|output − target|/max(|target|, 1e-7), averaged over all elements."""
    targets = _like(outputs, targets, "mean_absolute_percentage_error")
    values = 100.0 * ops.absolute((outputs - targets) / ops.maximum(ops.absolute(targets), _EPSILON))
    return averaged("mean_absolute_percentage_error", values, sample_weight)


def mean_squared_logarithmic_error(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """(log(1 + output) − log(1 + target))², averaged; values below 1e-7 count as that."""
    targets = _like(outputs, targets, "mean_squared_logarithmic_error")
    error = ops.log1p(ops.maximum(outputs, _EPSILON)) - ops.log1p(ops.maximum(targets, _EPSILON))
    return averaged("mean_squared_logarithmic_error", ops.square(error), sample_weight)


def huber(outputs: Tensor, targets: Any, sample_weight: Any = None, delta: float = 1.0) -> Tensor:
    """e²/2 where |e| ≤ delta, else delta·(|e| − delta/2), averaged; e is the difference (Huber 1964)."""
    size = ops.absolute(outputs - _like(outputs, targets, "huber"))
    near = ops.minimum(size, delta)
    return averaged("huber", near * (size - 0.5 * near), sample_weight)


def log_cosh(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """log cosh(output − target), averaged."""
    error = outputs - _like(outputs, targets, "log_cosh")
    return averaged("log_cosh", error + ops.softplus(-2.0 * error) - log(2.0), sample_weight)


def hinge(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """max(1 − t·output, 0), averaged; targets are −1 and 1, or 0 and 1, which are taken as those."""
    return averaged("hinge", ops.relu(1.0 - _signed("hinge", outputs, targets) * outputs), sample_weight)


def squared_hinge(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """max(1 − t·output, 0)², averaged; targets as of `hinge`."""
    values = ops.square(ops.relu(1.0 - _signed("squared_hinge", outputs, targets) * outputs))
    return averaged("squared_hinge", values, sample_weight)


def categorical_hinge(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """max(0, 1 + max(0, the largest output of a wrong class) − the right one's), averaged; targets are one-hot rows."""
    targets = _like(outputs, targets, "categorical_hinge")
    right, wrong = (targets * outputs).sum(-1), ((1.0 - targets) * outputs).max(-1)
    return averaged("categorical_hinge", ops.relu(wrong - right + 1.0), sample_weight)


def kl_divergence(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """Σ t·log(t/p) over the last axis, averaged over the others; both are kept in [1e-7, 1]."""
    t = ops.clip(_like(outputs, targets, "kl_divergence"), _EPSILON, 1.0)
    values = (t * ops.log(t / ops.clip(outputs, _EPSILON, 1.0))).sum(-1)
    return averaged("kl_divergence", values, sample_weight)


def poisson(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """output − target·log(output + 1e-7), averaged."""
    targets = _like(outputs, targets, "poisson")
    return averaged("poisson", outputs - targets * ops.log(outputs + _EPSILON), sample_weight)


def cosine_similarity(outputs: Tensor, targets: Any, sample_weight: Any = None) -> Tensor:
    """−cos of the angle between output and target along the last axis, averaged: −1 where they point one way."""
    targets = _like(outputs, targets, "cosine_similarity")
    return averaged("cosine_similarity", -(_unit(outputs) * _unit(targets)).sum(-1), sample_weight)


LOSSES: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (
        softmax_cross_entropy, cross_entropy, sigmoid_cross_entropy, binary_cross_entropy, mean_squared_error,
        mean_absolute_error, mean_absolute_percentage_error, mean_squared_logarithmic_error, huber, log_cosh, hinge,
        squared_hinge, categorical_hinge, kl_divergence, poisson, cosine_similarity,
    )
}  # fmt: skip


def get(loss: Any) -> Callable[..., Tensor]:
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


def averaged(name: str, values: Tensor, sample_weight: Any = None) -> Tensor:
    """The mean of a batch of losses; with weights, Σ weight·loss / number of losses."""
    if sample_weight is None:
        return values.mean()
    weight = as_tensor(sample_weight, like=values).astype(values.dtype)
    if weight.shape != values.shape[: weight.ndim]:
        raise ShapeError(f"{name}: sample_weight has shape {weight.shape}, expected leading axes of {values.shape}")
    return (values * weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))).mean()


def _like(outputs: Tensor, targets: Any, name: str) -> Tensor:
    targets = as_tensor(targets, like=outputs).astype(outputs.dtype)
    if targets.shape != outputs.shape:
        raise ShapeError(f"{name}: targets have shape {targets.shape}, expected {outputs.shape} as the outputs")
    return targets


def _signed(name: str, outputs: Tensor, targets: Any) -> Tensor:
    targets = _like(outputs, targets, name)
    return ops.where(ops.equal(targets, 0), full_like(targets, -1, ()), targets)


def _unit(x: Tensor) -> Tensor:
    return x / ops.sqrt(ops.maximum(ops.square(x).sum(-1, keepdims=True), 1e-12))
