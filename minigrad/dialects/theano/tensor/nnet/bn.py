"""Batch normalization: in training by the batch's statistics, in testing by given ones."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano.graph import Apply, Operation, TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor import elementwise
from minigrad.errors import ArgumentError, DTypeError, ShapeError

_LEAST = 1e-5


def batch_normalization_train(
    inputs: Any,
    gamma: Any,
    beta: Any,
    axes: Any = "per-activation",
    epsilon: float = 1e-4,
    running_average_factor: float = 0.1,
    running_mean: Any = None,
    running_var: Any = None,
) -> tuple[Variable, ...]:
    """(x - μ)·γ/√(σ² + ε) + β with mean μ and biased variance σ² of the batch itself.

    Args:
        inputs: any shape; the first axis is the batch.
        gamma, beta: scale and shift, with length 1 and broadcastable along the axes that share statistics; or of the
            other axes alone.
        axes: 'per-activation' for statistics over the batch, 'spatial' for statistics over the batch and all axes
            from the third on, or a tuple of axes.
        epsilon: ε, at least 1e-5.
        running_average_factor: how much of the batch's statistics goes into the running ones.
        running_mean, running_var: running statistics in the shape of gamma; both or none.

    Returns:
        the output, μ and 1/√(σ² + ε), both in gamma's shape; then, if running statistics are given, the new ones:
        ``running_mean·(1 - f) + μ·f`` and ``running_var·(1 - f) + m/(m - 1)·σ²·f`` for m values a statistic, to be put
        into updates. Statistics that are not finite, those of an empty batch among them, leave the running ones alone.

    Raises:
        ShapeError: if numbers of dimensions do not fit.
        ArgumentError: for an epsilon below 1e-5, unknown axes, or one running statistic without the other; at the call,
            if running statistics are to take a variance of one value.

    Source: Ioffe & Szegedy (2015), Batch normalization; the interface of Theano 0.9.

    Example:
        >>> import numpy as np
        >>> import minigrad.dialects.theano.tensor as T
        >>> x = T.dmatrix("x")
        >>> out, mean, invstd = T.nnet.bn.batch_normalization_train(x, np.ones((1, 1)), np.zeros((1, 1)), epsilon=1e-5)
        >>> mean.eval({x: [[1.0], [3.0]]})
        array([[2.]])
    """
    x, over, epsilon = _arguments("batch_normalization_train", inputs, axes, epsilon)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("batch_normalization_train: takes running_mean and running_var both, or none of them")
    scale, shift, full = _parameters("batch_normalization_train", x, over, gamma=gamma, beta=beta)
    type = TensorType(x.dtype, [a in over or b for a, b in enumerate(x.broadcastable)])
    params = (("axes", over), ("corrected", running_mean is not None), ("epsilon", epsilon))
    operation = Operation("BatchNormTrain", _train, params)
    out, mean, invstd, var = Apply(operation, [x, scale, shift], [x.type, type, type, type]).outputs
    found = [out, mean, invstd]
    if running_mean is not None:
        old = {"running_mean": running_mean, "running_var": running_var}
        old_mean, old_var, _ = _parameters("batch_normalization_train", x, over, **old)
        factor = elementwise.cast(running_average_factor, x.dtype)
        found.append(apply("RunningAverage", _moved, [old_mean, mean, factor], old_mean.type))
        found.append(apply("RunningAverage", _moved, [old_var, var, factor], old_var.type))
    if not full:
        found[1:] = [v.dimshuffle(*[a for a in range(x.ndim) if a not in over]) for v in found[1:]]
    return tuple(found)


def batch_normalization_test(
    inputs: Any, gamma: Any, beta: Any, mean: Any, var: Any, axes: Any = "per-activation", epsilon: float = 1e-4
) -> Variable:
    """(x - mean)·γ/√(var + ε) + β with given statistics; arguments as of `batch_normalization_train`."""
    x, over, epsilon = _arguments("batch_normalization_test", inputs, axes, epsilon)
    scale, shift, _ = _parameters("batch_normalization_test", x, over, gamma=gamma, beta=beta)
    mean, var, _ = _parameters("batch_normalization_test", x, over, mean=mean, var=var)
    operation = Operation("BatchNormTest", _test, (("epsilon", epsilon),))
    return Apply(operation, [x, scale, shift, mean, var], [x.type]).outputs[0]


def batch_normalization(inputs: Any, gamma: Any, beta: Any, mean: Any, std: Any, mode: str = "low_mem") -> Variable:
    """(inputs - mean)·(gamma/std) + beta, with given mean and standard deviation; `mode` is ignored."""
    x, mean = as_variable(inputs), as_variable(mean)
    return (x - mean) * (as_variable(gamma) / as_variable(std)) + beta


def _arguments(operation: str, inputs: Any, axes: Any, epsilon: float) -> tuple[Variable, tuple[int, ...], float]:
    x = as_variable(inputs)
    if np.dtype(x.dtype).kind != "f":
        raise DTypeError(f"{operation}: inputs has dtype {x.dtype}, expected a floating-point dtype")
    if axes == "per-activation":
        over: tuple[int, ...] = (0,)
    elif axes == "spatial":
        over = (0, *range(2, x.ndim))
    elif isinstance(axes, (tuple, list)) and axes:
        over = mg.axes.normalize(operation, axes, x.ndim, "axes")
    else:
        raise ArgumentError(f"{operation}: axes is {axes!r}, expected 'per-activation', 'spatial' or a tuple of axes")
    if x.ndim < 1 or over[-1] >= x.ndim:
        raise ShapeError(f"{operation}: inputs has {x.ndim} dimensions, too few for axes {axes!r}")
    if not np.float32(epsilon) >= np.float32(_LEAST):
        raise ArgumentError(f"{operation}: epsilon is {epsilon!r}, expected at least {_LEAST}")
    return x, over, float(epsilon)


def _parameters(operation: str, x: Variable, over: tuple[int, ...], **given: Any) -> tuple[Variable, Variable, bool]:
    """Two parameters with x's dimensions, and whether they came with all of them."""
    kept = x.ndim - len(over)
    found = []
    for name, value in given.items():
        p = as_variable(value)
        if p.ndim not in (kept, x.ndim):
            raise ShapeError(
                f"{operation}: {name} has {p.ndim} dimensions, expected {x.ndim} as inputs, or {kept}, as it has "
                f"without axes {over}"
            )
        full = p.ndim == x.ndim
        if not full:
            axis = iter(range(kept))
            p = p.dimshuffle(*["x" if a in over else next(axis) for a in range(x.ndim)])
        found.append(elementwise.cast(p, x.dtype))
    if len({as_variable(value).ndim for value in given.values()}) > 1:
        raise ShapeError(f"{operation}: {' and '.join(given)} differ in their dimensions")
    return found[0], found[1], full


