"""On a GPU, where compute-sanitizer is installed: kernels touch no memory but their own, and wait where they must."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu
FOLDER = Path(__file__).parent
TOOL = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
#: Primitives whose kernels are all there is of kinds: loops, reductions, tiles, norms, images, indices, updates.
PRIMITIVES = (
    "mg::add", "mg::sum", "mg::argmax", "mg::matmul", "mg::softmax_cross_entropy", "mg::conv2d", "mg::max_pool2d",
    "mg::take", "mg::scatter_add", "mg::dropout", "mg::adam", "norms::standardize", "norms::standardize_vjp",
)  # fmt: skip


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_clean(tool):
    if TOOL is None:
        pytest.skip("compute-sanitizer is not installed; it comes with NVIDIA's toolkit")
    tests = " or ".join(f"test_conformance[{name}]" for name in PRIMITIVES)
    python = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-m", "gpu"]
    command = [TOOL, "--tool", tool, "--error-exitcode", "9", *python, "-k", tests]
    done = subprocess.run(
        [*command, str(FOLDER / "test_gpu_conformance.py")],
        env=dict(os.environ), capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
