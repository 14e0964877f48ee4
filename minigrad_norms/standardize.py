"""The primitives that the whole family shares: standardize over axes, standardize by given moments, and moments.

    y = (x − μ)·γ/√(σ² + ε) + β        with 1/√(σ² + ε) := 0 where σ² + ε = 0, so a constant group gives exactly β

The mean μ and the biased variance σ² are over `axes`; γ and β span `parameter_axes`. Statistics are float64, which is
what keeps float32's digits where the mean is large and the spread small. The fused gradients are primitives of their
own, with rules composed of elementary ones from `minigrad_norms.formulas`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Abstract, Primitive, Sample, Tensor
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad_norms import formulas
from minigrad_norms.kernels import form as forms
from minigrad_norms.kernels import standardize_cpu as kernels

standardize_p = Primitive("norms::standardize", outputs=("y", "mean", "var"))
standardize_vjp_p = Primitive("norms::standardize_vjp", outputs=("dx", "dgamma", "dbeta"))
normalize_p = Primitive("norms::normalize", outputs=("y",))
normalize_vjp_p = Primitive("norms::normalize_vjp", outputs=("dx", "dgamma", "dbeta", "dmean", "dvar"))
moments_p = Primitive("norms::moments", outputs=("mean", "var"))
_EMPTY = (0,)  # the shape of a gradient that nobody wants


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


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float
) -> Tensor:
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
        if t is not None and np.broadcast_shapes(t.shape, x.shape) != x.shape:
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


# Shapes


def _statistics(x: Abstract, axes: tuple[int, ...]) -> Abstract:
    return Abstract(mg.axes.reduced_shape(x.shape, axes, False), _wide(x.dtype))


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype of statistics: float64 for what kernels take, wider for the extended types of the reference."""
    return np.result_type(dtype, np.float64)


def _parameters(x: Abstract, parameter_axes: tuple[int, ...]) -> Abstract:
    return Abstract(tuple(x.shape[a] for a in parameter_axes), x.dtype)


def _require(operation: str, **pairs: tuple[Abstract | None, Abstract]) -> None:
    for name, (got, want) in pairs.items():
        if got is not None and got.shape != want.shape:
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected {want.shape}")
        if got is not None and got.dtype != want.dtype:
            raise DTypeError(f"{operation}: {name} has dtype {got.dtype}, expected {want.dtype}")


def _check(operation: str, x: Abstract, gamma: Any, beta: Any, axes: tuple, parameter_axes: tuple) -> None:
    mg.dtypes.require_floating(operation, "x", x.dtype)
    wanted = _parameters(x, parameter_axes)
    _require(operation, gamma=(gamma, wanted), beta=(beta, wanted))


@standardize_p.infer
def _(x, gamma, beta, *, axes, parameter_axes, epsilon):
    _check("standardize", x, gamma, beta, axes, parameter_axes)
    statistics = _statistics(x, axes)
    return Abstract(x.shape, x.dtype), statistics, statistics


@standardize_vjp_p.infer
def _(dy, x, gamma, mean, var, dmean, dvar, *, axes, parameter_axes, epsilon, wants):
    statistics = _statistics(x, axes)
    _check("standardize_vjp", x, gamma, None, axes, parameter_axes)
    _require("standardize_vjp", dy=(dy, x), **{n: (v, statistics) for n, v in [("mean", mean), ("var", var)]})
    _require("standardize_vjp", dmean=(dmean, statistics), dvar=(dvar, statistics))
    parameters = _parameters(x, parameter_axes)
    return tuple(a if w else Abstract(_EMPTY, a.dtype) for a, w in zip((x, parameters, parameters), wants))


@normalize_p.infer
def _(x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon):
    _check("normalize", x, gamma, beta, axes, parameter_axes)
    statistics = _statistics(x, axes)
    _require("normalize", mean=(mean, statistics), var=(var, statistics))
    return Abstract(x.shape, x.dtype)


