"""Weights made of others: weight norm (Salimans & Kingma 2016) and weight standardization (Qiao et al. 2019)."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentError, CaptureError, ShapeError
from minigrad_norms.arguments import epsilon_of, floating, hashable
from minigrad_norms.moments import moments
from minigrad_norms.standardize import standardize_p
from minigrad_norms.wrapper import KernelWrapper


def weight_norm(v: Any, g: Any, axis: Any = -1) -> Tensor:
    """w = g·v/‖v‖, the Euclidean norm taken over all axes but `axis` (Salimans & Kingma 2016, equation 2).

    Where ‖v‖ is 0, w is 0, and so is its gradient.

    Args:
        v: the direction, of the shape of the weights; not empty along `axis`.
        g: the length, of shape ``[v.shape[a] for a in axis]``: an entry for each output.
        axis: the axis of the outputs, or several; ``()`` for one length of the whole.

    Returns:
        w of v's shape and dtype.

    Raises:
        ShapeError: if an axis is out of range, or g has another shape.
        ArgumentError: for an axis given twice.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.weight_norm(mg.tensor([[3.0, 0.0], [4.0, -2.0]]), mg.tensor([10.0, 3.0]))
        tensor([[ 6.,  0.],
                [ 8., -3.]], dtype=float32)
    """
    return _unit("weight_norm", v, g, axis)[0]


def weight_standardization(w: Any, gain: Any = None, axis: Any = -1, epsilon: float = 1e-5) -> Tensor:
    """(w − μ)·gain/√(σ² + ε) with mean and biased variance over all axes but `axis` (Qiao et al. 2019, equation 2).

    With the gain 1/√n, n being the elements an output has, it is the scaled form of Brock et al. 2021.

    Args:
        w: the weights.
        gain: of shape ``[w.shape[a] for a in axis]``, or None for 1.
        axis: the axis of the outputs, or several.
        epsilon: ε ≥ 0. Where σ² + ε is 0 the result is 0.

    Returns:
        weights of w's shape and dtype.

    Raises:
        ShapeError: if an axis is out of range, or the gain has another shape.
        ArgumentError: for an axis given twice, or a negative epsilon.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.weight_standardization(mg.tensor([[1.0, 7.0], [3.0, 7.0]]), epsilon=0.0)
        tensor([[-1.,  0.],
                [ 1.,  0.]], dtype=float32)
    """
    w = floating(w)
    kept, others = _split("weight_standardization", hashable(axis), w.ndim)
    gain = _of_outputs("weight_standardization", "gain", gain, "w", w, kept)
    epsilon = epsilon_of("weight_standardization", epsilon)
    return standardize_p(w, gain, None, axes=others, parameter_axes=kept, epsilon=epsilon)[0]


class WeightNormalization(KernelWrapper):
    """A layer with its kernel as g·v/‖v‖: training moves lengths and directions apart (Salimans & Kingma 2016).

    v is the layer's own kernel Variable, with its regularizer and constraint if it has any. In the beginning g = ‖v‖,
    so that the layer computes what it did.

    With `data_init`, the first batch in training sets scale and shift (section 3 of the paper): with t = x·v/‖v‖, what
    the layer gives without g, bias and activation, g = 1/σ[t] and b = −μ[t]/σ[t], over all axes of t but the channels'.
    The outputs of that batch, before the activation, have mean 0 and deviation 1 whatever ‖v‖ was. At the edge: a layer
    without a bias gets its deviation only; a channel whose t does not vary, beyond rounding, keeps g = ‖v‖ and gets
    b = −μ[t]·‖v‖; an empty batch, or one that gives a NaN or an infinity, sets nothing, and the next counts as the
    first. A single value a channel has no spread and is an error.

    Args:
        layer: has a `kernel` once it is built (Dense, Conv2D ...), and `bias` and `activation` if it has such.
        data_init: whether the first batch in training sets scale and shift.
        axis: the kernel's axis of outputs, or several; by default the layer's ``kernel_axis``, or else the last.
        name: for messages, summaries and checkpoints.

    Attributes:
        v, g: the Variables. initialized: a boolean Variable, whether there was a first batch; with `data_init` only.

    Raises:
        ArgumentTypeError: for what is no layer, or is wrapped already.
        ArgumentError: if it has no kernel; when called in training on one value a channel, if that is the first batch.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.WeightNormalization(mg.nn.Dense(1, kernel_initializer="ones"))
        >>> layer(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), training=True).numpy().round(3)
        array([[-1.],
               [ 1.]], dtype=float32)
        >>> list(layer.variables)
        ['v', 'g', 'initialized', 'layer/bias']
    """

    v: Variable
    g: Variable
    initialized: Variable

    def __init__(self, layer: Any, data_init: bool = True, axis: Any = None, name: str | None = None):
        self.data_init = bool(data_init)
        self.begun = False  # what `initialized` said last
        super().__init__(layer, axis, name)

    def adopt(self, kernel: Variable) -> None:
        self.v = kernel
        norm = np.sqrt(_unit(self.name, kernel.detach(), None, self.axis)[1].numpy())
        self.g = self.add_variable("g", norm.shape, lambda *_: norm, dtype=kernel.dtype)
        if self.data_init:
            self.initialized = self.add_variable("initialized", (), "zeros", False, "bool")

    def surrender(self) -> Variable:
        return self.v

    def effective(self) -> Tensor:
        """The kernel that the layer computes with: g·v/‖v‖."""
        return weight_norm(self.v, self.g, self.axis)

    def before_call(self, x: Tensor, training: bool, options: dict) -> None:
        if not (training and self.data_init):
            return
        with contextlib.suppress(CaptureError):  # a recording for `jit` can't look, and goes by what was seen last
            self.begun = self.initialized.item()
        if not self.begun:
            _Start(self, x, options).build_once(x.shape)

    def initialize(self, x: Tensor, options: dict) -> None:
        """Set scale and shift by this batch, as the first in training does."""
        layer: Any = self.layer
        direction, square = _unit(self.name, self.v, None, self.axis)
        rest = {name: None for name in ("bias", "activation") if hasattr(layer, name)}
        t = layer.replaced(kernel=direction, **rest)(x, True, **options)
        channels = 1 if getattr(layer, "data_format", None) in ("NCHW", "channels_first") else t.ndim - 1
        if t.shape[channels] != prod(self.g.shape):
            raise ShapeError(f"{self.name}: the output has shape {t.shape}, expected {prod(self.g.shape)} channels")
        if t.size == t.shape[channels]:
            raise ArgumentError(
                f"{self.name}: the first batch of shape {x.shape} gives one value a channel, which has no spread to "
                "set g by; start with a larger batch, or with data_init=False"
            )
        found = moments(t.astype("float64"), tuple(a for a in range(t.ndim) if a != channels))
        mean, deviation = found[0].numpy(), np.sqrt(found[1].numpy())
        if not t.size or not np.all(np.isfinite(deviation)):
            return
        varies = deviation > 16 * np.finfo(t.dtype).eps * np.abs(mean)  # else it is what rounding left
        g = np.where(varies, 1 / np.where(varies, deviation, 1), np.sqrt(square.numpy()).ravel())
        self.g.assign(g.reshape(self.g.shape))
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign((-mean * g).reshape(layer.bias.shape))
        self.initialized.assign(True)


class _Start(mg.nn.Layer):
    """The first batch, as something that is built: a recording for `jit` then knows that it happens once."""

    def __init__(self, wrapper: WeightNormalization, x: Tensor, options: dict):
        super().__init__(wrapper.name)
        self.start = wrapper, x, options

    def build(self, shape: tuple[int | None, ...]) -> None:
        wrapper, x, options = self.start
        if not wrapper.initialized.item():
            with mg.no_grad():
                wrapper.initialize(x, options)
        wrapper.begun = wrapper.initialized.item()


def _unit(operation: str, v: Any, g: Any, axis: Any) -> tuple[Tensor, Tensor]:
    """g·v/‖v‖ and ‖v‖²; None for a g of 1."""
    v = floating(v)
    kept, others = _split(operation, hashable(axis), v.ndim)
    g = _of_outputs(operation, "g", g, "v", v, kept)
    w, _, square = standardize_p(v, g, None, axes=others, parameter_axes=kept, epsilon=0.0, statistic="sum_square")
    return w, square


@lru_cache(maxsize=1024)
def _split(operation: str, axis: Any, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the outputs, and the others."""
    kept = mg.axes.normalize(operation, axis, ndim)
    return kept, tuple([a for a in range(ndim) if a not in kept])


def _of_outputs(operation: str, name: str, value: Any, whose: str, w: Tensor, kept: tuple[int, ...]) -> Tensor | None:
    """A value for each output, of the dtype of the weights."""
    if value is None:
        return None
    value = mg.as_tensor(value)
    shape = tuple([w.shape[a] for a in kept])
    if value.shape != shape:
        raise ShapeError(
            f"{operation}: {name} has shape {value.shape}, expected {shape} to match axes {kept} of {whose} "
            f"with shape {w.shape}"
        )
    return value.astype(w.dtype)
