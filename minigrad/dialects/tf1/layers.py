"""tf.layers: functions that make their Variables, under a name that counts up."""

from __future__ import annotations

from typing import Any

from minigrad.dialects.tf1 import array_ops, math_ops, nn
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.control_flow import cond
from minigrad.dialects.tf1.graph import Tensor
from minigrad.dialects.tf1.init_ops import zeros_initializer
from minigrad.dialects.tf1.normalization import batch_normalization
from minigrad.dialects.tf1.scopes import get_variable, variable_scope
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

__all__ = [
    "average_pooling2d", "batch_normalization", "conv2d", "dense", "dropout", "flatten", "max_pooling2d",
]  # fmt: skip


def dense(
    inputs: Any,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Tensor:
    """f(x·W + b), over the last axis.

    Raises:
        ShapeError: if the length of that axis is not known; also a ValueError.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default():
        ...     y = tf.layers.dense(tf.placeholder(tf.float32, [None, 3]), 2, name="fc")
        ...     y.shape.as_list(), [v.name for v in tf.trainable_variables()]
        ([None, 2], ['fc/kernel:0', 'fc/bias:0'])
    """
    x, units = convert_to_tensor(inputs), positive("dense", "units", units)
    features = None if not x.lengths else x.lengths[-1]
    if features is None:
        raise ShapeError(f"dense: the last dimension of inputs {x!r} should be defined. Found `None`.")
    with variable_scope(name, "dense", reuse=reuse):
        kernel = get_variable("kernel", [features, units], x.dtype, kernel_initializer, kernel_regularizer, trainable)
        y = product(x, kernel, units)
        if use_bias:
            first = bias_initializer or zeros_initializer()
            y = nn.bias_add(y, get_variable("bias", [units], x.dtype, first, bias_regularizer, trainable))
    return activated(y, activation)


def product(x: Tensor, kernel: Tensor, units: int) -> Tensor:
    """x·W over the last axis of x."""
    if len(x.lengths or ()) == 2:
        return math_ops.matmul(x, kernel)
    lengths = array_ops.shape(x)
    rows = math_ops.matmul(array_ops.reshape(x, [-1, kernel.lengths[0]]), kernel)  # type: ignore[index]
    y = array_ops.reshape(rows, [*array_ops.unstack(lengths)[:-1], units])
    y.set_shape([*(x.lengths or ())[:-1], units])
    return y


def conv2d(
    inputs: Any,
    filters: int,
    kernel_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Any = (1, 1),
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Tensor:
    """f(convolution with `filters` kernels of `kernel_size`, + b)."""
    x, form, filters = convert_to_tensor(inputs), _form(data_format), positive("conv2d", "filters", filters)
    place = 1 if form == "NCHW" else -1
    if x.lengths is None or len(x.lengths) != 4 or x.lengths[place] is None:
        raise ShapeError(f"conv2d: inputs {x!r} must have four axes, and the channel dimension should be defined")
    size = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    with variable_scope(name, "conv2d", reuse=reuse):
        kernel_shape = [*size, x.lengths[place], filters]
        kernel = get_variable("kernel", kernel_shape, x.dtype, kernel_initializer, kernel_regularizer, trainable)
        y = nn.conv2d(x, kernel, strides, padding.upper(), data_format=form, dilations=dilation_rate)
        if use_bias:
            first = bias_initializer or zeros_initializer()
            bias = get_variable("bias", [filters], x.dtype, first, bias_regularizer, trainable)
            y = nn.bias_add(y, bias, form)
    return activated(y, activation)


def activated(y: Tensor, activation: Any) -> Tensor:
    """f(y), or y if no function is given."""
    if activation is not None and not callable(activation):
        raise ArgumentTypeError(f"activation is {activation!r}, expected a function, as tf.nn.relu, or None")
    return y if activation is None else activation(y)


def positive(operation: str, argument: str, value: Any) -> int:
    """A number of outputs."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise ArgumentError(f"{operation}: {argument} is {value!r}, expected a positive integer")
    return int(value)


def max_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The largest in each window."""
    return nn.max_pool(inputs, pool_size, strides, padding.upper(), _form(data_format), name)


def average_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window."""
    return nn.avg_pool(inputs, pool_size, strides, padding.upper(), _form(data_format), name)


def _form(data_format: str) -> str:
    return {"channels_last": "NHWC", "channels_first": "NCHW"}.get(data_format, data_format)


def flatten(inputs: Any, name: str | None = None) -> Tensor:
    """All axes but the first one in one."""
    x = convert_to_tensor(inputs)
    rest = x.shape[1:].num_elements() if x.lengths else None
    if rest is None:
        raise ShapeError(f"flatten: the lengths of inputs {x!r} but the first must be known")
    return array_ops.reshape(x, [-1, rest], name or "flatten")


def dropout(
    inputs: Any, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, training: Any = False,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """In training x / (1 - rate) or, with that rate, 0; else x. `training` may be a boolean tensor."""
    x = convert_to_tensor(inputs)
    if isinstance(training, Tensor):
        return cond(training, lambda: nn.dropout(x, None, noise_shape, seed, name, rate), lambda: array_ops.identity(x))
    return nn.dropout(x, None, noise_shape, seed, name, rate) if training else array_ops.identity(x)
