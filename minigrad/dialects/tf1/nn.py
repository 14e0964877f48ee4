"""tf.nn: activations, losses, convolutions and pools, moments and batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
import minigrad_norms as norms
from minigrad.dialects.tf1 import array_ops, math_ops, shapes
from minigrad.dialects.tf1.building import apply, convert_to_tensor, tried
from minigrad.dialects.tf1.graph import Tensor, get_default_graph
from minigrad.dialects.tf1.math_ops import sigmoid, tanh
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

# Activations


def _activation(type: str, run: Callable, line: str) -> Callable[..., Tensor]:
    def function(features: Any, name: str | None = None) -> Tensor:
        t = convert_to_tensor(features)
        return apply(type, run, [t], name, t.dtype, t.lengths)

    function.__name__ = function.__qualname__ = type.lower()
    function.__doc__ = line
    return function


relu = _activation("Relu", mg.relu, "max(0, x)")
relu6 = _activation("Relu6", mg.relu6, "min(max(0, x), 6)")
elu = _activation("Elu", mg.elu, "x where it is positive, eˣ - 1 elsewhere.")
softplus = _activation("Softplus", mg.softplus, "log(1 + eˣ)")
swish = _activation("Swish", mg.silu, "x · sigmoid(x)")


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """x where it is positive, alpha · x elsewhere."""
    t = convert_to_tensor(features)
    return apply("LeakyRelu", partial(mg.leaky_relu, slope=alpha), [t], name, t.dtype, t.lengths)


def softmax(logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None) -> Tensor:
    """exp(x) / Σ exp(x) along an axis, the last one by default."""
    along = -1 if axis is None and dim is None else int(dim if axis is None else axis)  # type: ignore[arg-type]
    t = convert_to_tensor(logits)
    return apply("Softmax", partial(mg.softmax, axis=along), [t], name, t.dtype, t.lengths)


def log_softmax(logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None) -> Tensor:
    """x - log Σ exp(x) along an axis, the last one by default."""
    along = -1 if axis is None and dim is None else int(dim if axis is None else axis)  # type: ignore[arg-type]
    t = convert_to_tensor(logits)
    return apply("LogSoftmax", partial(mg.log_softmax, axis=along), [t], name, t.dtype, t.lengths)


def dropout(
    x: Any, keep_prob: Any = None, noise_shape: Any = None, seed: int | None = None, name: str | None = None,
    rate: Any = None,
) -> Tensor:  # fmt: skip
    """x / keep_prob with that probability, else 0.

    Args:
        keep_prob: a number in (0, 1], or a tensor; ``rate`` is 1 - keep_prob.
        noise_shape: not offered.

    Raises:
        ArgumentError: for a number out of range, and for noise_shape.
    """
    if noise_shape is not None:
        raise ArgumentError("dropout: noise_shape is not offered")
    if (keep_prob is None) == (rate is None):
        raise ArgumentError("dropout: takes keep_prob or rate, and just one of them")
    keep = math_ops.subtract(1.0, rate) if keep_prob is None else keep_prob
    if not isinstance(keep, Tensor) and not 0 < float(keep) <= 1:
        raise ArgumentError(f"dropout: keep_prob must be a scalar tensor or a float in the range (0, 1], got {keep}")
    if isinstance(keep, (int, float)) and float(keep) == 1:
        return array_ops.identity(x)
    t = convert_to_tensor(x)

    def run(session: Any, value: mg.Tensor, kept: mg.Tensor) -> mg.Tensor:
        drawn = mg.random.uniform(value.shape, dtype=value.dtype, generator=session.generator_of(op, seed))
        return value / kept * mg.less(drawn, kept).astype(value.dtype)

    op = get_default_graph().add("Dropout", run, [t, convert_to_tensor(keep, t.dtype)], name or "dropout", True)
    return op.result(t.dtype, t.lengths)


# Layers


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Sequence[int] = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Convolution with a kernel (rows, columns, channels, outputs); strides have a number for each axis of `input`."""
    kernel = filters if filter is None else filter
    steps, spread = (
        _spatial("conv2d", "strides", strides, data_format),
        _spatial("conv2d", "dilations", dilations, data_format),
    )
    run = partial(mg.conv2d, strides=steps, padding=padding, dilation=spread, data_format=data_format)
    return apply("Conv2D", run, [convert_to_tensor(input), convert_to_tensor(kernel)], name)


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """A number for each channel added.

    Raises:
        ShapeError: if there are other than so many; also a ValueError.
    """
    t, b = convert_to_tensor(value), convert_to_tensor(bias)
    if data_format == "NCHW" and t.lengths is not None and len(t.lengths) > 2:
        b = array_ops.reshape(b, [-1] + [1] * (len(t.lengths) - 2))
    return math_ops.add(t, b, name or "BiasAdd")


