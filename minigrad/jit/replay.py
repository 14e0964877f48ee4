"""Replay: a plan as one generated Python function, which copies in, runs the steps and copies out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from minigrad.devices.cpu import from_source
from minigrad.devices.cuda.copies import copy_into
from minigrad.errors import GradientError
from minigrad.jit.bind import Compiled, Plain, Step
from minigrad.jit.exchange import fresh, lender
from minigrad.jit.gpu import Launches, Work
from minigrad.jit.native import Segment, native_of
from minigrad.jit.plan import Plan
from minigrad.jit.trace import Value
from minigrad.tensor import Tensor, moves, next_id


class Replay:
    """A plan, ready to run.

    Attributes:
        plan: what it runs.
        run: takes the arrays of the function's tensors and returns what the function does.
        source: the text of ``run``.
        segments: the native runs of compiled kernels in it.
        launches: the runs of work for a GPU, each of them a graph.
    """

    def __init__(self, plan: Plan, name: str):
        self.plan = plan
        self.name = name
        self.expected = plan.trace.expected
        self._moves = moves[0]
        self._places = [(v, v._data) for v in plan.trace.variables.values()]
        self.leaves = tuple([(leaf, 0) for leaf, _ in self.expected])  # edges to what results may depend on
        self._lock = threading.Lock()
        self._scope: dict[str, Any] = {"Tensor": Tensor, "copyto": np.copyto, "ndarray": np.ndarray}
        self.segments: list[Segment]
        self.launches: list[Launches]
        self.run, self.source = self._generate(self._steps)

    def fits(self) -> bool:
        """Whether Variables are where they were for the recording, and their gradients as then: there, or None."""
        if moves[0] != self._moves:
            if any(v._data is not a for v, a in self._places):
                return False
            self._moves = moves[0]
        for leaf, had in self.expected:  # noqa: SIM110  (a generator would cost more than what it asks)
            if (leaf.grad is None) is had:
                return False
        return True

    def __call__(self, arrays: Sequence[np.ndarray]) -> Any:
        with self._lock:  # the buffers are one caller's at a time
            return self.run(*arrays)

    def after_fork(self) -> None:
        """A thread that held the lock is gone in a forked child."""
        self._lock = threading.Lock()

    def timed(self, times: list[float]) -> Callable:
        """`run` with a clock: it puts the seconds of each of the plan's calls into `times`."""
        self._scope.update(clock=time.perf_counter, times=times)
        return self._generate(self._timed_steps)[0]

    # The source

    def _generate(self, steps: Callable[[], list[str]]) -> tuple[Callable, str]:
        plan = self.plan
        names = [f"x{i}" for i in range(len(plan.inputs))]
        lines = [] if plan.gpu is None else [f"{self._once('enter', plan.gpu.enter)}()"]
        for name, target in zip(names, plan.inputs):
            found = plan.exchange.find(target)
            if target is not None and found is not None:
                lines.append(
                    f"own{found[0]}, at{found[0]} = {self._lend()}({name}, {self._name('dtype', target.dtype)})"
                )
            elif target is not None:
                lines.append(f"{self._copying(target)}({self._name('input', target)}, {name})")
        for i, a in enumerate(plan.handed_out):
            form = f"{self._name('form', a.shape)}, {self._name('dtype', a.dtype)}"
            lines.append(f"own{i}, at{i} = {self._once('fresh', fresh)}({form})")
        for leaf, target in plan.gradients:
            copying = self._copying(target)
            lines.append(f"{copying}({self._name('gradient', target)}, {self._name('leaf', leaf)}.grad._data)")
        lines += self._changes()
        lines += steps()
        for leaf, array in plan.grads:
            made = "None" if array is None else f"Tensor({self._leaving(array)})"
            lines.append(f"{self._name('leaf', leaf)}.grad = {made}")
        pairs = zip(plan.simplified.results, plan.results)
        results = [self._result(i, value, array) for i, (value, array) in enumerate(pairs)]
        self._scope["rebuild"] = plan.trace.result
        lines.append(f"return rebuild(({', '.join(results)}{',' if results else ''}))")
        source = f"def replay({', '.join(names)}):\n" + "".join(f"    {line}\n" for line in lines)
        function = from_source("replay", source, self._scope)
        del function.__globals__["replay"]  # function and scope, with the memory in it, would hold each other
        return function, source

    def _lend(self) -> str:
        if "lend" not in self._scope:
            changed = [t.root for call in self.plan.calls for t in call.mutates if t.gpu is None]
            self._scope["lend"] = lender([self.plan.array(v) for v in changed])
        return "lend"

    def _copying(self, target: Any) -> str:
        """What copies an argument in: on the GPU a kernel does."""
        return "copyto" if isinstance(target, np.ndarray) else self._once("copy_into", copy_into)

    def _once(self, name: str, value: Any) -> str:
        self._scope[name] = value
        return name

    def _name(self, kind: str, value: Any) -> str:
        name = f"{kind}_{len(self._scope)}"
        self._scope[name] = value
        return name

    def _changes(self) -> list[str]:
        """Raise the version of each Variable that changes, so that a tape recorded before notices."""
        changed = {id(v): v for call in self.plan.calls for v in [t.root.source for t in call.mutates]}
        return [f"{self._name('version', v._version)}[0] += 1" for v in changed.values()]

    def _steps(self) -> list[str]:
        lines, self.segments, self.launches = self._lines([step for steps in self.plan.steps for step in steps])
        return lines

    def _timed_steps(self) -> list[str]:
        lines = []
        for i, steps in enumerate(self.plan.steps):
            if steps:
                lines += ["start = clock()", *self._lines(steps)[0], f"times[{i}] = clock() - start"]
        return lines

    def _lines(self, steps: Sequence[Step]) -> tuple[list[str], list[Segment], list[Launches]]:
        """A line for each segment, each run of launches, and each step between them; segments and runs of launches."""
        lines, segments, launches = [], [], []
        for how, group in groupby(steps, _how):
            run: list[Any] = list(group)
            if how == "native":
                segments.append(Segment(run, self.plan.exchange))
                lines += self._enter(segments[-1])
            elif how == "launch":
                launches.append(Launches(run))
                lines.append(f"{self._name('launch', launches[-1])}()")
            else:
                lines += [self._call(step) for step in run]
        return lines, segments, launches

    def _enter(self, segment: Segment) -> list[str]:
        words = self._name("words", segment.words) if segment.places else ""
        lines = [f"{words}[{at}] = at{i} + {offset}" for at, i, offset in segment.places]
        owned = "".join([f"own{i}, " for i in range(len(self.plan.exchange.arrays))])
        fail = f"{self._name('segment', segment)}.fail(failed, ({owned}))"
        return [*lines, f"if failed := {self._name('entry', segment.entry)}(): {fail}"]

    def _call(self, step: Step) -> str:
        if isinstance(step, Compiled):
            step = Plain(step.kernel, (step.chunks, step.work, *step.args), {})
        arguments = [self._argument(a) for a in step.args]
        arguments += [f"{k}={self._argument(v)}" for k, v in step.kwargs.items()]
        label = getattr(step.function, "__name__", "call")
        return f"{self._name(label if label.isidentifier() else 'call', step.function)}({', '.join(arguments)})"

    def _argument(self, value: Any) -> str:
        """An argument of a step: by name, or made of the arrays of this call."""
        exchange = self.plan.exchange
        if not exchange.concerns(value):
            return self._name("a", value)
        if isinstance(value, (tuple, list)):
            inner = "".join([f"{self._argument(v)}, " for v in value])
            return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
        if isinstance(value, dict):
            return "{" + "".join([f"{k!r}: {self._argument(v)}, " for k, v in value.items()]) + "}"
        found = exchange.find(value)
        assert found is not None
        number, offset = found
        whole = exchange.arrays[number]
        if (value.shape, value.strides, value.dtype) == (whole.shape, whole.strides, whole.dtype) and not offset:
            return f"own{number}"
        form = [self._name("form", value.shape), self._name("dtype", value.dtype), f"own{number}", str(offset)]
        return f"ndarray({', '.join(form)}, {self._name('strides', value.strides)})"

    def _leaving(self, array: np.ndarray) -> str:
        """An array for the caller: memory of this call that was made for it, or a copy."""
        found = self.plan.exchange.find(array)
        is_made = found is not None and found[0] < len(self.plan.handed_out)
        return self._argument(array) if is_made else f"{self._argument(array)}.copy()"

    def _result(self, i: int, value: Value, array: np.ndarray) -> str:
        root = value.root
        if root.kind == "variable":
            return f"Tensor({self._name('state', array)}, None, 0, {self._name('version', root.source._version)})"
        if value.kind == "constant":
            return f"Tensor({self._name('constant', array)})"
        made = f"Tensor({self._leaving(array)})"
        if i in self.plan.trace.open_results:
            self._scope["closed"] = closed
            self._scope["leaves"] = self.leaves
            return f"closed({made}, {self.name!r}, leaves)"
        return made


def _how(step: Any) -> str:
    """What runs of steps are replayed as."""
    return "launch" if isinstance(step, Work) else "python" if native_of(step) is None else "native"


class _Closed:
    """The place on the tape of a result whose tape was not kept: backward says so rather than finding no gradient."""

    __slots__ = ("edges", "id", "name", "needs")
    primitive = "jit"
    outputs = 1
    freed = False

    def __init__(self, name: str, edges: tuple):
        self.id = next_id()
        self.name = name
        self.edges = edges
        self.needs = (True,) * len(edges)

    def pull_back(self, cotangents: list, needs: tuple[bool, ...]) -> Any:
        raise GradientError(
            f"backward: {self.name} was replayed by jit, which keeps no tape of what goes on inside; take the gradient "
            "within the jitted function (value_and_grad, or backward), or call the function without jit"
        )


def closed(x: Tensor, name: str, edges: tuple) -> Tensor:
    """`x`, requiring gradients that nobody can compute."""
    x._node, x._index = _Closed(name, edges), 0
    return x
