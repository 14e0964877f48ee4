"""What a function does to its graph first: put givens in, compute equal expressions once, and use stabler forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano.graph import Apply, Constant, Gradient, Operation, TensorType, Variable, ancestors


class Canonical:
    """The graph of some outputs, rewritten. Variables that the user's gradients are taken by stay as they are.

    Args:
        outputs: what the function computes.
        givens: variables to replace, and by what, in order: a replacement sees those before it.
    """

    def __init__(self, outputs: Sequence[Variable], givens: Sequence[tuple[Variable, Variable]] = ()):
        self._known: dict[tuple, list[Variable]] = {}
        self._kept: set[int] = set()  # variables, old and new, that gradients are taken by
        self._gradients: dict[tuple, Gradient] = {}
        self._held: list[Variable] = []  # so that no identity is taken over by another
        everything = ancestors([*outputs, *[new for _, new in givens]])
        for v in everything:
            if isinstance(v.owner, Gradient):
                self._kept.update(id(w) for w in v.owner.wrt)
        done: dict[Variable, Variable] = {}
        for old, new in givens:
            (replacement,) = self._resolved([new], done)
            done = {**done, old: replacement}
        self.outputs = self._resolved(outputs, done)

    def _resolved(self, outputs: Sequence[Variable], givens: Mapping[Variable, Variable]) -> list[Variable]:
        new: dict[Variable, Variable] = dict(givens)
        for v in ancestors(outputs, givens):
            if v in new:
                continue
            if v.owner is None:
                new[v] = self._constant(v) if isinstance(v, Constant) else v
            else:
                made = self._application(v.owner, [new[i] for i in v.owner.inputs])
                for old, result in zip(v.owner.outputs, made):
                    new.setdefault(old, result)
                    if id(old) in self._kept:
                        self._keep(result)
            if id(v) in self._kept:
                self._keep(new[v])
        return [new[v] for v in outputs]

    def _keep(self, v: Variable) -> None:
        self._held.append(v)
        self._kept.add(id(v))

    def _constant(self, v: Constant) -> Variable:
        if v.data.size > 16:
            return v
        return self._known.setdefault(("constant", v.data.dtype, v.data.shape, v.data.tobytes()), [v])[0]

    def _application(self, node: Apply, inputs: list[Variable]) -> list[Variable]:
        if isinstance(node, Gradient):
            return self._gradient(node, inputs)
        operation = node.operation
        key = (operation, *map(id, inputs))
        if operation.once:
            key = (id(node), *map(id, inputs))
        known = self._known.get(key)
        if known is None:
            made = node.with_inputs(inputs)
            known = self._known[key] = self._better(made)
            self._held += [*made.outputs, *known]
        return known

    def _gradient(self, node: Gradient, inputs: list[Variable]) -> list[Variable]:
        """Gradients of one cost share a node, and with it a walk."""
        count = len(inputs) - len(node.wrt)
        key = (node.operation, *map(id, inputs[:count]))
        shared = self._gradients.get(key)
        if shared is None:
            shared = self._gradients[key] = Gradient(node.operation, inputs[:count], [], node.where)
            self._held += inputs
        found = []
        for v, old in zip(inputs[count:], node.outputs):
            places = [i for i, w in enumerate(shared.wrt) if w is v]
            if not places:
                places = [len(shared.outputs)]
                shared.inputs.append(v)
                shared.outputs.append(Variable(old.type, shared, places[0], old.name))
            found.append(shared.outputs[places[0]])
        return found

    def _better(self, node: Apply) -> list[Variable]:
        rules = _RULES.get(node.name, ())
        inner = node.inputs[0].owner if rules else None
        if inner is None or id(node.inputs[0]) in self._kept:
            return node.outputs
        if inner.name == "Sub" and any(id(v) in self._kept for v in inner.inputs):
            return node.outputs
        for rule in rules:
            found = rule(node, inner)
            if found is not None:
                found.where = node.where
                return found.outputs
        return node.outputs


# Stabler and cheaper forms. Each takes a node and the one that
# makes its first input, and returns another that computes the same as both, or None.


def _log_of_softmax(node: Apply, inner: Apply) -> Apply | None:
    """log(softmax(x)): no logarithm of a probability that rounded to 0."""
    if inner.name != "Softmax":
        return None
    return _like(node, "LogSoftmax", mg.log_softmax, inner.inputs, inner.operation.params)


def _log_of_sigmoid(node: Apply, inner: Apply) -> Apply | None:
    if inner.name != "Sigmoid":
        return None
    return _like(node, "LogSigmoid", _log_sigmoid, inner.inputs)


def _log_of_one_minus_sigmoid(node: Apply, inner: Apply) -> Apply | None:
    if inner.name != "Sub" or inner.inputs[1].owner is None:
        return None
    one, sigmoid = inner.inputs[0], inner.inputs[1].owner
    if sigmoid.name != "Sigmoid" or not isinstance(one, Constant) or one.data.size != 1 or one.data.item() != 1:
        return None
    if one.ndim > sigmoid.inputs[0].ndim:
        return None
    return _like(node, "LogSigmoid", _log_sigmoid_of_minus, sigmoid.inputs)


def _entropy_of_softmax(node: Apply, inner: Apply) -> Apply | None:
    """The cross-entropy of softmax(x), from x."""
    if inner.name != "Softmax":
        return None
    return _like(node, "SoftmaxCrossentropy", mg.softmax_cross_entropy, [inner.inputs[0], node.inputs[1]])


def _entropy_of_sigmoid(node: Apply, inner: Apply) -> Apply | None:
    """The binary cross-entropy of sigmoid(x), from x."""
    if inner.name != "Sigmoid":
        return None
    return _like(node, "SigmoidCrossentropy", sigmoid_crossentropy, [inner.inputs[0], node.inputs[1]])


def _cast_after_indexing(node: Apply, inner: Apply) -> Apply | None:
    """A part of cast(x): the cast of that part of x, not of all of x at each call."""
    if inner.name != "Cast":
        return None
    source = inner.inputs[0]
    part = Apply(
        node.operation, [source, *node.inputs[1:]], [TensorType(source.dtype, node.outputs[0].broadcastable)], ""
    )
    return Apply(inner.operation, part.outputs, [node.outputs[0].type], "")


def _like(node: Apply, name: str, run: Callable, inputs: Sequence[Variable], params: tuple = ()) -> Apply:
    return Apply(Operation(name, run, params), inputs, [node.outputs[0].type], "")


def _log_sigmoid(x: Tensor) -> Tensor:
    return -mg.softplus(-x)


def _log_sigmoid_of_minus(x: Tensor) -> Tensor:
    return -mg.softplus(x)


def sigmoid_crossentropy(x: Tensor, target: Tensor) -> Tensor:
    """-t·log σ(x) - (1 - t)·log(1 - σ(x)), without overflow."""
    return mg.softplus(x) - x * target


_RULES: dict[str, Sequence[Callable[[Apply, Apply], Apply | None]]] = {
    "Log": (_log_of_softmax, _log_of_sigmoid, _log_of_one_minus_sigmoid),
    "Crossentropy": (_entropy_of_softmax,),
    "BinaryCrossentropy": (_entropy_of_sigmoid,),
    "Subtensor": (_cast_after_indexing,),
}
