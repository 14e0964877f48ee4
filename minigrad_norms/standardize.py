"""The primitives that the whole family shares: standardize over axes, standardize by given moments, and moments.

    y = f((x − μ)·γ/√(σ² + ε) + β)     with 1/√(σ² + ε) := 0 where σ² + ε = 0, so a constant group gives exactly f(β)

The mean μ and the biased variance σ² are over `axes`; γ and β span `parameter_axes`. With the statistic "mean_square" μ
is 0 and σ² the mean of squares, with "sum_square" their sum. The activation f is none, or one that the kernels have.
Statistics are float64, which is what keeps float32's digits where the mean is large and the spread small. The fused
gradients are primitives of their own, with rules composed of elementary ones from `minigrad_norms.formulas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Tensor
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms import formulas
from minigrad_norms.composed import composed_rules
from minigrad_norms.kernels import activations_cpu as activations
from minigrad_norms.kernels import form as forms
from minigrad_norms.kernels import standardize_cpu as kernels

standardize_p = Primitive("norms::standardize", outputs=("y", "mean", "var"))
standardize_vjp_p = Primitive("norms::standardize_vjp", outputs=("dx", "dgamma", "dbeta"))
normalize_p = Primitive("norms::normalize", outputs=("y",))
normalize_vjp_p = Primitive("norms::normalize_vjp", outputs=("dx", "dgamma", "dbeta", "dmean", "dvar"))
moments_p = Primitive("norms::moments", outputs=("mean", "var"))
_EMPTY = (0,)  # the shape of a gradient that nobody wants


# Shapes


def _statistics(x: Abstract, axes: tuple[int, ...]) -> Abstract:
    return Abstract(mg.axes.reduced_shape(x.shape, axes, False), _wide(x.dtype))


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype of statistics: float64 for what kernels take, wider for the extended types of the reference."""
    return np.result_type(dtype, np.float64)


def _parameters(x: Abstract, parameter_axes: tuple[int, ...], given: Abstract | None = None) -> Abstract:
    """What γ or β is like, with the dtype of the given one if that fits: with x of a half type it may be float32."""
    wider = given is not None and given.dtype == mg.dtypes.arithmetic(x.dtype)
    return Abstract(tuple(x.shape[a] for a in parameter_axes), given.dtype if given is not None and wider else x.dtype)


def _parameter_sums(x: Abstract, parameter_axes: tuple[int, ...]) -> Abstract:
    """What the gradients of γ and β are like: sums, which are not of a half type."""
    return Abstract(tuple(x.shape[a] for a in parameter_axes), mg.dtypes.arithmetic(x.dtype))


def _require(operation: str, **pairs: tuple[Abstract | None, Abstract]) -> None:
    for name, (got, want) in pairs.items():
        if got is not None and got.shape != want.shape:
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected {want.shape}")
        if got is not None and got.dtype != want.dtype:
            raise DTypeError(f"{operation}: {name} has dtype {got.dtype}, expected {want.dtype}")


def _check(
    operation: str,
    x: Abstract,
    gamma: Any,
    beta: Any,
    axes: tuple,
    parameter_axes: tuple,
    activation: str | None,
    statistic: str = "variance",
) -> None:
    if statistic not in formulas.STATISTICS:
        raise ArgumentError(f"{operation}: statistic is {statistic!r}, expected one of {formulas.STATISTICS}")
    if activation is not None and activation not in formulas.ACTIVATIONS:
        known = tuple(formulas.ACTIVATIONS)
        raise ArgumentError(f"{operation}: activation is {activation!r}, expected None or one of {known}")
    mg.dtypes.require_floating(operation, "x", x.dtype)
    for name, given in (("gamma", gamma), ("beta", beta)):
        _require(operation, **{name: (given, _parameters(x, parameter_axes, given))})


@standardize_p.infer
def _(x, gamma, beta, *, axes, parameter_axes, epsilon, statistic="variance", activation=None):
    _check("standardize", x, gamma, beta, axes, parameter_axes, activation, statistic)
    statistics = _statistics(x, axes)
    return Abstract(x.shape, x.dtype), statistics, statistics


@standardize_vjp_p.infer
def _(
    dy, x, gamma, beta, mean, var, dmean, dvar,
    *, axes, parameter_axes, epsilon, wants, statistic="variance", activation=None,
):  # fmt: skip
    statistics = _statistics(x, axes)
    _check("standardize_vjp", x, gamma, beta, axes, parameter_axes, activation, statistic)
    _require("standardize_vjp", dy=(dy, x), **{n: (v, statistics) for n, v in [("mean", mean), ("var", var)]})
    _require("standardize_vjp", dmean=(dmean, statistics), dvar=(dvar, statistics))
    parameters = _parameter_sums(x, parameter_axes)
    return tuple(a if w else Abstract(_EMPTY, a.dtype) for a, w in zip((x, parameters, parameters), wants))


