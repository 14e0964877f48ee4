"""GPU: a recording's calls on a GPU become launches on memory of one arena, which a stream is given as a graph.

The kernels' Python code runs once, when the plan is made, on arrays that have no memory yet
(`minigrad.devices.cuda.recording`). What changes from call to call is in memory of a fixed place: arguments are copied
there, and counters, rates and running statistics are Variables, which stay where they are. What Python has to do
itself, on the CPU or with values that it reads, goes before all launches where nothing stands against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, faults
from minigrad.devices.cuda import driver as drivers
from minigrad.devices.cuda.copies import copy_into
from minigrad.devices.cuda.graphs import Graph
from minigrad.devices.cuda.kernels import Kernel, Launch
from minigrad.devices.cuda.loops import Loop
from minigrad.devices.cuda.many import filled
from minigrad.devices.cuda.memory import Lease, Unrecordable, current
from minigrad.devices.cuda.recording import Place, Recording
from minigrad.jit import memory
from minigrad.jit.bind import Plain
from minigrad.jit.trace import Call, Value
from minigrad.ops.state import schedule_p
from minigrad.ops.transfer import transfer_p

ALIGNMENT = 256  # bytes: what the driver's own allocations are aligned to


def gpu_of(call: Call) -> int | None:
    """The GPU that a call's values are on, if one of them is on any."""
    return next((v.gpu for v in (*call.outputs, *call.inputs) if v is not None and v.gpu is not None), None)


def python_first(calls: Sequence[Call]) -> list[Call]:
    """The calls with those that Python makes itself before those that become launches, unless they need what these do.

    They are the CPU's, moves between CPU and GPU, and rates by a schedule. So a training step is one launch.
    """
    first: list[Call] = []
    rest: list[Call] = []
    written: set[Any] = set()  # memory that the rest writes, and that it uses at all
    used: set[Any] = set()
    for call in calls:
        writes = {_memory_of(v) for v in (*call.mutates, *call.outputs)}
        uses = writes | {_memory_of(v) for v in call.inputs if v is not None}
        if _by_python(call) and not (uses & written or writes & used):
            first.append(call)
        else:
            rest.append(call)
            written |= writes
            used |= uses
    return first + rest


def _by_python(call: Call) -> bool:
    return call.primitive in (transfer_p, schedule_p) or gpu_of(call) is None


def _memory_of(value: Value) -> Any:
    """What two values share that lie in the same memory: a Variable, or a root."""
    root = value.root
    return id(root.source) if root.kind == "variable" else root


