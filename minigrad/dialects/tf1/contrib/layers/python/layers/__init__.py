"""What tf.contrib.layers has, where TensorFlow keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from minigrad.dialects.tf1 import math_ops, nn
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.graph import GraphKeys, Tensor, get_default_graph
from minigrad.dialects.tf1.init_ops import (
    Initializer,
    glorot_normal_initializer,
    glorot_uniform_initializer,
    zeros_initializer,
)
from minigrad.dialects.tf1.init_ops import variance_scaling_initializer as _scaling
from minigrad.dialects.tf1.layers import activated, flatten, positive, product
from minigrad.dialects.tf1.layers import dropout as _dropout
from minigrad.dialects.tf1.normalization import batch_norm
from minigrad.dialects.tf1.scopes import get_variable, variable_scope
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms.store import names_of

__all__ = [
    "avg_pool2d", "batch_norm", "conv2d", "convolution2d", "dropout", "flatten", "fully_connected", "l1_regularizer",
    "l2_regularizer", "max_pool2d", "variance_scaling_initializer", "xavier_initializer", "xavier_initializer_conv2d",
]  # fmt: skip


def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Any = nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = zeros_initializer,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Tensor:
    """f(normalization(x·W)), or f(x·W + b) without a normalizer."""
    x, num_outputs = convert_to_tensor(inputs), positive("fully_connected", "num_outputs", num_outputs)
    features = x.lengths[-1] if x.lengths else None
    if features is None:
        raise ShapeError(f"fully_connected: the last dimension of the inputs {x!r} must be known")
    with variable_scope(scope, "fully_connected", reuse=reuse):
        make = partial(_weights, trainable, variables_collections)
        w = make("weights", [features, num_outputs], weights_initializer, weights_regularizer)
        bias = partial(make, "biases", [num_outputs], biases_initializer, biases_regularizer)
        y = product(x, w, num_outputs)
        y = _finished(y, bias if biases_initializer is not None else None, normalizer_fn, normalizer_params)
    return _collected(y, activation_fn, outputs_collections)


def conv2d(
    inputs: Any,
    num_outputs: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: Any = 1,
    activation_fn: Any = nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = zeros_initializer,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Tensor:
    """f(normalization(convolution)), or f(convolution + b) without a normalizer."""
    x, form = convert_to_tensor(inputs), data_format or "NHWC"
    num_outputs = positive("conv2d", "num_outputs", num_outputs)
    place = 1 if form == "NCHW" else -1
    if x.lengths is None or len(x.lengths) != 4 or x.lengths[place] is None:
        raise ShapeError(f"conv2d: inputs {x!r} must have four axes and a known number of channels")
    size = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    with variable_scope(scope, "Conv", reuse=reuse):
        make = partial(_weights, trainable, variables_collections)
        w = make("weights", [*size, x.lengths[place], num_outputs], weights_initializer, weights_regularizer)
        bias = partial(make, "biases", [num_outputs], biases_initializer, biases_regularizer)
        y = nn.conv2d(x, w, stride, padding, data_format=form, dilations=rate)
        y = _finished(y, bias if biases_initializer is not None else None, normalizer_fn, normalizer_params, form)
    return _collected(y, activation_fn, outputs_collections)


convolution2d = conv2d


def _weights(trainable: bool, collections: Any, name: str, shape: list, initializer: Any, regularizer: Any) -> Tensor:
    held = collections.get(name) if isinstance(collections, Mapping) else collections
    kinds = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES, *names_of("variables_collections", held)]
    return get_variable(name, shape, None, initializer, regularizer, trainable, kinds)


def _finished(
    y: Tensor, bias: Callable | None, normalizer: Any, params: Mapping[str, Any] | None, data_format: str = "NHWC"
) -> Tensor:
    if normalizer is not None:
        return normalizer(y, **(params or {}))
    return y if bias is None else nn.bias_add(y, bias(), data_format)


def _collected(y: Tensor, activation: Any, collections: Any) -> Tensor:
    y = activated(y, activation)
    for collection in names_of("outputs_collections", collections):
        get_default_graph().add_to_collection(collection, y)
    return y


def max_pool2d(
    inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NHWC",
    outputs_collections: Any = None, scope: str | None = None,
) -> Tensor:  # fmt: skip
    """The largest in each window."""
    return _collected(nn.max_pool(inputs, kernel_size, stride, padding, data_format, scope), None, outputs_collections)


def avg_pool2d(
    inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NHWC",
    outputs_collections: Any = None, scope: str | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window."""
    return _collected(nn.avg_pool(inputs, kernel_size, stride, padding, data_format, scope), None, outputs_collections)


def dropout(
    inputs: Any, keep_prob: Any = 0.5, noise_shape: Any = None, is_training: Any = True,
    outputs_collections: Any = None, scope: str | None = None, seed: int | None = None,
) -> Tensor:  # fmt: skip
    """In training x / keep_prob with that probability, else 0; x in inference."""
    y = _dropout(inputs, math_ops.subtract(1.0, keep_prob), noise_shape, seed, is_training, scope)
    return _collected(y, None, outputs_collections)


# Initializers and regularizers


def xavier_initializer(uniform: bool = True, seed: int | None = None, dtype: Any = "float32") -> Initializer:
    """Glorot's: uniform between ∓√(6/(fan in + fan out)), or normal."""
    return glorot_uniform_initializer(seed, dtype) if uniform else glorot_normal_initializer(seed, dtype)


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False, seed: int | None = None, dtype: Any = "float32"
) -> Initializer:
    """Variance `factor` over fan in, fan out or their mean: by default He's."""
    kind = "uniform" if uniform else "normal"
    return _scaling(factor, mode.lower(), kind, seed, dtype)


def l2_regularizer(scale: float, scope: str | None = None) -> Callable[[Tensor], Tensor | None]:
    """scale · Σ w² / 2, as a function of the weights; none for a scale of 0."""
    _require_scale("l2_regularizer", scale)
    return lambda w: None if not scale else math_ops.multiply(nn.l2_loss(w), float(scale), scope or "l2_regularizer")


def l1_regularizer(scale: float, scope: str | None = None) -> Callable[[Tensor], Tensor | None]:
    """scale · Σ |w|, as a function of the weights; none for a scale of 0."""
    _require_scale("l1_regularizer", scale)

    def penalty(w: Tensor) -> Tensor | None:
        total = math_ops.reduce_sum(math_ops.abs_(w))
        return math_ops.multiply(total, float(scale), scope or "l1_regularizer") if scale else None

    return penalty


def _require_scale(operation: str, scale: Any) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or scale < 0:
        raise ArgumentError(f"{operation}: scale is {scale!r}, expected a number of at least 0")
