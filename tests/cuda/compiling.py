"""Compile every CUDA kernel that the samples of all primitives reach to PTX, without a GPU, and say what became of it.

With the built-in primitives' go fused loops of the most arrays and operations that there may be.

Run by `test_cuda_ptx.py`, and by hand: ``python tests/cuda/compiling.py [--all] [--half] [namespace ...]``; the name of
one primitive will do as well. A driver that runs nothing stands in for the real one: what it is asked to launch it
notes, with the types of the arguments. Of generated elementwise loops, which are a function and a way to walk, each
function and each way is compiled, and with ``--all`` each pair of them that samples reach; each for one
architecture, which take turns, and with ``--all`` for all of them. With ``--half`` those of float16 and bfloat16 are
compiled, for one architecture.
"""

import multiprocessing
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
from fake_api import FakeDriver

import minigrad as mg
from minigrad import dtypes, plugins, primitive, tape
from minigrad.devices.cuda import driver
from minigrad.devices.cuda.launching import layout, signature
from minigrad.gradcheck import kernels
from minigrad.tensor import Tensor, Variable

ARCHITECTURES = [(7, 5), (8, 0), (9, 0), (10, 0)]
HALF_ARCHITECTURES = [(8, 0)]


class Compiler(FakeDriver):
    """Takes memory from the host, compiles for the GPU, and runs nothing."""

    def __init__(self):
        super().__init__(total=1 << 40)
        from numba import cuda
        from numba.cuda import dispatcher

        self._cuda = cuda
        self.found = {}  # names of kernels by what they are and the kinds of their arguments
        # Numba asks the GPU for its capability when it types device functions, whose code does not depend on it.
        dispatcher.get_current_device = lambda: _Device

    def _load(self, kernel, device, kinds):
        self.found.setdefault((kernel, kinds), kernel.__name__)
        return super()._load(kernel, device, kinds)

    def ptx(self, kernel, kinds, architecture):
        ptx = self._cuda.compile_ptx(kernel.compiled(), signature(kinds), cc=architecture)[0]
        require_parameters(ptx, kinds)
        return ptx