def _train(
    x: Tensor, gamma: Tensor, beta: Tensor, axes: tuple[int, ...], corrected: bool, epsilon: float
) -> tuple[Tensor, ...]:
    import minigrad_norms as norms  # the plugin; the engine itself knows nothing of it

    parameter_axes = tuple([a for a in range(x.ndim) if a not in axes])
    lengths = tuple([x.shape[a] for a in parameter_axes])
    shape = mg.axes.reduced_shape(x.shape, axes, True)
    for name, p in (("gamma", gamma), ("beta", beta)):
        if p.shape != shape:
            raise ShapeError(f"batch_normalization_train: {name} has shape {p.shape}, expected {shape}")
    y, mean, var = norms.standardize(
        x, gamma.reshape(lengths), beta.reshape(lengths), axes=axes, parameter_axes=parameter_axes, epsilon=epsilon
    )
    count = prod([x.shape[a] for a in axes])
    if not count:  # of no values there are no moments, which the running ones notice
        mean, var = mean + float("nan"), var + float("nan")
    invstd = mg.rsqrt(var + epsilon)
    if corrected:
        if count == 1:
            raise ArgumentError(
                f"batch_normalization_train: inputs has shape {x.shape}, one value a statistic over axes {axes}; "
                "running_var needs at least two"
            )
        var = var * (count / (count - 1))
    return y, *[t.reshape(shape).astype(x.dtype) for t in (mean, invstd, var)]


def _moved(old: Tensor, new: Tensor, factor: Tensor) -> Tensor:
    """old·(1 - factor) + new·factor; where `new` is not finite, `old`."""
    return mg.where(mg.absolute(new) < float("inf"), old + (new - old) * factor, old)


def _test(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, epsilon: float) -> Tensor:
    import minigrad_norms as norms

    return norms.batch_normalization(x, mean, var, beta, gamma, epsilon)
