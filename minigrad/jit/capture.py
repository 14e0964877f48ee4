"""Capture: run a function once and write down which primitives it calls on which values."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

import minigrad
from minigrad.devices.cuda import DeviceArray
from minigrad.errors import CaptureError
from minigrad.jit.trace import Call, Structure, Trace, Value, owner
from minigrad.nn.layer import Layer
from minigrad.optim import Optimizer
from minigrad.primitive import Primitive
from minigrad.tape import state
from minigrad.tensor import Leaf, Tensor, Variable, living, next_id, readers, writers

_ENGINE = str(Path(minigrad.__file__).parent) + os.sep
_PLUGINS = ("minigrad_", os.sep + "numpy" + os.sep)  # other code that is not the user's
_BUILDING: tuple[CodeType, ...] = (Layer.build_once.__code__, Layer.add_variable.__code__, Optimizer.build.__code__)


def record(
    function: Callable, args: Sequence[Any], kwargs: dict, inputs: Sequence[Tensor]
) -> tuple[Structure, Trace | None]:
    """Call ``function(*args, **kwargs)`` and record it.

    Args:
        inputs: the tensors in the arguments, each in memory of its own.

    Returns:
        What the function returned, and the recording; None for it where this call can't stand for the next ones,
        because it made Variables.

    Raises:
        CaptureError: if it reads values that depend on its inputs or on Variables, naming the line.
    """
    recorder = Recorder(getattr(function, "__qualname__", repr(function)), inputs)
    state.observers.append(recorder)
    readers.append(recorder.on_read)
    writers.append(recorder.on_gradient)
    try:
        result = function(*args, **kwargs)
    finally:
        writers.remove(recorder.on_gradient)
        readers.remove(recorder.on_read)
        state.observers.remove(recorder)
    structure = Structure(result)
    return structure, recorder.finish(structure)


class Recorder:
    """Watches one thread: called after each primitive, and before values are read."""

    def __init__(self, name: str, inputs: Sequence[Tensor]):
        self.name = name
        self._thread = threading.get_ident()
        self._calls: list[Call] = []
        self._known: dict[tuple, tuple[weakref.ref, Value]] = {}  # by place and form in memory, while that is alive
        self._owners: dict[int, tuple[weakref.ref, Value, int]] = {}  # of memory: what it holds, and where that begins
        self._current: dict[int, Value] = {}  # of Variables, by id
        self._variables: dict[int, Variable] = {}
        self._shared: dict[int, list[tuple]] = {}  # of Variables: the keys of what shares their memory
        self._builds = False
        self._gpu: str | None = None
        self._written: set[Leaf] = set()  # leaves whose gradients changed; other threads change those of theirs
        self._begin = next_id()
        self._living = living_variables()
        self._inputs = [self._made("input", i, t._data) for i, t in enumerate(inputs)]
        self._before: list[tuple[Variable, Leaf, Tensor | None]] = []
        for v in self._living:
            self._current[id(v)] = self._made("variable", v, v._data)
            if v._node is not None:
                self._before.append((v, v._node, v._node.grad))
        for i, (v, leaf, grad) in enumerate(self._before):
            if grad is not None:
                if self._owner_of(grad._data) is not None:  # two that share memory now need not do so at the next call
                    copy = Tensor(grad._data.copy(), grad._node, grad._index)
                    if leaf.grad is grad:
                        leaf.grad = grad = copy
                    self._before[i] = v, leaf, grad
                self._made("gradient", leaf, grad._data)

    # What happens in the function

    def __call__(self, primitive: Primitive, inputs: Sequence[Any], outputs: Sequence[Tensor], params: dict) -> None:
        """A primitive ran."""
        call = Call(primitive, [None if t is None else self._value(t) for t in inputs], params, user_line())
        self._require_one_gpu(primitive, [*inputs, *outputs])
        fixed = bool(call.inputs) and all(v is None or v.fixed for v in call.inputs)
        for i, output in enumerate(outputs):
            base = self._owner_of(output._data) if primitive.view else None
            call.outputs.append(self._made("result", (call, i), output._data, base))
            call.outputs[-1].fixed = fixed
        if primitive.mutates:
            for i in primitive.mutated_inputs(len(inputs)):
                target = call.inputs[i]
                assert target is not None
                call.mutates.append(target)
                self._change(target.root)
        self._calls.append(call)

    def _require_one_gpu(self, primitive: Primitive, tensors: Sequence[Tensor | None]) -> None:
        for t in tensors:
            if t is not None and t._data.__class__ is DeviceArray:
                self._gpu = self._gpu or t.device
                if t.device != self._gpu:
                    raise CaptureError(
                        f"jit: {self.name} computes on {self._gpu!r} and on {t.device!r}, with {primitive.name} at "
                        f"{user_line()}; it records one GPU"
                    )

    def on_read(self, x: Tensor, how: str) -> None:
        """Python is about to read values of `x`."""
        if threading.get_ident() != self._thread:
            return
        if self._constant(x):
            return
        if is_building():
            self._builds = True
            return
        raise CaptureError(
            f"jit: {self.name} turns a tensor of shape {x.shape} into {how} at {user_line()}, where its value is not "
            "known to later calls; compute with tensors (where, maximum ...) and convert what the function returns"
        )

    def on_gradient(self, leaf: Leaf) -> None:
        """The gradient of a leaf is about to change."""
        if threading.get_ident() == self._thread:
            self._written.add(leaf)

    # Values

    def _value(self, x: Tensor) -> Value:
        if isinstance(x, Variable):
            return self._of_variable(x)
        a = x._data
        key = _key(a)
        found = self._known.get(key)
        if found is not None and found[0]() is not None:
            return found[1]
        base = self._owner_of(a)
        if base is not None:  # memory seen anew by code that called no primitive for it
            _, _, start = self._owners[id(owner(a))]
            return self._made("part", (key[0] - start, a.shape, a.strides), a, base)
        if x._node is not None and x._node.id < self._begin:
            raise CaptureError(
                f"jit: {self.name} uses a tensor of shape {x.shape} from outside that requires gradients, at "
                f"{user_line()}; pass it as an argument, or make it a Variable"
            )
        return self._made("constant", a, a)

    def _of_variable(self, v: Variable) -> Value:
        value = self._current.get(id(v))
        if value is None:  # made while this ran
            self._builds = True
            value = self._current[id(v)] = self._made("variable", v, v._data)
        self._variables[id(v)] = v
        return value

    def _made(self, kind: str, source: Any, array: np.ndarray, base: Value | None = None) -> Value:
        """A new value, which is from now on what this memory holds."""
        value = Value(kind, source, array, base)
        key, holder = _key(array), owner(array)
        reference = weakref.ref(holder)
        self._known[key] = reference, value
        known = self._owners.get(id(holder))
        if known is None or known[0]() is None:
            self._owners[id(holder)] = reference, value.root, key[0]
        root = value.root
        if root.kind == "variable" and value is not root:
            self._shared.setdefault(id(root.source), []).append(key)
        return value

    def _owner_of(self, a: np.ndarray) -> Value | None:
        """What the memory of `a` belongs to, if that is known."""
        found = self._owners.get(id(owner(a)))
        return found[1] if found is not None and found[0]() is not None else None

    def _change(self, root: Value) -> None:
        """The memory of `root`, a Variable's, has other contents now: what shares it are new values from here on."""
        v = root.source
        new = Value("variable", v, v._data)
        self._current[id(v)] = new
        reference = weakref.ref(owner(v._data))
        self._owners[id(owner(v._data))] = reference, new, _key(v._data)[0]
        self._known[_key(v._data)] = reference, new
        for key in self._shared.pop(id(v), ()):
            self._known.pop(key, None)  # seen again, it is a part of the Variable as it is now

    def _constant(self, x: Tensor) -> bool:
        if isinstance(x, Variable):
            return False
        found = self._known.get(_key(x._data))
        if found is not None and found[0]() is not None:
            return found[1].fixed
        base = self._owner_of(x._data)
        return base is None or base.fixed

    # The end

    def finish(self, structure: Structure) -> Trace | None:
        """The recording, once the function has returned; None if it made Variables."""
        results = [self._value(t) for t in structure.parts]
        grads: list[tuple[Leaf, Value | None]] = []
        expected = []
        for v, leaf, before in self._before:
            changed = leaf in self._written and leaf.grad is not before
            if changed:
                after = leaf.grad
                grads.append((leaf, None if after is None else self._value(after)))
            if changed or id(v) in self._variables:
                expected.append((leaf, before is not None))
        made = {id(v) for v in living_variables()} - {id(v) for v in self._living}
        if self._builds or made:
            return None
        still_open = frozenset(i for i, t in enumerate(structure.parts) if t._node is not None)
        return Trace(
            self._inputs, self._calls, structure.rebuild, results, grads, expected, state.device, still_open,
            self._variables,
        )  # fmt: skip


def living_variables() -> list[Variable]:
    """All Variables of the process."""
    found = [reference() for reference in living.valuerefs()]
    return [v for v in found if v is not None]


def user_line() -> str:
    """Where the user's own code is, as ``file:line``: the innermost frame outside of the engine and its plugins."""
    frame = _user_frame()
    return "an unknown line" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def users_level() -> int:
    """How many frames up from the caller the user's own code is, as `warnings.warn` counts them."""
    wanted, level, frame = _user_frame(), 1, sys._getframe(1)
    while frame.f_back is not None and frame is not wanted:
        frame, level = frame.f_back, level + 1
    return level


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name, module = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
        if not (name.startswith(_ENGINE) or module.startswith(_PLUGINS[0]) or _PLUGINS[1] in name):
            return frame
        frame = frame.f_back
    return None


def is_building() -> bool:
    """Whether a layer or an optimizer is making its Variables, on this thread's stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _BUILDING:
            return True
        frame = frame.f_back
    return False


def _key(a: Any) -> tuple:
    if a.__class__ is DeviceArray:
        return a.pointer, a.shape, a.strides, a.dtype, a.device
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype
