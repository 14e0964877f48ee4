"""Lp normalization: vectors over their p-norm, as ``torch.nn.functional.normalize``.

y = x/max(n, ε),  n = (Σ |x|^p)^(1/p), or max |x| for p = ∞
dx = dy/max(n, ε) + (dn − [n ≥ ε]·Σ dy·x/max(n, ε)²)·∂n/∂x
∂n/∂x = sign(x)·(|x|/n)^(p−1), for p = ∞ sign(x)/ties where |x| = n; 0 where x = 0
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import inf, prod
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms.arguments import epsilon_of, floating
from minigrad_norms.composed import composed_rules
from minigrad_norms.formulas import standing, wide
from minigrad_norms.kernels import form as forms
from minigrad_norms.kernels import lp_cpu as kernels

lp_normalize_p = Primitive("norms::lp_normalize", outputs=("y", "norm"), analytic=False)
lp_normalize_vjp_p = Primitive("norms::lp_normalize_vjp", outputs=("dx",), analytic=False)


def lp_normalize(x: Any, p: float = 2.0, axis: Any = -1, epsilon: float = 1e-12) -> Tensor:
    """x/max(‖x‖ₚ, ε) over `axis`, as ``torch.nn.functional.normalize``; ‖x‖ₚ = (Σ |x|^p)^(1/p), max |x| for p = ∞.

    The derivative where there is none: that of ‖x‖₁ by an x = 0 is 0, as is that of any norm of zeros; the largest |x|
    of ‖x‖_∞ share theirs equally; where ‖x‖ₚ = ε it still flows through ‖x‖ₚ. Zeros stay zeros, with ε = 0 too.

    Args:
        x: any shape.
        p: a positive number, or infinity. Below 1 it is no norm, but the formula holds.
        axis: the axes of a vector: one, several, or None for all.
        epsilon: ε ≥ 0.

    Returns:
        y of x's shape and dtype.

    Raises:
        ShapeError: if an axis is out of range.
        ArgumentError: if p is not positive, or ε negative.
        DTypeError: for complex numbers.

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> x = mg.tensor([[3.0, -4.0], [0.0, 0.0]])
        >>> norms.lp_normalize(x)
        tensor([[ 0.6, -0.8],
                [ 0. ,  0. ]], dtype=float32)
        >>> norms.lp_normalize(x, p=float("inf"))
        tensor([[ 0.75, -1.  ],
                [ 0.  ,  0.  ]], dtype=float32)
    """
    x = floating(x)
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
        raise ArgumentError(f"lp_normalize: p is {p!r}, expected a positive number")
    axes = mg.axes.normalize("lp_normalize", axis, x.ndim)
    return lp_normalize_p(x, p=float(p), axes=axes, epsilon=epsilon_of("lp_normalize", epsilon))[0]


# Formulas: the norm for NumPy alone, the others for NumPy and for minigrad alike


def _norm(x: np.ndarray, p: float, axes: tuple[int, ...]) -> np.ndarray:
    a = np.abs(wide(x))
    if p == inf:
        return np.max(a, axis=axes, initial=0.0)
    return np.asarray(np.sum(a**p, axis=axes) ** (1 / a.dtype.type(p)))


def _lp_normalize(xp: Any, x: Any, norm: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    return (wide(x) * _inverse(xp, _standing(norm, x, axes), epsilon)).astype(x.dtype)


def _lp_normalize_vjp(
    xp: Any, dy: Any, x: Any, norm: Any, dnorm: Any, p: float, axes: tuple[int, ...], epsilon: float
) -> Any:
    n = _standing(norm, x, axes)
    r = _inverse(xp, n, epsilon)
    product = xp.sum(wide(dy) * wide(x), axis=axes, keepdims=True)
    to_norm = xp.where(n >= epsilon, -product * r * r, 0.0 * product)
    if dnorm is not None:
        to_norm = to_norm + _standing(dnorm, x, axes)
    return (wide(dy) * r + _share(xp, wide(x), n, p, axes) * to_norm).astype(x.dtype)


def _share(xp: Any, x: Any, n: Any, p: float, axes: tuple[int, ...]) -> Any:
    """∂n/∂x."""
    if p == inf:
        tied = (xp.absolute(x) == n) & (n > 0) if xp is np else xp.where(n > 0, xp.absolute(x), -1.0 - n) == n
        one = xp.where(tied, 0.0 * x + 1, 0.0 * x)
        count = xp.sum(one, axis=axes, keepdims=True)
        return xp.sign(x) * one / xp.maximum(count, 0.0 * count + 1)
    sign = xp.sign(x)
    if p == 1:
        return sign
    nothing = x == 0
    ratio = xp.where(nothing, 0.0 * x + 1, xp.absolute(x)) / xp.where(n == 0, 0.0 * n + 1, n)
    return sign * (ratio if p == 2 else xp.power(ratio, p - 1))


def _inverse(xp: Any, n: Any, epsilon: float) -> Any:
    m = xp.maximum(n, epsilon)
    nothing = m == 0
    return xp.where(nothing, 0.0 * m, 1 / xp.where(nothing, 0.0 * m + 1, m))


def _standing(norm: Any, x: Any, axes: tuple[int, ...]) -> Any:
    return standing(norm, x.ndim, tuple([a for a in range(x.ndim) if a not in axes]))


# Rules


def _check(operation: str, x: Abstract, p: float, axes: tuple[int, ...], epsilon: float) -> Abstract:
    if mg.dtypes.kind(x.dtype) != "f":
        raise DTypeError(f"{operation}: x has dtype {x.dtype}, expected a real floating-point dtype")
    if not p > 0:
        raise ArgumentError(f"{operation}: p is {p!r}, expected a positive number")
    epsilon_of(operation, epsilon)
    if mg.axes.normalize(operation, axes, x.ndim, "axes") != axes:
        raise ShapeError(f"{operation}: axes {axes} are not sorted and non-negative")
    return Abstract(mg.axes.reduced_shape(x.shape, axes, False), np.result_type(x.dtype, np.float64))


@lp_normalize_p.infer
def _(x, *, p, axes, epsilon):
    return x, _check("lp_normalize", x, p, axes, epsilon)


@lp_normalize_vjp_p.infer
def _(dy, x, norm, dnorm, *, p, axes, epsilon):
    groups = _check("lp_normalize_vjp", x, p, axes, epsilon)
    for name, got, want in (("dy", dy, x), ("norm", norm, groups), ("dnorm", dnorm, groups)):
        if got is not None and got != want:
            raise ShapeError(f"lp_normalize_vjp: {name} has {got.dtype}{got.shape}, expected {want.dtype}{want.shape}")
    return x


@lp_normalize_p.kernel("reference")
def _(x, *, p, axes, epsilon):
    with np.errstate(all="ignore"):
        norm = _norm(x, p, axes)
        return _lp_normalize(np, x, norm, axes, epsilon), norm


@lp_normalize_vjp_p.kernel("reference")
def _(dy, x, norm, dnorm, *, p, axes, epsilon):
    with np.errstate(all="ignore"):
        return _lp_normalize_vjp(np, dy, x, norm, dnorm, p, axes, epsilon)


@lru_cache(maxsize=4096)
def _plan(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[Any, tuple[int, ...] | None]:
    """The kernels' plan, None where there is nothing to do, and the order of axes that the arrays need first."""
    order = forms.canonical(shape, axes).permutation
    if order is not None:
        place = {axis: i for i, axis in enumerate(order)}
        shape, axes = tuple(shape[a] for a in order), tuple(sorted(place[a] for a in axes))
    form = forms.canonical(shape, axes)
    return (kernels.plan_for(form) if form.size else None), order


