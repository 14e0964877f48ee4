"""Local response normalization: by the squares of neighbouring channels (Krizhevsky et al. 2012, section 3.3).

y = x·f,  f = d^−β,  d = bias + α·Σ x² over the channels within the radius
dx = dy·f − 2αβ·x·Σ dy·x·f/d over the same channels         with 0^−β := 0
"""

from __future__ import annotations

from math import isfinite, prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms.arguments import floating
from minigrad_norms.composed import composed_rules
from minigrad_norms.formulas import wide
from minigrad_norms.kernels import local_response_cpu as kernels

local_response_p = Primitive("norms::local_response", outputs=("y",))
local_response_vjp_p = Primitive("norms::local_response_vjp", outputs=("dx",))


def local_response_normalization(
    x: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, axis: int = -1
) -> Tensor:
    """y = x/(bias + α·Σ x²)^β, summed over the channels within `depth_radius` (Krizhevsky et al. 2012, section 3.3).

    As ``tf.nn.local_response_normalization``. At the edges there are fewer channels to sum. Where bias + α·Σ x² is 0,
    y is 0. torch's ``LocalResponseNorm(size)`` divides α by the size of its window and calls the bias k: size 2r + 1
    and α there are radius r and α/(2r + 1) here.

    Args:
        x: any shape with at least one dimension.
        depth_radius: r, so that a window has 2r + 1 channels; 0 for the channel alone.
        bias, alpha: at least 0.
        beta: the exponent.
        axis: the axis of the channels: -1 for NHWC, 1 for NCHW.

    Returns:
        y of x's shape and dtype.

    Raises:
        ShapeError: if the axis is out of range.
        ArgumentError: for a negative radius, bias or α, or numbers that are not finite.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.local_response_normalization(mg.tensor([2.0, 1.0, 2.0]), depth_radius=1, bias=0.0, beta=1.0)
        tensor([0.4       , 0.11111111, 0.4       ], dtype=float32)
    """
    x = floating(x)
    found = mg.axes.normalize("local_response_normalization", axis, x.ndim)
    if len(found) != 1:
        raise ShapeError(f"local_response_normalization: axis is {axis!r}, expected one axis of x with shape {x.shape}")
    return local_response_p(x, axis=found[0], depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta)