def max_pool(
    value: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NHWC", name: str | None = None
) -> Tensor:
    """The largest in each window; ksize and strides have a number for each axis."""
    return _pool("MaxPool", mg.max_pool2d, value, ksize, strides, padding, data_format, name)


def avg_pool(
    value: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NHWC", name: str | None = None
) -> Tensor:
    """The mean of each window; ksize and strides have a number for each axis."""
    return _pool("AvgPool", mg.avg_pool2d, value, ksize, strides, padding, data_format, name)


def _pool(
    type: str, run: Callable, value: Any, ksize: Any, strides: Any, padding: str, data_format: str, name: str | None
) -> Tensor:
    window = _spatial(type, "ksize", ksize, data_format)
    steps = _spatial(type, "strides", strides, data_format)
    function = partial(run, size=window, strides=steps, padding=padding, data_format=data_format)
    return apply(type, function, [convert_to_tensor(value)], name)


def _spatial(operation: str, argument: str, given: Any, data_format: str) -> tuple[int, int]:
    """The two numbers for rows and columns among those for four axes."""
    if isinstance(given, int):
        return given, given
    numbers = [int(n) for n in given or ()]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    rows = 2 if data_format == "NCHW" else 1
    if len(numbers) != 4 or any(n != 1 for i, n in enumerate(numbers) if i not in (rows, rows + 1)):
        raise ArgumentError(
            f"{operation}: {argument} is {given!r}, expected four numbers, 1 for the axes of batch and channels"
        )
    return numbers[rows], numbers[rows + 1]


# Moments and batch normalization


def moments(
    x: Any, axes: Any, shift: Any = None, name: str | None = None, keep_dims: bool = False, keepdims: Any = None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of x over axes, by `minigrad_norms.moments`."""
    over = tuple(int(a) for a in axes) if isinstance(axes, (list, tuple, np.ndarray)) else int(axes)
    keep = bool(keep_dims if keepdims is None else keepdims)
    inputs = [convert_to_tensor(x)] + ([] if shift is None else [convert_to_tensor(shift)])

    def run(value: mg.Tensor, *shifts: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        return norms.moments(value, over, shifts[0] if shifts else None, keep)

    found = tried(name or "moments", run, inputs)
    op = get_default_graph().add("moments", run, inputs, name)
    mean, variance = (op.result(*each) for each in (found if len(found) == 2 else found * 2))
    return mean, variance


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float, name: str | None = None
) -> Tensor:
    """(x − mean)·scale/√(variance + ε) + offset, by `minigrad_norms.batch_normalization`; offset or scale may be None.

    Raises:
        ShapeError: if something does not broadcast to x; also a ValueError.
    """
    t = convert_to_tensor(x)
    given = {"mean": mean, "variance": variance, "offset": offset, "scale": scale}
    there = {
        n: convert_to_tensor(v, None if isinstance(v, Tensor) else t.dtype) for n, v in given.items() if v is not None
    }
    for argument, v in there.items():
        math_ops.broadcast(f"batch_normalization of {argument}", t.lengths, v.lengths)
        if t.lengths is not None and v.lengths is not None and len(v.lengths) > len(t.lengths):
            raise ShapeError(f"batch_normalization: {argument} {v!r} does not broadcast to x {t!r}")

    def run(value: mg.Tensor, *others: mg.Tensor) -> mg.Tensor:
        named = dict.fromkeys(given) | dict(zip(there, others))
        return norms.batch_normalization(value, **named, variance_epsilon=float(variance_epsilon))

    return apply("batchnorm", run, [t, *there.values()], name, t.dtype, t.lengths)


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images normalized by their own moments, which come with them, or in inference by those given.

    In training the variance that comes back is n/(n − 1)·σ² (Bessel's correction).
    """
    t = convert_to_tensor(x)
    axes = [0, 1, 2] if data_format == "NHWC" else [0, 2, 3]
    fixed = () if is_training else (convert_to_tensor(mean), convert_to_tensor(variance))
    m, v = fixed or moments(t, axes)

    def lifted(value: Any) -> Tensor:
        return convert_to_tensor(value) if data_format == "NHWC" else array_ops.reshape(value, [1, -1, 1, 1])

    y = batch_normalization(t, lifted(m), lifted(v), lifted(offset), lifted(scale), epsilon, name)
    if fixed:
        return y, m, v
    count = math_ops.cast(math_ops.floordiv(array_ops.size(t), array_ops.size(m)), t.dtype)
    return y, m, v * (count / math_ops.maximum(count - 1.0, 1.0))


def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, name: str | None = None
) -> Tensor:
    """x / (bias + alpha · Σ x²)^beta over neighbouring channels, by `minigrad_norms.local_response_normalization`."""
    run = partial(norms.local_response_normalization, depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta)
    t = convert_to_tensor(input)
    return apply("LRN", run, [t], name, t.dtype, t.lengths)