@normalize_vjp_p.infer
def _(dy, x, gamma, mean, var, *, axes, parameter_axes, epsilon, wants):
    _check("normalize_vjp", x, gamma, None, axes, parameter_axes)
    statistics, parameters = _statistics(x, axes), _parameters(x, parameter_axes)
    _require("normalize_vjp", dy=(dy, x), mean=(mean, statistics), var=(var, statistics))
    outputs = (x, parameters, parameters, statistics, statistics)
    return tuple(a if w else Abstract(_EMPTY, a.dtype) for a, w in zip(outputs, wants))


@moments_p.infer
def _(x, *, axes):
    mg.dtypes.require_floating("moments", "x", x.dtype)
    return _statistics(x, axes), _statistics(x, axes)


# Kernels


@standardize_p.kernel("reference")
def _(x, gamma, beta, *, axes, parameter_axes, epsilon):
    with np.errstate(all="ignore"):
        return formulas.standardize(np, x, gamma, beta, axes, parameter_axes, epsilon)


@standardize_vjp_p.kernel("reference")
def _(dy, x, gamma, mean, var, dmean, dvar, *, axes, parameter_axes, epsilon, wants):
    with np.errstate(all="ignore"):
        gradients = formulas.standardize_vjp(
            np, dy, x, gamma, mean, var, dmean, dvar, axes, parameter_axes, epsilon
        )
    return _wanted(wants, gradients)


@normalize_p.kernel("reference")
def _(x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon):
    with np.errstate(all="ignore"):
        return formulas.normalize(np, x, gamma, beta, mean, var, axes, parameter_axes, epsilon)


@normalize_vjp_p.kernel("reference")
def _(dy, x, gamma, mean, var, *, axes, parameter_axes, epsilon, wants):
    with np.errstate(all="ignore"):
        gradients = formulas.normalize_vjp(np, dy, x, gamma, mean, var, axes, parameter_axes, epsilon)
    return _wanted(wants, gradients)


@moments_p.kernel("reference")
def _(x, *, axes):
    with np.errstate(all="ignore"):
        return formulas.moments(np, x, axes)


def _wanted(wants: tuple[bool, ...], gradients: tuple) -> tuple:
    return tuple(g if w else np.empty(_EMPTY, g.dtype) for g, w in zip(gradients, wants))


@lru_cache(maxsize=4096)
def _plan(shape: tuple[int, ...], axes: tuple[int, ...], parameter_axes: tuple[int, ...], gamma: bool, beta: bool) -> Any:
    """The kernels' plan, and the permutation that the arrays need first, if any."""
    form = forms.canonical(shape, axes)
    order = form.permutation
    if order is not None:
        shape, axes, parameter_axes = _permuted(shape, axes, parameter_axes, order)
        form = forms.canonical(shape, axes)
    table = forms.affine(shape, axes, parameter_axes)
    if table is None and (gamma or beta):
        return None, order
    none = forms.NONE
    return kernels.plan_for(form, table if gamma else none, table if beta else none), order


def _permuted(shape: tuple, axes: tuple, parameter_axes: tuple, order: tuple) -> tuple[tuple, tuple, tuple]:
    place = {axis: i for i, axis in enumerate(order)}
    return (
        tuple(shape[a] for a in order),
        tuple(sorted(place[a] for a in axes)),
        tuple(place[a] for a in parameter_axes),
    )


@standardize_p.workspace
def _(x, gamma, beta, *, axes, parameter_axes, epsilon):
    return _workspace(x, axes, parameter_axes, gamma, beta)


@normalize_p.workspace
def _(x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon):
    return _workspace(x, axes, parameter_axes, gamma, beta)


@standardize_vjp_p.workspace
def _(dy, x, gamma, mean, var, dmean, dvar, *, axes, parameter_axes, epsilon, wants):
    return _workspace(x, axes, parameter_axes, gamma, True)


@normalize_vjp_p.workspace
def _(dy, x, gamma, mean, var, *, axes, parameter_axes, epsilon, wants):
    return _workspace(x, axes, parameter_axes, gamma, True)


@moments_p.workspace
def _(x, *, axes):
    return _workspace(x, axes, (), None, None)


def _workspace(x: Abstract, axes: tuple, parameter_axes: tuple, gamma: Any, beta: Any) -> list[Abstract]:
    plan, _ = _plan(x.shape, axes, parameter_axes, gamma is not None, beta is not None)
    return [Abstract((plan.workspace if plan else 0,), mg.dtypes.float64)]