def _units(x: Abstract, axes: tuple[int, ...]) -> int:
    plan, _ = _plan(x.shape, axes)
    return plan.units if plan else 0


@lp_normalize_p.workspace
def _(x, *, p, axes, epsilon):
    return [Abstract((2 * _units(x, axes) + 1,), mg.dtypes.float64)]


@lp_normalize_vjp_p.workspace
def _(dy, x, norm, dnorm, *, p, axes, epsilon):
    return [Abstract((4 * _units(x, axes),), mg.dtypes.float64)]


_KINDS = {1.0: kernels.ABSOLUTE, 2.0: kernels.SQUARE, inf: kernels.LARGEST}
_nothing = np.empty(0)


@lp_normalize_p.kernel("cpu")
def _(out, x, *, p, axes, epsilon):
    y, norm, work = out
    plan, order = _plan(x.shape, axes)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        y[...], norm[...] = lp_normalize_p.reference(x, p=p, axes=axes, epsilon=epsilon)
        return
    flat, target, norms = _lay(x, order), _laid_out(y, order), norm.reshape(-1)
    totals, spread, flag = work[: plan.units], work[plan.units : -1], work[-1:]
    flag[0] = 0.0

    def step(kind: int, last: bool) -> None:
        passes = 16 if kind == kernels.POWER else 1
        kernels.sums(
            plan.chunks, passes * x.size, plan.chunks, kind, totals, flat, flat, spread, p, *plan.form, *plan[1:3]
        )
        kernels.combine(1, 0, kind, norms, totals, spread, p, epsilon, last, plan.parts, flag)

    kind = _KINDS.get(p, kernels.POWER)
    if kind != kernels.POWER:
        step(kind, True)
    if kind == kernels.POWER or flag[0]:  # by the largest first, against over- and underflow
        step(kernels.LARGEST, False)
        step(kernels.POWER, True)
    kernels.apply(plan.chunks, 2 * x.size, plan.chunks, target.reshape(-1), flat, spread, *plan.form, *plan[1:3])
    _return(y, target, order)


