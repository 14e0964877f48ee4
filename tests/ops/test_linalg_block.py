"""Products by one thread: exact on whole numbers, the same bits in any company, nothing read outside the operands."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

import minigrad as mg
from minigrad.devices import cpu
from minigrad.ops import linalg_block
from minigrad.ops.linalg_block import product, product_of

RNG = np.random.default_rng(0)
kinds = st.sampled_from([np.dtype("float32"), np.dtype("float64")])
FORMS = [(tx, ty) for tx in (False, True) for ty in (False, True)]


@cpu.chunked
def run(chunk, address, m, n, k, x, x_row, x_step, y, y_step, y_column, out, out_at, out_row, alpha, beta):
    product(
        address, m, n, k, x.ctypes.data, x_row, x_step, y.ctypes.data, y_step, y_column,
        out.ctypes.data + out_at * out.itemsize, out_row, alpha, beta,
    )  # fmt: skip


def multiply(x, y, form=(False, False), out=None, alpha=1, beta=0, gap=5):
    """alpha·x·y + beta·out, where `form` says which of the two lies transposed in memory; a gap of NaN after rows."""
    (m, k), n, kind = x.shape, y.shape[1], x.dtype.type
    row = n + gap
    framed = np.full(m * row + 10, np.nan, x.dtype)
    inside = framed[5:-5].reshape(m, row)[:, :n]
    if out is not None:
        inside[...] = out
    left, steps = (x.T.copy(), (1, m)) if form[0] else (x.copy(), (k, 1))
    right, strides = (y.T.copy(), (1, k)) if form[1] else (y.copy(), (n, 1))
    run(1, 1, product_of(x.dtype), m, n, k, left, *steps, right, *strides, framed, 5, row, kind(alpha), kind(beta))
    found = inside.copy()
    inside[...] = np.nan
    assert np.isnan(framed).all(), "written outside"
    return found


def whole(shape, dtype):
    return RNG.integers(-5, 6, shape).astype(dtype)


def check(m, n, k, dtype, form, alpha=1, beta=0, gap=5):
    x, y = whole((m, k), dtype), whole((k, n), dtype)
    out = whole((m, n), dtype) if beta else None
    got = multiply(x, y, form, out, alpha, beta, gap)
    np.testing.assert_array_equal(got, alpha * (x @ y) + (beta * out if beta else 0))


small = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(small, small, small, kinds, st.sampled_from(FORMS), st.sampled_from([1, -2]), st.sampled_from([0, 1, 3]))
def test_any_product(m, n, k, dtype, form, alpha, beta):
    check(m, n, k, dtype, form, alpha, beta)


@settings(max_examples=50, deadline=None)
@given(small, small, kinds, st.sampled_from(FORMS), st.sampled_from([0, 3]), st.sampled_from([0, 5]))
def test_any_product_with_a_column(m, k, dtype, form, beta, gap):
    check(m, 1, k, dtype, form, -2, beta, gap)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_large_products_in_parts(dtype, form):
    many, terms = linalg_block._MANY, linalg_block.TERMS
    for m, n, k in [
        (3, 5, terms),
        (17, 33, terms + 1),
        (500, many + 37, 2 * terms + 19),
        (470, many, 7),
        (1, 700, 300),
    ]:
        check(m, n, k, np.dtype(dtype), form, -2, 3)
        check(m, n, k, np.dtype(dtype), form)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 100, linalg_block.TERMS + 50])
def test_bits_depend_on_a_row_and_a_column_alone(dtype, k):
    m, n = 250, linalg_block._MANY + 30
    x, y = RNG.standard_normal((m, k)).astype(dtype), RNG.standard_normal((k, n)).astype(dtype)
    want = multiply(x, y)
    assert np.abs(want - x.astype(np.float64) @ y.astype(np.float64)).max() < 40 * np.sqrt(k) * np.finfo(dtype).eps
    for form in FORMS:
        np.testing.assert_array_equal(multiply(x, y, form), want)
        for rows, columns in [
            ((0, 1), (0, n)),
            ((3, 9), (5, 6)),
            ((0, m), (7, 8)),
            ((0, m), (1, 40)),
            ((240, 250), (n - 33, n)),
        ]:
            (a, b), (c, d) = rows, columns
            np.testing.assert_array_equal(multiply(x[a:b], y[:, c:d], form), want[a:b, c:d])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rows_product_is_the_same_alone_and_in_a_batch(dtype):
    x, y = RNG.standard_normal((150, 300)).astype(dtype), RNG.standard_normal((300, 600)).astype(dtype)
    together = mg.matmul(mg.tensor(x), mg.tensor(y)).numpy()  # cut into blocks, for several threads
    for i in (0, 1, 77, 149):
        np.testing.assert_array_equal(mg.matmul(mg.tensor(x[i : i + 1]), mg.tensor(y)).numpy(), together[i : i + 1])


def test_the_form_in_python():
    x, y, out = whole((3, 4), "float64"), whole((4, 5), "float64"), whole((3, 5), "float64")
    got, two = out.copy(), np.float64(2)
    product.python(0, 3, 5, 4, x.ctypes.data, 4, 1, y.ctypes.data, 5, 1, got.ctypes.data, 5, two, two)
    np.testing.assert_array_equal(got, 2 * (x @ y) + 2 * out)
    product.python(0, 3, 5, 4, x.ctypes.data, 4, 1, y.ctypes.data, 5, 1, got.ctypes.data, 5, two, two - two)
    np.testing.assert_array_equal(got, 2 * (x @ y))


def test_compilation_switched_off():
    code = "import minigrad as mg, numpy as np; print(mg.matmul(np.ones((2, 3)), np.ones((3, 4))).numpy().sum())"
    done = python(code, NUMBA_DISABLE_JIT="1")
    assert done.stdout.split() == ["24.0"], done.stderr


# Where one byte further would end the process


@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected by mprotect")
def test_nothing_outside_the_operands_is_read():
    done = python(_AT_THE_EDGE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["fine"]


_AT_THE_EDGE = """
import ctypes, itertools, mmap
import numpy as np
from minigrad.devices import cpu
from minigrad.ops.linalg_block import product, product_of