@standardize_p.kernel("cpu")
def _(out, x, gamma, beta, *, axes, parameter_axes, epsilon):
    y, mean, var, work = out
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, beta is not None)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        _fill(out, standardize_p.reference(x, gamma, beta, axes=axes, parameter_axes=parameter_axes, epsilon=epsilon))
        return
    target = _laid_out(y, order)
    kernels.forward(target, mean, var, work, _lay(x, order), _flat(gamma), _flat(beta), plan, epsilon)
    _return(y, target, order)


@normalize_p.kernel("cpu")
def _(out, x, gamma, beta, mean, var, *, axes, parameter_axes, epsilon):
    y, work = out
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, beta is not None)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        y[...] = formulas.normalize(np, x, gamma, beta, mean, var, axes, parameter_axes, epsilon)
        return
    target = _laid_out(y, order)
    mean, var = cpu.contiguous(mean), cpu.contiguous(var)
    kernels.apply(target, work, _lay(x, order), mean, var, _flat(gamma), _flat(beta), plan, epsilon)
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
def _(out, dy, x, gamma, mean, var, dmean, dvar, *, axes, parameter_axes, epsilon, wants):
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, True)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        formula = formulas.standardize_vjp(np, dy, x, gamma, mean, var, dmean, dvar, axes, parameter_axes, epsilon)
        _fill(out, _wanted(wants, formula))
        return
    dx, dgamma, dbeta = (g if w else None for g, w in zip(out, wants))
    target = None if dx is None else _laid_out(dx, order)
    statistics = (cpu.contiguous(mean), cpu.contiguous(var))
    cotangents = (None if d is None else cpu.contiguous(d) for d in (dmean, dvar))
    kernels.backward(
        target, dgamma, dbeta, out[3], _lay(dy, order), _lay(x, order), *statistics, _flat(gamma), plan, epsilon, *cotangents
    )
    if dx is not None:
        _return(dx, target, order)


@normalize_vjp_p.kernel("cpu")
def _(out, dy, x, gamma, mean, var, *, axes, parameter_axes, epsilon, wants):
    plan, order = _plan(x.shape, axes, parameter_axes, gamma is not None, True)
    if plan is None or not mg.dtypes.has_kernels(x.dtype):
        formula = formulas.normalize_vjp(np, dy, x, gamma, mean, var, axes, parameter_axes, epsilon)
        _fill(out, _wanted(wants, formula))
        return
    dx, dgamma, dbeta, dmean, dvar = (g if w else None for g, w in zip(out, wants))
    target = None if dx is None else _laid_out(dx, order)
    arrays = (_lay(dy, order), _lay(x, order), cpu.contiguous(mean), cpu.contiguous(var), _flat(gamma))
    kernels.apply_backward(target, dgamma, dbeta, dmean, dvar, out[5], *arrays, plan, epsilon)
    if dx is not None:
        _return(dx, target, order)


@lru_cache(maxsize=4096)
def _plan(shape: tuple[int, ...], axes: tuple[int, ...], parameter_axes: tuple[int, ...], gamma: bool, beta: bool) -> Any:
    """The kernels' plan, and the order of axes that the arrays need first, if any.

    There is no plan for parameters that no table describes; those take the formulas as they stand.
    """
    order = forms.canonical(shape, axes).permutation
    if order is not None:
        place = {axis: i for i, axis in enumerate(order)}
        shape = tuple(shape[a] for a in order)
        axes = tuple(sorted(place[a] for a in axes))
        parameter_axes = tuple(place[a] for a in parameter_axes)
        if list(parameter_axes) != sorted(parameter_axes):
            return None, order
    table = forms.affine(shape, axes, parameter_axes)
    if table is None and (gamma or beta):
        return None, order
    table = table or forms.NONE
    form = forms.canonical(shape, axes)
    return kernels.plan_for(form, table if gamma else forms.NONE, table if beta else forms.NONE), order


