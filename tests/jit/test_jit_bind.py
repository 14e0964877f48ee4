"""Binding: kernels whose Python can be left out are, those whose Python matters are called as they stand."""

import numpy as np
import pytest

from minigrad import primitive
from minigrad.devices import cpu
from minigrad.devices import threads as team
from minigrad.errors import ArgumentError
from minigrad.jit.bind import Compiled, Plain, bind
from minigrad.jit.native import Segment, native_of
from minigrad.ops.linalg import matmul_p


@cpu.chunked
def scale_rows(row, out, x, factor):
    for j in range(x.shape[1]):
        out[row, j] = factor * x[row, j]


TABLE = np.array([2.0, 3.0])


def arrays():
    return np.zeros((2, 3)), np.arange(6.0).reshape(2, 3)


def run(steps):
    for step in steps:
        if isinstance(step, Compiled):
            step.kernel(step.chunks, step.work, *step.args)
        else:
            step.function(*step.args, **step.kwargs)


def test_compiled_calls_are_written_down_and_not_made():
    def kernel(out, x, *, factor):
        scale_rows(2, x.size, out, x, factor)

    out, x = arrays()
    steps = bind(kernel, out, [x], {"factor": 2.0})
    assert [type(s) for s in steps] == [Compiled]
    assert not out.any()
    assert all(type(a) is not np.ndarray or a.base is not None or a is out for a in steps[0].args)
    run(steps)
    np.testing.assert_array_equal(out, 2 * x)


def test_numpy_calls_into_given_arrays_are_written_down():
    def kernel(out, x):
        np.copyto(out, x)
        np.multiply(out, TABLE[0], out=out)
        np.add.reduce(x, axis=0, out=out[0])
        out[1, :2] = 7.0
        out[:, 2].fill(5.0)
        np.matmul(x[:, :2], x[:, 1:], out=out[:, :2])

    out, x = arrays()
    steps = bind(kernel, out, [x], {})
    assert len(steps) == 6
    assert not out.any()
    run(steps)
    want = np.zeros((2, 3))
    kernel(want, x)
    np.testing.assert_array_equal(out, want)


def _reads_an_element(out, x):
    scale_rows(2, 6, out, x, x[0, 1])


def _reads_all(out, x):
    if x.sum() > 3:
        scale_rows(2, 6, out, x, 2.0)


def _copies(out, x):
    scale_rows(2, 6, out, x.T.reshape(2, 3), 1.0)


def _allocates(out, x):
    scale_rows(2, 6, out, np.multiply(x, 2), 1.0)


def _passes_by(out, x):
    np.ndarray.take(x, [2, 0, 1], 1, out)


def _strips(out, x):
    np.asarray(out)[...] = np.asarray(x)


def _scalar_of_data(out, x):
    scale_rows(2, 6, out, x, np.float64(x.reshape(-1)[3:4].reshape(())))


def _calls_past_the_door(out, x):
    for row in range(2):
        scale_rows.body.entry(row, out, x, 2.0)


def _makes_a_table(out, x):
    scale_rows(2, 6, out, np.ones((2, 3)), 1.0)


@pytest.mark.parametrize(
    "kernel",
    [
        _reads_an_element, _reads_all, _copies, _allocates, _passes_by, _strips, _scalar_of_data, _calls_past_the_door,
        _makes_a_table,
    ],
)  # fmt: skip
def test_kernels_that_do_more_are_called_as_they_stand(kernel):
    out, x = arrays()
    steps = bind(kernel, out, [x], {})
    assert [type(s) for s in steps] == [Plain]
    assert steps[0].function is kernel
    assert not out.any()
    for values in (x, x[::-1].copy()):
        x[...] = values
        want = np.zeros((2, 3))
        kernel(want, x)
        run(steps)
        np.testing.assert_array_equal(out, want)


def test_a_table_of_the_kernels_own_is_kept():
    def kernel(out, x):
        np.multiply(x[:, :2], TABLE, out=out[:, :2])

    out, x = arrays()
    steps = bind(kernel, out, [x], {})
    assert len(steps) == 1
    assert steps[0].function is not kernel
    run(steps)
    np.testing.assert_array_equal(out[:, :2], x[:, :2] * TABLE)