@normalize_p.infer
def _(x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, activation=None):
    _check("normalize", x, gamma, beta, axes, parameter_axes, activation)
    statistics = _statistics(x, axes)
    _require("normalize", mean=(mean, statistics), var=(var, statistics))
    return Abstract(x.shape, x.dtype)


@normalize_vjp_p.infer
def _(dy, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, wants, activation=None):
    _check("normalize_vjp", x, gamma, beta, axes, parameter_axes, activation)
    statistics, sums = _statistics(x, axes), _parameter_sums(x, parameter_axes)
    _require("normalize_vjp", dy=(dy, x), mean=(mean, statistics), var=(var, statistics))
    outputs = (x, sums, sums, statistics, statistics)
    return tuple(a if w else Abstract(_EMPTY, a.dtype) for a, w in zip(outputs, wants))


@standardize_p.finish
@normalize_p.finish
def _(name, *, activation=None, **params):
    """A clamp costs the kernels nothing; other activations would be loops of their own there too."""
    clamps = {f"mg::{clamp}": clamp for clamp in kernels.LIMITS if clamp}
    return {**params, "activation": clamps[name]} if activation is None and name in clamps else None


@moments_p.infer
def _(x, *, axes):
    mg.dtypes.require_floating("moments", "x", x.dtype)
    return _statistics(x, axes), _statistics(x, axes)


# Kernels


@standardize_p.kernel("reference")
def _(x, gamma, beta, **params):
    with np.errstate(all="ignore"):
        return formulas.standardize(np, x, gamma, beta, **params)


@standardize_vjp_p.kernel("reference")
def _(*inputs, wants, **params):
    with np.errstate(all="ignore"):
        return _wanted(wants, formulas.standardize_vjp(np, *inputs, **params))


@normalize_p.kernel("reference")
def _(*inputs, **params):
    with np.errstate(all="ignore"):
        return formulas.normalize(np, *inputs, **params)


@normalize_vjp_p.kernel("reference")
def _(*inputs, wants, **params):
    with np.errstate(all="ignore"):
        return _wanted(wants, formulas.normalize_vjp(np, *inputs, **params))


@moments_p.kernel("reference")
def _(x, *, axes):
    with np.errstate(all="ignore"):
        return formulas.moments(np, x, axes)


def _wanted(wants: tuple[bool, ...], gradients: tuple) -> tuple:
    return tuple(g if w else np.empty(_EMPTY, g.dtype) for g, w in zip(gradients, wants))


@standardize_p.workspace
def _(x, gamma, beta, *, axes, parameter_axes, **params):
    return _workspace(x, axes, parameter_axes, gamma is not None, beta is not None)


@normalize_p.workspace
def _(x, gamma, beta, mean, var, *, axes, parameter_axes, **params):
    return _workspace(x, axes, parameter_axes, gamma is not None, beta is not None)


@standardize_vjp_p.workspace
def _(dy, x, gamma, beta, mean, var, dmean, dvar, *, axes, parameter_axes, wants, activation=None, **params):
    return _workspace(x, axes, parameter_axes, gamma is not None or wants[1], True, activation)


@normalize_vjp_p.workspace
def _(dy, x, gamma, beta, mean, var, *, axes, parameter_axes, wants, activation=None, **params):
    return _workspace(x, axes, parameter_axes, gamma is not None or wants[1], True, activation)


@moments_p.workspace
def _(x, *, axes):
    return _workspace(x, axes, (), False, False)


def _workspace(
    x: Abstract, axes: tuple, parameter_axes: tuple, gamma: bool, beta: bool, activation: str | None = None
) -> list[Abstract]:
    plan, order = _plan(x.shape, axes, parameter_axes, gamma, beta)
    work = [Abstract((plan.workspace if plan else 0,), mg.dtypes.float64)]
    if activation in activations.SMOOTH:  # room for z, laid out as the kernels want it
        work.append(Abstract(x.shape if order is None else tuple(x.shape[a] for a in order), x.dtype))
    return work


