"""The tape: nodes recorded by primitives, `no_grad` and `on_device`, and the walk back over them.

A node points to the nodes that made its inputs, so a result that is dropped takes its part of the tape with it. The
walk goes from node to node in a loop, always to the newest that is left: no recursion at any depth.
Nothing points from a node to its outputs, so there are no cycles and memory is freed without the garbage collector.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from minigrad.errors import DeviceError, GradientError, MutationError, ShapeError
from minigrad.tensor import Leaf, Tensor, next_id, put_grad

if TYPE_CHECKING:
    from types import FrameType

Edge = tuple[Any, int]  # a node (or leaf) and which of its outputs


DEVICES = ("reference", "cpu", "cuda")
_new_tuple = tuple.__new__  # makes named tuples in half the time


class _State(threading.local):
    """What a thread is doing: how deep in `no_grad`, on which device, and who watches."""

    def __init__(self) -> None:
        self.no_grad = 0
        self.device = "cpu"
        self.suspendable: list[FrameType] = []  # generators and coroutines that are inside `with no_grad()`
        self.observers: list[Callable] = []  # called as observer(primitive, inputs, outputs, params) at each call


state = _State()


class no_grad:
    """Record nothing: a context manager and a decorator, for this thread only.

    It ends with its block, also by an exception. A generator or coroutine that is suspended inside the block does
    not carry it out to whoever resumes it.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([1.0], requires_grad=True)
        >>> with mg.no_grad():
        ...     y = 2 * x
        >>> y.requires_grad
        False
    """

    def __init__(self) -> None:
        self._frames: list[FrameType | None] = []

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        if frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            self._frames.append(frame)
            state.suspendable.append(frame)
        else:
            self._frames.append(None)
            state.no_grad += 1

    def __exit__(self, *exc: object) -> None:
        frame = self._frames.pop()
        if frame is None:
            state.no_grad -= 1
        else:
            state.suspendable.remove(frame)

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with no_grad():
                    return (yield from function(*args, **kwargs))

            return generator

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return wrapper


def is_recording() -> bool:
    """Whether operations on tensors that require gradients are recorded here and now."""
    return state.no_grad == 0 and not (state.suspendable and _in_suspendable())


def _in_suspendable() -> bool:
    """Whether a generator inside `no_grad` is running, rather than suspended: its frame is on this thread's stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if any(frame is other for other in state.suspendable):
            return True
        frame = frame.f_back
    return False


class enabled:
    """Record inside, whatever the thread was told outside; derivatives of functions need the tape of their own."""

    def __enter__(self) -> bool:
        recording = is_recording()
        self._before = state.no_grad, state.suspendable
        state.no_grad, state.suspendable = 0, []
        return recording

    def __exit__(self, *exc: object) -> None:
        state.no_grad, state.suspendable = self._before


class on_device:
    """Run primitives with the kernels of a device, in this thread: ``with on_device("reference"): ...``.

    The reference kernels take any dtype, complex and extended precision included, which the gradient checks use.
    """

    def __init__(self, device: str):
        if device == "cuda":
            raise DeviceError("on_device: tensors on a GPU are computed with there; move them with .to('cuda')")
        if device not in DEVICES:
            raise DeviceError(f"on_device: unknown device {device!r}, expected one of {DEVICES[:2]}")
        self._device = device
        self._before: list[str] = []

    def __enter__(self) -> None:
        self._before.append(state.device)
        state.device = self._device

    def __exit__(self, *exc: object) -> None:
        state.device = self._before.pop()


class Node:
    """One recorded call of a primitive: where its inputs came from, and what its vjp rule saved."""

    __slots__ = ("__weakref__", "edges", "id", "needs", "outputs", "params", "primitive", "saved", "versions")

    def __init__(
        self, primitive: Any, params: dict, edges: tuple, needs: tuple, outputs: int, saved: Any, versions: tuple
    ):
        self.id = next_id()
        self.primitive = primitive
        self.params = params
        self.edges: tuple[Edge | None, ...] = edges
        self.needs: tuple[bool, ...] = needs  # which edges are there
        self.outputs = outputs
        self.saved = saved  # what the vjp rule gets, of outputs the bare arrays, and all shapes; None once freed
        self.versions = versions  # of saved values that can change: their counters, and what those stood at

    def pull_back(self, cotangents: list, needs: tuple[bool, ...]) -> Sequence[Tensor | None]:
        """The cotangents of the inputs, by the primitive's vjp rule; None for zeros."""
        saved, primitive, params = self.saved, self.primitive, self.params
        if saved is None:
            raise GradientError(
                f"backward: the tape behind {primitive.name} was freed by an earlier backward; "
                "pass retain_graph=True to that one to go back twice"
            )
        for version, then, i in self.versions:
            if version[0] != then:
                raise MutationError(
                    f"backward: {primitive.vjp_saves[i]!r} of {primitive.name} was assigned to after it was recorded; "
                    "assign after backward, or compute with a copy"
                )
        if primitive.saves_outputs:
            names, frozen = primitive.outputs, primitive.frozen
            values = [
                value if is_input else Tensor(value, None if frozen and names[i] in frozen else self, i)
                for (is_input, i), value in zip(primitive.vjp_sources, saved)
            ]
            saved = (*values, saved[-1])
        rule = primitive.vjp_rule
        if rule is None:
            raise primitive.missing("vjp")
        if primitive.vjp_record is not None:
            saved = _new_tuple(primitive.vjp_record, saved)
        ct = cotangents[0] if self.outputs == 1 else tuple(cotangents)
        result = rule(ct, saved, needs, **params) if params else rule(ct, saved, needs)
        if result.__class__ is Tensor or result is None:
            result = (result,)
        if len(result) != len(needs):
            found, wanted = len(result), len(needs)
            raise ShapeError(f"{primitive.name}: the vjp rule returned {found} cotangents for {wanted} inputs")
        return result

    @property
    def freed(self) -> bool:
        return self.saved is None