def _lay(x: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    return cpu.contiguous(x if order is None else x.transpose(order))


def _laid_out(y: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    """What the kernel fills: `y` itself, or a buffer with its axes in the kernel's order."""
    return y if order is None else cpu.empty(tuple(y.shape[a] for a in order), y.dtype)


def _return(y: np.ndarray, target: np.ndarray, order: tuple[int, ...] | None) -> None:
    if order is not None:
        y.transpose(order)[...] = target


def _flat(parameter: np.ndarray | None) -> np.ndarray | None:
    return None if parameter is None else cpu.contiguous(parameter)


def _fill(out: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    for target, value in zip(out, values):
        target[...] = value


# Derivatives


@standardize_p.vjp(saves=("x", "gamma", "mean", "var"))
def _(ct, saved, needs, **params):
    dy, dmean, dvar = ct
    if dy is None:
        dy = Tensor(np.zeros(saved.x.shape, saved.x.dtype))
    inputs = (dy, saved.x, saved.gamma, saved.mean, saved.var, dmean, dvar)
    return _needed(needs, standardize_vjp_p(*inputs, **params, wants=needs))


@normalize_p.vjp(saves=("x", "gamma", "mean", "var"))
def _(ct, saved, needs, **params):
    return _needed(needs, normalize_vjp_p(ct, saved.x, saved.gamma, saved.mean, saved.var, **params, wants=needs))


@moments_p.vjp(saves=("x", "mean", "var"))
def _(ct, saved, needs, *, axes):
    zeros = Tensor(np.zeros(saved.x.shape, saved.x.dtype))
    inputs = (zeros, saved.x, None, saved.mean, saved.var, *ct)
    dx, _, _ = standardize_vjp_p(*inputs, axes=axes, parameter_axes=(), epsilon=1.0, wants=(True, False, False))
    return dx


def _needed(needs: tuple[bool, ...], gradients: tuple) -> tuple:
    return tuple(g if need else None for g, need in zip(gradients, needs))


def _composed_rules(primitive: Primitive, formula: Callable, wants_outputs: bool) -> None:
    """Rules by differentiating the formula as composed of elementary primitives.

    With `wants_outputs` the primitive returns only the outputs that its argument `wants` names.
    """

    def outputs_of(inputs: Sequence[Tensor | None], params: dict) -> tuple:
        arguments = {k: v for k, v in params.items() if k != "wants"}
        result = formula(mg, *inputs, **arguments)
        return result if isinstance(result, tuple) else (result,)

    def of_some(inputs: Sequence[Tensor | None], chosen: list[int], params: dict, keep: list[int]) -> Callable:
        def function(*values: Tensor) -> tuple:
            full = list(inputs)
            for i, value in zip(chosen, values):
                full[i] = value
            outputs = outputs_of(full, params)
            return tuple(outputs[k] for k in keep)

        return function

    def vjp(ct: Any, saved: Any, needs: tuple[bool, ...], **params: Any) -> list:
        inputs = list(saved)[: len(needs)]
        cts = ct if isinstance(ct, tuple) else (ct,)
        keep = [k for k, c in enumerate(cts) if c is not None]
        chosen = [i for i, need in enumerate(needs) if need]
        _, pull = mg.vjp(of_some(inputs, chosen, params, keep), *[inputs[i] for i in chosen])
        found = dict(zip(chosen, pull(tuple(cts[k] for k in keep))))
        return [found.get(i) for i in range(len(needs))]

    def jvp(tangents: tuple, primals: tuple, outputs: tuple, **params: Any) -> tuple:
        wanted = params.get("wants", (True,) * len(outputs))
        keep = [k for k, w in enumerate(wanted) if w]
        chosen = [i for i, t in enumerate(tangents) if t is not None]
        function = of_some(primals, chosen, params, keep)
        _, pushed = mg.jvp(function, [primals[i] for i in chosen], [tangents[i] for i in chosen])
        found = dict(zip(keep, pushed))
        return tuple(found.get(k) for k in range(len(outputs)))

    primitive.jvp(jvp)
    if wants_outputs:
        primitive.vjp(saves=primitive.inputs)(vjp)


_composed_rules(standardize_p, formulas.standardize, False)
_composed_rules(normalize_p, formulas.normalize, False)
_composed_rules(moments_p, formulas.moments, False)
_composed_rules(standardize_vjp_p, formulas.standardize_vjp, True)
_composed_rules(normalize_vjp_p, formulas.normalize_vjp, True)