class LocalResponseNormalization(mg.nn.Layer):
    """`local_response_normalization` as a layer, without Variables.

    Args:
        depth_radius, bias, alpha, beta, axis: as of the function. AlexNet has radius 2, bias 2, α 1e-4 and β 0.75.
        name: for messages and summaries.
        dtype: what integers in the input are cast to.

    Raises:
        ArgumentError: for a negative radius, bias or α, or numbers that are not finite.
        ShapeError: when called, if the axis is out of range.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> layer = norms.LocalResponseNormalization(depth_radius=1, bias=0.0, beta=1.0)
        >>> layer(mg.tensor([2.0, 1.0, 2.0])).numpy().round(2)
        array([0.4 , 0.11, 0.4 ], dtype=float32)
    """

    def __init__(
        self,
        depth_radius: int = 5,
        bias: float = 1.0,
        alpha: float = 1.0,
        beta: float = 0.5,
        axis: int = -1,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _require("LocalResponseNormalization", depth_radius, bias, alpha, beta)
        self.axis = axis
        self.numbers: dict[str, Any] = {"depth_radius": depth_radius, "bias": bias, "alpha": alpha, "beta": beta}

    def call(self, x: Tensor, training: bool) -> Tensor:
        x = x if mg.dtypes.kind(x.dtype) in "fc" else x.astype(self.dtype)
        return local_response_normalization(x, **self.numbers, axis=self.axis)


def _require(operation: str, depth_radius: Any, bias: Any, alpha: Any, beta: Any) -> None:
    if isinstance(depth_radius, bool) or not isinstance(depth_radius, (int, np.integer)) or depth_radius < 0:
        raise ArgumentError(f"{operation}: depth_radius is {depth_radius!r}, expected an integer of at least 0")
    for name, value in (("bias", bias), ("alpha", alpha), ("beta", beta)):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and isfinite(value)
        if not number or (value < 0 and name != "beta"):
            least = "" if name == "beta" else " of at least 0"
            raise ArgumentError(f"{operation}: {name} is {value!r}, expected a finite number{least}")


# Formulas, for NumPy and for minigrad alike


def _local_response(xp: Any, x: Any, axis: int, depth_radius: int, bias: float, alpha: float, beta: float) -> Any:
    x, dtype = wide(x), x.dtype
    d = _base(xp, x, axis, depth_radius, bias, alpha)
    return (x * _power(xp, d, -beta)).astype(dtype)


def _local_response_vjp(
    xp: Any, dy: Any, x: Any, axis: int, depth_radius: int, bias: float, alpha: float, beta: float
) -> Any:
    x, dy, dtype = wide(x), wide(dy), x.dtype
    d = _base(xp, x, axis, depth_radius, bias, alpha)
    sums = _window(xp, dy * x * _power(xp, d, -beta - 1), axis, depth_radius)
    return (dy * _power(xp, d, -beta) - 2 * alpha * beta * x * sums).astype(dtype)


def _base(xp: Any, x: Any, axis: int, depth_radius: int, bias: float, alpha: float) -> Any:
    return _window(xp, xp.square(x), axis, depth_radius) * alpha + bias


def _power(xp: Any, d: Any, exponent: float) -> Any:
    nothing = d == 0
    return xp.where(nothing, 0.0 * d, xp.power(xp.where(nothing, 0.0 * d + 1, d), exponent))


def _window(xp: Any, a: Any, axis: int, depth_radius: int) -> Any:
    """For each channel the sum of those within the radius."""
    n = a.shape[axis]
    radius = max(0, min(depth_radius, n - 1))
    padded = xp.pad(a, [(radius, radius) if i == axis else (0, 0) for i in range(a.ndim)])
    before = (slice(None),) * axis
    total = padded[(*before, slice(0, n))]
    for k in range(1, 2 * radius + 1):
        total = total + padded[(*before, slice(k, k + n))]
    return total


# Rules


def _check(operation: str, x: Abstract, axis: int, depth_radius: int, bias: float, alpha: float, beta: float) -> None:
    mg.dtypes.require_floating(operation, "x", x.dtype)
    if not 0 <= axis < x.ndim:
        raise ShapeError(f"{operation}: axis {axis} is out of range for {x.ndim} dimensions")
    _require(operation, depth_radius, bias, alpha, beta)


@local_response_p.infer
def _(x, *, axis, depth_radius, bias, alpha, beta):
    _check("local_response", x, axis, depth_radius, bias, alpha, beta)
    return x


@local_response_vjp_p.infer
def _(dy, x, *, axis, depth_radius, bias, alpha, beta):
    _check("local_response_vjp", x, axis, depth_radius, bias, alpha, beta)
    if dy.shape != x.shape:
        raise ShapeError(f"local_response_vjp: dy has shape {dy.shape}, expected {x.shape}")
    mg.dtypes.require_same("local_response_vjp", dy=dy.dtype, x=x.dtype)
    return x


@local_response_p.kernel("reference")
def _(x, **params):
    with np.errstate(all="ignore"):
        return _local_response(np, x, **params)


@local_response_vjp_p.kernel("reference")
def _(dy, x, **params):
    with np.errstate(all="ignore"):
        return _local_response_vjp(np, dy, x, **params)


_TILE = 1024  # elements of a tile at least, where there are so many
_NARROWEST = 16  # elements of a stretch: shorter ones would read memory in short pieces


def _geometry(shape: tuple[int, ...], axis: int, depth_radius: int) -> tuple[int, int, int, int, int]:
    """channels, inner, radius, rows of a tile, length of a stretch."""
    channels, inner = shape[axis], prod(shape[axis + 1 :])
    radius = min(depth_radius, channels - 1)
    if inner == 1:
        rows = max(1, min(prod(shape[:axis]), _TILE // (channels + radius)))
        return channels, 1, radius, rows, 1
    return channels, inner, radius, 1, min(inner, max(_NARROWEST, _TILE // channels))


def _space(channels: int, inner: int, radius: int, rows: int, block: int) -> tuple[int, int]:
    """Elements of workspace a chunk, and the number of tiles to share out is of this size."""
    size = rows * (channels + radius) if inner == 1 else channels * block
    return 2 * (size + size + 2 * radius * block), size


def _chunks(size: int) -> int:
    return cpu.chunks_of(size, 1 << 12, 32)


def _workspace(x: Abstract, axis: int, depth_radius: int) -> list[Abstract]:
    if x.size == 0:
        return [Abstract((0,), mg.dtypes.float64)]
    each, _ = _space(*_geometry(x.shape, axis, depth_radius))
    return [Abstract((_chunks(x.size) * each,), mg.dtypes.float64)]


@local_response_p.workspace
def _(x, *, axis, depth_radius, bias, alpha, beta):
    return _workspace(x, axis, depth_radius)


@local_response_vjp_p.workspace
def _(dy, x, *, axis, depth_radius, bias, alpha, beta):
    return _workspace(x, axis, depth_radius)


def _run(kernel: cpu.Kernel, passes: int, out: np.ndarray, work: np.ndarray, arrays: list, params: dict) -> None:
    shape, beta = out.shape, float(params["beta"])
    kind = {0.5: kernels.HALF, 0.75: kernels.THREE_QUARTERS, 1.0: kernels.ONE}.get(beta, kernels.GENERAL)
    geometry = _geometry(shape, params["axis"], params["depth_radius"])
    numbers = float(params["bias"]), float(params["alpha"]), beta
    flat = [cpu.contiguous(a).reshape(-1) for a in arrays]
    chunks = _chunks(out.size)
    kernel(chunks, passes * out.size, chunks, out.reshape(-1), *flat, work, *geometry, kind, *numbers)


@local_response_p.kernel("cpu")
def _(buffers, x, **params):
    out, work = buffers
    if not mg.dtypes.has_kernels(x.dtype):
        out[...] = local_response_p.reference(x, **params)[0]
    elif x.size:
        _run(kernels.forward, 8, out, work, [x], params)


@local_response_vjp_p.kernel("cpu")
def _(buffers, dy, x, **params):
    out, work = buffers
    if not mg.dtypes.has_kernels(x.dtype):
        out[...] = local_response_vjp_p.reference(dy, x, **params)[0]
    elif x.size:
        _run(kernels.backward, 16, out, work, [dy, x], params)


@local_response_p.vjp(saves=("x",))
def _(ct, saved, needs, **params):
    return local_response_vjp_p(ct, saved.x, **params)


composed_rules(local_response_p, _local_response, False)
composed_rules(local_response_vjp_p, _local_response_vjp, True)


# Samples


def _params(axis: int, depth_radius: int = 1, bias: float = 0.7, alpha: float = 0.4, beta: float = 0.75) -> dict:
    return {"axis": axis, "depth_radius": depth_radius, "bias": bias, "alpha": alpha, "beta": beta}


def _cases(rng: np.random.Generator) -> Any:
    """x, params, note, and whether derivatives are checked by differences there."""
    for shape, axis, radius, beta in [
        ((2, 3, 7), 2, 2, 0.75),
        ((2, 7, 3), 1, 3, 0.5),
        ((6, 4), 0, 1, 0.3),
        ((5,), 0, 2, 1.0),
        ((3, 1), 1, 4, 0.75),
        ((2, 4), 1, 0, 2.5),
        ((2, 4), 1, 50, 0.5),
        ((3, 5), 1, 2, 0.0),
        ((0, 5), 1, 2, 0.5),
        ((3, 0), 1, 2, 0.5),
        ((3, 0), 0, 1, 0.5),
    ]:
        yield rng.standard_normal(shape), _params(axis, radius, beta=beta), f"{shape}, radius {radius}, β {beta}", True
    yield rng.standard_normal((6, 10))[::-2, ::2], _params(1), "strided", True
    for shape, axis in [((301, 67), 1), ((3, 70, 301), 1), ((2, 1301), 1), ((1301, 2), 0)]:
        yield rng.standard_normal(shape), _params(axis, 5), f"several tiles, {shape}", False
    yield 1e15 * rng.standard_normal((3, 6)), _params(1, 2, 1.0, 1.0, 1.0), "large", False
    holes = rng.standard_normal((3, 9))
    holes[0, 2], holes[1, 4], holes[2] = np.nan, np.inf, 0.0
    yield holes, _params(1, 1, 0.0, 1.0, 1.0), "NaN, infinity, and all 0 without a bias", False


@local_response_p.samples
def _(rng):
    for x, params, note, smooth in _cases(rng):
        yield Sample((x,), params, note=note, differentiable=smooth)
    good = np.ones((2, 3))
    yield Sample((good,), _params(2), error=ShapeError, match="axis 2 is out of range")
    yield Sample((good,), _params(1, -1), error=ArgumentError, match="depth_radius is -1")
    yield Sample((good,), _params(1, bias=-1.0), error=ArgumentError, match="bias is -1.0")
    yield Sample((good,), _params(1, beta=np.inf), error=ArgumentError, match="beta is inf")
    yield Sample((np.ones((2, 3), int),), _params(1), error=DTypeError, match="x has dtype int64")


@local_response_vjp_p.samples
def _(rng):
    for x, params, note, smooth in _cases(rng):
        yield Sample((rng.standard_normal(x.shape), x), params, note=note, differentiable=smooth)
    yield Sample((np.ones((3, 2)), np.ones((2, 3))), _params(1), error=ShapeError, match=r"dy has shape \(3, 2\)")
