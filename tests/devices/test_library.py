"""Libraries of machine code stand alone: nothing in them is merged with what else the process compiled or loaded."""

import re

import numpy as np

from minigrad.devices import cache, cpu, threads


@cpu.jit
def total(x):
    value = x.dtype.type(0.0)
    for j in range(x.size):
        value += x[j]
    return value


@cpu.chunked
def totals_twice(row, out, x):
    out[row] = total(x[row]) + total(x[row, 1:])


def test_helpers_have_no_name_outside_the_library(monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: (None, "off"))  # what comes from there can't be looked into
    x = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    out = np.empty(3, np.float32)
    totals_twice.body.entry(0, out, x)
    for run in (totals_twice.serial, lambda chunks, *args: totals_twice.parallel(chunks, threads.WORDS, *args)):
        run(3, out, x)
        np.testing.assert_allclose(out, x.sum(1) + x[:, 1:].sum(1), rtol=1e-4)
    for function in (totals_twice.body, totals_twice.serial, totals_twice.parallel):
        (result,) = function.compiled().overloads.values()
        defined = re.findall(r"^define (.*?)@(\S+?)\(", result.library.get_llvm_str(), re.MULTILINE)
        own = [name for linkage, name in defined if function.__name__ in name and ".local" not in name]
        assert own
        assert not [name for linkage, name in defined if "internal" not in linkage.split() and name not in own]
