"""CUDA kernels at lengths around those of warps and blocks, and cuBLAS's arguments by a stand-in for it."""

import ctypes
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import cublas, driver, gpu
from minigrad.devices.cuda.warp import reducer

SIZES = (1, 31, 32, 33, 255, 257, 1025)


@pytest.mark.parametrize("n", SIZES)
def test_rows_and_columns_of_every_length(n):
    rng = np.random.default_rng(n)
    for shape, axis in [((2, n), 1), ((n, 2), 0), ((2, n, 3), 1), ((n,), 0)]:
        x = rng.standard_normal(shape).astype(np.float32)
        moved = mg.tensor(x, device="cuda")
        np.testing.assert_allclose(mg.sum(moved, axis).numpy(), x.sum(axis, dtype=np.float64), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(mg.var(moved, axis).numpy(), x.var(axis, dtype=np.float64), rtol=2e-6, atol=1e-7)
        assert np.array_equal(mg.max(moved, axis).numpy(), x.max(axis))
        assert np.array_equal(mg.argmin(moved, axis).numpy(), x.argmin(axis))
    for columns in (4, 6, 132):  # by fours and twos, and more than a block has side by side
        x = rng.standard_normal((2, min(n, 40), columns)).astype(np.float32)
        moved = mg.tensor(x, device="cuda")
        np.testing.assert_allclose(mg.sum(moved, 1).numpy(), x.sum(1, dtype=np.float64), rtol=1e-6, atol=1e-6)
        assert np.array_equal(mg.argmax(moved, 1).numpy(), x.argmax(1))
    rows = rng.standard_normal((2, n)).astype(np.float32)
    for f in (mg.softmax, mg.log_softmax, mg.logsumexp):
        axis = {} if f is not mg.logsumexp else {"axis": 1}
        got, expected = (f(mg.tensor(rows, device=d), **axis).numpy() for d in ("cuda", "cpu"))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    for f in (lambda t: t * 2 + t, mg.exp, lambda t: t[::-1] * t):
        got, expected = (f(mg.tensor(rows[0], device=d)).numpy() for d in ("cuda", "cpu"))
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_reduction_that_is_cut_into_pieces_has_the_same_bits_each_time():
    x = np.random.default_rng(0).standard_normal(3 * 4096).astype(np.float32)
    moved = mg.tensor(x, device="cuda")
    first = mg.sum(moved).numpy()
    np.testing.assert_allclose(first, x.sum(dtype=np.float64), rtol=1e-6)
    assert mg.sum(moved).numpy().tobytes() == first.tobytes()
    assert mg.argmax(moved).item() == x.argmax()
    columns = x.reshape(-1, 1).repeat(2, 1)
    np.testing.assert_allclose(mg.sum(mg.tensor(columns, device="cuda"), 0).numpy(), columns.sum(0, dtype="f8"), 1e-6)


@pytest.mark.parametrize("threads", [32, 64, 96, 256])
def test_two_reductions_in_a_row(threads):
    @cuda.jit
    def add(a, b):
        return (a[0] + b[0],)

    total = reducer(add, (0,), (np.float64,))

    @cuda.kernel
    def twice(out, x):
        me = gpu.threadIdx.x
        first = total((x[me],))
        second = total((x[me] * first[0],))
        out[me] = second[0]

    x = np.random.default_rng(threads).standard_normal(threads)
    out = cuda.empty((threads,), np.dtype(np.float64))
    twice(1, threads, out, cuda.to_device(x))
    np.testing.assert_allclose(cuda.to_host(out), x.sum() ** 2, rtol=1e-12)


class FakeBlas:
    """Column-major products in the memory that pointers name, as cuBLAS makes them."""

    Math = types.SimpleNamespace(DISALLOW_REDUCED_PRECISION_REDUCTION=16)
    ComputeType = types.SimpleNamespace(COMPUTE_32F=68)
    GemmAlgo = types.SimpleNamespace(DEFAULT=-1)

    def __init__(self):
        self.calls = 0
        self.workspaces = []

    def create(self):
        return 1

    def set_math_mode(self, handle, mode):
        assert (handle, mode) == (1, 16)

    def set_stream(self, handle, stream):
        assert (handle, stream) == (1, 1)  # the default stream, as other libraries name it
        self.workspaces.append(None)

    def set_workspace(self, handle, pointer, size):
        self.workspaces[-1] = size

    def _matrices(self, pointer, kind, columns, step, stride, count, rows):
        size = (count - 1) * stride + (columns - 1) * step + rows if count and rows and columns else 1
        dtype = np.dtype(kind)
        flat = np.frombuffer((ctypes.c_uint8 * (size * dtype.itemsize)).from_address(pointer), dtype)
        item = flat.itemsize
        return np.lib.stride_tricks.as_strided(flat, (count, rows, columns), (stride * item, item, step * item))

    def _product(self, kind, handle, ta, tb, m, n, k, one, a, lda, sa, b, ldb, sb, zero, c, ldc, sc, count):
        self.calls += 1
        factor = ctypes.c_double if kind == np.float64 else ctypes.c_float
        assert factor.from_address(one).value == 1
        assert factor.from_address(zero).value == 0
        a_rows, b_rows = (k if ta else m), (n if tb else k)
        assert lda >= max(1, a_rows)
        assert ldb >= max(1, b_rows)
        assert ldc >= max(1, m)
        x = self._matrices(a, kind, m if ta else k, lda, sa, count, a_rows)
        y = self._matrices(b, kind, k if tb else n, ldb, sb, count, b_rows)
        x, y = (x.swapaxes(1, 2) if ta else x), (y.swapaxes(1, 2) if tb else y)
        self._matrices(c, kind, n, ldc, sc, count, m)[...] = x.astype(factor) @ y.astype(factor)

    def sgemm_strided_batched_64(self, *arguments):
        self._product(np.float32, *arguments)

    def dgemm_strided_batched_64(self, *arguments):
        self._product(np.float64, *arguments)

    def gemm_strided_batched_ex_64(self, *arguments):
        *most, compute, algorithm = arguments
        assert (compute, algorithm) == (68, -1)
        assert most[8] == most[12] == most[17]
        kind = dtypes.float16 if most[8] == 2 else dtypes.bfloat16()
        assert most[8] in (2, 14)
        self._product(kind, *[v for i, v in enumerate(most) if i not in (8, 12, 17)])


def test_cublas_is_told_the_right_things(monkeypatch):
    fake = FakeBlas()
    monkeypatch.setattr(cublas, "binding", lambda: fake)
    p = mg.primitive.get("mg::matmul")
    samples = [s for s in p.draw_samples() if s.error is None]
    for sample in samples:
        for change in (lambda a: a, lambda a: np.asarray(a[..., ::-1, :].copy()[..., ::-1, :]), lambda a: a.T.copy().T):
            inputs = [change(a) for a in sample.inputs]
            got = mg.gradcheck.kernels.run(p, inputs, sample.params, "cuda")[0]
            np.testing.assert_allclose(got, p.reference(*inputs, **sample.params)[0], rtol=1e-12, atol=1e-12)
    assert fake.calls >= 2 * len(samples)
    x = mg.tensor(np.arange(6, dtype=np.float32).reshape(2, 3), device="cuda")
    assert np.array_equal((x @ x.T).numpy(), x.numpy() @ x.numpy().T)
    assert np.array_equal((x[:, :2] @ x[:, 1:].T).numpy(), x.numpy()[:, :2] @ x.numpy()[:, 1:].T)
    assert not any(fake.workspaces)  # cuBLAS has its own, which it can't allocate under capture
    calls, jitted = fake.calls, mg.jit(lambda x: x @ x.T)
    assert [jitted(x * k).tolist() for k in (1, 2, 1)] == [(x * k @ (x * k).T).tolist() for k in (1, 2, 1)]
    assert fake.calls == calls + 6
    assert fake.workspaces[-6:] == [None, 32 << 20, 32 << 20, None, None, None]


OPTIMIZERS = {
    "sgd": (lambda: mg.optim.SGD(0.1, weight_decay=0.01), 2),
    "momentum": (lambda: mg.optim.SGD(0.1, momentum=0.9, nesterov=True), 2),
    "adam": (lambda: mg.optim.AdamW(0.01, weight_decay=0.1), 3),
    "rmsprop": (lambda: mg.optim.RMSprop(0.01, momentum=0.5), 2),
    "adagrad": (lambda: mg.optim.Adagrad(0.1), 2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_launch_updates_all_variables(name, monkeypatch):
    make, most = OPTIMIZERS[name]
    rng, sizes = np.random.default_rng(0), (1, 3, 0, 257, 1030, 4, 0)
    starts = [rng.standard_normal(n).astype("f4") for n in sizes]
    gradients = [rng.standard_normal(n + 1).astype("f4") for n in sizes]
    launched, real = [], driver.get()
    launch = real.launch
    results = []
    for device in ("cpu", "cuda"):
        variables = [mg.Variable(values, device=device) for values in starts]
        # Every other gradient begins 4 bytes into its memory: one that is not aligned to 16.
        given = [mg.tensor(g, device=device) for g in gradients]
        given = [g[1:] if i % 2 else g[:-1] for i, g in enumerate(given)]
        optimizer = make()
        optimizer.build(variables)
        with monkeypatch.context() as patch:
            patch.setattr(real, "launch", lambda *args: launched.append(args[1].__name__) or launch(*args))
            for _ in range(2):
                optimizer.update(variables, given)
        results.append([v.numpy().copy() for v in (*variables, *[s for some in optimizer.slots for s in some])])
    assert len(launched) == 2 * most, launched  # the count, Adam's factors, and all Variables
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, rtol=2e-6, atol=1e-7)


def test_variables_of_several_dtypes_are_updated():
    variables = [
        mg.Variable(np.ones(n, kind), device="cuda") for n, kind in ((5, "f4"), (3, "f8"), (2, "f4"), (9, "f2"))
    ]
    mg.optim.SGD(0.5).update(variables, [mg.tensor(v * 1) for v in variables])
    assert [v.tolist() for v in variables] == [[0.5] * n for n in (5, 3, 2, 9)]
    longer = mg.Variable(np.ones(2, np.complex64), device="cuda")
    with pytest.raises(mg.errors.DTypeError, match="sgd: there is no CUDA kernel for complex64"):
        mg.optim.SGD(0.5).update([longer], [mg.tensor(np.ones(2, np.complex64), device="cuda")])
