"""Ghost batch normalization (Hoffer, Hubara & Soudry 2017): statistics of virtual batches, parts of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms.arguments import epsilon_of, floating, parameter, widened
from minigrad_norms.standardize import standardize_p


def ghost_batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    virtual_batch_size: int,
    axis: Any = -1,
    epsilon: float = 1e-3,
    activation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(x − μ)·γ/√(σ² + ε) + β with the moments of each virtual batch: `virtual_batch_size` neighbours on axis 0.

    Args:
        x: shape (batch, ..., channels, ...).
        gamma, beta: shape (channels,), or None for 1 and 0.
        virtual_batch_size: how many samples share statistics; a divisor of the batch.
        axis: the axis, or axes, that keep statistics of their own; not 0.
        epsilon: ε ≥ 0.
        activation: one that `standardize` fuses, or None.

    Returns:
        y of x's shape and dtype; mean and biased variance, float64, shape (virtual batches, channels).

    Raises:
        ShapeError: if the batch does not divide, naming the argument that does not fit.
        ArgumentError: for a size that is not positive.

    Source: Hoffer, Hubara & Soudry 2017, algorithm 1. There the parts are drawn; here they are neighbours, which is
    the same for a shuffled batch.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[0.0], [2.0], [10.0], [30.0]])
        >>> y, mean, var = norms.ghost_batch_norm(x, virtual_batch_size=2, epsilon=0.0)
        >>> y.numpy().ravel()
        array([-1.,  1., -1.,  1.], dtype=float32)
        >>> mean.numpy().ravel()
        array([ 1., 20.])
    """
    x, narrow = widened(floating(x))
    size = virtual_size("ghost_batch_norm", virtual_batch_size)
    kept = mg.axes.normalize("ghost_batch_norm", axis, x.ndim)
    channels = tuple(x.shape[a] for a in kept)
    why = f"at axes {kept}"
    gamma = parameter("ghost_batch_norm", "gamma", gamma, x, channels, why)
    beta = parameter("ghost_batch_norm", "beta", beta, x, channels, why)
    reduced, spanned = virtual_axes("ghost_batch_norm", x.ndim, kept)
    y, mean, var = standardize_p(
        split("ghost_batch_norm", x, size),
        gamma,
        beta,
        axes=reduced,
        parameter_axes=spanned,
        epsilon=epsilon_of("ghost_batch_norm", epsilon),
        activation=activation,
    )
    y = y.reshape(x.shape)
    return (y if narrow is None else y.astype(narrow)), mean, var


def virtual_size(operation: str, size: Any) -> int:
    """The number of samples in a virtual batch.

    Raises:
        ArgumentTypeError: unless it is an integer.
        ArgumentError: unless it is positive.
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise ArgumentTypeError(f"{operation}: virtual_batch_size is {size!r}, expected an integer")
    if size < 1:
        raise ArgumentError(f"{operation}: virtual_batch_size is {size}, expected at least 1")
    return int(size)


def split(operation: str, x: Tensor, size: int) -> Tensor:
    """x of shape (n, ...) as (n/size, size, ...).

    Raises:
        ShapeError: if n is no multiple of the size.
    """
    if x.shape[0] % size:
        raise ShapeError(
            f"{operation}: x has shape {x.shape}, expected a batch that virtual_batch_size = {size} divides"
        )
    return x.reshape((x.shape[0] // size, size, *x.shape[1:]))


def virtual_axes(operation: str, ndim: int, kept: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that are reduced, and those that are kept and spanned, once the batch axis is split.

    Raises:
        ArgumentError: if axis 0, the batch, keeps statistics of its own already.
    """
    if not ndim or 0 in kept:
        raise ArgumentError(f"{operation}: axis {kept} holds the batch, which virtual batches split")
    return tuple(a + 1 for a in range(ndim) if a not in kept), tuple(a + 1 for a in kept)
