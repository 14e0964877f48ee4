"""Derivatives of functions: grad, value_and_grad, vjp, jvp, hvp, of any order. And `Tensor.backward`.

Reverse mode walks the tape back. Forward mode watches primitives run and computes each output's tangent on the spot.
Both speak in primitives, so either can be applied to the other's result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes, tape
from minigrad.errors import ArgumentTypeError, DTypeError, GradientError, ShapeError
from minigrad.ops.cast import identity_p
from minigrad.primitive import Primitive
from minigrad.tape import is_recording, state
from minigrad.tensor import Leaf, Tensor, Variable, as_tensor, full_like


def backward(self: Tensor, cotangent: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradient of this tensor to ``grad`` of every leaf that it depends on.

    Args:
        cotangent: the gradient with respect to this tensor, of its shape; 1 if the tensor has one element.
        retain_graph: keep the tape, to go back over it again.
        create_graph: record the walk, so that the gradients can be differentiated.

    Raises:
        GradientError: if the tensor requires no gradient, has several elements and no cotangent is given, or its tape
            was freed by an earlier backward.
        MutationError: if a Variable that the gradient needs was assigned to since.
        ShapeError: if the cotangent has another shape.
    """
    if self._node is None:
        raise GradientError("backward: the tensor does not depend on anything that requires gradients")
    ct = _cotangent("backward", self, cotangent)
    tape.backward([self], [ct], retain_graph=retain_graph, create_graph=create_graph)


Tensor.backward = backward  # type: ignore[attr-defined]


def grad(fn: Callable, argnums: int | Sequence[int] = 0, *, variables: Sequence[Variable] | None = None) -> Callable:
    """The function that computes the gradient of `fn`, which returns a scalar.

    Args:
        fn: takes tensors (other arguments are passed on as they are) and returns a tensor of one element.
        argnums: the positions of the arguments to differentiate by. One integer gives one gradient, a sequence a tuple.
        variables: differentiate by these Variables, which `fn` uses, instead of by arguments; gives a list.

    Raises:
        ShapeError: when called, if `fn` returns more than one element.
        DTypeError: when called, if an argument to differentiate by is no float.

    Example:
        >>> import minigrad as mg
        >>> cube = lambda x: (x * x * x).sum()
        >>> mg.grad(cube)(mg.tensor(2.0))
        tensor(12., dtype=float32)
        >>> mg.grad(mg.grad(cube))(mg.tensor(2.0))
        tensor(12., dtype=float32)
    """
    both = value_and_grad(fn, argnums, variables=variables)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def value_and_grad(
    fn: Callable,
    argnums: int | Sequence[int] = 0,
    *,
    variables: Sequence[Variable] | None = None,
    has_aux: bool = False,
) -> Callable:
    """The function that computes `fn` and its gradient together; see `grad`.

    With `has_aux`, `fn` returns ``(scalar, anything)`` and so does the value.

    Example:
        >>> import minigrad as mg
        >>> w = mg.Variable([3.0], name="w")
        >>> loss, (dw,) = mg.value_and_grad(lambda x: (w * x).sum(), variables=[w])(mg.tensor([2.0]))
        >>> loss, dw
        (tensor(6., dtype=float32), tensor([2.], dtype=float32))
    """

    def both(*args: Any, **kwargs: Any) -> Any:
        with tape.enabled() as recording:
            if variables is None:
                positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
                args, inputs = _with_inputs("grad", args, positions)
            else:
                inputs = list(variables)
                _require_trainable(inputs)
            result = fn(*args, **kwargs)
            value = result[0] if has_aux else result
            if not isinstance(value, Tensor) or value.size != 1:
                raise ShapeError(f"grad: the function returned {_described(value)}, expected a tensor of one element")
            ct = full_like(value, 1)
            # A walk outside `no_grad` is recorded if something besides the inputs could want it.
            found = tape.backward([value], [ct], inputs, create_graph=None if recording else False)
        grads = [_zeros_like(x) if g is None else g for g, x in zip(found, inputs)]
        if isinstance(value._node, tape.Node) and value._node.freed:
            value = value.detach()
            result = (value, *result[1:]) if has_aux else value
        if variables is not None:
            return result, grads
        return result, grads[0] if isinstance(argnums, int) else tuple(grads)

    return both


def vjp(fn: Callable, *primals: Any) -> tuple[Any, Callable]:
    """``fn(*primals)``, and the function from a cotangent of the result to cotangents of the primals.

    The second may be called any number of times. If `fn` returns a tuple it takes a tuple.

    Example:
        >>> import minigrad as mg
        >>> y, pull = mg.vjp(lambda x: x * x, mg.tensor([1.0, 2.0]))
        >>> pull(mg.tensor([1.0, 10.0]))
        (tensor([ 2., 40.], dtype=float32),)
    """
    with tape.enabled():
        args, inputs = _with_inputs("vjp", primals, range(len(primals)))
        result = fn(*args)
    outputs = result if isinstance(result, tuple) else (result,)

    def pull(given: Any) -> tuple[Tensor, ...]:
        cts = given if isinstance(result, tuple) else (given,)
        if len(cts) != len(outputs):
            raise ShapeError(f"vjp: got {len(cts)} cotangents for {len(outputs)} results")
        create_graph = None if is_recording() else False
        cotangents = [_cotangent("vjp", o, ct) for o, ct in zip(outputs, cts)]
        found = tape.backward(outputs, cotangents, inputs, retain_graph=True, create_graph=create_graph)
        return tuple(_zeros_like(x) if g is None else g for g, x in zip(found, inputs))

    return result, pull


