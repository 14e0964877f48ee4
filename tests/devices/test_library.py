"""Libraries of machine code stand alone: nothing in them is merged with what else the process compiled or loaded."""

import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from minigrad import scalar
from minigrad.devices import cache, cpu, cpu_loops, threads


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


OLD = """
import llvmlite.binding
llvmlite.binding.llvm_version_info = (15, 0, 7)
import minigrad as mg
mg.exp(mg.tensor([1.0]))
"""


def test_an_llvm_whose_code_is_wrong_is_refused():
    done = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, timeout=120)
    assert "ImportError: minigrad's kernels need LLVM 20 or later, which numba 0.62 brings" in done.stderr


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86's assembly")
def test_a_loop_over_as_many_arrays_as_there_may_be_is_vectorized(monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: (None, "off"))
    inputs = [f"in_{i}" for i in range(8)]
    variables = [scalar.variable(name) for name in inputs]
    expressions = [sum(variables[1:], variables[0] * float(i + 2)) for i in range(4)]
    assert cpu_loops.has_room(4, 8)
    assert not cpu_loops.has_room(4, 9)
    kernel = cpu_loops.kernel_of(expressions, inputs, np.dtype("float32"), "v" * 8, False)
    arrays, outs = np.random.default_rng(0).standard_normal((8, 100), np.float32), np.empty((4, 100), np.float32)
    kernel.body.entry(0, 1, *outs, *arrays)
    for i, out in enumerate(outs):
        np.testing.assert_allclose(out, arrays[0] * (i + 2) + arrays[1:].sum(0), rtol=1e-4, atol=1e-5)
    (assembly,) = kernel.body.compiled().inspect_asm().values()
    packed = re.findall(r"\bv?(?:addps|fmadd\d+ps)\b.*[yz]mm", assembly)
    assert len(packed) >= 8
