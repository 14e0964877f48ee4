"""CPU kernels of local response normalization.

x is (outer, channels, inner) and contiguous. A tile is what one pass works on: where inner is 1 some rows of channels,
else all channels of a stretch of inner elements. It is brought into float64 as pieces one after the other, so that the
neighbouring channel is always `shift` elements further, with zeros around that the windows at the edges reach into.
A window's sum is built of sums over 1, 2, 4 ... elements: only additions, so nothing cancels, and few of them.
"""

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math import exp_f64, log_f64

GENERAL, HALF, THREE_QUARTERS, ONE = 0, 1, 2, 3  # the exponents that need no logarithm


@cpu.chunked
def forward(chunk, chunks, y, x, work, channels, inner, radius, rows, block, kind, bias, alpha, beta):
    """y = x·(bias + alpha·Σ x²)^−beta."""
    size = tile_size(channels, inner, radius, rows, block)
    extent = size + 2 * radius * block
    area = work[chunk * 2 * (size + extent) :]
    a, b, s = area[:extent], area[extent : 2 * extent], area[2 * extent : 2 * extent + size]
    tiles = number_of_tiles(x.size, channels, inner, rows, block)
    for tile in range(tiles * chunk // chunks, tiles * (chunk + 1) // chunks):
        pieces, length, start, step, apart, shift = place(tile, x.size, channels, inner, radius, rows, block)
        front = radius * shift
        clear(a)
        for p in range(pieces):
            squares(a[front + p * apart :], x[start + p * step : start + p * step + length])
        end = (pieces - 1) * apart + length
        window(s[:end], a, b, shift, 2 * radius + 1)
        powers(s[:end], s, bias, alpha, kind, beta)
        for p in range(pieces):
            low = start + p * step
            multiply(y[low : low + length], x[low : low + length], s[p * apart :])


@cpu.chunked
def backward(chunk, chunks, dx, dy, x, work, channels, inner, radius, rows, block, kind, bias, alpha, beta):
    """dx = dy·f − 2·alpha·beta·x·Σ dy·x·f/d with d = bias + alpha·Σ x² and f = d^−beta."""
    size = tile_size(channels, inner, radius, rows, block)
    extent = size + 2 * radius * block
    area = work[chunk * 2 * (size + extent) :]
    a, b = area[:extent], area[extent : 2 * extent]
    s, f = area[2 * extent : 2 * extent + size], area[2 * extent + size : 2 * (extent + size)]
    tiles = number_of_tiles(x.size, channels, inner, rows, block)
    for tile in range(tiles * chunk // chunks, tiles * (chunk + 1) // chunks):
        pieces, length, start, step, apart, shift = place(tile, x.size, channels, inner, radius, rows, block)
        front = radius * shift
        clear(a)
        for p in range(pieces):
            squares(a[front + p * apart :], x[start + p * step : start + p * step + length])
        end = (pieces - 1) * apart + length
        window(s[:end], a, b, shift, 2 * radius + 1)
        powers(f[:end], s, bias, alpha, kind, beta)
        clear(a)
        for p in range(pieces):
            low, at = start + p * step, p * apart
            ratios(a[front + at :], dy[low : low + length], x[low : low + length], f[at:], s[at:], bias, alpha)
        window(s[:end], a, b, shift, 2 * radius + 1)
        factor = 2.0 * alpha * beta
        for p in range(pieces):
            low, high, at = start + p * step, start + p * step + length, p * apart
            combine(dx[low:high], dy[low:high], x[low:high], f[at:], s[at:], factor)


@cpu.jit
def tile_size(channels, inner, radius, rows, block):
    return rows * (channels + radius) if inner == 1 else channels * block


@cpu.jit
def number_of_tiles(size, channels, inner, rows, block):
    outer = size // (channels * inner)
    return (outer + rows - 1) // rows if inner == 1 else outer * ((inner + block - 1) // block)


@cpu.jit
def place(tile, size, channels, inner, radius, rows, block):
    """A tile's pieces: how many, how long; where the first is in x and how far apart they are, there and in the tile;
    and how far apart neighbouring channels are in the tile."""
    if inner == 1:
        first = tile * rows
        count = min(rows, size // channels - first)
        return count, channels, first * channels, channels, channels + radius, 1
    blocks = (inner + block - 1) // block
    low = tile % blocks * block
    width = min(block, inner - low)
    return channels, width, tile // blocks * channels * inner + low, inner, width, width


@cpu.jit
def clear(a):
    for j in range(a.size):
        a[j] = 0.0


@cpu.jit
def squares(a, x):
    for j in range(x.size):
        e = np.float64(x[j])
        a[j] = e * e


@cpu.jit
def window(s, a, b, shift, count):
    """s[j] = Σ of `count` elements of a, `shift` apart, from j on. Overwrites a and b."""
    reach = (count - 1) * shift + s.size  # of a, what is needed still
    clear(s)
    have = 1  # elements of the first a that one of the present a is the sum of
    while count:
        if count & 1:
            add_to(s, a)
            a = a[have * shift :]
            b = b[have * shift :]
            reach -= have * shift
        count >>= 1
        if count:
            reach -= have * shift
            add(b[:reach], a, a[have * shift :])
            a, b = b, a
            have *= 2


@cpu.jit
def add_to(s, a):
    for j in range(s.size):
        s[j] += a[j]


@cpu.jit
def add(b, a, c):
    for j in range(b.size):
        b[j] = a[j] + c[j]


@cpu.jit
def powers(f, s, bias, alpha, kind, beta):
    """f = (bias + alpha·s)^−beta, 0 where the base is 0."""
    if kind == HALF:
        for j in range(f.size):
            d = bias + alpha * s[j]
            r = 1.0 / np.sqrt(d)
            f[j] = 0.0 if d == 0.0 else r
    elif kind == THREE_QUARTERS:
        for j in range(f.size):
            d = bias + alpha * s[j]
            r = np.sqrt(d)
            q = 1.0 / (r * np.sqrt(r))
            f[j] = 0.0 if d == 0.0 else q
    elif kind == ONE:
        for j in range(f.size):
            d = bias + alpha * s[j]
            r = 1.0 / d
            f[j] = 0.0 if d == 0.0 else r
    else:
        for j in range(f.size):
            d = bias + alpha * s[j]
            r = exp_f64(-beta * log_f64(d))
            f[j] = 0.0 if d == 0.0 else r


@cpu.jit
def multiply(y, x, f):
    for j in range(y.size):
        y[j] = x[j] * f[j]


@cpu.jit
def ratios(a, dy, x, f, s, bias, alpha):
    for j in range(x.size):
        d = bias + alpha * s[j]
        r = np.float64(dy[j]) * x[j] * f[j] / d
        a[j] = 0.0 if d == 0.0 else r


@cpu.jit
def combine(dx, dy, x, f, s, factor):
    for j in range(dx.size):
        dx[j] = dy[j] * f[j] - factor * x[j] * s[j]
