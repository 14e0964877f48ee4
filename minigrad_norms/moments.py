"""The functions of this family: standardize, moments, and batch_normalization with given moments."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError, ShapeError
from minigrad_norms.standardize import moments_p, normalize_p, standardize_p


def standardize(
    x: Any, gamma: Any = None, beta: Any = None, *, axes: Any, parameter_axes: Any, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x − μ)·γ/√(σ² + ε) + β with the moments of x itself over `axes`, and those moments.

    Args:
        x: any shape, float32 or float64.
        gamma, beta: scale and shift of shape ``[x.shape[a] for a in parameter_axes]``, or None for 1 and 0.
        axes: the axes that share statistics.
        parameter_axes: the axes along which scale and shift vary.
        epsilon: ε ≥ 0.

    Returns:
        y of x's shape and dtype; mean and biased variance, float64, of the shape of the axes not in `axes`.

    Raises:
        ShapeError, DTypeError, ArgumentError: naming the argument that does not fit.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[1.0, 2.0], [3.0, 2.0]])
        >>> y, mean, var = norms.standardize(x, axes=0, parameter_axes=1, epsilon=0.0)
        >>> y
        tensor([[-1.,  0.],
                [ 1.,  0.]], dtype=float32)
        >>> mean, var
        (tensor([2., 2.], dtype=float64), tensor([1., 0.], dtype=float64))
    """
    x = _floating(x)
    return standardize_p(
        x,
        _parameter(gamma, x),
        _parameter(beta, x),
        axes=mg.axes.normalize("standardize", axes, x.ndim, "axes"),
        parameter_axes=mg.axes.normalize("standardize", parameter_axes, x.ndim, "parameter_axes"),
        epsilon=_epsilon("standardize", epsilon),
    )


def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of x over `axes`, as ``tf.nn.moments``: σ² = mean((x − μ)²).

    Args:
        x: any shape.
        axes: an axis, several, or None for all.
        shift: a tensor that broadcasts to x's shape, subtracted before the sums and added to the mean after. The
            variance here is centred in float64 as it is, so no shift is needed for its digits.
        keepdims: keep the reduced axes with length 1.

    Returns:
        mean and variance, of x's dtype.

    Raises:
        ShapeError, DTypeError, ArgumentError: naming the argument that does not fit.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.moments(mg.tensor([1.0, 2.0, 3.0, 4.0]), 0)
        (tensor(2.5, dtype=float32), tensor(1.25, dtype=float32))
    """
    x = _floating(x)
    axes = mg.axes.normalize("moments", axes, x.ndim, "axes")
    if shift is not None:
        shift = mg.as_tensor(shift).astype(x.dtype)
        mean, var = moments_p(x - shift, axes=axes)
        mean = mean + mg.mean(mg.broadcast_to(shift, x.shape).astype("float64"), axis=axes)
    else:
        mean, var = moments_p(x, axes=axes)
    shape = mg.axes.reduced_shape(x.shape, axes, keepdims)
    return mean.reshape(shape).astype(x.dtype), var.reshape(shape).astype(x.dtype)


def batch_normalization(x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float) -> Tensor:
    """(x − mean)·scale/√(variance + ε) + offset with given moments, as ``tf.nn.batch_normalization``.

    Args:
        x: any shape.
        mean, variance: of shapes that broadcast to x's.
        offset, scale: β and γ, of shapes that broadcast to x's, or None for 0 and 1.
        variance_epsilon: ε.

    Raises:
        ShapeError: if something does not broadcast to x.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[1.0, 2.0], [3.0, 2.0]])
        >>> mean, variance = norms.moments(x, 0)
        >>> norms.batch_normalization(x, mean, variance, None, None, 1e-3)[1, 0].item() > 0.999
        True
    """
    x = _floating(x)
    epsilon = _epsilon("batch_normalization", variance_epsilon)
    given = {"mean": mean, "variance": variance, "offset": offset, "scale": scale}
    tensors = {name: None if v is None else mg.as_tensor(v) for name, v in given.items()}
    for name, t in tensors.items():
        if t is not None and not _broadcasts(t.shape, x.shape):
            raise ShapeError(f"batch_normalization: {name} has shape {t.shape}, expected what broadcasts to {x.shape}")
    mean, variance, offset, scale = tensors.values()
    kept = _trailing_axes(x.shape, mean, variance, offset, scale)
    if kept is None:  # moments or parameters of several shapes: the formula as it stands
        rstd = mg.rsqrt(variance.astype("float64") + epsilon)
        y = (x.astype("float64") - mean) * (rstd if scale is None else rstd * scale)
        return (y if offset is None else y + offset).astype(x.dtype)
    flat = [None if t is None else t.reshape([x.shape[a] for a in kept]) for t in (scale, offset)]
    stats = [t.reshape([x.shape[a] for a in kept]).astype("float64") for t in (mean, variance)]
    axes = tuple(a for a in range(x.ndim) if a not in kept)
    scale, offset = (_parameter(t, x) for t in flat)
    return normalize_p(x, scale, offset, *stats, axes=axes, parameter_axes=kept, epsilon=epsilon)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _trailing_axes(shape: tuple[int, ...], *tensors: Tensor | None) -> tuple[int, ...] | None:
    """The axes along which all tensors vary, if those are the same for all and each has their full length."""
    found = set()
    for t in tensors:
        if t is not None:
            padded = (1,) * (len(shape) - t.ndim) + t.shape
            found.add(tuple(a for a, n in enumerate(padded) if n == shape[a] and n != 1))
    return found.pop() if len(found) == 1 else None


def _floating(x: Any) -> Tensor:
    x = mg.as_tensor(x)
    return x if mg.dtypes.is_differentiable(x.dtype) or x.dtype.kind == "c" else x.astype(mg.dtypes.floating(x.dtype))


def _parameter(value: Any, x: Tensor) -> Tensor | None:
    return None if value is None else mg.as_tensor(value).astype(x.dtype)


def _epsilon(operation: str, epsilon: Any) -> float:
    if not isinstance(epsilon, (int, float)) or not epsilon >= 0:
        raise ArgumentError(f"{operation}: epsilon is {epsilon!r}, expected a number of at least 0")
    return float(epsilon)