def backward(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor] | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool | None = False,
) -> list[Tensor | None]:
    """Walk back from `outputs` and return the cotangents of `inputs`, None where nothing flows.

    Without `inputs` every reachable leaf's ``grad`` is added to instead, at the end, all or none. `create_graph`
    records the walk, so that its result can be differentiated again; None means: if anything besides `inputs`
    could want that.
    """
    pending: dict[Any, list] = {}  # of nodes to come, and of where gradients end: the cotangents of their outputs
    queue: list[tuple[int, Any]] = []  # those nodes as a heap, the newest first
    for output, ct in zip(outputs, cotangents):
        if output._node is not None:
            _add(pending, queue, output._node, output._index, ct)
    wanted: set = set()
    leads_to_input = None
    if inputs is not None:
        wanted = {t._node for t in inputs if t._node is not None}
        reached, leads_to_input = _reachable(list(pending), wanted)
        if create_graph is None:
            create_graph = any(ct._node is not None for ct in cotangents) or any(
                isinstance(n, Leaf) if n not in wanted else bool(n.edges) for n in reached
            )
        del reached
    retain_graph = retain_graph or bool(create_graph)
    if not create_graph:
        state.no_grad += 1
    try:
        while queue:
            node = heappop(queue)[1]
            if wanted and node in wanted:
                continue
            cts = pending.pop(node)
            edges = node.edges
            needs = node.needs
            if leads_to_input is not None:
                needs = tuple([e is not None and e[0] in leads_to_input for e in edges])
            for edge, need, ct in zip(edges, needs, node.pull_back(cts, needs)):
                if need and ct is not None:
                    _add(pending, queue, edge[0], edge[1], ct)
            if not retain_graph:
                node.saved, node.edges = None, ()  # what lies before goes too, once nothing else needs it
        if inputs is None:
            _deposit(pending)
    finally:
        if not create_graph:
            state.no_grad -= 1
    if inputs is None:
        return []
    return [pending[t._node][t._index] if t._node in pending else None for t in inputs]


def _add(pending: dict[Any, list], queue: list, node: Any, index: int, ct: Tensor) -> None:
    """One more cotangent of a node's output."""
    known = pending.get(node)
    if known is None:
        if node.outputs == 1:
            pending[node] = [ct]
        else:
            known = pending[node] = [None] * node.outputs
            known[index] = ct
        if node.primitive is not None:
            heappush(queue, (-node.id, node))
    else:
        known[index] = ct if known[index] is None else known[index] + ct


def _deposit(collected: dict[Any, list]) -> None:
    """Add to the gradients of leaves, all or none."""
    sums = []
    for leaf, (ct,) in collected.items():
        if ct._data.shape != leaf.shape:
            raise ShapeError(f"backward: a gradient of shape {ct.shape} reached a leaf of shape {leaf.shape}")
        sums.append((leaf, ct if leaf.grad is None else leaf.grad + ct))
    for leaf, total in sums:
        put_grad(leaf, total)


def _reachable(roots: list, stops: set) -> tuple[set, set]:
    """The nodes that `roots` depend on, without what lies behind `stops`; and those among them that lead to a stop."""
    seen = set(roots)
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in stops:
            for edge in node.edges:
                if edge is not None and edge[0] not in seen:
                    seen.add(edge[0])
                    stack.append(edge[0])
    leads = set()
    for node in sorted(seen, key=attrgetter("id")):
        if node in stops or any(edge is not None and edge[0] in leads for edge in node.edges):
            leads.add(node)
    return seen, leads
