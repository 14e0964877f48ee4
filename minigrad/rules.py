"""What a primitive's rules speak of: abstract values, samples of its use, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np


class Abstract(NamedTuple):
    """A value of which only shape and dtype are known: what `infer` and `workspace` rules get and give."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)


class Invariance(NamedTuple):
    """What a primitive keeps: ``p(*change(*inputs))`` is ``expect(*p(*inputs))``, to rounding.

    Attributes:
        note: in words, e.g. ``"a shift of x"``.
        change: takes the inputs as arrays, None where absent, and returns others.
        expect: takes the outputs as arrays and returns what they become; None if they stay what they are.
    """

    note: str
    change: Callable
    expect: Callable | None = None


@dataclass
class Sample:
    """One use of a primitive: a good one, or a bad one with the error that it must get.

    Attributes:
        inputs: arrays, or None where an optional input is absent.
        params: the keyword arguments.
        error, match: for a bad sample, the exception's class and a regular expression that its message matches.
        note: why this sample is here.
        differentiable: False where the sample sits on a kink on purpose, so that only values are compared.
        wide: the inputs, by name, that stay float64 when the others are cast to the dtype under test.
        exact: the dtypes, by name, in which kernels are held to the rounding of their results alone, however the data
            amplifies rounding of the inputs: for operations that promise to keep their digits on hard data.
        invariances: what the primitive keeps, here and in general.
        held: where outputs are frozen, the outputs as a function of tensors, written in primitives, in which the frozen
            values are the constants that they are here. Derivatives are checked against those of this function.
        undecided: checks, by name, that can't decide anything here, with the reason for each: a gradient that is 0
            whatever the input, for one. Without a reason INCONCLUSIVE is not passed.
    """

    inputs: tuple
    params: dict[str, Any] = field(default_factory=dict)
    error: type[Exception] | None = None
    match: str = ""
    note: str = ""
    differentiable: bool = True
    wide: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    invariances: tuple[Invariance, ...] = ()
    held: Callable | None = None
    undecided: dict[str, str] = field(default_factory=dict)
