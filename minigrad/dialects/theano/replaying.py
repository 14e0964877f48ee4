"""Replaying: the part of a program that depends on no index, recorded by `jit` and replayed from then on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano.program import Program
from minigrad.dialects.theano.sharedvar import SharedVariable
from minigrad.errors import CaptureError

_FIRST = 2  # calls that run step by step, before it is worth while to record one
_MOST = 8  # recordings of different shapes; a function that is called with more runs step by step


class Replayed:
    """A program with updates. Calls run its first steps, which slice data by the numbers given, and replay the rest.

    Args:
        program: the outputs, then the new values of `targets`.
        targets: shared variables.
        replay: False to run all steps at each call.
    """

    def __init__(self, program: Program, targets: Sequence[SharedVariable], replay: bool):
        self.program = program
        self.targets = list(targets)
        self._count = len(program.outputs) - len(self.targets)
        self._replay = replay
        self._calls = 0
        self._failures = 0
        self._first, self._rest, self._passed = _parts(program, self.targets)
        # Outputs that are numbers, and follow from those given, are no part of recordings.
        ready = {program.steps[i][2] for i in self._first} | {slot for slot, _ in program.inputs}
        places = enumerate(program.outputs[: self._count])
        self._numbers = [(i, k) for i, k in places if k in ready & program.numbers]
        self._jitted = mg.jit(self._core, limit=2 * _MOST)
        self._variables = [v.variable for v in self._involved]

    @property
    def recordings(self) -> int:
        """How many recordings there are."""
        return self._jitted.recordings

    @property
    def _involved(self) -> list[SharedVariable]:
        return [*self.program.shared, *self.targets]

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """The outputs, once the shared variables have their new values."""
        if self.targets:  # a read-only array may be a view of a shared variable, which changes here
            values = [v if v.flags.writeable else v.copy() for v in values]
        slots = self.program.start(values)
        if not self._replay or self._calls < _FIRST:
            self._calls += 1
            self.program.perform(slots, range(len(self.program.steps)))
            outputs, news = self._results(slots)
            for target, value in zip(self.targets, news):
                target.put(value)
            return outputs
        if any(v.variable is not known for v, known in zip(self._involved, self._variables)):
            self._jitted.clear()
            self._variables = [v.variable for v in self._involved]
        if self._jitted.recordings + self._failures >= _MOST:
            self._replay = False
            return self(values)
        self.program.perform(slots, self._first, free=False)
        passed = [slots[k] for k in self._passed]
        numbers = [(i, slots[k]) for i, k in self._numbers]
        try:
            outputs = list(self._jitted(passed))
        except CaptureError:  # it reads values, or changes shapes: it can't be replayed
            self._replay = False
            return self(values)
        except Exception:
            self._failures += 1
            raise
        for i, value in numbers:
            outputs[i] = value
        return outputs

    def _core(self, passed: list[Any]) -> list[Any]:
        slots = self.program.start(())
        for k, value in zip(self._passed, passed):
            slots[k] = value
        self.program.perform(slots, self._rest)
        outputs, news = self._results(slots)
        for target, value in zip(self.targets, news):
            if value.shape != target.variable.shape:
                raise CaptureError(f"the update of {target!r} changes its shape")
        for target, value in zip(self.targets, news):
            target.put(value)
        return outputs

    def _results(self, slots: list[Any]) -> tuple[list[Any], list[Tensor]]:
        """Outputs and new values, copied where they share memory with a Variable that may change now."""
        found = [slots[k] for k in self.program.outputs]
        if self.targets:
            found = [mg.copy(v) if isinstance(v, Tensor) and v._version is not None else v for v in found]
        return found[: self._count], found[self._count :]


def _parts(program: Program, targets: Sequence[SharedVariable]) -> tuple[list[int], list[int], list[int]]:
    """The steps that run before the recorded ones, those, and the slots whose values pass from here to there."""
    changed = {slot for v, slot in program.reads if any(v is t for t in targets)}
    given = {slot for slot, _ in program.inputs}
    known = given | {slot for _, slot in program.reads if slot not in changed}
    known |= {slot for slot, value in enumerate(program.initial) if value is not None}
    # Slots that follow from the numbers given: recordings must not depend on those where that can be helped.
    varying = {slot for slot, kind in program.inputs if kind == "h"}
    made: dict[int, int] = {}
    wanted: list[int] = []
    for i, (_, sources, target) in enumerate(program.steps):
        node = program.nodes[i]
        if target.__class__ is not int or not known.issuperset(sources):
            continue
        slices = node is not None and node.name == "Subtensor"
        if node is not None and not slices and node.operation.host is None and not node.operation.measures:
            continue
        if node is None and i < program.boundary and any(k not in varying for k in sources):
            continue  # what gradients are taken by is part of the recording
        known.add(target)
        made[target] = i
        if varying.intersection(sources):
            varying.add(target)
            if slices or node is None or target in program.outputs:
                wanted.append(i)
    first: set[int] = set()
    while wanted:
        i = wanted.pop()
        if i not in first:
            first.add(i)
            wanted += [made[k] for k in program.steps[i][1] if k in made]
    rest = [i for i in range(len(program.steps)) if i not in first]
    ready = given | {k for k in made if made[k] in first}
    used = {k for i in rest for k in program.steps[i][1]} | {k for k in program.outputs if k not in program.numbers}
    return sorted(first), rest, sorted(ready & used)
