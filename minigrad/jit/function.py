"""jit: the function that is called in place of the user's, which records it, plans it and replays it."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import update_wrapper
from types import MethodType
from typing import Any

from minigrad.devices import cache, cpu
from minigrad.errors import ArgumentError
from minigrad.jit.capture import record, user_line
from minigrad.jit.plan import Plan
from minigrad.jit.replay import Replay, closed
from minigrad.jit.signature import Signature
from minigrad.tape import is_recording, state

_LARGE = 1 << 18  # bytes of values: what their recording took, free now, replays will not ask for


class Jitted:
    """A function that `jit` returned. It is called as the function itself.

    Attributes:
        function: the user's.
        recordings: how many there are, of different signatures.
    """

    def __init__(self, function: Callable, fuse: bool, limit: int):
        self.function = function
        self.fuse = fuse
        self.limit = limit
        self._known: dict[tuple, list[Replay]] = {}
        self._last: Replay | None = None
        self._attempts = 0
        self._before: Signature | None = None
        self._warned = False
        self._lock = threading.RLock()
        update_wrapper(self, function)
        _all.add(self)

    @property
    def recordings(self) -> int:
        return sum(map(len, self._known.values()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.observers:  # a jvp, or another recording: it sees what goes on inside
            return self.function(*args, **kwargs)
        signature = Signature(args, kwargs)
        recording = is_recording()
        if recording and signature.requires_grad:
            return self.function(*args, **kwargs)
        replay = self._fitting(signature, recording)
        if replay is not None:
            self._last = replay
            return replay(signature.arrays)
        return self._record(signature, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method, with the instance as the first argument."""
        return self if instance is None else MethodType(self, instance)

    def __deepcopy__(self, memo: dict) -> Jitted:
        import copy

        return Jitted(copy.deepcopy(self.function, memo), self.fuse, self.limit)

    def __repr__(self) -> str:
        return f"<jit of {self._name}: {self.recordings} recordings>"

    def after_fork(self) -> None:
        """Let go of locks that threads of the parent held."""
        self._lock = threading.RLock()
        for replays in self._known.values():
            for replay in replays:
                replay.after_fork()

    def clear(self) -> None:
        """Forget all recordings: what the function reads besides tensors and arguments has changed."""
        with self._lock:
            self._known.clear()
            self._attempts, self._last, self._before, self._warned = 0, None, None, False

    def plan(self) -> Any:
        """What the last call replayed or recorded, as a `Report`: its text is ``str(step.plan())``.

        Raises:
            ArgumentError: if nothing is recorded yet.
        """
        from minigrad.jit.report import Report

        if self._last is None:
            raise ArgumentError(f"plan: {self._name} has no recording yet; call it first")
        return Report(self._last, self._name)

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """Where the time of a call with these arguments goes: a `Profile`, which prints as a table by kernel.

        If there is no recording for these arguments yet, calls come first that make one: two if the first makes
        Variables, else one. Then replays are timed, and what they changed, Variables and gradients, is put back.

        Raises:
            ArgumentError: if such a call is not replayed: an argument requires gradients, or it makes Variables always.

        Example:
            >>> import minigrad as mg
            >>> step = mg.jit(lambda x: mg.exp(x @ x).sum())
            >>> profile = step.profile(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
            >>> [(name, count) for name, count, seconds in sorted(profile.kernels)]
            [('matmul+exp', 1), ('mg::sum', 1)]
        """
        from minigrad.jit.profile import measured

        signature, recording = Signature(args, kwargs), is_recording()
        for _ in range(2):
            if self._fitting(signature, recording) is None:
                self(*args, **kwargs)
        replay = self._fitting(signature, recording)
        if replay is None or (recording and signature.requires_grad):
            raise ArgumentError(f"profile: {self._name} is not replayed with these arguments, but run as it is written")
        return measured(replay, signature.arrays)

    def _fitting(self, signature: Signature, recording: bool) -> Replay | None:
        """The recording that serves a call."""
        for replay in self._known.get((signature.key, state.device, recording), ()):
            if replay.fits():
                return replay
        return None

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def _record(self, signature: Signature, args: tuple, kwargs: dict) -> Any:
        with self._lock:
            if self._attempts >= self.limit:
                self._warn(signature)
                return self.function(*args, **kwargs)
            self._attempts += 1
            self._before = signature
            device, recording = state.device, is_recording()
            (args, kwargs), inputs = signature.with_copies()
            with cache.shown(f"jit: compiling for {self._name}"):
                result, trace = record(self.function, args, kwargs, inputs)
                if trace is None:
                    return result.rebuild(result.parts)
                self._last = Replay(Plan(trace, self.fuse), self._name)
            self._known.setdefault((signature.key, device, recording), []).append(self._last)
            if self._last.plan.total > _LARGE:
                cpu.pool.release()
            # The tape behind this call's results is there, but later calls have none: this one does as they will.
            leaves = self._last.leaves
            parts = [t if t._node is None else closed(t.detach(), self._name, leaves) for t in result.parts]
            return result.rebuild(parts)

    def _warn(self, signature: Signature) -> None:
        if not self._warned:
            self._warned = True
            why = "its Variables are made anew" if self._before is None else signature.difference(self._before)
            warnings.warn(
                f"jit: {self._name} was recorded {self.limit} times and runs without jit where no recording fits; "
                f"the last change, at {user_line()}: {why}. Pass what varies as a tensor, bring tensors to few shapes, "
                "or raise limit",
                RuntimeWarning,
                stacklevel=4,
            )


_all: weakref.WeakSet[Jitted] = weakref.WeakSet()


def _after_fork() -> None:
    # Another thread may have held a lock, half way through, and is gone in the child.
    for jitted in _all:
        jitted.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
