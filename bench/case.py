"""What a suite is made of: Case, a row; Work, what a peer does for it. Needs the standard library alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """A row of the table: smaller numbers are better.

    Attributes:
        name: unique in the suite.
        data: what the peers' functions want to know of it.
        unit: ``s`` for times; else the unit of the numbers that `Work.value` gives.
        faster: the target, how many times faster than the best peer minigrad must be.
        against: a peer that the target holds against instead of the best one.
        below: the target, a number that minigrad's must be below.
        compared: whether the peers' numbers over ours are a ratio that says something.
        commands: Python code by peer, for rows that are measured in fresh processes: the last line that it prints
            is the number of seconds. ``BENCH_START`` in its environment is the time.monotonic() of its start.
        cache: for `commands`, the folder of minigrad's kernel cache: ``user``, ``fresh`` for an empty one in each
            process, or ``kept`` for one that a process before has filled.
        repeat: for `commands`, how many processes a peer instead of the number of rounds.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    unit: str = "s"
    faster: float | None = None
    against: str | None = None
    below: float | None = None
    compared: bool = True
    commands: dict[str, str] = field(default_factory=dict)
    cache: str = "user"
    repeat: int | None = None


@dataclass
class Work:
    """What is measured for a case.

    Attributes:
        run: what is timed. With `setup`, it takes what that returned.
        setup: runs before each `run`, outside the time.
        per: how many operations one `run` stands for; the time is divided by it.
        columns: more to be timed, shown beside under their names; not compared with peers. A unit that is not the
            row's stands in brackets at the end of the name.
        check: numbers that must agree between the peers, so that all are known to do the same work.
        value: instead of `run`, a function that gives the number itself.
    """

    run: Callable | None = None
    setup: Callable | None = None
    per: int = 1
    columns: dict[str, Work] = field(default_factory=dict)
    check: Callable[[], list[float]] | None = None
    value: Callable[[], float] | None = None