def test_errors_of_a_kernel_come_when_it_runs():
    def kernel(out, x):
        raise ArgumentError("no")

    out, x = arrays()
    steps = bind(kernel, out, [x], {})
    with pytest.raises(ArgumentError, match="no"):
        run(steps)


def test_a_segment_runs_all_chunks_of_all_calls():
    out, x = arrays()
    other = np.zeros((2, 3))
    calls = [Compiled(scale_rows, 2, 6, (out, x, 2.0)), Compiled(scale_rows, 1, 6, (other, out, 3.0))]
    assert [native_of(c) for c in calls] == calls
    segment = Segment(calls)
    for values in (x, x + 1):
        x[...] = values
        segment()
        np.testing.assert_array_equal(out, 2 * x)
        np.testing.assert_array_equal(other[0], 6 * x[0])
    assert not other[1].any()


def test_a_segment_takes_every_kind_of_argument():
    @cpu.chunked
    def kernel(chunk, out, strided, whole, flag, single, count, nothing, wide):
        if nothing is None and flag:
            for i in range(count):
                out[i] = strided[i, 1] + whole[i] + single + wide

    out = np.zeros(3, np.float32)
    strided = np.arange(24.0).reshape(4, 6)[::-1, ::2]
    args = (out, strided, np.arange(3), True, np.float32(0.5), 3, None, 2.0)
    segment = Segment([Compiled(kernel, 1, 3, args)])
    segment()
    np.testing.assert_array_equal(out, strided[:3, 1] + np.arange(3) + 2.5)


def test_an_error_in_compiled_code_is_raised():
    @cpu.chunked
    def kernel(chunk, x):
        if x[0] > 1:
            raise ValueError("too large")
        x[0] += 1

    x = np.array([0.0])
    segment = Segment([Compiled(kernel, 1, 1, (x,)), Compiled(kernel, 1, 1, (x,))])
    segment()
    with pytest.raises(ValueError, match="too large"):
        segment()


@pytest.mark.parametrize("threads", [1, 2])
def test_large_calls_run_in_parallel_forms_with_the_same_bits(monkeypatch, threads):
    @cpu.chunked
    def kernel(chunk, chunks, out, x):
        low, high = chunk * x.size // chunks, (chunk + 1) * x.size // chunks
        for i in range(low, high):
            out[i] = x[i] / 2 + chunk

    monkeypatch.setattr(team, "count", lambda: threads)
    x = np.arange(1000.0)
    outs = [np.zeros_like(x) for _ in range(3)]
    calls = [Compiled(kernel, 4, work, (4, out, x)) for work, out in zip((0, 1 << 20, 1 << 20), outs)]
    segment, before = Segment(calls), team.WORDS[team._STATE] // team._JOB
    segment()
    assert team.WORDS[team._STATE] // team._JOB - before == (2 if threads > 1 else 0)  # jobs that the team got
    for out in outs:
        np.testing.assert_array_equal(out, x / 2 + np.arange(1000) // 250)
    assert not team._one.locked()
    with team._one:  # another thread is in a parallel form
        outs[1].fill(0)
        segment()
    np.testing.assert_array_equal(outs[1], outs[0])


def test_kernels_of_one_signature_share_a_thunk():
    x, outs = np.linspace(-1, 1, 9), [np.empty(9) for _ in range(2)]
    steps = [
        bind(primitive.get(f"mg::{name}")._kernel("cpu").function, out, [x], {})
        for name, out in zip(("exp", "sin"), outs)
    ]
    segment = Segment([step for (step,) in steps])
    segment()
    np.testing.assert_allclose(outs, [np.exp(x), np.sin(x)], rtol=1e-14)
    (thunks, blocks, _, _) = segment._table.T
    assert thunks[0] == thunks[1]
    assert blocks[0] != blocks[1]


def test_products_are_native():
    x, y, out = np.ones((60, 784), np.float32), np.ones((784, 100), np.float32), np.empty((60, 100), np.float32)
    steps = bind(matmul_p._kernels["cpu"].function(x, y, tx=False, ty=False), out, [x, y], {})
    assert [native_of(step) for step in steps] == steps
    Segment(steps)()
    assert (out == 784).all()