@lp_normalize_vjp_p.kernel("cpu")
def _(out, dy, x, norm, dnorm, *, p, axes, epsilon):
    dx, work = out
    plan, order = _plan(x.shape, axes)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        dx[...] = lp_normalize_vjp_p.reference(dy, x, norm, dnorm, p=p, axes=axes, epsilon=epsilon)[0]
        return
    flat, slopes, target = _lay(x, order), _lay(dy, order), _laid_out(dx, order)
    norms = cpu.contiguous(norm).reshape(-1)
    dnorms = _nothing if dnorm is None else cpu.contiguous(dnorm).reshape(-1)
    products, ties, scale, slope = (work[i * plan.units : (i + 1) * plan.units] for i in range(4))
    kind = _KINDS.get(p, kernels.POWER)

    def total(kind: int, totals: np.ndarray, spread: np.ndarray) -> None:
        arguments = (totals, flat, slopes, spread, p, *plan.form, *plan[1:3])
        kernels.sums(plan.chunks, 2 * x.size, plan.chunks, kind, *arguments)

    total(kernels.PRODUCT, products, scale)
    if kind == kernels.LARGEST:
        scale.reshape(-1, plan.parts)[...] = norms[:, None]
        total(kernels.TIES, ties, scale)
    kernels.combine_backward(1, 0, kind, products, ties, scale, slope, norms, dnorms, p, epsilon, plan.parts)
    arguments = (target.reshape(-1), slopes, flat, scale, slope, products, p, *plan.form, *plan[1:3])
    kernels.apply_backward(plan.chunks, 3 * x.size, plan.chunks, kind, *arguments)
    _return(dx, target, order)


