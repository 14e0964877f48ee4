"""Generator: a key and a position in a Variable, and the primitive that moves the position on."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from operator import index
from typing import Any

import numpy as np

from minigrad.devices import cpu
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad.ops.cast import copy_p
from minigrad.ops.state import assign_p
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, Variable

#: What random primitives take as ``start``: key and position.
START = Abstract((2,), np.dtype(np.uint64))

advance_p = Primitive("mg::advance", mutates=("state",))


def require_start(operation: str, start: Abstract, argument: str = "start") -> None:
    """Raise unless `start` has the shape and dtype of a generator's state."""
    if start.dtype != START.dtype:
        raise DTypeError(f"{operation}: {argument} has dtype {start.dtype}, expected uint64 (key, position)")
    if start.shape != START.shape:
        raise ShapeError(f"{operation}: {argument} has shape {start.shape}, expected (2,) (key, position)")


@advance_p.infer
def _(state, *, blocks):
    require_start("advance", state, "state")
    if blocks < 0:
        raise ArgumentError(f"advance: blocks is {blocks}, expected 0 or more")


@cpu.chunked
def _advance(chunk, state, blocks):
    state[1] += np.uint64(blocks)


@advance_p.kernel("cpu")
def _(out, state, *, blocks):
    _advance(1, 1, out, blocks)


@advance_p.kernel("reference")
def _(state, *, blocks):
    return state + np.array([0, blocks], np.uint64)


@advance_p.samples
def _(rng):
    yield Sample((np.array([3, 5], np.uint64),), {"blocks": 7})
    yield Sample(
        (np.array([2**64 - 1, 2**32 - 1], np.uint64),), {"blocks": 1}, note="the position's lower word overflows"
    )
    yield Sample((np.array([3, 5], np.uint64),), {"blocks": 0})
    yield Sample((np.array([3, 5], np.uint64),), {"blocks": -1}, error=ArgumentError, match="blocks is -1")
    yield Sample((np.array([3, 5]),), {"blocks": 1}, error=DTypeError, match="expected uint64")
    yield Sample((np.array([3], np.uint64),), {"blocks": 1}, error=ShapeError, match=r"expected \(2,\)")


class Generator:
    """A stream of random numbers: Philox 4x32-10, keyed by the seed and counted by a position.

    The state is a Variable and changes in place alone, so a kept tape draws new numbers at every replay. Streams of
    different seeds are independent. What an operation drew depends on seed and position only: not on threads, device
    or NumPy's and Python's own generators. Threads may share one; each draw is handed out once.

    Args:
        seed: from 0 to 2⁶⁴ − 1; None takes one from the operating system.
        name: for messages and checkpoints.

    Raises:
        ArgumentTypeError, ArgumentError: if the seed is no integer, or out of range.

    Source: Salmon, Moraes, Dror & Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.

    Example:
        >>> import minigrad as mg
        >>> g = mg.random.Generator(seed=7)
        >>> first = mg.random.uniform((3,), generator=g)
        >>> g.get_state()
        (7, 1)
        >>> g.set_state((7, 0))
        >>> (mg.random.uniform((3,), generator=g) == first).tolist()
        [True, True, True]
    """

    __slots__ = ("__weakref__", "_lock", "state")

    def __init__(self, seed: int | None = 0, name: str | None = None):
        state = np.array([_checked_seed(seed), 0], np.uint64)
        self.state = Variable(state, trainable=False, name=name or "generator")
        self._lock = threading.Lock()

    @property
    def name(self) -> str | None:
        return self.state.name

    def next(self, blocks: int) -> Tensor:
        """The state as a constant tensor (key, position), after which the position moves on by `blocks`.

        A block is four 32-bit words. Random primitives take the tensor as their ``start``.
        """
        with self._lock:
            start = copy_p(self.state)
            advance_p(self.state, blocks=blocks)
        return start

    def seed(self, seed: int | None) -> None:
        """Begin the stream of that seed."""
        self.set_state((_checked_seed(seed), 0))

    def get_state(self) -> tuple[int, int]:
        """Seed and position, as integers to be kept."""
        with self._lock:
            key, position = self.state.tolist()
        return key, position

    def set_state(self, state: tuple[int, int]) -> None:
        """Go to what `get_state` returned.

        Raises:
            ArgumentTypeError, ArgumentError: if it is no pair of integers in range.
        """
        try:
            key, position = (index(n) for n in state)
        except (TypeError, ValueError):
            raise ArgumentTypeError(f"set_state: got {state!r}, expected a pair of integers (seed, position)") from None
        if not 0 <= position < 2**63:
            raise ArgumentError(f"set_state: position is {position}, expected 0 to 2**63 - 1")
        value = Tensor(np.array([_checked_seed(key), position], np.uint64))
        with self._lock:
            assign_p(self.state, value)

    def __repr__(self) -> str:
        return f"<Generator {self.name}: (seed, position) = {self.get_state()}>"

    def __reduce__(self) -> tuple:
        return _restored, (self.get_state(), self.name)


def _restored(state: tuple[int, int], name: str | None) -> Generator:
    generator = Generator(name=name)
    generator.set_state(state)
    return generator


def _checked_seed(seed: Any) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    try:
        value = index(seed)
    except TypeError:
        raise ArgumentTypeError(f"seed: got {seed!r}, expected an integer or None") from None
    if not 0 <= value < 2**64:
        raise ArgumentError(f"seed: got {value}, expected 0 to 2**64 - 1")
    return value


#: The generator of whoever names no other: state of this module, seeded with 0 when the process starts.
default_generator = Generator(0, name="default")


def begin(primitive: Primitive, generator: Generator | None, words: int, *values: Abstract, **params: Any) -> Tensor:
    """The start for a draw by `primitive` that takes `words` words an element; bad arguments leave the stream alone.

    Raises:
        ArgumentTypeError: if `generator` is none; and whatever the primitive's infer rule raises.
    """
    if generator is None:
        generator = default_generator
    elif not isinstance(generator, Generator):
        raise ArgumentTypeError(f"{primitive.name}: generator is {generator!r}, expected a minigrad.random.Generator")
    return generator.next(_blocks(primitive, words, *values, **params))


@lru_cache(maxsize=4096)
def _blocks(primitive: Primitive, words: int, *values: Abstract, **params: Any) -> int:
    (out,) = primitive.abstract(*values, START, **params)
    return -(-out.size * words // 4)
