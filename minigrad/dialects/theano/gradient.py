"""grad: gradients as nodes of the graph, which functions compute in one walk back over the engine's tape."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.dialects.theano.graph import Gradient, Operation, Variable, ancestors, apply, as_variable
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError, ShapeError


class DisconnectedInputError(GradientError, ValueError):
    """A gradient was asked for with respect to a variable that the cost does not depend on."""


def grad(
    cost: Variable | None,
    wrt: Any,
    consider_constant: Iterable[Variable] | None = None,
    disconnected_inputs: str = "raise",
    add_names: bool = True,
    known_grads: Mapping[Variable, Any] | None = None,
    return_disconnected: str = "zero",
    null_gradients: str = "raise",
) -> Any:
    """The gradient of a scalar with respect to a variable, or to each of several: new variables of the graph.

    They can be used as any others: in updates, in other expressions, and in a cost that is differentiated again.

    Args:
        cost: a scalar of a floating dtype; None if `known_grads` says where the gradient starts.
        wrt: a variable, inputs and shared ones among them, or a list of variables.
        consider_constant: variables through which no gradient flows.
        disconnected_inputs: what happens for one that the cost does not depend on: 'raise', 'warn', or 'ignore', which
            gives zeros.
        known_grads: gradients with respect to variables, by variable, from which the others follow.
        add_names, return_disconnected, null_gradients: accepted; names are given, and zeros returned.

    Raises:
        ShapeError: if the cost is no scalar.
        DTypeError: if cost or `wrt` is of no floating dtype.
        DisconnectedInputError: also a ValueError.

    Example:
        >>> from minigrad.dialects import theano
        >>> x = theano.tensor.dscalar("x")
        >>> slope = theano.grad(x**3, x)
        >>> float(slope.eval({x: 2.0})), float(theano.grad(slope, x).eval({x: 2.0}))
        (12.0, 12.0)
    """
    several = isinstance(wrt, (list, tuple))
    variables = list(wrt) if several else [wrt]
    known = dict(known_grads or {})
    if (cost is None) == (not known):
        raise ArgumentError("grad: takes a cost or known_grads, and just one of them")
    if cost is not None:
        cost = _require_cost(cost)
        if cost.ndim:
            raise ShapeError(
                f"grad: the cost {cost!r} has {cost.ndim} dimensions, expected a scalar; take its mean or sum"
            )
    costs = [cost] if cost is not None else [_require_cost(v) for v in known]
    cotangents = [as_variable(g) for g in known.values()] if known else []
    for v in variables:
        _require_wrt(v)
    if consider_constant is not None:
        held = {v: disconnected_grad(v) for v in consider_constant}
        costs, variables = replaced(costs, held), [held.get(v, v) for v in variables]
    found = _gradients(costs, cotangents, variables, disconnected_inputs)
    for v, g in zip(variables, found):
        if add_names and g.name is None and v.name is not None:
            g.name = f"grad({costs[0]!r}, {v.name})" if costs[0].name is not None else f"grad({v.name})"
    return (type(wrt)(found) if type(wrt) in (list, tuple) else found) if several else found[0]


def Lop(f: Any, wrt: Any, eval_points: Any, consider_constant: Any = None, disconnected_inputs: str = "raise") -> Any:
    """Row vectors times the Jacobian of `f`: the gradient with respect to `wrt`, given that with respect to `f`."""
    outputs = list(f) if isinstance(f, (list, tuple)) else [f]
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(outputs) != len(points):
        raise ArgumentError(f"Lop: got {len(points)} eval_points for {len(outputs)} outputs")
    known = dict(zip(outputs, points))
    return grad(None, wrt, consider_constant, disconnected_inputs, known_grads=known)


def Rop(f: Variable, wrt: Any, eval_points: Any) -> Variable:
    """The Jacobian of `f` times column vectors: how `f` changes if `wrt` changes by `eval_points`."""
    variables = list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(variables) != len(points):
        raise ArgumentError(f"Rop: got {len(points)} eval_points for {len(variables)} variables")
    # The product with rows u is linear in u, and its derivative by u is the product with columns.
    rows = f.zeros_like()
    products = grad(None, variables, known_grads={f: rows})
    return grad(None, rows, known_grads=dict(zip(products, points)), disconnected_inputs="ignore")


def disconnected_grad(x: Any) -> Variable:
    """x, as a constant to every gradient."""
    x = as_variable(x)
    return apply("DisconnectedGrad", mg.stop_gradient, [x], x.type)


consider_constant = zero_grad = disconnected_grad


def replaced(outputs: Sequence[Variable], replacements: Mapping[Variable, Variable]) -> list[Variable]:
    """The expressions with variables in them replaced by others; what does not change is shared."""
    new: dict[Variable, Variable] = dict(replacements)
    for v in ancestors(outputs, replacements):
        if v in new or v.owner is None:
            continue
        inputs = [new.get(i, i) for i in v.owner.inputs]
        if all(i is j for i, j in zip(inputs, v.owner.inputs)):
            continue
        node = v.owner.with_inputs(inputs)
        new.update((old, made) for old, made in zip(v.owner.outputs, node.outputs) if old not in new)
    return [new.get(v, v) for v in outputs]


def _gradients(
    costs: list[Variable], cotangents: list[Variable], variables: list[Variable], disconnected_inputs: str
) -> list[Variable]:
    if disconnected_inputs not in ("raise", "warn", "ignore"):
        raise ArgumentError(
            f"grad: disconnected_inputs is {disconnected_inputs!r}, expected 'raise', 'warn' or 'ignore'"
        )
    reached = {id(v) for v in ancestors(costs)}
    for v in variables:
        if id(v) not in reached and disconnected_inputs != "ignore":
            message = (
                f"grad: the cost {costs[0]!r} does not depend on {v!r} of {v.type!r}; "
                "disconnected_inputs='ignore' gives zeros"
            )
            if disconnected_inputs == "raise":
                raise DisconnectedInputError(message)
            warnings.warn(message, UserWarning, stacklevel=4)
    connected = [v for v in dict.fromkeys(variables) if id(v) in reached]
    operation = Operation("Gradient", _never, (len(costs), bool(cotangents)))
    node = Gradient(operation, [*costs, *cotangents, *connected], [v.type for v in connected])
    found = dict(zip(connected, node.outputs))
    return [found[v] if v in found else v.zeros_like() for v in variables]


def _never(*args: Any) -> Any:
    raise GradientError("Gradient: is computed by functions, not called")


def _require_cost(cost: Any) -> Variable:
    cost = as_variable(cost)
    if np.dtype(cost.dtype).kind != "f":
        raise DTypeError(f"grad: the cost {cost!r} has dtype {cost.dtype}, expected a floating-point dtype")
    return cost


def _require_wrt(v: Any) -> None:
    if not isinstance(v, Variable):
        raise ArgumentTypeError(f"grad: wrt holds {v!r} ({type(v).__name__}), expected symbolic variables")
    if np.dtype(v.dtype).kind != "f":
        raise DTypeError(f"grad: wrt holds {v!r} of dtype {v.dtype}, expected a floating-point dtype")