@cpu.chunked
def run(chunk, address, m, n, k, x, x_row, x_step, y, y_step, y_column, out, one):
    place = out.ctypes.data
    product(address, m, n, k, x.ctypes.data, x_row, x_step, y.ctypes.data, y_step, y_column, place, n, one, one - one)

libc, page, kept = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE, []
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

def fenced(shape, dtype, end):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (begin, begin + (pages + 1) * page):
        assert libc.mprotect(fence, page, 0) == 0
    kept.append(memory)
    a = np.frombuffer(memory, dtype, int(np.prod(shape)), (pages + 1) * page - size if end else page).reshape(shape)
    a[...] = 1
    return a

for dtype, end, tx, ty in itertools.product(("float32", "float64"), (True, False), (True, False), (True, False)):
    for m, n, k in [(1, 1, 1), (15, 33, 5), (14, 32, 16), (3, 17, 257), (9, 600, 20)]:
        x, y, out = fenced((m, k), dtype, end), fenced((k, n), dtype, end), fenced((m, n), dtype, end)
        steps = ((1, m) if tx else (k, 1)), ((1, k) if ty else (n, 1))
        run(1, 1, product_of(out.dtype), m, n, k, x, *steps[0], y, *steps[1], out, out.dtype.type(1))
        assert (out == k).all()
print("fine", flush=True)
import os
os._exit(0)  # the mappings are still in use
"""


# Processors that have less than this one


@pytest.mark.skipif("x86_64" not in binding.get_process_triple(), reason="names of x86 processors")
@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="this is the inner run")
@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("haswell", "+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2,+lzcnt,+popcnt"),
        pytest.param("generic", "", marks=pytest.mark.slow),
    ],
)
def test_on_other_processors(name, features):
    if not all(binding.get_host_cpu_features().get(f[1:]) for f in filter(None, features.split(","))):
        pytest.skip("this processor has even less")
    here = Path(__file__)
    tests = [str(here.with_name(f"test_{what}.py")) for what in ("linalg_block", "linalg_tile", "convolution")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "100%" in done.stdout


def python(code, **variables):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True)
