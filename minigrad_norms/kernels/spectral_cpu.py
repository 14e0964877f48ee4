"""CPU kernels of spectral norm: power iteration, the division by leftᵀ·w·right, and its gradient.

w is (rows, columns) and contiguous; products are float64. `partial` has an entry a chunk of rows, added up in their
order, so that the bits do not depend on threads.
"""

import numpy as np

from minigrad.devices import cpu


@cpu.chunked
def sweep(chunk, chunks, dot, add, t, partial, w, x):
    """With `dot`, t = w·x; with `add`, parts of wᵀ·t, a row a chunk. Both at once read w once. t is float64."""
    rows, columns = w.shape
    first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
    total = partial[chunk]
    if add:
        for j in range(total.size):
            total[j] = 0.0
    flat = w.reshape(w.size)
    while first < last:
        if first + 4 <= last:
            four = flat[first * columns : (first + 4) * columns]
            if dot:
                t[first], t[first + 1], t[first + 2], t[first + 3] = dots_four(four, x)
            if add:
                add_four(total, four, t[first], t[first + 1], t[first + 2], t[first + 3])
            first += 4
        else:
            if dot:
                t[first] = dot_one(w[first], x)
            if add:
                add_one(total, w[first], t[first])
            first += 1


@cpu.chunked
def gather(chunk, partial):
    """The sum of all parts, into the first."""
    total = partial[0]
    for other in range(1, len(partial)):
        part = partial[other]
        for j in range(total.size):
            total[j] += part[j]


@cpu.chunked
def settle(chunk, out, t, found):
    """out = t/‖t‖ and found = 1; where that is not defined, out stays as it is and found is 0."""
    square = 0.0
    for i in range(t.size):
        square += t[i] * t[i]
    found[0] = 0.0
    if square > 0.0 and square < np.inf:
        found[0] = 1.0
        r = 1.0 / np.sqrt(square)
        for i in range(t.size):
            out[i] = t[i] * r


@cpu.chunked
def product(chunk, chunks, partial, w, left, right):
    """Parts of leftᵀ·w·right."""
    rows, columns = w.shape
    first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
    flat = w.reshape(w.size)
    total = 0.0
    while first + 4 <= last:
        a, b, c, d = dots_four(flat[first * columns : (first + 4) * columns], right)
        total += (a * left[first] + b * left[first + 1]) + (c * left[first + 2] + d * left[first + 3])
        first += 4
    for i in range(first, last):
        total += dot_one(w[i], right) * left[i]
    partial[chunk] = total


@cpu.chunked
def divide(chunk, chunks, y, sigma, partial, w):
    """σ, and y = w/σ; both arrays flat."""
    s = _sum(partial)
    sigma[0] = s  # the same value from every chunk
    r = 0.0 if s == 0.0 else 1.0 / s
    low, high = w.size * chunk // chunks, w.size * (chunk + 1) // chunks
    a, b = w[low:high], y[low:high]
    for i in range(a.size):
        b[i] = a[i] * r


@cpu.chunked
def inner(chunk, chunks, partial, dy, w):
    """Parts of Σ dy·w; both arrays flat."""
    low, high = w.size * chunk // chunks, w.size * (chunk + 1) // chunks
    a, b = dy[low:high], w[low:high]
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * b[i]
    partial[chunk] = total


@cpu.chunked
def slopes(chunk, chunks, dw, partial, dy, left, right, sigma, dsigma):
    """dw = dy/σ + (dσ − Σ dy·w/σ²)·left·rightᵀ."""
    rows, columns = dw.shape
    r = 0.0 if sigma == 0.0 else 1.0 / sigma
    to_sigma = dsigma - _sum(partial) * r * r
    for i in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        a, b = dy[i], dw[i]
        c = to_sigma * left[i]
        for j in range(columns):
            b[j] = a[j] * r + c * right[j]


@cpu.jit
def dots_four(rows, x):
    """The products of four rows with x, which is loaded once. An unsigned index does not wrap around."""
    one = np.uint64(x.size)
    two = one + one
    three = two + one
    a = b = c = d = 0.0
    for j in range(np.uint64(x.size)):
        e = np.float64(x[j])
        a += e * rows[j]
        b += e * rows[j + one]
        c += e * rows[j + two]
        d += e * rows[j + three]
    return a, b, c, d


@cpu.jit
def dot_one(row, x):
    total = 0.0
    for j in range(x.size):
        total += np.float64(row[j]) * x[j]
    return total


@cpu.jit
def add_four(total, rows, a, b, c, d):
    one = np.uint64(total.size)
    two = one + one
    three = two + one
    for j in range(np.uint64(total.size)):
        total[j] += (a * rows[j] + b * rows[j + one]) + (c * rows[j + two] + d * rows[j + three])


@cpu.jit
def add_one(total, row, a):
    for j in range(total.size):
        total[j] += a * row[j]


@cpu.jit
def _sum(partial):
    total = 0.0
    for i in range(partial.size):
        total += partial[i]
    return total