class Memory:
    """What a plan needs on its GPU: a place for each value and temporary, at last in one arena.

    Attributes:
        device: the GPU's index.
        arena_size, peak, total: bytes, as of `Plan`.
    """

    def __init__(self, device: int):
        self.device = device
        self.arena_size = self.peak = self.total = 0
        self._blocks: list[memory.Block] = []
        self._outside: set[Lease] = set()  # what launches use besides: Variables and constants
        self._tables: list[tuple[Place, Sequence]] = []
        self._home = self._last = current(device)

    def array(self, value: Value, first: int, last: int) -> DeviceArray:
        """An array for a value that is needed from one call to another."""
        place = Place(self._home, value.size)
        self._add(place, first, last)
        return DeviceArray(place, value.shape, value.dtype)

    def keep(self, recording: Recording, number: int) -> None:
        """Make room for the temporaries of a call."""
        for place in recording.temporaries:
            self._add(place, number, number)
        self._tables += recording.tables
        self._outside |= {lease for lease in recording.uses if not isinstance(lease, Place)}

    def settle(self, steps: Sequence[Any]) -> None:
        """Lay out the arena, once all calls are recorded, and let the launches among `steps` have their memory."""
        self.arena_size = memory.place(self._blocks)
        self.peak, self.total = memory.most_needed(self._blocks), sum(b.size for b in self._blocks)
        self.arena = self._home.pool.lease(self.arena_size)
        for block in self._blocks:
            block.what.settle(self.arena, block.offset)
        for place, rows in self._tables:
            place.settle(cuda.to_device(filled(rows), self.device).lease, 0)
        for step in steps:
            if isinstance(step, Work):
                step.settle()

    def enter(self) -> None:
        """Before a replay: let this thread's current stream wait for all that it needs."""
        stream = current(self.device)
        stream.wait_for(self._last)
        self._last = stream
        self.arena.use_on(stream)
        for lease in self._outside:
            if lease.stream is not stream:
                lease.use_on(stream)

    def _add(self, place: Place, first: int, last: int) -> None:
        size = -(-max(place.size, 1) // ALIGNMENT) * ALIGNMENT
        self._blocks.append(memory.Block(size, first, last, place))


class Work:
    """A step that is a launch: noted work, and the errors that its call's kernels may report.

    Attributes:
        kernel: what is launched, if it is one of ours.
    """

    __slots__ = ("device", "give", "kernel", "settle", "watched")

    def __init__(self, work: Any, device: int, watched: dict[int, Callable[[int], Exception]]):
        self.give, self.settle = work.give, work.settle
        self.kernel: Kernel | None = work.kernel if isinstance(work, Launch) else None
        self.device = device
        self.watched = watched


class Launches:
    """Launches, one after another: one launch of a graph, where the driver has graphs.

    The first time they are made one by one, which loads every kernel: a driver may not do that under capture.

    Attributes:
        works: what is launched.
    """

    def __init__(self, works: Sequence[Work]):
        self.works = tuple(works)
        self._device = works[0].device
        self._watched = {number: error for work in works for number, error in work.watched.items()}
        self._graph: Graph | None = None
        self._loaded = False

    def __call__(self) -> None:
        stream = current(self._device)
        if self._watched:
            faults.watch_again(self._device, self._watched)
        if not (self._loaded and drivers.get().has_graphs):
            for work in self.works:
                work.give(stream)
            self._loaded = True
            return
        if self._graph is None:
            self._graph = Graph(self._device, self.works)
        self._graph.launch(stream)


class Rule:
    """What a call on a GPU runs: launches, or a call of Python's own."""

    workspaces: tuple = ()

    def __init__(self, call: Call, memory: Memory, number: int):
        found = call.primitive._kernel("cuda")
        abstract = [None if v is None else v.abstract for v in call.inputs]
        self.name = call.primitive.name
        self._kernel: Callable = found.function(*abstract, **call.params) if found.planned else found.function
        self._params = {} if found.planned else call.params
        self._returns = found.returns
        self._single = len(call.primitive.mutates) == 1 and bool(call.primitive._mutated)
        self._moves = call.primitive is transfer_p
        self._memory, self._number = memory, number

    def steps(self, outputs: list, workspaces: Any, arrays: list) -> list:
        """Steps that fill the outputs."""
        if self._moves:
            return [Plain(moved_into, (outputs[0], arrays[0]), {})]
        return self._recorded(outputs[0] if len(outputs) == 1 else tuple(outputs), arrays)

    def steps_in_place(self, targets: tuple, arrays: list) -> list:
        """Steps that overwrite the targets."""
        return self._recorded(targets[0] if self._single else targets, arrays)

    def returned(self, arrays: list) -> tuple:
        """The outputs of a kernel that returns views."""
        with Recording(self._memory.device):
            return _as_tuple(self._kernel(*arrays, **self._params))

    def _recorded(self, out: Any, arrays: list) -> list:
        recording = Recording(self._memory.device)
        try:
            with recording:
                self._fill(out, arrays)
        except Unrecordable:
            return [Plain(self._fill, (out, arrays), {})]
        self._memory.keep(recording, self._number)
        return [Work(work, self._memory.device, recording.watched) for work in recording.works]

    def _fill(self, out: Any, arrays: Sequence[Any]) -> None:
        if not self._returns:
            self._kernel(out, *arrays, **self._params)
            return
        for target, found in zip(_as_tuple(out), _as_tuple(self._kernel(*arrays, **self._params))):
            copy_into(target, found)


class FusedRule(Rule):
    """What a fused call on a GPU runs: one loop."""

    def __init__(self, call: Call, memory: Memory, number: int):
        fused: Any = call.primitive
        self._kernel = Loop(fused.expressions, [f"in_{i}" for i in range(len(call.inputs))])
        self._params, self._returns, self._moves = {}, False, False
        self._memory, self._number = memory, number


def moved_into(target: Any, x: Any) -> None:
    """Copy values to an array of the same shape and dtype, wherever the two are."""
    if isinstance(target, np.ndarray):
        np.copyto(target, cuda.to_host(x) if isinstance(x, DeviceArray) else x)
    elif isinstance(x, np.ndarray):
        cuda.upload(target, x)
    else:
        copy_into(target, x)


def _as_tuple(found: Any) -> tuple:
    return found if isinstance(found, tuple) else (found,)