@standardize_p.kernel("cpu")
def _(out, x, gamma, beta, *, axes, parameter_axes, epsilon, statistic="variance", activation=None):
    y, mean, var, work = out
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, beta is not None)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        _fill(out, formulas.standardize(np, x, gamma, beta, axes, parameter_axes, epsilon, statistic, activation))
        return
    smooth = activation if activation in activations.SMOOTH else None
    clamp = None if smooth else activation
    target = _laid_out(y, order)
    arrays = (_lay(x, order), _flat(gamma), _flat(beta))
    kernels.forward(target, mean, var, work, *arrays, plan, epsilon, statistic, clamp)
    if smooth:
        activations.activate(smooth, target)
    _return(y, target, order)


@normalize_p.kernel("cpu")
def _(out, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, activation=None):
    y, work = out
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, beta is not None)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        y[...] = formulas.normalize(np, x, gamma, beta, mean, var, axes, parameter_axes, epsilon, activation)
        return
    smooth = activation if activation in activations.SMOOTH else None
    clamp = None if smooth else activation
    target = _laid_out(y, order)
    arrays = (_lay(x, order), cpu.contiguous(mean), cpu.contiguous(var), _flat(gamma), _flat(beta))
    kernels.apply(target, work, *arrays, plan, epsilon, clamp)
    if smooth:
        activations.activate(smooth, target)
    _return(y, target, order)


@moments_p.kernel("cpu")
def _(out, x, *, axes):
    mean, var, work = out
    plan, order = _plan(x.shape, axes, (), False, False)
    if not mg.dtypes.has_kernels(x.dtype):
        _fill(out, formulas.moments(np, x, axes))
        return
    kernels.moments(mean, var, work, _lay(x, order), plan)


@standardize_vjp_p.kernel("cpu")
def _(
    out, dy, x, gamma, beta, mean, var, dmean, dvar,
    *, axes, parameter_axes, epsilon, wants, statistic="variance", activation=None,
):  # fmt: skip
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None or wants[1], True)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        inputs = (dy, x, gamma, beta, mean, var, dmean, dvar)
        params = (axes, parameter_axes, epsilon, statistic, activation)
        _fill(out, _wanted(wants, formulas.standardize_vjp(np, *inputs, *params)))
        return
    dx, dgamma, dbeta = [g if w else None for g, w in zip(out, wants)]
    target = None if dx is None else _laid_out(dx, order)
    work, dy, x, mean, var, gamma, beta, clamp = _behind(
        out[3:], dy, x, gamma, beta, mean, var, plan, order, epsilon, activation
    )
    dmean, dvar = (None if d is None else cpu.contiguous(d) for d in (dmean, dvar))
    kernels.backward(
        target, dgamma, dbeta, work, dy, x, mean, var, gamma, plan, epsilon, dmean, dvar, statistic, clamp, beta
    )
    _return(dx, target, order)


@normalize_vjp_p.kernel("cpu")
def _(out, dy, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon, wants, activation=None):
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None or wants[1], True)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        inputs, params = (dy, x, gamma, beta, mean, var), (axes, parameter_axes, epsilon, activation)
        _fill(out, _wanted(wants, formulas.normalize_vjp(np, *inputs, *params)))
        return
    dx, dgamma, dbeta, dmean, dvar = [g if w else None for g, w in zip(out, wants)]
    target = None if dx is None else _laid_out(dx, order)
    work, dy, x, mean, var, gamma, beta, clamp = _behind(
        out[5:], dy, x, gamma, beta, mean, var, plan, order, epsilon, activation
    )
    kernels.apply_backward(
        target, dgamma, dbeta, dmean, dvar, work, dy, x, mean, var, gamma, plan, epsilon, clamp, beta
    )
    _return(dx, target, order)


def _behind(
    workspaces: tuple, dy: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, plan: Any, order: Any,
     epsilon: float, activation: str | None,
) -> tuple:  # fmt: skip
    """What the backward kernels take: work, dy, x, mean, var, γ, β and the clamp, if any.

    Where a smooth activation follows, z is computed anew, and dy replaced by the cotangent of z.
    """
    work = workspaces[0]
    dy, x, mean, var, gamma = _lay(dy, order), _lay(x, order), cpu.contiguous(mean), cpu.contiguous(var), _flat(gamma)
    if gamma is None and plan.gamma != forms.NONE:  # its gradient is wanted all the same
        gamma = np.ones(plan.gamma.size, x.dtype)
    if activation is None:
        return work, dy, x, mean, var, gamma, None, None
    beta = np.zeros(plan.beta.size, x.dtype) if beta is None else _flat(beta)
    if activation not in activations.SMOOTH:
        return work, dy, x, mean, var, gamma, beta, activation
    z = workspaces[1]
    kernels.apply(z, work, x, mean, var, gamma, beta, plan, epsilon)
    activations.gate(activation, z, dy)
    return work, z, x, mean, var, gamma, None, None


