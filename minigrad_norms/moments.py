"""The functions of this family: standardize, moments, and batch_normalization with given moments."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ShapeError
from minigrad_norms.arguments import epsilon_of, floating, widened
from minigrad_norms.standardize import moments_p, normalize_p, standardize_p


def standardize(
    x: Any, gamma: Any = None, beta: Any = None, *, axes: Any, parameter_axes: Any, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x − μ)·γ/√(σ² + ε) + β with the moments of x itself over `axes`, and those moments.

    Args:
        x: any shape; half types are computed in float32.
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
    x, narrow = widened(floating(x))
    y, mean, var = standardize_p(
        x,
        _parameter(gamma, x),
        _parameter(beta, x),
        axes=mg.axes.normalize("standardize", axes, x.ndim, "axes"),
        parameter_axes=mg.axes.normalize("standardize", parameter_axes, x.ndim, "parameter_axes"),
        epsilon=epsilon_of("standardize", epsilon),
    )
    return (y if narrow is None else y.astype(narrow)), mean, var


def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of x over `axes`, as ``tf.nn.moments``: σ² = mean((x − μ)²).

    Args:
        x: any shape; half types are computed in float32.
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
    x, narrow = widened(floating(x))
    axes = mg.axes.normalize("moments", axes, x.ndim, "axes")
    if shift is not None:
        shift = mg.as_tensor(shift).astype(x.dtype)
        mean, var = moments_p(x - shift, axes=axes)
        mean = mean + mg.mean(mg.broadcast_to(shift, x.shape).astype("float64"), axis=axes)
    else:
        mean, var = moments_p(x, axes=axes)
    shape = mg.axes.reduced_shape(x.shape, axes, keepdims)
    dtype = x.dtype if narrow is None else narrow
    return mean.reshape(shape).astype(dtype), var.reshape(shape).astype(dtype)


def batch_normalization(x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float) -> Tensor:
    """(x − mean)·scale/√(variance + ε) + offset with given moments, as ``tf.nn.batch_normalization``.

    Args:
        x: any shape; half types are computed in float32.
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
    x, narrow = widened(floating(x))
    epsilon = epsilon_of("batch_normalization", variance_epsilon)
    given = {"mean": mean, "variance": variance, "offset": offset, "scale": scale}
    tensors = {name: None if v is None else mg.as_tensor(v) for name, v in given.items()}
    for name, t in tensors.items():
        if t is not None and not _broadcasts(t.shape, x.shape):
            raise ShapeError(f"batch_normalization: {name} has shape {t.shape}, expected what broadcasts to {x.shape}")
    kept, stats = _spanning(x.shape, tensors["mean"], tensors["variance"])
    spanned, parameters = _spanning(x.shape, tensors["scale"], tensors["offset"])
    axes = tuple(a for a in range(x.ndim) if a not in kept)
    stats = [t.astype("float64") for t in stats if t is not None]
    parameters = [_parameter(t, x) for t in parameters]
    y = normalize_p(x, *parameters, *stats, axes=axes, parameter_axes=spanned, epsilon=epsilon)
    return y if narrow is None else y.astype(narrow)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _spanning(shape: tuple[int, ...], *tensors: Tensor | None) -> tuple[tuple[int, ...], list[Tensor | None]]:
    """The axes of an array of `shape` along which any of the tensors varies, and each with just those axes."""
    padded = [None if t is None else (1,) * (len(shape) - t.ndim) + t.shape for t in tensors]
    axes = tuple(a for a, n in enumerate(shape) if n != 1 and any(p is not None and p[a] == n for p in padded))
    found: list[Tensor | None] = []
    for t, p in zip(tensors, padded):
        if t is not None and p is not None:
            t = mg.broadcast_to(t.reshape([p[a] for a in axes]), tuple(shape[a] for a in axes))
        found.append(t)
    return axes, found


def _parameter(value: Any, x: Tensor) -> Tensor | None:
    return None if value is None else mg.as_tensor(value).astype(x.dtype)
