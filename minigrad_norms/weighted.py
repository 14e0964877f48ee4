"""Weighted moments: mean and variance where each element counts as often as its weight says.

With W = Σ w over the reduced axes:  μ = Σ w·x/W,  σ² = Σ w·(x − μ)²/W.  For cotangents ċμ, ċv of μ and σ²:
    dx = w/W·(ċμ + 2·ċv·(x − μ)),   dw = (ċμ·(x − μ) + ċv·((x − μ)² − σ²))/W + ċW, summed to w's shape
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor
from minigrad.axes import canonical, reduced_shape, slots
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms.arguments import floating, widened
from minigrad_norms.composed import composed_rules
from minigrad_norms.formulas import standing, wide
from minigrad_norms.kernels import weighted_cpu as kernels


def weighted_moments(x: Any, axes: Any, frequency_weights: Any, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Mean Σwx/Σw and variance Σw(x − μ)²/Σw of x over `axes`, as ``tf.nn.weighted_moments``.

    Args:
        x: any shape.
        axes: an axis, several, or None for all.
        frequency_weights: of a shape that broadcasts to x's; how often each element counts. Not negative.
        keepdims: keep the reduced axes with length 1.

    Returns:
        mean and variance, of x's dtype; both 0 where x has no elements. Gradients flow to x and to the weights.

    Raises:
        ShapeError: if the weights do not broadcast to x, or an axis is out of range.
        ArgumentError: if the weights of a group add up to 0 or less: they leave nothing to average.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> norms.weighted_moments(mg.tensor([1.0, 2.0, 9.0]), 0, mg.tensor([3.0, 1.0, 0.0]))
        (tensor(1.25, dtype=float32), tensor(0.1875, dtype=float32))
    """
    x, narrow = widened(floating(x))
    axes = mg.axes.normalize("weighted_moments", axes, x.ndim, "axes")
    w = mg.as_tensor(frequency_weights).astype(x.dtype)
    if w.ndim > x.ndim or any(n not in (1, m) for n, m in zip(w.shape[::-1], x.shape[::-1])):
        raise ShapeError(f"weighted_moments: weights has shape {w.shape}, expected what broadcasts to {x.shape}")
    mean, var, _ = weighted_moments_p(x, w.reshape((1,) * (x.ndim - w.ndim) + w.shape), axes=axes)
    shape = mg.axes.reduced_shape(x.shape, axes, keepdims)
    dtype = x.dtype if narrow is None else narrow
    return mean.reshape(shape).astype(dtype), var.reshape(shape).astype(dtype)


weighted_moments_p = Primitive("norms::weighted_moments", outputs=("mean", "var", "total"))
weighted_moments_vjp_p = Primitive("norms::weighted_moments_vjp", outputs=("dx",))


# Shapes


def _check(operation: str, x: Abstract, weights: Abstract, axes: tuple[int, ...]) -> Abstract:
    """What a statistic is like, if x and the weights fit."""
    mg.dtypes.require_floating(operation, "x", x.dtype)
    if weights.ndim != x.ndim or any(w not in (1, n) for w, n in zip(weights.shape, x.shape)):
        raise ShapeError(f"{operation}: weights has shape {weights.shape}, expected what broadcasts to {x.shape}")
    if weights.dtype != x.dtype:
        raise DTypeError(f"{operation}: weights has dtype {weights.dtype}, expected {x.dtype} as of x")
    return Abstract(reduced_shape(x.shape, axes, False), np.result_type(x.dtype, np.float64))


@weighted_moments_p.infer
def _(x, weights, *, axes):
    statistics = _check("weighted_moments", x, weights, axes)
    return statistics, statistics, statistics


@weighted_moments_vjp_p.infer
def _(x, weights, mean, total, dmean, dvar, *, axes):
    statistics = _check("weighted_moments_vjp", x, weights, axes)
    for name, got in (("mean", mean), ("total", total), ("dmean", dmean), ("dvar", dvar)):
        if got is not None and got.shape != statistics.shape:
            raise ShapeError(f"weighted_moments_vjp: {name} has shape {got.shape}, expected {statistics.shape}")
        if got is not None and got.dtype != statistics.dtype:
            raise DTypeError(f"weighted_moments_vjp: {name} has dtype {got.dtype}, expected {statistics.dtype}")
    return Abstract(x.shape, x.dtype)


