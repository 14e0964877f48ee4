"""Order and choice: control_dependencies, group, cond, and gradients as operations of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.dialects import _walk
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.building import convert_to_tensor
from minigrad.dialects.tf1.graph import Operation, Tensor, get_default_graph, operation_of
from minigrad.dialects.tf1.program import Program, needed
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError


def control_dependencies(control_inputs: Any) -> Any:
    """``with tf.control_dependencies([a, b]): ...``: what is added inside runs after a and b, which run too."""
    return get_default_graph().control_dependencies(control_inputs)


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing, after what it depends on."""
    return get_default_graph().add("NoOp", lambda: None, (), name or "NoOp")


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An operation that is done when all these operations and tensors are."""
    flat = [item for i in inputs for item in (i if isinstance(i, (list, tuple)) else [i])]
    with control_dependencies(flat):
        return get_default_graph().add("NoOp", lambda: None, (), name or "group_deps")


def tuple_(tensors: Iterable[Any], name: str | None = None, control_inputs: Any = None) -> list:
    """The tensors again, each of which is there when all of them and `control_inputs` are; None stays None."""
    held = list(tensors)
    from minigrad.dialects.tf1.array_ops import identity

    with control_dependencies([t for t in held if t is not None] + list(control_inputs or [])):
        return [None if t is None else identity(t) for t in held]


def with_dependencies(dependencies: Sequence[Any], output: Tensor, name: str | None = None) -> Tensor:
    """`output`, once `dependencies` have run."""
    from minigrad.dialects.tf1.array_ops import identity

    with control_dependencies(dependencies):
        return identity(output, name=name)


class _Cond:
    """What a cond does: one of two parts of the graph, each a list of operations and of what it comes to."""

    def __init__(self, orders: list[list[Operation]], results: list[list[Tensor]]):
        self.orders = orders
        self.results = results

    def __call__(self, program: Program, known: dict[Tensor, Any], pred: Any, *captured: Any) -> tuple:
        way = 0 if bool(pred) else 1
        program.perform(self.orders[way], known)
        return tuple(program.value(t, known) for t in self.results[way])


def cond(
    pred: Any,
    true_fn: Callable | None = None,
    false_fn: Callable | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable | None = None,
    fn2: Callable | None = None,
) -> Any:
    """What `true_fn` makes if `pred` is true when the graph runs, else what `false_fn` makes.

    Both functions are called at once, to build both ways. What they build runs only if its way is taken; what was
    built outside and either way needs runs always.

    Args:
        pred: a boolean scalar. Fed, or a constant, it chooses between two recorded programs; computed from other
            tensors it keeps a program from being recorded.
        true_fn, false_fn: functions without arguments that return a tensor, an operation, or a list of tensors.
        strict: accepted, and ignored: a list of one tensor stays a list only if this is set.
        fn1, fn2: the older names of `true_fn` and `false_fn`.

    Raises:
        ArgumentTypeError: for a `pred` that is a Python boolean, or functions that can't be called.
        ArgumentError, DTypeError: if the ways come to different numbers, or kinds, of things.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     training = tf.placeholder(tf.bool)
        ...     y = tf.cond(training, lambda: tf.constant(1.0), lambda: tf.constant(2.0))
        ...     [float(session.run(y, {training: value})) for value in (True, False)]
        [1.0, 2.0]
    """
    functions = (fn1 if true_fn is None else true_fn, fn2 if false_fn is None else false_fn)
    if isinstance(pred, (bool, np.bool_)):
        raise ArgumentTypeError("cond: pred must not be a Python bool; use Python's if")
    if not all(callable(f) for f in functions):
        raise ArgumentTypeError("cond: true_fn and false_fn must be callable")
    graph, pred = get_default_graph(), convert_to_tensor(pred)
    if pred.dtype.kind != "b" or pred.lengths not in ((), None):
        raise DTypeError(f"cond: pred is {pred!r}, expected a boolean scalar")
    found, orders, results = [], [], list[list[Tensor]]()
    outside: dict[Any, None] = {}
    first = len(graph.operations)
    with graph.name_scope(name or "cond"):
        for function in functions:
            assert function is not None
            start = len(graph.operations)
            found.append(function())
            items = list(found[-1]) if isinstance(found[-1], (list, tuple)) else [found[-1]]
            items = [i if isinstance(i, (Tensor, Operation)) else convert_to_tensor(i) for i in items]
            orders.append([op for op in needed([operation_of(i) for i in items]) if _is_made_after(op, start)])
            results.append([i for i in items if isinstance(i, Tensor)])
            used = [t for op in orders[-1] for t in (*op.inputs, *op.control_inputs)] + items
            outside.update(dict.fromkeys(u for u in used if not _is_made_after(operation_of(u), start)))
    if other := [o for o in outside if _is_made_after(operation_of(o), first)]:
        raise ArgumentError(f"cond: false_fn uses {other[0].name}, which only true_fn makes")
    _require_alike(found, results)
    captured = [o for o in outside if isinstance(o, Tensor) and o is not pred]
    with control_dependencies([o for o in outside if isinstance(o, Operation)]):
        run = _Cond(orders, results)
        op = graph.add("cond", run, [pred, *captured], name or "cond", recordable=_is_given(pred))
    merged = [op.result(a.dtype, _common(a.lengths, b.lengths)) for a, b in zip(*results)]
    if not merged:
        return op
    return type(found[0])(merged) if isinstance(found[0], (list, tuple)) else merged[0]


def _is_made_after(op: Operation, start: int) -> bool:
    """Whether an operation belongs to a way that began here. Variables belong to none: both ways may use them."""
    return op.index >= start and op.type != "VariableV2"


def _require_alike(found: Sequence[Any], results: Sequence[Sequence[Tensor]]) -> None:
    kinds = [type(f) if isinstance(f, (list, tuple)) else None for f in found]
    if len(results[0]) != len(results[1]) or kinds[0] is not kinds[1]:
        raise ArgumentError(f"cond: true_fn and false_fn must return the same structure, got {found[0]} and {found[1]}")
    for a, b in zip(*results):
        if a.dtype != b.dtype:
            raise DTypeError(f"cond: outputs of true_fn and false_fn must have the same type: {a.dtype}, {b.dtype}")


def _common(one: shapes.Lengths, other: shapes.Lengths) -> shapes.Lengths:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other))


def _is_given(pred: Tensor) -> bool:
    """Whether a boolean is known before the graph runs: fed, a constant, or made of such."""
    if pred.op.type in ("Placeholder", "PlaceholderWithDefault", "Const"):
        return pred.lengths in ((), None)
    made = pred.op.type in ("LogicalNot", "LogicalAnd", "LogicalOr", "Identity")
    return made and all(map(_is_given, pred.op.inputs))


# Gradients


class _Gradients:
    """What an operation of gradients does; its inputs are the ys, their cotangents where given, then the xs."""

    def __init__(self, count: int, given: Sequence[int]):
        self.count = count
        self.given = list(given)  # the ys that cotangents are given for

    def outputs_of(self, op: Operation) -> list[Tensor]:
        """The ys and the cotangents."""
        return op.inputs[: self.count + len(self.given)]

    def inputs_of(self, op: Operation) -> list[Tensor]:
        """The xs."""
        return op.inputs[self.count + len(self.given) :]

    def __call__(self, values: Sequence[Any], create: bool, retain: bool) -> tuple:
        ys, rest = list(values[: self.count]), values[self.count :]
        cotangents: list[Any] = [None] * self.count
        for place, value in zip(self.given, rest):
            cotangents[place] = mg.as_tensor(value)
        xs = rest[len(self.given) :]
        return tuple(_walk.gradients(ys, cotangents, xs, create_graph=create, retain_graph=retain))


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str | None = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Any = None,
    stop_gradients: Any = None,
) -> list[Tensor | None]:
    """The gradients of the sum of `ys` by each of `xs`, as tensors of the graph; None where nothing depends on it.

    Args:
        ys: a tensor, or several.
        xs: a Variable or tensor, or several.
        grad_ys: the gradient by each of `ys`; None for ones.
        colocate_gradients_with_ops, gate_gradients, aggregation_method: accepted, and ignored.

    Raises:
        DTypeError: for integers and booleans.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     x = tf.constant(3.0)
        ...     (slope,) = tf.gradients(x * x, x)
        ...     (curvature,) = tf.gradients(slope, x)
        ...     [float(value) for value in session.run([slope, curvature])]
        [6.0, 2.0]
    """
    if stop_gradients is not None:
        raise ArgumentError("gradients: stop_gradients is not offered; tf.stop_gradient makes a constant of a tensor")
    outputs = [convert_to_tensor(y) for y in (ys if isinstance(ys, (list, tuple)) else [ys])]
    inputs = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    for what, tensors in (("ys", outputs), ("xs", inputs)):
        for t in tensors:
            if not isinstance(t, Tensor):
                raise ArgumentTypeError(f"gradients: {what} holds {t!r}, expected tensors and Variables")
            if t.dtype.kind != "f":
                raise DTypeError(f"gradients: {what} holds {t.name} of {t.dtype}, expected a floating-point dtype")
    seeds = (
        [None] * len(outputs) if grad_ys is None else list(grad_ys if isinstance(grad_ys, (list, tuple)) else [grad_ys])
    )
    if len(seeds) != len(outputs):
        raise ArgumentError(f"gradients: got {len(seeds)} grad_ys for {len(outputs)} ys")
    given = [i for i, seed in enumerate(seeds) if seed is not None]
    cotangents = [convert_to_tensor(seeds[i], outputs[i].dtype) for i in given]
    reached = {t for op in needed([y.op for y in outputs], controls=False) for t in (*op.inputs, *op.outputs)}
    connected = [x for x in dict.fromkeys(inputs) if x in reached]
    if not connected:
        return [None] * len(inputs)
    run = _Gradients(len(outputs), given)
    op = get_default_graph().add("Gradients", run, [*outputs, *cotangents, *connected], name or "gradients")
    made = {x: op.result(x.dtype, x.lengths) for x in connected}
    return [made.get(x) for x in inputs]
