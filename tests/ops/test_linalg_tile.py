"""The parts of matrix products against their forms in Python, on whole numbers, whose sums are exact."""

import itertools

import numpy as np
import pytest

from minigrad.devices import cpu
from minigrad.devices.vectors import lanes
from minigrad.ops.linalg_tile import VECTORS, copy, most_rows, most_vectors, tile, transpose

RNG = np.random.default_rng(0)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def whole(shape, dtype):
    return RNG.integers(-9, 10, shape).astype(dtype)


@cpu.chunked
def run_tile(chunk, rows, columns, terms, x, x_row, x_step, y, y_row, out, out_at, out_row, alpha, beta):
    at = out.ctypes.data + out_at * out.itemsize
    tile(rows, columns, terms, x.ctypes.data, x_row, x_step, y.ctypes.data, y_row, at, out_row, alpha, beta)


@cpu.chunked
def run_copy(chunk, rows, columns, x, x_row, out, out_row, one):
    copy(rows, columns, x.ctypes.data, x_row, out.ctypes.data, out_row, one)


@cpu.chunked
def run_transpose(chunk, terms, columns, y, y_column, panel, one):
    transpose(terms, columns, y.ctypes.data, y_column, panel.ctypes.data, one)


def widths(dtype, vectors):
    """Numbers of columns around whole vectors."""
    return sorted({n + d for n in range(0, (vectors + 1) * lanes(dtype), lanes(dtype)) for d in (-1, 0, 1)})


def both(kernel, *args):
    """What the kernel writes and what its form in Python writes: the array that is all NaN before, or as it was."""
    found = []
    for run in (lambda *a: kernel(1, 1, *a), lambda *a: kernel.body.python(0, *a)):
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        run(*copies)
        found.append(copies)
    return found


@dtypes
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (-2, 0), (1, 1), (-2, 3)])
def test_tiles_of_every_size(dtype, alpha, beta):
    dtype = np.dtype(dtype)
    sizes = [
        (r, c) for r in range(1, most_rows() + 1) for c in widths(dtype, VECTORS) if 1 <= c <= VECTORS * lanes(dtype)
    ]
    for rows, columns in [*sizes, (1, most_vectors() * lanes(dtype))]:
        y_row, row = -(-columns // lanes(dtype)) * lanes(dtype) + 1, columns + 3
        for terms, transposed in ((1, False), (6, False), (5, True)):
            x, y = whole((rows, terms), dtype), whole((terms, y_row), dtype)
            out = np.full((rows + 2) * row, np.nan, dtype) if beta == 0 else whole((rows + 2) * row, dtype)
            steps, given = ((1, rows), x.T.copy()) if transposed else ((terms, 1), x)
            scales = dtype.type(alpha), dtype.type(beta)
            args = (rows, columns, terms, given, *steps, y, y_row, out, row + 1, row, *scales)
            got, want = (copies[8] for copies in both(run_tile, *args))
            np.testing.assert_array_equal(got, want, err_msg=f"{rows} {columns} {terms} {transposed}")
            place = want.reshape(-1, row)[1:-1, 1 : 1 + columns]
            old = out.reshape(-1, row)[1:-1, 1 : 1 + columns] if beta else 0
            np.testing.assert_array_equal(place, alpha * (x @ y[:, :columns]) + beta * old)


@dtypes
def test_copies_end_in_zeros_up_to_a_vector(dtype):
    dtype = np.dtype(dtype)
    for columns, rows in itertools.product(widths(dtype, 3), (1, 4)):
        if columns > 0:
            x, row = whole((rows, columns + 2), dtype), 5 * lanes(dtype)
            out = np.full((rows, row), np.nan, dtype)
            got, want = both(run_copy, rows, columns, x, columns + 2, out, row, dtype.type(1))
            np.testing.assert_array_equal(got[4], want[4])
            np.testing.assert_array_equal(got[4][:, :columns], x[:, :columns])
            assert np.isnan(got[4]).sum() == rows * (row - -(-columns // lanes(dtype)) * lanes(dtype))


@dtypes
def test_squares_are_transposed_and_what_is_missing_is_zero(dtype):
    dtype = np.dtype(dtype)
    width = lanes(dtype)
    for terms, columns in itertools.product(range(1, width + 3), repeat=2):
        y = whole((columns, terms), dtype)
        panel = np.full((width, VECTORS * width), np.nan, dtype)
        got, want = both(run_transpose, terms, columns, y, terms, panel, dtype.type(1))
        np.testing.assert_array_equal(got[4], want[4], err_msg=f"{terms} {columns}")
        square = np.zeros((width, width), dtype)
        square[: min(terms, width), : min(columns, width)] = y.T[:width, :width]
        np.testing.assert_array_equal(got[4][:, :width], square)
        assert np.isnan(got[4][:, width:]).all()