def _lay(x: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    return cpu.contiguous(x if order is None else x.transpose(order)).reshape(-1)


def _laid_out(y: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    return y if order is None else cpu.empty(tuple(y.shape[a] for a in order), y.dtype)


def _return(y: np.ndarray, target: np.ndarray, order: tuple[int, ...] | None) -> None:
    if order is not None:
        y.transpose(order)[...] = target


@lp_normalize_p.vjp(saves=("x", "norm"))
def _(ct, saved, needs, **params):
    dy, dnorm = ct
    if dy is None:
        dy = Tensor(np.zeros(saved.x.shape, saved.x.dtype)).to(saved.x.device)
    return lp_normalize_vjp_p(dy, saved.x, saved.norm, dnorm, **params)


@lp_normalize_p.jvp
def _(tangents, primals, outputs, *, p, axes, epsilon):
    (x,), (t,), norm = primals, tangents, outputs[1]
    share = _share(mg, wide(x), _standing(norm, x, axes), p, axes)
    dnorm = mg.sum(share * wide(t), axis=axes)
    # y is linear in x where the norm is held, so its tangent is the rule for y at (x, t) twice.
    _, dy = mg.jvp(lambda a, n: _lp_normalize(mg, a, n, axes, epsilon), (x, norm), (t, dnorm))
    return dy, dnorm


composed_rules(lp_normalize_vjp_p, _lp_normalize_vjp, True)


# Samples


def _cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, dict, str, bool]]:
    """x, params, note, and whether derivatives are checked by differences there."""
    shapes: list[tuple] = [
        ((3, 5), (1,)), ((5, 3), (0,)), ((2, 3, 4), (1,)), ((2, 3, 2, 4), (1, 3)), ((3, 2, 4, 2), (0, 2)),
        ((2, 3), (0, 1)), ((2, 3), ()), ((1, 1), (0,)), ((), ()), ((0, 3), (0,)), ((3, 0), (0,)),
    ]  # fmt: skip
    for i, (shape, axes) in enumerate(shapes):
        for p in (1.0, 2.0, inf, 3.0, 0.7) if i < 3 else ((2.0, 1.5)[i % 2], (inf, 1.0)[i % 2]):
            # Apart from one another and from 0, where differences see kinks; exact in float32, so that ties stay ties.
            x = 0.375 * (1 + rng.permutation(prod(shape))) * rng.choice([-1.0, 1.0], prod(shape))
            yield x.reshape(shape), {"p": p, "axes": axes, "epsilon": 0.01}, f"{shape} over {axes}, p = {p}", True
    small = 0.0375 * (1 + rng.permutation(12).reshape(3, 4))
    for p in (1.0, 2.0, inf, 2.5):
        yield small, {"p": p, "axes": (1,), "epsilon": 5.0}, f"norms below ε, p = {p}", True
    zeros = np.array([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.5, 0.0, 1.0]])
    for p in (1.0, 2.0, inf, 2.5, 0.7):
        yield zeros, {"p": p, "axes": (1,), "epsilon": 0.0}, f"zeros and ties, p = {p}", False
    big = rng.standard_normal((67, 7, 33)).astype("f4").astype("f8")
    for axes in [(0,), (1,), (2,), (0, 2), (0, 1, 2)]:
        for p in (1.0, 2.0, inf, 3.0):
            yield big, {"p": p, "axes": axes, "epsilon": 1e-12}, f"several chunks over {axes}, p = {p}", False
    for scale in (1e-15, 1e15):
        yield scale * big[:5], {"p": 2.0, "axes": (1,), "epsilon": 0.0}, f"scale {scale}", False
        yield scale * big[:5], {"p": 12.0, "axes": (1,), "epsilon": 0.0}, f"scale {scale}, p = 12", False
    holes = rng.standard_normal((3, 5))
    holes[0, 1], holes[1, 2] = np.nan, np.inf
    for p in (1.0, 2.0, inf):
        yield holes, {"p": p, "axes": (1,), "epsilon": 1e-12}, f"NaN and infinity, p = {p}", False


_good = {"p": 2.0, "axes": (1,), "epsilon": 1e-12}


@lp_normalize_p.samples
def _(rng):
    for x, params, note, smooth in _cases(rng):
        yield Sample((x,), params, note=note, differentiable=smooth)
    x = np.ones((2, 3))
    yield Sample((x,), {**_good, "p": 0.0}, error=ArgumentError, match="p is 0.0")
    yield Sample((x,), {**_good, "epsilon": -1.0}, error=ArgumentError, match="epsilon is -1.0")
    yield Sample((x,), {**_good, "axes": (2,)}, error=ShapeError, match="axes 2 is out of range")
    yield Sample((x.astype(complex),), _good, error=DTypeError, match="x has dtype complex128")


@lp_normalize_vjp_p.samples
def _(rng):
    for i, (x, params, note, smooth) in enumerate(_cases(rng)):
        largest = params["p"] == inf
        x = x[:5] if largest and x.ndim else x
        with np.errstate(all="ignore"):
            norm = np.asarray(_norm(x, params["p"], params["axes"]))
        alone = norm.size == x.size  # groups of one element, where all of dx but dnorm cancels to rounding
        dnorm = None if i % 2 and not alone else np.asarray(rng.standard_normal(norm.shape))
        # A norm that is the largest |x| itself moves with x only where differences know nothing of it.
        yield Sample(
            (rng.standard_normal(x.shape) * (not alone), x, norm, dnorm),
            params,
            note=note,
            differentiable=smooth and not largest,
            wide=("norm", "dnorm"),
            exact=("float32", "float64") if largest else (),  # rounding by itself would end a tie
        )
    bad = (np.ones((3, 2)), np.ones((2, 3)), np.ones(2), None)
    yield Sample(bad, _good, error=ShapeError, match=r"dy has float64\(3, 2\)")