@lru_cache(maxsize=4096)
def _plan(
    shape: tuple[int, ...], axes: tuple[int, ...], parameter_axes: tuple[int, ...], gamma: bool, beta: bool
) -> Any:
    """The kernels' plan, and the order of axes that the arrays need first, if any.

    Where scale and shift fit no table, the arrays are laid out as rows that begin with the axes of theirs. There is no
    plan for what fits none even then; it takes the formulas as they stand.
    """
    order = forms.canonical(shape, axes).permutation
    plan = _fitted(shape, axes, parameter_axes, order, gamma, beta)
    if plan is None:
        kept = (a for a in range(len(shape)) if a not in axes)
        order = (*kept, *sorted(axes, key=lambda a: a not in parameter_axes))
        plan = _fitted(shape, axes, parameter_axes, order, gamma, beta)
    return plan, order


def _fitted(
    shape: tuple, axes: tuple, parameter_axes: tuple, order: tuple[int, ...] | None, gamma: bool, beta: bool
) -> Any:
    """The kernels' plan for arrays whose axes are in that order; None if scale and shift fit no table there."""
    if order is not None:
        place = {axis: i for i, axis in enumerate(order)}
        shape = tuple(shape[a] for a in order)
        axes = tuple(sorted(place[a] for a in axes))
        parameter_axes = tuple(place[a] for a in parameter_axes)
        if list(parameter_axes) != sorted(parameter_axes):
            return None
    table = forms.affine(shape, axes, parameter_axes)
    if table is None and (gamma or beta):
        return None
    table = table or forms.NONE
    form = forms.canonical(shape, axes)
    return kernels.plan_for(form, table if gamma else forms.NONE, table if beta else forms.NONE)


def _lay(x: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    return cpu.contiguous(x if order is None else x.transpose(order))


def _laid_out(y: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    """What the kernel fills: `y` itself, or a buffer with its axes in the kernel's order."""
    return y if order is None else cpu.empty(tuple(y.shape[a] for a in order), y.dtype)


def _return(y: np.ndarray | None, target: np.ndarray | None, order: tuple[int, ...] | None) -> None:
    if order is not None and y is not None:
        y.transpose(order)[...] = target


def _flat(parameter: np.ndarray | None) -> np.ndarray | None:
    return None if parameter is None else cpu.contiguous(parameter)


def _fill(out: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    for target, value in zip(out, values):
        target[...] = value


# Derivatives


@standardize_p.vjp(saves=("x", "gamma", "beta", "mean", "var"))
def _(ct, saved, needs, **params):
    dy, dmean, dvar = ct
    if dy is None:
        dy = Tensor(np.zeros(saved.x.shape, saved.x.dtype)).to(saved.x.device)
    inputs = (dy, saved.x, saved.gamma, _beta(saved, params), saved.mean, saved.var, dmean, dvar)
    return _needed(needs, saved, standardize_vjp_p(*inputs, **params, wants=needs))


@normalize_p.vjp(saves=("x", "gamma", "beta", "mean", "var"))
def _(ct, saved, needs, **params):
    inputs = (ct, saved.x, saved.gamma, _beta(saved, params), saved.mean, saved.var)
    return _needed(needs, saved, normalize_vjp_p(*inputs, **params, wants=needs))


@moments_p.vjp(saves=("x", "mean", "var"))
def _(ct, saved, needs, *, axes):
    zeros = Tensor(np.zeros(saved.x.shape, saved.x.dtype)).to(saved.x.device)
    inputs = (zeros, saved.x, None, None, saved.mean, saved.var, *ct)
    dx, _, _ = standardize_vjp_p(*inputs, axes=axes, parameter_axes=(), epsilon=1.0, wants=(True, False, False))
    return dx


def _beta(saved: Any, params: dict) -> Any:
    """β for the gradient, which needs it where an activation follows."""
    return saved.beta if params.get("activation") else None


def _needed(needs: tuple[bool, ...], inputs: Sequence[Any], gradients: tuple) -> tuple:
    """The gradients that are needed, those of γ and β in the dtype of these."""
    return tuple(g.astype(x.dtype) if need else None for g, x, need in zip(gradients, inputs, needs))


composed_rules(standardize_p, formulas.standardize, False)
composed_rules(normalize_p, formulas.normalize, False)
composed_rules(moments_p, formulas.moments, False)
composed_rules(standardize_vjp_p, formulas.standardize_vjp, True)
composed_rules(normalize_vjp_p, formulas.normalize_vjp, True)
