"""Benchmarks of minigrad beside torch and jax, each in a process of its own; `python -m bench --help`.

A benchmark is one file in ``bench/suites``; it is found by its name. It has

    TITLE                one line over its table
    cases(quick)         a list of `bench.case.Case`, the rows
    with_<peer>(case)    a `bench.case.Work` for the peer ``minigrad``, ``torch`` or ``jax``; where a peer has no
                         such function, or it returns None, that row of the peer stays empty

A peer's interpreter imports this file without the other peers being installed there, so a suite imports libraries,
NumPy included, inside its functions.
"""
