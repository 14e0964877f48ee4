"""OpenBLAS is held to one thread while kernels multiply, and has its own number again afterwards."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.devices import blas, blas_library

pytestmark = pytest.mark.skipif(
    blas.LIBRARY is None or blas.LIBRARY.name != blas_library.OPENBLAS, reason="kernels multiply with another library"
)


@pytest.fixture
def three_threads():
    before = blas.threads()
    blas.set_threads(3)
    yield
    blas.set_threads(before)


def test_it_is_held_while_somebody_is_inside(three_threads):
    first = blas.hold(blas.TABLE)
    assert blas.threads() == 1
    second = blas.hold(blas.TABLE)
    blas.release(blas.TABLE, first)
    assert blas.threads() == 1
    blas.release(blas.TABLE, second)
    assert blas.threads() == 3


def test_python_does_what_compiled_code_does(three_threads):
    table = np.array([*blas.TABLE[:-3], 0, 0, 0])
    enter, hold, release = (getattr(blas, name).python for name in ("_enter", "hold", "release"))
    enter(table)
    assert list(table[-3:]) == [1, 0, 0]
    table[-3] = 0
    held = hold(table)
    assert list(table[-3:]) == [0, 1, 3]
    assert blas.threads() == 1
    release(table, held)
    assert list(table[-3:]) == [0, 0, 3]
    assert blas.threads() == 3


def test_several_threads_multiply_at_once(three_threads):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 200)).astype(np.float32)
    x, y = mg.tensor(a), mg.tensor(b)
    expected, wrong = mg.matmul(x, y).numpy(), []

    def work():
        for _ in range(200):
            if not np.array_equal(mg.matmul(x, y).numpy(), expected):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert blas.threads() == 3
    assert not blas.TABLE[blas._LOCK]
    assert not blas.TABLE[blas._INSIDE]


FORK = """
import os, numpy as np, minigrad as mg
from minigrad.devices import blas
x = mg.tensor(np.ones((100, 100), "float32"))
mg.matmul(x, x)
blas.set_threads(2)
held = blas.hold(blas.TABLE)  # as another thread may have just done
child = os.fork()
if child == 0:
    assert blas.threads() == 2
    assert (mg.matmul(x, x).numpy() == 100).all()
    assert blas.threads() == 2
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert blas.threads() == 1
blas.release(blas.TABLE, held)
assert blas.threads() == 2
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_starts_anew():
    found = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "done", found.stderr
