"""`python -m minigrad warmup`: what it leaves in the cache serves later processes."""

import os
import subprocess
import sys

import pytest

from minigrad.__main__ import main


def run_python(folder, *arguments):
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(folder)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


def kernels(folder):
    return sorted(p.name for p in folder.iterdir())


def test_later_processes_find_the_kernels(tmp_path):
    done = run_python(tmp_path, "-m", "minigrad", "warmup", "mg::logsumexp", "mg::tanh", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "the kernels of 2 primitives" in done.stdout
    found = kernels(tmp_path)
    assert found
    used = "import minigrad as mg; x = mg.tensor([[1.0, -2.0]], dtype='float32'); mg.tanh(x), mg.logsumexp(x, axis=-1)"
    done = run_python(tmp_path, "-c", used)
    assert done.returncode == 0, done.stderr
    assert kernels(tmp_path) == found
    assert "compiling" not in done.stderr


def test_parallel_forms_are_compiled_on_request(tmp_path):
    counts = []
    for options in ([], ["--parallel"]):
        done = run_python(tmp_path, "-m", "minigrad", "warmup", "mg::logsumexp", "--processes", "1", *options)
        assert done.returncode == 0, done.stderr
        counts.append(len(kernels(tmp_path)))
    assert counts[1] > counts[0]
    large = "import numpy as np, minigrad as mg; mg.logsumexp(mg.tensor(np.ones((900, 400), 'float32')), axis=-1)"
    before = kernels(tmp_path)
    assert run_python(tmp_path, "-c", large).returncode == 0
    assert kernels(tmp_path) == before


def test_without_a_folder_there_is_nothing_to_fill():
    done = run_python("", "-m", "minigrad", "warmup", "mg::exp")
    assert done.returncode == 1
    assert "no folder to keep kernels in: off: MINIGRAD_CACHE_DIR is empty" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["mg::nothing"], "nothing"), (["mg::exp", "--processes", "0"], "processes is 0, expected at least 1")],
)
def test_wrong_commands(arguments, message, capsys):
    assert main(["warmup", *arguments]) == 2
    assert message in capsys.readouterr().err