def require_parameters(ptx, kinds):
    """Raise unless the kernel takes its arguments where `minigrad.devices.cuda.launching` puts them."""
    (taken,) = re.findall(r"\.visible \.entry [^(]*\(([^)]*)\)", ptx)
    sizes = [int(bits) // 8 for bits in re.findall(r"\.param \.[a-z](\d+) ", taken)]
    assert len(sizes) == taken.count(".param"), taken
    place, places = 0, []
    for size in sizes:  # each as it is aligned by itself
        place += -place % size
        places.append((place, size))
        place += size
    form = re.sub(r"(\d+)Q", lambda m: "Q" * int(m[1]), layout(kinds))
    ends = [struct.calcsize("@" + form[: i + 1]) for i in range(len(form))]
    given = [(end - struct.calcsize("@" + code), struct.calcsize("@" + code)) for end, code in zip(ends, form)]
    assert places == given, (places, given)


_Device = types.SimpleNamespace(compute_capability=(7, 5))


def reach(name, kinds):
    """Run the samples of a namespace's primitives, or of one by its name, and their reverse rules, in these dtypes."""
    namespace, _, only = name.partition("::")
    if namespace in plugins.names():
        plugins.load(namespace)
    for p in primitive.primitives(namespace):
        if "cuda" not in p.devices or (only and p.name != name):
            continue
        for sample in p.draw_samples():
            if sample.error is None and not _repeated(sample):
                for dtype in kinds:
                    _run(p, sample, dtype)


def reach_fused_loops():
    """Run jitted functions in which many calls become one loop, of one axis and of several, in both dtypes."""

    def function(x, *others):
        results = []
        for other in others:
            x = mg.tanh(x * 0.5) + other
            x = mg.exp(x * other) - x
            results.append(x)
        return results[1::2]

    for dtype in (dtypes.float32, dtypes.float64):
        for shapes in ([(8, 12)], [(8, 12), (8, 1), (12,), ()]):
            given = [Tensor(kernels.placed(np.ones(shapes[i % len(shapes)], dtype), "cuda")) for i in range(11)]
            jitted = mg.jit(function)
            for _ in range(2):
                jitted(*given)
            assert jitted.plan().kernels


def _repeated(sample):
    """Whether another sample reaches the same kernels but for a function in their midst, compiled elsewhere."""
    return bool(sample.params.get("activation")) and not sample.note.endswith("layer norm")


def _run(p, sample, dtype):
    tensors = []
    for i, a in enumerate(kernels.cast(p, sample, dtype)):
        mutated = i in p.mutated_inputs(len(sample.inputs))
        placed = None if a is None else Tensor(kernels.placed(a, "cuda"))
        tensors.append(Variable(placed, trainable=not mutated) if mutated or kernels.is_float(a) else placed)
    results = p(*tensors, **sample.params)
    if not p.has_vjp:
        return
    outputs = [y for y in (results if isinstance(results, tuple) else (results,)) if y.requires_grad]
    tape.backward(outputs, [Tensor(kernels.placed(np.ones(y.shape, y.dtype), "cuda")) for y in outputs])


def ptxas():
    """NVIDIA's assembler, if the package nvidia-cuda-nvcc or a toolkit brings it."""
    packaged = [Path(p) / "nvidia/cu13/bin/ptxas" for p in sys.path]
    return next((str(p) for p in packaged if p.exists()), None) or shutil.which("ptxas")


def resources(ptx, architecture, assembler):
    """Registers, bytes spilled and bytes of shared memory, as the assembler tells them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        name = f"sm_{architecture[0]}{architecture[1]}"
        command = [assembler, "-v", f"-arch={name}", "-o", str(Path(folder) / "kernel.cubin"), str(file)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", told))
    registers = int(re.search(r"Used (\d+) registers", told)[1])
    shared = re.search(r"(\d+) bytes smem", told)
    return registers, spilled, int(shared[1]) if shared else 0


def thinned(found):
    """Without loops whose function and whose way to walk have both been seen in others, for the same types."""
    seen, left = set(), {}
    for (kernel, kinds), name in found.items():
        parts = name.rsplit("_", 3)
        if len(parts) == 4 and parts[2].isdigit() and parts[3].isdigit():
            function, walk = (parts[0], kinds[-1]), (*parts[1:], kinds)
            if function in seen and walk in seen:
                continue
            seen |= {function, walk}
        left[kernel, kinds] = name
    return left


def compiled(number):
    """What becomes of one kernel: a line of text, whether it failed, and on how many architectures it spills."""
    compiler, assembler, found, turns = _WORK
    (kernel, kinds), name = found[number]
    told, failed, spilling = [], False, 0
    for architecture in turns[number % len(turns)]:
        try:
            ptx = compiler.ptx(kernel, kinds, architecture)
            if assembler:
                registers, spilled, shared = resources(ptx, architecture, assembler)
                spilling += spilled > 0
                told.append(f"{registers} registers, {spilled} B spilled, {shared} B shared")
            else:
                told.append(f"{len(ptx)} characters")
        except Exception as error:
            failed = True
            told.append(f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:2000]}")
    types_ = ", ".join(map(str, signature(kinds)))
    return f"{name} ({types_}): {' | '.join(dict.fromkeys(told))}", failed, spilling


_WORK = ()  # what the processes that compile have in common


def main(namespaces, every=False, half=False):
    global _WORK
    compiler = Compiler()
    driver.use(compiler)
    for name in namespaces:
        reach(name, (dtypes.float16, dtypes.bfloat16()) if half else (dtypes.float32, dtypes.float64))
    if "mg" in namespaces and not half:
        reach_fused_loops()
    if half:  # what takes none is compiled with the others
        compiler.found = {k: v for k, v in compiler.found.items() if "Stored" in str(signature(k[1]))}
    if all(name.split("::")[0] != "mg" for name in namespaces):  # mg's own loops are compiled with mg
        compiler.found = {k: v for k, v in compiler.found.items() if k[0].python.__module__.split(".")[0] != "minigrad"}
    found = compiler.found if every else thinned(compiler.found)
    some = [[architecture] for architecture in ARCHITECTURES]
    turns = [HALF_ARCHITECTURES] if half else [ARCHITECTURES] if every else some
    _WORK = compiler, ptxas(), list(found.items()), turns
    print(f"{len(found)} kernels of {len(compiler.found)}; assembler: {_WORK[1] or 'none'}")
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        results = []
        for line, failed, spilling in pool.imap(compiled, range(len(found)), 8):
            print(line, flush=True)
            results.append((failed, spilling))
    failures, spills = (sum(column) for column in zip(*results))
    print(f"{spills} spill registers, {failures} failed")
    return failures


if __name__ == "__main__":
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    sys.exit(1 if main(names or ["mg"], "--all" in sys.argv, "--half" in sys.argv) else 0)