def jvp(fn: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``fn(*primals)`` and its derivative in the direction of the tangents, in one forward pass.

    Args:
        fn: returns a tensor or a tuple of tensors.
        primals, tangents: as many of one as of the other, of the same shapes; a tangent may be None for zero.

    Raises:
        ShapeError: if their numbers or shapes differ.

    Example:
        >>> import minigrad as mg
        >>> mg.jvp(mg.exp, (mg.tensor(0.0),), (mg.tensor(2.0),))
        (tensor(1., dtype=float32), tensor(2., dtype=float32))
    """
    if len(primals) != len(tangents):
        raise ShapeError(f"jvp: got {len(tangents)} tangents for {len(primals)} primals")
    pushed = _Pushed()
    # A fresh identity of each primal, so that the same tensor given twice has two tangents.
    inputs = [identity_p(as_tensor(p)) for p in primals]
    for x, t in zip(inputs, tangents):
        if t is not None:
            pushed.set(x, _cotangent("jvp", x, t))
    state.observers.append(pushed)
    try:
        result = fn(*inputs)
    finally:
        state.observers.remove(pushed)
    outputs = result if isinstance(result, tuple) else (result,)
    for output in outputs:
        if not isinstance(output, Tensor):
            raise ArgumentTypeError(f"jvp: the function returned {_described(output)}, expected tensors")
    found = tuple(_zeros_like(o) if (t := pushed.get(o)) is None else t for o in outputs)
    return result, found if isinstance(result, tuple) else found[0]


def hvp(fn: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a scalar function times a vector, forward over reverse; a tuple if there are several primals.

    Example:
        >>> import minigrad as mg
        >>> mg.hvp(lambda x: (x * x * x).sum(), (mg.tensor([1.0, 2.0]),), (mg.tensor([1.0, 0.0]),))
        tensor([6., 0.], dtype=float32)
    """
    gradient = grad(fn, tuple(range(len(primals))) if len(primals) > 1 else 0)
    return jvp(gradient, primals, tangents)[1]


class _Pushed:
    """The tangents of a forward pass, found by the identity of the array that holds a tensor's values.

    An output that its node saved comes back in the reverse pass as another Tensor on the same array, and keeps its
    tangent that way. The arrays are held, so that no other takes an identity over.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[np.ndarray, Tensor]] = {}

    def get(self, x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        found = self._known.get(id(x._data))
        return None if found is None else found[1]

    def set(self, x: Tensor, tangent: Tensor) -> None:
        self._known[id(x._data)] = (x._data, tangent)

    def __call__(self, primitive: Primitive, inputs: Sequence[Any], outputs: Sequence[Tensor], params: dict) -> None:
        if not outputs:  # an assignment: what Variables hold is constant
            return
        tangents = [
            None if x is None or name in primitive.frozen else self.get(x)
            for x, name in zip(inputs, primitive.inputs or [""] * len(inputs))
        ]
        if all(t is None for t in tangents) or not any(dtypes.is_differentiable(o.dtype) for o in outputs):
            return
        # The rule's own primitives belong to the passes around this one.
        at = state.observers.index(self)
        inner, state.observers = state.observers, state.observers[:at]
        try:
            results = primitive.push_forward(tangents, inputs, outputs, params)
        finally:
            state.observers = inner
        for output, tangent in zip(outputs, results):
            if tangent is not None:
                self.set(output, tangent)


def _with_inputs(operation: str, args: Sequence[Any], positions: Sequence[int]) -> tuple[tuple, list[Tensor]]:
    """The arguments, with fresh tensors to differentiate by in these positions, and those tensors."""
    replaced = list(args)
    for i in positions:
        if isinstance(i, bool) or not isinstance(i, (int, np.integer)):
            raise ArgumentTypeError(f"{operation}: argnums is {i!r}, expected an integer or several")
        if not -len(args) <= i < len(args):
            raise ArgumentTypeError(f"{operation}: argnums names argument {i}, the function got {len(args)}")
        x = as_tensor(args[i])
        if not dtypes.is_differentiable(x.dtype):
            raise DTypeError(f"{operation}: argument {i} has dtype {x.dtype}, expected a floating-point dtype")
        fresh = identity_p(x)
        if fresh._node is None:
            fresh = Tensor(fresh._data, Leaf(fresh.shape, fresh.dtype), 0, fresh._version)
        replaced[i] = fresh
    return tuple(replaced), [replaced[i] for i in positions]


def _require_trainable(variables: Sequence[Any]) -> None:
    for v in variables:
        if not isinstance(v, Variable) or not v.trainable:
            raise GradientError(f"grad: variables holds {_described(v)}, expected trainable Variables")


def _zeros_like(x: Tensor) -> Tensor:
    return full_like(x, 0)


def _cotangent(operation: str, output: Any, cotangent: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ArgumentTypeError(f"{operation}: got {_described(output)}, expected a tensor")
    if cotangent is None:
        if output.size != 1:
            raise GradientError(f"{operation}: a tensor of shape {output.shape} needs a cotangent of that shape")
        return full_like(output, 1)
    ct = as_tensor(cotangent, like=output)
    if ct._data.shape != output._data.shape:
        raise ShapeError(f"{operation}: the cotangent has shape {ct.shape}, expected {output.shape}")
    return ct.astype(output._data.dtype)


def _described(value: Any) -> str:
    return f"a tensor of shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