lrn = local_response_normalization


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Tensor:
    """x / √max(Σ x², ε) along an axis."""
    t, along = convert_to_tensor(x), dim if axis is None else axis
    square = math_ops.reduce_sum(math_ops.square(t), along, keepdims=True)
    return math_ops.multiply(t, math_ops.rsqrt(math_ops.maximum(square, epsilon)), name)


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Σ t² / 2"""
    return math_ops.multiply(math_ops.reduce_sum(math_ops.square(t)), 0.5, name or "L2Loss")


# Losses


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, dim: int = -1, name: str | None = None,
    axis: int | None = None,
) -> Tensor:  # fmt: skip
    """−Σ label · log softmax(logits), one loss a row."""
    x, y = _named("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    if y.dtype != x.dtype:
        y = math_ops.cast(y, x.dtype)
    _require_same("softmax_cross_entropy_with_logits", "logits and labels", x, y)
    run = partial(mg.softmax_cross_entropy, axis=dim if axis is None else axis)
    return apply("SoftmaxCrossEntropyWithLogits", run, [x, y], name)


softmax_cross_entropy_with_logits_v2 = softmax_cross_entropy_with_logits


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """−log softmax(logits) at the label, an integer a row."""
    x, y = _named("sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    if y.dtype.kind not in "iu":
        raise ArgumentTypeError(f"sparse_softmax_cross_entropy_with_logits: labels are {y.dtype}, expected integers")
    if x.lengths is not None and y.lengths is not None and len(x.lengths) != len(y.lengths) + 1:
        raise ShapeError(
            f"Rank mismatch: Rank of labels (received {len(y.lengths)}) should equal rank of logits minus 1 (received "
            f"{len(x.lengths)})."
        )
    lengths = None if x.lengths is None else x.lengths[:-1]
    run: Callable = mg.softmax_cross_entropy
    return apply("SparseSoftmaxCrossEntropyWithLogits", run, [x, y], name, x.dtype, lengths)


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """−t·log σ(x) − (1 − t)·log(1 − σ(x)), without overflow."""
    x, y = _named("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)
    _require_same("sigmoid_cross_entropy_with_logits", "logits and labels", x, y)
    return apply("logistic_loss", lambda a, t: mg.softplus(a) - a * t, [x, y], name, x.dtype, x.lengths)


def in_top_k(predictions: Any, targets: Any, k: int, name: str | None = None) -> Tensor:
    """Whether fewer than k predictions are larger than the target's."""
    t, y = convert_to_tensor(predictions), convert_to_tensor(targets)

    def run(values: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        own = mg.take_along_axis(values, mg.expand_dims(mg.as_tensor(labels).astype("int64"), -1), -1)
        return mg.less(mg.sum((values > own).astype("float32"), -1), float(k))

    return apply("InTopK", run, [t, y], name, bool, y.lengths)


def _named(operation: str, sentinel: Any, labels: Any, logits: Any) -> tuple[Tensor, Tensor]:
    if sentinel is not None:
        raise ArgumentError(f"Only call `{operation}` with named arguments (labels=..., logits=..., ...)")
    if labels is None or logits is None:
        raise ArgumentError(f"{operation}: both labels and logits must be provided.")
    return convert_to_tensor(logits), convert_to_tensor(labels)


def _require_same(operation: str, what: str, one: Tensor, other: Tensor) -> None:
    try:
        shapes.merged(one.lengths, other.lengths)
    except ArgumentError:
        raise ShapeError(
            f"{operation}: {what} must have the same shape, got {shapes.text(one.lengths)} and "
            f"{shapes.text(other.lengths)}"
        ) from None


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """How much of it is 0."""
    return math_ops.reduce_mean(math_ops.cast(math_ops.equal(value, 0.0), "float32"), name=name)


__all__ = [
    "avg_pool", "batch_normalization", "bias_add", "conv2d", "dropout", "elu", "fused_batch_norm", "in_top_k",
    "l2_loss", "l2_normalize", "leaky_relu", "local_response_normalization", "log_softmax", "lrn", "max_pool",
    "moments", "relu", "relu6", "sigmoid", "sigmoid_cross_entropy_with_logits", "softmax",
    "softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2", "softplus",
    "sparse_softmax_cross_entropy_with_logits", "swish", "tanh", "zero_fraction",
]  # fmt: skip
