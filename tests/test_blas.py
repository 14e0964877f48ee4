"""What is done about OpenBLAS and AVX-512: where, when, and what it leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad
from minigrad import _blas

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"
AVX2 = "fpu sse sse2 avx avx2 fma"


def cpuinfo(vendor: str, family: int, flags: str) -> str:
    """The text of /proc/cpuinfo on a machine of two such processors."""
    return "".join(
        f"processor\t: {k}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 2\n"
        f"model name\t: Some: Processor\nflags\t\t: {flags}\nbugs\t\t: spectre_v1 avx512f\n\n"
        for k in range(2)
    )


ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (cpuinfo("AuthenticAMD", 26, f"{AVX2} {AVX512}"), True),  # Zen 5
        (cpuinfo("AuthenticAMD", 27, f"{AVX2} {AVX512}"), True),  # what comes after
        (cpuinfo("AuthenticAMD", 26, AVX2), False),  # Zen 5 in a virtual machine that hides AVX-512
        (cpuinfo("AuthenticAMD", 26, f"{AVX2} avx512f avx512cd avx512bw avx512dq"), False),  # one of them missing
        (cpuinfo("AuthenticAMD", 25, f"{AVX2} {AVX512}"), False),  # Zen 4, which OpenBLAS knows
        (cpuinfo("AuthenticAMD", 23, AVX2), False),  # Zen 2
        (cpuinfo("GenuineIntel", 6, f"{AVX2} {AVX512}"), False),
        (cpuinfo("GenuineIntel", 26, f"{AVX2} {AVX512}"), False),
        (ARM, False),
        ("", False),
        ("vendor_id : AuthenticAMD\ncpu family : unknown\nflags : " + AVX512, False),
        ("no colon at all\n:\n::\n", False),
    ],
)
def test_wants_avx512(text, wanted):
    assert _blas.wants_avx512(text) is wanted


# The module is run by its path, with a NumPy that only notes the environment in which it is loaded: the real one would
# crash where the processor lacks what it is told to use.
LOADING = """
import builtins, io, os, runpy, subprocess, sys
real = builtins.open
def pretend(path, *args, **kwargs):
    if path != "/proc/cpuinfo":
        return real(path, *args, **kwargs)
    if os.environ["CPUINFO"] == "absent":
        raise FileNotFoundError(2, "No such file", path)
    return io.StringIO(os.environ["CPUINFO"])
builtins.open = pretend
before = dict(os.environ)
report = runpy.run_path(sys.argv[1])["REPORT"]
assert dict(os.environ) == before
child = [sys.executable, "-S", "-c", "import os; print(os.environ.get('OPENBLAS_CORETYPE'))"]
print(subprocess.run(child, capture_output=True, text=True).stdout.strip())
print(getattr(sys.modules.get("numpy"), "SEEN", "not loaded"))
print(report)
"""


def load(tmp_path, text, numpy="import os; SEEN = os.environ.get('OPENBLAS_CORETYPE')", before="", **environment):
    (tmp_path / "numpy.py").write_text(numpy)
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "MINIGRAD_BLAS")}
    env = {**env, "CPUINFO": text, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-S", "-c", before + LOADING, _blas.__file__]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


ZEN5 = cpuinfo("AuthenticAMD", 26, f"{AVX2} {AVX512}")


def test_the_variable_is_set_while_numpy_loads_and_gone_after(tmp_path):
    child, seen, report = load(tmp_path, ZEN5).stdout.splitlines()
    assert child == "None"
    assert seen == "SkylakeX"
    assert "OPENBLAS_CORETYPE=SkylakeX while NumPy loaded" in report


@pytest.mark.parametrize(
    ("environment", "child", "why"),
    [
        ({"MINIGRAD_BLAS": "default"}, "None", "MINIGRAD_BLAS=default"),
        ({"OPENBLAS_CORETYPE": "Haswell"}, "Haswell", "OPENBLAS_CORETYPE=Haswell is set"),
        ({"CPUINFO": ARM}, "None", "chooses well"),
    ],
)
def test_left_alone(tmp_path, environment, child, why):
    lines = load(tmp_path, ZEN5, **environment).stdout.splitlines()
    assert lines[0] == child
    assert lines[1] == "not loaded"
    assert lines[2].startswith("left alone")
    assert why in lines[2]


def test_left_alone_once_numpy_is_loaded(tmp_path):
    lines = load(tmp_path, ZEN5, before="import numpy\n").stdout.splitlines()
    assert lines[1] == "None"
    assert "NumPy was loaded before" in lines[2]


def test_the_variable_is_gone_even_if_numpy_fails_to_load(tmp_path):
    watch = "import atexit, os\natexit.register(lambda: print(os.environ.get('OPENBLAS_CORETYPE')))\n"
    done = load(tmp_path, ZEN5, numpy="raise ImportError('broken')", before=watch)
    assert "broken" in done.stderr
    assert done.stdout.strip() == "None"


def test_no_proc_filesystem(tmp_path):
    lines = load(tmp_path, "absent").stdout.splitlines()
    assert lines[1] == "not loaded"
    assert "chooses well" in lines[2]


def test_it_comes_before_numpy():
    lines = Path(minigrad.__file__).read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert imports[0].startswith("from minigrad import _blas")
    source = Path(_blas.__file__).read_text()
    assert [line for line in source.splitlines() if line.startswith(("import", "from"))] == ["import os", "import sys"]