# Formulas, for NumPy and for tensors


def _moments(xp: Any, x: Any, weights: Any, axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    w = xp.broadcast_to(wide(weights), x.shape)
    total = xp.sum(w, axis=axes, keepdims=True)
    whole = total + _nothing(x.shape, axes)
    mean = xp.sum(w * wide(x), axis=axes, keepdims=True) / whole
    var = xp.sum(w * xp.square(wide(x) - mean), axis=axes, keepdims=True) / whole
    shape = reduced_shape(x.shape, axes, False)
    return mean.reshape(shape), var.reshape(shape), total.reshape(shape)


def _slope(xp: Any, x: Any, weights: Any, mean: Any, total: Any, dmean: Any, dvar: Any, axes: tuple[int, ...]) -> Any:
    kept, total = _kept(x.ndim, axes), total + _nothing(x.shape, axes)
    a = 0.0 if dmean is None else standing(dmean / total, x.ndim, kept)
    b = 0.0 if dvar is None else standing(2.0 * dvar / total, x.ndim, kept)
    return (wide(weights) * (a + b * (wide(x) - standing(mean, x.ndim, kept)))).astype(x.dtype)


def _nothing(shape: tuple[int, ...], axes: tuple[int, ...]) -> float:
    """1 for groups without elements, so that they are divided by 1 and not by 0."""
    return float(prod(shape[a] for a in axes) == 0)


def _kept(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a not in axes)


# Kernels


@weighted_moments_p.kernel("reference")
def _(x, weights, *, axes):
    with np.errstate(all="ignore"):
        mean, var, total = (np.asarray(v) for v in _moments(np, x, weights, axes))
    _require_weight(total, x.size)
    return mean, var, total


@weighted_moments_vjp_p.kernel("reference")
def _(x, weights, mean, total, dmean, dvar, *, axes):
    with np.errstate(all="ignore"):
        return _slope(np, x, weights, mean, total, dmean, dvar, axes)


def _require_weight(totals: np.ndarray, size: int) -> None:
    """Raise unless every group of a batch with elements has weight; a NaN is passed on."""
    wrong = totals.real <= 0
    if size and wrong.any():
        raise ArgumentError(
            f"weighted_moments: the weights add up to {float(totals.real[wrong][0])} "
            f"in {int(wrong.sum())} of {totals.size} groups, expected a positive sum"
        )


class _Plan(NamedTuple):
    """How arrays of some shapes are laid out for the kernels."""

    order: tuple[int, ...] | None  # of the axes, where the form needs another
    expanded: tuple[int, ...]  # the shape to which weights are copied first
    geometry: np.ndarray
    chunks: int
    k0: int
    sums: int  # elements of workspace for the sums; a copy of the weights is apart


@lru_cache(maxsize=4096)
def _plan(shape: tuple[int, ...], weights: tuple[int, ...], axes: tuple[int, ...]) -> _Plan:
    order = canonical(shape, axes).permutation
    if order is not None:
        axes = tuple(i for i, a in enumerate(order) if a in axes)
        shape, weights = tuple(shape[a] for a in order), tuple(weights[a] for a in order)
    k0, r0, k1, _ = form = canonical(shape, axes)[:4]
    expanded = list(weights)
    lengths = []
    for slot in slots(shape, axes) or ():
        spanned = any(weights[a] > 1 for a in slot)
        lengths.append(prod(shape[a] for a in slot) if spanned else 1)
        for a in slot:
            expanded[a] = shape[a] if spanned else 1
    strides = [prod(lengths[i + 1 :]) if n > 1 else 0 for i, n in enumerate(lengths)]
    parts = max(1, min(r0, min(32, prod(form) >> 13) // max(1, k0)))
    geometry = np.array([*form, parts, *strides], np.int64)
    return _Plan(order, tuple(expanded), geometry, k0 * parts, k0, 3 * k0 * parts * k1)


def _laid_out(plan: _Plan, x: np.ndarray, weights: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and the weights, flat and in the order of the plan; weights in `room` where they must be repeated."""
    if plan.order is not None:
        x, weights = x.transpose(plan.order), weights.transpose(plan.order)
    if weights.shape != plan.expanded:
        np.copyto(room.reshape(plan.expanded), weights)
        weights = room
    return cpu.contiguous(x).reshape(-1), cpu.contiguous(weights).reshape(-1)


@weighted_moments_p.workspace
def _(x, weights, *, axes):
    plan = _plan(x.shape, weights.shape, axes)
    return Abstract((plan.sums,), mg.dtypes.float64), Abstract((prod(plan.expanded),), x.dtype)


@weighted_moments_p.kernel("cpu", planned=True)
def _(x, weights, *, axes):
    plan = _plan(x.shape, weights.shape, axes)
    work_of_sums = 2 * x.size

    def fill(out, x, weights):
        mean, var, total, work, room = out
        mean.fill(0.0)
        if not x.size:
            var.fill(0.0)
            total.fill(0.0)
        elif not mg.dtypes.has_kernels(x.dtype):
            mean[...], var[...], total[...] = weighted_moments_p.reference(x, weights, axes=axes)
        else:
            x, weights = _laid_out(plan, x, weights, room)
            statistics = [s.reshape(-1) for s in (mean, var, total)]
            for _ in range(2):  # about 0, then about the mean, which leaves the digits of the spread
                kernels.weighted_sums(plan.chunks, work_of_sums, x, weights, statistics[0], work, plan.geometry)
                kernels.weighted_combine(plan.k0, work.size, *statistics, work, plan.geometry)
            _require_weight(total, x.size)

    return fill


@weighted_moments_vjp_p.workspace
def _(x, weights, mean, total, dmean, dvar, *, axes):
    plan = _plan(x.shape, weights.shape, axes)
    ordered = x.size if plan.order else 0
    return (
        Abstract((2, mean.size), mg.dtypes.float64),
        Abstract((prod(plan.expanded),), x.dtype),
        Abstract((ordered,), x.dtype),
    )


@weighted_moments_vjp_p.kernel("cpu", planned=True)
def _(x, weights, mean, total, dmean, dvar, *, axes):
    plan = _plan(x.shape, weights.shape, axes)
    in_order = None if plan.order is None else tuple(x.shape[a] for a in plan.order)

    def fill(out, x, weights, mean, total, dmean, dvar):
        dx, (a, b), room, ordered = out
        if not mg.dtypes.has_kernels(x.dtype):
            dx[...] = weighted_moments_vjp_p.reference(x, weights, mean, total, dmean, dvar, axes=axes)[0]
        elif x.size:
            for coefficient, ct, factor in ((a, dmean, 1.0), (b, dvar, 2.0)):
                if ct is None:
                    coefficient.fill(0.0)
                else:
                    np.divide(ct.reshape(-1), total.reshape(-1), out=coefficient)
                    np.multiply(coefficient, factor, out=coefficient)
            x, weights = _laid_out(plan, x, weights, room)
            target = dx.reshape(-1) if in_order is None else ordered
            mean = cpu.contiguous(mean).reshape(-1)
            kernels.weighted_slope(plan.chunks, 2 * x.size, target, x, weights, mean, a, b, plan.geometry)
            if in_order is not None:
                dx.transpose(plan.order)[...] = target.reshape(in_order)

    return fill


# Derivatives


@weighted_moments_p.vjp(saves=("x", "weights", "mean", "var", "total"))
def _(ct, saved, needs, *, axes):
    dmean, dvar, dtotal = ct
    x, weights, mean, var, total = saved.x, saved.weights, saved.mean, saved.var, saved.total
    dx = dw = None
    if needs[0] and not (dmean is None and dvar is None):
        dx = weighted_moments_vjp_p(x, weights, mean, total, dmean, dvar, axes=axes)
    if needs[1]:
        kept, total = _kept(x.ndim, axes), total + _nothing(x.shape, axes)
        centred = wide(x) - standing(mean, x.ndim, kept)
        parts = [] if dtotal is None else [mg.broadcast_to(standing(dtotal, x.ndim, kept), x.shape)]
        if dmean is not None:
            parts.append(standing(dmean / total, x.ndim, kept) * centred)
        if dvar is not None:
            parts.append(standing(dvar / total, x.ndim, kept) * (mg.square(centred) - standing(var, x.ndim, kept)))
        for part in parts:
            dw = part if dw is None else dw + part
        dw = None if dw is None else dw.sum_to(weights.shape).astype(weights.dtype)
    return dx, dw


composed_rules(weighted_moments_p, _moments, False)
composed_rules(weighted_moments_vjp_p, _slope, True)


# Samples

#: x, weights, axes
_FORMS = {
    "samples of (N, C)": ((5, 3), (5, 1), (0,)),
    "samples of NHWC": ((4, 3, 2, 5), (4, 1, 1, 1), (0, 1, 2)),
    "positions of NHWC": ((4, 3, 2, 5), (4, 3, 2, 1), (0, 1, 2)),
    "samples of NCHW": ((4, 5, 3, 2), (4, 1, 1, 1), (0, 2, 3)),
    "columns of NCHW": ((4, 5, 3, 2), (1, 1, 1, 2), (0, 2, 3)),
    "everything by itself": ((4, 5, 3), (4, 5, 3), (0, 2)),
    "channels": ((4, 3), (1, 3), (0,)),
    "one for all": ((4, 3), (1, 1), (0,)),
    "virtual batches": ((2, 3, 4, 5), (2, 3, 1, 1), (1, 2)),
    "axes that need a permutation": ((2, 3, 4, 2, 5), (2, 1, 4, 1, 5), (0, 2, 4)),
    "rows": ((3, 7), (1, 7), (1,)),
    "nothing reduced": ((2, 3), (2, 1), ()),
    "no dimensions": ((), (), ()),
    "an empty batch": ((0, 3), (0, 1), (0,)),
    "no channels": ((3, 0), (3, 1), (0,)),
}
_WIDE = ("mean", "total", "dmean", "dvar")


def _cases(rng: np.random.Generator) -> Any:
    for note, (shape, weights, axes) in _FORMS.items():
        x, w = np.asarray(rng.standard_normal(shape)), np.asarray(0.2 + rng.random(weights))
        yield x, w, {"axes": axes}, note, True
    counts = np.array([[3.0], [0.0], [1.0], [2.0], [0.0]])
    yield rng.standard_normal((5, 3)), counts, {"axes": (0,)}, "counts, some of them 0", True
    yield 1e6 + rng.standard_normal((64, 3)), rng.random((64, 1)), {"axes": (0,)}, "mean 1e6, spread 1", False
    spoilt = rng.standard_normal((6, 3))
    spoilt[2, 1], spoilt[4, 2] = np.nan, np.inf
    yield spoilt, np.ones((6, 1)), {"axes": (0,)}, "NaN and infinity in two groups", False
    big = 1 + rng.standard_normal((3, 1025, 33))
    yield big, rng.random((3, 1025, 1)), {"axes": (0, 1)}, "several chunks", False
    yield big, rng.random((1, 1025, 33)), {"axes": (1, 2)}, "several chunks of lines", False


@weighted_moments_p.samples
def _(rng):
    for x, w, params, note, smooth in _cases(rng):
        yield Sample((x, w), params, note=note, differentiable=smooth, exact=() if smooth else ("float32",))
    params = {"axes": (0,)}
    yield Sample((np.ones((4, 3)), np.ones((2, 1))), params, error=ShapeError, match=r"weights has shape \(2, 1\)")
    yield Sample((np.ones((4, 3)), np.ones(4)), params, error=ShapeError, match="expected what broadcasts to")
    yield Sample((np.ones((4, 3)), np.ones((4, 1), "f4")), params, error=DTypeError, match="weights has dtype float32")
    yield Sample((np.ones((4, 3)), np.zeros((4, 1))), params, error=ArgumentError, match="add up to 0.0 in 3 of 3")


@weighted_moments_vjp_p.samples
def _(rng):
    for i, (x, w, params, note, smooth) in enumerate(_cases(rng)):
        with np.errstate(all="ignore"):
            mean, _, total = (np.asarray(v) for v in _moments(np, x, w, params["axes"]))
        dmean, dvar = (np.asarray(rng.standard_normal(mean.shape)) for _ in range(2))
        cotangents = ((dmean, dvar), (None, dvar), (dmean, None))[i % 3]
        inputs, exact = (x, w, mean, total, *cotangents), () if smooth else ("float32",)
        yield Sample(inputs, params, note=note, differentiable=smooth, exact=exact, wide=_WIDE)
    bad = (np.ones((4, 3)), np.ones((4, 1)), np.ones(2), np.ones(3), None, None)
    yield Sample(bad, {"axes": (0,)}, error=ShapeError, match=r"mean has shape \(2,\), expected \(3,\)")
