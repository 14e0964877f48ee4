"""The faults that every library is given: our check catches all, with every seed, and lets the sound one pass."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from minigrad import primitive
from minigrad.gradcheck.study import peers
from minigrad.gradcheck.study.faults import FAULTS, NAMES, Gradient, arguments, forward
from minigrad.gradcheck.study.run import library

SEEDS = 3
MANY = 20


@pytest.fixture(scope="module")
def ours():
    before = primitive.registered()
    yield peers.Minigrad()
    primitive.restore(before)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_sound_function_passes(ours, seed):
    assert peers.outcome(ours, None, seed, "float64") == "passed"


@pytest.mark.parametrize("fault", NAMES)
def test_a_planted_fault_is_caught_with_every_seed(ours, fault):
    for seed in range(SEEDS):
        assert " FAILED" in peers.outcome(ours, fault, seed, "float64"), seed


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, *NAMES])
def test_a_planted_fault_is_caught_with_twenty_seeds(ours, fault):
    for seed in range(MANY):
        said = peers.outcome(ours, fault, seed, "float64")
        assert (" FAILED" in said) if fault else said == "passed", seed


def test_a_sum_that_hides_everything_is_not_passed_off_as_right(ours):
    sound = ours.planted(Gradient(None))
    x, gamma, beta = ours.arrays(arguments(0), "float64")
    report = ours.mg.gradcheck.check(lambda x: sound(x, gamma * 0 + 1, beta)[:, :-1].sum(), [x], checks="all")
    assert report.verdict == "INCONCLUSIVE"


def test_the_function_is_what_it_is_said_to_be():
    x, gamma, beta = arguments(4)
    assert (gamma == 0).sum() == 1
    out = forward(peers._NumPy, x, gamma, beta)
    var = x.var(axis=1, ddof=1)
    y = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(var + 0.1)[:, None] * gamma + beta
    np.testing.assert_allclose(out, np.column_stack([y, var]), rtol=1e-14)


def test_the_command_prints_what_a_check_says():
    arguments = ["-m", "minigrad.gradcheck.study.peers", "minigrad", "--seeds", "1", "--fault", "wrong sign"]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert list(found["faults"]) == ["wrong sign"]
    assert found["faults"]["wrong sign"]["caught"] == 1
    assert "argument 1" in found["faults"]["wrong sign"]["says"]
    assert found["false_alarms"] == {"float64": 0}
    assert found["check_seconds"] > found["gradient_seconds"] > 0


@pytest.mark.parametrize("name", ["torch", "jax", "autograd"])
def test_another_library_is_asked_in_its_own_process_or_said_to_be_absent(name):
    found = library(name, 1, sys.executable)
    assert found["command"] == f"python -m minigrad.gradcheck.study.peers {name} --seeds 1"
    if importlib.util.find_spec(name) is None:
        assert found["absent"] == f"{sys.executable} has no {name}"
        return
    assert found["false_alarms"]["float64"] == 0
    assert found["faults"]["wrong sign"]["caught"] == 1
    assert found["faults"]["factor 1 + 1e-6"]["caught"] == 0
    assert [f.name for f in FAULTS if found["faults"][f.name] is None] == (
        [f.name for f in FAULTS if f.needs == "memory"] if name == "jax" else []
    )


def test_an_interpreter_that_is_not_there_is_told():
    assert "No such file" in library("torch", 1, "/no/such/python")["absent"]
