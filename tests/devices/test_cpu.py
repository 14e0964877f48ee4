"""The CPU device: compile flags, forms of a kernel, threads, forks, and what importing leaves alone."""

import itertools
import subprocess
import sys
import threading
import traceback
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad.devices import cache, cpu, threads


def python(code: str, tmp_path, **environment: str) -> str:
    """The output of a fresh interpreter."""
    import os

    env = {**os.environ, "MINIGRAD_QUIET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@cpu.jit
def polynomial(x):
    return x * x + x


@cpu.jit(exact=True)
def exact_polynomial(x):
    return x * x + x


@cpu.chunked
def partial_sums(chunk, chunks, out, x):
    part = x[chunk * x.size // chunks : (chunk + 1) * x.size // chunks]
    total = x.dtype.type(0)
    for i in range(part.size):
        total += part[i]
    out[chunk] = total


@pytest.fixture
def no_cache(monkeypatch):
    """Compile here and now: what comes from disk has no text to look at."""
    monkeypatch.setattr(cache, "folder", lambda: (None, "off"))


def llvm(function) -> str:
    function = cpu.Function(function.python, exact=function._flags["exact"])
    function(1.5)
    (text,) = function.entry.inspect_llvm().values()
    return text


@pytest.mark.usefixtures("no_cache")
def test_fastmath_is_the_policy_and_never_assumes_finite_values():
    assert {"nsz", "arcp", "contract", "afn", "reassoc"} == cpu.FASTMATH
    text = llvm(polynomial)
    for flag in cpu.FASTMATH:
        assert flag in text
    assert "nnan" not in text
    assert "ninf" not in text
    assert " fast " not in text


@pytest.mark.usefixtures("no_cache")
def test_exact_has_no_fastmath():
    text = llvm(exact_polynomial)
    for flag in cpu.FASTMATH:
        assert f" {flag} " not in text


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_in_is_nan_out(dtype):
    for place in range(7):
        x = np.ones(7, dtype)
        x[place] = np.nan
        out = np.zeros(1, dtype)
        partial_sums(1, x.size, 1, out, x)
        assert np.isnan(out[0])
        for f in (mg.exp, mg.tanh, mg.relu, mg.sigmoid, mg.absolute, mg.softplus):
            y = f(mg.tensor(x)).numpy()
            np.testing.assert_array_equal(np.isnan(y), np.isnan(x), err_msg=f.__name__)


def test_jit_keeps_name_and_documentation():
    @cpu.jit(inline=True)
    def documented(x):
        """What it does."""
        return x

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."
    assert documented(3) == 3
    assert documented.__wrapped__(3) == 3


def test_a_function_serves_kernels_first_and_python_later():
    @cpu.jit
    def inner(x):
        return x + 1

    @cpu.jit
    def outer(x):
        return 2 * inner(x)

    assert outer(3) == 8
    assert inner(3) == 4
    assert outer(3.5) == 9


def test_closures_compile():
    def make(factor, helper):
        @cpu.jit
        def scaled(x):
            return factor * helper(x)

        return scaled

    assert make(3, polynomial)(2) == 18
    assert make(5, exact_polynomial)(2) == 30


def test_a_kernel_that_allocates_does_not_compile():
    from numba.core.errors import NumbaError

    @cpu.chunked
    def allocates(chunk, out):
        scratch = np.empty(4)
        scratch[0] = chunk
        out[chunk] = scratch[0]

    with pytest.raises(NumbaError, match="empty"):
        allocates(1, 1, np.zeros(1))


def form_of(kernel, monkeypatch, chunks, work) -> str:
    """Which form of a kernel a call takes, without running any."""
    calls = []
    monkeypatch.setattr(kernel.serial, "entry", lambda *args: calls.append("serial"))
    monkeypatch.setattr(kernel.parallel, "entry", lambda *args: calls.append("parallel"))
    monkeypatch.setattr(kernel.body, "entry", lambda *args: calls.append("body"))
    kernel(chunks, work)
    return " ".join(calls)


def test_form_is_chosen_by_size(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 2)
    large = cpu.PARALLEL_WORK
    assert form_of(partial_sums, monkeypatch, 64, large) == "parallel"
    assert form_of(partial_sums, monkeypatch, 64, large - 1) == "serial"
    assert form_of(partial_sums, monkeypatch, 1, large) == "body"
    assert form_of(partial_sums, monkeypatch, 2, 10) == "body body"
    assert form_of(partial_sums, monkeypatch, 0, 0) == ""


def test_one_thread_runs_serial(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 1)
    assert form_of(partial_sums, monkeypatch, 64, cpu.PARALLEL_WORK) == "serial"


def test_second_thread_runs_serial_while_the_first_is_in_a_parallel_region(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 2)
    with threads._one:
        assert form_of(partial_sums, monkeypatch, 64, cpu.PARALLEL_WORK) == "serial"
    assert form_of(partial_sums, monkeypatch, 64, cpu.PARALLEL_WORK) == "parallel"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_forms_give_the_same_bits(dtype):
    x = np.random.default_rng(0).standard_normal(100_003).astype(dtype)
    chunks = 13
    outs = np.zeros((3, chunks), dtype)
    partial_sums.serial(chunks, chunks, outs[0], x)
    partial_sums.parallel(chunks, threads.WORDS, chunks, outs[1], x)
    for chunk in range(chunks):
        partial_sums.body(chunk, chunks, outs[2], x)
    assert outs[0].tobytes() == outs[1].tobytes() == outs[2].tobytes()
    edges = [k * x.size // chunks for k in range(chunks + 1)]
    expected = [x[a:b].sum(dtype=np.longdouble) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(outs[0], np.array(expected, dtype), rtol=1e-4 if dtype == np.float32 else 1e-12)


def test_parallel_work_is_even_entered_on_a_fallback_of_many_chunks(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 1)
    x = np.ones(50 * cpu.PARALLEL_WORK)
    out = np.zeros(50)
    partial_sums(50, x.size, 50, out, x)
    np.testing.assert_array_equal(out, cpu.PARALLEL_WORK)


def test_arguments_may_have_any_names():
    @cpu.chunked
    def kernel(chunk, body, share, task, words, work, context, all_chunks):
        body[chunk] = share + task + words + work + context + all_chunks

    for call in (kernel, kernel.serial):
        out = np.zeros(40)
        call(40, *([cpu.PARALLEL_WORK] if call is kernel else []), out, 1, 2, 3, 4, 5, 6)
        np.testing.assert_array_equal(out, 21)


SAME_BITS = """
import hashlib, numba, numpy as np, minigrad as mg
rng = np.random.default_rng(1)
x = mg.tensor(100 + rng.standard_normal((307, 509)), requires_grad=True)
y = mg.tensor(rng.standard_normal(509), requires_grad=True)
p = mg.exp(x * y / 100)
parts = [p, p.sum(), p.sum(axis=0), p.sum(axis=1)]
parts[1].backward()
digest = hashlib.sha256()
for t in [*parts, x.grad, y.grad]:
    digest.update(t.numpy().tobytes())
print(numba.get_num_threads(), digest.hexdigest())
"""


def test_same_bits_for_any_number_of_threads(tmp_path):
    kernels = {"MINIGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    lines = [python(SAME_BITS, tmp_path, NUMBA_NUM_THREADS=str(n), **kernels).split() for n in (8, 1, 2)]
    assert [threads for threads, _ in lines] == ["8", "1", "2"]
    assert len({digest for _, digest in lines}) == 1


def test_two_python_threads_run_parallel_kernels_at_once():
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.standard_normal((400, 500)).astype("float32"))
    expected = mg.exp(x * x).numpy().copy()
    wrong = []

    def work():
        for _ in range(30):
            if not np.array_equal(mg.exp(x * x).numpy(), expected):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


FORK = """
import os, numpy as np, minigrad as mg
x = mg.tensor(np.linspace(-1, 1, 200_000, dtype="float32"))
expected = mg.exp(x).numpy().copy()
kept = mg.exp(x)
child = os.fork()
if child == 0:
    from minigrad.devices import threads
    assert threads._started == 0
    assert np.array_equal(mg.exp(x).numpy(), expected)       # a kernel that was compiled before
    assert np.array_equal(mg.relu(x).numpy(), np.maximum(x.numpy(), 0))  # and one that was not
    assert threads._started == 1  # the child has a thread of its own
    kept._data[:] = -1
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert np.array_equal(kept.numpy(), expected), "the child wrote to its parent's memory"
assert np.array_equal(mg.exp(x).numpy(), expected)
print("done")
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="needs os.fork")
def test_kernels_run_in_a_forked_child(tmp_path):
    assert python(FORK, tmp_path, NUMBA_NUM_THREADS="2") == "done"


IMPORT = """
import os, random, sys, warnings
import numpy as np
def snapshot():
    return (dict(os.environ), random.getstate(), repr(np.random.get_state()), np.geterr(), np.get_printoptions(),
            list(warnings.filters), sys.getrecursionlimit(), sys.excepthook)
before = snapshot()
import minigrad as mg
assert snapshot() == before
assert "numba" not in sys.modules, "numba costs half a second, and is loaded when a kernel is first needed"
x = mg.tensor([1.0, 2.0], requires_grad=True)
mg.grad(lambda x: mg.reshape(x, (2, 1)).sum())
assert "numba" not in sys.modules
import numba
config = {k: v for k, v in vars(numba.config).items() if k.isupper()}
threads = numba.get_num_threads()
large = mg.tensor(np.ones((500, 500), "float32"), requires_grad=True)
mg.exp(x).sum().backward()
mg.exp(large).sum().backward()
assert {k: v for k, v in vars(numba.config).items() if k.isupper()} == config
assert numba.get_num_threads() == threads
assert not [name for name in sys.modules if name.startswith("numba.cuda.cudadrv") and "driver" in name]
after = snapshot()
assert after[:5] == before[:5] and after[6:] == before[6:]
print("done")
"""


def test_importing_and_running_leave_global_state_alone(tmp_path):
    assert python(IMPORT, tmp_path) == "done"


WITHOUT_JIT = """
import numpy as np, minigrad as mg
np.seterr(all="ignore")
rng = np.random.default_rng(0)
for dtype in ("float32", "float64"):
    a, b = rng.standard_normal((3, 1)).astype(dtype), rng.standard_normal((1, 4)).astype(dtype)
    x, y = mg.tensor(a, requires_grad=True), mg.tensor(b)
    close = lambda got, want: np.testing.assert_allclose(got.numpy(), want, rtol=1e-5 if dtype == "float32" else 1e-13)
    close(x + y, a + b)
    close(mg.exp(x) * y, np.exp(a) * b)
    close(mg.maximum(x, y), np.maximum(a, b))
    close(mg.tanh(x), np.tanh(a))
    close((x * y).sum(axis=0), (a * b).sum(axis=0))
    (x * y).sum().backward()
    close(x.grad, np.full((3, 1), b.sum()))
print("done")
"""


def test_kernels_run_in_plain_python(tmp_path):
    assert python(WITHOUT_JIT, tmp_path, NUMBA_DISABLE_JIT="1", MINIGRAD_CACHE_DIR="") == "done"


def test_tracebacks_show_generated_source():
    f = cpu.from_source("broken", "def broken(x):\n    return x.missing_attribute\n", {})
    assert isinstance(f, types.FunctionType)
    try:
        f(1)
    except AttributeError:
        text = traceback.format_exc()
    assert "return x.missing_attribute" in text
    assert "minigrad broken" in text


def test_contiguous():
    a = np.arange(12.0).reshape(3, 4)
    assert cpu.contiguous(a) is a
    for b in (a.T, a[::-1], a[:, ::2], np.broadcast_to(a[0], (5, 4))):
        c = cpu.contiguous(b)
        assert c.flags.c_contiguous
        assert c.flags.writeable
        np.testing.assert_array_equal(c, b)
        assert not np.shares_memory(c, a)


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 16383, 16384, 100_000, 10**7, 10**12])
def test_chunks_of(size):
    chunks = cpu.chunks_of(size)
    assert 1 <= chunks <= 64
    assert chunks == 1 or size // chunks >= 1 << 13
    assert chunks == 64 or size // (chunks + 1) < 1 << 13
    assert 1 <= cpu.chunks_of(size, least=100, most=3) <= 3
