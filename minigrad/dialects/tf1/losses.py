"""tf.losses: averaged losses, which the collection LOSSES holds, and their sum."""

from __future__ import annotations

from typing import Any

from minigrad.dialects.tf1 import math_ops, nn
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.graph import GraphKeys, Tensor, get_default_graph


def softmax_cross_entropy(
    onehot_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:  # fmt: skip
    """The mean of the cross-entropies between labels and softmax(logits)."""
    labels = math_ops.cast(onehot_labels, convert_to_tensor(logits).dtype)
    if label_smoothing:
        count = labels.shape[-1].value
        labels = labels * (1.0 - label_smoothing) + label_smoothing / (count or 1)
    each = nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return compute_weighted_loss(each, weights, scope, loss_collection)


def sparse_softmax_cross_entropy(
    labels: Any, logits: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:  # fmt: skip
    """The mean of the cross-entropies at integer labels."""
    each = nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return compute_weighted_loss(each, weights, scope, loss_collection)


def sigmoid_cross_entropy(
    multi_class_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:  # fmt: skip
    """The mean of the binary cross-entropies."""
    labels = math_ops.cast(multi_class_labels, convert_to_tensor(logits).dtype)
    if label_smoothing:
        labels = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
    each = nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return compute_weighted_loss(each, weights, scope, loss_collection)


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:  # fmt: skip
    """The mean of (prediction - label)²."""
    return compute_weighted_loss(math_ops.squared_difference(predictions, labels), weights, scope, loss_collection)


def absolute_difference(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:  # fmt: skip
    """The mean of |prediction - label|."""
    each = math_ops.abs_(math_ops.subtract(predictions, labels))
    return compute_weighted_loss(each, weights, scope, loss_collection)


def compute_weighted_loss(
    losses: Any, weights: Any = 1.0, scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES
) -> Tensor:
    """Σ weight · loss over the number of losses whose weight is not 0."""
    each = convert_to_tensor(losses)
    if isinstance(weights, (int, float)):
        loss = math_ops.multiply(math_ops.reduce_mean(each), float(weights), scope)
    else:
        w = convert_to_tensor(weights, each.dtype) + each * 0.0
        counted = math_ops.reduce_sum(math_ops.cast(math_ops.not_equal(w, 0.0), each.dtype))
        loss = math_ops.divide(math_ops.reduce_sum(each * w), math_ops.maximum(counted, 1.0), scope)
    if loss_collection:
        get_default_graph().add_to_collection(loss_collection, loss)
    return loss


def add_loss(loss: Tensor, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Put a loss into the collection."""
    if loss_collection:
        get_default_graph().add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Tensor]:
    """The losses that the collection holds."""
    return get_default_graph().get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Tensor]:
    """What the regularizers of Variables give."""
    return get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(scope: str | None = None, name: str = "total_regularization_loss") -> Tensor:
    """Their sum."""
    found = get_regularization_losses(scope)
    return math_ops.add_n(found, name) if found else convert_to_tensor(0.0, name=name)


def get_total_loss(add_regularization_losses: bool = True, name: str = "total_loss") -> Tensor:
    """The sum of all losses, and of what regularizers give."""
    found = get_losses() + (get_regularization_losses() if add_regularization_losses else [])
    return math_ops.add_n(found, name) if found else convert_to_tensor(0.0, name=name)
